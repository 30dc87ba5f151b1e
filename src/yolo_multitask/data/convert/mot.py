"""MOTChallenge sequences to one multitask data set: boxes of persons with identities.

What a line of ``gt.txt`` becomes is decided in `yolo_multitask.data.convert.mot_lines`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from yolo_multitask.data.convert.dataset import Content, Picture, Target
from yolo_multitask.data.convert.images import image_size
from yolo_multitask.data.convert.mot_files import DETECTORS, MotSequence, Part, plan, read_sequence
from yolo_multitask.data.convert.mot_lines import frame_instances, line_kinds
from yolo_multitask.data.convert.output import SPLITS
from yolo_multitask.data.convert.report import ConvertReport, SplitReport
from yolo_multitask.data.convert.values import texts

CONTENT = Content(names=["person"], ids=True)


@dataclass(frozen=True, kw_only=True)
class _Slice:
    """Frames of a sequence, by their numbers, that go to one split."""

    sequence: MotSequence
    split: str
    numbers: range


@dataclass(kw_only=True)
class SequenceReport:
    """Counts of one sequence in one split: images, instances, and identities among them."""

    name: str
    split: str
    images: int
    instances: int
    identities: int


@dataclass(kw_only=True)
class MotReport(ConvertReport):
    """What `convert_mot` wrote.

    Attributes:
        sequences: Counts by sequence and split.
        remarks: What was left out or differs from what the source says of itself, one sentence each.
    """

    sequences: list[SequenceReport] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Return a table of the sequences, the table of the splits, and the remarks."""
        columns = ("split", "images", "instances", "identities")
        left = max(len("sequence"), *(len(s.name) for s in self.sequences))
        head = "sequence".ljust(left) + "".join(f"{c:>12}" for c in columns)
        rows = [s.name.ljust(left) + "".join(f"{getattr(s, c):>12}" for c in columns) for s in self.sequences]
        return "\n".join([head, *rows, "", super().__str__(), *self.remarks])


def convert_mot(
    src: str | Path,
    out: str | Path,
    *,
    split: str | None = None,
    sequences: str | Sequence[str] | None = None,
    val: str | Sequence[str] | None = None,
    val_half: bool = False,
    detector: str = "FRCNN",
    min_visibility: float = 0.0,
    copy: bool = False,
    exist_ok: bool = False,
) -> MotReport:
    """Convert MOTChallenge sequences (MOT15, MOT16, MOT17, MOT20, DanceTrack) to a multitask data set with ``#id``.

    Writes ``out/images/<split>/<sequence>/000001.jpg``, ``out/labels/<split>/<sequence>/000001.txt`` and
    ``out/data.yaml``, whole or not at all; a sequence with a frame rate also gets a ``seqinfo.ini`` among its images,
    from which ``track`` takes it. A second call with another split adds that split to the same data set.

    The images that are there decide which frames are written. Frames before the first and after the last that
    ``gt.txt`` names are not annotated and left out; those without a line in between are background.

    Args:
        src: A benchmark (``MOT17`` with ``train/<sequence>/``), a folder of sequences, or one sequence. A sequence has
            ``img1/``, ``gt/gt.txt`` and, in general, ``seqinfo.ini``.
        out: Folder of the data set.
        split: ``train``, ``val`` or ``test``: where the sequences go, and which folder of a benchmark is taken. By
            default the folders ``train`` and ``val`` of a benchmark give these splits; else all goes to train.
        sequences: Names or patterns (``MOT17-0*``) of the sequences to take, all by default; a list, or one text with
            commas. A MOT17 name may leave out the detector.
        val: Names or patterns of sequences that go to val, in the same way.
        val_half: The second half of each (other) sequence goes to val. The cut is the usual one of MOT17: of n frames
            the first n // 2 + 1 stay in train.
        detector: MOT17 has each sequence three times, with the same frames and the detections of DPM, FRCNN or SDP;
            the copy to take. Where it is not there, the first one.
        min_visibility: Persons of whom less than this share is visible become ignore regions; 0..1.
        copy: Copy the images; by default they are hard links where possible, which take no space.
        exist_ok: Replace splits that exist.

    Returns:
        The counts by split and sequence; print it for a table.

    Raises:
        ValueError: An argument is wrong, a file does not parse (``file:line``), or a split exists.
        FileNotFoundError: There is no such folder, or a sequence has no ground truth.
    """
    _check_arguments(split, detector, min_visibility)
    source = Path(os.path.abspath(Path(src).expanduser()))  # `.` has a name then
    parts, remarks = plan(source, split, texts(sequences, True), texts(val, True), val_half, detector)
    splits = [s for s in SPLITS if s in {p.split for p in parts} | ({"val"} if val_half else set())]
    target = Target.open(out, splits, exist_ok)
    _check_existing(target.existing)
    slices, files = [], {}
    for part in parts:
        sequence = read_sequence(part.folder)
        target.check_sources([Path(sequence.boxes.path)])
        remarks += _remarks(sequence, min_visibility)
        for name, numbers in _ranges(part, sequence).items():
            slices.append(_Slice(sequence=sequence, split=name, numbers=numbers))
            if sequence.info.frame_rate is not None:
                length = sum(number in numbers for number in sequence.frames)
                text = seqinfo_text(sequence.name, sequence.info.frame_rate, length)
                files[f"{name}/{sequence.name}/seqinfo.ini"] = text
    counts: list[SequenceReport] = []
    pictures = {
        s: partial(_pictures, [p for p in slices if p.split == s], min_visibility=min_visibility, counts=counts)
        for s in splits
    }
    written = target.write(CONTENT, pictures, copy=copy, files=files)
    return MotReport(**vars(written), sequences=counts, remarks=remarks)


