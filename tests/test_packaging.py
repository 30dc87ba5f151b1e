"""What an installation contains, and that the versions named in several places agree."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import yolo_multitask
from yolo_multitask import host

ROOT = Path(__file__).parents[1]


def test_supported_versions_agree() -> None:
    low, high = host.SUPPORTED
    assert f'"ultralytics>={low},<{high}"' in (ROOT / "pyproject.toml").read_text()


def test_the_changelog_has_this_version() -> None:
    assert f"## [{yolo_multitask.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.slow
def test_the_wheel_holds_the_configs_and_the_type_marker(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(next(n for n in names if n.endswith(".dist-info/METADATA"))).decode()
    expected = {f"yolo_multitask/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "configs").rglob("*.yaml")}
    expected |= {
        f"yolo_multitask/{path.relative_to(ROOT / 'src' / 'yolo_multitask').as_posix()}"
        for path in (ROOT / "src" / "yolo_multitask").rglob("*.py")
    }
    assert {"yolo_multitask/configs/models/yolov8-multitask.yaml", "yolo_multitask/cli/app.py"} <= expected
    assert expected | {"yolo_multitask/py.typed"} <= names
    assert not [n for n in names if n.startswith(("configs/", "src/", "tests/"))]
    assert re.search(r"^License-Expression: AGPL-3.0-or-later$", metadata, re.M)
    assert any(n.endswith("licenses/LICENSE") for n in names)
