"""Losses of a student against what its teachers say, anchor by anchor.

Every teacher's word counts as much as it is certain of it: class probabilities are learned as they are, everything else
is weighted by the class probability of the anchor. Distillation as in Hinton et al., https://arxiv.org/abs/1503.02531.
Keypoints and masks are those of the instance that an anchor stands for, as found where its teacher is most certain:
what a teacher says at an anchor next to it is worse, and another teacher may not look at that anchor at all. Masks are
compared after they are assembled, inside the box: a product of coefficients and prototypes may be the same with other
factors.

Shape suffixes: B batch, A anchors of all levels, C classes, n anchors with a target, K keypoints, V instances with an
embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from ultralytics.utils.loss import v8SegmentationLoss
from ultralytics.utils.metrics import bbox_iou
from ultralytics.utils.tal import dist2bbox, make_anchors

from yolo_multitask.losses.distill import HUBER
from yolo_multitask.losses.multitask import LossItems
from yolo_multitask.metrics.pose import oks_sigmas
from yolo_multitask.tasks import SPECS

MASKS = 64  # anchors of an image whose masks are compared, the most certain ones


@dataclass(kw_only=True, eq=False)
class Targets:
    """What the teachers say of a batch. Coordinates are pixels of the input.

    Attributes:
        scores_BCA: Class probabilities.
        known_C: Classes that a teacher knows, bool; of the others nothing is said.
        image_n: Image of each anchor with a target, int64.
        anchor_n: Its index over all levels, int64.
        weight_n: How certain the teacher is.
        boxes_n4: x1 y1 x2 y2.
        bins_nR: Raw box distances, or no columns.
        keypoints_nKD: Visibility as a probability; NaN where there are none.
        masks: Of each image some of the n, int64 (p,), and their masks as probabilities (p, h, w).
        instance_boxes_V4: x1 y1 x2 y2 of instances with an embedding.
        instance_image_V: Image of each.
        embeddings_VE: L2-normalised.
    """

    scores_BCA: torch.Tensor
    known_C: torch.Tensor
    image_n: torch.Tensor
    anchor_n: torch.Tensor
    weight_n: torch.Tensor
    boxes_n4: torch.Tensor
    bins_nR: torch.Tensor
    keypoints_nKD: torch.Tensor
    masks: list[tuple[torch.Tensor, torch.Tensor]]
    instance_boxes_V4: torch.Tensor
    instance_image_V: torch.Tensor
    embeddings_VE: torch.Tensor


class LessonLoss:
    """The losses by name, as in `MultiTaskLoss`, scaled by their gains.

    Attributes:
        tasks: Tasks that learn now; the losses of the others are zero.
    """

    def __init__(self, model: Any) -> None:
        """Take gains from `model.args`; the model has every task that is taught."""
        self.head, self.args, self.tasks = model.head, model.args, tuple(model.tasks)
        self.sigmas = None
        if "pose" in model.tasks:
            sigmas = oks_sigmas(tuple(model.kpt_shape), getattr(model, "kpt_oks_sigmas", None))
            self.sigmas = torch.from_numpy(sigmas).float()

    def __call__(self, raw: dict[str, Any], targets: Targets) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
        """Return the losses, and the number of anchors or instances behind each.

        Args:
            raw: Raw outputs of the student.
            targets: What the teachers say of the same images.
        """
        zero = raw["scores"].sum() * 0.0
        names = [n for task in SPECS if task in self.head.tasks for n in SPECS[task].losses]
        if "next" not in raw:
            names = [n for n in names if n != "next_loss"]
        items, counts = {name: zero.clone() for name in names}, dict.fromkeys(names, 0)
        points_A2, strides_A1 = make_anchors(raw["feats"], self.head.stride, 0.5)
        points_n2, strides_n1 = points_A2[targets.anchor_n], strides_A1[targets.anchor_n]
        parts: dict[str, tuple[torch.Tensor, float, int]] = {}
        if "detect" in self.tasks:
            count = len(targets.anchor_n)
            box, bins = box_losses(raw["boxes"], targets, points_n2, strides_n1)
            parts["box_loss"], parts["dfl_loss"] = (box, self.args.box, count), (bins, self.args.dfl, count)
            parts["cls_loss"] = (class_loss(raw["scores"], targets), self.args.cls, count)
        if "segment" in self.tasks:
            loss, count = mask_loss(
                raw["mask_coefficient"], raw["proto"], targets, raw["feats"][0], self.head.stride[0]
            )
            parts["seg_loss"] = (loss, self.args.seg, count)
        if "pose" in self.tasks:
            place, seen, count = keypoint_losses(raw["kpts"], targets, points_n2, strides_n1, self.sigmas)
            parts["pose_loss"], parts["kobj_loss"] = (place, self.args.pose, count), (seen, self.args.kobj, count)
        if "track" in self.tasks:
            loss, count = self._relations(raw, targets)
            parts["reid_loss"] = (loss, self.args.reid, count)
        for name, (loss, gain, count) in parts.items():
            items[name], counts[name] = items[name] + loss * gain, count
        return items, counts

    def _relations(self, raw: dict[str, Any], targets: Targets) -> tuple[torch.Tensor, int]:
        branch = self.head.branches["track"]
        unused = sum((p * 0.0).sum() for p in branch.parameters() if p.requires_grad)
        if len(targets.embeddings_VE) < 2:
            return raw["scores"].sum() * 0.0 + unused, 0
        height, width = (side * self.head.stride[0] for side in raw["feats"][0].shape[2:])
        shares_V4 = centre_shares(targets.instance_boxes_V4, width, height)
        embed_VE = branch.embed(raw["appearance"], shares_V4, targets.instance_image_V)
        return relation_loss(embed_VE, targets.embeddings_VE) + unused, len(embed_VE)


def class_loss(scores_BCA: torch.Tensor, targets: Targets) -> torch.Tensor:
    """Return the cross-entropy with the teachers' probabilities, per unit of what they see; zero where they agree.

    The teachers' own entropy is taken off, which changes no gradient.

    Args:
        scores_BCA: The student's logits.
        targets: See `Targets`.
    """
    wanted = targets.scores_BCA
    loss = F.binary_cross_entropy_with_logits(scores_BCA, wanted, reduction="none")
    entropy = F.binary_cross_entropy(wanted, wanted, reduction="none")
    known = targets.known_C[:, None].to(loss)
    return ((loss - entropy) * known).sum() / wanted.sum().clamp(min=1.0)


def box_losses(
    boxes_BRA: torch.Tensor, targets: Targets, points_n2: torch.Tensor, strides_n1: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return 1 - CIoU with the teachers' boxes, and the divergence from their distance distributions (zero without).

    Args:
        boxes_BRA: The student's raw distances, (B, 4 * reg_max, A).
        targets: See `Targets`.
        points_n2: Anchor points in grid units.
        strides_n1: Pixels per grid unit.
    """
    own_n4R = boxes_BRA[targets.image_n, :, targets.anchor_n].unflatten(1, (4, -1))
    bins = torch.arange(own_n4R.shape[2], device=own_n4R.device, dtype=own_n4R.dtype)
    own_n4 = dist2bbox((own_n4R.softmax(2) * bins).sum(2), points_n2, xywh=False) * strides_n1
    total = targets.weight_n.sum().clamp(min=1.0)
    ciou_n = bbox_iou(own_n4, targets.boxes_n4, xywh=False, CIoU=True).squeeze(-1)
    box = ((1.0 - ciou_n) * targets.weight_n).sum() / total
    if not targets.bins_nR.shape[1]:
        return box, own_n4R.sum() * 0.0
    theirs_n4R = targets.bins_nR.unflatten(1, (4, -1)).log_softmax(2)
    divergence_n = F.kl_div(own_n4R.log_softmax(2), theirs_n4R, reduction="none", log_target=True).sum(2).mean(1)
    return box, (divergence_n * targets.weight_n).sum() / total


