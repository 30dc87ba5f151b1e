"""Any source of the host, read ahead: the host's loop gets a frame when the frames after it are known.

A *clip* is what a window of frames is taken from: a video, the images of a folder, the arrays of a call, or one stream.
A frame of another size than the one before it starts another clip. A *slot* is the place of an image in the host's
batch where each is of a stream of its own; everything else passes through slot 0.
"""

from __future__ import annotations

import re
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ultralytics.data import load_inference_source
from ultralytics.data.loaders import LoadImagesAndVideos
from ultralytics.utils import ops

from yolo_multitask.engine.sources import open_list
from yolo_multitask.engine.track import source_key

COLOUR = 3  # channels of what is read: results show the frame in colour, whatever the network takes
_STATE = ("mode", "frame", "fps", "count")  # what the host reads from a loader for the batch it has at hand


@dataclass(frozen=True)
class Frame:
    """A frame of a clip.

    Attributes:
        slot: Place in the batch of its stream, else 0.
        clip: Number of the clip in its slot, from 0.
        index: Number of the frame in its clip, from 0.
        image: (H, W, 3) BGR uint8.
    """

    slot: int
    clip: int
    index: int
    image: NDArray[np.uint8]

    @property
    def key(self) -> tuple[int, int]:
        """What tells its clip from all others of the run."""
        return self.slot, self.clip


@dataclass(frozen=True)
class _Batch:
    """A batch as the loader gave it, its frames, and what the loader said of itself then."""

    item: tuple[Any, Any, Any]
    frames: list[Frame]
    state: dict[str, Any]


def open_source(source: Any, *, batch: int, vid_stride: int, stream_buffer: bool) -> Any:
    """Return the host's loader of any source that the host reads, and of lists of videos, folders or streams.

    The images of a folder come by the numbers in their names, where the host sorts the names as text.

    Args:
        source: The source. A tensor (B, 3, h, w) in 0..1 RGB is taken as B frames.
        batch: Images that are read together; not for streams.
        vid_stride: Read every n-th frame of a video or stream.
        stream_buffer: Whether frames of streams wait, rather than being dropped when they come too fast.

    Raises:
        ValueError: If a tensor has other channels, or the list mixes streams and files.
    """
    if isinstance(source, torch.Tensor):
        source = _tensor_frames(source)
    elif isinstance(source, np.ndarray) and source.ndim == 4:
        source = list(source)
    opened = open_list(source, batch=batch, vid_stride=vid_stride, stream_buffer=stream_buffer, channels=COLOUR)
    loader = load_inference_source(opened, batch=batch, vid_stride=vid_stride, buffer=stream_buffer, channels=COLOUR)
    if isinstance(loader, LoadImagesAndVideos):
        loader.files[: loader.ni] = sorted(loader.files[: loader.ni], key=_in_time)
    return loader


def _in_time(file: str) -> tuple[str, list[tuple[int, str]]]:
    """Return a key that sorts the images of a folder by the numbers in their names: 9.jpg before 10.jpg."""
    parts = re.split(r"(\d+)", Path(file).name)
    return str(Path(file).parent), [(int(p), "") if p.isdecimal() else (-1, p) for p in parts]


def _tensor_frames(images: torch.Tensor) -> list[NDArray[np.uint8]]:
    images = images[None] if images.ndim == 3 else images
    if images.ndim != 4 or images.shape[1] != COLOUR:
        raise ValueError(
            f"source: expected a tensor of frames (B, 3, h, w), RGB in 0..1, found one of shape {tuple(images.shape)}. "
            "Windows are made of single frames here; pass the frames one after the other."
        )
    if images.max() > 1:
        images = images / 255
    return [np.ascontiguousarray(x[..., ::-1]) for x in ops.convert_torch2numpy_batch(images)]


