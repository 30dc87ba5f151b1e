"""What a line of a MOTChallenge ``gt.txt`` becomes: an instance, an ignore region, or background.

The rules are the benchmark's, as TrackEval's ``mot_challenge_2d_box.py`` has them: pedestrians are instances; classes
for which a detection counts neither as right nor as wrong become ignore regions; vehicles and occluders are background.
Pedestrians marked 0 and crowds are ignore regions too, though TrackEval takes a detection there for wrong: they show
people. Coordinates are taken as they stand, without a shift from pixel 1 to pixel 0, as TrackEval takes them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from yolo_multitask.data.convert.geometry import DECIMALS
from yolo_multitask.data.convert.mot_files import MotSequence
from yolo_multitask.data.convert.report import SplitReport
from yolo_multitask.data.labels import Instance
from yolo_multitask.data.mot import CLASSES, NO_CLASS

PERSON = (1, NO_CLASS)
NEUTRAL = (2, 7, 8, 12)  # a detection of these is neither right nor wrong
NEUTRAL_MOT20 = (6,)  # in MOT20 also these
CROWD = (13,)  # people who are not annotated one by one


def line_kinds(sequence: MotSequence, min_visibility: float) -> list[tuple[str, str]]:
    """Decide what each line of ``gt.txt`` becomes.

    Args:
        sequence: The sequence; its name says whether the rules are those of MOT20.
        min_visibility: Persons of whom less is visible are ignore regions, 0..1.

    Returns:
        For each line (``instance``, ``ignore`` or ``drop``, the reason for the report).
    """
    neutral = set(NEUTRAL + CROWD)
    if any(name.upper().startswith("MOT20-") for name in (sequence.name, sequence.info.name or "")):
        neutral |= set(NEUTRAL_MOT20)
    boxes = sequence.boxes
    considered = boxes.conf.astype(np.int64) != 0
    visible = ~(boxes.visibility < min_visibility)  # true where the visibility is not known
    kinds = []
    for cls, counts, seen in zip(boxes.classes.tolist(), considered.tolist(), visible.tolist(), strict=True):
        if cls in neutral:
            kinds.append(("ignore", f"{CLASSES[cls]} to ignore region"))
        elif cls not in PERSON:
            kinds.append(("drop", f"class {CLASSES[cls]}"))
        elif not counts:
            kinds.append(("ignore", "person marked 0 to ignore region"))
        else:
            kinds.append(("instance", "") if seen else ("ignore", "person below min_visibility to ignore region"))
    return kinds


def frame_instances(
    sequence: MotSequence,
    rows: Sequence[int],
    kinds: Sequence[tuple[str, str]],
    size: tuple[int, int],
    report: SplitReport,
) -> list[Instance]:
    """Convert the lines of one frame.

    Args:
        sequence: The sequence.
        rows: Indices of the frame's lines in ``sequence.boxes``.
        kinds: What every line of the sequence becomes, from `line_kinds`.
        size: Width and height of the frame in pixels.
        report: Takes the counts of lines that give nothing or are changed.

    Returns:
        Instances and ignore regions, boxes normalised and clipped to the image.
    """
    boxes, clipped = _clip(sequence.boxes.boxes[rows], size)
    changes: Counter[str] = Counter()
    found: list[Instance] = []
    regions: set[bytes] = set()
    for i, row in enumerate(rows):
        kind, reason = kinds[row]
        box = boxes[i]
        if kind == "drop":
            report.dropped[reason] += 1
        elif (sequence.boxes.boxes[row, 2:] <= 0).any():
            report.dropped["box of zero area"] += 1
        elif not (box[2:] > 0).all():
            report.dropped["box outside the image"] += 1
        elif kind == "ignore" and box.tobytes() in regions:
            report.dropped["ignore region given twice"] += 1
        else:
            ignore = kind == "ignore"
            changes.update([reason] if ignore else [])
            changes["box over the edge, clipped to the image"] += int(clipped[i])
            regions.update([box.tobytes()] if ignore else [])
            found.append(Instance(cls=0, box=box, id=-1 if ignore else int(sequence.boxes.ids[row]), ignore=ignore))
    report.notes.update(changes)
    return found


def _clip(boxes: NDArray[np.float64], size: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return boxes (N, 4) x y w h in pixels as float32 (N, 4) normalised cx cy w h in the image; and which changed."""
    corner, extent = boxes[:, :2], boxes[:, 2:]
    low, high = corner.clip(0, size), (corner + extent).clip(0, size)
    clipped = ((low != corner) | (high != corner + extent)).any(1)
    normalised = np.concatenate(((low + high) / 2, high - low), 1) / (size * 2)
    return normalised.round(DECIMALS).astype(np.float32), clipped
