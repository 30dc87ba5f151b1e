"""Colours of what is worn: a plain appearance for networks without an embedding branch.

Weaker than a trained embedding, which is why the calibration of the gallery matters: where people are dressed alike,
the colours lose their say.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .boxes import Array

GRID = (24, 8)  # rows and columns at which a box is sampled
STRIPES = 4  # head, chest, hips, legs
INSET = (0.2, 0.05, 0.2, 0.1)  # left, top, right, bottom of the box that is left out: background
BINS = 8  # of lightness, and of each of the two colour axes
CHROMA = (98.0, 158.0)  # range of the colour axes that clothes lie in; 128 is gray
LENGTH = STRIPES * 3 * BINS


def describe(image: NDArray[Any], boxes_D4: Array) -> Array:
    """Colour histograms of the stripes of each box, in CIE Lab.

    Args:
        image: (H, W, 3) BGR uint8.
        boxes_D4: Corners in pixels.

    Returns:
        (D, LENGTH) unit length; the inner product of two is the mean Bhattacharyya coefficient of their histograms.
    """
    count = len(boxes_D4)
    if not count:
        return np.zeros((0, LENGTH))
    low, size = boxes_D4[:, :2], boxes_D4[:, 2:] - boxes_D4[:, :2]
    left, top, right, bottom = INSET
    rows, columns = ((np.arange(n) + 0.5) / n for n in GRID)
    x = low[:, 0, None] + (left + columns * (1 - left - right)) * size[:, 0, None]
    y = low[:, 1, None] + (top + rows * (1 - top - bottom)) * size[:, 1, None]
    column_DC = np.clip(x, 0, image.shape[1] - 1).astype(np.int64)[:, None]
    row_DR = np.clip(y, 0, image.shape[0] - 1).astype(np.int64)[:, :, None]
    pixels = np.ascontiguousarray(image[row_DR, column_DC]).reshape(count * GRID[0], GRID[1], 3)
    lab = cv2.cvtColor(pixels, cv2.COLOR_BGR2LAB).reshape(count * STRIPES, -1, 3).astype(float)
    ranges = ((0.0, 255.0), CHROMA, CHROMA)
    histograms = [_histogram(lab[..., axis], *ranges[axis]) for axis in range(3)]
    described = np.sqrt(np.concatenate(histograms, axis=1)).reshape(count, LENGTH)
    return described / np.linalg.norm(described, axis=1, keepdims=True)


def _histogram(values_NP: Array, low: float, high: float) -> Array:
    """Share (N, BINS) of P values in each bin; a value between the centres of two bins is split between them."""
    count, points = values_NP.shape
    place = np.clip((values_NP - low) / (high - low), 0, 1) * (BINS - 1)
    bin_NP = np.minimum(place.astype(np.int64), BINS - 2)
    upper = place - bin_NP
    cell = (bin_NP + np.arange(count)[:, None] * BINS).ravel()
    total = np.bincount(cell, (1 - upper).ravel(), count * BINS) + np.bincount(cell + 1, upper.ravel(), count * BINS)
    return total.reshape(count, BINS) / points
