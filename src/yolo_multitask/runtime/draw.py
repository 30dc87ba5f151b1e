"""Drawing of detections with OpenCV alone."""

from __future__ import annotations

import colorsys

import cv2
import numpy as np
from numpy.typing import NDArray

from yolo_multitask.runtime.detections import Detections
from yolo_multitask.runtime.letterbox import Scale
from yolo_multitask.tracking.camera import as_bgr

VISIBLE = 0.25  # least probability of a keypoint that is drawn, as the host's
OPACITY = 0.4
_LIMBS = "15-13 13-11 16-14 14-12 11-12 5-11 6-12 5-6 5-7 6-8 7-9 8-10 1-2 0-1 0-2 1-3 2-4 3-5 4-6"
LIMBS = tuple(tuple(map(int, pair.split("-"))) for pair in _LIMBS.split())  # of the 17 keypoints of COCO


def draw(found: Detections) -> NDArray[np.uint8]:
    """Return a copy of the image (H, W, 3) BGR with masks, boxes, keypoints and, where there are any, ids.

    An object has the colour of its id, else of its class.
    """
    image = as_bgr(found.image).copy()
    width = max(round(sum(found.orig_shape) / 2 * 0.003), 1)
    keys = found.cls if found.ids is None else found.ids
    colours = [colour(int(key)) for key in keys]
    _draw_masks(image, found, colours)
    for i, shade in enumerate(colours):
        x1, y1, x2, y2 = found.xyxy[i].round().astype(int).tolist()
        cv2.rectangle(image, (x1, y1), (x2, y2), shade, width)
        who = "" if found.ids is None else f"id:{found.ids[i]} "
        _draw_text(image, f"{who}{found.names[int(found.cls[i])]} {found.score[i]:.2f}", (x1, y1), shade, width)
        if found.keypoints is not None:
            _draw_keypoints(image, found.keypoints[i], shade, width)
    return image


def colour(key: int) -> tuple[int, int, int]:
    """Return a BGR colour; those of successive keys are far apart."""
    r, g, b = colorsys.hsv_to_rgb(key * 0.618034 % 1, 0.85, 1)
    return round(255 * b), round(255 * g), round(255 * r)


def _draw_masks(image: NDArray[np.uint8], found: Detections, colours: list[tuple[int, int, int]]) -> None:
    if found.masks is None:
        return
    masks = found.masks
    if masks.shape[1:] != found.orig_shape:
        masks = Scale((masks.shape[1], masks.shape[2]), found.orig_shape).crop(masks)
    edges = np.concatenate((np.floor(found.xyxy[:, :2]), np.ceil(found.xyxy[:, 2:])), 1).astype(int).tolist()
    for mask, shade, (left, top, right, bottom) in zip(masks, colours, edges, strict=True):
        if mask.shape != found.orig_shape:
            mask = cv2.resize(mask.view(np.uint8), found.orig_shape[::-1])
        part, inside = image[top:bottom, left:right], mask[top:bottom, left:right] > 0
        part[inside] = (part[inside] * (1 - OPACITY) + np.multiply(shade, OPACITY)).astype(np.uint8)


def _draw_text(
    image: NDArray[np.uint8], text: str, corner: tuple[int, int], shade: tuple[int, int, int], width: int
) -> None:
    """Write on a coloured ground above a corner (x, y), or below where there is no room."""
    text = "".join(c if c.isascii() and c.isprintable() else "?" for c in text)  # what OpenCV's font has
    size = max(width / 4, 0.35)
    (wide, high), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
    x, y = corner[0], max(corner[1], high + 6)
    cv2.rectangle(image, (x, y - high - 6), (x + wide + 4, y), shade, -1)
    ink = (0, 0, 0) if np.dot(shade, (0.11, 0.59, 0.3)) > 128 else (255, 255, 255)
    cv2.putText(image, text, (x + 2, y - 4), cv2.FONT_HERSHEY_SIMPLEX, size, ink, 1, cv2.LINE_AA)


def _draw_keypoints(
    image: NDArray[np.uint8], points: NDArray[np.float32], shade: tuple[int, int, int], width: int
) -> None:
    seen = np.asarray(points[:, 2] >= VISIBLE if points.shape[1] == 3 else points.any(1))
    places = points[:, :2].round().astype(int).tolist()
    for a, b in LIMBS if len(points) == 17 else ():
        if seen[a] and seen[b]:
            cv2.line(image, places[a], places[b], shade, width, cv2.LINE_AA)
    for k in np.flatnonzero(seen):
        cv2.circle(image, places[k], width + 1, (255, 255, 255), -1, cv2.LINE_AA)
        cv2.circle(image, places[k], width, shade, -1, cv2.LINE_AA)
