"""Where tracked objects have been, drawn as fading lines."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray


def draw_trails(
    image: NDArray[np.uint8],
    trails: NDArray[np.float32],
    colours: Sequence[tuple[int, int, int]],
    width: int | None = None,
) -> None:
    """Draw one line per object into `image`, faint where it is old.

    Args:
        image: (H, W, 3) BGR, changed in place.
        trails: (N, T, 2) points x y in pixels from old to new; NaN where there is none.
        colours: N colours, BGR.
        width: Width of the lines in pixels; by default as Ultralytics' boxes.
    """
    width = width or max(round(sum(image.shape[:2]) / 2 * 0.003), 2)
    for points, colour in zip(trails, colours, strict=True):
        known = points[np.isfinite(points).all(1)]
        if len(known) > 1:
            _draw_trail(image, known.round().astype(np.int32), colour, width)


def _draw_trail(image: NDArray[np.uint8], points: NDArray[np.int32], colour: tuple[int, int, int], width: int) -> None:
    """Blend a polyline (T, 2) into `image`; only the part of the picture around it is touched."""
    low = np.maximum(points.min(0) - width, 0)
    high = np.minimum(points.max(0) + width + 1, image.shape[1::-1])
    if (high <= low).any():
        return
    (x1, y1), (x2, y2) = low, high
    opacity = np.zeros((y2 - y1, x2 - x1), np.uint8)
    local = points - low
    for k in range(1, len(local)):  # the newest last, over the older ones
        strength = round(255 * k / (len(local) - 1))
        start, end = (tuple(int(v) for v in p) for p in local[k - 1 : k + 1])
        cv2.line(opacity, start, end, strength, width, cv2.LINE_AA)
    on = opacity > 0
    alpha = opacity[on, None].astype(np.float32) / 255
    part = image[y1:y2, x1:x2]
    part[on] = (part[on] * (1 - alpha) + np.asarray(colour, np.float32) * alpha).round().astype(np.uint8)
