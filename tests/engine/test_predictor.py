"""Prediction with a small random model: every field of every detection, for any subset of the tasks."""

from __future__ import annotations

import inspect
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from support.models import randomise, tiny_model
from ultralytics.data.loaders import LoadImagesAndVideos
from ultralytics.engine.predictor import BasePredictor

from yolo_multitask.data.labels import LabelSpec, read_labels
from yolo_multitask.engine.predictor import MultiTaskPredictor
from yolo_multitask.engine.results import Results

SIZE, NC, KPT = 64, 3, (5, 3)
BASE = {"imgsz": SIZE, "conf": 0.3, "iou": 0.9, "max_det": 20, "save": False, "verbose": False, "device": "cpu"}


@pytest.fixture(scope="module")
def model():
    """Return a model with every output whose random weights give detections everywhere."""
    network = tiny_model(nc=NC, kpt_shape=KPT)
    randomise(network)
    network.names = {0: "person", 1: "car", 2: "dog"}
    return network.eval()


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    """Return two images of different shapes."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, shape, dtype=np.uint8) for shape in ((50, 90, 3), (80, 60, 3))]


def predict(model, source, **kwargs) -> list[Results]:
    """Run a fresh predictor."""
    return MultiTaskPredictor(overrides={**BASE, **kwargs})(source=source, model=model)


def test_fields_are_aligned_and_in_original_pixels(model, images) -> None:
    results = predict(model, images)
    assert len(results) == 2
    for result, image in zip(results, images, strict=True):
        n, (height, width) = len(result), image.shape[:2]
        assert type(result) is Results
        assert n > 1
        assert result.boxes.data.shape == (n, 6)
        assert result.masks.data.shape[0] == n
        assert result.keypoints.data.shape == (n, *KPT)
        assert result.embeddings.data.shape == (n, model.head.layout.ne)
        torch.testing.assert_close(result.embeddings.data.norm(dim=1), torch.ones(n))
        assert result.next_boxes.data.shape == (n, 4)
        assert result.boxes.xyxy[:, [0, 2]].max() <= width
        assert result.boxes.xyxy[:, [1, 3]].max() <= height
        assert result.keypoints.xy[..., 0].max() <= width
        assert result.keypoints.xy[..., 1].max() <= height
        assert set(result.masks.data.unique().tolist()) <= {0, 1}
        assert type(result[0]) is Results


@pytest.mark.parametrize(
    ("switches", "has"),
    [
        ({}, (True, True, True)),
        ({"segment": False}, (False, True, True)),
        ({"pose": False}, (True, False, True)),
        ({"track": False}, (True, True, False)),
        ({"segment": False, "pose": False, "track": False}, (False, False, False)),
        ({"segment": True, "pose": True, "track": True}, (True, True, True)),
    ],
)
def test_switches_change_nothing_else(model, images, switches, has) -> None:
    everything = predict(model, images)
    results = predict(model, images, **switches)
    for full, part in zip(everything, results, strict=True):
        torch.testing.assert_close(part.boxes.data, full.boxes.data)
        for field, there in zip(("masks", "keypoints", "embeddings"), has, strict=True):
            assert (getattr(part, field) is not None) == there
            if there:
                torch.testing.assert_close(getattr(part, field).data, getattr(full, field).data)
    assert model.head.active == model.tasks, "the caller's model is left alone"


@pytest.mark.parametrize("lazy", [False, True])
def test_only_active_branches_are_computed(model, images, lazy: bool) -> None:
    predictor = MultiTaskPredictor(overrides={**BASE, "segment": False, "lazy": lazy})
    predictor(source=images, model=model)
    called: list[str] = []
    inner = predictor.model.model.head
    for task, branch in inner.branches.items():
        name = "at" if lazy else "forward"
        run = getattr(branch, name)

        def note(*args: Any, task: str = task, run: Any = run, **kwargs: Any) -> Any:
            called.append(task)
            return run(*args, **kwargs)

        setattr(branch, name, note)
    predictor(source=images)
    assert set(called) == {"pose", "track"}


def test_one_predictor_follows_new_arguments(model, images) -> None:
    predictor = MultiTaskPredictor(overrides=BASE)
    assert predictor(source=images, model=model)[0].masks is not None
    predictor.args.switches = {"segment": False}
    assert predictor(source=images)[0].masks is None
    predictor.args.switches = {}
    assert predictor(source=images)[0].masks is not None


def test_switch_for_a_missing_branch_names_both_sides(images) -> None:
    network = tiny_model(nc=NC, tasks=("segment",)).eval()
    with pytest.raises(ValueError, match=r"'pose=True' was asked for, but model .* has only: detect, segment"):
        predict(network, images, pose=True)
    assert predict(network, images, conf=0.0001)[0].keypoints is None


@pytest.mark.parametrize("retina_masks", [False, True])
def test_nothing_found_gives_empty_fields(model, images, retina_masks, tmp_path: Path) -> None:
    for result in predict(model, images, conf=1.0, retina_masks=retina_masks):
        (found,) = predict(model, [result.orig_img], retina_masks=retina_masks)
        assert len(result) == 0
        assert result.masks.data.shape == (0, *found.masks.data.shape[1:])
        assert result.masks.data.dtype == found.masks.data.dtype
        assert result.keypoints.data.shape == (0, *KPT)
        for each in (result, result.numpy(), result.cpu(), result[result.boxes.cls == 0]):
            assert list(zip(each.boxes, each.masks, each.keypoints, strict=True)) == []
            assert each.masks.xy == each.masks.xyn == []
            assert (each.plot() == each.orig_img).all()
            assert each.plot(color_mode="instance").shape == each.orig_img.shape
            assert each.summary() == []
            assert each.to_df().is_empty()
            assert each.to_json() == "[]"
            assert each.verbose() == result.new().verbose()
            each.save_txt(tmp_path / "none.txt", save_conf=True)
            each.save_crop(tmp_path / "crops")
        assert not (tmp_path / "none.txt").exists()


def test_nothing_found_without_masks(model, images) -> None:
    assert [r.masks for r in predict(model, images, conf=1.0, segment=False)] == [None, None]


def test_host_arguments(model, images) -> None:
    kept = predict(model, images, classes=[1], max_det=3)
    assert all(len(r) <= 3 and set(r.boxes.cls.tolist()) <= {1.0} for r in kept)
    for result, image in zip(predict(model, images, retina_masks=True), images, strict=True):
        assert result.masks.data.shape == (len(result), *image.shape[:2])
    agnostic = predict(model, images, agnostic_nms=True, iou=0.1)
    assert sum(map(len, agnostic)) <= sum(map(len, predict(model, images, iou=0.1)))
    augmented = predict(model, images, augment=True)
    assert all(len(r.boxes) == len(r.masks) == len(r.keypoints) for r in augmented)
    tensor = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    assert [len(r.masks) == len(r) for r in predict(model, tensor)] == [True, True]


def test_batches_equal_single_images(model) -> None:
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8) for _ in range(3)]
    together = predict(model, images, batch=3)
    for image, batched in zip(images, together, strict=True):
        (alone,) = predict(model, [image])
        torch.testing.assert_close(batched.boxes.data, alone.boxes.data, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(batched.keypoints.data, alone.keypoints.data, rtol=1e-4, atol=1e-3)


def test_next_boxes_are_in_original_pixels_and_not_clipped(images, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture of 90 x 50 stands in an input of 64 x 64 with a gain of 64 / 90, between 14 lines of padding."""
    network = tiny_model(nc=NC, kpt_shape=KPT).eval()
    layout = network.head.layout
    row = torch.zeros(1, 6 + layout.extra)
    row[0, :4] = torch.tensor([10.0, 20, 30, 40])
    row[0, layout.embed] = torch.arange(layout.ne) / 100
    row[0, layout.next] = torch.tensor([-16.0, 14, 64, 78])
    monkeypatch.setattr("ultralytics.models.yolo.detect.predict.nms.non_max_suppression", lambda *_, **__: [row])
    (result,) = predict(network, images[0], rect=False, lazy=False)
    torch.testing.assert_close(result.embeddings.data, row[:, layout.embed])
    expected = torch.tensor([[-16 * 90 / 64, 0.0, 90.0, 64 * 50 / 36]])
    torch.testing.assert_close(result.next_boxes.xyxy, expected, rtol=1e-4, atol=1e-3)
    assert len(result) == len(result.next_boxes) == len(result[[0]].next_boxes) == 1
    (without,) = predict(network, images[0], rect=False, track=False, lazy=False)
    assert without.next_boxes is None
    assert without.embeddings is None


