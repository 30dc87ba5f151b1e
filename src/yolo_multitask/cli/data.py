"""`ymt data ...`: prepare data sets. Arguments are the parameters of the Python function of the same name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import typer

from yolo_multitask.cli.grammar import UsageError, join_tokens, parse_words


def convert_coco(tokens: Sequence[str]) -> None:
    """Run `yolo_multitask.data.convert.coco.convert_coco` and print its report."""
    from yolo_multitask.data.convert.coco import convert_coco as convert

    typer.echo(call(convert, tokens))


def convert_mot(tokens: Sequence[str]) -> None:
    """Run `yolo_multitask.data.convert.mot.convert_mot` and print its report."""
    from yolo_multitask.data.convert.mot import convert_mot as convert

    typer.echo(call(convert, tokens))


def call(function: Callable[..., Any], tokens: Sequence[str]) -> Any:
    """Call a function with the `key=value` arguments of the command line.

    Args:
        function: Its parameters are the accepted keys; those annotated with a path or a string take their value as
            text.
        tokens: The rest of the command line.

    Raises:
        UsageError: If a key is unknown, a flag is neither True nor False, or a parameter without default is missing.
    """
    parameters = inspect.signature(function).parameters
    defaults = {n: None if p.default is p.empty else p.default for n, p in parameters.items()}
    flags = [n for n, default in defaults.items() if isinstance(default, bool)]
    text = [n for n, p in parameters.items() if "Path" in str(p.annotation) or str(p.annotation).startswith("str")]
    given = parse_words(join_tokens(tokens, flags), defaults, raw=text)
    for name in flags:
        if not isinstance(given.get(name, True), bool):
            raise UsageError(f"'{name}' must be True or False, found {given[name]!r}.")
    missing = [n for n, p in parameters.items() if p.default is p.empty and n not in given]
    if missing:
        raise UsageError(f"expected {', '.join(f'{n}=VALUE' for n in missing)}, found {', '.join(given) or 'nothing'}.")
    return function(**given)
