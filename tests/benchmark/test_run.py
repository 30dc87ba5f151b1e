"""A whole benchmark: what is measured in which order, what is left behind, and what is as before."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from support.benchmark import LABELS, found_lines, picture, write_set
from ultralytics.utils import LOGGER

from yolo_multitask import MultiTaskYOLO
from yolo_multitask.benchmark import run
from yolo_multitask.benchmark.contender import Contender
from yolo_multitask.benchmark.memory import Memory

FILES = ["benchmark.csv", "benchmark.json", "benchmark.png"]
SMALL: dict[str, Any] = {"imgsz": 64, "device": "cpu", "runs": 2, "warmup": 1, "source": picture()}


@pytest.fixture
def no_process(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Make up the memory, which takes a process for each model; return the names of what was asked for together."""
    asked: list[list[str]] = []

    def measure(contenders: Sequence[Contender], *_: Any) -> Memory:
        asked.append([contender.name for contender in contenders])
        return Memory(peak=2.0, growth=1.0, device=None)

    monkeypatch.setattr(run, "measure_memory", measure)
    return asked


@pytest.fixture
def threads() -> Iterator[int]:
    """Set a number of threads that neither the host nor a test asks for."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield 3
    torch.set_num_threads(before)


def test_a_report_with_files_beside_two_models(
    checkpoints: dict[str, str], no_process: list[list[str]], tmp_path: Path
) -> None:
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
        assert row["parameters"] > 0
        assert row["gflops"] > 0
    assert content["separate"]["predict_ms"] == [
        sum(times) for times in zip(*(row["predict_ms"] for row in content["rows"][1:]), strict=True)
    ]
    assert [row["found"] for row in content["rows"]][::2] == [5, 5]
    assert no_process == [["best.pt"], ["seg.pt"], ["pose.pt"], ["seg.pt", "pose.pt"]]


def test_models_take_turns_with_the_threads_asked_for(
    checkpoints: dict[str, str],
    threads: int,
    no_process: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
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
    rounds = [0, 1, 1, 0, 1, 0]
    assert [name for name, _ in seen] == [names[i] for names in (["best.pt", "pose.pt"], forwards) for i in rounds]
    assert {count for _, count in seen} == {2}
    assert torch.get_num_threads() == threads
    assert LOGGER.level == level


def test_folders_are_numbered_or_reused_as_runs_are(
    checkpoints: dict[str, str], no_process: list[list[str]], runs_dir: Path
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


def test_a_switch_leaves_a_task_out(checkpoints: dict[str, str], no_process: list[list[str]]) -> None:
    report = MultiTaskYOLO(checkpoints["best"]).benchmark(**SMALL, track=False, lazy=False, against=checkpoints["pose"])
    assert report.rows[0].tasks == ("detect", "segment", "pose")
    assert report.settings["switches"] == {"track": False}
    assert report.separate is report.rows[1]


def test_a_model_is_measured_before_it_is_saved(no_process: list[list[str]]) -> None:
    report = MultiTaskYOLO("yolov8n-multitask.yaml").benchmark(**SMALL | {"runs": 1, "warmup": 0})
    assert [row.name for row in report.rows] == ["yolov8n-multitask.yaml"]


def test_different_numbers_of_objects_are_said(checkpoints: dict[str, str], no_process: list[list[str]]) -> None:
    blind = MultiTaskYOLO(checkpoints["best"])
    for level in blind.model.head.cv3:
        level[-1].bias.data.fill_(-20.0)
    report = blind.benchmark(**SMALL, against=checkpoints["best"])
    assert report.rows[0].found == 0 < report.rows[1].found
    assert "found different numbers of objects" in str(report)
    same = MultiTaskYOLO(checkpoints["best"]).benchmark(**SMALL, against=checkpoints["best"])
    assert same.rows[0].found == same.rows[1].found > 0
    assert "found different numbers of objects" not in str(same)


def test_exports_stand_beside_the_model(
    checkpoints: dict[str, str],
    no_process: list[list[str]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(LOGGER, "propagate", True)
    data = write_set(tmp_path / "set", [found_lines(checkpoints["best"], 128)], **LABELS)
    beside, state = sorted(Path(checkpoints["best"]).parent.iterdir()), torch.get_rng_state()
    report = MultiTaskYOLO(checkpoints["best"]).benchmark(
        **SMALL | {"imgsz": 128},  # 96 x 128 for the picture, if the file is dynamic
        format=["torchscript", "engine"],  # the latter is not made on a CPU
        against=checkpoints["pose"],
        data=str(data),
        batches=[1, 2],
        threads=1,
        project=str(tmp_path / "out"),
    )
    own, export, pose = report.rows
    assert [row.name for row in report.rows] == ["best.pt", "best.pt as torchscript", "pose.pt"]
    assert [row.format for row in report.rows] == ["pt", "torchscript", "pt"]
    assert report.separate is pose
    assert no_process == [[row.name] for row in report.rows]
    assert export.tasks == own.tasks
    assert export.found == own.found > 0
    assert export.file_mib is not None
    assert (own.file_mib, pose.file_mib) == (None, None)
    assert {size: len(times) for size, times in export.forward_ms.items()} == {1: 2, 2: 2}
    assert export.stages_ms.keys() == own.stages_ms.keys()

    assert all(own.metrics[f"metrics/mAP50-95({letter})"] > 0 for letter in "BMP")
    assert dict(export.metrics) == pytest.approx(dict(own.metrics), abs=1e-3)
    assert "metrics/mAP50-95(P)" in pose.metrics
    with open(report.save_dir / "benchmark.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["metrics/mAP50-95(B)"]) for row in rows] == [
        row.metrics["metrics/mAP50-95(B)"] for row in report.rows
    ]
    assert json.loads((report.save_dir / "benchmark.json").read_text())["settings"]["format"] == [
        "torchscript",
        "engine",
    ]

    text = str(report)
    assert "| file, MiB | objects | box AP | mask AP | pose AP |" in text
    assert "best.pt as engine was not measured: " in text
    assert "AP of an export is that of a file without NMS" in text
    assert "The NMS is in the file: best.pt as torchscript." in text
    assert ", 1 threads" in text
    assert sorted(Path(checkpoints["best"]).parent.iterdir()) == beside
    assert torch.equal(torch.get_rng_state(), state)
    assert "export failure" not in caplog.text


def test_no_format_that_can_be_measured_is_an_error(
    checkpoints: dict[str, str], no_process: list[list[str]], tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError, match=r"none of the formats could be measured: best.pt as engine was not .* GPU"):
        MultiTaskYOLO(checkpoints["best"]).benchmark(**SMALL, format="engine", project=str(tmp_path / "out"))
    assert list((tmp_path / "out").iterdir()) == []


def test_an_exported_file_is_a_model_too(onnx_file: str, no_process: list[list[str]]) -> None:
    model = MultiTaskYOLO(onnx_file)
    report = model.benchmark(**{key: value for key, value in SMALL.items() if key != "imgsz"}, batches=[1, 2])
    (row,) = report.rows
    assert report.settings["imgsz"] == 64
    assert (row.name, row.format, row.parameters, row.gflops) == ("best.onnx", "onnx", None, None)
    assert row.found > 0
    assert {size: len(times) for size, times in row.forward_ms.items()} == {1: 2, 2: 2}
    text = str(report)
    assert "The input is fixed at 64 x 64: best.onnx." in text
    assert "predicts lazily" not in text
    assert "The NMS is in the file" not in text


def test_files_of_another_size_are_refused_before_anything_is_timed(
    onnx_file: str, checkpoints: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Contender, "prepare", lambda *_: pytest.fail("it has begun"))
    says = r"'best.onnx' takes an input of 64 x 64 pixels alone, but imgsz=96 is measured, 96 x 96; .* or give imgsz=64"
    with pytest.raises(ValueError, match=says):
        MultiTaskYOLO(checkpoints["best"]).benchmark(**SMALL | {"imgsz": 96}, against=onnx_file)
    with pytest.raises(ValueError, match=says):
        MultiTaskYOLO(onnx_file).benchmark(**SMALL | {"imgsz": 96})


def test_a_folder_is_replaced_whole_and_keeps_what_else_is_in_it(tmp_path: Path) -> None:
    out, stage = finished(tmp_path)
    run.install(stage, out)
    assert texts(out) == {"a.csv": "new", "b.json": "new", "notes.txt": "mine", "more/a.csv": "mine"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("call", [1, 2])
def test_a_folder_is_as_before_if_it_cannot_be_replaced(
    call: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, stage = finished(tmp_path)
    before, calls, replace = texts(out), [0], os.replace

    def failing(source: Any, target: Any) -> None:
        calls[0] += 1
        if calls[0] == call:
            raise OSError("disk full")
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(OSError, match="disk full"):
        run.install(stage, out)
    assert texts(out) == before


def finished(folder: Path) -> tuple[Path, Path]:
    """Return a folder of an earlier benchmark with files of the user, and the stage of the next."""
    out, stage = folder / "out", folder / ".stage"
    for path, text in {"out/a.csv": "old", "out/notes.txt": "mine", "out/more/a.csv": "mine"}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    stage.mkdir()
    for name in ("a.csv", "b.json"):
        (stage / name).write_text("new")
    return out, stage


def texts(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


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
