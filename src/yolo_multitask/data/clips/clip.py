"""What a clip is: frames in order, and what is known of each.

P objects that are followed (a ball), N players, K keypoints. Pixel coordinates: x right, y down, (0, 0) is the outer
corner of the first pixel of the frame.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from yolo_multitask.data.clips.frames import Frames, Image

CLEAR, HARD, HIDDEN = 1, 2, 3  # how well an object is seen; TrackNet's numbers


@dataclass(frozen=True, kw_only=True, eq=False)
class Players:
    """The players of one frame, index-aligned. N may be 0: somebody looked, and nobody is there.

    Attributes:
        boxes: float32 (N, 4) x1 y1 x2 y2 in pixels.
        cls: int64 (N,) classes of the data.
        keypoints: float32 (N, K, 3) x y in pixels and visibility (0 absent), zero where not labelled; None where the
            data has none.
        has_keypoints: bool (N,), whether the keypoints are labelled.
        ids: int64 (N,) identities in the clip, -1 unknown.
        ignore: bool (N,), whether it is an ignore region.
    """

    boxes: NDArray[np.float32]
    cls: NDArray[np.int64]
    keypoints: NDArray[np.float32] | None
    has_keypoints: NDArray[np.bool_]
    ids: NDArray[np.int64]
    ignore: NDArray[np.bool_]

    def __post_init__(self) -> None:
        """Check that every field has N entries."""
        n = len(self.cls)
        fields = {k: v for k, v in vars(self).items() if v is not None}
        wrong = {k: len(v) for k, v in fields.items() if len(v) != n}
        if wrong:
            raise ValueError(f"Players: expected {n} entries in every field as in cls, found {wrong}")


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameLabels:
    """What is known of one frame.

    An object that is not in the frame has no row. A frame that is not labelled has none either, but nothing is known
    of it: it is neither positive nor negative.

    Attributes:
        labelled: Whether the objects are labelled.
        points: float32 (P, 2) x y in pixels.
        cls: int64 (P,) classes of the data.
        visible: int64 (P,) `CLEAR`, `HARD` (to see) or `HIDDEN`.
        ids: int64 (P,) identities in the clip, -1 unknown.
        boxes: float32 (P, 4) x1 y1 x2 y2 in pixels, NaN where only the position is known.
        players: The players, None where they are not labelled.
    """

    labelled: bool
    points: NDArray[np.float32]
    cls: NDArray[np.int64]
    visible: NDArray[np.int64]
    ids: NDArray[np.int64]
    boxes: NDArray[np.float32]
    players: Players | None = None

    def __post_init__(self) -> None:
        """Check that every field has P entries."""
        p = len(self.points)
        wrong = {k: len(getattr(self, k)) for k in ("cls", "visible", "ids", "boxes") if len(getattr(self, k)) != p}
        if wrong:
            raise ValueError(f"FrameLabels: expected {p} entries in every field as in points, found {wrong}")

    @classmethod
    def of(
        cls,
        rows: Sequence[tuple[float, float, int, int, int]],
        *,
        labelled: bool = True,
        players: Players | None = None,
    ) -> FrameLabels:
        """Return the labels of a frame of which positions are known.

        Args:
            rows: (x, y, class, visibility, id) of each object.
            labelled: Whether the objects are labelled.
            players: The players.
        """
        numbers = np.array([row[2:] for row in rows], np.int64).reshape(-1, 3)
        return cls(
            labelled=labelled,
            points=np.array([row[:2] for row in rows], np.float32).reshape(-1, 2),
            cls=numbers[:, 0],
            visible=numbers[:, 1],
            ids=numbers[:, 2],
            boxes=np.full((len(rows), 4), np.nan, np.float32),
            players=players,
        )


UNLABELLED = FrameLabels.of([], labelled=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class Clip:
    """Frames in order with their labels, index-aligned. Time is the frame number.

    Attributes:
        name: Of the clip, with its folder where that tells it from others.
        frames: Reads the pictures.
        labels: What is known of each frame.
        rate: Frames per second, None where it is not known.
        first: Number of the first frame, as files or labels count.
        path: Where the frames are.
        counts: What was found and left out while it was read, by name.
        messages: One ``file:line: reason`` for each thing that was left out.
    """

    name: str
    frames: Frames
    labels: tuple[FrameLabels, ...]
    rate: float | None = None
    first: int = 0
    path: str = ""
    counts: Counter[str] = field(default_factory=Counter)
    messages: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check that every frame has labels."""
        if len(self.labels) != len(self.frames):
            raise ValueError(
                f"Clip {self.name}: expected labels of {len(self.frames)} frames, found {len(self.labels)}"
            )

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.frames)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width (H, W) of the frames in pixels."""
        return self.frames.size

    def read(self, index: int) -> Image:
        """Return a frame, (H, W, 3) BGR uint8.

        Raises:
            ValueError: It cannot be read.
        """
        return self.frames.read(index)
