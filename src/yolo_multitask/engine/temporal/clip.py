"""What is known of the frames of one clip: from the windows that were computed to the objects of each frame.

M objects of a frame or window, T players of a frame, G frames of a window. Positions are pixels of the original frame.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from yolo_multitask.engine.temporal.windows import WindowBuffer
from yolo_multitask.tracking.points import CONF, GROUP, combine
from yolo_multitask.tracking.smoothing import TrajectorySmoother

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Window:
    """A window that was computed.

    Attributes:
        end: Number of its newest frame in the clip.
        frames: Number of the frame that each of its G groups is; -1 for padding, which has no say.
        found: Objects, rows (M, 7) of `tracking.points.candidates`.
        players: Rows of the players in its newest frame (T, 6 + extra), None where the model has no such head.
    """

    end: int
    frames: Sequence[int]
    found: Array
    players: torch.Tensor | None = None


class FrameEstimates:
    """What the windows of a clip say of each frame, until it is asked for.

    Every window that was computed and holds a frame has a say, whether it found anything or not.
    """

    def __init__(self, conf: float, radius: float) -> None:
        """Start empty.

        Args:
            conf: Least confidence of an object in a frame.
            radius: Objects of a class are farther apart than this, pixels.
        """
        self.conf, self.radius = conf, radius
        self._said: dict[int, list[tuple[int, Array]]] = {}  # end of the window and its rows, by frame
        self._taken = -1  # the last frame that was asked for

    def add(self, window: Window) -> None:
        """Add what a window says of frames that are still to be asked for."""
        for group, frame in enumerate(window.frames):
            if frame <= self._taken:
                continue
            rows = window.found[window.found[:, GROUP] == group]
            self._said.setdefault(frame, []).append((window.end, rows))

    def take(self, frame: int, until: int | None = None) -> Array:
        """Return the objects of a frame, rows (M, 6) of `tracking.points.combine`, and forget it.

        Args:
            frame: Number of the frame, above that of the last call.
            until: End of the last window that has a say; None for all.
        """
        for number in range(self._taken + 1, frame):
            self._said.pop(number, None)
        said = [(1.0, rows) for end, rows in self._said.pop(frame, []) if until is None or end <= until]
        self._taken = frame
        if not said:
            return np.zeros((0, 6))
        rows = combine(said, len(said), self.radius)
        return rows[rows[:, CONF - 1] >= self.conf]


class ClipState:
    """A clip while it is read: its newest frames, its windows, and the objects of the frames that are done.

    Attributes:
        buffer: Its newest frames.
        size: Height and width of its frames.
        shape: Height and width of the network input.
        estimates: What the windows say.
        smoother: Links objects over frames, None where they get no ids.
        given: Frames whose objects were asked for.
    """

    def __init__(
        self,
        *,
        num_groups: int,
        size: tuple[int, int],
        shape: tuple[int, int],
        estimates: FrameEstimates,
        wait: int,
        smoother: TrajectorySmoother | None = None,
    ) -> None:
        """Start before the first frame.

        Args:
            num_groups: G.
            size: See above.
            shape: See above.
            estimates: See above.
            wait: Frames after a frame that have a say in it, 0 to G - 1.
            smoother: See above.
        """
        self.buffer = WindowBuffer(num_groups)
        self.size, self.shape, self.estimates, self.smoother = size, shape, estimates, smoother
        self.given = 0
        self._wait = wait
        self._linked = 0  # frames that the smoother has got
        self._done: deque[Array] = deque()  # what it has given, and nobody has asked for yet
        self._players: dict[int, torch.Tensor] = {}
        self._last_end = -1  # of the last window that was asked for

    def wants_window(self, stride: int, ended: bool = False) -> bool:
        """Return whether a window that ends with the newest frame is to be computed, and take note of it.

        Args:
            stride: Frames from one window to the next.
            ended: Whether the clip is over, so that its last frames need one now.
        """
        newest = self.buffer.count - 1
        due = newest > self._last_end and ((newest + 1) % stride == 0 or ended)
        if due:
            self._last_end = newest
        return due

    def add(self, window: Window) -> None:
        """Add a window that was computed."""
        self.estimates.add(window)
        if window.players is not None:
            self._players[window.end] = window.players

    def players(self, frame: int) -> torch.Tensor | None:
        """Return the rows (T, 6 + extra) of a frame's players, and forget them; None where no window ends with it."""
        return self._players.pop(frame, None)

    def objects(self, frame: int, ended: bool) -> Array:
        """Return the objects of a frame, rows (M, 6) as the smoother gives them, without one as `combine` does.

        Args:
            frame: Its number; each is asked for once, in order.
            ended: Whether the clip is over.
        """
        self.given = frame + 1
        if self.smoother is None:
            return self.estimates.take(frame, frame + self._wait)
        known = self.buffer.count if ended else self.buffer.count - self._wait
        for number in range(self._linked, known):
            finished = self.smoother.push(number, self.estimates.take(number, number + self._wait))
            self._done.extend(rows for _, rows in finished)
        self._linked = max(self._linked, known)
        if ended and not self._done:
            self._done.extend(rows for _, rows in self.smoother.flush())
        return self._done.popleft()
