"""Nothing on the way from a file to ids imports torch or Ultralytics, or anything but the five packages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.blobs import write_video

ALLOWED = {"numpy", "cv2", "onnxruntime", "lap", "yaml", "yolo_multitask"}
GUARD = """
import sys
BARRED = {"torch", "torchvision", "ultralytics", "scipy", "onnx", "PIL", "matplotlib", "pandas", "polars"}
class Bar:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BARRED:
            raise ImportError(f"{name} is barred")
sys.meta_path.insert(0, Bar())
started = set(sys.modules)
"""
THIRD_PARTY = """
import sysconfig
site = tuple(sysconfig.get_paths()[k] for k in ("purelib", "platlib"))
new = {n.partition(".")[0] for n, m in sys.modules.items() if (getattr(m, "__file__", None) or "").startswith(site)}
print(*sorted(new - {n.partition(".")[0] for n in started}))
"""


def run(code: str, *args: str) -> str:
    """Run code in a process in which the barred packages cannot be imported; return the last line of its output."""
    command = [sys.executable, "-c", GUARD + code + THIRD_PARTY, *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("clip") / "clip.avi", 4)


def test_the_bar_holds() -> None:
    with pytest.raises(AssertionError, match="torch is barred"):
        run("import yolo_multitask.engine.results\n")


def test_predict_and_track(blobs: Path, clip: Path) -> None:
    code = """
from yolo_multitask.runtime import Session, draw, read_frames
from yolo_multitask.runtime.labels import label_lines
session = Session(sys.argv[1])
image = next(read_frames(sys.argv[2])).image
found = session.predict(image, iou=0.3)
assert len(found) and found.masks.any() and len(label_lines(found)) == len(found)
tracked = list(session.track(sys.argv[2], iou=0.3))
assert len(tracked) == 4 and all(len(f.ids) for f in tracked)
assert draw(tracked[0]).shape == image.shape and tracked[0].to_mot(1).shape[1] == 10
"""
    assert set(run(code, str(blobs), str(clip)).split()) <= ALLOWED


def test_the_command(blobs: Path, clip: Path, tmp_path: Path) -> None:
    code = """
from yolo_multitask.cli.app import main
assert main(["run", *sys.argv[1:]]) == 0
"""
    run(code, str(blobs), str(clip), f"out={tmp_path / 'out'}", "save_txt", "iou=0.3")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["clip.mp4", "clip.txt"]


def test_trajectories_and_their_metric(tmp_path: Path) -> None:
    code = """
import numpy as np
from yolo_multitask.metrics.points import PointMetrics
from yolo_multitask.tracking.point_files import PointFile
from yolo_multitask.tracking.points import candidates, combine
from yolo_multitask.tracking.smoothing import TrajectorySmoother
smoother, file, metrics = TrajectorySmoother(size=(90, 160)), PointFile(sys.argv[1]), PointMetrics({0: "ball"})
frames = [candidates(np.array([[5.0 * t, 9, 0.9]]), np.zeros(1, int), 1, False, 0.2, 4.0, 9) for t in range(8)]
finished = [out for t, rows in enumerate(frames) for out in smoother.push(t, combine([(1.0, rows)], 1, 4.0))]
for t, rows in finished + smoother.flush():
    file.add(t, rows)
    metrics.update(rows[:, :2], rows[:, 3], [[5.0 * t, 9]], [0], [1], size=(90, 160))
file.close()
assert metrics.counts.tp == 8 and metrics.error == 0
"""
    assert set(run(code, str(tmp_path / "clip.csv")).split()) <= ALLOWED
    assert len((tmp_path / "clip.csv").read_text().splitlines()) == 9
