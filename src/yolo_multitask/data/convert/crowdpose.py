"""CrowdPose and OCHuman, benchmarks of people in crowds, to multitask data sets.

CrowdPose is COCO JSON with 14 keypoints; its sigmas are those of its evaluation, ``crowdposetools/cocoeval.py``.
OCHuman comes as ``ochuman.json``, its own format with 19 keypoints and all boxes, and as COCO JSON with 17 keypoints
and the persons that have keypoints and mask; source: ``ochumanApi/ochuman.py``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from yolo_multitask.data.convert.coco import convert_coco, convert_json
from yolo_multitask.data.convert.dataset import Content, Picture, Target
from yolo_multitask.data.convert.images import image_size, same_shape
from yolo_multitask.data.convert.objects import Shape, to_instance
from yolo_multitask.data.convert.report import ConvertReport, SplitReport
from yolo_multitask.data.convert.values import finite
from yolo_multitask.data.synthetic.world import KEYPOINT_NAMES

CROWDPOSE_SIGMAS = (  # of left_shoulder, right_shoulder, ... ankles, head, neck
    *(0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089, 0.079, 0.079),
)
VISIBILITY = np.array([0.0, 2.0, 2.0, 1.0])  # of missing, visible, hidden by oneself, by others, as in its COCO files


def convert_crowdpose(
    annotations: str | Path,
    images: str | Path,
    out: str | Path,
    *,
    split: str = "train",
    background: bool = True,
    copy: bool = False,
    exist_ok: bool = False,
) -> ConvertReport:
    """Convert CrowdPose to a multitask data set with 14 keypoints and CrowdPose's sigmas.

    Persons without keypoints keep their box. CrowdPose's own evaluation takes other areas than COCO's and its
    ``crowdIndex``, so the data YAML does not name the JSON file for COCO's.

    Args:
        annotations: ``crowdpose_train.json``, ``crowdpose_val.json`` and so on.
        images: Folder with the images.
        out: Folder of the data set.
        split: ``train``, ``val`` or ``test``.
        background: Keep images without persons.
        copy: Copy the images; by default they are hard links where possible, which take no space.
        exist_ok: Replace the split if it exists.

    Returns:
        The counts; print it for a table.

    Raises:
        ValueError: The file is not CrowdPose's JSON, or the split exists.
        FileNotFoundError: The file or the folder does not exist.
    """
    data = _read(Path(annotations).expanduser())
    rows = data.get("categories")
    counts = [len(r.get("keypoints") or ()) for r in rows if isinstance(r, dict)] if isinstance(rows, list) else []
    if counts != [len(CROWDPOSE_SIGMAS)]:
        raise ValueError(
            f"{annotations}: expected CrowdPose's JSON, one category with {len(CROWDPOSE_SIGMAS)} keypoints, found "
            f"{counts or 'no categories'}; other COCO JSON is read by convert-coco"
        )
    return convert_json(
        instances=None,
        keypoints=annotations,
        images=images,
        out=out,
        split=split,
        classes=None,
        background=background,
        copy=copy,
        exist_ok=exist_ok,
        keys={"kpt_oks_sigmas": list(CROWDPOSE_SIGMAS), "annotations": {}},
    )


def convert_ochuman(
    annotations: str | Path,
    images: str | Path,
    out: str | Path,
    *,
    split: str = "val",
    background: bool = True,
    copy: bool = False,
    exist_ok: bool = False,
) -> ConvertReport:
    """Convert OCHuman to a multitask data set with COCO's 17 keypoints and polygons.

    Of ``ochuman.json`` all persons are taken: those without keypoints or mask keep what they have. Its points head and
    neck, which its own COCO files lack too, are left out. COCO files (``ochuman_coco_format_*.json``) go to
    `convert_coco`; in their images, persons without keypoints or mask are not labelled.

    Args:
        annotations: ``ochuman.json``, or one of the COCO files.
        images: Folder with the images.
        out: Folder of the data set.
        split: ``train``, ``val`` or ``test``: where the images go.
        background: Keep images without persons.
        copy: Copy the images; by default they are hard links where possible, which take no space.
        exist_ok: Replace the split if it exists.

    Returns:
        The counts; print it for a table.

    Raises:
        ValueError: The file is not OCHuman's, or the split exists.
        FileNotFoundError: The file or the folder does not exist.
    """
    file, folder = Path(annotations).expanduser(), Path(images).expanduser()
    data = _read(file)
    if "annotations" in data:
        return convert_coco(
            keypoints=file, images=images, out=out, split=split, background=background, copy=copy, exist_ok=exist_ok
        )
    if not folder.is_dir():
        raise FileNotFoundError(f"images={images}: expected a folder with images, found none there")
    order = _order(data, file)
    rows = _checked(data, file)
    target = Target.open(out, [split], exist_ok)
    target.check_sources([file])
    names = target.class_names(["person"], None)
    keys = {} if target.existing else {"coco_categories": [1]}
    kpt_names = {names.index("person"): list(KEYPOINT_NAMES)}
    content = target.settle(Content(names=names, kpt_names=kpt_names, polygons=True, keys=keys))
    return target.write(
        content,
        {split: lambda report: _pictures(rows, order, names, file, folder, report)},
        background=background,
        copy=copy,
    )


def _read(file: Path) -> dict[str, Any]:
    """Read a JSON file with an object."""
    if not file.is_file():
        raise FileNotFoundError(f"annotations={file}: expected a JSON file, found none there")
    try:
        data = json.loads(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file}: expected JSON, found text that is not: {error}") from error
    if not isinstance(data, dict):
        raise ValueError(f"{file}: expected a JSON object, found {type(data).__name__}")
    return data


def _order(data: Mapping[str, Any], file: Path) -> list[int]:
    """Return where each of COCO's keypoints is among OCHuman's."""
    names = data.get("keypoint_names")
    missing = [n for n in KEYPOINT_NAMES if n not in names] if isinstance(names, list) else KEYPOINT_NAMES
    if missing or not isinstance(names, list):
        raise ValueError(
            f"{file}: expected OCHuman's JSON with 'keypoint_names', or a COCO file; {missing[0]!r} is not among them"
        )
    return [names.index(n) for n in KEYPOINT_NAMES]


def _checked(data: Mapping[str, Any], file: Path) -> list[dict[str, Any]]:
    """Return the images; they have what every later step relies on."""
    rows = data.get("images")
    if not isinstance(rows, list) or not rows:
        raise ValueError(f"{file}: expected OCHuman's JSON with the list 'images', found none")
    for i, row in enumerate(rows):
        good = isinstance(row, dict) and isinstance(row.get("file_name"), str)
        good = good and isinstance(row.get("annotations"), list) and finite([row.get("width"), row.get("height")])
        if not good or not (row["width"] > 0 and row["height"] > 0):
            raise ValueError(f"{file}: image {i}: expected file_name, width, height and annotations")
    return rows


def _pictures(
    rows: Sequence[Mapping[str, Any]],
    order: Sequence[int],
    names: Sequence[str],
    file: Path,
    folder: Path,
    report: SplitReport,
) -> Iterator[Picture]:
    """Yield the images with their labels; those that are missing are counted."""
    for row in rows:
        name, persons = row["file_name"], row["annotations"]
        shapes = [_shape(p, f"{file}: {name}: annotation {i}", order, report) for i, p in enumerate(persons)]
        if not (folder / name).is_file():
            report.images_missing += 1
            report.annotations += len(shapes)
            report.dropped["image missing in the folder"] += len(shapes)
            continue
        if not same_shape(image_size(folder / name), (row["width"], row["height"])):
            report.images_unfit += 1
            report.annotations += len(shapes)
            report.dropped["image of another shape than annotated"] += len(shapes)
            continue
        found = [to_instance(shape, names, (row["width"], row["height"]), report) for shape in shapes]
        yield Picture(name=name, source=folder / name, instances=[i for i in found if i is not None])


def _shape(person: Any, where: str, order: Sequence[int], report: SplitReport) -> Shape:
    """Return one person in pixels."""
    box = person.get("bbox") if isinstance(person, dict) else None
    if not (isinstance(box, list) and len(box) == 4 and finite(box)):
        raise ValueError(f"{where}: expected a bbox [x1, y1, x2, y2], found {box!r}")
    shape = Shape(label="person", where=where, boxes=[np.array(box, np.float64)])
    values, segms = person.get("keypoints"), person.get("segms")
    if values:
        if not (isinstance(values, list) and len(values) >= 3 * (max(order) + 1) and finite(values)):
            raise ValueError(f"{where}: expected keypoints x y visibility of every name, found {str(values)[:60]}")
        points = np.array(values, np.float64).reshape(-1, 3)
        if not np.isin(points[:, 2], (0, 1, 2, 3)).all():
            raise ValueError(f"{where}: expected visibilities 0, 1, 2 or 3, found {points[:, 2].max():g}")
        report.notes["point that is not among COCO's 17, left out"] += int((points[:, 2] > 0).sum())
        shape.keypoints = points[list(order)]
        shape.keypoints[:, 2] = VISIBILITY[shape.keypoints[:, 2].astype(int)]
        report.notes["point that is not among COCO's 17, left out"] -= int((shape.keypoints[:, 2] > 0).sum())
    if segms:
        for part in segms.get("outer") or []:
            if not (isinstance(part, list) and len(part) >= 6 and len(part) % 2 == 0 and finite(part)):
                raise ValueError(f"{where}: expected outer polygons [x, y, x, y, ...], found {str(part)[:60]}")
            shape.add_outline(np.array(part, np.float64).reshape(-1, 2))
        shape.holes = len(segms.get("inner") or [])
    return shape
