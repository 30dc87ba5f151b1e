"""A multitask data set to a stock one for a single task, as Ultralytics reads it.

A stock line has no way to say "not labelled", so an instance without keypoints (pose) or polygon (segment) is left out,
as the host's own converter from COCO does; it is background in the training then. So is what lies in an ignore region.
Identities and confidences have no place in a stock line. All of that is counted.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from yolo_multitask.data.convert.output import data_yaml_text, install, place_image, staged
from yolo_multitask.data.convert.report import ConvertReport, SplitReport
from yolo_multitask.data.convert.yolo_files import (
    LabelledSet,
    category_ids,
    check_out,
    keypoint_keys,
    open_set,
    split_names,
)
from yolo_multitask.data.labels import Instance, Labels, LabelSpec, format_line, write_labels

TASKS = ("detect", "segment", "pose")


def to_yolo(
    data: str | os.PathLike[str],
    task: str,
    out: str | os.PathLike[str],
    *,
    split: str | Sequence[str] | None = None,
    background: bool = True,
    copy: bool = False,
    exist_ok: bool = False,
) -> ConvertReport:
    """Write a data set with stock label lines for one task.

    Writes ``out/images/<split>``, ``out/labels/<split>`` and ``out/data.yaml``, whole or not at all.

    Args:
        data: Data YAML (a path or name), or the folder that holds it. Where it does not say what its lines hold, they
            are those of `task`.
        task: ``detect``, ``segment`` or ``pose``. A pose set has only the classes that have keypoints.
        out: Folder of the new data set.
        split: Splits to convert (a list, or one text with commas), all by default.
        background: Keep images without any line as background; False leaves them out.
        copy: Copy the images; by default they are hard links where possible, which take no space.
        exist_ok: Replace splits that exist.

    Returns:
        The counts by split; print it for a table.

    Raises:
        ValueError: The data set has no labels for the task, a line does not parse (``file:line``), or a split exists.
        FileNotFoundError: The data set or its images do not exist.
    """
    target = Path(out).expanduser()
    if task not in TASKS:
        raise ValueError(f"task: expected one of {', '.join(TASKS)}, found {task!r}")
    source = open_set(data, "data", task=task)
    if task not in source.spec.tasks:
        raise ValueError(f"{source.where}: its lines are `{source.spec.grammar}`; {source.spec.advice[task]}")
    splits = split_names(split, source)
    check_out(target, splits, exist_ok, source)
    index = {c: i for i, c in enumerate(source.kpt_classes if task == "pose" else sorted(source.names))}
    spec = LabelSpec(
        nc=len(index),
        kpt_shape=source.spec.kpt_shape if task == "pose" else None,
        polygons=task == "segment",
        format=task,
    )
    reports = {}
    with staged(target) as stage:
        for name in splits:
            reports[name] = _convert_split(source, name, index, spec, stage, background, copy)
        keys = _data_yaml(source, splits, index, spec)
        (stage / "data.yaml").write_text(data_yaml_text(keys), encoding="utf-8")
        install(stage, target, splits)
    names = [source.names[c] for c in index]
    return ConvertReport(out=target, yaml=target / "data.yaml", names=names, splits=reports)


def _data_yaml(source: LabelledSet, splits: Sequence[str], index: dict[int, int], spec: LabelSpec) -> dict[str, Any]:
    """Return the data YAML; the host requires `train` and `val` to be there."""
    keys: dict[str, Any] = {"train": None, "val": None} | {s: f"images/{s}" for s in splits}
    keys["task"] = spec.format
    if spec.kpt_shape is not None:
        keys |= keypoint_keys(source.data, index)
    categories = category_ids(source)
    if categories is not None:
        keys["coco_categories"] = [categories[c] for c in index]
    return keys | {"names": {i: source.names[c] for c, i in index.items()}}


def _convert_split(
    source: LabelledSet,
    split: str,
    index: dict[int, int],
    spec: LabelSpec,
    stage: Path,
    background: bool,
    copy: bool,
) -> SplitReport:
    """Write images and labels of one split into the stage."""
    from ultralytics.utils import TQDM

    report = SplitReport()
    for key, picture in TQDM(source.pictures(split).items(), desc=f"Converting {split}"):
        labels, repeats = source.read(picture)
        report.annotations += len(labels) + repeats
        report.dropped["repeats a line of its file"] += repeats
        written: dict[str, Instance] = {}
        for instance in labels:
            stock = _stock(instance, index, spec, report)
            if stock is None:
                continue
            line = format_line(stock, spec)
            if line in written:
                report.dropped[f"repeats a line of its file in what {spec.format} says"] += 1
            written.setdefault(line, stock)
        if not written and not background:
            report.images_skipped += 1
            continue
        report.images += 1
        report.background += not written
        report.instances += len(written)
        place_image(picture.image, stage / "images" / split / f"{key}{picture.image.suffix}", copy)
        found = Labels.from_instances(list(written.values()), spec)
        write_labels(stage / "labels" / split / f"{key}.txt", found, spec)
    if not report.images:
        raise ValueError(f"{source.where}: expected labels for {spec.format} in {split}, found none; leave it out")
    report.keypoints = report.instances if spec.kpt_shape is not None else 0
    report.polygons = report.instances if spec.polygons else 0
    report.dropped, report.notes = +report.dropped, +report.notes
    return report


def _stock(instance: Instance, index: dict[int, int], spec: LabelSpec, report: SplitReport) -> Instance | None:
    """Return what a stock line says of an instance; None, with the reason counted, where that is nothing."""
    polygon = instance.polygon
    if instance.ignore:
        report.dropped["ignore region"] += 1
        return None
    if instance.cls not in index:
        report.dropped["class without keypoints"] += 1
        return None
    if spec.kpt_shape is not None and instance.keypoints is None:
        report.dropped["keypoints not labelled"] += 1
        return None
    if spec.polygons and (polygon is None or not (np.ptp(polygon, 0) > 0).all()):
        report.dropped["polygon not labelled" if polygon is None else "polygon without width or height"] += 1
        return None
    report.notes["identity left out"] += instance.id >= 0
    report.notes["confidence left out"] += not np.isnan(instance.conf)
    return replace(
        instance,
        cls=index[instance.cls],
        keypoints=_keypoints(instance, report) if spec.kpt_shape is not None else None,
        polygon=polygon if spec.polygons else None,
        id=-1,
        conf=float("nan"),
    )


def _keypoints(instance: Instance, report: SplitReport) -> Any:
    """Return keypoints (K, 3) whose absent ones lie in the image, too, which the host wants."""
    assert instance.keypoints is not None
    outside = (instance.keypoints[:, 2] == 0) & ((instance.keypoints < 0) | (instance.keypoints > 1))[:, :2].any(1)
    points = instance.keypoints.copy()
    points[outside, :2] = 0
    report.notes["absent keypoint outside the image, written as 0 0"] += int(outside.sum())
    return points
