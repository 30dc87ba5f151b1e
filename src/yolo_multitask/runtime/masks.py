"""Masks from prototypes or logits, each computed inside its box alone.

No image takes a matrix product: the threads of numpy's would be in the way of those of onnxruntime.

N detections, nm prototypes of Y X cells, h w the network input, H W the original image.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .letterbox import Scale

CELL = 4  # pixels of the network input to a cell


@dataclass(frozen=True, eq=False)
class Line:
    """How the pixels of an axis are interpolated from its cells.

    Attributes:
        first: First of the neighbouring cells that each pixel is computed from.
        weights: Weights of these cells, (pixels, cells for a pixel).
    """

    first: NDArray[np.int64]
    weights: NDArray[np.float32]

    @classmethod
    def of(cls, weights: NDArray[np.float64]) -> Line:
        """Find the cells that have a weight in a matrix (pixels, cells)."""
        pixels, cells = weights.shape
        used = weights > 0
        first = used.argmax(1)
        count = int((cells - used[:, ::-1].argmax(1) - first).max())
        first = first.clip(0, cells - count)
        return cls(first, weights[np.arange(pixels)[:, None], first[:, None] + np.arange(count)].astype(np.float32))

    def cells(self, start: int, stop: int) -> slice:
        """Return the cells that the pixels `start` to `stop` are computed from."""
        return slice(int(self.first[start]), int(self.first[stop - 1]) + self.weights.shape[1])

    def enlarge(self, values: NDArray[np.float32], start: int, stop: int) -> NDArray[np.float32]:
        """Return the pixels (stop - start, ...) of the values (cells, ...) of `cells(start, stop)`."""
        first, weights = self.first[start:stop] - self.first[start], self.weights[start:stop]
        out = values[first]
        out *= weights[:, :1]
        for k in range(1, weights.shape[1]):
            more = values[first + k]
            more *= weights[:, k : k + 1]
            out += more
        return out


def assemble(
    proto: NDArray[Any],
    coefficients: NDArray[np.float32] | None,
    boxes: NDArray[np.float32],
    scale: Scale,
    *,
    native: bool,
) -> NDArray[np.bool_]:
    """Return masks as the host's `process_mask` with `upsample=True`, or as its `process_mask_native`.

    Args:
        proto: Prototypes (nm, Y, X); or, without coefficients, mask logits (N, Y, X).
        coefficients: (N, nm) or None.
        boxes: (N, 4) x1 y1 x2 y2 in pixels of the masks.
        scale: Of the network input and the original image.
        native: Whether the masks are of the original image (N, H, W), or of the network input (N, h, w).
    """
    rows, columns = lines(scale.shape, scale.image if native else None)
    size = len(rows.first), len(columns.first)
    out = np.zeros((len(boxes), *size), bool)  # pages that no mask touches are never written
    edges = np.ceil(boxes).clip(0, [*size[::-1], *size[::-1]]).astype(np.int64).tolist()
    proto = proto.astype(np.float32, copy=False)
    for i, (left, top, right, bottom) in enumerate(edges):
        if left >= right or top >= bottom:
            continue
        y, x = rows.cells(top, bottom), columns.cells(left, right)
        logits = proto[i, y, x] if coefficients is None else np.einsum("c,cyx->yx", coefficients[i], proto[:, y, x])
        wide = np.ascontiguousarray(columns.enlarge(logits.T, left, right).T)
        np.greater(rows.enlarge(wide, top, bottom), 0, out=out[i, top:bottom, left:right])
    return out


@lru_cache(maxsize=4)
def lines(shape: tuple[int, int], image: tuple[int, int] | None) -> tuple[Line, Line]:
    """Return how rows and columns of masks are interpolated.

    Args:
        shape: Height and width (h, w) of the network input.
        image: Height and width (H, W) of the masks where they are of the original image; None for the network input.
    """
    cells = shape[0] // CELL, shape[1] // CELL
    if image is None:
        return Line.of(_linear(cells[0], shape[0])), Line.of(_linear(cells[1], shape[1]))
    content = Scale(shape, image).content
    pad = (shape[0] - content[0]) | (shape[1] - content[1])
    finer = CELL // gcd(CELL, pad | pad // 2)  # the host first enlarges so far that the padding is whole cells
    enlarged = Scale((cells[0] * finer, cells[1] * finer), image)
    (top, left), (height, width) = enlarged.corner, enlarged.content
    return (
        Line.of(_linear(height, image[0]) @ _linear(cells[0], enlarged.shape[0])[top : top + height]),
        Line.of(_linear(width, image[1]) @ _linear(cells[1], enlarged.shape[1])[left : left + width]),
    )


def _linear(cells: int, pixels: int) -> NDArray[np.float64]:
    """Return the weights (pixels, cells) of linear interpolation as PyTorch's with `align_corners=False`."""
    place = (np.arange(pixels) + 0.5) * (cells / pixels) - 0.5
    return np.maximum(1 - np.abs(place.clip(0, cells - 1)[:, None] - np.arange(cells)), 0)
