"""Distillation: each branch also learns from a network that already has it.

Two single-task networks merge into one this way: the trunk and one branch come from the first, and the other branch,
whose weights stand on a foreign trunk, learns the second network's outputs wherever that one sees an object. The
images need no labels for it. Response distillation as in Hinton et al., https://arxiv.org/abs/1503.02531, weighted
by the teacher's scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from ultralytics.nn.modules.head import Pose, Segment

from yolo_multitask.nn.heads.multitask import MultiTask

SEEN = 0.1  # teacher's score from which an anchor is on an object
HUBER = 0.05  # keypoint error, in units of the object's size, from which the loss grows linearly


class DistillLoss:
    """The sum of the teachers' losses, each for the tasks that it is the first to have."""

    def __init__(self, head: MultiTask, args: Any, teachers: Sequence[nn.Module]) -> None:
        """Match teachers to branches.

        Args:
            head: The student's head.
            args: Training arguments; `distill` is the gain of the sum, `pose`, `kobj`, `seg`, `cls` those of its parts.
            teachers: Networks whose heads have the student's strides.

        Raises:
            ValueError: If a teacher has other strides, or nothing that the student has.
        """
        self.args, self.reg_max = args, head.reg_max
        self.teachers: list[tuple[nn.Module, tuple[str, ...]]] = []
        taken: set[str] = set()
        for teacher in teachers:
            theirs = teacher.model[-1]  # type: ignore[index, union-attr]
            if theirs.stride.tolist() != head.stride.tolist():
                raise ValueError(
                    f"A teacher has strides {theirs.stride.tolist()}, the model {head.stride.tolist()}; "
                    "they must be the same."
                )
            tasks = tuple(t for t in teachable(theirs, head) if t not in taken)
            if not tasks:
                raise ValueError(
                    f"A teacher ({type(theirs).__name__}) has no task of the model ({', '.join(head.tasks)}) that the "
                    "teachers before it do not teach already. Leave it out."
                )
            taken |= set(tasks)
            self.teachers.append((teacher.eval().requires_grad_(False), tasks))

    def __call__(self, raw: dict[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
        """Return the loss, a scalar.

        Args:
            raw: Raw outputs of the student.
            images: The batch's images, (B, 3, H, W) in 0..1.
        """
        total = raw["scores"].sum() * 0.0
        for teacher, tasks in self.teachers:
            with torch.no_grad():
                taught = teacher(images)[1]
            scores_BA = taught["scores"].sigmoid().amax(1)
            weight_BA = scores_BA * (scores_BA > SEEN)
            if "pose" in tasks:
                kpt_shape = teacher.model[-1].kpt_shape  # type: ignore[index, union-attr]
                place, visibility = keypoint_terms(raw["kpts"], taught, weight_BA, tuple(kpt_shape), self.reg_max)
                total = total + self.args.pose * place + self.args.kobj * visibility
            if "segment" in tasks:
                total = total + self.args.seg * mask_term(raw, taught, weight_BA)
        return total * self.args.distill


def teachable(teacher: nn.Module, student: MultiTask) -> list[str]:
    """Return the tasks that a teacher's head can teach the student's: those of the same shape."""
    tasks = []
    branches = dict(student.branches.items())
    if "segment" in branches:
        nm = teacher.nm if isinstance(teacher, Segment) else None
        if isinstance(teacher, MultiTask) and "segment" in teacher.branches:
            nm = teacher.branches["segment"].columns
        if nm == branches["segment"].columns:
            tasks.append("segment")
    if "pose" in branches:
        shape = tuple(teacher.kpt_shape) if isinstance(teacher, Pose) else None
        if isinstance(teacher, MultiTask) and "pose" in teacher.branches:
            shape = teacher.branches["pose"].kpt_shape
        if shape == branches["pose"].kpt_shape:
            tasks.append("pose")
    return tasks


def keypoint_terms(
    kpts: torch.Tensor,
    taught: dict[str, torch.Tensor],
    weight_BA: torch.Tensor,
    kpt_shape: tuple[int, int],
    reg_max: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the place and visibility losses of keypoints, two scalars.

    Args:
        kpts: Raw keypoints of the student, (B, K * D, A).
        taught: Raw outputs of the teacher.
        weight_BA: Weight of each anchor.
        kpt_shape: (K, D).
        reg_max: Bins of the teacher's box distances.
    """
    student, teacher = kpts.unflatten(1, kpt_shape), taught["kpts"].unflatten(1, kpt_shape)
    size_BA = box_size(taught["boxes"], reg_max)
    error_BKA = (student[:, :, :2] - teacher[:, :, :2]).mul(2.0).norm(dim=2) / size_BA[:, None]
    place = F.smooth_l1_loss(error_BKA, torch.zeros_like(error_BKA), beta=HUBER, reduction="none")
    total = weight_BA.sum().clamp(min=1.0)
    if kpt_shape[1] == 2:
        return (place.mean(1) * weight_BA).sum() / total, kpts.sum() * 0.0
    seen_BKA = teacher[:, :, 2].sigmoid()
    visibility = F.binary_cross_entropy_with_logits(student[:, :, 2], seen_BKA, reduction="none")
    return ((place * seen_BKA).mean(1) * weight_BA).sum() / total, (visibility.mean(1) * weight_BA).sum() / total


def mask_term(raw: dict[str, torch.Tensor], taught: dict[str, torch.Tensor], weight_BA: torch.Tensor) -> torch.Tensor:
    """Return the loss of coefficients on objects and of prototypes everywhere, relative to the teacher's spread."""
    coefficients = F.smooth_l1_loss(raw["mask_coefficient"], taught["mask_coefficient"], beta=HUBER, reduction="none")
    on_objects = (coefficients.mean(1) * weight_BA).sum() / weight_BA.sum().clamp(min=1.0)
    proto = F.mse_loss(raw["proto"], taught["proto"]) / taught["proto"].var().clamp(min=1e-6)
    return on_objects + proto


def box_size(boxes: torch.Tensor, reg_max: int) -> torch.Tensor:
    """Return the square root of the boxes' areas in grid units, (B, A), from raw distances (B, 4 * reg_max, A)."""
    bins = torch.arange(reg_max, device=boxes.device, dtype=boxes.dtype)
    left, top, right, bottom = (boxes.unflatten(1, (4, reg_max)).softmax(2) * bins[:, None]).sum(2).unbind(1)
    return ((left + right) * (top + bottom)).clamp(min=1e-3).sqrt()
