"""Pictures from files, folders, videos and cameras, one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from yolo_multitask.data.mot import read_seqinfo
from yolo_multitask.tracking.camera import as_bgr

IMAGES = frozenset(("bmp", "jp2", "jpeg", "jpg", "pbm", "pgm", "png", "ppm", "tif", "tiff", "webp"))
FRAME_RATE = 30.0  # of sources that do not say

Image = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """A picture of a source.

    Attributes:
        image: (H, W, 3) BGR uint8, or (H, W, C) for a model of other channels.
        path: File, video, camera or URL; empty for an array.
        number: Number in its sequence as it is read, from 1.
        rate: Frames per second as they are read.
        total: Number of frames of the video or files of the source, None where it is not known.
        video: Whether it is of a video, camera or URL.
    """

    image: Image
    path: str
    number: int
    rate: float
    total: int | None
    video: bool


def read_frames(
    source: str | Path | int | Image | Iterable[Any],
    *,
    channels: int = 3,
    frame_rate: float | None = None,
    vid_stride: int = 1,
) -> Iterator[Frame]:
    """Return the frames of a source; they are read one by one as they are asked for.

    Args:
        source: A video, an image, a folder of images, a glob, the number of a camera, a URL that OpenCV opens, an array
            (H, W, 3) BGR, or an iterable of arrays and such names. Files of a folder and of a glob come sorted by name.
        channels: Of an image.
        frame_rate: Frames per second; by default that of the video, of `seqinfo.ini` beside the images, or 30.
        vid_stride: Take every n-th frame of a video.

    Raises:
        FileNotFoundError: There is no such file or folder, or no image in it.
        ValueError: A picture or video cannot be read.
    """
    if vid_stride < 1:
        raise ValueError(f"vid_stride: expected 1 or more, found {vid_stride}.")
    if isinstance(source, (str, Path, int)):
        source = _expand(source)
    elif isinstance(source, np.ndarray):
        source = [source]
    return _frames(source, channels, frame_rate, vid_stride)


def read_image(path: str | Path, channels: int = 3) -> Image:
    """Read an image, upright where its EXIF says how it was held.

    Args:
        path: The file.
        channels: 3 for BGR, 1 for gray, else what the file has.

    Returns:
        (H, W, C).

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no image that OpenCV can read.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: expected an image, found no such file.")
    data = np.fromfile(path, np.uint8)  # and not OpenCV's own reading, which knows no names beyond ASCII on Windows
    flags = {1: cv2.IMREAD_GRAYSCALE, 3: cv2.IMREAD_COLOR}.get(channels, cv2.IMREAD_UNCHANGED)
    image = cv2.imdecode(data, flags) if data.size else None
    if image is None:
        raise ValueError(f"{path}: expected an image that OpenCV can read, found {data.size} bytes of something else.")
    return as_image(image, channels)


def as_image(image: Any, channels: int = 3) -> Image:
    """Return an array as an image (H, W, C).

    Raises:
        ValueError: It is none of that many channels.
    """
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or not array.size:
        raise ValueError(f"image: expected uint8 (H, W, {channels}), found {array.dtype} {array.shape}.")
    array = as_bgr(array) if channels == 3 else array.reshape(*array.shape[:2], -1)
    if array.shape[2] != channels:
        raise ValueError(f"image: expected {channels} channels, as the model was trained on, found {array.shape[2]}.")
    return array


def _expand(source: str | Path | int) -> list[Any]:
    """Return what a name stands for: files, or itself for a video, camera or URL.

    Raises:
        FileNotFoundError: There is no such file or folder, or no image in it.
    """
    text = str(source)
    path = Path(text)
    if text.isdecimal() or "://" in text:
        return [source]
    if path.is_dir():
        files = sorted(str(p) for p in path.iterdir() if _is_image(p))
    elif path.is_file():
        return [source]
    else:
        files = sorted(f for f in glob(text, recursive=True) if Path(f).is_file()) if has_magic(text) else []
    if not files:
        raise FileNotFoundError(
            f"source={text}: expected a video, an image, a folder of images, a glob, the number of a camera or a URL, "
            "found no such file, and no images."
        )
    return files


def _frames(items: Iterable[Any], channels: int, frame_rate: float | None, vid_stride: int) -> Iterator[Frame]:
    total = len(items) if isinstance(items, list) else None
    sequence, number, rate = None, 0, FRAME_RATE
    for item in items:
        if not isinstance(item, np.ndarray) and not _is_image(item):
            sequence = None
            yield from _video(item, channels, frame_rate, vid_stride)
            continue
        path = "" if isinstance(item, np.ndarray) else str(item)
        folder = str(Path(path).parent) if path else ""
        if folder != sequence:
            sequence, number, rate = folder, 0, frame_rate or (_folder_rate(Path(folder)) if path else FRAME_RATE)
        number += 1
        image = read_image(path, channels) if path else as_image(item, channels)
        yield Frame(image=image, path=path, number=number, rate=rate, total=total, video=False)


def _video(source: Any, channels: int, frame_rate: float | None, vid_stride: int) -> Iterator[Frame]:
    """Yield the frames of a video, camera or URL.

    Raises:
        ValueError: It cannot be opened, or has no frames.
    """
    text = str(source)
    capture = cv2.VideoCapture(int(text) if text.isdecimal() else text)
    try:
        rate = capture.get(cv2.CAP_PROP_FPS)
        rate = frame_rate or (rate if 0 < rate < 1000 else FRAME_RATE)
        count = int(max(capture.get(cv2.CAP_PROP_FRAME_COUNT), 0)) // vid_stride
        number = 0
        while all(capture.grab() for _ in range(vid_stride)):
            there, image = capture.retrieve()
            if not there:
                break
            number += 1
            image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) if channels == 1 else image
            yield Frame(
                image=as_image(image, channels),
                path=text,
                number=number,
                rate=rate / vid_stride,
                total=count or None,
                video=True,
            )
        if not number:
            raise ValueError(f"source={text}: expected a video or camera that OpenCV can read, found no frame in it.")
    finally:
        capture.release()


def _folder_rate(folder: Path) -> float:
    """Return the frames per second that `seqinfo.ini` says, in the folder or, if that is called `img1`, beside it."""
    places = (folder, folder.parent) if folder.name == "img1" else (folder,)
    info = next((p / "seqinfo.ini" for p in places if (p / "seqinfo.ini").is_file()), None)
    rate = None if info is None else read_seqinfo(info).frame_rate
    return rate if rate is not None and rate < 1000 else FRAME_RATE


def _is_image(path: Any) -> bool:
    return Path(str(path)).suffix[1:].lower() in IMAGES
