"""The similarity of one pair, against a formula written out here."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from ultralytics.utils.metrics import OKS_SIGMA

from yolo_multitask.metrics import detect, pose, segment


def test_boxes_intersection_over_union() -> None:
    targets = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
    preds = torch.tensor([[2.0, 0.0, 6.0, 4.0], [0.0, 0.0, 4.0, 4.0], [10.0, 10.0, 12.0, 12.0]])
    torch.testing.assert_close(detect.similarity(targets, preds), torch.tensor([[8 / 24, 1.0, 0.0]]))


def test_share_inside_takes_the_best_single_region() -> None:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 30.0, 30.0], [5.0, 5.0, 5.0, 5.0]])
    regions = torch.tensor([[0.0, 0.0, 6.0, 10.0], [5.0, 0.0, 100.0, 10.0]])
    torch.testing.assert_close(detect.share_inside(boxes, regions), torch.tensor([0.6, 0.0, 0.0]))
    assert detect.share_inside(boxes, regions[:0]).tolist() == [0.0, 0.0, 0.0]
    assert detect.share_inside(boxes[:0], regions).shape == (0,)


def test_masks_intersection_over_union() -> None:
    targets = torch.zeros(1, 4, 4)
    targets[0, :, :2] = 1
    preds = torch.zeros(2, 4, 4, dtype=torch.uint8)
    preds[0, :2] = 1
    torch.testing.assert_close(segment.similarity(targets, preds), torch.tensor([[4 / 12, 0.0]]))


def test_keypoints_are_averaged_over_visible_ones() -> None:
    targets = torch.tensor([[[10.0, 10.0, 2.0], [20.0, 10.0, 1.0], [0.0, 0.0, 0.0]]])
    preds = torch.tensor([[[13.0, 14.0], [20.0, 10.0], [50.0, 50.0]]])
    boxes = torch.tensor([[0.0, 0.0, 20.0, 10.0]])
    sigmas = np.array([0.1, 0.2, 0.3], np.float32)
    area = 20 * 10 * 0.53
    expected = (math.exp(-25 / (2 * area * (2 * 0.1) ** 2)) + 1) / 2
    found = pose.similarity(targets, preds, boxes, sigmas)
    assert found.shape == (1, 1)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_sigmas() -> None:
    np.testing.assert_array_equal(pose.oks_sigmas([17, 3]), OKS_SIGMA)
    np.testing.assert_allclose(pose.oks_sigmas([4, 3]), [0.25] * 4)
    np.testing.assert_allclose(pose.oks_sigmas((2, 2), [0.1, 0.2]), [0.1, 0.2], rtol=1e-6)
    for bad in ([0.1], [0.1, 0.0], [0.1, -1.0]):
        with pytest.raises(ValueError, match="must be 2 positive numbers"):
            pose.oks_sigmas([2, 3], bad)
