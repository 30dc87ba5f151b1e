"""`MultiTaskYOLO.distill` and `ymt distill`, from the arguments to the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support.models import tiny_model
from support.teachers import SIZE, save_teacher, write_pictures
from support.training import change_yaml, rows, write_model, write_world

from yolo_multitask import MultiTaskYOLO
from yolo_multitask.cli.app import main
from yolo_multitask.distill.labelling import Labeller

RUN: dict[str, Any] = {
    "imgsz": SIZE, "batch": 4, "epochs": 1, "device": "cpu", "workers": 0, "plots": False, "verbose": False,
    "exist_ok": True, "views": 2, "fit": 4, "held_out": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return two teachers, pictures and the YAML of a student."""
    folder = tmp_path_factory.mktemp("files")
    return {
        "segment": str(save_teacher(folder / "seg.pt", "segment", 2, names=("ball", "person"))),
        "pose": str(save_teacher(folder / "pose.pt", "pose", 1, seed=1, names=("person",))),
        "source": str(write_pictures(folder / "images", 10)),
        "model": str(write_model(folder / "tiny-multitask.yaml", next=False)),
    }


def distil(files: dict[str, str], folder: Path, **changes: Any) -> tuple[MultiTaskYOLO, Any]:
    """Run into a folder; return the student and the report."""
    given = {**files, **RUN, "project": str(folder), "name": "run", "lessons": str(folder / "lessons"), **changes}
    model = MultiTaskYOLO(given.pop("model"))
    return model, model.distill(**{k: v for k, v in given.items() if v is not None})


def test_what_the_first_teacher_gave_stays_while_the_trunk_is_frozen(files: dict[str, str], tmp_path: Path) -> None:
    model, report = distil(files, tmp_path, frozen=1.0)
    assert [(Path(r.teacher).name, r.what) for r in report.rows] == [
        ("seg.pt", "box"), ("seg.pt", "seg"), ("pose.pt", "box"), ("pose.pt", "pose"),
    ]  # fmt: skip
    assert [r.student == r.taught for r in report.rows[:2]] == [True, True]
    assert model.model.tasks == ("detect", "segment", "pose")
    assert model.model.names == {0: "ball", 1: "person"}
    teacher = torch.load(files["segment"], weights_only=False)["model"].half().float()
    student, stock = model.model.float(), teacher.state_dict()
    last = f"model.{student.head.i}."
    kept = {k: v for k, v in student.state_dict().items() if "branches" not in k}
    assert all(torch.equal(v, stock[k]) for k, v in kept.items() if not k.endswith("num_batches_tracked"))
    convs = student.head.branches["segment"].convs.state_dict()
    assert all(torch.equal(v, stock[f"{last}cv4.{k}"]) for k, v in convs.items() if "num_batches" not in k)
    saved = json.loads((tmp_path / "run" / "distill.json").read_text())
    assert [r["share"] for r in saved["rows"]] == pytest.approx([r.share for r in report.rows], nan_ok=True)
    assert report.cost["teachers together"]["mparams"] > report.cost["student"]["mparams"]
    assert "what the teachers see" in str(report)
    assert "saved" in str(report)
    log = rows(tmp_path / "run")
    assert all(row["train/pose_loss"] > 0 and row["train/box_loss"] == 0 for row in log)


