"""Libraries that only some conversions need."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def library(name: str) -> Any:
    """Import a library.

    Raises:
        ImportError: If it, or something that it needs, is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(f"expected {name} to be installed, found: {error}; run 'pip install {name}'.") from error
