"""The way into the network and back is the host's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ultralytics.data.augment import LetterBox
from ultralytics.utils import ops

from yolo_multitask.engine.predictor import scale_unclipped
from yolo_multitask.engine.trackers import crop_padding
from yolo_multitask.runtime.letterbox import Scale, letterbox

SIDES = st.integers(1, 150)


def host_input(image: np.ndarray, size: tuple[int, int], auto: bool, half: bool) -> np.ndarray:
    """Return what the host's predictor feeds the network."""
    boxed = torch.from_numpy(LetterBox(size, auto=auto, stride=32)(image=image)).permute(2, 0, 1)[None].contiguous()
    flipped = boxed.flip(1) if boxed.shape[1] == 3 else boxed
    return ((flipped.half() if half else flipped.float()) / 255).numpy()


@settings(max_examples=60, deadline=None)
@given(SIDES, SIDES, st.sampled_from([(64, 64), (96, 160)]), st.booleans(), st.booleans(), st.sampled_from([1, 3, 5]))
def test_the_input_is_the_hosts(
    height: int, width: int, size: tuple[int, int], rectangle: bool, half: bool, channels: int
) -> None:
    image = np.random.default_rng(height * width).integers(0, 255, (height, width, channels), dtype=np.uint8)
    found = letterbox(image, size, 32 if rectangle else None, np.float16 if half else np.float32)
    expected = host_input(image, size, rectangle, half)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@settings(max_examples=60, deadline=None)
@given(SIDES, SIDES, SIDES, SIDES)
def test_the_way_back_is_the_hosts(height: int, width: int, rows: int, columns: int) -> None:
    rng = np.random.default_rng(rows)
    boxes = (rng.random((7, 4)) * 1.4 - 0.2).astype(np.float32) * np.float32([columns, rows, columns, rows])
    points = np.concatenate((boxes.reshape(7, 2, 2), rng.random((7, 2, 1))), 2).astype(np.float32)
    shape, image = (rows, columns), (height, width)
    scale = Scale(shape, image)
    np.testing.assert_array_equal(scale.boxes(boxes), ops.scale_boxes(shape, torch.tensor(boxes), image))
    np.testing.assert_array_equal(scale.points(points), ops.scale_coords(shape, torch.tensor(points), image))
    expected = scale_unclipped(shape, torch.tensor(boxes), image).numpy()
    atol = 1e-5 * max(np.abs(expected).max(), 1)  # the host goes by centres and sizes there
    np.testing.assert_allclose(scale.boxes(boxes, clip=False), expected, rtol=0, atol=atol)


def test_what_is_scaled_is_not_changed() -> None:
    boxes = np.ones((2, 4), np.float32)
    Scale((64, 64), (32, 16)).boxes(boxes)
    np.testing.assert_array_equal(boxes, 1)


@pytest.mark.parametrize("image", [(50, 100), (100, 50), (64, 64), (1, 90), (77, 31)])
def test_the_padding_of_masks_is_cut_off_as_for_the_trackers(image: tuple[int, int]) -> None:
    masks = np.random.default_rng(0).random((2, 64, 96)) > 0.5
    cut = Scale((64, 96), image).crop(masks)
    np.testing.assert_array_equal(cut, crop_padding(masks, image))
    assert cut.base is masks
