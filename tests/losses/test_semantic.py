"""Semantic loss: the host's where all is labelled, and nothing from what is not known."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.models import make_batch
from ultralytics.utils.loss import BCEDiceLoss

from yolo_multitask.losses.semantic import known_classes, semantic_loss, semantic_target


def logits(seed: int = 0, nc: int = 2) -> torch.Tensor:
    """Return random logits that require gradients."""
    return torch.randn(2, nc, 8, 8, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def two_classes() -> dict[str, Any]:
    """Return a batch whose second instance is of class 1."""
    batch = make_batch()
    batch["cls"][1] = 1
    return batch


def loss_of(batch: dict[str, Any], seed: int = 0) -> tuple[torch.Tensor, int, torch.Tensor]:
    """Return the loss, its count and its gradient."""
    given = logits(seed)
    loss, count = semantic_loss({"semantic": given}, batch, overlap=True)
    return loss, count, torch.autograd.grad(loss, given)[0]


def test_with_everything_labelled_it_is_the_host_s() -> None:
    batch, given = two_classes(), logits()
    target = semantic_target(batch, given, overlap=True)
    expected = BCEDiceLoss(weight_bce=0.5, weight_dice=0.5)(given, target)
    torch.testing.assert_close(semantic_loss({"semantic": given}, batch, overlap=True)[0], expected)
    assert target.sum(1).max() == 1
    assert target[0].flatten(1).any(1).tolist() == [True, True]


def test_both_encodings_give_the_same_target() -> None:
    batch = two_classes()
    maps = batch["masks"]
    stacked = {**batch, "masks": torch.stack([maps[0] == 1, maps[0] == 2, maps[1] == 1]).float()}
    one, other = (semantic_target(b, logits(), overlap=o) for b, o in ((batch, True), (stacked, False)))
    assert torch.equal(one, other)


def test_a_class_with_an_instance_without_a_mask_does_not_count() -> None:
    batch = two_classes()
    batch["has_mask"][1] = False
    batch["masks"][batch["masks"] == 2] = 0
    _, count, gradient = loss_of(batch)
    assert known_classes(batch, logits()).tolist() == [[True, False], [True, True]]
    assert count == 2
    assert not gradient[0, 1].any()
    assert gradient[0, 0].any()
    assert gradient[1].flatten(1).any(1).all()


def test_a_class_that_an_image_does_not_label_does_not_count() -> None:
    batch = {
        **two_classes(),
        "unlabelled": torch.tensor([[False], [True]]),
    }  # of the second class the data knows nothing
    _, count, gradient = loss_of(batch)
    assert count == 1
    assert gradient.flatten(2).any(2).tolist() == [[True, False], [False, False]]


def test_an_ignore_region_does_not_count() -> None:
    batch = {**two_classes(), "ignore": torch.tensor([[0.25, 0.5, 0.5, 1.0]]), "ignore_idx": torch.tensor([1.0])}
    gradient = loss_of(batch)[2]
    assert not gradient[1, :, :, :4].any()
    assert gradient[1, :, :, 4:].all()
    assert gradient[0].any()


@pytest.mark.parametrize("case", ["no masks", "nothing labelled", "no instance"])
def test_without_labels_it_is_a_connected_zero(case: str) -> None:
    batch = two_classes()
    if case == "no masks":
        del batch["masks"]
    elif case == "nothing labelled":
        batch["has_mask"][:] = False
    else:
        batch |= {k: v[:0] for k, v in batch.items() if len(v) == 3}
    loss, count, gradient = loss_of(batch)
    assert (loss, count) == (0, 0)
    assert not gradient.any()


def test_in_validation_there_is_none() -> None:
    proto = torch.rand(2, 4, 8, 8)
    assert semantic_loss({"proto": proto}, two_classes(), overlap=True) == (0, 0)
