"""supervision's containers, sliced and drawn by supervision; `nox -s interop` installs it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.page import page_examples, run_page
from support.results import CLASSES, IDS, NAMES, SCORES, XYXY, E, H, K, N, W, host_masks, make_results, plain
from ultralytics.engine.results import Results as HostResults

from yolo_multitask.interop import to_supervision

sv = pytest.importorskip("supervision", reason="supervision is not installed; `nox -s interop` installs it")


@pytest.mark.parametrize("kind", ["results", "numpy", "plain", "native"])
def test_everything_arrives_aligned(kind: str) -> None:
    result = make_results()
    given = {"results": result, "numpy": result.numpy(), "plain": plain(result), "native": plain(result, native=True)}
    detections, keypoints = given[kind].to_supervision()
    assert (type(detections), type(keypoints)) == (sv.Detections, sv.KeyPoints)
    np.testing.assert_array_equal(detections.xyxy, np.float32(XYXY))
    np.testing.assert_array_equal(detections.confidence, np.float32(SCORES))
    assert detections.class_id.tolist() == keypoints.class_id.tolist() == CLASSES
    assert detections.tracker_id.tolist() == keypoints.data["tracker_id"].tolist() == IDS
    assert detections.data["class_name"].tolist() == ["person", "car", "dog"]
    assert keypoints.data["class_name"].tolist() == ["person", "car", "dog"]
    assert set(detections.data) == {"class_name", "embedding", "next_box"}
    assert (detections.mask.dtype, detections.mask.shape) == (bool, (N, H, W))
    np.testing.assert_array_equal(detections.mask, host_masks(result.masks.data))
    np.testing.assert_array_equal(detections.data["embedding"], result.embeddings.data)
    np.testing.assert_array_equal(detections.data["next_box"], result.next_boxes.xyxy)
    np.testing.assert_array_equal(keypoints.xy, result.keypoints.xy)
    np.testing.assert_array_equal(keypoints.keypoint_confidence, result.keypoints.conf)
    np.testing.assert_array_equal(keypoints.detection_confidence, np.float32(SCORES))


def test_it_is_what_supervision_reads_of_a_result() -> None:
    result = make_results()
    detections, keypoints = result.to_supervision()
    theirs, their_keypoints = sv.Detections.from_ultralytics(result), sv.KeyPoints.from_ultralytics(result)
    for name in ("xyxy", "confidence", "class_id", "tracker_id"):
        np.testing.assert_array_equal(getattr(detections, name), getattr(theirs, name), err_msg=name)
    np.testing.assert_array_equal(detections.data["class_name"], theirs.data["class_name"])
    np.testing.assert_array_equal(keypoints.xy, their_keypoints.xy)
    np.testing.assert_array_equal(keypoints.keypoint_confidence, their_keypoints.keypoint_confidence)
    np.testing.assert_array_equal(keypoints.class_id, their_keypoints.class_id)


@pytest.mark.parametrize("index", [slice(1, 3), [2, 0], np.array([True, False, True]), np.array([], int)])
def test_both_are_sliced_alike(index: Any) -> None:
    detections, keypoints = (part[index] for part in make_results().to_supervision())
    ids = np.array(IDS)[index].tolist()
    assert detections.tracker_id.tolist() == keypoints.data["tracker_id"].tolist() == ids
    assert detections.class_id.tolist() == keypoints.class_id.tolist()
    assert detections.data["embedding"].shape == (len(ids), E)
    assert detections.mask.shape == (len(ids), H, W)
    assert keypoints.xy.shape == (len(ids), K, 2)


@pytest.mark.parametrize("tracked", [False, True])
@pytest.mark.parametrize("kind", ["results", "plain", "native"])
def test_nothing_found(tracked: bool, kind: str) -> None:
    result = make_results(tracked)[:0]
    detections, keypoints = (result if kind == "results" else plain(result, native=kind == "native")).to_supervision()
    assert detections.is_empty()
    assert len(keypoints) == 0
    assert detections.mask.shape == (0, H, W)
    assert keypoints.xy.shape == (0, K, 2)
    assert (detections.tracker_id is not None) == tracked == ("tracker_id" in keypoints.data)
    found = make_results(tracked).to_supervision()[0]
    assert len(sv.Detections.merge([detections, found])) == N


def test_boxes_alone() -> None:
    result = make_results(tracked=False, masks=None, keypoints=None, embeddings=None, next_boxes=None)
    detections, keypoints = result.to_supervision()
    assert (detections.mask, detections.tracker_id, set(detections.data)) == (None, None, {"class_name"})
    assert (keypoints.xy.shape, keypoints.keypoint_confidence, set(keypoints.data)) == ((N, 0, 2), None, {"class_name"})
    assert keypoints[detections.class_id != 1].class_id.tolist() == [0, 2]
    image = np.zeros((H, W, 3), np.uint8)
    assert not sv.VertexAnnotator().annotate(image.copy(), keypoints).any()
    assert make_results(dims=2).to_supervision()[1].keypoint_confidence is None


def test_supervision_draws_it() -> None:
    detections, keypoints = make_results().to_supervision()
    image = np.zeros((H, W, 3), np.uint8)
    masks = sv.MaskAnnotator(opacity=1).annotate(image.copy(), detections)
    np.testing.assert_array_equal(masks.any(2), detections.mask.any(0))
    assert sv.BoxAnnotator().annotate(image.copy(), detections).any()
    points = sv.VertexAnnotator(color=sv.Color.WHITE, radius=1).annotate(image.copy(), keypoints)
    for x, y in keypoints.xy[[0, 2]].reshape(-1, 2).astype(int):
        assert points[y, x].tolist() == [255, 255, 255]
    assert not points[:2, :2].any(), "the keypoints of the car, which has none"


def test_oriented_boxes_keep_their_corners() -> None:
    turned = HostResults(
        np.zeros((H, W, 3), np.uint8),
        path="a",
        names=NAMES,
        obb=torch.tensor([[50.0, 40, 20, 10, 0.3, 3, 0.5, 1]]),
    )
    detections, _ = to_supervision(turned)
    theirs = sv.Detections.from_ultralytics(turned)
    np.testing.assert_array_equal(detections.data["xyxyxyxy"], theirs.data["xyxyxyxy"])
    np.testing.assert_array_equal(detections.xyxy, theirs.xyxy)
    assert detections.tracker_id.tolist() == [3]


def test_an_older_supervision_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass
    class KeyPoints:
        confidence: Any

    monkeypatch.setattr(sv, "KeyPoints", KeyPoints)
    monkeypatch.setattr(sv, "__version__", "0.28.0")
    with pytest.raises(ImportError, match=r"expected supervision 0.29 or later, found 0.28.0; run 'pip install -U"):
        to_supervision(make_results())


def test_the_examples_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert any("to_supervision" in block for block in page_examples())
    run_page(page_examples())
