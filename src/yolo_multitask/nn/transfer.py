"""Weight transfer into a multitask model from stock and multitask networks, with a report of what came from where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from yolo_multitask.nn.branches import BRANCHES, BRANCHES_26, Branch
from yolo_multitask.nn.heads.multitask import MultiTask

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
    head = source.model[-1]  # type: ignore[index]
    if isinstance(head, MultiTask):
        same: Any = dict(head.branches.items()).get(branch.task)
        return {k: v.float() for k, v in same.state_dict().items()} if type(same) is type(branch) else {}
    if isinstance(branch, Branch) and type(head) is branch.stock:
        return {k: v.float() for k, v in branch.stock_state(head).items()}
    return {}


def trained_tasks(source: nn.Module) -> tuple[str, ...]:
    """Return the tasks that a network, stock or multitask, has branches for."""
    head = source.model[-1]  # type: ignore[index]
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
