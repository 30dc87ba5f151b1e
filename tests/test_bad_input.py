"""What a user can get wrong: each gives one clear error, or is counted and survived, never a traceback from below."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.models import tiny_yaml
from support.training import (
    RUN,
    SIZE,
    assert_finite,
    change_yaml,
    label_files,
    random_model,
    relabel,
    rows,
    train,
    write_model,
    write_world,
)

from yolo_multitask import MultiTaskYOLO
from yolo_multitask.cli import app
from yolo_multitask.data.labels import LabelSpec

LAYERS = [15, 18, 21]
EMPTY = np.zeros((SIZE, SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the YAML of a tiny model."""
    return write_model(tmp_path_factory.mktemp("tiny") / "tiny-multitask.yaml")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> MultiTaskYOLO:
    """Return a model to predict with."""
    return random_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def checkpoint(model: MultiTaskYOLO, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a good checkpoint."""
    file = tmp_path_factory.mktemp("checkpoint") / "good.pt"
    model.save(file)
    return file


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a good data set that a test may spoil."""
    return write_world(tmp_path / "data")


@pytest.fixture
def complain(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return a function that runs `ymt`, expects it to fail and returns the one line that it says."""

    def run(*argv: object, code: int = 1) -> str:
        capsys.readouterr()
        assert app.main([str(arg) for arg in argv]) == code
        lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("ymt: warning:")]
        found = [line for line in lines if line.startswith("ymt: ")]
        assert len(found) == 1, lines
        assert not any("Traceback" in line for line in lines)
        return found[0]

    return run


# ---- data YAMLs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"kpt_shape": [17]}, r"kpt_shape: expected \[K, D\] .* found \[17\]"),
        ({"kpt_shape": [17, 4]}, r"D = 2 \(x y\) or 3 .* found \[17, 4\]"),
        ({"kpt_shape": [16, 3]}, r"'flip_idx': expected a permutation of 0\.\.15 .* found 17 entries"),
        ({"flip_idx": [0, 2, 1]}, r"'flip_idx': expected a permutation of 0\.\.16 .* found 3 entries"),
        ({"train": ..., "tran": "images/train"}, "unknown key 'tran', did you mean 'train'"),
        ({"names": ...}, "names"),
    ],
)
def test_data_yaml(keys: dict[str, Any], reason: str, data: Path, tiny: Path, tmp_path: Path, complain: Any) -> None:
    change_yaml(data, **keys)
    with pytest.raises(ValueError, match=reason) as error:
        train(tiny, data, tmp_path / "run")
    assert str(data) in str(error.value)
    assert str(data) in complain("train", f"model={tiny}", f"data={data}", f"project={tmp_path}", "device=cpu")


def test_data_yaml_that_is_not_yaml(tiny: Path, tmp_path: Path, complain: Any) -> None:
    file = tmp_path / "data.yaml"
    file.write_text("train: [images,\n  val: images")
    with pytest.raises(ValueError, match=r"data\.yaml: expected a YAML mapping, found text that does not parse"):
        train(tiny, file, tmp_path / "run")
    assert "expected a YAML mapping" in complain("train", f"model={tiny}", f"data={file}", f"project={tmp_path}")


def test_data_yaml_that_does_not_exist(tiny: Path, tmp_path: Path, complain: Any) -> None:
    with pytest.raises(ValueError, match=r"coco8-multitsk.*Did you mean 'coco8-multitask\.yaml'"):
        train(tiny, Path("coco8-multitsk.yaml"), tmp_path / "run")
    assert "found no such file" in complain("train", f"model={tiny}", "data=nowhere.yaml", f"project={tmp_path}")


def test_keypoints_of_another_number_than_in_the_lines(data: Path, tiny: Path, tmp_path: Path) -> None:
    change_yaml(data, kpt_shape=[5, 3], flip_idx=..., kpt_names=...)
    with pytest.raises(ValueError, match=r"expected usable images .* found 0 images, .*8 images left out") as error:
        train(tiny, data, tmp_path / "run")
    assert "000001.txt:1: expected polygon coordinates in 0..1" in str(error.value)


def test_model_and_data_with_other_keypoints(data: Path, checkpoint: Path, complain: Any) -> None:
    settings = {k: v for k, v in RUN.items() if k != "epochs"}
    with pytest.raises(ValueError, match=r"predicts 5 keypoints .* labels 17 .*'pose=False'"):
        MultiTaskYOLO(checkpoint).val(data=str(data), **settings)
    assert "predicts 5 keypoints" in complain("val", f"model={checkpoint}", f"data={data}", "imgsz=64", "plots=False")


# ---- images and label files ----------------------------------------------------------------------------------------


def test_empty_label_files_are_background(data: Path, tiny: Path, tmp_path: Path) -> None:
    files = label_files(data)
    for file in files[:3]:
        file.write_text("")
    files[3].unlink()
    counts: list[Any] = []
    model = MultiTaskYOLO(tiny)
    model.add_callback("on_train_start", lambda t: counts.append(t.train_loader.dataset.scan.counts))
    train(model, data, tmp_path / "run")
    assert counts[0]["backgrounds"] == 4
    assert counts[0]["images"] == 8
    assert_finite(rows(tmp_path / "run"))


def test_every_label_file_empty(data: Path, tiny: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for split in ("train", "val"):
        for file in label_files(data, split):
            file.write_text("")
    model = train(tiny, data, tmp_path / "run")
    table = rows(tmp_path / "run")
    assert_finite(table)
    assert table[0]["train/pose_loss"] == table[0]["train/seg_loss"] == table[0]["train/box_loss"] == 0
    assert any("no labelled instance" in message for message in caplog.messages)
    assert model.metrics.box.map == 0


def test_no_label_files(data: Path, tiny: Path, tmp_path: Path) -> None:
    for file in label_files(data):
        file.unlink()
    with pytest.raises(ValueError, match=r"expected label files such as .*000001\.txt, found none; training needs"):
        train(tiny, data, tmp_path / "run")


def test_no_images(data: Path, tiny: Path, tmp_path: Path, complain: Any) -> None:
    for image in (data.parent / "images" / "train").rglob("*.jpg"):
        image.unlink()
    with pytest.raises((ValueError, FileNotFoundError), match=r"images/train"):
        train(tiny, data, tmp_path / "run")
    assert "images/train" in complain("train", f"model={tiny}", f"data={data}", f"project={tmp_path}", "imgsz=64")


def test_a_missing_image_folder(data: Path, tiny: Path, tmp_path: Path) -> None:
    change_yaml(data, val="images/nowhere")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        train(tiny, data, tmp_path / "run")


def test_a_corrupt_image_is_counted_and_left_out(
    data: Path, tiny: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = sorted((data.parent / "images" / "train").rglob("*.jpg"))
    images[0].write_bytes(b"not a picture")
    images[1].write_bytes(images[1].read_bytes()[:40])
    counts: list[Any] = []
    model = MultiTaskYOLO(tiny)
    model.add_callback("on_train_start", lambda t: counts.append(t.train_loader.dataset.scan.counts))
    train(model, data, tmp_path / "run")
    assert (counts[0]["corrupt"], counts[0]["images"]) == (2, 6)
    for image in images[:2]:
        assert any(f"{image}: corrupt image left out" in message for message in caplog.messages)
    assert_finite(rows(tmp_path / "run"))


BOX = "0.5 0.5 0.2 0.2"
BAD_LINES = {
    "nan": (f"0 nan 0.5 0.2 0.2 {'- ' * 2}", "expected a finite number in the box, found 'nan'"),
    "missing columns": ("0 0.5 0.5", "2 of 4 box numbers"),
    "extra columns": (f"0 {BOX} - - 0.5", "expected"),
    "negative class": (f"-1 {BOX} - -", r"expected a class in 0..0 (nc is 1), found '-1'"),
    "unknown class": (f"7 {BOX} - -", r"expected a class in 0..0 (nc is 1), found '7'"),
    "word": (f"person {BOX} - -", "expected an integer class first, found 'person'"),
    "out of range": ("0 1.7 0.5 0.2 0.2 - -", "normalised by the image size), found 1.7"),
    "no width": ("0 0.5 0.5 0 0.2 - -", "expected a box width and height above 0, found 0 x 0.2"),
    "few keypoints": (f"0 {BOX} 0.1 0.1 2 -", "expected 51 keypoint numbers"),
    "few points": (f"0 {BOX} - 0.1 0.1 0.2 0.2", "expected a polygon of 3 or more x y pairs"),
}


def test_bad_lines_are_named_with_file_line_and_reason(
    data: Path, tiny: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Ten kinds of bad lines in seven of the training pictures' files: all are reported, the eighth is trained on."""
    files = label_files(data)
    expected = []
    for i, (line, reason) in enumerate(BAD_LINES.values()):
        file = files[i % 7]
        before = file.read_text().splitlines()
        file.write_text("\n".join([*before, line]) + "\n")
        expected.append(f"{file}:{len(before) + 1}: ")
        assert reason
    counts: list[Any] = []
    model = MultiTaskYOLO(tiny)
    model.add_callback("on_train_start", lambda t: counts.append(t.train_loader.dataset.scan.counts))
    train(model, data, tmp_path / "run", batch=1, imgsz=2 * SIZE)
    log = "\n".join(caplog.messages)
    for where, (_, reason) in zip(expected, BAD_LINES.values(), strict=True):
        reported = [line for line in log.splitlines() if where in line]
        assert len(reported) == 1, where
        assert reason in reported[0]
    assert counts[0]["bad lines"] == len(BAD_LINES)
    assert (counts[0]["images left out for bad lines"], counts[0]["images"]) == (7, 1)
    assert_finite(rows(tmp_path / "run"))


def test_lines_that_the_data_yaml_does_not_announce(data: Path, tiny: Path, tmp_path: Path) -> None:
    for split in ("train", "val"):
        relabel(label_files(data, split), LabelSpec(nc=1, kpt_shape=None, polygons=True), keypoints=None, id=-1)
    change_yaml(data, **dict.fromkeys(("labels", "kpt_shape", "flip_idx", "kpt_names", "kpt_classes"), ...))
    with pytest.raises(ValueError, match=r"for polygons after the box add `labels: \{polygons: true\}`"):
        train(tiny, data, tmp_path / "run")


# ---- checkpoints and model YAMLs -----------------------------------------------------------------------------------


def write_other(kind: str, file: Path, checkpoint: Path) -> None:
    """Write a file that is not a checkpoint of a network."""
    layer = torch.nn.Linear(2, 2)
    contents: dict[str, Any] = {
        "dict": {"a": 1},
        "state_dict": layer.state_dict(),
        "state_dict in a checkpoint": {"model": layer.state_dict()},
        "tensor": torch.zeros(3),
        "other network": {"model": layer},
        "bare network": layer,
    }
    if kind in contents:
        torch.save(contents[kind], file)
    else:
        whole = checkpoint.read_bytes()
        file.write_bytes({"truncated": whole[: len(whole) // 2], "empty": b"", "text": b"hello"}[kind])


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("dict", "found none in it; a state_dict does not say the architecture"),
        ("state_dict", "build it from its YAML"),
        ("state_dict in a checkpoint", "build it from its YAML"),
        ("tensor", "found other contents"),
        ("other network", "Linear is no YOLO network"),
        ("bare network", "pass best.pt or last.pt of a run"),
        ("truncated", "found an empty, truncated or corrupted file; copy or download it again"),
        ("empty", "truncated or corrupted"),
        ("text", "truncated or corrupted"),
    ],
)
def test_checkpoint_of_another_kind(kind: str, found: str, checkpoint: Path, tmp_path: Path, complain: Any) -> None:
    file = tmp_path / "other.pt"
    write_other(kind, file, checkpoint)
    with pytest.raises(ValueError, match="expected a checkpoint with a network, as training saves it") as error:
        MultiTaskYOLO(file)
    assert str(file) in str(error.value)
    assert found in str(error.value)
    line = complain("predict", f"model={file}", f"source={tmp_path}")
    assert str(file) in line
    assert found in line


def test_pretrained_of_another_kind(checkpoint: Path, data: Path, tiny: Path, tmp_path: Path) -> None:
    file = tmp_path / "other.pt"
    for kind in ("state_dict", "truncated"):
        write_other(kind, file, checkpoint)
        with pytest.raises(ValueError, match=r"other\.pt: expected a checkpoint with a network"):
            train(tiny, data, tmp_path / "run", pretrained=str(file))
        with pytest.raises(ValueError, match=r"other\.pt: expected a checkpoint with a network"):
            MultiTaskYOLO(tiny).load(file)


def test_weights_of_another_scale(tiny: Path, tmp_path: Path) -> None:
    file = tmp_path / "wide.pt"
    MultiTaskYOLO(write_model(tmp_path / "wide.yaml", scales={"n": [0.33, 0.1875, 1024]})).save(file)
    with pytest.raises(ValueError, match=r"wide\.pt shares only \d+ of \d+ trunk tensors .* same family and scale"):
        MultiTaskYOLO(tiny).load(file)


@pytest.mark.parametrize("name", ["gone.pt", "gone.yaml", "gone.onnx"])
def test_a_file_that_does_not_exist(name: str, tmp_path: Path, complain: Any) -> None:
    with pytest.raises(FileNotFoundError, match=name):
        MultiTaskYOLO(tmp_path / name)
    assert name in complain("predict", f"model={tmp_path / name}", f"source={tmp_path}")


def test_a_misspelt_model_name_is_corrected(complain: Any) -> None:
    with pytest.raises(FileNotFoundError, match=r"'yolov8n-multitsk\.yaml' not found\. Did you mean 'yolov8n-multita"):
        MultiTaskYOLO("yolov8n-multitsk.yaml")
    assert "Did you mean 'yolov8n-multitask.yaml'" in complain("train", "model=yolov8n-multitsk.yaml", "data=x.yaml")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ([LAYERS, 1, "MultiTsk", ["nc", 32]], "unknown head 'MultiTsk'; did you mean 'MultiTask'?"),
        ([LAYERS, 1, "MultiTask"], r"every line of 'head' must be \[from, number, module, \[arguments\]\]"),
        ("MultiTask", r"every line of 'head' must be .* got 'MultiTask'"),
        ([LAYERS, 1, "MultiTask", "nc"], r"last line of 'head' must be \[from, 1, MultiTask"),
        ([LAYERS, 1, "MultiTask", ["nc", 32, 256, "kpt_shape", 3]], "at most 4 arguments"),
        ([LAYERS, 1, "MultiTask", ["nc", "many"]], "whole number of 1 or more as 'nm', got 'many'"),
        ([LAYERS, 1, "MultiTask", ["nc", 0]], "whole number of 1 or more as 'nm', got 0"),
        ([LAYERS, 1, "MultiTask", ["nc", 32, -8]], "whole number of 1 or more as 'npr', got -8"),
        ([[15, 99], 1, "MultiTask", ["nc", 32]], r"list of layers in 0\.\.21 as its first entry, got \[15, 99\]"),
        ([21, 1, "MultiTask", ["nc", 32]], r"list of layers in 0\.\.21 as its first entry, got 21"),
    ],
)
def test_head_line(line: Any, reason: str, tmp_path: Path) -> None:
    file = write_model(tmp_path / "bad.yaml", head=[*tiny_yaml()["head"][:-1], line])
    with pytest.raises(ValueError, match=reason):
        MultiTaskYOLO(file)


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"kpt_shape": [17]}, r"kpt_shape: expected \[K, D\] .* found \[17\]"),
        ({"tasks": ["posee"]}, "Unknown task 'posee'.* Did you mean 'pose'"),
        ({"nc": "many"}, "whole number of 1 or more as 'nc', got 'many'"),
        ({"scale": "q"}, "Scale 'q' is not in the model YAML; it has n"),
        ({"head": None}, "every line of 'head' must be .* got None"),
        ({"embed_from": [0, 30]}, r"'embed_from' must be a list of layers in 0\.\.21, got \[0, 30\]"),
        ({"embed_dim": "wide"}, "'embed_dim' must be a whole number of 1 or more, got 'wide'"),
    ],
)
def test_model_yaml(keys: dict[str, Any], reason: str, tmp_path: Path, complain: Any) -> None:
    file = write_model(tmp_path / "bad.yaml", **keys)
    with pytest.raises(ValueError, match=reason):
        MultiTaskYOLO(file)
    assert complain("train", f"model={file}", "data=x.yaml").startswith("ymt: ")


