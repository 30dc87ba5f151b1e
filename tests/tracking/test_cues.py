from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tracking.walkers import detections, looks, shift

from yolo_multitask.tracking import TrackerConfig
from yolo_multitask.tracking.appearance import Appearance
from yolo_multitask.tracking.boxes import hidden_shares, iou, paired_iou, to_xywh, to_xyxy
from yolo_multitask.tracking.cues import (
    COCO_SIGMAS,
    NextBox,
    Pairs,
    Pose,
    Shape,
    compare_boxes,
    motion_similarity,
)
from yolo_multitask.tracking.detections import Detections, read_detections
from yolo_multitask.tracking.motion import Motion

CONFIG = TrackerConfig()
BOXES = np.array([[10.0, 20, 40, 100], [60, 30, 90, 110]])


def read(boxes: Any, **cues: Any) -> Detections:
    return read_detections(detections(boxes), low_score=0.1, **cues)[0]


def all_pairs(given: Detections, tracks: np.ndarray, age: int = 1) -> Pairs:
    d, t = (index.ravel() for index in np.indices((len(given), len(tracks))))
    return Pairs(detections=given, d=d, row=t, boxes=tracks[t], age=np.full(len(d), age))


def test_a_wider_spread_of_keypoints_forgives_more() -> None:
    points = np.dstack([np.full((2, 4), 20.0), np.linspace(30, 90, 8).reshape(2, 4), np.ones((2, 4))])
    moved = read(BOXES, keypoints=points + np.array([3, 0, 0]))
    found = []
    for sigmas in (None, np.full(4, 0.25), np.full(4, 0.5)):  # by default 1 / 4 each
        pose = Pose(CONFIG, sigmas)
        pose.fit(moved)
        pose.grow(2)
        pose.learn(np.arange(2), np.arange(2), read(BOXES, keypoints=points), BOXES)
        evidence = pose.compare(all_pairs(moved, BOXES))
        assert evidence is not None
        found.append(evidence.similarity[0])
    assert found[0] == found[1] < found[2] < 1
    with pytest.raises(ValueError, match=r"expected 5 keypoints, one for each sigma, got 4"):
        Pose(CONFIG, np.full(5, 0.2)).fit(moved)


def test_boxes_there_and_back() -> None:
    np.testing.assert_allclose(to_xyxy(to_xywh(BOXES)), BOXES)


def test_paired_iou_is_the_diagonal_of_all_pairs() -> None:
    rng = np.random.default_rng(0)
    a, b = (np.concatenate([p, p + rng.uniform(5, 50, (9, 2))], axis=1) for p in rng.uniform(0, 40, (2, 9, 2)))
    both, heights = paired_iou(a, b)
    np.testing.assert_allclose(both, iou(a, b).diagonal())
    flat_a, flat_b = a.copy(), b.copy()
    for flat in (flat_a, flat_b):
        flat[:, [0, 2]] = 0, 10
    np.testing.assert_allclose(heights, iou(flat_a, flat_b).diagonal())


def test_the_nearer_of_two_hides_the_other() -> None:
    boxes, counts = np.array([[0.0, 0, 10, 100], [5, 0, 15, 110], [5, 0, 15, 120]]), np.ones(3, bool)
    np.testing.assert_allclose(hidden_shares(boxes, np.array([0, 0, 1]), counts), [0.5, 0, 0])
    np.testing.assert_allclose(hidden_shares(boxes, np.zeros(3, int), counts), [0.5, 1, 0])
    np.testing.assert_allclose(hidden_shares(boxes, np.zeros(3, int), np.array([True, True, False])), [0.5, 0, 0])


def test_box_cue() -> None:
    same, other = compare_boxes(all_pairs(read(BOXES), BOXES[:1])).similarity
    assert same == pytest.approx(1)
    assert other == 0


def test_motion_cue_is_one_where_expected_and_falls_with_distance() -> None:
    motion = Motion(CONFIG, 0.1)
    motion.grow(2)
    motion.start(np.arange(2), to_xywh(BOXES))
    shifted = np.concatenate([BOXES, shift(BOXES[:1], 3)])
    similarity = motion_similarity(read(shifted), motion, np.arange(2))
    assert similarity.shape == (3, 2)
    np.testing.assert_allclose(similarity[[0, 1], [0, 1]], 1)
    assert similarity[0, 1] < 1e-4 < similarity[2, 0] < 1


def keypoints(boxes: np.ndarray, count: int) -> np.ndarray:
    rng = np.random.default_rng(count)
    place = rng.uniform(0.1, 0.9, (count, 2))
    points = boxes[:, None, :2] + place * (boxes[:, None, 2:] - boxes[:, None, :2])
    return np.concatenate([points, np.ones((len(boxes), count, 1))], axis=2)


@pytest.mark.parametrize("count", [17, 4])
def test_keypoint_cue_moves_and_scales_with_the_box(count: int) -> None:
    pose = Pose(CONFIG)
    pose.grow(2)
    given = read(BOXES, keypoints=keypoints(BOXES, count))
    pose.fit(given)
    pose.learn(np.arange(2), np.arange(2), given, BOXES)
    moved = shift(1.5 * shift(BOXES, -10, -20), 30, 5)
    points = keypoints(moved, count)
    points[1, :, 0] += 4.0
    said = pose.compare(all_pairs(read(moved, keypoints=points), moved))
    assert said is not None
    similarity = said.similarity.reshape(2, 2)
    assert similarity[0, 0] == pytest.approx(1)
    sigmas = COCO_SIGMAS if count == 17 else np.full(count, 0.25)
    area = 0.53 * 45 * 120
    reference = np.mean(np.exp(-(4.0**2) / (2 * 2 * area * (2 * sigmas) ** 2)))
    assert similarity[1, 1] == pytest.approx(reference)
    assert said.reliability.tolist() == [1, 1, 1, 1]


