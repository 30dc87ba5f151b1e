"""What a result says, and several together."""

from __future__ import annotations

import dataclasses

import pytest
from support.track_frames import assert_same, evaluate, pairs, random_frames

from yolo_multitask.metrics.tracking import combine
from yolo_multitask.metrics.tracking.result import CURVES


def test_summary() -> None:
    result = evaluate(pairs(*[[(1, 7, 0.8)]] * 2, *[[(1, 8, 0.8)]] * 2, gt=[2]))
    summary = result.summary()
    assert list(summary) == ["HOTA", "DetA", "AssA", "LocA", "MOTA", "IDF1", "IDSW", "Frag", "FP", "FN"]
    for name, value in summary.items():
        assert type(value) is (float if name in {"HOTA", "DetA", "AssA", "LocA", "MOTA", "IDF1"} else int)
    assert (summary["IDSW"], summary["Frag"], summary["FP"], summary["FN"]) == (1, 0, 0, 4)
    assert summary["MOTA"] == pytest.approx(1 - 5 / 8)
    assert summary["IDF1"] == pytest.approx(2 * 2 / (2 * 2 + 2 + 6))
    assert summary["HOTA"] == result.mean("hota")


def test_objects_and_identities_are_counted() -> None:
    result = evaluate(pairs(*[[(1, 7, 0.8)]] * 2, [(1, 8, 0.8), (2, 7, 0.8)]))
    assert (result.gt_dets, result.pred_dets, result.gt_ids, result.pred_ids) == (4, 4, 2, 2)


def test_mean_of_every_curve_and_of_nothing_else() -> None:
    result = evaluate(random_frames(0))
    for name in CURVES:
        assert result.mean(name) == pytest.approx(sum(getattr(result, name)) / 19)
    with pytest.raises(ValueError, match="Expected one of hota, deta, .*, found 'mota'"):
        result.mean("mota")


def test_a_result_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        evaluate([]).tp = 3  # type: ignore[misc]


def test_one_sequence_combined_is_itself() -> None:
    result = evaluate(random_frames(3))
    assert_same(combine([result]), result)


def test_combination_is_by_counts() -> None:
    """Three frames of one sequence weigh three times as much as the one of the other."""
    perfect, useless = evaluate(pairs(*[[(1, 7, 1.0)]] * 3)), evaluate(pairs([(1, 7, 0.1)]))
    total = combine(iter([perfect, useless]))
    assert total.mota == (3 - 1) / 4
    assert total.idf1 == 3 / 4
    assert (total.gt_dets, total.gt_ids, total.pred_ids) == (4, 2, 2)


def test_nothing_to_combine() -> None:
    with pytest.raises(ValueError, match="at least one sequence"):
        combine([])
