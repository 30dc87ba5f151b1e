"""An exported file gives what its network gives: every field of every detection, batch 1 and 2, two sizes.

`python -m pytest -m formats tests/export/test_parity.py` runs the formats whose libraries are installed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.training import random_model

from yolo_multitask import MultiTaskYOLO
from yolo_multitask.engine.results import Results
from yolo_multitask.export.formats import NO_BATCH
from yolo_multitask.runtime import Session

SIDE = 64
SIZES = ((SIDE, SIDE), (32, 96))
FARTHEST = 3  # cells from an anchor to the sides of its box
BASE: dict[str, Any] = {"conf": 0.3, "iou": 0.6, "max_det": 20, "device": "cpu", "verbose": False}
FIELDS = ("boxes", "masks", "keypoints", "embeddings", "next_boxes")
KINDS: dict[str, dict[str, Any]] = {
    "fixed": {},
    "dynamic": {"dynamic": True},
    "nms": {"nms": True, "batch": 2},
    "nms, dynamic": {"nms": True, "dynamic": True},
    "nms, masks": {"nms": True, "masks": True},
}
OTHERS = [
    ("openvino", "openvino", {}),
    ("openvino", "openvino", {"batch": 2}),
    ("openvino", "openvino", {"dynamic": True}),
    ("openvino", "openvino", {"nms": True, "batch": 2}),
    ("openvino", "openvino", {"nms": True, "masks": True}),
    ("openvino", "openvino", {"nms": True, "dynamic": True}),
    ("mnn", "MNN", {}),
    ("mnn", "MNN", {"batch": 2}),
    ("ncnn", "ncnn", {}),
    ("litert", "litert_torch", {}),
    ("litert", "litert_torch", {"batch": 2}),
    ("executorch", "executorch", {}),
    ("executorch", "executorch", {"batch": 2}),
    ("paddle", "x2paddle", {"track": False}),
    ("paddle", "x2paddle", {"track": False, "batch": 2}),
    ("saved_model", "onnx2tf", {"track": False}),
    ("saved_model", "onnx2tf", {"track": False, "batch": 2}),
    ("pb", "onnx2tf", {"track": False}),
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkpoint with every output, whose random weights give detections everywhere, of a few cells each."""
    folder = tmp_path_factory.mktemp("network")
    model = random_model(folder)
    for stack in model.model.head.cv2:
        stack[-1].bias.data.view(4, -1)[:, FARTHEST:] = -10.0
    model.save(folder / "model.pt")
    return folder / "model.pt"


def export(checkpoint: Path, folder: Path, **given: Any) -> MultiTaskYOLO:
    """Return an exported file, made from a copy of the checkpoint."""
    source = folder / "model.pt"
    source.write_bytes(checkpoint.read_bytes())
    keys = ("conf", "iou", "max_det") if given.get("nms") else ("max_det",) if given.get("nms") is False else ()
    own = {key: BASE[key] for key in keys}  # the smaller of the pictures has fewer anchors than 300
    return MultiTaskYOLO(MultiTaskYOLO(source).export(imgsz=SIDE, device="cpu", **{**own, **given}))


def images(size: tuple[int, int]) -> list[np.ndarray]:
    """Return two pictures of a size (h, w)."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (*size, 3), dtype=np.uint8) for _ in range(2)]


def check_same(expected: Results, found: Results) -> None:
    """Check that two results hold the same detections; two of nearly the same score may stand the other way round."""
    assert len(found) == len(expected) > 1
    for field in FIELDS:
        assert (getattr(found, field) is None) == (getattr(expected, field) is None), field
    nearest = torch.cdist(expected.boxes.data, found.boxes.data).argmin(1)
    assert sorted(nearest.tolist()) == list(range(len(found)))
    for field in FIELDS:
        if getattr(expected, field) is None:
            continue
        one, two = getattr(expected, field).data, getattr(found, field).data[nearest]
        if field == "masks":
            assert one.shape == two.shape
            assert (one.bool() != two.bool()).float().mean() < 1e-4  # pixels at the threshold
        else:
            torch.testing.assert_close(two, one, rtol=1e-3, atol=1e-3, msg=lambda text, name=field: f"{name}: {text}")


def check_file(checkpoint: Path, folder: Path, **given: Any) -> None:
    """Export, and check all results of the file."""
    file, network = export(checkpoint, folder, **given), MultiTaskYOLO(checkpoint)
    switches: dict[str, Any] = {"track": False} if given.get("track") is False else {}
    switches |= {"nms": False} if given.get("nms") is False else {}
    for size in SIZES if given.get("dynamic") else SIZES[:1]:
        pictures = images(size)
        expected = [network.predict(picture, imgsz=size, **BASE, **switches)[0] for picture in pictures]
        for batch in (1, 2) if given.get("dynamic") or given["format"] in NO_BATCH else (given.get("batch", 1),):
            found = file.predict(pictures[:batch], imgsz=size, **BASE)
            assert len(found) == batch
            for both in zip(expected, found, strict=False):
                check_same(*both)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fmt", ["onnx", "torchscript"])
def test_a_file_predicts_as_its_network(checkpoint: Path, tmp_path: Path, fmt: str, kind: str) -> None:
    check_file(checkpoint, tmp_path, format=fmt, **KINDS[kind])


@pytest.fixture(scope="module")
def dual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkpoint of a network with two heads, whose detections are of a few cells each."""
    folder = tmp_path_factory.mktemp("dual")
    model = random_model(folder, family="yolo26n")
    for stack in (*model.model.head.cv2, *model.model.head.one2one_cv2):
        stack[-1].bias.data[:] = 1.5
    model.save(folder / "model.pt")
    return folder / "model.pt"


