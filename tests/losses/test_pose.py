"""Keypoint losses: an independent reference, their invariances and their empty cases."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from support.losses import make_assignment, make_raw
from support.models import make_batch, tiny_model

from yolo_multitask.losses.pose import PoseLoss, keypoint_losses, trained_points
from yolo_multitask.metrics.pose import oks_sigmas
from yolo_multitask.nn.branches import PoseBranch

ARGS = SimpleNamespace(pose=3.0, kobj=2.0)


def head(kpt_shape: tuple[int, int] = (17, 3)) -> SimpleNamespace:
    """Return what the loss needs of a head."""
    return SimpleNamespace(branches={"pose": PoseBranch((8, 8, 8), kpt_shape)})


def reference(raw: dict, keypoints: torch.Tensor, only: set[int], size: int = 64) -> tuple[float, float]:
    """Compute location and visibility losses with loops over instances and keypoints."""
    assigned, sigmas = make_assignment(size), oks_sigmas((17, 3)).tolist()
    location, visibility, count = 0.0, 0.0, 0
    for image, anchor in assigned.fg_BA.nonzero().tolist():
        instance = int(assigned.instance_BA[image, anchor])
        if instance not in only:
            continue
        stride = float(assigned.strides_A1[anchor])
        ax, ay = assigned.anchors_A2[anchor].tolist()
        x1, y1, x2, y2 = (assigned.boxes_BA4[image, anchor] / stride).tolist()
        area = (x2 - x1) * (y2 - y1)
        values = raw["kpts"][image, :, anchor].view(17, 3).tolist()
        target = keypoints[instance].tolist()
        visible = sum(v != 0 for _, _, v in target)
        for (px, py, pv), (tx, ty, tv), sigma in zip(values, target, sigmas, strict=True):
            dx = px * 2 + ax - 0.5 - tx * size / stride
            dy = py * 2 + ay - 0.5 - ty * size / stride
            oks = math.exp(-(dx**2 + dy**2) / (2 * (2 * sigma) ** 2 * area))
            location += 17 / visible * (1 - oks) * (tv != 0)
            visibility += math.log1p(math.exp(-pv)) if tv else math.log1p(math.exp(pv))
            count += 1
    return location / count, visibility / count


@pytest.mark.parametrize("only", [{0, 1, 2}, {1}, {0, 2}])
def test_against_a_loop(only: set[int]) -> None:
    raw, batch, assigned = make_raw(), make_batch(dtype=torch.float64), make_assignment()
    flags = torch.tensor([i in only for i in range(3)])
    loss, counts = PoseLoss(head(), ARGS)(raw, assigned, {**batch, "has_keypoints": flags})
    location, visibility = reference(raw, batch["keypoints"], only)
    assert set(loss) == {"pose_loss", "kobj_loss"}
    assert counts == dict.fromkeys(("pose_loss", "kobj_loss"), len(only))
    assert loss["pose_loss"].item() == pytest.approx(location * ARGS.pose, rel=1e-5)
    assert loss["kobj_loss"].item() == pytest.approx(visibility * ARGS.kobj, rel=1e-5)


def test_unlabelled_and_absent_keypoints_are_different() -> None:
    raw, batch, assigned = make_raw(), make_batch(dtype=torch.float64), make_assignment()
    labelled = PoseLoss(head(), ARGS)(raw, assigned, batch)[0]
    absent = batch["keypoints"].clone()
    absent[1, :, 2] = 0
    as_absent = PoseLoss(head(), ARGS)(raw, assigned, {**batch, "keypoints": absent})
    as_unlabelled = PoseLoss(head(), ARGS)(raw, assigned, {**batch, "has_keypoints": torch.tensor([True, False, True])})
    assert (as_absent[1]["pose_loss"], as_unlabelled[1]["pose_loss"]) == (3, 2)
    assert len({x["kobj_loss"].item() for x in (labelled, as_absent[0], as_unlabelled[0])}) == 3
    garbage = batch["keypoints"].clone()
    garbage[1] = 1e3
    again = PoseLoss(head(), ARGS)(
        raw, assigned, {**batch, "keypoints": garbage, "has_keypoints": torch.tensor([True, False, True])}
    )
    assert again[0] == as_unlabelled[0]


def test_position_of_an_absent_keypoint_does_not_matter() -> None:
    raw, batch, assigned = make_raw(), make_batch(dtype=torch.float64), make_assignment()
    moved = batch["keypoints"].clone()
    moved[..., :2] += (moved[..., 2:] == 0) * 0.3
    assert not torch.equal(moved, batch["keypoints"])
    loss = PoseLoss(head(), ARGS)
    assert loss(raw, assigned, batch)[0] == loss(raw, assigned, {**batch, "keypoints": moved})[0]


def test_two_values_a_keypoint_have_no_visibility_loss() -> None:
    raw, batch, assigned = make_raw(nk=34), make_batch(dtype=torch.float64), make_assignment()
    loss, counts = PoseLoss(head((17, 2)), ARGS)(raw, assigned, batch)
    assert set(loss) == {"pose_loss", "kobj_loss"}
    assert counts == dict.fromkeys(("pose_loss", "kobj_loss"), 3)
    assert loss["pose_loss"] > 0
    assert loss["kobj_loss"] == 0


def test_nothing_labelled_and_nothing_assigned_give_a_connected_zero() -> None:
    raw, batch, assigned = make_raw(), make_batch(dtype=torch.float64), make_assignment()
    nothing = torch.zeros_like(assigned.fg_BA)
    for case, labels in (
        (assigned, {**batch, "has_keypoints": torch.zeros(3, dtype=torch.bool)}),
        (assigned, {k: v for k, v in batch.items() if k != "keypoints"}),
        (type(assigned)(**{**vars(assigned), "fg_BA": nothing}), batch),
    ):
        loss, counts = PoseLoss(head(), ARGS)(raw, case, labels)
        assert counts == dict.fromkeys(("pose_loss", "kobj_loss"), 0)
        assert set(loss) == {"pose_loss", "kobj_loss"}
        for value in loss.values():
            assert value == 0
            assert (torch.autograd.grad(value, raw["kpts"], retain_graph=True)[0] == 0).all()


def test_gradcheck() -> None:
    raw, batch, assigned = make_raw(), make_batch(dtype=torch.float64), make_assignment()
    sigmas = torch.from_numpy(oks_sigmas((17, 3))).double()

    def losses(kpts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        given = (kpts.unflatten(1, (17, 3)), batch["keypoints"], assigned.fg_BA, assigned)
        return keypoint_losses(trained_points(*given, head().branches["pose"].place), sigmas)

    assert torch.autograd.gradcheck(losses, (raw["kpts"],), fast_mode=True)


def test_sigmas_are_those_of_the_metric() -> None:
    for kpt_shape, given in (((5, 2), None), ((17, 3), None), ((2, 3), [0.1, 0.2])):
        sigmas = PoseLoss(head(kpt_shape), ARGS, given).sigmas
        assert sigmas.dtype == torch.float32
        torch.testing.assert_close(sigmas.double(), torch.from_numpy(oks_sigmas(kpt_shape, given)).double())
    with pytest.raises(ValueError, match="must be 2 positive numbers"):
        PoseLoss(head((2, 3)), ARGS, [0.1])


def test_model_passes_its_own_sigmas() -> None:
    model = tiny_model(nc=1)
    model.kpt_oks_sigmas = [0.5] * 17
    assert model.init_criterion().losses["pose"].sigmas.tolist() == [0.5] * 17
