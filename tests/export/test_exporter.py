"""Export: arguments, metadata, axes, calibration images, and what is left on disk."""

from __future__ import annotations

import ast
import logging
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from support.models import randomise, tiny_model
from support.training import write_world
from ultralytics.engine.exporter import export_formats
from ultralytics.utils import LOGGER

from yolo_multitask import MultiTaskYOLO
from yolo_multitask.export import exporter, formats
from yolo_multitask.export.exporter import MultiTaskExporter
from yolo_multitask.export.formats import ALIASES, REFUSED, ExportArgumentError, check_format


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the checkpoint of a small random model with every output."""
    model = tiny_model(nc=2, kpt_shape=(5, 3))
    randomise(model)
    model.names = {0: "person", 1: "dog"}
    model.kpt_classes = [0]
    model.task = "multitask"
    model.args = {"imgsz": 64, "task": "multitask"}
    path = tmp_path_factory.mktemp("model") / "best.pt"
    torch.save({"model": model.half(), "train_args": {"task": "multitask", "imgsz": 64}}, path)
    return path


@pytest.fixture
def model(checkpoint: Path, tmp_path: Path) -> MultiTaskYOLO:
    """Return the model, from a folder of its own."""
    (tmp_path / "m").mkdir()
    own = tmp_path / "m" / "best.pt"
    own.write_bytes(checkpoint.read_bytes())
    return MultiTaskYOLO(own)


def export(model: MultiTaskYOLO, **kwargs: Any) -> onnx.ModelProto:
    """Export to ONNX, 64 pixels, and return what is in the file."""
    return onnx.load(model.export(**{"format": "onnx", "imgsz": 64, "simplify": False, **kwargs}))


def shapes(file: onnx.ModelProto) -> dict[str, list[int | str]]:
    """Return the axes of the inputs and outputs by name."""
    return {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in [*file.graph.input, *file.graph.output]
    }


def metadata(file: onnx.ModelProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in file.metadata_props}


def test_static_file(model: MultiTaskYOLO) -> None:
    file = export(model)
    columns = 4 + 2 + 15 + 32 + 16 + 4
    assert shapes(file) == {"images": [1, 3, 64, 64], "output0": [1, columns, 84], "output1": [1, 32, 16, 16]}
    found = metadata(file)
    assert found["task"] == "multitask"
    values = {k: ast.literal_eval(found[k]) for k in ("tasks", "names", "kpt_shape", "kpt_classes", "imgsz", "args")}
    assert values["tasks"] == ["detect", "segment", "pose", "track"]
    assert values["names"] == {0: "person", 1: "dog"}
    assert (values["kpt_shape"], values["kpt_classes"], values["imgsz"]) == ([5, 3], [0], [64, 64])
    assert [found[k] for k in ("nc", "nm", "embed_dim", "next", "masks", "relative", "stride")] == [
        "2", "32", "16", "True", "False", "False", "32"
    ]  # fmt: skip
    assert not values["args"].get("nms")


def test_dynamic_file_with_nms(model: MultiTaskYOLO) -> None:
    file = export(model, dynamic=True, nms=True, max_det=20, batch=2)
    columns = 6 + 15 + 32 + 16 + 4
    assert shapes(file) == {
        "images": ["batch", 3, "height", "width"],
        "output0": ["batch", 20, columns],
        "output1": ["batch", 32, "mask_height", "mask_width"],
    }
    args = ast.literal_eval(metadata(file)["args"])
    assert (args["nms"], args["conf"], args["iou"], args["max_det"]) == (True, 0.25, 0.7, 20)


def test_masks_in_the_file(model: MultiTaskYOLO) -> None:
    file = export(model, nms=True, masks=True, max_det=20, track=False)
    assert shapes(file)["output1"] == [1, 20, 16, 16]
    assert metadata(file)["masks"] == "True"
    assert (metadata(file)["embed_dim"], metadata(file)["next"]) == ("0", "False")


def test_switches_choose_what_is_in_the_file(model: MultiTaskYOLO) -> None:
    file = export(model, segment=False, track=False)
    assert shapes(file) == {"images": [1, 3, 64, 64], "output0": [1, 4 + 2 + 15, 84]}
    assert ast.literal_eval(metadata(file)["tasks"]) == ["detect", "pose"]
    assert model.model.head.active == model.model.tasks  # the model itself is as before


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"format": "imx"}, "format=imx is refused for a multitask network: .* Export to one of torchscript, onnx"),
        ({"format": "onx"}, "format=onx: found no such format; expected one of torchscript, onnx"),
        ({"format": "pt"}, "format=pt: a network is in that already"),
        ({"format": "ncnn", "nms": True}, "nms=True cannot be in a multitask file of format=ncnn"),
        ({"format": "ncnn", "dynamic": True}, "'dynamic' is not supported for format='ncnn'; it takes imgsz"),
        ({"format": "ncnn", "batch": 2}, "batch=2: files of format=ncnn have no batch axis, expected batch=1"),
        ({"format": "onnx", "masks": True}, "masks=True .* needs nms=True as well"),
        ({"format": "onnx", "masks": 3}, "'masks' must be True or False .*, got 3"),
        ({"format": "onnx", "masks": True, "nms": True, "segment": False}, "masks=True needs the task segment"),
        ({"format": "paddle"}, "format=paddle cannot hold track: .* Export with track=False"),
        ({"format": "pb"}, "format=pb cannot hold track: its converter, onnx2tf, .* Export with track=False"),
        ({"format": "onnx", "quantize": "w8a32"}, "quantize='w8a32' is not supported"),
        ({"format": "openvino", "nms": True}, "nms=True in an OpenVINO file needs dynamic=True and no quantize=8"),
        ({"format": "litert", "quantize": 8}, "format=litert cannot hold a multitask network with quantize=8"),
        ({"format": "onnx", "opset": 12}, "opset=12 has no GridSample, .* expected 16 or above, or track=False"),
    ],
)
def test_wrong_arguments_are_said_before_any_work(model: MultiTaskYOLO, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ExportArgumentError, match=message):
        model.export(**given, imgsz=64)
    assert [p.name for p in Path(model.ckpt_path).parent.iterdir()] == ["best.pt"]


def test_every_format_of_the_host_is_taken_or_refused_with_a_reason() -> None:
    known = set(export_formats()["Argument"][1:])
    assert set(REFUSED) <= known
    for name in known - set(REFUSED):
        assert check_format(name) == name
    for alias, name in ALIASES.items():
        if name not in REFUSED:
            assert check_format(alias) == name
        else:
            with pytest.raises(ExportArgumentError, match="is refused"):
                check_format(alias)


def test_failed_export_leaves_nothing(model: MultiTaskYOLO, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(model.ckpt_path).parent
    (folder / "best.onnx").write_text("an older one")

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("disk full")

    monkeypatch.setattr(exporter, "_name_axes", fail)
    with pytest.raises(RuntimeError, match="disk full"):
        model.export(format="onnx", imgsz=64, simplify=False, nms=True)
    assert sorted(p.name for p in folder.iterdir()) == ["best.onnx", "best.pt"]
    assert (folder / "best.onnx").read_text() == "an older one"


def test_what_else_is_in_a_folder_is_left_alone(tmp_path: Path) -> None:
    made, place = tmp_path / "made" / "best_openvino_model", tmp_path / "place"
    (made / "inner").mkdir(parents=True)
    (made / "best.xml").write_text("new")
    (made / "inner" / "a.bin").write_text("new")
    (made.parent / "best.onnx").write_text("on the way")
    (place / made.name).mkdir(parents=True)
    (place / made.name / "best.xml").write_text("old")
    (place / made.name / "notes.txt").write_text("the user's")
    assert exporter._move(made, place, keep_onnx=False) == place / made.name
    found = {p.relative_to(place).as_posix(): p.read_text() for p in place.rglob("*") if p.is_file()}
    folder = "best_openvino_model"
    assert found == {f"{folder}/best.xml": "new", f"{folder}/inner/a.bin": "new", f"{folder}/notes.txt": "the user's"}


def test_model_from_yaml_is_exported_to_this_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = MultiTaskYOLO("yolov8n-multitask.yaml").export(format="torchscript", imgsz=32)
    assert Path(path) == tmp_path / "yolov8n-multitask.torchscript"


def test_messages_name_the_place_and_the_command(
    model: MultiTaskYOLO, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LOGGER, "propagate", True)
    monkeypatch.setattr(LOGGER, "level", logging.INFO)
    path = model.export(format="torchscript", imgsz=64)
    text = caplog.text
    assert f"ymt predict model={path}" in text
    assert ".export-" not in text


def test_calibration_images_are_those_of_our_data(model: MultiTaskYOLO, tmp_path: Path) -> None:
    data = write_world(tmp_path / "world")
    made = MultiTaskExporter(overrides={"format": "onnx", "data": str(data), "batch": 2, "imgsz": 64})
    made.imgsz = [64, 96]
    made.model = model.model
    batches = list(made.get_int8_calibration_dataloader())
    assert all(b["img"].dtype == torch.uint8 and tuple(b["img"].shape) == (2, 3, 64, 96) for b in batches)
    assert len(batches) == 2  # of the four pictures
    made.args.fraction = 0.5
    assert len(list(made.get_int8_calibration_dataloader())) == 1


def test_int8_file_has_integer_weights(model: MultiTaskYOLO, tmp_path: Path) -> None:
    data = write_world(tmp_path / "world")
    path = Path(model.export(format="onnx", imgsz=64, quantize=8, data=str(data), simplify=False))
    assert path.name == "best_int8.onnx"
    kinds = {w.data_type for w in onnx.load(path).graph.initializer}
    assert onnx.TensorProto.INT8 in kinds
    assert MultiTaskYOLO(path).task == "multitask"


def test_refusals_are_spelt_as_the_host_spells_formats() -> None:
    assert {*formats.LACKING, *formats.GRAPH_NMS, *formats.NO_BATCH} <= set(export_formats()["Argument"])
