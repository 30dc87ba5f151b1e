"""Training end to end on a handful of tiny pictures: what is built, logged, drawn and saved."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from support.models import randomise
from support.training import (
    RUN,
    SIZE,
    assert_finite,
    change_yaml,
    label_files,
    random_model,
    relabel,
    rows,
    train,
    write_model,
    write_world,
)
from ultralytics import YOLO
from ultralytics.nn.tasks import load_checkpoint
from ultralytics.utils import DEFAULT_CFG_DICT

from yolo_multitask import MultiTaskYOLO
from yolo_multitask.cli import app
from yolo_multitask.data.labels import LabelSpec, format_line, parse_line
from yolo_multitask.engine.trainer import MultiTaskTrainer
from yolo_multitask.tasks import SPECS

DETECT = {"box_loss", "cls_loss", "dfl_loss"}
TRACK = {"reid_loss", "next_loss"}
GAINS = {"reid": 2.0, "motion": 2.0}
LOSSES = {*DETECT, "seg_loss", "pose_loss", "kobj_loss", *TRACK}
VALUES = ("precision", "recall", "mAP50", "mAP50-95")
TRACK_VALUES = ("HOTA", "DetA", "AssA", "MOTA", "IDF1", "IDSW")
NO_KEYPOINTS: dict[str, Any] = {
    **dict.fromkeys(("kpt_shape", "flip_idx", "kpt_names", "kpt_classes"), ...),
    "labels": {"polygons": True, "ids": True},
}
SPEC = LabelSpec(nc=2, kpt_shape=(17, 3), polygons=True, ids=True)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data set with everything labelled: two persons with keypoints in every picture, balls without."""
    return write_world(tmp_path_factory.mktemp("world") / "data", figures=(2, 2), objects=1)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the YAML of a tiny model."""
    return write_model(tmp_path_factory.mktemp("tiny") / "tiny-multitask.yaml")


@pytest.fixture(scope="module")
def run(world: Path, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished training of two epochs, with plots."""
    folder = tmp_path_factory.mktemp("runs") / "train"
    train(tiny, world, folder, epochs=2, plots=True)
    return folder


@pytest.fixture
def boxes_and_polygons(tmp_path: Path) -> Path:
    """Return a data set without keypoints."""
    data = write_world(tmp_path / "polygons", **NO_KEYPOINTS)
    for split in ("train", "val"):
        relabel(label_files(data, split), LabelSpec.from_data(_read(data)), keypoints=None)
    return data


def _read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(file.read_text())
    return found


def metric_keys(letters: str) -> set[str]:
    """Return the metric columns of the tasks with these letters."""
    return {f"metrics/{value}({letter})" for letter in letters for value in (TRACK_VALUES if letter == "T" else VALUES)}


def test_every_loss_and_metric_is_logged(run: Path) -> None:
    table = rows(run)
    assert [row["epoch"] for row in table] == [1, 2]
    expected = {"epoch", "time", "lr/pg0", "lr/pg1", "lr/pg2"} | metric_keys("BMPT")
    assert set(table[0]) == expected | {f"{split}/{loss}" for split in ("train", "val") for loss in LOSSES}
    assert_finite(table)
    assert all(row[f"{split}/{loss}"] > 0 for row in table for split in ("train", "val") for loss in LOSSES)
    assert {loss for spec in SPECS.values() for loss in spec.losses} == LOSSES


def test_every_picture_is_drawn(run: Path) -> None:
    curves = {f"{task}{kind}_curve.png" for task in ("Box", "Mask", "Pose") for kind in ("PR", "F1", "P", "R")}
    pictures = {"labels.jpg", "train_batch0.jpg", "val_batch0_labels.jpg", "val_batch0_pred.jpg", "results.png"}
    pictures |= {"confusion_matrix.png", "confusion_matrix_normalized.png"}
    found = {p.name: p.stat().st_size for p in run.iterdir() if p.is_file()}
    assert curves | pictures <= set(found)
    assert all(size > 0 for size in found.values())


