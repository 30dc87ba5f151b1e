"""CLEAR measures against counts worked out by hand."""

from __future__ import annotations

import pytest
from support.track_frames import evaluate, pairs


def test_perfect_tracking() -> None:
    result = evaluate(pairs(*[[(1, 7, 1.0), (2, 8, 1.0)]] * 5))
    assert (result.mota, result.motp) == (1, 1)
    assert (result.tp, result.fp, result.fn, result.idsw, result.frag) == (10, 0, 0, 0, 0)
    assert (result.mt, result.pt, result.ml) == (2, 0, 0)


def test_two_tracks_swap() -> None:
    result = evaluate(pairs(*[[(1, 7, 0.8), (2, 8, 0.6)]] * 2, *[[(1, 8, 0.8), (2, 7, 0.6)]] * 2))
    assert (result.idsw, result.frag) == (2, 0)
    assert result.mota == pytest.approx((8 - 2) / 8)
    assert result.motp == pytest.approx(0.7)


def test_a_match_is_continued_although_another_is_more_similar() -> None:
    result = evaluate(pairs([(1, 7, 0.9)], [(1, 7, 0.5), (1, 8, 0.95)]))
    assert (result.tp, result.fp, result.idsw) == (2, 1, 0)
    assert result.motp == pytest.approx(0.7)


def test_a_lost_match_is_not_continued() -> None:
    result = evaluate(pairs([(1, 7, 0.9)], [(1, 7, 0.49)], [(1, 7, 0.5), (1, 8, 0.95)]))
    assert (result.tp, result.fn, result.fp) == (2, 1, 2)
    assert (result.idsw, result.frag) == (1, 1)


def test_fragments_with_the_same_identity_are_no_switch() -> None:
    result = evaluate(pairs([(1, 7, 0.8)], [], [(1, 7, 0.8)], [], [(1, 7, 0.8)], gt=[1], pred=[7]))
    assert (result.frag, result.idsw, result.fn, result.fp) == (2, 0, 2, 2)


def test_frames_without_predictions_are_no_fragment() -> None:
    """As in TrackEval: such frames are passed over."""
    result = evaluate([([1], [7], [[0.8]]), ([1], [], [[]]), ([1], [7], [[0.8]])])
    assert (result.frag, result.fn) == (0, 1)


@pytest.mark.parametrize(
    ("matched", "expected"), [(5, (1, 0, 0)), (4, (0, 1, 0)), (1, (0, 1, 0)), (0, (0, 0, 1))], ids=str
)
def test_mostly_tracked_and_mostly_lost(matched: int, expected: tuple[int, int, int]) -> None:
    """More than 80% is mostly tracked, less than 20% mostly lost."""
    result = evaluate(pairs(*[[(1, 7, 0.8)]] * matched, *[[]] * (5 - matched), gt=[1], pred=[7]))
    assert (result.mt, result.pt, result.ml) == expected


def test_more_errors_than_labels() -> None:
    result = evaluate([([1], [7, 8, 9], [[0.2, 0.0, 0.0]])])
    assert result.mota == -3
    assert result.motp == 0
