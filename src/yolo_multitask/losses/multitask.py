"""The sum of the tasks' losses over one shared assignment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from types import SimpleNamespace
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
from yolo_multitask.losses.tracknet import TrackNetLoss
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
    """The losses of all tasks; of two heads in one the sum of both, in which the one-to-one head counts more and more.

    Where heads stand side by side on the trunk, the Pose head is the one that finds boxes, and the TrackNet head has a
    loss of its own.

    Attributes:
        tasks: Tasks that are trained.
        one2many: Losses of the head that finds boxes, of two in one those of the one-to-many head; None without any.
        schedule: The host's schedule of two heads in one, with the `HeadLoss` of each; None where there is one.
        points: Losses of the TrackNet head; None without.
        separate: Whether heads stand side by side, each with raw outputs of its own.
    """

    def __init__(self, model: Any, teachers: Mapping[str, nn.Module] | None = None) -> None:
        """Build the losses of the tasks that `model` trains: `model.args.tasks`, or all that it has.

        Args:
            model: A de-paralleled multitask model with `args` attached.
            teachers: Networks to distil from, by what to call them in a message.

        Raises:
            ValueError: If a teacher does not fit the model.
        """
        wanted = getattr(model.args, "tasks", None) or model.tasks
        self.one2many: HeadLoss | None = None
        self.schedule: E2ELoss | None = None
        self.points: TrackNetLoss | None = None
        self.distill: DistillLoss | None = None
        self.balance: UncertaintyBalance | None = getattr(model, "balance", None)
        self.separate = hasattr(model, "detect_idx")
        if self.separate:
            self.tasks = self._build_separate(model, wanted, teachers)
            return
        head = model.head
        self.tasks = tuple(t for t in SPECS if t in wanted and (t == "detect" or t in head.branches))
        build = partial(HeadLoss, tasks=self.tasks)
        self.schedule = E2ELoss(model, build) if head.dual else None
        self.one2many = build(model) if self.schedule is None else self.schedule.one2many
        self.distill = DistillLoss(head, model.args, teachers) if teachers else None

    def _build_separate(
        self, model: Any, wanted: Sequence[str], teachers: Mapping[str, nn.Module] | None
    ) -> tuple[str, ...]:
        """Build the losses of a model with a TrackNet and a Pose head, or one of them, and return the tasks."""
        if teachers:
            raise ValueError("'teachers' are for models with the shared head; this one has heads side by side.")
        if model.detect_idx is not None and "track" in wanted:
            self.points = TrackNetLoss(model.model[model.detect_idx], model.args)
        if model.pose_idx is not None and "pose" in wanted:
            self.one2many = HeadLoss(_seen_by(model.model[model.pose_idx], model), ("detect", "pose"))
        has = {"track": self.points, "pose": self.one2many}
        if not any(has.values()):
            raise ValueError(f"tasks {list(wanted)} leave nothing to train of a model that has {list(model.tasks)}.")
        return tuple(t for t in SPECS if t == "detect" or has.get(t))

    @property
    def losses(self) -> dict[str, Any]:
        """Branch losses by task, of the head that finds boxes."""
        return {} if self.one2many is None else self.one2many.losses

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
            preds: Raw outputs of the head, or the `(inference, raw)` pair that it returns in evaluation mode. Of heads
                side by side either by name, `track` and `pose`.
            batch: A training batch.

        Returns:
            What is minimised, 1-D: the losses scaled by their gains, the batch size, and the learned weights where
            there are such; and the losses scaled by their gains, detached, by name and per image, of two heads in one
            those of the one-to-one head.
        """
        given = preds if self.separate else {"pose": preds}
        raws = {name: out[1] if isinstance(out, tuple) else out for name, out in given.items()}
        items: dict[str, torch.Tensor] = {}
        seen: dict[str, torch.Tensor] = {}
        counts: dict[str, int] = {}
        if self.one2many is not None:
            items, seen, counts = self._of_boxes(self.one2many, raws["pose"], batch)
        if self.points is not None:
            of_points, point_counts = self.points(raws["track"], batch)
            items, seen, counts = items | of_points, seen | of_points, counts | point_counts
        total = torch.stack(list(items.values())) if self.balance is None else self.balance(items, counts)
        raw = next(iter(raws.values()))
        batch_size = raw.get("one2many", raw)["scores"].shape[0]
        return total * batch_size, LossItems({k: v.detach() for k, v in seen.items()}, counts)

    def _of_boxes(
        self, one2many: HeadLoss, raw: dict[str, Any], batch: dict[str, Any]
    ) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], dict[str, int]]:
        """Return what is minimised of the head that finds boxes, what is logged of it, and the anchors behind that."""
        if self.schedule is None:
            items, counts = one2many(raw, batch)
            seen = items
        else:
            many, one = one2many(raw["one2many"], batch), self.schedule.one2one(raw["one2one"], batch)
            items = {k: many[0][k] * self.schedule.o2m + one[0][k] * self.schedule.o2o for k in one[0]}
            seen, counts = one
            raw = raw["one2many"]
        if self.distill is not None:
            dist = {"dist_loss": self.distill(raw, batch["img"])}
            items, seen = items | dist, seen | dist
        return items, seen, counts


def _seen_by(head: nn.Module, model: Any) -> Any:
    """Return what a loss reads of a model whose one head that finds boxes is `head`."""
    weights = getattr(model, "class_weights", None)  # by class of the data; the head may have fewer
    return SimpleNamespace(
        parameters=model.parameters,
        args=model.args,
        model=[head],
        head=head,
        class_weights=weights if weights is not None and len(weights) == head.nc else None,
        kpt_oks_sigmas=getattr(model, "kpt_oks_sigmas", None),
    )
