"""Interrupted training: what is left on disk is whole, and going on from it ends as if nothing had happened."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from support.training import RUN, assert_finite, rows, train, write_model, write_world

from yolo_multitask import MultiTaskYOLO
from yolo_multitask.cli import app

HANG = """
import sys, time
from pathlib import Path
from yolo_multitask import MultiTaskYOLO

def hang(trainer):
    if trainer.epoch == 1 and (trainer.save_dir / "weights" / "last.pt").exists():
        Path(sys.argv[1]).touch()
        time.sleep(600)

model = MultiTaskYOLO(sys.argv[2])
model.add_callback("on_train_batch_end", hang)
settings = {"segment": False, "pose": 20.0, "task": "segment", "epochs": 2, **eval(sys.argv[5])}
model.train(data=sys.argv[3], project=sys.argv[4], name="run", **settings)
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that was killed in the middle of its second epoch."""
    root = tmp_path_factory.mktemp("killed")
    data, model = write_world(root / "data"), write_model(root / "tiny-multitask.yaml")
    settings = {k: v for k, v in RUN.items() if k != "epochs"}
    command = [sys.executable, "-c", HANG, *map(str, (root / "ready", model, data, root, settings))]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 120
    while not (root / "ready").exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    _, err = process.communicate()
    assert (root / "ready").exists(), err
    assert process.returncode == -signal.SIGKILL
    shutil.copytree(root / "run", root / "backup")
    return root / "run"


@pytest.fixture
def run(killed: Path) -> Path:
    """Return the killed run as it was; a resumed run writes into its own folder, which the checkpoint names."""
    shutil.rmtree(killed)
    shutil.copytree(killed.with_name("backup"), killed)
    return killed


def check_finished(run: Path) -> None:
    """Check that the run ended as one that was never interrupted."""
    table = rows(run)
    assert [row["epoch"] for row in table] == [1, 2]
    assert_finite(table)
    assert {p.name for p in (run / "weights").iterdir()} == {"best.pt", "last.pt"}
    model = MultiTaskYOLO(run / "weights" / "last.pt")
    assert model.model.tasks == ("detect", "pose", "track")
    assert model.ckpt["epoch"] == -1, "finished: the optimizer is stripped"


def test_a_killed_run_leaves_whole_files(run: Path) -> None:
    assert [row["epoch"] for row in rows(run)] == [1]
    assert {p.name for p in (run / "weights").iterdir()} == {"best.pt", "last.pt"}
    checkpoint = MultiTaskYOLO(run / "weights" / "last.pt").ckpt
    assert checkpoint["epoch"] == 0
    assert checkpoint["optimizer"] is not None
    assert checkpoint["train_args"]["tasks"] == ["detect", "pose", "track"]
    assert checkpoint["train_args"]["pose"] == 20.0
    assert checkpoint["train_args"]["label_task"] == "segment"


def test_resume_from_python(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = rows(run)[0]
    model = MultiTaskYOLO(run / "weights" / "last.pt")
    seen: list[tuple[int, float, list[str], str]] = []
    model.add_callback(
        "on_train_start", lambda t: seen.append((t.start_epoch, t.args.pose, t.args.tasks, t.args.label_task))
    )
    model.train(resume=True, batch=8, pose=5.0)
    check_finished(run)
    assert any("Resume ignores ['pose'" in message for message in caplog.messages), "batch may change, a gain not"
    assert rows(run)[0] == first
    assert seen == [(1, 20.0, ["detect", "pose", "track"], "segment")]
    assert model.model.tasks == ("detect", "pose", "track")
    assert model.metrics.pose.map >= 0


def test_resume_from_the_command_line(run: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "yolo_multitask.cli.app",
        "train",
        "resume",
        f"model={run / 'weights' / 'last.pt'}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    check_finished(run)


def test_rows_after_the_checkpoint_are_written_once(run: Path) -> None:
    """A run may be killed after an epoch's row and before its checkpoint, or in the middle of a row."""
    csv = run / "results.csv"
    header, first = csv.read_text().splitlines(keepends=True)
    csv.write_text(header + first + first.replace("1,", "2,", 1) + "2,0.1")
    MultiTaskYOLO(run / "weights" / "last.pt").train(resume=True)
    check_finished(run)


def test_leftovers_of_a_killed_save_never_become_the_best(run: Path) -> None:
    (run / "weights" / "best.partial.pt").write_bytes(b"half a checkpoint")
    model = MultiTaskYOLO(run / "weights" / "last.pt")
    best = (run / "weights" / "best.pt").read_bytes()
    kept: list[bool] = []
    model.add_callback("on_train_start", lambda t: setattr(t, "best_fitness", 2.0))
    model.add_callback("on_model_save", lambda t: kept.append(t.best.read_bytes() == best))
    model.train(resume=True)
    assert kept == [True]
    check_finished(run)


def test_a_failed_save_keeps_the_previous_checkpoint(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = run / "weights"
    before = {p.name: p.read_bytes() for p in weights.iterdir()}
    write = Path.write_bytes

    def full_disk(self: Path, data: bytes) -> int:
        if self.parent != weights:
            return write(self, data)
        write(self, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    model = MultiTaskYOLO(weights / "last.pt")
    model.add_callback("on_train_start", lambda _: monkeypatch.setattr(Path, "write_bytes", full_disk))
    with pytest.raises(OSError, match="No space left"):
        model.train(resume=True)
    monkeypatch.undo()
    assert {p.name: p.read_bytes() for p in weights.iterdir()} == before

    MultiTaskYOLO(weights / "last.pt").train(resume=True)
    check_finished(run)


def test_a_finished_run_cannot_be_resumed(tmp_path: Path, killed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = killed.parent
    train(root / "tiny-multitask.yaml", root / "data" / "data.yaml", tmp_path / "done")
    last = tmp_path / "done" / "weights" / "last.pt"
    with pytest.raises(AssertionError, match="nothing to resume"):
        MultiTaskYOLO(last).train(resume=str(last))
    assert app.main(["train", f"resume={last}", f"model={last}"]) == 1
    assert "nothing to resume" in capsys.readouterr().err


def test_a_checkpoint_that_is_gone_is_named(killed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["train", "resume", f"model={killed.parent / 'gone.pt'}"]) == 1
    err = capsys.readouterr().err
    assert "gone.pt" in err
    assert err.count("\n") == 1


def test_every_epoch_can_be_kept(tmp_path: Path, killed: Path) -> None:
    root: Any = killed.parent
    folder = tmp_path / "all"
    train(root / "tiny-multitask.yaml", root / "data" / "data.yaml", folder, epochs=2, save_period=1, val=False)
    files = sorted((folder / "weights").iterdir())
    assert [p.name for p in files] == ["best.pt", "epoch0.pt", "epoch1.pt", "last.pt"]
    for file in files:
        network = MultiTaskYOLO(file).model
        assert all(torch.isfinite(v).all() for v in network.state_dict().values() if v.is_floating_point())
