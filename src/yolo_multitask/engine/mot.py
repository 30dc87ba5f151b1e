"""Tracks of a run as MOTChallenge result files, one a sequence: `frame,id,x,y,w,h,conf,-1,-1,-1`.

`frame` counts from 1, `x y` is the top left corner of the box, all in pixels of the original image. Benchmarks' tools
(TrackEval, py-motmetrics) read these files.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any


class MotFile:
    """The result file of one sequence.

    Lines go to a temporary file beside it, which takes its name when it is closed. A file that is continued after that
    (a sequence that is passed frame by frame) gets the lines of each frame at once.
    """

    def __init__(self, path: str | Path) -> None:
        """Name the file; it is written from the first `add` on, and replaces one of that name."""
        self.path = Path(path)
        self._file: IO[str] | None = None
        self._complete = False

    @property
    def _temporary(self) -> Path:
        return self.path.with_name(f".{self.path.name}.part")

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
        self._file = self._file or self._open()
        self._file.write("".join(lines))

    def _open(self) -> IO[str]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        place, mode = (self.path, "a") if self._complete else (self._temporary, "w")
        return open(place, mode, encoding="utf-8", newline="\n")

    def close(self, keep: bool = True) -> None:
        """Give the file its name, or remove the temporary one; does nothing where nothing is open."""
        if self._file is None:
            return
        self._file.close()
        self._file = None
        if self._complete:
            return
        if keep:
            os.replace(self._temporary, self.path)
            self._complete = True
        else:
            self._temporary.unlink()