def test_the_checkpoints_are_complete_models(run: Path, world: Path) -> None:
    assert sorted(p.name for p in (run / "weights").iterdir()) == ["best.pt", "last.pt"]
    for name in ("best", "last"):
        model = MultiTaskYOLO(run / "weights" / f"{name}.pt")
        assert model.task == "multitask"
        assert model.model.tasks == ("detect", "segment", "pose", "track")
        assert model.names == {0: "person", 1: "ball"}
        assert model.model.kpt_shape == [17, 3]
        assert model.model.kpt_classes == [0]
        (result,) = model.predict(np.zeros((SIZE, SIZE, 3), np.uint8), verbose=False, conf=0.0001)
        assert len(result.boxes) == len(result.keypoints) == len(result.masks if result.boxes else [])
        assert len(result.boxes) == len(result.embeddings) == len(result.next_boxes)
    assert _read(run / "args.yaml")["task"] == "multitask"
    metrics = MultiTaskYOLO(run / "weights" / "best.pt").val(**{**RUN, "project": str(run), "name": "val"})
    assert set(metrics.results_dict) == {*metric_keys("BMPT"), "fitness"}
    assert metrics.box.maps.shape == metrics.seg.maps.shape == metrics.pose.maps.shape == (2,)


def test_the_object_is_the_trained_model_afterwards(world: Path, tiny: Path, tmp_path: Path) -> None:
    model = train(tiny, world, tmp_path / "run", pose=False)
    assert model.model.tasks == ("detect", "segment", "track")
    assert model.ckpt_path is None or Path(model.ckpt_path).suffix == ".pt"
    assert set(model.metrics.results_dict) == {*metric_keys("BMT"), "fitness"}
    results = model.predict(np.zeros((SIZE, SIZE, 3), np.uint8), verbose=False)
    assert results[0].keypoints is None


@pytest.mark.parametrize(
    ("switches", "tasks", "losses"),
    [
        ({"segment": False}, ("detect", "pose", "track"), LOSSES - {"seg_loss"}),
        ({"segment": False, "pose": False, "track": False}, ("detect",), DETECT),
        ({"segment": False, "pose": False}, ("detect", "track"), DETECT | TRACK),
        ({"segment": True, "pose": True, "track": False}, ("detect", "segment", "pose"), LOSSES - TRACK),
        ({"track": True}, ("detect", "segment", "pose", "track"), LOSSES),
    ],
)
def test_switches_choose_the_branches(
    switches: dict[str, bool], tasks: tuple[str, ...], losses: set[str], world: Path, tiny: Path, tmp_path: Path
) -> None:
    model = train(tiny, world, tmp_path / "run", **switches)
    assert model.model.tasks == tasks
    assert set(model.model.head.branches) == set(tasks) - {"detect"}
    table = rows(tmp_path / "run")
    assert {k.removeprefix("train/") for k in table[0] if k.startswith("train/")} == losses
    letters = "".join(SPECS[t].letter for t in tasks)
    assert {k for k in table[0] if k.startswith("metrics/")} == metric_keys(letters)


def test_unset_follows_the_labels(boxes_and_polygons: Path, tiny: Path, tmp_path: Path) -> None:
    model = train(tiny, boxes_and_polygons, tmp_path / "run")
    assert model.model.tasks == ("detect", "segment", "track")
    assert "train/pose_loss" not in rows(tmp_path / "run")[0]


def test_a_switch_that_cannot_be_met_names_both_sides(
    boxes_and_polygons: Path, world: Path, tiny: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"'pose=True' was asked for, but data '.*data\.yaml' has only: detect, segm"):
        train(tiny, boxes_and_polygons, tmp_path / "run", pose=True)
    for gain in (20.0, 12.0):
        with pytest.raises(ValueError, match=r"'pose=True' was asked for, but data .* has only"):
            train(tiny, boxes_and_polygons, tmp_path / "run", pose=gain)
    no_pose = write_model(tmp_path / "no-pose.yaml", tasks=["segment"])
    with pytest.raises(ValueError, match=r"'pose=True' was asked for, but model '.*no-pose\.yaml' has only: detect, s"):
        train(no_pose, world, tmp_path / "run", pose=True)


