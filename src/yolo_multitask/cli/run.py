"""`ymt train | val | predict | track | export | benchmark`: read the arguments, build the model, call its method."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from yolo_multitask.cli.grammar import UsageError, join_tokens, parse_words, unknown
from yolo_multitask.tasks import BRANCH_TASKS, TASK

# Bare words and keys that the host accepts beyond its configuration: a bool default may stand alone.
HOST_EXTRAS: Mapping[str, Any] = {
    "augmentations": None,
    "save_dir": None,
    "nms": False,
    "half": False,
    "int8": False,
    "end2end": False,
    "boxes": None,
    "hide_labels": None,
    "hide_conf": None,
    "line_thickness": None,
    "label_smoothing": None,
    "save_hybrid": None,
    "crop_fraction": None,
    "keras": None,
}
# Keys of one mode alone, which the host's check would not know.
MODE_EXTRAS: Mapping[str, Mapping[str, Any]] = {"export": {"masks": False}, "extend": {"replace": False}}
# Families with a class of their own, by a part of the model's name, as in `yolo`.
FAMILIES = (
    ("rtdetr", "RTDETR"),
    ("fastsam", "FastSAM"),
    ("sam_", "SAM"),
    ("sam2_", "SAM"),
    ("sam2.1_", "SAM"),
    ("sam3", "SAM"),
    ("mobile_sam", "SAM"),
    ("yolo_nas", "NAS"),
)


def valid_keys(mode: str | None = None) -> dict[str, Any]:
    """Return every key that a mode accepts with its default: those of Ultralytics and those of this package."""
    from ultralytics.utils import DEFAULT_CFG_DICT

    from yolo_multitask.args import DEFAULTS, USER_KEYS
    from yolo_multitask.benchmark.settings import OWN_KEYS

    of_mode = {"benchmark": OWN_KEYS, **MODE_EXTRAS}.get(mode or "", {})
    ours = {key: DEFAULTS.get(key) for key in USER_KEYS}
    return {**DEFAULT_CFG_DICT, **HOST_EXTRAS, **ours, **of_mode}


def parse(tokens: Sequence[str], mode: str | None = None) -> dict[str, Any]:
    """Read the arguments of a mode.

    Args:
        tokens: What stood after the mode on the command line; a task word may stand among it.
        mode: The mode, where it has keys of its own.

    Returns:
        Values by key; `task` is set where a task word or `task=` was given. `cfg=FILE` is read and its values stand
        where the command line gives none; with it, switches stand under `switches`.

    Raises:
        UsageError: If a key is unknown, or a value has the wrong type.
        FileNotFoundError: If the file of `cfg=` does not exist.
    """
    from ultralytics.cfg import TASKS as HOST_TASKS
    from ultralytics.cfg import check_cfg

    from yolo_multitask.args import merge, normalise

    valid = valid_keys(mode)
    tasks = {*HOST_TASKS, TASK, *(BRANCH_TASKS if mode == "extend" else ())}
    words = join_tokens(tokens, flags=[key for key, default in valid.items() if isinstance(default, bool)])
    task_words = [word for word in words if word in tasks]
    overrides = parse_words([word for word in words if word not in tasks], valid)
    if task_words:
        overrides["task"] = task_words[-1]
    cfg = overrides.pop("cfg", None)
    try:
        if cfg:
            overrides = merge(_read_cfg(str(cfg), valid), normalise(overrides))
            label_task = overrides.pop("label_task", None)
            if overrides.get("task", TASK) == TASK and label_task:
                overrides["task"] = label_task
        if (task := overrides.get("task")) and task not in tasks:
            raise UsageError(unknown(str(task), tasks, "task"))
        overrides.pop("mode", None)
        extras = {*HOST_EXTRAS, *MODE_EXTRAS.get(mode or "", {})}
        check_cfg({key: value for key, value in normalise(overrides).items() if key not in extras})
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from error
    return overrides


def _read_cfg(name: str, valid: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a configuration file, such as a run's `args.yaml`, which holds all keys of this package."""
    from ultralytics.utils import YAML
    from ultralytics.utils.checks import check_yaml

    from yolo_multitask.args import DEFAULTS, from_file

    file = check_yaml(name)
    values = YAML.load(file)
    for key in values:
        if key not in valid and key not in DEFAULTS:
            raise UsageError(f"{name}: {unknown(key, valid, 'argument')}")
    try:
        return from_file(values, file)
    except ValueError as error:
        raise UsageError(f"{name}: {error}") from error