def test_layer_embeddings_and_object_features(model, images) -> None:
    vectors = predict(model, images, embed=[4])
    assert [v.ndim for v in vectors] == [1, 1]
    predictor = MultiTaskPredictor(overrides=BASE)
    predictor.setup_model(model, verbose=False)
    head = predictor.model.model.head
    predictor._feats = []
    head.register_forward_pre_hook(lambda _, x: setattr(predictor, "_feats", list(x[0])))
    for result in predictor(source=images):
        assert len(result.feats) == len(result.boxes) == len(result.masks) == len(result.keypoints)


def test_classes_without_keypoints_have_none(images, tmp_path: Path) -> None:
    network = tiny_model(nc=NC, kpt_shape=KPT)
    randomise(network)
    network.kpt_classes = [1]
    found = predict(network.eval(), images)
    seen = 0
    for result in found:
        zero = ~result.keypoints.data.flatten(1).any(1)
        assert zero.tolist() == (result.boxes.cls != 1).tolist()
        seen += int(zero.sum())
        result.save_txt(tmp_path / "a.txt")
    assert seen
    labels, problems = read_labels(tmp_path / "a.txt", LabelSpec(nc=NC, kpt_shape=KPT, polygons=True))
    assert all(p.kind == "duplicate" for p in problems)
    assert labels.has_keypoints.tolist() == (labels.cls == 1).tolist()


def test_saved_files(model, images, tmp_path: Path) -> None:
    import cv2

    source = tmp_path / "in.png"
    cv2.imwrite(str(source), images[0])
    (result,) = predict(model, str(source), save=True, save_txt=True, save_conf=True, project=str(tmp_path), name="out")
    assert (tmp_path / "out" / "in.png").is_file() or (tmp_path / "out" / "in.jpg").is_file()
    labels, problems = read_labels(
        tmp_path / "out" / "labels" / "in.txt", LabelSpec(nc=NC, kpt_shape=KPT, polygons=True)
    )
    assert problems == []
    assert len(labels) == len(result)
    np.testing.assert_allclose(labels.conf, result.boxes.conf, rtol=1e-5)


@pytest.mark.skipif(
    '"prefetch"' not in inspect.getsource(BasePredictor.stream_inference),
    reason="this Ultralytics asks no model for it",
)
def test_the_next_image_is_read_in_a_thread(model, images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(4):
        cv2.imwrite(str(tmp_path / f"{i}.png"), images[i % 2])
    threads = []
    read = LoadImagesAndVideos.__next__

    def watched(self):
        threads.append(threading.current_thread())
        return read(self)

    monkeypatch.setattr(LoadImagesAndVideos, "__next__", watched)
    results = predict(model, tmp_path, batch=1)
    assert [Path(result.path).name for result in results] == ["0.png", "1.png", "2.png", "3.png"]
    assert threading.main_thread() not in threads[1:]
