"""Tiny stock networks as teachers, and pictures for them to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from ultralytics.nn.tasks import DetectionModel, PoseModel, SegmentationModel
from ultralytics.utils import YAML, IterableSimpleNamespace
from ultralytics.utils.checks import check_yaml

from support.models import randomise
from yolo_multitask.args import full_cfg

SIZE = 64
STOCK = {
    "detect": (DetectionModel, "yolov8.yaml"),
    "segment": (SegmentationModel, "yolov8-seg.yaml"),
    "pose": (PoseModel, "yolov8-pose.yaml"),
}


def stock_network(task: str, nc: int, seed: int = 0, names: tuple[str, ...] = (), **keys: Any) -> Any:
    """Return a small stock network with random weights, that sees objects everywhere."""
    build, file = STOCK[task]
    config = {**YAML.load(check_yaml(file)), "scales": {"n": [0.33, 0.125, 1024]}, "scale": "n", **keys}
    network = build(config, nc=nc, verbose=False)
    randomise(network, seed)
    network.names = dict(enumerate(names)) if names else {i: f"thing{i}" for i in range(nc)}
    network.task = task
    network.args = IterableSimpleNamespace(**full_cfg())
    return network.eval()


def save_teacher(file: Path, task: str, nc: int, seed: int = 0, names: tuple[str, ...] = (), **keys: Any) -> Path:
    """Write a checkpoint of `stock_network`; return the file."""
    network = stock_network(task, nc, seed, names, **keys)
    network.args = dict(vars(network.args))
    torch.save({"model": network, "train_args": {}}, file)
    return file


def write_pictures(folder: Path, count: int = 6, seed: int = 0) -> Path:
    """Write small random pictures; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for i in range(count):
        coarse = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{i:03d}.png"), cv2.resize(coarse, (80, 60), interpolation=cv2.INTER_CUBIC))
    return folder
