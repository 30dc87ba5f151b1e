"""Ways run in turn, and what is said of their times."""

from __future__ import annotations

import pytest

from yolo_multitask.benchmark.timing import Comparison, alternate, quartiles, take_turns


def test_every_way_runs_once_a_round_and_the_warm_up_is_not_kept() -> None:
    order: list[str] = []
    kept = take_turns(
        [lambda: order.append("a") or len(order), lambda: order.append("b") or len(order), lambda: order.append("c")],
        runs=5,
        warmup=1,
        after_round=lambda: order.append("|"),
    )
    assert "".join(order) == "abc|bca|cab|cba|acb|bac|"  # each order of three once
    assert [[run.value for run in runs] for runs in kept] == [
        [7, 10, 15, 17, 22],
        [5, 11, 14, 19, 21],
        [None] * 5,
    ]
    assert all(run.ms >= 0 for runs in kept for run in runs)


def test_two_ways_alternate() -> None:
    order: list[str] = []
    times = alternate(lambda: order.append("a"), lambda: order.append("b"), runs=3, warmup=2)
    assert "".join(order) == "abbabaabab"
    assert len(times.one_ms) == len(times.two_ms) == 3


def test_a_comparison_pairs_neighbouring_runs() -> None:
    times = Comparison(one_ms=[1.0, 4.0, 9.0, 8.0], two_ms=[2.0, 4.0, 6.0, 10.0])
    assert times.ratios == [0.5, 0.8, 1.0, 1.5]
    assert times.ratio == 6.0 / 5.0
    assert times.quartiles == pytest.approx((0.725, 1.125))
    assert times.summary()["ratio_range"] == [0.5, 1.5]


def test_the_quartiles_of_one_value_are_that_value() -> None:
    assert quartiles([3.0]) == (3.0, 3.0)
