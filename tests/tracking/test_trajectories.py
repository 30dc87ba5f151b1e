"""Ids of small objects: what crosses, leaves, comes back, is not seen for a while, or is not there at all."""

from __future__ import annotations

import doctest
from itertools import permutations
from math import isqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.balls import EMPTY, SIZE, frames_of, line, point, rows

from yolo_multitask.tracking import trajectories
from yolo_multitask.tracking.trajectories import TrajectoryConfig, TrajectoryLinker, interpolate

GAP = TrajectoryConfig().max_gap


def follow(frames: list[NDArray[np.float64]], numbers: list[int] | None = None, **config) -> list[list[int]]:
    """Return the ids of each frame."""
    linker = TrajectoryLinker(TrajectoryConfig(**config), size=SIZE)
    numbers = list(range(len(frames))) if numbers is None else numbers
    return [linker.update(t, found).tolist() for t, found in zip(numbers, frames, strict=True)]


def test_examples() -> None:
    assert doctest.testmod(trajectories).failed == 0
    assert doctest.testmod(trajectories).attempted > 4


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("speeds", [((9, 3), (-9, 3)), ((20, 0), (-4, 0)), ((0, 8), (12, 0))])
def test_two_balls_that_cross_keep_their_ids(ahead: bool, speeds) -> None:
    """They meet in frame 10, in one of the cases at the very same place."""
    paths = {i: line((300 - 10 * v[0], 150 - 10 * v[1] + i), v) for i, v in enumerate(speeds)}
    ids = follow(frames_of(paths, list(range(21)), ahead))
    assert ids == [ids[0]] * 21
    assert sorted(ids[0]) == [1, 2]


def test_the_next_position_tells_a_hit_from_a_miss() -> None:
    """The ball is hit in frame 5, farther than its speed lets expect; the network, which sees on, knows."""
    flight = [(20.0 * t, 100.0) for t in range(6)] + [(100 - 55.0 * t, 160.0) for t in (0.8, 1.6)]
    plain = [rows(point(*p)) for p in flight]
    steps = [*np.diff(np.array(flight), axis=0).tolist(), None]
    told = [rows(point(*p, step=s)) for p, s in zip(flight, steps, strict=True)]
    assert follow(plain)[-2:] == [[2], [2]]
    assert follow(told) == [[1]] * 8


@pytest.mark.parametrize("gap", range(GAP + 3))
def test_gaps_of_every_length(gap: int) -> None:
    unseen = set(range(5, 5 + gap))
    ids = follow(frames_of({0: line((50, 60), (6, -1), unseen)}, list(range(20))))
    after = 1 if gap <= GAP else 2
    assert ids == [[1]] * 5 + [[]] * gap + [[after]] * (15 - gap)
    assert follow(frames_of({0: line((50, 60), (6, -1), unseen)}, list(range(20))), max_gap=gap)[-1] == [1]


def test_what_leaves_and_comes_back_has_a_new_id() -> None:
    path = line((500, 200), (30, 0), set(range(5, 25)))
    ids = follow(frames_of({0: path, 1: lambda t: (700 - 20.0 * t, 210.0) if t >= 12 else None}, list(range(24))))
    assert ids[:5] == [[1]] * 5
    assert ids[5:12] == [[]] * 7
    assert ids[12:] == [[2]] * 12


def test_what_was_seen_once_does_not_wait() -> None:
    stray, later = rows(point(300, 100)), rows(point(340, 120))
    assert follow([stray, later]) == [[1], [1]]
    assert follow([stray, EMPTY, later]) == [[1], [], [1]]
    assert follow([stray, EMPTY, EMPTY, later]) == [[1], [], [], [2]]
    assert follow([stray, EMPTY, EMPTY, later], min_length=1) == [[1], [], [], [1]]


def test_false_positives_do_not_take_the_id() -> None:
    """Each frame has three stray points, some near the ball, which is not seen in a third of the frames."""
    rng = np.random.default_rng(0)
    frames, true = [], []
    for t in range(60):
        ball = (40 + 9.0 * t, 180 + 90 * np.sin(t / 9))
        seen = t % 3 != 2 or t < 3
        stray = [point(*(rng.random(2) * [640, 360]), conf=0.3) for _ in range(3)]
        frames.append(rows(*stray, *([point(*ball)] if seen else [])))
        true.append(seen)
    ids = [found[-1] for found, seen in zip(follow(frames), true, strict=True) if seen]
    share = max(ids.count(i) for i in ids) / len(ids)
    assert share > 0.9, ids


def test_frames_of_different_distance() -> None:
    """A ball of steady speed in frames that are 1 to 4 apart, and the same with empty frames between."""
    numbers = [0, 1, 3, 4, 8, 9, 11, 15, 16]
    frames = frames_of({0: line((20, 30), (12, 7)), 1: line((600, 30), (-14, 9))}, numbers)
    assert follow(frames, numbers) == [[1, 2]] * 9 or follow(frames, numbers) == [[2, 1]] * 9
    filled = [frames[numbers.index(t)] if t in numbers else EMPTY for t in range(17)]
    assert [found for found in follow(filled) if found] == follow(frames, numbers)


