"""Masks are the host's, but for pixels whose logit is zero but for rounding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ultralytics.utils import ops

from yolo_multitask.runtime.letterbox import Scale
from yolo_multitask.runtime.masks import assemble

NM = 4
IMAGES = [(64, 64), (50, 100), (333, 123), (48, 36), (1, 90), (31, 65), (128, 96), (720, 1280)]


def make(shape: tuple[int, int], count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return prototypes, coefficients and boxes in input pixels, some of them out of it, and one without area."""
    rng = np.random.default_rng(seed)
    proto = rng.normal(size=(NM, shape[0] // 4, shape[1] // 4)).astype(np.float32)
    coefficients = rng.normal(size=(count, NM)).astype(np.float32)
    corners = rng.random((count, 2, 2)) * 1.3 - 0.15
    boxes = (np.concatenate((corners.min(1), corners.max(1)), 1) * np.tile(shape[::-1], 2)).astype(np.float32)
    boxes[:1, 2:] = boxes[:1, :2]
    return proto, coefficients, boxes


def differing(found: np.ndarray, expected: torch.Tensor) -> int:
    assert found.dtype == bool
    assert found.shape == tuple(expected.shape)
    return int((found != expected.bool().numpy()).sum())


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([(64, 96), (96, 32), (224, 256)]), st.integers(0, 6), st.integers(0, 99))
def test_masks_of_the_network_input(shape: tuple[int, int], count: int, seed: int) -> None:
    proto, coefficients, boxes = make(shape, count, seed)
    found = assemble(proto, coefficients, boxes, Scale(shape, (10, 10)), native=False)
    tensors = torch.tensor(proto), torch.tensor(coefficients), torch.tensor(boxes)
    assert differing(found, ops.process_mask(*tensors, shape, upsample=True)) <= 1


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([(64, 96), (96, 32), (224, 256)]), st.sampled_from(IMAGES), st.integers(0, 6), st.integers(0, 99)
)
def test_masks_of_the_original_image(shape: tuple[int, int], image: tuple[int, int], count: int, seed: int) -> None:
    proto, coefficients, boxes = make(shape, count, seed)
    scale = Scale(shape, image)
    xyxy = scale.boxes(boxes)
    found = assemble(proto, coefficients, xyxy, scale, native=True)
    expected = ops.process_mask_native(torch.tensor(proto), torch.tensor(coefficients), torch.tensor(xyxy), image)
    assert differing(found, expected) <= 1 + found.size // 1_000_000


@pytest.mark.parametrize("native", [True, False])
def test_logits_need_no_coefficients(native: bool) -> None:
    shape, image = (64, 96), (50, 120)
    proto, coefficients, boxes = make(shape, 5, 0)
    scale = Scale(shape, image)
    boxes = scale.boxes(boxes) if native else boxes
    logits = np.einsum("nc,cyx->nyx", coefficients, proto)
    found = assemble(logits, None, boxes, scale, native=native)
    expected = assemble(proto, coefficients, boxes, scale, native=native)
    assert differing(found, torch.tensor(expected)) <= 1
    assert 0.05 < found.mean() < 0.95
