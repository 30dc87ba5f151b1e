"""Trajectories of small fast objects: positions of single frames linked to ids.

An object here has a position and no size, moves many times its own size from frame to frame, and is often not seen for
some frames. So what links it is where it is expected, not overlap or looks.

Shapes: M points of one frame, T trajectories, P pairs of both. Points are rows x, y, next_x, next_y, confidence, class
in pixels of the original frame, `next` NaN where it is not known (see `tracking.points.combine`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo_multitask.metrics.points import pixel_scale
from yolo_multitask.tracking.association import assign

Array = NDArray[np.float64]
YOUNG_GAP = 1  # frames that a trajectory may miss before it has `min_length` points


@dataclass(frozen=True, kw_only=True)
class TrajectoryConfig:
    """How positions are linked. Lengths are pixels of a frame whose longer side is 640, time is counted in frames.

    Attributes:
        max_gap: An object that is not seen for at most this many frames keeps its id, and the gap is filled; after
            more, it comes back with a new id. Until it has `min_length` points it may miss one frame alone: what is
            seen once is often nothing, and should not wait for the next stray point.
        gate: How far from where it is expected an object may be found, at rest.
        agility: What its speed adds to that: so many times the way that it moves until then. 2 lets an object come
            back as fast as it went, as after a hit.
        max_speed: No object moves farther in one frame.
        min_length: A trajectory of fewer points is dropped, if its points are less confident than `sure`, as far as the
            look-ahead can tell: see `TrajectorySmoother`.
        sure: See `min_length`.
        radius: Two estimates of one class in a frame that are not farther apart are of the same object.

    Raises:
        ValueError: A value has the wrong type or is out of its range.
    """

    max_gap: int = 5
    gate: float = 30.0
    agility: float = 1.5
    max_speed: float = 100.0
    min_length: int = 2
    sure: float = 0.5
    radius: float = 8.0

    def __post_init__(self) -> None:
        for field in fields(self):
            _check(field.name, getattr(self, field.name), isinstance(field.default, int))

    def to_pixels(self, length: float, size: tuple[int, int]) -> float:
        """Return one of the lengths in pixels of a frame of height and width `size`."""
        return length / pixel_scale(size)


_RANGES: dict[str, tuple[float, float]] = {
    "max_gap": (0, 10_000),
    "agility": (0, float("inf")),
    "min_length": (1, 10_000),
    "sure": (0, 1),
    "radius": (0, float("inf")),
}


def _check(name: str, value: Any, whole: bool) -> None:
    """Check one value of a configuration.

    Raises:
        ValueError: It does not fit.
    """
    kinds = int if whole else (int, float)
    number = isinstance(value, kinds) and not isinstance(value, bool) and isfinite(value)
    low, high = _RANGES.get(name, (0, float("inf")))
    fits = number and low <= value <= high and (name in _RANGES or value > 0)
    if not fits:
        kind = "a whole number" if whole else "a number"
        limits = "above 0" if name not in _RANGES else f"from {low:g}" + (f" to {high:g}" if isfinite(high) else "")
        raise ValueError(f"{name}: expected {kind} {limits}, found {value!r}.")


@dataclass
class _Trajectory:
    """The last known point of one object.

    Attributes:
        id: Its id.
        cls: Its class.
        frame: Number of the frame in which it was last seen.
        position: Where, (2,).
        velocity: Pixels per frame (2,), or None where neither the network nor a second point says it.
        count: How often it was seen.
    """

    id: int
    cls: int
    frame: int
    position: Array
    velocity: Array | None
    count: int = 1


class TrajectoryLinker:
    """Gives the points of one sequence ids, frame by frame; it never looks ahead.

    A point continues the trajectory of its class that expects it, in the assignment that fits best as a whole. Expected
    is the last position plus the last velocity: the network's next position where there is one, else the way from the
    point before. What continues nothing begins a trajectory.

    >>> linker = TrajectoryLinker(size=(360, 640))
    >>> nan = float("nan")
    >>> [linker.update(t, np.array([[10.0 * t, 50, nan, nan, 0.9, 0]])).tolist() for t in (0, 1, 4)]
    [[1], [1], [1]]
    >>> linker.update(11, np.array([[110.0, 50, nan, nan, 0.9, 0]])).tolist()  # not seen for 6 frames
    [2]

    Attributes:
        config: The configuration.
        frame: Number of the last frame, or None before the first.
    """

    def __init__(self, config: TrajectoryConfig | None = None, *, size: tuple[int, int]) -> None:
        """Start a sequence.

        Args:
            config: The configuration; without it the default.
            size: Height and width of the frames.

        Raises:
            ValueError: `size` is not two numbers above 0.
        """
        if len(size) != 2 or min(size) <= 0:
            raise ValueError(f"expected size=(height, width) of the frames, both above 0, found {size}.")
        self.config = config or TrajectoryConfig()
        self.frame: int | None = None
        self._pixel = self.config.to_pixels(1.0, size)
        self._trajectories: list[_Trajectory] = []
        self._last_id = 0

    def update(self, frame_number: int, points_M6: Array) -> NDArray[np.int64]:
        """Return the ids (M,) of the points of the next frame, from 1 in order of appearance.

        Those that appear together are numbered by falling confidence.

        Args:
            frame_number: Its number, which is its time; frames that are left out count as frames without points.
            points_M6: Its points.

        Raises:
            ValueError: The frame is not after the last one, or the points are no (M, 6) array.
        """
        points = check_points(points_M6)
        if self.frame is not None and frame_number <= self.frame:
            raise ValueError(
                f"expected a frame after {self.frame}, found {frame_number}; pass each frame once, in order."
            )
        self.frame = frame_number
        self._trajectories = [t for t in self._trajectories if frame_number - t.frame - 1 <= self._patience(t)]
        ids = np.zeros(len(points), np.int64)
        for trajectory, point in self._links(frame_number, points):
            self._continue(trajectory, frame_number, points[point])
            ids[point] = trajectory.id
        new = np.flatnonzero(ids == 0)
        for point in new[np.lexsort((points[new, 1], points[new, 0], -points[new, 4]))]:
            ids[point] = self._begin(frame_number, points[point]).id
        return ids

    def _patience(self, trajectory: _Trajectory) -> int:
        """Return how many frames it may miss."""
        known = trajectory.count >= self.config.min_length
        return self.config.max_gap if known else min(self.config.max_gap, YOUNG_GAP)

    def _links(self, frame: int, points: Array) -> list[tuple[_Trajectory, int]]:
        """Return which trajectory goes on with which point."""
        if not self._trajectories or not len(points):
            return []
        elapsed = np.array([frame - t.frame for t in self._trajectories], np.float64)
        last = np.array([t.position for t in self._trajectories])
        velocity = np.array([np.full(2, np.nan) if t.velocity is None else t.velocity for t in self._trajectories])
        known = np.isfinite(velocity).all(1)
        way = np.where(known[:, None], velocity, 0.0) * elapsed[:, None]
        farthest = self.config.max_speed * self._pixel * elapsed
        reach = self.config.gate * self._pixel + self.config.agility * np.linalg.norm(way, axis=1)
        # Where nothing says which way it goes, it may be anywhere that it can reach in one frame.
        reach = np.where(known, np.minimum(reach, farthest), self.config.max_speed * self._pixel)
        distance = np.linalg.norm(points[:, None, :2] - (last + way), axis=2)
        moved = np.linalg.norm(points[:, None, :2] - last, axis=2)
        same = points[:, None, 5] == np.array([t.cls for t in self._trajectories])
        point, trajectory = np.nonzero(same & (distance < reach) & (moved <= farthest))
        pairs = assign(point, trajectory, distance[point, trajectory] / reach[trajectory] - 1)
        return [(self._trajectories[trajectory[p]], int(point[p])) for p in pairs]

    def _continue(self, trajectory: _Trajectory, frame: int, point: Array) -> None:
        velocity = _next_step(point)
        if velocity is None:
            velocity = (point[:2] - trajectory.position) / (frame - trajectory.frame)
        trajectory.frame, trajectory.position, trajectory.velocity = frame, point[:2].copy(), velocity
        trajectory.count += 1

    def _begin(self, frame: int, point: Array) -> _Trajectory:
        self._last_id += 1
        trajectory = _Trajectory(self._last_id, int(point[5]), frame, point[:2].copy(), _next_step(point))
        self._trajectories.append(trajectory)
        return trajectory


def interpolate(first: Array, second: Array, times: Array) -> Array:
    """Return the points between two points of one object, on the straight line at steady speed.

    A line and not a curve through the neighbours: on the labels of a real ball with a pixel of noise it was nearer to
    what was left out than a cubic or a quadratic, in gaps of up to 6 frames. Throws and bounces are frequent, and
    curves amplify noise.

    Args:
        first: Its row x, y, confidence, class, id, interpolated before the gap.
        second: The one after it, of the same id and class.
        times: Where in the gap, (K,), 0 at the first and 1 at the second point.

    Returns:
        Rows (K, 6), marked as interpolated; their confidence is the lower of the two.

    >>> interpolate(np.array([0.0, 0, 0.9, 0, 1, 0]), np.array([8.0, 4, 0.6, 0, 1, 0]), np.array([0.25])).tolist()
    [[2.0, 1.0, 0.6, 0.0, 1.0, 1.0]]
    """
    rows = np.tile(second, (len(times), 1))
    rows[:, :2] = first[:2] + (second[:2] - first[:2]) * np.asarray(times)[:, None]
    rows[:, 2], rows[:, 5] = min(first[2], second[2]), 1.0
    return rows


def check_points(points_M6: Array) -> Array:
    """Return points as float64 (M, 6).

    Raises:
        ValueError: They are not.
    """
    points = np.asarray(points_M6, np.float64)
    if points.ndim != 2 or points.shape[1] != 6:
        raise ValueError(
            f"expected points (M, 6) with x, y, next_x, next_y, confidence and class, found shape {points.shape}."
        )
    return points


def _next_step(point: Array) -> Array | None:
    """Return how far (2,) the network expects the object to move in one frame, or None."""
    step = point[2:4] - point[:2]
    return step if np.isfinite(step).all() else None
