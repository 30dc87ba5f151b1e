"""A shared weight gives the stock head's numbers, and a full label the stock loss."""

from __future__ import annotations

import pytest
import torch
from support.models import make_batch, randomise
from ultralytics.nn.tasks import DetectionModel, PoseModel, SegmentationModel
from ultralytics.utils import IterableSimpleNamespace

from yolo_multitask.args import full_cfg
from yolo_multitask.nn.network import MultiTaskModel

STOCK = {
    "detect": (DetectionModel, "", ()),
    "segment": (SegmentationModel, "-seg", ("segment",)),
    "pose": (PoseModel, "-pose", ("pose",)),
}


def pair(task: str, family: str, nc: int = 3) -> tuple[torch.nn.Module, MultiTaskModel]:
    """Return a stock model with random weights and ours with one branch, loaded from it."""
    build, suffix, tasks = STOCK[task]
    stock = build(f"{family}{suffix}.yaml", nc=nc, verbose=False)
    randomise(stock)
    ours = MultiTaskModel(f"{family}-multitask.yaml", nc=nc, tasks=tasks, verbose=False)
    report = ours.load(stock, verbose=False)
    assert report.fresh == []
    assert all(taken == total for _, taken, total in report.parts.values())
    return stock, ours


def rows(output: tuple) -> torch.Tensor:
    """Return the decoded rows of an evaluation-mode output."""
    return output[0][0] if isinstance(output[0], tuple) else output[0]


@pytest.mark.parametrize("family", ["yolov8n", "yolo11n"])
@pytest.mark.parametrize("task", list(STOCK))
def test_outputs_equal_stock(task: str, family: str) -> None:
    stock, ours = pair(task, family)
    x = torch.rand(2, 3, 96, 64, generator=torch.Generator().manual_seed(1))
    for model in (stock, ours):
        model.eval()
    with torch.no_grad():
        expected, found = stock(x), ours(x)
    assert rows(expected).std() > 0
    torch.testing.assert_close(rows(found), rows(expected), rtol=1e-5, atol=1e-5)
    for key in set(expected[1]) - {"feats"}:
        torch.testing.assert_close(found[1][key], expected[1][key], rtol=1e-5, atol=1e-5)
    if task == "segment":
        torch.testing.assert_close(found[0][1], expected[0][1], rtol=1e-5, atol=1e-5)


def raw_of_heads(raw: dict) -> list[dict]:
    """Return the raw outputs of each head."""
    return [raw["one2many"], raw["one2one"]] if "one2one" in raw else [raw]


@pytest.mark.parametrize("end2end", [False, True])
@pytest.mark.parametrize("task", list(STOCK))
def test_two_heads_give_what_the_stock_ones_give(task: str, end2end: bool) -> None:
    stock, ours = pair(task, "yolo26n")
    x = torch.rand(2, 3, 96, 64, generator=torch.Generator().manual_seed(1))
    for model in (stock, ours):
        model.eval().end2end = end2end
    with torch.no_grad():
        expected, found = stock(x), ours(x)
    assert rows(expected).shape[1 if end2end else 2] == 126  # anchors, fewer than `max_det`
    assert torch.equal(rows(found), rows(expected))
    if task == "segment":
        assert torch.equal(found[0][1], expected[0][1])
    for model in (stock, ours):
        model.train()
    for theirs, own in zip(raw_of_heads(stock(x)), raw_of_heads(ours(x)), strict=True):
        if isinstance(theirs.get("proto"), tuple):
            theirs["proto"], theirs["semantic"] = theirs["proto"]
        assert set(own) == set(theirs)
        for key in set(theirs) - {"feats"}:
            assert torch.equal(own[key], theirs[key]), key
    for model in (stock, ours):
        model.eval().end2end = end2end
        model.fuse(verbose=False)
    assert (ours.head.cv2 is None) == end2end == (stock.model[-1].cv2 is None)
    with torch.no_grad():
        torch.testing.assert_close(rows(ours(x)), rows(stock(x)), rtol=1e-5, atol=1e-5)
    assert ours.end2end == end2end


LOSSES = [("detect", True), ("segment", True), ("segment", False), ("pose", True)]