def test_gains_scale_their_losses(world: Path, tiny: Path, tmp_path: Path) -> None:
    """At the first step the weights are the same, so a loss is proportional to its gain."""
    first: dict[str, dict[str, float]] = {}
    for name, gains in {"default": {}, "twice": {"pose": 24.0, "seg": 15.0, "kobj": 2.0, **GAINS}}.items():
        model = MultiTaskYOLO(tiny)
        seen = first.setdefault(name, {})
        model.add_callback("on_train_batch_end", _keep_first(seen))
        train(model, world, tmp_path / name, val=False, **gains)
        saved = _read(tmp_path / name / "args.yaml")
        defaults = {"pose": 12.0, "seg": 7.5, "kobj": 1.0, "reid": 1.0, "motion": 1.0}
        assert {k: saved[k] for k in defaults} == {**defaults, **gains}
    for loss, value in first["default"].items():
        factor = 1 if loss in DETECT else 2
        assert value > 0, loss
        assert first["twice"][loss] == pytest.approx(factor * value, rel=1e-4), loss


def _keep_first(seen: dict[str, float]) -> Any:
    def callback(trainer: Any) -> None:
        if not seen:
            seen.update({k: float(v) for k, v in trainer.loss_items.items()})

    return callback


def test_freeze_keeps_weights(world: Path, tmp_path: Path) -> None:
    model = random_model(tmp_path, nc=2, kpt_shape=(17, 3))
    model.ckpt = {"model": model.model}  # as after `load`: training starts from these weights
    before = {k: v.clone() for k, v in model.model.state_dict().items()}
    frozen: list[str] = []
    model.add_callback(
        "on_train_start", lambda t: frozen.extend(n for n, p in t.model.named_parameters() if not p.requires_grad)
    )
    model.add_callback("on_train_end", lambda t: before.update(_changed(before, t.model.state_dict())))
    train(model, world, tmp_path / "run", freeze=3, optimizer="SGD", lr0=0.1, warmup_epochs=0.0)
    assert {n.split(".")[1] for n in frozen if ".dfl" not in n} == {"0", "1", "2"}
    changed = {k for k, v in before.items() if v is True}
    assert not {k for k in changed if k.split(".")[1] in {"0", "1", "2"}}
    assert any(k.startswith("model.22.branches.pose") for k in changed)
    assert any(k.startswith("model.22.branches.segment") for k in changed)


def _changed(before: dict[str, Any], after: dict[str, torch.Tensor]) -> dict[str, Any]:
    return {k: not torch.equal(before[k], v) for k, v in after.items() if v.is_floating_point()}


def test_multi_scale_changes_the_size(world: Path, tiny: Path, tmp_path: Path) -> None:
    sizes: list[tuple[int, ...]] = []
    model = MultiTaskYOLO(tiny)
    model.add_callback(
        "on_train_start",
        lambda t: setattr(t, "preprocess_batch", _watch(t.preprocess_batch, sizes)),
    )
    train(model, world, tmp_path / "run", multi_scale=0.5, imgsz=96, batch=2, epochs=2, val=False)
    assert len(set(sizes)) > 1
    assert all(side % 32 == 0 for size in sizes for side in size)
    assert_finite(rows(tmp_path / "run"))


def _watch(preprocess: Any, sizes: list[tuple[int, ...]]) -> Any:
    def watched(batch: dict[str, Any]) -> dict[str, Any]:
        out: dict[str, Any] = preprocess(batch)
        sizes.append(tuple(out["img"].shape[2:]))
        return out

    return watched


