"""Assignment by what all tasks make of an anchor, as YOLO26 has it: the score of a detection then ranks it by that.

The host's task-aligned assignment (TOOD, https://arxiv.org/abs/2108.07755) prefers anchors whose boxes overlap their
object. For YOLO26 its segmentation loss counts the overlap of masks too, and its pose loss that of keypoints (OKS) in
the place of boxes. With one branch alone the overlap here is the host's; with both it is the mean of the host's two.
Where an instance has no mask or no keypoints, what is left decides.

G instances of an image, padded; see `losses.detect` for the other suffixes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from ultralytics.utils.tal import PoseTaskAlignedAssigner, TaskAlignedAssigner, make_anchors

from yolo_multitask import host
from yolo_multitask.nn.branches import PoseBranch26, SegmentBranch26

_MASK_INPUTS = ("pd_coef", "mask_scale", "proto", "gt_masks")  # of the host's assigner


class QualityAssigner(TaskAlignedAssigner):
    """The host's assigner with an overlap of boxes, masks and keypoints.

    Attributes:
        masks: The host's assigner by masks, None where they do not count.
        points: The host's assigner by keypoints, None where they do not count.
        place: Turns raw keypoints into grid units.
        kpt_shape: Keypoints (K, D).
    """

    def __init__(self, masks: Any, points: Any, pose: Any = None, **settings: Any) -> None:
        """Take the assigners, the pose branch where keypoints count, and the host's settings of an assigner."""
        super().__init__(**settings)
        self.masks, self.points = masks, points
        if pose is not None:
            self.place, self.kpt_shape = pose.place, pose.kpt_shape

    def forward(self, *args: Any, anc_strides: torch.Tensor | None = None, **extra: torch.Tensor) -> Any:
        """Assign; see the host.

        Args:
            *args: The host's.
            anc_strides: Pixels per grid unit, (A,).
            **extra: From `quality_inputs`, with a batch axis first.
        """
        if self.points is not None:
            self.points.anc_strides = anc_strides
        return super().forward(*args, **extra)

    def select_candidates_in_gts(self, *args: Any, **kwargs: Any) -> Any:
        """Return the candidates, bool (B, G, A): where keypoints alone decide, on the levels that the host takes."""
        if self.points is not None and self.masks is None:
            return self.points.select_candidates_in_gts(*args, **kwargs)
        return super().select_candidates_in_gts(*args, **kwargs)

    def get_box_metrics(self, scores: Any, boxes: Any, labels: Any, gt_boxes: Any, mask_gt: Any, **extra: Any) -> Any:
        """Return alignment and overlaps, (B, G, A) each; see the host."""
        extra.update(scores=scores, labels=labels)
        return super().get_box_metrics(scores, boxes, labels, gt_boxes, mask_gt, **extra)

    def pair_overlaps(self, indices: Any, gt_bboxes: torch.Tensor, pd_bboxes: torch.Tensor, **extra: Any) -> Any:
        """Return the overlap of each pair (image, instance, anchor) of `indices`, (P,)."""
        given, pair = (indices, gt_bboxes, pd_bboxes), indices[:2]
        overlap = super().pair_overlaps(*given)
        if self.masks is not None and "gt_masks" in extra:
            inputs = [extra[name] for name in ("scores", "labels", *_MASK_INPUTS)]
            of_masks = self._same_batch(self.masks).pair_overlaps(*given, *inputs)
            overlap = torch.where(extra["has_mask"][pair], of_masks, overlap)
        if self.points is not None and "gt_kpts" in extra:
            of_points = self._same_batch(self.points).pair_overlaps(*given, extra["pd_kpts"], extra["gt_kpts"])
            seen = (extra["gt_kpts"][pair][..., 2] > 0).any(-1)
            both = of_points if self.masks is None else (overlap + of_points) / 2
            overlap = torch.where(seen, both, overlap)
        return overlap

    def _same_batch(self, part: Any) -> Any:
        part.bs, part.n_max_boxes = self.bs, self.n_max_boxes
        return part


