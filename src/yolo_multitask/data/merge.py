"""A keypoint set and a segmentation set of the same images, joined to one multitask data set.

Instances are paired by the IoU of their boxes, one to one. A pair keeps the box of the keypoint set: a polygon has its
box in itself, but nothing else holds the annotated box, so this way nothing of either set is lost. (In COCO the two are
equal.) What has no partner is kept, with ``-`` in the field that its set does not have.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from yolo_multitask.data.convert.images import image_size, same_shape
from yolo_multitask.data.convert.output import data_yaml_text, install, place_image, staged
from yolo_multitask.data.convert.values import shortened
from yolo_multitask.data.convert.yolo_files import LabelledSet, Picture, check_out, open_set, split_names
from yolo_multitask.data.labels import Instance, Labels, LabelSpec, check_kpt_shape, write_labels
from yolo_multitask.data.merge_classes import Scheme, make_scheme
from yolo_multitask.data.merge_match import doubts, match, overlaps
from yolo_multitask.data.merge_report import REPORT, SHEET, DoubtfulPair, MergeCounts, MergeReport
from yolo_multitask.data.merge_sheet import write_sheet


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What is the same for every image of a merge."""

    poses: LabelledSet
    masks: LabelledSet
    scheme: Scheme
    iou: float
    copy: bool


def merge(
    keypoints: str | os.PathLike[str],
    segments: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    classes: Mapping[str, str] | str | None = None,
    iou: float = 0.7,
    split: str | Sequence[str] | None = None,
    kpt_shape: Sequence[int] | None = None,
    copy: bool = False,
    exist_ok: bool = False,
) -> MergeReport:
    """Join a keypoint (pose) set and a segmentation set to one multitask data set.

    Images belong together by their path below ``images/<split>`` without suffix; those of one set alone are kept.
    Writes ``out/images/<split>``, ``out/labels/<split>``, ``out/data.yaml``, ``out/merge-report.txt`` and, where pairs
    are doubtful (see `yolo_multitask.data.merge_match.doubts`), their pictures in ``out/merge-doubtful.png``; whole or
    not at all.

    Args:
        keypoints: Data YAML of the keypoint set (a path or name), or its folder; a folder without data YAML has
            ``images/`` and ``labels/``, and needs `kpt_shape`.
        segments: The segmentation set, in the same way.
        out: Folder of the merged data set.
        classes: Class of `segments` by class of `keypoints`, as names or indices: ``{"person": "human"}`` or text
            ``person:human,dog:hound``. The others correspond where their names are equal.
        iou: Least IoU of the boxes of a pair, above 0 and at most 1.
        split: Splits to merge (a list, or one text with commas); by default all that either set has.
        kpt_shape: ``[K, D]`` of `keypoints` where it is a folder without data YAML.
        copy: Copy the images; by default they are hard links where possible, which take no space.
        exist_ok: Replace splits that exist.

    Returns:
        The counts by split, and the doubtful pairs; print it for a table.

    Raises:
        ValueError: An argument is wrong, a set does not hold what it should, a line does not parse (``file:line``), two
            images of one name are not the same picture, or a split exists.
        FileNotFoundError: A set or its images do not exist.
    """
    target = Path(out).expanduser()
    if isinstance(iou, bool) or not isinstance(iou, (int, float)) or not 0 < iou <= 1:
        raise ValueError(f"iou: expected a number above 0 and at most 1, found {iou!r}")
    poses, masks = _open_poses(keypoints, kpt_shape), _open_masks(segments)
    if poses.spec.ids and masks.spec.ids:
        raise ValueError("expected identities (`labels: {ids: true}`) in one of the two sets, found them in both")
    scheme = make_scheme(poses, masks, classes)
    splits = split_names(split, poses, masks)
    check_out(target, splits, exist_ok, poses, masks)
    pictures = {s: (poses.pictures(s), masks.pictures(s)) for s in splits}
    job = _Job(poses=poses, masks=masks, scheme=scheme, iou=iou, copy=copy)
    report = MergeReport(out=target, yaml=target / "data.yaml", names=scheme.names, splits={})
    with staged(target) as stage:
        for name in splits:
            report.splits[name] = _merge_split(job, name, *pictures[name], stage)
        report.remarks = _remarks(job, pictures, report)
        paths = {"train": None, "val": None} | {s: f"images/{s}" for s in splits}
        data = {**paths, **scheme.keys, "names": dict(enumerate(scheme.names))}
        (stage / "data.yaml").write_text(data_yaml_text(data), encoding="utf-8")
        (stage / REPORT).write_text("\n".join([str(report), *map(str, report.doubtful), ""]), encoding="utf-8")
        if report.doubtful:
            write_sheet(stage / SHEET, report.doubtful)
        install(stage, target, splits, [REPORT, SHEET])
    return report


