"""Training one branch of a finished model: everything else stays as it is, to the last bit.

Trunk, box and class layers and the other branches are frozen, BatchNorm statistics included; the average that is saved
(EMA) takes their tensors as they are. `freeze=trunk` asks for it with the branch `track`, `alone=<task>` with any.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn
from ultralytics.utils import LOGGER

from yolo_multitask.nn.network import MultiTaskModel
from yolo_multitask.nn.siblings import start_from_siblings
from yolo_multitask.nn.transfer import trained_tasks
from yolo_multitask.tasks import BRANCH_TASKS, SPECS

FREEZE_TRUNK = "trunk"  # value of `freeze` that trains the track branch alone
_KEYPOINT_KEYS = ("kpt_names", "kpt_classes", "kpt_oks_sigmas")


def task_of(args: Any) -> str | None:
    """Return the task whose branch is to train alone, or None.

    Args:
        args: Training arguments; `alone` and `freeze` ask for it.

    Raises:
        ValueError: If `freeze` is a word that is not known (the host would freeze nothing), or says something else.
    """
    freeze, asked = args.freeze, args.alone
    if isinstance(freeze, str) and freeze != FREEZE_TRUNK:
        raise ValueError(
            f"freeze={freeze!r}: expected '{FREEZE_TRUNK}' (train the track branch alone), a number of layers, or "
            "a list of layers."
        )
    if asked is not None and freeze not in (None, FREEZE_TRUNK):
        raise ValueError(f"alone={asked} freezes everything but that branch, found freeze={freeze} too. Leave it out.")
    return asked or ("track" if freeze == FREEZE_TRUNK else None)


def asked_as(args: Any) -> str:
    """Return the argument that asks for it, as the user wrote it."""
    return f"alone={args.alone}" if args.alone else f"freeze={FREEZE_TRUNK}"


def all_but(model: MultiTaskModel, task: str) -> list[str]:
    """Return the parts of a model besides the branch of a task, as the host's `freeze` names them."""
    last = model.head.i
    layers = [str(i) for i in range(last)]
    own = [f"{last}.{name}" for name, _ in model.head.named_children() if name != "branches"]
    return [*layers, *own, *(f"{last}.branches.{other}" for other in model.head.branches if other != task)]


def finished_model(
    config: dict[str, Any], sources: Sequence[Any], data: Mapping[str, Any], args: Any, verbose: bool
) -> MultiTaskModel:
    """Return the trained model that networks make up, with a branch for the task that learns alone.

    It has the classes and keypoints of the networks and every branch that one of them has and no switch turns off. A
    new branch for keypoints has those of the data.

    Args:
        config: Model YAML.
        sources: The networks; trunk, boxes and classes come from the first.
        data: Data set configuration as `yolo_multitask.data.config.load_data` returns it.
        args: Training arguments.
        verbose: Whether to log a summary.

    Raises:
        ValueError: If there is no trained network, the task is switched off, or the data does not fit it.
    """
    task, how = str(task_of(args)), asked_as(args)
    switches = args.switches or {}
    if not sources or not switches.get(task, True):
        found = f"{task}=False" if sources else f"no trained weights for model '{args.model}'"
        raise ValueError(
            f"{how} trains the {task} branch of a finished model and nothing else, found {found}. "
            f"Pass model=best.pt, or a model YAML with pretrained=yolov8n-seg.pt, and leave '{task}' on."
        )
    names = dict(sources[0].names)
    _check_names(names, data, args)
    has = {t for s in sources for t in trained_tasks(s)}
    _check_labels(task, has, data, args)
    built = [t for t in BRANCH_TASKS if t in {task, *has} and switches.get(t, True)]
    shape = _kpt_shape(task, sources, data, args)
    model = MultiTaskModel(config, nc=len(names), ch=data["channels"], kpt_shape=shape, tasks=built, verbose=verbose)
    model.names = names
    model.load(sources)
    if task not in has and (taken := start_from_siblings(model.head, task)):
        LOGGER.info(f"{task}: filters to start from: {', '.join(f'{n} of {other}' for other, n in taken.items())}")
    for source in reversed(sources):
        for key in _KEYPOINT_KEYS:
            if hasattr(source, key):
                setattr(model, key, getattr(source, key))
    return model


def _check_names(names: Mapping[int, str], data: Mapping[str, Any], args: Any) -> None:
    strangers = {i: n for i, n in data["names"].items() if names.get(i) != n}
    if strangers:
        raise ValueError(
            f"{asked_as(args)} keeps the model's classes, but data '{args.data}' has {strangers}, where "
            f"the model has { {i: names.get(i) for i in strangers} }. Give the classes of the data the model's "
            "numbers and names."
        )


def _check_labels(task: str, has: set[str], data: Mapping[str, Any], args: Any) -> None:
    """Check that the data labels the task; `track` learns from views of an image, too."""
    spec = data["label_spec"]
    sources = data.get("sources", {}).get("train")
    labelled = set(spec.tasks if sources is None else (t for source in sources for t in source.tasks))
    if task not in {"track", *labelled}:
        have = ", ".join(t for t in SPECS if t in {"detect", *labelled})
        raise ValueError(
            f"{asked_as(args)} needs data that labels {SPECS[task].label}, but data '{args.data}' has labels for "
            f"{have} only (the model has {', '.join(t for t in SPECS if t in {'detect', *has})}). Pass other data"
            + (f", or {spec.advice[task]}." if task in spec.advice else ".")
        )


def _kpt_shape(task: str, sources: Sequence[Any], data: Mapping[str, Any], args: Any) -> Sequence[int] | None:
    """Return the keypoints (K, D) of the model: those that it has, else those of the data."""
    shapes = [list(s.kpt_shape) for s in sources if getattr(s, "kpt_shape", None)]
    if task != "pose":
        return shapes[0] if shapes else None
    given = list(data["kpt_shape"])
    if shapes and shapes[0] != given:
        raise ValueError(
            f"{asked_as(args)} trains the keypoints that the model has (kpt_shape {shapes[0]}), but data "
            f"'{args.data}' labels others (kpt_shape {given}). Pass data of the same keypoints, or replace the branch: "
            "ymt extend ... task=pose replace=True."
        )
    return given


def fitness(metrics: Mapping[str, float], task: str) -> float:
    """Return what the best checkpoint is chosen by: AP of the task, AssA for `track`; else what lowers its loss.

    Args:
        metrics: Of a validation in training, by key.
        task: The task whose branch trains alone.
    """
    spec = SPECS[task]
    key = f"metrics/mAP50-95({spec.letter})" if spec.precision else f"metrics/AssA({spec.letter})"
    return float(metrics.get(key, 1 / (1 + metrics.get(f"val/{spec.losses[0]}", 0.0))))


def restore(average: nn.Module, model: MultiTaskModel, task: str) -> None:
    """Give all tensors of `average` but those of a branch the values that `model` has, which do not change."""
    state, learning = model.state_dict(), f"model.{model.head.i}.branches.{task}."
    for key, value in average.state_dict().items():
        if not key.startswith(learning):
            value.copy_(state[key])
