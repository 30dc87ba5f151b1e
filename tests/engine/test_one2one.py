"""The one-to-one head: lazy prediction and its graph give what dense prediction gives; the host chooses the head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.models import randomise, tiny_model, tiny_yaml
from support.training import write_world
from ultralytics.utils import nms

from yolo_multitask import MultiTaskYOLO
from yolo_multitask.engine.lazy import detect
from yolo_multitask.nn import graph, proto, sites
from yolo_multitask.nn.network import MultiTaskModel

FIELDS = ("boxes", "masks", "keypoints", "embeddings", "next_boxes")
KINDS = (("yolo26n", True), ("yolo26n", False), ("yolov8n", False))  # family, fused
BASE = {"imgsz": 96, "save": False, "verbose": False, "device": "cpu", "nms": False}


def build(family: str, fused: bool, **kwargs: Any) -> MultiTaskModel:
    """Return a small random model with two heads, different from each other, that runs the one-to-one head."""
    config = {**tiny_yaml(family), "end2end": True}
    model = MultiTaskModel(config, verbose=False, **{"nc": 3, "kpt_shape": (5, 3), **kwargs})
    model.args = tiny_model("yolov8n", nc=1).args
    randomise(model)
    model.eval().end2end = True
    return model.fuse(verbose=False) if fused else model


@pytest.fixture(scope="module")
def models() -> dict[tuple[str, bool], MultiTaskModel]:
    """Return a model of each kind."""
    return {kind: build(*kind) for kind in KINDS}


def spread(model: MultiTaskModel, rows: torch.Tensor, side: int) -> torch.Tensor:
    """Return the size that errors of each column are compared with."""
    layout, scale = model.head.layout, torch.ones(rows.shape[-1])
    scale[:4] = scale[layout.kpt] = scale[layout.next] = side
    scale[layout.mask] = max(1.0, float(rows[..., layout.mask].abs().amax()))
    return scale


def dense_rows(model: MultiTaskModel, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the dense rows and prototypes."""
    (rows, protos), _ = model(x)
    return rows, protos


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    batch=st.sampled_from([1, 3]),
    cells=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    count=st.integers(0, 200),
    max_det=st.sampled_from([1, 20, 300]),
    classes=st.sampled_from([None, [1], [0, 2]]),
    dense=st.booleans(),
    agnostic=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_lazy_and_graph_equal_dense(
    models: dict[tuple[str, bool], MultiTaskModel],
    kind: tuple[str, bool],
    batch: int,
    cells: tuple[int, int],
    count: int,
    max_det: int,
    classes: list[int] | None,
    dense: bool,
    agnostic: bool,
    seed: int,
) -> None:
    model = models[kind]
    model.set_head_attr(max_det=300, agnostic_nms=agnostic)
    x = torch.rand(batch, 3, *(32 * c for c in cells), generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode(), pytest.MonkeyPatch.context() as patch:
        if not dense:
            patch.setattr(sites, "DENSE_SHARE", 2.0)
            patch.setattr(proto, "DENSE_TILES", 2.0)
        rows, protos = dense_rows(model, x)
        best = rows[..., 4].flatten().sort(descending=True).values
        conf = float(best[: min(count, len(best) - 1) + 1][-2:].mean()) if count else 1.0
        expected = nms.non_max_suppression(rows, conf, classes=classes, max_det=max_det, end2end=True)
        model.head.lazy = True
        try:
            found = detect(model.head, *model(x), conf=conf, classes=classes, max_det=max_det, margin=1e4)
            in_graph, graph_protos = graph.select_best(model.head, *model(x), conf)
        finally:
            model.head.lazy = False
    scale = spread(model, rows, max(x.shape[2:]))
    assert rows.shape == in_graph.shape == (batch, min(300, 21 * cells[0] * cells[1]), 6 + model.head.layout.extra)
    for image, (own, wanted) in enumerate(zip(found.rows, expected, strict=True)):
        assert own.shape == wanted.shape
        torch.testing.assert_close(own / scale, wanted / scale, rtol=1e-5, atol=1e-5)
        used = int((rows[image, :, 4] > conf).sum())
        torch.testing.assert_close(in_graph[image, :used] / scale, rows[image, :used] / scale, rtol=1e-5, atol=1e-5)
        assert not in_graph[image, used:].any()
        assert found.proto is not None
        if len(wanted):
            torch.testing.assert_close(found.proto[image], protos[image], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(graph_protos[image], protos[image], rtol=1e-5, atol=1e-5)


def test_a_trace_fixes_no_size(models: dict[tuple[str, bool], MultiTaskModel]) -> None:
    model = models["yolo26n", True]

    class Graph(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = model

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            model.head.lazy = True
            out = graph.select_best(model.head, *model(x), 0.3)
            model.head.lazy = False
            return out

    model.set_head_attr(max_det=20, agnostic_nms=False)
    with torch.no_grad():
        model.head.dynamic = True  # as the exporter sets it
        traced: Any = torch.jit.trace(Graph(), torch.zeros(1, 3, 64, 64), check_trace=False)
        x = torch.rand(3, 3, 96, 160, generator=torch.Generator().manual_seed(3))
        expected, found = Graph()(x), traced(x)
        model.head.dynamic = False
    assert (expected[0][..., 4] > 0).any()
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)


@pytest.fixture(scope="module")
def yolo() -> MultiTaskYOLO:
    """Return a model with two heads that was never fused."""
    made = MultiTaskYOLO("yolo26n-multitask.yaml")
    made.model = build("yolo26n", fused=False, nc=1, kpt_shape=(17, 3))
    made.model.end2end = False
    made.model.model[-1].bias_init()
    return made


def same(dense: Any, lazy: Any) -> None:
    """Check that results hold the same."""
    assert len(lazy) == len(dense) > 0
    for field in FIELDS:
        expected, found = getattr(dense, field), getattr(lazy, field)
        torch.testing.assert_close(found.data.float(), expected.data.float(), rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("switch", [{"nms": False}, {"end2end": True}, {"nms": None}, {"end2end": False}])
def test_the_host_chooses_the_head(yolo: MultiTaskYOLO, switch: dict[str, Any]) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (96, 96, 3), dtype=np.uint8)
    given = {k: v for k, v in BASE.items() if k != "nms"} | {"conf": 1e-6, "max_det": 9, **switch}
    both = [yolo.predict(picture, lazy=lazy, **given)[0] for lazy in (False, True)]
    one2one = switch in ({"nms": False}, {"end2end": True})
    assert yolo.predictor.model.end2end is one2one
    assert (yolo.predictor.model.model.head.cv2 is None) is one2one
    same(*both)


def test_two_heads_find_different_things(yolo: MultiTaskYOLO) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (96, 96, 3), dtype=np.uint8)
    many, one = (
        yolo.predict(picture, **{**BASE, "nms": nms_, "conf": 1e-6, "max_det": 9})[0] for nms_ in (None, False)
    )
    assert not torch.equal(many.boxes.data, one.boxes.data)


@pytest.mark.parametrize("tracker", ["multicue", "botsort", "tracktrack", "deepocsort", "bytetrack"])
def test_trackers_take_the_embedding_of_a_row(yolo: MultiTaskYOLO, tracker: str) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (96, 96, 3), dtype=np.uint8)
    for i in range(3):
        given = {**BASE, "conf": 1e-6, "max_det": 5}
        found = yolo.track(np.roll(picture, i, 1), persist=i > 0, tracker=f"{tracker}.yaml", **given)[0]
        assert found.embeddings is not None
    assert yolo.predictor.model.end2end
    own = yolo.predictor.tracking
    if tracker in ("botsort", "tracktrack", "deepocsort"):
        assert own.factory.appearance  # not a classifier on crops
        assert own.factory.config.model == "auto"


def test_validation_of_either_head(yolo: MultiTaskYOLO, tmp_path: Path) -> None:
    data = write_world(tmp_path / "data")
    given = {"data": str(data), "imgsz": 64, "batch": 2, "device": "cpu", "plots": False, "save_dir": tmp_path / "val"}
    for switch in ({"nms": False}, {}):
        dense, lazy = (yolo.val(**given, **switch, lazy=value).results_dict for value in (False, True))
        assert lazy.keys() == dense.keys()
        for key, value in dense.items():
            assert lazy[key] == pytest.approx(value, abs=1e-3), key
    assert yolo.model.head.cv2 is not None  # the model itself was not fused
