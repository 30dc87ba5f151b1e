"""Losses against teachers: nothing to learn where they agree, and towards the teacher where they do not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support.models import tiny_model

from yolo_multitask.losses.lessons import (
    DistillCriterion,
    LessonLoss,
    Targets,
    box_losses,
    class_loss,
    keypoint_losses,
    mask_loss,
    part_of,
    relation_loss,
)

K = 3


def targets(n: int = 4, batch: int = 2, classes: int = 2, anchors: int = 84, seed: int = 0) -> Targets:
    """Return random targets of `n` anchors for images of 64 pixels."""
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator)

    low = rand(n, 2) * 20
    image = torch.arange(n) % batch
    return Targets(
        scores_BCA=rand(batch, classes, anchors) * 0.2,
        known_C=torch.ones(classes, dtype=torch.bool),
        image_n=image,
        anchor_n=torch.randperm(anchors, generator=generator)[:n],
        weight_n=rand(n) + 0.1,
        boxes_n4=torch.cat((low, low + 20 + rand(n, 2) * 20), 1),
        bins_nR=torch.randn(n, 64, generator=generator),
        keypoints_nKD=torch.cat((rand(n, K, 2) * 40, rand(n, K, 1)), 2),
        masks=[((image == i).nonzero().flatten(), rand(int((image == i).sum()), 16, 16)) for i in range(batch)],
        instance_boxes_V4=torch.cat((low, low + 30), 1),
        instance_image_V=image,
        embeddings_VE=F.normalize(torch.randn(n, 6, generator=generator), dim=1),
    )


def points(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return anchor points and strides of `n` anchors."""
    return torch.arange(2.0 * n).view(n, 2) / n + 0.5, torch.full((n, 1), 8.0)


def test_classes_that_agree_cost_nothing_and_pull_nowhere() -> None:
    wanted = targets()
    logits = wanted.scores_BCA.logit().requires_grad_()
    loss = class_loss(logits, wanted)
    loss.backward()
    assert abs(loss.item()) < 1e-6
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-6


def test_the_gradient_of_classes_is_that_of_the_cross_entropy() -> None:
    wanted = targets()
    logits = torch.zeros_like(wanted.scores_BCA, requires_grad=True)
    class_loss(logits, wanted).backward()
    assert logits.grad is not None
    assert torch.allclose(logits.grad, (0.5 - wanted.scores_BCA) / wanted.scores_BCA.sum(), atol=1e-6)


def test_of_a_class_that_no_teacher_knows_nothing_is_learned() -> None:
    wanted = targets()
    wanted.known_C[1] = False
    logits = torch.zeros_like(wanted.scores_BCA, requires_grad=True)
    class_loss(logits, wanted).backward()
    assert logits.grad is not None
    assert logits.grad[:, 0].abs().min() > 0
    assert logits.grad[:, 1].abs().max() == 0


def test_boxes_of_the_teacher_cost_nothing() -> None:
    wanted = targets()
    points_n2, strides_n1 = points(4)
    raw = torch.zeros(2, 64, 84)
    raw[wanted.image_n, :, wanted.anchor_n] = wanted.bins_nR
    distances = (wanted.bins_nR.view(4, 4, 16).softmax(2) * torch.arange(16.0)).sum(2)
    corners = torch.cat((points_n2 - distances[:, :2], points_n2 + distances[:, 2:]), 1)
    wanted.boxes_n4 = corners * strides_n1
    box, bins = box_losses(raw, wanted, points_n2, strides_n1)
    assert abs(float(box)) < 1e-4
    assert abs(float(bins)) < 1e-6
    wanted.bins_nR = wanted.bins_nR.flip(1)
    assert box_losses(raw, wanted, points_n2, strides_n1)[1] > 0.1
    wanted.bins_nR = wanted.bins_nR[:, :0]  # a teacher with other bins
    assert box_losses(raw, wanted, points_n2, strides_n1)[1] == 0


def test_keypoints_of_the_teacher_cost_nothing_and_others_are_pulled_to_it() -> None:
    wanted, sigmas = targets(), torch.full((K,), 0.1)
    points_n2, strides_n1 = points(4)
    wanted.keypoints_nKD[..., 2] = 1.0
    raw = torch.full((2, K * 3, 84), 20.0)
    told = (wanted.keypoints_nKD[..., :2] / strides_n1[:, None] - (points_n2 - 0.5)[:, None]) / 2
    values = torch.cat((told, torch.full((4, K, 1), 20.0)), 2).flatten(1)
    raw[wanted.image_n, :, wanted.anchor_n] = values
    place, seen, count = keypoint_losses(raw, wanted, points_n2, strides_n1, sigmas)
    assert float(place) < 1e-6
    assert float(seen) < 1e-6
    assert count == 4
    far = (raw + 5.0).requires_grad_()
    keypoint_losses(far, wanted, points_n2, strides_n1, sigmas)[0].backward()
    assert far.grad is not None
    pull = far.grad[wanted.image_n, :, wanted.anchor_n].unflatten(1, (K, 3))[..., :2]
    assert (pull > 1e-3).all(), "far away too"


def test_instances_without_keypoints_are_left_out() -> None:
    wanted, sigmas = targets(), torch.full((K,), 0.1)
    raw = torch.randn(2, K * 3, 84, generator=torch.Generator().manual_seed(1))
    wanted.keypoints_nKD[1:] = torch.nan
    place, _, count = keypoint_losses(raw, wanted, *points(4), sigmas)
    assert count == 1
    assert place.isfinite()
    wanted.keypoints_nKD[:] = torch.nan
    assert [float(x) for x in keypoint_losses(raw, wanted, *points(4), sigmas)] == [0, 0, 0]


