"""The sum of the tasks' losses over one shared assignment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from ultralytics.utils.loss import E2ELoss

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


class HeadLoss:
    """One task-aligned assignment per step for the outputs of one head, handed to every branch's loss.

    Attributes:
        detect: Box and class losses, which assign.
        losses: Branch losses by task, each called with the raw outputs, the assignment and the batch.
        hyp: Training arguments.
    """

    def __init__(self, model: Any, tasks: Sequence[str], tal_topk: int = 10, tal_topk2: int | None = None) -> None:
        """Build the losses of the tasks; see `DetectLoss` for the arguments."""
        head, self.hyp = model.head, model.args
        self.losses: dict[str, Any] = {}
        if "segment" in tasks:
            self.losses["segment"] = SegmentLoss(head, self.hyp)
        if "pose" in tasks:
            self.losses["pose"] = PoseLoss(head, self.hyp, getattr(model, "kpt_oks_sigmas", None))
        if "track" in tasks:
            self.losses["track"] = TrackLoss(head, self.hyp)
        branches = {task: head.branches[task] for task in self.losses}
        sigmas = self.losses["pose"].sigmas if "pose" in self.losses else None
        self.detect = DetectLoss(model, tal_topk, tal_topk2, branches=branches, sigmas=sigmas)

    def __call__(self, raw: dict[str, Any], batch: dict[str, Any]) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
        """Return the losses scaled by their gains, and the number of anchors behind each of a branch."""
        assigned, items = self.detect(raw, batch)
        counts: dict[str, int] = {}
        for loss in self.losses.values():
            task_items, task_counts = loss(raw, assigned, batch)
            items |= task_items
            counts |= task_counts
        return items, counts


class MultiTaskLoss:
    """The losses of all tasks; of two heads the sum of both, in which the one-to-one head counts more and more.

    Attributes:
        tasks: Tasks that are trained.
        schedule: The host's schedule of two heads, with the `HeadLoss` of each; None where there is one head.
        one2many: Losses of the one-to-many head.
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
        wanted = getattr(args, "tasks", None) or head.tasks
        self.tasks = tuple(t for t in SPECS if t in wanted and (t == "detect" or t in head.branches))
        build = partial(HeadLoss, tasks=self.tasks)
        self.schedule = E2ELoss(model, build) if head.dual else None
        self.one2many: HeadLoss = build(model) if self.schedule is None else self.schedule.one2many
        self.distill = DistillLoss(head, args, teachers) if teachers else None
        self.balance: UncertaintyBalance | None = getattr(model, "balance", None)

    @property
    def losses(self) -> dict[str, Any]:
        """Branch losses by task, of the one-to-many head."""
        return self.one2many.losses

    @property
    def updates(self) -> int:
        """Epochs that the schedule of two heads has seen; the host sets it where a run is resumed."""
        return 0 if self.schedule is None else int(self.schedule.updates)

    @updates.setter
    def updates(self, value: int) -> None:
        if self.schedule is not None:
            self.schedule.updates = value

    def update(self) -> None:
        """Go on with the schedule of two heads; called by the host after each epoch."""
        if self.schedule is not None:
            self.schedule.update()

    def __call__(self, preds: Any, batch: dict[str, Any]) -> tuple[torch.Tensor, LossItems]:
        """Compute all losses.

        Args:
            preds: Raw outputs of the head, or the `(inference, raw)` pair that it returns in evaluation mode.
            batch: A training batch.

        Returns:
            What is minimised, 1-D: the losses scaled by their gains, the batch size, and the learned weights where
            there are such; and the losses scaled by their gains, detached, by name and per image, of two heads those
            of the one-to-one head.
        """
        raw = preds[1] if isinstance(preds, tuple) else preds
        if self.schedule is None:
            items, counts = self.one2many(raw, batch)
            seen = items
        else:
            many, one = self.schedule.one2many(raw["one2many"], batch), self.schedule.one2one(raw["one2one"], batch)
            items = {k: many[0][k] * self.schedule.o2m + one[0][k] * self.schedule.o2o for k in one[0]}
            seen, counts = one
            raw = raw["one2many"]
        if self.distill is not None:
            items = {**items, "dist_loss": self.distill(raw, batch["img"])}
            seen = {**seen, "dist_loss": items["dist_loss"]}
        total = torch.stack(list(items.values())) if self.balance is None else self.balance(items, counts)
        return total * raw["scores"].shape[0], LossItems({k: v.detach() for k, v in seen.items()}, counts)
