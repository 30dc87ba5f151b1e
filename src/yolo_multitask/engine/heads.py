"""What an inference backend of the host computes: the tasks of the model behind it and the layout of its rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ultralytics.utils.torch_utils import unwrap_model

from yolo_multitask.args import check_tasks
from yolo_multitask.engine import exported
from yolo_multitask.nn.heads import MultiTask
from yolo_multitask.nn.network import MultiTaskModel
from yolo_multitask.tasks import RowLayout


def find_network(model: Any) -> Any:
    """Return the network inside `model`, itself or a backend around one; of an exported file the backend."""
    model = unwrap_model(model)
    return unwrap_model(model.model) if getattr(model, "format", None) == "pt" else model


def find_head(model: Any) -> MultiTask | None:
    """Return our head inside `model` (a `MultiTaskModel`, or a backend around one), or None for an exported file."""
    network = find_network(model)
    return network.head if isinstance(network, MultiTaskModel) else None


def model_tasks(model: Any) -> tuple[str, ...]:
    """Return the tasks that `model` can compute.

    Raises:
        ValueError: If it is neither our model nor an exported file that names its tasks.
    """
    head = find_head(model)
    return head.tasks if head is not None else exported.tasks(model)


def activate(model: Any, tasks: Sequence[str]) -> RowLayout:
    """Let `model` compute `tasks` at inference and return the layout of its rows.

    An exported file always computes all its tasks; the layout is then that of the file.
    """
    head = find_head(model)
    if head is not None:
        head.active = check_tasks(tasks)
        return head.layout
    return exported.layout(model)
