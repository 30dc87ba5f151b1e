"""The files of a split: its images in order, and label files that belong to none of them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from yolo_multitask.data.check.findings import Finding

NO_LABELS = {"classes.txt"}  # what annotation tools put beside label files


def image_files(paths: str | Sequence[str], split: str) -> list[str]:
    """Return the images of a split, folder after folder, in natural order of their names (``2.jpg`` before ``10.jpg``).

    Args:
        paths: Folders, text files that list images, or both, as the host's `check_det_dataset` gives them.
        split: For messages.

    Raises:
        FileNotFoundError: One of them does not exist, or there is no image.
    """
    found: list[str] = []
    for path in [paths] if isinstance(paths, str) else paths:
        if os.path.isdir(path):
            found += _walk(path)
        elif os.path.isfile(path):
            lines = Path(path).read_text(encoding="utf-8-sig").strip().splitlines()
            parent = f"{Path(path).parent}{os.sep}"
            found += (line.replace("./", parent, 1) if line.startswith("./") else line for line in lines)
        else:
            raise FileNotFoundError(f"{path}: expected the images of {split}, found no such folder; correct the path")
    images = [f.replace("/", os.sep) for f in found if _is_image(f)]
    if not images:
        raise FileNotFoundError(f"{paths}: expected the images of {split}, found none; correct the path")
    return sorted(images, key=_natural)


def label_folder(image_folder: str) -> str:
    """Return the folder with the label files of a folder of images."""
    from ultralytics.data.utils import img2label_paths

    return os.path.dirname(img2label_paths([os.path.join(image_folder, "x.jpg")])[0])


def orphans(paths: str | Sequence[str], split: str) -> Iterator[Finding]:
    """Yield label files without image below the folders of a split; lists of images leave files out on purpose."""
    for path in [paths] if isinstance(paths, str) else paths:
        if not os.path.isdir(path):
            continue
        top = label_folder(path)
        for root, _, names in os.walk(top, followlinks=True):
            texts = sorted(name for name in names if name.endswith(".txt") and name not in NO_LABELS)
            folder = os.path.normpath(os.path.join(path, os.path.relpath(root, top)))
            stems = {n.rpartition(".")[0] for n in _names(folder) if _is_image(n)} if texts else set()
            for name in texts:
                if name[:-4] not in stems:
                    message = f"no image in {folder} has this name; remove the file or add the image"
                    yield Finding("label-orphan", os.path.join(root, name), message, split=split)


def shared_labels(images: Sequence[str], split: str) -> Iterator[Finding]:
    """Yield images of a folder that have the same label file, as their names differ in the suffix alone.

    Args:
        images: As `image_files` returns them.
        split: For messages.
    """
    for stem, group in groupby(dict.fromkeys(images), lambda image: image.rpartition(".")[0]):
        first, *others = group
        if others:
            same = " and ".join(map(os.path.basename, (first, *others)))
            message = f"{same} have the same label file; rename or remove all but one"
            yield Finding("label-shared", os.path.dirname(stem), message, split=split, image=first)


def frame_number(path: str) -> int | None:
    """Return the last number in a file's name, or None."""
    digits = re.findall(r"[0-9]+", os.path.basename(path).rpartition(".")[0])
    return int(digits[-1]) if digits else None


def _walk(top: str) -> Iterator[str]:
    """Yield the files below a folder as the host finds them: through links, without hidden ones."""
    for root, folders, names in os.walk(top, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (os.path.join(root, name) for name in names if not name.startswith("."))


def _is_image(name: str) -> bool:
    from ultralytics.data.utils import IMG_FORMATS

    return name.rpartition(".")[2].lower() in IMG_FORMATS


def _names(folder: str) -> list[str]:
    return os.listdir(folder) if os.path.isdir(folder) else []


def _natural(path: str) -> tuple[str, str, str]:
    """Return a sort key: folder, then name without suffix, numbers in it by their value, then spelling."""
    folder, name = os.path.split(path)
    stem = name.rpartition(".")[0]
    return folder, re.sub(r"[0-9]+", lambda digits: digits[0].zfill(20), stem), name
