"""The student against each of its teachers, on pictures that none of it was trained on, and what they cost."""

from __future__ import annotations

import json
import logging
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from ultralytics.utils import LOGGER

from yolo_multitask.benchmark.timing import take_turns
from yolo_multitask.distill.teachers import Teacher, as_multitask, class_map
from yolo_multitask.engine.validator import MultiTaskValidator
from yolo_multitask.metrics.multitask import MultiTaskMetrics

TITLES = {"box": "Box", "seg": "Mask", "pose": "Keypoints"}
FIELDS = {"segment": "seg", "pose": "pose"}  # of the metrics, by task
RUNS = 5  # timed passes of each network


@dataclass(frozen=True, kw_only=True)
class Row:
    """One task of one teacher.

    Attributes:
        teacher: Its file.
        what: `box`, `seg` or `pose`.
        classes: Number of the classes that the teacher knows, over which the mean is.
        taught: The teacher's AP (mAP50-95).
        student: The student's.
    """

    teacher: str
    what: str
    classes: int
    taught: float
    student: float

    @property
    def share(self) -> float:
        """What the student has of the teacher's, NaN where that is nothing."""
        return self.student / self.taught if self.taught > 0 else float("nan")


@dataclass(kw_only=True)
class DistillReport:
    """What came out.

    Attributes:
        rows: AP by teacher and task.
        truth: What it was measured against: labels, or what the teachers say themselves.
        images: Number of pictures that it was measured on.
        cost: Milliseconds, GFLOPs and parameters (millions) of each network, and of the teachers together.
        embeddings: Correlation of the student's similarities of persons with the ReID teacher's; None without one.
        weights: The student's checkpoint.
    """

    rows: list[Row]
    truth: str
    images: int
    cost: dict[str, dict[str, float]]
    weights: str
    embeddings: float | None = None
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Return the tables."""
        lines = [f"Student against teachers, mAP50-95 on {self.images} images, against {self.truth}", ""]
        lines.append(f"{'':<12}{'teacher':<28}{'classes':>8}{'teacher':>10}{'student':>10}{'share':>8}")
        for row in self.rows:
            lines.append(
                f"{TITLES[row.what]:<12}{Path(row.teacher).name:<28}{row.classes:>8}{row.taught:>10.3f}"
                f"{row.student:>10.3f}{row.share:>8.0%}"
            )
        if self.embeddings is not None:
            lines.append(f"Embeddings  correlation of similarities with the teacher's: {self.embeddings:.2f}")
        lines += ["", f"{'':<40}{'ms':>10}{'GFLOPs':>10}{'M params':>10}"]
        for name, cost in self.cost.items():
            lines.append(f"{name:<40}{cost['ms']:>10.1f}{cost['gflops']:>10.1f}{cost['mparams']:>10.2f}")
        student, together = self.cost["student"], self.cost["teachers together"]
        saved = {k: 1 - student[k] / together[k] for k in ("ms", "gflops", "mparams") if together[k]}
        lines.append(
            f"{'saved':<40}" + "".join(f"{saved.get(k, float('nan')):>10.0%}" for k in ("ms", "gflops", "mparams"))
        )
        return "\n".join([*lines, *self.notes, "", f"weights: {self.weights}"])

    def save(self, folder: Path) -> Path:
        """Write the report as JSON; return the file."""
        file = folder / "distill.json"
        rows = [{**asdict(row), "share": row.share} for row in self.rows]
        content = {**{k: v for k, v in vars(self).items() if k != "rows"}, "rows": rows}
        file.write_text(json.dumps(content, indent=1), encoding="utf-8")
        (folder / "distill.txt").write_text(f"{self}\n", encoding="utf-8")
        return file


def measure(network: nn.Module, data: str, size: int, batch: int, device: Any, folder: Path) -> MultiTaskMetrics:
    """Validate a multitask network; return the metrics."""
    validator = MultiTaskValidator(
        args={"data": data, "imgsz": size, "batch": batch, "device": device, "plots": False, "verbose": False,
              "project": str(folder.parent), "name": folder.name, "exist_ok": True, "mode": "val", "model": "student",
              "track": False}
    )  # fmt: skip
    with quiet():
        validator(model=deepcopy(network).float().eval())  # the validator fuses what it is given
    return validator.metrics


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the host from logging what is not a warning."""
    level = LOGGER.level
    LOGGER.setLevel(logging.WARNING)
    try:
        yield
    finally:
        LOGGER.setLevel(level)


