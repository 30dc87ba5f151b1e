"""How much each task counts: by fixed gains, or by weights that are learned with the network.

Learned weights follow Kendall et al. (https://arxiv.org/abs/1705.07115): with s the log of a task's variance, its loss
L counts as exp(-s) L + s. The weight exp(-s) tends to 1 / L, so that each task has the same share in what is learned,
whatever its unit. The gains still stand between the losses of one task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from yolo_multitask.losses.tracknet import LOSSES
from yolo_multitask.tasks import SPECS

_TASK_OF = {loss: name for name, spec in SPECS.items() for loss in (*spec.losses, *spec.more)}
_TASK_OF |= dict.fromkeys(LOSSES, "track")


class UncertaintyBalance(nn.Module):
    """A log variance for each task, learned with the network; part of the model, so that checkpoints hold it.

    Attributes:
        log_variance: Scalars by task, 0 to start with: every task counts once.
    """

    def __init__(self, tasks: Sequence[str]) -> None:
        """Start with the gains as they are.

        Args:
            tasks: Tasks that are trained.
        """
        super().__init__()
        self.log_variance = nn.ParameterDict({task: nn.Parameter(torch.zeros(())) for task in tasks})

    def forward(self, items: Mapping[str, torch.Tensor], counts: Mapping[str, int]) -> torch.Tensor:
        """Return what is minimised in place of the losses, one value for each, (L,).

        Args:
            items: Losses by name.
            counts: Number of anchors behind those that may have none. A task without labels in the batch counts as it
                is, zero, and its weight learns nothing.
        """
        names = list(items)
        first = {_task_of(name): i for i, name in reversed(list(enumerate(names)))}
        seen = {task: any(counts.get(n, 1) for n in names if _task_of(n) == task) for task in first}
        values = []
        for i, (name, loss) in enumerate(items.items()):
            task = _task_of(name)
            if task not in self.log_variance:
                values.append(loss)
                continue
            s = self.log_variance[task]
            values.append(loss * torch.exp(-s) + s * float(first[task] == i and seen[task]))
        return torch.stack(values)

    @property
    def weights(self) -> dict[str, float]:
        """By how much the losses of each task are multiplied."""
        return {task: float(torch.exp(-s.detach())) for task, s in self.log_variance.items()}


def _task_of(loss: str) -> str:
    """Return the task of a loss; distillation is a task of its own here, and is not weighted."""
    return _TASK_OF.get(loss, loss)
