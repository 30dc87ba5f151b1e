"""Everything of Ultralytics that this package relies on beyond its public classes.

This is the only module that touches the host's private names and its registries. `register` adds this package's
entries to the host's tables; it rebinds nothing. The contract tests name each seam used here, so that a new
Ultralytics that moves one fails loudly.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from ultralytics import __version__ as HOST_VERSION
from ultralytics.cfg import TASK2CALIBRATIONDATA, TASK2DATA, TASK2METRIC
from ultralytics.nn.tasks import guess_model_scale, load_checkpoint
from ultralytics.utils.torch_utils import initialize_weights

SUPPORTED = ("8.4.180", "8.5")  # lowest supported Ultralytics, first unsupported one
TASK = "multitask"
_TABLES: tuple[tuple[dict[str, str], str], ...] = (
    (TASK2DATA, "coco8-multitask.yaml"),
    (TASK2CALIBRATIONDATA, "coco8-multitask.yaml"),
    (TASK2METRIC, "metrics/mAP50-95(B)"),
)


def register() -> None:
    """Make the host know the task `multitask` and trust this package's classes in checkpoints. Safe to call
    repeatedly.
    """
    from yolo_multitask.nn.branches import BRANCHES
    from yolo_multitask.nn.heads import MultiTask
    from yolo_multitask.nn.network import MultiTaskModel

    for table, value in _TABLES:
        table.setdefault(TASK, value)
    add_safe_globals = getattr(torch.serialization, "add_safe_globals", None)  # torch >= 2.4
    if add_safe_globals is not None:
        add_safe_globals([MultiTaskModel, MultiTask, *BRANCHES.values()])


def is_registered() -> bool:
    """Return whether `register` has run in this process."""
    return all(TASK in table for table, _ in _TABLES)


def version_supported() -> bool:
    """Return whether the installed Ultralytics is within the supported range."""
    low, high = (_numbers(v) for v in SUPPORTED)
    return low <= _numbers(HOST_VERSION) < high


def model_scale(name: str) -> str:
    """Return the scale letter (n, s, m, l, x) in a model name such as `yolov8n-multitask.yaml`, or an empty string."""
    return str(guess_model_scale(name))


def init_layers(module: nn.Module) -> None:
    """Set BatchNorm and activation defaults as the host does for a new model."""
    initialize_weights(module)


def copy_attributes(new: nn.Module, old: nn.Module, names: tuple[str, ...]) -> None:
    """Carry over the attributes that the host's parser sets on a layer."""
    for name in names:
        if hasattr(old, name):
            setattr(new, name, getattr(old, name))


@contextmanager
def checkpoint_errors(file: Any) -> Iterator[None]:
    """Turn what the host raises inside the `with` for a file that is no checkpoint into one clear error.

    Raises:
        ValueError: If the file is damaged or holds something else than the checkpoint of a network.
    """
    try:
        yield
    except (AttributeError, TypeError) as error:
        if "truncated" in str(error):
            found = "an empty, truncated or corrupted file; copy or download it again"
        elif "checkpoint format" in str(error):
            found = "none in it; a state_dict does not say the architecture: build it from its YAML, then load that"
        else:
            found = f"other contents ({error}); pass best.pt or last.pt of a run, or a stock checkpoint"
        raise ValueError(
            f"{file}: expected a checkpoint with a network, as training saves it, found {found}"
        ) from error


def load_network(file: Any, device: Any = None) -> nn.Module:
    """Return the network of a checkpoint, float32 and in evaluation mode.

    Raises:
        ValueError: If the file is damaged or holds something else than the checkpoint of a network.
        FileNotFoundError: If there is no such file, and it is nothing that the host can download.
    """
    with checkpoint_errors(file):
        network: nn.Module = load_checkpoint(file, device)[0]
    return network


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(x) for x in version.split("+")[0].split(".")[:3] if x.isdigit())
