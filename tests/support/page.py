"""The examples of the page on other tools, which build on each other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "interop.md"


def page_examples() -> list[str]:
    """Return the Python blocks of the page in order."""
    return re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)


def run_page(examples: Sequence[str]) -> dict[str, Any]:
    """Run examples one after another, and return the names that they leave."""
    space: dict[str, Any] = {"__name__": "page"}
    for example in examples:
        exec(compile(example, PAGE.name, "exec"), space)
    return space
