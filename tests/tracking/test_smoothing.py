"""Finished frames of a stream: against a plain computation that knows the whole sequence."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.balls import EMPTY, SIZE, frames_of, line, point, rows

from yolo_multitask.tracking import smoothing
from yolo_multitask.tracking.smoothing import TrajectorySmoother, smooth
from yolo_multitask.tracking.trajectories import TrajectoryConfig, TrajectoryLinker

Frames = list[tuple[int, NDArray[np.float64]]]


def stream(frames: Frames, lookahead: int | None, **config) -> Frames:
    smoother = TrajectorySmoother(TrajectoryConfig(**config), size=SIZE, lookahead=lookahead)
    out = []
    for i, frame in enumerate(frames):
        finished = smoother.push(*frame)
        assert len(finished) == (i >= smoother.lookahead), "one frame out for each in, after the look-ahead"
        out += finished
    out += smoother.flush()
    assert [number for number, _ in out] == [number for number, _ in frames]
    assert smoother.flush() == []
    return out


def whole(frames: Frames, config: TrajectoryConfig) -> dict[int, list[list[float]]]:
    """Return the rows of each frame: all points by id first, then the gaps, frame by frame."""
    linker = TrajectoryLinker(config, size=SIZE)
    tracks: dict[int, dict[int, NDArray[np.float64]]] = {}
    for number, points in frames:
        for track, p in zip(linker.update(number, points).tolist(), points, strict=True):
            tracks.setdefault(track, {})[number] = p
    out: dict[int, list[list[float]]] = {number: [] for number, _ in frames}
    for track, seen in sorted(tracks.items()):
        short = len(seen) < config.min_length
        shown = {t: p for t, p in seen.items() if not short or p[4] >= config.sure}
        for number in out:
            if number in shown:
                x, y, _, _, conf, cls = shown[number]
                out[number].append([x, y, conf, cls, track, 0])
            elif number not in seen and min(seen) < number < max(seen):
                a, b = max(t for t in seen if t < number), min(t for t in seen if t > number)
                if a not in shown or b not in shown:
                    continue
                share = (number - a) / (b - a)
                xy = seen[a][:2] * (1 - share) + seen[b][:2] * share
                out[number].append([*xy, min(seen[a][4], seen[b][4]), seen[a][5], track, 1])
    return out


def random_frames(seed: int, count: int = 30) -> Frames:
    """Return two balls that are missed half of the time, among stray points, in frames of different distance."""
    rng = np.random.default_rng(seed)
    starts, speeds = rng.random((2, 2)) * 200 + 100, (rng.random((2, 2)) - 0.5) * 12
    frames, number = [], 0
    for _ in range(count):
        found = [
            point(*(s + v * number), rng.random()) for s, v in zip(starts, speeds, strict=True) if rng.random() < 0.5
        ]
        found += [point(*(rng.random(2) * [640, 360]), rng.random()) for _ in range(rng.integers(0, 2))]
        frames.append((number, rows(*found)))
        number += int(rng.integers(1, 3))
    return frames


def test_examples() -> None:
    assert doctest.testmod(smoothing).failed == 0
    assert doctest.testmod(smoothing).attempted > 4


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1),
    max_gap=st.integers(0, 6),
    min_length=st.integers(1, 4),
    more=st.integers(0, 3),
)
@example(seed=21, max_gap=2, min_length=4, more=0)  # a gap in a trajectory that is short, but sure at both of its ends
def test_a_stream_is_what_the_whole_sequence_gives(seed: int, max_gap: int, min_length: int, more: int) -> None:
    frames, config = random_frames(seed), TrajectoryConfig(max_gap=max_gap, min_length=min_length)
    enough = max(max_gap, 2 * (min_length - 1)) + more
    expected = whole(frames, config)
    streamed = stream(frames, enough, max_gap=max_gap, min_length=min_length)
    for (number, found), (_, offline) in zip(streamed, smooth(frames, config, size=SIZE), strict=True):
        np.testing.assert_allclose(found, np.array(expected[number]).reshape(-1, 6), atol=1e-9)
        np.testing.assert_array_equal(found, offline)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**32 - 1))
def test_ids_do_not_depend_on_the_lookahead(seed: int) -> None:
    """Nor does what is seen: a longer look-ahead adds interpolated points and leaves out strays, no more."""
    frames = random_frames(seed)
    live = stream(frames, 0)
    assert [len(found) for _, found in live] == [len(points) for _, points in frames], "at once all that is seen"
    for lookahead in (1, 3, 5, 40):
        for (_, now), (_, later) in zip(live, stream(frames, lookahead), strict=True):
            seen = {tuple(row) for row in now.tolist()}
            assert {tuple(row) for row in later[later[:, 5] == 0].tolist()} <= seen
            assert not now[:, 5].any()


@pytest.mark.parametrize("lookahead", range(8))
@pytest.mark.parametrize("gap", range(8))
def test_gaps_up_to_the_lookahead_are_filled_whole(gap: int, lookahead: int) -> None:
    numbers = list(range(20))
    path = line((30, 300), (10, -4), set(range(6, 6 + gap)))
    found = stream(list(zip(numbers, frames_of({0: path}, numbers), strict=True)), lookahead)
    filled = [int(number) for number, r in found if len(r) and r[0, 5]]
    assert filled == (list(range(6, 6 + gap)) if gap <= min(lookahead, 5) else [])
    for number in filled:
        np.testing.assert_allclose(found[number][1][0, :2], [30 + 10 * number, 300 - 4 * number])
    after = 1 if gap <= 5 else 2
    assert found[-1][1][0, 4] == after


def test_stray_points() -> None:
    """A point that is seen once is left out where the look-ahead can tell and it is not sure."""
    frames = [(0, EMPTY), (1, rows(point(50, 50, 0.3))), (2, EMPTY), (3, rows(point(400, 50, 0.8))), (4, EMPTY)]
    assert [len(found) for _, found in stream(frames, 0)] == [0, 1, 0, 1, 0]
    assert [len(found) for _, found in stream(frames, 2)] == [0, 0, 0, 1, 0]
    assert [len(found) for _, found in stream(frames, 2, min_length=1)] == [0, 1, 0, 1, 0]


def test_a_gap_after_a_point_that_was_left_out_is_not_filled() -> None:
    frames = [(0, rows(point(50, 50, 0.3))), (1, EMPTY), (2, rows(point(60, 50, 0.3))), (3, rows(point(65, 50, 0.3)))]
    short = stream(frames, 1)
    assert [found[:, 4].tolist() for _, found in short] == [[], [], [1], [1]]
    assert [found[:, 4].tolist() for _, found in stream(frames, 2)] == [[1]] * 4


def test_missing_frames_are_not_returned_but_count() -> None:
    path = line((10, 10), (5, 5))
    numbers = [0, 1, 2, 5, 6, 13, 14]
    found = stream(list(zip(numbers, frames_of({0: path}, numbers), strict=True)), None)
    assert [r[:, 4].tolist() for _, r in found] == [[1]] * 5 + [[2]] * 2
    assert not any(r[:, 5].any() for _, r in found)


@pytest.mark.parametrize("lookahead", [0, 4])
def test_a_clip_of_one_frame_and_of_none(lookahead: int) -> None:
    assert stream([], lookahead) == []
    ((number, found),) = stream([(0, rows(point(3, 4, 0.7, 2)))], lookahead)
    assert (number, found.tolist()) == (0, [[3, 4, 0.7, 2, 1, 0]])


def test_a_long_stream_needs_little_memory() -> None:
    smoother = TrajectorySmoother(size=SIZE, lookahead=4)
    for t in range(300):
        smoother.push(t, rows(point(t * 211 % 640, t * 97 % 360, 0.3)))
    assert len(smoother._seen) <= 12
    assert len(smoother._waiting) == 4


def test_bad_lookahead_is_named() -> None:
    with pytest.raises(ValueError, match="lookahead: expected 0 frames or more, found -1"):
        TrajectorySmoother(size=SIZE, lookahead=-1)
