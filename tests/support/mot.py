"""Reads MOTChallenge text, as far as evaluation needs it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Frame = tuple[NDArray[np.int64], NDArray[np.float64]]


def read_mot(path: Path) -> dict[int, Frame]:
    """Return the ids (N,) and boxes (N, 4), x1 y1 x2 y2 in pixels, of every frame that has any, by frame number.

    A line is `frame, id, x, y, w, h, confidence, ...`. A ground truth's confidence of 0 marks what is not evaluated;
    such lines are left out, as TrackEval leaves them out. In tracker output, -1 is no confidence.

    Raises:
        ValueError: A line does not start with seven numbers, the first two of them whole.
    """
    rows: dict[int, list[tuple[int, list[float]]]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            values = [float(text) for text in line.split(",")[:7]]
            frame, identity, x, y, w, h, confidence = values
            if not (frame.is_integer() and identity.is_integer()):
                raise ValueError("frame and id are whole numbers")
        except ValueError as error:
            raise ValueError(
                f"{path}:{number}: expected frame,id,x,y,w,h,confidence, found '{line}': {error}"
            ) from None
        if confidence:
            rows.setdefault(int(frame), []).append((int(identity), [x, y, x + w, y + h]))
    return {f: (np.array([i for i, _ in some]), np.array([b for _, b in some])) for f, some in sorted(rows.items())}


def paired(gt: dict[int, Frame], pred: dict[int, Frame]) -> list[tuple[Frame, Frame]]:
    """Return labelled and predicted objects of every frame from the first to the last that has any."""
    none = np.zeros(0, np.int64), np.zeros((0, 4))
    numbers = gt.keys() | pred.keys()
    return [(gt.get(f, none), pred.get(f, none)) for f in range(min(numbers), max(numbers) + 1)]
