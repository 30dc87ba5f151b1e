"""MOTChallenge text files: boxes with identities (``gt.txt``, tracker output) and ``seqinfo.ini`` (numpy only).

One line a box, numbers between commas::

    frame, id, x, y, w, h, conf, class, visibility     MOT16, MOT17, MOT20, DanceTrack: 9 columns
    frame, id, x, y, w, h, conf, X, Y, Z               MOT15 and tracker output: 10 columns, no class, no visibility

``x y`` is the top left corner in pixels. In ground truth, a ``conf`` of 0 marks a box that is not considered. Formats:
https://arxiv.org/abs/1603.00831 (MOT16) and https://arxiv.org/abs/1504.01942 (MOT15). R is the number of boxes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CLASSES = {
    1: "pedestrian",
    2: "person on vehicle",
    3: "car",
    4: "bicycle",
    5: "motorbike",
    6: "non-motorised vehicle",
    7: "static person",
    8: "distractor",
    9: "occluder",
    10: "occluder on the ground",
    11: "full occluder",
    12: "reflection",
    13: "crowd",
}
NO_CLASS = -1
COLUMNS = (9, 10)


@dataclass(frozen=True, kw_only=True, eq=False)
class MotBoxes:
    """The boxes of one text file in file order, index-aligned.

    Attributes:
        path: The file.
        lines: int64 (R,) line numbers, from 1.
        frames: int64 (R,) frame numbers, from 1.
        ids: int64 (R,) identities, 0 or above, each at most once in a frame.
        boxes: float64 (R, 4) x y w h as in the file: top left corner and size in pixels.
        conf: float64 (R,); in ground truth 0 marks a box that is not considered.
        classes: int64 (R,) keys of `CLASSES`, -1 where the file gives none.
        visibility: float64 (R,) visible share 0..1, nan where the file gives none.
    """

    path: str
    lines: NDArray[np.int64]
    frames: NDArray[np.int64]
    ids: NDArray[np.int64]
    boxes: NDArray[np.float64]
    conf: NDArray[np.float64]
    classes: NDArray[np.int64]
    visibility: NDArray[np.float64]

    def __len__(self) -> int:
        """Return R."""
        return len(self.lines)


@dataclass(frozen=True, kw_only=True)
class SequenceInfo:
    """What ``seqinfo.ini`` says of a sequence; None where it does not say.

    Attributes:
        name: Name of the sequence.
        frames: Folder of the frames, relative to the sequence.
        frame_rate: Frames per second.
        length: Number of frames.
        width: Width of a frame in pixels.
        height: Height of a frame in pixels.
    """

    name: str | None = None
    frames: str = "img1"
    frame_rate: float | None = None
    length: int | None = None
    width: int | None = None
    height: int | None = None


def read_mot(path: str | os.PathLike[str]) -> MotBoxes:
    """Read a MOTChallenge text file.

    Args:
        path: ``gt.txt``, or the output of a tracker in the same format; blank lines are skipped.

    Returns:
        The boxes in file order.

    Raises:
        ValueError: ``file:line`` and what was expected there and found; for an identity that occurs twice in a frame,
            both lines.
        FileNotFoundError: The file does not exist.
    """
    name = os.fspath(path)
    rows: list[list[float]] = []
    lines: list[int] = []
    for number, line in _text_lines(name):
        try:
            row = [float(token) for token in line.split(",")]
        except ValueError:
            raise ValueError(f"{name}:{number}: expected numbers between commas, found {line[:60]!r}") from None
        if len(row) not in COLUMNS or (rows and len(row) != len(rows[0])):
            wanted = f"{len(rows[0])} columns as in line {lines[0]}" if rows else "9 or 10 columns"
            raise ValueError(f"{name}:{number}: expected {wanted}, found {len(row)}")
        rows.append(row)
        lines.append(number)
    if not rows:
        raise ValueError(
            f"{name}: expected lines `frame, id, x, y, w, h, conf, class, visibility`, found an empty file"
        )
    values, line_R = np.array(rows), np.array(lines)
    has_class = values.shape[1] == 9
    classes = values[:, 7] if has_class else np.full(len(values), float(NO_CLASS))
    visibility = values[:, 8].copy() if has_class else np.full(len(values), math.nan)
    _check_values(name, line_R, values, classes)
    visibility[visibility < 0] = math.nan
    boxes = MotBoxes(
        path=name,
        lines=line_R,
        frames=values[:, 0].astype(np.int64),
        ids=values[:, 1].astype(np.int64),
        boxes=values[:, 2:6],
        conf=values[:, 6],
        classes=classes.astype(np.int64),
        visibility=visibility,
    )
    _check_unique(boxes)
    return boxes


def read_seqinfo(path: str | os.PathLike[str]) -> SequenceInfo:
    """Read a ``seqinfo.ini``; keys that are not in `SequenceInfo` are skipped.

    Args:
        path: The file.

    Raises:
        ValueError: ``file:line`` and what was expected there and found.
        FileNotFoundError: The file does not exist.
    """
    name = os.fspath(path)
    texts: dict[str, str] = {}
    numbers: dict[str, float] = {}
    for number, line in _text_lines(name):
        if line[0] in "[;#":
            continue
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals:
            raise ValueError(f"{name}:{number}: expected key=value, found {line[:60]!r}")
        key = key.lower()
        texts[key] = value
        if key in ("framerate", "seqlength", "imwidth", "imheight"):
            try:
                numbers[key] = float(value)
            except ValueError:
                numbers[key] = math.nan
            whole = key == "framerate" or numbers[key].is_integer()
            if not (0 < numbers[key] < math.inf and whole):
                raise ValueError(f"{name}:{number}: expected {key} to be a number above 0, found {value!r}")
    length, width, height = (
        int(numbers[key]) if key in numbers else None for key in ("seqlength", "imwidth", "imheight")
    )
    return SequenceInfo(
        name=texts.get("name"),
        frames=texts.get("imdir", "img1"),
        frame_rate=numbers.get("framerate"),
        length=length,
        width=width,
        height=height,
    )


def _text_lines(name: str) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, stripped text) of the lines that are not blank."""
    with open(name, "rb") as file:
        for number, raw in enumerate(file, 1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            except UnicodeDecodeError as error:
                found = f"byte 0x{raw[error.start]:02x}"
                raise ValueError(f"{name}:{number}: expected UTF-8 text, found {found}") from None
            if line:
                yield number, line


def _check_values(
    name: str, line_R: NDArray[np.int64], values: NDArray[np.float64], classes: NDArray[np.float64]
) -> None:
    """Refuse numbers that cannot be what their column says; the first such line is named."""
    frames, ids = values[:, 0], values[:, 1]
    limit = 2.0**53  # integers up to here are exact
    checks = (
        (np.isfinite(values).all(1), "finite numbers", values.sum(1)),
        ((frames >= 1) & (frames < limit) & (frames % 1 == 0), "a frame number from 1", frames),
        ((ids >= 0) & (ids < limit) & (ids % 1 == 0), "an integer id from 0", ids),
        (np.isin(classes, [NO_CLASS, *CLASSES]), f"a class 1..{max(CLASSES)} (or -1 for none)", classes),
    )
    for good, wanted, found in checks:
        if not good.all():
            i = int(np.argmin(good))
            raise ValueError(f"{name}:{line_R[i]}: expected {wanted}, found {found[i]:g}")


def _check_unique(boxes: MotBoxes) -> None:
    """Refuse an identity that occurs twice in one frame."""
    order = np.lexsort((boxes.ids, boxes.frames))  # stable: lines of the same frame and id stay in order
    frames, ids = boxes.frames[order], boxes.ids[order]
    again = np.flatnonzero((frames[1:] == frames[:-1]) & (ids[1:] == ids[:-1]))
    if len(again):
        first, second = order[again[0]], order[again[0] + 1]
        raise ValueError(
            f"{boxes.path}:{boxes.lines[second]}: expected each id once in a frame, found id {boxes.ids[first]} of "
            f"frame {boxes.frames[first]} again, first at {boxes.path}:{boxes.lines[first]}; correct one of them"
        )
