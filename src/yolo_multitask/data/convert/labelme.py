"""LabelMe JSON files (version 4 and 5) to one multitask data set.

A file describes one image: ``{"shapes": [...], "imagePath", "imageData", "imageHeight", "imageWidth"}``. A shape has
``label``, ``points`` in pixels, ``shape_type``, ``group_id``, ``flags`` and, for masks, ``mask``: a PNG in base64 whose
first pixel is at the first point. Source: labelme's ``_label_file.py`` and ``_utils/shape.py``.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo_multitask.data.convert.dataset import Content, Picture, Target
from yolo_multitask.data.convert.images import check_size, image_size
from yolo_multitask.data.convert.objects import IGNORE_FLAGS, Shape, join, to_instance
from yolo_multitask.data.convert.report import ConvertReport, SplitReport
from yolo_multitask.data.convert.values import finite, texts

POINTS = {  # what each type of shape is drawn with
    "polygon": "3 or more points",
    "rectangle": "2 corners (or 4)",
    "circle": "its centre and a point of the circle",
    "oriented_rectangle": "4 corners",
    "rotation": "4 corners",  # the same in X-AnyLabeling
    "mask": "2 corners",
    "point": "1 point",
}


@dataclass(kw_only=True)
class Page:
    """One file: its objects in pixels, and what was counted while they were read."""

    file: Path
    name: str  # of the image in the data set
    image: Path | None  # None where the file itself holds the image or it is missing
    embedded: bool
    size: tuple[int, int] | None  # as the file says
    objects: list[Shape]
    dropped: Counter[str]
    notes: Counter[str]


def convert_labelme(
    src: str | Path,
    out: str | Path,
    *,
    split: str = "train",
    images: str | Path | None = None,
    keypoints: str | Sequence[str] | None = None,
    classes: str | Sequence[str] | None = None,
    background: bool = True,
    copy: bool = False,
    exist_ok: bool = False,
) -> ConvertReport:
    """Convert LabelMe JSON files to a multitask data set.

    Polygons, rectangles, circles and masks of one ``group_id`` with the same label are one object; without a group each
    is one. A point is a keypoint of the object of its group. Flags of a shape that are read: ``ignore`` and ``crowd``
    make it an ignore region, ``occluded`` a keypoint that is hidden (visibility 1).

    Args:
        src: A JSON file, or a folder of them (with its subfolders). Images without a JSON file are not taken.
        out: Folder of the data set.
        split: ``train``, ``val`` or ``test``.
        images: Folder with the images, where they are neither at their ``imagePath`` nor beside the file. Else the
            image in the file is used.
        keypoints: Names of the keypoints in order (a list, or one text with commas): the labels of points.
        classes: Labels to keep, in this order. By default all of boxes and outlines, sorted, or those of the data set
            that the split is added to.
        background: Keep images without objects.
        copy: Copy the images; by default they are hard links where possible, which take no space.
        exist_ok: Replace the split if it exists.

    Returns:
        The counts; print it for a table. An annotation is an object, or a shape that belongs to none.

    Raises:
        ValueError: A file is no LabelMe JSON (the message names file and shape), or an argument is wrong.
        FileNotFoundError: `src` or `images` does not exist.
    """
    target = Target.open(out, [split], exist_ok)
    kpt_names = texts(keypoints, True)
    if len(set(kpt_names)) < len(kpt_names):
        raise ValueError(f"keypoints: expected different names, found {', '.join(kpt_names)}")
    folder = None if images is None else Path(images).expanduser()
    if folder is not None and not folder.is_dir():
        raise FileNotFoundError(f"images={images}: expected a folder with images, found none there")
    root, files = _files(Path(src).expanduser())
    target.check_sources(files)
    pages = [_page(file, root, folder, kpt_names) for file in files]
    shapes = [shape for page in pages for shape in page.objects]
    names = target.class_names(sorted({s.label for s in shapes}), classes)
    kept = [s for s in shapes if s.label in names]
    with_keypoints = {names.index(s.label) for s in kept if s.keypoints is not None}
    if kpt_names and not with_keypoints and not target.existing:
        raise ValueError(
            f"keypoints={','.join(kpt_names)}: expected points with these labels and the group_id of an object, found "
            f"none in {src}; leave it out, or group the points with their object"
        )
    content = target.settle(
        Content(
            names=names,
            kpt_names={c: kpt_names for c in sorted(with_keypoints)},
            polygons=any(s.extents for s in kept),
        )
    )
    return target.write(
        content, {split: lambda report: _pictures(pages, content, report)}, background=background, copy=copy
    )


def _files(src: Path) -> tuple[Path, list[Path]]:
    """Return the folder that names are relative to, and the JSON files."""
    if src.is_file():
        return src.parent, [src]
    if not src.is_dir():
        raise FileNotFoundError(f"src={src}: expected a LabelMe JSON file or a folder of them, found none there")
    files = sorted(p for p in src.rglob("[!.]*.json") if p.is_file())
    if not files:
        raise ValueError(f"src={src}: expected LabelMe JSON files, found none in the folder")
    return src, files


def _page(file: Path, root: Path, folder: Path | None, kpt_names: Sequence[str]) -> Page:
    """Read one file and join its shapes to objects."""
    data = _read(file)
    path = PurePosixPath(str(data.get("imagePath") or "").replace("\\", "/"))
    given = [folder / path, folder / path.name] if folder else []
    places = [file.parent / path, *given, file.parent / path.name]
    image = next((p for p in places if path.name and p.is_file()), None)
    dropped: Counter[str] = Counter()
    notes: Counter[str] = Counter()
    shapes = []
    for i, row in enumerate(data["shapes"]):
        shape = _shape(row, f"{file}: shape {i}", dropped, notes)
        if shape is not None:
            shapes.append(shape)
    sides = [data.get(k) for k in ("imageWidth", "imageHeight")]
    width, height = (v if isinstance(v, int) and v > 0 else 0 for v in sides)
    name = path.name or f"{file.stem}.png"
    return Page(
        file=file,
        name=(PurePosixPath(file.parent.relative_to(root).as_posix()) / name).as_posix(),
        image=image,
        embedded=image is None and bool(data.get("imageData")),
        size=(width, height) if width and height else None,
        objects=join(shapes, kpt_names, dropped, notes),
        dropped=dropped,
        notes=notes,
    )


def _read(file: Path) -> dict[str, Any]:
    """Read one JSON file and check that it is LabelMe's."""
    try:
        data = json.loads(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file}: expected a LabelMe JSON file, found text that is not JSON: {error}") from error
    if not isinstance(data, dict) or not isinstance(data.get("shapes"), list):
        raise ValueError(f"{file}: expected a LabelMe JSON file with the list 'shapes', found none in it")
    return data


