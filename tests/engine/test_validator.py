"""Validation from files: a small data set, small models, and the stock validators beside ours."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from support.models import randomise, tiny_model
from support.validation import predictions, ready_validator, targets
from ultralytics.models.yolo.pose import PoseValidator
from ultralytics.models.yolo.segment import SegmentationValidator
from ultralytics.nn.tasks import PoseModel, SegmentationModel, load_checkpoint

from yolo_multitask.data.convert.rle import decode_rle
from yolo_multitask.data.labels import LabelSpec, format_line, polygon_box, read_labels
from yolo_multitask.engine import coco
from yolo_multitask.engine.validator import MultiTaskValidator
from yolo_multitask.nn.network import MultiTaskModel

KPT, NAMES = (3, 3), {0: "person", 1: "car"}
BASE = {"imgsz": 64, "batch": 2, "plots": False, "verbose": False, "device": "cpu", "workers": 0, "conf": 0.01}
BOX, POINTS = "0.4 0.5 0.4 0.6", "0.3 0.3 2 0.5 0.5 1 0 0 0"
POLYGON = "0.2 0.2 0.6 0.2 0.6 0.8 0.2 0.8"


def write_data(folder: Path, lines: Sequence[Sequence[str]], **keys: Any) -> Path:
    """Write images of two shapes with these label lines, and the data YAML; return its path."""
    rng = np.random.default_rng(0)
    for i, text in enumerate(lines):
        for kind in ("images", "labels"):
            (folder / kind / "val").mkdir(parents=True, exist_ok=True)
        image = rng.integers(0, 255, (48 + 32 * (i % 2), 64, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / "images" / "val" / f"{i}.png"), image)
        (folder / "labels" / "val" / f"{i}.txt").write_text("".join(f"{line}\n" for line in text))
    data = {"path": str(folder), "train": "images/val", "val": "images/val", "names": NAMES, **keys}
    (folder / "data.yaml").write_text(yaml.safe_dump(data))
    return folder / "data.yaml"


FULL = {"labels": {"keypoints": True, "polygons": True}, "kpt_shape": list(KPT)}


@pytest.fixture
def full_data(tmp_path: Path) -> Path:
    """Return a data set with everything labelled but the car's keypoints, and one ignore region."""
    person, car = f"0 {BOX} {POINTS} {POLYGON}", f"1 0.8 0.7 0.3 0.4 - {POLYGON}"
    return write_data(
        tmp_path / "full",
        [[person, car], [person], [], [car, "0 0.1 0.1 0.2 0.2 - - !"]],
        kpt_classes=["person"],
        **FULL,
    )


def network(**kwargs: Any) -> MultiTaskModel:
    """Return a small model with random weights."""
    model = tiny_model(nc=2, kpt_shape=KPT, **kwargs)
    randomise(model)
    model.names = dict(NAMES)
    return model.eval()


def validate(model: Any, data: Path, save_dir: Path, **args: Any) -> MultiTaskValidator:
    """Run our validator on a model."""
    validator = MultiTaskValidator(save_dir=save_dir, args={**BASE, "data": str(data), "model": "tiny", **args})
    validator.stats_found = validator(model=model)
    return validator


def test_all_tasks(full_data: Path, tmp_path: Path) -> None:
    model = network()
    validator = validate(model, full_data, tmp_path / "out")
    assert validator.tasks == ("detect", "segment", "pose")
    assert set(validator.stats_found) == {*validator.metrics.keys, "fitness"}
    assert validator.metrics.nt_per_class.tolist() == [2, 2]
    assert validator.metrics.pose.ap_class_index.tolist() == [0]
    assert validator.metrics.seg.ap_class_index.tolist() == [0, 1]
    assert validator.seen == 4
    assert set(validator.metrics.speed) == {"preprocess", "inference", "loss", "postprocess"}
    assert model.head.active == model.tasks, "the caller's model is left alone"


def test_switches_and_labels_choose_the_tasks(full_data: Path, tmp_path: Path) -> None:
    assert validate(network(), full_data, tmp_path / "a", segment=False).tasks == ("detect", "pose")
    assert validate(network(tasks=("segment",)), full_data, tmp_path / "b").tasks == ("detect", "segment")
    boxes = write_data(tmp_path / "boxes", [[f"0 {BOX}"]])
    assert validate(network(), boxes, tmp_path / "c").tasks == ("detect",)
    with pytest.raises(ValueError, match=r"'pose=True' was asked for and model 'tiny' has it, .* hold only: detect\."):
        validate(network(), boxes, tmp_path / "d", pose=True)
    with pytest.raises(ValueError, match=r"'pose=True' was asked for, but model 'tiny' has only: detect, segment"):
        validate(network(tasks=("segment",)), full_data, tmp_path / "e", pose=True)


