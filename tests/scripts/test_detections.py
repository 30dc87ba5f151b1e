"""The benchmark of what detections cost: every way is run, and finds what it is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import detections
import pytest


def test_every_way_finds_as_many_objects(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, plot = tmp_path / "out.json", tmp_path / "stages.png"
    given = ["--counts", "0", "2", "5", "--imgsz", "128", "--runs", "2", "--warmup", "1", "--threads", "1"]
    assert detections.main([*given, "--json", str(out), "--plot", str(plot)]) == 0
    rows = json.loads(out.read_text())["rows"]
    assert [row["detections"] for row in rows] == [0, 2, 5]
    for row in rows:
        assert set(row["found"].values()) == {row["detections"]}
        assert set(row["ms"]) == {"multitask", "dense", "seg", "pose", "pose + seg"}
        assert all(len(times) == 2 and min(times) > 0 for times in row["ms"].values())
        both = [a + b for a, b in zip(row["ms"]["pose"], row["ms"]["seg"], strict=True)]
        assert row["ms"]["pose + seg"] == both
    assert plot.stat().st_size > 1000
    table = [line.split("|") for line in capsys.readouterr().out.splitlines() if line.startswith("| yolov8n")]
    assert [int(line[2]) for line in table] == [0, 2, 5]


def test_stages_are_put_back() -> None:
    from yolo_multitask.nn.heads import MultiTask

    before = MultiTask.boxes_at
    with detections.stage_times() as spent:
        assert MultiTask.boxes_at is not before
    assert MultiTask.boxes_at is before
    assert spent == dict.fromkeys(detections.STAGES, 0.0)
