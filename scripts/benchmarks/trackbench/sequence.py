"""A sequence in the MOTChallenge layout: images, and the true box and identity of every pedestrian."""

from __future__ import annotations

import configparser
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.floating[Any]]
PARTS = ("all", "first", "second")


@dataclass(frozen=True, kw_only=True)
class TruthSequence:
    """The frames of a sequence; G people are visible in a frame.

    Attributes:
        name: Name of the sequence.
        frame_rate: Frames a second.
        images: Image of each frame.
        ids: Identities (G,) of each frame.
        boxes: Boxes (G, 4) of each frame, x1 y1 x2 y2 in pixels, as the ground truth file gives them.
    """

    name: str
    frame_rate: float
    images: Sequence[Path]
    ids: Sequence[IntArray]
    boxes: Sequence[FloatArray]

    def __len__(self) -> int:
        return len(self.images)

    def part(self, name: str) -> TruthSequence:
        """Return `all` frames, or those of the `first` or the `second` half."""
        frames = part_of(len(self), name)
        return replace(self, images=self.images[frames], ids=self.ids[frames], boxes=self.boxes[frames])


def part_of(length: int, name: str) -> slice:
    """Return which of `length` frames the part `name` has; an odd frame belongs to the second half."""
    half = length // 2
    return {"all": slice(0, length), "first": slice(0, half), "second": slice(half, length)}[name]


def read_sequence(folder: Path) -> TruthSequence:
    """Read `seqinfo.ini`, `gt/gt.txt` and the names of the images.

    Lines of the ground truth whose flag (column 7) is 0 are left out: MOTChallenge does not evaluate them.

    Raises:
        ValueError: If a file is missing, or the number of images is not that of `seqinfo.ini`.
    """
    info_file, truth_file = folder / "seqinfo.ini", folder / "gt" / "gt.txt"
    if missing := [str(f) for f in (info_file, truth_file) if not f.is_file()]:
        raise ValueError(f"'{folder}' is no MOTChallenge sequence: {' and '.join(missing)} not found.")
    parser = configparser.ConfigParser()
    parser.read(info_file)
    info = parser["Sequence"]
    images = sorted((folder / info["imDir"]).glob(f"*{info['imExt']}"))
    if len(images) != int(info["seqLength"]):
        raise ValueError(f"'{info_file}' says seqLength={info['seqLength']}, but there are {len(images)} images.")
    lines = np.loadtxt(truth_file, delimiter=",", ndmin=2)
    lines = lines[lines[:, 6] > 0]
    frames = [lines[lines[:, 0] == i + 1] for i in range(len(images))]
    return TruthSequence(
        name=info["name"],
        frame_rate=float(info["frameRate"]),
        images=images,
        ids=[rows[:, 1].astype(np.int64) for rows in frames],
        boxes=[np.concatenate((rows[:, 2:4], rows[:, 2:4] + rows[:, 4:6]), 1) for rows in frames],
    )
