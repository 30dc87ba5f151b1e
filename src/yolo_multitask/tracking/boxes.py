"""Box arithmetic of the tracker, vectorised over pairs.

Shapes: A and B boxes; P pairs, one box of each. Boxes are pixels: `xyxy` corners, `xywh` centre and size.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def to_xywh(xyxy_N4: Array) -> Array:
    """Corners to centre and size, (N, 4)."""
    low, high = xyxy_N4[:, :2], xyxy_N4[:, 2:]
    return np.concatenate([(low + high) / 2, high - low], axis=1)


def to_xyxy(xywh_N4: Array) -> Array:
    """Centre and size to corners, (N, 4)."""
    centre, half = xywh_N4[:, :2], xywh_N4[:, 2:4] / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def areas(xyxy_N4: Array) -> Array:
    """Areas (N,) in square pixels."""
    return (xyxy_N4[:, 2] - xyxy_N4[:, 0]) * (xyxy_N4[:, 3] - xyxy_N4[:, 1])


def scales(xywh_N4: Array) -> Array:
    """Size (N,) of a box as one length: the root of its area, at least a pixel."""
    return np.sqrt(np.maximum(xywh_N4[:, 2] * xywh_N4[:, 3], 1.0))


def intersections(a_A4: Array, b_B4: Array) -> Array:
    """Areas (A, B) that two sets of corner boxes share."""
    width = np.minimum(a_A4[:, None, 2], b_B4[:, 2]) - np.maximum(a_A4[:, None, 0], b_B4[:, 0])
    height = np.minimum(a_A4[:, None, 3], b_B4[:, 3]) - np.maximum(a_A4[:, None, 1], b_B4[:, 1])
    return np.maximum(width, 0) * np.maximum(height, 0)


def iou(a_A4: Array, b_B4: Array) -> Array:
    """Intersection over union (A, B) of two sets of corner boxes."""
    shared = intersections(a_A4, b_B4)
    return shared / np.maximum(areas(a_A4)[:, None] + areas(b_B4) - shared, 1e-9)


def paired_iou(a_P4: Array, b_P4: Array) -> tuple[Array, Array]:
    """Overlap of two corner boxes each.

    Returns:
        Intersection over union (P,) of the boxes, and of their vertical extents alone: people who stand in different
        depth differ in it (Hybrid-SORT, arXiv 2308.00783).
    """
    low, high = np.maximum(a_P4[:, :2], b_P4[:, :2]), np.minimum(a_P4[:, 2:], b_P4[:, 2:])
    side = np.maximum(high - low, 0)
    shared = side[:, 0] * side[:, 1]
    heights = np.maximum(a_P4[:, 3], b_P4[:, 3]) - np.minimum(a_P4[:, 1], b_P4[:, 1])
    return shared / np.maximum(areas(a_P4) + areas(b_P4) - shared, 1e-9), side[:, 1] / np.maximum(heights, 1e-9)


def hidden_shares(xyxy_N4: Array, cls_N: NDArray[np.int64], counts_N: NDArray[np.bool_]) -> Array:
    """Share (N,) of each box that the box of one nearer object of its class covers, 0..1.

    Of two objects on the ground, the nearer one ends lower in the picture.

    Args:
        xyxy_N4: Boxes.
        cls_N: Their classes.
        counts_N: Which of them may hide others.
    """
    if len(xyxy_N4) < 2:
        return np.zeros(len(xyxy_N4))
    nearer = (xyxy_N4[:, 3] > xyxy_N4[:, 3, None]) & counts_N & (cls_N == cls_N[:, None])
    shared = np.where(nearer, intersections(xyxy_N4, xyxy_N4), 0.0)
    return np.minimum(shared.max(axis=1) / np.maximum(areas(xyxy_N4), 1e-9), 1.0)
