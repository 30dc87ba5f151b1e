"""Annotated shapes in pixels, joined to objects by their group, and objects as label lines.

Annotation tools draw the parts of an object one by one: a box, outlines, keypoints. Shapes of one group with the same
label are one object; keypoints belong to the object of their group.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from yolo_multitask.data.convert.geometry import normalised_box, normalised_keypoints, normalised_polygon
from yolo_multitask.data.convert.report import SplitReport
from yolo_multitask.data.convert.rle import count_holes, mask_outlines
from yolo_multitask.data.labels import Instance

IGNORE_FLAGS = ("ignore", "crowd", "iscrowd", "is_crowd")  # a shape with one of these set is an ignore region
CIRCLE_POINTS = 64  # of the polygon in place of a circle or ellipse


@dataclass(kw_only=True)
class Shape:
    """One thing that an annotator drew; after `join`, an object. Coordinates are in pixels.

    Attributes:
        label: Its class, or the name of a keypoint.
        where: File and element, for messages.
        group: Shapes of one group belong together; None for none.
        boxes: Corners x1 y1 x2 y2 of boxes that were drawn.
        parts: Outlines, (M, 2) each.
        extents: Corners of what the outlines enclose.
        holes: Number of holes that the outlines leave out.
        keypoints: (K, 3) x y and visibility 0, 1 or 2.
        point: One keypoint x y and visibility, whose name is the label.
        id: Identity, -1 for none.
        ignore: True for an ignore region.
    """

    label: str
    where: str
    group: Hashable = None
    boxes: list[NDArray[np.float64]] = field(default_factory=list)
    parts: list[NDArray[np.float64]] = field(default_factory=list)
    extents: list[NDArray[np.float64]] = field(default_factory=list)
    holes: int = 0
    keypoints: NDArray[np.float64] | None = None
    point: tuple[float, float, float] | None = None
    id: int = -1
    ignore: bool = False

    def add_outline(self, points: NDArray[np.float64]) -> None:
        """Add a polygon (M, 2)."""
        self.parts.append(points)
        self.extents.append(np.concatenate((points.min(0), points.max(0))))

    def add_ellipse(self, centre: NDArray[np.float64], radii: NDArray[np.float64], degrees: float = 0.0) -> None:
        """Add an ellipse as a polygon; `degrees` turn it clockwise on the screen."""
        angles = np.arange(CIRCLE_POINTS) * (2 * np.pi / CIRCLE_POINTS)
        self.add_outline(turned(centre + radii * np.stack((np.cos(angles), np.sin(angles)), 1), centre, degrees))

    def add_mask(self, mask: NDArray[np.uint8], left: int, top: int) -> None:
        """Add a mask (H, W) whose first pixel is at `left`, `top`; an empty one adds nothing."""
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if len(rows):
            offset = np.array([left, top], np.float64)
            self.parts += [part + offset for part in mask_outlines(mask)]
            corners = [left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1]
            self.extents.append(np.array(corners, np.float64))
            self.holes += count_holes(mask)

    @property
    def drawn(self) -> bool:
        """Whether it is a box or an outline."""
        return bool(self.boxes or self.extents)


def turned(points: NDArray[np.float64], centre: NDArray[np.float64], degrees: float) -> NDArray[np.float64]:
    """Return points (M, 2) turned about a centre, clockwise on the screen."""
    angle = np.deg2rad(degrees)
    cos, sin = np.cos(angle), np.sin(angle)
    return (points - centre) @ np.array([[cos, sin], [-sin, cos]]) + centre


def corners(box: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the corners (4, 2) of a box x1 y1 x2 y2."""
    return box[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2)


