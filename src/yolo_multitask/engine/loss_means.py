"""Means of the validation losses over the batches that have labels for them."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from ultralytics.utils import RANK

from yolo_multitask.tasks import BRANCH_TASKS, SPECS


class LossMeans:
    """Counts the batches behind each loss of a branch; the host divides the sum of each by all batches.

    A batch without labels for a loss gives exactly zero, and says nothing about it.
    """

    def __init__(self) -> None:
        self._sums: dict[str, torch.Tensor] = {}
        self._counts: dict[str, Any] = {}

    def count(self, sums: dict[str, torch.Tensor]) -> None:
        """Take note of the sums after a batch: where one has not changed, the batch had no labels for it."""
        for name in branch_losses(sums):
            used = sums[name] != self._sums.get(name, 0.0)
            self._counts[name] = self._counts.get(name, 0) + used
            self._sums[name] = sums[name].clone()

    def rescale(self, sums: dict[str, torch.Tensor], batches: int) -> None:
        """Scale the sums in place, so that a mean over all batches becomes one over those with labels.

        Args:
            sums: Sums of this process.
            batches: Number of its batches; the host divides by it, and by the number of processes.
        """
        world = dist.get_world_size() if RANK > -1 else 1
        for name in branch_losses(sums):
            count = torch.as_tensor(self._counts[name], dtype=torch.float32, device=sums[name].device)
            if world > 1:
                dist.all_reduce(count)
            sums[name] = sums[name] * (world * batches / count.clamp(min=1))


def branch_losses(losses: dict[str, torch.Tensor]) -> list[str]:
    """Return which of the losses are of a branch, in the order of `SPECS`."""
    return [name for task in BRANCH_TASKS for name in (*SPECS[task].losses, *SPECS[task].more) if name in losses]
