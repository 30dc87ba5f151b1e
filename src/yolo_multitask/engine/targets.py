"""What the predictions of an image are compared with, and what the labels say nothing about.

N predictions, M targets, R ignore regions of an image; boxes x1 y1 x2 y2, all in pixels of one frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from yolo_multitask.metrics import detect, pose, segment
from yolo_multitask.tasks import SPECS

MOSTLY_INSIDE = 0.5  # share of a prediction's area inside an ignore region above which it is no false positive
SAME_INSTANCE = 0.5  # box IoU from which a prediction belongs to an instance that is not labelled for the task


def labelled(task: str, batch: Mapping[str, Any]) -> torch.Tensor:
    """Return which instances of a batch are labelled for a task, bool (N,)."""
    flag = SPECS[task].flag
    return torch.ones_like(batch["cls"][:, 0], dtype=torch.bool) if flag is None else batch[flag].bool()


def target_masks(si: int, batch: Mapping[str, Any], count: int, *, overlap: bool, native: bool) -> torch.Tensor:
    """Return the masks of an image, one per instance, at the size of the predicted ones; as the host does.

    Args:
        si: Index of the image in the batch.
        batch: The batch.
        count: Number of instances of the image, M.
        overlap: Whether `masks` holds one picture per image, where i + 1 marks instance i.
        native: Whether the predicted masks are (N, h, w), the size of the network input; else (N, h/4, w/4).
    """
    if overlap:
        index = torch.arange(1, count + 1, device=batch["masks"].device).view(count, 1, 1)
        masks = (batch["masks"][si] == index).float()
    else:
        masks = batch["masks"][batch["batch_idx"] == si]
    size = tuple(x if native else x // 4 for x in batch["img"].shape[2:])
    if count and tuple(masks.shape[1:]) != size:
        masks = torch.nn.functional.interpolate(masks[None], size, mode="bilinear", align_corners=False)[0].gt_(0.5)
    return masks


def similarity(
    task: str,
    preds: Mapping[str, torch.Tensor],
    targets: Mapping[str, Any],
    chosen: torch.Tensor,
    sigmas: NDArray[Any] | None,
) -> torch.Tensor:
    """Return the similarity (M', N) of M' targets with all predictions.

    Args:
        task: By what to compare: `detect` boxes, `segment` masks, `pose` keypoints.
        preds: Predictions of an image.
        targets: Its targets, see `MultiTaskValidator`.
        chosen: Which of them, bool (M,).
        sigmas: Spread of each keypoint, for `pose`.
    """
    if not (len(preds["cls"]) and chosen.any()):
        return preds["conf"].new_zeros(int(chosen.sum()), len(preds["cls"]))
    if task == "segment":
        return segment.similarity(targets["masks"][chosen], preds["masks"])
    boxes = targets["bboxes"][chosen]
    if task == "pose":
        assert sigmas is not None
        return pose.similarity(targets["keypoints"][chosen], preds["keypoints"], boxes, sigmas)
    return detect.similarity(boxes, preds["bboxes"])


def excused(
    boxes: torch.Tensor, cls: torch.Tensor, regions: torch.Tensor, others: torch.Tensor, others_cls: torch.Tensor
) -> torch.Tensor:
    """Return which predictions, bool (N,), stand where the labels cannot tell whether they are wrong.

    Args:
        boxes: Predictions (N, 4).
        cls: Their classes (N,).
        regions: Ignore regions (R, 4).
        others: Instances that are not labelled for the task (U, 4).
        others_cls: Their classes (U,).
    """
    inside = detect.share_inside(boxes, regions) > MOSTLY_INSIDE
    on_other = (detect.similarity(others, boxes) >= SAME_INSTANCE) & (others_cls[:, None] == cls)
    return inside | on_other.any(0)


def undecidable(
    task: str, tp: NDArray[np.bool_], preds: Mapping[str, torch.Tensor], targets: Mapping[str, Any]
) -> NDArray[np.bool_]:
    """Return which predictions (N,) match no target, by `tp` (N, T), and are `excused`."""
    unmatched = np.asarray(~tp.any(axis=1), dtype=bool)
    if not unmatched.any():
        return unmatched
    other = ~targets["labelled"][task]
    may_be_right = excused(
        preds["bboxes"], preds["cls"], targets["regions"], targets["bboxes"][other], targets["cls"][other]
    )
    return np.logical_and(unmatched, may_be_right.cpu().numpy())
