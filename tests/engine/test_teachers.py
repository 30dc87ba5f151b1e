"""Training with teachers, from the argument to the checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support.training import random_model, rows, train, write_model, write_world
from ultralytics.nn.tasks import PoseModel

from yolo_multitask import MultiTaskYOLO
from yolo_multitask.losses.distill import DistillLoss


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data set with everything labelled."""
    return write_world(tmp_path_factory.mktemp("world") / "data")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the YAML of a tiny model."""
    return write_model(tmp_path_factory.mktemp("tiny") / "tiny-multitask.yaml")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the checkpoint of a network that sees objects everywhere."""
    folder = tmp_path_factory.mktemp("teacher")
    random_model(folder, nc=2, kpt_shape=(17, 3)).save(folder / "teacher.pt")
    return folder / "teacher.pt"


def test_the_loss_is_logged_and_no_checkpoint_holds_a_teacher(
    world: Path, tiny: Path, teacher: Path, tmp_path: Path
) -> None:
    seen: list[Any] = []
    model = MultiTaskYOLO(tiny)
    model.add_callback("on_train_batch_end", lambda t: seen.append(t.model.criterion.distill))
    train(model, world, tmp_path / "run", teachers=str(teacher), distill=2.0, epochs=2)
    assert all(isinstance(s, DistillLoss) and s.args.distill == 2.0 for s in seen)
    assert [row["train/dist_loss"] > 0 for row in rows(tmp_path / "run")] == [True, True]
    weights = tmp_path / "run" / "weights"
    for name in ("last.pt", "best.pt"):
        saved = torch.load(weights / name, weights_only=False)
        assert saved["model"].criterion is None
        assert saved["train_args"].get("teachers") in (None, [str(teacher)])
        assert (weights / name).stat().st_size < 2 * teacher.stat().st_size


@pytest.mark.parametrize(
    ("teachers", "error", "message"),
    [
        (5, ValueError, "'teachers' must be a checkpoint or a list of checkpoints, got 5"),
        (["nowhere/teacher.pt"], FileNotFoundError, "nowhere/teacher.pt"),
    ],
)
def test_teachers_that_are_none(
    world: Path, tiny: Path, tmp_path: Path, teachers: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        train(tiny, world, tmp_path / "run", teachers=teachers)


def test_a_teacher_of_other_channels(world: Path, tiny: Path, tmp_path: Path) -> None:
    gray = MultiTaskYOLO(tiny)
    gray.model = PoseModel("yolov8n-pose.yaml", ch=1, nc=1, verbose=False)
    torch.save({"model": gray.model, "train_args": {}}, tmp_path / "gray.pt")
    with pytest.raises(ValueError, match="takes images of 1 channels, the data has 3"):
        train(tiny, world, tmp_path / "run", teachers=[str(tmp_path / "gray.pt")])


def test_the_distillation_of_the_host_is_refused(world: Path, tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not take multitask models. Use 'teachers="):
        train(tiny, world, tmp_path / "run", distill_model="yolov8n.pt")
