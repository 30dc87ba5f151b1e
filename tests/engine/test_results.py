"""`Results`: alignment of all fields, and label files that can be read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ultralytics.engine.results import Results as HostResults

from yolo_multitask.data.labels import LabelSpec, read_labels
from yolo_multitask.engine.results import Embeddings, NextBoxes, Results, TrackedResults, Trails

NAMES = {0: "person", 1: "car", 2: "dog"}
H, W, N, K = 48, 64, 3, 4
FIELDS = ("boxes", "masks", "keypoints", "embeddings", "next_boxes")


def make(tracked: bool = False, dims: int = 3, **kwargs) -> Results:
    """Return three detections; the second one's mask is empty, the third one's has two parts."""
    generator = torch.Generator().manual_seed(0)
    boxes = torch.tensor([[4.0, 4, 20, 40], [30, 8, 50, 24], [8, 8, 60, 44]])
    identity = [torch.tensor([[7.0], [9.0], [12.0]])] if tracked else []
    rest = torch.tensor([[0.9, 0], [0.8, 1], [0.5, 2]])
    masks = torch.zeros(N, H, W, dtype=torch.uint8)
    masks[0, 6:38, 6:18] = 1
    masks[2, 10:20, 10:20] = masks[2, 30:40, 40:58] = 1
    keypoints = torch.rand(N, K, dims, generator=generator) * 40
    keypoints[..., 2:] /= 40
    fields = {
        "masks": masks,
        "keypoints": keypoints,
        "embeddings": torch.rand(N, 8, generator=generator),
        "next_boxes": boxes + 2,
        **kwargs,
    }
    image = np.zeros((H, W, 3), np.uint8)
    return Results(image, path="a.jpg", names=NAMES, boxes=torch.cat((boxes, *identity, rest), 1), **fields)


def lengths(result: Results) -> list[int]:
    """Return the length of each field."""
    return [len(getattr(result, k)) for k in FIELDS]


@pytest.mark.parametrize("index", [slice(1, 3), [2, 0], torch.tensor([True, False, True]), 1, np.array([0, 1])])
def test_indexing_keeps_the_fields_aligned(index) -> None:
    result = make()
    part = result[index]
    assert type(part) is Results
    rows = np.atleast_1d(np.arange(N)[index.numpy() if isinstance(index, torch.Tensor) else index])
    assert lengths(part) == [len(rows)] * 5
    for key in FIELDS:
        torch.testing.assert_close(getattr(part, key).data, getattr(result, key).data[torch.as_tensor(rows)])


def test_moves_and_emptiness() -> None:
    result = make()
    result.save_dir = "somewhere"
    for moved in (result.cpu(), result.to("cpu"), result.to(torch.float64), result.numpy()):
        assert type(moved) is Results
        assert lengths(moved) == [N] * 5
        assert moved.save_dir == "somewhere"
        assert moved.names == NAMES
    assert isinstance(result.numpy().embeddings.data, np.ndarray)
    assert result.to(torch.float64).embeddings.data.dtype == torch.float64
    assert lengths(result[:0]) == [0] * 5
    assert len(result.new()) == 0
    assert result.new().embeddings is None
    assert result.new().next_boxes is None
    assert isinstance(result.numpy().next_boxes.xyxy, np.ndarray)


def test_update_replaces_and_checks_lengths() -> None:
    result = make()
    result.update(boxes=torch.rand(N, 7), embeddings=torch.zeros(N, 8))
    assert result.boxes.is_track
    assert result.embeddings.data.sum() == 0
    with pytest.raises(ValueError, match=r"one entry per detection.*'embeddings': 2"):
        result.update(embeddings=torch.zeros(2, 8))
    result = make()
    result.update(next_boxes=torch.full((N, 4), 5.0))
    assert result.next_boxes.xyxy.tolist() == [[5.0] * 4] * N
    with pytest.raises(ValueError, match=r"one entry per detection.*'next_boxes': 2"):
        result.update(next_boxes=torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"one entry per detection.*'trails': 1"):
        make().update(trails=torch.zeros(1, 5, 2))
    with pytest.raises(ValueError, match=r"one entry per detection"):
        make(keypoints=torch.zeros(1, K, 3))


def test_embeddings_container() -> None:
    embeddings = Embeddings(torch.eye(3), (H, W))
    assert embeddings[1].shape == (1, 3)
    torch.testing.assert_close(embeddings.similarity(embeddings[[2, 0]]), torch.eye(3)[:, [2, 0]])


def test_next_boxes_and_trails_containers() -> None:
    boxes = NextBoxes(torch.arange(12.0).reshape(3, 4), (H, W))
    assert boxes[1].xyxy.tolist() == [[4, 5, 6, 7]]
    trails = Trails(torch.zeros(3, 5, 2), (H, W))
    assert trails[1].xy.shape == (1, 5, 2)
    assert trails[[0, 2]].xy.shape == (2, 5, 2)


def test_trails_follow_their_objects() -> None:
    result = make(tracked=True)
    result.update(trails=torch.arange(N)[:, None, None].expand(N, 5, 2).float())
    for part in (result[[2, 0]], result.numpy()[[2, 0]], result.cpu()[torch.tensor([2, 0])]):
        assert part.trails.xy[:, 0, 0].tolist() == [2, 0]
        assert part.boxes.id.tolist() == [12, 7]


def test_host_results_with_trails() -> None:
    """Results of stock models stay the host's, with trails."""
    plain = HostResults(np.zeros((H, W, 3), np.uint8), path="a.jpg", names=NAMES, boxes=torch.rand(N, 6))
    result = TrackedResults.of(plain)
    assert TrackedResults.of(result) is result
    assert (result.path, result.names) == (plain.path, plain.names)
    assert result.boxes is plain.boxes
    assert (result.plot() == plain.plot()).all()
    result.update(boxes=torch.rand(N, 7), trails=torch.rand(N, 5, 2) * 40)
    assert type(result[1:]) is TrackedResults
    assert len(result[1:].trails) == len(result[1:].boxes) == N - 1
    assert result.new().trails is None
    assert plain.boxes.id is None


