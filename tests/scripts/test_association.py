"""The tracking benchmark runs and gives the figures that it promises; what they are is not checked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmarks" / "association.py"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the script in a process of its own."""
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120
    )


def test_minimal_run(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    done = run("--people", 4, 9, "--frames", 6, "--json", out)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "| people | cues next to boxes | median, ms | min, ms | max, ms | tracked |"
    assert [line.split(" | ")[1] for line in lines[2:8]] == ["none", "feats", "feats, keypoints, masks, next_boxes"] * 2
    rows = json.loads(out.read_text())["rows"]
    assert [row["people"] for row in rows] == [4, 4, 4, 9, 9, 9]
    for row in rows:
        assert set(row) == {"people", "cues", "median_ms", "min_ms", "max_ms", "rows"}
        assert 0 < row["min_ms"] <= row["median_ms"] <= row["max_ms"]
        assert 0.6 * row["people"] < row["rows"] <= row["people"]


def test_one_set_of_cues() -> None:
    done = run("--people", 3, "--frames", 2, "--cues", "masks")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[2].startswith("| 3 | masks | ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--people", "0"], "expected a whole number of 1 or more, got '0'"),
        (["--cues", "smell"], "invalid choice: 'smell'"),
    ],
)
def test_wrong_arguments(arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert not done.stdout
