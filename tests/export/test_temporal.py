"""Files of models of windows: names, axes and metadata of their outputs, and the same values as the network."""

from __future__ import annotations

import ast
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from support.models import randomise
from support.temporal import tiny_temporal
from ultralytics.nn.autobackend import AutoBackend

from yolo_multitask import MultiTaskYOLO
from yolo_multitask.engine import exported
from yolo_multitask.export.formats import ExportArgumentError
from yolo_multitask.runtime import Session

FRAMES, CHANNELS = 3, 1
ELEMENTS, ANCHORS = FRAMES * 256, 84  # of 64 x 64 pixels
ROWS = 4 + 2 + 15


def save(path: Path, **kwargs: Any) -> Path:
    """Save a small random model with two followed classes and two of players, numbered across each other."""
    model = tiny_temporal(FRAMES, nc=2, pose_nc=2, kpt_shape=(5, 3), **kwargs)
    randomise(model)
    model.names = {0: "player", 1: "ball", 2: "referee", 3: "puck"}
    model.objects = [1, 3] if model.detect_idx is not None else []
    model.players = [0, 2] if model.pose_idx is not None else []
    model.object_size = 0.015
    model.kpt_classes = [0]
    model.task = "multitask"
    model.args = {"imgsz": 64, "task": "multitask"}
    path.parent.mkdir(exist_ok=True)
    torch.save({"model": model.half(), "train_args": {"task": "multitask", "imgsz": 64}}, path)
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("model") / "best.pt")


@pytest.fixture
def model(checkpoint: Path, tmp_path: Path) -> MultiTaskYOLO:
    """Return the model, from a folder of its own."""
    (tmp_path / "m").mkdir()
    own = tmp_path / "m" / "best.pt"
    own.write_bytes(checkpoint.read_bytes())
    return MultiTaskYOLO(own)


def shapes(file: onnx.ModelProto) -> dict[str, list[int | str]]:
    """Return the axes of the inputs and outputs by name."""
    return {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in [*file.graph.input, *file.graph.output]
    }


def eager(model: MultiTaskYOLO, x: torch.Tensor) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return {head: out[0] for head, out in model.model.eval().float()(x).items()}


def windows(batch: int, size: tuple[int, int]) -> torch.Tensor:
    return torch.rand(batch, FRAMES * CHANNELS, *size, generator=torch.Generator().manual_seed(batch + size[0]))


def test_static_file_and_its_metadata(model: MultiTaskYOLO) -> None:
    file = onnx.load(model.export(format="onnx", imgsz=64, simplify=False))
    onnx.checker.check_model(file)
    assert shapes(file) == {
        "images": [1, 3, 64, 64],
        "output0": [1, ELEMENTS, 4 + 2],
        "output1": [1, ROWS, ANCHORS],
    }
    found = {entry.key: entry.value for entry in file.metadata_props}
    assert (found["task"], found["layout"], found["features"]) == ("multitask", "temporal", "offsets_next")
    keys = ("tasks", "outputs", "num_groups", "frame_channels", "feat_no", "objects", "players", "strides", "names")
    assert {k: ast.literal_eval(found[k]) for k in (*keys, "kpt_shape", "kpt_classes", "object_size", "columns")} == {
        "tasks": ["detect", "pose", "track"],
        "outputs": ["track", "pose"],
        "num_groups": 3,
        "frame_channels": 1,
        "feat_no": 8,
        "objects": [1, 3],
        "players": [0, 2],
        "strides": [4.0],
        "names": {0: "player", 1: "ball", 2: "referee", 3: "puck"},
        "kpt_shape": [5, 3],
        "kpt_classes": [0],
        "object_size": 0.015,
        "columns": ["x", "y", "next_x", "next_y"],
    }


def test_dynamic_onnx_gives_the_values_of_the_network(model: MultiTaskYOLO) -> None:
    file = model.export(format="onnx", imgsz=64, dynamic=True)
    assert shapes(onnx.load(file)) == {
        "images": ["batch", 3, "height", "width"],
        "output0": ["batch", "elements", 4 + 2],
        "output1": ["batch", ROWS, "anchors"],
    }
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for batch in (1, 2):
        for size in ((64, 64), (96, 64)):
            x = windows(batch, size)
            expected = eager(model, x)
            found = session.run(["output0", "output1"], {"images": x.numpy()})
            assert expected["track"].std() > 0
            np.testing.assert_allclose(found[0], expected["track"].numpy(), rtol=1e-4, atol=2e-3)
            np.testing.assert_allclose(found[1], expected["pose"].numpy(), rtol=1e-4, atol=2e-3)


