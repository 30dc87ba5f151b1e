"""Average precision of the models of a benchmark, on the same data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ultralytics.utils import YAML

from yolo_multitask.benchmark.contender import Contender
from yolo_multitask.data.config import load_data
from yolo_multitask.data.convert.to_yolo import to_yolo
from yolo_multitask.tasks import TASK


def accuracy(
    contender: Contender, data: str | Path, arguments: Mapping[str, Any], scratch: Path
) -> tuple[dict[str, float], str]:
    """Validate a model on the tasks that it has.

    A stock model reads stock label lines, so it gets what they can say of the data set: see `to_yolo`.

    Args:
        contender: The model.
        data: Data YAML of this package.
        arguments: Of `val`.
        scratch: Folder for what is written on the way.

    Returns:
        Measures by the keys of the host, such as `metrics/mAP50-95(B)`, and why there are none, if so.
    """
    model = contender.model
    if model.task != TASK:
        try:
            data = stock_set(data, model.task, scratch / f"data-{model.task}")
        except ValueError as error:
            return {}, f"{contender.name} has no AP: {error}"
        if difference := _other_classes(model.names, data):
            return {}, f"{contender.name} has no AP: {difference}"
    metrics = model.val(
        data=str(data), plots=False, verbose=False, project=str(scratch), name="val", exist_ok=True, **arguments
    )
    return {key: float(value) for key, value in zip(metrics.keys, metrics.mean_results(), strict=True)}, ""


def stock_set(data: str | Path, task: str, out: Path) -> Path:
    """Write the validation images of a data set with stock lines for one task, unless done; return the data YAML.

    Raises:
        ValueError: If the data set has no labels for the task, or stock lines cannot be made of them.
    """
    file = out / "stock.yaml"
    if not file.exists():
        names = dict(enumerate(to_yolo(data, task, out, split="val").names))
        keys = {"path": str(out), "train": "images/val", "val": "images/val", "names": names}  # the host wants `train`
        YAML.save(file, keys | ({"kpt_shape": list(load_data(data)["kpt_shape"])} if task == "pose" else {}))
    return file


def _other_classes(names: Mapping[int, str], data: Path) -> str:
    """Return how the classes of a model differ from those of a data YAML; empty if they do not."""
    have, want = list(names.values()), list(YAML.load(data)["names"].values())
    if have == want:
        return ""
    return f"it has {len(have)} classes, {have[0]} first, the data has {len(want)}, {want[0]} first."
