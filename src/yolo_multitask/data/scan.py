"""The scan of a data set: every image and label file is checked and read once, and the result kept in a cache file."""

from __future__ import annotations

import os
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ultralytics.data.utils import check_image, load_dataset_cache_file
from ultralytics.utils import LOGGER

from yolo_multitask.data.columns import CLS, HAS_KEYPOINTS, HAS_MASK, IGNORE, new_columns
from yolo_multitask.data.labels import Labels, LabelSpec, LineProblem, read_labels

CACHE_VERSION = "multitask-2"  # of what is written to the cache file; changes with the layout of `scan_image`'s label
_COUNTS = (  # what a scan counts, in the order of its summary
    "images",
    "backgrounds",
    "corrupt",
    "instances",
    "with polygons",
    "with keypoints",
    "with ids",
    "sequences",
    "ignore regions",
    "bad lines",
    "duplicate lines",
    "flat polygons",
    "images left out for bad lines",
)
_ALWAYS_SHOWN = 3  # of _COUNTS; the rest is shown where it is not 0


@dataclass(kw_only=True)
class Scan:
    """What was found in one image or in all of a data set.

    Attributes:
        labels: One dict per usable image.
        counts: Number by name, see `summary`.
        messages: One per thing that was left out or repaired; bad lines as ``file:line: reason``.
        label_files: Number of label files that exist.
    """

    labels: list[dict[str, Any]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    messages: list[str] = field(default_factory=list)
    label_files: int = 0

    def add(self, other: Scan) -> None:
        """Add what was found elsewhere."""
        self.labels += other.labels
        self.counts.update(other.counts)
        self.messages += other.messages
        self.label_files += other.label_files

    def count_sequences(self) -> None:
        """Count the folders in whose labels there is an identity, once all of the data set has been added."""
        folders = {Path(label["im_file"]).parent for label in self.labels if (label["ids"] >= 0).any()}
        self.counts["sequences"] = len(folders)

    @property
    def summary(self) -> str:
        """One line with all counts, e.g. ``8 images, 1 backgrounds, 0 corrupt, 31 instances, 2 bad lines``."""
        return ", ".join(
            f"{self.counts[name]} {name}" for i, name in enumerate(_COUNTS) if i < _ALWAYS_SHOWN or self.counts[name]
        )


def scan_image(im_file: str, label_file: str, spec: LabelSpec) -> Scan:
    """Check one image and read its labels.

    An image with a line that does not parse is left out whole: the object of that line would be trained as background.

    Args:
        im_file: The image.
        label_file: Its label file; a missing one means an image without instances.
        spec: What the lines hold.

    Returns:
        A scan with one label dict, or none where the image is left out.
    """
    scan = Scan(label_files=int(os.path.isfile(label_file)))
    try:
        message, shape = check_image(im_file)
    except Exception as error:  # Pillow raises what the file format's plugin happens to raise
        scan.counts["corrupt"] += 1
        scan.messages.append(f"{im_file}: corrupt image left out: {error or type(error).__name__}")
        return scan
    if message:
        scan.messages.append(message)
    try:
        labels, problems = read_labels(label_file, spec)
    except OSError as error:
        labels, problems = Labels.from_instances([], spec), [LineProblem(label_file, 0, f"cannot be read: {error}")]
    scan.messages += map(str, problems)
    bad = sum(p.kind == "error" for p in problems)
    scan.counts["bad lines"] += bad
    scan.counts["duplicate lines"] += len(problems) - bad
    if bad:
        scan.counts["images left out for bad lines"] += 1
        return scan
    labelled = np.array([p is not None and bool((np.ptp(p, 0) > 0).all()) for p in labels.polygons], dtype=bool)
    flat = int(labels.has_polygon.sum() - labelled.sum())
    if flat:
        scan.messages.append(f"{label_file}: {flat} polygons without width or height, taken as not labelled")
    real = ~labels.ignore
    scan.counts.update(
        {
            "images": 1,
            "backgrounds": int(not real.any()),
            "instances": int(real.sum()),
            "with polygons": int((labelled & real).sum()),
            "with keypoints": int((labels.has_keypoints & real).sum()),
            "with ids": int(((labels.ids >= 0) & real).sum()),
            "ignore regions": int(labels.ignore.sum()),
            "flat polygons": flat,
        }
    )
    scan.labels.append(_label_dict(im_file, shape, labels, labelled, spec))
    return scan


def read_cache(path: Path, key: str) -> dict[str, Any] | None:
    """Return the cache if it can be read, has this version and matches the files, else None."""
    try:
        cache = load_dataset_cache_file(path)
    except Exception:  # missing, cut short, or pickled by something else: the scan writes it anew
        return None
    good = isinstance(cache, dict) and cache.get("version") == CACHE_VERSION and cache.get("hash") == key
    return cache if good else None


def write_cache(path: Path, cache: dict[str, Any], prefix: str) -> None:
    """Write the cache file whole or not at all; a folder that cannot be written to is only warned about."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with open(temporary, "wb") as file:
            np.save(file, np.array(cache, dtype=object), allow_pickle=True)
        os.replace(temporary, path)
    except OSError as error:
        LOGGER.warning(f"{prefix}cache file {path} not written: {error}")
    finally:
        temporary.unlink(missing_ok=True)


def _label_dict(
    im_file: str, shape: tuple[int, int], labels: Labels, labelled: NDArray[np.bool_], spec: LabelSpec
) -> dict[str, Any]:
    """Return the host's label dict of one image, plus ``ids`` int64 (N,) until the identities are numbered."""
    cls = new_columns(len(labels))
    cls[:, CLS] = labels.cls
    cls[:, HAS_KEYPOINTS] = labels.has_keypoints
    cls[:, HAS_MASK] = labelled
    cls[:, IGNORE] = labels.ignore
    polygons = (
        p if there else corners(box) for p, there, box in zip(labels.polygons, labelled, labels.boxes, strict=True)
    )
    return {
        "im_file": im_file,
        "shape": shape,
        "cls": cls,
        "bboxes": labels.boxes,
        "segments": list(polygons) if spec.polygons else [],
        "keypoints": labels.keypoints,
        "normalized": True,
        "bbox_format": "xywh",
        "ids": labels.ids,
    }


def corners(box: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the corners of a box cx cy w h as a polygon, float32 (4, 2) in the box's frame."""
    cx, cy, w, h = box
    return np.array(
        [[cx - w / 2, cy - h / 2], [cx + w / 2, cy - h / 2], [cx + w / 2, cy + h / 2], [cx - w / 2, cy + h / 2]]
    )
