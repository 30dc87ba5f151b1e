"""Checkpoints of small random models, multitask and stock, for the benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from ultralytics.nn.tasks import DetectionModel, PoseModel, SegmentationModel, yaml_model_load
from ultralytics.utils import DEFAULT_CFG_DICT

from support.models import randomise, tiny_model
from yolo_multitask import MultiTaskYOLO

KPT, NAMES = (3, 3), {0: "person", 1: "car"}
LABELS: dict[str, Any] = {
    "labels": {"keypoints": True, "polygons": True},
    "kpt_shape": list(KPT),
    "kpt_classes": ["person"],
    "names": NAMES,
}  # keys of a data YAML
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


def write_onnx(checkpoint: str, folder: Path) -> str:
    """Write a multitask checkpoint as `best.onnx` for 64 pixels alone; return its path."""
    copy = folder / "best.pt"
    copy.write_bytes(Path(checkpoint).read_bytes())
    return str(MultiTaskYOLO(str(copy)).export(format="onnx", imgsz=64, simplify=False))


def write_set(folder: Path, images: list[list[str]], **keys: Any) -> Path:
    """Write pictures with these label lines, and the data YAML; return its path."""
    for i, lines in enumerate(images):
        for kind in ("images", "labels"):
            (folder / kind / "val").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / "images" / "val" / f"{i}.png"), picture())
        (folder / "labels" / "val" / f"{i}.txt").write_text("".join(f"{line}\n" for line in lines))
    file = folder / "data.yaml"
    file.write_text(yaml.safe_dump({"path": str(folder), "train": "images/val", "val": "images/val", **keys}))
    return file


def found_lines(checkpoint: str, imgsz: int) -> list[str]:
    """Return label lines of what a multitask model finds in the picture, each box as polygon too."""
    found = MultiTaskYOLO(checkpoint).predict(picture(), imgsz=imgsz, device="cpu", verbose=False)[0]
    lines = []
    for (x, y, w, h), cls, points in zip(
        found.boxes.xywhn.tolist(), found.boxes.cls.tolist(), found.keypoints.xyn.clamp(0, 1).tolist(), strict=True
    ):
        left, top, right, bottom = max(x - w / 2, 0), max(y - h / 2, 0), min(x + w / 2, 1), min(y + h / 2, 1)
        corners = (left, top, right, top, right, bottom, left, bottom)
        fields = [cls, x, y, w, h, *(value for point in points for value in (*point, 2)), *corners]
        lines.append(" ".join(f"{value:g}" for value in fields))
    return lines


def picture(height: int = 48, width: int = 64) -> Any:
    """Return a noise image."""
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
