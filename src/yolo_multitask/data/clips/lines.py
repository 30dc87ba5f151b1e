"""Objects and players in label lines of this package, one text file a frame.

The centre of an object's box is its position, ``!`` says that it is hidden; an ``!`` that covers the picture says that
the frame is not labelled for objects. So does a missing file, for players too, while an empty one says that there is
nothing. ``!`` of a player's class is an ignore region.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from yolo_multitask.data.clips.clip import CLEAR, HIDDEN, FrameLabels, Players
from yolo_multitask.data.clips.spec import ClipSpec, ReadLabels
from yolo_multitask.data.labels import Labels, LineProblem, read_labels

_WHOLE = 0.999  # of a side, from where a region covers the picture


def read_lines(files: Mapping[int, str], spec: ClipSpec, size: tuple[int, int]) -> ReadLabels:
    """Read the label files of a clip. A frame with a line that does not parse is not labelled, with a problem.

    Args:
        files: Label file by frame number, those that exist.
        spec: The classes, and what the lines hold.
        size: Height and width (H, W) of the frames.
    """
    found = ReadLabels()
    for number, file in files.items():
        labels, problems = read_labels(file, spec.lines)
        problems += _repeated_ids(labels, file)
        found.problems += problems
        if not any(problem.kind == "error" for problem in problems):
            found.frames[number] = frame_labels(labels, spec, size)
    return found


def frame_labels(labels: Labels, spec: ClipSpec, size: tuple[int, int]) -> FrameLabels:
    """Return what label lines say of a frame.

    Args:
        labels: Normalised coordinates.
        spec: The classes.
        size: Height and width (H, W) of the frame.
    """
    scale = np.array((size[1], size[0]), np.float32)
    centres, sides = labels.boxes[:, :2], labels.boxes[:, 2:]
    corners = (np.concatenate((centres - sides / 2, centres + sides / 2), 1) * np.tile(scale, 2)).astype(np.float32)
    is_object = np.isin(labels.cls, spec.objects)
    whole = is_object & labels.ignore & (sides >= _WHOLE).all(1)
    rows = np.flatnonzero(is_object) if not whole.any() else np.array([], np.int64)
    players = None
    if spec.players:
        players = _players(labels, np.flatnonzero(np.isin(labels.cls, spec.players)), spec, corners, size)
    return FrameLabels(
        labelled=not whole.any(),
        points=centres[rows] * scale,
        cls=labels.cls[rows],
        visible=np.where(labels.ignore[rows], HIDDEN, CLEAR).astype(np.int64),
        ids=labels.ids[rows],
        boxes=corners[rows],
        players=players,
    )


def _players(
    labels: Labels, rows: NDArray[np.int64], spec: ClipSpec, corners: NDArray[np.float32], size: tuple[int, int]
) -> Players:
    """Return the players among label lines; boxes are cut off at the edge of the frame."""
    keypoints = None
    has = labels.has_keypoints[rows] & np.isin(labels.cls[rows], spec.kpt_classes)
    if labels.keypoints is not None:
        keypoints = labels.keypoints[rows] * np.array((size[1], size[0], 1), np.float32)
        keypoints[~has] = 0
    return Players(
        boxes=corners[rows].clip(0, (size[1], size[0], size[1], size[0])).astype(np.float32),
        cls=labels.cls[rows],
        keypoints=keypoints,
        has_keypoints=has,
        ids=labels.ids[rows],
        ignore=labels.ignore[rows],
    )


def _repeated_ids(labels: Labels, file: str) -> list[LineProblem]:
    """Return a problem for each identity that a class has twice in a frame."""
    pairs = [(int(c), int(i)) for c, i in zip(labels.cls, labels.ids, strict=True) if i >= 0]
    twice = sorted({pair for pair in pairs if pairs.count(pair) > 1})
    return [LineProblem(file, 0, f"expected #{i} once in class {c} of a frame, found it again") for c, i in twice]
