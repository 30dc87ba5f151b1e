"""Masks in the size of the image, and their outlines, are the host's."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from support.results import NAMES, H, N, W, host_masks, input_masks, make_results, plain
from ultralytics.utils import ops

from yolo_multitask.engine.results import Results
from yolo_multitask.interop.masks import original_masks, outline

SHAPES = [(90, 120), (480, 640), (31, 200), (333, 77), (1, 50), (96, 96), (155, 216), (309, 336)]
ROUNDING = 2e-4  # of a value that is interpolated in single precision over some hundred cells
INPUTS = [(96, 96), (64, 128), (160, 96), (288, 320)]


def random_masks(shape: tuple[int, int], seed: int) -> torch.Tensor:
    """Return masks (4, h, w): nothing, everything, a disc, and scattered pixels."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]] / np.array(shape).reshape(2, 1, 1)
    kinds = (x < 0, x >= 0, (x - 0.4) ** 2 + (y - 0.5) ** 2 < 0.1, rng.random(shape) < 0.2)
    return torch.from_numpy(np.stack(kinds).astype(np.uint8))


def scene(masks: torch.Tensor, image: tuple[int, int]) -> Results:
    """Return a result of an image (H, W) with masks (N, h, w)."""
    boxes = torch.tensor([[0.0, 0, 1, 1, 0.5, 0]]).repeat(len(masks), 1)
    return Results(np.zeros((*image, 3), np.uint8), path="a", names=NAMES, boxes=boxes, masks=masks)


@pytest.mark.parametrize("image", SHAPES)
@pytest.mark.parametrize("shape", INPUTS)
def test_masks_are_the_hosts(image: tuple[int, int], shape: tuple[int, int]) -> None:
    masks = random_masks(shape, sum(image))
    result = scene(masks, image)
    expected = host_masks(masks, image)
    found = np.stack(list(original_masks(result)))
    assert (found.shape, found.dtype) == ((4, *image), bool)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.stack(list(original_masks(result.numpy()))), expected)
    assert [found[0].any(), found[1].all()] == [False, True]
    without_torch = np.stack(list(original_masks(plain(result))))
    halved = (ops.scale_masks(masks[None].float(), image)[0] - 0.5).abs().numpy() < ROUNDING
    np.testing.assert_array_equal(without_torch | halved, expected | halved)


def test_masks_are_where_the_result_draws_them() -> None:
    result = make_results(keypoints=None, tracked=False)
    drawn = result.plot(boxes=False).any(2)
    found = list(original_masks(result))
    np.testing.assert_array_equal(np.any(found, 0), drawn)
    assert [int(mask.sum()) for mask in found] == host_masks(result.masks.data).sum((1, 2)).tolist()
    for mask, other in zip(found, original_masks(plain(result, native=True)), strict=True):
        np.testing.assert_array_equal(mask, other)


def test_nothing_gives_nothing() -> None:
    assert list(original_masks(make_results(masks=None))) == []
    assert list(original_masks(make_results()[:0])) == []


def test_outlines_are_the_hosts() -> None:
    result = make_results()
    for i in (0, 2):  # of one part, in the same order; the hole is not told
        np.testing.assert_array_equal(outline(result.masks.data[i].numpy(), (H, W)), result.masks.xy[i])
    assert outline(np.zeros((96, 96), np.uint8), (H, W)).shape == (0, 2)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_parts_are_joined_without_an_area_between_them(count: int) -> None:
    mask = np.zeros((96, 96), np.uint8)
    for i in range(count):
        cv2.circle(mask, (12 + 18 * i, 30 + 12 * (i % 3)), 5 + i % 2, 1, -1)
    points = outline(mask, (96, 96))
    parts = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
    assert len(parts) == count
    assert cv2.contourArea(points) == sum(map(cv2.contourArea, parts))
    result = make_results(masks=torch.from_numpy(mask)[None].repeat(N, 1, 1))
    scaled = outline(mask, (H, W))
    assert cv2.contourArea(scaled) == pytest.approx(cv2.contourArea(points) / 0.8**2, rel=1e-5)
    assert {tuple(p) for p in scaled.tolist()} == {tuple(p) for p in result.masks.xy[0].tolist()}


def test_the_scene_has_masks_of_every_kind() -> None:
    parts = [len(cv2.findContours(m, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)[0]) for m in input_masks().numpy()]
    assert parts == [1, 2, 2]
