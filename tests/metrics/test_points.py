"""Counts of found positions: against trying every matching, and as the TrackNet papers have them."""

from __future__ import annotations

import doctest
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from yolo_multitask.metrics import points
from yolo_multitask.metrics.points import PointCounts, PointMetrics, count_frame, match_points

SIZE = (360, 640)
KEYS = ["precision", "recall", "F1", "error", "TP", "FP1", "FP2", "FN"]
coordinates = st.integers(0, 12).map(float)
point_lists = st.lists(st.tuples(coordinates, coordinates), max_size=5)


def array(values: list[tuple[float, float]]) -> NDArray[np.float64]:
    return np.array(values, np.float64).reshape(-1, 2)


def best_matching(pred: NDArray[np.float64], label: NDArray[np.float64], threshold: float) -> tuple[int, float]:
    """Return the number of pairs and the sum of distances of the best matching, by trying all."""
    if len(pred) > len(label):
        pred, label = label, pred
    found = []
    for order in permutations(range(len(label)), len(pred)):
        near = [d for d in (np.hypot(*(pred[i] - label[j])) for i, j in enumerate(order)) if d <= threshold]
        found.append((-len(near), sum(near)))
    pairs, total = min(found)
    return -pairs, total


def one(xy, label_xy, visible=None, *, size=SIZE, threshold=4.0, **kwargs) -> PointCounts:
    """Return the counts of one frame of one class."""
    metrics = PointMetrics({0: "ball"}, threshold)
    visible = [1] * len(label_xy) if visible is None else visible
    metrics.update(xy, [0] * len(xy), label_xy, [0] * len(label_xy), visible, size=size, **kwargs)
    return metrics.counts


def numbers(counts: PointCounts) -> dict[str, int]:
    """Return the counts that are not 0, but for the number of labels."""
    return {k: getattr(counts, k) for k in ("tp", "fp1", "fp2", "fn", "tn") if getattr(counts, k)}


def test_examples() -> None:
    assert doctest.testmod(points).failed == 0
    assert doctest.testmod(points).attempted > 8


@settings(deadline=None)
@given(pred=point_lists, label=point_lists, threshold=st.sampled_from([1.0, 3.0, 5.0, 40.0]))
def test_the_matching_is_the_best_there_is(pred, label, threshold: float) -> None:
    i, j, distance = match_points(array(pred), array(label), threshold)
    assert len(set(i.tolist())) == len(set(j.tolist())) == len(i)
    np.testing.assert_allclose(distance, np.hypot(*(array(pred)[i] - array(label)[j]).T))
    assert (distance <= threshold).all()
    pairs, total = best_matching(array(pred), array(label), threshold)
    assert len(i) == pairs
    assert distance.sum() == pytest.approx(total)


def test_one_match_more_outweighs_the_distances() -> None:
    """Two of three could be matched exactly, at the price of the third."""
    pred, label = array([(4, 0), (8, 0), (12, 0)]), array([(0, 0), (4, 0), (8, 0)])
    assert match_points(pred, label, 4.0)[1].tolist() == [0, 1, 2]


@settings(deadline=None)
@given(pred=point_lists, label=point_lists, seed=st.integers(0, 1000), hidden=st.lists(st.booleans(), min_size=5))
def test_order_and_scale_do_not_matter(pred, label, seed: int, hidden: list[bool]) -> None:
    rng = np.random.default_rng(seed)
    visible = [3 if h else 1 for h in hidden[: len(label)]]
    counts = one(pred, label, visible)
    order, other = rng.permutation(len(pred)), rng.permutation(len(label))
    shuffled = one(array(pred)[order], array(label)[other], np.array(visible)[other])
    scaled = one(array(pred) * 4, array(label) * 4, visible, size=(SIZE[0] * 4, SIZE[1] * 4))
    upright = one(array(pred)[:, ::-1], array(label)[:, ::-1], visible, size=SIZE[::-1])
    for again in (shuffled, scaled, upright):
        assert numbers(again) == numbers(counts)
        assert again.labels == counts.labels
        if not any(visible[i] == 3 for i in range(len(label))):
            assert again.error_sum == pytest.approx(counts.error_sum)


@settings(deadline=None)
@given(pred=point_lists, label=point_lists)
def test_everything_is_counted_once(pred, label) -> None:
    counts = one(pred, label)
    assert counts.tp + counts.fp1 + counts.fp2 == len(pred)
    assert counts.labels == len(label)
    assert counts.tp + counts.fn == max(counts.tp, len(label) - counts.fp1)
    assert counts.tn == (not pred and not label)
    assert 0 <= counts.f1 <= 1
    if counts.precision + counts.recall:
        harmonic = 2 * counts.precision * counts.recall / (counts.precision + counts.recall)
        assert counts.f1 == pytest.approx(harmonic)