def _check_arguments(split: str | None, detector: str, min_visibility: float) -> None:
    """Refuse values that are none of the possible ones."""
    if split is not None and split not in SPLITS:
        raise ValueError(f"split: expected one of {', '.join(SPLITS)}, found {split!r}")
    if detector not in DETECTORS:
        raise ValueError(f"detector: expected one of {', '.join(DETECTORS)}, found {detector!r}")
    number = isinstance(min_visibility, (int, float)) and not isinstance(min_visibility, bool)
    if not (number and 0 <= min_visibility <= 1):
        raise ValueError(f"min_visibility: expected a number in 0..1, found {min_visibility!r}")


def _check_existing(existing: Mapping[str, Any]) -> None:
    """Refuse to add a split to a data set of another kind."""
    ours = CONTENT.data_yaml()
    found, wanted = ({k: d.get(k) for k in ("names", "labels")} for d in (existing, ours))
    if existing and found != wanted:
        raise ValueError(
            f"out has a data set with names: {found['names']} and labels: {found['labels']}, expected "
            f"names: {wanted['names']} and labels: {wanted['labels']} to add a split to; give another out="
        )


def _remarks(sequence: MotSequence, min_visibility: float) -> list[str]:
    """Say where a sequence is not what it says of itself, and what is not used of it."""
    annotated, length = sequence.boxes.frames, sequence.info.length
    found = []
    if length is not None and length != len(sequence.frames):
        found.append(f"seqinfo.ini says {length} frames, {len(sequence.frames)} are there")
    outside = sum(not annotated.min() <= number <= annotated.max() for number in sequence.frames)
    if outside:
        found.append(f"{outside} frames outside of the annotated {annotated.min()}..{annotated.max()} left out")
    if min_visibility and np.isnan(sequence.boxes.visibility).all():
        found.append("gt.txt gives no visibility, so min_visibility changes nothing")
    return [f"{sequence.name}: {text}" for text in found]


def _ranges(part: Part, sequence: MotSequence) -> dict[str, range]:
    """Return the frame numbers of a sequence by split, cut in the middle of the frames that are there where asked."""
    first, last = int(sequence.boxes.frames.min()), int(sequence.boxes.frames.max())
    if not part.half:
        return {part.split: range(first, last + 1)}
    numbers = list(sequence.frames)
    cut = numbers[len(numbers) // 2] + 1
    halves = {part.split: range(first, min(cut, last + 1)), "val": range(max(cut, first), last + 1)}
    for name, half in halves.items():
        if not any(number in half for number in numbers):
            raise ValueError(
                f"val_half: expected annotated frames in both halves of {sequence.name}, found none for {name}; give "
                "it whole with val= or leave it out with sequences="
            )
    return halves


def _pictures(
    slices: Sequence[_Slice], report: SplitReport, *, min_visibility: float, counts: list[SequenceReport]
) -> Iterator[Picture]:
    """Yield the frames of a split with their labels, and count each sequence."""
    for part in slices:
        sequence = part.sequence
        kinds = line_kinds(sequence, min_visibility)
        rows_of: dict[int, list[int]] = {}
        for row, frame in enumerate(sequence.boxes.frames.tolist()):
            if frame in part.numbers:
                rows_of.setdefault(frame, []).append(row)
        report.annotations += sum(map(len, rows_of.values()))
        for frame in rows_of.keys() - sequence.frames.keys():
            report.images_missing += 1
            report.dropped["frame missing in the folder"] += len(rows_of[frame])
        own = SequenceReport(name=sequence.name, split=part.split, images=0, instances=0, identities=0)
        ids: set[int] = set()
        for number, image in sequence.frames.items():
            if number not in part.numbers:
                continue
            found = frame_instances(sequence, rows_of.get(number, []), kinds, _frame_size(image, sequence), report)
            ids.update(i.id for i in found if not i.ignore)
            own.images += 1
            own.instances += sum(not i.ignore for i in found)
            yield Picture(name=f"{sequence.name}/{number:06d}{image.suffix}", source=image, instances=found)
        own.identities = len(ids)
        counts.append(own)


def seqinfo_text(name: str, frame_rate: float, length: int) -> str:
    """Return the ``seqinfo.ini`` of written images, beside which it stands."""
    return f"[Sequence]\nname={name}\nimDir=.\nframeRate={frame_rate:.9g}\nseqLength={length}\n"


def _frame_size(image: Path, sequence: MotSequence) -> tuple[int, int]:
    """Return width and height of a frame in pixels, read from its header; they must be those of ``seqinfo.ini``."""
    width, height = image_size(image)
    said = (sequence.info.width or width, sequence.info.height or height)
    if said != (width, height):
        raise ValueError(
            f"{image}: expected a frame of {said[0]}x{said[1]} as seqinfo.ini says, found {width}x{height}; boxes are "
            "in pixels, so correct the file that is wrong"
        )
    return width, height
