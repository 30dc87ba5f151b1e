"""Training of identities: what it needs, what it sees, and that it can leave everything else as it was."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from support.models import randomise, tiny_yaml
from support.training import (
    RUN,
    SIZE,
    assert_finite,
    label_files,
    relabel,
    rows,
    train,
    write_model,
    write_world,
)
from ultralytics.nn.tasks import SegmentationModel, yaml_model_load

from yolo_multitask import MultiTaskYOLO, host
from yolo_multitask.cli import app
from yolo_multitask.data.labels import LabelSpec
from yolo_multitask.data.sequences import PairSampler
from yolo_multitask.engine.trainer import PAIR_SHARE, MultiTaskTrainer

NOT_IN_BOX_LINES = dict.fromkeys(("kpt_shape", "flip_idx", "kpt_names", "kpt_classes"), ...)
STILL = dict.fromkeys(("mosaic", "scale", "translate", "hsv_h", "hsv_s", "hsv_v", "fliplr"), 0.0)  # no augmentation
TRACK = "model.22.branches.track."
POINTS = [f"point {i}" for i in range(17)]


def boxes_only(folder: Path, *, ids: bool, **keys: Any) -> Path:
    """Write a data set of two persons in every picture, with boxes and, if wanted, identities."""
    data = write_world(folder, figures=(2, 2), **{**NOT_IN_BOX_LINES, "labels": {"ids": ids}, **keys})
    spec = LabelSpec(nc=1, kpt_shape=None, polygons=False, ids=ids)
    for split in ("train", "val"):
        relabel(label_files(data, split), spec, keypoints=None, polygon=None, **({} if ids else {"id": -1}))
    return data


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return two short sequences with identities."""
    return boxes_only(tmp_path_factory.mktemp("ids") / "data", ids=True)


@pytest.fixture(scope="module")
def stills(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the same pictures without identities."""
    return boxes_only(tmp_path_factory.mktemp("stills") / "data", ids=False)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the YAML of a tiny model without branches but the one for identities."""
    return write_model(tmp_path_factory.mktemp("tiny") / "tiny-multitask.yaml", tasks=["track"])


def ready(model: Path, data: Path, folder: Path, **kwargs: Any) -> MultiTaskTrainer:
    """Return a trainer that stands before its first batch."""
    given = {"data": str(data), "model": str(model), "project": str(folder), "name": "run", **kwargs}
    trainer = MultiTaskTrainer(overrides={**RUN, **given})
    trainer._setup_train()
    return trainer


def epoch(trainer: MultiTaskTrainer) -> dict[str, float]:
    """Return the mean losses of an epoch without a step, after a backward pass of each."""
    trainer._model_train()
    sums: dict[str, float] = {}
    for batch in trainer.train_loader:
        loss, items = trainer.model(trainer.preprocess_batch(batch))
        loss.sum().backward()
        sums = {k: sums.get(k, 0) + float(v) for k, v in items.items()}
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trainer.model.parameters() if p.requires_grad)
    return {k: v / len(trainer.train_loader) for k, v in sums.items()}


def files_of_epochs(model: MultiTaskYOLO) -> list[list[str]]:
    """Return a list that fills with the pictures of each batch that the model is trained on."""
    seen: list[list[str]] = []

    def watch(trainer: Any) -> None:
        preprocess = trainer.preprocess_batch

        def watched(batch: dict[str, Any]) -> dict[str, Any]:
            seen.append(list(batch["im_file"]))
            done: dict[str, Any] = preprocess(batch)
            return done

        trainer.preprocess_batch = watched

    model.add_callback("on_train_start", watch)
    return seen


class CrashError(Exception):
    """Ends a run as a crash would."""


def interrupted(model: Any, data: Path, folder: Path, **kwargs: Any) -> Path:
    """Train, but crash at the start of the second of two epochs; return the last checkpoint."""
    model = MultiTaskYOLO(model)

    def crash(trainer: Any) -> None:
        if trainer.epoch == 1:
            raise CrashError

    model.add_callback("on_train_epoch_start", crash)
    with pytest.raises(CrashError):
        train(model, data, folder, **{**kwargs, "epochs": 2})
    return folder / "weights" / "last.pt"


