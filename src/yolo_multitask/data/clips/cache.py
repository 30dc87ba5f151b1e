"""Prepared frames in memory, shared by the worker processes of a loader."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

GIB = 1 << 30
DEFAULT_LIMIT = 4 * GIB  # of the frames of one data set


class FrameCache:
    """Frames of one size, uint8, by number: the first ones that fit into a limit.

    Memory is taken as frames come in. Forked workers fill and read the same memory, so that a frame is decoded once for
    all of them; a worker that is started anew (spawn) has its own, with its share of the limit.

    Args:
        shape: (h, w, C) of a frame.
        count: Number of frames that there are.
        limit: Bytes that it may take.
    """

    def __init__(self, shape: tuple[int, int, int], count: int, limit: int = DEFAULT_LIMIT) -> None:
        self.shape, self.count, self.limit = shape, count, limit
        self._frames: NDArray[np.uint8] | None = None
        self._there: NDArray[np.uint8] | None = None
        self._allocate(limit)

    @property
    def slots(self) -> int:
        """Number of frames that it can hold."""
        return 0 if self._there is None else len(self._there)

    @property
    def filled(self) -> int:
        """Number of frames that it holds."""
        return 0 if self._there is None else int(np.count_nonzero(self._there))

    def get(self, number: int) -> NDArray[np.uint8] | None:
        """Return a frame (h, w, C), not to be changed, or None where it is not there.

        Args:
            number: From 0 to `count` - 1.
        """
        if self._frames is None or self._there is None:
            self._allocate(self.limit // _workers())
        assert self._frames is not None
        assert self._there is not None
        return self._frames[number] if number < len(self._there) and self._there[number] else None

    def put(self, number: int, frame: NDArray[np.uint8]) -> None:
        """Keep a frame, if there is place for its number."""
        if self._frames is not None and self._there is not None and number < len(self._there):
            self._frames[number] = frame
            self._there[number] = 1  # after the frame: another process may look at any time

    def _allocate(self, limit: int) -> None:
        size = int(np.prod(self.shape))
        slots = max(min(self.count, limit // size), 0)
        # mmap: anonymous memory that forked processes share, and that is not limited as /dev/shm is in containers
        self._frames = np.frombuffer(mmap.mmap(-1, max(slots * size, 1)), np.uint8, slots * size).reshape(
            slots, *self.shape
        )
        self._there = np.frombuffer(mmap.mmap(-1, max(slots, 1)), np.uint8, slots)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the frames, which only forked processes share."""
        return {**self.__dict__, "_frames": None, "_there": None}


def _workers() -> int:
    """Return how many workers share the limit, 1 in the main process."""
    from torch.utils.data import get_worker_info

    info = get_worker_info()
    return 1 if info is None else max(info.num_workers, 1)


def cache_limit(cache: Any) -> int:
    """Return how many bytes of frames to keep, never more than half of the memory that is free.

    Args:
        cache: The argument ``cache``: False or None for `DEFAULT_LIMIT`, True or ``ram`` for half of what is free.
    """
    from psutil import virtual_memory

    half = int(virtual_memory().available // 2)
    return half if cache is True or str(cache).lower() == "ram" else min(DEFAULT_LIMIT, half)
