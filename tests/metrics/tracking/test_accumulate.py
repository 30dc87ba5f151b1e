"""Frames go in one by one: bad ones are refused, and neither names nor order of what is in a frame matter."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from support.track_frames import assert_same, evaluate, pairs, random_frames

from yolo_multitask.metrics.tracking import SequenceAccumulator


@pytest.mark.parametrize("seed", range(3))
def test_renaming_identities_changes_nothing(seed: int) -> None:
    frames = random_frames(seed, frames=12)
    gt_names = np.random.default_rng(seed).permutation([-(2**62), 2**62, 0, -1, 17])
    pred_names = np.array([5, -9, 2**40, 3, 2**63 - 1])
    renamed = [(gt_names[gt], pred_names[pred], similarity) for gt, pred, similarity in frames]
    assert_same(evaluate(renamed), evaluate(frames))


@pytest.mark.parametrize("seed", range(3))
def test_order_within_a_frame_changes_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frames = random_frames(seed, frames=12)
    shuffled = []
    for gt, pred, similarity in frames:
        rows, cols = rng.permutation(len(gt)), rng.permutation(len(pred))
        shuffled.append((gt[rows], pred[cols], similarity[np.ix_(rows, cols)]))
    assert_same(evaluate(shuffled), evaluate(frames))


def test_figures_may_be_computed_at_any_time() -> None:
    frames = random_frames(4, frames=10)
    accumulator = SequenceAccumulator()
    for number, frame in enumerate(frames):
        assert accumulator.frames == number
        assert_same(accumulator.compute(), evaluate(frames[:number]))
        accumulator.update(*frame)
    assert_same(accumulator.compute(), evaluate(frames))
    assert_same(accumulator.compute(), evaluate(frames))


def test_arguments_are_not_kept() -> None:
    accumulator = SequenceAccumulator()
    gt, pred, similarity = np.array([1, 2]), np.array([7]), np.array([[0.8], [0.0]])
    accumulator.update(gt, pred, similarity)
    gt[:], pred[:], similarity[:] = 0, 0, 0
    assert_same(accumulator.compute(), evaluate([([1, 2], [7], [[0.8], [0.0]])]))


def test_single_precision_and_lists() -> None:
    frames = pairs([(1, 7, 0.75), (2, 8, 0.5)])
    single = [(gt.astype(np.int32), pred.tolist(), similarity.astype(np.float32)) for gt, pred, similarity in frames]
    assert_same(evaluate(single), evaluate(frames))


def test_rounding_beyond_the_bounds_is_clipped() -> None:
    result = evaluate([([1, 2], [7, 8], np.array([[1.0000001, -1e-8], [0, 1]], np.float32))])
    assert result.motp == 1
    assert result.mean("loca") == 1


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (
            ([1, 5, 5], [7], np.zeros((3, 1))),
            "Frame 2: expected every identity at most once in gt_ids, found 5 more often",
        ),
        (([1], [-7, 3, -7, 3], np.zeros((1, 4))), "Frame 2: .* in pred_ids, found -7, 3 more often"),
        (([1.0], [7], [[0.5]]), r"Frame 2: expected gt_ids as one row of integers, found shape \(1,\) of float64"),
        (([1], [[7]], [[0.5]]), r"Frame 2: expected pred_ids as one row of integers, found shape \(1, 1\) of int"),
        (([1], [7], [[math.nan]]), r"Frame 2: expected similarities in 0..1, found nan at row 0, column 0"),
        (([1], [7, 8], [[0.5, 1.1]]), r"Frame 2: expected similarities in 0..1, found 1.1 at row 0, column 1"),
        (([1], [7], [[-0.1]]), r"Frame 2: expected similarities in 0..1, found -0.1"),
        (([1], [7], [[math.inf]]), r"Frame 2: expected similarities in 0..1, found inf"),
        (([1, 2], [7], [[0.5, 0.5]]), r"Frame 2: expected similarities of shape \(2, 1\), .* found \(1, 2\)"),
        (([1], [], []), r"Frame 2: expected similarities of shape \(1, 0\), .* found \(0,\)"),
    ],
)
def test_bad_frames_leave_no_trace(frame: tuple[Any, Any, Any], message: str) -> None:
    first, last = ([1], [7], [[0.8]]), ([1, 2], [7], [[0.8], [0.1]])
    accumulator = SequenceAccumulator()
    accumulator.update(*first)
    with pytest.raises(ValueError, match=message):
        accumulator.update(*frame)
    accumulator.update(*last)
    assert_same(accumulator.compute(), evaluate([first, last]))
