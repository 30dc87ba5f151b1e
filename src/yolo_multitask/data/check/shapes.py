"""Rules for boxes and polygons. N instances, P labelled polygons with V vertices in all."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from yolo_multitask.data.check.sheet import Fault, Sheet

SAME_OBJECT = 0.95  # IoU above which two boxes of a class are one object
FULL = 0.99  # of the picture's width and height
OUTSIDE = 0.02  # of the picture; what rounding and the loose edges of real labels do not explain
TINY = 2.0  # pixels
INSIDE = 0.7  # least share of the box around a polygon that lies in the instance's box
COVERED = 0.4  # least IoU of the two: a hidden object's polygon may show less than its box, but not next to nothing
POLYGON_SLACK = 4.0  # pixels by which an edge of the two may differ whatever their overlap
FLAT = 1e-3  # area of a polygon over that of the box around it


def box_faults(sheet: Sheet) -> Iterator[Fault]:
    """Yield boxes that are tiny, cover everything, reach out of the picture, or show an object twice."""
    boxes = sheet.labels.boxes
    if not len(boxes):
        return
    sizes = boxes[:, 2:]
    if sheet.size is not None:
        pixels = sizes * np.array(sheet.size, np.float32)
        for i in np.flatnonzero((pixels < TINY - 1e-3).any(1) & sheet.real):
            w, h = pixels[i]
            yield Fault("box-tiny", (int(i),), f"the box is {w:.1f} x {h:.1f} pixels; remove it or label it anew")
    for i in np.flatnonzero((sizes > FULL).all(1) & sheet.real):
        yield Fault("box-full", (int(i),), "the box covers the whole picture; look whether it is a placeholder")
    reach = np.abs(boxes[:, :2] - 0.5) + sizes / 2 - 0.5
    for i in np.flatnonzero((reach > OUTSIDE).any(1)):
        over = 100 * float(reach[i].max())
        yield Fault("box-outside", (int(i),), f"the box reaches {over:.0f}% of the picture over its edge; clip it")
    yield from _twins(sheet)


def _twins(sheet: Sheet) -> Iterator[Fault]:
    """Yield pairs of boxes of one class that are nearly the same."""
    rows = np.flatnonzero(sheet.real)
    if len(rows) < 2:
        return
    overlap = np.triu(pairwise_iou(sheet.labels.boxes[rows]), 1)
    for a, b in np.argwhere(overlap > SAME_OBJECT):
        i, j = int(rows[a]), int(rows[b])
        if sheet.labels.cls[i] == sheet.labels.cls[j]:
            yield Fault(
                "box-duplicate",
                (i, j),
                f"the box is that of line {sheet.lines[i]} (IoU {overlap[a, b]:.2f}, same class); remove one of them",
            )


def pairwise_iou(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the IoU of every box with every other, (N, N).

    Args:
        boxes: (N, 4) cx cy w h.
    """
    low, high = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    sides = np.minimum(high[:, None], high) - np.maximum(low[:, None], low)
    shared = sides.clip(0).prod(2)
    area = boxes[:, 2:].prod(1)
    return np.asarray(shared / (area[:, None] + area - shared), np.float32)


def polygon_faults(sheet: Sheet) -> Iterator[Fault]:
    """Yield polygons without area, that repeat their points, or that lie elsewhere than their box."""
    labels = sheet.labels
    rows = np.flatnonzero(labels.has_polygon)
    if not len(rows):
        return
    rings = [p for p in labels.polygons if p is not None]
    lengths = np.array([len(p) for p in rings])
    points = np.concatenate(rings)
    starts = np.concatenate(([0], np.cumsum(lengths)[:-1]))
    low, high = np.minimum.reduceat(points, starts), np.maximum.reduceat(points, starts)
    around = (high - low).astype(np.float64).prod(1)
    area = _ring_areas(points, starts, low, lengths)
    flat = area <= FLAT * around
    # parts of a mask that run against each other cancel in the formula, but not in the picture
    flat[flat] = [not _has_inside(rings[k]) for k in np.flatnonzero(flat)]
    for k in np.flatnonzero(flat):
        yield Fault(
            "polygon-flat", (int(rows[k]),), "the polygon has no area; draw it anew, or write '-' (not labelled)"
        )
    distinct = _distinct_points(points, lengths)
    for k in np.flatnonzero((2 * distinct <= lengths) & ~flat):
        message = f"the polygon has {lengths[k]} points, of which {distinct[k]} differ; write the outline once"
        yield Fault("polygon-repeats", (int(rows[k]),), message)
    if sheet.spec.has_box:
        yield from _strays(sheet, rows, low, high)


def _strays(
    sheet: Sheet, rows: NDArray[np.int64], low: NDArray[np.float32], high: NDArray[np.float32]
) -> Iterator[Fault]:
    """Yield polygons whose box `low` to `high`, both (P, 2), is not the instance's."""
    boxes = sheet.labels.boxes[rows]
    box_low, box_high = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    shared = (np.minimum(high, box_high) - np.maximum(low, box_low)).clip(0).prod(1)
    around = (high - low).prod(1)
    union = around + boxes[:, 2:].prod(1) - shared
    apart = np.maximum(np.abs(low - box_low), np.abs(high - box_high))
    wrong = (shared < INSIDE * around) | (shared < COVERED * union)
    for k in np.flatnonzero(wrong & (apart > POLYGON_SLACK * sheet.pixel).any(1)):
        message = f"the box and that of the polygon have an IoU of {shared[k] / union[k]:.2f}; correct the wrong one"
        yield Fault("box-polygon", (int(rows[k]),), message)


def _ring_areas(
    points: NDArray[np.float32], starts: NDArray[np.int64], low: NDArray[np.float32], lengths: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the area of each ring, (P,), by the shoelace formula from its corner `low`, where float32 is exact."""
    local = points.astype(np.float64) - np.repeat(low, lengths, axis=0)
    following = np.arange(1, len(points) + 1)
    following[starts + lengths - 1] = starts
    x, y = local.T
    cross = x * y[following] - y * x[following]
    return np.abs(np.add.reduceat(cross, starts)) / 2


def _has_inside(ring: NDArray[np.float32]) -> bool:
    """Return whether a polygon (M, 2), drawn at a thousand pixels, has some besides those of its outline."""
    low, extent = ring.min(0), float(np.ptp(ring, axis=0).max())
    if extent == 0:
        return False
    corners = np.rint((ring - low) / extent * 1000).astype(np.int32)
    canvas = np.zeros((1001, 1001), np.uint8)
    cv2.fillPoly(canvas, [corners], 1)
    cv2.polylines(canvas, [corners], True, 0)
    return bool(canvas.any())


def _distinct_points(points: NDArray[np.float32], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many different points each ring has, (P,)."""
    owner = np.repeat(np.arange(len(lengths)), lengths)
    order = np.lexsort((points[:, 1], points[:, 0], owner))
    points, owner = points[order], owner[order]
    new = np.concatenate(([True], (points[1:] != points[:-1]).any(1) | (owner[1:] != owner[:-1])))
    return np.bincount(owner[new], minlength=len(lengths))
