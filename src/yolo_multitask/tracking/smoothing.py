"""Trajectories as a stream of finished frames: ids, gaps filled, stray points left out, after a bounded look-ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from yolo_multitask.tracking.trajectories import Array, TrajectoryConfig, TrajectoryLinker, interpolate

Finished = tuple[int, Array]  # number of a frame, and its rows x, y, confidence, class, id, interpolated


@dataclass
class _Seen:
    """What is known of one id.

    Attributes:
        frame: Number of the frame of its last point.
        row: Its last point.
        count: How many points it has.
        dropped: Whether its last point was left out when its frame was finished.
    """

    frame: int
    row: Array
    count: int = 1
    dropped: bool = False


class TrajectorySmoother:
    """Links the points of one sequence and gives each frame once it is finished, `lookahead` frames later.

    Ids do not depend on the look-ahead. With one of L frames

    - gaps of at most L frames (and `max_gap`) are filled; of a longer one nothing is, and its id goes on after it;
    - a trajectory whose points are fewer than `min_length` (at most L + 1) when its frame is finished is left out
      there, but for points of at least `sure` confidence, and gaps between two such.

    So with L = 0 each frame comes at once, as it was seen. From L = max(`max_gap`, 2 x (`min_length` - 1)) on, nothing
    changes any more.

    >>> smoother = TrajectorySmoother(size=(360, 640), lookahead=1)
    >>> nan = float("nan")
    >>> smoother.push(0, np.array([[0.0, 0, 4, 0, 0.9, 0]]))
    []
    >>> for frame in (1, np.zeros((0, 6))), (2, np.array([[8.0, 0, nan, nan, 0.7, 0]])):
    ...     [(number, rows.tolist()) for number, rows in smoother.push(*frame)]
    [(0, [[0.0, 0.0, 0.9, 0.0, 1.0, 0.0]])]
    [(1, [[4.0, 0.0, 0.7, 0.0, 1.0, 1.0]])]
    >>> [(number, rows.tolist()) for number, rows in smoother.flush()]
    [(2, [[8.0, 0.0, 0.7, 0.0, 1.0, 0.0]])]

    Attributes:
        config: The configuration.
        lookahead: See above.
    """

    def __init__(
        self, config: TrajectoryConfig | None = None, *, size: tuple[int, int], lookahead: int | None = None
    ) -> None:
        """Start a sequence.

        Args:
            config: The configuration; without it the default.
            size: Height and width of the frames.
            lookahead: How many frames a frame waits for, 0 or more; None is the configuration's `max_gap`.

        Raises:
            ValueError: A value is out of its range.
        """
        self._linker = TrajectoryLinker(config, size=size)
        self.config = self._linker.config
        self.lookahead = self.config.max_gap if lookahead is None else lookahead
        if self.lookahead < 0:
            raise ValueError(f"lookahead: expected 0 frames or more, found {lookahead}.")
        self._waiting: deque[tuple[int, list[Array]]] = deque()
        self._seen: dict[int, _Seen] = {}
        self._last_finished: int | None = None  # number of the frame that was finished last

    def push(self, frame_number: int, points_M6: Array) -> list[Finished]:
        """Take the points of the next frame, and return the frames that are finished by it: none or one.

        Args:
            frame_number: Its number, which is its time. Numbers that are left out count as frames in which nothing is
                seen, and are not returned.
            points_M6: Its points, see `TrajectoryLinker.update`.

        Returns:
            Number and rows (K, 6) of a frame: x, y, confidence, class, id, and 1 where interpolated; by id.

        Raises:
            ValueError: See `TrajectoryLinker.update`.
        """
        ids = self._linker.update(frame_number, points_M6)
        points = np.asarray(points_M6, np.float64)
        rows = np.column_stack((points[:, [0, 1, 4, 5]], ids, np.zeros(len(ids))))
        for row in rows:
            self._see(frame_number, row)
        self._waiting.append((frame_number, list(rows)))
        finished = [self._finish()] if len(self._waiting) > self.lookahead else []
        self._forget(frame_number)
        return finished

    def flush(self) -> list[Finished]:
        """Return the frames that are still waiting, as the sequence has ended."""
        return [self._finish() for _ in range(len(self._waiting))]

    def _see(self, frame: int, row: Array) -> None:
        """Note a new point, and fill the gap before it."""
        track = int(row[4])
        before = self._seen.get(track)
        if before is None:
            self._seen[track] = _Seen(frame, row)
            return
        missing = [(number, rows) for number, rows in self._waiting if number > before.frame]
        whole = len(missing) < len(self._waiting) or self._last_finished == before.frame
        if missing and whole and not before.dropped:
            numbers = np.array([number for number, _ in missing], np.float64)
            filled = interpolate(before.row, row, (numbers - before.frame) / (frame - before.frame))
            for (_, rows), new in zip(missing, filled, strict=True):
                rows.append(new)
        self._seen[track] = _Seen(frame, row, before.count + 1)

    def _finish(self) -> Finished:
        """Return the frame that has waited longest."""
        frame, rows = self._waiting.popleft()
        self._last_finished = frame
        needed = min(self.config.min_length, self.lookahead + 1)
        kept = []
        for row in rows:
            track = self._seen[int(row[4])]
            if track.count >= needed or row[2] >= self.config.sure:
                kept.append(row)
            elif track.frame == frame:
                track.dropped = True
        out = np.array(kept, np.float64).reshape(-1, 6)
        return frame, out[np.argsort(out[:, 4], kind="stable")]

    def _forget(self, newest: int) -> None:
        """Drop what is neither waiting nor can go on, so that a stream of any length needs little memory."""
        oldest = min(self._waiting[0][0] if self._waiting else newest, newest - self.config.max_gap - 1)
        self._seen = {track: seen for track, seen in self._seen.items() if seen.frame >= oldest}


def smooth(
    frames: Iterable[tuple[int, Array]], config: TrajectoryConfig | None = None, *, size: tuple[int, int]
) -> list[Finished]:
    """Return the frames of a whole sequence, linked with all that comes after them known.

    Args:
        frames: Number and points (M, 6) of each frame, in order, see `TrajectorySmoother.push`.
        config: The configuration; without it the default.
        size: Height and width of the frames.

    Raises:
        ValueError: See `TrajectoryLinker.update`.
    """
    given = list(frames)
    smoother = TrajectorySmoother(config, size=size, lookahead=len(given))
    return [finished for frame in given for finished in smoother.push(*frame)] + smoother.flush()