def test_identities_cost_the_other_tasks_nothing(world: Path, tiny: Path, tmp_path: Path) -> None:
    """With the same pictures in the same order, every other weight is the same to the last bit."""
    networks = []
    same: dict[str, Any] = {"track": True, "next": False, "epochs": 2, "batch": 4, "nbs": 4, "lr0": 0.01}
    for gain in (100.0, 0.0):
        folder = tmp_path / f"{gain:g}"
        train(tiny, world, folder, **same, deterministic=True, reid=gain)
        networks.append(host.load_network(folder / "weights" / "last.pt").state_dict())
    loud, silent = networks
    assert [k for k in loud if not k.startswith(TRACK) and not torch.equal(loud[k], silent[k])] == []
    assert not torch.equal(loud[f"{TRACK}project.weight"], silent[f"{TRACK}project.weight"])


# ---- what is trained, and on what ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ids", "given", "on"),
    [
        (True, {}, True),
        (True, {"track": False}, False),
        (True, {"track": True}, True),
        (False, {}, False),
        (False, {"track": True}, True),
    ],
)
def test_unset_follows_the_ids_and_a_switch_goes_first(
    ids: bool, given: dict[str, bool], on: bool, world: Path, stills: Path, tiny: Path, tmp_path: Path
) -> None:
    trainer = ready(tiny, world if ids else stills, tmp_path, **given)
    assert trainer.args.tasks == (["detect", "track"] if on else ["detect"])
    assert trainer.model.tasks == tuple(trainer.args.tasks)
    assert isinstance(trainer.train_loader.sampler, PairSampler) is on
    assert not isinstance(trainer.test_loader.sampler, PairSampler)


def test_two_views_of_a_picture_are_enough(stills: Path, tiny: Path, tmp_path: Path) -> None:
    trainer = ready(tiny, stills, tmp_path, track=True, batch=8, **STILL)
    trainer._model_train()
    optimiser = torch.optim.Adam(trainer.model.parameters(), 3e-3)
    seen, losses = [], []
    for _ in range(20):
        (batch,) = trainer.train_loader
        seen.append(batch["im_file"])
        assert not batch["has_id"].any()
        loss, items = trainer.model(trainer.preprocess_batch(batch))
        optimiser.zero_grad()
        loss.sum().backward()
        optimiser.step()
        losses.append(float(items["reid_loss"]))
    views = [sum(a == b for a, b in zip(batch[::2], batch[1::2], strict=True)) for batch in seen]
    assert set(views) == {round(PAIR_SHARE * 4)} == {1}
    assert {file for batch in seen for file in batch} == set(trainer.train_loader.dataset.im_files)
    assert min(losses) > 0
    assert np.mean(losses[-4:]) < 0.7 * np.mean(losses[:4])


def test_sequences_are_seen_in_pairs_of_near_frames(world: Path, tiny: Path, tmp_path: Path) -> None:
    trainer = ready(tiny, world, tmp_path, pair_gap=1, **STILL)
    assert trainer.train_loader.sampler.share == PAIR_SHARE
    near = 0
    for batch in trainer.train_loader:
        assert batch["has_id"].all()
        for first, second in zip(batch["im_file"][::2], batch["im_file"][1::2], strict=True):
            one, two = Path(first), Path(second)
            near += one.parent == two.parent and abs(int(one.stem) - int(two.stem)) == 1
    assert near >= round(PAIR_SHARE * 4) == 1


def test_the_branch_is_added_to_a_checkpoint_without_it(stills: Path, tmp_path: Path) -> None:
    source = MultiTaskYOLO(write_model(tmp_path / "boxes.yaml", tasks=[], nc=1))
    randomise(source.model)
    source.save(tmp_path / "boxes.pt")
    start: dict[str, torch.Tensor] = {}
    model = MultiTaskYOLO(tmp_path / "boxes.pt")
    assert model.model.tasks == ("detect",)
    model.add_callback("on_pretrain_routine_end", lambda t: start.update(deepcopy(t.model.state_dict())))
    train(model, stills, tmp_path / "run", track=True)
    given = host.load_network(tmp_path / "boxes.pt").state_dict()
    assert all(torch.equal(start[k], v) for k, v in given.items() if not k.endswith("num_batches_tracked"))
    (row,) = rows(tmp_path / "run")
    assert_finite([row])
    assert min(row["train/reid_loss"], row["val/reid_loss"]) > 0
    assert not [key for key in row if "(T)" in key], "without ids there is nothing to measure"
    saved = MultiTaskYOLO(tmp_path / "run" / "weights" / "best.pt")
    assert saved.model.tasks == ("detect", "track")
    (result,) = saved.predict(np.zeros((SIZE, SIZE, 3), np.uint8), conf=1e-6, imgsz=SIZE, verbose=False)
    assert len(result.embeddings) == len(result.boxes)


