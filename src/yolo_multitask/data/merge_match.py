"""Which instance of a keypoint set is which of a segmentation set, and where that is doubtful.

Shapes: P instances of the keypoint set, S of the segmentation set, in one image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yolo_multitask.data.labels import Labels
from yolo_multitask.metrics.tracking.matching import assign
from yolo_multitask.tracking.boxes import iou, to_xyxy

NEAR = 0.05  # of IoU: how near to the threshold, or to that of a second candidate, a pair is doubtful


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """A pair that may be wrong, or one that was not made and may be right.

    Attributes:
        pose: Index in the keypoint set.
        mask: Index in the segmentation set.
        iou: Of their boxes.
        margin: How far `iou` is from another decision.
        reason: What is doubtful.
    """

    pose: int
    mask: int
    iou: float
    margin: float
    reason: str


def overlaps(poses: Labels, masks: Labels) -> NDArray[np.float64]:
    """Return the IoU of the boxes of two sets in one image, float64 (P, S); 0 where they cannot be the same object.

    Only instances of one class can be, and ignore regions only with ignore regions.

    Args:
        poses: Of the keypoint set, with the classes of the merged set.
        masks: Of the segmentation set, likewise; where its lines have no box, that of the polygon.
    """
    alike_PS = (poses.cls[:, None] == masks.cls) & (poses.ignore[:, None] == masks.ignore)
    boxes_P4, boxes_S4 = (to_xyxy(labels.boxes.astype(np.float64)) for labels in (poses, masks))
    return np.where(alike_PS, iou(boxes_P4, boxes_S4), 0.0)


def match(iou_PS: NDArray[np.float64], threshold: float) -> dict[int, int]:
    """Return the one-to-one pairs of greatest total IoU, as index in the keypoint set by that in the segmentation set.

    Args:
        iou_PS: From `overlaps`.
        threshold: Least IoU of a pair, above 0.
    """
    row, col = np.nonzero(iou_PS >= threshold)
    chosen = assign(row, col, iou_PS[row, col], np.zeros(len(row), np.int64))
    return dict(zip(col[chosen].tolist(), row[chosen].tolist(), strict=True))


def doubts(iou_PS: NDArray[np.float64], pairs: Mapping[int, int], threshold: float) -> list[Doubt]:
    """Return what is doubtful in the pairs of one image.

    A pair is doubtful where its IoU is less than `NEAR` above the threshold, or where one of the two overlaps a third
    instance (which could be its partner) with an IoU that is less than `NEAR` below that of the pair, or above it. Two
    instances that both found no partner are doubtful where their IoU is less than `NEAR` below the threshold.

    Args:
        iou_PS: From `overlaps`.
        pairs: From `match`.
        threshold: As in `match`.
    """
    found = []
    for mask, pose in pairs.items():
        value = float(iou_PS[pose, mask])
        others = np.concatenate([np.delete(iou_PS[pose], mask), np.delete(iou_PS[:, mask], pose)])
        rival = float(others.max(initial=0))
        if value - rival < NEAR:
            reason = f"second candidate with IoU {rival:.2f}"
            found.append(Doubt(pose=pose, mask=mask, iou=value, margin=max(value - rival, 0.0), reason=reason))
        elif value - threshold < NEAR:
            reason = "just above the threshold"
            found.append(Doubt(pose=pose, mask=mask, iou=value, margin=value - threshold, reason=reason))
    alone_PS = iou_PS.copy()
    alone_PS[list(pairs.values())] = alone_PS[:, list(pairs)] = 0
    for pose, mask in np.argwhere((alone_PS > 0) & (threshold - alone_PS < NEAR)).tolist():
        value = float(iou_PS[pose, mask])
        reason = "just below the threshold, not paired"
        found.append(Doubt(pose=pose, mask=mask, iou=value, margin=threshold - value, reason=reason))
    return found