def test_a_data_yaml_as_model(data: Path, complain: Any) -> None:
    with pytest.raises(
        ValueError, match=r"'.*data\.yaml' is not a model YAML: it needs the keys 'backbone' and 'head'"
    ):
        MultiTaskYOLO(data)
    assert "is not a model YAML" in complain("train", f"model={data}", f"data={data}")


# ---- arguments -----------------------------------------------------------------------------------------------------


def test_unknown_argument_in_python(model: MultiTaskYOLO, data: Path, tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(SyntaxError, match=r"'epoch' is not a valid .* 'epochs|'epoch' is not a valid .*epochs"):
        train(tiny, data, tmp_path / "run", epoch=3)
    for _ in range(2):
        with pytest.raises(SyntaxError, match=r"'confs' is not a valid .*'conf'"):
            model.predict(EMPTY, confs=0.3)
        model.predict(EMPTY, imgsz=SIZE, verbose=False)
    with pytest.raises(SyntaxError, match=r"'plot' is not a valid .*plots"):
        model.val(data=str(data), plot=True)


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        ("epoch=3", "unknown argument 'epoch'; did you mean 'epochs'?"),
        ("segmnt=False", "unknown argument 'segmnt'; did you mean 'segment'?"),
        ("pose=yes", "'pose' must be True, False or a number (the gain of the pose loss), got 'yes'"),
        ("track=5", "'track' must be True or False, got 5"),
        ("seg=True", "'seg' must be a number"),
        ("reid=True", "'reid' must be a number, the gain of the embedding loss; the switch is 'track'"),
        ("motion=far", "'motion' must be a number"),
        ("next=0.5", "'next' must be True or False (predict the box in the next frame), got 0.5"),
        ("pair_gap=0", "'pair_gap' must be a whole number of frames, 1 or more, got 0"),
        ("similarity=iou", "'similarity' must be box, mask or oks, got 'iou'"),
        ("nxt=True", "unknown argument 'nxt'; did you mean 'next'?"),
        ("imgsz=", "imgsz="),
        ("mosaic=2.0", "mosaic"),
    ],
)
def test_unknown_argument_on_the_command_line(argument: str, reason: str, tiny: Path, complain: Any) -> None:
    assert reason in complain("train", f"model={tiny}", "data=x.yaml", argument, code=2)


