"""One-to-one assignment of greatest total weight, given as a list of pairs. P pairs."""

from __future__ import annotations

import lap
import numpy as np
from numpy.typing import NDArray


def assign(
    row_P: NDArray[np.int64],
    col_P: NDArray[np.int64],
    weight_P: NDArray[np.float64],
    block_P: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Return which pairs form the one-to-one assignment of greatest total weight, bool (P,).

    A pair that outweighs all its rivals together, those of its row and those of its column, is in every best
    assignment, so such pairs are taken first, all at once. In tracking that settles nearly everything; `lap` solves
    what is left. Of assignments with exactly the same total, any one may be returned.

    Args:
        row_P: Row of each pair, 0 or more; a pair is listed at most once.
        col_P: Column of each pair, 0 or more.
        weight_P: Weight of each pair; what is not above 0 is never chosen.
        block_P: Which of several independent problems, that share no row and no column, it belongs to; ascending.

    >>> row, col = np.array([0, 0, 1]), np.array([0, 1, 0])
    >>> assign(row, col, np.array([0.9, 0.6, 0.5]), np.zeros(3)).tolist()
    [False, True, True]
    """
    chosen_P = np.zeros(len(row_P), bool)
    left = np.flatnonzero(weight_P > 0)
    while len(left):
        row, col, weight = row_P[left], col_P[left], weight_P[left]
        row_sum, col_sum = np.bincount(row, weight), np.bincount(col, weight)
        sure = 3 * weight > row_sum[row] + col_sum[col]  # weight > (row_sum - weight) + (col_sum - weight)
        if not sure.any():
            break
        chosen_P[left[sure]] = True
        row_taken, col_taken = np.zeros(len(row_sum), bool), np.zeros(len(col_sum), bool)
        row_taken[row[sure]] = col_taken[col[sure]] = True
        left = left[~(row_taken[row] | col_taken[col])]
    if len(left):
        for block in np.split(left, np.flatnonzero(np.diff(block_P[left])) + 1):
            chosen_P[block] = solve(row_P[block], col_P[block], weight_P[block])
    return chosen_P


def solve(row_P: NDArray[np.int64], col_P: NDArray[np.int64], weight_P: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return what `assign` does, by one call of `lap` on a dense matrix; weights are above 0."""
    rows, row = np.unique(row_P, return_inverse=True)
    cols, col = np.unique(col_P, return_inverse=True)
    cost = np.zeros((max(len(rows), len(cols)),) * 2)  # square: smaller than what extend_cost=True makes of it
    cost[row, col] = -weight_P
    _, col_of_row, _ = lap.lapjv(cost)
    return np.asarray(col_of_row)[row] == col
