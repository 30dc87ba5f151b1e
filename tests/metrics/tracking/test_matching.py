"""The assignment has the greatest weight that there is, found by trying all of them."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from yolo_multitask.metrics.tracking.matching import assign, solve


def best(weights: NDArray[np.float64]) -> float:
    """Return the greatest weight of a one-to-one assignment of a matrix with all weights 0 or more."""
    if weights.shape[0] > weights.shape[1]:
        weights = weights.T
    rows = range(weights.shape[0])
    return max(
        sum(weights[r, c] for r, c in zip(rows, cols, strict=True))
        for cols in permutations(range(weights.shape[1]), len(rows))
    )


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shapes=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=4),
    tied=st.booleans(),
)
def test_no_assignment_is_heavier(seed: int, shapes: list[tuple[int, int]], tied: bool) -> None:
    rng = np.random.default_rng(seed)
    row, col, weight, block = [], [], [], []
    expected = first_row = first_col = 0.0
    for number, (rows, cols) in enumerate(shapes):
        matrix = rng.integers(0, 4, (rows, cols)) / 4 if tied else rng.random((rows, cols)) ** 4
        r, c = np.nonzero(matrix)
        row.append(r + int(first_row))
        col.append(c + int(first_col))
        weight.append(matrix[r, c])
        block.append(np.full(len(r), number))
        expected += best(matrix)
        first_row, first_col = first_row + rows, first_col + cols
    pairs = np.concatenate(row), np.concatenate(col), np.concatenate(weight), np.concatenate(block)
    chosen = assign(*pairs)
    assert len(set(pairs[0][chosen])) == len(set(pairs[1][chosen])) == chosen.sum()
    assert pairs[2][chosen].sum() == pytest.approx(expected, abs=1e-12)


def test_pairs_that_only_a_solver_can_decide() -> None:
    """No pair outweighs its rivals: 0.9 + 0.4 is less than 0.7 + 0.8."""
    row, col = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    weight = np.array([0.9, 0.7, 0.8, 0.4])
    assert assign(row, col, weight, np.zeros(4)).tolist() == [False, True, True, False]
    assert solve(row + 5, col + 9, weight).tolist() == [False, True, True, False]


def test_nothing_to_choose() -> None:
    none = np.zeros(0, np.int64)
    assert assign(none, none, np.zeros(0), none).tolist() == []
    assert assign(np.array([0]), np.array([0]), np.zeros(1), np.zeros(1)).tolist() == [False]
