"""A branch that was trained on another trunk is fitted to this one by least squares.

The branch's weights stand on features that this trunk does not have. Its first convolution is replaced by the one that
comes nearest to what the teacher's gives on the same picture, from the features that are here; what is behind it is the
teacher's own. No label is needed, every place of every picture counts, and nothing is to be tuned: it is a ridge
regression, as in model stitching (https://arxiv.org/abs/1411.5908, https://arxiv.org/abs/2106.07682).

C input channels, O output channels, L places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from ultralytics.utils import LOGGER, TQDM

from yolo_multitask.distill.teachers import Teacher
from yolo_multitask.nn.heads.multitask import MultiTask

RIDGES = (
    1e-3,
    1e-2,
    1e-1,
    1.0,
    10.0,
)  # of the mean square of an input; the one that is best on other pictures is taken
BACKGROUND = 0.02  # weight of a place where nothing is seen; elsewhere it is the class probability


@dataclass(kw_only=True, eq=False)
class Maps:
    """Of one view, by level: the student's features and the teacher's, (C, H, W), and weights of places, (L,).

    Attributes:
        half: In which half of the pictures it is, 0 or 1.
    """

    half: int
    ours: list[torch.Tensor]
    theirs: list[torch.Tensor]
    weights: list[torch.Tensor]


@torch.no_grad()
def fit_branches(model: Any, teachers: Sequence[Teacher], tasks: Sequence[str], dataset: Any, count: int) -> list[str]:
    """Fit the branches of some tasks to a model's trunk, in place; return the tasks that were.

    A branch whose layers are of other widths than the teacher's, or that no teacher has, keeps its weights.

    Args:
        model: The student.
        teachers: Its teachers.
        tasks: Tasks whose branch comes from another trunk.
        dataset: Of views, see `LessonDataset`.
        count: Views to look at; as many different pictures as there are, then further views of them.
    """
    was_training = model.training
    model.eval()
    done = []
    for task in tasks:
        teacher = next((t for t in teachers if task in t.tasks), None)
        pairs = layer_pairs(model.head, teacher.head, task) if teacher is not None else []
        if teacher is None or not pairs:
            continue
        maps = list(look(model, teacher, dataset, count))
        for ours, theirs, level in pairs:
            fit_stack(ours, theirs, maps, level)
        if task == "segment":
            source = teacher.head.branches[task] if isinstance(teacher.head, MultiTask) else teacher.head
            for own, other in zip(
                behind_first(model.head.branches[task].proto), behind_first(source.proto), strict=True
            ):
                own.load_state_dict(other.state_dict())
        LOGGER.info(f"{task}: fitted to the trunk of {teachers[0].title} on {len(maps)} views")
        done.append(task)
    model.train(was_training)
    return done


def look(model: Any, teacher: Teacher, dataset: Any, count: int) -> Iterator[Maps]:
    """Yield what student and teacher make of views."""
    device = next(model.parameters()).device
    for i in TQDM(range(count), desc=f"Looking with {teacher.title}"):
        number, index = divmod(i, len(dataset))
        if number >= dataset.views:
            return
        image = dataset.view(index, number)["img"][None].to(device).float() / 255
        own, theirs = (out[1] for out in (model(image), teacher.network(image)))
        seen = theirs["scores"][0].sigmoid().amax(0)
        weights, start = [], 0
        for x in own["feats"]:
            height, width = x.shape[2:]
            near = F.max_pool2d(seen[start : start + height * width].view(1, height, width), 5, 1, 2)
            weights.append(near.flatten() + BACKGROUND)
            start += height * width
        yield Maps(
            half=index % 2,
            ours=[x[0].half() for x in own["feats"]],
            theirs=[x[0].half() for x in theirs["feats"]],
            weights=weights,
        )


def layer_pairs(ours: MultiTask, theirs: Any, task: str) -> list[tuple[list[nn.Module], list[nn.Module], int]]:
    """Return the stacks of a branch and those of a teacher's, with the level that each reads; none if widths differ."""
    branch: Any = ours.branches[task]
    source: Any = theirs.branches[task] if isinstance(theirs, MultiTask) else theirs
    if not hasattr(branch, "convs"):
        return []
    stacks = source.convs if isinstance(theirs, MultiTask) else source.cv4
    pairs = [(list(own), list(other), i) for i, (own, other) in enumerate(zip(branch.convs, stacks, strict=True))]
    if task == "segment":
        pairs.append(([branch.proto.cv1], [source.proto.cv1], 0))
        if not _same(behind_first(branch.proto), behind_first(source.proto)):
            return []
    for own, other, _ in pairs:
        widths = [[getattr(x, "conv", x).out_channels for x in stack] for stack in (own, other)]
        if widths[0] != widths[1]:
            return []
    return pairs