def compare(
    student: MultiTaskMetrics, teachers: Sequence[tuple[Teacher, MultiTaskMetrics]], names: Mapping[int, str]
) -> list[Row]:
    """Return the AP of the student and of each teacher, for the classes that the teacher knows."""
    rows = []
    for teacher, metrics in teachers:
        known = [ours for _, ours in class_map(teacher, names)]
        for what in ("box", *(FIELDS[t] for t in teacher.tasks if t in FIELDS)):
            if not hasattr(metrics, what) or not hasattr(student, what):
                continue
            taught, count = mean_precision(getattr(metrics, what), known)
            own, _ = mean_precision(getattr(student, what), known)
            if count:
                rows.append(Row(teacher=teacher.file, what=what, classes=count, taught=taught, student=own))
    return rows


def mean_precision(metric: Any, classes: Sequence[int]) -> tuple[float, int]:
    """Return the mean AP over those of the classes that the data has, and how many these are."""
    values = [float(metric.ap[i]) for i, c in enumerate(metric.ap_class_index) if int(c) in set(classes)]
    return (float(np.mean(values)), len(values)) if values else (float("nan"), 0)


@torch.no_grad()
def costs(
    student: nn.Module, teachers: Sequence[Teacher], size: int, embedder: Any = None, crops: int = 5
) -> dict[str, dict[str, float]]:
    """Return milliseconds of a forward pass, GFLOPs and millions of parameters of each network, timed in turn.

    Args:
        student: The student.
        teachers: Those that see whole pictures.
        size: Side of the input in pixels.
        embedder: The ReID teacher.
        crops: How many crops it looks at.
    """
    from ultralytics.utils.torch_utils import get_flops, get_num_params

    device = next(student.parameters()).device
    image = torch.zeros(1, 3, size, size, device=device)
    networks = {"student": student, **{t.title: t.network for t in teachers}}
    fused = {name: deepcopy(n).float().eval().to(device) for name, n in networks.items()}
    for network in fused.values():
        network.fuse(verbose=False)  # type: ignore[operator]
    ways: list[Callable[[], Any]] = [partial(n, image) for n in fused.values()]
    if embedder is not None:
        picture, boxes = np.zeros((size, size, 3), np.uint8), np.tile(np.array([0, 0, 64, 128], np.float32), (crops, 1))
        ways.append(partial(embedder, picture, boxes))
    times = [statistics.median(run.ms for run in runs) for runs in take_turns(ways, RUNS, 1)]
    out = {
        name: {"ms": ms, "gflops": get_flops(networks[name], size), "mparams": get_num_params(networks[name]) / 1e6}
        for name, ms in zip(fused, times, strict=False)
    }
    together = {k: sum(cost[k] for name, cost in out.items() if name != "student") for k in ("ms", "gflops", "mparams")}
    if embedder is not None:
        name = f"ReID, {crops} crops"
        out[name] = {"ms": times[-1], "gflops": float("nan"), "mparams": float("nan")}
        together["ms"] += times[-1]
    return {**out, "teachers together": together}


def teachers_measured(
    teachers: Sequence[Teacher], names: Mapping[int, str], **where: Any
) -> list[tuple[Teacher, MultiTaskMetrics]]:
    """Validate the teachers on the data of the student."""
    return [(teacher, measure(as_multitask(teacher, names), **where)) for teacher in teachers]
