"""Alternating timing of two ways to do the same work, and a note on the machine that did it."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
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
        if len(self.ratios) < 2:
            return self.ratios[0], self.ratios[0]
        low, _, high = statistics.quantiles(self.ratios, n=4, method="inclusive")
        return low, high

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


def alternate(one: Callable[[], Any], two: Callable[[], Any], runs: int, warmup: int) -> Comparison:
    """Time `one` and `two` in turn (A B A B ...), so that both see the same load of the machine.

    Args:
        one: The first way.
        two: The second way.
        runs: Timed runs of each.
        warmup: Runs of each before them, not timed.
    """
    times: tuple[list[float], list[float]] = ([], [])
    for i in range(warmup + runs):
        for work, kept in zip((one, two), times, strict=True):
            start = time.perf_counter()
            work()
            if i >= warmup:
                kept.append((time.perf_counter() - start) * 1e3)
    return Comparison(one_ms=times[0], two_ms=times[1])


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


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` whole or not at all: to a temporary file next to `path`, which then takes its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=2)
            file.write("\n")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def progress(text: str) -> None:
    """Write a line to stderr, so that stdout holds the result alone."""
    print(text, file=sys.stderr, flush=True)


def positive(text: str) -> int:
    """Return `text` as an integer of at least 1.

    Raises:
        argparse.ArgumentTypeError: If it is none.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of 1 or more, got '{text}'")
    return int(text)
