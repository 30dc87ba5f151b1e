"""From an entry of a data YAML to clips: where the frames are, where the labels, and of which kind.

The kind is known from names (`locate`) or from the key ``format``, never from what is in a file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from yolo_multitask.data.clips.frames import IMAGES, VIDEOS
from yolo_multitask.data.clips.spec import CLIP_FORMATS

_FRAME_FOLDERS = ("frame", "frames")  # below the folder of a clip


@dataclass(frozen=True, kw_only=True)
class ClipEntry:
    """An entry of a split.

    Attributes:
        path: A clip, or a folder with clips.
        frames: Numbers of its first and last frame, None for all.
        classes: Classes that are labelled, None for all.
        format: Kind of its labels (`CLIP_FORMATS`), None where the names say it.
    """

    path: Path
    frames: tuple[int, int] | None = None
    classes: tuple[int, ...] | None = None
    format: str | None = None


@dataclass(frozen=True, kw_only=True)
class Located:
    """A clip that was found.

    Attributes:
        name: Path from the folder that holds the entry.
        frames: Folder of images, or the video.
        labels: Label file; the folder of label files for ``lines``.
        kind: One of `CLIP_FORMATS`.
    """

    name: str
    frames: Path
    labels: Path
    kind: str


def locate(path: Path, kind: str | None = None) -> tuple[list[Located], list[str]]:
    """Find the clips of an entry.

    A clip is one of these: a folder of images with ``labels.csv``, ``Label.csv`` or ``<folder>_ball.csv`` in it; a
    folder of images ``frame/<clip>`` beside ``csv/<clip>_ball.csv``; a folder with ``annotation.json``; a folder of
    images below a folder ``images`` with label files in the same place below ``labels``; a video with ``<video>.csv``
    or ``<video>_ball.csv`` beside it or in the folder ``../csv``. Images may be in ``frame/`` or ``frames/`` in the
    folder of the clip. Of any other folder all folders and videos are looked at, in alphabetical order.

    Args:
        path: The entry.
        kind: What its labels are, None where the names say it.

    Returns:
        The clips, and one message for each folder of images and each video that was left out.

    Raises:
        ValueError: There is no clip, or its labels may be of two kinds.
        FileNotFoundError: There is nothing at `path`.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: expected a clip or a folder with clips, found nothing there")
    messages: list[str] = []
    found = list(_walk(path, kind, path.parent, messages))
    taken = {clip.labels for clip in found if clip.frames.is_dir()}
    twice = [clip for clip in found if clip.frames.is_file() and clip.labels in taken]
    messages += [f"{clip.frames}: left out, its frames are there as images" for clip in twice]
    found = [clip for clip in found if clip not in twice]
    if not found:
        looked = _looked_for(kind)
        what = "".join(f"; {message}" for message in messages[:3])
        raise ValueError(f"{path}: expected frames or a video with labels ({looked}), found none{what}")
    return found, messages


def _walk(path: Path, kind: str | None, root: Path, messages: list[str]) -> Iterator[Located]:
    """Yield the clips at and below a path."""
    name = path.relative_to(root).as_posix()
    if path.is_file():
        clip = _video(path, kind, name)
        if clip is not None:
            yield clip
        elif path.suffix[1:].lower() in VIDEOS:
            messages.append(f"{path}: left out, a video without a CSV file of its name")
        return
    clip = _folder(path, kind, name)
    if clip is not None:
        yield clip
        return
    entries = sorted(os.scandir(path), key=lambda entry: entry.name)
    if any(_is_image(entry.name) for entry in entries):
        messages.append(f"{path}: left out, images without labels ({_looked_for(kind)})")
    for entry in entries:
        if entry.is_dir() or entry.name.rpartition(".")[2].lower() in VIDEOS:
            yield from _walk(Path(entry.path), kind, root, messages)


def _folder(folder: Path, kind: str | None, name: str) -> Located | None:
    """Return the clip whose folder this is, None where it is not one."""
    frames = next((f for f in (folder, *(folder / n for n in _FRAME_FOLDERS)) if _has_images(f)), None)
    if frames is None:
        return None
    there = {entry.name.lower(): Path(entry.path) for entry in os.scandir(folder)}
    files: dict[str, Path | None] = {
        "csv": next(
            (there[n] for n in ("labels.csv", "label.csv", f"{folder.name.lower()}_ball.csv") if n in there), None
        ),
        "annotation": there.get("annotation.json"),
        "lines": _label_folder(frames),
    }
    beside = folder.parent.parent / "csv" / f"{folder.name}_ball.csv"
    if files["csv"] is None and folder.parent.name in _FRAME_FOLDERS and beside.is_file():
        files["csv"] = beside
    found = {k: f for k, f in files.items() if f is not None and kind in (None, k)}
    if len(found) > 1:
        listed = " and ".join(str(file) for file in found.values())
        raise ValueError(
            f"{folder}: expected labels of one kind, found {listed}; say which with `format: {min(found)}`"
        )
    return next((Located(name=name, frames=frames, labels=f, kind=k) for k, f in found.items()), None)


def _video(file: Path, kind: str | None, name: str) -> Located | None:
    """Return the clip of a video, None where it is no video or has no CSV file."""
    if file.suffix[1:].lower() not in VIDEOS or kind not in (None, "csv"):
        return None
    folders = (file.parent, file.parent.parent / "csv")
    names = (f"{file.stem}_ball.csv", f"{file.stem}.csv")
    labels = next((f / n for f in folders for n in names if (f / n).is_file()), None)
    return None if labels is None else Located(name=name, frames=file, labels=labels, kind="csv")


def _label_folder(frames: Path) -> Path | None:
    """Return the folder of the label files of images: the same below ``labels`` instead of ``images``."""
    parts = list(frames.absolute().parts)
    if "images" not in parts:
        return None
    last = len(parts) - 1 - parts[::-1].index("images")
    parts[last] = "labels"
    folder = Path(*parts)
    return folder if folder.is_dir() else None


def _has_images(folder: Path) -> bool:
    return folder.is_dir() and any(_is_image(entry.name) for entry in os.scandir(folder))


def _is_image(name: str) -> bool:
    return name.rpartition(".")[2].lower() in IMAGES and not name.startswith(".")


def image_files(folder: Path) -> list[Path]:
    """Return the images in a folder, by name."""
    return sorted(Path(entry.path) for entry in os.scandir(folder) if _is_image(entry.name))


def _looked_for(kind: str | None) -> str:
    """Say which labels a clip may have."""
    texts = {
        "csv": "labels.csv, Label.csv or <clip>_ball.csv",
        "annotation": "annotation.json",
        "lines": "images/... with labels/...",
    }
    return " or ".join(texts[k] for k in CLIP_FORMATS if kind in (None, k))
