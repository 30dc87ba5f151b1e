"""Settings that every test shares: offline, one thread, no window, and nothing written to the user's folders."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest

# Ultralytics, torch and matplotlib read these once, when they are imported, so they are set before any test module is.
SANDBOX = Path(tempfile.mkdtemp(prefix="ymt-tests-"))
os.environ["YOLO_OFFLINE"] = "true"
os.environ["YOLO_CONFIG_DIR"] = str(SANDBOX)
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MPLBACKEND"] = "Agg"
os.environ.pop("YMT_DEBUG", None)
atexit.register(shutil.rmtree, SANDBOX, ignore_errors=True)

(SANDBOX / "Ultralytics").mkdir()
(SANDBOX / "Ultralytics" / "settings.json").write_text(
    json.dumps({f"{kind}_dir": str(SANDBOX / kind) for kind in ("datasets", "weights", "runs")})
)


@pytest.fixture(autouse=True)
def runs_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Send what a run saves under a relative project to this test's own folder, which is returned.

    Under pytest, Ultralytics would otherwise save next to its own installation.
    """
    from ultralytics import cfg

    monkeypatch.setattr(cfg, "TESTS_RUNNING", False)
    monkeypatch.setitem(cfg.SETTINGS, "runs_dir", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture(scope="session")
def realdata() -> Path:
    """Return the folder of real images and weights, or skip where it is not named."""
    folder = os.environ.get("YMT_REALDATA")
    if not folder:
        pytest.skip("YMT_REALDATA is not set; set it to a folder with real images and weights to run this test")
    path = Path(folder)
    if not path.is_dir():
        pytest.fail(f"YMT_REALDATA={folder} is not a folder; correct it or unset it")
    return path
