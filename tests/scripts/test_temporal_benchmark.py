"""The benchmark of models of windows: its plain loop finds what the predictor does, and it prints what it promises."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.oracle import fly, frame, oracle
from temporal import plain_loop

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmarks" / "temporal.py"


def test_the_plain_loop_does_the_same_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = oracle(monkeypatch, tmp_path)
    frames = [frame([dot] if t != 4 else []) for t, dot in enumerate(fly(9))]
    common: dict[str, Any] = {"imgsz": 96, "verbose": False, "lazy": False, "device": "cpu"}
    found = sum(len(r) for r in model.predict(frames, **common))
    assert plain_loop(model, frames, 96)() == found == 8


def test_a_small_run(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    options = ["--imgsz", "64", "--width", "64", "--length", "3", "--runs", "1", "--warmup", "1", "--threads", "1"]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *options, "--json", str(out)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert [line.split(" | ")[0] for line in done.stdout.splitlines()[2:6]] == [
        "| scratch", "| buffer", "| stride", "| prepare"
    ]  # fmt: skip
    assert set(json.loads(out.read_text())) == {"machine", "ms"}
