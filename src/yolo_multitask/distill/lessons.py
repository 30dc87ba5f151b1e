"""What the teachers say of one view of a picture, and its file in the cache.

n anchors on which a teacher sees something, e of their class probabilities, m instances, K keypoints of D values, E
embedding.
"""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(kw_only=True, eq=False)
class Lesson:
    """Labels of one view, of anchors (dense, soft) and of instances (after the NMS).

    Coordinates are pixels of the network input.

    Attributes:
        anchors: int32 (n,), indices over all levels, as in the head's outputs.
        boxes: (n, 4) x1 y1 x2 y2 of the teacher that is most certain there.
        bins: float16 (n, 4 * reg_max) raw box distances of the same; no columns where the student has other bins.
        scores: (n,) highest class probability.
        owner: int16 (n,) instance that the anchor stands for, -1 none.
        entry_anchor: int32 (e,) anchor of a class probability; all others are as good as zero.
        entry_class: int16 (e,) its class, of the student.
        entry_score: (e,) the probability.
        instance_boxes: (m, 4) x1 y1 x2 y2.
        instance_class: int16 (m,).
        instance_score: (m,).
        keypoints: (m, K, D), visibility as a probability; NaN where no teacher gives any.
        mask_corner: int32 (m, 4) x1 y1 x2 y2 of its mask in cells of the prototypes; empty where no teacher gives any.
        mask_values: uint8, 255 times the probabilities of all masks, one after the other, row by row.
        embeddings: float16 (m, E), NaN where no teacher gives any.
    """

    anchors: NDArray[np.int32]
    boxes: Floats
    bins: NDArray[np.float16]
    scores: Floats
    owner: NDArray[np.int16]
    entry_anchor: NDArray[np.int32]
    entry_class: NDArray[np.int16]
    entry_score: Floats
    instance_boxes: Floats
    instance_class: NDArray[np.int16]
    instance_score: Floats
    keypoints: Floats
    mask_corner: NDArray[np.int32]
    mask_values: NDArray[np.uint8]
    embeddings: NDArray[np.float16]

    @property
    def has_mask(self) -> NDArray[np.bool_]:
        """Whether a teacher gives a mask of an instance, (m,)."""
        return np.asarray(self.mask_corner[:, 2] > self.mask_corner[:, 0])

    @property
    def has_keypoints(self) -> NDArray[np.bool_]:
        """Whether a teacher gives keypoints of an instance, (m,)."""
        return np.asarray(np.isfinite(self.keypoints).all((1, 2)))

    @property
    def has_embedding(self) -> NDArray[np.bool_]:
        """Whether a teacher gives the embedding of an instance, (m,)."""
        return np.asarray(np.isfinite(self.embeddings).all(1) & (self.embeddings.shape[1] > 0))

    def masks(self, size: tuple[int, int]) -> Floats:
        """Return the masks of all instances as probabilities, (m, h, w), zero outside their boxes.

        Args:
            size: Height and width of the prototypes.
        """
        out = np.zeros((len(self.mask_corner), *size), np.float32)
        start = 0
        for mask, (x1, y1, x2, y2) in zip(out, self.mask_corner, strict=True):
            count = max(y2 - y1, 0) * max(x2 - x1, 0)
            values = self.mask_values[start : start + count].reshape(max(y2 - y1, 0), max(x2 - x1, 0))
            mask[y1:y2, x1:x2] = values.astype(np.float32) / 255
            start += count
        return out

    def save(self, file: Path) -> None:
        """Write the lesson whole or not at all."""
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f".{uuid.uuid4().hex}.tmp")
        try:
            with open(temporary, "wb") as stream:
                np.savez_compressed(stream, **{f.name: getattr(self, f.name) for f in fields(self)})
            os.replace(temporary, file)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def load(cls, file: Path) -> Lesson | None:
        """Read a lesson; None where there is none, or none that can be read."""
        try:
            with np.load(file) as saved:
                return cls(**{f.name: saved[f.name] for f in fields(cls)})
        except (OSError, ValueError, KeyError, EOFError):
            return None
