"""Balls on known paths, as the points that a network finds of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Path = Callable[[int], tuple[float, float] | None]
SIZE = (360, 640)
EMPTY = np.zeros((0, 6))


def point(x: float, y: float, conf: float = 0.9, cls: int = 0, step: tuple[float, float] | None = None) -> list[float]:
    """Return a row x y next_x next_y conf cls; `step` is what the network expects of the next frame."""
    ahead = (np.nan, np.nan) if step is None else (x + step[0], y + step[1])
    return [x, y, *ahead, conf, cls]


def rows(*points: list[float]) -> NDArray[np.float64]:
    return np.array(points, np.float64).reshape(-1, 6)


def line(start: tuple[float, float], speed: tuple[float, float], unseen: set[int] = frozenset()) -> Path:  # type: ignore[assignment]
    """Return a steady path that is not seen in some frames."""
    return lambda t: None if t in unseen else (start[0] + speed[0] * t, start[1] + speed[1] * t)


def frames_of(paths: Mapping[int, Path], numbers: list[int], ahead: bool = False) -> list[NDArray[np.float64]]:
    """Return the points of each frame, by path; with `ahead` each says where it goes next, where it is seen there."""
    frames = []
    for t in numbers:
        found = []
        for path in paths.values():
            here, there = path(t), path(t + 1)
            if here is not None:
                step = (there[0] - here[0], there[1] - here[1]) if ahead and there is not None else None
                found.append(point(*here, step=step))
        frames.append(rows(*found))
    return frames
