"""The benchmark of the runtime: three ways, each in processes of its own, with the same objects."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmarks" / "runtime.py"
spec = spec_from_file_location("runtime_benchmark", SCRIPT)
assert spec is not None
assert spec.loader is not None
benchmark = module_from_spec(spec)
spec.loader.exec_module(benchmark)


def test_a_small_run(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    options = ["--imgsz", "64", "--frames", "2", "--rounds", "1", "--conf", "0.001", "--threads", "1"]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *options, "--json", str(out)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    first = lines.index("| | runtime | MultiTaskYOLO, ONNX | MultiTaskYOLO, .pt |")
    assert [line.split(" | ")[0] for line in lines[first + 2 : first + 2 + len(benchmark.ROWS)]] == [
        f"| {t}" for t in benchmark.ROWS.values()
    ]
    content = json.loads(out.read_text())
    rows = content["rows"]
    assert set(rows) == set(benchmark.ROWS)
    assert all(set(row) == set(benchmark.WAYS) for row in rows.values())
    assert rows["objects"]["runtime"] == rows["objects"]["exported"]
    for key in ("start", "memory", "disk", "predict", "track"):
        assert min(rows[key].values()) > 0
    assert not content["processes"]["runtime"][0]["torch"]
    assert content["processes"]["exported"][0]["torch"]
    assert rows["disk"]["runtime"] < rows["disk"]["checkpoint"] / 3


def test_packages_are_counted_once_with_what_they_require() -> None:
    alone, together = benchmark.disk(["numpy"]), benchmark.disk(["numpy", "NumPy", "nothing-of-that-name"])
    assert alone == together > 1
    assert benchmark.disk(["onnxruntime"]) > alone, "it requires numpy"


def test_a_failing_process_is_reported(tmp_path: Path) -> None:
    np.save(tmp_path / "frames.npy", np.zeros((1, 8, 8, 3), np.uint8))
    job = {"way": "runtime", "model": "nowhere.onnx", "frames": str(tmp_path / "frames.npy"), "threads": None}
    with pytest.raises(RuntimeError, match=r"runtime: .*nowhere.onnx: expected an ONNX file, found none"):
        benchmark.run(job, tmp_path)
