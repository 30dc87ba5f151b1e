"""COCO JSON files to one multitask data set: boxes, polygons and keypoints of an annotation on one line.

``instances_*.json`` and ``person_keypoints_*.json`` are joined by annotation id. A person without keypoints keeps box
and mask (keypoints ``-``, not labelled), a crowd becomes an ignore region. Format: https://cocodataset.org/#format-data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo_multitask.data.convert.coco_files import Source, make_content, read_sources
from yolo_multitask.data.convert.dataset import Content, Picture, Target
from yolo_multitask.data.convert.geometry import normalised_box, normalised_keypoints, normalised_polygon
from yolo_multitask.data.convert.images import image_size, same_shape
from yolo_multitask.data.convert.report import ConvertReport, SplitReport
from yolo_multitask.data.convert.rle import count_holes, decode_rle, mask_outlines
from yolo_multitask.data.convert.values import finite, shortened, texts
from yolo_multitask.data.labels import Instance, polygon_box


def convert_coco(
    *,
    instances: str | Path | Sequence[str | Path] | None = None,
    keypoints: str | Path | Sequence[str | Path] | None = None,
    images: str | Path | Sequence[str | Path],
    out: str | Path,
    split: str | Sequence[str] = "train",
    classes: str | Sequence[str | int] | None = None,
    background: bool = True,
    copy: bool = False,
    exist_ok: bool = False,
) -> ConvertReport:
    """Convert COCO JSON files and their images to a multitask data set.

    Writes ``out/images/<split>``, ``out/labels/<split>`` and ``out/data.yaml``, whole or not at all. A second call with
    another split adds that split to the same data set; or give lists of equal length for several splits at once.

    Args:
        instances: ``instances_*.json``; may be left out when `keypoints` is given.
        keypoints: ``person_keypoints_*.json``; may be left out when `instances` is given.
        images: Folder with the images of the split. Images that are not there are counted and left out.
        out: Folder of the data set.
        split: ``train``, ``val`` or ``test``.
        classes: Names or category ids to keep (a list, or one text with commas); all by default. Classes are numbered
            in the order of their category ids.
        background: Keep images without any line as background; False leaves them out.
        copy: Copy the images; by default they are hard links where possible, which take no space.
        exist_ok: Replace splits that exist.

    Returns:
        The counts by split; print it for a table.

    Raises:
        ValueError: A file is not COCO JSON, files do not belong together, a class is unknown, or a split exists.
        FileNotFoundError: A JSON file or the image folder does not exist.
    """
    return convert_json(
        instances=instances,
        keypoints=keypoints,
        images=images,
        out=out,
        split=split,
        classes=classes,
        background=background,
        copy=copy,
        exist_ok=exist_ok,
        keys={},
    )


def convert_json(
    *,
    instances: str | Path | Sequence[str | Path] | None,
    keypoints: str | Path | Sequence[str | Path] | None,
    images: str | Path | Sequence[str | Path],
    out: str | Path,
    split: str | Sequence[str],
    classes: str | Sequence[str | int] | None,
    background: bool,
    copy: bool,
    exist_ok: bool,
    keys: Mapping[str, Any],
) -> ConvertReport:
    """Do what `convert_coco` does; `keys` of the data YAML take the place of those it would write."""
    target = Target.open(out, texts(split, True), exist_ok)
    sources = read_sources(target.splits, texts(images), texts(instances), texts(keypoints))
    target.check_sources([file for source in sources for file in source.files.values()])
    content = make_content(sources, None if classes is None else texts(classes, True))
    _check_existing(target, content)
    content = target.settle(content)
    files = {s.split: {kind: _path_from(target.out, file) for kind, file in s.files.items()} for s in sources}
    annotations = dict(target.existing.get("annotations") or {}) | files
    content = replace(content, keys={**content.keys, "annotations": annotations, **keys})
    pictures = {source.split: partial(_pictures, source, content) for source in sources}
    return target.write(content, pictures, background=background, copy=copy)


def _check_existing(target: Target, content: Content) -> None:
    """Refuse to add a split to a data set with other classes, or other category ids."""
    found = (target.names, target.existing.get("coco_categories"))
    if target.existing and found != (content.names, content.keys["coco_categories"]):
        raise ValueError(
            f"out has a data set with the classes {shortened(target.names)}, this split has "
            f"{shortened(content.names)}; give the same classes= or another out="
        )


def _path_from(out: Path, file: Path) -> str:
    """Return a path relative to the data set where it lies in it, else absolute."""
    root, path = out.resolve(), file.resolve()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _pictures(source: Source, content: Content, report: SplitReport) -> Iterator[Picture]:
    """Yield the images of a split with their labels; those that are missing are counted."""
    class_of = {category: i for i, category in enumerate(content.keys["coco_categories"])}
    report.annotations = sum(map(len, source.annotations.values()))
    report.dropped["image not in the JSON"] = sum(
        len(rows) for image_id, rows in source.annotations.items() if image_id not in source.images
    )
    present = {p.relative_to(source.folder).as_posix() for p in source.folder.rglob("*") if p.is_file()}
    for image_id, image in source.images.items():
        rows = source.annotations.get(image_id, [])
        name = _image_name(str(image["file_name"]), present)
        if name is None:
            report.images_missing += 1
            report.dropped["image missing in the folder"] += len(rows)
            continue
        if not same_shape(image_size(source.folder / name), (image["width"], image["height"])):
            report.images_unfit += 1
            report.dropped["image of another shape than annotated"] += len(rows)
            continue
        found = []
        for row in rows:
            if row["category_id"] in class_of:
                found.append(_instance(row, class_of[row["category_id"]], image, content, report))
            else:
                known = row["category_id"] in source.categories
                report.dropped["class not chosen" if known else "class not in the categories"] += 1
        yield Picture(name=name, source=source.folder / name, instances=[i for i in found if i is not None])
    if report.images_missing == len(source.images):
        example = next((str(i["file_name"]) for i in source.images.values()), "no image at all")
        raise ValueError(
            f"images={source.folder}: expected the images of {source.split}, found none of {len(source.images)} (the "
            f"first is {example})"
        )


def _image_name(file_name: str, present: set[str]) -> str | None:
    """Return the image's path below the folder: as in the JSON, else its bare name; None when it is not there."""
    name = PurePosixPath(file_name.replace("\\", "/"))
    return next((n for n in (name.as_posix(), name.name) if n in present), None)


