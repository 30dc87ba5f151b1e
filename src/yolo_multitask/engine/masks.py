"""Masks from prototypes, each assembled inside its box alone.

N detections, h w the network input, H W map of prototypes.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from ultralytics.utils import ops

SMALL = 2**15  # pixels of a network input from which the loop pays (measured)


def assemble(
    proto: torch.Tensor, coefficients: torch.Tensor, boxes: torch.Tensor, shape: tuple[int, int]
) -> torch.Tensor:
    """Return masks (N, h, w), uint8 0 or 1, as the host's `process_mask` with `upsample=True`.

    The host computes every mask for the whole image before it cuts out the box. On a CPU only what is in the box is
    computed here; on other devices and small images, where a loop over detections costs more than it saves, the host
    does it.

    Args:
        proto: Prototypes, (nm, H, W).
        coefficients: Of each detection, (N, nm).
        boxes: x1 y1 x2 y2 in pixels of the network input, (N, 4).
        shape: Height and width (h, w) of the network input.
    """
    step = shape[0] // proto.shape[1]
    small = shape[0] * shape[1] < SMALL
    if small or proto.device.type != "cpu" or (proto.shape[1] * step, proto.shape[2] * step) != tuple(shape):
        return ops.process_mask(proto, coefficients, boxes, shape, upsample=True)  # type: ignore[no-any-return]
    out = torch.from_numpy(np.zeros((len(boxes), *shape), np.uint8))  # pages that no mask touches are never written
    limits = torch.tensor([shape[1], shape[0]] * 2)
    corners = torch.minimum(boxes.nan_to_num(0).ceil().clamp(min=0), limits).long().tolist()
    for mask, weights, (left, top, right, bottom) in zip(out, coefficients.float(), corners, strict=True):
        if left >= right or top >= bottom:
            continue
        rows, columns = _needed(top, bottom, step, proto.shape[1]), _needed(left, right, step, proto.shape[2])
        values = torch.einsum("c,chw->hw", weights, proto[:, rows, columns].float())
        fine = F.interpolate(values[None, None], scale_factor=step, mode="bilinear")[0, 0]
        y, x = top - rows.start * step, left - columns.start * step
        inside = fine[y : y + bottom - top, x : x + right - left]
        torch.gt(inside, 0, out=mask[top:bottom, left:right])
    return out


def _needed(first: int, last: int, step: int, size: int) -> slice:
    """Return which of `size` cells the pixels `first` to `last` are interpolated from, with one more at either end.

    The one more keeps the end of the cut, where interpolation repeats the last cell, out of what is read.
    """
    return slice(max(first // step - 2, 0), min((last - 1) // step + 3, size))
