"""`extend`: a branch is added and learns, and nothing else changes by a bit."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from support.models import randomise, tiny_yaml
from support.training import RUN, SIZE, assert_finite, label_files, relabel, rows, write_model, write_world
from ultralytics.nn.tasks import DetectionModel, SegmentationModel, yaml_model_load

from yolo_multitask import MultiTaskYOLO, host
from yolo_multitask.cli import app, run
from yolo_multitask.data.labels import LabelSpec
from yolo_multitask.engine.views import View, ViewBatch, ViewLoss, ViewStore, look
from yolo_multitask.losses import MultiTaskLoss
from yolo_multitask.losses.detect import DetectLoss
from yolo_multitask.nn.stored import StoredLevel, StoredSites

NAMES = {0: "person", 1: "ball"}
FAST: dict[str, Any] = {**RUN, "epochs": 2, "views": 2, "warmup_epochs": 0.0, "project": "extended"}


def stock(folder: Path, name: str, network: Any) -> Path:
    """Write a stock checkpoint of the tiny trunk, with random weights."""
    model = network({**yaml_model_load(name), "scales": tiny_yaml()["scales"]}, nc=2, verbose=False)
    randomise(model)
    model.names, model.task = dict(NAMES), {"yolov8n-seg": "segment", "yolov8n": "detect"}[Path(name).stem]
    file = folder / f"{Path(name).stem}.pt"
    torch.save({"model": model.half(), "train_args": {}}, file)
    return file


@pytest.fixture(scope="module")
def seg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a stock segmentation checkpoint."""
    return stock(tmp_path_factory.mktemp("seg"), "yolov8n-seg.yaml", SegmentationModel)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a multitask checkpoint with every branch."""
    folder = tmp_path_factory.mktemp("finished")
    model = MultiTaskYOLO(write_model(folder / "all-multitask.yaml", nc=2))
    randomise(model.model)
    model.model.names = dict(NAMES)
    model.save(folder / "finished.pt")
    return folder / "finished.pt"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return pictures with everything labelled, of the first of the two classes."""
    return write_world(tmp_path_factory.mktemp("world") / "data", figures=(2, 2))


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the same pictures with boxes alone."""
    without = dict.fromkeys(("kpt_shape", "flip_idx", "kpt_names", "kpt_classes"), ...)
    data = write_world(tmp_path_factory.mktemp("boxes") / "data", figures=(2, 2), labels={}, **without)
    for split in ("train", "val"):
        spec = LabelSpec(nc=1, kpt_shape=None, polygons=False)
        relabel(label_files(data, split), spec, keypoints=None, polygon=None, id=-1)
    return data


def raw_outputs(file: Path) -> dict[str, Any]:
    """Return the decoded rows and the raw outputs of a checkpoint for a picture."""
    picture = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    network = host.load_network(file).eval()
    with torch.no_grad():
        out, raw = network(picture)
    return {**raw, "rows": out[0] if isinstance(out, tuple) else out}


def assert_only_one_branch_differs(source: Path, saved: Path, task: str) -> None:
    """Check that two multitask checkpoints have the same tensors, except for a branch, and the same other outputs."""
    old, new = (host.load_network(f).state_dict() for f in (source, saved))
    mine = f".branches.{task}."
    assert {k for k in old if mine not in k} == {k for k in new if mine not in k}
    assert [k for k in old if mine not in k and not torch.equal(old[k], new[k])] == []
    own = {"segment": ("mask_coefficient", "proto"), "pose": ("kpts",), "track": ("appearance", "next")}
    before, after = raw_outputs(source), raw_outputs(saved)
    shared = set(before) & set(after) - {"rows", "feats", "appearance", *own[task]}
    assert {"boxes", "scores"} <= shared
    assert all(torch.equal(before[k], after[k]) for k in shared)


@pytest.fixture(scope="module")
def extended(seg: Path, world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that added keypoints to the stock segmentation network."""
    folder = tmp_path_factory.mktemp("extended")
    model = MultiTaskYOLO(seg)
    assert model.task == "segment"
    model.extend("pose", data=world, **{**FAST, "project": str(folder)})
    assert model.task == "multitask"
    assert model.model.tasks == ("detect", "segment", "pose")
    return folder / "extend"