class ReadAhead:
    """A loader of the host that gives each batch when `delay` more frames of the same clip are read, or it has ended.

    It keeps the order and the make-up of the batches, and what the host reads from a loader (`mode`, `fps`, `frame`,
    `count`) is always that of the batch at hand. At most `delay` frames and a batch are held.

    Attributes:
        delay: Frames that are read ahead.
        endless: Whether another source goes on with its clips, so that its end is not theirs.
        arrived: Frames read since `take` was called.
        current: Frames of the batch at hand.
        source_type: The host's.
        bs: Images in a batch, as the loader says.
    """

    def __init__(self, loader: Any, delay: int) -> None:
        """Wrap `loader`.

        Raises:
            ValueError: If `delay` is negative.
        """
        if delay < 0:
            raise ValueError(f"'delay' must be a whole number of frames, 0 or more, got {delay}.")
        self.loader, self.delay, self.endless = loader, delay, False
        self.source_type, self.bs = loader.source_type, loader.bs
        self.arrived: list[Frame] = []
        self.current: list[Frame] = []
        self.mode: str = loader.mode
        self.frame = self.count = 0
        self.fps: Any = getattr(loader, "fps", None)
        self._waiting: deque[_Batch] = deque()
        self._last: dict[int, tuple[str, tuple[int, ...], Frame]] = {}  # key, size and newest frame by slot
        self._last_state: dict[str, Any] = {}
        self._exhausted = False
        # a live stream is read when a frame is asked for, as each frame that waits is a frame late
        self._pool = ThreadPoolExecutor(1) if isinstance(loader, LoadImagesAndVideos) else None
        self._next: Future[Any] | None = None

    def __len__(self) -> int:
        """Return the number of batches, as the loader says."""
        return len(self.loader)

    def __iter__(self) -> ReadAhead:
        """Start reading."""
        iter(self.loader)
        return self

    def __next__(self) -> tuple[Any, Any, Any]:
        """Return paths, images and texts of the next batch, as the loader gave them."""
        while not self._exhausted and not (self._waiting and all(map(self.is_final, self._waiting[0].frames))):
            try:
                item, state = self._read()
            except StopIteration:
                self._exhausted = True
                break
            self._waiting.append(_Batch(item, self._place(item, state), state))
        if not self._waiting:
            raise StopIteration
        batch = self._waiting.popleft()
        self.current = batch.frames
        for name, value in batch.state.items():
            setattr(self, name, value)
        return batch.item

    def take(self) -> list[Frame]:
        """Return the frames read since the last call, in the order in which they were read."""
        taken, self.arrived = self.arrived, []
        return taken

    def has_ended(self, key: tuple[int, int]) -> bool:
        """Return whether a clip is known to have no more frames."""
        slot, clip = key
        return (self._exhausted and not self.endless) or self._last[slot][2].clip != clip

    def is_final(self, frame: Frame) -> bool:
        """Return whether enough is read to say what is in a frame."""
        newest = self._last[frame.slot][2]
        return self.has_ended(frame.key) or newest.index - frame.index >= self.delay

    def resume(self, last: ReadAhead) -> None:
        """Go on with the clips of another source, of which this one brings the next frames."""
        self._last = dict(last._last)

    def close(self) -> None:
        """Release the loader; the batch that is being read is waited for."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        if hasattr(self.loader, "close"):
            self.loader.close()

    def _read(self) -> tuple[tuple[Any, Any, Any], dict[str, Any]]:
        """Return the next batch of the loader and its state; a file's next one is then read in a thread."""
        if self._pool is None:
            return self._read_now()
        future = self._next or self._pool.submit(self._read_now)
        batch = future.result()
        self._next = self._pool.submit(self._read_now)
        return batch

    def _read_now(self) -> tuple[tuple[Any, Any, Any], dict[str, Any]]:
        item = next(self.loader)
        return item, {name: getattr(self.loader, name) for name in _STATE if hasattr(self.loader, name)}

    def _place(self, item: tuple[Any, Any, Any], state: dict[str, Any]) -> list[Frame]:
        """Give each image of a batch its place in a clip."""
        last = self._last_state
        rewound = state["mode"] == "video" == last.get("mode") and state["frame"] <= last["frame"]
        self._last_state = state
        frames = []
        for i, (path, image) in enumerate(zip(item[0], item[1], strict=True)):
            slot = i if state["mode"] == "stream" else 0
            frame = self._follow(slot, source_key(str(path), state["mode"]), image, rewound and i == 0)
            frames.append(frame)
        self.arrived += frames
        return frames

    def _follow(self, slot: int, key: str, image: NDArray[np.uint8], rewound: bool) -> Frame:
        clip, index = 0, 0
        if slot in self._last:
            last_key, size, newest = self._last[slot]
            same = key == last_key and image.shape == size and not rewound
            clip, index = (newest.clip, newest.index + 1) if same else (newest.clip + 1, 0)
        frame = Frame(slot, clip, index, image)
        self._last[slot] = key, image.shape, frame
        return frame
