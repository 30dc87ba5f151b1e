"""Ultralytics NDJSON with local images to one multitask data set.

The first line describes the data set, ``{"type": "dataset", "task", "class_names", "kpt_shape"}``, each further one an
image, ``{"type": "image", "file", "split", "annotations": {"boxes" | "segments" | "pose": rows}}``. Rows are stock
label lines of that task. Source: ultralytics ``convert_ndjson_to_yolo``, which downloads the images and reads one key
of ``annotations``; here they may have several, whose rows describe the same objects in the same order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo_multitask.data.convert.dataset import Content, Picture, Target
from yolo_multitask.data.convert.output import SPLITS
from yolo_multitask.data.convert.report import ConvertReport, SplitReport
from yolo_multitask.data.convert.values import finite
from yolo_multitask.data.labels import Instance, LabelError, LabelSpec, parse_line
from yolo_multitask.data.spec import check_kpt_shape

FORMATS = {"boxes": "detect", "pose": "pose", "segments": "segment"}  # key of `annotations` -> format of its rows
SAME = 0.5  # IoU from which the boxes of two rows are those of one object
YAML_KEYS = ("flip_idx", "kpt_oks_sigmas", "kpt_classes")  # taken over from the first line


@dataclass(kw_only=True)
class Record:
    """One image: its line in the file, its name and split, its labels, and the number of objects without area."""

    where: str
    name: str
    split: str
    instances: list[Instance]
    flat: int


def convert_ndjson(
    src: str | Path,
    out: str | Path,
    *,
    images: str | Path | None = None,
    background: bool = True,
    copy: bool = False,
    exist_ok: bool = False,
) -> ConvertReport:
    """Convert an Ultralytics NDJSON file whose images are here to a multitask data set.

    The splits are those of the file. Nothing is downloaded: ``ultralytics.data.converter.convert_ndjson_to_yolo`` does
    that, and so does training on the file with ``yolo``.

    Args:
        src: The file.
        out: Folder of the data set.
        images: Folder with the images, as ``name``, ``<split>/name`` or ``images/<split>/name``. By default the file's
            own folder, or the ``path`` that its first line gives.
        background: Keep images without objects.
        copy: Copy the images; by default they are hard links where possible, which take no space.
        exist_ok: Replace splits that exist.

    Returns:
        The counts by split; print it for a table.

    Raises:
        ValueError: A line is malformed (``file:line``), or none of the images is here.
        FileNotFoundError: `src` or `images` does not exist.
    """
    file = Path(src).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"src={src}: expected an NDJSON file, found none there")
    roots = [file.parent] if images is None else [Path(images).expanduser()]
    if not roots[0].is_dir():
        raise FileNotFoundError(f"images={images}: expected a folder with images, found none there")
    head, rows = _read(file)
    if images is None and isinstance(head.get("path"), str):
        roots.insert(0, file.parent / head["path"])
    keys = {key for _, row in rows for key in row["annotations"]}
    shape = _kpt_shape(head, rows, file) if "pose" in keys else None
    found = _names(head, rows, file)
    records = [_record(row, where, len(found), shape) for where, row in rows]
    splits = [s for s in SPLITS if any(r.split == s for r in records)]
    target = Target.open(out, splits, exist_ok)
    target.check_sources([file])
    if target.class_names(found, None) != found:  # the rows have numbers
        raise ValueError(f"out has a data set with the classes in another order than {file}; give another out=")
    content = target.settle(_content(head, found, shape, "segments" in keys, file))
    places = {record.where: _find(record, roots) for record in records}
    first: dict[Path, Record] = {}
    for record in records:
        place = places[record.where]
        if place is not None and first.setdefault(place, record).split != record.split:
            raise ValueError(
                f"{record.where}: expected another image than in {first[place].where}, found {place} for both; put the "
                "images of each split into a folder of its name"
            )
    if not first:
        raise ValueError(
            f"{file}: expected its images in {' or '.join(map(str, roots))}, found none of {len(records)} "
            f"(the first is {records[0].name}); give images=. This converter does not download: "
            f"`yolo train data={file.name}` and ultralytics.data.converter.convert_ndjson_to_yolo do"
        )
    by_split = {s: partial(_pictures, [r for r in records if r.split == s], places) for s in splits}
    return target.write(content, by_split, background=background, copy=copy)


def _read(file: Path) -> tuple[dict[str, Any], list[tuple[str, dict[str, Any]]]]:
    """Return the first record, and (``file:line``, record) of each image."""
    records: list[tuple[str, dict[str, Any]]] = []
    for number, line in enumerate(file.read_text(encoding="utf-8-sig").split("\n"), 1):
        if not line.strip():
            continue
        where = f"{file}:{number}"
        try:
            record = json.loads(line)
        except ValueError as error:
            raise ValueError(
                f"{where}: expected one JSON object a line, found text that is not JSON: {error}"
            ) from error
        kind = "image" if records else "dataset"
        if not isinstance(record, dict) or record.get("type", kind) != kind:
            raise ValueError(f'{where}: expected {{"type": "{kind}", ...}}, found {line[:60]}')
        records.append((where, record))
    if len(records) < 2:
        raise ValueError(f"{file}: expected a line for the data set and one for each image, found {len(records)} lines")
    head, rows = records[0][1], records[1:]
    if head.get("task", "detect") not in FORMATS.values():
        raise ValueError(
            f"{records[0][0]}: expected the task {', '.join(FORMATS.values())}, found {head['task']!r}; such a data "
            "set has no boxes, polygons or keypoints to convert"
        )
    for where, row in rows:
        _check_image(row, where)
    return head, rows


def _check_image(row: dict[str, Any], where: str) -> None:
    """Check what every later step relies on; an image without annotations gets none."""
    name, split = row.get("file"), row.get("split")
    row["annotations"] = annotations = row.get("annotations") or {}
    if not isinstance(name, str) or not PurePosixPath(name.replace("\\", "/")).name:
        raise ValueError(f"{where}: expected the name of an image in 'file', found {name!r}")
    if split not in SPLITS:
        raise ValueError(f"{where}: {name}: expected a split of {', '.join(SPLITS)}, found {split!r}")
    good = isinstance(annotations, dict) and set(annotations) <= set(FORMATS)
    if not good or not all(isinstance(v, list) for v in annotations.values()):
        found = ", ".join(annotations) if isinstance(annotations, dict) else repr(annotations)
        raise ValueError(f"{where}: {name}: expected annotations with lists of {', '.join(FORMATS)}, found {found}")
    for key, lines in annotations.items():
        for i, line in enumerate(lines):
            numbers = isinstance(line, list) and bool(line) and finite(line)
            if not numbers or line[0] != int(line[0]):
                raise ValueError(
                    f"{where}: {name}: {key}[{i}]: expected a list of numbers, class first, found {line!r}"
                )


def _kpt_shape(head: Mapping[str, Any], rows: Sequence[tuple[str, dict[str, Any]]], file: Path) -> tuple[int, int]:
    """Return the shape of the keypoints: as the first line says, else from the rows as the host does."""
    if head.get("kpt_shape") is not None:
        return check_kpt_shape(head["kpt_shape"])
    lines = [line for _, row in rows for line in row["annotations"].get("pose", [])]
    counts = {len(line) - 5 for line in lines}
    if len(counts) == 1:
        count = counts.pop()
        if count > 0 and count % 3 == 0 and all(v in (0, 1, 2) for line in lines for v in line[7::3]):
            return count // 3, 3
        if count > 0 and count % 2 == 0 and count % 3:
            return count // 2, 2
    raise ValueError(
        f"{file}:1: expected kpt_shape [K, D] beside the task, found none and cannot tell it from the rows"
    )


def _names(head: Mapping[str, Any], rows: Sequence[tuple[str, dict[str, Any]]], file: Path) -> list[str]:
    """Return the class names in order; classes without a name are called as the host calls them."""
    given = head.get("class_names") or {}
    if not isinstance(given, dict) or not all(str(k).isdecimal() for k in given):
        raise ValueError(f"{file}:1: expected class_names {{index: name}}, found {given!r}")
    by_index = {int(k): str(v) for k, v in given.items()}
    used = {int(line[0]) for _, row in rows for lines in row["annotations"].values() for line in lines}
    count = max(used | set(by_index), default=-1) + 1
    if not count:
        raise ValueError(f"{file}: expected class_names or annotations, found neither")
    return [by_index.get(i, f"class{i}") for i in range(count)]


def _record(row: Mapping[str, Any], where: str, nc: int, shape: tuple[int, int] | None) -> Record:
    """Parse the rows of one image."""
    path = PurePosixPath(row["file"].replace("\\", "/"))
    name = path.name if path.is_absolute() or ".." in path.parts else path.as_posix()
    columns: dict[str, list[Instance]] = {}
    flat = {i for key, lines in row["annotations"].items() for i, line in enumerate(lines) if _is_flat(key, line)}
    for key, lines in row["annotations"].items():
        spec = LabelSpec(
            nc=nc, kpt_shape=shape if key == "pose" else None, polygons=key == "segments", format=FORMATS[key]
        )
        columns[key] = []
        for i, line in enumerate(lines):
            if i in flat:
                continue
            try:
                columns[key].append(parse_line(" ".join(map(str, line)), spec))
            except LabelError as error:
                raise ValueError(f"{where}: {name}: {key}[{i}]: {error}") from error
    instances = _merge(columns, f"{where}: {name}")
    return Record(where=where, name=name, split=row["split"], instances=instances, flat=len(flat))


def _is_flat(key: str, line: Sequence[float]) -> bool:
    """Return whether a row has a box or a polygon without width or height."""
    if key == "segments":
        return len(line) > 6 and (min(line[1::2]) == max(line[1::2]) or min(line[2::2]) == max(line[2::2]))
    return len(line) > 4 and min(line[3:5]) <= 0


def _merge(columns: Mapping[str, Sequence[Instance]], where: str) -> list[Instance]:
    """Join the rows of several keys one by one; the box is that of boxes, else of pose, else of segments."""
    there = {key: columns[key] for key in FORMATS if columns.get(key)}
    if len({len(rows) for rows in there.values()}) > 1:
        listed = ", ".join(f"{len(rows)} {key}" for key, rows in there.items())
        raise ValueError(f"{where}: expected the same objects in every key of annotations, found {listed}")
    merged = []
    for i, rows in enumerate(zip(*there.values(), strict=True)):
        first = rows[0]
        for key, other in zip(there, rows, strict=True):
            if other.cls != first.cls or _iou(first.box, other.box) < SAME:
                same = f"{next(iter(there))}[{i}]"
                raise ValueError(f"{where}: {key}[{i}]: expected the object of {same}, found another class or place")
        merged.append(
            Instance(
                cls=first.cls,
                box=first.box,
                keypoints=next((r.keypoints for r in rows if r.keypoints is not None), None),
                polygon=next((r.polygon for r in rows if r.polygon is not None), None),
            )
        )
    return merged


def _iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Return the IoU of two boxes cx cy w h."""
    sides = np.minimum(a[:2] + a[2:] / 2, b[:2] + b[2:] / 2) - np.maximum(a[:2] - a[2:] / 2, b[:2] - b[2:] / 2)
    overlap = float(np.prod(sides.clip(0)))
    return overlap / float(np.prod(a[2:]) + np.prod(b[2:]) - overlap)


