"""The benchmark of formats: what it compares, and that it reports what it cannot measure and bars that are missed."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

import cv2
import formats
import numpy as np
import pytest
import torch
from formats import HIGHEST, LOWEST, Variant, differences, missed, table, variants, worst
from support.training import random_model

from yolo_multitask.engine.results import Results

SAME = {**dict.fromkeys(HIGHEST, 0.0), **dict.fromkeys(LOWEST, 1.0)}


def result(order: tuple[int, ...] = (0, 1), **moved: float) -> Results:
    """Return two detections in an order, the first with its box, score or keypoints moved."""
    boxes = torch.tensor([[10.0, 10, 30, 40, 0.9, 0], [60, 10, 90, 50, 0.8, 1]])
    boxes[0, 0] += moved.get("box", 0)
    boxes[0, 4] += moved.get("score", 0)
    keypoints = torch.tensor([[[15.0, 20, 0.5]], [[70, 30, 0.6]]])
    keypoints[0, 0, 1] += moved.get("keypoint", 0)
    keypoints[0, 0, 2] += moved.get("visibility", 0)
    masks = torch.zeros(2, 64, 96)
    masks[0, 10:20, 10 : 20 + int(moved.get("mask", 0))] = 1
    embeddings = torch.eye(4)[:2]
    rows = list(order)
    image = np.zeros((64, 96, 3), np.uint8)
    given = {"masks": masks[rows], "keypoints": keypoints[rows], "embeddings": embeddings[rows]}
    return Results(image, path="x.jpg", names={0: "a", 1: "b"}, boxes=boxes[rows], **given)


@pytest.mark.parametrize(
    ("moved", "key", "value"),
    [
        ({"box": 0.25}, "boxes", 0.25),
        ({"score": -0.01}, "scores", 0.01),
        ({"visibility": 0.02}, "scores", 0.02),
        ({"keypoint": 3.0}, "keypoints", 3.0),
        ({"mask": 10}, "mask_iou", 0.5),
    ],
)
def test_what_differs_is_found(moved: dict[str, float], key: str, value: float):
    found = differences(result(), result((1, 0), **moved))  # the order does not count
    assert found.pop(key) == pytest.approx(value, abs=1e-6)
    assert found == {k: v for k, v in SAME.items() if k != key}


def test_detections_that_are_missing_count():
    assert differences(result(), result((0,)))["detections"] == 1
    assert differences(result(), result(())) == {**SAME, "detections": 2}
    assert differences(result(()), result(())) == SAME
    assert differences(result((0,)), result((1,)))["detections"] == 1  # of another class


def test_bars():
    good = worst([SAME, {**SAME, "boxes": 0.4, "cosine": 0.9995}])
    assert good == {**SAME, "boxes": 0.4, "cosine": 0.9995}
    assert missed({"worst": good}) == []
    bad = {"boxes": 0.6, "scores": float("nan"), "keypoints": 0.0, "detections": 1, "mask_iou": 0.9, "cosine": 1.0}
    assert missed({"worst": bad}) == ["boxes", "scores", "detections", "mask_iou"]
    assert missed({"reason": "not installed"}) == []


def test_files_to_make():
    assert [str(v) for v in variants("onnx")] == [
        "onnx",
        "onnx, dynamic",
        "onnx, nms",
        "onnx, nms, dynamic",
        "onnx, nms, masks",
    ]
    assert [str(v) for v in variants("litert")] == ["litert"]
    assert [str(v) for v in variants("paddle")] == ["paddle, track=False"]


def write_pictures(folder: Path) -> Path:
    """Write two pictures of noise."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(folder / name), rng.integers(0, 255, (96, 128, 3), dtype=np.uint8))
    return folder


def test_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    wanted = [Variant(format="torchscript", nms=True, dynamic=True), Variant(format="litert", nms=True)]
    monkeypatch.setattr(formats, "variants", lambda fmt: wanted)
    monkeypatch.setattr(formats, "isolated", formats.measure)  # in this process
    random_model(tmp_path).save(tmp_path / "model.pt")
    given = ["--model", str(tmp_path / "model.pt"), "--images", str(write_pictures(tmp_path / "images"))]
    given += ["--formats", "torchscript", "--imgsz", "128", "--count", "2", "--runs", "2", "--warmup", "1"]
    assert formats.main([*given, "--threads", "1", "--json", str(tmp_path / "out.json")]) == 0
    out = json.loads((tmp_path / "out.json").read_text())
    done, refused = out["rows"]
    assert set(done["worst"]) == set(SAME)
    assert missed(done) == []
    assert done["mb"] > 0.1
    assert len(done["times"]["one_runs_ms"]) == len(done["times"]["two_runs_ms"]) == 2
    assert "nms=True cannot be in a multitask file of format=litert" in refused["reason"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("| torchscript, nms, dynamic |")
    assert lines[0].count("|") == lines[2].count("|")
    assert any(line.startswith("- litert, nms: ExportArgumentError") for line in lines)

    monkeypatch.setitem(formats.HIGHEST, "boxes", -1.0)
    monkeypatch.setattr(formats, "measure", lambda *_: done)
    monkeypatch.setattr(formats, "isolated", formats.measure)
    assert formats.main([*given, "--threads", "1"]) == 1
    assert "Missed: torchscript, nms, dynamic: boxes" in capsys.readouterr().out


def die(*_: object) -> None:
    """End the process as a crash does."""
    import os

    os._exit(3)


def test_a_crash_is_reported(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(formats, "keep_stdout", die)  # the first that the other process runs
    row = formats.isolated(Variant(format="ncnn"), Namespace())
    assert row["name"] == "ncnn"
    assert row["reason"] == "the process died"
    assert table([row]).count("\n") == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "found neither"),
        (["--model", "x.pt", "--imgsz", "160"], "a multiple of 128"),
        (["--model", "x.pt", "--formats", "imx"], "invalid choice: 'imx'"),
        (["--model", "x.pt", "--count", "3"], "expected 3 pictures or more"),
    ],
)
def test_wrong_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str], given: list[str], message: str):
    with pytest.raises(SystemExit) as error:
        formats.main(["--images", str(write_pictures(tmp_path / "images")), *given])
    assert error.value.code == 2
    assert message in capsys.readouterr().err