def test_the_box_in_the_next_frame_is_a_matter_of_next(world: Path, tmp_path: Path) -> None:
    for says in (True, False):
        file = write_model(tmp_path / "tiny-multitask.yaml", tasks=["track"], next=says)
        for asked, expected in ((None, says), (not says, not says)):
            branch = ready(file, world, tmp_path, next=asked).model.head.branches["track"]
            assert branch.next_box is expected
    model = train(file, world, tmp_path / "run", next=True)
    assert model.model.yaml["next"] is True
    (row,) = rows(tmp_path / "run")
    assert_finite([row])
    assert min(row["train/next_loss"], row["val/next_loss"]) > 0
    assert {k for k in row if "(T)" in k} == {
        f"metrics/{k}(T)" for k in ("HOTA", "DetA", "AssA", "MOTA", "IDF1", "IDSW")
    }
    (result,) = model.predict(np.zeros((SIZE, SIZE, 3), np.uint8), conf=1e-6, imgsz=SIZE, verbose=False)
    assert len(result.next_boxes) == len(result.boxes)


@pytest.mark.parametrize(
    "settings",
    [
        {"multi_scale": 0.5, "imgsz": 96},
        {"mosaic": 1.0, "mixup": 0.5, "cutmix": 0.5, "copy_paste": 0.5, "degrees": 20.0},
        {"mosaic": 0.0},
        {"single_cls": True},
        {"rect": True},
        {"batch": 3},
        {"batch": 1, "imgsz": 2 * SIZE},
    ],
    ids=str,
)
def test_settings_of_the_host(
    settings: dict[str, Any], world: Path, tiny: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    losses = epoch(ready(tiny, world, tmp_path, **settings))
    assert np.isfinite(list(losses.values())).all()
    assert losses["reid_loss"] > 0
    assert losses["next_loss"] > 0
    odd = settings.get("batch", 4) % 2 == 1
    assert any("for identity training; use an even one" in message for message in caplog.messages) is odd


def test_one_person_alone_has_nobody_to_be_told_from(tiny: Path, tmp_path: Path) -> None:
    data = write_world(tmp_path / "data", figures=(1, 1), train="images/train/seq0001")
    losses = epoch(ready(tiny, data, tmp_path, mosaic=0.0))
    assert losses["reid_loss"] == 0
    assert losses["next_loss"] > 0


# ---- interruption --------------------------------------------------------------------------------------------------


def test_a_resumed_run_goes_on_with_the_pairs_of_its_epoch(world: Path, tiny: Path, tmp_path: Path) -> None:
    loader = ready(tiny, world, tmp_path / "whole").train_loader
    expected = [list(batch["im_file"]) for _ in range(2) for batch in loader]
    last = interrupted(tiny, world, tmp_path / "run", val=False)
    model = MultiTaskYOLO(last)
    seen = files_of_epochs(model)
    model.train(resume=True)
    assert len(expected) == 4
    assert expected[2:] != expected[:2]
    assert seen == expected[2:]
    assert [row["epoch"] for row in rows(tmp_path / "run")] == [1, 2]


# ---- freeze=trunk --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a multitask checkpoint with random weights: two classes, one of them with keypoints, every branch."""
    folder = tmp_path_factory.mktemp("finished")
    model = MultiTaskYOLO(write_model(folder / "all-multitask.yaml", nc=2))
    randomise(model.model)
    model.model.names = {0: "person", 1: "ball"}
    model.model.kpt_names, model.model.kpt_classes, model.model.kpt_oks_sigmas = {0: POINTS}, [0], [0.1] * 17
    model.save(folder / "finished.pt")
    return folder / "finished.pt"


def assert_only_identities_learned(source: Path, saved: Path) -> None:
    """Check that two checkpoints differ in the track branch alone, bit for bit, in weights and in outputs."""
    before, after = host.load_network(source), host.load_network(saved)
    old, new = before.state_dict(), after.state_dict()
    others = {k for k in old if not k.startswith(TRACK)}
    assert {k for k in new if not k.startswith(TRACK)} == others
    assert [k for k in others if not torch.equal(old[k], new[k])] == []
    picture = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        (expected, old_raw), (found, new_raw) = before.eval()(picture), after.eval()(picture)
    shared = set(old_raw) - {"appearance", "next", "feats"}
    assert {"boxes", "scores", "kpts", "mask_coefficient", "proto"} == shared
    assert all(torch.equal(old_raw[k], new_raw[k]) for k in shared)
    stop = after.head.layout.mask.stop  # with two classes a row is as long as after NMS
    assert torch.equal(expected[0][:, :stop], found[0][:, :stop])
    assert torch.equal(expected[1], found[1])


FREEZE: dict[str, Any] = {
    **{"freeze": "trunk", "epochs": 2, "batch": 4, "nbs": 4, "optimizer": "SGD", "lr0": 0.1, "warmup_epochs": 0.0}
}


@pytest.fixture(scope="module")
def frozen(finished: Path, world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a training of the track branch alone, on data with one of the two classes and no points."""
    folder = tmp_path_factory.mktemp("frozen") / "run"
    train(finished, world, folder, **FREEZE)
    return folder


@pytest.mark.parametrize("name", ["best", "last"])
def test_the_trunk_stays_bit_for_bit(name: str, frozen: Path, finished: Path) -> None:
    saved = frozen / "weights" / f"{name}.pt"
    assert_only_identities_learned(finished, saved)
    old, new = (host.load_network(f).head.branches["track"].state_dict() for f in (finished, saved))
    assert [k for k, v in old.items() if v.is_floating_point() and torch.equal(v, new[k])] == []


def test_the_finished_model_keeps_what_the_data_does_not_have(frozen: Path, tmp_path: Path) -> None:
    model = MultiTaskYOLO(frozen / "weights" / "best.pt")
    network = model.model
    assert network.tasks == ("detect", "segment", "pose", "track")
    assert model.names == {0: "person", 1: "ball"}
    assert (network.kpt_names, network.kpt_classes) == ({0: POINTS}, [0])
    assert (network.kpt_oks_sigmas, network.kpt_shape) == ([0.1] * 17, [17, 3])
    (result,) = model.predict(np.zeros((SIZE, SIZE, 3), np.uint8), conf=1e-6, imgsz=SIZE, verbose=False)
    assert len(result.boxes) == len(result.keypoints) == len(result.masks) == len(result.embeddings) > 0


def test_a_frozen_run_says_what_it_does(frozen: Path, world: Path) -> None:
    saved = yaml.safe_load((frozen / "args.yaml").read_text())
    assert (saved["freeze"], saved["tasks"]) == ("trunk", ["detect", "track"])
    table = rows(frozen)
    assert_finite(table)
    assert {k.removeprefix("train/") for k in table[0] if k.startswith("train/")} == {
        *("box_loss", "cls_loss", "dfl_loss"),
        *("reid_loss", "next_loss"),
    }
    assert {k[-2] for k in table[0] if k.startswith("metrics/")} == {"B", "T"}
    assert table[1]["train/reid_loss"] != table[0]["train/reid_loss"] > 0


def test_only_the_branch_learns(finished: Path, world: Path, tmp_path: Path) -> None:
    trainer = ready(finished, world, tmp_path, **FREEZE)
    learning = {n for n, p in trainer.model.named_parameters() if p.requires_grad}
    assert learning == {n for n, _ in trainer.model.named_parameters() if n.startswith(TRACK)}
    assert trainer.args.freeze == "trunk"
    assert trainer.train_loader.sampler.share == 1, "nothing else learns from variety"
    trainer._model_train()
    norms = {n: m.training for n, m in trainer.model.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}
    assert all(training == n.startswith(TRACK) for n, training in norms.items())


def stock_seg(folder: Path) -> Path:
    """Write a stock segmentation checkpoint of the tiny trunk, with random weights."""
    config = {**yaml_model_load("yolov8n-seg.yaml"), "scales": tiny_yaml()["scales"]}
    stock = SegmentationModel(config, nc=2, verbose=False)
    randomise(stock)
    stock.names = {0: "person", 1: "ball"}
    torch.save({"model": stock.half(), "train_args": {}}, folder / "seg.pt")
    return folder / "seg.pt"


def test_a_stock_checkpoint_gets_identities(world: Path, tmp_path: Path) -> None:
    seg = stock_seg(tmp_path)
    model = MultiTaskYOLO(write_model(tmp_path / "tiny-multitask.yaml"))
    train(model, world, tmp_path / "run", **{**FREEZE, "epochs": 1}, pretrained=[str(seg)])
    saved = MultiTaskYOLO(tmp_path / "run" / "weights" / "best.pt")
    assert saved.model.tasks == ("detect", "segment", "track")
    assert saved.names == {0: "person", 1: "ball"}
    stock = host.load_network(seg).eval()
    picture = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        (expected, _), (found, _) = stock(picture), saved.model.float().eval()(picture)
    assert torch.equal(found[0][:, : expected[0].shape[1]], expected[0])
    assert torch.equal(found[1], expected[1])


def test_a_frozen_run_can_be_resumed(finished: Path, world: Path, tmp_path: Path) -> None:
    last = interrupted(finished, world, tmp_path / "run", **FREEZE, val=False)
    assert_only_identities_learned(finished, last)
    model = MultiTaskYOLO(last)
    model.train(resume=True)
    assert [row["epoch"] for row in rows(tmp_path / "run")] == [1, 2]
    assert_only_identities_learned(finished, last)
    assert model.model.tasks == ("detect", "segment", "pose", "track")
    assert model.model.kpt_names == {0: POINTS}


def test_a_switched_off_branch_is_left_out_of_the_finished_model(finished: Path, world: Path, tmp_path: Path) -> None:
    trainer = ready(finished, world, tmp_path, **FREEZE, segment=False)
    assert trainer.model.tasks == ("detect", "pose", "track")


def test_the_best_checkpoint_is_that_of_the_best_embedding(
    frozen: Path, finished: Path, stills: Path, tmp_path: Path
) -> None:
    measured = torch.load(frozen / "weights" / "last.pt", weights_only=False)["train_metrics"]
    assert measured["fitness"] == pytest.approx(measured["metrics/AssA(T)"])
    train(finished, stills, tmp_path / "run", freeze="trunk", track=True)
    measured = torch.load(tmp_path / "run" / "weights" / "last.pt", weights_only=False)["train_metrics"]
    assert measured["fitness"] == pytest.approx(1 / (1 + measured["val/reid_loss"]), rel=1e-4)


@pytest.mark.parametrize("freeze", ["head", "", "22"])
def test_an_unknown_word_is_refused(freeze: str, finished: Path, world: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"freeze='{freeze}': expected 'trunk' .* a number of layers, or a list"):
        train(finished, world, tmp_path / "run", freeze=freeze)


def test_freezing_needs_weights_and_the_branch(finished: Path, tiny: Path, world: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"freeze=trunk .* found no trained weights for model '.*tiny-multitask\.yaml'"
    ):
        train(tiny, world, tmp_path / "run", freeze="trunk")
    with pytest.raises(ValueError, match="freeze=trunk trains the track branch .* found track=False"):
        train(finished, world, tmp_path / "run", freeze="trunk", track=False)


def test_freezing_keeps_the_classes(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = boxes_only(tmp_path / "data", ids=True, names={0: "pedestrian"})
    reason = r"keeps the model's classes, but data '.*' has \{0: 'pedestrian'\}, where the model has \{0: 'person'\}"
    with pytest.raises(ValueError, match=reason):
        train(finished, data, tmp_path / "run", freeze="trunk")
    argv = [
        "train",
        f"model={finished}",
        f"data={data}",
        f"project={tmp_path}",
        "freeze=trunk",
        "imgsz=64",
        "device=cpu",
    ]
    assert app.main(argv) == 1
    assert "Give the classes of the data the model's numbers and names" in capsys.readouterr().err
