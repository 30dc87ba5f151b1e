"""Exported files as backends: predict, validate and track as the network itself does."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from support.models import randomise, tiny_model
from support.training import write_world
from ultralytics.utils import LOGGER

from yolo_multitask import MultiTaskYOLO
from yolo_multitask.configs import resolve_yaml
from yolo_multitask.engine import exported
from yolo_multitask.tasks import RowLayout

LAYOUT = RowLayout(nc=2, nk=6, nm=3, ne=2, nb=4)
METADATA = {
    "task": "multitask",
    "tasks": "['detect', 'segment', 'pose', 'track']",
    "names": "{0: 'a', 1: 'b'}",
    "kpt_shape": "[2, 3]",
    "nm": "3",
    "embed_dim": "2",
    "next": "True",
    "masks": "False",
    "relative": "False",
    "description": "[not, a, list]",
    "args": "{'nms': None}",
}


def backend(**changes: Any) -> Any:
    """Return what stands for a backend of the host, with metadata as text."""
    metadata: dict[str, Any] = {**METADATA, **changes}
    file = SimpleNamespace(format="onnx", metadata=metadata, names={0: "a", 1: "b"}, imgsz=[32, 64])
    file.backend = SimpleNamespace(apply_metadata=lambda values: setattr(file, "metadata", values))
    return file


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the checkpoint of a small random model that detects something in every picture."""
    network = tiny_model(nc=2, kpt_shape=(17, 3))
    randomise(network)
    network.kpt_classes = [0]
    network.task = "multitask"
    path = tmp_path_factory.mktemp("model") / "best.pt"
    torch.save({"model": network, "train_args": {"task": "multitask", "imgsz": 96}}, path)
    return path


@pytest.fixture(scope="module")
def files(model: Path) -> dict[str, Path]:
    """Return the model as ONNX files."""
    common: dict[str, Any] = {"format": "onnx", "imgsz": 96, "simplify": False}
    found = {}
    kinds = {"plain": {}, "nms": {"nms": True, "conf": 0.01}, "masks": {"nms": True, "masks": True, "conf": 0.01}}
    for name, own in kinds.items():
        made = Path(MultiTaskYOLO(model).export(**common, **own, dynamic=True, batch=2))
        found[name] = made.rename(made.with_name(f"{name}.onnx"))
    found["torchscript"] = Path(MultiTaskYOLO(model).export(format="torchscript", imgsz=96, dynamic=True, batch=2))
    return found


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[np.ndarray]:
    """Return two pictures of different shapes."""
    generator = np.random.default_rng(0)
    return [cv2.resize(generator.integers(0, 255, (9, 9, 3), np.uint8), size) for size in ((120, 80), (70, 110))]


