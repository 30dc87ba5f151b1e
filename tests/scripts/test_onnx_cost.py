"""The benchmark of one ONNX file against two: every file is run, and finds what it is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import onnx_cost
import pytest
import torch
from onnx_cost import BARS, Once, compare, raised, table
from support.models import randomise, tiny_yaml
from ultralytics import YOLO

from yolo_multitask import MultiTaskYOLO
from yolo_multitask.nn.network import MultiTaskModel

COUNT, SIDE = 3, 64


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of pictures; the networks are tiny and find objects everywhere."""
    images = tmp_path / "images"
    images.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(images / name), rng.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8))
    models = {"multitask": MultiTaskYOLO("yolov8n-multitask.yaml")}
    models["multitask"].model = MultiTaskModel(tiny_yaml(), nc=3, verbose=False)
    models["multitask"].model.args, models["multitask"].model.task = {"imgsz": SIDE}, "multitask"
    models |= {task: YOLO(f"yolov8n-{task}.yaml") for task in onnx_cost.STOCK}
    for model in models.values():
        randomise(model.model)
        for stack in model.model.model[-1].cv2:
            stack[-1].bias.data.view(4, -1)[:, 2:] = -10.0  # boxes of a few cells, which do not drop each other
    monkeypatch.setattr(onnx_cost, "networks", lambda args: models)
    return images


def test_every_file_finds_as_many_objects(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    given = ["--weights", str(tmp_path), "--images", str(folder), "--imgsz", str(SIDE), "--threads", "1"]
    given += ["--runs", "2", "--warmup", "1", "--detections", str(COUNT), "--json", str(tmp_path / "out.json")]
    code = onnx_cost.main(given)
    out = json.loads((tmp_path / "out.json").read_text())
    assert code == int(any(out["ratios"][name] > bar for name, bar in BARS.items()))
    assert list(out["rows"]) == ["2 as they are", f"one, {COUNT} objects"]
    for label, times in out["rows"].items():
        assert set(times) == {"multitask", "seg", "pose"}
        for runs in times.values():
            assert len(runs) == 2
            assert all(0 < once["bare"] <= once["whole"] for once in runs)
            if label != "2 as they are":
                assert {once["found"] for once in runs} == {COUNT}
    lines = capsys.readouterr().out.splitlines()
    assert len({line.count("|") for line in lines[:4]}) == 1


def test_scores_are_raised_to_the_number_asked_for():
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            head = torch.nn.Module()
            head.cv3 = torch.nn.ModuleList([torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1))])
            self.model = torch.nn.Module()
            self.model.model = [head]

    model, falling = Model(), [0.6, 0.4, 0.1, 0.05]
    bias = float(model.model.model[0].cv3[0][-1].bias)
    for count in range(len(falling)):
        shift = float(raised(model, falling, count, 0.25).model.model[0].cv3[0][-1].bias) - bias
        moved = torch.logit(torch.tensor(falling, dtype=torch.float64)) + shift
        assert int((moved.sigmoid() > 0.25).sum()) == count
    assert float(model.model.model[0].cv3[0][-1].bias) == bias  # a copy


def test_two_files_are_summed_run_by_run():
    runs = {
        "multitask": [Once(bare=40, whole=50, found=3), Once(bare=44, whole=66, found=3)],
        "seg": [Once(bare=50, whole=60, found=3), Once(bare=50, whole=60, found=3)],
        "pose": [Once(bare=30, whole=40, found=1), Once(bare=38, whole=40, found=1)],
    }
    assert compare(runs, "whole")["pose + seg"].two_ms == [100, 100]
    assert compare(runs, "whole")["pose + seg"].ratio == pytest.approx(0.58)
    assert compare(runs, "bare")["seg"].ratio == pytest.approx(0.84)
    assert table({"x": runs}).splitlines()[2].startswith("| x | 3.0 / 3.0 / 1.0 | 58 (42) | 60 (50) | 40 (34) | 0.58 ")


def test_too_many_objects(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(onnx_cost, "make", lambda *_: None)
    monkeypatch.setattr(onnx_cost, "measure", lambda *_: {})
    given = ["--weights", str(tmp_path), "--images", str(folder), "--imgsz", str(SIDE), "--threads", "1"]
    assert onnx_cost.main([*given, "--runs", "1", "--warmup", "1", "--detections", "5000"]) == 2
    assert "lower --detections" in capsys.readouterr().err
