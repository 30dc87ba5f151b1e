"""Keypoint losses: object keypoint similarity and visibility (YOLO-Pose, https://arxiv.org/abs/2204.06806)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from ultralytics.utils.loss import KeypointLoss

from yolo_multitask.losses.detect import Assignment
from yolo_multitask.metrics.pose import oks_sigmas


class PoseLoss:
    """Location and visibility losses of the instances whose keypoints are labelled."""

    def __init__(self, head: nn.Module, args: Any, sigmas: Any = None) -> None:
        """Take the gains `pose` and `kobj` from `args` and the keypoint shape from the head.

        Args:
            head: The head, with a `pose` branch.
            args: Training arguments.
            sigmas: Standard deviations of the K keypoints for the similarity; default: COCO's for 17 keypoints, else
                1 / K.
        """
        self.kpt_shape = head.branches["pose"].kpt_shape  # type: ignore[index, union-attr]
        self.gain, self.visibility_gain = args.pose, args.kobj
        self.sigmas = torch.from_numpy(oks_sigmas(self.kpt_shape, sigmas)).float()

    def __call__(
        self, raw: dict[str, torch.Tensor], assigned: Assignment, batch: dict[str, Any]
    ) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
        """Return `pose_loss` and `kobj_loss` scaled by their gains, and the number of anchors behind each."""
        kpts = raw["kpts"]
        fg = assigned.labelled(batch["has_keypoints"]) if "keypoints" in batch else torch.zeros_like(assigned.fg_BA)
        counts = dict.fromkeys(("pose_loss", "kobj_loss"), int(fg.sum()))
        if not fg.any():
            zero = (kpts * 0.0).sum()
            return {"pose_loss": zero, "kobj_loss": zero.clone()}, counts
        target = batch["keypoints"].to(kpts.device).float()
        location, visibility = keypoint_losses(
            kpts.unflatten(1, self.kpt_shape), target, fg, assigned, self.sigmas.to(kpts.device)
        )
        return {"pose_loss": location * self.gain, "kobj_loss": visibility * self.visibility_gain}, counts


def keypoint_losses(
    kpts_BKDA: torch.Tensor,
    target_NKD: torch.Tensor,
    fg_BA: torch.Tensor,
    assigned: Assignment,
    sigmas_K: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean location and visibility losses over the anchors of `fg_BA`, two scalars.

    Args:
        kpts_BKDA: Raw keypoints of the head.
        target_NKD: Keypoints of the batch's instances, x y normalised; a third value of 0 means absent. Without a
            third value every keypoint counts.
        fg_BA: Anchors to train, a subset of the assigned ones.
        assigned: The assignment.
        sigmas_K: Standard deviations of the keypoints.
    """
    anchor = fg_BA.nonzero(as_tuple=True)[1]
    stride_P11 = assigned.strides_A1[anchor][:, None]
    predicted_PKD = kpts_BKDA.permute(0, 3, 1, 2)[fg_BA]
    xy_PK2 = predicted_PKD[..., :2] * 2.0 + (assigned.anchors_A2[anchor][:, None] - 0.5)
    target_PKD = target_NKD[assigned.instance_BA[fg_BA]]
    target_xy = target_PKD[..., :2] * assigned.imgsz_2[[1, 0]] / stride_P11
    visible_PK = (
        target_PKD[..., 2] != 0 if target_PKD.shape[-1] == 3 else torch.ones_like(target_PKD[..., 0], dtype=torch.bool)
    )
    box = assigned.boxes_BA4[fg_BA] / stride_P11[:, 0]
    area_P1 = ((box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]))[:, None]
    location = KeypointLoss(sigmas_K)(xy_PK2, target_xy, visible_PK, area_P1)
    if predicted_PKD.shape[-1] == 2:
        return location, predicted_PKD.sum() * 0.0
    return location, F.binary_cross_entropy_with_logits(predicted_PKD[..., 2], visible_PK.to(predicted_PKD.dtype))