@pytest.mark.parametrize("tracked", [False, True])
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("as_numpy", [False, True])
def test_label_file_can_be_read_back(tmp_path: Path, tracked: bool, dims: int, as_numpy: bool) -> None:
    result = make(tracked, dims)
    result.keypoints.data[1] = 0  # a class without keypoints
    file = tmp_path / "labels" / "a.txt"
    (result.numpy() if as_numpy else result).save_txt(file, save_conf=True)
    labels, problems = read_labels(file, LabelSpec(nc=3, kpt_shape=(K, dims), polygons=True, ids=tracked))
    assert problems == []
    assert labels.cls.tolist() == [0, 1, 2]
    np.testing.assert_allclose(labels.boxes, result.boxes.xywhn, rtol=1e-6)
    np.testing.assert_allclose(labels.conf, [0.9, 0.8, 0.5], rtol=1e-6)
    assert labels.ids.tolist() == ([7, 9, 12] if tracked else [-1, -1, -1])
    assert labels.has_polygon.tolist() == [True, False, True]
    np.testing.assert_array_equal(labels.polygons[0], result.masks.xyn[0])
    assert len(labels.polygons[2]) == len(result.masks.xyn[2])
    assert labels.has_keypoints.tolist() == [True, dims == 2, True] if dims == 2 else [True, False, True]
    np.testing.assert_array_equal(labels.keypoints[0, :, :2], result.keypoints.xyn[0])
    visible = result.keypoints.data[0, :, 2] if dims == 3 else np.ones(K)
    np.testing.assert_array_equal(labels.keypoints[0, :, 2], visible)


def test_label_file_of_some_tasks(tmp_path: Path) -> None:
    make(masks=None, keypoints=None, embeddings=None, next_boxes=None).save_txt(tmp_path / "boxes.txt")
    labels, problems = read_labels(tmp_path / "boxes.txt", LabelSpec(nc=3, kpt_shape=None, polygons=False))
    assert (len(labels), problems) == (N, [])
    assert np.isnan(labels.conf).all()
    make(masks=None).save_txt(tmp_path / "pose.txt")
    labels, problems = read_labels(tmp_path / "pose.txt", LabelSpec(nc=3, kpt_shape=(K, 3), polygons=False))
    assert (len(labels), problems) == (N, [])


def test_label_file_of_nothing_and_of_a_flat_box(tmp_path: Path) -> None:
    make()[:0].save_txt(tmp_path / "none.txt")
    assert not (tmp_path / "none.txt").exists()
    flat = make(masks=None, keypoints=None)
    flat.boxes.data[0, 2] = flat.boxes.data[0, 0]  # clipped to the image's border
    flat.save_txt(tmp_path / "flat.txt")
    labels, problems = read_labels(tmp_path / "flat.txt", LabelSpec(nc=3, kpt_shape=None, polygons=False))
    assert (len(labels), problems) == (N, [])


@pytest.mark.parametrize("as_numpy", [False, True])
def test_tables_and_plots_work(as_numpy: bool) -> None:
    result = make(tracked=True)
    result = result.numpy() if as_numpy else result
    rows = result.summary()
    assert [r["track_id"] for r in rows] == [7, 9, 12]
    assert all({"box", "segments", "keypoints"} <= set(r) for r in rows)
    assert result.to_df().shape[0] == N
    drawn = result.plot()
    assert drawn.shape == (H, W, 3)
    assert drawn.any()
    assert "person" in result.verbose()


def test_plots_on_a_tensor() -> None:
    image = np.full((H, W, 3), 50, np.uint8)
    for tracked in (True, False):
        result = make(tracked=tracked)
        np.testing.assert_array_equal(result.plot(img=torch.from_numpy(image)), result.plot(img=image))
