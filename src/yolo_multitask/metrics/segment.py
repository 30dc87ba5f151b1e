"""Mask similarity. M targets, N predictions, masks of the same height H and width W."""

from __future__ import annotations

import torch
from ultralytics.utils.metrics import mask_iou


def similarity(targets: torch.Tensor, preds: torch.Tensor) -> torch.Tensor:
    """Return the intersection over union, (M, N) in 0..1, of binary masks (M, H, W) and (N, H, W).

    The host's function, so that mask AP equals that of its segmentation validator.
    """
    return mask_iou(targets.flatten(1).float(), preds.flatten(1).float())  # type: ignore[no-any-return]