@pytest.mark.parametrize("name", ["plain", "nms", "masks", "torchscript"])
@pytest.mark.parametrize("retina", [False, True])
def test_prediction_is_that_of_the_network(
    model: Path, files: dict[str, Path], pictures: list[np.ndarray], name: str, retina: bool
) -> None:
    settings: dict[str, Any] = {"imgsz": 96, "conf": 0.05, "max_det": 30, "verbose": False, "retina_masks": retina}
    wanted = [MultiTaskYOLO(model).predict(x, **settings)[0] for x in pictures]
    settings["verbose"] = True  # which names the classes
    found = [MultiTaskYOLO(files[name]).predict(x, **settings)[0] for x in pictures]
    for one, other in zip(found, wanted, strict=True):
        assert len(one) == len(other) > 3
        torch.testing.assert_close(one.boxes.data, other.boxes.data, rtol=1e-3, atol=1e-2)
        torch.testing.assert_close(one.keypoints.data, other.keypoints.data, rtol=1e-3, atol=1e-2)
        torch.testing.assert_close(one.embeddings.data, other.embeddings.data, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(one.next_boxes.data, other.next_boxes.data, rtol=1e-3, atol=1e-2)
        assert one.masks.shape == other.masks.shape
        assert (one.masks.data != other.masks.data).float().mean() < 1e-3
        assert other.masks.data.any()
        no_keypoints = other.boxes.cls != 0
        assert no_keypoints.any()
        assert not one.keypoints.data[no_keypoints].any()


def test_the_size_of_the_export_is_the_default(files: dict[str, Path], pictures: list[np.ndarray]) -> None:
    yolo = MultiTaskYOLO(files["plain"])
    assert yolo.predict(pictures[0], verbose=False)[0].speed
    assert yolo.predictor.args.imgsz == 96
    yolo.predict(pictures[0], imgsz=64, verbose=False)
    assert yolo.predictor.args.imgsz == 64


def test_switches_leave_out_what_the_file_computes(files: dict[str, Path], pictures: list[np.ndarray]) -> None:
    found = MultiTaskYOLO(files["nms"]).predict(pictures[0], imgsz=96, segment=False, track=False, verbose=False)[0]
    assert found.masks is None
    assert found.embeddings is None
    assert found.next_boxes is None
    assert found.keypoints is not None
    with pytest.raises(ValueError, match="'pose=True' was asked for"):
        MultiTaskYOLO(_without_pose(files["nms"])).predict(pictures[0], pose=True, verbose=False)


def _without_pose(file: Path) -> Path:
    import onnx

    model = onnx.load(file)
    for entry in model.metadata_props:
        if entry.key == "tasks":
            entry.value = "['detect', 'segment', 'track']"
    onnx.save(model, file.with_name("less.onnx"))
    return file.with_name("less.onnx")


@pytest.mark.parametrize("name", ["plain", "nms", "masks"])
def test_tracking_is_that_of_the_network(model: Path, files: dict[str, Path], name: str, tmp_path: Path) -> None:
    bold = tmp_path / "bold.yaml"  # believes weak detections at once
    lowered = {"high_score": 0.1, "new_score": 0.1, "confirm_score": 0.1}
    bold.write_text(yaml.safe_dump(yaml.safe_load(resolve_yaml("multicue.yaml", "trackers").read_text()) | lowered))
    scene = cv2.resize(np.random.default_rng(1).integers(0, 255, (9, 12, 3), np.uint8), (150, 96))
    frames = [scene[:, i : i + 128] for i in range(0, 12, 2)]
    tracks = []
    for weights in (model, files[name]):
        yolo = MultiTaskYOLO(weights)
        settings: dict[str, Any] = {"imgsz": 96, "conf": 0.1, "max_det": 12, "verbose": False}
        results = [yolo.track(x, persist=True, tracker=bold, **settings)[0] for x in frames]
        tracks.append(results)
    for one, other in zip(*tracks, strict=True):
        assert other.boxes.id is not None
        assert torch.equal(one.boxes.id, other.boxes.id)
        torch.testing.assert_close(one.boxes.xyxy, other.boxes.xyxy, rtol=1e-3, atol=1e-2)


def test_validation_is_that_of_the_network(model: Path, files: dict[str, Path], tmp_path: Path) -> None:
    data = write_world(tmp_path / "world")
    common: dict[str, Any] = {
        "data": str(data),
        "imgsz": 96,
        "plots": False,
        "workers": 0,
        "batch": 2,
        "verbose": False,
    }
    own = MultiTaskYOLO(model)
    own.model.kpt_classes = [0]
    wanted = own.val(**common).results_dict
    found = MultiTaskYOLO(files["plain"]).val(**common).results_dict
    assert wanted.keys() == found.keys()
    assert any(k.endswith("(T)") for k in found)
    for key, value in wanted.items():
        assert found[key] == pytest.approx(value, abs=2e-3, nan_ok=True), key


def test_what_the_nms_in_the_file_cannot_give_is_said(
    files: dict[str, Path],
    pictures: list[np.ndarray],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(LOGGER, "propagate", True)
    common: dict[str, Any] = {"imgsz": 96, "verbose": False}
    MultiTaskYOLO(files["nms"]).predict(pictures[0], conf=0.005, iou=0.5, **common)
    assert "the NMS is in the file, with conf=0.01, iou=0.7, max_det=300, agnostic_nms=False" in caplog.text
    assert "export it again for conf=0.005, iou=0.5." in caplog.text
    caplog.clear()
    MultiTaskYOLO(files["nms"]).predict(pictures[0], conf=0.02, **common)
    MultiTaskYOLO(files["nms"]).predict(pictures[0], max_det=20, **common)
    MultiTaskYOLO(files["plain"]).predict(pictures[0], conf=0.005, iou=0.5, **common)
    assert "the NMS is in the file" not in caplog.text


def test_metadata_becomes_values() -> None:
    file = backend()
    exported.adopt(file, "best.onnx")
    assert file.metadata["tasks"] == ["detect", "segment", "pose", "track"]
    assert file.metadata["description"] == "[not, a, list]"
    assert exported.layout(file) == LAYOUT
    file = backend(names={"0": "a", "1": "b"})  # as JSON has it
    exported.adopt(file, "best.torchscript")
    assert file.metadata["names"] == {0: "a", 1: "b"}


@pytest.mark.parametrize("changes", [{"task": "detect"}, {"tasks": None}])
def test_other_files_are_refused(changes: dict[str, Any]) -> None:
    file = backend(**changes)
    if changes.get("tasks", "") is None:
        del file.metadata["tasks"]
    with pytest.raises(ValueError, match="expected a file exported from a multitask network by this package"):
        exported.adopt(file, "best.onnx")


def test_outputs_in_any_order_and_layout() -> None:
    file = backend()
    exported.adopt(file, "best.onnx")
    rows, maps = torch.rand(1, 21, 5), torch.rand(1, 3, 8, 16)
    for outputs in ([rows, maps], [maps, rows], [maps.permute(0, 2, 3, 1), rows]):
        found = exported.read_outputs(file, outputs)
        assert torch.equal(found[0], rows)
        assert found[1] is not None
        assert torch.equal(found[1], maps)
    assert exported.read_outputs(file, rows)[1] is None


def test_maps_whose_height_is_the_number_of_channels() -> None:
    rows, maps = torch.rand(1, 21, 5), torch.rand(1, 3, 3, 3)
    for name, given in (("saved_model", maps.permute(0, 2, 3, 1)), ("pb", maps.permute(0, 2, 3, 1)), ("onnx", maps)):
        file = backend()
        exported.adopt(file, "best")
        file.format = name
        assert torch.equal(exported.read_outputs(file, [rows, given])[1], maps), name


def test_shares_become_pixels() -> None:
    file = backend(relative="True")
    exported.adopt(file, "best.tflite")
    rows, _ = exported.read_outputs(file, torch.ones(1, 4 + 2 + 6 + 3 + 2 + 4, 1))
    wanted = [1, 1, 1, 1, 1, 1, 64, 32, 1, 64, 32, 1, 1, 1, 1, 1, 1, 64, 32, 64, 32]  # the host has done the box
    assert rows[0, :, 0].tolist() == wanted
    assert exported.pixel_units(LAYOUT, [2, 3], (32, 64)).tolist() == [64, 32, 64, 32, *wanted[4:]]
    two = RowLayout(nc=1, nk=4)
    assert exported.pixel_units(two, [2, 2], (32, 64)).tolist() == [64, 32, 64, 32, 1, 64, 32, 64, 32]
