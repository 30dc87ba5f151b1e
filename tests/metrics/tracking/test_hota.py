"""HOTA against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from support.track_frames import evaluate, pairs

from yolo_multitask.metrics.tracking import ALPHAS, combine


def test_perfect_tracking_is_one() -> None:
    result = evaluate(pairs(*[[(1, 7, 1.0), (2, 8, 1.0)]] * 5))
    for name in ("hota", "deta", "assa", "loca", "detre", "detpr", "assre", "asspr"):
        np.testing.assert_array_equal(getattr(result, name), np.ones(19), err_msg=name)


def test_a_track_that_changes_its_identity_half_way() -> None:
    """Each of the two predicted tracks agrees with two of four frames."""
    result = evaluate(pairs(*[[(1, 7, 0.82)]] * 2, *[[(1, 8, 0.82)]] * 2))
    found = ALPHAS <= 0.82
    assert found.sum() == 16
    np.testing.assert_allclose(result.deta, found)
    np.testing.assert_allclose(result.assa, 0.5 * found)
    np.testing.assert_allclose(result.assre, 0.5 * found)
    np.testing.assert_allclose(result.asspr, found)
    np.testing.assert_allclose(result.hota, np.sqrt(0.5) * found)
    np.testing.assert_allclose(result.loca, np.where(found, 0.82, 1))
    assert result.mean("hota") == pytest.approx(np.sqrt(0.5) * 16 / 19)


def test_missed_and_false_objects() -> None:
    """Two frames: one hit in both, one labelled object missed in both, one false one in the second."""
    result = evaluate([([1, 2], [7], [[0.6], [0]]), ([1, 2], [7, 9], [[0.6, 0], [0, 0]])])
    at = result.hota_tp > 0
    assert at.sum() == 12
    np.testing.assert_array_equal(result.hota_tp[at], 2)
    np.testing.assert_array_equal(result.hota_fn[at], 2)
    np.testing.assert_array_equal(result.hota_fp[at], 1)
    np.testing.assert_allclose(result.deta[at], 2 / 5)
    np.testing.assert_allclose(result.detre[at], 2 / 4)
    np.testing.assert_allclose(result.detpr[at], 2 / 3)
    np.testing.assert_array_equal(result.hota_fp[~at], 3)


def test_the_whole_track_decides_who_is_matched() -> None:
    """In frame 1 track 8 is more similar, but track 7 follows the object for longer."""
    frames = pairs([(1, 7, 0.6), (1, 8, 0.7)], *[[(1, 7, 0.9)]] * 9)
    result = evaluate(frames)
    assert result.assa[0] == pytest.approx(1)
    assert result.hota_fp[0] == 1
    assert result.idsw == 1  # CLEAR does not look ahead


def test_sequences_weigh_as_many_as_their_true_positives() -> None:
    good, bad = pairs(*[[(1, 7, 0.9)]] * 6), pairs([(1, 7, 0.8)], [(1, 8, 0.8)])
    total = combine([evaluate(good), evaluate(bad)])
    assert total.assa[0] == pytest.approx((6 * 1 + 2 * 0.5) / 8)
    assert total.loca[0] == pytest.approx((6 * 0.9 + 2 * 0.8) / 8)
    assert total.hota_tp[0] == 8


def test_thresholds_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        ALPHAS[0] = 0
