"""Finding and reading MOTChallenge sequences: folders with ``img1/``, ``gt/gt.txt`` and ``seqinfo.ini``."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from yolo_multitask.data.convert.output import SPLITS
from yolo_multitask.data.mot import MotBoxes, SequenceInfo, read_mot, read_seqinfo

DETECTORS = ("DPM", "FRCNN", "SDP")  # MOT17 has every sequence once for each, with the same frames and ground truth
_COPY = re.compile(rf"(.+)-({'|'.join(DETECTORS)})")


@dataclass(frozen=True, kw_only=True, eq=False)
class MotSequence:
    """One sequence, read.

    Attributes:
        name: Name of its folder.
        info: Its ``seqinfo.ini``; all None where it has none.
        boxes: Its ``gt/gt.txt``.
        frames: Image of each frame by frame number, ascending.
    """

    name: str
    info: SequenceInfo
    boxes: MotBoxes
    frames: dict[int, Path]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A sequence and the split that it goes to.

    Attributes:
        folder: The sequence.
        split: The split.
        half: The second half of its frames goes to val.
    """

    folder: Path
    split: str
    half: bool = False


def plan(
    src: Path, split: str | None, sequences: Sequence[str], val: Sequence[str], val_half: bool, detector: str
) -> tuple[list[Part], list[str]]:
    """Decide which sequences are converted and to which split each goes.

    Args:
        src: A benchmark with the folders ``train``, ``val``, a folder of sequences, or one sequence.
        split: Split of the sequences; of a benchmark, the folder that is taken. None for train (and val) as found.
        sequences: Names or patterns of the sequences to take, empty for all.
        val: Names or patterns of those that go to val.
        val_half: Whether the second half of every sequence of train goes to val.
        detector: Which of the copies of a MOT17 sequence is taken.

    Returns:
        The parts, and remarks on what is left out.

    Raises:
        ValueError: There is no sequence, a pattern matches none, or the arguments contradict each other.
        FileNotFoundError: `src` does not exist.
    """
    found, remarks = _find(src, split)
    if sequences:
        _check_patterns("sequences", sequences, [f for folders in found.values() for f in folders])
        found = {s: [f for f in folders if _matches(f, sequences)] for s, folders in found.items()}
    found = {s: _one_copy(folders, detector, remarks) for s, folders in found.items() if folders}
    if (val or val_half) and set(found) != {"train"}:
        raise ValueError(
            f"val= and val_half= divide the sequences of train, found {' and '.join(found)}; leave them out, or give "
            "the folder with the sequences of train as src"
        )
    _check_patterns("val", val, found.get("train", []))
    parts = []
    for name, folders in found.items():
        for folder in folders:
            to_val = name == "train" and _matches(folder, val)
            parts.append(Part(folder=folder, split="val" if to_val else name, half=val_half and not to_val))
    if val and all(p.split == "val" for p in parts):
        raise ValueError("val= takes all sequences, nothing is left for train; give split=val in its place")
    return parts, remarks


def read_sequence(folder: Path) -> MotSequence:
    """Read ground truth and frame names of a sequence; the images themselves are not opened.

    Raises:
        ValueError: A file does not parse, frames are not named by their numbers, or none of the annotated is there.
        FileNotFoundError: There is no ``gt/gt.txt`` or no folder of frames.
    """
    truth, ini = folder / "gt" / "gt.txt", folder / "seqinfo.ini"
    if not truth.is_file():
        raise FileNotFoundError(
            f"{truth}: expected the ground truth of the sequence, found none (test sets have none); leave the sequence "
            "out with sequences="
        )
    info = read_seqinfo(ini) if ini.is_file() else SequenceInfo()
    boxes = read_mot(truth)
    frames = _frames(folder / info.frames)
    if not set(boxes.frames.tolist()) & set(frames):
        raise ValueError(
            f"{folder / info.frames}: expected images of the frames in {truth}, {boxes.frames.min()} to "
            f"{boxes.frames.max()}, found none of them among {len(frames)} images"
        )
    return MotSequence(name=folder.name, info=info, boxes=boxes, frames=frames)


