"""Masks from prototypes, or from the logits that an exported file gives, each assembled inside its box alone.

N detections, h w the network input, H W the map of prototypes or logits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from ultralytics.utils import ops

SMALL = 2**15  # pixels of a network input from which the loop pays (measured)
GROUP = 8  # logits that the host is handed at once, as a product with an identity matrix; few, as its cost is quadratic


@dataclass(frozen=True, eq=False)
class MaskFactors:
    """Where the mask logits of N detections of an image come from.

    Attributes:
        maps: Prototypes (nm, H, W), or with `own` logits of rows (M, H, W).
        weights: Coefficients of the prototypes (N, nm); None with `own`.
        own: Which of the maps is that of each detection, int64 (N,); None with `weights`.
    """

    maps: torch.Tensor
    weights: torch.Tensor | None = None
    own: torch.Tensor | None = None

    def part(self, number: int, rows: slice, columns: slice) -> torch.Tensor:
        """Return the logits of one detection in a part of its map, float32."""
        if self.own is not None:
            return self.maps[int(self.own[number]), rows, columns].float()
        assert self.weights is not None
        return torch.einsum("c,chw->hw", self.weights[number].float(), self.maps[:, rows, columns].float())

    def process(self, how: Callable[..., torch.Tensor], boxes: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """Return the masks, uint8 (N, ...), that a function of the host makes, `ops.process_mask` or its like.

        Args:
            how: The function, of maps, weights and boxes.
            boxes: Of the detections, (N, 4).
            **kwargs: More for the function.
        """
        if self.own is None:
            return how(self.maps, self.weights, boxes, **kwargs)
        out: torch.Tensor | None = None
        for start in range(0, max(len(boxes), 1), GROUP):
            which = self.own[start : start + GROUP]
            one_each = torch.eye(len(which), device=self.maps.device)
            made = how(self.maps[which], one_each, boxes[start : start + GROUP], **kwargs)
            if out is None:
                out = made.new_empty(len(boxes), *made.shape[1:])
            out[start : start + GROUP] = made
        assert out is not None
        return out


def assemble(factors: MaskFactors, boxes: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """Return masks (N, h, w), uint8 0 or 1, as the host's `process_mask` with `upsample=True`.

    The host computes every mask for the whole image before it cuts out the box. On a CPU only what is in the box is
    computed here; on other devices and small images, where a loop over detections costs more than it saves, the host
    does it.

    Args:
        factors: Where the logits come from.
        boxes: x1 y1 x2 y2 in pixels of the network input, (N, 4).
        shape: Height and width (h, w) of the network input.
    """
    cells = factors.maps.shape[1:]
    step = shape[0] // cells[0]
    small = shape[0] * shape[1] < SMALL
    if small or factors.maps.device.type != "cpu" or (cells[0] * step, cells[1] * step) != tuple(shape):
        return factors.process(ops.process_mask, boxes, shape=shape, upsample=True)
    out = torch.from_numpy(np.zeros((len(boxes), *shape), np.uint8))  # pages that no mask touches are never written
    limits = torch.tensor([shape[1], shape[0]] * 2)
    corners = torch.minimum(boxes.nan_to_num(0).ceil().clamp(min=0), limits).long().tolist()
    for number, (mask, (left, top, right, bottom)) in enumerate(zip(out, corners, strict=True)):
        if left >= right or top >= bottom:
            continue
        rows, columns = _needed(top, bottom, step, cells[0]), _needed(left, right, step, cells[1])
        values = factors.part(number, rows, columns)
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