def test_a_task_that_the_model_or_the_data_lacks(data: Path, tiny: Path, tmp_path: Path, complain: Any) -> None:
    without = MultiTaskYOLO(write_model(tmp_path / "masks.yaml", tasks=["segment"]))
    sides = r"'pose=True' was asked for, but model '.*masks\.yaml' has only: detect, segment\. Leave out"
    with pytest.raises(ValueError, match=sides):
        without.predict(EMPTY, pose=True)
    with pytest.raises(
        ValueError, match=r"'track=True' was asked for, but model '.*masks\.yaml' has only: detect, segm"
    ):
        without.predict(EMPTY, track=True)
    with pytest.raises(ValueError, match=sides):
        without.val(data=str(data), pose=True, imgsz=SIZE, plots=False)
    common = (f"model={tiny}", f"data={data}", f"project={tmp_path}", "imgsz=64", "device=cpu")
    change_yaml(data, kpt_shape=..., flip_idx=..., kpt_names=..., kpt_classes=..., labels={"polygons": True})
    line = complain("train", *common, "pose=True")
    assert f"'pose=True' was asked for, but data '{data}' has only: detect, segment" in line


def test_the_model_can_be_used_after_an_error(tmp_path: Path) -> None:
    model = random_model(tmp_path, tasks=["pose"])
    with pytest.raises(ValueError, match="track=True"):
        model.predict(EMPTY, track=True)
    (result,) = model.predict(EMPTY, imgsz=SIZE, conf=0.01, verbose=False)
    assert len(result.boxes) == len(result.keypoints)


