"""The files that `ymt run` writes, each whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import IO

import cv2
import numpy as np
from numpy.typing import NDArray

from yolo_multitask.interop import MOT_FORMAT
from yolo_multitask.runtime import Detections, Frame
from yolo_multitask.runtime.labels import label_lines

_CODEC = "mp4v"  # OpenCV's wheels bring it on every system


class OutputFiles:
    """Files of a run: pictures and label files as they come, a video and a track file for each sequence.

    A video and a track file go by a temporary name until their sequence is complete, or the user stops it; after an
    error they are removed.

    Attributes:
        folder: Where they are.
    """

    def __init__(self, folder: Path, *, labels: bool, conf: bool, vid_stride: int) -> None:
        """Say what is written.

        Args:
            folder: Made when the first file is written.
            labels: Whether to write label files, or with ids track files.
            conf: Whether label lines have `@conf`.
            vid_stride: Frames of a video from one to the next; track files number them as the video does.
        """
        self.folder = folder
        self._labels, self._conf, self._vid_stride = labels, conf, vid_stride
        self._name = ""
        self._names: set[str] = set()
        self._sequences: set[str] = set()
        self._video: tuple[cv2.VideoWriter, Path] | None = None
        self._tracks: tuple[IO[str], Path] | None = None

    def __enter__(self) -> OutputFiles:
        """Write files inside the `with`."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Complete the files, also where the user stops."""
        self._leave(keep=kind is None or issubclass(kind, KeyboardInterrupt))

    def add(self, frame: Frame, found: Detections, picture: NDArray[np.uint8] | None) -> None:
        """Write one frame.

        Args:
            frame: It.
            found: What was found in it.
            picture: It with that drawn, (H, W, 3) BGR, or None to write none.

        Raises:
            ValueError: OpenCV cannot write the picture or video.
        """
        if frame.number == 1:
            self._leave(keep=True)
        if frame.number == 1 or not frame.video:
            stem = Path(frame.path).stem
            self._name = _free(f"camera{stem}" if frame.path.isdecimal() else stem, self._names)
        if picture is not None:
            self._add_picture(frame, picture)
        if self._labels and found.ids is not None:
            self._add_tracks(frame, found)
        elif self._labels:
            name = f"{self._name}_{frame.number}" if frame.video else self._name
            text = "".join(f"{line}\n" for line in label_lines(found, conf=self._conf))
            _write(self.folder / "labels" / f"{name}.txt", text.encode())

    def _add_picture(self, frame: Frame, image: NDArray[np.uint8]) -> None:
        if frame.video:
            self._video = self._video or self._open_video(frame.rate, image)
            self._video[0].write(image)
            return
        suffix = Path(frame.path).suffix
        done, data = cv2.imencode(suffix, image)
        if not done:
            raise ValueError(f"{frame.path}: expected a format that OpenCV writes, found {suffix}; give save=False.")
        _write(self.folder / f"{self._name}{suffix}", data.tobytes())

    def _open_video(self, rate: float, image: NDArray[np.uint8]) -> tuple[cv2.VideoWriter, Path]:
        path = self.folder / f"{self._name}.mp4"
        self.folder.mkdir(parents=True, exist_ok=True)
        size = image.shape[1], image.shape[0]
        writer = cv2.VideoWriter(str(_part(path)), cv2.VideoWriter.fourcc(*_CODEC), max(rate, 1.0), size)
        if not writer.isOpened():
            raise ValueError(f"{path}: expected an OpenCV that writes MP4 ({_CODEC}), found none; give save=False.")
        return writer, path

    def _add_tracks(self, frame: Frame, found: Detections) -> None:
        if self._tracks is None:
            folder = Path(frame.path).resolve().parent
            folder = folder.parent if folder.name == "img1" else folder
            name = _free(self._name if frame.video else folder.name, self._sequences)
            path = self.folder / f"{name}.txt"
            self.folder.mkdir(parents=True, exist_ok=True)
            self._tracks = _part(path).open("w", encoding="utf-8", newline="\n"), path
        number = frame.number * (self._vid_stride if frame.video else 1)
        np.savetxt(self._tracks[0], found.to_mot(number), fmt=MOT_FORMAT, delimiter=",")

    def _leave(self, *, keep: bool) -> None:
        """Complete the files of a sequence, or remove them."""
        if self._video is not None:
            self._video[0].release()
            _finish(self._video[1], keep)
        if self._tracks is not None:
            self._tracks[0].close()
            _finish(self._tracks[1], keep)
        self._video = self._tracks = None


def new_folder(path: Path) -> Path:
    """Return a path that does not exist yet: itself, or with 2, 3 and so on at its end."""
    number, found = 1, path
    while found.exists():
        number += 1
        found = path.with_name(f"{path.name}{number}")
    return found


def _free(name: str, taken: set[str]) -> str:
    """Return a name that is not taken, and take it: itself, or with -2, -3 and so on at its end."""
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name}-{number}"
    taken.add(found)
    return found


def _part(path: Path) -> Path:
    return path.with_name(f".part-{path.name}")


def _finish(path: Path, keep: bool) -> None:
    if keep:
        os.replace(_part(path), path)
    else:
        _part(path).unlink(missing_ok=True)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        _part(path).write_bytes(data)
        os.replace(_part(path), path)
    finally:
        _part(path).unlink(missing_ok=True)