def _find(src: Path, split: str | None) -> tuple[dict[str, list[Path]], list[str]]:
    """Return the sequence folders by split, and remarks on folders that are left out."""
    if not src.is_dir():
        raise FileNotFoundError(f"src={src}: expected a folder of MOTChallenge sequences, found none there")
    if _is_sequence(src):
        return {split or "train": [src]}, []
    here = _sequences(src)
    if here:
        others = sorted(p.name for p in src.iterdir() if p.is_dir() and p not in here and p.name[0] != ".")
        remarks = [f"left out, no sequences: {', '.join(others)}"] if others else []
        return {split or "train": here}, remarks
    parts = {s: [src / s, *sorted(src.glob(f"{s}[0-9]"))] for s in SPLITS}  # DanceTrack comes as train1 and train2
    below = {
        s: [f for folder in folders if folder.is_dir() for f in _sequences(folder)] for s, folders in parts.items()
    }
    below = {s: folders for s, folders in below.items() if folders}
    taken = {s: folders for s, folders in below.items() if (s == split if split else s != "test")}
    if not taken:
        where = f"in {src / split}" if split and below else "there or in train/, val/"
        raise ValueError(
            f"src={src}: expected sequences (folders with img1/ and gt/gt.txt), found none {where}; give a sequence, "
            "a folder of sequences, or a benchmark with the folder train"
        )
    remarks = [
        f"left out: {s} with {len(f)} sequences (split={s} takes it)" for s, f in below.items() if s not in taken
    ]
    return taken, remarks


def _is_sequence(folder: Path) -> bool:
    """Return whether a folder is a sequence, complete or not."""
    return (folder / "seqinfo.ini").is_file() or (folder / "gt" / "gt.txt").is_file() or (folder / "img1").is_dir()


def _sequences(folder: Path) -> list[Path]:
    """Return the sequences in a folder, sorted by name."""
    return sorted(p for p in folder.iterdir() if p.is_dir() and _is_sequence(p))


def _matches(folder: Path, patterns: Iterable[str]) -> bool:
    """Return whether a pattern matches the sequence's name, or its name without the detector."""
    copy = _COPY.fullmatch(folder.name)
    names = [folder.name, *([copy[1]] if copy else [])]
    return any(fnmatchcase(name, pattern) for pattern in patterns for name in names)


def _check_patterns(key: str, patterns: Sequence[str], folders: Sequence[Path]) -> None:
    """Refuse a pattern that matches no sequence."""
    for pattern in patterns:
        if not any(_matches(folder, [pattern]) for folder in folders):
            names = ", ".join(f.name for f in folders[:100])
            raise ValueError(f"{key}: expected names or patterns of sequences, found {pattern!r}; there are: {names}")


def _one_copy(folders: Sequence[Path], detector: str, remarks: list[str]) -> list[Path]:
    """Keep one of the copies that differ in their detections alone: that of `detector`, else the first."""
    copies: Mapping[str, list[Path]] = defaultdict(list)
    for folder in folders:
        copy = _COPY.fullmatch(folder.name)
        copies[copy[1] if copy else folder.name].append(folder)
    kept = [next((f for f in group if f.name.endswith(f"-{detector}")), group[0]) for group in copies.values()]
    left_out = [f.name for f in folders if f not in kept]
    if left_out:
        remarks.append(f"left out, the same frames for other detectors: {', '.join(left_out)}")
    return kept


def _frames(folder: Path) -> dict[int, Path]:
    """Return the images of a folder by frame number, ascending."""
    from ultralytics.data.utils import IMG_FORMATS

    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: expected the folder with the frames of the sequence, found none there")
    frames: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.suffix[1:].lower() not in IMG_FORMATS:
            continue
        if not (path.stem.isascii() and path.stem.isdecimal()):
            raise ValueError(f"{path}: expected frames named by their numbers, such as 000001.jpg; rename or move it")
        first = frames.setdefault(int(path.stem), path)
        if first != path:
            raise ValueError(f"{path}: expected each frame once, found {first.name} beside it; remove one of the two")
    if not frames:
        raise ValueError(f"{folder}: expected frames such as 000001.jpg, found no images")
    return dict(sorted(frames.items()))