def test_a_stock_network_keeps_its_outputs(extended: Path, seg: Path) -> None:
    before, after = raw_outputs(seg), raw_outputs(extended / "weights" / "best.pt")
    for key in ("boxes", "scores", "mask_coefficient", "proto"):
        assert torch.equal(before[key], after[key]), key
    assert torch.equal(before["rows"][:, :6], after["rows"][:, :6])
    assert torch.equal(before["rows"][:, 6:], after["rows"][:, -32:])


def test_a_stock_network_keeps_its_tensors(extended: Path, seg: Path) -> None:
    old, new = host.load_network(seg).state_dict(), host.load_network(extended / "weights" / "best.pt").state_dict()
    moved = {k.replace(".cv4.", ".branches.segment.convs.").replace(".proto.", ".branches.segment.proto."): v
             for k, v in old.items()}  # fmt: skip
    assert {k for k in new if ".branches.pose." not in k} == set(moved)
    assert [k for k, v in moved.items() if not torch.equal(v, new[k])] == []


def test_the_result_is_an_ordinary_checkpoint(extended: Path) -> None:
    model = MultiTaskYOLO(extended / "weights" / "best.pt")
    assert model.names == NAMES
    assert model.model.kpt_classes == [0]
    (result,) = model.predict(np.zeros((SIZE, SIZE, 3), np.uint8), conf=1e-6, imgsz=SIZE, verbose=False)
    assert len(result.boxes) == len(result.keypoints) == len(result.masks) > 0
    saved = yaml.safe_load((extended / "args.yaml").read_text())
    assert (saved["alone"], saved["tasks"], saved["freeze"]) == ("pose", ["detect", "pose"], None)
    table = rows(extended)
    assert_finite(table)
    assert table[1]["train/pose_loss"] != table[0]["train/pose_loss"] > 0
    assert table[1]["train/box_loss"] == pytest.approx(table[0]["train/box_loss"], rel=0.2), "the same views"


def test_the_loss_of_views_is_that_of_images(seg: Path, world: Path, tmp_path: Path) -> None:
    """With BatchNorm as it is, kept views of a batch give the losses that the images give."""
    model = MultiTaskYOLO(seg)
    model.extend("pose", data=world, **{**FAST, "epochs": 1, "project": str(tmp_path), "cache": False, "val": False})
    trainer, network = model.trainer, model.trainer.model.eval()
    batch = trainer.preprocess_batch(next(iter(trainer.train_loader)))
    with torch.no_grad():
        _, expected = MultiTaskLoss(network)(network(batch["img"]), batch)
        views = look(network, "pose", DetectLoss(network), batch)
        total, found = ViewLoss(network, "pose")(None, {"views": ViewBatch.join(views)})
    assert list(found) == list(expected) == ["box_loss", "cls_loss", "dfl_loss", "pose_loss", "kobj_loss"]
    assert found.counts == expected.counts
    for key, value in expected.items():
        assert float(found[key]) == pytest.approx(float(value), rel=2e-3), key
    assert float(total.sum()) == pytest.approx(len(views) * float(found["pose_loss"] + found["kobj_loss"]))


@pytest.mark.parametrize("task", ["pose", "segment", "track"])
def test_every_branch_can_be_replaced(task: str, finished: Path, world: Path, tmp_path: Path) -> None:
    model = MultiTaskYOLO(finished)
    model.extend(task, data=world, replace=True, **{**FAST, "epochs": 1, "project": str(tmp_path)})
    saved = tmp_path / "extend" / "weights" / "best.pt"
    assert_only_one_branch_differs(finished, saved, task)
    old, new = (host.load_network(f).head.branches[task].state_dict() for f in (finished, saved))
    assert all(not torch.equal(v, new[k]) for k, v in old.items() if v.ndim > 1)
    assert model.model.tasks == ("detect", "segment", "pose", "track")


