"""A split of a data set to one COCO JSON file: boxes, polygons, keypoints, ignore regions and identities.

Format: https://cocodataset.org/#format-data. Sequences are said as in COCO-VID files: ``videos``, and ``video_id`` and
``frame_id`` of each image; ``instance_id`` is the ``#id`` of the line, so it is unique within its video.
"""

from __future__ import annotations

import json
import os
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo_multitask.data.convert.images import image_size
from yolo_multitask.data.convert.table import count_table
from yolo_multitask.data.convert.values import shortened
from yolo_multitask.data.convert.yolo_files import LabelledSet, Picture, category_ids, open_set
from yolo_multitask.data.labels import Instance


@dataclass(kw_only=True)
class CocoReport:
    """What `to_coco` wrote.

    Attributes:
        file: The JSON file.
        split: The split.
        names: Class names in order.
        counts: Numbers by what they count.
    """

    file: Path
    split: str
    names: list[str]
    counts: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        """Return a table with one row a count."""
        table = count_table({self.split: self.counts})
        return f"{table}\nclasses: {shortened(self.names)}\nwritten: {self.file}"


def to_coco(
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    split: str = "val",
    task: str | None = None,
    exist_ok: bool = False,
) -> CocoReport:
    """Write one split of a data set, multitask or stock, as a COCO JSON file.

    Coordinates are pixels, as precise as in the label lines: nothing is rounded. Every line becomes an annotation. Its
    ``area`` is that of the polygon, else that of the box; an instance without polygon has an empty ``segmentation``.
    Annotations of classes with keypoints have ``keypoints``, all 0 with ``num_keypoints`` 0 where not labelled. An
    image whose name is a number has it as its id if all have different ones, as in COCO.

    Args:
        data: Data YAML (a path or name), or the folder that holds it.
        out: The JSON file.
        split: The split to write.
        task: What the lines are where the data YAML does not say: ``segment`` for stock polygon lines.
        exist_ok: Replace the file if it exists.

    Returns:
        The counts; print it for a table.

    Raises:
        ValueError: There is no such split, an image cannot be read, a line does not parse (``file:line``), or the file
            exists.
        FileNotFoundError: The data set or its images do not exist.
    """
    target = Path(out).expanduser()
    if target.suffix != ".json" or target.is_dir():
        raise ValueError(f"out={out}: expected the name of a .json file")
    if target.exists() and not exist_ok:
        raise ValueError(f"out={out}: the file exists already; give exist_ok=True to replace it, or another out=")
    source = open_set(data, "data", task=task)
    if split not in source.splits:
        raise ValueError(f"split: expected one of {', '.join(source.splits)}, found {split!r}")
    report = CocoReport(file=target, split=split, names=[source.names[c] for c in sorted(source.names)])
    content = _content(source, split, report.counts)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    try:
        temporary.write_text(json.dumps(content), encoding="utf-8")
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return report


