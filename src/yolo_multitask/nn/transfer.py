"""Weight transfer into a multitask model from stock and multitask networks, with a report of what came from where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from ultralytics.nn.modules.head import Detect

from yolo_multitask.nn.branches import BRANCHES, BRANCHES_26, Branch
from yolo_multitask.nn.heads.multitask import MultiTask, MultiTask26
from yolo_multitask.nn.heads.tracknet import TrackNet

FIRST_CONV = "model.0.conv.weight"  # the host fills it also when the number of input channels differs


@dataclass
class TransferReport:
    """What a model took over when weights were loaded.

    Attributes:
        parts: Part of the model (`trunk`, `box/cls`, or a task name) -> (source, tensors taken, tensors in the part).
    """

    parts: dict[str, tuple[str, int, int]] = field(default_factory=dict)

    @property
    def partial(self) -> list[str]:
        """Parts that took some of their tensors only."""
        return [part for part, (_, taken, total) in self.parts.items() if 0 < taken < total]

    @property
    def fresh(self) -> list[str]:
        """Parts that took nothing and keep their initial weights."""
        return [part for part, (_, taken, _) in self.parts.items() if taken == 0]

    def __str__(self) -> str:
        """Return one line a part."""
        lines = []
        for part, (source, taken, total) in self.parts.items():
            state = f"{taken}/{total} tensors from {source}" if taken else f"fresh, {total} tensors"
            lines.append(f"  {part:<8} {state}")
        return "\n".join(lines)


def load_branches(
    head: MultiTask, sources: Sequence[tuple[str, nn.Module]], names: Mapping[int, str] | None = None
) -> dict[str, tuple[str, int, int]]:
    """Fill each branch from the first source that has it.

    Branches are matched by what they are (mask coefficients and prototypes, keypoints), never by raw key: the host's
    `Segment` and `Pose` both call theirs `cv4`. Tensors of another shape (other keypoints, other widths) stay as
    they are.

    Args:
        head: The head to fill, in place.
        sources: (name, network) pairs, stock or multitask.
        names: Class names by index of the model, by which the rows of class layers are matched.

    Returns:
        Task -> (source, tensors taken, tensors in the branch), as in `TransferReport.parts`.
    """
    parts = {}
    for task, branch in head.branches.items():
        own = weights_of(branch)
        parts[task] = ("", 0, len(own))
        for name, source in sources:
            state = branch_state(branch, source)
            if not state:
                continue
            fitting = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
            for key in branch.class_layers:  # type: ignore[union-attr]
                rows = rows_by_name(names or {}, getattr(source, "names", {}))
                if rows and key in state and own[key].shape[1:] == state[key].shape[1:]:
                    fitting[key] = own[key].clone()
                    for i, j in rows:
                        fitting[key][i] = state[key][j]
            branch.load_state_dict(fitting, strict=False)
            parts[task] = (name, len(fitting), len(own))
            break
    return parts


def box_head(source: nn.Module) -> nn.Module:
    """Return the layer of a network that finds boxes: the last, or where heads stand side by side the Pose head."""
    index = getattr(source, "pose_idx", None)
    return source.model[-1 if index is None else index]  # type: ignore[index]


def check_one_head(network: nn.Module, what: str) -> None:
    """Check that a network sees single images and has one head, with the branches of all families but YOLO26.

    Args:
        network: Stock or multitask.
        what: What needs it, to begin the message with.

    Raises:
        ValueError: If not.
    """
    head = box_head(network)
    found = None
    if hasattr(network, "detect_idx"):
        found = "a model of windows of frames"
    elif getattr(head, "one2one_cv2", None) is not None:
        found = "one with two heads (one-to-many and one-to-one)"
    elif isinstance(head, MultiTask26):
        found = "one with the branches of YOLO26"
    if found:
        raise ValueError(f"{what}: expected a model of single images with one head, such as yolov8n-*, found {found}.")


def rows_by_name(names: Mapping[int, str], source_names: Mapping[int, str]) -> list[tuple[int, int]]:
    """Return the rows of a class layer that two models share by class name, (own, source) pairs.

    Nothing where the classes are the same in the same order, or are numbered alone: the rows are then taken as they
    are.
    """
    numbered = any(all(str(k) == str(v) for k, v in each.items()) for each in (names, source_names))
    if numbered or dict(names) == dict(source_names):
        return []
    return _shared_rows(names, source_names)


def weights_of(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return the state of a module without the BatchNorm step counters, which say nothing about what was learned."""
    return {k: v for k, v in module.state_dict().items() if not k.endswith("num_batches_tracked")}


