"""Candidates of a window and their combination: against plain references."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from yolo_multitask.tracking import points
from yolo_multitask.tracking.points import candidates, combine


def test_examples() -> None:
    assert doctest.testmod(points).failed == 0
    assert doctest.testmod(points).attempted > 4


def random_elements(seed: int, n: int, nc: int, width: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    values = np.concatenate((rng.random((n, width)) * 30, rng.random((n, nc))), 1)
    return values, rng.integers(0, 3, n)


def greedy(values, group, nc: int, width: int, conf: float, radius: float, max_det: int) -> list[tuple[float, ...]]:
    """Suppress one element after the other, over all groups and classes at once."""
    rows = []
    for value, g in zip(values.tolist(), group.tolist(), strict=True):
        rows += [(g, *value[:width], value[width + c], c) for c in range(nc) if value[width + c] >= conf]
    kept: list[tuple[float, ...]] = []
    for row in sorted(rows, key=lambda r: -r[-2]):
        near = [
            k for k in kept if k[0] == row[0] and k[-1] == row[-1] and np.hypot(k[1] - row[1], k[2] - row[2]) <= radius
        ]
        if not near:
            kept.append(row)
    return [row for g in range(3) for row in [k for k in kept if k[0] == g][:max_det]]


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(0, 40),
    nc=st.integers(1, 3),
    has_next=st.booleans(),
    conf=st.sampled_from([0.0, 0.5, 0.9]),
    radius=st.sampled_from([0.0, 3.0, 12.0, 100.0]),
    max_det=st.sampled_from([1, 3, 100]),
)
def test_suppression(seed, n, nc, has_next, conf, radius, max_det) -> None:
    width = 4 if has_next else 2
    values, group = random_elements(seed, n, nc, width)
    found = candidates(values, group, nc, has_next, conf, radius, max_det)
    expected = greedy(values, group, nc, width, conf, radius, max_det)
    assert found.shape == (len(expected), 7)
    columns = [0, 1, 2, 3, 4, 5, 6] if has_next else [0, 1, 2, 5, 6]
    np.testing.assert_array_equal(found[:, columns], np.array(expected).reshape(-1, len(columns)))
    assert has_next or np.isnan(found[:, 3:5]).all()
    order = np.random.default_rng(seed).permutation(n)
    np.testing.assert_array_equal(candidates(values[order], group[order], nc, has_next, conf, radius, max_det), found)


def test_values_of_the_wrong_width_are_named() -> None:
    with pytest.raises(ValueError, match=r"expected \(N, 6\) values of each element, found \(3, 5\)"):
        candidates(np.zeros((3, 5)), np.zeros(3, int), 2, True, 0.5, 1.0, 5)


def test_single_precision_and_what_is_not_a_number() -> None:
    values = np.array([[1, 2, 0.9], [np.nan, 2, 0.9], [np.inf, 9, 0.9], [5, 5, np.nan]], np.float32)
    found = candidates(values, np.zeros(4, np.int64), 1, False, 0.25, 2.0, 9)
    assert found[:, 1:3].tolist() == [[1, 2]]
    assert found.dtype == np.float64


def row(x: float, y: float = 0.0, conf: float = 0.8, cls: int = 0, next_x: float = np.nan) -> list[float]:
    return [0, x, y, next_x, 0.0 if np.isfinite(next_x) else np.nan, conf, cls]


def rows(*values: list[float]) -> NDArray[np.float64]:
    return np.array(values, np.float64).reshape(-1, 7)


def test_windows_that_agree() -> None:
    found = combine([(1.0, rows(row(10, conf=0.6))), (1.0, rows(row(12, conf=0.2)))], 2, 4.0)
    assert found[:, [0, 4, 5]].tolist() == [[pytest.approx(10.5), pytest.approx(0.4), 0]]
    weighted = combine([(1.0, rows(row(10, conf=0.6))), (3.0, rows(row(12, conf=0.2)))], 4, 4.0)
    assert weighted[:, [0, 4]].tolist() == [[pytest.approx(11), pytest.approx(0.3)]]


def test_a_window_that_sees_nothing_counts() -> None:
    seen = (1.0, rows(row(10, conf=0.8)))
    assert combine([seen], 1, 4.0)[0, 4] == pytest.approx(0.8)
    assert combine([seen, (1.0, rows())], 2, 4.0)[0, 4] == pytest.approx(0.4)
    assert combine([seen], 4, 4.0)[0, 4] == pytest.approx(0.2)
    assert combine([], 3, 4.0).shape == (0, 6)


def test_two_estimates_of_one_window_count_once() -> None:
    """The second of the first window, within reach of the common centre, is not another object nor another vote."""
    found = combine([(1.0, rows(row(10, conf=0.9), row(13, conf=0.4))), (1.0, rows(row(10, conf=0.7)))], 2, 4.0)
    assert found[:, [0, 4]].tolist() == [[10, pytest.approx(0.8)]]


def test_objects_and_classes_stay_apart() -> None:
    first = rows(row(10), row(20), row(10, cls=1))
    found = combine([(1.0, first), (1.0, first + np.array([0, 1, 0, 0, 0, 0, 0]))], 2, 4.0)
    assert sorted(found[:, [0, 5]].round(9).tolist()) == [[10.5, 0], [10.5, 1], [20.5, 0]]


def test_the_next_position_comes_from_the_windows_that_say_it() -> None:
    found = combine([(1.0, rows(row(10))), (1.0, rows(row(10, next_x=14))), (1.0, rows(row(10, next_x=16)))], 3, 4.0)
    assert found[0, 2:4].tolist() == [15, 0]
    assert np.isnan(combine([(1.0, rows(row(10)))], 1, 4.0)[0, 2:4]).all()
    assert combine([(1.0, rows(row(10, conf=0.0)))], 1, 4.0)[0, [0, 4]].tolist() == [10, 0]


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), windows=st.integers(1, 6))
def test_neither_order_nor_scale_matters(seed: int, windows: int) -> None:
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(windows):
        values, group = random_elements(int(rng.integers(1 << 30)), 8, 2, 4)
        found.append((1.0, candidates(values, np.zeros_like(group), 2, True, 0.3, 4.0, 9)))
    plain = combine(found, windows + 1, 4.0)
    assert (plain[:, 4] <= 1).all()
    shuffled = [(w, rng.permutation(rows)) for w, rows in (found[i] for i in rng.permutation(windows))]
    np.testing.assert_array_equal(combine(shuffled, windows + 1, 4.0), plain)
    scale = np.array([1, 8, 8, 8, 8, 1, 1.0])
    scaled = combine([(w, rows * scale) for w, rows in found], windows + 1, 32.0)
    np.testing.assert_allclose(scaled, plain * np.array([8, 8, 8, 8, 1, 1.0]), rtol=1e-12)


def test_wrong_windows_are_named() -> None:
    with pytest.raises(ValueError, match="at least 2 windows and weights above 0, found 1 windows"):
        combine([(1.0, rows()), (1.0, rows())], 1, 4.0)
    with pytest.raises(ValueError, match=r"the weights \[0.0\]"):
        combine([(0.0, rows())], 1, 4.0)
