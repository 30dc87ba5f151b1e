"""Lazy prediction gives what dense prediction gives, for every output."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.models import randomise, tiny_model
from support.training import write_world
from ultralytics.utils import nms, ops

from yolo_multitask import MultiTaskYOLO
from yolo_multitask.engine.lazy import detect
from yolo_multitask.engine.masks import MaskFactors, assemble
from yolo_multitask.engine.predictor import MultiTaskPredictor
from yolo_multitask.engine.validator import MultiTaskValidator
from yolo_multitask.nn import proto, sites
from yolo_multitask.nn.heads import MultiTask
from yolo_multitask.nn.network import MultiTaskModel

FAMILIES = ("yolov8n", "yolo11n", "yolo26n")
FIELDS = ("boxes", "masks", "keypoints", "embeddings", "next_boxes")


def build(family: str, fused: bool, **kwargs: Any) -> MultiTaskModel:
    """Return a small random model with every output."""
    model = tiny_model(family, **{"nc": 3, "kpt_shape": (5, 3), **kwargs})
    randomise(model)
    model.eval()
    return model.fuse(verbose=False) if fused else model


@pytest.fixture(scope="module")
def models() -> dict[tuple[str, bool], MultiTaskModel]:
    """Return a model of each family, fused and not."""
    return {(family, fused): build(family, fused) for family in FAMILIES for fused in (False, True)}


@settings(max_examples=60, deadline=None)
@given(
    family=st.sampled_from(FAMILIES),
    fused=st.booleans(),
    batch=st.sampled_from([1, 4]),
    cells=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    count=st.integers(0, 300),
    dense=st.booleans(),
    agnostic=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_lazy_equals_dense(
    models: dict[tuple[str, bool], MultiTaskModel],
    family: str,
    fused: bool,
    batch: int,
    cells: tuple[int, int],
    count: int,
    dense: bool,
    agnostic: bool,
    seed: int,
) -> None:
    model = models[family, fused]
    head = model.head
    x = torch.rand(batch, 3, *(32 * c for c in cells), generator=torch.Generator().manual_seed(seed))
    model.to(memory_format=torch.channels_last if seed % 2 else torch.contiguous_format)  # the host has the former
    with torch.inference_mode(), pytest.MonkeyPatch.context() as patch:
        if not dense:
            patch.setattr(sites, "DENSE_SHARE", 2.0)
            patch.setattr(proto, "DENSE_TILES", 2.0)
        (y, protos), _ = model(x)
        best = y[:, 4:7].amax(1).flatten().sort(descending=True).values
        # between two scores, so that rounding moves none of them across; as many detections as are asked for, or all
        conf = float(best[: min(count, len(best) - 1) + 1][-2:].mean()) if count else 1.0
        given = {"iou_thres": 0.7, "agnostic": agnostic, "max_det": max(count, 1)}
        expected = nms.non_max_suppression(y, conf, nc=3, **given)
        head.lazy = True
        try:
            found = detect(head, *model(x), conf=conf, **given)
        finally:
            head.lazy = False
    scale = torch.ones(y.shape[1] + 2 - 3)
    scale[:4] = max(x.shape[2:])
    scale[head.layout.kpt] = scale[head.layout.next] = max(x.shape[2:])
    scale[head.layout.mask] = float(y[:, 7:].abs().amax())
    for image, (rows, wanted) in enumerate(zip(found.rows, expected, strict=True)):
        assert rows.shape == wanted.shape
        torch.testing.assert_close(rows / scale, wanted / scale, rtol=1e-5, atol=1e-5)
        shape = tuple(x.shape[2:])
        given_masks = (wanted[:, head.layout.mask], wanted[:, :4], shape)
        full = ops.process_mask(protos[image], *given_masks, upsample=True)
        tiled = ops.process_mask(found.proto[image], *given_masks, upsample=True)
        assert torch.equal(full, tiled) or (full != tiled).float().mean() < 1e-5  # a pixel at the threshold


@pytest.mark.parametrize("count", range(1, 12))
def test_every_small_number_of_candidates(models: dict[tuple[str, bool], MultiTaskModel], count: int) -> None:
    model = models["yolov8n", False]
    x = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(count))
    with torch.inference_mode():
        y = model(x)[0][0]
        best = y[0, 4:7].amax(0).sort(descending=True).values
        conf = float(best[count - 1 : count + 1].mean())
        expected = nms.non_max_suppression(y, conf, 0.99, nc=3)[0]
        model.head.lazy = True
        try:
            found = detect(model.head, *model(x), conf=conf, iou_thres=0.99).rows[0]
        finally:
            model.head.lazy = False
    assert len(expected) == count
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)


@settings(max_examples=60, deadline=None)
@given(
    cells=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    count=st.integers(0, 30),
    seed=st.integers(0, 10**6),
)
def test_masks_are_those_of_the_host(cells: tuple[int, int], count: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    height, width = shape = (cells[0] * 32, cells[1] * 32)
    protos = torch.randn(8, height // 4, width // 4, generator=generator)
    corner = (torch.rand(count, 2, generator=generator) * 1.4 - 0.2) * torch.tensor([width, height])
    boxes = torch.cat((corner, corner + torch.rand(count, 2, generator=generator) * 80), 1)
    boxes[::3] = boxes[::3].round()
    coefficients = torch.randn(count, 8, generator=generator)
    expected = ops.process_mask(protos, coefficients, boxes, shape, upsample=True)
    found = assemble(MaskFactors(protos, weights=coefficients), boxes, shape)
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert (found != expected).sum() <= 1e-5 * expected.numel()  # a pixel at the threshold


def test_masks_of_boxes_that_are_no_numbers() -> None:
    boxes = torch.tensor([[float("nan")] * 4, [10.0, 10, float("inf"), 200], [-float("inf"), 5, 50, 50]])
    protos, coefficients = torch.randn(8, 64, 64), torch.randn(3, 8)
    found = assemble(MaskFactors(protos, weights=coefficients), boxes, (256, 256))
    assert not found[0].any()
    whole = ops.process_mask(
        protos, coefficients, torch.tensor([[0.0] * 4, [10, 10, 256, 200], [0, 5, 50, 50]]), (256, 256), upsample=True
    )
    assert torch.equal(found, whole)


@pytest.fixture
def sparse(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compute nothing whole, however much is detected; fail if nothing is computed in patches."""
    monkeypatch.setattr(sites, "DENSE_SHARE", 2.0)
    monkeypatch.setattr(proto, "DENSE_TILES", 2.0)
    runs: list[int] = []
    run_valid = sites.run_valid

    def counted(*args: Any) -> Any:
        runs.append(len(args[1]))
        return run_valid(*args)

    monkeypatch.setattr(sites, "run_valid", counted)
    yield
    assert sum(runs) > 0


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    """Return images of different shapes."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, shape, dtype=np.uint8) for shape in ((150, 290, 3), (280, 160, 3))]


BASE = {"imgsz": 256, "conf": 0.3, "iou": 0.7, "max_det": 40, "save": False, "verbose": False, "device": "cpu"}


@pytest.mark.usefixtures("sparse")
@pytest.mark.parametrize("retina", [False, True])
@pytest.mark.parametrize("switches", [{}, {"segment": False}, {"pose": False, "track": False}])
def test_results_are_the_same(images: list[np.ndarray], switches: dict[str, bool], retina: bool) -> None:
    model = build("yolov8n", fused=True)
    both = [
        MultiTaskPredictor(overrides={**BASE, **switches, "retina_masks": retina, "lazy": lazy})(images, model=model)
        for lazy in (False, True)
    ]
    for dense, lazy in zip(*both, strict=True):
        assert len(lazy) == len(dense) > 0
        for field in FIELDS:
            expected, found = getattr(dense, field), getattr(lazy, field)
            assert (expected is None) == (found is None)
            if expected is not None:
                torch.testing.assert_close(found.data.float(), expected.data.float(), rtol=1e-4, atol=1e-2)


@pytest.mark.usefixtures("sparse")
@pytest.mark.parametrize("given", [{"classes": [1]}, {"agnostic_nms": True}, {"classes": [0, 2], "max_det": 3}])
def test_arguments_of_the_nms(images: list[np.ndarray], given: dict[str, Any]) -> None:
    model = build("yolov8n", fused=True)
    dense, lazy = (
        MultiTaskPredictor(overrides={**BASE, "conf": 0.35, **given, "lazy": value})(images, model=model)
        for value in (False, True)
    )
    assert sum(map(len, dense)) > 0
    for expected, found in zip(dense, lazy, strict=True):
        torch.testing.assert_close(found.boxes.data, expected.boxes.data, rtol=1e-4, atol=1e-2)


def test_only_candidates_of_the_classes_get_a_box(images: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    boxes_at = MultiTask.boxes_at
    monkeypatch.setattr(MultiTask, "boxes_at", lambda head, sites: asked.append(len(sites)) or boxes_at(head, sites))
    model = build("yolov8n", fused=True)
    for arguments in ({}, {"classes": [0]}):
        MultiTaskPredictor(overrides={**BASE, **arguments, "lazy": True})(images, model=model)
    assert 0 < asked[-1] < asked[-2]


@pytest.mark.usefixtures("sparse")
@pytest.mark.parametrize("side", [20, 22, 31])
def test_native_masks_of_tiny_images(side: int) -> None:
    image = np.random.default_rng(side).integers(0, 255, (side, side, 3), dtype=np.uint8)
    model = build("yolov8n", fused=True)
    dense, lazy = (
        MultiTaskPredictor(overrides={**BASE, "imgsz": 640, "retina_masks": True, "lazy": value})(image, model=model)[0]
        for value in (False, True)
    )
    assert len(dense) > 0
    assert torch.equal(dense.masks.data, lazy.masks.data)


def test_nothing_detected(images: list[np.ndarray]) -> None:
    predictor = MultiTaskPredictor(overrides={**BASE, "conf": 1.0, "lazy": True})
    predictor(images, model=build("yolov8n", fused=False))  # its first pass warms up, with everything
    head = predictor.model.model.head
    for layer in (head.branches["segment"].proto, *head.cv2):
        layer.register_forward_hook(lambda *_: pytest.fail("computed for nothing"))
    results = predictor(images)
    for result in results:
        assert len(result) == 0
        assert all(len(getattr(result, field)) == 0 for field in FIELDS)


def test_no_prototypes_for_nothing_in_a_network_that_is_not_fused() -> None:
    head = build("yolov8n", fused=False).head
    head.branches["segment"].proto.register_forward_hook(lambda *_: pytest.fail("computed for nothing"))
    maps = {"feats": [torch.rand(2, c, 8, 6) for c in (16, 32, 64)]}
    found = head.prototypes(maps, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    assert found.shape == (2, head.layout.nm, 16, 12)


def test_auto_is_lazy_on_a_cpu_and_can_be_changed_from_call_to_call(
    images: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    yolo = MultiTaskYOLO("yolov8n-multitask.yaml")
    yolo.model = model = build("yolov8n", fused=False)
    passes: list[bool] = []
    run = MultiTaskModel.predict

    def watched(self: MultiTaskModel, *args: Any, **kwargs: Any) -> Any:
        passes.append(self.head.lazy)
        return run(self, *args, **kwargs)

    monkeypatch.setattr(MultiTaskModel, "predict", watched)
    asked: list[tuple[dict[str, Any], bool]] = [
        *(({}, True), ({"lazy": False}, False), ({"lazy": "auto"}, True), ({}, True), ({"augment": True}, False))
    ]
    for arguments, lazy in asked:
        passes.clear()
        yolo.predict(images[0], **{**BASE, "imgsz": 64}, **arguments)
        assert passes[-1] is lazy, arguments
    assert not model.head.lazy


@pytest.mark.usefixtures("sparse")
@pytest.mark.parametrize("tracker", ["multicue.yaml", "botsort.yaml"])
def test_tracks_are_the_same(images: list[np.ndarray], tracker: str) -> None:
    frames = [np.roll(images[0], 3 * i, 1) for i in range(4)]
    tracked = []
    for lazy in (False, True):
        yolo = MultiTaskYOLO("yolov8n-multitask.yaml")
        yolo.model = build("yolov8n", fused=False)
        tracked.append([yolo.track(f, persist=True, tracker=tracker, **{**BASE, "lazy": lazy})[0] for f in frames])
    assert sum(len(result) for result in tracked[0]) > 0
    for dense, lazily in zip(*tracked, strict=True):
        torch.testing.assert_close(lazily.boxes.data, dense.boxes.data, rtol=1e-4, atol=1e-2)
        torch.testing.assert_close(lazily.embeddings.data, dense.embeddings.data, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("sparse")
def test_validation_sees_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[dict[str, torch.Tensor]]] = []
    postprocess = MultiTaskValidator.postprocess

    def watched(self: MultiTaskValidator, preds: Any) -> Any:
        seen.append(postprocess(self, preds))
        return seen[-1]

    monkeypatch.setattr(MultiTaskValidator, "postprocess", watched)
    data = write_world(tmp_path / "data")
    yolo = MultiTaskYOLO("yolov8n-multitask.yaml")
    yolo.model = build("yolov8n", fused=False, nc=1, kpt_shape=(17, 3))
    given = {"data": str(data), "imgsz": 96, "batch": 2, "device": "cpu", "plots": False, "save_dir": tmp_path / "val"}
    dense, lazy = (yolo.val(**given, lazy=value).results_dict for value in (False, True))
    assert lazy.keys() == dense.keys()
    assert not yolo.model.head.lazy
    middle = len(seen) // 2
    assert sum(len(image["cls"]) for batch in seen[:middle] for image in batch) > 100
    for one, two in zip(seen[:middle], seen[middle:], strict=True):
        for expected, found in zip(one, two, strict=True):
            assert found.keys() == expected.keys()
            for field, values in expected.items():
                torch.testing.assert_close(found[field].float(), values.float(), rtol=1e-4, atol=1e-2, msg=field)


@pytest.mark.parametrize("value", ["yes", 2, None])
def test_other_values_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="'lazy' must be True, False or auto"):
        MultiTaskPredictor(overrides={**BASE, "lazy": value})
