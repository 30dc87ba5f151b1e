"""Small data sets, written and read back as text and as labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from yolo_multitask.data.convert.report import SplitReport
from yolo_multitask.data.labels import Labels, LabelSpec, read_labels

WIDTH, HEIGHT = 40, 20  # of every image, in pixels
SCALE = np.array([WIDTH, HEIGHT, WIDTH, HEIGHT])


def write_images(folder: Path, names: Sequence[str]) -> Path:
    """Write images that differ, and return their folder."""
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT), (i, 0, 0)).save(folder / name)
    return folder


def write_turned(path: Path) -> None:
    """Write an image that lies on its side in the file, and is shown upright: HEIGHT wide and WIDTH high."""
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: to be turned clockwise
    Image.new("RGB", (WIDTH, HEIGHT)).save(path, exif=exif)


def write_set(
    root: Path, images: Mapping[str, Sequence[str]], names: Sequence[str] | Mapping[int, str], **keys: Any
) -> Path:
    """Write a data set, its images by ``<split>/<name>`` with their lines, and return the data YAML."""
    write_images(root / "images", [f"{name}.png" for name in images])
    for name, lines in images.items():
        (root / "labels" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "labels" / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
    splits = {name.split("/")[0]: f"images/{name.split('/')[0]}" for name in images}
    data = {"train": None, "val": None, **splits, "names": names, **keys}
    (root / "data.yaml").write_text(yaml.safe_dump(data))
    return root / "data.yaml"


def lines_of(out: Path, name: str) -> list[str]:
    """Return the lines of the label file of ``<split>/<name>``."""
    return (out / "labels" / f"{name}.txt").read_text().splitlines()


def labels_of(out: Path, name: str, split: str = "train") -> Labels:
    """Read one label file; it must be there, and every line must parse."""
    path = out / "labels" / split / f"{name}.txt"
    assert path.is_file()
    labels, problems = read_labels(path, LabelSpec.from_data(yaml.safe_load((out / "data.yaml").read_text())))
    assert problems == []
    return labels


def images_of(out: Path, split: str = "train") -> list[str]:
    """Return the paths of the images of a split, below its folder."""
    root = out / "images" / split
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())


def pixels(labels: Labels, index: int = 0) -> list[float]:
    """Return the corners of a box in pixels."""
    cx, cy, w, h = labels.boxes[index].astype(float) * SCALE
    return [round(float(v), 2) for v in (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)]


def balanced(report: SplitReport) -> bool:
    """Return whether every annotation was written or counted."""
    return report.annotations == report.instances + report.ignored + sum(report.dropped.values())