def _open_poses(source: str | os.PathLike[str], kpt_shape: Sequence[int] | None) -> LabelledSet:
    """Open the keypoint set."""
    bare = None
    if kpt_shape is not None:
        bare = LabelSpec(nc=1, kpt_shape=check_kpt_shape(kpt_shape), polygons=False, format="pose")
    try:
        found = open_set(source, "keypoints", task="pose", bare=bare)
    except FileNotFoundError as error:
        folder = Path(source).expanduser()
        if bare is None and (folder / "labels").is_dir():
            raise FileNotFoundError(f"{error}; without one say kpt_shape=[K, D], e.g. kpt_shape=[17, 3]") from error
        raise
    if kpt_shape is not None and found.spec.kpt_shape != tuple(kpt_shape):
        raise ValueError(f"{found.where}: its data YAML says kpt_shape {found.spec.kpt_shape}, leave out kpt_shape=")
    _check_fields(found, "pose", "polygons", found.spec.polygons)
    return found


def _open_masks(source: str | os.PathLike[str]) -> LabelledSet:
    """Open the segmentation set."""
    bare = LabelSpec(nc=1, kpt_shape=None, polygons=True, format="segment")
    found = open_set(source, "segments", task="segment", bare=bare)
    _check_fields(found, "segment", "keypoints", found.spec.kpt_shape is not None)
    return found


def _check_fields(source: LabelledSet, task: str, other: str, both: bool) -> None:
    """Refuse a set that lacks what it is for, or that has what is to come from the other one."""
    if task not in source.spec.tasks:
        raise ValueError(f"{source.where}: its lines are `{source.spec.grammar}`; {source.spec.advice[task]}")
    if both:
        raise ValueError(
            f"{source.where}: expected lines without {other}, found `{source.spec.grammar}`: the set is joined already"
        )


def _merge_split(
    job: _Job, split: str, of_poses: Mapping[str, Picture], of_masks: Mapping[str, Picture], stage: Path
) -> MergeCounts:
    """Write images and labels of one split into the stage."""
    from ultralytics.utils import TQDM

    counts = MergeCounts()
    for key in TQDM(sorted({*of_poses, *of_masks}), desc=f"Merging {split}"):
        pose, mask = of_poses.get(key), of_masks.get(key)
        counts.images_both += pose is not None and mask is not None
        counts.images_poses += mask is None
        counts.images_masks += pose is None
        if pose is not None and mask is not None:
            _check_same(pose.image, mask.image)
        image = (mask or of_poses[key]).image
        poses, repeats = _read(job.poses, pose, job.scheme.of_poses)
        counts.pose_repeats += repeats
        masks, repeats = _read(job.masks, mask, job.scheme.of_masks)
        counts.mask_repeats += repeats
        written = _merge_image(job, f"{split}/{key}", image, poses, masks, counts)
        place_image(image, stage / "images" / split / f"{key}{image.suffix}", job.copy)
        spec = job.scheme.spec
        write_labels(stage / "labels" / split / f"{key}.txt", Labels.from_instances(written, spec), spec)
    return counts


