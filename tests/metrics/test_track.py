"""The figures of several sequences, their table and their plot."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import pytest
from support.track_frames import assert_same, evaluate, pairs, random_frames

from yolo_multitask.metrics.track import COLUMNS, TrackMetric
from yolo_multitask.metrics.tracking import combine

GOOD = pairs([(1, 1, 1.0)], [(1, 1, 1.0)])
SWITCH = pairs([(1, 1, 1.0)], [(1, 2, 1.0)])


def test_without_sequences() -> None:
    metric = TrackMetric()
    assert metric.per_sequence == {}
    assert dict(zip(COLUMNS, metric.mean_results(), strict=True)) == dict.fromkeys(COLUMNS, 0.0)
    assert [name for name, _ in metric.rows()] == ["COMBINED"]


def test_sequences_and_classes_are_summed() -> None:
    metric = TrackMetric()
    good, switch = evaluate(GOOD), evaluate(SWITCH)
    metric.update({"a": [good, switch], "b": [good]})
    assert {name: result.idsw for name, result in metric.per_sequence.items()} == {"a": 1, "b": 0}
    assert (metric.idsw, metric.fp, metric.fn, metric.frag) == (1, 0, 0, 0)
    assert metric.mota == pytest.approx(5 / 6)
    assert (metric.deta, metric.loca) == (1, 1)
    assert metric.assa == pytest.approx((1 + 1 + 0.5) / 3), "two objects each; the switched ones share half their time"
    assert metric.hota == pytest.approx(metric.assa**0.5)
    metric.update({"c": [good]})
    assert list(metric.per_sequence) == ["c"]
    assert metric.idsw == 0


def test_classes_are_like_sequences() -> None:
    parts = [evaluate(random_frames(seed)) for seed in range(4)]
    metric = TrackMetric()
    metric.update({"a": parts[:2], "b": parts[2:]})
    assert_same(metric.result, combine(parts))
    assert_same(metric.result, combine(metric.per_sequence.values()))


def test_table(tmp_path: Path) -> None:
    metric = TrackMetric()
    metric.update({"a": [evaluate(random_frames(1))], "folder/b": [evaluate(random_frames(2))]})
    file = tmp_path / "tracking.csv"
    metric.save_csv(file)
    with open(file, newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row.pop("sequence") for row in rows] == ["a", "folder/b", "COMBINED"]
    assert [{k: float(v) for k, v in row.items()} for row in rows] == [summary for _, summary in metric.rows()]
    assert [row["IDSW"] for row in rows] == [str(summary["IDSW"]) for _, summary in metric.rows()], "whole numbers"
    assert [f.name for f in tmp_path.iterdir()] == ["tracking.csv"]


def test_plot(tmp_path: Path) -> None:
    metric, seen = TrackMetric(), []
    metric.update({"a": [evaluate(random_frames(1))]})
    metric.plot(tmp_path / "HOTA_curve.png", seen.append)
    assert seen == [tmp_path / "HOTA_curve.png"]
    picture = cv2.imread(str(seen[0]))
    assert picture is not None
    assert picture.std() > 5, "something is drawn"
