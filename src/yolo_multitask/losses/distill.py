"""Distillation: each branch also learns from a network that already has it.

Two single-task networks merge into one this way: the trunk and one branch come from the first, and the other branch,
whose weights stand on a foreign trunk, learns the second network's outputs wherever that one sees an object. The
images need no labels for it. Response distillation as in Hinton et al., https://arxiv.org/abs/1503.02531, weighted
by the teacher's scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from ultralytics.nn.modules.head import Pose, Pose26, Segment, Segment26

from yolo_multitask.nn.branches import PoseBranch26
from yolo_multitask.nn.heads import MultiTask, MultiTask26

TEACHERS = (Segment, Segment26, Pose, Pose26, MultiTask, MultiTask26)  # heads that can teach
SEEN = 0.1  # teacher's score from which an anchor is on an object
HUBER = 0.05  # keypoint error, in units of the object's size, from which the loss grows linearly


class DistillLoss:
    """The sum of the teachers' losses, each for the tasks that it is the first to have."""

    def __init__(self, head: MultiTask, args: Any, teachers: Mapping[str, nn.Module]) -> None:
        """Match teachers to branches.

        Args:
            head: The student's head.
            args: Training arguments; `distill` is the gain of the sum, `pose`, `kobj`, `seg` those of its parts.
            teachers: Networks by what to call them in a message; they are set to evaluation mode.

        Raises:
            ValueError: If a teacher cannot teach this student; says why.
        """
        self.args, self.head = args, head
        self.teachers: list[tuple[nn.Module, tuple[str, ...]]] = []
        taken: dict[str, str] = {}
        for name, teacher in teachers.items():
            fitting, reasons = match(teacher.model[-1], head)  # type: ignore[index]
            reasons += [f"'{t}' is taught by {taken[t]} already" for t in fitting if t in taken]
            tasks = tuple(t for t in fitting if t not in taken)
            if not tasks:
                raise ValueError(
                    f"Teacher '{name}' cannot teach this model: {'; '.join(reasons)}. Leave it out of 'teachers', "
                    "or use a stock segment or pose checkpoint, or a multitask one, with the same strides and shapes."
                )
            taken |= dict.fromkeys(tasks, name)
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
            taught = taught.get("one2many", taught)  # of two heads, as the student's
            scores_BA = taught["scores"].sigmoid().amax(1)
            weight_BA = scores_BA * (scores_BA > SEEN)
            if "pose" in tasks:
                theirs = teacher.model[-1]  # type: ignore[index]
                shape = keypoints_of(theirs)
                assert shape is not None
                place, visibility = keypoint_terms(
                    raw["kpts"], taught, weight_BA, shape, theirs.reg_max, (shifted(self.head), shifted(theirs))
                )
                total = total + self.args.pose * place + self.args.kobj * visibility
            if "segment" in tasks:
                total = total + self.args.seg * mask_term(raw, taught, weight_BA)
        return total * self.args.distill


def match(teacher: Any, student: MultiTask) -> tuple[list[str], list[str]]:
    """Return the tasks that a teacher's head can teach the student's, and why it cannot teach the others."""
    if type(teacher) not in TEACHERS:
        return [], [f"its head is {type(teacher).__name__}, not one of {', '.join(t.__name__ for t in TEACHERS)}"]
    if teacher.stride.tolist() != student.stride.tolist():
        return [], [f"its strides are {teacher.stride.tolist()}, the model's {student.stride.tolist()}"]
    branches: dict[str, Any] = dict(student.branches.items())
    tasks, reasons = [], []
    for task, theirs, ours, what in (
        ("segment", masks_of(teacher), branches["segment"].columns if "segment" in branches else None, "masks"),
        ("pose", keypoints_of(teacher), branches["pose"].kpt_shape if "pose" in branches else None, "kpt_shape"),
    ):
        if ours is None or theirs is None:
            reasons.append(f"{'the model' if ours is None else 'the teacher'} has no '{task}'")
        elif theirs != ours:
            reasons.append(f"its {what} is {theirs}, the model's {ours}")
        else:
            tasks.append(task)
    return tasks, reasons


def masks_of(head: Any) -> int | None:
    """Return the number of mask prototypes of a head, None without a mask branch."""
    if isinstance(head, MultiTask):
        return head.branches["segment"].columns if "segment" in head.branches else None
    return head.nm if isinstance(head, Segment) else None


def keypoints_of(head: Any) -> tuple[int, int] | None:
    """Return the keypoint shape (K, D) of a head, None without a keypoint branch."""
    if isinstance(head, MultiTask):
        return head.branches["pose"].kpt_shape if "pose" in head.branches else None
    return (int(head.kpt_shape[0]), int(head.kpt_shape[1])) if isinstance(head, Pose) else None


def shifted(head: Any) -> bool:
    """Return whether raw keypoints of a head are shifts from the anchor, as in YOLO26, not twice that from a corner."""
    return isinstance(head, Pose26) or (isinstance(head, MultiTask) and isinstance(head.branches["pose"], PoseBranch26))


def keypoint_terms(
    kpts: torch.Tensor,
    taught: dict[str, torch.Tensor],
    weight_BA: torch.Tensor,
    kpt_shape: tuple[int, int],
    reg_max: int,
    shifts: tuple[bool, bool] = (False, False),
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the place and visibility losses of keypoints, two scalars.

    Args:
        kpts: Raw keypoints of the student, (B, K * D, A).
        taught: Raw outputs of the teacher.
        weight_BA: Weight of each anchor.
        kpt_shape: (K, D).
        reg_max: Bins of the teacher's box distances.
        shifts: What `shifted` says of the student's head and of the teacher's.
    """
    student, teacher = kpts.unflatten(1, kpt_shape), taught["kpts"].unflatten(1, kpt_shape)
    ours, theirs = (
        raw[:, :, :2] if shift else raw[:, :, :2] * 2.0 - 0.5
        for raw, shift in zip((student, teacher), shifts, strict=True)
    )
    size_BA = box_size(taught["boxes"], reg_max)
    error_BKA = (ours - theirs).norm(dim=2) / size_BA[:, None]
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
    if reg_max == 1:  # distances themselves
        left, top, right, bottom = boxes.unbind(1)
        return ((left + right) * (top + bottom)).clamp(min=1e-3).sqrt()
    bins = torch.arange(reg_max, device=boxes.device, dtype=boxes.dtype)
    left, top, right, bottom = (boxes.unflatten(1, (4, reg_max)).softmax(2) * bins[:, None]).sum(2).unbind(1)
    return ((left + right) * (top + bottom)).clamp(min=1e-3).sqrt()
