"""Where a ball is at any time: flights from stroke to stroke, and times at which it is not there.

Pixel coordinates: x right, y down, (0, 0) is the outer corner of the first pixel. Time is in frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_NEAR = 0.15  # how far outside of the picture a ball that leaves it flies, in units of the width


@dataclass(frozen=True, kw_only=True)
class Flight:
    """A ball on its way from one stroke or bounce to the next, in an arc.

    Attributes:
        begin, end: Times.
        start, goal: Positions (x, y) at these times.
        rise: How far the middle of the arc is above the straight line.
        behind: Whether it passes behind the players.
    """

    begin: float
    end: float
    start: tuple[float, float]
    goal: tuple[float, float]
    rise: float
    behind: bool

    def at(self, time: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return positions (..., 2) at times (...) of the flight."""
        share = (time - self.begin) / (self.end - self.begin)
        x = self.start[0] + (self.goal[0] - self.start[0]) * share
        y = self.start[1] + (self.goal[1] - self.start[1]) * share - 4 * self.rise * share * (1 - share)
        return np.stack((x, y), -1)


@dataclass(frozen=True, kw_only=True)
class Path:
    """All flights of a clip in order of time; between them the ball may be away."""

    flights: tuple[Flight, ...]

    def flight(self, time: float) -> Flight | None:
        """Return the flight at a time, None where the ball is away."""
        return next((f for f in self.flights if f.begin <= time < f.end), None)

    def at(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return positions (N, 2) at times (N,), NaN where the ball is away."""
        out = np.full((len(times), 2), np.nan)
        for i, time in enumerate(times):
            flight = self.flight(float(time))
            if flight is not None:
                out[i] = flight.at(np.asarray(time))
        return out


def draw_path(
    rng: np.random.Generator, size: tuple[int, int], length: int, speed: tuple[float, float], away: tuple[int, int]
) -> Path:
    """Draw the path of a ball that is played from side to side, leaves the picture and returns.

    Args:
        rng: Source of randomness.
        size: Width and height of the picture.
        length: Frames of the clip.
        speed: Slowest and fastest mean speed of a flight, in picture widths a frame.
        away: Shortest and longest time that it is away, in frames.
    """
    width, height = size
    flights: list[Flight] = []
    time = -float(rng.uniform(0, 20))
    while time < length:
        side = int(rng.integers(2))
        here = _outside(rng, size, side) if rng.random() < 0.5 else _inside(rng, size, side)
        strokes = int(rng.integers(1, 4))
        for stroke in range(strokes):
            side = 1 - side
            goal = _outside(rng, size, side) if stroke == strokes - 1 else _inside(rng, size, side)
            distance = float(np.hypot(goal[0] - here[0], goal[1] - here[1]))
            end = time + max(distance / (width * float(rng.uniform(*speed))), 3.0)
            rise = float(rng.uniform(-0.04, 0.3)) * height
            behind = bool(rng.integers(2))
            flights.append(Flight(begin=time, end=end, start=here, goal=goal, rise=rise, behind=behind))
            here, time = goal, end
        time += float(rng.uniform(*away))
    return Path(flights=tuple(flights))


def _inside(rng: np.random.Generator, size: tuple[int, int], side: int) -> tuple[float, float]:
    """A place on the left (0) or right (1) of the picture."""
    x = float(rng.uniform(0.06, 0.34))
    return size[0] * (1 - x if side else x), size[1] * float(rng.uniform(0.25, 0.85))


def _outside(rng: np.random.Generator, size: tuple[int, int], side: int) -> tuple[float, float]:
    """A place beyond the left or right edge."""
    x = 1 + _NEAR if side else -_NEAR
    return size[0] * x, size[1] * float(rng.uniform(0.0, 0.8))
