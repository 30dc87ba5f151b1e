"""What the benchmarks share: timing in turn, which is that of `ymt benchmark`, and their arguments and output."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yolo_multitask.benchmark.timing import Comparison, alternate, available_cores, load_average, machine

__all__ = [
    "Comparison",
    "alternate",
    "available_cores",
    "load_average",
    "machine",
    "positive",
    "progress",
    "where",
    "write_json",
]


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


def where(place: Mapping[str, Any], threads: int) -> str:
    """Return a line that places times: `machine` with `load_before` and `load_after`, and the threads of torch."""
    return (
        f"{place['cpu']}, {threads} threads; torch {place['torch']}, ultralytics {place['ultralytics']}. Load average "
        f"{place['load_before']} before, {place['load_after']} after."
    )


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