def _content(
    head: Mapping[str, Any], names: list[str], shape: tuple[int, int] | None, polygons: bool, file: Path
) -> Content:
    """Return what the data set holds; names of keypoints that are not given are their numbers."""
    if shape is None:
        return Content(names=names, polygons=polygons)
    given = head.get("kpt_names") or {}
    rows = dict.fromkeys(range(len(names)), given) if isinstance(given, list) else given
    good = isinstance(rows, dict) and all(str(k).isdecimal() and isinstance(v, list) for k, v in rows.items())
    if not good or any(len(v) != shape[0] for v in rows.values()):
        raise ValueError(f"{file}:1: expected kpt_names with {shape[0]} names a class as in kpt_shape, found {given!r}")
    by_class = {int(k): [str(n) for n in v] for k, v in rows.items()}
    numbered = [f"keypoint_{k}" for k in range(shape[0])]
    return Content(
        names=names,
        kpt_names={i: by_class.get(i, numbered) for i in range(len(names))},
        polygons=polygons,
        dims=shape[1],
        keys={k: head[k] for k in YAML_KEYS if head.get(k) is not None},
    )


def _find(record: Record, roots: Sequence[Path]) -> Path | None:
    """Return the image of a record, None where it is not here."""
    below = (f"images/{record.split}", record.split, "images", "")
    tries = (root / folder / record.name for root in roots for folder in below)
    return next((p for p in tries if p.is_file()), None)


def _pictures(records: Sequence[Record], places: Mapping[str, Path | None], report: SplitReport) -> Iterator[Picture]:
    """Yield the images of a split; those that are missing are counted."""
    for record in records:
        report.annotations += len(record.instances) + record.flat
        report.dropped["box of zero area"] += record.flat
        place = places[record.where]
        if place is None:
            report.images_missing += 1
            report.dropped["image missing in the folder"] += len(record.instances)
            continue
        yield Picture(name=record.name, source=place, instances=record.instances)
