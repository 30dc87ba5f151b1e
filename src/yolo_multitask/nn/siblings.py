"""Starting a new branch from its siblings: the branches, and the box layers, that read the same feature maps.

They have the same two 3x3 convolutions, trained to see objects: where their edges are, what shape they have. A new
branch takes filters over from them, as far as its width goes; the last layer, and what a wider branch has more, stay
fresh.
"""

from __future__ import annotations

import torch
from torch import nn
from ultralytics.nn.modules.conv import Conv

from yolo_multitask.nn.branches.base import ConvBranch
from yolo_multitask.nn.heads.multitask import MultiTask

ORDER = ("pose", "segment")  # siblings to take filters from, before the box layers


@torch.no_grad()
def start_from_siblings(head: MultiTask, task: str) -> dict[str, int]:
    """Fill the convolutions of a branch with filters of its siblings, in place.

    Args:
        head: The head.
        task: Task of the branch; one that is no stack of convolutions is left as it is.

    Returns:
        How many filters of a layer came from where, by task (`detect`: the box layers).
    """
    branch = head.branches[task]
    if not isinstance(branch, ConvBranch):
        return {}
    siblings: dict[str, nn.ModuleList] = {
        other: head.branches[other].convs  # type: ignore[misc]
        for other in ORDER
        if other in head.branches and other != task
    }
    siblings["detect"] = head.cv2
    taken: dict[str, int] = {}
    for number, stack in enumerate(branch.convs):
        taken = _fill(stack, {name: stacks[number] for name, stacks in siblings.items()})
    return taken


def _fill(stack: nn.Module, siblings: dict[str, nn.Module]) -> dict[str, int]:
    """Fill the two 3x3 convolutions of a stack; return how many filters each sibling gave."""
    taken: dict[str, int] = {}
    place = 0
    for name, sibling in siblings.items():
        room = _width(stack) - place
        if not (_is_alike(stack, sibling) and room):
            continue
        count = min(room, _width(sibling))
        first, second = (_strongest(sibling[i], count) for i in (0, 1))  # type: ignore[index]
        mine = slice(place, place + count)
        _copy(stack[0], sibling[0], mine, first)  # type: ignore[index]
        stack[1].conv.weight[mine] = 0.0  # type: ignore[index, union-attr]
        stack[1].conv.weight[mine, mine] = sibling[1].conv.weight[second][:, first]  # type: ignore[index]
        _copy_norm(stack[1].bn, sibling[1].bn, mine, second)  # type: ignore[index, union-attr]
        taken[name] = count
        place += count
    return taken


def _is_alike(stack: nn.Module, sibling: nn.Module) -> bool:
    """Whether both begin with two 3x3 convolutions, of the same input (a YOLO11 has others for its classes)."""
    pairs = [(stack[i], sibling[i]) for i in (0, 1)]  # type: ignore[index]
    return all(type(b) is Conv and a.conv.kernel_size == b.conv.kernel_size for a, b in pairs) and (
        pairs[0][0].conv.in_channels == pairs[0][1].conv.in_channels
    )


def _width(stack: nn.Module) -> int:
    return int(stack[0].conv.out_channels)  # type: ignore[index, union-attr]


def _strongest(layer: Conv, count: int) -> torch.Tensor:
    """Return the indices of the channels with the largest BatchNorm weights."""
    return layer.bn.weight.abs().argsort(descending=True)[:count]


def _copy(layer: Conv, source: Conv, mine: slice, theirs: torch.Tensor) -> None:
    layer.conv.weight[mine] = source.conv.weight[theirs]
    _copy_norm(layer.bn, source.bn, mine, theirs)


def _copy_norm(norm: nn.Module, source: nn.Module, mine: slice, theirs: torch.Tensor) -> None:
    for key in ("weight", "bias", "running_mean", "running_var"):
        getattr(norm, key)[mine] = getattr(source, key)[theirs]