def test_all_classes_in_one(world: Path, tiny: Path, tmp_path: Path) -> None:
    model = train(tiny, world, tmp_path / "run", single_cls=True)
    assert model.names == {0: "item"}
    assert model.model.tasks == ("detect", "segment", "pose", "track")
    assert_finite(rows(tmp_path / "run"))


def test_all_classes_in_one_keep_the_keypoints_of_a_later_class(tiny: Path, tmp_path: Path) -> None:
    names = {0: "ball", 1: "person"}
    data = write_world(tmp_path / "data", objects=1)
    points = _read(data)["kpt_names"][0]
    change_yaml(data, names=names, kpt_names={1: points})
    for file in [*label_files(data), *label_files(data, "val")]:
        found = [parse_line(line, SPEC) for line in file.read_text().splitlines()]
        file.write_text("".join(f"{format_line(replace(i, cls=1 - i.cls), SPEC)}\n" for i in found))
    model = train(tiny, data, tmp_path / "run", single_cls=True)
    assert (model.model.kpt_classes, model.model.kpt_names) == ([0], {0: points})
    row = rows(tmp_path / "run")[0]
    assert row["train/pose_loss"] > 0
    assert row["val/pose_loss"] > 0


def test_chosen_classes_only(world: Path, tiny: Path, tmp_path: Path) -> None:
    seen: set[float] = set()
    model = MultiTaskYOLO(tiny)
    model.add_callback(
        "on_train_start",
        lambda t: seen.update(c for label in t.train_loader.dataset.labels for c in label["cls"][:, 0].tolist()),
    )
    train(model, world, tmp_path / "run", classes=[1])
    assert seen == {1.0}
    row = rows(tmp_path / "run")[0]
    assert row["train/pose_loss"] == row["train/kobj_loss"] == 0, "balls have no keypoints"
    assert row["train/seg_loss"] > 0
    assert_finite([row])


def test_class_weights_come_from_the_class_column(world: Path, tiny: Path, tmp_path: Path) -> None:
    weights: list[torch.Tensor] = []
    counts: list[Any] = []
    model = MultiTaskYOLO(tiny)
    model.add_callback("on_train_start", lambda t: weights.append(t.model.class_weights))
    model.add_callback("on_train_start", lambda t: counts.append(t.get_class_counts()))
    train(model, world, tmp_path / "run", cls_pw=1.0)
    labels = [line.split() for file in label_files(world) for line in file.read_text().splitlines()]
    expected = [sum(int(f[0]) == c and "!" not in f for f in labels) for c in (0, 1)]
    assert counts[0].tolist() == expected
    assert min(expected) > 0
    inverse = np.array([sum(expected) / c for c in expected])
    np.testing.assert_allclose(weights[0].numpy() / weights[0].numpy()[0], inverse / inverse[0], rtol=1e-5)


def test_averages_leave_out_batches_without_labels(tiny: Path, tmp_path: Path) -> None:
    """One training picture has keypoints, three have polygons: the logged averages are over their batches alone."""
    data = write_world(tmp_path / "data")
    change_yaml(data, val="images/train")
    files = label_files(data)
    relabel(files[1:3], SPEC, keypoints=None)
    relabel(files[3:], SPEC, keypoints=None, polygon=None)
    seen: list[tuple[dict[str, float], dict[str, int]]] = []
    averages: list[dict[str, float]] = []
    model = MultiTaskYOLO(tiny)

    def watch(trainer: Any) -> None:
        items = trainer.loss_items
        seen.append(({k: float(v) for k, v in items.items()}, dict(items.counts)))
        averages.append({k: float(v) for k, v in trainer.tloss.items()})

    model.add_callback("on_train_batch_end", watch)
    train(model, data, tmp_path / "run", batch=1, imgsz=2 * SIZE, mosaic=0.0, scale=0.0, translate=0.0)
    assert len(seen) == len(files) == 8
    (row,) = rows(tmp_path / "run")
    for loss in LOSSES:
        used = [values[loss] for values, counts in seen if counts.get(loss, 1)]
        expected = {"pose_loss": 1, "kobj_loss": 1, "seg_loss": 3, "reid_loss": 0, "next_loss": 6}
        assert len(used) == expected.get(loss, 8), loss
        assert row[f"train/{loss}"] == pytest.approx(np.mean(used) if used else 0, rel=1e-4), loss
        assert (row[f"val/{loss}"] > 0) == bool(used)
        for i, average in enumerate(averages):
            so_far = [values[loss] for values, counts in seen[: i + 1] if counts.get(loss, 1)]
            assert average[loss] == pytest.approx(np.mean(so_far) if so_far else 0, rel=1e-4), loss
    assert_finite([row])


