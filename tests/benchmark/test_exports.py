"""How a model is exported for a benchmark: what is in the files, where they lie, and what is refused beforehand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from yolo_multitask import MultiTaskYOLO
from yolo_multitask.benchmark.exports import Export, plan_exports, reason
from yolo_multitask.benchmark.settings import read_settings
from yolo_multitask.engine.exported import read_metadata
from yolo_multitask.export.formats import ExportArgumentError


def plan(file: str, device: str = "cpu", **arguments: Any) -> list[Export]:
    return plan_exports(read_settings(arguments), MultiTaskYOLO(file), 64, device)


@pytest.mark.parametrize(
    ("arguments", "nms", "expected"),
    [
        ({"format": "onnx"}, True, {"dynamic": True, "batch": 1, "quantize": None}),
        ({"format": "onnx", "batches": [1, 4]}, True, {"dynamic": True, "batch": 4, "quantize": None}),
        ({"format": "onnx", "detections": 20}, False, {"dynamic": True, "batch": 1, "quantize": None}),
        ({"format": "ncnn", "batches": 4}, False, {"dynamic": False, "batch": 1, "quantize": None}),
        ({"format": "openvino", "half": True}, True, {"dynamic": True, "batch": 1, "quantize": 16}),
        (
            {"format": "openvino", "int8": True, "data": "a.yaml"},
            False,
            {"dynamic": True, "batch": 1, "quantize": 8, "data": "a.yaml"},
        ),
        ({"format": "mnn", "int8": True, "data": "a.yaml"}, False, {"dynamic": True, "batch": 1, "quantize": 8}),
        ({"format": "paddle", "track": False}, False, {"dynamic": False, "batch": 1, "quantize": None, "track": False}),
    ],
)
def test_files_are_as_comparable_as_the_format_can_have_them(
    arguments: dict[str, Any], nms: bool, expected: dict[str, Any], checkpoints: dict[str, str]
) -> None:
    (export,) = plan(checkpoints["best"], **arguments)
    assert export.nms == nms
    assert export.arguments == {"format": arguments["format"], "imgsz": 64, "device": "cpu", **expected}


def test_files_that_run_where_they_were_made_are_made_there(checkpoints: dict[str, str]) -> None:
    exports = plan(checkpoints["best"], "cuda:0", format="onnx,torchscript,engine", batches=[2])
    assert [export.arguments["device"] for export in exports] == ["cpu", "cuda:0", "cuda:0"]
    assert [export.validation for export in exports] == [{}, {}, {"batch": 2}]


def test_labels_say_format_and_precision(checkpoints: dict[str, str]) -> None:
    assert [export.label for export in plan(checkpoints["best"], format="onnx,ncnn", half=True)] == [
        "onnx half",
        "ncnn half",
    ]
    assert plan(checkpoints["best"], format="onnx")[0].label == "onnx"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"format": "paddle"}, "format=paddle cannot hold track"),
        ({"format": "executorch", "half": True}, "quantize=16 (FP16) is not supported"),
        ({"format": "litert", "int8": True, "data": "a.yaml"}, "format=litert cannot hold a multitask network with"),
        ({"format": "onnx,ncnn", "int8": True, "data": "a.yaml"}, "quantize=8 (INT8) is not supported"),
    ],
)
def test_what_a_format_cannot_hold_is_said_beforehand(
    arguments: dict[str, Any], says: str, checkpoints: dict[str, str]
) -> None:
    with pytest.raises(ExportArgumentError, match=re.escape(says)):
        plan(checkpoints["best"], **arguments)


def test_a_file_is_not_exported_again(onnx_file: str) -> None:
    with pytest.raises(ExportArgumentError, match=r"expected a network to export, found the exported file '.*\.onnx'"):
        plan(onnx_file, format="torchscript")
    assert plan(onnx_file) == []


@pytest.mark.parametrize("nms", [True, False])
def test_exports_stay_in_the_folder_that_they_are_given(nms: bool, checkpoints: dict[str, str], tmp_path: Path) -> None:
    beside = sorted(Path(checkpoints["best"]).parent.iterdir())
    (export,) = plan(checkpoints["best"], format="torchscript", segment=False)
    file = Path(export.write(checkpoints["best"], tmp_path / "made", nms=nms))
    assert list((tmp_path / "made").iterdir()) == [file]
    assert sorted(Path(checkpoints["best"]).parent.iterdir()) == beside
    metadata = read_metadata(file)
    assert metadata["tasks"] == ["detect", "pose", "track"]
    assert (bool(metadata["args"].get("nms")), metadata["args"]["dynamic"]) == (nms, True)
    assert metadata["args"].get("conf") == (0.25 if nms else None)


def test_a_reason_is_one_line() -> None:
    assert reason(ModuleNotFoundError("No module named 'openvino'", name="openvino")) == "openvino is not installed"
    assert reason(RuntimeError("one\n  two")) == "one two"
    assert reason(AssertionError()) == "AssertionError"
    assert len(reason(RuntimeError("word " * 200))) <= 240