def test_keypoint_cue_counts_only_points_that_both_sides_see() -> None:
    pose = Pose(CONFIG)
    pose.grow(2)
    points = keypoints(BOXES, 5)
    points[0, 0, 2] = 0.1
    given = read(BOXES, keypoints=points)
    pose.fit(given)
    pose.learn(np.array([0]), np.array([0]), given, BOXES[:1])
    now = keypoints(BOXES, 5)
    now[0, 0, :2] = 999  # seen now, but not before
    said = pose.compare(all_pairs(read(BOXES, keypoints=now), BOXES))
    assert said is not None
    assert said.similarity.reshape(2, 2)[0, 0] == pytest.approx(1)
    assert said.reliability.reshape(2, 2)[:, 1].tolist() == [0, 0]  # nothing is known of the second track
    now[0, :3, 2] = 0.0
    said = pose.compare(all_pairs(read(BOXES, keypoints=now), BOXES))
    assert said is not None
    assert said.reliability.reshape(2, 2)[0, 0] == 0  # two points are shared, three are needed


def blobs(boxes: np.ndarray, lean: int = 0) -> np.ndarray:
    masks = np.zeros((len(boxes), 130, 130), np.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.astype(int), strict=True):
        mask[y1 : (y1 + y2) // 2, x1:x2] = 1
        mask[(y1 + y2) // 2 : y2, x1 + lean : x1 + 10 + lean] = 1
    return masks


def test_mask_cue_is_near_the_overlap_of_the_masks() -> None:
    shape = Shape()
    shape.grow(2)
    before = blobs(BOXES)
    shape.learn(np.array([0]), np.array([0]), read(BOXES, masks=before), BOXES[:1])
    later = shift(BOXES, 5)
    now = blobs(later, lean=15)
    said = shape.compare(all_pairs(read(later, masks=now), later))
    assert said is not None
    moved = np.roll(before[0], 5, axis=1)
    exact = (moved & now[0]).sum() / (moved | now[0]).sum()
    assert said.similarity[0] == pytest.approx(exact, abs=0.05)
    assert said.similarity[2] == 0
    assert said.reliability.tolist() == [1, 0, 1, 0]


def test_mask_cue_in_another_resolution_and_over_the_edge() -> None:
    shape = Shape()
    shape.grow(1)
    edge = np.array([[100.0, 20, 150, 100]])  # the picture is 130 wide
    for factor in (1, 2):
        masks = blobs(edge)[:, ::factor, ::factor]
        given = read(edge, masks=masks, picture=(130, 130))
        shape.learn(np.array([0]), np.array([0]), given, edge)
        assert not shape.grid[0, :, 8:].any()
        assert shape.grid[0, :12, :7].all()
        said = shape.compare(all_pairs(given, edge))
        assert said is not None
        assert said.similarity[0] == pytest.approx(1)


def test_next_box_cue() -> None:
    cue = NextBox()
    cue.grow(2)
    expected = np.stack([shift(BOXES[0], 8), np.full(4, np.nan)])
    cue.learn(np.arange(2), np.arange(2), read(BOXES, next_boxes=expected))
    pairs = all_pairs(read(shift(BOXES, 8)), BOXES)
    said = cue.compare(pairs)
    assert said is not None
    assert said.similarity[0] == pytest.approx(1)
    assert said.reliability.tolist() == [1, 0, 1, 0]
    assert cue.compare(pairs._replace(age=np.full(4, 2))) is None  # expected for another frame
    cue.warp(np.array([[1.0, 0, -3], [0, 1, 2]]))
    np.testing.assert_allclose(cue.boxes[0], shift(expected[0], -3, 2))


def test_embedding_cue_counts_less_where_a_detection_is_hidden() -> None:
    appearance = Appearance(CONFIG)
    appearance.table.grow(3)
    given = appearance.attend(read(BOXES, feats=looks(0, 1)), None)
    appearance.learn(np.arange(2), np.arange(2), given, 1, born=True)
    crowd = np.array([BOXES[0], [25, 20, 55, 120]])
    now = appearance.attend(read(crowd, feats=looks(0, 1)), None)
    said = appearance.compare(all_pairs(now, np.tile(BOXES[:1], (3, 1))))
    assert said is not None
    similarity, reliability = said.similarity.reshape(2, 3), said.reliability.reshape(2, 3)
    assert min(similarity[0, 0], similarity[1, 1]) > 0.8 > 0.2 > similarity[0, 1]
    assert 0 < reliability[0, 0] < reliability[1, 1] <= 1
    assert reliability[:, 2].tolist() == [0, 0]


def test_looks_of_hidden_or_doubtful_detections_are_not_learnt() -> None:
    appearance = Appearance(CONFIG)
    appearance.table.grow(3)
    crowd = np.array([[10.0, 20, 40, 100], [15, 20, 45, 120], [200, 20, 230, 100]])
    given, _ = read_detections(detections(crowd, [0.9, 0.9, 0.2]), low_score=0.1, feats=looks(0, 1, 2))
    appearance.learn(np.arange(3), np.arange(3), appearance.attend(given, None), 1, born=True)
    assert appearance.table.sightings.tolist() == [0, 1, 0]


@pytest.mark.parametrize("cue", [Pose(CONFIG), Shape(), NextBox(), Appearance(CONFIG)])
def test_an_absent_branch_says_nothing(cue: Any) -> None:
    getattr(cue, "table", cue).grow(2)
    assert cue.compare(all_pairs(read(BOXES), BOXES)) is None
