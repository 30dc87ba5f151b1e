"""`host.py` alone calls or reads Ultralytics' private names and its tables by task."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import yolo_multitask

PACKAGE = Path(yolo_multitask.__file__).parent
TABLE = re.compile(r"TASK2\w+|TRACKER_MAP")


def private(name: str) -> bool:
    """Return whether a name starts with one underscore."""
    return name.startswith("_") and not name.startswith("__")


def own_names(tree: ast.AST) -> set[str]:
    """Return the private names that a module defines: functions, classes, and attributes that it sets itself."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, (ast.Attribute, ast.Name)) and isinstance(node.ctx, ast.Store):
            found.add(node.attr if isinstance(node, ast.Attribute) else node.id)
    return {name for name in found if private(name)}


def overrides(tree: ast.AST) -> set[ast.AST]:
    """Return every `super()._hook` that stands inside a method `_hook`."""
    found: set[ast.AST] = set()
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        for node in ast.walk(function):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "super()" and node.attr == function.name:
                found.add(node)
    return found


def violations(source: str) -> list[str]:
    """Return the uses of the host's private names and tables in a module, as `line: code`.

    A private attribute of anything counts, unless this module defines the name; so does the host's version of a hook,
    except in the method that overrides it.
    """
    tree = ast.parse(source)
    own, inherited = own_names(tree), overrides(tree)
    wrong = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [n.name for n in node.names if n.name.split(".")[0] == "ultralytics"]
            bad = any(private(part) for name in names for part in name.split("."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ultralytics":
            names = [*str(node.module).split("."), *(alias.name for alias in node.names)]
            bad = any(private(name) or TABLE.fullmatch(name) for name in names)
        elif isinstance(node, ast.Attribute):
            outside = ast.unparse(node.value) == "super()" or node.attr not in own
            bad = bool(TABLE.fullmatch(node.attr)) or (private(node.attr) and outside and node not in inherited)
        else:
            continue
        if bad:
            wrong.append(f"{node.lineno}: {ast.unparse(node)}")
    return wrong


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_host_touches_private_names_and_tables(path: Path) -> None:
    found = violations(path.read_text(encoding="utf-8"))
    if path.name == "host.py":
        assert found, "host.py is where they stand"
    else:
        assert found == [], "move it into a function of host.py"


@pytest.mark.parametrize(
    "line",
    [
        "from ultralytics.cfg import TASK2DATA",
        "from ultralytics.cfg import _handle_deprecation",
        "from ultralytics.trackers.track import TRACKER_MAP as trackers",
        "from ultralytics import _private",
        "import ultralytics._private.part",
        "import ultralytics.cfg as cfg; cfg.TASK2MODEL['pose']",
        "from ultralytics import YOLO; YOLO('a.pt')._check_is_pytorch_model()",
        "class A(Detect):\n    def forward(self, x): return super()._inference(x)",
        "class A(Detect):\n    def forward(self, x): return self._inference(x)",
        "class A(Detect):\n    def _inference(self, x): return super()._get_decode_boxes(x)",
    ],
)
def test_the_check_finds(line: str) -> None:
    assert len(violations(line)) == 1


@pytest.mark.parametrize(
    "line",
    [
        "from ultralytics.cfg import get_cfg",
        "from ultralytics import __version__",
        "class A(Detect):\n    def _inference(self, x): return super()._inference(x)",
        "class A:\n    def __init__(self): self._own = self._ours()\n    def _ours(self): return self._own",
    ],
)
def test_the_check_allows(line: str) -> None:
    assert violations(line) == []