def check_file(model: MultiTaskYOLO, x: torch.Tensor, **given: Any) -> None:
    """Export and compare what the file gives for `x`, through the host's backend, with the network."""
    expected = eager(model, x)
    file = model.export(**given)
    loaded = MultiTaskYOLO(file)
    assert (loaded.task, loaded.is_temporal) == ("multitask", True)
    backend = AutoBackend(file, device=torch.device("cpu"))
    exported.adopt(backend, file)
    outputs = backend(x)
    found = exported.read_heads(backend, outputs if isinstance(outputs, (list, tuple)) else [outputs])
    for head in ("track", "pose"):
        value = found[head]
        assert value is not None
        torch.testing.assert_close(torch.as_tensor(value), expected[head], rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize("format", ["onnx", "torchscript"])
@pytest.mark.parametrize(("batch", "size"), [(1, (64, 96)), (2, (64, 64))])
def test_static_files(model: MultiTaskYOLO, format: str, batch: int, size: tuple[int, int]) -> None:
    plain = {"simplify": False} if format == "onnx" else {}
    check_file(model, windows(batch, size), format=format, imgsz=list(size), batch=batch, **plain)


def test_dynamic_torchscript(model: MultiTaskYOLO) -> None:
    check_file(model, windows(2, (96, 64)), format="torchscript", imgsz=64, dynamic=True)


@pytest.mark.formats
@pytest.mark.parametrize(
    ("format", "library", "dynamic", "batch"),
    [
        ("openvino", "openvino", True, 2),
        ("openvino", "openvino", False, 2),
        ("mnn", "MNN", False, 2),
        ("ncnn", "ncnn", False, 1),
    ],
)
def test_other_formats(model: MultiTaskYOLO, format: str, library: str, dynamic: bool, batch: int) -> None:
    pytest.importorskip(library)
    if dynamic:
        check_file(model, windows(batch, (96, 64)), format=format, imgsz=64, dynamic=True)
    else:
        check_file(model, windows(batch, (64, 96)), format=format, imgsz=[64, 96], batch=batch)


@pytest.mark.parametrize(("lacks", "output"), [("track", [1, ROWS, ANCHORS]), ("pose", [1, ELEMENTS, 4 + 2])])
def test_a_head_that_is_switched_off_is_not_in_the_file(model: MultiTaskYOLO, lacks: str, output: list[int]) -> None:
    file = model.export(format="onnx", imgsz=64, simplify=False, **{lacks: False})
    assert shapes(onnx.load(file)) == {"images": [1, 3, 64, 64], "output0": output}
    backend = AutoBackend(file, device=torch.device("cpu"))
    exported.adopt(backend, file)
    x = windows(1, (64, 64))
    found = exported.read_heads(backend, backend(x))
    assert found[lacks] is None
    has = "pose" if lacks == "track" else "track"
    torch.testing.assert_close(found[has], eager(model, x)[has], rtol=1e-4, atol=2e-3)


def test_a_model_of_one_head(tmp_path: Path) -> None:
    model = MultiTaskYOLO(save(tmp_path / "m" / "best.pt", tasks=("track",)))
    file = onnx.load(model.export(format="onnx", imgsz=64, simplify=False))
    assert shapes(file) == {"images": [1, 3, 64, 64], "output0": [1, ELEMENTS, 4 + 2]}


def test_outputs_are_told_apart_in_any_order(model: MultiTaskYOLO) -> None:
    metadata = {"outputs": ["track", "pose"], "columns": ["x", "y"], "objects": [0], "players": [1]}
    backend = SimpleNamespace(metadata=metadata | {"kpt_shape": [2, 3]})
    track, pose = torch.zeros(1, 30, 3), torch.zeros(1, 11, 10)
    for given in ([track, pose], (pose, track)):
        assert exported.read_heads(backend, given) == {"track": track, "pose": pose}
    with pytest.raises(ValueError, match="expected the outputs track with 3 values .* found \\(1, 30, 3\\); export"):
        exported.read_heads(backend, track)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"nms": True}, "nms=True cannot be in a file of a model of windows"),
        ({"masks": True}, "masks=True cannot be in a file of a model of windows"),
        ({"quantize": 8}, "quantize=8 needs windows of frames to calibrate with"),
        ({"format": "litert"}, "format=litert cannot carry a model of windows"),
        ({"format": "paddle"}, "format=paddle cannot carry a model of windows"),
        ({"format": "imx"}, "format=imx is refused for a multitask network"),
        ({"segment": True}, "'segment=True' was asked for, but model .* has only: detect, pose, track"),
        ({"pose": False, "track": False}, "the switches leave no head to export"),
    ],
)
def test_wrong_arguments_are_said_before_any_work(model: MultiTaskYOLO, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ExportArgumentError, match=message):
        model.export(**{"format": "onnx", **given}, imgsz=64)
    assert [p.name for p in Path(model.ckpt_path).parent.iterdir()] == ["best.pt"]


def test_a_session_says_what_to_use_instead(model: MultiTaskYOLO) -> None:
    file = model.export(format="onnx", imgsz=64, simplify=False)
    with pytest.raises(ValueError, match="best.onnx: .* windows of frames.*; use MultiTaskYOLO\\(file\\)"):
        Session(file)
