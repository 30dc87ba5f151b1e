"""Checkpoints of small random models, multitask and stock, for the benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from ultralytics.nn.tasks import DetectionModel, PoseModel, SegmentationModel, yaml_model_load
from ultralytics.utils import DEFAULT_CFG_DICT

from support.models import randomise, tiny_model

KPT, NAMES = (3, 3), {0: "person", 1: "car"}
STOCK: dict[str, tuple[str, str, Any]] = {
    "detect": ("yolov8n.yaml", "detect", DetectionModel),
    "seg": ("yolov8n-seg.yaml", "segment", SegmentationModel),
    "pose": ("yolov8n-pose.yaml", "pose", PoseModel),
}


def save(model: Any, task: str, names: dict[int, str], file: Path, seed: int) -> str:
    """Give a model random weights and save it as a checkpoint; return its path."""
    randomise(model, seed)
    model.task, model.names, model.args = task, names, dict(DEFAULT_CFG_DICT)
    torch.save({"model": model.eval()}, file)
    return str(file)


def write_checkpoints(folder: Path) -> dict[str, str]:
    """Write `best.pt`, a multitask model, and `detect.pt`, `seg.pt`, `pose.pt`; return their paths by name."""
    out = {"best": save(tiny_model(nc=2, kpt_shape=KPT), "multitask", dict(NAMES), folder / "best.pt", 0)}
    for seed, (name, (file, task, cls)) in enumerate(STOCK.items(), 1):
        config = yaml_model_load(file) | {"scales": {"n": [0.33, 0.125, 1024]}, "kpt_shape": KPT}
        names = {0: "person"} if name == "pose" else dict(NAMES)
        model = cls(config, nc=len(names), verbose=False)
        out[name] = save(model, task, names, folder / f"{name}.pt", seed)
    return out


def picture(height: int = 48, width: int = 64) -> Any:
    """Return a noise image."""
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