def test_half_of_the_instances_labelled(world: Path, tiny: Path, tmp_path: Path) -> None:
    data = write_world(tmp_path / "data")
    keep = cycle(({"keypoints": None}, {"polygon": None}))
    for split in ("train", "val"):
        for file in label_files(data, split):
            found = [parse_line(line, SPEC) for line in file.read_text().splitlines()]
            kept = [replace(instance, **next(keep)) for instance in found]
            file.write_text("".join(f"{format_line(instance, SPEC)}\n" for instance in kept))
    train(tiny, data, tmp_path / "run", epochs=2)
    table = rows(tmp_path / "run")
    assert_finite(table)
    assert all(row[f"train/{loss}"] > 0 for row in table for loss in ("seg_loss", "pose_loss"))


def test_several_pretrained_checkpoints(world: Path, tiny: Path, tmp_path: Path) -> None:
    """Trunk, box and mask weights come from the first checkpoint, keypoint weights from the second."""
    sources = []
    for name, task, seed in (("a", "segment", 1), ("b", "pose", 2)):
        model = MultiTaskYOLO(write_model(tmp_path / f"{name}.yaml", tasks=[task], nc=2))
        randomise(model.model, seed)
        model.save(tmp_path / f"{name}.pt")
        sources.append(model.model.half().float())
    start: dict[str, torch.Tensor] = {}
    watch = {"on_pretrain_routine_end": lambda t: start.update({k: v.clone() for k, v in t.model.state_dict().items()})}
    both = [str(tmp_path / "a.pt"), str(tmp_path / "b.pt")]
    for i, model in enumerate((MultiTaskYOLO(tiny), MultiTaskYOLO(tiny).load(both))):
        for event, function in watch.items():
            model.add_callback(event, function)
        train(model, world, tmp_path / f"run{i}", val=False, **({} if i else {"pretrained": both}))
        _compare(start, sources[0].state_dict(), ("model.0.", "model.22.cv2.", "model.22.branches.segment."))
        _compare(start, sources[1].state_dict(), ("model.22.branches.pose.",))


def _compare(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], parts: tuple[str, ...]) -> None:
    for part in parts:
        keys = [k for k in expected if k.startswith(part) and expected[k].is_floating_point()]
        assert keys
        for key in keys:
            torch.testing.assert_close(found[key], expected[key], rtol=1e-3, atol=1e-3, msg=key)


def test_one_pretrained_checkpoint_and_none(run: Path, world: Path, tiny: Path, tmp_path: Path) -> None:
    weights = load_checkpoint(str(run / "weights" / "last.pt"))[0].state_dict()
    start: dict[str, torch.Tensor] = {}
    key = "model.22.branches.pose.convs.0.2.weight"
    for name, given, same in (("yes", str(run / "weights" / "last.pt"), True), ("no", False, False)):
        model = MultiTaskYOLO(tiny if same else run / "weights" / "last.pt")
        model.add_callback("on_pretrain_routine_end", lambda t: start.update({key: t.model.state_dict()[key].clone()}))
        train(model, world, tmp_path / name, val=False, pretrained=given)
        assert torch.equal(start[key], weights[key]) is same


