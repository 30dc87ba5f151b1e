"""Columns and boxes of made-up instances."""

from __future__ import annotations

import numpy as np
from ultralytics.utils.instance import Instances

from yolo_multitask.data.columns import new_columns


def columns(*rows: tuple[float, float, float, float, float]) -> np.ndarray:
    """Return columns (N, C) with the first five given."""
    out = new_columns(len(rows))
    out[:, :5] = np.array(rows, np.float32).reshape(-1, 5)
    return out


def boxes(*rows: tuple[float, float, float, float], polygons: bool = False) -> Instances:
    """Return instances with xyxy boxes in pixels."""
    values = np.array(rows, np.float32).reshape(-1, 4)
    corners = values[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2) if polygons else None
    return Instances(values, corners, bbox_format="xyxy", normalized=False)
