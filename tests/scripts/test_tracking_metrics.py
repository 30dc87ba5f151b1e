"""The benchmark of tracking measures runs and gives the figures that it promises; the times are not checked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmarks" / "tracking_metrics.py"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the script in a process of its own, as a user does."""
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120
    )


def test_minimal_run(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    done = run("--frames", 12, "--objects", 6, "--runs", 2, "--warmup", 1, "--json", out)
    assert done.returncode == 0, done.stderr
    assert "the figures agree: HOTA" in done.stderr
    lines = done.stdout.splitlines()
    assert lines[2].startswith("| 12 | 72 | 6 / ")
    assert [line.count("|") for line in lines[:3]] == [7, 7, 7]
    content = json.loads(out.read_text())
    assert set(content) == {"machine", "settings", "rows"}
    assert {"cpu", "numpy", "lap", "trackeval", "load_before", "load_after"} <= set(content["machine"])
    assert content["settings"] == {"runs": 2, "warmup": 1, "seed": 1, "objects": 6}
    (row,) = content["rows"]
    assert row["ratio"] == pytest.approx(row["one_ms"] / row["two_ms"])
    assert len(row["one_runs_ms"]) == len(row["two_runs_ms"]) == 2
    assert (row["frames"], row["gt_dets"], row["gt_ids"]) == (12, 72, 6)
    assert row["pred_ids"] >= 6
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


def test_wrong_arguments() -> None:
    done = run("--frames", "0")
    assert done.returncode == 2
    assert "expected a whole number of 1 or more, got '0'" in done.stderr
    assert not done.stdout
    assert "Traceback" not in done.stderr