def test_a_branch_that_is_there_trains_on(finished: Path, world: Path, tmp_path: Path) -> None:
    MultiTaskYOLO(finished).train(data=world, alone="segment", **{**RUN, "project": str(tmp_path), "name": "run"})
    assert_only_one_branch_differs(finished, tmp_path / "run" / "weights" / "best.pt", "segment")


def test_memory_and_disk_give_the_same(seg: Path, world: Path, tmp_path: Path, extended: Path) -> None:
    seen: list[int] = []
    model = MultiTaskYOLO(seg)
    model.add_callback(
        "on_train_start", lambda t: seen.extend(len(list(f.iterdir())) for f in t.save_dir.glob("views-*"))
    )
    model.extend("pose", data=world, **{**FAST, "project": str(tmp_path), "cache": "disk"})
    assert len(seen) == 1
    assert seen[0] > 0
    assert list((tmp_path / "extend").glob("views-*")) == []
    a, b = (host.load_network(f / "weights" / "best.pt").state_dict() for f in (tmp_path / "extend", extended))
    assert all(torch.equal(a[k], b[k]) for k in b)


def some_view(anchors: int) -> View:
    """Return a view with so many anchors of one object."""
    patches, inside = torch.rand(anchors, 4, 5, 5).half(), torch.ones(anchors, 1, 5, 5, dtype=torch.bool)
    return View(
        sites=StoredSites({0: StoredLevel(torch.arange(anchors), patches, inside)}, anchors),
        anchors_N2=torch.rand(anchors, 2),
        strides_N1=torch.ones(anchors, 1),
        boxes_N4=torch.rand(anchors, 4),
        instance_N=torch.zeros(anchors, dtype=torch.long),
        keypoints=torch.rand(1, 5, 3),
        imgsz_2=torch.tensor([64.0, 64.0]),
        fixed={"box_loss": 1.0},
    )


def test_a_store_fills_memory_first(tmp_path: Path) -> None:
    views = [some_view(i + 1) for i in range(4)]
    store = ViewStore(tmp_path, limit=views[0].nbytes + views[1].nbytes)
    for view in views:
        store.append(view)
    assert len(list(tmp_path.rglob("*.pt"))) == 2
    assert (store.nbytes, store.bytes_on_disk) == (sum(v.nbytes for v in views[:2]), sum(v.nbytes for v in views[2:]))
    for i, view in enumerate(views):
        assert torch.equal(store[i].sites.levels[0].patches, view.sites.levels[0].patches)
    store.close()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(OSError, match=r"no room for the features of view 1 .* 10 free.* cache=False"):
        ViewStore(tmp_path, limit=0).append(some_view(1))


def test_a_batch_keeps_each_object_with_its_anchors() -> None:
    views = [some_view(2), some_view(3)]
    batch = ViewBatch.join(views)
    assert batch.assigned.instance_BA.tolist() == [[0, 0, 1, 1, 1]]
    assert torch.equal(batch.targets["keypoints"], torch.cat([view.keypoints for view in views]))
    assert batch.assigned.fg_BA.all()
    assert len(batch.sites) == 5


def test_detection_gets_masks(world: Path, tmp_path: Path) -> None:
    model = MultiTaskYOLO(stock(tmp_path, "yolov8n.yaml", DetectionModel))
    model.extend("segment", data=world, **{**FAST, "epochs": 1, "project": str(tmp_path)})
    before, after = (raw_outputs(tmp_path / f) for f in ("yolov8n.pt", "extend/weights/best.pt"))
    assert all(torch.equal(before[k], after[k]) for k in ("boxes", "scores"))
    assert model.model.tasks == ("detect", "segment")


# ---- what is refused -----------------------------------------------------------------------------------------------


def test_a_task_that_is_there_already(finished: Path, world: Path) -> None:
    with pytest.raises(ValueError, match=r"has 'pose' already \(it has detect, segment, pose, track\).*replace=True"):
        MultiTaskYOLO(finished).extend("pose", data=world)
    with pytest.raises(ValueError, match=r"ymt train model=.* alone=pose"):
        MultiTaskYOLO(finished).extend("pose", data=world)