def test_keypoints_of_model_and_data_must_agree(tmp_path: Path) -> None:
    data = write_data(tmp_path / "other", [[f"0 {BOX} 0.3 0.3 2"]], kpt_shape=[1, 3])
    with pytest.raises(ValueError, match=r"predicts 3 keypoints .* labels 1"):
        validate(network(), data, tmp_path / "out")
    assert validate(network(), data, tmp_path / "off", pose=False).tasks == ("detect",)


@pytest.mark.parametrize("task", ["segment", "pose"])
@pytest.mark.parametrize("overlap", [True, False])
def test_statistics_equal_the_stock_validator(tmp_path: Path, task: str, overlap: bool) -> None:
    """Same weights, same stock labels: the same true positives, confidences and classes, image by image."""
    polygon = "0 0.1 0.1 0.9 0.1 0.9 0.9 0.1 0.9"
    point = f"0 0.5 0.5 0.8 0.8 {POINTS}"
    keys = {"task": "segment"} if task == "segment" else {"kpt_shape": list(KPT)}
    line = polygon if task == "segment" else point
    data = write_data(tmp_path / "data", [[line], [line, f"1{line[1:]}"], []], **keys)
    build, validator_class = {
        "segment": (SegmentationModel, SegmentationValidator),
        "pose": (PoseModel, PoseValidator),
    }[task]
    name = f"yolov8n{'-seg' if task == 'segment' else '-pose'}.yaml"
    extra = {"data_kpt_shape": KPT} if task == "pose" else {}
    stock = build(name, nc=2, verbose=False, **extra)
    randomise(stock)
    ours = MultiTaskModel("yolov8n-multitask.yaml", nc=2, kpt_shape=KPT, tasks=(task,), verbose=False)
    ours.load(stock, verbose=False)
    for model in (stock, ours):
        model.names = dict(NAMES)
        model.eval()
    args = {**BASE, "data": str(data), "model": "tiny", "overlap_mask": overlap, "max_det": 50}
    seen: dict[str, list[dict[str, np.ndarray]]] = {}
    for key, validator, model in (
        ("stock", validator_class(save_dir=tmp_path / "stock", args=args), stock),
        ("ours", MultiTaskValidator(save_dir=tmp_path / "ours", args=args), ours),
    ):
        seen[key] = []
        record, update = seen[key], validator.metrics.update_stats
        if key == "ours":  # the metrics are rebuilt for the tasks found, so listen to the validator instead
            inner = validator._image_stats
            validator._image_stats = lambda p, b, inner=inner, record=record: record.append(r := inner(p, b)) or r
        else:
            validator.metrics.update_stats = lambda s, u=update, record=record: record.append(s) or u(s)
        validator(model=model)
    letter = {"segment": "m", "pose": "p"}[task]
    assert len(seen["ours"]) == len(seen["stock"]) == 3
    matched = 0
    for (found, _), expected in zip(seen["ours"], seen["stock"], strict=True):
        for ours_key, stock_key in {
            "tp": "tp",
            f"tp_{letter}": f"tp_{letter}",
            "pred_cls": "pred_cls",
            f"pred_cls_{letter}": "pred_cls",
            "target_cls": "target_cls",
            f"target_cls_{letter}": "target_cls",
        }.items():
            np.testing.assert_array_equal(found[ours_key], expected[stock_key], err_msg=ours_key)
        np.testing.assert_allclose(found["conf"], expected["conf"], rtol=1e-5)
        matched += int(found[f"tp_{letter}"].sum())
    assert matched, "the comparison needs some correct predictions"


def test_files(full_data: Path, tmp_path: Path) -> None:
    validator = validate(
        network(), full_data, tmp_path / "out", save_txt=True, save_json=True, save_conf=True, max_det=5, plots=True
    )
    spec = LabelSpec(nc=2, kpt_shape=KPT, polygons=True)
    files = sorted((tmp_path / "out" / "labels").glob("*.txt"))
    assert [f.stem for f in files] == ["0", "1", "2", "3"]
    for file in files:
        labels, problems = read_labels(file, spec)
        assert [p for p in problems if p.kind == "error"] == []
        assert (labels.has_keypoints == (labels.cls == 0)).all()
    entries = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert len(entries) == len(validator.jdict) > 0
    for entry in entries:
        assert {"image_id", "category_id", "bbox", "score", "segmentation"} <= set(entry)
        height, width = entry["segmentation"]["size"]
        assert (height, width) in {(48, 64), (80, 64)}
        assert decode_rle(entry["segmentation"], height, width).shape == (height, width)
        assert ("keypoints" in entry) == (entry["category_id"] == 1)
        assert len(entry.get("keypoints", [0] * 9)) == 9
    assert (tmp_path / "out" / "val_batch0_pred.jpg").is_file()
    assert (tmp_path / "out" / "confusion_matrix.png").is_file()


