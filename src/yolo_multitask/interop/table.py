"""A result as a table, a row a detection: Ultralytics' columns, then the embedding, the next box and the point.

N detections, E embedding values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo_multitask.interop.arrays import Arrays, arrays_of, has_arrays
from yolo_multitask.interop.library import library
from yolo_multitask.interop.masks import outline


def to_df(result: Any, normalize: bool = False, decimals: int = 5) -> Any:
    """Return a result as a `polars.DataFrame`.

    The columns are `name`, `class`, `confidence` and `box`; `track_id`, `segments`, `keypoints`, `embedding` (an array
    of E values, not rounded), `next_box` and `point` (of small objects, null for others) where the result has them. A
    result without detections has them too, so that the tables of a video can be concatenated.

    Args:
        result: See `arrays_of`.
        normalize: Whether coordinates are shares of the image's width and height, not pixels.
        decimals: Decimal places.

    Raises:
        ImportError: If polars is not installed.
        ValueError: If the result has no boxes.
    """
    pl = library("polars")
    found = arrays_of(result)
    sides = np.array(found.orig_shape[::-1] if normalize else (1, 1), np.float32)
    rows = _summary(found, sides, decimals) if has_arrays(result) else result.summary(normalize, decimals)
    if found.embeddings is not None:
        for row, values in zip(rows, found.embeddings.tolist(), strict=True):
            row["embedding"] = values
    if found.next_boxes is not None:
        for row, box in zip(rows, found.next_boxes, strict=True):
            row["next_box"] = _corners(box, sides, decimals)
    if found.points is not None:
        for row, point in zip(rows, found.points, strict=True):
            row["point"] = point_cell(point, sides, decimals)
    columns = _column_types(pl, found)
    return pl.DataFrame(rows, schema_overrides=columns) if rows else pl.DataFrame(schema=columns)


def to_csv(result: Any, normalize: bool = False, decimals: int = 5) -> str:
    """Return the table of `to_df` as CSV text; where a cell holds several values, as a Python literal.

    Raises:
        ImportError: If polars is not installed.
        ValueError: If the result has no boxes.
    """
    pl = library("polars")
    table = to_df(result, normalize, decimals)
    nested = [name for name, kind in table.schema.items() if kind.is_nested()]
    texts = [pl.Series(name, [repr(cell) for cell in table[name].to_list()], dtype=pl.String) for name in nested]
    return str(table.with_columns(texts).write_csv())


def _summary(found: Arrays, sides: NDArray[np.float32], decimals: int) -> list[dict[str, Any]]:
    """Return what the host's `Results.summary` returns: a dictionary a detection, N of them."""
    rows = []
    for i, name in enumerate(found.class_names):
        row: dict[str, Any] = {
            "name": name,
            "class": int(found.cls[i]),
            "confidence": round(float(found.score[i]), decimals),
            "box": _corners(found.xyxy[i], sides, decimals),
        }
        if found.ids is not None:
            row["track_id"] = int(found.ids[i])
        if found.masks is not None:
            row["segments"] = _points(outline(found.masks[i], found.orig_shape) / sides, "xy", decimals)
        if found.keypoints is not None:
            row["keypoints"] = _points(found.keypoints[i, :, :2] / sides, "xy", decimals)
        if found.keypoint_scores is not None:
            row["keypoints"] |= _points(found.keypoint_scores[i, :, None], ("visible",), decimals)
        rows.append(row)
    return rows


def _corners(box: NDArray[np.float32], sides: NDArray[np.float32], decimals: int) -> dict[str, float]:
    """Return a box (4,) x1 y1 x2 y2 by name, divided by `sides` (2,)."""
    values = (box.astype(np.float64).reshape(2, 2) / sides).ravel().tolist()
    return {name: round(value, decimals) for name, value in zip(("x1", "y1", "x2", "y2"), values, strict=True)}


def point_cell(point: NDArray[np.float32], sides: NDArray[np.float32], decimals: int) -> dict[str, Any] | None:
    """Return the position of a small object (3,) x y interpolated by name, x y divided by `sides`; None where NaN."""
    if not np.isfinite(point[:2]).all():
        return None
    x, y = (point[:2].astype(np.float64) / sides).tolist()
    return {"x": round(x, decimals), "y": round(y, decimals), "interpolated": bool(point[2] == 1)}


def _points(points: NDArray[np.float32], names: Any, decimals: int) -> dict[str, list[float]]:
    """Return the columns of points (M, C) by name."""
    return dict(zip(names, points.T.astype(np.float64).round(decimals).tolist(), strict=True))


def _column_types(pl: Any, found: Arrays) -> dict[str, Any]:
    """Return the polars type of each column of a result."""
    number, numbers = pl.Float64, pl.List(pl.Float64)
    count = 2 if found.corners is None else 4
    box = pl.Struct({f"{axis}{i}": number for i in range(1, count + 1) for axis in "xy"})
    scored = ("x", "y") if found.keypoint_scores is None else ("x", "y", "visible")
    width = 0 if found.embeddings is None else found.embeddings.shape[1]
    types = {
        "track_id": (found.ids, pl.Int64),
        "segments": (found.masks, pl.Struct({"x": numbers, "y": numbers})),
        "keypoints": (found.keypoints, pl.Struct(dict.fromkeys(scored, numbers))),
        "embedding": (found.embeddings, pl.Array(pl.Float32, width)),
        "next_box": (found.next_boxes, pl.Struct(dict.fromkeys(("x1", "y1", "x2", "y2"), number))),
        "point": (found.points, pl.Struct({"x": number, "y": number, "interpolated": pl.Boolean})),
    }
    given = {name: kind for name, (values, kind) in types.items() if values is not None}
    return {"name": pl.String, "class": pl.Int64, "confidence": number, "box": box, **given}
