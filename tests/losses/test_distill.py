"""Distillation: zero for a student that equals its teachers, connected otherwise, and only for tasks of the same
shape.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.models import make_batch, randomise, tiny_model, tiny_yaml
from ultralytics.nn.tasks import DetectionModel, OBBModel, PoseModel, SegmentationModel

from yolo_multitask.losses import MultiTaskLoss
from yolo_multitask.losses.distill import DistillLoss, box_size, keypoint_terms, mask_term


def stock(kind: str, nc: int = 1) -> Any:
    """Return a small stock network with the trunk of the tests' models."""
    config = tiny_yaml()
    end = ["Segment", ["nc", 32, 256]] if kind == "segment" else ["Pose", ["nc", "kpt_shape"]]
    config["head"][-1][2:] = end
    model = (SegmentationModel if kind == "segment" else PoseModel)(config, nc=nc, verbose=False)
    randomise(model, 5)
    for level in model.model[-1].cv3:
        level[-1].bias.data += 2.0  # confident, so that some anchors are on an object
    return model


def images() -> torch.Tensor:
    """Return two random images."""
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", ["segment", "pose"])
def test_a_student_that_equals_its_teacher_has_nothing_to_learn(kind: str) -> None:
    teacher = stock(kind)
    student = tiny_model(tasks=(kind,), nc=1)
    student.load(teacher, verbose=False)
    student.eval()
    loss = DistillLoss(student.head, student.args, {"t.pt": teacher})
    with torch.no_grad():
        raw = student(images())[1]
    same = loss(raw, images())
    floor = 0.0
    if (
        kind == "pose"
    ):  # cross-entropy with a probability as its target has that probability's entropy as its least value
        p = raw["kpts"].unflatten(1, (17, 3))[:, :, 2].sigmoid().double()
        weight = raw["scores"].sigmoid().amax(1)
        weight = weight * (weight > 0.1)
        entropy = -(p * p.log() + (1 - p) * (1 - p).log()).mean(1)
        floor = float((entropy * weight).sum() / weight.sum().clamp(min=1))
    assert same.item() == pytest.approx(floor, abs=1e-4)
    with torch.no_grad():
        for p in student.head.branches[kind].parameters():
            p.add_(0.05)
    assert loss(student(images())[1], images()) > same + 1e-3


def test_terms_against_a_loop() -> None:
    generator = torch.Generator().manual_seed(1)
    kpts, taught = (torch.randn(1, 6, 3, generator=generator) for _ in range(2))
    boxes = torch.randn(1, 64, 3, generator=generator)
    weight = torch.tensor([[0.0, 0.5, 1.0]])
    place, visibility = keypoint_terms(kpts, {"kpts": taught, "boxes": boxes}, weight, (2, 3), 16)
    expected_place = expected_visibility = 0.0
    for a, w in enumerate(weight[0].tolist()):
        sides = [float((boxes[0, 16 * i : 16 * i + 16, a].softmax(0) * torch.arange(16)).sum()) for i in range(4)]
        size = ((sides[0] + sides[2]) * (sides[1] + sides[3])) ** 0.5
        assert box_size(boxes, 16)[0, a].item() == pytest.approx(size, rel=1e-5)
        for k in range(2):
            (sx, sy, sv), (tx, ty, tv) = kpts[0, 3 * k : 3 * k + 3, a], taught[0, 3 * k : 3 * k + 3, a]
            error = float(((sx - tx) ** 2 + (sy - ty) ** 2).sqrt() * 2 / size)
            seen = float(tv.sigmoid())
            expected_place += w * seen * (error - 0.025 if error > 0.05 else error**2 / 0.1) / 2 / 1.5
            p = float(sv.sigmoid().clamp(1e-7, 1 - 1e-7))
            cross = -(seen * torch.tensor(p).log() + (1 - seen) * torch.tensor(1 - p).log())
            expected_visibility += w * float(cross) / 2 / 1.5
    assert place.item() == pytest.approx(expected_place, rel=1e-4)
    assert visibility.item() == pytest.approx(expected_visibility, rel=1e-4)


def test_mask_term_is_relative_to_the_spread_of_the_prototypes() -> None:
    proto = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    raw = {"mask_coefficient": torch.zeros(1, 4, 3), "proto": proto + proto.std() * 0.5}
    taught = {"mask_coefficient": torch.zeros(1, 4, 3), "proto": proto}
    assert mask_term(raw, taught, torch.ones(1, 3)).item() == pytest.approx(0.25, rel=1e-3)
    scaled = {k: v * 7 for k, v in raw.items()}, {k: v * 7 for k, v in taught.items()}
    assert mask_term(*scaled, torch.ones(1, 3)).item() == pytest.approx(0.25, rel=1e-3)


