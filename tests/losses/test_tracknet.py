"""Losses of the TrackNet head: an independent reference, invariances, hidden objects, empty cases, and a tiny ball."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.temporal import make_windows, tiny_temporal

from yolo_multitask.losses.tracknet import TrackNetLoss, confidence_loss, distribution_loss, point_targets
from yolo_multitask.nn.features import FEATURE_SETS
from yolo_multitask.nn.heads import TrackNet
from yolo_multitask.nn.heads.tracknet import elements

SIZE, GROUPS, REG_MAX = 64, 3, 16
STRIDES = (8, 16, 32)
ARGS = SimpleNamespace(track_pos=3.0, track_conf=2.0)
UNITS = {"offsets": [1 / 8] * 4, "offsets_next": [1 / 8] * 4 + [1.0] * 4, "box": [1.0] * 4}


def build(features: str = "offsets_next", nc: int = 2) -> TrackNet:
    head = TrackNet(nc, FEATURE_SETS[features].feat_no, GROUPS, REG_MAX, features, ch=(16, 16, 16))
    head.stride = torch.tensor(STRIDES, dtype=torch.float64)
    return head


def make_raw(head: TrackNet, seed: int = 0) -> dict[str, Any]:
    """Return random raw outputs, float64, that require gradients."""
    generator = torch.Generator().manual_seed(seed)
    count = GROUPS * sum((SIZE // s) ** 2 for s in STRIDES)
    rand = {"generator": generator, "dtype": torch.float64}
    return {
        "feats": [torch.zeros(2, head.no, SIZE // s, SIZE // s) for s in STRIDES],
        "positions": torch.randn(2, count, head.feat_no, REG_MAX, **rand).requires_grad_(),
        "scores": torch.randn(2, count, head.nc, **rand).requires_grad_(),
    }


def windows(nc: int = 2) -> dict[str, Any]:
    return make_windows(SIZE, GROUPS, nc=nc, dtype=torch.float64)


def reference(head: TrackNet, raw: dict[str, Any], batch: dict[str, Any]) -> tuple[float, float, int, int]:
    """Compute both losses with loops: position, class, elements with a position, points out of range."""
    name = head.features.name
    chosen: dict[tuple[int, int], tuple[int, tuple[bool, int], float, float, int]] = {}
    positive: set[tuple[int, int, int]] = set()
    unknown: set[tuple[int, int, int]] = set()
    start = 0
    for stride in STRIDES:
        side = SIZE // stride
        for image, group in (~batch["points_labelled"]).nonzero().tolist():
            for cell in range(side * side):
                unknown |= {(image, start + group * side * side + cell, c) for c in range(head.nc)}
        for p, (px, py) in enumerate((batch["points"] * SIZE).tolist()):
            image, group, cls, visible = (int(batch[f"points_{k}"][p]) for k in ("idx", "group", "cls", "visible"))
            if not batch["points_labelled"][image, group]:
                continue
            column, row = min(int(px // stride), side - 1), min(int(py // stride), side - 1)
            first = start + group * side * side
            element = first + row * side + column
            if visible != 3:
                positive.add((image, element, cls))
            for y in range(max(row - 1, 0), min(row + 2, side)):
                for x in range(max(column - 1, 0), min(column + 2, side)):
                    at, beside = (image, first + y * side + x), (y, x) != (row, column)
                    unknown.add((*at, cls))
                    centre = (x + 0.5) * stride, (y + 0.5) * stride
                    if at not in chosen or (beside, visible) < chosen[at][1]:
                        chosen[at] = (p, (beside, visible), *centre, stride)
        start += GROUPS * side * side
    log_p = raw["positions"].log_softmax(3)
    terms, trained, out = [], set(), 0
    for (image, element), (p, (beside, _), cx, cy, stride) in chosen.items():
        x, y = (batch["points"][p] * SIZE).tolist()
        values = [(x - cx), (cx - x), (y - cy), (cy - y)]
        parts = [(values, [max(v, 0) for v in values])]
        if name == "offsets_next" and batch["points_has_next"][p]:
            x, y = (batch["points_next"][p] * SIZE).tolist()
            values = [(x - cx), (cx - x), (y - cy), (cy - y)]
            parts.append((values, [max(v, 0) for v in values]))
        if name == "box":
            bx, by, w, h = (batch["points_boxes"][p] * SIZE).tolist()
            low, high = [cx - (bx - w / 2), cy - (by - h / 2)], [bx + w / 2 - cx, by + h / 2 - cy]
            parts = [(low, low), (high, high)]
        feature = 0
        for _, values in parts:
            bins = [v / stride / UNITS[name][feature + i] for i, v in enumerate(values)]
            if all(0 <= b <= REG_MAX - 1 for b in bins):
                trained.add((image, element))
                for i, b in enumerate(bins):
                    low_bin = min(int(b), REG_MAX - 2)
                    row_log = log_p[image, element, feature + i]
                    terms.append(-(row_log[low_bin] * (low_bin + 1 - b) + row_log[low_bin + 1] * (b - low_bin)).item())
            elif not beside:
                out += 1
            feature += len(values)
    scores = raw["scores"].tolist()

    def focal(score: float, target: bool) -> float:
        p = 1 / (1 + math.exp(-score))
        return 0.75 * (1 - p) ** 2 * -math.log(p) if target else 0.25 * p**2 * -math.log(1 - p)

    negative = sorted(
        (
            focal(scores[b][n][c], False)
            for b in range(2)
            for n in range(raw["scores"].shape[1])
            for c in range(head.nc)
            if (b, n, c) not in positive and (b, n, c) not in unknown
        ),
        reverse=True,
    )
    share = max(len(positive), int(batch["points_labelled"].sum()), 1)
    confidence = sum(focal(scores[b][n][c], True) for b, n, c in positive) + sum(negative[: 100 * share])
    return sum(terms) / max(len(terms), 1), confidence / share, len(trained), out


@pytest.mark.parametrize("features", ["offsets", "offsets_next", "box"])
@pytest.mark.parametrize("visible", [(1, 1, 1, 1), (1, 3, 2, 1), (3, 3, 3, 3)])
def test_against_a_loop(features: str, visible: tuple[int, ...]) -> None:
    head = build(features)
    raw, batch = make_raw(head), windows()
    batch["points_visible"] = torch.tensor(visible)
    batch["points_labelled"][1, 0] = False
    loss, counts = TrackNetLoss(head, ARGS)(raw, batch)
    position, confidence, trained, out = reference(head, raw, batch)
    assert set(loss) == {"pos_loss", "conf_loss"}
    assert counts == {"pos_loss": trained, "conf_loss": 5, "out_of_range": out}
    assert loss["pos_loss"].item() == pytest.approx(position * ARGS.track_pos, rel=1e-9)
    assert loss["conf_loss"].item() == pytest.approx(confidence * ARGS.track_conf, rel=1e-9)
    assert trained > 0


def test_a_next_point_beyond_the_range_is_counted_and_trains_nothing() -> None:
    head, batch = build(), windows()
    batch["points_next"][:] = torch.tensor([3.0, 0.5])  # three inputs away
    raw = make_raw(head)
    loss, counts = TrackNetLoss(head, ARGS)(raw, batch)
    assert counts["out_of_range"] == reference(head, raw, batch)[3] > 0
    batch["points_has_next"][:] = False
    without, counts = TrackNetLoss(head, ARGS)(raw, batch)
    assert counts["out_of_range"] == 0
    assert loss["pos_loss"] != without["pos_loss"]


def test_the_order_of_objects_and_of_images_does_not_matter() -> None:
    head, batch = build(), windows()
    raw = make_raw(head)
    expected = TrackNetLoss(head, ARGS)(raw, batch)[0]
    order = torch.tensor([2, 0, 3, 1])
    shuffled = batch | {k: v[order] for k, v in batch.items() if k.startswith("points") and k != "points_labelled"}
    for key, value in TrackNetLoss(head, ARGS)(raw, shuffled)[0].items():
        torch.testing.assert_close(value, expected[key])
    flipped = {**raw, "positions": raw["positions"].flip(0), "scores": raw["scores"].flip(0)}
    other = batch | {"points_idx": 1 - batch["points_idx"]}
    for key, value in TrackNetLoss(head, ARGS)(flipped, other)[0].items():
        torch.testing.assert_close(value, expected[key])


def targets(batch: dict[str, Any], nc: int = 2) -> Any:
    shapes = [(SIZE // s, SIZE // s) for s in STRIDES]
    like = torch.zeros(1, dtype=torch.float64)
    return point_targets(FEATURE_SETS["offsets"], batch, shapes, build().stride, GROUPS, nc, REG_MAX, like)


def one_cell(visible: tuple[int, int], cls: tuple[int, int]) -> dict[str, Any]:
    """Return two objects of one cell, in the second frame of the first window."""
    return {
        "points": torch.tensor([[0.52, 0.52], [0.54, 0.53]], dtype=torch.float64),
        "points_idx": torch.zeros(2, dtype=torch.long),
        "points_group": torch.ones(2, dtype=torch.long),
        "points_cls": torch.tensor(cls),
        "points_visible": torch.tensor(visible),
        "points_labelled": torch.ones(2, GROUPS, dtype=torch.bool),
    }


@pytest.mark.parametrize(("visible", "first"), [((1, 2), True), ((2, 1), False), ((2, 2), True), ((3, 1), False)])
def test_of_two_objects_in_a_cell_the_clearer_gives_the_position(visible: tuple[int, int], first: bool) -> None:
    found = targets(one_cell(visible, (0, 1)))
    cell = 64 + 4 * 8 + 4  # group 1 of the finest level
    x = (0.52 if first else 0.54) * SIZE
    assert found.values_MF[found.element_M == cell][0, 0].item() == pytest.approx(x - 36 if x > 36 else 0)
    assert found.classes_BNC[0, cell].tolist() == [visible[0] != 3, visible[1] != 3]
    assert int(found.classes_BNC.sum()) == len(STRIDES) * sum(v != 3 for v in visible)


@pytest.mark.parametrize("visible", [1, 2, 3])
def test_an_object_leaves_the_cells_beside_it_open_in_its_class_alone(visible: int) -> None:
    found = targets(one_cell((visible, visible), (1, 1)))
    cells = {64 + y * 8 + x for y in (3, 4, 5) for x in (3, 4, 5)}
    own = 64 + 4 * 8 + 4  # a positive where the object is seen, open too where it is hidden
    finest = slice(0, GROUPS * 64)
    unknown, classes = found.unknown_BNC[0, finest], found.classes_BNC[0, finest]
    assert set(unknown[:, 1].nonzero().flatten().tolist()) == (cells if visible == 3 else cells - {own})
    assert classes[:, 1].nonzero().flatten().tolist() == ([] if visible == 3 else [own])
    assert not unknown[:, 0].any()
    assert not classes[:, 0].any()
    assert set(found.element_M[found.element_M < GROUPS * 64].tolist()) == cells  # the position is learned in all


def test_the_cell_that_holds_an_object_tells_its_own_position_beside_a_clearer_one() -> None:
    batch = one_cell((2, 1), (0, 0))
    batch["points"][1, 0] = 0.52 + 8 / SIZE  # the clearer one is a cell to the right
    found = targets(batch)
    held = 64 + 4 * 8 + 4
    assert found.values_MF[found.element_M == held][0, 1].item() == pytest.approx(36 - 0.52 * SIZE)
    assert found.fits_MF.all()
    both = targets(one_cell((3, 1), (1, 1)))  # a clear one of the same class in the same cell is seen nevertheless
    assert both.classes_BNC[0, 64 + 36].tolist() == [False, True]
    assert not both.unknown_BNC[0, 64 + 36].any()


def test_hidden_objects_do_not_read_the_class_scores_there() -> None:
    head, batch = build(), one_cell((3, 3), (1, 1))
    raw = make_raw(head)
    batch |= {"points_next": batch["points"], "points_has_next": torch.ones(2, dtype=torch.bool)}
    loss = TrackNetLoss(head, ARGS)(raw, batch)[0]
    (gradient,) = torch.autograd.grad(loss["conf_loss"], raw["scores"], retain_graph=True)
    assert gradient[0, 64 + 36, 1] == 0
    (gradient,) = torch.autograd.grad(loss["pos_loss"], raw["positions"])
    assert gradient[0, 64 + 36].any()


def test_border_and_outside() -> None:
    batch = one_cell((1, 1), (0, 0))
    batch["points"] = torch.tensor([[1.0, 1.0], [1.01, 0.5]], dtype=torch.float64)
    found = targets(batch)
    starts = {64: 8, 192 + 16: 4, 240 + 4: 2}  # of the group, and cells along a side
    corners = [start + y * n + x for start, n in starts.items() for y in (n - 2, n - 1) for x in (n - 2, n - 1)]
    assert sorted(found.element_M.tolist()) == sorted(corners)
    held = sorted((start + n * n - 1) for start, n in starts.items())
    assert found.classes_BNC[0, :, 0].nonzero().flatten().tolist() == held
    assert found.fits_MF.all()


@pytest.mark.parametrize("labelled", [True, False])
def test_windows_without_objects(labelled: bool) -> None:
    head, batch = build(), windows()
    batch |= {k: v[:0] for k, v in batch.items() if k.startswith("points") and k != "points_labelled"}
    batch["points_labelled"][:] = labelled
    raw = make_raw(head)
    loss, counts = TrackNetLoss(head, ARGS)(raw, batch)
    assert counts == {"pos_loss": 0, "conf_loss": 6 * labelled, "out_of_range": 0}
    assert loss["pos_loss"] == 0
    assert (loss["conf_loss"] > 0) == labelled
    sum(loss.values()).backward()
    assert not raw["positions"].grad.any()
    assert int((raw["scores"].grad != 0).sum()) == (100 * 6 if labelled else 0)


def test_negatives_follow_the_positives() -> None:
    logits = torch.randn(1, 2000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    classes = torch.zeros(1, 2000, 1, dtype=torch.bool)
    classes[0, :10] = True
    confidence_loss(logits, classes, torch.zeros_like(classes), frames=2).backward()
    assert int((logits.grad != 0).sum()) == 10 + 1000
    hard = logits.detach()[0, 10:, 0].topk(1000).indices + 10
    assert (logits.grad[0, hard, 0] > 0).all()


def test_gradients() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 8, 6, generator=generator, dtype=torch.float64).requires_grad_()
    values = torch.rand(4, 8, generator=generator, dtype=torch.float64) * 5
    fits = torch.rand(4, 8, generator=generator) > 0.3
    assert torch.autograd.gradcheck(lambda x: distribution_loss(x, values, fits), logits)
    scores = torch.randn(1, 30, 2, generator=generator, dtype=torch.float64).requires_grad_()
    classes, unknown = torch.rand(1, 30, 2, generator=generator) > 0.9, torch.rand(1, 30, 2, generator=generator) > 0.9
    assert torch.autograd.gradcheck(lambda x: confidence_loss(x, classes, unknown & ~classes, 2), scores)


def test_the_best_distribution_decodes_to_the_target() -> None:
    value = torch.tensor([[0.0, 3.25, 15.0]], dtype=torch.float64)
    logits = torch.zeros(1, 3, 16, dtype=torch.float64).requires_grad_()
    optimiser = torch.optim.LBFGS([logits], max_iter=200)

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = distribution_loss(logits, value, torch.ones(1, 3, dtype=torch.bool))
        loss.backward()
        return loss

    for _ in range(5):
        optimiser.step(closure)
    decoded = (logits.softmax(2) * torch.arange(16)).sum(2)
    torch.testing.assert_close(decoded, value, atol=1e-2, rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points_labelled": torch.ones(2, 5, dtype=torch.bool)}, "num_groups=3, but the windows .* have 5 frames"),
        ({"points_group": torch.tensor([0, 1, 2, 3])}, "num_groups=3, but 'points_group' of the labels goes up to 3"),
        ({"points_cls": torch.tensor([0, 0, 0, 2])}, "nc=2, but 'points_cls' of the labels goes up to 2"),
    ],
)
def test_labels_of_other_numbers(change: dict[str, Any], message: str) -> None:
    head = build()
    with pytest.raises(ValueError, match=message):
        TrackNetLoss(head, ARGS)(make_raw(head), windows() | change)


def test_outputs_of_another_head() -> None:
    head = build()
    with pytest.raises(ValueError, match="feat_no=8, reg_max=16, found \\(4, 16\\)"):
        TrackNetLoss(head, ARGS)(make_raw(build("offsets")), windows())
    raw = make_raw(head)
    raw["feats"] = [f[:, :100] for f in raw["feats"]]
    with pytest.raises(ValueError, match="maps of 390 channels, num_groups=3 .* reg_max=16 .* nc=2\\), found 100"):
        TrackNetLoss(head, ARGS)(raw, windows())
    batch = {k: v for k, v in windows().items() if k != "points_boxes"}
    with pytest.raises(ValueError, match="features 'box' need 'points_boxes' in the labels, found none"):
        TrackNetLoss(build("box"), ARGS)(make_raw(build("box")), batch)


def test_half_precision_is_computed_in_float32() -> None:
    head, batch = build(), windows()
    raw = make_raw(head)
    half = {k: v.detach().half() if isinstance(v, torch.Tensor) else v for k, v in raw.items()}
    loss = TrackNetLoss(head, ARGS)(half, batch)[0]
    assert {v.dtype for v in loss.values()} == {torch.float32}


def test_a_tiny_model_learns_where_a_dot_is_in_each_frame() -> None:
    """A bright dot moves on noise; after a few hundred steps every frame's best element is within a pixel of it."""
    torch.manual_seed(0)
    frames, steps = 4, 100
    generator = torch.Generator().manual_seed(0)
    place = torch.tensor([[9.3, 40.2], [20.6, 33.1], [31.9, 26.4], [42.7, 19.8]])
    image = torch.rand(1, frames, SIZE, SIZE, generator=generator) * 0.3
    y, x = torch.meshgrid(torch.arange(SIZE) + 0.5, torch.arange(SIZE) + 0.5, indexing="ij")
    for group, (px, py) in enumerate(place.tolist()):
        image[0, group] += torch.exp(-((x - px) ** 2 + (y - py) ** 2) / 4)
    batch = {
        "img": image,
        "points": place / SIZE,
        "points_idx": torch.zeros(frames, dtype=torch.long),
        "points_group": torch.arange(frames),
        "points_cls": torch.zeros(frames, dtype=torch.long),
        "points_visible": torch.ones(frames, dtype=torch.long),
        "points_next": torch.cat((place[1:], place[:1])) / SIZE,
        "points_has_next": torch.arange(frames) < frames - 1,
        "points_labelled": torch.ones(1, frames, dtype=torch.bool),
    }
    model = tiny_temporal(frames=frames, tasks=("track",)).train()
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(steps):
        loss, _ = model(batch)
        optimiser.zero_grad()
        loss.sum().backward()
        optimiser.step()
    with torch.no_grad():
        raw = model(image)["track"]  # batch statistics, as they were learned with
        count = raw["scores"].shape[1]
        positions, scores = raw["positions"].softmax(3), raw["scores"].sigmoid()
        head = model.track_head
        centres, stride, group = elements([f.shape[2:] for f in raw["feats"]], head.stride, frames)
        values = (positions * torch.arange(16)).sum(3)[0]
        columns = torch.stack(head.features.decode(values.unbind(1), centres, stride), 1)
    assert count == len(group)
    for g in range(frames):
        own = group == g
        best = scores[0, own, 0].argmax()
        assert scores[0, own, 0][best] > 0.5
        assert (columns[own][best, :2] - place[g]).norm() < 1
        if g < frames - 1:
            assert (columns[own][best, 2:] - place[g + 1]).norm() < 4
