"""Validation losses are means over the batches that have labels for them."""

from __future__ import annotations

import pytest
import torch

from yolo_multitask.engine import loss_means
from yolo_multitask.engine.loss_means import LossMeans, branch_losses

NAMES = ("box_loss", "seg_loss", "pose_loss", "reid_loss", "next_loss")
BATCHES = [(1.0, 4.0, 4.0, 0.0, 2.0), (1.0, 4.0, 0.0, 0.0, 4.0), (1.0, 0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0, 6.0)]


def run(means: LossMeans) -> dict[str, torch.Tensor]:
    """Return the sums that the host makes of the batches, in place as it does."""
    sums = {name: torch.zeros(()) for name in NAMES}
    for batch in BATCHES:
        for name, value in zip(NAMES, batch, strict=True):
            sums[name] += value
        means.count(sums)
    return sums


def test_batches_without_labels_do_not_count() -> None:
    means = LossMeans()
    sums = run(means)
    means.rescale(sums, len(BATCHES))
    found = {k: v.item() / len(BATCHES) for k, v in sums.items()}  # as the host divides
    assert found == {"box_loss": 0.75, "seg_loss": 4, "pose_loss": 4, "reid_loss": 0, "next_loss": 4}


def test_a_loss_that_is_not_finite_counts() -> None:
    means, sums = LossMeans(), {"seg_loss": torch.tensor(torch.nan)}
    means.count(sums)
    means.count(sums)
    means.rescale(sums, 2)
    assert sums["seg_loss"].isnan()


def test_processes_share_their_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other of two processes has four batches with labels for each loss."""
    means = LossMeans()
    sums = run(means)
    monkeypatch.setattr(loss_means, "RANK", 0)
    monkeypatch.setattr(loss_means.dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(loss_means.dist, "all_reduce", lambda count: count.add_(4))
    means.rescale(sums, len(BATCHES))
    # of eight batches in both processes, six have labels of masks; the host divides by eight
    assert sums["seg_loss"].item() == pytest.approx(8 * 8 / 6)
    assert sums["box_loss"].item() == 3


def test_only_losses_of_branches() -> None:
    sums = {name: torch.zeros(()) for name in ("dist_loss", *reversed(NAMES))}
    assert branch_losses(sums) == list(NAMES[1:])
