"""The networks that teach: which there are, what each can teach, and what they say of a batch of views.

Shape suffixes: B batch, A anchors of all levels, C classes of the student.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from ultralytics.nn.modules.head import Detect, Pose, Segment

from yolo_multitask import host
from yolo_multitask.losses.distill import keypoints_of, masks_of
from yolo_multitask.nn.heads.multitask import MultiTask
from yolo_multitask.nn.network import MultiTaskModel
from yolo_multitask.nn.transfer import check_one_head

WHAT = {"detect": "boxes", "pose": "keypoints", "segment": "masks", "track": "embeddings"}


@dataclass(kw_only=True, eq=False)
class Teacher:
    """A finished network.

    Attributes:
        file: Where it is from.
        tasks: What it teaches, besides boxes and classes.
        network: It, in evaluation mode.
    """

    file: str
    tasks: tuple[str, ...]
    network: nn.Module

    @property
    def head(self) -> Any:
        """Its last layer."""
        return self.network.model[-1]  # type: ignore[index]

    @property
    def names(self) -> dict[int, str]:
        """Its classes by index."""
        return dict(self.network.names)  # type: ignore[call-overload]

    @property
    def title(self) -> str:
        """What to call it in a table."""
        return Path(self.file).name

    def columns(self) -> tuple[slice, slice]:
        """Return where keypoints and mask coefficients stand in its rows after the NMS; empty where it has none."""
        kpt_shape, masks = keypoints_of(self.head), masks_of(self.head) or 0
        keypoints = 0 if kpt_shape is None else kpt_shape[0] * kpt_shape[1]
        return slice(6, 6 + keypoints), slice(6 + keypoints, 6 + keypoints + masks)


def load_teachers(files: Mapping[str, str]) -> list[Teacher]:
    """Load networks by the task that each teaches; a file that is named for several tasks is loaded once.

    Args:
        files: Checkpoints by task: `detect`, `pose`, `segment`.

    Raises:
        ValueError: If one is no such network, or lacks its task.
        FileNotFoundError: If there is no such file.
    """
    tasks_of: dict[str, list[str]] = {}
    for task, file in files.items():
        tasks_of.setdefault(str(file), []).append(task)
    return [_load(file, tasks) for file, tasks in tasks_of.items()]


def _load(file: str, tasks: Sequence[str]) -> Teacher:
    if not file.endswith(".pt"):
        raise ValueError(
            f"{tasks[0]}={file}: expected a checkpoint (.pt), whose outputs at every anchor are known; an exported "
            "file teaches embeddings alone (reid=)."
        )
    network = host.load_network(file).eval().requires_grad_(False)
    head = getattr(network, "model", [None])[-1]
    has = {"detect": True, "pose": keypoints_of(head) is not None, "segment": masks_of(head) is not None}
    if type(head) not in (Detect, Pose, Segment, MultiTask):
        raise ValueError(
            f"{tasks[0]}={file}: expected a head Detect, Pose, Segment or MultiTask, found {type(head).__name__}."
        )
    check_one_head(network, f"{tasks[0]}={file}")
    for task in tasks:
        if not has[task]:
            found = " and ".join(WHAT[t] for t in has if has[t])
            raise ValueError(
                f"{task}={file}: expected a network that gives {WHAT[task]}, found a {type(head).__name__} head that "
                f"gives {found} alone. Name a checkpoint that was trained for '{task}'."
            )
    return Teacher(file=file, tasks=tuple(t for t in tasks if t != "detect"), network=network)


def check_together(teachers: Sequence[Teacher], student: MultiTaskModel) -> None:
    """Check that each teacher looks at the same anchors as the student and gives the same keypoints.

    Raises:
        ValueError: If not; names both sides.
    """
    strides = student.head.stride.tolist()
    for teacher in teachers:
        found = teacher.head.stride.tolist()
        if found != strides:
            raise ValueError(f"{teacher.file}: expected strides {strides}, those of the model, found {found}.")
        channels = (getattr(teacher.network, "yaml", None) or {}).get("channels", 3)
        if channels != student.yaml["channels"]:
            raise ValueError(
                f"{teacher.file}: expected images of {student.yaml['channels']} channels, found {channels}."
            )
        if "pose" in teacher.tasks and list(keypoints_of(teacher.head) or ()) != list(student.kpt_shape):
            raise ValueError(
                f"pose={teacher.file}: expected keypoints of kpt_shape {list(student.kpt_shape)}, as the model and its "
                f"data have, found {list(keypoints_of(teacher.head) or ())}."
            )


def order_teachers(teachers: Sequence[Teacher], student: Mapping[str, Any], first: str | None) -> list[Teacher]:
    """Return the teachers, with the one first that the student starts from: trunk, boxes, classes and its branch.

    That is the one with the most classes among those of the student's architecture, as classes are what is learned last
    from pictures that show few of them.

    Args:
        teachers: All of them.
        student: The student's YAML.
        first: Task whose teacher is to be the first; None to choose.

    Raises:
        ValueError: If no teacher teaches `first`.
    """
    if first is not None:
        chosen = [t for t in teachers if first in t.tasks or (first == "detect" and not t.tasks)]
        if not chosen:
            known = ", ".join(task for t in teachers for task in (t.tasks or ("detect",)))
            raise ValueError(f"first={first}: expected a task that a teacher is named for, one of {known}.")
    else:
        fitting = [t for t in teachers if same_trunk(t, student)]
        chosen = sorted(fitting or teachers, key=lambda t: -len(t.names))
    return [chosen[0], *(t for t in teachers if t is not chosen[0])]


def same_trunk(teacher: Teacher, student: Mapping[str, Any]) -> bool:
    """Whether a teacher has the layers of a student, given by its YAML, so that its weights fit."""
    own = getattr(teacher.network, "yaml", None) or {}
    same = all(
        [[*line[:3]] for line in own.get(part, ())][: -1 if part == "head" else None]
        == [[*line[:3]] for line in student[part]][: -1 if part == "head" else None]
        for part in ("backbone", "head")
    )
    return same and (own.get("scale") or "n") == (student.get("scale") or "n")


def union_names(teachers: Sequence[Teacher]) -> dict[int, str]:
    """Return the classes of all teachers, each once, those of the first teacher first."""
    names: dict[str, str] = {}
    for teacher in teachers:
        for name in teacher.names.values():
            names.setdefault(name.lower(), name)
    return dict(enumerate(names.values()))


def class_map(teacher: Teacher, names: Mapping[int, str]) -> list[tuple[int, int]]:
    """Return which class of a teacher is which of `names`: pairs of indices, matched by name.

    Raises:
        ValueError: If it knows none of them.
    """
    index = {name.lower(): i for i, name in names.items()}
    pairs = [(i, index[name.lower()]) for i, name in teacher.names.items() if name.lower() in index]
    if not pairs:
        raise ValueError(
            f"{teacher.file}: expected classes of {_some(names)}, found {_some(teacher.names)}. Classes are matched by "
            "name: give those of the data the teacher's names."
        )
    return pairs


def _some(names: Mapping[int, str]) -> str:
    listed = list(names.values())
    return ", ".join(listed[:5]) + (f", ... ({len(listed)})" if len(listed) > 5 else "")


def as_multitask(teacher: Teacher, names: Mapping[int, str]) -> MultiTaskModel:
    """Return a teacher as a network of this package with these classes: with its own numbers for those that it knows,
    and never a detection of one that it does not.
    """
    config = dict(teacher.network.yaml)  # type: ignore[call-overload]
    if not isinstance(teacher.head, MultiTask):
        line, kpt_shape = config["head"][-1], keypoints_of(teacher.head)
        given = line[3][1:3] if isinstance(teacher.head, Segment) else [32, 256]
        config["head"] = [*config["head"][:-1], [line[0], 1, "MultiTask", ["nc", *given, "kpt_shape"]]]
        config["kpt_shape"] = list(kpt_shape or (17, 3))
    tasks = [t for t in teacher.tasks if t != "track"]
    model = MultiTaskModel(config, ch=config.get("channels", 3), nc=len(names), tasks=tasks, verbose=False)
    model.names = dict(names)
    model.load(teacher.network, verbose=False)
    known = [ours for _, ours in class_map(teacher, names)]
    unknown = [i for i in names if i not in known]
    with torch.no_grad():
        for stack in model.head.cv3:
            stack[-1].weight[unknown], stack[-1].bias[unknown] = 0.0, -30.0  # type: ignore[index]
    return model.eval()


def fingerprint(files: Sequence[str], *more: Any) -> str:
    """Return a short text that changes with the teachers' files and with whatever else their lessons depend on."""
    parts: list[Any] = list(more)
    for file in files:
        stat = Path(file).stat()
        parts += [Path(file).name, stat.st_size, stat.st_mtime_ns]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