def keypoint_losses(
    kpts: torch.Tensor,
    targets: Targets,
    points_n2: torch.Tensor,
    strides_n1: torch.Tensor,
    sigmas_K: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Return the place and visibility losses of keypoints, and the number of anchors behind them.

    The place is 1 - OKS, whose gradient vanishes far from the target, plus the Huber distance in units of the object's
    size, whose gradient does not.

    Args:
        kpts: Raw keypoints of the student, (B, K * D, A).
        targets: See `Targets`.
        points_n2: Anchor points in grid units.
        strides_n1: Pixels per grid unit.
        sigmas_K: Spread of each keypoint.
    """
    chosen = targets.keypoints_nKD.isfinite().all(2).all(1) if targets.keypoints_nKD.numel() else targets.weight_n < 0
    count = int(chosen.sum())
    if not count or sigmas_K is None:
        zero = kpts.sum() * 0.0
        return zero, zero.clone(), 0
    theirs_nKD, weight_n = targets.keypoints_nKD[chosen], targets.weight_n[chosen]
    own_nKD = kpts[targets.image_n[chosen], :, targets.anchor_n[chosen]].unflatten(1, theirs_nKD.shape[1:])
    xy_nK2 = (own_nKD[..., :2] * 2.0 + (points_n2[chosen] - 0.5)[:, None]) * strides_n1[chosen][:, None]
    sides_n2 = targets.boxes_n4[chosen, 2:] - targets.boxes_n4[chosen, :2]
    size_n = sides_n2.prod(1).clamp(min=1.0).sqrt()
    error_nK = (xy_nK2 - theirs_nKD[..., :2]).norm(dim=2) / size_n[:, None]
    unlike_nK = 1.0 - (-(error_nK**2) / (2 * (2 * sigmas_K.to(error_nK)) ** 2)).exp()
    place_nK = unlike_nK + 2.0 * F.smooth_l1_loss(error_nK, torch.zeros_like(error_nK), beta=HUBER, reduction="none")
    total = weight_n.sum().clamp(min=1.0)
    if theirs_nKD.shape[2] == 2:
        return (place_nK.mean(1) * weight_n).sum() / total, kpts.sum() * 0.0, count
    seen_nK = theirs_nKD[..., 2]
    visible_n = F.binary_cross_entropy_with_logits(own_nKD[..., 2], seen_nK, reduction="none").mean(1)
    return ((place_nK * seen_nK).mean(1) * weight_n).sum() / total, (visible_n * weight_n).sum() / total, count


def mask_loss(
    coefficients: torch.Tensor, proto: torch.Tensor, targets: Targets, feat: torch.Tensor, stride: torch.Tensor
) -> tuple[torch.Tensor, int]:
    """Return the cross-entropy of assembled masks with the teachers' probabilities inside the boxes, and the number of
    anchors behind it.

    Args:
        coefficients: Mask coefficients of the student, (B, nm, A).
        proto: Its prototypes, (B, nm, h, w).
        targets: See `Targets`.
        feat: Feature map of the first level.
        stride: Pixels per cell of it.
    """
    total, weights, count = coefficients.sum() * 0.0 + proto.sum() * 0.0, proto.new_zeros(()), 0
    sides = proto.new_tensor([feat.shape[3], feat.shape[2]] * 2) * stride
    cells = proto.new_tensor([proto.shape[3], proto.shape[2]] * 2)
    for i, (chosen, masks) in enumerate(targets.masks):
        if not len(chosen):
            continue
        unit = targets.boxes_n4[chosen] / sides
        area = ((unit[:, 2] - unit[:, 0]) * (unit[:, 3] - unit[:, 1])).clamp(min=1e-6)
        weight = targets.weight_n[chosen]
        own = coefficients[i, :, targets.anchor_n[chosen]].T
        # the host's loss is a sum over the anchors of loss / area: a weight goes in with the area
        total = total + v8SegmentationLoss.single_mask_loss(masks, own, proto[i], unit * cells, area / weight)
        weights, count = weights + weight.sum(), count + len(chosen)
    return total / weights.clamp(min=1.0), count


def centre_shares(boxes_V4: torch.Tensor, width: Any, height: Any) -> torch.Tensor:
    """Return boxes x1 y1 x2 y2 as cx cy w h in shares of the input's sides."""
    x1, y1, x2, y2 = boxes_V4.unbind(1)
    return torch.stack(((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height), 1)


def relation_loss(embed_VE: torch.Tensor, taught_VE: torch.Tensor) -> torch.Tensor:
    """Return the mean squared difference of the cosine similarities of all pairs, as in relational distillation
    (https://arxiv.org/abs/1904.05068); the two embeddings may differ in length.

    The similarities are taken relative to their mean: networks differ in how alike they find any two persons.

    Args:
        embed_VE: The student's, L2-normalised.
        taught_VE: The teacher's, L2-normalised.
    """
    pairs = torch.triu_indices(len(embed_VE), len(embed_VE), 1, device=embed_VE.device)
    own, theirs = ((x @ x.T)[pairs[0], pairs[1]] for x in (embed_VE, taught_VE))
    return F.mse_loss(own - own.mean(), theirs - theirs.mean()) * 10.0 if len(own) > 1 else embed_VE.sum() * 0.0


class DistillCriterion:
    """The losses of a batch: against the teachers on its views, and against real labels on its labelled images."""

    def __init__(self, model: Any, supervised: Any = None) -> None:
        """Take the model, and the loss for real labels where there are any."""
        self.lessons, self.supervised = LessonLoss(model), supervised

    def __call__(self, preds: Any, batch: dict[str, Any]) -> tuple[torch.Tensor, LossItems]:
        """Return what is minimised, 1-D, and the losses by name, see `MultiTaskLoss`.

        Args:
            preds: Raw outputs of the head for the views, then for the labelled images.
            batch: `targets` of the views; `labelled`, a batch of labelled images, where there is one.
        """
        raw = preds[1] if isinstance(preds, tuple) else preds
        views = len(batch["targets"].scores_BCA)
        items, counts = self.lessons(part_of(raw, slice(0, views)), batch["targets"])
        total = torch.stack(list(items.values())) * views
        items = {k: v.detach() for k, v in items.items()}
        if batch.get("labelled") is not None and self.supervised is not None:
            loss, real = self.supervised(part_of(raw, slice(views, None)), batch["labelled"])
            total = torch.cat((total, loss))
            items = {name: value + real.get(name, 0.0) for name, value in items.items()}
            counts = {name: count + real.counts.get(name, 1) for name, count in counts.items()}
        return total, LossItems(items, counts)


def part_of(raw: dict[str, Any], images: slice) -> dict[str, Any]:
    """Return the raw outputs of some images of a batch."""
    return {k: [x[images] for x in v] if isinstance(v, list) else v[images] for k, v in raw.items()}
