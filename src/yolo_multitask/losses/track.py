"""Identity losses: embeddings by contrast between views, and the displacement until the next frame.

Views of an instance are its appearances in the pictures of a batch: frames of a sequence in which it has the same
identity, or repeats of one image under independent augmentation. The contrastive loss is InfoNCE
(https://arxiv.org/abs/1807.03748) with every view as a positive (https://arxiv.org/abs/2004.11362, without other
positives in the denominator). Which pairs count, see `pair_relations`; the rest is neither pulled together nor apart.

Shape suffixes: B batch, A anchors, N instances of the batch, P trained anchors, V instances among theirs, E embedding.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from yolo_multitask import host
from yolo_multitask.losses.detect import Assignment

TEMPERATURE = 0.1  # of the contrast: cosine similarities are divided by it
_PAIR_KEYS = ("cls", "has_id", "ids", "instance", "image", "scene")


class TrackLoss:
    """Embedding loss of the instances that can be told apart, and displacement loss of those with a next frame."""

    def __init__(self, head: nn.Module, args: Any) -> None:
        """Take the gains `reid` and `motion` from `args`.

        Args:
            head: The head, with a `track` branch.
            args: Training arguments.
        """
        self.head: Any = head
        self.branch: Any = self.head.branches["track"]
        self.gain, self.motion_gain = args.reid, args.motion

    def __call__(
        self, raw: dict[str, Any], assigned: Assignment, batch: dict[str, Any]
    ) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
        """Return `reid_loss` and, where the branch predicts the next frame, `next_loss`, scaled by their gains, and the
        number of anchors that each is the mean of.
        """
        reid, count = self._reid(raw, assigned, batch)
        items, counts = {"reid_loss": reid * self.gain}, {"reid_loss": count}
        if self.branch.next_box:
            motion_N4 = batch["motion"].to(assigned.fg_BA.device)
            fg_BA = assigned.labelled(motion_N4.isfinite().all(1))
            target_P4 = motion_N4[assigned.instance_BA[fg_BA].long()]
            items["next_loss"] = self.motion_gain * motion_loss(raw["next"].permute(0, 2, 1)[fg_BA], target_P4)
            counts["next_loss"] = len(target_P4)
        return items, counts

    def _reid(self, raw: dict[str, Any], assigned: Assignment, batch: dict[str, Any]) -> tuple[torch.Tensor, int]:
        """Return the embedding loss and the number of anchors behind it."""
        unused = sum((zero_of(p) for p in self.branch.parameters() if p.requires_grad), zero_of(raw["appearance"][0]))
        fg_BA = assigned.labelled(batch["instance"] >= 0)
        if not fg_BA.any():
            return unused, 0
        # where the embedding is read is not learned from it; half precision would put the box pixels off
        dtype = self.branch.project.weight.dtype
        single: dict[str, Any] = {k: raw[k].detach().to(dtype) for k in ("boxes", "scores")}
        single["feats"] = [x.to(dtype) for x in raw["feats"]]
        with torch.no_grad(), torch.autocast(fg_BA.device.type, enabled=False):
            boxes_B4A = self.head.centred(host.decode_boxes(self.head, single)[:, :4])
            boxes_BA4 = boxes_B4A.transpose(1, 2) / assigned.imgsz_2[[1, 0, 1, 0]]
        image_P = fg_BA.nonzero(as_tuple=True)[0]
        embed_PE = self.branch.embed(raw["appearance"], boxes_BA4[fg_BA], image_P)
        pairs = {k: batch[k].to(embed_PE.device).flatten() for k in _PAIR_KEYS}
        loss, count = contrastive_loss(embed_PE, assigned.instance_BA[fg_BA], pairs)
        return loss + unused, count


def zero_of(values: torch.Tensor) -> torch.Tensor:
    """Return a zero that is connected to `values` in the graph."""
    return (values * 0.0).sum()  # in this order: the sum itself may overflow in half precision


def pair_relations(pairs: dict[str, torch.Tensor], views_V: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return which instances are views of the same one and which are different ones, bool (V, V) each.

    The same: the same labelled object of the same image, or the same identity. Different, among those of a class: two
    objects of one image, two known identities, or objects of two scenes. Of any other pair nothing is known: say, two
    frames of a sequence where one of the two objects has no identity.

    Args:
        pairs: `cls`, `has_id`, `ids`, `instance`, `image`, `scene` of the batch's instances, (N,) each.
        views_V: Instances to relate.
    """
    cls, has_id, ids, instance, image, scene = (pairs[k][views_V] for k in _PAIR_KEYS)

    def equal(x: torch.Tensor) -> torch.Tensor:
        return x[:, None] == x[None]

    both_known = has_id[:, None] & has_id[None]
    same_object = equal(instance)
    same = same_object | (both_known & equal(ids))
    different = (equal(image) & ~same_object) | (both_known & ~equal(ids)) | ~equal(scene)
    return same, different & ~same & equal(cls)


def contrastive_loss(
    embed_PE: torch.Tensor, instance_P: torch.Tensor, pairs: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, int]:
    """Return the mean loss over the anchors that have something to be told apart from, and their number.

    An anchor is compared with the mean embedding of each instance: attracted by those of the other views of its own (by
    its own where there is no other view), pushed off by those of different instances.

    Args:
        embed_PE: Embeddings of the anchors, L2-normalised.
        instance_P: Index of each anchor's instance in the batch.
        pairs: See `pair_relations`.
    """
    views_V, view_P = instance_P.unique(return_inverse=True)
    same_VV, different_VV = pair_relations(pairs, views_V)
    sums_VE = embed_PE.new_zeros(len(views_V), embed_PE.shape[1]).index_add_(0, view_P, embed_PE)
    logits_PV = embed_PE @ F.normalize(sums_VE, dim=1).T / TEMPERATURE

    own_VV = torch.eye(len(views_V), dtype=torch.bool, device=embed_PE.device)
    other_views_VV = same_VV & ~own_VV
    positive_VV = torch.where(other_views_VV.any(1, keepdim=True), other_views_VV, own_VV)
    positive_PV, negative_PV = positive_VV[view_P], different_VV[view_P]
    trained_P = negative_PV.any(1)
    count = int(trained_P.sum())
    if not count:
        return zero_of(embed_PE), 0
    rest_P1 = logits_PV.masked_fill(~negative_PV, -torch.inf)[trained_P].logsumexp(1, keepdim=True)
    logits_PV, positive_PV = logits_PV[trained_P], positive_PV[trained_P]
    loss_PV = F.softplus(rest_P1 - logits_PV)  # -log of the positive's share against all negatives
    return ((loss_PV * positive_PV).sum(1) / positive_PV.sum(1)).mean(), count


def motion_loss(next_P4: torch.Tensor, target_P4: torch.Tensor) -> torch.Tensor:
    """Return the mean loss of displacements relative to the box, (P, 4); zero without anchors."""
    if not len(next_P4):
        return zero_of(next_P4)
    return F.smooth_l1_loss(next_P4, target_P4.to(next_P4), beta=0.1)
