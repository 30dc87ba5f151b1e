"""Semantic loss of YOLO26: the prototypes' features must tell the classes of pixels apart, in training alone.

Cross-entropy and Dice (https://arxiv.org/abs/1606.04797) in equal shares, as the host's `BCEDiceLoss`; here pixels of
which nothing is known do not count.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from yolo_multitask.losses.detect import points_in_regions

SMOOTH = 1.0  # of the Dice coefficient, the host's


def semantic_loss(raw: dict[str, torch.Tensor], batch: dict[str, Any], *, overlap: bool) -> tuple[torch.Tensor, int]:
    """Return the mean loss over images and classes of which something is known, a scalar, and the number of images.

    A class is left out where an image does not label it, or has an instance of it without a mask; pixels in ignore
    regions are left out too. With everything labelled it is the host's.

    Args:
        raw: Raw outputs of the head; `semantic` (B, C, H, W) is there in training alone.
        batch: A training batch.
        overlap: Encoding of the masks, see `losses.segment.mask_loss`.
    """
    logits = raw.get("semantic")
    if logits is None:
        return raw["proto"].sum() * 0.0, 0
    zero = (logits * 0.0).sum()
    labelled = batch["has_mask"].any() if "masks" in batch else False
    if not labelled:
        return zero, 0
    logits = logits.float()  # sums over pixels overflow in half precision
    target = semantic_target(batch, logits, overlap=overlap)
    known_BC = known_classes(batch, logits)
    if not known_BC.any():
        return zero, 0
    return _masked_bce_dice(logits, target, known_BC, _outside_regions(batch, logits)) + zero, int(
        known_BC.any(1).sum()
    )


def _masked_bce_dice(
    logits: torch.Tensor, target: torch.Tensor, known_BC: torch.Tensor, pixels: torch.Tensor | None
) -> torch.Tensor:
    weight = known_BC[..., None, None].to(logits.dtype)
    weight = weight.expand_as(logits) if pixels is None else weight * pixels
    bce = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    bce = (bce * weight).sum() / weight.sum().clamp(min=1)
    chance = logits.sigmoid() * weight
    truth = target * weight
    overlap_BC, sum_BC = (chance * truth).sum((2, 3)), chance.sum((2, 3)) + truth.sum((2, 3))
    dice_BC = 1 - (2 * overlap_BC + SMOOTH) / (sum_BC + SMOOTH)
    return 0.5 * bce + 0.5 * (dice_BC * known_BC).sum() / known_BC.sum()


def semantic_target(batch: dict[str, Any], logits: torch.Tensor, *, overlap: bool) -> torch.Tensor:
    """Return which class each pixel is of, 0 or 1 (B, C, H, W) as `logits`; where masks overlap, that of the smallest.

    Args:
        batch: A training batch.
        logits: Of the classes, whose shape and type are taken.
        overlap: Encoding of the masks.
    """
    masks = batch["masks"].to(logits.device)
    cls_N, image_N = (batch[k].view(-1).long().to(logits.device) for k in ("cls", "batch_idx"))
    count = len(logits)
    if overlap:
        index = masks.long()
        start = torch.bincount(image_N, minlength=count).cumsum(0) - torch.bincount(image_N, minlength=count)
        cls = cls_N[(index - 1).clamp(min=0) + start[:, None, None]] if len(cls_N) else index
        present = index > 0
    else:
        area_N = masks.sum((1, 2))
        cls = torch.zeros(count, *masks.shape[1:], dtype=torch.long, device=logits.device)
        present = torch.zeros_like(cls, dtype=torch.bool)
        for i in area_N.argsort(descending=True, stable=True).tolist():
            here = masks[i] > 0
            cls[image_N[i]][here] = cls_N[i]
            present[image_N[i]] |= here
    target = torch.zeros(count, logits.shape[1], *cls.shape[1:], device=logits.device, dtype=logits.dtype)
    target.scatter_(1, cls[:, None], present[:, None].to(target.dtype))
    same = target.shape[2:] == logits.shape[2:]
    return target if same else F.interpolate(target, logits.shape[2:], mode="nearest")


def known_classes(batch: dict[str, Any], logits: torch.Tensor) -> torch.Tensor:
    """Return of which classes all pixels of an image are known, bool (B, C) as the axes of `logits`."""
    known_BC = torch.ones(logits.shape[:2], dtype=torch.bool, device=logits.device)
    unlabelled = batch.get("unlabelled")
    if unlabelled is not None:
        known_BC[:, : unlabelled.shape[1]] &= ~unlabelled.to(logits.device)
        known_BC[:, unlabelled.shape[1] :] = False  # of classes that the data has not, nothing is known
    bare = ~batch["has_mask"].to(logits.device)
    image_N, cls_N = (batch[k].view(-1).long().to(logits.device) for k in ("batch_idx", "cls"))
    known_BC[image_N[bare], cls_N[bare]] = False
    return known_BC


def _outside_regions(batch: dict[str, Any], logits: torch.Tensor) -> torch.Tensor | None:
    """Return which pixels lie in no ignore region, 0 or 1 (B, 1, H, W); None if there is no region."""
    regions = batch.get("ignore")
    if regions is None or not len(regions):
        return None
    count, _, height, width = logits.shape
    y, x = ((torch.arange(side, device=logits.device) + 0.5) / side for side in (height, width))
    points = torch.stack((x.repeat(height), y.repeat_interleave(width)), 1)
    inside = points_in_regions(points, regions.to(points), batch["ignore_idx"].to(logits.device), count)
    return (~inside).view(count, 1, height, width).to(logits.dtype)
