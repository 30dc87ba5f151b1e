"""Learned weights of the tasks."""

from __future__ import annotations

import math

import pytest
import torch

from yolo_multitask.args import normalise
from yolo_multitask.losses.balance import UncertaintyBalance

ITEMS = {"box_loss": 2.0, "cls_loss": 1.0, "dfl_loss": 1.0, "seg_loss": 9.0, "pose_loss": 0.5, "kobj_loss": 0.5}
COUNTS = {"seg_loss": 5, "pose_loss": 5, "kobj_loss": 5}


def losses() -> dict[str, torch.Tensor]:
    """Return a loss of each task."""
    return {name: torch.tensor(value) for name, value in ITEMS.items()}


def test_it_starts_with_the_gains_as_they_are() -> None:
    balance = UncertaintyBalance(("detect", "segment", "pose"))
    torch.testing.assert_close(balance(losses(), COUNTS), torch.tensor(list(ITEMS.values())))
    assert balance.weights == {"detect": 1.0, "segment": 1.0, "pose": 1.0}


def test_it_learns_to_give_each_task_the_same_share() -> None:
    balance = UncertaintyBalance(("detect", "segment", "pose"))
    optimiser = torch.optim.Adam(balance.parameters(), lr=0.1)
    for _ in range(500):
        optimiser.zero_grad()
        balance(losses(), COUNTS).sum().backward()
        optimiser.step()
    assert balance.weights == pytest.approx({"detect": 1 / 4, "segment": 1 / 9, "pose": 1.0}, rel=1e-3)


def test_a_task_without_labels_teaches_its_weight_nothing() -> None:
    balance = UncertaintyBalance(("detect", "segment"))
    items = {**losses(), "seg_loss": torch.zeros(())}
    total = balance({k: items[k] for k in list(items)[:4]}, {"seg_loss": 0})
    total.sum().backward()
    gradient = balance.log_variance["segment"].grad
    assert gradient is not None
    assert gradient.item() == 0
    detect = balance.log_variance["detect"].grad
    assert detect is not None
    assert detect.item() == pytest.approx(1 - 4)


def test_distillation_keeps_its_gain() -> None:
    balance = UncertaintyBalance(("detect",))
    with torch.no_grad():
        balance.log_variance["detect"].fill_(math.log(2))
    found = balance({"box_loss": torch.tensor(2.0), "dist_loss": torch.tensor(3.0)}, {})
    torch.testing.assert_close(found, torch.tensor([1.0 + math.log(2), 3.0]))


def test_another_balance_is_refused() -> None:
    with pytest.raises(ValueError, match="'balance' must be fixed or uncertainty"):
        normalise({"balance": "automatic"})
