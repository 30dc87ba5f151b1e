"""A whole benchmark: what is measured in which order, what is left behind, and what is as before."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from support.benchmark import picture
from ultralytics.utils import LOGGER

from yolo_multitask import MultiTaskYOLO
from yolo_multitask.benchmark import run
from yolo_multitask.benchmark.contender import Contender
from yolo_multitask.benchmark.memory import Memory

FILES = ["benchmark.csv", "benchmark.json", "benchmark.png"]
SMALL: dict[str, Any] = {"imgsz": 64, "device": "cpu", "runs": 2, "warmup": 1, "source": picture()}


@pytest.fixture
def no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make up the memory, which takes a process for each model."""
    monkeypatch.setattr(run, "measure_memory", lambda *_: Memory(peak=2.0, growth=1.0, device=None))


@pytest.fixture
def threads() -> Iterator[int]:
    """Set a number of threads that neither the host nor a test asks for."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield 3
    torch.set_num_threads(before)


def test_a_report_with_files_beside_two_models(checkpoints: dict[str, str], tmp_path: Path) -> None:
    model = MultiTaskYOLO(checkpoints["best"])
    against = [checkpoints["seg"], checkpoints["pose"]]
    report = model.benchmark(**SMALL, against=against, batches=[1, 2], detections=5, threads=1, project=str(tmp_path))
    assert report.save_dir == tmp_path / "benchmark"
    assert sorted(p.name for p in report.save_dir.iterdir()) == FILES
    assert [p.name for p in tmp_path.iterdir()] == ["benchmark"]

    names = ["best.pt", "seg.pt", "pose.pt", "seg.pt + pose.pt"]
    assert [line.split(" | ")[0].removeprefix("| ") for line in str(report).splitlines()[2:6]] == names
    assert "best.pt / seg.pt + pose.pt: predict " in str(report)
    with open(report.save_dir / "benchmark.csv", newline="") as stream:
        assert [row["model"] for row in csv.DictReader(stream)] == names

    content = json.loads((report.save_dir / "benchmark.json").read_text())
    assert (
        content["settings"] | {"runs": 2, "warmup": 1, "imgsz": 64, "threads": 1, "device": "cpu"}
        == (content["settings"])
    )
    assert content["settings"]["source"] == "an array"
    assert {"cpu", "torch", "ultralytics", "yolo_multitask", "load_before"} <= content["machine"].keys()
    for row in content["rows"]:
        assert len(row["predict_ms"]) == len(row["stages_ms"]["inference"]) == 2
        assert {size: len(times) for size, times in row["forward_ms"].items()} == {"1": 2, "2": 2}
        assert row["memory"]["growth"] > 0
        assert row["parameters"] > 0
        assert row["gflops"] > 0
    assert content["separate"]["predict_ms"] == [
        sum(times) for times in zip(*(row["predict_ms"] for row in content["rows"][1:]), strict=True)
    ]
    assert [row["found"] for row in content["rows"]][::2] == [5, 5]


def test_models_take_turns_with_the_threads_asked_for(
    checkpoints: dict[str, str], threads: int, no_process: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[tuple[str, int]] = []
    stages, forward = Contender.stages, Contender.forward

    def recording_stages(self: Contender, image: Any) -> dict[str, float]:
        speeds = stages(self, image)
        seen.append((self.name, torch.get_num_threads()))
        return speeds

    def recording_forward(self: Contender, images: torch.Tensor) -> None:
        forward(self, images)
        seen.append((f"{self.name} {tuple(images.shape)}", torch.get_num_threads()))

    monkeypatch.setattr(Contender, "stages", recording_stages)
    monkeypatch.setattr(Contender, "forward", recording_forward)
    level = LOGGER.level
    MultiTaskYOLO(checkpoints["best"]).benchmark(
        **SMALL, against=checkpoints["pose"], batches=2, threads=2, project=str(tmp_path)
    )
    forwards = ["best.pt (2, 3, 64, 64)", "pose.pt (2, 3, 64, 64)"]
    assert [name for name, _ in seen] == ["best.pt", "pose.pt"] * 3 + forwards * 3
    assert {count for _, count in seen} == {2}
    assert torch.get_num_threads() == threads
    assert LOGGER.level == level


def test_folders_are_numbered_or_reused_as_runs_are(
    checkpoints: dict[str, str], no_process: None, runs_dir: Path
) -> None:
    model = MultiTaskYOLO(checkpoints["best"])
    folders = [model.benchmark(**SMALL, name="speed", exist_ok=again).save_dir for again in (False, False, True)]
    root = runs_dir / "multitask"
    assert folders == [root / "speed", root / "speed-2", root / "speed"]
    assert all(sorted(p.name for p in folder.iterdir()) == FILES for folder in folders)
    assert sorted(p.name for p in root.iterdir()) == ["speed", "speed-2"]


def test_nothing_is_left_of_a_benchmark_that_fails(
    checkpoints: dict[str, str], threads: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("no process")

    monkeypatch.setattr(run, "measure_memory", fail)
    with pytest.raises(RuntimeError, match="no process"):
        MultiTaskYOLO(checkpoints["best"]).benchmark(**SMALL, threads=2, project=str(tmp_path / "out"))
    assert list((tmp_path / "out").iterdir()) == []
    assert torch.get_num_threads() == threads


def test_a_switch_leaves_a_task_out(checkpoints: dict[str, str], no_process: None) -> None:
    report = MultiTaskYOLO(checkpoints["best"]).benchmark(**SMALL, track=False, lazy=False, against=checkpoints["pose"])
    assert report.rows[0].tasks == ("detect", "segment", "pose")
    assert report.settings["switches"] == {"track": False}
    assert report.separate is report.rows[1]


def test_a_model_is_measured_before_it_is_saved(no_process: None) -> None:
    report = MultiTaskYOLO("yolov8n-multitask.yaml").benchmark(**SMALL | {"runs": 1, "warmup": 0})
    assert [row.name for row in report.rows] == ["yolov8n-multitask.yaml"]


def test_different_numbers_of_objects_are_said(checkpoints: dict[str, str], no_process: None) -> None:
    report = MultiTaskYOLO(checkpoints["best"]).benchmark(**SMALL, against=checkpoints["pose"])
    differ = report.rows[0].found != report.rows[1].found
    assert ("found different numbers of objects" in str(report)) == differ


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"rums": 3}, "unknown argument 'rums' of benchmark; did you mean 'runs'?"),
        ({"source": "nowhere.jpg"}, "source=nowhere.jpg: expected one image"),
        ({"source": np.zeros((4, 4))}, "expected an image (H, W, 3) of uint8, got (4, 4) of float64"),
        ({"half": True}, "'half' has no effect on a CPU"),
        (
            {"against": "yolov8n-p6.yaml", "imgsz": 96},
            "'imgsz' must be a multiple of 64 pixels for these models, got 96",
        ),
        ({"against": "yolov8n-cls.yaml"}, "expected a model for detect, segment, pose or multitask"),
    ],
)
def test_wrong_arguments_leave_nothing(
    arguments: dict[str, Any], says: str, checkpoints: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        MultiTaskYOLO(checkpoints["best"]).benchmark(**{**SMALL, "project": str(tmp_path / "out"), **arguments})
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


def test_missing_models_and_data_are_named(checkpoints: dict[str, str], tmp_path: Path) -> None:
    model = MultiTaskYOLO(checkpoints["best"])
    with pytest.raises(FileNotFoundError, match=r"against=nowhere.pt: expected a checkpoint"):
        model.benchmark(**SMALL, against="nowhere.pt", project=str(tmp_path))
    with pytest.raises((ValueError, FileNotFoundError), match=r"nowhere.yaml"):
        model.benchmark(**SMALL, data="nowhere.yaml", project=str(tmp_path))


def test_the_arguments_of_multitask_models_are_refused_for_stock_ones(checkpoints: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"against, runs is for multitask models, but this is a stock 'pose' model"):
        MultiTaskYOLO(checkpoints["pose"]).benchmark(runs=3, against=["x.pt"])


def test_stock_models_reach_the_benchmark_of_the_host(
    checkpoints: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ultralytics.utils import benchmarks

    given: dict[str, Any] = {}
    monkeypatch.setattr(benchmarks, "benchmark", lambda **kwargs: given.update(kwargs) or "table")
    model = MultiTaskYOLO(checkpoints["pose"])
    assert model.benchmark("coco8-pose.yaml", imgsz=64, device="cpu") == "table"
    assert given["model"] is model
    assert (given["data"], given["imgsz"], given["format"], given["verbose"]) == ("coco8-pose.yaml", 64, "", False)


def test_images_are_read(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), picture())
    assert np.array_equal(run.read_image(tmp_path / "a.png"), picture())
    assert run.read_image(None).shape == (1080, 810, 3)
