"""Identity measures against counts worked out by hand."""

from __future__ import annotations

import pytest
from support.track_frames import evaluate, pairs


def test_perfect_tracking() -> None:
    result = evaluate(pairs(*[[(1, 7, 1.0), (2, 8, 0.5)]] * 5))
    assert (result.idf1, result.idp, result.idr) == (1, 1, 1)
    assert (result.idtp, result.idfp, result.idfn) == (10, 0, 0)


def test_the_longer_part_counts() -> None:
    """Of seven frames, track 7 has three and track 8 four; one predicted object is false."""
    result = evaluate(pairs(*[[(1, 7, 0.8)]] * 3, *[[(1, 8, 0.8)]] * 3, [(1, 8, 0.8), (2, 9, 0.3)]))
    assert (result.idtp, result.idfp, result.idfn) == (4, 4, 4)
    assert result.idf1 == pytest.approx(4 / 8)
    assert result.idp == pytest.approx(4 / 8)
    assert result.idr == pytest.approx(4 / 8)


def test_identities_are_matched_one_to_one() -> None:
    """Track 7 is on object 1 for four frames, then on object 2 for five; 8 is on 1 for three."""
    result = evaluate(pairs(*[[(1, 7, 0.8)]] * 4, *[[(1, 8, 0.8), (2, 7, 0.8)]] * 3, *[[(2, 7, 0.8)]] * 2))
    assert result.idtp == 3 + 5
    assert (result.idfp, result.idfn) == (4, 4)


def test_nothing_similar_enough() -> None:
    result = evaluate(pairs([(1, 7, 0.499)]))
    assert (result.idtp, result.idfp, result.idfn) == (0, 1, 1)
    assert result.idf1 == 0