def test_masks_are_compared_after_they_are_assembled() -> None:
    wanted = targets()
    generator = torch.Generator().manual_seed(0)
    coefficients = torch.randn(2, 4, 84, generator=generator)
    proto = torch.randn(2, 4, 16, 16, generator=generator)
    mix = torch.linalg.qr(torch.randn(4, 4, generator=generator))[0]
    wanted.masks = [
        (chosen, torch.einsum("mp,mhw->phw", coefficients[i, :, wanted.anchor_n[chosen]], proto[i]).sigmoid())
        for i, (chosen, _) in enumerate(wanted.masks)
    ]
    feat, stride = torch.zeros(2, 8, 8, 8), torch.tensor(8.0)

    def loss_of(c: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        return mask_loss(c, p, wanted, feat, stride)[0]

    same = loss_of(coefficients, proto)
    turned = loss_of(torch.einsum("ij,bja->bia", mix, coefficients), torch.einsum("ij,bjhw->bihw", mix, proto))
    assert torch.allclose(same, turned, atol=1e-5)
    assert loss_of(coefficients * 0, proto) > same
    moved = coefficients.clone().requires_grad_()
    loss_of(moved, proto).backward()
    assert moved.grad is not None
    assert moved.grad.abs().max() < 1e-5, "at the teacher's masks nothing pulls"


def test_relations_do_not_depend_on_how_the_embedding_is_turned_or_how_long_it_is() -> None:
    taught = F.normalize(torch.randn(5, 6, generator=torch.Generator().manual_seed(0)), dim=1)
    turn = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(1)))[0]
    longer = torch.cat((taught @ turn, torch.zeros(5, 3)), 1)
    assert float(relation_loss(longer, taught)) < 1e-6
    other = F.normalize(torch.randn(5, 6, generator=torch.Generator().manual_seed(2)), dim=1).requires_grad_()
    loss = relation_loss(other, taught)
    pairs = [(i, j) for i in range(5) for j in range(i + 1, 5)]
    own, theirs = ([float(x[i] @ x[j]) for i, j in pairs] for x in (other, taught))
    gaps = [a - sum(own) / 10 - b + sum(theirs) / 10 for a, b in zip(own, theirs, strict=True)]
    assert float(loss) == pytest.approx(10 * sum(g * g for g in gaps) / 10, rel=1e-4)


def run(model: Any, tasks: tuple[str, ...] | None = None) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
    """Return the losses of a tiny model."""
    model.train()
    raw = model(torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    loss = LessonLoss(model)
    loss.tasks = tasks or loss.tasks
    return loss(raw, targets(classes=model.head.nc))


def test_every_task_has_its_losses_and_only_those_that_learn_are_not_zero() -> None:
    model = tiny_model(nc=2, kpt_shape=(K, 3))
    items, counts = run(model)
    assert list(items) == [
        "box_loss", "cls_loss", "dfl_loss", "seg_loss", "pose_loss", "kobj_loss", "reid_loss", "next_loss",
    ]  # fmt: skip
    assert list(counts) == list(items)
    assert all(v.isfinite() for v in items.values())
    assert {k for k, v in items.items() if v > 0} == {*items} - {"next_loss"}
    items, counts = run(model, ("pose",))
    assert {k for k, v in items.items() if v != 0} == {"pose_loss", "kobj_loss"}
    assert {k for k, v in counts.items() if v} == {"pose_loss", "kobj_loss"}


def test_a_view_without_anything_gives_zeros_with_a_gradient() -> None:
    model = tiny_model(nc=2, kpt_shape=(K, 3)).train()
    nothing = targets(n=0, classes=2)
    nothing.scores_BCA *= 0
    items, counts = LessonLoss(model)(model(torch.rand(2, 3, 64, 64)), nothing)
    assert {k: float(v) for k, v in items.items() if k != "cls_loss"} == dict.fromkeys([*items][:1] + [*items][2:], 0.0)
    sum(items.values()).backward()  # type: ignore[union-attr]
    assert not any(counts.values())


def test_real_labels_come_on_top() -> None:
    model = tiny_model(nc=2, kpt_shape=(K, 3), tasks=("segment", "pose")).train()  # embeddings are drawn anew each time
    raw = model(torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    seen: list[Any] = []

    def supervised(part: dict[str, Any], batch: Any) -> tuple[torch.Tensor, Any]:
        from yolo_multitask.losses.multitask import LossItems

        seen.append(part)
        return torch.tensor([3.0]), LossItems({"box_loss": torch.tensor(1.5)}, {})

    first = part_of(raw, slice(0, 2))
    alone, items = DistillCriterion(model)(first, {"targets": targets(classes=2)})
    both, more = DistillCriterion(model, supervised)(raw, {"targets": targets(classes=2), "labelled": {}})
    assert both.sum().item() == pytest.approx(alone.sum().item() + 3.0, rel=1e-5)
    assert float(more["box_loss"]) == pytest.approx(float(items["box_loss"]) + 1.5, rel=1e-5)
    assert seen[0]["scores"].shape[0] == 1
    assert torch.equal(seen[0]["feats"][0], raw["feats"][0][2:])
