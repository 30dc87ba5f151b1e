"""A new branch takes over filters of the layers beside it."""

from __future__ import annotations

from copy import deepcopy

import torch
from support.models import randomise, tiny_model

from yolo_multitask.nn.siblings import start_from_siblings


def test_filters_come_from_masks_and_boxes() -> None:
    model = tiny_model(tasks=("segment", "pose"), kpt_shape=(17, 3))
    randomise(model)
    head = model.head
    before = {k: v.clone() for k, v in head.state_dict().items()}
    width = head.branches["pose"].convs[0][0].conv.out_channels
    taken = start_from_siblings(head, "pose")
    assert taken == {"segment": 32, "detect": width - 32}
    changed = {k for k, v in head.state_dict().items() if not torch.equal(v, before[k])}
    assert changed
    assert all(
        k.startswith("branches.pose.convs.") and ".2." not in k.removeprefix("branches.pose.convs.2") for k in changed
    )
    for stack, masks in zip(head.branches["pose"].convs, head.branches["segment"].convs, strict=True):
        order = masks[0].bn.weight.abs().argsort(descending=True)
        assert torch.equal(stack[0].conv.weight[:32], masks[0].conv.weight[order])


def test_the_filters_give_the_siblings_values() -> None:
    """The part that comes from the mask branch computes what that one computes, in the order of its strength."""
    model = tiny_model(tasks=("segment", "pose"), kpt_shape=(17, 3))
    randomise(model)
    start_from_siblings(model.head, "pose")
    mine, theirs = (deepcopy(model.head.branches[t].convs[0]).eval() for t in ("pose", "segment"))
    x = torch.rand(1, mine[0].conv.in_channels, 6, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found, expected = mine[1](mine[0](x))[:, :32], theirs[1](theirs[0](x))
    order = theirs[1].bn.weight.abs().argsort(descending=True)
    torch.testing.assert_close(found, expected[:, order], rtol=1e-5, atol=1e-5)


def test_identities_have_no_siblings() -> None:
    model = tiny_model(tasks=("pose", "track"), kpt_shape=(5, 3))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert start_from_siblings(model.head, "track") == {}
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
