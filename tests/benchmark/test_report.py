"""Rows, sums, table and files, from made-up measurements whose answer is known."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import cv2

from yolo_multitask.benchmark.memory import Memory
from yolo_multitask.benchmark.report import BenchmarkReport, Row, one_after_the_other, table

MEMORY = Memory(peak=500.0, growth=100.0, device=None)


def row(name: str, times: list[float], tasks: tuple[str, ...] = ("detect", "pose"), **changes: object) -> Row:
    made = Row(
        name=name,
        tasks=tasks,
        format="pt",
        parameters=3_000_000,
        gflops=8.0,
        predict_ms=times,
        stages_ms={"preprocess": [1.0] * 3, "inference": [t - 3 for t in times], "postprocess": [1.5] * 3},
        forward_ms={1: [10.0, 20.0, 40.0], 4: [100.0] * 3},
        memory=MEMORY,
        file_mib=None,
        found=7,
        metrics={},
    )
    return replace(made, **changes)  # type: ignore[arg-type]


ONE = row("best.pt", [10.0, 12.0, 20.0], ("detect", "segment", "pose"), metrics={"metrics/mAP50-95(B)": 0.5})
SEG = row("seg.pt", [11.0, 10.0, 30.0], ("detect", "segment"), parameters=2_000_000)
POSE = row("pose.pt", [9.0, 10.0, 10.0], gflops=None)


def report(rows: list[Row], separate: Row | None, folder: Path = Path("out")) -> BenchmarkReport:
    return BenchmarkReport(
        rows=rows, separate=separate, settings={"runs": 3}, machine={"cpu": "x"}, notes=["Said."], save_dir=folder
    )


def test_a_row_says_medians_and_quartiles() -> None:
    assert (ONE.latency, ONE.spread) == (12.0, (11.0, 16.0))
    assert ONE.stages == {"preprocess": 1.0, "inference": 9.0, "postprocess": 1.5}
    assert ONE.throughput == {1: 50.0, 4: 40.0}


def test_together_is_the_sum_of_each_round() -> None:
    both = one_after_the_other([SEG, POSE], Memory(peak=600.0, growth=200.0, device=None))
    assert both.name == "seg.pt + pose.pt"
    assert both.tasks == ("detect", "segment", "pose")
    assert both.predict_ms == [20.0, 20.0, 40.0]
    assert both.stages_ms["inference"] == [14.0, 14.0, 34.0]
    assert both.forward_ms == {1: [20.0, 40.0, 80.0], 4: [200.0] * 3}
    assert (both.parameters, both.gflops, both.found) == (5_000_000, None, 14)
    assert both.memory.growth == 200.0


def test_the_table_has_a_row_a_model_and_gaps_where_nothing_is_known() -> None:
    both = one_after_the_other([SEG, POSE], MEMORY)
    lines = str(report([ONE, SEG, POSE], both)).splitlines()
    assert lines[0] == (
        "| model | tasks | parameters, M | GFLOPs | predict, ms | pre + inference + post, ms | images/s, batch 1 | "
        "images/s, batch 4 | memory, MiB | objects | box AP |"
    )
    assert lines[2] == (
        "| best.pt | detect, segment, pose | 3.0 | 8.0 | 12.0 [11.0–16.0] | 1.0 + 9.0 + 1.5 | 50.0 | 40.0 | 100 | 7 | "
        "0.500 |"
    )
    assert lines[4].endswith("| – | 10.0 [9.5–10.0] | 1.0 + 7.0 + 1.5 | 50.0 | 40.0 | 100 | 7 | – |")
    assert lines[5].startswith("| seg.pt + pose.pt |")
    assert {line.count("|") for line in lines[:6]} == {12}
    assert lines[7] == "best.pt / seg.pt + pose.pt: predict 0.60 [0.50–0.55], parameters 0.60"
    assert lines[9] == "Said."


def test_one_other_model_is_compared_to_directly() -> None:
    found = report([ONE, SEG], SEG)
    assert [r.name for r in found.all_rows] == ["best.pt", "seg.pt"]
    assert "best.pt / seg.pt: predict 1.09 [0.79–1.05], GFLOPs 1.00, parameters 1.50" in str(found)
    alone = report([ONE], None)
    assert alone.comparison is None
    assert "/ seg" not in str(alone)


def test_the_memory_of_a_device_has_a_column_of_its_own() -> None:
    cuda = row("best.pt", [1.0] * 3, memory=Memory(peak=500.0, growth=100.0, device=42.0))
    lines = table([cuda, row("best.onnx", [1.0] * 3, format="onnx")]).splitlines()
    assert "| memory, MiB | device memory, MiB | objects |" in lines[0]
    assert lines[2].endswith("| 100 | 42 | 7 |")
    assert lines[3].endswith("| 100 | – | 7 |")
    assert "device memory" not in table([ONE])


def test_the_size_of_exported_files_has_a_column() -> None:
    lines = table([ONE, row("best.onnx", [1.0] * 3, format="onnx", parameters=None, file_mib=12.34)]).splitlines()
    assert "| memory, MiB | file, MiB | objects |" in lines[0]
    assert "| 100 | – | 7 |" in lines[2]
    assert "| 100 | 12.3 | 7 |" in lines[3]
    assert {line.count("|") for line in lines} == {13}
    assert "file, MiB" not in table([ONE])


def test_what_is_not_known_is_a_dash() -> None:
    unknown = row("best.pt", [1.0] * 3, memory=Memory(peak=None, growth=None, device=None))
    assert "| – | 7 |" in table([unknown])


def test_files_hold_what_was_measured(tmp_path: Path) -> None:
    both = one_after_the_other([SEG, POSE], MEMORY)
    report([ONE, SEG, POSE], both).save(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["benchmark.csv", "benchmark.json", "benchmark.png"]

    with open(tmp_path / "benchmark.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [r["model"] for r in rows] == ["best.pt", "seg.pt", "pose.pt", "seg.pt + pose.pt"]
    assert float(rows[0]["predict_ms"]) == 12.0
    assert float(rows[0]["images_per_s_batch_4"]) == 40.0
    assert rows[0]["metrics/mAP50-95(B)"] == "0.5"
    assert rows[2]["gflops"] == rows[1]["metrics/mAP50-95(B)"] == ""

    content = json.loads((tmp_path / "benchmark.json").read_text())
    assert set(content) == {"machine", "settings", "notes", "rows", "separate", "comparison"}
    assert [r["predict_ms"] for r in content["rows"]] == [ONE.predict_ms, SEG.predict_ms, POSE.predict_ms]
    assert content["rows"][0]["forward_ms"]["1"] == [10.0, 20.0, 40.0]
    assert content["separate"]["predict_ms"] == [20.0, 20.0, 40.0]
    assert content["comparison"]["ratio"] == 0.6

    image = cv2.imread(str(tmp_path / "benchmark.png"))
    assert image is not None
    assert image.std() > 0


def test_two_models_of_one_name_have_a_bar_each(tmp_path: Path) -> None:
    report([ONE, ONE, ONE], None).save(tmp_path)
    three = cv2.imread(str(tmp_path / "benchmark.png"))
    report([ONE], None).save(tmp_path)
    one = cv2.imread(str(tmp_path / "benchmark.png"))
    blue = [(abs(picture.astype(int) - (180, 119, 31)).sum(2) < 9).any(1) for picture in (one, three)]  # C0
    assert [int((rows[1:] & ~rows[:-1]).sum()) for rows in blue] == [1, 1]
    assert three.shape[0] > one.shape[0]
