"""`ymt benchmark`: keys of its own, a table on stdout, progress on stderr, and stock models through the host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import pytest
from support.benchmark import picture, write_checkpoints

from yolo_multitask.benchmark.memory import Memory
from yolo_multitask.cli import app, run


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the paths of small random models by name."""
    return write_checkpoints(tmp_path_factory.mktemp("checkpoints"))


def test_a_table_on_stdout_and_files_in_a_run_folder(
    checkpoints: dict[str, str],
    runs_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    memory = Memory(peak=2.0, growth=1.0, device=None)  # which would take a process for each model
    monkeypatch.setattr("yolo_multitask.benchmark.run.measure_memory", lambda *_: memory)
    cv2.imwrite(str(tmp_path / "picture.png"), picture())
    argv = ["benchmark", f"model={checkpoints['best']}", f"against=[{checkpoints['seg']}, {checkpoints['pose']}]"]
    argv += [f"source={tmp_path / 'picture.png'}", "imgsz=64", "device=cpu", "threads=1", "runs=2", "warmup=1"]
    assert app.main([*argv, "--batches", "[1,2]", "detections=5", "track=False"]) == 0
    found = capsys.readouterr()
    lines = found.out.splitlines()
    assert lines[0].startswith("| model | tasks | parameters, M |")
    assert lines[2].startswith("| best.pt | detect, segment, pose |")
    assert lines[5].startswith("| seg.pt + pose.pt | detect, segment, pose |")
    assert "(picture.png)" in found.out
    assert "best.pt: memory" in found.err
    folder = runs_dir / "multitask" / "benchmark"
    assert sorted(p.name for p in folder.iterdir()) == ["benchmark.csv", "benchmark.json", "benchmark.png"]


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("rums=3", "unknown argument 'rums'; did you mean 'runs'?"),
        ("runs=0", "'runs' must be a whole number of 1 or more, got 0"),
        ("batches=[1,two]", "'batches' must be a whole number of 1 or more, got 'two'"),
        ("threads=many", "'threads' must be a whole number of 1 or more, got 'many'"),
        ("epochs=3", "unknown argument 'epochs' of benchmark"),
        ("format=onx", "format=onx: found no such format; expected one of torchscript, onnx"),
        ("format=paddle", "format=paddle cannot hold track"),
        ("int8", "'int8' is the precision of an export"),
    ],
)
def test_wrong_arguments_give_exit_code_2(
    word: str, says: str, checkpoints: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.main(["benchmark", f"model={checkpoints['best']}", word]) == 2
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1


def test_a_missing_model_gives_exit_code_1(checkpoints: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["benchmark", f"model={checkpoints['best']}", "against=nowhere.pt"]) == 1
    assert "against=nowhere.pt: expected a checkpoint" in capsys.readouterr().err


def test_the_keys_of_benchmark_belong_to_it_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["predict", "model=x.pt", "warmup=3"]) == 2
    assert "unknown argument 'warmup'" in capsys.readouterr().err
    assert run.parse(["warmup=3", "against=a.pt"], "benchmark") == {"warmup": 3, "against": "a.pt"}


def test_a_stock_model_is_measured_by_the_host(
    checkpoints: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ultralytics.utils import benchmarks

    given: list[dict[str, Any]] = []
    monkeypatch.setattr(benchmarks, "benchmark", lambda **kwargs: given.append(kwargs))
    assert app.main(["benchmark", f"model={checkpoints['seg']}", "data=coco8-seg.yaml", "imgsz=64"]) == 0
    assert [(call["data"], call["imgsz"]) for call in given] == [("coco8-seg.yaml", 64)]
    assert capsys.readouterr().out == ""
    assert app.main(["benchmark", f"model={checkpoints['seg']}", "runs=3"]) == 1
    assert "runs is for multitask models" in capsys.readouterr().err
