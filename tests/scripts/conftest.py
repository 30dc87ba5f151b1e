"""The benchmarks' modules can be imported by the tests, as their own scripts import them."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "scripts" / "benchmarks"))
