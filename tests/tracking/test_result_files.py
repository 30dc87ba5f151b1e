"""Files of points: what they hold, and that they are written whole."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from yolo_multitask.tracking.point_files import COLUMNS, PointFile

SEEN = np.array([[3.25, 4.5, 0.75, 0, 2, 0], [9, 8, 0.5, 1, 3, 1]])


def read(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_line_for_each_object(tmp_path: Path) -> None:
    file = PointFile(tmp_path / "points" / "clip.csv")
    for frame, rows in enumerate((SEEN, np.zeros((0, 6)), SEEN[:1])):
        file.add(frame, rows)
    file.close()
    lines = read(file.path)
    assert list(lines[0]) == list(COLUMNS) == ["Frame", "Visibility", "X", "Y", "Conf", "Class", "Id", "Interpolated"]
    assert [line["Frame"] for line in lines] == ["0", "0", "1", "2"]
    assert [line["Visibility"] for line in lines] == ["1", "3", "0", "1"]
    assert list(lines[0].values()) == ["0", "1", "3.25", "4.50", "0.750000", "0", "2", "0"]
    assert list(lines[1].values()) == ["0", "3", "9.00", "8.00", "0.500000", "1", "3", "1"]
    assert list(lines[2].values()) == ["1", "0", *[""] * 6]


def test_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "clip.csv"
    path.write_text("before")
    file = PointFile(path)
    file.add(0, SEEN)
    assert path.read_text() == "before"
    file.close(keep=False)
    assert [p.name for p in tmp_path.iterdir()] == ["clip.csv"]
    assert path.read_text() == "before"
    file.add(1, SEEN)
    file.close()
    assert [line["Frame"] for line in read(path)] == ["1", "1"]
    assert [p.name for p in tmp_path.iterdir()] == ["clip.csv"]


def test_a_file_goes_on_where_it_was_closed(tmp_path: Path) -> None:
    file = PointFile(tmp_path / "clip.csv")
    for frame in range(3):
        file.add(frame, SEEN[:1])
        file.close()
    assert [line["Frame"] for line in read(file.path)] == ["0", "1", "2"]


def test_rows_that_are_not_are_named(tmp_path: Path) -> None:
    file = PointFile(tmp_path / "clip.csv")
    for bad in (np.zeros((1, 5)), np.full((1, 6), np.nan)):
        with pytest.raises(ValueError, match=r"frame 4: expected finite rows \(M, 6\)"):
            file.add(4, bad)
    file.close()
    assert list(tmp_path.iterdir()) == []
