"""The pictures of a clip: image files in order, or a video; read one by one, in any process and any order."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
IMAGES = frozenset(("bmp", "jp2", "jpeg", "jpg", "pbm", "pgm", "png", "ppm", "tif", "tiff", "webp"))
VIDEOS = frozenset(("asf", "avi", "gif", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "ts", "webm", "wmv"))
_READ_ON = 64  # frames of a video that are rather read than jumped over
_OPEN = 16  # videos that a process has open at once: each holds a file, a decoder and its threads
_readers: WeakKeyDictionary[VideoFrames, None] = WeakKeyDictionary()  # with an open video, by their last use


class Frames(ABC):
    """The frames of a clip by index, all of one size.

    Attributes:
        size: Height and width (H, W) in pixels.
    """

    size: tuple[int, int]

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of frames."""

    @abstractmethod
    def read(self, index: int) -> Image:
        """Return a frame, (H, W, 3) BGR uint8.

        Raises:
            ValueError: It cannot be read, or has another size.
        """

    @abstractmethod
    def key(self, index: int) -> int:
        """Return the number of the picture that a frame shows: a missing frame shows that of an earlier one."""

    @abstractmethod
    def file(self, index: int) -> str:
        """Return the file that a frame is in."""

    def _checked(self, image: Any, index: int) -> Image:
        """Return an image that was read, if there is one and it has the size of the clip."""
        if image is None:
            raise ValueError(f"{self.file(index)}: expected a picture as frame {index}, found none that can be read")
        if image.shape[:2] != self.size:
            (h, w), (height, width) = image.shape[:2], self.size
            raise ValueError(
                f"{self.file(index)}: expected a frame of {width}x{height} as the first of the clip, found {w}x{h}; "
                "frames of another size are another clip"
            )
        return np.asarray(image, np.uint8)


class ImageFrames(Frames):
    """Image files, one a frame. The same file may stand for several frames.

    Args:
        files: File of each frame in order.

    Raises:
        ValueError: There is no file, or the first cannot be read.
    """

    def __init__(self, files: Sequence[str | Path]) -> None:
        self.files = [str(file) for file in files]
        if not self.files:
            raise ValueError("expected frames, found none")
        first = cv2.imread(self.files[0])
        if first is None:
            raise ValueError(f"{self.files[0]}: expected a picture, found a file that cannot be read as one")
        self.size = int(first.shape[0]), int(first.shape[1])
        numbers: dict[str, int] = {}
        self._keys = [numbers.setdefault(file, i) for i, file in enumerate(self.files)]

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> Image:
        """Return a frame, (H, W, 3) BGR uint8."""
        return self._checked(cv2.imread(self.files[index], cv2.IMREAD_COLOR), index)

    def key(self, index: int) -> int:
        """Return the first frame that shows the same file."""
        return self._keys[index]

    def file(self, index: int) -> str:
        """Return the file of a frame."""
        return self.files[index]


class VideoFrames(Frames):
    """A video, or a part of one.

    Each process has its own reader, and of few videos at once. Frames that follow each other are read on, others are
    jumped to; a video whose header does not tell how many frames it has, or tells of some that are not there, is
    counted once.

    Args:
        path: The video.
        first: Number of the first frame, from 0.
        last: Number of the last frame, None for that of the video.

    Raises:
        ValueError: It cannot be read or is shorter than that.
    """

    def __init__(self, path: str | Path, first: int = 0, last: int | None = None) -> None:
        self.path, self.first = str(path), first
        self._reader: Any = None
        self._at, self._pid = 0, -1
        capture = self._open()
        good, image = capture.read()
        if not good:
            raise ValueError(f"{self.path}: expected a video, found a file that cannot be read as one")
        self.size = int(image.shape[0]), int(image.shape[1])
        rate = float(capture.get(cv2.CAP_PROP_FPS))
        self.rate = rate if 0 < rate < 1000 else None
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        if count > 1:
            capture.set(cv2.CAP_PROP_POS_FRAMES, count - 1)
        if count <= 0 or (count > 1 and not capture.read()[0]):
            count = self._count()
        self._release()
        self.last = count - 1 if last is None else last
        if not 0 <= first <= self.last < count:
            raise ValueError(f"{self.path}: expected frames {first} to {self.last}, found 0 to {count - 1}")

    def __len__(self) -> int:
        return self.last - self.first + 1

    def read(self, index: int) -> Image:
        """Return a frame, (H, W, 3) BGR uint8."""
        number = self.first + index
        reader = self._open()
        if not self._at <= number <= self._at + _READ_ON:
            reader.set(cv2.CAP_PROP_POS_FRAMES, number)
            self._at = number
        while self._at < number:
            reader.grab()
            self._at += 1
        good, image = reader.read()
        self._at += 1
        return self._checked(image if good else None, index)

    def key(self, index: int) -> int:
        """Return the frame itself."""
        return index

    def file(self, index: int) -> str:
        """Return the video."""
        return self.path

    def _open(self) -> Any:
        """Return this process's reader."""
        if self._reader is None or self._pid != os.getpid():
            if not Path(self.path).is_file():
                raise ValueError(f"{self.path}: expected a video, found no such file")
            self._reader, self._pid, self._at = cv2.VideoCapture(self.path), os.getpid(), 0
        _readers.pop(self, None)
        _readers[self] = None
        while len(_readers) > _OPEN:
            next(iter(_readers))._release()
        return self._reader

    def _count(self) -> int:
        """Return how many frames can be read, by reading them."""
        self._release()
        reader, count = self._open(), 0
        while reader.read()[0]:
            count += 1
        return count

    def _release(self) -> None:
        if self._reader is not None:
            self._reader.release()
        self._reader = None
        _readers.pop(self, None)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the reader, which another process cannot use."""
        return {**self.__dict__, "_reader": None}
