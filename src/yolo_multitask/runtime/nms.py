"""Non-maximum suppression with the decisions of Ultralytics' `non_max_suppression`, in numpy.

N boxes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CLASS_OFFSET = 7680  # pixels between the boxes of two classes, as in the host
BLOCK = 256  # boxes that are compared with each other at once


def suppress(
    boxes_N4: NDArray[np.float32],
    score_N: NDArray[np.float32],
    cls_N: NDArray[np.int64] | None,
    iou: float,
    max_det: int,
) -> NDArray[np.int64]:
    """Return the boxes that no better one of their class overlaps, by falling score.

    Args:
        boxes_N4: x1 y1 x2 y2 in pixels.
        score_N: Their scores.
        cls_N: Their classes; None where boxes of different classes suppress each other too.
        iou: A box that overlaps a better one by more is dropped.
        max_det: How many are returned at most.
    """
    order = np.argsort(-score_N, kind="stable")
    boxes = boxes_N4[order]
    if cls_N is not None:  # in float32, whose rounding is part of the decision
        boxes = boxes + (cls_N[order, None] * CLASS_OFFSET).astype(np.float32)
    kept = np.zeros(0, np.int64)
    for start in range(0, len(order), BLOCK):
        block = np.arange(start, min(start + BLOCK, len(order)))
        block = block[~(overlap(boxes[kept], boxes[block]) > iou).any(0)]
        kept = np.concatenate([kept, block[_greedy(overlap(boxes[block], boxes[block]) > iou)]])
        if len(kept) >= max_det:
            break
    return order[kept[:max_det]]


def overlap(a_A4: NDArray[np.float32], b_B4: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the intersection over union (A, B) of boxes x1 y1 x2 y2; NaN for two boxes without area."""
    low, high = np.maximum(a_A4[:, None, :2], b_B4[:, :2]), np.minimum(a_A4[:, None, 2:], b_B4[:, 2:])
    side = np.maximum(high - low, 0)
    shared = side[..., 0] * side[..., 1]
    with np.errstate(invalid="ignore"):
        return shared / (_areas(a_A4)[:, None] + _areas(b_B4) - shared)  # type: ignore[no-any-return]


def _areas(boxes_N4: NDArray[np.float32]) -> NDArray[np.float32]:
    return (boxes_N4[:, 2] - boxes_N4[:, 0]) * (boxes_N4[:, 3] - boxes_N4[:, 1])


def _greedy(overlaps_NN: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which of N boxes (N,) greedy suppression keeps, of boxes by falling score.

    A box stays where no kept one before it overlaps it. That is repeated until nothing changes, which takes as many
    rounds as the longest chain of boxes that drop each other (Cluster-NMS, arXiv 2005.03572).
    """
    before_NN = np.triu(overlaps_NN, 1)
    kept: NDArray[np.bool_] = np.ones(len(before_NN), bool)
    while True:
        again: NDArray[np.bool_] = np.logical_not(before_NN[kept].any(0))
        if (again == kept).all():
            return kept
        kept = again
