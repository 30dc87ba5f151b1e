"""`Results`: alignment of all fields, and label files that can be read back."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from ultralytics.engine.results import Results as HostResults

from yolo_multitask.data.labels import LabelSpec, read_labels
from yolo_multitask.engine.results import Embeddings, NextBoxes, Points, Results, TrackedResults, Trails

NAMES = {0: "person", 1: "car", 2: "dog"}
H, W, N, K = 48, 64, 3, 4
FIELDS = ("boxes", "masks", "keypoints", "embeddings", "next_boxes", "points")
NAN = float("nan")


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
        "points": torch.tensor([[NAN, NAN, NAN], [40.0, 16, 0], [34, 26, 1]]),
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
    assert lengths(part) == [len(rows)] * 6
    for key in FIELDS:
        expected = getattr(result, key).data[torch.as_tensor(rows)]
        torch.testing.assert_close(getattr(part, key).data, expected, equal_nan=True)


def test_moves_and_emptiness() -> None:
    result = make()
    result.save_dir = "somewhere"
    for moved in (result.cpu(), result.to("cpu"), result.to(torch.float64), result.numpy()):
        assert type(moved) is Results
        assert lengths(moved) == [N] * 6
        assert moved.save_dir == "somewhere"
        assert moved.names == NAMES
    assert isinstance(result.numpy().embeddings.data, np.ndarray)
    assert result.to(torch.float64).embeddings.data.dtype == torch.float64
    assert lengths(result[:0]) == [0] * 6
    assert len(result.new()) == 0
    assert result.new().embeddings is None
    assert result.new().next_boxes is None
    assert result.new().points is None
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
    result = make()
    result.update(points=torch.full((N, 3), 5.0))
    assert result.points.known.all()
    with pytest.raises(ValueError, match=r"one entry per detection.*'points': 2"):
        result.update(points=torch.zeros(2, 3))
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


@pytest.mark.parametrize("as_numpy", [False, True])
def test_points_container(as_numpy: bool) -> None:
    points = make().numpy().points if as_numpy else make().points
    assert points.known.tolist() == [False, True, True]
    assert points.interpolated.tolist() == [False, False, True]
    assert points.xy[1:].tolist() == [[40, 16], [34, 26]]
    assert Points(points.data[1], (H, W)).xy.tolist() == [[40, 16]]
    trails = Trails(torch.tensor([[[1.0, 2, 0], [3, 4, 1]]]), (H, W))
    assert trails.xy.tolist() == [[[1, 2], [3, 4]]]
    assert trails.interpolated.tolist() == [[False, True]]
    assert Trails(torch.zeros(3, 5, 2), (H, W)).interpolated is None


def test_a_label_line_is_centred_on_the_position(tmp_path: Path) -> None:
    """Not on the box, which may be cut off at the border; players keep the centre of their boxes."""
    points = torch.tensor([[NAN, NAN, NAN], [42.25, 17, 0], [34, 26, 1]])
    make(masks=None, keypoints=None, points=points).save_txt(tmp_path / "points.txt")
    labels, problems = read_labels(tmp_path / "points.txt", LabelSpec(nc=3, kpt_shape=None, polygons=False))
    assert problems == []
    centres = labels.boxes[:, :2] * [W, H]
    np.testing.assert_allclose(centres, [[12, 22], [42.25, 17], [34, 26]], rtol=1e-5)
    np.testing.assert_allclose(labels.boxes[:, 2:] * [W, H], [[16, 36], [20, 16], [52, 36]], rtol=1e-5)


SETTINGS = {"line_width": 1, "masks": False, "labels": False, "conf": False}


def changed(drawn: np.ndarray, x: float, y: float, radius: int) -> bool:
    """Return whether anything is drawn around a place."""
    x, y = round(x), round(y)
    return bool(drawn[max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1].any())


@pytest.mark.parametrize("tracked", [False, True])
@pytest.mark.parametrize("as_numpy", [False, True])
def test_plots_objects_as_rings_and_players_as_usual(tracked: bool, as_numpy: bool) -> None:
    result = make(tracked, keypoints=None)
    result = result.numpy() if as_numpy else result
    drawn = result.plot(**SETTINGS)
    players = make(tracked, keypoints=None, points=None)[[0]].plot(**SETTINGS)
    assert (drawn[:, :22] == players[:, :22]).all(), "the player's box"
    assert not changed(drawn, 30, 8, 1), "no corner of an object's box"
    assert not changed(drawn, 40, 16, 1), "the object itself stays visible"
    assert changed(drawn, 40, 16, 5)
    wide = {**SETTINGS, "line_width": 3}
    ring = {i: np.count_nonzero(make(tracked, keypoints=None)[[i]].plot(**wide).any(2)) for i in (1, 2)}
    assert 0.3 * ring[1] < ring[2] < 0.8 * ring[1], "an interpolated one is dashed"
    assert (result.plot(boxes=False, **SETTINGS) == 0).all()


def test_plots_of_objects_take_the_hosts_arguments(tmp_path: Path) -> None:
    result = make(tracked=True, keypoints=None)
    image = np.full((H, W, 3), 50, np.uint8)
    plain = result.plot(img=image, **SETTINGS)
    assert (image == 50).all()
    assert (plain == result.plot(False, 1, img=torch.from_numpy(image), masks=False, labels=False)).all(), "by position"
    assert (np.asarray(result.plot(img=image, pil=True, **SETTINGS))[..., ::-1] == plain).all()
    result.plot(img=image, save=True, filename=str(tmp_path / "drawn.png"), **SETTINGS)
    assert (cv2.imread(str(tmp_path / "drawn.png")) == plain).all()
    assert (result.plot(img=image, color_mode="class", **SETTINGS) != plain).any()
    assert (result.plot(img=image, line_width=1, masks=False) != plain).any(), "labels"
    grey = Results(np.zeros((H, W, 1), np.uint8), "a.jpg", NAMES, boxes=result.boxes.data, points=result.points.data)
    assert grey.plot(**SETTINGS).shape == (H, W, 3)


def test_the_trail_of_an_object() -> None:
    """A line where it was seen, broken where it was not."""
    trail = torch.tensor([[[10.0, 5, 0], [30, 5, 0], [34, 5, 1], [60, 5, 0]]])
    result = make(tracked=True, keypoints=None)[[1]]
    result.update(points=torch.tensor([[60.0, 40, 0]]), trails=trail)
    drawn = result.plot(**SETTINGS)[5].any(1)
    assert drawn[14:28].all(), "seen"
    assert 0 < drawn[40:58].sum() < 18, "dashed"
    result.update(trails=trail[..., :2])
    assert result.plot(**SETTINGS)[5, 40:58].any(1).all(), "a trail that does not say is drawn whole"


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
    assert [r["point"] for r in rows] == [
        None,
        {"x": 40, "y": 16, "interpolated": False},
        {"x": 34, "y": 26, "interpolated": True},
    ]
    assert result.summary(normalize=True)[2]["point"] == {"x": 34 / W, "y": 0.54167, "interpolated": True}
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