def join(shapes: Sequence[Shape], kpt_names: Sequence[str], dropped: Counter[str], notes: Counter[str]) -> list[Shape]:
    """Join the shapes of one image to objects.

    Boxes and outlines of one group with the same label are one object. Sets of keypoints and single keypoints go to
    the object of their group. A set of keypoints without one is an object itself.

    Args:
        shapes: What was drawn.
        kpt_names: Names of the keypoints in order, for single keypoints.
        dropped: Takes what cannot be an object nor belong to one, by reason.
        notes: Takes the number of shapes that were joined.

    Raises:
        ValueError: An object has a keypoint twice.
    """
    objects: dict[Hashable, Shape] = {}
    for i, shape in enumerate(shapes):
        if shape.drawn:
            key = ("alone", i) if shape.group is None else (shape.label, shape.group)
            first = objects.setdefault(key, shape)
            if first is not shape:
                _unite(first, shape)
                notes["shape joined with others of its group"] += 1
    found = list(objects.values())
    owners: dict[Hashable, list[Shape]] = defaultdict(list)
    for shape in found:
        if shape.group is not None:
            owners[shape.group].append(shape)
    for shape in shapes:
        group = owners.get(shape.group, []) if shape.group is not None else []
        if shape.keypoints is not None and not shape.drawn:
            if len(group) == 1 and group[0].keypoints is None:
                group[0].keypoints = shape.keypoints
                group[0].ignore |= shape.ignore
                group[0].id = _first_id(group[0].id, shape.id)
                notes["shape joined with others of its group"] += 1
            else:
                found.append(shape)
        elif shape.point is not None:
            _add_point(shape, group, kpt_names, dropped)
    return found


def to_instance(shape: Shape, names: Sequence[str], size: Sequence[float], report: SplitReport) -> Instance | None:
    """Return an object as a label line; None, with the reason counted, where it gives none.

    Args:
        shape: The object. Its box is the one that was drawn, else that of its outline, else that of its keypoints.
        names: Class names in order.
        size: Width and height of the image in pixels.
        report: Takes the counts.
    """
    report.annotations += 1
    if shape.label not in names:
        report.dropped["class not chosen"] += 1
        return None
    boxes = shape.boxes or shape.extents
    if not boxes:
        assert shape.keypoints is not None
        seen = shape.keypoints[shape.keypoints[:, 2] > 0, :2]
        if not len(seen):
            report.dropped["no box, no outline and no visible keypoint"] += 1
            return None
        boxes = [np.concatenate((seen.min(0), seen.max(0)))]
    all_boxes = np.stack(boxes)
    box, reason = normalised_box(all_boxes[:, :2].min(0), all_boxes[:, 2:].max(0), size)
    if box is None:
        report.dropped[reason] += 1
        return None
    if not shape.drawn:
        report.notes["box taken around the keypoints"] += 1
    report.notes["hole in a mask, filled"] += shape.holes
    polygon = normalised_polygon(shape.parts, size, report) if shape.extents else None
    keypoints = None
    if shape.keypoints is not None and not shape.ignore:
        keypoints = normalised_keypoints(shape.keypoints, size, report)
    return Instance(
        cls=list(names).index(shape.label),
        box=box,
        keypoints=keypoints,
        polygon=polygon,
        id=-1 if shape.ignore else shape.id,
        ignore=shape.ignore,
    )


def _unite(first: Shape, other: Shape) -> None:
    """Add the parts of a shape to another one of its object."""
    first.boxes += other.boxes
    first.parts += other.parts
    first.extents += other.extents
    first.holes += other.holes
    first.ignore |= other.ignore
    first.id = _first_id(first.id, other.id)


def _first_id(a: int, b: int) -> int:
    """Return the smaller of two identities, -1 where both are unknown."""
    return min((i for i in (a, b) if i >= 0), default=-1)


def _add_point(shape: Shape, owners: Sequence[Shape], kpt_names: Sequence[str], dropped: Counter[str]) -> None:
    """Give a keypoint to the object of its group, or count why there is none."""
    if shape.label not in kpt_names:
        dropped["point that keypoints= does not name"] += 1
    elif shape.group is None:
        dropped["keypoint without a group"] += 1
    elif len(owners) != 1:
        dropped[f"keypoint of a group with {'several objects' if owners else 'no box or outline'}"] += 1
    else:
        owner, index = owners[0], list(kpt_names).index(shape.label)
        if owner.keypoints is None:
            owner.keypoints = np.zeros((len(kpt_names), 3))
        if owner.keypoints[index, 2] > 0:
            raise ValueError(f"{shape.where}: expected each keypoint once in a group, found {shape.label!r} again")
        owner.keypoints[index] = shape.point
