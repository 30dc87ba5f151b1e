"""Positions of objects in a CSV file, one line per frame and object, as TrackNet's data sets have them.

Columns, by name in any order and case: ``Frame`` (a number, or the ``file name`` with one), ``Visibility`` (0 not
there, 1 clear, 2 hard to see, 3 hidden), ``X`` and ``Y`` (or ``x-coordinate``, ``y-coordinate``) in pixels, empty
where the object is not there; and where there are several classes or objects ``Class`` (name or number) and ``Id``.
Other columns (``Event``, ``status``) are left alone.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping
from pathlib import Path

from yolo_multitask.data.clips.clip import HIDDEN, FrameLabels
from yolo_multitask.data.clips.spec import ClipSpec, ReadLabels
from yolo_multitask.data.labels import LineProblem

_COLUMNS = {
    "frame": ("frame", "filename", "file"),
    "visibility": ("visibility",),
    "x": ("x", "xcoordinate"),
    "y": ("y", "ycoordinate"),
    "class": ("class",),
    "id": ("id",),
}
_NEEDED = ("frame", "visibility", "x", "y")
Row = tuple[float, float, int, int, int]  # x, y, class, visibility, id


def read_csv(path: str | Path, spec: ClipSpec, size: tuple[int, int]) -> ReadLabels:
    """Read a CSV file of positions.

    A line that does not parse or contradicts another is left out with a problem, and its frame is not labelled then.

    Args:
        path: The file.
        spec: The classes.
        size: Height and width (H, W) of the frames.

    Raises:
        ValueError: It is no such file: a column is missing, or it is not text (``file:line: reason``).
    """
    name = str(path)
    found = ReadLabels()
    rows: dict[int, list[Row | tuple[int]]] = {}  # by frame; (class,) where the class is said not to be there
    bad: set[int] = set()
    try:
        with open(name, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            columns = _columns(next(reader, []), name)
            for values in reader:
                if not any(value.strip() for value in values):
                    continue
                frame: int | None = None
                try:
                    record = {k: values[i].strip() if i < len(values) else "" for k, i in columns.items()}
                    frame = _frame_number(record["frame"])
                    row = _row(record, spec, size)
                    if row in rows.setdefault(frame, []):
                        found.problems.append(
                            LineProblem(name, reader.line_num, f"repeats a line of frame {frame}", "duplicate")
                        )
                        continue
                    _check_together(row, rows[frame], frame)
                    rows[frame].append(row)
                except ValueError as error:
                    found.problems.append(LineProblem(name, reader.line_num, str(error)))
                    bad |= set() if frame is None else {frame}
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{name}:1: expected a CSV file in UTF-8, found {error}") from error
    for frame, listed in rows.items():
        if frame not in bad:
            found.frames[frame] = FrameLabels.of([row for row in listed if len(row) == 5])
    return found


def _columns(head: list[str], name: str) -> dict[str, int]:
    """Return the place of each column that is there."""
    titles = [re.sub(r"[^a-z]", "", title.lower()) for title in head]
    found = {key: titles.index(alias) for key, names in _COLUMNS.items() for alias in names if alias in titles}
    missing = [key for key in _NEEDED if key not in found]
    if missing:
        raise ValueError(
            f"{name}:1: expected the columns Frame,Visibility,X,Y, found {','.join(head) or 'an empty file'}; "
            f"name the column{'s' * (len(missing) > 1)} {', '.join(missing)} in the first line"
        )
    return found


def _frame_number(text: str) -> int:
    """Return the frame number of a number or a file name."""
    match = re.fullmatch(r"(\d+)(?:\.0*)?|(?:.*\D)?(\d+)\.[A-Za-z]\w*|[^.]*[^.\d](\d+)", text)
    if match is None or text.startswith("-"):
        raise ValueError(f"expected a frame number 0 or above, or a file name with one, found {text!r}")
    return int(match[match.lastindex or 1])


def _row(record: Mapping[str, str], spec: ClipSpec, size: tuple[int, int]) -> Row | tuple[int]:
    """Return what one line says of an object."""
    visible = _number(record["visibility"], "Visibility")
    if visible not in (0, 1, 2, HIDDEN):
        raise ValueError(f"expected a Visibility of 0, 1, 2 or 3, found {record['visibility']!r}")
    if visible == 0:
        return (spec.class_of(record.get("class"), "objects"),)
    place = []
    for key, limit in (("x", size[1]), ("y", size[0])):
        value = _number(record[key], key.upper())
        if not 0 <= value <= limit:
            raise ValueError(f"expected {key.upper()} in 0..{limit} pixels, the size of the frame, found {value:g}")
        place.append(value)
    cls = spec.class_of(record.get("class"), "objects")
    identity = record.get("id", "")
    ident = _number(identity, "Id") if identity else -1
    if ident != int(ident) or ident < -1:
        raise ValueError(f"expected an Id that is an integer 0 or above, or -1, found {identity!r}")
    return place[0], place[1], cls, int(visible), int(ident)


def _number(text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"expected a number as {what}, found {text!r}")
    return value


def _check_together(row: Row | tuple[int], others: list[Row | tuple[int]], frame: int) -> None:
    """Refuse a line that cannot be true together with another of its frame."""
    cls = row[0] if len(row) == 1 else row[2]
    for other in others:
        if cls != (other[0] if len(other) == 1 else other[2]):
            continue
        if len(row) != len(other):
            raise ValueError(f"expected one answer for frame {frame}, found lines with and without an object")
        if len(row) == 5 and len(other) == 5 and row[4] == other[4] >= 0:
            raise ValueError(f"expected an Id once in frame {frame}, found {row[4]} at two places")
