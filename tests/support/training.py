"""Data sets, model files and training runs so small that a test can afford them."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from support.models import randomise, tiny_yaml
from yolo_multitask import MultiTaskYOLO
from yolo_multitask.data.labels import LabelSpec, format_line, parse_line
from yolo_multitask.data.synthetic import WorldConfig, write_dataset

SIZE = 64
RUN: dict[str, Any] = {
    "imgsz": SIZE,
    "batch": 4,
    "epochs": 1,
    "device": "cpu",
    "workers": 0,
    "plots": False,
    "verbose": False,
    "exist_ok": True,
}


def write_world(
    folder: Path, *, figures: tuple[int, int] = (1, 2), objects: int = 0, seed: int = 0, **keys: Any
) -> Path:
    """Write 8 training and 4 validation pictures of the synthetic world; return the data YAML, with `keys` changed.

    A key that is given as `...` is left out of the YAML.
    """
    config = WorldConfig(width=SIZE, height=SIZE, figures=figures, objects=objects, min_area=1, noise=0)
    data = write_dataset(folder, train_sequences=2, val_sequences=1, frames_per_sequence=4, seed=seed, config=config)
    return change_yaml(data, **keys)


def change_yaml(file: Path, **keys: Any) -> Path:
    """Set keys of a YAML file, or remove those given as `...`; return the file."""
    values = {**yaml.safe_load(file.read_text()), **keys}
    file.write_text(yaml.safe_dump({k: v for k, v in values.items() if v is not ...}))
    return file


def label_files(data: Path, split: str = "train") -> list[Path]:
    """Return the label files of a split of a set that `write_world` wrote, sorted."""
    return sorted((data.parent / "labels" / split).rglob("*.txt"))


def relabel(files: list[Path], spec: LabelSpec, **changes: Any) -> None:
    """Write the labels that `write_world` wrote in the grammar of `spec`, with these fields changed.

    Ignore regions, which a stock grammar cannot say, are left out there.
    """
    wrote = LabelSpec(nc=2, kpt_shape=(17, 3), polygons=True, ids=True)
    for file in files:
        found = [parse_line(line, wrote) for line in file.read_text().splitlines()]
        kept = [replace(i, **changes) for i in found if spec.format == "multitask" or not i.ignore]
        file.write_text("".join(f"{format_line(instance, spec)}\n" for instance in kept))


def write_model(file: Path, family: str = "yolov8n", **keys: Any) -> Path:
    """Write the YAML of a tiny multitask model with `keys` changed; return the file."""
    config = {k: v for k, v in {**tiny_yaml(family), **keys}.items() if k != "yaml_file"}
    file.write_text(yaml.safe_dump(config))
    return file


def random_model(folder: Path, nc: int = 3, kpt_shape: tuple[int, int] = (5, 3), **keys: Any) -> MultiTaskYOLO:
    """Return a tiny model whose random weights give detections everywhere."""
    file = write_model(folder / "tiny-multitask.yaml", nc=nc, kpt_shape=list(kpt_shape), **keys)
    model = MultiTaskYOLO(file)
    randomise(model.model)
    return model


def train(model: Any, data: Path, folder: Path, **kwargs: Any) -> MultiTaskYOLO:
    """Train a model file or object into `folder`; return the object."""
    model = model if isinstance(model, MultiTaskYOLO) else MultiTaskYOLO(model)
    model.train(**{**RUN, "data": str(data), "project": str(folder.parent), "name": folder.name, **kwargs})
    return model


def rows(folder: Path) -> list[dict[str, float]]:
    """Return the rows of a run's `results.csv`."""
    with open(folder / "results.csv", newline="") as file:
        return [{k.strip(): float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def assert_finite(table: list[dict[str, float]]) -> None:
    """Check that every number of `rows` is finite."""
    assert all(np.isfinite(list(row.values())).all() for row in table), table
