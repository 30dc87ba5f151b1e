"""Peak memory is that of the models in a process of their own."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from support.benchmark import picture

from yolo_multitask import MultiTaskYOLO
from yolo_multitask.benchmark.contender import Contender, open_model
from yolo_multitask.benchmark.memory import MIB, device_memory, measure_memory, peak_resident

ARGUMENTS = {"imgsz": 64, "device": "cpu", "verbose": False}


@pytest.mark.skipif(peak_resident() is None, reason="the system does not tell the peak of a process")
def test_the_memory_of_this_process_does_not_count(checkpoints: dict[str, str], tmp_path: Path) -> None:
    ballast = np.ones(1500 * MIB, np.uint8)
    own = peak_resident()
    assert own is not None
    assert own > 1500
    trial = Contender(open_model(checkpoints["best"]), ARGUMENTS, tmp_path, 1)
    memory = measure_memory([trial], picture(), threads=1, runs=1, scratch=tmp_path)
    assert memory.peak is not None
    assert memory.growth is not None
    assert 0 < memory.growth < memory.peak < own
    assert memory.device is None
    assert ballast[-1] == 1


def test_the_memory_of_an_exported_file_is_measured_too(onnx_file: str, tmp_path: Path) -> None:
    report = MultiTaskYOLO(onnx_file).benchmark(source=picture(), runs=1, warmup=0, device="cpu", project=str(tmp_path))
    memory = report.rows[0].memory
    assert memory.peak is None or memory.peak > memory.growth > 0


def test_a_process_that_fails_is_reported(checkpoints: dict[str, str], tmp_path: Path) -> None:
    trial = Contender(open_model(checkpoints["best"]), ARGUMENTS, tmp_path, 1)
    trial.file = str(tmp_path / "gone.pt")
    with pytest.raises(RuntimeError, match=r"measuring the memory of best.pt failed: .*gone.pt"):
        measure_memory([trial], picture(), threads=1, runs=1, scratch=tmp_path)


@pytest.mark.parametrize(
    ("device", "formats", "expected"),
    [
        ("cuda", ["pt"], 3.0),
        ("cuda", ["pt", "torchscript"], 3.0),
        ("cuda", ["onnx"], None),
        ("cuda", ["pt", "engine"], None),
        ("cpu", ["pt"], None),
    ],
)
def test_what_other_runtimes_allocate_on_a_device_is_not_made_up(
    device: str, formats: list[str], expected: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 3 * MIB)
    backend = SimpleNamespace(device=torch.device(device))
    models: Any = [SimpleNamespace(format=name, backend=backend) for name in formats]
    assert device_memory(models) == expected
