"""What a `Results` holds beside the host's fields; each supports indexing, `cpu`, `numpy`, `cuda` and `to` as they do.

N detections, E embedding values, T past frames.
"""

from __future__ import annotations

from typing import Any

from ultralytics.engine.results import BaseTensor


class Embeddings(BaseTensor):
    """Appearance vectors of the detections of one image, (N, E), L2-normalised as the head gives them."""

    def __init__(self, data: Any, orig_shape: tuple[int, int]) -> None:
        """Hold `data`, (N, E) or the (E,) of one detection, of an image of height and width `orig_shape`."""
        super().__init__(data if data.ndim > 1 else data[None], orig_shape)

    def similarity(self, other: Embeddings) -> Any:
        """Return the cosine similarities (N, N') to `other`, in -1..1 for normalised vectors."""
        return self.data @ other.data.T


class NextBoxes(BaseTensor):
    """Where the objects of one image are expected in the next frame, (N, 4), not clipped to the image."""

    def __init__(self, data: Any, orig_shape: tuple[int, int]) -> None:
        """Hold `data`, (N, 4) or the (4,) of one detection, of an image of height and width `orig_shape`."""
        super().__init__(data if data.ndim > 1 else data[None], orig_shape)

    @property
    def xyxy(self) -> Any:
        """The boxes (N, 4), x1 y1 x2 y2 in original pixels."""
        return self.data


class Points(BaseTensor):
    """Exact positions of small objects of one image, (N, 3), index-aligned with the boxes.

    What is no such object, as a player, has NaN.
    """

    def __init__(self, data: Any, orig_shape: tuple[int, int]) -> None:
        """Hold `data`, (N, 3) or the (3,) of one detection, of an image of height and width `orig_shape`."""
        super().__init__(data if data.ndim > 1 else data[None], orig_shape)

    @property
    def xy(self) -> Any:
        """The positions (N, 2) in original pixels, NaN where there is none."""
        return self.data[:, :2]

    @property
    def interpolated(self) -> Any:
        """Whether each position was not seen but lies between two that were, bool (N,)."""
        return self.data[:, 2] == 1

    @property
    def known(self) -> Any:
        """Which of the detections have a position, bool (N,)."""
        return self.data[:, 0] == self.data[:, 0]  # NaN differs from itself, in numpy as in torch


class Trails(BaseTensor):
    """Where the objects of one image have been, (N, T, 2), or (N, T, 3) with whether a point is interpolated."""

    def __init__(self, data: Any, orig_shape: tuple[int, int]) -> None:
        """Hold `data`, (N, T, D) or the (T, D) of one object, of an image of height and width `orig_shape`."""
        super().__init__(data if data.ndim > 2 else data[None], orig_shape)

    @property
    def xy(self) -> Any:
        """The points (N, T, 2) in original pixels from old to new; NaN where an object was not seen."""
        return self.data[..., :2]

    @property
    def interpolated(self) -> Any:
        """Which of the points (N, T) are interpolated, bool; None where the trails do not say."""
        return self.data[..., 2] == 1 if self.data.shape[-1] > 2 else None
