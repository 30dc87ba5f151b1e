"""COCO JSON files to one multitask data set: boxes, polygons and keypoints of an annotation on one line.

``instances_*.json`` and ``person_keypoints_*.json`` are joined by annotation id. A person without keypoints keeps box
and mask (keypoints ``-``, not labelled), a crowd becomes an ignore region. Format: https://cocodataset.org/#format-data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo_multitask.data.convert.coco_files import Scheme, Source, finite, make_scheme, read_sources, texts
from yolo_multitask.data.convert.geometry import normalised_box, normalised_keypoints, normalised_polygon
from yolo_multitask.data.convert.output import (
    SPLITS,
    check_free,
    data_yaml_text,
    install,
    place_image,
    read_data_yaml,
    staged,
)
from yolo_multitask.data.convert.report import ConvertReport, SplitReport, count_labels
from yolo_multitask.data.convert.rle import decode_rle, mask_outlines
from yolo_multitask.data.labels import Instance, Labels, polygon_box, write_labels


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
    target = Path(out).expanduser()
    splits = texts(split, True)
    check_free(target, splits, exist_ok)
    sources = read_sources(splits, texts(images), texts(instances), texts(keypoints))
    existing = read_data_yaml(target)
    if {s for s in SPLITS if existing.get(s)} <= set(splits):
        existing = {}  # every split is replaced
    scheme = make_scheme(sources, None if classes is None else texts(classes, True), existing)
    reports = {}
    with staged(target) as stage:
        for source in sources:
            reports[source.split] = _convert_split(source, scheme, stage, background, copy)
        data = {**_merged_yaml(existing, scheme, sources, target), **keys}
        (stage / "data.yaml").write_text(data_yaml_text(data), encoding="utf-8")
        install(stage, target, [s.split for s in sources])
    return ConvertReport(out=target, yaml=target / "data.yaml", names=scheme.names, splits=reports)


def _merged_yaml(existing: Mapping[str, Any], scheme: Scheme, sources: Sequence[Source], out: Path) -> dict[str, Any]:
    """Return the data YAML: what `out` has, and the new splits. The host requires `train` and `val` to be there."""
    paths = {"train": None, "val": None} | {s: existing[s] for s in SPLITS if s in existing}
    annotations = dict(existing.get("annotations") or {})
    for source in sources:
        paths[source.split] = f"images/{source.split}"
        annotations[source.split] = {kind: _path_from(out, file) for kind, file in source.files.items()}
    data = {**paths, **scheme.data_yaml(), "annotations": annotations}
    return data | {k: v for k, v in existing.items() if k not in data}  # keys that the user added


def _path_from(out: Path, file: Path) -> str:
    """Return a path relative to the data set where it lies in it, else absolute."""
    root, path = out.resolve(), file.resolve()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _convert_split(source: Source, scheme: Scheme, stage: Path, background: bool, copy: bool) -> SplitReport:
    """Write images and labels of one split into the stage."""
    from ultralytics.utils import TQDM

    report = SplitReport()
    class_of = {category: i for i, category in enumerate(scheme.categories)}
    report.annotations = sum(map(len, source.annotations.values()))
    report.dropped["image not in the JSON"] = sum(
        len(rows) for image_id, rows in source.annotations.items() if image_id not in source.images
    )
    present = {p.relative_to(source.folder).as_posix() for p in source.folder.rglob("*") if p.is_file()}
    written: set[str] = set()
    for image_id, image in TQDM(source.images.items(), desc=f"Converting {source.split}", total=len(source.images)):
        rows = source.annotations.get(image_id, [])
        name = _image_name(str(image["file_name"]), present)
        if name is None:
            report.images_missing += 1
            report.dropped["image missing in the folder"] += len(rows)
            continue
        label = str(PurePosixPath(name).with_suffix(".txt"))
        if label in written:
            raise ValueError(f"images: expected file names that differ before the suffix, found {name} again")
        written.add(label)
        found = [_instance(row, image, scheme, class_of, report) for row in rows]
        labels = Labels.from_instances([i for i in found if i is not None], scheme.spec)
        if not len(labels) and not background:
            report.images_skipped += 1
            continue
        count_labels(report, labels)
        place_image(source.folder / name, stage / "images" / source.split / name, copy)
        write_labels(stage / "labels" / source.split / label, labels, scheme.spec)
    if not report.images:
        example = next((str(i["file_name"]) for i in source.images.values()), "no image at all")
        raise ValueError(
            f"images={source.folder}: expected the images of {source.split}, found none of {len(source.images)} "
            f"with something to write (the first is {example})"
        )
    report.dropped = +report.dropped  # without the reasons that did not occur
    return report


def _image_name(file_name: str, present: set[str]) -> str | None:
    """Return the image's path below the folder: as in the JSON, else its bare name; None when it is not there."""
    name = PurePosixPath(file_name.replace("\\", "/"))
    return next((n for n in (name.as_posix(), name.name) if n in present), None)


def _instance(
    row: Mapping[str, Any],
    image: Mapping[str, Any],
    scheme: Scheme,
    class_of: Mapping[int, int],
    report: SplitReport,
) -> Instance | None:
    """Convert one annotation; None, with the reason counted, where it gives no line."""
    cls = class_of.get(row["category_id"])
    if cls is None:
        report.dropped["class not chosen"] += 1
        return None
    size = np.array([image["width"], image["height"]], np.float64)
    polygon = _polygon(row.get("segmentation"), image, report) if scheme.spec.polygons else None
    box, reason = _box(row.get("bbox"), size, polygon)
    if box is None:
        report.dropped[reason] += 1
        return None
    crowd = bool(row.get("iscrowd"))
    keypoints = None
    if cls in scheme.kpt_names and not crowd:
        keypoints = _keypoints(row, size, len(scheme.kpt_names[cls]), report)
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
            parts = mask_outlines(decode_rle(segmentation, int(image["height"]), int(image["width"])))
        except ValueError:
            parts = []
    elif isinstance(segmentation, list):
        for part in segmentation:
            if isinstance(part, list) and len(part) >= 6 and len(part) % 2 == 0 and finite(part):
                parts.append(np.array(part, np.float64).reshape(-1, 2))
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
    points[:, 2] = points[:, 2].clip(0, 2)
    return normalised_keypoints(points, size, report)
