"""Training of tiny models on rendered courts: what is trained, what the checkpoint knows, and going on with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from support.oracle import write_model
from support.training import assert_finite, change_yaml, rows

from yolo_multitask import MultiTaskYOLO
from yolo_multitask.data.synthetic.court import write_court
from yolo_multitask.nn.temporal import TemporalModel

RUN: dict[str, Any] = {
    "imgsz": 64,
    "batch": 4,
    "epochs": 1,
    "device": "cpu",
    "workers": 0,
    "plots": False,
    "verbose": False,
    "exist_ok": True,
}
PLAYERS = {"box_loss", "cls_loss", "dfl_loss", "pose_loss", "kobj_loss"}
OBJECTS = {"pos_loss", "conf_loss"}


@pytest.fixture(scope="module")
def court(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("court") / "data"
    return write_court(folder, clips=2, val_clips=1, frames=9, size=(96, 64), seed=1)


def train(model: Path | str, data: Path, folder: Path, **kwargs: Any) -> MultiTaskYOLO:
    trained = MultiTaskYOLO(model)
    trained.train(**{**RUN, "data": str(data), "project": str(folder), "name": "run", **kwargs})
    return trained


def losses(table: list[dict[str, float]], split: str) -> set[str]:
    return {key.removeprefix(f"{split}/") for key in table[0] if key.startswith(f"{split}/")}


def test_both_heads(court: Path, tmp_path: Path) -> None:
    model = train(write_model(tmp_path), court, tmp_path, epochs=2, plots=True)
    table = rows(tmp_path / "run")
    assert_finite([{k: v for k, v in row.items() if "error(T)" not in k} for row in table])
    assert losses(table, "train") == losses(table, "val") == PLAYERS | OBJECTS
    assert {"metrics/F1(T)", "metrics/mAP50-95(P)", "metrics/mAP50-95(B)"} <= set(table[0])
    network = model.model
    assert isinstance(network, TemporalModel)
    assert (network.names, network.objects, network.players) == ({0: "ball", 1: "person"}, [0], [1])
    assert network.kpt_classes == [1]
    assert 0.001 < network.object_size < 0.2
    assert (tmp_path / "run" / "train_batch0.jpg").is_file()
    assert yaml.safe_load((tmp_path / "run" / "args.yaml").read_text())["tasks"] == ["detect", "pose", "track"]
    metrics = model.val(data=str(court), imgsz=64, device="cpu", plots=False, workers=0)
    assert metrics.points.frames == 9
    results = model.predict(str(court.parent / "images" / "val" / "clip0001"), imgsz=64, device="cpu", verbose=False)
    assert len(results) == 9


def test_a_run_that_was_stopped_goes_on(court: Path, tmp_path: Path) -> None:
    class StopHereError(Exception):
        """Ends the training in its second epoch."""

    def stop(trainer: Any) -> None:
        if trainer.epoch == 1:
            raise StopHereError

    model = MultiTaskYOLO(write_model(tmp_path))
    model.add_callback("on_train_epoch_start", stop)
    with pytest.raises(StopHereError):
        model.train(**RUN | {"epochs": 2}, data=str(court), project=str(tmp_path), name="run", reverse=0.25)
    resumed = MultiTaskYOLO(tmp_path / "run" / "weights" / "last.pt")
    resumed.train(resume=True)
    assert [row["epoch"] for row in rows(tmp_path / "run")] == [1, 2]
    assert resumed.trainer.args.reverse == 0.25
    assert resumed.model.object_size == pytest.approx(resumed.trainer.train_loader.dataset.object_size)


@pytest.mark.parametrize(
    ("heads", "tasks", "names"),
    [(("TrackNet",), ["detect", "track"], OBJECTS), (("Pose",), ["detect", "pose"], PLAYERS)],
)
def test_one_head(court: Path, tmp_path: Path, heads: tuple[str, ...], tasks: list[str], names: set[str]) -> None:
    model = train(write_model(tmp_path, heads=heads), court, tmp_path)
    table = rows(tmp_path / "run")
    assert losses(table, "train") == losses(table, "val") == names
    assert model.trainer.args.tasks == tasks
    assert model.model.num_groups == 3


def test_a_switch_leaves_a_head_out(court: Path, tmp_path: Path) -> None:
    model = train(write_model(tmp_path), court, tmp_path, pose=False)
    assert model.model.pose_idx is None
    assert model.model.tasks == ("detect", "track")


def test_data_without_players(court: Path, tmp_path: Path) -> None:
    data = write_court(tmp_path / "balls", clips=1, val_clips=1, frames=6, size=(96, 64), labels="csv")
    assert train(write_model(tmp_path), data, tmp_path).model.tasks == ("detect", "track")
    with pytest.raises(ValueError, match=r"'pose=True' was asked for, but data .* has only: detect, track"):
        train(write_model(tmp_path), data, tmp_path, pose=True)
    with pytest.raises(ValueError, match=r"has pose, data .* has track; with the switches .* nothing is left"):
        train(write_model(tmp_path, heads=("Pose",)), data, tmp_path)


def test_single_frames(court: Path, tmp_path: Path) -> None:
    model = train(write_model(tmp_path, frames=1), court, tmp_path)
    assert model.model.model[0].conv.in_channels == 1


def test_weights_of_another_training(court: Path, tmp_path: Path) -> None:
    first = train(write_model(tmp_path), court, tmp_path)
    start: dict[str, torch.Tensor] = {}

    def keep(trainer: Any) -> None:
        start.update({k: v.clone() for k, v in trainer.model.state_dict().items()})

    second = MultiTaskYOLO(write_model(tmp_path))
    second.add_callback("on_pretrain_routine_end", keep)
    weights = str(tmp_path / "run" / "weights" / "last.pt")
    second.train(**RUN, data=str(court), project=str(tmp_path), name="second", pretrained=weights)
    own = first.model.float().state_dict()
    same = [torch.equal(own[k], start[k].to(own[k])) for k in own if "num_batches" not in k]
    assert sum(same) == len(same)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"single_cls": True}, "single_cls=True: not available"),
        ({"balance": "uncertainty"}, "balance=uncertainty: not available"),
        ({"alone": "pose"}, "alone=pose: not available"),
        ({"freeze": "trunk"}, "freeze='trunk': expected a number"),
        ({"segment": True}, r"'segment=True' was asked for, but model"),
    ],
    ids=str,
)
def test_what_cannot_be_is_said(court: Path, tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        train(write_model(tmp_path), court, tmp_path, **settings)


def test_data_of_single_pictures_is_refused(court: Path, tmp_path: Path) -> None:
    data = tmp_path / "other.yaml"
    data.write_text(court.read_text())
    change_yaml(data, path=str(court.parent), objects=...)
    with pytest.raises(ValueError, match="expected the key 'objects'"):
        train(write_model(tmp_path), data, tmp_path)
