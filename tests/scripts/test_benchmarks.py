"""The benchmark runs and gives the figures that it promises; what they are is not checked, except where exact."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmarks" / "one_net_or_two.py"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the script; in a process of its own, because it sets the number of threads."""
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True, check=False, timeout=300
    )


def test_minimal_run(tmp_path: Path):
    out = tmp_path / "out.json"
    options = ["--families", "yolov8", "--scales", "n", "--imgsz", 64, "--runs", 2, "--warmup", 1, "--threads", 1]
    done = run(*options, "--json", out)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "| model | nc | parameters, M | GFLOPs at 640 | forward, ms | predict, ms | objects |"
    assert lines[2].startswith("| yolov8n | 1 |")
    assert [line.count("|") for line in lines[:3]] == [8, 8, 8]
    assert "torch" in done.stdout
    assert "Load average" in done.stdout

    content = json.loads(out.read_text())
    assert set(content) == {"machine", "settings", "rows"}
    assert {"cpu", "cores", "torch", "ultralytics", "load_before", "load_after"} <= set(content["machine"])
    assert content["settings"] == {
        "imgsz": 64,
        "runs": 2,
        "warmup": 1,
        "threads": 1,
        "weights": "random",
        "image": "bus.jpg",
    }
    (row,) = content["rows"]
    assert set(row) == {"family", "scale", "nc", "parameters", "gflops", "forward", "predict", "objects"}
    assert set(row["objects"]) == {"multitask", "pose", "seg"}
    assert all(0 < found <= 20 for found in row["objects"].values())  # stock seg drops objects with an empty mask
    for key in ("parameters", "gflops"):
        assert set(row[key]) == {"one", "two", "ratio"}
        assert row[key]["one"] < row[key]["two"]
    times = {"one_ms", "two_ms", "ratio", "ratio_quartiles", "ratio_range", "one_runs_ms", "two_runs_ms"}
    for key in ("forward", "predict"):
        assert set(row[key]) == times
        assert len(row[key]["one_runs_ms"]) == len(row[key]["two_runs_ms"]) == 2
        assert row[key]["ratio_range"][0] <= row[key]["ratio_quartiles"][0] <= row[key]["ratio_quartiles"][1]
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--imgsz", "65"], "multiple of 32, got 65"),
        (["--runs", "0"], "expected a whole number of 1 or more, got '0'"),
        (["--weights", "there", "--nc", "80"], "--nc cannot be combined with --weights"),
        (["--families", "yolov8", "--scales", "n", "--weights", "nowhere"], "'nowhere' has no yolov8n-seg.pt"),
    ],
)
def test_wrong_arguments(arguments: list[str], message: str):
    done = run(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert not done.stdout
    assert "Traceback" not in done.stderr
