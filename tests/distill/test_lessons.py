"""What teachers say: of stock networks, put together, kept in a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support.teachers import SIZE, save_teacher, stock_network
from ultralytics.utils.ops import xywh2xyxy

from yolo_multitask.distill.labelling import SAME, SEEN, Labeller, mask_crops, merge_instances
from yolo_multitask.distill.lessons import Lesson
from yolo_multitask.distill.teachers import (
    Teacher,
    as_multitask,
    class_map,
    load_teachers,
    order_teachers,
    union_names,
)
from yolo_multitask.nn.network import load_model_yaml


@pytest.fixture(scope="module")
def teachers() -> list[Teacher]:
    """Return a segmentation network of three classes and a pose network of one of them."""
    segment = stock_network("segment", 3, names=("dog", "person", "ball"))
    pose = stock_network("pose", 1, seed=1, names=("Person",))
    image = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():  # on half of the anchors the one is more certain, on half the other
        gap = (segment(image)[1]["scores"].amax(1) - pose(image)[1]["scores"][:, 0]).median()
        for stack in pose.model[-1].cv3:
            stack[-1].bias += gap
    return [
        Teacher(file="seg.pt", tasks=("segment",), network=segment),
        Teacher(file="pose.pt", tasks=("pose",), network=pose),
    ]


@pytest.fixture(scope="module")
def lesson(teachers: list[Teacher]) -> Lesson:
    """Return what they say of a random picture."""
    labeller = Labeller(teachers, union_names(teachers), (17, 3), 16)
    return labeller(torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)))[0]


def test_classes_are_matched_by_name(teachers: list[Teacher]) -> None:
    names = union_names(teachers)
    assert names == {0: "dog", 1: "person", 2: "ball"}
    assert class_map(teachers[1], names) == [(0, 1)]
    with pytest.raises(
        ValueError, match=r"pose.pt: expected classes of cat, found Person. Classes are matched by name"
    ):
        class_map(teachers[1], {0: "cat"})


def test_an_anchor_has_the_box_of_the_teacher_that_is_most_certain(teachers: list[Teacher], lesson: Lesson) -> None:
    image = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        seg, pose = teachers[0].network(image)[0][0][0], teachers[1].network(image)[0][0]
    best = torch.stack((seg[4:7].amax(0), pose[4]))
    assert np.array_equal(lesson.anchors, (best.amax(0) > SEEN).nonzero().flatten().numpy())
    who = best.argmax(0)[lesson.anchors.astype(int)]
    assert 0 < who.float().mean() < 1
    boxes = torch.stack([xywh2xyxy(y[:4].T) for y in (seg, pose)])[who, lesson.anchors.astype(int)]
    assert torch.allclose(torch.from_numpy(lesson.boxes), boxes, atol=1e-4)
    person = torch.maximum(seg[5], pose[4])
    told = lesson.entry_class == 1
    assert np.allclose(lesson.entry_score[told], person[lesson.entry_anchor[told].astype(int)].numpy(), atol=1e-6)


def test_anchors_stand_for_instances_of_their_class(lesson: Lesson) -> None:
    assert (lesson.owner >= 0).any()
    assert lesson.has_mask.any()
    assert lesson.has_keypoints.any()
    assert set(lesson.instance_class[lesson.has_keypoints]) == {1}


def test_a_lesson_is_the_same_when_it_is_read_again(lesson: Lesson, tmp_path: Path) -> None:
    file = tmp_path / "folder" / "lesson.npz"
    assert Lesson.load(file) is None
    lesson.save(file)
    again = Lesson.load(file)
    assert again is not None
    assert vars(again).keys() == vars(lesson).keys()
    assert all(np.array_equal(vars(again)[k], v, equal_nan=v.dtype.kind == "f") for k, v in vars(lesson).items())
    assert [f.name for f in file.parent.iterdir()] == ["lesson.npz"]
    file.write_bytes(b"damaged")
    assert Lesson.load(file) is None


def seen(boxes: list[list[float]], **more: object) -> dict[str, object]:
    """Return detections of class 0, of falling certainty, without masks and keypoints."""
    rows = torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
    score = torch.linspace(0.9, 0.5, len(rows))
    cls = torch.zeros(len(rows), dtype=torch.int64)
    found = {"instance_boxes": rows, "instance_class": cls, "instance_score": score, "keypoints": None, "masks": None}
    return {**found, **more}


def test_detections_of_the_same_object_are_one_instance() -> None:
    mask = (np.array([0, 0, 2, 1], np.int32), np.array([255, 0], np.uint8))
    first = seen([[0, 0, 10, 10], [20, 20, 30, 30]], masks=[mask, mask])
    second = seen([[1, 0, 10, 10], [40, 40, 50, 50]], keypoints=torch.arange(4.0).view(2, 2))
    merged = merge_instances([first, second], (1, 2))
    assert merged["boxes"].tolist() == [[0, 0, 10, 10], [20, 20, 30, 30], [40, 40, 50, 50]]
    assert merged["keypoints"][[0, 2]].flatten().tolist() == [0, 1, 2, 3]
    assert merged["keypoints"][1].isnan().all()
    assert merged["corner"].tolist() == [[0, 0, 2, 1], [0, 0, 2, 1], [0, 0, 0, 0]]
    assert SAME <= 0.9


def test_nothing_seen_is_a_lesson_too(teachers: list[Teacher]) -> None:
    merged = merge_instances([seen([]), seen([])], (17, 3))
    assert [len(merged[k]) for k in ("boxes", "keypoints", "corner", "values")] == [0, 0, 0, 0]


def test_a_mask_is_cut_at_its_box() -> None:
    proto = torch.zeros(1, 8, 8)
    proto[0, :4] = 5.0
    ((corner, values),) = mask_crops(torch.ones(1, 1), proto, torch.tensor([[4.0, 8.0, 15.0, 40.0]]), (32, 32))
    assert corner.tolist() == [1, 2, 4, 8]
    assert values.reshape(6, 3)[:, 0].tolist() == [253, 253, 128, 128, 128, 128]


@pytest.mark.parametrize("task", ["segment", "pose", "detect"])
def test_a_teacher_is_measured_with_its_own_numbers(task: str) -> None:
    network = stock_network(task, 1, names=("person",))
    teacher = Teacher(file="a.pt", tasks=() if task == "detect" else (task,), network=network)
    ours = as_multitask(teacher, {0: "dog", 1: "person"})
    image = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        theirs, own = (net(image)[0] for net in (network, ours))
    theirs, own = (x[0] if isinstance(x, tuple) else x for x in (theirs, own))
    assert torch.equal(own[:, :4], theirs[:, :4])
    assert torch.equal(own[:, 5:], theirs[:, 4:])
    assert own[:, 4].max() < 1e-12


def test_the_student_starts_from_the_network_with_most_classes(teachers: list[Teacher]) -> None:
    config = {**load_model_yaml("yolov8n-multitask.yaml"), "scale": "n"}
    assert [t.file for t in order_teachers(teachers[::-1], config, None)] == ["seg.pt", "pose.pt"]
    assert [t.file for t in order_teachers(teachers, config, "pose")] == ["pose.pt", "seg.pt"]
    with pytest.raises(ValueError, match="first=track: expected a task that a teacher is named for"):
        order_teachers(teachers, config, "track")


@pytest.mark.parametrize(
    ("task", "name", "message"),
    [
        (
            "pose",
            "seg.pt",
            r"pose=.*seg.pt: expected a network that gives keypoints, found a Segment head that gives boxes",
        ),
        ("segment", "pose.pt", r"segment=.*pose.pt: expected a network that gives masks, found a Pose head"),
        ("pose", "a.onnx", r"pose=.*a.onnx: expected a checkpoint"),
    ],
)
def test_a_teacher_that_lacks_the_task(tmp_path: Path, task: str, name: str, message: str) -> None:
    save_teacher(tmp_path / "seg.pt", "segment", 1)
    save_teacher(tmp_path / "pose.pt", "pose", 1)
    (tmp_path / "a.onnx").write_bytes(b"")
    with pytest.raises(ValueError, match=message):
        load_teachers({task: str(tmp_path / name)})


def test_a_file_that_teaches_two_tasks_is_loaded_once(tmp_path: Path) -> None:
    file = save_teacher(tmp_path / "seg.pt", "segment", 1)
    (teacher,) = load_teachers({"detect": str(file), "segment": str(file)})
    assert teacher.tasks == ("segment",)
