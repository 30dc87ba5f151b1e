"""Identity losses: an independent reference, their invariances and their empty cases."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support.losses import make_assignment
from support.models import make_batch, tiny_yaml

from yolo_multitask import host
from yolo_multitask.losses.track import TEMPERATURE, TrackLoss, contrastive_loss, motion_loss, pair_relations
from yolo_multitask.nn.network import MultiTaskModel

ARGS = SimpleNamespace(reid=3.0, motion=2.0)


def case(next_box: bool = True) -> tuple[TrackLoss, dict[str, Any], dict[str, Any]]:
    """Return the loss of a small model, its raw outputs for a batch, and the batch."""
    torch.manual_seed(0)
    config = {**tiny_yaml(), "next": next_box}
    model = MultiTaskModel(config, nc=1, tasks=("track",), verbose=False).double().train()
    batch = make_batch(dtype=torch.float64)
    raw = model(batch["img"])
    model.head.branches["track"].eval()  # hides no points
    return TrackLoss(model.head, ARGS), raw, batch


def pairs(**columns: list[int]) -> dict[str, torch.Tensor]:
    """Return the labels of instances; by default each is of class 0, unknown, and an object of an image of its own."""
    n = len(next(iter(columns.values())))
    filled = {
        "cls": [0] * n,
        "ids": [-1] * n,
        "instance": list(range(n)),
        "image": list(range(n)),
        "scene": columns.get("image", list(range(n))),
        **columns,
    }
    out = {k: torch.tensor(v) for k, v in filled.items()}
    return {**out, "has_id": out["ids"] >= 0}


def relation(labels: dict[str, torch.Tensor], i: int, j: int) -> str:
    """Return what `pair_relations` says of a pair, the same both ways."""
    same, different = pair_relations(labels, torch.arange(len(labels["cls"])))
    assert torch.equal(same, same.T)
    assert torch.equal(different, different.T)
    assert not (same & different).any()
    return "same" if same[i, j] else "different" if different[i, j] else "unknown"


def test_relations_without_ids() -> None:
    labels = pairs(instance=[0, 0, 1, 2, 3], image=[0, 0, 0, 0, 1], cls=[0, 0, 0, 5, 0])
    assert relation(labels, 0, 1) == "same"  # two views of one object
    assert relation(labels, 0, 2) == "different"  # two objects of an image
    assert relation(labels, 0, 3) == "unknown"  # another class: the tracker never compares them
    assert relation(labels, 0, 4) == "different"  # two still images


def test_relations_in_a_sequence_with_partial_ids() -> None:
    labels = pairs(ids=[7, 7, 8, -1, -1], image=[0, 1, 1, 1, 2], scene=[0, 0, 0, 0, 9])
    assert relation(labels, 0, 1) == "same"
    assert relation(labels, 0, 2) == "different"
    assert relation(labels, 0, 3) == "unknown"  # another frame of the sequence: it may be the same one
    assert relation(labels, 1, 3) == "different"  # the same frame
    assert relation(labels, 0, 4) == "different"  # another scene


def unit(n: int, seed: int) -> torch.Tensor:
    """Return n normalised random embeddings."""
    return F.normalize(torch.randn(n, 6, generator=torch.Generator().manual_seed(seed)), dim=1)


def reference(embed: torch.Tensor, owner: list[int], labels: dict[str, torch.Tensor]) -> tuple[float, int]:
    """Compute the contrastive loss with loops."""
    views = sorted(set(owner))
    mean = {}
    for v in views:
        total = sum((u for u, o in zip(embed, owner, strict=True) if o == v), torch.zeros(embed.shape[1]))
        mean[v] = total / total.norm()
    losses = []
    for u, own in zip(embed, owner, strict=True):
        others = [v for v in views if v != own and relation(labels, own, v) == "same"]
        negatives = [v for v in views if relation(labels, own, v) == "different"]
        if not negatives:
            continue
        push = sum(math.exp(float(u @ mean[v]) / TEMPERATURE) for v in negatives)
        terms = []
        for v in others or [own]:
            pull = math.exp(float(u @ mean[v]) / TEMPERATURE)
            terms.append(-math.log(pull / (pull + push)))
        losses.append(sum(terms) / len(terms))
    return sum(losses) / len(losses), len(losses)


CASES = {
    "two views": pairs(instance=[0, 1, 0, 1], image=[0, 0, 0, 0]),
    "no view repeats": pairs(image=[0, 0, 1, 2]),
    "partial ids": pairs(ids=[3, -1, 3, 4], image=[0, 0, 1, 1], scene=[0, 0, 0, 0]),
    "two classes": pairs(instance=[0, 1, 0, 1], image=[0, 0, 0, 0], cls=[0, 1, 0, 0]),
}


@pytest.mark.parametrize("labels", CASES.values(), ids=CASES.keys())
def test_contrast_against_a_loop(labels: dict[str, torch.Tensor]) -> None:
    owner = [0, 0, 1, 2, 2, 2, 3]
    embed = unit(len(owner), seed=1)
    found, count = contrastive_loss(embed, torch.tensor(owner), labels)
    expected, trained = reference(embed, owner, labels)
    assert count == trained > 0
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_order_does_not_matter() -> None:
    labels, owner = CASES["partial ids"], torch.tensor([0, 0, 1, 2, 3])
    embed = unit(5, seed=2)
    base = contrastive_loss(embed, owner, labels)[0]
    order = torch.tensor([3, 0, 4, 2, 1])
    torch.testing.assert_close(contrastive_loss(embed[order], owner[order], labels)[0], base)


def test_a_single_instance_has_nothing_to_be_told_from() -> None:
    embed = unit(3, seed=3).requires_grad_()
    loss, count = contrastive_loss(embed, torch.zeros(3, dtype=torch.long), pairs(image=[0]))
    assert (loss.item(), count) == (0.0, 0)
    assert torch.equal(torch.autograd.grad(loss, embed)[0], torch.zeros(3, 6))


def test_good_embeddings_cost_less_than_swapped_ones() -> None:
    labels, owner = CASES["two views"], torch.arange(4)
    good = torch.eye(6)[[0, 1, 0, 1]]
    assert contrastive_loss(good, owner, labels)[0] < 1e-3
    assert contrastive_loss(good[[0, 1, 1, 0]], owner, labels)[0] > 5


def test_items_and_counts() -> None:
    loss, raw, batch = case()
    batch["motion"] = batch["motion"].double()
    batch["motion"][1] = torch.nan  # no next frame
    assigned = make_assignment()
    items, counts = loss(raw, assigned, batch)
    assert list(items) == ["reid_loss", "next_loss"]
    assert counts == {"reid_loss": 3, "next_loss": 2}
    at = [(b, a) for b, a in assigned.fg_BA.nonzero().tolist() if int(assigned.instance_BA[b, a]) != 1]
    error = (torch.stack([raw["next"][b, :, a] for b, a in at]) - batch["motion"][[0, 2]]).abs()
    expected = torch.where(error < 0.1, error**2 / 0.2, error - 0.05).mean() * ARGS.motion
    assert items["next_loss"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_embedding_is_read_where_the_model_puts_the_box() -> None:
    loss, raw, batch = case(next_box=False)
    assigned, head = make_assignment(), loss.head
    boxes = host.decode_boxes(head, raw)[:, :4]
    dense = loss.branch.decode(raw, boxes, head.anchors, head.strides).transpose(1, 2)
    pairs_of = {k: batch[k].flatten() for k in ("cls", "has_id", "ids", "instance", "image", "scene")}
    expected, count = contrastive_loss(dense[assigned.fg_BA], assigned.instance_BA[assigned.fg_BA], pairs_of)
    items, counts = loss(raw, assigned, batch)
    assert list(items) == ["reid_loss"]
    assert counts == {"reid_loss": count}
    torch.testing.assert_close(items["reid_loss"], expected * ARGS.reid)


def test_a_pasted_mirror_is_left_out() -> None:
    loss, raw, batch = case(next_box=False)
    pasted = {**batch, "instance": torch.tensor([0, -1, 2])}
    garbage = {**pasted, "image": torch.tensor([0, 5, 1]), "scene": torch.tensor([0, 5, 1])}
    found, again = (loss(raw, make_assignment(), x) for x in (pasted, garbage))
    assert found == again
    assert found[1] == {"reid_loss": 2}


def test_nothing_labelled_and_nothing_assigned_give_a_zero_that_reaches_every_weight() -> None:
    loss, raw, batch = case()
    assigned = make_assignment()
    nothing = type(assigned)(**{**vars(assigned), "fg_BA": torch.zeros_like(assigned.fg_BA)})
    unknown = {**batch, "instance": torch.full((3,), -1), "motion": torch.full((3, 4), torch.nan)}
    empty = {**batch, **{k: batch[k][:0] for k in ("cls", "ids", "has_id", "instance", "image", "scene", "motion")}}
    for how, labels in ((assigned, unknown), (nothing, batch), (nothing, empty)):
        items, counts = loss(raw, how, labels)
        assert counts == {"reid_loss": 0, "next_loss": 0}
        assert [v.item() for v in items.values()] == [0.0, 0.0]
        found = torch.autograd.grad(sum(items.values()), list(loss.branch.parameters()), retain_graph=True)
        assert all((g == 0).all() for g in found)


def test_gradients() -> None:
    labels, owner = CASES["partial ids"], torch.tensor([0, 0, 1, 2, 3])
    embed = unit(5, seed=3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: contrastive_loss(x, owner, labels)[0], (embed,))
    target = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    moved = (target + 0.3 * torch.randn(5, 4, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: motion_loss(x, target), (moved,))