ONE2ONE: dict[str, dict[str, Any]] = {
    "fixed": {},
    "dynamic": {"dynamic": True},
    "batch": {"batch": 2},
    "few": {"conf": BASE["conf"]},
}


@pytest.mark.parametrize("kind", ONE2ONE)
@pytest.mark.parametrize("fmt", ["onnx", "torchscript"])
def test_a_file_without_an_nms_predicts_as_its_one_to_one_head(dual: Path, tmp_path: Path, fmt: str, kind: str) -> None:
    check_file(dual, tmp_path, format=fmt, nms=False, **ONE2ONE[kind])


def test_no_nms_is_in_a_file_of_the_one_to_one_head(dual: Path, tmp_path: Path) -> None:
    import onnx

    export(dual, tmp_path, format="onnx", nms=False, dynamic=True, max_det=7)
    model = onnx.load(tmp_path / "model.onnx")
    assert not [node for node in model.graph.node if node.op_type == "NonMaxSuppression"]
    rows = model.graph.output[0].type.tensor_type.shape.dim
    network: Any = MultiTaskYOLO(dual).model
    assert [side.dim_value for side in rows] == [0, 7, 6 + network.head.layout.extra]
    found = Session(tmp_path / "model.onnx").predict(images(SIZES[0])[0], conf=0.01)
    wanted = MultiTaskYOLO(dual).predict(
        images(SIZES[0])[0], imgsz=SIDE, nms=False, conf=0.01, max_det=7, verbose=False
    )
    np.testing.assert_allclose(np.sort(found.xyxy, 0), np.sort(wanted[0].boxes.xyxy.numpy(), 0), atol=1e-3)


@pytest.mark.parametrize("switch", [{"nms": None}, {"nms": True}, {"end2end": False}])
def test_the_one_to_many_head_is_exported_too(dual: Path, tmp_path: Path, switch: dict[str, Any]) -> None:
    check_file(dual, tmp_path, format="onnx", **switch)


@pytest.mark.formats
@pytest.mark.parametrize(("fmt", "library", "given"), OTHERS)
def test_so_do_files_of_other_formats(
    checkpoint: Path, tmp_path: Path, fmt: str, library: str, given: dict[str, Any]
) -> None:
    pytest.importorskip(library)
    check_file(checkpoint, tmp_path, format=fmt, **given)


def test_named_outputs_are_those_of_the_head(checkpoint: Path, tmp_path: Path) -> None:
    import onnxruntime

    export(checkpoint, tmp_path, format="onnx", dynamic=True)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    network: Any = MultiTaskYOLO(checkpoint).model.eval()
    for batch, size in ((1, SIZES[0]), (2, SIZES[1])):
        x = torch.rand(batch, 3, *size, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            (rows, proto), _ = network(x)
        outputs = session.run(None, {"images": x.numpy()})
        assert [output.name for output in session.get_outputs()] == ["output0", "output1"]
        layout, (height, width) = network.head.layout, size
        anchors = sum(height * width // stride**2 for stride in (8, 16, 32))
        assert rows.shape == (batch, 4 + layout.nc + layout.extra, anchors)
        torch.testing.assert_close(torch.from_numpy(outputs[0]), rows, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(torch.from_numpy(outputs[1]), proto, rtol=1e-3, atol=1e-3)
