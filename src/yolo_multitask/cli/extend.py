"""`ymt extend`: a trained model gets a branch more, and keeps everything else as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from yolo_multitask.cli.grammar import UsageError, unknown
from yolo_multitask.tasks import BRANCH_TASKS


def extend(tokens: Sequence[str]) -> None:
    """Run the training of the branch.

    Args:
        tokens: The rest of the command line.

    Raises:
        UsageError: If an argument is unknown, wrong or missing.
    """
    from yolo_multitask.cli.run import load_model, parse

    given = parse(tokens, "extend")
    model, task, data = (_required(given, *pair) for pair in (
        ("model", "a trained model, such as model=yolov8n-seg.pt"),
        ("task", f"the task to add, one of {', '.join(BRANCH_TASKS)}"),
        ("data", "a data YAML that labels the task"),
    ))  # fmt: skip
    if task not in BRANCH_TASKS:
        raise UsageError(f"task={task}: {unknown(str(task), BRANCH_TASKS, 'task to add')}")
    load_model(model, None).extend(task, data, **given)


def _required(given: dict[str, Any], key: str, what: str) -> Any:
    """Take a value out of the arguments."""
    value = given.pop(key, None)
    if value is None:
        raise UsageError(f"extend needs {key}=, {what}; found none.")
    return value
