"""From pixels to the normalised numbers of a label line: boxes, polygons and keypoints, clipped to the image.

Shapes: M polygon vertices, K keypoints. Sizes are (width, height) in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from yolo_multitask.data.convert.report import SplitReport

DECIMALS = 6  # of written coordinates: below a thousandth of a pixel in any image


def normalised_box(
    low: NDArray[np.float64], high: NDArray[np.float64], size: Sequence[float] | NDArray[np.float64]
) -> tuple[NDArray[np.float32] | None, str]:
    """Return the box clipped into the image, float32 (4,) normalised cx cy w h, or None and the reason.

    Args:
        low: Upper left corner x y in pixels.
        high: Lower right corner x y in pixels.
        size: Of the image.
    """
    if (high <= low).any():
        return None, "box of zero area"
    scale = np.array(size, np.float64)
    start, end = low.clip(0, scale) / scale, high.clip(0, scale) / scale
    box = np.concatenate(((start + end) / 2, end - start)).round(DECIMALS).astype(np.float32)
    return (box, "") if (box[2:] > 0).all() else (None, "box outside the image")


def normalised_polygon(
    parts: Sequence[NDArray[np.float64]], size: Sequence[float] | NDArray[np.float64], report: SplitReport
) -> NDArray[np.float32] | None:
    """Join the parts of a mask to one polygon, float32 (M, 2) normalised; None, and a note, where there is none.

    Args:
        parts: Outlines x y in pixels, (M, 2) each.
        size: Of the image; what is outside is moved to its edge.
        report: Takes the note.
    """
    points = np.zeros((0, 2), np.float32)
    if parts:
        points = (_joined(parts).clip(0, size) / size).round(DECIMALS).astype(np.float32)
    if len(points) < 3 or not (np.ptp(points, axis=0) > 0).all():
        report.notes["mask without a usable outline, written as not labelled"] += 1
        return None
    return points


def normalised_keypoints(
    points: NDArray[np.float64], size: Sequence[float] | NDArray[np.float64], report: SplitReport
) -> NDArray[np.float32] | None:
    """Return float32 (K, 3) normalised x y and visibility, or None where no keypoint is in the image.

    Args:
        points: (K, 3) x y in pixels and visibility, 0 for absent.
        size: Of the image.
        report: Takes a note for each keypoint outside the image, which is written as absent.
    """
    points = points.copy()
    seen = points[:, 2] > 0
    points[:, :2] /= size
    outside = seen & ((points[:, :2] < 0) | (points[:, :2] > 1)).any(1)
    if outside.any():
        report.notes["keypoint outside the image, written as absent"] += int(outside.sum())
    points[~seen | outside] = 0
    return points.round(DECIMALS).astype(np.float32) if points[:, 2].any() else None


def _joined(parts: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Join the parts of a mask to one polygon, as the host does."""
    if len(parts) == 1:
        return parts[0]
    from ultralytics.data.converter import merge_multi_segment

    return np.concatenate(merge_multi_segment(list(parts)), axis=0)  # type: ignore[arg-type]
