"""Reading CVAT's XML 1.1: the labels of a task, and its images or tracks.

Source: CVAT's page "XML annotation format" and its ``dataset_manager/formats/cvat.py``. Coordinates are in pixels.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from yolo_multitask.data.convert.objects import IGNORE_FLAGS, Shape, corners, turned

OUTLINES = ("box", "polygon", "mask", "ellipse")  # each is an object, or a part of one with the same label
DRAWN = (*OUTLINES, "points", "skeleton")
NO_OBJECT = ("polyline", "cuboid", "tag")  # neither an object nor a part of one


@dataclass(kw_only=True)
class Document:
    """One XML file.

    Attributes:
        file: The file.
        labels: Names of the labels in order, without those of skeleton points.
        skeletons: Names of the points of each skeleton in order, by its label.
        images: Its ``<image>`` elements.
        tracks: Its ``<track>`` elements.
        frames: Numbers of the frames of the task, None where the file does not say.
        size: Width and height of the frames of a video, None where the file does not say.
        source: Name of the video, empty where the file does not say.
        subset: Subset of the video in its project, empty for none.
    """

    file: Path
    labels: list[str]
    skeletons: dict[str, list[str]]
    images: list[ElementTree.Element]
    tracks: list[ElementTree.Element]
    frames: range | None
    size: tuple[int, int] | None
    source: str
    subset: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """What one element draws.

    Attributes:
        kind: One of `DRAWN`.
        points: (N, 2) x y: corners of a box, centre and radii of an ellipse, vertices, or the upper left of a mask.
        visible: (N,) visibility 0, 1 or 2 of ``points`` and ``skeleton``.
        rotation: Degrees, clockwise.
        mask: (H, W) of a mask.
    """

    kind: str
    points: NDArray[np.float64]
    visible: NDArray[np.float64]
    rotation: float = 0.0
    mask: NDArray[np.uint8] | None = None


def read_document(file: Path) -> Document:
    """Read one file.

    Raises:
        ValueError: It is not CVAT's XML.
    """
    try:
        root = ElementTree.parse(file).getroot()
    except ElementTree.ParseError as error:
        raise ValueError(f"{file}: expected CVAT's XML 1.1, found text that is not XML: {error}") from error
    images, tracks = root.findall("image"), root.findall("track")
    if root.tag != "annotations" or not (images or tracks):
        raise ValueError(
            f"{file}: expected CVAT's XML 1.1, <annotations> with <image> or <track> elements, found <{root.tag}> "
            "without them"
        )
    if images and tracks:
        raise ValueError(f"{file}: expected <image> or <track> elements, found both; export the task again")
    tasks = {t.get("task_id") for t in tracks}
    if len(tasks) > 1:
        raise ValueError(f"{file}: expected the tracks of one video, found those of several tasks; export each alone")
    labels: list[str] = []
    skeletons: dict[str, list[str]] = {}
    for label in root.iterfind(".//labels/label"):
        name, parent = label.findtext("name") or "", label.findtext("parent")
        if not name:
            raise ValueError(f"{file}: expected a <name> in each <label> of <meta>, found none")
        own = skeletons.setdefault(parent, []) if parent else labels
        if name not in own:
            own.append(name)
    meta = _meta(root, next(iter(tasks), None))
    size = meta.find(".//original_size")
    return Document(
        file=file,
        labels=labels,
        skeletons=skeletons,
        images=images,
        tracks=tracks,
        frames=_frames(meta, file),
        size=None if size is None else (_integer(size, "width", file), _integer(size, "height", file)),
        source=meta.findtext(".//source") or "",
        subset=tracks[0].get("subset") or "" if tracks else "",
    )


def parse(element: ElementTree.Element, kpt_names: Sequence[str], where: str) -> Drawn:
    """Return what an element of `DRAWN` draws.

    Args:
        element: The element.
        kpt_names: Names of the points of a skeleton in order.
        where: File and element, for messages.

    Raises:
        ValueError: An attribute is missing or malformed.
    """
    kind = element.tag
    rotation = _number(element, "rotation", where) if "rotation" in element.attrib else 0.0
    hidden = 1.0 if element.get("occluded") == "1" else 2.0
    if kind in ("box", "ellipse"):
        names = ("xtl", "ytl", "xbr", "ybr") if kind == "box" else ("cx", "cy", "rx", "ry")
        values = np.array([_number(element, n, where) for n in names]).reshape(2, 2)
        return Drawn(kind=kind, points=values, visible=np.zeros(2), rotation=rotation)
    if kind == "mask":
        return _mask(element, where)
    if kind == "skeleton":
        return _skeleton(element, kpt_names, where)
    points = _points(element, where)
    if kind == "polygon" and len(points) < 3:
        raise ValueError(f"{where}: expected a polygon of 3 or more points, found {len(points)}")
    return Drawn(kind=kind, points=points, visible=np.full(len(points), hidden))


def to_shape(
    drawn: Drawn,
    shape: Shape,
    kpt_names: Sequence[str],
    dropped: Counter[str],
    notes: Counter[str],
) -> Shape | None:
    """Put what was drawn into a shape; None, with the reason counted, for points that are no keypoints.

    Args:
        drawn: What an element draws.
        shape: Its label, group and identity, without coordinates.
        kpt_names: Names of the keypoints in order, for points outside of a skeleton.
        dropped: Takes the reason.
        notes: Takes the number of rotated boxes.
    """
    points = drawn.points
    if drawn.kind == "box":
        box = np.concatenate((points.min(0), points.max(0)))
        if drawn.rotation % 180:
            notes["rotated box, taken as the box around it"] += 1
            around = turned(corners(box), points.mean(0), drawn.rotation)
            box = np.concatenate((around.min(0), around.max(0)))
        shape.boxes.append(box)
    elif drawn.kind == "ellipse":
        shape.add_ellipse(points[0], points[1], drawn.rotation)
    elif drawn.kind == "polygon":
        shape.add_outline(points)
    elif drawn.mask is not None:
        shape.add_mask(drawn.mask, *(int(v) for v in points[0]))
        if not shape.drawn:
            dropped["empty mask"] += 1
            return None
    elif drawn.kind == "skeleton" or (kpt_names and len(points) == len(kpt_names)):
        shape.keypoints = np.column_stack((np.nan_to_num(points), drawn.visible))
    elif len(points) == 1:
        shape.point = (float(points[0, 0]), float(points[0, 1]), float(drawn.visible[0]))
    else:
        dropped["points outside of a skeleton that are not as many as keypoints= names"] += 1
        return None
    return shape


def is_ignored(element: ElementTree.Element) -> bool:
    """Return whether an attribute that the annotator set makes the element an ignore region."""
    return any(
        (a.get("name") or "").lower() in IGNORE_FLAGS and (a.text or "").strip().lower() in ("true", "1")
        for a in element.findall("attribute")
    )


def group_of(element: ElementTree.Element) -> str | None:
    """Return the group of an element, None for none."""
    group = element.get("group_id", "0")
    return None if group == "0" else group


def _meta(root: ElementTree.Element, task: str | None) -> ElementTree.Element:
    """Return what a file says of its task; a project says it of each, and its tracks have the number of theirs."""
    meta = root.find("meta")
    meta = ElementTree.Element("meta") if meta is None else meta
    return next((t for t in meta.iterfind(".//tasks/task") if task is not None and t.findtext("id") == task), meta)


def _frames(meta: ElementTree.Element, file: Path) -> range | None:
    """Return the frame numbers of a video task: from start_frame to stop_frame, every n-th for the filter step=n."""
    stop, size, filtered = meta.find(".//stop_frame"), meta.find(".//size"), meta.findtext(".//frame_filter") or ""
    start = _text_integer(meta.findtext(".//start_frame") or "0", "start_frame", file)
    step = _text_integer(filtered.partition("step=")[2] or "1", "frame_filter", file)
    if stop is not None:
        return range(start, _text_integer(stop.text, "stop_frame", file) + 1, max(step, 1))
    if size is not None:
        return range(start, start + _text_integer(size.text, "size", file) * max(step, 1), max(step, 1))
    return None


def _skeleton(element: ElementTree.Element, kpt_names: Sequence[str], where: str) -> Drawn:
    """Return the points of a skeleton in order; those that it lacks or that are outside have visibility 0."""
    points, visible = np.full((len(kpt_names), 2), np.nan), np.zeros(len(kpt_names))
    seen: set[str] = set()
    for child in element.findall("points"):
        name = child.get("label") or ""
        if name not in kpt_names or name in seen:
            problem = " again" if name in seen else f"; there are: {', '.join(kpt_names) or 'none'}"
            raise ValueError(f"{where}: expected each point of the skeleton once, found {name!r}{problem}")
        seen.add(name)
        index = list(kpt_names).index(name)
        place = _points(child, f"{where}, point {name!r}")
        if len(place) != 1:
            raise ValueError(f"{where}, point {name!r}: expected one x,y, found {len(place)}")
        points[index] = place[0]
        if child.get("outside") != "1":
            visible[index] = 1.0 if child.get("occluded") == "1" else 2.0
    return Drawn(kind="skeleton", points=points, visible=visible)


def _mask(element: ElementTree.Element, where: str) -> Drawn:
    """Return a mask: runs of background and object in turn, row by row in a rectangle."""
    left, top, width, height = (int(_number(element, n, where)) for n in ("left", "top", "width", "height"))
    text = element.get("rle", "")
    runs = [int(r) for r in text.split(",")] if text.replace(",", "").replace(" ", "").isdecimal() else []
    if sum(runs) != width * height or min(width, height) < 1:
        raise ValueError(
            f"{where}: expected an rle of runs that add up to {width}x{height}={width * height} pixels, found "
            f"{sum(runs)} in {text[:40]!r}"
        )
    values = np.zeros(len(runs), np.uint8)
    values[1::2] = 1
    mask = np.repeat(values, runs).reshape(height, width)
    return Drawn(kind="mask", points=np.array([[left, top]], np.float64), visible=np.zeros(1), mask=mask)


def _points(element: ElementTree.Element, where: str) -> NDArray[np.float64]:
    """Return the attribute ``points`` (``x,y;x,y``) as (N, 2)."""
    text = element.get("points", "")
    try:
        values = [[float(v) for v in pair.split(",")] for pair in text.split(";")]
        good = all(len(pair) == 2 and math.isfinite(sum(pair)) for pair in values)
    except ValueError:
        good = False
    if not good:
        raise ValueError(f'{where}: expected points="x,y;x,y;...", found {text[:60]!r}')
    return np.array(values, np.float64)


def _number(element: ElementTree.Element, name: str, where: str) -> float:
    """Return an attribute as a finite number."""
    text = element.get(name)
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{where}: expected a number in {name}=, found {text!r}")
    return value


def _integer(parent: ElementTree.Element, name: str, file: Path) -> int:
    """Return the text of a child as an integer."""
    return _text_integer(parent.findtext(name), name, file)


def _text_integer(text: str | None, name: str, file: Path) -> int:
    """Return the text of an element of <meta> as an integer."""
    if not (text or "").strip().isdecimal():
        raise ValueError(f"{file}: expected a number in <{name}> of <meta>, found {text!r}")
    return int(text or "")


def keypoint_names(
    skeletons: Mapping[str, Sequence[str]], keypoints: Sequence[str], file: Path
) -> dict[str, list[str]]:
    """Return the names of the points of each skeleton, in the order of `keypoints` where that is given.

    Raises:
        ValueError: Skeletons differ in their number of points, or `keypoints` names others.
    """
    counts = {label: len(names) for label, names in skeletons.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{label}: {count}" for label, count in counts.items())
        raise ValueError(f"{file}: expected skeletons with the same number of points, found {listed}")
    for label, names in skeletons.items():
        if keypoints and sorted(names) != sorted(keypoints):
            raise ValueError(
                f"keypoints={','.join(keypoints)}: expected the points of the skeleton {label!r}, {', '.join(names)}, "
                "in any order; leave it out to take theirs"
            )
    return {label: list(keypoints or names) for label, names in skeletons.items()}
