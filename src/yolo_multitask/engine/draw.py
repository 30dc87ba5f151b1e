"""Where tracked objects have been, drawn as fading lines, and small objects, drawn as rings."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

BGR_LUMA = (0.114, 0.587, 0.299)  # ITU-R BT.601
RING_WIDTHS = 4  # radius of the ring around a small object, in widths of its line


def draw_trails(
    image: NDArray[np.uint8],
    trails: NDArray[np.float32],
    colours: Sequence[tuple[int, int, int]],
    width: int | None = None,
    interpolated: NDArray[np.bool_] | None = None,
) -> None:
    """Draw one line per object into `image`, faint where it is old, dashed to points that are interpolated.

    Args:
        image: (H, W, 3) BGR, changed in place.
        trails: (N, T, 2) points x y in pixels from old to new; NaN where there is none.
        colours: N colours, BGR.
        width: Width of the lines in pixels; by default as Ultralytics' boxes.
        interpolated: Which points (N, T) are interpolated; these are drawn hollow. None is none of them.
    """
    width = width or line_width(image)
    marked = np.zeros(trails.shape[:2], bool) if interpolated is None else interpolated
    for points, hollow, colour in zip(trails, marked, colours, strict=True):
        known = np.isfinite(points).all(1)
        if known.sum() > 1:
            _draw_trail(image, points[known].round().astype(np.int32), hollow[known], colour, width)


def draw_points(
    image: NDArray[np.uint8],
    points: NDArray[np.float32],
    colours: Sequence[tuple[int, int, int]],
    interpolated: NDArray[np.bool_],
    texts: Sequence[str],
    width: int | None = None,
) -> None:
    """Draw a ring around each small object into `image`, dashed where its position is interpolated.

    The ring leaves the object itself visible.

    Args:
        image: (H, W, 3) BGR, changed in place.
        points: (N, 2) positions x y in pixels.
        colours: N colours, BGR.
        interpolated: Which of them (N,) are interpolated.
        texts: What is written beside each, N; nothing where it is empty.
        width: Width of the lines in pixels; by default as Ultralytics' boxes.
    """
    width = width or line_width(image)
    radius = RING_WIDTHS * width
    for point, colour, hollow, text in zip(points, colours, interpolated, texts, strict=True):
        x, y = (int(v) for v in point.round())
        for start in range(0, 360, 60):
            cv2.ellipse(
                image, (x, y), (radius, radius), 0, start, start + (20 if hollow else 60), colour, width, cv2.LINE_AA
            )
        if text:
            _write(image, text, x, y, radius + width, colour, width)


def line_width(image: NDArray[np.uint8]) -> int:
    """Return the width of lines in pixels, as that of Ultralytics' boxes."""
    return max(round(sum(image.shape[:2]) / 2 * 0.003), 2)


def _write(
    image: NDArray[np.uint8], text: str, x: int, y: int, gap: int, colour: tuple[int, int, int], width: int
) -> None:
    """Write a text on a ground of `colour`, above and right of a point, or where the picture has room for it."""
    scale, thick = width / 3, max(width - 1, 1)
    w, h = cv2.getTextSize(text, 0, scale, thick)[0]
    h += 3
    left = x + gap if x + gap + w <= image.shape[1] else max(x - gap - w, 0)
    base = min(y - gap if y - gap >= h else y + gap + h, image.shape[0] - 1)
    ink = (255, 255, 255) if np.dot(colour, BGR_LUMA) < 128 else (0, 0, 0)
    cv2.rectangle(image, (left, base - h), (left + w, base), colour, -1, cv2.LINE_AA)
    cv2.putText(image, text, (left, base - 2), 0, scale, ink, thick, cv2.LINE_AA)


def _draw_trail(
    image: NDArray[np.uint8],
    points: NDArray[np.int32],
    hollow: NDArray[np.bool_],
    colour: tuple[int, int, int],
    width: int,
) -> None:
    """Blend a polyline (T, 2) into `image`; only the part of the picture around it is touched."""
    radius = 2 * width
    low = np.maximum(points.min(0) - radius, 0)
    high = np.minimum(points.max(0) + radius + 1, image.shape[1::-1])
    if (high <= low).any():
        return
    (x1, y1), (x2, y2) = low, high
    opacity = np.zeros((y2 - y1, x2 - x1), np.uint8)
    local = points - low
    for k in range(1, len(local)):  # the newest last, over the older ones
        strength = round(255 * k / (len(local) - 1))
        start, end = (tuple(int(v) for v in p) for p in local[k - 1 : k + 1])
        if hollow[k] or hollow[k - 1]:
            _dash(opacity, local[k - 1], local[k], strength, width)
        else:
            cv2.line(opacity, start, end, strength, width, cv2.LINE_AA)
    for k in np.flatnonzero(hollow).tolist():  # over the lines, which end at them
        strength = round(255 * max(k, 1) / (len(local) - 1))
        cv2.circle(opacity, _pixel(local[k]), radius, 0, -1)
        cv2.circle(opacity, _pixel(local[k]), radius, strength, 1, cv2.LINE_AA)
    on = opacity > 0
    alpha = opacity[on, None].astype(np.float32) / 255
    part = image[y1:y2, x1:x2]
    part[on] = (part[on] * (1 - alpha) + np.asarray(colour, np.float32) * alpha).round().astype(np.uint8)


def _dash(
    opacity: NDArray[np.uint8], start: NDArray[np.int32], end: NDArray[np.int32], strength: int, width: int
) -> None:
    """Draw a dashed line: as long as it is wide, three times, then the same left out."""
    length = float(np.hypot(*(end - start)))
    cuts = np.arange(0, length, 3 * width)
    for k in range(0, len(cuts), 2):
        a, b = (start + (end - start) * (cut / length) for cut in (cuts[k], min(cuts[k] + 3 * width, length)))
        cv2.line(opacity, _pixel(a), _pixel(b), strength, width, cv2.LINE_AA)


def _pixel(point: NDArray[np.float64]) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))
