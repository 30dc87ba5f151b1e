"""Drawing labels into a picture: ignore regions, masks, boxes with names and identities, skeletons.

Colours are those of identities where there are any, else those of classes. Of a skeleton, left is green, right orange
and what is on neither side blue, as in MMPose. A visible keypoint is a full dot, a hidden one a ring, an absent one
is not drawn.

Shapes: H, W size of the drawn picture, K keypoints, M polygon vertices. Coordinates are pixels of the drawn picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from yolo_multitask.data.labels import Instance
from yolo_multitask.data.view.skeleton import Skeleton, skeleton
from yolo_multitask.data.view.tiles import Tile

Colour = tuple[int, int, int]

SIDES: dict[str, Colour] = {"left": (0, 255, 0), "right": (0, 128, 255), "middle": (255, 153, 51)}  # BGR
GREY, WHITE = (128, 128, 128), (255, 255, 255)
MASK_OPACITY = 0.35
_BITS = 4  # fraction bits of coordinates, so that thin lines do not jump between pixels


def draw_tile(tile: Tile, size: int, names: Mapping[int, str] | None = None) -> NDArray[np.uint8]:
    """Return the picture of a tile with its labels, uint8 (H, W, 3) BGR with the longer side `size` pixels.

    A file that cannot be read gives a grey picture that says so.

    Args:
        tile: What to draw.
        size: Longer side in pixels; small images are enlarged.
        names: Class names by index; the indices are drawn where None.
    """
    if tile.twin is not None:
        return _beside(
            draw_tile(replace(tile, twin=None), size // 2, names),
            draw_tile(Tile(tile.twin, None, tile.spec), size // 2),
        )
    image = _read(tile.image_path, size)
    if image is None:
        return _unreadable(size)
    if tile.labels is not None and len(tile.labels):
        draw_labels(image, tile, names)
    return image


def _beside(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return two pictures in one, on grey ground where one is less high."""
    out = np.full((max(len(left), len(right)), left.shape[1] + right.shape[1], 3), GREY, np.uint8)
    out[: len(left), : left.shape[1]] = left
    out[: len(right), left.shape[1] :] = right
    return out


def draw_labels(image: NDArray[np.uint8], tile: Tile, names: Mapping[int, str] | None = None) -> None:
    """Draw the labels of a tile into its picture, large objects first and highlighted ones last.

    Args:
        image: uint8 (H, W, 3) BGR, changed in place.
        tile: Its `labels` are drawn.
        names: Class names by index.
    """
    from ultralytics.utils.plotting import Annotator

    annotator = Annotator(image, line_width=max(round(max(image.shape[:2]) / 450), 1))
    annotator.sf, annotator.tf = max(max(image.shape[:2]) / 1600, 0.35), 1  # small text: boxes stand close
    instances = list(tile.labels or ())
    order = sorted(range(len(instances)), key=lambda i: (i in tile.highlight, -math.prod(instances[i].box[2:])))
    shown = [(i, instances[i]) for i in order]
    for _, instance in shown:
        if instance.ignore:
            _hatch(image, _outline(instance, image), annotator.lw)
    real = [(i in tile.highlight or not tile.highlight, instance) for i, instance in shown if not instance.ignore]
    _fill(image, [instance for strong, instance in real if strong])
    thin = annotator.lw
    for strong, instance in real:
        annotator.lw = thin + 1 if strong and tile.highlight else thin
        _draw_box(annotator, instance, _text(instance, names, tile) if strong else "")
    annotator.lw = thin
    for i, instance in shown:
        if instance.ignore and (i in tile.highlight or not tile.highlight):
            _name_ignored(annotator, instance, names)
    if tile.spec.kpt_shape is not None:
        joined = skeleton(tile.spec.kpt_shape[0], tile.kpt_names, annotator.skeleton)
        for _, instance in real:
            _draw_keypoints(image, instance, joined, with_hidden=tile.spec.kpt_shape[1] == 3)


def colour(instance: Instance) -> Colour:
    """Return the BGR colour of an instance: by identity, else by class."""
    from ultralytics.utils.plotting import colors

    b, g, r = colors(instance.id if instance.id >= 0 else instance.cls, True)
    return int(b), int(g), int(r)


def plain(text: str) -> str:
    """Return a text as OpenCV can draw it; other than ASCII becomes ``?``."""
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text)


