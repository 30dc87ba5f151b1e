"""The newest frames of a clip, from which every window is taken without preparing a frame twice.

G frames of a window, C channels of a frame, h w the network input.
"""

from __future__ import annotations

import torch

SPARE = 2  # the buffer's length in windows: with more of it, the frames are moved to its start less often


class WindowBuffer:
    """The last frames of a clip in one block of memory, in which each window is a view.

    Attributes:
        num_groups: G.
        count: Frames that were added.
    """

    def __init__(self, num_groups: int) -> None:
        """Start empty; the first frame says of what size and type all are."""
        self.num_groups = num_groups
        self.count = 0
        self._frames: torch.Tensor | None = None
        self._end = 0  # of what is filled

    def add(self, frame: torch.Tensor) -> None:
        """Add the next frame (C, h, w).

        Raises:
            ValueError: If it is of another shape than those before it.
        """
        groups = self.num_groups
        if self._frames is None:
            self._frames = frame.new_empty((SPARE * groups, *frame.shape))
            self._frames[: groups - 1] = frame  # a window that reaches before the clip shows its first frame there
            self._end = groups - 1
        if frame.shape != self._frames.shape[1:]:
            raise ValueError(
                f"expected a frame of shape {tuple(self._frames.shape[1:])}, as all of its clip, found one of "
                f"{tuple(frame.shape)}; start another buffer for it"
            )
        if self._end == len(self._frames):
            kept = groups - 1
            self._frames[:kept] = self._frames[self._end - kept : self._end].clone()
            self._end = kept
        self._frames[self._end] = frame
        self._end += 1
        self.count += 1

    @property
    def window(self) -> torch.Tensor:
        """The window that ends with the newest frame, (G*C, h, w), oldest first; valid until the next `add`."""
        assert self._frames is not None, "no frame was added"
        return self._frames[self._end - self.num_groups : self._end].flatten(0, 1)

    def indices(self) -> list[int]:
        """Return which frame of the clip each group of `window` is, from 0; -1 before the clip."""
        newest = self.count - 1
        return [max(newest - back, -1) for back in reversed(range(self.num_groups))]