def test_one_frame() -> None:
    assert follow([rows(point(5, 5, 0.3), point(9, 200, 0.8), point(300, 5, 0.5))]) == [[3, 1, 2]]
    assert follow([EMPTY]) == [[]]


def test_classes_do_not_mix() -> None:
    first, second = rows(point(10, 10, cls=0), point(20, 10, cls=1)), rows(point(20, 10, cls=0), point(10, 10, cls=1))
    assert follow([first, second]) == [[1, 2], [1, 2]]


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), ahead=st.booleans())
def test_neither_order_nor_scale_matters(seed: int, ahead: bool) -> None:
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(8):
        n = rng.integers(0, 5)
        steps = (rng.random((n, 2)) - 0.5) * 60
        frames.append(rows(*(point(*(rng.random(2) * 300), rng.random(), 0, s if ahead else None) for s in steps)))
    ids = follow(frames)
    orders = [rng.permutation(len(found)) for found in frames]
    shuffled = follow([found[order] for found, order in zip(frames, orders, strict=True)])
    assert shuffled == [np.array(i, int)[order].tolist() for i, order in zip(ids, orders, strict=True)]
    large = TrajectoryLinker(size=(SIZE[0] * 4, SIZE[1] * 4))
    factors = np.array([4, 4, 4, 4, 1, 1])
    assert [large.update(t, found * factors).tolist() for t, found in enumerate(frames)] == ids
    assert all(len(set(i)) == len(i) for i in ids), "an id stands once in a frame"


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 4))
def test_the_assignment_is_the_best_there_is(seed: int, count: int) -> None:
    """Of trajectories with a known speed: against trying all assignments."""
    rng = np.random.default_rng(seed)
    before, step = rng.random((count, 2)) * 60 + 200, (rng.random((count, 2)) - 0.5) * 20
    now = before + step + rng.normal(0, 15, (count, 2))
    linker = TrajectoryLinker(size=SIZE)
    first = linker.update(0, rows(*(point(*b, step=s) for b, s in zip(before, step, strict=True))))
    second = linker.update(1, rows(*(point(*p) for p in now)))
    reach = 30 + 1.5 * np.linalg.norm(step, axis=1)
    gain = np.maximum(1 - np.linalg.norm(now[:, None] - (before + step), axis=2) / reach, 0)
    best = max(sum(gain[i, j] for i, j in enumerate(order)) for order in permutations(range(count)))
    linked = [(i, first.tolist().index(k)) for i, k in enumerate(second) if k in first]
    assert sum(gain[pair] for pair in linked) == pytest.approx(best)
    assert all(gain[pair] > 0 for pair in linked)


def test_nothing_is_faster_than_the_fastest() -> None:
    jump = [rows(point(100, 100)), rows(point(100 + 101, 100))]
    assert follow(jump) == [[1], [2]]
    assert follow(jump, max_speed=120) == [[1], [1]]
    told = [rows(point(100, 100, step=(150, 0))), rows(point(250, 100))]
    assert follow(told) == [[1], [2]]


def test_interpolated_rows_lie_between() -> None:
    first, second = np.array([10.0, 20, 0.4, 2, 7, 0]), np.array([20.0, 0, 0.8, 2, 7, 0])
    filled = interpolate(first, second, np.array([0.25, 0.5]))
    assert filled.tolist() == [[12.5, 15, 0.4, 2, 7, 1], [15, 10, 0.4, 2, 7, 1]]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("max_gap", -1, "max_gap: expected a whole number from 0 to 10000, found -1"),
        ("max_gap", 2.5, "max_gap: expected a whole number"),
        ("max_gap", True, "max_gap: expected a whole number"),
        ("gate", 0, "gate: expected a number above 0, found 0"),
        ("max_speed", float("nan"), "max_speed: expected a number above 0, found nan"),
        ("sure", 1.2, "sure: expected a number from 0 to 1, found 1.2"),
        ("min_length", 0, "min_length: expected a whole number from 1"),
        ("radius", "8", "radius: expected a number from 0, found '8'"),
    ],
)
def test_configurations_are_checked(key: str, value, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrajectoryConfig(**{key: value})


def test_bad_input_is_named() -> None:
    linker = TrajectoryLinker(size=SIZE)
    linker.update(4, EMPTY)
    with pytest.raises(ValueError, match="expected a frame after 4, found 4"):
        linker.update(4, EMPTY)
    with pytest.raises(ValueError, match=r"points \(M, 6\).*found shape \(2, 7\)"):
        linker.update(5, np.zeros((2, 7)))
    with pytest.raises(ValueError, match=r"size=\(height, width\)"):
        TrajectoryLinker(size=(0, 5))


def test_a_long_stream_needs_little_memory() -> None:
    linker = TrajectoryLinker(size=SIZE)
    for t in range(400):
        linker.update(t, rows(point(*(np.array([t * 211 % 640, t * 97 % 360])), conf=0.3)))
    assert len(linker._trajectories) <= 2 * isqrt(400)