@pytest.mark.parametrize("updates", [0, 7])
@pytest.mark.parametrize(("task", "overlap"), LOSSES)
def test_losses_of_two_heads_equal_stock(task: str, overlap: bool, updates: int) -> None:
    stock, ours = pair(task, "yolo26n", nc=2)
    batch = make_batch(64)
    batch["cls"][1] = 1
    maps = batch["masks"]
    batch["sem_masks"] = (maps == 2).float()  # class of each pixel, for the host alone
    if not overlap:
        batch["masks"] = torch.stack([maps[0] == 1, maps[0] == 2, maps[1] == 1]).float()
    for model in (stock, ours):
        model.args = IterableSimpleNamespace(**{**full_cfg(), "overlap_mask": overlap, "epochs": 10})
        model.train()
        model.criterion = model.init_criterion()
        for _ in range(updates):
            model.criterion.update()
    expected, found = stock(batch), ours(batch)
    assert set(found[1]) == set(expected[1])
    assert all(found[1][name] > 0 for name in expected[1])
    for name in expected[1]:
        torch.testing.assert_close(found[1][name], expected[1][name], rtol=1e-6, atol=0)
    torch.testing.assert_close(found[0].sum(), expected[0].sum(), rtol=1e-6, atol=0)
    expected[0].sum().backward()
    found[0].sum().backward()
    wanted = stock.model[0].conv.weight.grad
    torch.testing.assert_close(ours.model[0].conv.weight.grad, wanted, rtol=1e-3, atol=1e-5 * float(wanted.abs().max()))


@pytest.mark.parametrize(("task", "overlap"), LOSSES)
def test_losses_and_gradients_equal_stock(task: str, overlap: bool) -> None:
    stock, ours = pair(task, "yolov8n", nc=1)
    batch = make_batch(64)
    if not overlap:
        maps = batch["masks"]
        batch["masks"] = torch.stack([maps[0] == 1, maps[0] == 2, maps[1] == 1]).float()
    for model in (stock, ours):
        model.args = IterableSimpleNamespace(**{**full_cfg(), "overlap_mask": overlap})
        model.train()
    expected = stock(batch)
    found = ours(batch)
    names = {k for k, v in expected[1].items() if k != "sem_loss"}
    assert set(found[1]) == names
    for name in names:
        torch.testing.assert_close(found[1][name], expected[1][name], rtol=1e-4, atol=1e-5)
        assert found[1][name] > 0
    expected[0].sum().backward()
    found[0].sum().backward()
    torch.testing.assert_close(ours.model[0].conv.weight.grad, stock.model[0].conv.weight.grad, rtol=1e-3, atol=1e-5)


def test_both_at_once_keeps_the_first_checkpoint() -> None:
    seg = SegmentationModel("yolov8n-seg.yaml", nc=3, verbose=False)
    pose = PoseModel("yolov8n-pose.yaml", nc=1, verbose=False)
    randomise(seg, 1)
    randomise(pose, 2)
    ours = MultiTaskModel("yolov8n-multitask.yaml", nc=3, verbose=False)
    report = ours.load([seg, pose], verbose=False)
    assert report.fresh == ["track"]
    x = torch.rand(1, 3, 64, 64)
    for model in (seg, ours):
        model.eval()
    with torch.no_grad():
        expected, found = seg(x), ours(x)
    layout = ours.head.layout
    assert torch.equal(found[0][0][:, :7], expected[0][0][:, :7])  # boxes and scores
    assert torch.equal(
        found[0][0][:, 7 + layout.nk : 7 + layout.nk + layout.nm], expected[0][0][:, 7:]
    )  # mask coefficients
    assert torch.equal(found[0][1], expected[0][1])
    for key, value in pose.model[-1].cv4.state_dict().items():
        assert torch.equal(ours.head.branches["pose"].convs.state_dict()[key], value)


def test_classes_of_pixels_are_taken_by_name() -> None:
    stock = SegmentationModel("yolo26n-seg.yaml", nc=3, verbose=False)
    randomise(stock)
    stock.names = {0: "cat", 1: "person", 2: "dog"}
    ours = MultiTaskModel("yolo26n-multitask.yaml", nc=2, tasks=("segment",), verbose=False)
    ours.names = {0: "person", 1: "boat"}
    before = ours.head.branches["segment"].proto.semseg[2].weight.clone()
    ours.load(stock, verbose=False)
    last = ours.head.branches["segment"].proto.semseg[2].weight
    assert torch.equal(last[0], stock.model[-1].proto.semseg[2].weight[1])
    assert torch.equal(last[1], before[1])
