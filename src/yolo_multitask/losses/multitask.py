"""The sum of the tasks' losses over one shared assignment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

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


class MultiTaskLoss:
    """One task-aligned assignment per step, handed to every branch's loss.

    Where heads stand side by side on the trunk, that is what the Pose head gets, and the TrackNet head its own loss.

    Attributes:
        losses: Branch losses by task, each called with the raw outputs, the assignment and the batch.
        detect: Losses of boxes and classes with the assignment; None without a head that finds boxes.
        points: Losses of the TrackNet head; None without.
    """

    def __init__(self, model: Any, teachers: Mapping[str, nn.Module] | None = None) -> None:
        """Build the losses of the tasks that `model` trains: `model.args.tasks`, or all that it has.

        Args:
            model: A de-paralleled multitask model with `args` attached.
            teachers: Networks to distil from, by what to call them in a message.

        Raises:
            ValueError: If a teacher does not fit the model.
        """
        args = model.args
        wanted = getattr(args, "tasks", None) or model.tasks
        self.losses: dict[str, Any] = {}
        self.detect: DetectLoss | None = None
        self.points: TrackNetLoss | None = None
        self.distill: DistillLoss | None = None
        self.balance: UncertaintyBalance | None = getattr(model, "balance", None)
        self.tasks: tuple[str, ...] = ("detect",)
        self.separate = hasattr(model, "detect_idx")  # heads stand side by side, each with raw outputs of its own
        if self.separate:
            self._build_separate(model, wanted, teachers)
            return
        head = model.head
        self.detect = DetectLoss(model)
        self.tasks = tuple(t for t in SPECS if t in wanted and (t == "detect" or t in head.branches))
        if "segment" in self.tasks:
            self.losses["segment"] = SegmentLoss(head, args)
        if "pose" in self.tasks:
            self.losses["pose"] = PoseLoss(head, args, getattr(model, "kpt_oks_sigmas", None))
        if "track" in self.tasks:
            self.losses["track"] = TrackLoss(head, args)
        if teachers:
            self.distill = DistillLoss(head, args, teachers)

    def _build_separate(self, model: Any, wanted: Sequence[str], teachers: Mapping[str, nn.Module] | None) -> None:
        """Build the losses of a model with a TrackNet and a Pose head, or one of them."""
        if teachers:
            raise ValueError("'teachers' are for models with the shared head; this one has heads side by side.")
        if model.detect_idx is not None and "track" in wanted:
            self.points = TrackNetLoss(model.model[model.detect_idx], model.args)
        if model.pose_idx is not None and "pose" in wanted:
            head = model.model[model.pose_idx]
            self.detect = DetectLoss(_seen_by(head, model))
            self.losses["pose"] = PoseLoss(head, model.args, getattr(model, "kpt_oks_sigmas", None))
        has = {"track": self.points, "pose": self.detect}
        if not any(has.values()):
            raise ValueError(f"tasks {list(wanted)} leave nothing to train of a model that has {list(model.tasks)}.")
        self.tasks = tuple(t for t in SPECS if t == "detect" or has.get(t))

    def __call__(self, preds: Any, batch: dict[str, Any]) -> tuple[torch.Tensor, LossItems]:
        """Compute all losses.

        Args:
            preds: Raw outputs of the head, or the `(inference, raw)` pair that it returns in evaluation mode. Of heads
                side by side either by name, `track` and `pose`.
            batch: A training batch.

        Returns:
            What is minimised, 1-D: the losses scaled by their gains, the batch size, and the learned weights where
            there are such; and the losses scaled by their gains, detached, by name and per image.
        """
        given = preds if self.separate else {"pose": preds}
        raws = {name: out[1] if isinstance(out, tuple) else out for name, out in given.items()}
        items: dict[str, torch.Tensor] = {}
        counts: dict[str, int] = {}
        if self.detect is not None:
            raw = raws["pose"]
            assigned, items = self.detect(raw, batch)
            for loss in self.losses.values():
                task_items, task_counts = loss(raw, assigned, batch)
                items |= task_items
                counts |= task_counts
            if self.distill is not None:
                items["dist_loss"] = self.distill(raw, batch["img"])
        if self.points is not None:
            task_items, task_counts = self.points(raws["track"], batch)
            items |= task_items
            counts |= task_counts
        total = torch.stack(list(items.values())) if self.balance is None else self.balance(items, counts)
        batch_size = next(iter(raws.values()))["scores"].shape[0]
        return total * batch_size, LossItems({k: v.detach() for k, v in items.items()}, counts)


def _seen_by(head: nn.Module, model: Any) -> Any:
    """Return what the host's loss reads of a model whose last layer is `head`."""
    weights = getattr(model, "class_weights", None)  # by class of the data; the head may have fewer
    fitting = weights if weights is not None and len(weights) == head.nc else None
    return SimpleNamespace(parameters=model.parameters, args=model.args, model=[head], class_weights=fitting)
