"""What the experiments with a ball share: positions in results against labels, at every confidence."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo_multitask import MultiTaskYOLO
from yolo_multitask.data.clips.clip import Clip
from yolo_multitask.metrics.points import PointMetrics

CONFIDENCES = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8)
Found = list[NDArray[np.float64]]  # of each frame of a clip: x, y and confidence of each ball (M, 3)


def found_balls(results: Iterable[Any], cls: int = 0) -> Found:
    """Return what results say of the ball: its exact position, or the centre of its box where that is all there is.

    Args:
        results: Of a clip, frame by frame.
        cls: Class of the ball.
    """
    frames = []
    for result in results:
        boxes = result.boxes[result.boxes.cls == cls].cpu().numpy()
        points = getattr(result, "points", None)
        xy = boxes.xywh[:, :2] if points is None else points.xy.cpu().numpy()[result.boxes.cls.cpu().numpy() == cls]
        frames.append(np.column_stack((xy, boxes.conf)).astype(np.float64).reshape(-1, 3))
    return frames


def measure(clips: Sequence[tuple[Clip, Found]], conf: float, cls: int = 0) -> PointMetrics:
    """Return the measures of the ball at a confidence, of all clips together."""
    metrics = PointMetrics({cls: "ball"})
    for clip, found in clips:
        for rows, labels in zip(found, clip.labels, strict=True):
            rows = rows[rows[:, 2] >= conf]
            own = labels.cls == cls
            metrics.update(
                rows[:, :2],
                np.full(len(rows), cls),
                labels.points[own],
                labels.cls[own],
                labels.visible[own],
                size=clip.size,
                labelled=labels.labelled,
            )
    return metrics


def summary(clips: Sequence[tuple[Clip, Found]], cls: int = 0) -> dict[str, float]:
    """Return precision, recall, F1 and error at a confidence of 0.25, and the best F1 at any with its confidence."""
    at = {conf: measure(clips, conf, cls) for conf in CONFIDENCES}
    best = max(CONFIDENCES, key=lambda conf: at[conf].f1)
    usual, counts = at[0.25], at[0.25].counts
    return {
        "precision": usual.precision,
        "recall": usual.recall,
        "F1": usual.f1,
        "error": usual.error,
        "TP": counts.tp,
        "FP": counts.fp1 + counts.fp2,
        "FN": counts.fn,
        "best F1": at[best].f1,
        "best conf": best,
    }


def schedule(warmup: float = 0.05) -> Callable[[Any], None]:
    """Return a callback that sets the learning rate of every step, also of a resumed training.

    It rises over a share `warmup` of the steps, then falls along half a cosine to 1%.
    """
    epoch, step = -1, 0

    def set_rate(trainer: Any) -> None:
        nonlocal epoch, step
        epoch, step = (epoch, step + 1) if epoch == trainer.epoch else (trainer.epoch, 0)
        done = (epoch + step / len(trainer.train_loader)) / trainer.epochs
        fall = 0.5 + 0.5 * math.cos(math.pi * (done - warmup) / (1 - warmup))
        factor = done / warmup if done < warmup else 0.01 + 0.99 * fall
        for group in trainer.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor

    return set_rate


def train_once(start: Path | str, last: Path, settings: dict[str, Any]) -> Path:
    """Train a model, finish a training that was stopped, or take one that is finished; return the weights.

    Args:
        start: Model or YAML to train.
        last: The checkpoint that the training writes.
        settings: Arguments of the training.
    """
    before = MultiTaskYOLO(last) if last.exists() else None
    if before is not None and before.ckpt["epoch"] < 0:  # as the host marks a finished one
        return last
    model = before or MultiTaskYOLO(start)
    model.add_callback("on_train_batch_start", schedule())
    model.train(**{**settings, "resume": before is not None})
    return last


def once(file: Path, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what `file` holds; where it is missing compute that first and write it, whole."""
    if not file.exists():
        partial = file.with_name(f".{file.name}.part")
        partial.write_text(json.dumps(compute(), indent=2) + "\n", encoding="utf-8")
        partial.replace(file)
    return dict(json.loads(file.read_text(encoding="utf-8")))


def table(rows: dict[str, dict[str, float]], columns: Sequence[str]) -> str:
    """Return a Markdown table."""
    lines = ["| | " + " | ".join(columns) + " |", "|---|" + "--:|" * len(columns)]
    for name, values in rows.items():
        cells = (f"{values[c]:.3f}" if isinstance(values.get(c), float) else str(values.get(c, "-")) for c in columns)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)
