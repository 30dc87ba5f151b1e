"""Sequences for the tests of tracking measures: a frame is identities (G,), identities (T,), similarities (G, T)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo_multitask.metrics.tracking import SequenceAccumulator, TrackingResult

Frame = tuple[Any, Any, Any]

INTEGERS = (
    *("tp", "fp", "fn", "idsw", "frag", "mt", "pt", "ml", "idtp", "idfp", "idfn"),
    *("gt_dets", "pred_dets", "gt_ids", "pred_ids", "hota_tp", "hota_fn", "hota_fp"),
)
FLOATS = (
    *("hota", "deta", "assa", "loca", "detre", "detpr", "assre", "asspr"),
    *("mota", "motp", "motp_sum", "idf1", "idp", "idr"),
)


def evaluate(frames: Iterable[Frame]) -> TrackingResult:
    """Return the figures of a sequence."""
    accumulator = SequenceAccumulator()
    for frame in frames:
        accumulator.update(*frame)
    return accumulator.compute()


def assert_same(found: TrackingResult, expected: TrackingResult) -> None:
    """Assert that two results agree in every figure."""
    for name in INTEGERS:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
    for name in FLOATS:
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=0, atol=1e-9, err_msg=name)


def pairs(*matches: Sequence[tuple[int, int, float]], gt: Sequence[int] = (), pred: Sequence[int] = ()) -> list[Frame]:
    """Return frames from (labelled id, predicted id, similarity) of the pairs that overlap.

    Args:
        matches: The pairs of each frame.
        gt: Further labelled identities that are there in every frame.
        pred: Further predicted identities that are there in every frame.
    """
    frames = []
    for frame in matches:
        rows = list(dict.fromkeys([*(g for g, _, _ in frame), *gt]))
        cols = list(dict.fromkeys([*(p for _, p, _ in frame), *pred]))
        similarity = np.zeros((len(rows), len(cols)))
        for g, p, value in frame:
            similarity[rows.index(g), cols.index(p)] = value
        frames.append((np.array(rows, np.int64), np.array(cols, np.int64), similarity))
    return frames


def random_frames(
    seed: int, frames: int = 8, gt: int = 5, pred: int = 5, presence: float = 0.7, overlap: float = 0.6
) -> list[Frame]:
    """Return a sequence without equal similarities, in which tracks are partly followed.

    Args:
        seed: Of the random numbers.
        frames: Number of frames.
        gt: Number of labelled identities.
        pred: Number of predicted identities.
        presence: Probability that an identity is there in a frame.
        overlap: Probability that a pair of objects has a similarity above 0 by chance.
    """
    rng = np.random.default_rng(seed)
    base = rng.random((gt, pred)) * (rng.random((gt, pred)) < overlap)  # some pairs of identities belong together

    def one() -> Frame:
        g, p = (np.flatnonzero(rng.random(n) < presence) for n in (gt, pred))
        rng.shuffle(g)
        rng.shuffle(p)
        noise: NDArray[np.float64] = rng.random((len(g), len(p))) * (rng.random((len(g), len(p))) < overlap)
        return g, p, 0.6 * base[np.ix_(g, p)] + 0.4 * noise

    return [one() for _ in range(frames)]
