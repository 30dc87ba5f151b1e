"""The sum of the losses: its keys, its gains, and that no parameter is left without a gradient."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from support.models import make_batch, tiny_model
from support.temporal import make_windows, tiny_temporal
from torch import distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel

from yolo_multitask.tasks import SPECS

LABELS = list(itertools.product([True, False], repeat=3))


def labelled_batch(boxes: bool, masks: bool, keypoints: bool) -> dict[str, Any]:
    """Return a batch with or without instances, polygons and keypoints."""
    batch = make_batch()
    batch["has_mask"][:] = masks
    batch["has_keypoints"][:] = keypoints
    if not boxes:
        batch |= {k: v[:0] for k, v in batch.items() if len(v) == 3}
        batch["masks"].zero_()
    return batch


@pytest.mark.parametrize("labels", LABELS)
def test_keys_and_gradients_do_not_depend_on_labels(labels: tuple[bool, bool, bool]) -> None:
    model = tiny_model(nc=1).train()
    loss, items = model(labelled_batch(*labels))
    assert list(items) == [name for spec in SPECS.values() for name in spec.losses]
    assert len(loss) == len(items)
    boxes, masks, keypoints = labels
    assert (items["seg_loss"] > 0) == (boxes and masks)
    assert (items["pose_loss"] > 0) == (boxes and keypoints)
    assert items["cls_loss"] > 0
    assert (items.counts["seg_loss"] > 0) == (boxes and masks)
    assert (items.counts["kobj_loss"] > 0) == (boxes and keypoints)
    loss.sum().backward()
    missing = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []


def test_gains_and_batch_size_scale_the_losses() -> None:
    model = tiny_model(nc=1).train()
    batch = make_batch()
    torch.manual_seed(0)  # the same points of a box are hidden each time
    base_loss, base = model(batch)
    torch.testing.assert_close(base_loss.detach(), torch.stack(list(base.values())) * 2)
    gains = {g: n for spec in SPECS.values() for g, n in zip(spec.gains, spec.losses, strict=True)}
    for gain, name in gains.items():
        before = getattr(model.args, gain)
        setattr(model.args, gain, before * 2)
        model.criterion = None
        torch.manual_seed(0)
        _, items = model(batch)
        setattr(model.args, gain, before)
        for key, value in items.items():
            torch.testing.assert_close(value, base[key] * (2 if key == name else 1), msg=f"{gain} on {key}")


def test_tasks_of_the_run_choose_the_losses() -> None:
    model = tiny_model(nc=1).train()
    model.args.tasks = ["detect", "pose"]
    assert "seg_loss" not in model(make_batch())[1]


def test_a_small_batch_can_be_learned() -> None:
    torch.manual_seed(0)
    model = tiny_model(nc=1).train()
    batch = make_batch()
    optimiser = torch.optim.Adam(model.parameters(), 2e-3)
    history = []
    for _ in range(60):
        loss, items = model(batch)
        optimiser.zero_grad()
        loss.sum().backward()
        optimiser.step()
        history.append(items)
    for name in history[0]:
        assert history[-1][name] < history[0][name] * 0.7, name


def _worker(rank: int, port_file: str, out: str) -> None:
    """Train one step of a two-process run in which only one process has labels of each kind."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{port_file}", rank=rank, world_size=2)
    torch.manual_seed(0)
    model = tiny_model(nc=1).train()
    model.criterion = model.init_criterion()
    parallel = DistributedDataParallel(model)  # without find_unused_parameters: every parameter must get a gradient
    for step in range(2):
        first = rank == step
        loss, _ = parallel(labelled_batch(True, first, not first) if step == 0 else labelled_batch(first, True, True))
        loss.sum().backward()
    grads = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    torch.save(grads, f"{out}/{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_with_different_labels(tmp_path: Path) -> None:
    multiprocessing.start_processes(_worker, (str(tmp_path / "store"), str(tmp_path)), nprocs=2, start_method="spawn")
    first, second = (torch.load(tmp_path / f"{r}.pt") for r in range(2))
    assert first.abs().sum() > 0
    torch.testing.assert_close(first, second)


POSE_ITEMS = ["box_loss", "cls_loss", "dfl_loss", "pose_loss", "kobj_loss"]
TRACK_ITEMS = ["pos_loss", "conf_loss"]


@pytest.mark.parametrize(
    ("tasks", "names"),
    [(("pose", "track"), POSE_ITEMS + TRACK_ITEMS), (("pose",), POSE_ITEMS), (("track",), TRACK_ITEMS)],
)
@pytest.mark.parametrize("labelled", [True, False])
def test_heads_side_by_side(tasks: tuple[str, ...], names: list[str], labelled: bool) -> None:
    model = tiny_temporal(tasks=tasks).train()
    batch = make_windows()
    if not labelled:
        batch["points_labelled"][:] = False
        batch["has_keypoints"][:] = False
        batch["unlabelled"] = torch.ones(2, 1, dtype=torch.bool)
        batch |= {k: batch[k][:0] for k in ("batch_idx", "cls", "bboxes", "keypoints", "has_keypoints")}
    loss, items = model(batch)
    assert list(items) == names
    torch.testing.assert_close(loss.detach(), torch.stack(list(items.values())) * 2)
    assert all((value > 0) == labelled for value in items.values()), items
    loss.sum().backward()
    needed = model.needed_layers()
    parameters = [(n, p) for n, p in model.named_parameters() if int(n.split(".")[1]) in needed]
    assert [n for n, p in parameters if p.requires_grad and p.grad is None] == []
    _, again = model.eval()(batch)
    assert list(again) == names


def test_tasks_of_the_run_choose_the_heads_that_are_trained() -> None:
    model = tiny_temporal().train()
    model.args.tasks = ["detect", "track"]
    loss, items = model(make_windows())
    assert list(items) == TRACK_ITEMS
    loss.sum().backward()
    assert all(p.grad is None for p in model.head.parameters())
    model.criterion, model.args.tasks = None, ["detect"]
    with pytest.raises(ValueError, match="leave nothing to train of a model that has \\['detect', 'pose', 'track'\\]"):
        model(make_windows())


def test_the_pose_head_of_a_window_has_the_losses_of_the_shared_head() -> None:
    """The same features, weights and labels give the same numbers in either layout."""
    shared = tiny_model(tasks=("pose",), nc=1).train()
    windows = tiny_temporal(frames=1, channels=3).train()
    windows.load(shared, verbose=False)
    batch = make_windows(frames=1, channels=3)
    _, expected = shared(batch)
    _, found = windows(batch)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=name)


@pytest.mark.parametrize(
    ("gain", "name"),
    [("track_pos", "pos_loss"), ("track_conf", "conf_loss"), ("pose", "pose_loss"), ("box", "box_loss")],
)
def test_gains_of_heads_side_by_side(gain: str, name: str) -> None:
    model = tiny_temporal().train()
    batch = make_windows()
    _, base = model(batch)
    setattr(model.args, gain, getattr(model.args, gain) * 2)
    model.criterion = None
    _, items = model(batch)
    for key, value in items.items():
        torch.testing.assert_close(value, base[key] * (2 if key == name else 1), msg=f"{gain} on {key}")
