"""Peak memory is that of the models in a process of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.benchmark import picture

from yolo_multitask.benchmark.contender import Contender, open_model
from yolo_multitask.benchmark.memory import MIB, measure_memory, peak_resident

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


def test_a_process_that_fails_is_reported(checkpoints: dict[str, str], tmp_path: Path) -> None:
    trial = Contender(open_model(checkpoints["best"]), ARGUMENTS, tmp_path, 1)
    trial.file = str(tmp_path / "gone.pt")
    with pytest.raises(RuntimeError, match=r"measuring the memory of best.pt failed: .*gone.pt"):
        measure_memory([trial], picture(), threads=1, runs=1, scratch=tmp_path)
