"""Keypoint similarity. M targets, N predictions, K keypoints of D values, in pixels of one frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from ultralytics.utils.metrics import OKS_SIGMA, kpt_iou

BOX_TO_INSTANCE_AREA = 0.53  # instance area over box area (github.com/jin-s13/xtcocoapi), as in the host


def oks_sigmas(kpt_shape: Sequence[int], sigmas: Sequence[float] | None = None) -> NDArray[np.floating]:
    """Return the spread of each keypoint, (K,), relative to the instance's size.

    Args:
        kpt_shape: (K, D).
        sigmas: The data's own (`kpt_oks_sigmas`), used where given.

    Returns:
        `sigmas`, else COCO's for [17, 3], else 1 / K each: the host's rule.

    Raises:
        ValueError: If `sigmas` are not K positive numbers.
    """
    count = int(kpt_shape[0])
    if sigmas is not None:
        given = np.asarray(sigmas, np.float32).flatten()
        if len(given) != count or not (given > 0).all():
            raise ValueError(f"'kpt_oks_sigmas' must be {count} positive numbers, one a keypoint; got {list(sigmas)}.")
        return given
    if list(kpt_shape) == [17, 3]:
        return np.asarray(OKS_SIGMA, np.float32)
    return np.ones(count) / count  # float64 as in the host


def similarity(
    targets: torch.Tensor, preds: torch.Tensor, boxes: torch.Tensor, sigmas: NDArray[np.floating]
) -> torch.Tensor:
    """Return the object keypoint similarity, (M, N) in 0..1.

    It is the mean over a target's visible keypoints of exp(-d^2 / (2 area (2 sigma)^2)), d the distance in pixels.

    Args:
        targets: (M, K, 3) x, y, visibility; 0 is absent.
        preds: (N, K, D).
        boxes: Target boxes (M, 4) x1 y1 x2 y2, from which the area comes.
        sigmas: (K,), see `oks_sigmas`.
    """
    size = boxes[:, 2:4] - boxes[:, :2]
    return kpt_iou(targets, preds, area=size.prod(1) * BOX_TO_INSTANCE_AREA, sigma=sigmas)  # type: ignore[no-any-return,arg-type]