def test_data_without_the_labels(seg: Path, boxes: Path, tmp_path: Path) -> None:
    reason = (
        r"needs data that labels keypoints, but data '.*' has labels for detect only \(the model has detect, segment"
    )
    with pytest.raises(ValueError, match=reason):
        MultiTaskYOLO(seg).extend("pose", data=boxes, **{**FAST, "project": str(tmp_path)})


def test_other_classes(seg: Path, tmp_path: Path) -> None:
    data = write_world(tmp_path / "data", names={0: "pedestrian"}, kpt_classes=["pedestrian"])
    with pytest.raises(ValueError, match=r"keeps the model's classes.*'pedestrian'.*'person'"):
        MultiTaskYOLO(seg).extend("pose", data=data, **{**FAST, "project": str(tmp_path)})


@pytest.mark.parametrize(
    ("task", "keys", "reason"),
    [
        ("boxes", {}, "one of segment, pose, track, got 'boxes'"),
        ("pose", {"data": None}, "extend needs data= with labels of 'pose'"),
        ("pose", {"freeze": 10}, "alone=pose freezes everything but that branch, found freeze=10"),
        ("pose", {"multi_scale": 0.5}, "multi_scale=0.5 changes the input"),
        ("pose", {"views": 0}, "'views' must be a whole number"),
    ],
)
def test_wrong_arguments(task: str, keys: dict[str, Any], reason: str, seg: Path, world: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=reason):
        MultiTaskYOLO(seg).extend(task, **{**FAST, "project": str(tmp_path), "data": world, **keys})


def test_a_network_without_weights(world: Path, tmp_path: Path) -> None:
    model = MultiTaskYOLO(write_model(tmp_path / "tiny-multitask.yaml"))
    with pytest.raises(ValueError, match="extend adds to a trained model, found .*tiny-multitask.yaml without trained"):
        model.extend("pose", data=world)


@pytest.mark.parametrize(
    ("family", "two_heads", "reason"),
    [
        ("yolo26n", True, r"expected .* with one head, .*found one with two heads"),
        ("yolov8n", True, r"expected .* with one head, .*found one with two heads"),
        ("yolo26n", False, r"expected .* with one head, .*found one with the branches of YOLO26"),
    ],
)
def test_other_heads(family: str, two_heads: bool, reason: str, world: Path, tmp_path: Path) -> None:
    file = write_model(tmp_path / "two-multitask.yaml", family, nc=1, end2end=two_heads)
    MultiTaskYOLO(file).save(tmp_path / "two.pt")
    with pytest.raises(ValueError, match=f"extend: {reason}"):
        MultiTaskYOLO(tmp_path / "two.pt").extend("pose", data=world, replace=True)


def test_a_model_of_windows(world: Path, tmp_path: Path) -> None:
    MultiTaskYOLO("multitaskn.yaml").save(tmp_path / "windows.pt")
    with pytest.raises(ValueError, match=r"extend: expected a model of single images .*found a model of windows"):
        MultiTaskYOLO(tmp_path / "windows.pt").extend("pose", data=world, replace=True)


def test_the_command(seg: Path, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [f"model={seg}", f"data={world}", f"project={tmp_path}", "imgsz=64", "epochs=1", "views=1", "device=cpu"]
    assert app.main(["extend", *given]) == 2
    assert "extend needs task=, the task to add, one of segment, pose, track" in capsys.readouterr().err
    assert app.main(["extend", *given, "task=detect"]) == 2
    assert "task=detect: unknown task to add 'detect'" in capsys.readouterr().err
    assert run.parse([*given, "task=track"], "extend")["task"] == "track"  # which is no task of its own elsewhere
    assert app.main(["extend", *given, "task=pose", "plots=False", "val=False"]) == 0
    assert (tmp_path / "extend" / "weights" / "best.pt").is_file()