@pytest.mark.parametrize(
    ("pred", "label", "visible", "expected"),
    [
        ([(10, 10)], [(13, 10)], [1], {"tp": 1}),
        ([(10, 10)], [(14, 10)], [2], {"tp": 1}),
        ([(10, 10)], [(14.01, 10)], [1], {"fp1": 1}),
        ([(10, 10)], [], [], {"fp2": 1}),
        ([], [(10, 10)], [1], {"fn": 1}),
        ([], [], [], {"tn": 1}),
        ([(10, 10), (50, 50)], [(10, 10)], [1], {"tp": 1, "fp1": 1}),
        ([(10, 10)], [(10, 10), (50, 50)], [1, 1], {"tp": 1, "fn": 1}),
        ([], [(10, 10)], [3], {}),
        ([(10, 10)], [(10, 10)], [3], {}),
        ([(50, 50)], [(10, 10)], [3], {"fp1": 1}),
        ([(10, 10), (11, 10)], [(10, 10)], [3], {"fp1": 1}),
        ([(10, 10)], [(10, 11), (10, 10)], [1, 3], {"tp": 1}),
    ],
)
def test_cases_by_hand(pred, label, visible, expected: dict[str, int]) -> None:
    assert numbers(one(pred, label, visible)) == expected


def test_frames_nobody_looked_at_are_skipped() -> None:
    metrics = PointMetrics({0: "ball"})
    metrics.update([[5, 5]], [0], [], [], [], size=SIZE, labelled=False)
    assert (metrics.frames, metrics.counts) == (0, PointCounts())
    assert metrics.precision == metrics.recall == metrics.f1 == 0
    assert np.isnan(metrics.error)


def test_classes_are_counted_apart() -> None:
    metrics = PointMetrics({0: "ball", 2: "cock"})
    metrics.update([[5, 5], [80, 80], [1, 1]], [2, 2, 7], [[5, 5], [80, 80]], [0, 2], [1, 1], size=SIZE)
    assert numbers(metrics.per_class[0]) == {"fn": 1}
    assert numbers(metrics.per_class[2]) == {"tp": 1, "fp1": 1}
    assert list(metrics.results_dict) == [f"metrics/{key}(T)" for key in KEYS]
    assert list(metrics.results_dict.values()) == [0.5, 0.5, 0.5, 0.0, 1, 1, 0, 1]


def test_two_processes_count_what_one_does() -> None:
    rng = np.random.default_rng(0)
    whole, parts = PointMetrics({0: "ball"}), [PointMetrics({0: "ball"}) for _ in range(2)]
    for i in range(40):
        n, m = rng.integers(0, 3, 2)
        frame = rng.random((n, 2)) * 9, [0] * n, rng.random((m, 2)) * 9, [0] * m, rng.integers(1, 4, m)
        for metrics in (whole, parts[i % 2]):
            metrics.update(*frame, size=SIZE)
    parts[0].merge(parts[1])
    assert parts[0].frames == whole.frames == 40
    assert parts[0].results_dict == pytest.approx(whole.results_dict)
    assert whole.counts.tp > 5
    with pytest.raises(ValueError, match="expected the classes"):
        whole.merge(PointMetrics({0: "cock"}))


def test_published_counts_give_the_published_figures() -> None:
    """TrackNetV2 (+Motion) on the tennis data, game level protocol, as the authors of TrackNetV4 report it."""
    counts = PointCounts(tp=15973, tn=389, fp1=167, fp2=24, fn=640)
    figures = (counts.accuracy, counts.precision, counts.recall, counts.f1)
    assert figures == pytest.approx((0.952, 0.988, 0.961, 0.975), abs=6e-4)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="above 0 pixels, found 0"):
        PointMetrics({0: "ball"}, 0)
    with pytest.raises(ValueError, match="found 1 points and 2 classes, 0 labels"):
        PointMetrics({0: "ball"}).update([[1, 2]], [0, 0], [], [], [], size=SIZE)


def test_a_hidden_object_does_not_take_the_prediction_of_a_seen_one() -> None:
    counts = count_frame(array([(0, 0)]), array([(0, 0), (3, 0)]), np.array([True, False]), 4.0)
    assert (counts.tp, counts.error_sum) == (1, 3.0)
