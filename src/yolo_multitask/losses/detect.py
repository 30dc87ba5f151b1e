"""Box and class losses, and the assignment that every other loss shares.

Assignment, box, distribution and class losses are the host's `v8DetectionLoss` (TOOD,
https://arxiv.org/abs/2108.07755). Added here: no class loss in ignore regions, nor for classes that an image's source
does not label.

Shape suffixes in `losses`: B batch, A anchors, N instances of the batch, G instances of an image, C classes, P
positives.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from ultralytics.utils.loss import v8DetectionLoss
from ultralytics.utils.ops import xywh2xyxy
from ultralytics.utils.tal import make_anchors

from yolo_multitask.losses.assign import quality_assigner, quality_inputs


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """Which instance each anchor is responsible for.

    Attributes:
        fg_BA: Whether an anchor is assigned to an instance, bool (B, A).
        gt_BA: Index of that instance among those of its image, int64 (B, A); meaningless where `fg_BA` is False.
        instance_BA: Index of that instance in the batch, int64 (B, A); meaningless where `fg_BA` is False.
        boxes_BA4: Its box, x1 y1 x2 y2 in input pixels, float (B, A, 4).
        anchors_A2: Anchor points in grid units, (A, 2).
        strides_A1: Pixels per grid unit, (A, 1).
        imgsz_2: Height and width of the input in pixels, (2,).
    """

    fg_BA: torch.Tensor
    gt_BA: torch.Tensor
    instance_BA: torch.Tensor
    boxes_BA4: torch.Tensor
    anchors_A2: torch.Tensor
    strides_A1: torch.Tensor
    imgsz_2: torch.Tensor

    def labelled(self, flags_N: torch.Tensor) -> torch.Tensor:
        """Return the assigned anchors whose instance is flagged, bool (B, A)."""
        if not len(flags_N):
            return torch.zeros_like(self.fg_BA)
        return self.fg_BA & flags_N.to(self.fg_BA.device).bool()[self.instance_BA.clamp(0, len(flags_N) - 1)]


class DetectLoss(v8DetectionLoss):
    """Box, class and distribution losses plus the shared assignment."""

    def __init__(
        self,
        model: Any,
        tal_topk: int = 10,
        tal_topk2: int | None = None,
        *,
        branches: Mapping[str, Any] | None = None,
        sigmas: torch.Tensor | None = None,
    ) -> None:
        """Build the losses and the assigner.

        Args:
            model: A de-paralleled multitask model with `args` attached.
            tal_topk: Anchors that an instance may be assigned to.
            tal_topk2: How many of them remain, where fewer; 1 for a one-to-one head.
            branches: Trained branches by task, which may take part in the assignment, see `losses.assign`.
            sigmas: Standard deviations of the K keypoints, if they are trained.
        """
        super().__init__(model, tal_topk, tal_topk2)
        sigmas = None if sigmas is None else sigmas.to(self.device)
        self.assigner: Any = quality_assigner(self.assigner, branches or {}, sigmas)  # type: ignore[has-type]

    def __call__(  # type: ignore[override]
        self, raw: dict[str, Any], batch: dict[str, Any]
    ) -> tuple[Assignment, dict[str, torch.Tensor]]:
        """Assign and compute.

        Args:
            raw: Raw outputs of the head.
            batch: A training batch; `ignore` (M, 4) normalised cx cy w h and `ignore_idx` (M,) are its ignore regions,
                `unlabelled` (B, C), if there, says of which classes nothing is known.

        Returns:
            The assignment, and `box_loss`, `cls_loss`, `dfl_loss` (without a distribution `l1_loss`) scaled by their
            gains.
        """
        step = copy(self)  # one step's class loss knows that step's ignore regions; this object stays as it is
        step.bce = IgnoringBCE(self._ignored(raw, batch), batch.get("unlabelled"))
        quality = quality_inputs(self.assigner, raw, batch, self.stride, overlap=self.hyp.overlap_mask)
        (fg, gt, boxes, anchors, strides), losses, _ = v8DetectionLoss.get_assigned_targets_and_loss(
            step, raw, batch, **quality
        )
        imgsz = torch.tensor(raw["feats"][0].shape[2:], device=fg.device, dtype=boxes.dtype) * self.stride[0]
        fg = fg.bool()
        assignment = Assignment(
            fg_BA=fg,
            gt_BA=gt,
            instance_BA=batch_index(batch["batch_idx"].to(fg.device), gt),
            boxes_BA4=boxes,
            anchors_A2=anchors,
            strides_A1=strides,
            imgsz_2=imgsz,
        )
        return assignment, dict(zip(self.loss_names, losses, strict=True))

    def _ignored(self, raw: dict[str, Any], batch: dict[str, Any]) -> torch.Tensor | None:
        """Return which anchors lie in an ignore region, bool (B, A), or None if the batch has no region."""
        regions = batch.get("ignore")
        if regions is None or not len(regions):
            return None
        anchors, strides = make_anchors(raw["feats"], self.stride, 0.5)
        height, width = (s * self.stride[0] for s in raw["feats"][0].shape[2:])
        points = anchors * strides / torch.stack([width, height]).to(anchors)
        batch_size = raw["scores"].shape[0]
        return points_in_regions(points, regions.to(points), batch["ignore_idx"].to(points.device), batch_size)


class IgnoringBCE(nn.Module):
    """Elementwise binary cross-entropy that is zero for negatives of which nothing is known."""

    def __init__(self, ignored_BA: torch.Tensor | None, unlabelled_BC: torch.Tensor | None = None) -> None:
        """Remember what is not known.

        Args:
            ignored_BA: Which anchors lie in an ignore region, bool; None if no anchor does.
            unlabelled_BC: Which classes are not labelled in an image, bool; None if all are. Of classes beyond these,
                which the model has and the data has not, nothing is known either.
        """
        super().__init__()
        self.ignored_BA, self.unlabelled_BC = ignored_BA, unlabelled_BC

    def forward(self, logits_BAC: torch.Tensor, target_BAC: torch.Tensor) -> torch.Tensor:
        """Return the loss (B, A, C). An anchor with a positive target in an ignore region is trained as any other."""
        loss_BAC = F.binary_cross_entropy_with_logits(logits_BAC, target_BAC, reduction="none")
        if self.unlabelled_BC is not None:
            more = loss_BAC.shape[2] - self.unlabelled_BC.shape[1]
            unlabelled_BC = F.pad(self.unlabelled_BC.to(loss_BAC.device), (0, more), value=True)
            unknown_BAC = unlabelled_BC[:, None] & (target_BAC == 0)
            loss_BAC = loss_BAC.masked_fill(unknown_BAC, 0.0)
        if self.ignored_BA is None:
            return loss_BAC
        negative_BA = target_BAC.sum(-1) == 0
        return loss_BAC.masked_fill((self.ignored_BA & negative_BA)[..., None], 0.0)


def points_in_regions(
    points_A2: torch.Tensor, regions_M4: torch.Tensor, image_M: torch.Tensor, batch_size: int
) -> torch.Tensor:
    """Return which points lie in a region of their image, bool (B, A).

    Args:
        points_A2: x y, normalised, the same for all images.
        regions_M4: cx cy w h, normalised.
        image_M: Image index of each region.
        batch_size: B.
    """
    xyxy = xywh2xyxy(regions_M4)
    inside_MA = ((points_A2[None] >= xyxy[:, None, :2]) & (points_A2[None] <= xyxy[:, None, 2:])).all(-1)
    count_BA = torch.zeros(batch_size, len(points_A2), device=points_A2.device)
    return count_BA.index_add_(0, image_M.long().flatten(), inside_MA.float()) > 0


def batch_index(image_N: torch.Tensor, gt_BA: torch.Tensor) -> torch.Tensor:
    """Turn per-image instance indices (B, A) into indices of the batch's instances.

    Args:
        image_N: Image index of each instance, ascending as the collate function leaves it.
        gt_BA: Index of an instance among those of its image.
    """
    counts = torch.bincount(image_N.long().flatten(), minlength=len(gt_BA))
    return gt_BA + (counts.cumsum(0) - counts)[:, None]