def quality_assigner(
    base: TaskAlignedAssigner, branches: Mapping[str, Any], sigmas: torch.Tensor | None
) -> TaskAlignedAssigner:
    """Return the assigner for the branches that are trained: `base`, where none of them takes part in the assignment.

    Args:
        base: The host's assigner by boxes, whose settings are kept.
        branches: Trained branches by task.
        sigmas: Standard deviations of the K keypoints, if they are trained.
    """
    names = ("topk", "topk2", "num_classes", "alpha", "beta", "stride")
    settings = {name: getattr(base, name) for name in names}
    by_masks = host.mask_assigner() if isinstance(branches.get("segment"), SegmentBranch26) else None
    masks = None if by_masks is None else by_masks(**settings)
    points = None
    if isinstance(branches.get("pose"), PoseBranch26):
        points = PoseTaskAlignedAssigner(sigmas, **settings)
    if masks is points is None:
        return base
    return QualityAssigner(masks, points, branches.get("pose") if points is not None else None, **settings)


def quality_inputs(
    assigner: Any, raw: dict[str, Any], batch: dict[str, Any], stride: torch.Tensor, *, overlap: bool
) -> dict[str, torch.Tensor]:
    """Return what a `QualityAssigner` takes beyond the host's arguments; nothing for any other.

    Args:
        assigner: The assigner.
        raw: Raw outputs of a head.
        batch: A training batch.
        stride: Pixels per cell of each level.
        overlap: Encoding of the masks, see `losses.segment.mask_loss`.
    """
    if not isinstance(assigner, QualityAssigner):
        return {}
    points_A2, strides_A1 = make_anchors(raw["feats"], stride, 0.5)
    found = {"anc_strides": strides_A1.view(-1)}
    image_N = batch["batch_idx"].view(-1).long().to(points_A2.device)
    size_2 = torch.tensor(raw["feats"][0].shape[2:], device=points_A2.device, dtype=points_A2.dtype) * stride[0]
    if assigner.masks is not None and "masks" in batch:
        found |= _mask_inputs(raw, batch, image_N, size_2[0], overlap)
    if assigner.points is not None and "keypoints" in batch:
        kpts_BKDA = raw["kpts"].detach().unflatten(1, assigner.kpt_shape)[:, :, :2]
        place_BKDA = assigner.place(kpts_BKDA, points_A2.T) * strides_A1.T
        target_NK3 = with_visibility(batch["keypoints"].to(points_A2.device).float())
        target_NK3[..., 2] *= batch["has_keypoints"].to(target_NK3)[:, None]
        target_NK3[..., :2] *= size_2[[1, 0]]
        found["pd_kpts"] = place_BKDA.permute(0, 3, 1, 2)
        found["gt_kpts"] = pad_instances(target_NK3, image_N, len(kpts_BKDA))
    return found


def _mask_inputs(
    raw: dict[str, Any], batch: dict[str, Any], image_N: torch.Tensor, height: torch.Tensor, overlap: bool
) -> dict[str, torch.Tensor]:
    proto = raw["proto"].detach()
    batch_size, _, rows, columns = proto.shape
    masks = batch["masks"].to(proto.device)
    if masks.numel() and masks.shape[-2:] != (rows, columns):
        masks = F.interpolate(masks[None].float(), (rows, columns), mode="nearest")[0]
    flags = pad_instances(batch["has_mask"].to(proto.device), image_N, batch_size)
    if overlap:
        numbers = torch.arange(1, flags.shape[1] + 1, device=proto.device)
        each = masks[:, None] == numbers[:, None, None]
    else:
        each = pad_instances(masks > 0.5, image_N, batch_size)
    return {
        "pd_coef": raw["mask_coefficient"].detach().permute(0, 2, 1),
        "mask_scale": (rows / height).expand(batch_size, 1),
        "proto": proto,
        "gt_masks": each,
        "has_mask": flags,
    }


def pad_instances(values_N: torch.Tensor, image_N: torch.Tensor, batch: int) -> torch.Tensor:
    """Return values of instances image by image, (B, G, ...), zero where an image has fewer.

    Args:
        values_N: The values, (N, ...).
        image_N: Image of each, ascending.
        batch: Number of images.
    """
    counts = torch.bincount(image_N, minlength=batch)
    padded = values_N.new_zeros(batch, int(counts.max()), *values_N.shape[1:])
    padded[image_N, torch.arange(len(image_N), device=image_N.device) - (counts.cumsum(0) - counts)[image_N]] = values_N
    return padded


def with_visibility(keypoints_NKD: torch.Tensor) -> torch.Tensor:
    """Return keypoints with a third value that says whether each is there, (N, K, 3), as a copy."""
    if keypoints_NKD.shape[-1] == 3:
        return keypoints_NKD.clone()
    return torch.cat((keypoints_NKD, torch.ones_like(keypoints_NKD[..., :1])), -1)
