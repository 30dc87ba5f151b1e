"""Stock models through `MultiTaskYOLO`: they run as with `ultralytics.YOLO`, by the host's own classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.training import RUN, SIZE, assert_finite, label_files, relabel, rows, train, write_world
from ultralytics import YOLO

from yolo_multitask import MultiTaskYOLO
from yolo_multitask.cli import app
from yolo_multitask.data.labels import LabelSpec

STOCK = {
    "yolov8n.yaml": "detect",
    "yolov8n-seg.yaml": "segment",
    "yolov8n-pose.yaml": "pose",
    "yolo11n-obb.yaml": "obb",
    "yolov8n-cls.yaml": "classify",
    "yolo26n-seg.yaml": "segment",
}
POSE = LabelSpec(nc=1, kpt_shape=(17, 3), polygons=False, format="pose")


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """Return a noise picture."""
    return np.random.default_rng(0).integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def poses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a stock pose set."""
    data = write_world(tmp_path_factory.mktemp("poses") / "data", labels=..., kpt_classes=...)
    for split in ("train", "val"):
        relabel(label_files(data, split), POSE, polygon=None, id=-1)
    return data


@pytest.fixture(scope="module")
def trained(poses: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a stock pose model's training through our class."""
    folder = tmp_path_factory.mktemp("runs") / "pose"
    model = train(MultiTaskYOLO("yolov8n-pose.yaml"), poses, folder, pose=20.0)
    assert type(model.trainer).__module__.startswith("ultralytics.")
    assert model.trainer.args.pose == 20.0
    return folder


@pytest.mark.parametrize(("name", "task"), STOCK.items())
def test_stock_yaml_predicts_as_with_yolo(name: str, task: str, picture: np.ndarray) -> None:
    ours, host = MultiTaskYOLO(name), YOLO(name)
    assert ours.task == host.task == task
    assert type(ours.model) is type(host.model)
    assert {k: v.shape for k, v in ours.model.state_dict().items()} == {
        k: v.shape for k, v in host.model.state_dict().items()
    }
    ours.model.load_state_dict(host.model.state_dict())
    settings: dict[str, Any] = {"imgsz": SIZE, "conf": 0.0001, "max_det": 5, "verbose": False, "device": "cpu"}
    (found,), (expected,) = ours.predict(picture, **settings), host.predict(picture, **settings)
    assert type(ours.predictor) is type(host.predictor)
    assert type(found) is type(expected)
    for field in ("boxes", "masks", "keypoints", "obb", "probs"):
        a, b = getattr(found, field), getattr(expected, field)
        assert (a is None) is (b is None), field
        if a is not None:
            torch.testing.assert_close(a.data, b.data)
    ours.predict(picture, **settings)  # with the predictor of the first call


def test_the_task_table_of_the_host_is_kept() -> None:
    ours, host = MultiTaskYOLO("yolov8n.yaml"), YOLO("yolov8n.yaml")
    assert set(ours.task_map) == {*host.task_map, "multitask"}
    for task, classes in host.task_map.items():
        assert ours.task_map[task] == classes


def test_a_stock_pose_model_trains_and_validates(trained: Path, poses: Path) -> None:
    (row,) = rows(trained)
    assert_finite([row])
    assert {k for k in row if k.startswith("train/")} >= {"train/pose_loss", "train/kobj_loss"}
    model = MultiTaskYOLO(trained / "weights" / "last.pt")
    assert model.task == "pose"
    metrics = model.val(data=str(poses), **{k: v for k, v in RUN.items() if k != "epochs"})
    assert type(metrics).__name__ == "PoseMetrics"
    assert type(metrics).__module__.startswith("ultralytics.")


@pytest.mark.parametrize("switch", [{"pose": True}, {"pose": False}, {"segment": True}, {"track": False}])
def test_a_switch_on_a_stock_model_is_an_error(switch: dict[str, bool], poses: Path, picture: np.ndarray) -> None:
    model = MultiTaskYOLO("yolov8n-pose.yaml")
    (name, value) = next(iter(switch.items()))
    for call in (
        lambda: model.train(data=str(poses), **switch),
        lambda: model.val(data=str(poses), **switch),
        lambda: model.predict(picture, **switch),
    ):
        with pytest.raises(
            ValueError, match=rf"{name}={value} switches a task .* stock 'pose' model.*yolov8n-multitask"
        ):
            call()


def test_a_gain_passes_to_a_stock_model(trained: Path) -> None:
    import yaml

    assert yaml.safe_load((trained / "args.yaml").read_text())["pose"] == 20.0


def test_a_stock_checkpoint_is_opened_by_both(trained: Path, picture: np.ndarray, tmp_path: Path) -> None:
    file = trained / "weights" / "last.pt"
    settings: dict[str, Any] = {"imgsz": SIZE, "conf": 1e-6, "max_det": 5, "verbose": False, "device": "cpu"}
    ours, host = MultiTaskYOLO(file), YOLO(file)
    torch.testing.assert_close(
        ours.predict(picture, **settings)[0].keypoints.data, host.predict(picture, **settings)[0].keypoints.data
    )
    ours.save(tmp_path / "saved.pt")
    again = MultiTaskYOLO(tmp_path / "saved.pt")
    assert again.task == "pose"
    assert YOLO(tmp_path / "saved.pt").task == "pose"
    own = MultiTaskYOLO("yolov8n-pose.yaml").load(str(file))
    assert isinstance(own, MultiTaskYOLO)
    assert own.predict(picture, **settings)[0].boxes is not None


def test_a_stock_model_tracks(tmp_path: Path) -> None:
    from yolo_multitask.data.synthetic import WorldConfig, write_clip

    clip = write_clip(tmp_path / "clip.avi", config=WorldConfig(width=SIZE, height=SIZE, figures=(1, 1)), frames=2)
    results = MultiTaskYOLO("yolov8n.yaml").track(clip, imgsz=SIZE, tracker="bytetrack.yaml", verbose=False)
    assert len(results) == 2


def test_an_object_in_place_of_a_name() -> None:
    model = MultiTaskYOLO("yolov8n.yaml")
    assert MultiTaskYOLO(model).model is model.model


def test_a_stock_model_on_the_command_line(
    trained: Path, poses: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = trained / "weights" / "last.pt", ["imgsz=64", f"project={tmp_path}", "device=cpu", "plots=False"]
    assert app.main(["val", f"model={file}", f"data={poses}", "name=val", *out]) == 0
    assert app.main(["predict", f"model={file}", f"source={poses.parent / 'images' / 'val' / 'seq0001'}", *out]) == 0
    capsys.readouterr()
    assert app.main(["val", f"model={file}", f"data={poses}", "pose=False", *out]) in {1, 2}
    err = capsys.readouterr().err
    assert "pose=False switches a task of a multitask model, but this is a stock 'pose' model" in err
    assert err.count("\n") == 1
