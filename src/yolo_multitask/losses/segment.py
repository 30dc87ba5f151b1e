"""Mask loss: cross-entropy of assembled masks inside their boxes, by area (YOLACT,
https://arxiv.org/abs/1904.02689).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from ultralytics.utils.loss import v8SegmentationLoss

from yolo_multitask.losses.detect import Assignment
from yolo_multitask.losses.semantic import semantic_loss
from yolo_multitask.nn.branches import SegmentBranch26


class SegmentLoss:
    """Mask loss of the instances that have a polygon."""

    def __init__(self, head: nn.Module, args: Any) -> None:
        """Take the gain `seg` and the mask encoding `overlap_mask` from `args`."""
        self.gain = args.seg
        self.overlap = args.overlap_mask
        self.semantic = isinstance(head.branches["segment"], SegmentBranch26)  # type: ignore[index, union-attr]

    def __call__(
        self, raw: dict[str, torch.Tensor], assigned: Assignment, batch: dict[str, Any]
    ) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
        """Return `seg_loss`, for YOLO26 also `sem_loss`, scaled by the gain, and the number of anchors that each is the
        mean of; of `sem_loss` that of images.
        """
        items, counts = self._of_instances(raw, assigned, batch)
        if self.semantic:
            of_pixels, count = semantic_loss(raw, batch, overlap=self.overlap)
            items["sem_loss"], counts["sem_loss"] = of_pixels * self.gain, count
        return items, counts

    def _of_instances(
        self, raw: dict[str, torch.Tensor], assigned: Assignment, batch: dict[str, Any]
    ) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
        coefficients, proto = raw["mask_coefficient"], raw["proto"]
        fg = assigned.labelled(batch["has_mask"]) if "masks" in batch else torch.zeros_like(assigned.fg_BA)
        counts = {"seg_loss": int(fg.sum())}
        if not fg.any():
            return {"seg_loss": (coefficients * 0.0).sum() + (proto * 0.0).sum()}, counts
        masks = batch["masks"].to(proto.device)
        loss = mask_loss(coefficients, proto, masks, fg, assigned, overlap=self.overlap)
        return {"seg_loss": loss * self.gain}, counts


def mask_loss(
    coefficients_BMA: torch.Tensor,
    proto_BMHW: torch.Tensor,
    masks: torch.Tensor,
    fg_BA: torch.Tensor,
    assigned: Assignment,
    *,
    overlap: bool,
) -> torch.Tensor:
    """Return the mean mask loss over the anchors of `fg_BA`, a scalar.

    Args:
        coefficients_BMA: Mask coefficients.
        proto_BMHW: Prototypes.
        masks: With `overlap` an index map (B, h, w), where i + 1 marks the image's i-th instance; else (N, h, w), 0
            or 1.
        fg_BA: Anchors to train, a subset of the assigned ones.
        assigned: The assignment.
        overlap: Encoding of `masks`.
    """
    size = masks.shape[-2:]
    if proto_BMHW.shape[-2:] != size:  # mask_ratio other than 4
        proto_BMHW = F.interpolate(proto_BMHW, size, mode="bilinear", align_corners=False)
    height, width = size
    unit = assigned.boxes_BA4 / assigned.imgsz_2[[1, 0, 1, 0]]
    area_BA = (unit[..., 2] - unit[..., 0]) * (unit[..., 3] - unit[..., 1])
    boxes_BA4 = unit * unit.new_tensor([width, height, width, height])
    total = proto_BMHW.sum() * 0.0 + coefficients_BMA.sum() * 0.0
    for i, fg_A in enumerate(fg_BA):
        if not fg_A.any():
            continue
        if overlap:
            target = masks[i] == (assigned.gt_BA[i, fg_A] + 1).view(-1, 1, 1)
        else:
            target = masks[assigned.instance_BA[i, fg_A]]
        total = total + v8SegmentationLoss.single_mask_loss(
            target.to(proto_BMHW.dtype),
            coefficients_BMA[i, :, fg_A].T,
            proto_BMHW[i],
            boxes_BA4[i, fg_A],
            area_BA[i, fg_A],
        )
    return total / fg_BA.sum()
