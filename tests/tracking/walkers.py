"""Detections of people who walk, for tests that drive a tracker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from yolo_multitask.tracking import MultiCueTracker


class Det(NamedTuple):
    """N detections, as `ultralytics.engine.results.Boxes` in numpy."""

    xyxy: NDArray[Any]
    conf: NDArray[Any]
    cls: NDArray[Any]


def detections(boxes: Any, conf: Any = 0.9, cls: Any = 0) -> Det:
    """Boxes (N, 4) with a score and a class each, or one for all."""
    xyxy = np.asarray(boxes, np.float32).reshape(-1, 4)
    scores = np.broadcast_to(np.asarray(conf, np.float32), len(xyxy)).copy()
    return Det(xyxy, scores, np.broadcast_to(np.asarray(cls, np.float32), len(xyxy)).copy())


def person(x: float, y: float = 200.0, height: float = 80.0) -> list[float]:
    """Box whose feet stand at x, y."""
    return [x - 0.2 * height, y - height, x + 0.2 * height, y]


def shift(boxes: Any, x: float = 0, y: float = 0) -> NDArray[np.float64]:
    """Boxes (N, 4) moved by x and y pixels."""
    return np.asarray(boxes, float) + np.array([x, y, x, y])


def looks(*who: int, width: int = 16) -> NDArray[np.float32]:
    """Embeddings (N, E) of known people; those of two people are orthogonal."""
    return np.eye(width, dtype=np.float32)[list(who)]


def ids(rows: NDArray[np.float32]) -> list[int]:
    """Ids of output rows, in their order."""
    return [int(row[4]) for row in rows]


def follow(tracker: MultiCueTracker, frames: Sequence[Sequence[list[float]]], **cues: Any) -> list[list[int]]:
    """Ids of each frame, for frames of boxes with the same cues in each."""
    return [ids(tracker.update(detections(boxes), **cues)) for boxes in frames]
