"""Embeddings are read from the picture where the box is, whatever predicted the box; displacements move that box."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.models import make_batch, randomise, tiny_yaml

from yolo_multitask import host
from yolo_multitask.data.sequences import relative_displacement
from yolo_multitask.nn.branches.track import COLUMNS, ROWS, WIDTH, TrackBranch
from yolo_multitask.nn.network import MultiTaskModel, layer_channels

STRIDE = 8  # of the deepest layer that appearance is read from


def track_model(**keys: Any) -> MultiTaskModel:
    """Return a small model with random weights and the track branch alone, in evaluation mode."""
    model = MultiTaskModel({**tiny_yaml(), **keys}, nc=2, tasks=("track",), verbose=False).eval()
    randomise(model)
    return model


def branch_of(model: MultiTaskModel) -> TrackBranch:
    """Return the track branch."""
    branch = model.head.branches["track"]
    assert isinstance(branch, TrackBranch)
    return branch


def small_branch(**kwargs: Any) -> TrackBranch:
    """Return a branch alone, with random weights, in evaluation mode."""
    torch.manual_seed(0)
    branch = TrackBranch((4,), (2, 3), embed_dim=8, **kwargs).eval()
    randomise(branch)
    return branch


def maps(batch: int = 2, seed: int = 0) -> list[torch.Tensor]:
    """Return appearance at two strides of a picture that is wider than high."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, WIDTH, h, 2 * h, generator=generator) for h in (12, 6)]


def test_the_embedding_changes_no_layer_that_it_reads() -> None:
    model = track_model(next=True)
    model.train()
    branch = branch_of(model)
    raw = model(torch.rand(2, 3, 64, 96))
    boxes = torch.tensor([[0.5, 0.5, 0.4, 0.6], [0.3, 0.4, 0.2, 0.5]])
    branch.embed(raw["appearance"], boxes, torch.tensor([0, 1])).sum().backward()
    learning = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    own = f"model.{model.head.i}.branches.track."
    assert learning == {own + n for n, _ in branch.named_parameters() if not n.startswith("motion.")}


@pytest.mark.parametrize("size", [(64, 64), (64, 96)])
def test_every_anchor_has_the_embedding_of_its_box(size: tuple[int, int]) -> None:
    model = track_model()
    branch, layout = branch_of(model), model.head.layout
    with torch.no_grad():
        rows, raw = model(torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1)))
        boxes = host.decode_boxes(model.head, raw)[:, :4].transpose(1, 2) / torch.tensor([*size[::-1], *size[::-1]])
        image, anchor = torch.tensor([(1, 3), (0, 40), (1, 60), (0, 2), (0, 77)]).T
        found = branch.embed(raw["appearance"], boxes[image, anchor], image)
    dense = rows[:, layout.embed]  # with two classes a row is as long as after NMS
    assert dense.shape[1] == found.shape[1] == 16
    torch.testing.assert_close(dense.norm(dim=1), torch.ones_like(dense[:, 0]))
    torch.testing.assert_close(dense[image, :, anchor], found)
    assert torch.pdist(found).min() > 0.02, "different places look different"


def test_only_the_box_counts_not_the_anchor() -> None:
    model = track_model()
    branch, head = branch_of(model), model.head
    with torch.no_grad():
        _, raw = model(torch.rand(1, 3, 64, 96))
        boxes = torch.tensor([50.0, 30.0, 20.0, 40.0])[None, :, None].expand(1, 4, raw["scores"].shape[2])
        dense = branch.decode(raw, boxes, head.anchors, head.strides)[:, :16]
    torch.testing.assert_close(dense, dense[:, :, :1].expand_as(dense))


def test_an_embedding_moves_with_the_picture() -> None:
    model = track_model()
    picture = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    box, shift = torch.tensor([[104.0, 112.0, 24.0, 32.0]]), torch.tensor([2 * STRIDE, -STRIDE, 0, 0])
    found = []
    with torch.no_grad():
        for moved, where in ((picture, box), (picture.roll((-STRIDE, 2 * STRIDE), (2, 3)), box + shift)):
            appearance = model(moved)[1]["appearance"]
            found.append(branch_of(model).embed(appearance, where / 224, torch.zeros(1, dtype=torch.long)))
        elsewhere = branch_of(model).embed(appearance, box / 224, torch.zeros(1, dtype=torch.long))
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)
    assert (elsewhere - found[0]).abs().max() > 0.01