def annotations(folder: Path, **extra: Any) -> dict[str, Any]:
    """Return COCO annotations of one 64 x 64 image with one person and one car, ids unlike the file names."""
    images = [{"id": 77, "file_name": "sub/1.jpg", "width": 64, "height": 64}]
    categories = [{"id": 5, "name": "person", "keypoints": ["a", "b"], "skeleton": []}, {"id": 9, "name": "car"}]
    items = []
    for i, (cat, box) in enumerate([(5, [0, 0, 16, 32]), (9, [24, 0, 16, 32])], 1):
        x, y, w, h = box
        corners = [x, y, x + w, y, x + w, y + h, x, y + h]
        item = {"id": i, "image_id": 77, "category_id": cat, "bbox": box, "area": w * h, "iscrowd": 0}
        item |= {"segmentation": [corners], "keypoints": [4, 4, 2, 12, 28, 2], "num_keypoints": 2}
        items.append(item)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.json").write_text(json.dumps({"images": images, "annotations": items, "categories": categories}))
    return {"val": {"instances": "a.json", "keypoints": "a.json"}}


def coco_validator(tmp_path: Path, named: Any) -> MultiTaskValidator:
    """Return a validator that has predicted the annotated image: all right but the person's keypoints."""
    validator = ready_validator(tmp_path, NAMES, kpt_classes=[0], save_json=True, split="val")
    validator._native_masks = True
    validator.data |= {"path": tmp_path, "annotations": named}
    validator.is_coco = False
    validator.class_map = coco.category_ids({"person": 5, "car": 9}, NAMES)
    validator.dataloader = SimpleNamespace(dataset=SimpleNamespace(im_files=["1.jpg"]))
    boxes = [[0, 0, 16, 32], [24, 0, 40, 32]]
    masks = torch.zeros(2, 64, 64, dtype=torch.uint8)
    masks[0, :32, :16] = masks[1, :32, 24:40] = 1
    preds = predictions(boxes, [0.9, 0.8], [0, 1], masks=masks, keypoints=torch.full((2, 2, 3), 60.0))
    validator.update_metrics([preds], targets(boxes, [0, 1]))
    return validator


