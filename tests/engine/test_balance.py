"""Learned weights of the tasks in a training run: logged, saved, resumed, and not handed on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support.training import rows, train, write_model, write_world

from yolo_multitask import MultiTaskYOLO

SETTINGS: dict[str, Any] = {
    "balance": "uncertainty",
    "nbs": 4,
    "optimizer": "AdamW",
    "lr0": 0.05,
    "warmup_epochs": 0,
    "val": False,
}


class CrashError(Exception):
    """Ends a run as a crash would."""


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that crashed after the first of two epochs."""
    root = tmp_path_factory.mktemp("balance")
    data = write_world(root / "data")

    def crash(trainer: Any) -> None:
        if trainer.epoch == 1:
            raise CrashError

    model = MultiTaskYOLO(write_model(root / "tiny-multitask.yaml"))
    model.add_callback("on_train_epoch_start", crash)
    with pytest.raises(CrashError):
        train(model, data, root / "run", epochs=2, track=False, **SETTINGS)
    return root / "run"


def test_weights_are_logged_and_resumed(interrupted: Path) -> None:
    (first,) = rows(interrupted)
    logged = {k: v for k, v in first.items() if k.startswith("balance/")}
    assert set(logged) == {"balance/detect", "balance/segment", "balance/pose"}
    assert all(0 < weight != 1 for weight in logged.values())
    seen: dict[str, float] = {}
    model = MultiTaskYOLO(interrupted / "weights" / "last.pt")
    model.add_callback("on_train_start", lambda t: seen.update(t.model.balance.weights))
    model.train(resume=True, device="cpu")
    ema = torch.load(interrupted / "weights" / "last.pt", map_location="cpu", weights_only=False)
    assert seen, "the run went on"
    assert all(0 < weight != 1 for weight in seen.values())
    assert len(rows(interrupted)) == 2
    assert (ema.get("ema") or ema["model"]).balance.weights.keys() == seen.keys()


def test_another_run_starts_with_the_gains_as_they_are(interrupted: Path, tmp_path: Path) -> None:
    seen: dict[str, float] = {}
    model = MultiTaskYOLO(interrupted / "weights" / "last.pt")
    model.add_callback("on_train_start", lambda t: seen.update(t.model.balance.weights))
    train(model, interrupted.parent / "data" / "data.yaml", tmp_path / "next", track=False, **SETTINGS)
    assert seen == {"detect": 1.0, "segment": 1.0, "pose": 1.0}


def test_one_task_alone_is_not_balanced(interrupted: Path, tmp_path: Path) -> None:
    data = interrupted.parent / "data" / "data.yaml"
    with pytest.raises(ValueError, match="weighs several tasks, but freeze=trunk trains one"):
        train(
            interrupted / "weights" / "last.pt", data, tmp_path / "a", freeze="trunk", balance="uncertainty", track=True
        )