def test_gradient_reaches_the_student_and_not_the_teachers() -> None:
    teachers = {"seg.pt": stock("segment"), "pose.pt": stock("pose")}
    student = tiny_model(nc=1).train()
    criterion = MultiTaskLoss(student, teachers)
    batch = make_batch()
    loss, items = criterion(student(batch["img"]), batch)
    assert list(items)[-1] == "dist_loss"
    assert items["dist_loss"] > 0
    loss[-1].backward()
    for task in ("segment", "pose"):
        assert all(p.grad.abs().sum() > 0 for p in student.head.branches[task].convs.parameters())
    assert all(p.grad is None for t in teachers.values() for p in t.parameters())
    assert not any(t.training for t in teachers.values())


def test_without_teachers_there_is_no_term() -> None:
    student = tiny_model(nc=1).train()
    assert "dist_loss" not in student(make_batch())[1]


def test_each_task_is_taught_once() -> None:
    student = tiny_model(nc=1)
    loss = DistillLoss(student.head, student.args, {"a.pt": stock("pose"), "b.pt": tiny_model(nc=3)})
    assert [tasks for _, tasks in loss.teachers] == [("pose",), ("segment",)]
    with pytest.raises(ValueError, match="Teacher 'b.pt' cannot teach.*'pose' is taught by a.pt already"):
        DistillLoss(student.head, student.args, {"a.pt": stock("pose"), "b.pt": stock("pose")})


@pytest.mark.parametrize(
    ("student", "teacher", "reason"),
    [
        ({"kpt_shape": (5, 3)}, lambda: stock("pose"), r"its kpt_shape is \(17, 3\), the model's \(5, 3\)"),
        ({"tasks": ("segment",)}, lambda: stock("pose"), "the model has no 'pose'"),
        ({}, lambda: DetectionModel("yolov8n.yaml", verbose=False), "its head is Detect"),
        ({}, lambda: OBBModel("yolov8n-obb.yaml", verbose=False), "its head is OBB"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused_with_the_reason(student: Any, teacher: Any, reason: str) -> None:
    model = tiny_model(nc=1, **student)
    with pytest.raises(ValueError, match=f"Teacher 'x.pt' cannot teach this model: .*{reason}"):
        DistillLoss(model.head, model.args, {"x.pt": teacher()})


def test_a_teacher_that_sees_nothing_teaches_no_keypoints() -> None:
    teacher = stock("pose")
    for level in teacher.model[-1].cv3:
        level[-1].bias.data.fill_(-20.0)
    student = tiny_model(nc=1).train()
    raw = student(images())
    loss = DistillLoss(student.head, student.args, {"t.pt": teacher})(raw, images())
    assert loss == 0
    loss.backward()
    assert all((p.grad == 0).all() for p in student.head.branches["pose"].parameters() if p.grad is not None)


def test_two_heads_teach_and_are_taught() -> None:
    student = tiny_model("yolo26n", nc=1).train()
    for teacher, tasks in (
        (SegmentationModel("yolo26n-seg.yaml", verbose=False), ("segment",)),
        (PoseModel("yolo26n-pose.yaml", verbose=False), ("pose",)),
        (PoseModel("yolov8n-pose.yaml", verbose=False), ("pose",)),
    ):
        randomise(teacher)
        criterion = MultiTaskLoss(student, {"t.pt": teacher})
        assert [taught for _, taught in criterion.distill.teachers] == [tasks]
        batch = make_batch()
        loss, items = criterion(student(batch["img"]), batch)
        assert items["dist_loss"] > 0
        loss.sum().backward()


def test_keypoints_of_other_arithmetic_are_compared_in_the_same_unit() -> None:
    place = torch.tensor([[[3.0], [-1.0]]])  # from the anchor, in cells
    doubled = (place + 0.5) / 2  # as YOLOv8 says it
    boxes, weight = torch.full((1, 4, 1), 2.0), torch.ones(1, 1)
    for shifts, ours, theirs in (((True, False), place, doubled), ((False, True), doubled, place)):
        error, _ = keypoint_terms(ours, {"kpts": theirs, "boxes": boxes}, weight, (1, 2), 1, shifts)
        assert error == 0
    assert box_size(boxes, 1).item() == 4.0


def test_gradcheck() -> None:
    generator = torch.Generator().manual_seed(3)

    def rand(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    taught = {
        "kpts": rand(1, 6, 3),
        "boxes": rand(1, 64, 3),
        "mask_coefficient": rand(1, 4, 3),
        "proto": rand(1, 4, 5, 5),
    }
    weight = torch.tensor([[0.2, 0.5, 1.0]], dtype=torch.float64)
    kpts, coefficients, proto = (rand(*s).requires_grad_() for s in ((1, 6, 3), (1, 4, 3), (1, 4, 5, 5)))
    assert torch.autograd.gradcheck(lambda k: keypoint_terms(k, taught, weight, (2, 3), 16), (kpts,), fast_mode=True)
    assert torch.autograd.gradcheck(
        lambda c, p: mask_term({"mask_coefficient": c, "proto": p}, taught, weight),
        (coefficients, proto),
        fast_mode=True,
    )