def test_reference_evaluation(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    stats = coco_validator(tmp_path, annotations(tmp_path)).eval_json({"fitness": 0.5})
    assert stats["fitness"] == 0.5
    assert stats["metrics/COCO-AP(B)"] == pytest.approx(1)
    assert stats["metrics/COCO-AP75(M)"] == pytest.approx(1)
    assert stats["metrics/COCO-AP(P)"] == pytest.approx(0)
    assert stats["metrics/COCO-AP-small(B)"] == pytest.approx(1)


def test_reference_evaluation_says_what_is_missing(tmp_path: Path, monkeypatch) -> None:
    validator = coco_validator(tmp_path, {"val": {"instances": "gone.json"}})
    messages: list[str] = []
    monkeypatch.setattr(coco.LOGGER, "warning", messages.append)
    monkeypatch.setattr(coco, "_find_library", lambda: (None, None))
    assert validator.eval_json({}) == {}
    assert len(messages) == 2
    assert "gone.json" in messages[0]
    monkeypatch.setattr(coco, "_find_library", lambda: None)
    assert validator.eval_json({}) == {}
    assert "pip install yolo-multitask[coco]" in messages[-1]
    validator.data["annotations"] = None
    assert validator.eval_json({"a": 1}) == {"a": 1}


def test_pictures_of_two_folders_write_two_label_files(full_data: Path, tmp_path: Path) -> None:
    data = yaml.safe_load(full_data.read_text())
    source = Path(data["path"])
    for folder, name in (("a", "0"), ("b", "1")):
        for kind, suffix in (("images", ".png"), ("labels", ".txt")):
            (tmp_path / "data" / kind / folder).mkdir(parents=True)
            (file,) = (source / kind).rglob(f"{name}{suffix}")
            (tmp_path / "data" / kind / folder / f"same{suffix}").write_bytes(file.read_bytes())
    file = tmp_path / "data.yaml"
    file.write_text(yaml.safe_dump({**data, "path": str(tmp_path / "data"), "train": "images", "val": "images"}))
    validate(network(), file, tmp_path / "out", save_txt=True, max_det=5)
    assert sorted(f.name for f in (tmp_path / "out" / "labels").iterdir()) == ["a_same.txt", "b_same.txt"]


def test_category_ids() -> None:
    assert coco.category_ids([1, 18], NAMES) == [1, 18]
    assert coco.category_ids({"car": 3, "person": 1}, NAMES) == [1, 3]
    assert coco.category_ids({0: 1, 1: 3}, NAMES) == [1, 3]
    for bad in ([1], {"person": 1}, "person", [1, "2"]):
        with pytest.raises(ValueError, match="one integer category id for each of the 2 classes"):
            coco.category_ids(bad, NAMES)


def test_all_classes_in_one(full_data: Path, tmp_path: Path) -> None:
    model = network()
    validator = validate(model, full_data, tmp_path / "out", single_cls=True)
    assert validator.metrics.nt_per_class.sum() == 4
    assert validator.metrics.pose.ap_class_index.tolist() == [0]


def converted(realdata: Path, folder: Path) -> Path:
    """Convert the real validation pictures with their masks and keypoints; return the data YAML."""
    from yolo_multitask.data.convert.coco import convert_coco

    source = realdata / "coco-mini"
    convert_coco(
        instances=source / "annotations" / "instances_val.json",
        keypoints=source / "annotations" / "person_keypoints_val.json",
        images=source / "images" / "val",
        out=folder,
        split="val",
        copy=True,
    )
    data = yaml.safe_load((folder / "data.yaml").read_text())
    data["train"] = data["val"]
    (folder / "data.yaml").write_text(yaml.safe_dump(data))
    return folder / "data.yaml"


def only_full_lines(source: Path, folder: Path, task: str) -> tuple[Path, Path]:
    """Keep the instances labelled for `task`, as our lines and as stock lines; return both data YAMLs."""
    data = yaml.safe_load(source.read_text())
    spec = LabelSpec.from_data(data)
    paths = []
    for key in ("ours", "stock"):
        root = folder / key
        keys = {k: data[k] for k in ("names", "kpt_shape", "flip_idx") if k in data}
        if key == "ours":
            keys |= {"labels": data["labels"], "kpt_classes": list(data["names"].values())}
        elif task == "segment":
            keys = {"names": data["names"], "task": "segment"}
        (root / "images").mkdir(parents=True)
        (root / "labels").mkdir()
        for image in sorted((source.parent / "images" / "val").iterdir()):
            (root / "images" / image.name).write_bytes(image.read_bytes())
            labels, _ = read_labels(source.parent / "labels" / "val" / f"{image.stem}.txt", spec)
            there = labels.has_polygon if task == "segment" else labels.has_keypoints
            lines = []
            for i in np.flatnonzero(there & ~labels.ignore):
                if task == "segment":
                    instance = replace(labels[i], keypoints=None, box=polygon_box(labels[i].polygon))
                else:
                    instance = replace(labels[i], polygon=None)
                stock = LabelSpec(
                    nc=spec.nc,
                    kpt_shape=None if task == "segment" else spec.kpt_shape,
                    polygons=task == "segment",
                    format=task,
                )
                lines.append(format_line(instance, spec if key == "ours" else stock))
            (root / "labels" / f"{image.stem}.txt").write_text("".join(f"{x}\n" for x in lines))
        (root / "data.yaml").write_text(yaml.safe_dump({"path": str(root), "train": "images", "val": "images", **keys}))
        paths.append(root / "data.yaml")
    return paths[0], paths[1]


@pytest.mark.realdata
@pytest.mark.slow
@pytest.mark.parametrize("task", ["segment", "pose"])
def test_real_pictures_give_the_stock_numbers(realdata: Path, tmp_path: Path, task: str) -> None:
    weights = realdata / "weights" / f"yolov8n-{'seg' if task == 'segment' else 'pose'}.pt"
    stock, _ = load_checkpoint(str(weights))
    model = MultiTaskModel("yolov8n-multitask.yaml", nc=len(stock.names), tasks=(task,), verbose=False)
    model.load(stock, verbose=False)
    model.names = dict(stock.names)
    ours, plain = only_full_lines(converted(realdata, tmp_path / "data"), tmp_path, task)
    args = {**BASE, "imgsz": 320, "batch": 8, "conf": 0.001, "split": "val"}
    expected = {"segment": SegmentationValidator, "pose": PoseValidator}[task](
        save_dir=tmp_path / "a", args={**args, "data": str(plain)}
    )(model=stock)
    found = MultiTaskValidator(save_dir=tmp_path / "b", args={**args, "data": str(ours)})(model=model.eval())
    compared = [k for k in expected if k != "fitness"]
    assert len(compared) == 8
    for key in compared:
        assert found[key] == pytest.approx(expected[key], abs=1e-6), key
    assert found[f"metrics/mAP50({'M' if task == 'segment' else 'P'})"] > 0.1