def _read(path: Path, size: int) -> NDArray[np.uint8] | None:
    """Return an image with the longer side `size`, or None where it cannot be read."""
    from ultralytics.utils.patches import imread

    try:
        image = imread(path)
    except cv2.error:  # what OpenCV finds wrong with a damaged header
        return None
    if image is None:
        return None
    height, width = image.shape[:2]
    scale = size / max(height, width)
    target = max(round(width * scale), 1), max(round(height * scale), 1)
    resized = cv2.resize(image, target, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    return cv2.cvtColor(resized, cv2.COLOR_GRAY2BGR) if resized.ndim == 2 else resized


def _unreadable(size: int) -> NDArray[np.uint8]:
    """Return a grey picture that says that the image cannot be read."""
    image = np.full((size * 3 // 4, size, 3), GREY, np.uint8)
    cv2.putText(image, "image cannot be read", (8, size * 3 // 8), 0, size / 640, WHITE, 1, cv2.LINE_AA)
    return image


def _pixels(points: NDArray[np.float32], image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Scale normalised points (M, 2) to pixels of the picture."""
    return points * np.array(image.shape[1::-1], np.float32)


def _fixed(points: NDArray[np.float32]) -> NDArray[np.int32]:
    """Return pixel coordinates as OpenCV takes them with ``shift=_BITS``."""
    return np.round(points * (1 << _BITS)).astype(np.int32)


def _corners(instance: Instance, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return x1 y1, x2 y2 of the box, (2, 2)."""
    centre, half = instance.box[:2], instance.box[2:] / 2
    return _pixels(np.stack((centre - half, centre + half)), image)


def _outline(instance: Instance, image: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Return the polygon in whole pixels (M, 2), or the corners of the box where there is none."""
    if instance.polygon is not None:
        return _pixels(instance.polygon, image).round().astype(np.int32)
    (x1, y1), (x2, y2) = _corners(instance, image)
    return np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]]).round().astype(np.int32)


def _hatch(image: NDArray[np.uint8], outline: NDArray[np.int32], width: int) -> None:
    """Hatch the inside of an outline (M, 2) and dash its edge."""
    height, breadth = image.shape[:2]
    inside, edge = np.zeros((2, height, breadth), np.uint8)
    cv2.fillPoly(inside, [outline], 1)
    cv2.polylines(edge, [outline], True, 1)
    diagonal = np.add.outer(np.arange(height), np.arange(breadth)) // width
    stripes = ((inside > 0) & (diagonal % 8 == 0)) | ((edge > 0) & (diagonal % 8 < 5))
    shadow = ((inside > 0) & (diagonal % 8 == 1)) | ((edge > 0) & (diagonal % 8 >= 5))  # seen on bright ground too
    image[stripes] = WHITE
    image[shadow] = image[shadow] // 2


def _fill(image: NDArray[np.uint8], instances: list[Instance]) -> None:
    """Blend the polygons into the picture and draw their edges."""
    masks = [(_fixed(_pixels(i.polygon, image)), colour(i)) for i in instances if i.polygon is not None]
    filled = image.copy()
    for points, shade in masks:
        cv2.fillPoly(filled, [points], shade, cv2.LINE_AA, _BITS)
    cv2.addWeighted(filled, MASK_OPACITY, image, 1 - MASK_OPACITY, 0, dst=image)
    for points, shade in masks:
        cv2.polylines(image, [points], True, shade, 1, cv2.LINE_AA, _BITS)


def _draw_box(annotator: Any, instance: Instance, text: str) -> None:
    """Draw the box with its text."""
    annotator.box_label(_corners(instance, annotator.im).reshape(4), text, colour(instance))


def _text(instance: Instance, names: Mapping[int, str] | None, tile: Tile) -> str:
    """Return what stands beside a box: class (where there are several), ``#id``, confidence of a prediction."""
    parts = []
    if tile.spec.nc > 1:
        name = str((names or {}).get(instance.cls, instance.cls))
        parts.append(name if name.isascii() and name.isprintable() else f"class {instance.cls}")
    if instance.id >= 0:
        parts.append(f"#{instance.id}")
    if not math.isnan(instance.conf):
        parts.append(f"{instance.conf:.2f}")
    return " ".join(parts)


def _name_ignored(annotator: Any, instance: Instance, names: Mapping[int, str] | None) -> None:
    """Write into an ignore region what it is."""
    name = plain(str((names or {}).get(instance.cls, instance.cls)))
    x, y = _corners(instance, annotator.im)[0].round().astype(int).tolist()
    text = f"ignore {name}"
    wide, high = cv2.getTextSize(text, 0, annotator.sf, annotator.tf)[0]
    cv2.rectangle(annotator.im, (x, y), (x + wide + 4, y + high + 6), (0, 0, 0), -1)
    cv2.putText(annotator.im, text, (x + 2, y + high + 2), 0, annotator.sf, WHITE, annotator.tf, cv2.LINE_AA)


def _draw_keypoints(image: NDArray[np.uint8], instance: Instance, joined: Skeleton, with_hidden: bool) -> None:
    """Draw limbs, then points: full where visible, a ring where hidden.

    Args:
        image: uint8 (H, W, 3) BGR, changed in place.
        instance: Its keypoints, if any.
        joined: The skeleton.
        with_hidden: Whether visibility 1 means hidden: labels with three numbers a keypoint, not predictions.
    """
    if instance.keypoints is None:
        return
    points, seen = _pixels(instance.keypoints[:, :2], image), instance.keypoints[:, 2] > 0
    hidden = (instance.keypoints[:, 2] == 1) & with_hidden & math.isnan(instance.conf)
    extent = float(np.linalg.norm(instance.box[2:] * image.shape[1::-1]))
    radius = float(np.clip(extent / 60, 1.5, max(image.shape[:2]) / 160))
    for limb in joined.limbs:
        if seen[list(limb)].all():
            start, end = _fixed(points[list(limb)]).tolist()
            thickness = 1 if hidden[list(limb)].any() else max(round(radius), 1)
            cv2.line(image, start, end, SIDES[joined.limb_side(limb)], thickness, cv2.LINE_AA, _BITS)
    around = round(radius * (1 << _BITS))
    for k in np.flatnonzero(seen):
        shade, at = SIDES[joined.sides[k]], _fixed(points[k]).tolist()
        if hidden[k]:
            cv2.circle(image, at, around, WHITE, -1, cv2.LINE_AA, _BITS)
            cv2.circle(image, at, around, shade, 1, cv2.LINE_AA, _BITS)
        else:
            cv2.circle(image, at, around + (1 << _BITS), (0, 0, 0), 1, cv2.LINE_AA, _BITS)
            cv2.circle(image, at, around, shade, -1, cv2.LINE_AA, _BITS)
