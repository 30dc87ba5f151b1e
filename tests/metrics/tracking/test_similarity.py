"""Similarities against the package's own for torch, and against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from yolo_multitask.metrics import detect, pose, segment
from yolo_multitask.metrics.tracking import box_similarity, mask_similarity, oks_similarity, similarity


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return boxes (count, 4), x1 y1 x2 y2 in 0..150 pixels."""
    low = rng.uniform(0, 100, (count, 2))
    return np.concatenate([low, low + rng.uniform(1, 50, (count, 2))], axis=1)


def test_boxes_as_detection_compares_them() -> None:
    rng = np.random.default_rng(0)
    gt, pred = random_boxes(rng, 7), random_boxes(rng, 5)
    expected = detect.similarity(torch.from_numpy(gt), torch.from_numpy(pred))
    found = box_similarity(gt, pred)
    assert found.max() > 0.1
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)
    np.testing.assert_array_equal(np.diag(box_similarity(gt, gt)), 1)


def test_boxes_without_area_and_far_apart() -> None:
    point, inverted, box = [3, 3, 3, 3], [4, 4, 2, 2], [0, 0, 5, 5]
    assert box_similarity([point, inverted, box], [point, inverted, box, [9, 9, 12, 12]]).tolist() == [
        [0, 0, 0, 0],
        [0, 0, 0, 0],
        [0, 0, 1, 0],
    ]


def test_masks_as_segmentation_compares_them() -> None:
    rng = np.random.default_rng(0)
    gt, pred = rng.random((4, 9, 11)) < 0.6, rng.random((3, 9, 11)) < 0.4
    expected = segment.similarity(torch.from_numpy(gt), torch.from_numpy(pred))
    np.testing.assert_allclose(mask_similarity(gt, pred), expected.numpy(), atol=1e-6)
    np.testing.assert_allclose(mask_similarity(gt.astype(np.uint8) * 255, pred), expected.numpy(), atol=1e-6)


def test_masks_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    gt, pred = rng.random((2, 8, 8)) < 0.5, rng.random((3, 8, 8)) < 0.5
    whole = mask_similarity(gt, pred)
    monkeypatch.setattr(similarity, "CHUNK", 5)
    np.testing.assert_array_equal(mask_similarity(gt, pred), whole)


def test_empty_masks() -> None:
    masks = np.zeros((2, 4, 4), bool)
    masks[1, 1, 1] = True
    assert mask_similarity(masks, masks).tolist() == [[0, 0], [0, 1]]


def test_keypoints_as_pose_compares_them() -> None:
    rng = np.random.default_rng(0)
    boxes = random_boxes(rng, 4)
    sigmas = pose.oks_sigmas([17, 3])
    gt = np.concatenate([rng.uniform(0, 100, (4, 17, 2)), rng.integers(0, 3, (4, 17, 1))], axis=2)
    pred = gt[:3, :, :2] + rng.normal(0, 2, (3, 17, 2))
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1) * pose.BOX_TO_INSTANCE_AREA
    expected = pose.similarity(*(torch.from_numpy(x) for x in (gt, pred, boxes)), sigmas)
    found = oks_similarity(gt, pred, areas, sigmas)
    assert np.diag(found).max() > 0.5
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)


def test_keypoints_of_one_pair() -> None:
    gt = [[[10, 10, 2], [20, 10, 1], [0, 0, 0]]]
    pred = [[[13, 14, 0.1], [20, 10, 0.9], [50, 50, 0.9]]]
    expected = (math.exp(-25 / (2 * 106 * (2 * 0.1) ** 2)) + 1) / 2
    assert oks_similarity(gt, pred, [106], [0.1, 0.2, 0.3]).item() == pytest.approx(expected)


def test_an_object_without_visible_keypoints_is_like_nothing() -> None:
    gt = np.zeros((1, 2, 3))
    assert oks_similarity(gt, gt, [10], [0.1, 0.1]).tolist() == [[0]]


def test_nothing_labelled_or_predicted() -> None:
    box, mask, points = np.zeros((2, 4)), np.zeros((2, 3, 3), bool), np.zeros((2, 5, 3))
    sigmas = np.ones(5)
    for gt, pred in ((2, 0), (0, 2), (0, 0)):
        assert box_similarity(box[:gt], box[:pred]).shape == (gt, pred)
        assert mask_similarity(mask[:gt], mask[:pred]).shape == (gt, pred)
        assert oks_similarity(points[:gt], points[:pred], np.ones(gt), sigmas).shape == (gt, pred)
    assert box_similarity([], box).shape == (0, 2)
    assert oks_similarity(points, [], [1, 1], sigmas).shape == (2, 0)


def test_bad_boxes() -> None:
    box = np.zeros((1, 4))
    with pytest.raises(ValueError, match=r"labelled boxes of shape \(N, 4\), found \(4,\)"):
        box_similarity(box[0], box)
    with pytest.raises(ValueError, match=r"predicted boxes of shape \(N, 4\), found \(1, 5\)"):
        box_similarity(box, np.zeros((1, 5)))
    with pytest.raises(ValueError, match="labelled boxes to be finite, found nan"):
        box_similarity(box * np.nan, box)


def test_bad_masks() -> None:
    mask = np.zeros((1, 4, 6), bool)
    with pytest.raises(ValueError, match=r"masks of one size, found \(4, 6\) labelled and \(6, 4\) predicted"):
        mask_similarity(mask, mask.transpose(0, 2, 1))
    with pytest.raises(ValueError, match=r"labelled masks \(N, H, W\) of bool, found shape \(4, 6\)"):
        mask_similarity(mask[0], mask)
    with pytest.raises(ValueError, match="predicted masks .* found .* of float64"):
        mask_similarity(mask, mask * 0.5)


def test_bad_keypoints() -> None:
    points, sigmas = np.zeros((2, 3, 3)), np.ones(3)
    with pytest.raises(ValueError, match=r"labelled keypoints of shape \(N, 3, 3\), found \(2, 3, 2\)"):
        oks_similarity(points[:, :, :2], points, [1, 1], sigmas)
    with pytest.raises(ValueError, match=r"predicted keypoints of shape \(N, 3, 3\), found \(2, 2, 3\)"):
        oks_similarity(points, points[:, :2], [1, 1], sigmas)
    with pytest.raises(ValueError, match="one area for each of 2 labelled objects, found 1"):
        oks_similarity(points, points, [1], sigmas)
    with pytest.raises(ValueError, match=r"areas as one row of positive numbers, found \[1.0, 0.0\]"):
        oks_similarity(points, points, [1, 0], sigmas)
    with pytest.raises(ValueError, match=r"sigmas as one row of positive numbers"):
        oks_similarity(points, points, [1, 1], [0.1, math.nan, 0.1])
