"""Reading clips: frames by their numbers, and what is known of each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from yolo_multitask.data.clips.annotation import read_annotation
from yolo_multitask.data.clips.clip import UNLABELLED, Clip, FrameLabels
from yolo_multitask.data.clips.csv_labels import read_csv
from yolo_multitask.data.clips.find import ClipEntry, Located, image_files, locate
from yolo_multitask.data.clips.frames import Frames, ImageFrames, VideoFrames
from yolo_multitask.data.clips.lines import read_lines
from yolo_multitask.data.clips.spec import ClipSpec, ReadLabels
from yolo_multitask.data.mot import read_seqinfo

_SPARSE = 10  # so many times as many numbers as images are no frame numbers


def read_clips(entries: Sequence[ClipEntry], spec: ClipSpec) -> tuple[list[Clip], list[str]]:
    """Read all clips of a split.

    Args:
        entries: Of the split.
        spec: The classes.

    Returns:
        The clips, names unlike each other, and messages about what was left out (those about lines are in the clips).

    Raises:
        ValueError: There is no clip at an entry, or its frames or labels cannot be used.
        FileNotFoundError: There is nothing at an entry.
    """
    clips: list[Clip] = []
    messages: list[str] = []
    for entry in entries:
        found, left_out = locate(entry.path, entry.format)
        messages += left_out
        if entry.frames is not None and len(found) > 1:
            raise ValueError(
                f"{entry.path}: `frames: {list(entry.frames)}` is of one clip, found {len(found)} clips there; list "
                "them one by one"
            )
        clips += [read_clip(place, spec, entry) for place in found]
    names: Counter[str] = Counter()
    for i, clip in enumerate(clips):
        names[clip.name] += 1
        if names[clip.name] > 1:
            clips[i] = replace(clip, name=f"{clip.name} ({names[clip.name]})")
    return clips, messages


def read_clip(place: Located, spec: ClipSpec, entry: ClipEntry | None = None) -> Clip:
    """Read one clip.

    Time is the frame number. A number that is missing between two images is filled with the image before it, and is
    not labelled.

    Args:
        place: Where it is.
        spec: The classes.
        entry: Gives the range of frames, and which classes are labelled.

    Raises:
        ValueError: Frames or labels cannot be used (``file: reason`` or ``file:line: reason``).
    """
    entry = entry or ClipEntry(path=place.frames)
    counts: Counter[str] = Counter()
    if place.frames.is_dir():
        numbered = number_images(place.frames)
        first, last = _range(entry, min(numbered), max(numbered), place)
        files, missing = _fill(numbered, first, last)
        frames: Frames = ImageFrames(files)
        counts["missing frames"] = len(missing)
        rate = (
            read_seqinfo(place.frames / "seqinfo.ini").frame_rate if (place.frames / "seqinfo.ini").is_file() else None
        )
    else:
        video = VideoFrames(place.frames)
        first, last = _range(entry, 0, len(video) - 1, place)
        frames = video if entry.frames is None else VideoFrames(place.frames, first, last)
        numbered, missing, rate = {}, set(), video.rate
    read = _read_labels(place, spec, frames.size, numbered)
    there = [number for number in range(first, last + 1) if number not in missing]
    known = {number: read.frames[number] for number in there if number in read.frames}
    if not known:
        bad = f"; {read.problems[0]}" if read.problems else ""
        raise ValueError(f"{place.labels}: expected labels of the frames {first} to {last}, found none of them{bad}")
    counts["labels without a frame"] = sum(
        number not in known for number in read.frames if entry.frames is None or first <= number <= last
    )
    counts["bad lines"] = sum(problem.kind == "error" for problem in read.problems)
    counts["duplicate lines"] = len(read.problems) - counts["bad lines"]
    chosen = {number: _only(labels, entry.classes, spec) for number, labels in known.items()}
    labels = tuple(chosen.get(number, UNLABELLED) for number in range(first, last + 1))
    _count(labels, counts)
    return Clip(
        name=place.name if entry.frames is None else f"{place.name}:{first}-{last}",
        frames=frames,
        labels=labels,
        rate=rate,
        first=first,
        path=str(place.frames),
        counts=+counts,
        messages=tuple(map(str, read.problems)),
    )


def number_images(folder: Path) -> dict[int, str]:
    """Return the images of a folder by frame number, the digits at the end of their names.

    Raises:
        ValueError: A name has no number, two have the same, or the numbers cannot be those of frames.
    """
    found: dict[int, str] = {}
    for file in image_files(folder):
        match = re.search(r"(\d+)$", file.stem)
        if match is None:
            raise ValueError(f"{file}: expected a name that ends in the number of its frame, found {file.stem!r}")
        number = int(match[1])
        if number in found:
            raise ValueError(f"{file}: expected one image of frame {number}, found it again beside {found[number]}")
        found[number] = str(file)
    if not found:
        raise ValueError(f"{folder}: expected images, found none")
    span = max(found) - min(found) + 1
    if span > _SPARSE * len(found) + 100:
        raise ValueError(
            f"{folder}: expected frame numbers in the names, found {len(found)} images numbered {min(found)} to "
            f"{max(found)}; number them by time, one by one"
        )
    return dict(sorted(found.items()))


def _fill(numbered: Mapping[int, str], first: int, last: int) -> tuple[list[str], set[int]]:
    """Return the file of every frame from first to last, and the numbers that had none."""
    files: list[str] = []
    missing: set[int] = set()
    current = next(file for number, file in numbered.items() if number >= first)
    for number in range(first, last + 1):
        if number not in numbered:
            missing.add(number)
        current = numbered.get(number, current)
        files.append(current)
    return files, missing


def _range(entry: ClipEntry, first: int, last: int, place: Located) -> tuple[int, int]:
    """Return the numbers of the first and the last frame to take."""
    if entry.frames is None:
        return first, last
    low, high = entry.frames
    if not first <= low <= high <= last:
        raise ValueError(f"{place.frames}: expected `frames` within {first} to {last}, found [{low}, {high}]")
    return low, high


def _read_labels(place: Located, spec: ClipSpec, size: tuple[int, int], numbered: Mapping[int, str]) -> ReadLabels:
    """Read the labels of a clip by its kind."""
    if place.kind == "csv":
        return read_csv(place.labels, spec, size)
    if place.kind == "annotation":
        return read_annotation(place.labels, spec, size)
    files = {n: place.labels / f"{Path(file).stem}.txt" for n, file in numbered.items()}
    return read_lines({n: str(file) for n, file in files.items() if file.is_file()}, spec, size)


def _only(labels: FrameLabels, classes: Sequence[int] | None, spec: ClipSpec) -> FrameLabels:
    """Return the labels of the classes that an entry says are labelled."""
    if classes is None:
        return labels
    players = labels.players if set(spec.players) <= set(classes) else None
    if set(spec.objects) <= set(classes):
        return replace(labels, players=players)
    return replace(UNLABELLED, players=players)


def _count(labels: Sequence[FrameLabels], counts: Counter[str]) -> None:
    """Count frames and what is in them."""
    for frame in labels:
        counts["frames"] += 1
        counts["unlabelled frames"] += not frame.labelled
        counts["objects"] += len(frame.points)
        counts["hidden objects"] += int((frame.visible == 3).sum())
        if frame.players is not None:
            real = ~frame.players.ignore
            counts["frames with players labelled"] += 1
            counts["players"] += int(real.sum())
            counts["with keypoints"] += int((frame.players.has_keypoints & real).sum())