def behind_first(proto: Any) -> list[nn.Module]:
    """Return the layers of the prototypes behind the first."""
    return [proto.upsample, proto.cv2, proto.cv3]


def _same(ours: Sequence[nn.Module], theirs: Sequence[nn.Module]) -> bool:
    shapes = [[p.shape for m in modules for p in m.parameters()] for modules in (ours, theirs)]
    return shapes[0] == shapes[1]


def fit_stack(ours: list[Any], theirs: list[Any], maps: Sequence[Maps], level: int) -> None:
    """Fit the first layer of a stack, a 3x3 convolution, and take over what is behind it.

    To fit the second one too, to what the first then gives, is worse: each regression takes away contrast.

    Args:
        ours: Its layers: the host's `Conv`, then maybe a plain convolution.
        theirs: Those of the teacher.
        maps: Of the views.
        level: Which map the stack reads.
    """
    first = theirs[0]

    def given(m: Maps) -> torch.Tensor:
        return m.ours[level].float()[None]

    def wanted(m: Maps) -> torch.Tensor:
        x = first.conv(m.theirs[level].float()[None])
        return first.bn(x) if hasattr(first, "bn") else x

    set_convolution(ours[0], *least_squares(given, wanted, maps, level))
    for own, other in zip(ours[1:], theirs[1:], strict=True):
        own.load_state_dict(other.state_dict())


def least_squares(
    given: Callable[[Maps], torch.Tensor], wanted: Callable[[Maps], torch.Tensor], maps: Sequence[Maps], level: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weights (O, C, 3, 3) and bias (O,) of the convolution that comes nearest to what is wanted.

    Args:
        given: Its input of a view, (1, C, H, W).
        wanted: Its output, (1, O, H, W).
        maps: Of the views.
        level: Whose weights of places count.
    """
    grams: list[Any] = [0.0, 0.0]  # of two halves of the pictures
    for m in maps:
        x = F.unfold(given(m), 3, padding=1)[0]
        x = torch.cat((x, x.new_ones(1, x.shape[1])))
        y, weight = wanted(m)[0].flatten(1), m.weights[level]
        both = torch.cat((x, y))
        grams[m.half] = grams[m.half] + ((both * weight) @ both.T).double().cpu()
    count = both.shape[0] - y.shape[0]
    halves = [g for g in grams if isinstance(g, torch.Tensor)]
    ridge = RIDGES[1]
    if len(halves) == 2:
        errors = [sum(error(solve(halves[i], count, r), halves[1 - i], count) for i in range(2)) for r in RIDGES]
        ridge = RIDGES[int(np.argmin(errors))]
    solved = solve(torch.stack(halves).sum(0), count, ridge).float()
    return solved[:-1].T.reshape(len(y), -1, 3, 3), solved[-1]


def solve(gram: torch.Tensor, count: int, ridge: float) -> torch.Tensor:
    """Return the coefficients (count, O) of the regression of the last rows of a Gram matrix on the first `count`."""
    square, cross = gram[:count, :count], gram[:count, count:]
    extra = torch.full((count,), ridge * float(square.diagonal()[:-1].mean()), dtype=gram.dtype)
    extra[-1] = 1e-9  # not of the bias
    return torch.linalg.solve(square + extra.diag(), cross)


def error(coefficients: torch.Tensor, gram: torch.Tensor, count: int) -> float:
    """Return the squared error of a regression on the pictures of a Gram matrix."""
    square, cross, wanted = gram[:count, :count], gram[:count, count:], gram[count:, count:].diagonal().sum()
    return float((coefficients * (square @ coefficients - 2 * cross)).sum() + wanted)


def set_convolution(layer: Any, weight: torch.Tensor, bias: torch.Tensor) -> None:
    """Give a `Conv` of the host weights and a bias; its BatchNorm then adds the bias and nothing else."""
    layer.conv.weight.data.copy_(weight)
    bn = layer.bn
    bn.running_mean.zero_()
    bn.running_var.fill_(1.0 - bn.eps)
    bn.weight.data.fill_(1.0)
    bn.bias.data.copy_(bias)