def load_model(name: str | Path, task: str | None) -> Any:
    """Return the model object for a name: ours for every YOLO, the host's own classes for other families.

    Raises:
        FileNotFoundError: If there is no such file, and it is nothing that the host can download.
    """
    import ultralytics

    stem = Path(name).stem.lower()
    for part, family in FAMILIES:
        if part in stem:
            return getattr(ultralytics, family)(name)

    from yolo_multitask import MultiTaskYOLO

    try:
        return MultiTaskYOLO(name, task=task)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"model={name}: expected a checkpoint, exported file or model YAML, found none; check the path ({error})"
        ) from error


def run_mode(mode: str, tokens: Sequence[str]) -> None:
    """Run one mode of a model.

    Args:
        mode: `train`, `val`, `predict`, `track`, `export` or `benchmark`.
        tokens: The rest of the command line.

    Raises:
        UsageError: If an argument is wrong.
    """
    overrides = parse(tokens, mode)
    task = overrides.pop("task", None)
    name = overrides.pop("model", None) or _default_model(task)
    if mode != "train" and Path(str(name)).suffix in {".yaml", ".yml"}:
        warn(f"{name} is an architecture without trained weights: what it finds is noise. Pass model=best.pt.")
    model = load_model(name, task)
    reads_labels = mode in {"train", "val"} and model.task == TASK
    if reads_labels and task == "segment":
        overrides["task"] = task  # of the label lines, where the data YAML does not say
    if task and task != model.task and not (reads_labels and task == "segment"):
        hint = f" The switch of that branch is {task}=True." if model.task == TASK and task in BRANCH_TASKS else ""
        warn(f"'{task}' was asked for, but {name} is a {model.task} model; running it as {model.task}.{hint}")
    _fill_defaults(mode, overrides, model)
    if mode in {"predict", "track"}:
        # Consumed one by one: the host keeps every result of a video in memory otherwise.
        for _ in getattr(model, mode)(**{"save": True, **overrides}, stream=True):
            pass
    elif mode == "benchmark" and model.task == TASK:
        _benchmark(model, overrides)
    elif mode == "export" and model.task == TASK:
        _export(model, overrides)
    else:
        getattr(model, mode)(**overrides)


def _export(model: Any, overrides: Mapping[str, Any]) -> None:
    """Export a multitask model.

    Raises:
        UsageError: If an argument does not fit the format or the model.
    """
    from yolo_multitask.export.formats import ExportArgumentError

    try:
        model.export(**overrides)
    except ExportArgumentError as error:
        raise UsageError(str(error)) from error


def _benchmark(model: Any, overrides: Mapping[str, Any]) -> None:
    """Measure a multitask model and print the table. The host does not know most of the arguments.

    Raises:
        UsageError: If one is unknown, has a wrong value, or does not fit the model.
    """
    from yolo_multitask.benchmark.settings import read_settings
    from yolo_multitask.export.formats import ExportArgumentError

    try:
        read_settings(overrides)
    except ValueError as error:
        raise UsageError(str(error)) from error
    try:
        print(model.benchmark(**{"verbose": True, **overrides}))
    except ExportArgumentError as error:
        raise UsageError(str(error)) from error


def _default_model(task: str | None) -> str:
    from yolo_multitask import host

    name = host.default_model(task)
    hint = ""
    if task in BRANCH_TASKS:
        hint = f" '{task}' alone names a stock model's task; the switch of a multitask model is {task}=True."
    warn(f"'model' is missing, using model={name}.{hint}")
    return name


def _fill_defaults(mode: str, overrides: dict[str, Any], model: Any) -> None:
    """Fill in what a mode needs and the command did not give, with a warning, as `yolo` does."""
    from ultralytics.utils import ASSETS, DEFAULT_CFG

    from yolo_multitask import host

    needs_data = not (overrides.get("resume") if mode == "train" else model.overrides.get("data"))
    if mode in {"predict", "track"}:
        key, default = "source", DEFAULT_CFG.source or ASSETS
    elif mode in {"train", "val"} and needs_data:
        key, default = "data", DEFAULT_CFG.data or host.default_data(model.task)
    elif mode == "export":
        key, default = "format", DEFAULT_CFG.format or "torchscript"
    else:
        return
    if overrides.get(key) is None:
        overrides[key] = default
        warn(f"'{key}' is missing, using {key}={default}.")


def warn(message: str) -> None:
    """Print a warning on stderr."""
    print(f"ymt: warning: {message}", file=sys.stderr)
