"""One image and its label file against all rules that need no other image; what runs in the worker processes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from yolo_multitask.data.check.findings import Finding
from yolo_multitask.data.check.images import Picture, UnreadableError, open_picture
from yolo_multitask.data.check.parts import Part
from yolo_multitask.data.check.pose import Sides, keypoint_faults, side_votes
from yolo_multitask.data.check.shapes import box_faults, polygon_faults
from yolo_multitask.data.check.sheet import Fault, Sheet, line_faults
from yolo_multitask.data.labels import Labels, LabelSpec


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What all images are checked for.

    Attributes:
        part: Which images they are, and what their label lines hold.
        images: Whether to open the images.
        channels: Of the data YAML.
        sides: Pairs of keypoints by class, for classes that have any.
    """

    part: Part
    images: bool
    channels: int
    sides: Mapping[int, Sides]


@dataclass(frozen=True, slots=True)
class Frame:
    """What the rules for sequences and splits need of an image.

    Attributes:
        number: Index of the image in its part of the split.
        image: The picture.
        label: Its label file.
        picture: Size and hashes; None where it was not or cannot be opened.
        ids: int64 (N,) identities of objects, each once in the frame.
        rows: int64 (N,) index of each in its label file.
        cls: int64 (N,) classes.
        boxes: float32 (N, 4) normalised cx cy w h.
    """

    number: int
    image: str
    label: str
    picture: Picture | None
    ids: NDArray[np.int64]
    rows: NDArray[np.int64]
    cls: NDArray[np.int64]
    boxes: NDArray[np.float32]


@dataclass(kw_only=True)
class Batch:
    """What was found in some images.

    Attributes:
        findings: In order of the images.
        counts: By name, for the table of the report.
        classes: Objects of each class.
        keypoints: Objects of each class with labelled keypoints.
        frames: One per image.
        votes: int64 (S, 4) by class, see `side_votes`.
        examples: Image, label file, its line and index of the first instance with a wrong pair, by class.
    """

    findings: list[Finding] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    classes: Counter[int] = field(default_factory=Counter)
    keypoints: Counter[int] = field(default_factory=Counter)
    frames: list[Frame] = field(default_factory=list)
    votes: dict[int, NDArray[np.int64]] = field(default_factory=dict)
    examples: dict[int, tuple[str, str, int, int]] = field(default_factory=dict)

    def count(self, other: Batch) -> None:
        """Add the numbers of others; their findings and frames are not kept."""
        self.counts.update(other.counts)
        self.classes.update(other.classes)
        self.keypoints.update(other.keypoints)
        for cls, votes in other.votes.items():
            self.votes[cls] = self.votes.get(cls, 0) + votes
        self.examples = other.examples | self.examples


def check_frames(start: int, images: Sequence[str], labels: Sequence[str], plan: Plan) -> Batch:
    """Check images and their label files.

    Args:
        start: Index of the first of them in its part of the split.
        images: The pictures.
        labels: The label file of each, which need not exist.
        plan: What to check.
    """
    batch = Batch()
    for number, (image, label) in enumerate(zip(images, labels, strict=True), start):
        picture = None
        batch.counts["images"] += 1
        if plan.images:
            picture, findings = _check_image(image, plan)
            batch.findings += findings
        sheet = _check_labels(batch, image, label, picture, plan)
        batch.frames.append(_frame(number, image, label, sheet, picture))
    return batch


def _check_image(image: str, plan: Plan) -> tuple[Picture | None, list[Finding]]:
    """Open an image; return what is kept of it and what was found."""
    split = plan.part.split
    try:
        picture, doubts = open_picture(image, plan.channels)
    except UnreadableError as error:
        return None, [Finding("image-unreadable", image, str(error), split=split)]
    return picture, [Finding(kind, image, message, split=split, image=image) for kind, message in doubts]


def _check_labels(batch: Batch, image: str, label: str, picture: Picture | None, plan: Plan) -> Sheet | None:
    """Check one label file and add what was found to the batch; None where it cannot be read."""
    split = plan.part.split
    try:
        sheet = Sheet.read(label, plan.part, picture.size if picture else None)
    except OSError as error:
        batch.findings.append(
            Finding("label-unreadable", label, f"{error.strerror}; correct it", split=split, image=image)
        )
        return None
    if not os.path.exists(label):
        batch.counts["without label file"] += 1
        message = f"no label file {label}; trained as background"
        batch.findings.append(Finding("label-missing", image, message, split=split, image=image))
    for kind, problem in line_faults(sheet.problems):
        batch.findings.append(Finding(kind, label, problem.reason, problem.line, split, image))
    for fault in _faults(sheet):
        line = sheet.lines[fault.instances[-1]]
        batch.findings.append(Finding(fault.kind, label, fault.message, line, split, image, fault.instances))
    _count(batch, sheet)
    for cls, sides in plan.sides.items() if len(sheet.labels) else ():
        votes, wrong = side_votes(sheet, cls, sides)
        batch.votes[cls] = batch.votes.get(cls, 0) + votes
        if len(wrong) and cls not in batch.examples:
            batch.examples[cls] = image, label, sheet.lines[wrong[0]], int(wrong[0])
    return sheet


def _faults(sheet: Sheet) -> Iterator[Fault]:
    """Yield what is wrong with the instances of a file."""
    yield from box_faults(sheet)
    yield from polygon_faults(sheet)
    yield from keypoint_faults(sheet)
    yield from _repeated_ids(sheet)


def _repeated_ids(sheet: Sheet) -> Iterator[Fault]:
    """Yield objects that have an identity which an earlier one in the frame has."""
    first: dict[int, int] = {}
    for i in np.flatnonzero((sheet.labels.ids >= 0) & sheet.real).tolist():
        ident = int(sheet.labels.ids[i])
        if first.setdefault(ident, i) != i:
            message = f"identity #{ident} is that of line {sheet.lines[first[ident]]} too; give one of them its own"
            yield Fault("id-twice", (first[ident], i), message)


def _count(batch: Batch, sheet: Sheet) -> None:
    """Add a file to the counts."""
    labels, real = sheet.labels, sheet.real
    batch.counts.update(
        {
            "without objects": int(not real.any()),
            "objects": int(real.sum()),
            "with polygon": int((labels.has_polygon & real).sum()),
            "with keypoints": int((labels.has_keypoints & real).sum()),
            "with identity": int(((labels.ids >= 0) & real).sum()),
            "ignore regions": int(labels.ignore.sum()),
            "lines left out": len(sheet.problems),
            "of other classes": sheet.others,
        }
    )
    batch.classes.update(labels.cls[real].tolist())
    batch.keypoints.update(labels.cls[real & labels.has_keypoints].tolist())


def _frame(number: int, image: str, label: str, sheet: Sheet | None, picture: Picture | None) -> Frame:
    """Return what other rules need of an image; an identity that occurs twice is left out."""
    labels = Labels.from_instances([], _BOXES) if sheet is None else sheet.labels
    rows = np.flatnonzero((labels.ids >= 0) & ~labels.ignore)
    if len(rows):
        _, first, counts = np.unique(labels.ids[rows], return_index=True, return_counts=True)
        rows = rows[first[counts == 1]]
    return Frame(number, image, label, picture, labels.ids[rows], rows, labels.cls[rows], labels.boxes[rows])


_BOXES = LabelSpec(nc=1, kpt_shape=None, polygons=False)