def test_training_goes_on_from_a_checkpoint_with_other_tasks(run: Path, world: Path, tmp_path: Path) -> None:
    model = train(MultiTaskYOLO(run / "weights" / "last.pt"), world, tmp_path / "run", segment=False)
    assert model.model.tasks == ("detect", "pose", "track")


def test_stock_pose_labels_train_as_they_are(tiny: Path, tmp_path: Path) -> None:
    data = write_world(tmp_path / "data", labels=..., kpt_classes=...)
    spec = LabelSpec.from_data(_read(data))
    assert spec.format == "pose"
    for split in ("train", "val"):
        relabel(label_files(data, split), spec, polygon=None, id=-1)
    model = train(tiny, data, tmp_path / "run")
    assert model.model.tasks == ("detect", "pose")
    assert rows(tmp_path / "run")[0]["train/pose_loss"] > 0


def stock_segment_set(folder: Path, form: str = "segment") -> Path:
    """Write a data set of polygon lines, of which its YAML says nothing."""
    keys: dict[str, Any] = {**NO_KEYPOINTS, "labels": ...}
    data = write_world(folder, **keys)
    for split in ("train", "val"):
        spec = LabelSpec(nc=1, kpt_shape=None, polygons=True, format=form)
        relabel(label_files(data, split), spec, keypoints=None, id=-1)
    return data


@pytest.mark.parametrize("said_by", ["yaml", "labels", "task"])
def test_stock_segment_labels_train_as_they_are(said_by: str, tiny: Path, tmp_path: Path) -> None:
    data = stock_segment_set(tmp_path / "data", "multitask" if said_by == "labels" else "segment")
    if said_by == "yaml":
        change_yaml(data, task="segment")
    given: dict[str, Any] = {"labels": {"labels": {"polygons": True}}, "task": {"task": "segment"}}.get(said_by, {})
    model = train(tiny, data, tmp_path / "run", **given)
    assert model.task == "multitask"
    assert model.model.tasks == ("detect", "segment")
    assert rows(tmp_path / "run")[0]["train/seg_loss"] > 0
    settings = {**RUN, "project": str(tmp_path), "name": "val"}
    assert set(model.val(**settings).results_dict) == {*metric_keys("BM"), "fitness"}, "read as in the training"
    loaded = MultiTaskYOLO(tmp_path / "run" / "weights" / "best.pt")
    assert "metrics/mAP50(M)" in loaded.val(data=str(data), **settings, **given).results_dict


def test_the_asked_label_task_reaches_every_process(tiny: Path, tmp_path: Path) -> None:
    """The host starts a DDP worker with all arguments of the first process; none of them is a switch by then."""
    data = stock_segment_set(tmp_path / "data")
    typed = {**RUN, "data": str(data), "model": str(tiny), "project": str(tmp_path), "name": "run", "task": "segment"}
    first = MultiTaskTrainer(overrides=typed)
    worker = MultiTaskTrainer(cfg={**DEFAULT_CFG_DICT, "save_dir": ""}, overrides=vars(first.args))
    assert worker.data["label_spec"] == first.data["label_spec"]
    assert worker.data["label_spec"].format == "segment"
    assert (worker.args.task, worker.args.label_task, worker.args.switches) == ("multitask", "segment", {})


def test_stock_segment_labels_without_a_word_say_what_to_do(tiny: Path, tmp_path: Path) -> None:
    data = stock_segment_set(tmp_path / "data")
    advice = "`task: segment` in the data YAML or pass task=segment"
    with pytest.raises(ValueError, match=f"has only: detect. Leave out 'segment=True', or say {advice}"):
        train(tiny, data, tmp_path / "run", segment=True)
    with pytest.raises(ValueError, match=r"stock polygon lines `task: segment` \(or pass task=segment\)"):
        train(tiny, data, tmp_path / "run")
    model = random_model(tmp_path, nc=1)
    with pytest.raises(ValueError, match=f"hold only: detect. Leave out 'segment=True', or say {advice}"):
        model.val(data=str(data), segment=True, **RUN)


