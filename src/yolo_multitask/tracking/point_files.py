"""Trajectories of a sequence as a CSV file in the style of the TrackNet data, with what tracking adds.

`Frame,Visibility,X,Y,Conf,Class,Id,Interpolated`: one line per object, by frame. X and Y are pixels of the
original frame.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from yolo_multitask.tracking.result_files import ResultFile

COLUMNS = ("Frame", "Visibility", "X", "Y", "Conf", "Class", "Id", "Interpolated")
NONE, SEEN, HIDDEN = 0, 1, 3  # visibility: no object, seen, not seen but between two frames in which it was


class PointFile(ResultFile):
    """The CSV file of one sequence, see the module; whole or not at all, see `ResultFile`.

    Visibility is that of the TrackNet data: 0 where a frame has no object (one line, the rest empty), 1 where it was
    seen, 3 (hidden) where its position is interpolated. So such a file can be read as labels.
    """

    header = ",".join(COLUMNS) + "\n"

    def add(self, frame: int, rows_M6: NDArray[np.floating]) -> None:
        """Write the lines of one frame.

        Args:
            frame: Its number; the TrackNet data counts from 0.
            rows_M6: x, y, confidence, class, id, interpolated of its objects, as `TrajectorySmoother` gives them.

        Raises:
            ValueError: The rows are no (M, 6) array, or hold what is not finite.
        """
        rows = np.asarray(rows_M6, np.float64)
        if rows.ndim != 2 or rows.shape[1] != 6 or not np.isfinite(rows).all():
            raise ValueError(f"frame {frame}: expected finite rows (M, 6), found {rows.shape} {rows.tolist()}.")
        lines = [
            f"{frame},{HIDDEN if between else SEEN},{x:.2f},{y:.2f},{conf:.6f},{cls:.0f},{track:.0f},{between:.0f}\n"
            for x, y, conf, cls, track, between in rows.tolist()
        ]
        self.write("".join(lines) or f"{frame},{NONE}{',' * (len(COLUMNS) - 2)}\n")
