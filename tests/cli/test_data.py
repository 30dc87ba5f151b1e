"""`ymt data`: the parameters of a Python function are the keys of its command."""

from __future__ import annotations

from pathlib import Path

import pytest

from yolo_multitask.cli import app
from yolo_multitask.cli.data import call
from yolo_multitask.cli.grammar import UsageError


def convert(source: str | Path, out: str | Path, classes: list[str] | None = None, copy: bool = False) -> tuple:
    """Stand for a converter."""
    return source, out, classes, copy


def test_parameters_are_keys() -> None:
    assert call(convert, ["source=1e5", "out", "=", "x/y"]) == ("1e5", "x/y", None, False)
    assert call(convert, ["source=a", "out=b", "classes=[person, dog]", "copy"]) == ("a", "b", ["person", "dog"], True)


@pytest.mark.parametrize(
    ("tokens", "says"),
    [
        (["source=a"], "expected out=VALUE, found source."),
        ([], "expected source=VALUE, out=VALUE, found nothing."),
        (["sorce=a"], "did you mean 'source'?"),
    ],
)
def test_wrong_arguments_are_named(tokens: list[str], says: str) -> None:
    with pytest.raises(UsageError) as error:
        call(convert, tokens)
    assert says in str(error.value)


def test_convert_coco_needs_its_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["data", "convert-coco"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("ymt: expected ")
    assert err.count("\n") == 1