def test_the_arguments_of_a_run_repeat_it(world: Path, tiny: Path, tmp_path: Path) -> None:
    train(tiny, world, tmp_path / "run", pose=False)
    saved = tmp_path / "run" / "args.yaml"
    assert _read(saved)["tasks"] == ["detect", "segment", "track"]
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    folder = {"project": str(tmp_path), "name": "again", "exist_ok": True}
    model = MultiTaskYOLO(tiny)
    model.train(cfg=str(saved), **folder)
    assert model.model.tasks == ("detect", "segment", "track")
    typed = [f"{k}={v}" for k, v in {**folder, "segment": False, "pose": 12.0, "track": False}.items()]
    assert app.main(["train", f"cfg={saved}", *typed]) == 0
    assert _read(tmp_path / "again" / "args.yaml")["tasks"] == ["detect", "pose"], "what is typed goes before the file"
    assert {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()} == before


def test_keypoints_without_visibility(tiny: Path, tmp_path: Path) -> None:
    data = write_world(tmp_path / "data", kpt_shape=[17, 2])
    for split in ("train", "val"):
        relabel(label_files(data, split), LabelSpec(nc=1, kpt_shape=(17, 2), polygons=True, ids=True))
    model = train(tiny, data, tmp_path / "run")
    assert model.model.kpt_shape == [17, 2]
    row = rows(tmp_path / "run")[0]
    assert row["train/pose_loss"] > 0
    assert row["train/kobj_loss"] == 0
    assert_finite([row])
    (result,) = model.predict(np.zeros((SIZE, SIZE, 3), np.uint8), conf=1e-6, verbose=False)
    assert result.keypoints.data.shape[1:] == (17, 2)


def test_patience_stops_early(world: Path, tiny: Path, tmp_path: Path) -> None:
    model = MultiTaskYOLO(tiny)
    fitness = iter((0.5, 0.4, 0.3, 0.2))

    def scripted(trainer: Any) -> None:
        trainer.best_fitness = 0.5
        trainer.validate = lambda: (dict.fromkeys(trainer.validator.metrics.keys, 0.0), next(fitness))

    model.add_callback("on_train_start", scripted)
    train(model, world, tmp_path / "run", epochs=9, patience=2)
    assert [row["epoch"] for row in rows(tmp_path / "run")] == [1, 2, 3]


def test_callbacks_are_called_in_order(world: Path, tiny: Path, tmp_path: Path) -> None:
    events = (
        *("on_pretrain_routine_start", "on_pretrain_routine_end", "on_train_start", "on_train_epoch_start"),
        *("on_train_batch_start", "on_train_batch_end", "on_train_epoch_end", "on_val_start", "on_val_end"),
        *("on_model_save", "on_fit_epoch_end", "on_train_end", "teardown"),
    )
    calls: list[str] = []
    model = MultiTaskYOLO(tiny)
    for event in events:
        model.add_callback(event, lambda _, event=event: calls.append(event))
    train(model, world, tmp_path / "run", batch=8)
    assert list(dict.fromkeys(calls)) == list(events)
    assert calls.count("on_train_batch_end") == 1
    assert calls.count("on_val_end") == 2, "after the epoch, and of the best checkpoint"


def test_automatic_batch_size(world: Path, tiny: Path, tmp_path: Path) -> None:
    sizes: list[int] = []
    model = MultiTaskYOLO(tiny)
    model.add_callback("on_train_start", lambda t: sizes.append(t.batch_size))
    train(model, world, tmp_path / "run", batch=-1, val=False)
    assert sizes[0] >= 1
    assert len(rows(tmp_path / "run")) == 1


def test_a_stock_yolo_object_opens_the_checkpoint(run: Path) -> None:
    """The host unpickles our classes, which registers them; it then names the task that it has no class for."""
    model = YOLO(run / "weights" / "best.pt")
    assert model.task == "multitask"