def _instance(
    row: Mapping[str, Any], cls: int, image: Mapping[str, Any], content: Content, report: SplitReport
) -> Instance | None:
    """Convert one annotation; None, with the reason counted, where it gives no line."""
    size = np.array([image["width"], image["height"]], np.float64)
    polygon = _polygon(row.get("segmentation"), image, report) if content.polygons else None
    box, reason = _box(row.get("bbox"), size, polygon)
    if box is None:
        report.dropped[reason] += 1
        return None
    crowd = bool(row.get("iscrowd"))
    keypoints = None
    if cls in content.kpt_names and not crowd:
        keypoints = _keypoints(row, size, content.count, report)
    return Instance(cls=cls, box=box, keypoints=keypoints, polygon=polygon, ignore=crowd)


def _box(
    bbox: Any, size: NDArray[np.float64], polygon: NDArray[np.float32] | None
) -> tuple[NDArray[np.float32] | None, str]:
    """Return the box clipped into the image as normalised cx cy w h, or None and the reason."""
    if not (isinstance(bbox, (list, tuple)) and len(bbox) == 4 and finite(bbox)):
        if polygon is None:
            return None, "no box and no polygon"
        box = polygon_box(polygon)
        return (box, "") if (box[2:] > 0).all() else (None, "box of zero area")
    corner, extent = np.array(bbox[:2], np.float64), np.array(bbox[2:], np.float64)
    return normalised_box(corner, corner + extent, size)


def _polygon(segmentation: Any, image: Mapping[str, Any], report: SplitReport) -> NDArray[np.float32] | None:
    """Return one normalised polygon for a list of polygons or an RLE mask; None, and a note, where there is none."""
    if not segmentation:
        return None
    parts: list[NDArray[np.float64]] = []
    if isinstance(segmentation, Mapping):
        try:
            mask = decode_rle(segmentation, int(image["height"]), int(image["width"]))
            parts = mask_outlines(mask)
            report.notes["hole in a mask, filled"] += count_holes(mask)
        except ValueError:
            parts = []
    elif isinstance(segmentation, list):
        for part in segmentation:
            if isinstance(part, list) and len(part) >= 6 and len(part) % 2 == 0 and finite(part):
                parts.append(np.array(part, np.float64).reshape(-1, 2))
        report.notes["part of a mask that is no polygon, left out"] += len(segmentation) - len(parts) if parts else 0
    return normalised_polygon(parts, (image["width"], image["height"]), report)


def _keypoints(
    row: Mapping[str, Any], size: NDArray[np.float64], count: int, report: SplitReport
) -> NDArray[np.float32] | None:
    """Return (K, 3) normalised keypoints, or None when the annotation labels none."""
    values = row.get("keypoints")
    if not values or row.get("num_keypoints") == 0:
        return None
    if not isinstance(values, list) or len(values) != 3 * count or not finite(values):
        report.notes["keypoints malformed, written as not labelled"] += 1
        return None
    points = np.array(values, np.float64).reshape(count, 3)
    odd = (points[:, 2] < 0) | (points[:, 2] > 2)
    report.notes["visibility outside of 0..2, written as the nearest of them"] += int(odd.sum())
    points[:, 2] = points[:, 2].clip(0, 2)
    return normalised_keypoints(points, size, report)
