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
    "detect": (DetectionModel, "yolov8n.yaml", "yolo11n.yaml", ()),
    "segment": (SegmentationModel, "yolov8n-seg.yaml", "yolo11n-seg.yaml", ("segment",)),
    "pose": (PoseModel, "yolov8n-pose.yaml", "yolo11n-pose.yaml", ("pose",)),
}


def pair(task: str, family: str, nc: int = 3) -> tuple[torch.nn.Module, MultiTaskModel]:
    """Return a stock model with random weights and ours with one branch, loaded from it."""
    build, v8, v11, tasks = STOCK[task]
    stock = build(v8 if family == "yolov8n" else v11, nc=nc, verbose=False)
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


@pytest.mark.parametrize(("task", "overlap"), [("detect", True), ("segment", True), ("segment", False), ("pose", True)])
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