# ---- prediction sources --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gone.jpg", "gone.mp4", "gone"])
def test_a_source_that_does_not_exist(name: str, model: MultiTaskYOLO, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"{name} does not exist"):
        model.predict(tmp_path / name)


def test_a_source_that_cannot_be_read(
    model: MultiTaskYOLO, tmp_path: Path, checkpoint: Path, caplog: pytest.LogCaptureFixture, complain: Any
) -> None:
    for name in ("bad.avi", "bad.jpg", "bad.xyz"):
        (tmp_path / name).write_bytes(b"nothing to see")
    with pytest.raises(FileNotFoundError, match=r"Failed to open video .*bad\.avi"):
        model.predict(tmp_path / "bad.avi")
    with pytest.raises(FileNotFoundError, match="No images or videos found"):
        model.predict(tmp_path / "bad.xyz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="No images or videos found"):
        model.predict(tmp_path / "empty")
    with caplog.at_level(logging.WARNING):
        assert model.predict(tmp_path / "bad.jpg", verbose=False) == []
    assert any("bad.jpg" in message for message in caplog.messages)
    for name in ("bad.avi", "gone.jpg"):
        assert name in complain("predict", f"model={checkpoint}", f"source={tmp_path / name}", "save=False")


# ---- the command itself --------------------------------------------------------------------------------------------


def test_a_failing_process_says_one_line() -> None:
    command = [sys.executable, "-m", "yolo_multitask.cli.app", "predict", "model=gone.pt", "source=gone.jpg"]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), timeout=120)
    assert done.returncode == 1
    assert done.stderr.startswith("ymt: model=gone.pt: expected a checkpoint")
    assert done.stderr.count("\n") == 1


def test_a_traceback_on_request(monkeypatch: pytest.MonkeyPatch, checkpoint: Path, tmp_path: Path) -> None:
    monkeypatch.setenv("YMT_DEBUG", "1")
    with pytest.raises(FileNotFoundError, match="gone.jpg does not exist"):
        app.main(["predict", f"model={checkpoint}", f"source={tmp_path / 'gone.jpg'}", "save=False"])
    monkeypatch.setenv("YMT_DEBUG", "0")
    assert app.main(["predict", f"model={checkpoint}", f"source={tmp_path / 'gone.jpg'}", "save=False"]) == 1
