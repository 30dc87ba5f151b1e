"""Clips with TrackNet's labels (CSV files, ``annotation.json``) to one data set of image sequences with label lines.

The position of an object becomes the centre of a box of nominal size, a hidden object an ignore region (``!``) there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np

from yolo_multitask.data.clips.annotation import keypoint_count
from yolo_multitask.data.clips.clip import HARD, HIDDEN, Clip, FrameLabels
from yolo_multitask.data.clips.config import clip_spec
from yolo_multitask.data.clips.find import Located, locate
from yolo_multitask.data.clips.frames import ImageFrames
from yolo_multitask.data.clips.read import read_clip
from yolo_multitask.data.clips.spec import ClipSpec
from yolo_multitask.data.convert.dataset import Content, Picture, Target
from yolo_multitask.data.convert.mot import seqinfo_text
from yolo_multitask.data.convert.report import ConvertReport, SplitReport
from yolo_multitask.data.convert.tracknet_lines import Identities, line_instances
from yolo_multitask.data.convert.values import texts
from yolo_multitask.data.synthetic.world import KEYPOINT_NAMES

_QUALITY = 95  # of frames of a video, which are written as JPEG
_SHOWN = 10  # messages of one kind in the report


@dataclass(frozen=True, kw_only=True)
class _Slice:
    """Frames of a clip, by index, that go to one split."""

    clip: Clip
    name: str
    split: str
    indices: range


@dataclass(kw_only=True)
class ClipReport:
    """Counts of one clip in one split: images, objects (hidden ones among them), players."""

    name: str
    split: str
    images: int = 0
    objects: int = 0
    hidden: int = 0
    players: int = 0


@dataclass(kw_only=True)
class TracknetReport(ConvertReport):
    """What `convert_tracknet` wrote.

    Attributes:
        clips: Counts by clip and split.
        remarks: What was left out or is not what it seems, one sentence each.
    """

    clips: list[ClipReport] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Return a table of the clips, the table of the splits, and the remarks."""
        columns = ("split", "images", "objects", "hidden", "players")
        left = max(len("clip"), *(len(c.name) for c in self.clips))
        head = "clip".ljust(left) + "".join(f"{c:>10}" for c in columns)
        rows = [c.name.ljust(left) + "".join(f"{getattr(c, k):>10}" for k in columns) for c in self.clips]
        return "\n".join([head, *rows, "", super().__str__(), *self.remarks])


def convert_tracknet(
    src: str | Path,
    out: str | Path,
    *,
    val: float = 0.2,
    val_clips: str | Sequence[str] | None = None,
    every: int = 1,
    objects: str | Sequence[str] = "ball",
    players: str = "person",
    size: float = 0.02,
    copy: bool = False,
    exist_ok: bool = False,
) -> TracknetReport:
    """Convert clips with TrackNet's labels to a data set of sequences with ``#id``, for temporal and other models.

    Writes ``out/images/<split>/<clip>/000000.jpg``, ``out/labels/<split>/<clip>/000000.txt`` and ``out/data.yaml``,
    whole or not at all. A frame keeps its number. What is not labelled in a frame becomes an ignore region of the whole
    picture. Identities are those of the labels; an object without one gets a number for each of its stays in the
    picture. Which clips are found is said in `yolo_multitask.data.clips.find.locate`.

    Args:
        src: A clip, or a folder with clips.
        out: Folder of the data set.
        val: Share of the clips that go to val, evenly spaced; of a single clip, the share of its frames, the last ones.
        val_clips: Names or patterns (``match2-*``) of the clips that go to val instead; a list, or a text with commas.
        every: Keep every n-th frame, and number them anew.
        objects: Names of the classes that are followed, in the order of their numbers in the labels.
        players: Name of the class of players, which is there if any ``annotation.json`` has them.
        size: Side of the box of an object, in longer sides of the picture: what it says is the place alone.
        copy: Copy images; by default they are hard links where possible. Frames of videos are written as JPEG.
        exist_ok: Replace splits that exist.

    Returns:
        The counts by split and clip; print it for a table.

    Raises:
        ValueError: An argument is wrong, a file cannot be used (``file:line``), or a split exists.
        FileNotFoundError: There is no such folder.
    """
    _check_arguments(val, every, size)
    source = Path(os.path.abspath(Path(src).expanduser()))
    target = Target.open(out, ["train", "val"], exist_ok)
    places, remarks = locate(source)
    lines = [place for place in places if place.kind == "lines"]
    if lines:
        raise ValueError(f"src={src}: expected CSV files or annotation.json, found label lines in {lines[0].labels}")
    content = _content(places, texts(objects, True), players)
    spec = clip_spec(content.data_yaml())
    names = _names(places, source)
    clips = [read_clip(place, spec) for place in places]
    for place in places:
        target.check_sources([place.labels])
    for name, clip in zip(names, clips, strict=True):
        remarks += _remarks(name, clip)
    slices = _divide(clips, names, val, texts(val_clips, True))
    counts: list[ClipReport] = []
    pictures = {
        split: partial(
            _pictures, [s for s in slices if s.split == split], spec=spec, every=every, size=size, counts=counts
        )
        for split in ("train", "val")
    }
    rates = {
        f"{s.split}/{s.name}/seqinfo.ini": seqinfo_text(s.name, s.clip.rate / every, len(s.indices[::every]))
        for s in slices
        if s.clip.rate is not None
    }
    written = target.write(content, pictures, copy=copy, files=rates)
    return TracknetReport(**vars(written), clips=counts, remarks=remarks)


