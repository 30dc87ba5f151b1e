"""Pictures without labels: images, folders, globs and videos as a list of files.

Frames of a video are written as JPEG files once, evenly spread, so that everything after this sees files alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from ultralytics.data.loaders import LoadImagesAndVideos

from yolo_multitask.runtime.frames import read_frames

FRAMES = 200  # of a video; its other frames show nearly the same
QUALITY = 95  # of the JPEG files


def list_pictures(sources: Sequence[str | Path], cache: Path, frames: int = FRAMES) -> list[Path]:
    """Return the picture files of all sources, each once, in the order of the sources.

    Args:
        sources: Images, folders of images, globs, videos, and lists of such (`.txt`), as the host's loader takes them.
        cache: Folder that the frames of videos are written to.
        frames: Most frames of a video, evenly spread over it.

    Raises:
        FileNotFoundError: If a source does not exist.
        ValueError: If there is no source, or one holds no image or cannot be read.
    """
    if not sources:
        raise ValueError("source: expected images, folders or videos to learn from, found none; pass source=images/.")
    found: dict[Path, None] = {}
    for source in sources:
        try:
            loader = LoadImagesAndVideos(str(source))
        except FileNotFoundError as error:
            if Path(source).exists():
                raise ValueError(f"source={source}: expected images or videos, found none in it.") from error
            raise FileNotFoundError(f"source={source}: expected images or videos, found no such file.") from error
        files: list[Path] = []
        for file, is_video in zip(loader.files, loader.video_flag, strict=True):
            files += video_frames(Path(file), cache, frames) if is_video else [Path(file).resolve()]
        found |= dict.fromkeys(files)
    return list(found)


def video_frames(video: Path, cache: Path, frames: int = FRAMES) -> list[Path]:
    """Write evenly spread frames of a video as files and return them; those written before are taken as they are.

    Raises:
        ValueError: If the video cannot be read.
    """
    stat = video.stat()
    key = hashlib.sha256(f"{video.resolve()} {stat.st_size} {stat.st_mtime_ns} {frames}".encode()).hexdigest()[:12]
    folder = cache / f"{video.stem}-{key}"
    if not (folder / "done").exists():
        folder.mkdir(parents=True, exist_ok=True)
        total = sum(1 for _ in read_frames(video))  # what a file says of its length is often wrong
        chosen = set(np.linspace(0, total - 1, min(frames, total)).round().astype(int).tolist())
        for number, frame in enumerate(read_frames(video)):
            if number in chosen:
                written, data = cv2.imencode(".jpg", frame.image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
                assert written
                (folder / f"{number:06d}.jpg").write_bytes(data.tobytes())
        (folder / "done").touch()
    return sorted(folder.resolve().glob("*.jpg"))


def hold_out(files: Sequence[Path], count: int) -> tuple[list[Path], list[Path]]:
    """Return the files to learn from and those to measure on: every n-th, so that each source gives its share.

    Args:
        files: All of them.
        count: How many to measure on, at most a fifth.
    """
    count = min(count, len(files) // 5)
    chosen = set(np.linspace(0, len(files) - 1, count).round().astype(int).tolist()) if count else set()
    return [f for i, f in enumerate(files) if i not in chosen], [f for i, f in enumerate(files) if i in chosen]
