"""The `key=value` grammar of the command line, as in `yolo`.

    tokens      model = best.pt --imgsz 320 show        what the shell passed
    words       model=best.pt imgsz=320 show            `join_tokens`: one word per argument
    values      {"model": "best.pt", "imgsz": 320, "show": True}   `parse_words`

It is written here and not taken from Ultralytics so that a wrong argument is reported before torch is imported, and the
same on every supported version. This module imports neither torch nor ultralytics.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import yaml

VERBATIM = frozenset({"name", "project"})  # a run called 1e5 stays "1e5"


class UsageError(ValueError):
    """Wrong arguments on the command line: reported in one line, exit code 2."""


def join_tokens(tokens: Sequence[str], flags: Iterable[str] = ()) -> list[str]:
    """Join shell tokens into one word per argument.

    `key = value`, `key= value`, `key =value`, `--key value` and `--key=value` all become `key=value`; a list that
    the shell split at its spaces (`imgsz=[320, 640]`) becomes one word; a trailing comma is dropped.

    Args:
        tokens: What the shell passed.
        flags: Keys that may stand alone (`show`, `--show`); they take a value only where it reads true, false or none.

    Raises:
        UsageError: If a bracket is not closed, an `=` has no key or no value, or a `--key` has no value.
    """
    flags = frozenset(flags)
    out: list[str] = []
    waiting = ""  # the start of a word whose value or closing bracket is still to come
    for i, token in enumerate(tokens):
        follows = tokens[i + 1] if i + 1 < len(tokens) else ""
        if waiting:
            word = waiting + token
        elif token.startswith("=") and out and "=" not in out[-1]:
            word = out.pop() + token
        elif token.startswith("--") and "=" not in token and not follows.startswith("="):
            word = token[2:]
            is_flag = word in flags and follows.lower() not in {"true", "false", "none"}
            if not is_flag and follows and not follows.startswith("--"):
                word += "="
        else:
            word = token[2:] if token.startswith("--") else token
        open_bracket = word.count("[") != word.count("]")
        waiting = word if open_bracket or word.endswith("=") else ""
        if not waiting:
            out.append(word.rstrip(",") if "=" in word else word)
    if waiting:
        what = "a value" if waiting.endswith("=") else "the closing bracket"
        raise UsageError(f"expected {what} after '{waiting}', found the end of the command; write key=value.")
    return out


def literal(text: str) -> Any:
    """Read a value as `yolo` does: None, a bool, a Python literal, else the text itself.

    Beyond that, `[a.pt, b.pt]` and `{key: value}` are read in YAML's notation, where quotes may be left out.
    """
    named = {"none": None, "true": True, "false": False}
    if text.lower() in named:
        return named[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        pass  # not a literal: a path, a name, or YAML's notation
    if text.startswith(("[", "{")):
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UsageError(f"'{text}' is neither a list nor a mapping; write [a, b] or {{key: value}}.") from error
    return text


def parse_words(words: Iterable[str], valid: Mapping[str, Any], raw: Iterable[str] = VERBATIM) -> dict[str, Any]:
    """Read `key=value` words and bare boolean keys.

    Args:
        words: One word per argument, from `join_tokens`.
        valid: Accepted keys with their defaults; a key whose default is a bool may stand alone for True.
        raw: Keys whose value stays text.

    Raises:
        UsageError: If a key is not in `valid` (naming the nearest), a value is empty, or a key lacks its value.
    """
    raw = frozenset(raw)
    out: dict[str, Any] = {}
    for word in words:
        key, equals, text = (part.strip() for part in word.partition("="))
        if key not in valid:
            raise UsageError(unknown(key, valid, "argument"))
        if equals and not text:
            raise UsageError(f"'{key}=' has no value; write {key}=VALUE.")
        if equals:
            out[key] = text if key in raw and text.lower() != "none" else literal(text)
        elif isinstance(valid[key], bool):
            out[key] = True
        else:
            raise UsageError(f"'{key}' needs a value; write {key}={'VALUE' if valid[key] is None else valid[key]}.")
    return out


def unknown(name: str, known: Iterable[str], what: str) -> str:
    """Return the message for a name that is not known: the nearest known one, or where to find the list."""
    names = sorted(known)
    swapped = [n for n in names if sorted(n) == sorted(name)]
    near = swapped or get_close_matches(name, names, n=1)
    if near:
        return f"unknown {what} '{name}'; did you mean '{near[0]}'?"
    if len(names) <= 12:
        return f"unknown {what} '{name}'; expected one of {', '.join(names)}."
    return f"unknown {what} '{name}'; run 'yolo cfg' to see Ultralytics' and 'ymt train --help' for ours."
