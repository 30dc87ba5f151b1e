"""Masks in the size of the original image, and their outlines, as the host has them.

N detections, h w the resolution of the masks, H W the original image.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo_multitask.interop.arrays import has_arrays


def original_masks(result: Any) -> Iterator[NDArray[np.bool_]]:
    """Yield the mask (H, W) of each detection; none where the result has no masks.

    Masks of the network input lose the padding of its letterbox and are interpolated to the size of the image, one at a
    time to save memory. Those of a `Results` are the pixels that it draws. Without torch the sums are taken in another
    order, so that a pixel that the edge halves exactly may fall on the other side.

    Args:
        result: See `arrays_of`.
    """
    if result.masks is None:
        return
    scaled, masks = (_scaled, result.masks) if has_arrays(result) else (_host_scaled, result.masks.data)
    for mask in masks:
        yield scaled(mask, result.orig_shape)


def _host_scaled(mask: Any, orig_shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return a mask (h, w), a tensor or an array, in the size of the image (H, W), as the host's `plot` computes it."""
    import torch
    from ultralytics.utils import ops

    values = ops.scale_masks(torch.as_tensor(mask)[None, None].float(), orig_shape)[0, 0]
    return (values > 0.5).cpu().numpy()  # type: ignore[no-any-return]


def _scaled(mask: NDArray[Any], orig_shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return a mask (h, w) in the size of the image (H, W)."""
    if mask.shape == tuple(orig_shape):
        return mask > 0.5
    import cv2

    left, top, width, height = _letterbox(mask.shape, orig_shape)
    inside = mask[top : top + height, left : left + width].astype(np.float32)
    return np.asarray(cv2.resize(inside, orig_shape[::-1], interpolation=cv2.INTER_LINEAR)) > 0.5


def outline(mask: NDArray[np.uint8], orig_shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return the outline (M, 2) of a mask (h, w), x y in pixels of the image (H, W) and clipped to it.

    Several parts are joined to one outline by lines between their nearest points, there and back.
    """
    import cv2

    parts = cv2.findContours(np.ascontiguousarray(mask, np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
    points = np.zeros((0, 2), np.float32)
    for part in (np.asarray(part, np.float32).reshape(-1, 2) for part in parts):
        points = _joined(points, part) if len(points) else part
    left, top, width, height = _letterbox(mask.shape, orig_shape)
    gains = np.array((width / orig_shape[1], height / orig_shape[0]), np.float32)
    inside = (points - np.array((left, top), np.float32)) / gains
    return inside.clip(0, np.array(orig_shape[::-1], np.float32))


def _joined(points: NDArray[np.float32], part: NDArray[np.float32]) -> NDArray[np.float32]:
    """Join two outlines to one by the line between their nearest points."""
    gaps = ((points[:, None] - part) ** 2).sum(2)
    i, j = np.unravel_index(gaps.argmin(), gaps.shape)
    return np.concatenate((points[: i + 1], part[j:], part[: j + 1], points[i:]))


def _letterbox(shape: tuple[int, ...], orig_shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return left, top, width and height of the image within its letterbox (h, w), rounded as by the host."""
    gain = min(shape[0] / orig_shape[0], shape[1] / orig_shape[1])
    height, width = (max(round(side * gain), 1) for side in orig_shape)
    return round((shape[1] - width) / 2 - 0.1), round((shape[0] - height) / 2 - 0.1), width, height