def _check_same(first: Path, second: Path) -> None:
    """Refuse two files of one name that cannot be the same picture: their shapes differ by more than rounding."""
    if os.path.samefile(first, second):
        return
    (w1, h1), (w2, h2) = sizes = image_size(first), image_size(second)
    if not same_shape(*sizes):
        raise ValueError(
            f"expected the same picture under the same name, found {first} with {w1}x{h1} and {second} with {w2}x{h2} "
            "pixels; rename one of them"
        )


def _merge_image(
    job: _Job, name: str, image: Path, poses: Labels, masks: Labels, counts: MergeCounts
) -> list[Instance]:
    """Return the lines of one image: those of the segmentation set in their order, then those of keypoints alone."""
    iou_PS = overlaps(poses, masks)
    pairs = match(iou_PS, job.iou)
    counts.ious += [float(iou_PS[pose, mask]) for mask, pose in pairs.items()]
    written = []
    for i, instance in enumerate(masks):
        written.append(_joined(poses[pairs[i]], instance) if i in pairs else instance)
    written += [instance for i, instance in enumerate(poses) if i not in pairs.values()]
    counts.poses_alone += len(poses) - len(pairs)
    counts.masks_alone += len(masks) - len(pairs)
    counts.ignored += sum(instance.ignore for instance in written)
    for doubt in doubts(iou_PS, pairs, job.iou):
        pose, mask = poses[doubt.pose], masks[doubt.mask]
        class_name = job.scheme.names[mask.cls]
        counts.doubtful.append(
            DoubtfulPair(name=name, image=image, class_name=class_name, pose=pose, mask=mask, doubt=doubt)
        )
    return written


def _read(source: LabelledSet, picture: Picture | None, classes: Mapping[int, int]) -> tuple[Labels, int]:
    """Return the labels of an image with the classes of the merged set, and how many lines repeat another."""
    if picture is None:
        return Labels.from_instances([], source.spec), 0
    labels, repeats = source.read(picture)
    return replace(labels, cls=np.array([classes[int(c)] for c in labels.cls], np.int64)), repeats


def _joined(pose: Instance, mask: Instance) -> Instance:
    """Return one instance of a pair; at most one of the two has an identity, and the higher confidence counts."""
    return replace(pose, polygon=mask.polygon, id=max(pose.id, mask.id), conf=float(np.fmax(pose.conf, mask.conf)))


def _remarks(
    job: _Job,
    pictures: Mapping[str, tuple[Mapping[str, Picture], Mapping[str, Picture]]],
    report: MergeReport,
) -> list[str]:
    """Say what the numbers do not."""
    poses, masks, found = job.poses, job.masks, []
    alone = [report.names[i] for i in job.scheme.of_poses.values() if i not in job.scheme.of_masks.values()]
    if alone:
        found.append(
            f"classes of the keypoint set that correspond to none of the segmentation set: {shortened(alone)}; if they "
            "have other names there, say so with classes="
        )
    for a, (of_poses, _) in pictures.items():
        for b, (_, of_masks) in pictures.items():
            crossing = sorted((of_poses.keys() - pictures[a][1].keys()) & (of_masks.keys() - pictures[b][0].keys()))
            if a != b and crossing:
                found.append(
                    f"{len(crossing)} images of {a} in the keypoint set have names of images of {b} in the "
                    f"segmentation set and were not matched, e.g. {crossing[0]}"
                )
    for count, source, other, what in (
        (sum(c.images_poses for c in report.splits.values()), poses, masks, "keypoint"),
        (sum(c.images_masks for c in report.splits.values()), masks, poses, "segmentation"),
    ):
        missing = len(report.names) - len(source.names)
        if count and missing:
            found.append(
                f"{count} images are in the {what} set alone, which lacks {missing} of the classes of {other.where}: "
                "objects of these classes are background there"
            )
    return found
