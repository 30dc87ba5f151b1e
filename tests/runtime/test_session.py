"""Predictions of a file are those of `MultiTaskYOLO` with the same file; files that cannot be run say why."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.blobs import IOU, change_metadata, picture
from support.exported import CONF, SIZE

from yolo_multitask import MultiTaskYOLO
from yolo_multitask.runtime import Detections, Session

Export = Callable[[str], Path]
IMAGES = [(64, 64), (40, 100), (131, 77), (7, 50)]
OPTIONS: list[dict[str, Any]] = [{}, {"classes": [1]}, {"agnostic": True, "max_det": 5}, {"retina_masks": False}]


def image(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(height)
    return cv2.resize(rng.integers(0, 255, (6, 9, 3), dtype=np.uint8), (width, height))


@cache
def model(file: Path) -> MultiTaskYOLO:
    return MultiTaskYOLO(file)


def by_torch(file: Path, picture: Any, **options: Any) -> Any:
    """Return what `MultiTaskYOLO` predicts."""
    agnostic = options.pop("agnostic", False)
    given = {"retina_masks": True, "verbose": False, "device": "cpu", "agnostic_nms": agnostic, **options}
    return model(file).predict(picture, **given)[0].numpy()


def assert_same(found: Detections, expected: Any) -> None:
    assert len(found) == len(expected)
    for value, other in (
        (found.xyxy, expected.boxes.xyxy),
        (found.score, expected.boxes.conf),
        (found.keypoints, expected.keypoints.data),
        (found.embeddings, expected.embeddings.data),
        (found.next_boxes, expected.next_boxes.data),
    ):
        assert value is not None
        assert value.dtype == np.float32
        np.testing.assert_allclose(value, other, rtol=1e-6, atol=2e-4)
    np.testing.assert_array_equal(found.cls, expected.boxes.cls)
    assert found.masks is not None
    assert found.masks.shape == expected.masks.data.shape
    assert (found.masks != expected.masks.data.astype(bool)).sum() <= 1, "a pixel at the threshold may differ"
    assert dict(found.names) == expected.names
    assert found.orig_shape == expected.orig_shape


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("shape", IMAGES, ids=str)
@pytest.mark.parametrize("kind", ["static", "dynamic", "nms", "masks"])
def test_predictions_are_those_of_torch(
    exported: Export, kind: str, shape: tuple[int, int], options: dict[str, Any]
) -> None:
    file, given = exported(kind), image(*shape)
    how = {"conf": CONF, "iou": 0.5, **options}
    if kind in {"nms", "masks"}:
        how.pop("agnostic", None)  # decided at the export
    found = Session(file).predict(given, **how)
    assert_same(found, by_torch(file, given, imgsz=SIZE, **how))
    assert len(found) > 0
    assert np.shares_memory(found.image, given)


def test_half_precision(exported: Export) -> None:
    given = image(40, 100)
    half, full = Session(exported("half")), Session(exported("dynamic"))
    found, expected = (s.predict(given, conf=CONF, iou=0.5) for s in (half, full))
    assert found.xyxy.dtype == np.float32
    assert len(found) == len(expected) > 0
    np.testing.assert_allclose(found.xyxy, expected.xyxy, atol=0.5)
    np.testing.assert_allclose(found.score, expected.score, atol=0.01)


def test_a_dynamic_file_takes_any_size(exported: Export) -> None:
    file, given = exported("dynamic"), image(50, 90)
    session = Session(file)
    assert session.dynamic
    for imgsz in (96, (64, 128), 70):
        found = session.predict(given, conf=CONF, imgsz=imgsz, retina_masks=False)
        assert_same(found, by_torch(file, given, conf=CONF, imgsz=imgsz, retina_masks=False))
    assert session.predict(given, conf=CONF, retina_masks=False).masks.shape[1:] == (64, 64)


def test_a_file_of_fixed_size_says_so(exported: Export) -> None:
    session = Session(exported("static"))
    assert not session.dynamic
    assert len(session.predict(image(40, 100), conf=CONF, imgsz=SIZE)) > 0
    with pytest.raises(ValueError, match=r"imgsz=96: expected \[64, 64\], as it was exported without dynamic=True"):
        session.predict(image(40, 100), imgsz=96)


@pytest.mark.parametrize("imgsz", [0, -3, (64,), (64, 64, 3), "64", 1.5])
def test_a_wrong_size_is_named(exported: Export, imgsz: Any) -> None:
    with pytest.raises(ValueError, match=r"imgsz: expected a whole number above 0, or height and width, found"):
        Session(exported("dynamic")).predict(image(40, 100), imgsz=imgsz)


def test_an_image_without_objects(blobs: Path) -> None:
    found = Session(blobs).predict(np.full((50, 80, 3), 90, np.uint8))
    assert len(found) == 0
    assert found.xyxy.shape == (0, 4)
    assert found.keypoints.shape == (0, 2, 3)
    assert found.masks.shape == (0, 50, 80)
    assert found.embeddings.shape == (0, 3)
    assert found.next_boxes.shape == (0, 4)


def test_a_picture_is_read_as_the_host_reads_it(blobs: Path, tmp_path: Path) -> None:
    path = tmp_path / "pïcture.png"
    path.write_bytes(cv2.imencode(".png", picture(3))[1].tobytes())
    found = Session(blobs).predict(path, iou=IOU)
    assert found.path == str(path)
    assert len(found) > 0
    assert_same(found, by_torch(blobs, str(path), iou=IOU))


def test_a_gray_picture_and_one_with_alpha(blobs: Path) -> None:
    session = Session(blobs)
    assert len(session.predict(picture(3)[..., 0])) == 0
    with_alpha = np.concatenate((picture(3), picture(3)[..., :1]), 2)
    np.testing.assert_array_equal(session.predict(with_alpha).xyxy, session.predict(picture(3)).xyxy)


@pytest.mark.parametrize(
    "wrong", [np.zeros((4, 4, 3)), np.zeros((4, 4, 3, 1), np.uint8), np.zeros((0, 4, 3), np.uint8), None]
)
def test_what_is_no_picture_is_named(blobs: Path, wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"image: expected uint8 \(H, W, 3\), found"):
        Session(blobs).predict(wrong)


def test_a_broken_picture_is_named(blobs: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    (tmp_path / "b.jpg").touch()
    for name in ("a.jpg", "b.jpg"):
        with pytest.raises(ValueError, match=rf"{name}: expected an image that OpenCV can read, found"):
            Session(blobs).predict(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"c.jpg: expected an image, found no such file"):
        Session(blobs).predict(tmp_path / "c.jpg")


def test_only_some_classes_have_keypoints(blobs: Path, tmp_path: Path) -> None:
    file = change_metadata(blobs, tmp_path / "some.onnx", kpt_classes=[1])
    found = Session(file).predict(picture(3), iou=IOU)
    has = found.keypoints.any((1, 2))
    np.testing.assert_array_equal(has, found.cls == 1)
    assert set(has) == {True, False}


def test_values_out_of_range_are_named(blobs: Path) -> None:
    session = Session(blobs)
    with pytest.raises(ValueError, match=r"classes: expected numbers from 0 to 1, found \[2\]"):
        session.predict(picture(0), classes=[0, 2])
    with pytest.raises(ValueError, match=r"conf: expected a number from 0 to 1, found 25"):
        session.predict(picture(0), conf=25)


def test_an_nms_in_the_file_has_the_last_word(exported: Export) -> None:
    session = Session(exported("nms"))
    with pytest.warns(UserWarning, match=r"conf=0.05: the NMS in the file drops what is below 0.1"):
        low = session.predict(image(40, 100), conf=0.05)
    np.testing.assert_array_equal(low.xyxy, session.predict(image(40, 100), conf=CONF).xyxy)


def test_threads_and_providers(blobs: Path) -> None:
    found = Session(blobs, threads=1, providers=["CPUExecutionProvider"]).predict(picture(0), iou=IOU)
    np.testing.assert_array_equal(found.xyxy, Session(blobs).predict(picture(0), iou=IOU).xyxy)
    with pytest.raises(ValueError, match=r"blobs.onnx: providers: expected some of .*CPUEx.*, found \['Abacus'\]"):
        Session(blobs, providers=["Abacus"])


def identity(path: Path, opset: int = 18, operator: str = "Identity", **metadata: str) -> Path:
    """Write an ONNX file of one operator."""
    shape = [1, 3, 64, 64]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("images", "output0")]
    graph = helper.make_graph([helper.make_node(operator, ["images"], ["output0"])], "one", values[:1], values[1:])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    helper.set_model_props(made, metadata)
    path.write_bytes(made.SerializeToString())
    return path


def test_files_that_cannot_be_run_say_why(blobs: Path, tmp_path: Path) -> None:
    def write(name: str, content: bytes) -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    whole = blobs.read_bytes()
    one_output = onnx.load(blobs)
    del one_output.graph.output[1]
    cases = {
        write("empty.onnx", b""): "expected an ONNX file that onnxruntime .* can run, found: ",
        write("cut.onnx", whole[: len(whole) // 2]): "expected an ONNX file that onnxruntime .* can run, found: ",
        write("text.onnx", b"hello, world\n" * 9): "expected an ONNX file that onnxruntime .* can run, found: ",
        identity(tmp_path / "operator.onnx", operator="Foo"): "No Op registered for Foo",
        identity(tmp_path / "opset.onnx", opset=99): r"expected opset \d+ or lower, found 99; update onnxruntime",
        identity(tmp_path / "none.onnx"): "expected the metadata of a multitask model, found none; export it again",
        identity(
            tmp_path / "stock.onnx", task="detect"
        ): "expected a model of task 'multitask', found 'detect'; run it",
        change_metadata(blobs, tmp_path / "less.onnx", names=...): "metadata: expected 'names', found none among",
        change_metadata(blobs, tmp_path / "other.onnx", nc=1, names={0: "a"}): r"'output0' of shape \(1, 21, any\)",
        write(
            "outputs.onnx", one_output.SerializeToString()
        ): "expected 2 outputs of floats for detect, segment, pose, track",
    }
    for file, says in cases.items():
        with pytest.raises(ValueError, match=rf"^\S*{file.name}: .*{says}") as error:
            Session(file)
        assert "\n" not in str(error.value)
        assert "/onnxruntime_src" not in str(error.value)
    for file in (tmp_path / "nowhere.onnx", tmp_path):
        with pytest.raises(FileNotFoundError, match="expected an ONNX file, found none; check the path"):
            Session(file)


def test_a_stock_export_is_refused_by_name(tmp_path: Path) -> None:
    file = MultiTaskYOLO("yolov8n.yaml").export(format="onnx", imgsz=32, project=str(tmp_path), simplify=False)
    with pytest.raises(ValueError, match="expected a model of task 'multitask', found 'detect'"):
        Session(file)
