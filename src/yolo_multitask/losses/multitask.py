"""The sum of the tasks' losses over one shared assignment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from yolo_multitask.losses.balance import UncertaintyBalance
from yolo_multitask.losses.detect import DetectLoss
from yolo_multitask.losses.distill import DistillLoss
from yolo_multitask.losses.pose import PoseLoss
from yolo_multitask.losses.segment import SegmentLoss
from yolo_multitask.losses.track import TrackLoss
from yolo_multitask.tasks import SPECS


class LossItems(dict[str, torch.Tensor]):
    """Detached losses by name, in the order in which they are logged.

    Attributes:
        counts: Number of anchors behind each loss of the branches. A loss with none is zero and left out of logged
            averages.
    """

    def __init__(self, items: dict[str, torch.Tensor], counts: dict[str, int]) -> None:
        """Keep the items and what each is the mean of."""
        super().__init__(items)
        self.counts = counts


class MultiTaskLoss:
    """One task-aligned assignment per step, handed to every branch's loss.

    Attributes:
        losses: Branch losses by task, each called with the raw outputs, the assignment and the batch.
    """

    def __init__(self, model: Any, teachers: Mapping[str, nn.Module] | None = None) -> None:
        """Build the losses of the tasks that `model` trains: `model.args.tasks`, or all that it has.

        Args:
            model: A de-paralleled multitask model with `args` attached.
            teachers: Networks to distil from, by what to call them in a message.

        Raises:
            ValueError: If a teacher does not fit the model.
        """
        args, head = model.args, model.head
        self.detect = DetectLoss(model)
        wanted = getattr(args, "tasks", None) or head.tasks
        self.tasks = tuple(t for t in SPECS if t in wanted and (t == "detect" or t in head.branches))
        self.losses: dict[str, Any] = {}
        if "segment" in self.tasks:
            self.losses["segment"] = SegmentLoss(head, args)
        if "pose" in self.tasks:
            self.losses["pose"] = PoseLoss(head, args, getattr(model, "kpt_oks_sigmas", None))
        if "track" in self.tasks:
            self.losses["track"] = TrackLoss(head, args)
        self.distill = DistillLoss(head, args, teachers) if teachers else None
        self.balance: UncertaintyBalance | None = getattr(model, "balance", None)

    def __call__(self, preds: Any, batch: dict[str, Any]) -> tuple[torch.Tensor, LossItems]:
        """Compute all losses.

        Args:
            preds: Raw outputs of the head, or the `(inference, raw)` pair that it returns in evaluation mode.
            batch: A training batch.

        Returns:
            What is minimised, 1-D: the losses scaled by their gains, the batch size, and the learned weights where
            there are such; and the losses scaled by their gains, detached, by name and per image.
        """
        raw = preds[1] if isinstance(preds, tuple) else preds
        assigned, items = self.detect(raw, batch)
        counts: dict[str, int] = {}
        for loss in self.losses.values():
            task_items, task_counts = loss(raw, assigned, batch)
            items |= task_items
            counts |= task_counts
        if self.distill is not None:
            items["dist_loss"] = self.distill(raw, batch["img"])
        total = torch.stack(list(items.values())) if self.balance is None else self.balance(items, counts)
        return total * raw["scores"].shape[0], LossItems({k: v.detach() for k, v in items.items()}, counts)
