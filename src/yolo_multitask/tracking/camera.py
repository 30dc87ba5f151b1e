"""Motion of the camera between two frames, from corners of the background."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .boxes import Array

WORKING_SIDE = 480  # pixels of the longer side that corners are followed at
MAX_CORNERS = 300
MIN_CORNERS = 12
MIN_INLIERS = 0.5  # share of the corners that must agree
STILL = 0.3  # pixels: a smaller shift of every picture corner is noise of the estimate


class Camera:
    """Follows corners of the background (Lucas-Kanade) and fits shift, turn and zoom to them (RANSAC).

    The corners stand outside the boxes of the last frame, because what moves on its own says nothing about the camera.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the last frame."""
        self._gray: NDArray[np.uint8] | None = None
        self._boxes: Array = np.zeros((0, 4))

    def motion(self, image: NDArray[Any], boxes_D4: Array) -> Array | None:
        """Map of the last frame's pixels to this one's.

        Args:
            image: (H, W, 3) BGR or (H, W) gray, uint8.
            boxes_D4: Corners in pixels of what is detected in it.

        Returns:
            (2, 3) affine map, or None where the camera stands still, the picture has too few corners, or it is the
            first one.
        """
        factor = min(1.0, WORKING_SIDE / max(image.shape[:2]))
        gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) if image.ndim == 3 else image.copy()
        if factor < 1:
            gray = cv2.resize(gray, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        last, last_boxes = self._gray, self._boxes
        self._gray, self._boxes = gray, boxes_D4 * factor
        if last is None or last.shape != gray.shape:
            return None
        affine = _fit(last, gray, last_boxes)
        if affine is None:
            return None
        affine[:, 2] /= factor
        height, width = image.shape[:2]
        corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]], dtype=float)
        return None if np.abs(corners @ affine.T - corners[:, :2]).max() < STILL else affine


def as_bgr(image: NDArray[Any]) -> NDArray[Any]:
    """Picture (H, W, 3) of one of any channels (H, W) or (H, W, C): gray is repeated, what follows BGR is cut off."""
    image = image[..., None] if image.ndim == 2 else image
    return np.repeat(image[..., :1], 3, axis=2) if image.shape[2] < 3 else np.ascontiguousarray(image[..., :3])


def _fit(last: NDArray[np.uint8], now: NDArray[np.uint8], boxes_D4: Array) -> Array | None:
    """Affine map (2, 3) of `last` to `now`, or None where too few corners agree."""
    background = np.full(last.shape, 255, np.uint8)
    for x1, y1, x2, y2 in np.clip(boxes_D4, 0, max(last.shape)).astype(int):
        background[y1 : y2 + 1, x1 : x2 + 1] = 0
    corners = cv2.goodFeaturesToTrack(last, MAX_CORNERS, 0.01, 4, mask=background)
    if corners is None or len(corners) < MIN_CORNERS:
        return None
    moved, found, _ = cv2.calcOpticalFlowPyrLK(last, now, corners, None, winSize=(15, 15), maxLevel=3)
    ok = found.ravel() == 1
    if ok.sum() < MIN_CORNERS:
        return None
    affine, inliers = cv2.estimateAffinePartial2D(corners[ok], moved[ok], method=cv2.RANSAC, ransacReprojThreshold=1.5)
    if affine is None or inliers.mean() < MIN_INLIERS or not np.isfinite(affine).all():
        return None
    return np.asarray(affine, dtype=float)
