"""What a network finds in every frame of a sequence, computed once, so that all trackers get the same boxes.

N detections, S boxes that the NMS suppressed, G true boxes, E feature values, A anchors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SAME_PIXELS, SAME_SCORE = 0.05, 1e-3


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One frame; boxes in pixels of the image.

    Attributes:
        boxes: Detections (N, 6), x1 y1 x2 y2 score class, class 0 a person.
        suppressed: Boxes (S, 6) that the NMS suppressed and the host's TrackTrack recovers.
        features: Vectors (N, E) of the detections, by their source.
        truth_features: Vectors (G, E) of the true boxes, by their source.
        truth_overlap: Overlap (G,) of each true box with the box of the anchor that its vectors are read at.
        cues: Further outputs of the detections by the name of `MultiCueTracker.update`'s argument; masks as bits,
            packed along their width.
        mask_width: That width in pixels.
        milliseconds: Time that each source of features took.
    """

    boxes: NDArray[np.float32]
    suppressed: NDArray[np.float32]
    features: dict[str, NDArray[Any]] = field(default_factory=dict)
    truth_features: dict[str, NDArray[Any]] = field(default_factory=dict)
    truth_overlap: NDArray[Any] = field(default_factory=lambda: np.zeros(0))
    cues: dict[str, NDArray[Any]] = field(default_factory=dict)
    mask_width: int = 0
    milliseconds: dict[str, float] = field(default_factory=dict)

    def update_arguments(self) -> dict[str, NDArray[Any]]:
        """Return `cues` as `MultiCueTracker.update` takes them."""
        return {
            name: np.unpackbits(value, axis=-1, count=self.mask_width) if name == "masks" else value
            for name, value in self.cues.items()
        }


def same_boxes(one: Sequence[Frame], two: Sequence[Frame]) -> tuple[bool, str]:
    """Return whether both hold the same detections in the same order, and how far they agree, in words.

    The same are boxes within `SAME_PIXELS` with scores within `SAME_SCORE`: two networks that share their weights
    differ by rounding alone.
    """
    pairs = [(a.boxes, b.boxes) for a, b in zip(one, two, strict=True)]
    alike = [(a, b) for a, b in pairs if len(a) == len(b)]
    pixels = max((float(np.abs(a[:, :4] - b[:, :4]).max()) for a, b in alike if len(a)), default=0.0)
    scores = max((float(np.abs(a[:, 4] - b[:, 4]).max()) for a, b in alike if len(a)), default=0.0)
    others = len(pairs) - len(alike)
    words = f"{others} of {len(pairs)} frames with another number of boxes; in the rest, boxes differ by at most "
    return (
        not others and pixels <= SAME_PIXELS and scores <= SAME_SCORE,
        words + f"{pixels:.2g} px, scores {scores:.2g}",
    )


def save_frames(path: Path, frames: Sequence[Frame]) -> None:
    """Write `frames` to an npz file, whole or not at all."""
    arrays: dict[str, Any] = {}
    for i, frame in enumerate(frames):
        for part in fields(frame):
            value = getattr(frame, part.name)
            named = value.items() if isinstance(value, dict) else [("", value)]
            arrays |= {f"{i}/{part.name}/{name}": np.asarray(content) for name, content in named}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp.npz")
    try:
        np.savez_compressed(temporary, **arrays)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load_frames(path: Path) -> list[Frame]:
    """Read the frames that `save_frames` wrote."""
    parts: dict[int, dict[str, Any]] = {}
    with np.load(path) as arrays:
        for key in arrays.files:
            number, part, name = key.split("/", 2)
            frame = parts.setdefault(int(number), {})
            if name:
                frame.setdefault(part, {})[name] = arrays[key]
            else:
                frame[part] = arrays[key]
    for frame in parts.values():
        frame["mask_width"] = int(frame["mask_width"])
        frame["milliseconds"] = {name: float(value) for name, value in frame.get("milliseconds", {}).items()}
    return [Frame(**parts[i]) for i in range(len(parts))]
