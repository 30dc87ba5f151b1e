"""From the output of a head that follows small objects over a window of frames to the objects of each frame.

Shapes: N elements (a cell of a level and group each), V values of an element, M objects. Positions are pixels of
whichever frame of reference the caller uses; `radius` is in the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
GROUP, X, Y, NEXT_X, NEXT_Y, CONF, CLS = range(7)  # columns of `candidates`
_TINY = 1e-12  # a confidence of 0 still has a position


def candidates(
    values_NV: NDArray[np.floating],
    group_N: NDArray[np.integer],
    nc: int,
    has_next: bool,
    conf: float,
    radius: float,
    max_det: int,
) -> Array:
    """Return the objects that one window shows, after suppression: of those within a radius the most confident stays.

    Suppression is done in each group and class on its own, so one element may give objects of several classes.

    Args:
        values_NV: x, y, with `has_next` the position in the next frame, then `nc` probabilities.
        group_N: The frame of the window that each element speaks of, 0 the oldest.
        nc: Number of classes.
        has_next: Whether there is a position in the next frame.
        conf: Least confidence.
        radius: Objects of one class are farther apart than this.
        max_det: Most objects in a group; the most confident stay.

    Returns:
        (M, 7) float64: group, x, y, next_x, next_y (NaN without), confidence, class; by group, then falling confidence.

    Raises:
        ValueError: V is not what `nc` and `has_next` need.

    >>> values = np.array([[10.0, 10, 0.9], [11, 10, 0.8], [50, 10, 0.5], [90, 90, 0.1]])
    >>> candidates(values, np.zeros(4, int), 1, False, conf=0.25, radius=4.0, max_det=10)[:, [1, 2, 5]].tolist()
    [[10.0, 10.0, 0.9], [50.0, 10.0, 0.5]]
    """
    width = 4 if has_next else 2
    if values_NV.ndim != 2 or values_NV.shape[1] != width + nc:
        raise ValueError(f"expected (N, {width + nc}) values of each element, found {values_NV.shape}.")
    element, cls = np.nonzero(values_NV[:, width:] >= conf)
    found = np.full((len(element), 7), np.nan)
    found[:, GROUP] = np.asarray(group_N)[element]
    found[:, X : X + width] = values_NV[element, :width]
    found[:, CONF] = values_NV[element, width + cls]
    found[:, CLS] = cls
    found = found[np.isfinite(found[:, [X, Y]]).all(1)]
    found = found[_by_confidence(found[:, CONF], found)]
    kept = [
        _suppress(found[(found[:, GROUP] == group) & (found[:, CLS] == c)], radius, max_det)
        for group, c in np.unique(found[:, [GROUP, CLS]], axis=0)
    ]
    return _most_confident(np.concatenate([np.zeros((0, 7)), *kept]), max_det)


def combine(windows_found: Sequence[tuple[float, Array]], windows: int, radius: float) -> Array:
    """Return the objects of one frame from what each window that holds it says of it.

    Estimates of one class within a radius of the most confident one are the same object. Its position is the mean of
    the best estimate of each window, weighted by weight x confidence. Its confidence is the sum of those of the best
    estimates, times their weights, divided by the number of windows, at most 1: a window that does not see the object
    counts as 0.

    Args:
        windows_found: Weight, usually 1, and rows (K, 7) of `candidates` of this one frame, of each window. The group
            is not read.
        windows: How many windows hold the frame, including those that found nothing and need not be listed.
        radius: See above.

    Returns:
        (M, 6) float64: x, y, next_x, next_y (NaN where no window says), confidence, class; by falling confidence.

    Raises:
        ValueError: There are more listed windows than `windows`, or a weight is not above 0.

    >>> first = np.array([[0, 10.0, 20, 12, 20, 0.9, 0]])
    >>> second = np.array([[3, 11.0, 20, 13, 20, 0.3, 0]])
    >>> combine([(1.0, first), (1.0, second)], 3, radius=4.0).round(4).tolist()
    [[10.25, 20.0, 12.25, 20.0, 0.4, 0.0]]
    """
    if windows < max(1, len(windows_found)) or any(not weight > 0 for weight, _ in windows_found):
        raise ValueError(
            f"expected at least {max(1, len(windows_found))} windows and weights above 0, found {windows} windows and "
            f"the weights {[weight for weight, _ in windows_found]}."
        )
    rows = np.concatenate([np.zeros((0, 7)), *(rows for _, rows in windows_found)])
    window = np.repeat(np.arange(len(windows_found)), [len(rows) for _, rows in windows_found])
    share = np.repeat([weight for weight, _ in windows_found], [len(rows) for _, rows in windows_found]) * rows[:, CONF]
    order = _by_confidence(share, rows)
    rows, window, share = rows[order], window[order], share[order]
    objects, left = [], np.ones(len(rows), bool)
    for i in range(len(rows)):
        if not left[i]:
            continue
        near = np.hypot(rows[:, X] - rows[i, X], rows[:, Y] - rows[i, Y]) <= radius
        same = np.flatnonzero(left & near & (rows[:, CLS] == rows[i, CLS]))
        left[same] = False
        best = same[np.unique(window[same], return_index=True)[1]]  # the first of each window is its best
        best = np.sort(best)  # so that the sums do not depend on the order of the windows
        mean = _weighted_mean(rows[best, X : NEXT_Y + 1], np.maximum(share[best], _TINY))
        objects.append([*mean, min(share[best].sum() / windows, 1.0), rows[i, CLS]])
    out = np.array(objects, np.float64).reshape(-1, 6)
    return out[np.argsort(-out[:, 4], kind="stable")]


def _by_confidence(share_M: Array, rows_M7: Array) -> NDArray[np.int64]:
    """Return the order of falling confidence; equal ones by position, so that it does not depend on the given order."""
    return np.lexsort((rows_M7[:, Y], rows_M7[:, X], -share_M))


def _suppress(rows_K7: Array, radius: float, max_det: int) -> Array:
    """Return the rows that no better one within the radius suppresses, at most `max_det`; the best come first."""
    kept: list[Array] = []
    while len(rows_K7) and len(kept) < max_det:
        best = rows_K7[0]
        kept.append(best)
        rows_K7 = rows_K7[np.hypot(rows_K7[:, X] - best[X], rows_K7[:, Y] - best[Y]) > radius]
    return np.array(kept).reshape(-1, 7)


def _most_confident(rows_M7: Array, max_det: int) -> Array:
    """Return the rows in order of group and falling confidence, at most `max_det` of a group."""
    rows = rows_M7[np.lexsort((rows_M7[:, CLS], -rows_M7[:, CONF], rows_M7[:, GROUP]))]
    group = rows[:, GROUP]
    rank = np.arange(len(rows)) - np.searchsorted(group, group)
    return rows[rank < max_det]


def _weighted_mean(rows_M4: Array, weight_M: Array) -> Array:
    """Return the mean (4,) of the rows; columns over the rows that are finite there, NaN without any."""
    known = np.isfinite(rows_M4)
    weight = known * weight_M[:, None]
    total = weight.sum(0)
    mean = (np.where(known, rows_M4, 0.0) * weight).sum(0) / np.where(total > 0, total, 1.0)
    return np.where(total > 0, mean, np.nan)
