"""Timing several ways to do the same work in turn, and a note on the machine that did it."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Times of two ways to do the same work, measured in turn.

    Attributes:
        one_ms: Milliseconds of each run of the first way.
        two_ms: The same of the second; run i of both stand next to each other in time.
    """

    one_ms: Sequence[float]
    two_ms: Sequence[float]

    @property
    def ratio(self) -> float:
        """Median of the first way over median of the second."""
        return statistics.median(self.one_ms) / statistics.median(self.two_ms)

    @property
    def ratios(self) -> list[float]:
        """Ratio of each pair of neighbouring runs, ascending; a change in the machine's load cancels in them."""
        return sorted(a / b for a, b in zip(self.one_ms, self.two_ms, strict=True))

    @property
    def quartiles(self) -> tuple[float, float]:
        """First and third quartile of `ratios`."""
        return quartiles(self.ratios)

    def summary(self) -> dict[str, Any]:
        """Return all figures by name: medians, their ratio, its spread over the pairs, and every time, in ms."""
        return {
            "one_ms": statistics.median(self.one_ms),
            "two_ms": statistics.median(self.two_ms),
            "ratio": self.ratio,
            "ratio_quartiles": list(self.quartiles),
            "ratio_range": [self.ratios[0], self.ratios[-1]],
            "one_runs_ms": list(self.one_ms),
            "two_runs_ms": list(self.two_ms),
        }


@dataclass(frozen=True, kw_only=True)
class Run:
    """One timed run: its milliseconds, and what the work returned."""

    ms: float
    value: Any


def take_turns(
    ways: Sequence[Callable[[], Any]], runs: int, warmup: int, after_round: Callable[[], Any] | None = None
) -> list[list[Run]]:
    """Time several ways in turn, so that all see the same load of the machine.

    The order is rotated each round, and reversed after each full turn (A B C, B C A, C A B, C B A, A C B, B A C, ...):
    no way always finds what the same other one has left in caches and threads.

    Args:
        ways: What to time; what each returns is kept.
        runs: Timed runs of each.
        warmup: Runs of each before them, not timed.
        after_round: Called when each way has run once more.

    Returns:
        The timed runs of each way; run i of all stand next to each other in time.
    """
    kept: list[list[Run]] = [[] for _ in ways]
    for i in range(warmup + runs):
        turn = [(i + j) % len(ways) for j in range(len(ways))]
        for way in reversed(turn) if i // len(ways) % 2 else turn:
            start = time.perf_counter()
            value = ways[way]()
            if i >= warmup:
                kept[way].append(Run(ms=(time.perf_counter() - start) * 1e3, value=value))
        if after_round is not None:
            after_round()
    return kept


def alternate(one: Callable[[], Any], two: Callable[[], Any], runs: int, warmup: int) -> Comparison:
    """Time `one` and `two` in turn (A B, B A, B A, A B, ...); see `take_turns`. What they return is dropped."""

    def dropping(work: Callable[[], Any]) -> Callable[[], None]:
        def run() -> None:
            work()

        return run

    first, second = take_turns((dropping(one), dropping(two)), runs, warmup)
    return Comparison(one_ms=[run.ms for run in first], two_ms=[run.ms for run in second])


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """Return the first and third quartile; of a single value, that value twice."""
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def machine() -> dict[str, Any]:
    """Return what a reader needs to place the times: processor, cores, system and versions."""
    import torch
    import ultralytics
    from ultralytics.utils.torch_utils import get_cpu_info

    import yolo_multitask

    return {
        "cpu": get_cpu_info(),
        "cores": available_cores(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "ultralytics": ultralytics.__version__,
        "yolo_multitask": yolo_multitask.__version__,
    }


def available_cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load_average() -> float | None:
    """Return the mean number of busy processes of the last minute, or None where the system does not count them."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
