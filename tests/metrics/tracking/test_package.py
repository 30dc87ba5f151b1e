"""The package's examples run, and it needs numpy and lap alone."""

from __future__ import annotations

import ast
import doctest
import importlib
import sys
from pathlib import Path

import pytest

from yolo_multitask.metrics import tracking

MODULES = sorted(Path(tracking.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("name", ["accumulate", "matching", "similarity"])
def test_examples(name: str) -> None:
    found = doctest.testmod(importlib.import_module(f"{tracking.__name__}.{name}"))
    assert found.attempted > 1
    assert found.failed == 0


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_imports(path: Path) -> None:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names.add(str(node.module))
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
    foreign = {
        n for n in names if not n.startswith(tracking.__name__) and n.split(".")[0] not in sys.stdlib_module_names
    }
    assert {name.split(".")[0] for name in foreign} <= {"numpy", "lap"}
