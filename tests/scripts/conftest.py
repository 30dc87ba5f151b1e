"""The benchmarks' modules can be imported by the tests, as their own scripts import them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ultralytics.utils import LOGGER

sys.path.append(str(Path(__file__).parents[2] / "scripts" / "benchmarks"))


@pytest.fixture(autouse=True)
def log_level() -> Iterator[None]:
    """Put back what a benchmark sets for its process: it logs warnings alone."""
    level = LOGGER.level
    yield
    LOGGER.setLevel(level)
