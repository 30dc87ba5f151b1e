"""Mask loss: an independent reference, its invariances and its empty cases."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from support.losses import make_assignment, make_raw
from support.models import make_batch

from yolo_multitask.args import full_cfg
from yolo_multitask.losses.segment import SegmentLoss, mask_loss
from yolo_multitask.nn.branches import SegmentBranch

HEAD = SimpleNamespace(branches={"segment": SegmentBranch((8, 8, 8), nm=4, npr=8)})  # what the loss needs of one


class Args:
    """Arguments of a training run."""

    seg = 2.0
    overlap_mask = True


def reference(raw: dict, masks: torch.Tensor, size: int, only: set[int]) -> float:
    """Compute the loss with loops over instances and pixels."""
    assigned = make_assignment(size)
    total, count = 0.0, 0
    for image, anchor in assigned.fg_BA.nonzero().tolist():
        index, instance = int(assigned.gt_BA[image, anchor]), int(assigned.instance_BA[image, anchor])
        if instance not in only:
            continue
        logits = torch.einsum("m,mhw->hw", raw["mask_coefficient"][image, :, anchor], raw["proto"][image]).detach()
        x1, y1, x2, y2 = (assigned.boxes_BA4[image, anchor] / 4).tolist()
        height, width = logits.shape
        inside = 0.0
        for y in range(height):
            for x in range(width):
                if x1 <= x < x2 and y1 <= y < y2:
                    target = float(masks[image, y, x] == index + 1)
                    p = torch.sigmoid(logits[y, x])
                    inside -= float(target * torch.log(p) + (1 - target) * torch.log(1 - p))
        area = (x2 - x1) * (y2 - y1) / (height * width)
        total += inside / (height * width) / area
        count += 1
    return total / count


def test_against_a_loop() -> None:
    raw, batch, assigned = make_raw(), make_batch(dtype=torch.float64), make_assignment()
    for only in ({0, 1, 2}, {1}, {0, 2}):
        flags = torch.tensor([i in only for i in range(3)])
        loss, counts = SegmentLoss(HEAD, Args())(raw, assigned, {**batch, "has_mask": flags})
        assert set(loss) == {"seg_loss"}
        assert counts == {"seg_loss": len(only)}
        torch.testing.assert_close(
            loss["seg_loss"].item() / Args.seg, reference(raw, batch["masks"], 64, only), rtol=1e-6, atol=0
        )


def test_an_unlabelled_instance_changes_nothing() -> None:
    raw, batch, assigned = make_raw(), make_batch(dtype=torch.float64), make_assignment()
    flags = {"has_mask": torch.tensor([True, False, True])}
    base = SegmentLoss(HEAD, Args())(raw, assigned, {**batch, **flags})[0]["seg_loss"]
    masks = batch["masks"].clone()
    masks[0, 0:3, 13:16] = 2  # the unlabelled instance's pixels, outside the box of the labelled one
    other = SegmentLoss(HEAD, Args())(raw, assigned, {**batch, **flags, "masks": masks})[0]["seg_loss"]
    assert base == other


def test_both_encodings_agree() -> None:
    raw, batch, assigned = make_raw(), make_batch(dtype=torch.float64), make_assignment()
    maps = batch["masks"]
    stacked = torch.stack([maps[0] == 1, maps[0] == 2, maps[1] == 1]).double()
    args = (raw["mask_coefficient"], raw["proto"])
    overlap = mask_loss(*args, maps, assigned.fg_BA, assigned, overlap=True)
    separate = mask_loss(*args, stacked, assigned.fg_BA, assigned, overlap=False)
    torch.testing.assert_close(overlap, separate)


def test_nothing_labelled_and_nothing_assigned_give_a_connected_zero() -> None:
    raw, batch, assigned = make_raw(), make_batch(dtype=torch.float64), make_assignment()
    nothing = torch.zeros_like(assigned.fg_BA)
    cases = [
        (assigned, {**batch, "has_mask": torch.zeros(3, dtype=torch.bool)}),
        (assigned, {k: v for k, v in batch.items() if k != "masks"}),
        (type(assigned)(**{**vars(assigned), "fg_BA": nothing}), batch),
    ]
    for case, labels in cases:
        loss, counts = SegmentLoss(HEAD, Args())(raw, case, labels)
        assert counts == {"seg_loss": 0}
        assert loss["seg_loss"] == 0
        grads = torch.autograd.grad(loss["seg_loss"], [raw["mask_coefficient"], raw["proto"]])
        assert all((g == 0).all() for g in grads)


def test_gradcheck() -> None:
    raw, batch, assigned = make_raw(nm=2), make_batch(dtype=torch.float64), make_assignment()
    inputs = raw["mask_coefficient"], raw["proto"]
    assert torch.autograd.gradcheck(
        lambda c, p: mask_loss(c, p, batch["masks"], assigned.fg_BA, assigned, overlap=True), inputs, fast_mode=True
    )


def test_default_gain_is_that_of_the_host() -> None:
    cfg = full_cfg()
    assert cfg["seg"] == cfg["box"]
