"""HOTA, IDF1 and identity switches of tracks, and the best that any association of the same boxes could reach.

N boxes, G true boxes, T tracks of a frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import lap
import numpy as np
from numpy.typing import NDArray

from trackbench.sequence import IntArray, TruthSequence
from yolo_multitask.metrics.tracking import SequenceAccumulator, box_similarity

OVERLAP = 0.5  # from which a box belongs to a person


def score(truth: TruthSequence, tracks: Iterable[tuple[NDArray[Any], IntArray]]) -> dict[str, float | int]:
    """Return the figures of `TrackingResult.summary()`.

    Args:
        truth: The sequence.
        tracks: Of each frame, boxes (T, 4), x1 y1 x2 y2 in pixels, and identities (T,).
    """
    accumulator = SequenceAccumulator()
    for ids, boxes, (found, found_ids) in zip(truth.ids, truth.boxes, tracks, strict=True):
        accumulator.update(ids, found_ids, box_similarity(boxes, found))
    return dict(accumulator.compute().summary())


def belongs_to(boxes: NDArray[Any], truth: NDArray[Any]) -> IntArray:
    """Return for each of `boxes` (N, 4) the row of `truth` (G, 4) that it belongs to, or -1.

    One-to-one, so that the sum of the overlaps is highest; pairs that overlap by less than `OVERLAP` are none.
    """
    owner = np.full(len(boxes), -1, np.int64)
    if len(boxes) and len(truth):
        overlap = box_similarity(boxes, truth)
        cost = np.where(overlap >= OVERLAP, -overlap, 0.0)
        _, rows, _ = lap.lapjv(cost, extend_cost=True)
        paired = np.flatnonzero(rows >= 0)
        paired = paired[overlap[paired, rows[paired]] >= OVERLAP]
        owner[paired] = rows[paired]
    return owner


def perfect_association(
    truth: TruthSequence, boxes: Sequence[NDArray[Any]], keep_others: bool = False
) -> list[tuple[NDArray[Any], IntArray]]:
    """Return the tracks that know which person each box (N, 4+) belongs to.

    Args:
        truth: The sequence.
        boxes: The boxes of each frame that a tracker receives.
        keep_others: Whether a box that belongs to nobody becomes a track of its own; else it is left out.
    """
    tracks, next_id = [], int(max((ids.max() for ids in truth.ids if len(ids)), default=0)) + 1
    for ids, true_boxes, found in zip(truth.ids, truth.boxes, boxes, strict=True):
        owner = belongs_to(found[:, :4], true_boxes)
        track_ids = np.full(len(found), -1, np.int64)
        track_ids[owner >= 0] = ids[owner[owner >= 0]]
        others = owner < 0
        track_ids[others] = np.arange(next_id, next_id + others.sum())
        next_id += int(others.sum())
        kept = slice(None) if keep_others else ~others
        tracks.append((found[kept, :4], track_ids[kept]))
    return tracks