def _content(source: LabelledSet, split: str, counts: Counter[str]) -> dict[str, Any]:
    """Return the content of the file."""
    from ultralytics.utils import TQDM

    pictures = source.pictures(split)
    ids, frames = _image_ids(list(pictures)), _frames(pictures) if source.spec.ids else {}
    categories = category_ids(source) or {c: i for i, c in enumerate(sorted(source.names), 1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for key, picture in TQDM(pictures.items(), desc=f"Converting {split}"):
        width, height = image_size(picture.image)
        file_name = f"{key}{picture.image.suffix}"
        row = {"id": ids[key], "file_name": file_name, "width": width, "height": height}
        images.append(row | frames.get(key, {}))
        labels, repeats = source.read(picture)
        counts.update({"images": 1, "annotations": len(labels), "left out: repeats a line of its file": repeats})
        for instance in labels:
            annotation = {"id": len(annotations) + 1, "image_id": ids[key], "category_id": categories[instance.cls]}
            size = np.array([width, height], np.float64)
            annotations.append(annotation | _annotation(instance, size, source, counts))
    content: dict[str, Any] = {"info": {"description": f"{split} of {source.where.partition('=')[2]}"}}
    if frames:
        folders = {row["video_id"]: str(PurePosixPath(key).parent) for key, row in frames.items()}
        content["videos"] = [{"id": i, "name": name} for i, name in folders.items()]
        counts["videos"] = len(folders)
    content["categories"] = [_category(source, c, categories[c]) for c in sorted(source.names)]
    return content | {"images": images, "annotations": annotations}


def _category(source: LabelledSet, cls: int, category: int) -> dict[str, Any]:
    """Return the category of a class, with the names of its keypoints."""
    row: dict[str, Any] = {"id": category, "name": source.names[cls]}
    if cls in source.kpt_classes and source.spec.kpt_shape is not None:
        names = source.data.get("kpt_names")
        named = names.get(cls) if isinstance(names, Mapping) else names
        row["keypoints"] = list(named or (f"keypoint_{i}" for i in range(source.spec.kpt_shape[0])))
        row["skeleton"] = []
    return row


def _annotation(
    instance: Instance, size: NDArray[np.float64], source: LabelledSet, counts: Counter[str]
) -> dict[str, Any]:
    """Return the fields of an annotation but its ids; `size` is width and height of the image."""
    box = instance.box.astype(np.float64)
    corner, extent = (box[:2] - box[2:] / 2) * size, box[2:] * size
    polygon = instance.polygon
    if polygon is not None and not (np.ptp(polygon, 0) > 0).all():
        polygon = None
        counts["changed: polygon without width or height, written as not labelled"] += 1
    points = None if polygon is None else polygon.astype(np.float64) * size
    row: dict[str, Any] = {
        "bbox": [*corner.tolist(), *extent.tolist()],
        "area": float(extent.prod()) if points is None else polygon_area(points),
        "iscrowd": int(instance.ignore),
        "segmentation": [] if points is None else [points.ravel().tolist()],
    }
    if instance.cls in source.kpt_classes:
        row |= _keypoints(instance, size, source, counts)
    if instance.id >= 0:
        row["instance_id"] = instance.id
    if not np.isnan(instance.conf):
        row["score"] = instance.conf
    counts["ignore regions"] += instance.ignore
    counts["with polygons"] += points is not None
    counts["with keypoints"] += row.get("num_keypoints", 0) > 0
    counts["with identities"] += instance.id >= 0
    return row


def _keypoints(
    instance: Instance, size: NDArray[np.float64], source: LabelledSet, counts: Counter[str]
) -> dict[str, Any]:
    """Return ``keypoints`` and ``num_keypoints``; absent points are 0 0 0, and a visible point without degree is 2."""
    assert source.spec.kpt_shape is not None
    count, dims = source.spec.kpt_shape
    points = np.zeros((count, 3))
    if instance.keypoints is not None:
        points[:, :2] = instance.keypoints[:, :2] * size
        points[:, 2] = instance.keypoints[:, 2] * (2 if dims == 2 else 1)
        points[points[:, 2] == 0] = 0
        counts["changed: all keypoints absent, written as not labelled"] += not points.any()
    values = points.ravel().tolist()
    values[2::3] = [int(v) if v == int(v) else v for v in values[2::3]]
    return {"keypoints": values, "num_keypoints": int((points[:, 2] > 0).sum())}


def polygon_area(points: NDArray[np.float64]) -> float:
    """Return the area inside a polygon in the unit of its points, squared.

    The parts of a mask are one polygon in label lines, joined by lines that lead there and back, and need not turn the
    same way. So each loop that the outline closes on its way counts by itself.

    Args:
        points: (M, 2).
    """
    area = 0.0
    path: list[tuple[float, float]] = []
    at: dict[tuple[float, float], int] = {}
    for x, y in points.tolist():
        start = at.get((x, y))
        if start is not None:
            area += _shoelace(path[start:])
            for point in path[start:]:
                del at[point]
            del path[start:]
        at[x, y] = len(path)
        path.append((x, y))
    return area + _shoelace(path)


def _shoelace(path: list[tuple[float, float]]) -> float:
    """Return the area inside a simple polygon."""
    x, y = np.array(path).T
    return float(abs((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) / 2)


def _image_ids(keys: list[str]) -> dict[str, int]:
    """Return the id of each image: the number that its name is, if all have different ones, else 1, 2, ..."""
    stems = [PurePosixPath(key).name for key in keys]
    numbers = [int(stem) for stem in stems if stem.isascii() and stem.isdecimal()]
    if len(set(numbers)) < len(keys):
        numbers = list(range(1, len(keys) + 1))
    return dict(zip(keys, numbers, strict=True))


def _frames(pictures: Mapping[str, Picture]) -> dict[str, dict[str, int]]:
    """Return ``video_id`` (from 1) and ``frame_id`` (from 0) of each image: a folder is a video."""
    from yolo_multitask.data.sequences import frames_by_folder

    keys = list(pictures)
    videos = frames_by_folder([str(Path("/", key)) for key in keys]).values()
    return {
        keys[i]: {"video_id": video, "frame_id": frame}
        for video, frames in enumerate(videos, 1)
        for frame, i in enumerate(frames)
    }
