"""What is kept of a frame, in the pixels of the original image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from yolo_multitask.engine.frames import Frame, trackable

NO_BOXES = torch.zeros(0, 4)
# a picture of 100 x 200 pixels (H x W), enlarged twice and padded by 8 at the left and 16 at the top
TARGETS: dict[str, Any] = {"imgsz": (240, 416), "ori_shape": (100, 200), "ratio_pad": ((2.0, 2.0), (8, 16))}


def network(*boxes: tuple[float, ...]) -> torch.Tensor:
    """Return boxes of the picture in pixels of the network input."""
    return torch.tensor(boxes).reshape(-1, 4) * 2 + torch.tensor([8.0, 16, 8, 16])


def frame(
    found: torch.Tensor, targets: torch.Tensor, ids: list[int], regions: torch.Tensor = NO_BOXES, **kwargs: Any
) -> Frame:
    n = len(found)
    pred = {"bboxes": found, "conf": torch.linspace(0.9, 0.5, n), "cls": torch.zeros(n), **kwargs.pop("pred", {})}
    labels = {"bboxes": targets, "cls": torch.zeros(len(targets)), "ids": torch.tensor(ids), "regions": regions}
    known = kwargs.pop("known", torch.tensor(ids) >= 0)
    return Frame.of(pred, {**TARGETS, **labels}, known, **kwargs)


def rows(*boxes: tuple[float, ...], cls: int = 0) -> np.ndarray:
    """Return a tracker's rows with ids 1, 2, ..."""
    out = np.zeros((len(boxes), 8), np.float32)
    out[:, :4], out[:, 4], out[:, 6], out[:, 7] = boxes, np.arange(len(boxes)) + 1, cls, np.arange(len(boxes))
    return out


def test_original_pixels() -> None:
    pred = {
        "embeddings": torch.eye(2),
        "next_boxes": network((-30, 10, 10, 40), (150, 10, 250, 40)),
        "keypoints": torch.stack((network((10, 20, 30, 40)).reshape(2, 2), torch.zeros(2, 2))),
        "masks": torch.zeros(2, 60, 104, dtype=torch.uint8),
    }
    pred["masks"][0, 4:10, 2:12] = 1  # 24 x 40 pixels of the network input at the corner of the picture
    boxes = (10, 20, 30, 40), (150, 10, 210, 40)
    kept = frame(network(*boxes), network(boxes[0]), [3], network((0, 0, 50, 50)), pred=pred)
    result = kept.result(None)
    np.testing.assert_allclose(result.boxes.xyxy, [boxes[0], (150, 10, 200, 40)], atol=1e-4)
    np.testing.assert_allclose(result.next_boxes.xyxy, [(-30, 10, 10, 40), (150, 10, 250, 40)], atol=1e-4)
    np.testing.assert_allclose(result.keypoints.data[0], [(10, 20), (30, 40)], atol=1e-4)
    assert not result.keypoints.data[1].any(), "a class without keypoints has none"
    np.testing.assert_array_equal(result.embeddings.data, np.eye(2))
    assert result.masks.data.shape == (2, 50, 100)
    assert result.masks.data[0, :6, :10].all()
    assert result.masks.data.sum() == 60
    assert result.orig_shape == (100, 200)
    np.testing.assert_allclose(kept.boxes, [boxes[0]], atol=1e-4)
    np.testing.assert_allclose(kept.regions, [(0, 0, 50, 50)], atol=1e-4)


def test_masks_of_the_size_of_the_network_input() -> None:
    masks = torch.zeros(1, 240, 416, dtype=torch.uint8)
    masks[0, 16:40, 8:48] = 1
    kept = frame(network((0, 0, 20, 12)), NO_BOXES, [], pred={"masks": masks})
    data = kept.result(None).masks.data
    assert data.shape == (1, 50, 100)
    assert data[0, :6, :10].all()
    assert data.sum() == 60


def test_objects_and_tracks() -> None:
    a, b = (10, 10, 30, 50), (60, 10, 80, 50)
    kept = frame(network(a, b), network(b, a), [7, 3])
    ids, tracks, similarity = kept.compare(rows(a, b), 0)
    assert (ids.tolist(), tracks.tolist()) == ([7, 3], [1, 2])
    np.testing.assert_allclose(similarity, [[0, 1], [1, 0]], atol=1e-4)
    ids, tracks, similarity = kept.compare(rows(a, b), 1)
    assert similarity.shape == (len(ids), len(tracks)) == (0, 0)


@pytest.mark.parametrize(
    ("track", "kept_ids"),
    [
        pytest.param((10, 10, 30, 50), [1], id="on the object"),
        pytest.param((100, 10, 120, 50), [], id="on one without an identity"),
        pytest.param((100, 10, 120, 24), [1], id="hardly on that"),
        pytest.param((150, 60, 170, 90), [], id="in a region"),
        pytest.param((130, 60, 170, 90), [1], id="less than half in a region"),
        pytest.param((60, 60, 80, 90), [1], id="on nothing"),
        pytest.param((12, 12, 30, 50), [1], id="in the large region, but on the object"),
    ],
)
def test_tracks_that_labels_cannot_judge(track: tuple[float, ...], kept_ids: list[int]) -> None:
    regions = network((150, 50, 200, 100), (0, 0, 45, 60))
    kept = frame(NO_BOXES, network((10, 10, 30, 50), (100, 10, 120, 50)), [3, -1], regions)
    ids, tracks, similarity = kept.compare(rows(track), 0)
    assert ids.tolist() == [3]
    assert tracks.tolist() == kept_ids
    assert similarity.shape == (1, len(kept_ids))


def test_one_track_belongs_to_an_object() -> None:
    """Of two tracks on an object inside a region the better one is judged, the other left out."""
    box = (10, 10, 30, 50)
    kept = frame(NO_BOXES, network(box), [3], network((0, 0, 200, 100)))
    _, tracks, _ = kept.compare(rows((10, 10, 30, 48), box), 0)
    assert tracks.tolist() == [2]


def test_similarity_of_detections_is_that_of_their_tracks() -> None:
    """Given for detections, it follows each to its track; objects without a label of it need not be found."""
    a, b = (10, 10, 30, 50), (60, 10, 80, 50)
    known = torch.tensor([True, False])
    kept = frame(network(a, b), network(a, b), [7, 3], known=known, similarity=torch.tensor([[0.25, 0.75]]))
    tracked = rows(b, a)
    tracked[:, 7] = [1, 0]
    ids, tracks, similarity = kept.compare(tracked, 0)
    assert ids.tolist() == [7]
    assert tracks.tolist() == [1, 2]
    np.testing.assert_allclose(similarity, [[0.75, 0.25]])


def test_trackable_detections() -> None:
    boxes = torch.tensor([[0.0, 0, 9, 9], [5, 5, 9, 9], [0, 0, 9, 9], [1, 1, 9, 9]])
    pred = {"bboxes": boxes, "conf": torch.tensor([0.9, 0.5, 0.4, 0.05]), "cls": torch.tensor([1.0, 0, 0, 1])}
    kept = trackable(pred)
    assert kept["cls"].tolist() == [1, 0], "of a box with two classes the likelier one, and nothing unsure"
    assert kept["bboxes"].tolist() == boxes[:2].tolist()
    assert {k: len(v) for k, v in trackable({k: v[:0] for k, v in pred.items()}).items()} == dict.fromkeys(pred, 0)
