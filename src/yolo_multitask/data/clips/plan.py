"""Where the windows of a clip begin."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """Frames ``start, start + step, ...`` of a clip; those outside of it repeat its first or last frame.

    Attributes:
        clip: Number of the clip.
        start: Index of its oldest frame in the clip; may be below 0.
        step: Frames from one to the next.
    """

    clip: int
    start: int
    step: int


def window_starts(length: int, groups: int, step: int, stride: int, padded: bool) -> list[int]:
    """Return where the windows of a clip begin.

    They are `stride` apart, and the last ends with the last frame of the clip, so that every frame is in one. A clip
    that is shorter than a window has one, which ends with its last frame.

    Args:
        length: Frames of the clip.
        groups: Frames of a window.
        step: Frames from one to the next.
        stride: Frames from one window to the next.
        padded: Begin with the window whose newest frame is the first of the clip.
    """
    reach = (groups - 1) * step
    end = length - 1 - reach
    if end < 0 and not padded:
        return [end]
    starts = list(range(-reach if padded else 0, end + 1, stride))
    return starts if starts[-1] == end else [*starts, end]