def _shape(row: Any, where: str, dropped: Counter[str], notes: Counter[str]) -> Shape | None:
    """Return one shape; None, with the reason counted, for types that are no part of an object.

    Raises:
        ValueError: The shape is malformed.
    """
    if not isinstance(row, dict) or not isinstance(row.get("label"), str):
        raise ValueError(f"{where}: expected a shape with a 'label', found {str(row)[:60]}")
    kind, group = row.get("shape_type") or "polygon", row.get("group_id")
    if kind not in POINTS:
        dropped[f"{kind}, no outline of an object"] += 1
        return None
    if not isinstance(group, Hashable):
        raise ValueError(f"{where}: expected a group_id that is a number or null, found {group!r}")
    points = _points(row.get("points"), kind, where)
    flags = row.get("flags") or {}
    on = {str(k).lower() for k, v in flags.items() if v is True} if isinstance(flags, dict) else set()
    shape = Shape(label=row["label"], where=where, group=group, ignore=bool(on & set(IGNORE_FLAGS)))
    if kind == "point":
        shape.point = (float(points[0, 0]), float(points[0, 1]), 1.0 if "occluded" in on else 2.0)
    elif kind == "polygon":
        shape.add_outline(points)
    elif kind == "circle":
        shape.add_ellipse(points[0], np.full(2, np.hypot(*(points[1] - points[0]))))
    elif kind == "mask":
        left, top = (round(v) for v in points[0].tolist())
        shape.add_mask(_mask(row.get("mask"), where), left, top)
        if not shape.drawn:
            dropped["empty mask"] += 1
            return None
    else:
        notes["rotated box, taken as the box around it"] += kind != "rectangle"
        shape.boxes.append(np.concatenate((points.min(0), points.max(0))))
    return shape


def _points(value: Any, kind: str, where: str) -> NDArray[np.float64]:
    """Return the points of a shape, (M, 2) in pixels, as many as its type has."""
    pairs = isinstance(value, list) and all(isinstance(p, (list, tuple)) and len(p) == 2 and finite(p) for p in value)
    count = len(value) if pairs else -1
    allowed = {"rectangle": (2, 4), "circle": (2,), "mask": (2,), "point": (1,)}
    if count < 3 if kind == "polygon" else count not in allowed.get(kind, (4,)):
        found = f"{count} points" if pairs else f"{str(value)[:60]}"
        raise ValueError(f"{where}: expected a {kind} with {POINTS[kind]} x y, found {found}")
    return np.array(value, np.float64).reshape(-1, 2)


def _mask(value: Any, where: str) -> NDArray[np.uint8]:
    """Return the mask of a shape, (H, W) above 0 inside."""
    import cv2

    raw = _decoded(value)
    mask = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_GRAYSCALE) if raw else None
    if mask is None:
        raise ValueError(f"{where}: expected a mask that is a PNG in base64, found {str(value)[:40]!r}")
    return np.asarray(mask, np.uint8)


def _decoded(value: Any) -> bytes:
    """Return the bytes of a base64 text, none where it is not one."""
    try:
        return base64.b64decode(value, validate=True)
    except (TypeError, ValueError, binascii.Error):
        return b""


def _pictures(pages: Sequence[Page], content: Content, report: SplitReport) -> Iterator[Picture]:
    """Yield the images with their labels; those that are missing are counted."""
    for page in pages:
        report.annotations += sum(page.dropped.values())
        report.dropped.update(page.dropped)
        report.notes.update(page.notes)
        if page.image is None and not page.embedded:
            report.images_missing += 1
            report.annotations += len(page.objects)
            report.dropped["image missing in the folder"] += len(page.objects)
            continue
        source, size = _source(page)
        found = [to_instance(shape, content.names, size, report) for shape in page.objects]
        name = page.name
        if isinstance(source, bytes):  # labelme embeds PNG and JPEG, whatever the file was
            name = str(PurePosixPath(name).with_suffix(".png" if source.startswith(b"\x89PNG") else ".jpg"))
        yield Picture(name=name, source=source, instances=[i for i in found if i is not None])


def _source(page: Page) -> tuple[Path | bytes, tuple[int, int]]:
    """Return the image of a page and its size in pixels."""
    if page.image is not None:
        if page.size is not None:
            check_size(page.image, page.size, os.fspath(page.file))
        return page.image, page.size or image_size(page.image)
    import cv2

    data: Mapping[str, Any] = _read(page.file)
    raw = _decoded(data.get("imageData"))
    image = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR) if raw else None
    if image is None:
        raise ValueError(f"{page.file}: expected an image in base64 in 'imageData', found none that can be read")
    return raw, (int(image.shape[1]), int(image.shape[0]))
