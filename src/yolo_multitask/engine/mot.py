"""Tracks of a run as MOTChallenge result files, one a sequence: `frame,id,x,y,w,h,conf,-1,-1,-1`.

`frame` counts from 1, `x y` is the top left corner of the box, all in pixels of the original image. Benchmarks' tools
(TrackEval, py-motmetrics) read these files.
"""

from __future__ import annotations

from typing import Any

from yolo_multitask.tracking.result_files import ResultFile


class MotFile(ResultFile):
    """The result file of one sequence, see the module; whole or not at all, see `ResultFile`."""

    def add(self, frame: int, result: Any) -> None:
        """Write the lines of one frame; a frame without tracks adds none, but the file exists.

        Args:
            frame: Its number, from 1.
            result: A result with ids; of oriented boxes the enclosing upright ones are written.
        """
        boxes = (result.boxes if result.obb is None else result.obb).cpu().numpy()
        rows = zip(boxes.id.astype(int), boxes.xyxy.astype(float), boxes.conf, strict=True)
        lines = [
            f"{frame},{i},{x1:.2f},{y1:.2f},{x2 - x1:.2f},{y2 - y1:.2f},{conf:.6f},-1,-1,-1\n"
            for i, (x1, y1, x2, y2), conf in rows
        ]
        self.write("".join(lines))
