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

    Raises:
        ValueError: If data and model do not fit, or the data set cannot be read.
    """
    model = contender.model
    if model.task != TASK:
        if lacking := _no_stock_lines(data, model.task):
            return {}, f"{contender.name} has no AP: {lacking}"
        data = stock_set(data, model.task, scratch / f"data-{model.task}")
        if difference := _other_classes(model.names, data):
            return {}, f"{contender.name} has no AP: {difference}"
    metrics = model.val(
        data=str(data), plots=False, verbose=False, project=str(scratch), name="val", exist_ok=True, **arguments
    )
    return {key: float(value) for key, value in zip(metrics.keys, metrics.mean_results(), strict=True)}, ""


def stock_set(data: str | Path, task: str, out: Path) -> Path:
    """Write the validation images of a data set with stock lines for one task, unless done; return the data YAML.

    Raises:
        ValueError: If the data set has no labels for the task, or a line of it does not parse.
    """
    file = out / "stock.yaml"
    if not file.exists():
        names = dict(enumerate(to_yolo(data, task, out, split="val").names))
        keys = {"path": str(out), "train": "images/val", "val": "images/val", "names": names}  # the host wants `train`
        YAML.save(file, keys | ({"kpt_shape": list(load_data(data)["kpt_shape"])} if task == "pose" else {}))
    return file


def _no_stock_lines(data: str | Path, task: str) -> str:
    """Return why there are no stock lines of a data set for a task; empty if there are."""
    loaded = load_data(data)
    if loaded.get("sources"):
        return f"{data} lists sources, of which no stock set can be made."
    spec = loaded["label_spec"]
    return "" if task in spec.tasks else f"{data} has lines for {', '.join(spec.tasks)} alone; {spec.advice[task]}."


def _other_classes(names: Mapping[int, str], data: Path) -> str:
    """Return how the classes of a model differ from those of a data YAML; empty if they do not."""
    have, want = list(names.values()), list(YAML.load(data)["names"].values())
    if have == want:
        return ""
    return f"it has {len(have)} classes, {have[0]} first, the data has {len(want)}, {want[0]} first."