def _check_arguments(val: Any, every: Any, size: Any) -> None:
    """Refuse values that are none of the possible ones."""
    for name, value, low, high in (("val", val, 0, 1), ("size", size, 0, 0.5)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low < value < high:
            raise ValueError(f"{name}: expected a share above {low} and below {high}, found {value!r}")
    if isinstance(every, bool) or not isinstance(every, int) or every < 1:
        raise ValueError(f"every: expected a number of 1 or more, found {every!r}")


def _content(places: Sequence[Located], objects: Sequence[str], players: str) -> Content:
    """Return what the data set holds: objects, and players if any file has them, with as many keypoints as those."""
    if not objects or players in objects or len(set(objects)) != len(objects):
        raise ValueError(f"objects: expected names that differ, also from players={players!r}, found {list(objects)}")
    found = [keypoint_count(place.labels) for place in places if place.kind == "annotation"]
    counts = {count for count in found if count is not None}
    keys = {"objects": list(objects)}
    if not counts:
        return Content(names=list(objects), ids=True, keys=keys)
    with_points = counts - {0}
    if len(with_points) > 1:
        raise ValueError(f"expected one number of keypoints in all annotation.json, found {sorted(with_points)}")
    number = max(counts)
    named = list(KEYPOINT_NAMES) if number == len(KEYPOINT_NAMES) else [f"point{k}" for k in range(number)]
    kpt_names = {len(objects): named} if number else {}
    return Content(names=[*objects, players], kpt_names=kpt_names, ids=True, keys=keys)


def _names(places: Sequence[Located], source: Path) -> list[str]:
    """Return a folder name for each clip: its path, without what all clips have and folders like ``video``."""
    found: list[str] = []
    for place in places:
        path = PurePosixPath(place.name)
        parts = list(path.with_suffix("").parts if place.frames.is_file() else path.parts)
        inner = [p for p in parts[1:] if p not in ("video", "frame", "frames")] or [source.stem]
        name = "-".join(inner)
        while name in found:
            name += "_"
        found.append(name)
    return found


def _remarks(name: str, clip: Clip) -> list[str]:
    """Say what of a clip is not used, or filled."""
    found = [f"{name}: {message}" for message in clip.messages[:_SHOWN]]
    if len(clip.messages) > _SHOWN:
        found.append(f"{name}: and {len(clip.messages) - _SHOWN} more lines like these")
    if clip.messages:
        found.append(f"{name}: the frames of lines that do not parse count as not labelled")
    for key, text in (
        ("labels without a frame", "labels are of frames that are not there, left out"),
        ("missing frames", "frame numbers have no image, left as gaps"),
    ):
        if clip.counts[key]:
            found.append(f"{name}: {clip.counts[key]} {text}")
    return found


def _divide(clips: Sequence[Clip], names: Sequence[str], val: float, patterns: Sequence[str]) -> list[_Slice]:
    """Return which frames of which clip go to which split."""
    unused = [p for p in patterns if not any(fnmatchcase(name, p) for name in names)]
    if unused:
        raise ValueError(f"val_clips: expected names of clips ({', '.join(names[:20])}), found {unused[0]!r}")
    if not patterns and len(clips) == 1:
        count = len(clips[0])
        cut = count - round(count * val)
        if not 0 < cut < count:
            raise ValueError(f"val={val}: expected a share that gives both splits frames, found {count} frames")
        ranges = {"train": range(cut), "val": range(cut, count)}
        return [_Slice(clip=clips[0], name=names[0], split=s, indices=r) for s, r in ranges.items()]
    if patterns:
        chosen = {i for i, name in enumerate(names) if any(fnmatchcase(name, p) for p in patterns)}
    else:
        number = min(max(round(len(clips) * val), 1), len(clips) - 1)
        chosen = {int((k + 0.5) * len(clips) / number) for k in range(number)}
    if len(chosen) == len(clips):
        raise ValueError("val_clips: expected clips that stay in train, found all of them in val")
    return [
        _Slice(clip=clip, name=name, split="val" if i in chosen else "train", indices=range(len(clip)))
        for i, (clip, name) in enumerate(zip(clips, names, strict=True))
    ]


def _pictures(
    slices: Sequence[_Slice], report: SplitReport, *, spec: ClipSpec, every: int, size: float, counts: list[ClipReport]
) -> Iterator[Picture]:
    """Yield the frames of a split with their labels, and count each clip."""
    for part in slices:
        clip, own = part.clip, ClipReport(name=part.name, split=part.split)
        if part.indices.start == 0:  # lines are of the whole clip: counted once
            report.dropped["line that does not parse"] += clip.counts["bad lines"]
            report.dropped["line that repeats another"] += clip.counts["duplicate lines"]
            report.annotations += clip.counts["bad lines"] + clip.counts["duplicate lines"]
        identities = Identities()
        for index in part.indices:
            labels = clip.labels[index]
            ids = identities.of(labels)  # also of frames that are left out: an object stays the same over them
            place = index - part.indices.start
            if place % every or _is_filled(clip, index):
                continue
            found = line_instances(labels, ids, spec, clip.size, size)
            report.annotations += len(found)
            report.notes["hard to see, written as seen"] += int((labels.visible == HARD).sum())
            report.notes["hidden object to ignore region"] += int((labels.visible == HIDDEN).sum())
            report.notes["not labelled, an ignore region of the whole picture"] += len(found) - _labelled(labels)
            _count(own, labels)
            number = clip.first + index if every == 1 else place // every
            suffix = Path(clip.frames.file(index)).suffix if isinstance(clip.frames, ImageFrames) else ".jpg"
            yield Picture(name=f"{part.name}/{number:06d}{suffix}", source=_source(clip, index), instances=found)
        counts.append(own)


def _is_filled(clip: Clip, index: int) -> bool:
    """Return whether a frame only repeats the image of another: its number is missing."""
    return clip.frames.key(index) != index


def _labelled(labels: FrameLabels) -> int:
    return len(labels.points) + (0 if labels.players is None else len(labels.players.cls))


def _count(report: ClipReport, labels: FrameLabels) -> None:
    report.images += 1
    report.objects += len(labels.points)
    report.hidden += int((labels.visible == HIDDEN).sum())
    report.players += 0 if labels.players is None else len(labels.players.cls)


def _source(clip: Clip, index: int) -> Path | bytes:
    """Return the image file of a frame, or that of a video as JPEG."""
    if isinstance(clip.frames, ImageFrames):
        return Path(clip.frames.file(index))
    good, data = cv2.imencode(".jpg", clip.read(index), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not good:
        raise ValueError(f"{clip.path}: frame {index} cannot be written as JPEG")
    return np.asarray(data).tobytes()
