"""`ymt demo`: the package at work on a world that it renders itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from yolo_multitask.cli.grammar import UsageError, join_tokens, parse_words

ARGUMENTS = {"out": "ymt-demo", "long": False, "model": ""}


def demo(tokens: Sequence[str]) -> None:
    """Run the demo.

    Args:
        tokens: The rest of the command line: `out=DIR`, `long=True`, `model=YAML`.

    Raises:
        UsageError: If an argument is wrong.
    """
    given = {**ARGUMENTS, **parse_words(join_tokens(tokens, flags=["long"]), ARGUMENTS, raw=["out", "model"])}
    if not isinstance(given["long"], bool):
        raise UsageError(f"'long' must be True or False, found {given['long']!r}.")

    from yolo_multitask.demo import run_demo

    run_demo(out=Path(str(given["out"])), long=given["long"], model=str(given["model"]) or None)
