"""Imports point one way, and what is torch-free stays so."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import yolo_multitask

PACKAGE = Path(yolo_multitask.__file__).parent
LOWER = ("data", "nn", "losses", "metrics", "tracking")
UPPER = ("engine", "export", "cli", "model", "demo", "benchmark", "runtime")
TORCH_FREE = (
    "yolo_multitask",
    "yolo_multitask.args",
    "yolo_multitask.cli.app",
    "yolo_multitask.cli.grammar",
    "yolo_multitask.cli.run",
    "yolo_multitask.configs",
    "yolo_multitask.data.labels",
    "yolo_multitask.interop",
    "yolo_multitask.metrics.points",
    "yolo_multitask.metrics.tracking",
    "yolo_multitask.runtime",
    "yolo_multitask.tasks",
    "yolo_multitask.tracking",
    "yolo_multitask.tracking.point_files",
    "yolo_multitask.tracking.points",
    "yolo_multitask.tracking.smoothing",
    "yolo_multitask.tracking.trajectories",
)


def imported(path: Path) -> set[str]:
    """Return the dotted names that a module imports, wherever the import stands."""
    found: set[str] = set()
    package = ["yolo_multitask", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found.update({module, *(f"{module}.{alias.name}" for alias in node.names)})
    return found


def modules(part: str) -> list[Path]:
    """Return the modules of a part of the package, a folder or a file."""
    single = PACKAGE / f"{part}.py"
    return [single] if single.is_file() else sorted((PACKAGE / part).rglob("*.py"))


def test_lower_parts_do_not_know_the_upper_ones() -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for part in LOWER
        for path in modules(part)
        for name in sorted(imported(path))
        if any(name == f"yolo_multitask.{upper}" or name.startswith(f"yolo_multitask.{upper}.") for upper in UPPER)
    ]
    assert wrong == []


def test_the_check_sees_imports_inside_functions(tmp_path: Path) -> None:
    seen = imported(PACKAGE / "cli" / "app.py")
    assert "yolo_multitask.cli.run.run_mode" in seen
    assert sum(len(modules(part)) for part in ("data", "nn", "losses", "metrics")) > 10


def test_only_the_command_line_knows_the_command_line() -> None:
    wrong = [
        str(path.relative_to(PACKAGE))
        for path in sorted(PACKAGE.rglob("*.py"))
        if "cli" not in path.parts and any(name.startswith("yolo_multitask.cli") for name in imported(path))
    ]
    assert wrong == []


@pytest.mark.parametrize("module", TORCH_FREE)
def test_torch_free_modules_import_neither_torch_nor_ultralytics(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({{'torch', 'ultralytics'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(
    "code",
    [
        "import yolo_multitask; yolo_multitask.register()",
        "from yolo_multitask import MultiTaskYOLO",
        "import yolo_multitask; from ultralytics import YOLO; from yolo_multitask import MultiTaskModel",
        "import ultralytics; import yolo_multitask",
        "import ultralytics; import yolo_multitask; yolo_multitask.register(); yolo_multitask.register()",
        "import ultralytics; import yolo_multitask.nn.network",
    ],
)
def test_registration_in_either_import_order_and_twice(code: str) -> None:
    check = (
        f"{code}\nfrom ultralytics.cfg import TASK2DATA, TASK2METRIC\n"
        "assert TASK2DATA['multitask'] and TASK2METRIC['multitask']\n"
        "assert TASK2DATA['detect'] == 'coco8.yaml'\n"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, env=os.environ, timeout=120)
    assert done.returncode == 0, done.stderr


def test_public_names_are_what_all_says() -> None:
    for name in yolo_multitask.__all__:
        assert getattr(yolo_multitask, name) is not None
    assert set(yolo_multitask.__all__) <= set(dir(yolo_multitask))
    with pytest.raises(AttributeError, match="MultiTaskYOLO"):
        _ = yolo_multitask.nothing