def branch_state(branch: Any, source: nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights that `source` has for `branch`, under the branch's own names; empty if it has none."""
    head = box_head(source)
    if isinstance(head, MultiTask):
        same: Any = dict(head.branches.items()).get(branch.task)
        return {k: v.float() for k, v in same.state_dict().items()} if type(same) is type(branch) else {}
    if isinstance(branch, Branch) and type(head) is branch.stock:
        return {k: v.float() for k, v in branch.stock_state(head).items()}
    return {}


def trained_tasks(source: nn.Module) -> tuple[str, ...]:
    """Return the tasks that a network, stock or multitask, has branches for."""
    head = box_head(source)
    if isinstance(head, MultiTask):
        return tuple(head.branches)
    return tuple(task for task in BRANCHES if type(head) in (BRANCHES[task].stock, BRANCHES_26[task].stock))


def count_parts(
    own: Mapping[str, torch.Tensor],
    source: Mapping[str, torch.Tensor],
    head_index: int,
    own_names: Mapping[int, str],
    source_names: Mapping[int, str],
) -> dict[str, tuple[int, int]]:
    """Count what the trunk and the box/cls layers share with a source, after loading.

    Args:
        own: State of the filled model.
        source: State of the source network.
        head_index: Index of the head layer.
        own_names: Class names by index of the filled model.
        source_names: Class names by index of the source.

    Returns:
        `trunk` and `box/cls` -> (tensors taken, tensors in the part). A class-logit tensor counts as taken if its
        rows were matched by class name.
    """
    prefix = f"model.{head_index}."
    rows = _shared_rows(own_names, source_names)
    taken = {"trunk": 0, "box/cls": 0}
    total = {"trunk": 0, "box/cls": 0}
    for key, value in own.items():
        if key.startswith(f"{prefix}branches.") or key.endswith("num_batches_tracked"):
            continue
        part = "box/cls" if key.startswith(prefix) else "trunk"
        total[part] += 1
        other = source.get(key)
        if other is None:
            continue
        if value.shape == other.shape:
            taken[part] += torch.equal(value, other.to(value)) or _rows_equal(value, other, rows)
        elif key == FIRST_CONV:
            taken[part] += value.shape[2:] == other.shape[2:]
        elif part == "box/cls":
            taken[part] += _rows_equal(value, other, rows)
    return {part: (taken[part], total[part]) for part in taken}


def _shared_rows(names: Mapping[int, str], source_names: Mapping[int, str]) -> list[tuple[int, int]]:
    index = {str(name).lower(): i for i, name in source_names.items()}
    return [(i, index[str(name).lower()]) for i, name in names.items() if str(name).lower() in index]


def _rows_equal(value: torch.Tensor, other: torch.Tensor, rows: list[tuple[int, int]]) -> bool:
    """Whether the rows of the classes that both know, (own, source) index pairs, are the same."""
    if not rows or value.shape[1:] != other.shape[1:] or max(j for _, j in rows) >= len(other):
        return False
    i, j = zip(*rows, strict=True)
    return len(value) > max(i) and torch.equal(value[list(i)], other[list(j)].to(value))


def load_trunk(model: Any, source: Any, layers: int) -> tuple[int, int]:
    """Fill the first layers of a model that sees several frames, and count.

    Args:
        model: The model, with `num_groups` and `frame_channels`; filled in place.
        source: A network, stock or of this package.
        layers: How many layers are the trunk's.

    Returns:
        Tensors taken, tensors in the trunk.
    """
    names = tuple(f"model.{i}." for i in range(layers))
    own = {k: v for k, v in weights_of(model).items() if k.startswith(names)}
    state = {k: v.float() for k, v in source.state_dict().items() if k in own}
    if FIRST_CONV in state:
        groups, channels = getattr(source, "num_groups", 1), getattr(source, "frame_channels", None)
        if (groups, channels) != (model.num_groups, model.frame_channels):
            state[FIRST_CONV] = spread_over_frames(state[FIRST_CONV], groups, model.num_groups, model.frame_channels)
    fitting = {k: v for k, v in state.items() if v.shape == own[k].shape}
    model.load_state_dict(fitting, strict=False)
    return len(fitting), len(own)


def spread_over_frames(weight: torch.Tensor, groups: int, new_groups: int, new_channels: int) -> torch.Tensor:
    """Return the weight of a first convolution for windows of other frames, which gives the same for a still window.

    Args:
        weight: (outputs, groups * channels, k, k), frame by frame.
        groups: Frames of its windows, 1 of a stock network.
        new_groups: Frames of the new windows.
        new_channels: Channels of a new frame. A gray one stands for all colours at once, a colour for a third of gray.

    Returns:
        (outputs, new_groups * new_channels, k, k).
    """
    still = weight.unflatten(1, (groups, -1)).sum(1)
    if new_channels == 1:
        still = still.sum(1, keepdim=True)
    elif still.shape[1] == 1:
        still = still.expand(-1, new_channels, -1, -1) / new_channels
    return still.repeat(1, new_groups, 1, 1) / new_groups


def load_classes_and_boxes(
    head: Any, source: nn.Module, own_names: Mapping[int, str], source_names: Mapping[int, str]
) -> tuple[int, int]:
    """Fill the box and class layers of a head, and count.

    Classes are matched by name, and by number where no name is the same and both have as many.

    Args:
        head: The head, filled in place. Its class layers take the width of the source's.
        source: A network, stock or of this package.
        own_names: Names of the head's classes.
        source_names: Names of the classes of the source's head.

    Returns:
        Tensors taken, tensors in these layers.
    """
    other = box_head(source)
    taken = 0
    if isinstance(other, Detect) and getattr(other, "cv2", None) is not None and type(other) is not TrackNet:
        taken += _load_fitting(head.cv2, weights_of(other.cv2))
        if _inputs(head.cv3) == _inputs(other.cv3) and _width(head.cv3) != _width(other.cv3):
            head.cv3 = _with_classes(other.cv3, head.nc)
            head.bias_init()
            taken = _load_fitting(head.cv2, weights_of(other.cv2))
        state = weights_of(other.cv3)
        logits = {f"{i}.{len(stack) - 1}.{kind}" for i, stack in enumerate(other.cv3) for kind in ("weight", "bias")}
        taken += _load_fitting(head.cv3, {k: v for k, v in state.items() if k not in logits})
        taken += _load_rows(head.cv3, {k: state[k] for k in logits}, _matches(own_names, source_names))
    return taken, len(weights_of(head.cv2)) + len(weights_of(head.cv3))


def load_track_head(head: TrackNet, sources: Sequence[tuple[str, nn.Module]]) -> tuple[str, int, int]:
    """Fill a TrackNet head from the first source that has one of as many groups, features and bins.

    Returns:
        (source, tensors taken, tensors in the head), as in `TransferReport.parts`.
    """
    own = weights_of(head)
    for name, source in sources:
        if (index := getattr(source, "detect_idx", None)) is None:
            continue
        other = source.model[index]  # type: ignore[index]
        if (other.num_groups, other.features, other.reg_max) != (head.num_groups, head.features, head.reg_max):
            continue
        return name, _load_fitting(head, weights_of(other)), len(own)
    return "", 0, len(own)


def _load_fitting(module: nn.Module, state: Mapping[str, torch.Tensor]) -> int:
    """Fill a module with the tensors that fit and return how many do."""
    own = weights_of(module)
    fitting = {k: v.float() for k, v in state.items() if k in own and own[k].shape == v.shape}
    module.load_state_dict(fitting, strict=False)
    return len(fitting)


def _load_rows(stacks: nn.Module, state: Mapping[str, torch.Tensor], rows: list[tuple[int, int]] | None) -> int:
    """Fill rows of class logits, (own, source) index pairs; None for all of them, if the shapes are the same."""
    if rows is None:
        return _load_fitting(stacks, state)
    own, taken = stacks.state_dict(), 0
    for key, value in state.items():
        if rows and own[key].shape[1:] == value.shape[1:]:
            for i, j in rows:
                own[key][i] = value[j].to(own[key])
            taken += 1
    return taken


def _matches(own: Mapping[int, str], source: Mapping[int, str]) -> list[tuple[int, int]] | None:
    """Return which classes have the same name, (own, source) index pairs; None if none has and both have as many.

    Numbers are no names: those of a model built from a YAML.
    """
    index = {str(name).strip().lower(): i for i, name in source.items() if not str(name).isdigit()}
    found = [(i, index[key]) for i, name in own.items() if (key := str(name).strip().lower()) in index]
    return found if found or len(own) != len(source) else None


def _inputs(stacks: Any) -> list[int]:
    """Return the channels that stacks of convolutions take."""
    return [next(m for m in stack.modules() if isinstance(m, nn.Conv2d)).in_channels for stack in stacks]


def _width(stacks: Any) -> int:
    return int(stacks[0][-1].in_channels)


def _with_classes(stacks: Any, nc: int) -> Any:
    """Return a copy of class layers with a last convolution of their own for `nc` classes."""
    copy = deepcopy(stacks).float()
    for stack in copy:
        stack[-1] = nn.Conv2d(stack[-1].in_channels, nc, 1)
        stack.requires_grad_(True)
    return copy
