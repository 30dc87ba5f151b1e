"""Class loss in ignore regions, and the indices of the shared assignment."""

from __future__ import annotations

import pytest
import torch
from support.losses import make_assignment, make_raw
from support.models import make_batch, tiny_model

from yolo_multitask.losses.detect import DetectLoss, IgnoringBCE, batch_index, points_in_regions


def test_points_in_regions_against_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(50, 2, generator=generator)
    regions = torch.rand(4, 4, generator=generator) * 0.5 + 0.1
    image = torch.tensor([0.0, 0.0, 2.0, 2.0])
    found = points_in_regions(points, regions, image, 3)
    expected = torch.zeros(3, 50, dtype=torch.bool)
    for (cx, cy, w, h), b in zip(regions.tolist(), image.int().tolist(), strict=True):
        for a, (x, y) in enumerate(points.tolist()):
            expected[b, a] |= abs(x - cx) <= w / 2 + 1e-9 and abs(y - cy) <= h / 2 + 1e-9
    assert torch.equal(found, expected)
    assert found.any()
    assert not found[1].any()


def test_nothing_is_learned_of_classes_that_are_not_labelled() -> None:
    logits = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    target = torch.zeros(2, 3, 4)
    target[0, 1, 2] = 0.7
    plain = IgnoringBCE(None)(logits, target)
    unlabelled = torch.tensor([[False, True, False, False], [True, False, False, True]])
    found = IgnoringBCE(None, unlabelled)(logits, target)
    assert (found[0, :, 1] == 0).all()
    assert (found[1, :, [0, 3]] == 0).all()
    assert torch.equal(found[0][:, [0, 2, 3]], plain[0][:, [0, 2, 3]])
    assert torch.equal(found[1][:, [1, 2]], plain[1][:, [1, 2]])
    more = IgnoringBCE(None, unlabelled[:, :3])(logits, target)
    assert (more[..., 3] == 0).all(), "the data says nothing of a class that only the model has"
    assert torch.equal(more[..., :3], found[..., :3])


def test_ignoring_bce_spares_negatives_only() -> None:
    logits = torch.randn(1, 3, 2)
    target = torch.zeros(1, 3, 2)
    target[0, 1, 0] = 0.7
    plain = IgnoringBCE(None)(logits, target)
    torch.testing.assert_close(
        plain, torch.nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    )
    ignoring = IgnoringBCE(torch.tensor([[True, True, False]]))(logits, target)
    assert torch.equal(ignoring[0, 0], torch.zeros(2))
    assert torch.equal(ignoring[0, 1:], plain[0, 1:])


def test_an_ignore_region_takes_class_loss_away_and_nothing_else() -> None:
    model = tiny_model(nc=1)
    batch = make_batch()
    raw = model.train()(batch["img"])
    loss = DetectLoss(model)
    assigned, plain = loss(raw, batch)
    region = {**batch, "ignore": torch.tensor([[0.85, 0.85, 0.3, 0.3]]), "ignore_idx": torch.tensor([1.0])}
    assigned_again, ignoring = loss(raw, region)
    assert set(plain) == set(ignoring) == {"box_loss", "cls_loss", "dfl_loss"}
    assert ignoring["cls_loss"] < plain["cls_loss"]
    assert torch.equal(ignoring["box_loss"], plain["box_loss"])
    assert torch.equal(assigned.fg_BA, assigned_again.fg_BA)
    everywhere = {**batch, "ignore": torch.tensor([[0.5, 0.5, 1.0, 1.0]] * 2), "ignore_idx": torch.tensor([0.0, 1.0])}
    grad = torch.autograd.grad(loss(raw, everywhere)[1]["cls_loss"], raw["scores"])[0]
    assert (grad.abs().sum(1)[~assigned.fg_BA] == 0).all()
    assert (grad.abs().sum(1)[assigned.fg_BA] > 0).any()
    assert torch.equal(loss(raw, batch)[1]["cls_loss"], plain["cls_loss"])  # the loss keeps no state between steps


def test_batch_index_against_a_loop() -> None:
    image = torch.tensor([0.0, 0.0, 2.0, 2.0, 2.0])
    gt = torch.tensor([[0, 1], [0, 0], [2, 1]])
    assert batch_index(image, gt).tolist() == [[0, 1], [2, 2], [4, 3]]


def test_labelled_selects_by_instance() -> None:
    assigned = make_assignment()
    flags = torch.tensor([False, True, True])
    assert assigned.labelled(flags).nonzero().tolist() == [[0, 9], [1, 70]]
    assert not assigned.labelled(torch.zeros(0, dtype=torch.bool)).any()


@pytest.mark.parametrize("empty", [True, False])
def test_no_instance_at_all(empty: bool) -> None:
    model = tiny_model(nc=1)
    batch = make_batch()
    if empty:
        batch |= {k: batch[k][:0] for k in ("batch_idx", "cls", "bboxes")}
    raw = model.train()(batch["img"])
    assigned, items = DetectLoss(model)(raw, batch)
    assert assigned.fg_BA.any() != empty
    assert (items["box_loss"] == 0) == empty
    assert all(torch.isfinite(v) for v in items.values())
    sum(items.values()).backward()


def test_make_raw_is_seeded() -> None:
    assert torch.equal(make_raw(seed=3)["kpts"], make_raw(seed=3)["kpts"])
