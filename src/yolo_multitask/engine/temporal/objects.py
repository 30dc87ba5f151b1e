"""The small objects of one frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


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
