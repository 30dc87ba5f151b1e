"""Keypoint losses: object keypoint similarity and visibility (YOLO-Pose, https://arxiv.org/abs/2204.06806)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from ultralytics.utils.loss import KeypointLoss, PoseLoss26, RLELoss
from ultralytics.utils.metrics import RLE_WEIGHT

from yolo_multitask.losses.assign import with_visibility
from yolo_multitask.losses.detect import Assignment
from yolo_multitask.metrics.pose import oks_sigmas
from yolo_multitask.nn.branches import PoseBranch26


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
        self.branch: Any = head.branches["pose"]  # type: ignore[index]
        self.kpt_shape = self.branch.kpt_shape
        self.gain, self.visibility_gain = args.pose, args.kobj
        self.sigmas = torch.from_numpy(oks_sigmas(self.kpt_shape, sigmas)).float()
        self.likelihood = LikelihoodLoss(self.branch, args.rle) if isinstance(self.branch, PoseBranch26) else None

    def __call__(
        self, raw: dict[str, torch.Tensor], assigned: Assignment, batch: dict[str, Any]
    ) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
        """Return `pose_loss` and `kobj_loss`, for YOLO26 also `rle_loss`, scaled by their gains, and the number of
        anchors behind each.
        """
        kpts = raw["kpts"]
        fg = assigned.labelled(batch["has_keypoints"]) if "keypoints" in batch else torch.zeros_like(assigned.fg_BA)
        count = int(fg.sum())
        counts = {"pose_loss": count, "kobj_loss": count}
        if count:
            target = batch["keypoints"].to(kpts.device).float()
            points = trained_points(kpts.unflatten(1, self.kpt_shape), target, fg, assigned, self.branch.place)
            location, visibility = keypoint_losses(points, self.sigmas.to(kpts.device))
        else:
            points, location = None, (kpts * 0.0).sum()
            visibility = location.clone()
        items = {"pose_loss": location * self.gain, "kobj_loss": visibility * self.visibility_gain}
        if self.likelihood is not None:
            sigma = raw.get("kpts_sigma")  # in training alone
            items["rle_loss"] = self.likelihood(kpts, sigma, fg, points)
            counts["rle_loss"] = count if sigma is not None else 0
        return items, counts


class LikelihoodLoss(PoseLoss26):
    """How unlikely the errors of keypoints are, as the host computes it for YOLO26.

    Residual log-likelihood estimation, https://arxiv.org/abs/2107.11291.
    """

    def __init__(self, branch: Any, gain: float) -> None:
        """Take what the host's computation needs, of what it sets up itself.

        Args:
            branch: A `PoseBranch26`.
            gain: The gain `rle`.
        """
        self.flow_model, self.gain, self.count = branch.flow_model, gain, branch.kpt_shape[0]
        device = next(branch.parameters()).device
        self.rle_loss = RLELoss(use_target_weight=True).to(device)
        weights = torch.from_numpy(RLE_WEIGHT) if self.count == len(RLE_WEIGHT) else torch.ones(self.count)
        self.target_weights = weights.to(device)

    def __call__(  # type: ignore[override]
        self, kpts: torch.Tensor, sigma: torch.Tensor | None, fg_BA: torch.Tensor, points: TrainedPoints | None
    ) -> torch.Tensor:
        """Return the loss scaled by its gain, a scalar.

        Args:
            kpts: Raw keypoints (B, K * D, A).
            sigma: Raw standard deviations (B, K * 2, A), None at inference.
            fg_BA: Trained anchors.
            points: Of these; None where there are none.
        """
        if sigma is None:
            return kpts.sum() * 0.0
        unused = sigma[..., :0].sum() + sum(p[..., :0].sum() for p in self.flow_model.parameters())
        if points is None:
            return kpts.sum() * 0.0 + unused
        own_PK2 = sigma.unflatten(1, (self.count, 2)).permute(0, 3, 1, 2)[fg_BA]
        given = torch.cat((points.xy_PK2, own_PK2), -1)
        loss: torch.Tensor = self.calculate_rle_loss(given, points.target_PK2, points.visible_PK)
        return loss.clamp(min=0) * self.gain + unused


@dataclass(frozen=True, kw_only=True)
class TrainedPoints:
    """Keypoints of P anchors, in grid units of their level.

    Attributes:
        xy_PK2: Predicted.
        logits_PK: Predicted visibility; None where the network predicts none.
        target_PK2: True.
        visible_PK: Whether they are there, bool.
        area_P1: Area of the instance's box.
    """

    xy_PK2: torch.Tensor
    logits_PK: torch.Tensor | None
    target_PK2: torch.Tensor
    visible_PK: torch.Tensor
    area_P1: torch.Tensor


def trained_points(
    kpts_BKDA: torch.Tensor,
    target_NKD: torch.Tensor,
    fg_BA: torch.Tensor,
    assigned: Assignment,
    place: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> TrainedPoints:
    """Return the keypoints of the anchors of `fg_BA`.

    Args:
        kpts_BKDA: Raw keypoints of the head.
        target_NKD: Keypoints of the batch's instances, x y normalised; a third value of 0 means absent. Without a
            third value every keypoint counts.
        fg_BA: Anchors to train, a subset of the assigned ones.
        assigned: The assignment.
        place: Turns raw x and y into grid units, see `PoseBranch.place`.
    """
    anchor = fg_BA.nonzero(as_tuple=True)[1]
    stride_P11 = assigned.strides_A1[anchor][:, None]
    predicted_PKD = kpts_BKDA.permute(0, 3, 1, 2)[fg_BA]
    target_PK3 = with_visibility(target_NKD[assigned.instance_BA[fg_BA]])
    box = assigned.boxes_BA4[fg_BA] / stride_P11[:, 0]
    return TrainedPoints(
        xy_PK2=place(predicted_PKD[..., :2], assigned.anchors_A2[anchor][:, None]),
        logits_PK=predicted_PKD[..., 2] if predicted_PKD.shape[-1] == 3 else None,
        target_PK2=target_PK3[..., :2] * assigned.imgsz_2[[1, 0]] / stride_P11,
        visible_PK=target_PK3[..., 2] != 0,
        area_P1=((box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]))[:, None],
    )


def keypoint_losses(points: TrainedPoints, sigmas_K: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean location and visibility losses, two scalars.

    Args:
        points: Keypoints of the trained anchors.
        sigmas_K: Standard deviations of the keypoints.
    """
    location = KeypointLoss(sigmas_K)(points.xy_PK2, points.target_PK2, points.visible_PK, points.area_P1)
    if points.logits_PK is None:
        return location, points.xy_PK2.sum() * 0.0
    visible_PK = points.visible_PK.to(points.logits_PK.dtype)
    return location, F.binary_cross_entropy_with_logits(points.logits_PK, visible_PK)
