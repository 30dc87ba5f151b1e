"""What takes part in a benchmark: how many objects it keeps, and that it shares nothing with the user's model."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.benchmark import picture

from yolo_multitask import MultiTaskYOLO
from yolo_multitask.benchmark.contender import Contender, distinct_names, input_size, open_model, own_copy, synchronise

ARGUMENTS: dict[str, Any] = {"imgsz": 64, "device": "cpu", "verbose": False}


def contender(file: str, scratch: Path, **arguments: Any) -> Contender:
    return Contender(open_model(file), {**ARGUMENTS, **arguments}, scratch, None)


@pytest.mark.parametrize("name", ["best", "detect", "pose"])
@pytest.mark.parametrize("count", [1, 7])
def test_as_many_objects_are_kept_as_asked_for(
    name: str, count: int, checkpoints: dict[str, str], tmp_path: Path
) -> None:
    trial = contender(checkpoints[name], tmp_path)
    trial.prepare(picture(), count)
    assert trial.found == count
    top = trial.model.predict(picture(), **ARGUMENTS, conf=1e-9, max_det=count)[0].boxes
    kept = trial.predict(picture()).boxes
    torch.testing.assert_close(kept.data, top.data)
    assert trial.arguments["conf"] < float(top.conf.min())


def test_segmentation_keeps_what_the_host_leaves_of_them(checkpoints: dict[str, str], tmp_path: Path) -> None:
    trial = contender(checkpoints["seg"], tmp_path)  # the host drops detections with an empty mask
    trial.prepare(picture(), 7)
    top = trial.model.predict(picture(), **ARGUMENTS, conf=1e-9, max_det=7)[0]
    assert 0 < trial.found == len(top)


def test_the_threshold_is_a_quarter_otherwise(checkpoints: dict[str, str], tmp_path: Path) -> None:
    trial = contender(checkpoints["best"], tmp_path)
    trial.prepare(picture(), None)
    assert trial.found == len(trial.model.predict(picture(), **ARGUMENTS, conf=0.25)[0].boxes)


def test_costs_are_those_of_the_running_branches(checkpoints: dict[str, str], tmp_path: Path) -> None:
    whole, boxes = (
        contender(checkpoints["best"], tmp_path, **off)
        for off in ({}, {"segment": False, "pose": False, "track": False})
    )
    for trial in (whole, boxes):
        trial.prepare(picture(), 3)
    assert whole.tasks == ("detect", "segment", "pose", "track")
    assert boxes.tasks == ("detect",)
    assert whole.parameters == boxes.parameters == sum(p.numel() for p in whole.network.parameters())
    assert 0 < boxes.gflops(64) < whole.gflops(64)
    assert whole.gflops(64) == pytest.approx(whole.gflops(128) / 4, rel=0.01)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in whole.network.model[0].modules()), "it is fused"


def test_the_model_of_the_user_is_left_alone(checkpoints: dict[str, str], tmp_path: Path) -> None:
    model = MultiTaskYOLO(checkpoints["best"])
    calls: list[Any] = []
    model.add_callback("on_predict_start", calls.append)
    model.predict(picture(), **ARGUMENTS)
    before, overrides, predictor = dict(model.model.state_dict()), dict(model.overrides), model.predictor
    trial = Contender(own_copy(model), ARGUMENTS, tmp_path, None)
    trial.prepare(picture(), 3)
    assert len(calls) == 1, "the copy runs without the user's callbacks"
    assert (model.predictor, model.overrides) == (predictor, overrides)
    after = model.model.state_dict()
    assert before.keys() == after.keys()
    assert all(after[key].data_ptr() == value.data_ptr() for key, value in before.items())


def test_a_network_is_saved_as_it_is_now(checkpoints: dict[str, str], tmp_path: Path) -> None:
    changed = MultiTaskYOLO(checkpoints["best"])
    changed.model.head.cv3[0][-1].bias.data.fill_(3.0)
    loaded = Contender(changed, ARGUMENTS, tmp_path, None)
    assert (MultiTaskYOLO(loaded.file).model.head.cv3[0][-1].bias == 3).all()
    built = Contender(MultiTaskYOLO("yolov8n-multitask.yaml"), ARGUMENTS, tmp_path, None)
    assert Path(built.file).parent == tmp_path
    again = MultiTaskYOLO(built.file)
    assert again.task == "multitask"
    assert again.model.state_dict().keys() == built.model.model.state_dict().keys()


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["best.pt"], ["best.pt"]),
        (["a/best.pt", "b/last.pt"], ["best.pt", "last.pt"]),
        (["runs/a/weights/best.pt", "runs/b/weights/best.pt"], ["a/weights/best.pt", "b/weights/best.pt"]),
        (["best.pt", "a/best.pt"], ["best.pt", "a/best.pt"]),
        (["a/best.pt", "a/best.pt"], ["best.pt", "best.pt"]),
    ],
)
def test_names_tell_files_apart(files: list[str], names: list[str]) -> None:
    assert distinct_names(files) == names


def test_other_kinds_of_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"against=yolov8n-cls.yaml: expected a model for detect, .* 'classify'"):
        open_model("yolov8n-cls.yaml")
    with pytest.raises(FileNotFoundError, match=r"against=.*nowhere.pt: expected a checkpoint"):
        open_model(str(tmp_path / "nowhere.pt"))


def test_a_file_says_what_it_is(onnx_file: str, checkpoints: dict[str, str], tmp_path: Path) -> None:
    file, network = contender(onnx_file, tmp_path), contender(checkpoints["best"], tmp_path)
    for trial in (file, network):
        trial.prepare(picture(), 3)
        assert trial.found == 3
        assert trial.tasks == ("detect", "segment", "pose", "track")
    assert (file.format, file.is_fixed, file.has_nms) == ("onnx", True, False)
    assert file.file_mib == pytest.approx(Path(onnx_file).stat().st_size / 2**20)
    assert (file.parameters, file.gflops(64)) == (None, None)
    assert (network.format, network.is_fixed, network.has_nms, network.file_mib) == ("pt", False, False, None)


def test_the_size_of_a_file_is_in_it(onnx_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = open_model(onnx_file)
    assert input_size(model) == ((64, 64), True)
    for metadata, expected in (
        ({"imgsz": [64, 96], "args": {"dynamic": True}}, ((64, 96), False)),
        ({"imgsz": [64, 96]}, ((64, 96), False)),  # of an older host, which did not say
        ({}, (None, False)),
    ):
        monkeypatch.setattr("yolo_multitask.benchmark.contender.read_metadata", lambda _, found=metadata: found)
        assert input_size(model) == expected


@pytest.mark.parametrize("kind", ["cuda", "mps", "xpu", "npu"])
def test_devices_are_waited_for(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[Any] = []
    monkeypatch.setattr(torch, kind, SimpleNamespace(synchronize=lambda *device: waited.append(device)), raising=False)
    device: Any = SimpleNamespace(type=kind)
    synchronise(device)
    assert waited == [() if kind == "mps" else (device,)]


def test_a_cpu_needs_no_waiting() -> None:
    synchronise(torch.device("cpu"))