def test_the_teachers_look_once(files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distil(files, tmp_path, views=1)
    assert sum(1 for _ in (tmp_path / "lessons").rglob("*.npz")) == 8, "one view of each picture that is learned from"

    def refuse(*_: Any) -> None:
        raise AssertionError("a teacher was asked again")

    monkeypatch.setattr(Labeller, "__call__", refuse)
    _, report = distil(files, tmp_path, views=1, name="again", frozen=0.0)
    assert report.images == 2
    log = rows(tmp_path / "again")
    assert all(row[f"train/{k}_loss"] > 0 for row in log for k in ("box", "cls", "dfl", "seg", "pose", "kobj"))


def write_reid(file: Path) -> Path:
    """Write a ReID network that describes a crop by its mean colour."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes, "reid",
        [helper.make_tensor_value_info("images", kind, ["batch", 3, 32, 16])],
        [helper.make_tensor_value_info("output", kind, ["batch", 3])],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(file))
    return file


def test_real_labels_and_embeddings(files: dict[str, str], tmp_path: Path) -> None:
    data = write_world(tmp_path / "data", names={0: "person", 1: "ball"})
    reid = str(write_reid(tmp_path / "reid.onnx"))
    model, report = distil(files, tmp_path, data=str(data), reid=reid, frozen=0.0)
    assert model.model.tasks == ("detect", "segment", "pose", "track")
    assert report.truth == "labels"
    assert report.images == 4
    assert -1 <= report.embeddings <= 1 or report.embeddings != report.embeddings
    (row,) = rows(tmp_path / "run")
    assert row["train/reid_loss"] > 0


def test_other_keypoints_than_the_data_has(files: dict[str, str], tmp_path: Path) -> None:
    data = write_world(tmp_path / "data", names={0: "person", 1: "ball"})
    five = str(save_teacher(tmp_path / "five.pt", "pose", 1, names=("person",), kpt_shape=[5, 3]))
    with pytest.raises(ValueError, match=r"five.pt: expected keypoints of kpt_shape \[17, 3\].*found \[5, 3\]"):
        distil(files, tmp_path, data=str(data), pose=five)


def test_other_classes_than_the_data_has(files: dict[str, str], tmp_path: Path) -> None:
    data = change_yaml(write_world(tmp_path / "data"), names={0: "ant", 1: "bee"}, kpt_classes=..., kpt_names=...)
    with pytest.raises(ValueError, match=r"seg.pt: expected classes of ant, bee, found ball, person"):
        distil(files, tmp_path, data=str(data))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"pose": None, "segment": None}, ValueError, "teachers: expected networks to learn from"),
        ({"source": None}, ValueError, "source: expected images, folders or videos to learn from, found none"),
        ({"pose": True}, ValueError, "pose: expected the file of a network that teaches it, found True"),
        ({"pose": "nowhere.pt"}, FileNotFoundError, "nowhere.pt"),
        ({"reid": "nowhere.onnx"}, FileNotFoundError, "reid=nowhere.onnx: expected a ReID network as an ONNX file"),
        ({"views": 0}, ValueError, "views: expected a whole number of 1 or more, found 0"),
        ({"frozen": 2}, ValueError, "frozen: expected a share from 0 to 1, found 2"),
        ({"multi_scale": 0.5}, ValueError, "multi_scale=0.5 does not go with 'distill'"),
    ],
)
def test_what_cannot_be(
    files: dict[str, str], tmp_path: Path, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        distil(files, tmp_path, **changes)


def test_a_stock_model_is_no_student(files: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="expected a multitask model such as yolov8n-multitask.yaml, found a 'detect'"):
        MultiTaskYOLO("yolov8n.yaml").distill(pose=files["pose"], source=files["source"])


def test_a_model_with_two_heads_neither_learns_nor_teaches(files: dict[str, str], tmp_path: Path) -> None:
    file = write_model(tmp_path / "two-multitask.yaml", end2end=True)
    with pytest.raises(ValueError, match="distill: expected .*one head, .*found one with two heads"):
        MultiTaskYOLO(file).distill(pose=files["pose"], source=files["source"])
    MultiTaskYOLO(file).save(tmp_path / "two.pt")
    with pytest.raises(ValueError, match=r"pose=.*two.pt: expected .*one head, .*found one with two heads"):
        distil(files, tmp_path, pose=str(tmp_path / "two.pt"))


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["views=none_at_all", "pose=a.pt"], 2, "views: expected a whole number of 1 or more, found 'none_at_all'"),
        (["vies=2"], 2, "unknown argument 'vies'; did you mean 'views'?"),
        (["pose=nowhere.pt", "source=nowhere"], 1, "nowhere.pt"),
    ],
)
def test_the_command_says_what_is_wrong(
    words: list[str], code: int, message: str, files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["distill", f"model={files['model']}", *words]) == code
    assert message in capsys.readouterr().err


def test_the_student_of_the_tests_has_the_trunk_of_the_teachers(files: dict[str, str]) -> None:
    teacher = torch.load(files["segment"], weights_only=False)["model"]
    ours = tiny_model(nc=2).state_dict()
    trunk = [k for k in teacher.state_dict() if int(k.split(".")[1]) < 22]
    assert all(ours[k].shape == teacher.state_dict()[k].shape for k in trunk)
