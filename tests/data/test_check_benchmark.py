"""The benchmark of the check runs and gives the figures that it promises; what they are is not checked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmarks" / "data_check.py"


def test_minimal_run(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    command = [sys.executable, str(SCRIPT), "--files", "70", "140", "--workers", "1", "--json", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("| label files | objects | seconds |")
    rows = json.loads(out.read_text())["rows"]
    assert [row["images"] for row in rows] == [70, 140]
    for row in rows:
        assert set(row) == {
            *("seconds", "cpu_seconds", "before_mb", "peak_mb", "worker_peak_mb", "images", "objects", "findings")
        }
        assert row["objects"] > 4 * row["images"]
        assert 0 < row["before_mb"] <= row["peak_mb"]
        assert not {"line-grammar", "line-range", "label-missing"} & set(row["findings"])


def test_wrong_arguments() -> None:
    command = [sys.executable, str(SCRIPT), "--files", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "expected a whole number of 1 or more, got '0'" in done.stderr
