"""The small objects of one frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from yolo_multitask.engine.temporal.layout import TemporalLayout


@dataclass(frozen=True, kw_only=True)
class Objects:
    """The objects of a frame, index-aligned.

    Attributes:
        xy: Positions in pixels of the frame (M, 2).
        conf: Confidences (M,).
        cls: Classes among those that are followed (M,).
        ids: Identities (M,), None where they are not tracked.
        interpolated: Whether a position was not seen, but lies between two that were (M,).
    """

    xy: NDArray[np.float64]
    conf: NDArray[np.float64]
    cls: NDArray[np.int64]
    ids: NDArray[np.int64] | None
    interpolated: NDArray[np.bool_]

    @classmethod
    def of(cls, rows: Any, tracked: bool) -> Objects:
        """Return the objects of rows (M, 6): x y conf cls id interpolated if tracked, else those of `combine`."""
        rows = np.asarray(rows, np.float64).reshape(-1, 6)
        conf, kind = (2, 3) if tracked else (4, 5)
        return cls(
            xy=rows[:, :2],
            conf=rows[:, conf],
            cls=rows[:, kind].astype(np.int64),
            ids=rows[:, 4].astype(np.int64) if tracked else None,
            interpolated=rows[:, 5] > 0 if tracked else np.zeros(len(rows), bool),
        )

    def __getitem__(self, chosen: Any) -> Objects:
        """Return some of the objects."""
        return Objects(
            xy=self.xy[chosen],
            conf=self.conf[chosen],
            cls=self.cls[chosen],
            ids=None if self.ids is None else self.ids[chosen],
            interpolated=self.interpolated[chosen],
        )


def object_boxes(objects: Objects, layout: TemporalLayout, size: Sequence[int]) -> torch.Tensor:
    """Return the boxes that stand for objects, rows x1 y1 x2 y2 confidence class (M, 6), cut off at the frame.

    Args:
        objects: The objects of a frame.
        layout: Says how large the boxes are, and which classes of the data the objects have.
        size: Height and width of the frame.
    """
    height, width = size
    half = layout.object_size * max(size) / 2
    corners = np.concatenate((objects.xy - half, objects.xy + half), 1).clip(0, [width, height, width, height])
    cls = np.take(layout.objects or (0,), objects.cls)
    return torch.as_tensor(np.column_stack((corners, objects.conf, cls)), dtype=torch.float32)