def test_samples_against_a_loop() -> None:
    """Bilinear values at the centres of a grid of cells; beyond the border the nearest value."""
    branch, appearance = small_branch(), maps()
    boxes = torch.tensor([[[0.5, 0.5, 0.4, 0.6], [0.9, 0.1, 0.6, 0.4]], [[0.3, 0.6, 0.1, 0.2], [0.5, 0.5, 1.0, 1.0]]])
    found = branch.sample(appearance, boxes)
    assert found.shape == (2, WIDTH, ROWS * COLUMNS, 2)
    for image in range(2):
        for n, (cx, cy, w, h) in enumerate(boxes[image].tolist()):
            for p in range(ROWS * COLUMNS):
                x = cx + ((p % COLUMNS + 0.5) / COLUMNS - 0.5) * w
                y = cy + ((p // COLUMNS + 0.5) / ROWS - 0.5) * h
                expected = sum(bilinear(level[image], x, y) for level in appearance)
                torch.testing.assert_close(found[image, :, p, n], expected, rtol=1e-4, atol=1e-5)


def bilinear(level: torch.Tensor, x: float, y: float) -> torch.Tensor:
    """Return the values (C,) of a map (C, H, W) at a point given as shares of its sides; a cell is at its centre."""
    _, height, width = level.shape
    column, row = min(max(x * width - 0.5, 0), width - 1), min(max(y * height - 0.5, 0), height - 1)
    left, top = int(column), int(row)
    right, bottom, dx, dy = min(left + 1, width - 1), min(top + 1, height - 1), column - left, row - top
    upper = level[:, top, left] * (1 - dx) + level[:, top, right] * dx
    return upper * (1 - dy) + (level[:, bottom, left] * (1 - dx) + level[:, bottom, right] * dx) * dy


def test_boxes_may_come_in_any_order_and_be_missing_in_an_image() -> None:
    branch, appearance = small_branch(), maps(batch=3)
    boxes = torch.rand(5, 4, generator=torch.Generator().manual_seed(2))
    image = torch.tensor([2, 0, 2, 0, 2])
    found = branch.embed(appearance, boxes, image)
    for box, i, embedding in zip(boxes, image.tolist(), found, strict=True):
        alone = branch.embed([m[i : i + 1] for m in appearance], box[None], torch.zeros(1, dtype=torch.long))
        torch.testing.assert_close(alone[0], embedding)


def test_training_hides_whole_points_of_a_box(monkeypatch: pytest.MonkeyPatch) -> None:
    branch = small_branch()
    samples = torch.rand(1, WIDTH, ROWS * COLUMNS, 200, generator=torch.Generator().manual_seed(3))
    seen: list[torch.Tensor] = []
    project = torch.nn.functional.conv1d

    def spy(x: torch.Tensor, *args: torch.Tensor) -> torch.Tensor:
        seen.append(x[0].unflatten(0, (WIDTH, -1)).permute(2, 0, 1))
        return project(x, *args)

    monkeypatch.setattr(torch.nn.functional, "conv1d", spy)
    with torch.no_grad():
        assert torch.equal(branch.describe(samples), branch.describe(samples))
        branch.norm.training, branch.training = False, True
        branch.describe(samples)
    whole, _, hidden = seen
    gone = (hidden == 0).all(1)
    assert gone.float().mean() == pytest.approx(0.3, abs=0.03)
    torch.testing.assert_close(hidden.transpose(1, 2)[~gone], whole.transpose(1, 2)[~gone] / 0.7)


def next_rows(displacement: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """Return the next boxes (A, 4) that a branch decodes from displacements (A, 4) and cx cy w h pixels (A, 4)."""
    branch = small_branch(next_box=True)
    raw: Any = {"appearance": maps(batch=1), "feats": [torch.zeros(1, 4, 8, 16)], "next": displacement.T[None]}
    strides = torch.full((1, len(boxes)), 8.0)
    with torch.no_grad():
        return branch.decode(raw, boxes.T[None], torch.zeros(2, len(boxes)), strides)[0, 8:].T


def test_no_displacement_is_the_box_itself() -> None:
    boxes = torch.tensor([[40.0, 30.0, 20.0, 10.0], [100.0, 20.0, 8.0, 40.0]])
    found = next_rows(torch.zeros(2, 4), boxes)
    assert found.tolist() == [[30.0, 25.0, 50.0, 35.0], [96.0, 0.0, 104.0, 40.0]]


def test_next_boxes_are_what_the_labels_say() -> None:
    rng = np.random.default_rng(0)
    now, then = (rng.uniform(5, 60, (6, 4)).astype(np.float32) for _ in range(2))
    found = next_rows(torch.from_numpy(relative_displacement(now, then)), torch.from_numpy(now))
    centre, half = then[:, :2], then[:, 2:] / 2
    np.testing.assert_allclose(found.numpy(), np.concatenate((centre - half, centre + half), 1), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("next_box", [False, True])
def test_half_precision(next_box: bool) -> None:
    model = track_model(next=next_box)
    x = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        full, raw = model(x)
        boxes, embed = full[:, :4], full[:, model.head.layout.embed]
        halves = {k: [m.half() for m in v] if isinstance(v, list) else v.half() for k, v in raw.items()}
        anchors, strides = model.head.anchors.half(), model.head.strides.half()
        found = branch_of(model).half().decode(halves, boxes.half(), anchors, strides)
        assert model.half()(x.half())[0].isfinite().all()
    assert found.dtype == torch.float16
    torch.testing.assert_close(found[:, :16].float(), embed, rtol=0, atol=2e-3)


@pytest.mark.parametrize("name", ["yolov8s", "yolov8m", "yolo11n", "yolo11s"])
def test_channels_of_any_scale(name: str) -> None:
    model = MultiTaskModel(f"{name}-multitask.yaml", nc=1, tasks=("track",), verbose=False)
    taps = model.yaml["embed_from"]
    found = [conv.in_channels for conv in branch_of(model).reduce]
    assert found == layer_channels(model, taps, 3)
    assert model.head.f[model.head.nl :] == taps
    assert set(taps) <= set(model.save)


def test_looking_for_the_channels_changes_nothing() -> None:
    model = track_model().train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert layer_channels(model, [4, 0, 4], 3) == [32, 8, 32]
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(m._forward_hooks for m in model.modules())


@pytest.mark.parametrize("given", [..., None, []])
def test_without_layers_to_read_from_it_reads_the_levels(given: Any) -> None:
    config = {k: v for k, v in {**tiny_yaml(), "embed_from": given}.items() if v is not ...}
    model = MultiTaskModel(config, nc=1, tasks=("track",), verbose=False)
    assert model.head.f == [15, 18, 21]
    assert [conv.in_channels for conv in branch_of(model).reduce] == [32, 64, 128]
    loss, items = model_with_args(model)(make_batch())
    loss.sum().backward()
    assert items["reid_loss"] > 0
    assert model.eval()(torch.rand(1, 3, 64, 64))[0].shape[1] == 4 + 1 + 20


def model_with_args(model: MultiTaskModel) -> MultiTaskModel:
    """Attach training arguments."""
    from ultralytics.utils import IterableSimpleNamespace

    from yolo_multitask.args import full_cfg

    model.args = IterableSimpleNamespace(**full_cfg())
    return model


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"embed_from": [0, 99]}, r"'embed_from' must be a list of layers in 0\.\.21, got \[0, 99\]"),
        ({"embed_from": [22]}, r"'embed_from' must be a list of layers in 0\.\.21, got \[22\]"),
        ({"embed_from": [-1]}, r"'embed_from' must be a list of layers"),
        ({"embed_from": ["0"]}, r"'embed_from' must be a list of layers"),
        ({"embed_from": [True]}, r"'embed_from' must be a list of layers"),
        ({"embed_from": 4}, r"'embed_from' must be a list of layers in 0\.\.21, got 4"),
        ({"embed_from": 0}, r"'embed_from' must be a list of layers in 0\.\.21, got 0"),
        ({"embed_dim": 0}, "'embed_dim' must be a whole number of 1 or more, got 0"),
        ({"embed_dim": 1.5}, "'embed_dim' must be a whole number of 1 or more, got 1.5"),
        ({"embed_dim": True}, "'embed_dim' must be a whole number of 1 or more, got True"),
        ({"embed_dim": None}, "'embed_dim' must be a whole number of 1 or more, got None"),
        ({"next": 1}, r"'next' must be true or false \(predict the box in the next frame\), got 1"),
        ({"next": "yes"}, "'next' must be true or false"),
    ],
)
def test_keys_of_the_model_yaml(keys: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        MultiTaskModel({**tiny_yaml(), **keys}, nc=1, verbose=False)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*torch.jit.trace:FutureWarning")
@pytest.mark.filterwarnings("ignore:You are using the legacy TorchScript-based ONNX export:DeprecationWarning")
def test_traced_and_exported_graphs_give_the_same_rows(tmp_path: Path) -> None:
    import onnxruntime

    model = MultiTaskModel(tiny_yaml(), nc=2, verbose=False).eval()
    randomise(model)
    model.head.export = True
    first, second = (torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(s)) for s in (5, 6))
    with torch.no_grad():
        rows, proto = model(second)
        traced = torch.jit.trace(model, first)(second)
        dynamo = {"dynamo": False} if torch.__version__ >= "2.5" else {}
        torch.onnx.export(model, (first,), str(tmp_path / "a.onnx"), opset_version=17, input_names=["images"], **dynamo)
    assert rows.shape == (1, 4 + 2 + model.head.layout.extra, 126)
    found = onnxruntime.InferenceSession(tmp_path / "a.onnx").run(None, {"images": second.numpy()})
    assert torch.equal(traced[0], rows)
    assert torch.equal(traced[1], proto)
    np.testing.assert_allclose(found[0], rows.numpy(), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found[1], proto.numpy(), rtol=1e-3, atol=1e-4)
