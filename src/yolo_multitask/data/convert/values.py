"""Values from a command line or a foreign file, and lists of names in messages."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from typing import Any


def texts(value: Any, commas: bool = False) -> list[str]:
    """Return a list argument as texts; one text may be ``[a, b]`` (as on a command line), or ``a,b`` with `commas`."""
    if value is None:
        return []
    if isinstance(value, (str, os.PathLike, int)):
        text = str(value) if isinstance(value, int) else os.fspath(value).strip()
        bracketed = text.startswith("[") and text.endswith("]") and text.count("[") == 1
        parts = (text[1:-1] if bracketed else text).split(",") if bracketed or commas else [text]
        return [p.strip().strip("'\"") for p in parts if p.strip()]
    return [str(v) for v in value]


def finite(values: Iterable[Any]) -> bool:
    """Return whether all values are finite numbers."""
    return all(isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) for v in values)


def shortened(names: Sequence[str], most: int = 8) -> str:
    """List names, cut to a readable length."""
    return ", ".join(names[:most]) + (f", ... ({len(names)})" if len(names) > most else "")
