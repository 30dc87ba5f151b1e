"""Every model is validated on the tasks that it has, a stock one on what stock lines can say of the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from support.benchmark import KPT, LABELS, NAMES, write_set
from ultralytics import YOLO

from yolo_multitask import MultiTaskYOLO
from yolo_multitask.benchmark.accuracy import accuracy
from yolo_multitask.benchmark.contender import Contender, open_model

ARGUMENTS: dict[str, Any] = {"imgsz": 64, "device": "cpu"}
POLYGON = "0.2 0.2 0.6 0.2 0.6 0.8 0.2 0.8"
BOX, POINTS = "0.4 0.5 0.4 0.6", "0.3 0.3 2 0.5 0.5 1 0 0 0"
PERSON, CAR = f"0 {BOX} {POINTS} {POLYGON}", f"1 {BOX} - {POLYGON}"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a data set of two images with boxes, keypoints and polygons."""
    return write_set(tmp_path / "set", [[PERSON, CAR], [CAR]], **LABELS)


def measure(checkpoint: str, data: Path, scratch: Path) -> tuple[dict[str, float], str]:
    scratch.mkdir(exist_ok=True)
    return accuracy(Contender(open_model(checkpoint), ARGUMENTS, scratch, None), data, ARGUMENTS, scratch)


def expected(model: Any, data: Path, folder: Path) -> dict[str, float]:
    metrics = model.val(data=str(data), plots=False, verbose=False, project=str(folder), **ARGUMENTS)
    return dict(zip(metrics.keys, map(float, metrics.mean_results()), strict=True))


def test_measures_are_those_of_val(checkpoints: dict[str, str], data: Path, tmp_path: Path) -> None:
    found, why_not = measure(checkpoints["best"], data, tmp_path / "scratch")
    assert why_not == ""
    assert {"metrics/mAP50-95(B)", "metrics/mAP50-95(M)", "metrics/mAP50-95(P)"} <= found.keys()
    assert found == expected(MultiTaskYOLO(checkpoints["best"]), data, tmp_path / "val")


@pytest.mark.parametrize(
    ("name", "lines", "keys", "letter"),
    [
        ("seg", [[f"0 {POLYGON}", f"1 {POLYGON}"], [f"1 {POLYGON}"]], {"names": NAMES}, "M"),
        ("pose", [[f"0 {BOX} {POINTS}"], []], {"names": {0: "person"}, "kpt_shape": list(KPT)}, "P"),
    ],
)
def test_a_stock_model_reads_stock_lines(
    name: str,
    lines: list[list[str]],
    keys: dict[str, Any],
    letter: str,
    checkpoints: dict[str, str],
    data: Path,
    tmp_path: Path,
) -> None:
    found, why_not = measure(checkpoints[name], data, tmp_path / "scratch")
    assert why_not == ""
    assert f"metrics/mAP50-95({letter})" in found
    stock = write_set(tmp_path / "stock", lines, **keys)
    assert found == expected(YOLO(checkpoints[name]), stock, tmp_path / "val")


def test_the_threads_hold_while_validating(checkpoints: dict[str, str], data: Path, tmp_path: Path) -> None:
    before, seen = torch.get_num_threads(), set()
    trial = Contender(open_model(checkpoints["best"]), ARGUMENTS, tmp_path, 2)
    trial.model.add_callback("on_val_batch_end", lambda _: seen.add(torch.get_num_threads()))
    try:
        accuracy(trial, data, ARGUMENTS, tmp_path)
    finally:
        torch.set_num_threads(before)
    assert seen == {2}


def test_no_measures_of_other_classes_or_without_labels(
    checkpoints: dict[str, str], data: Path, tmp_path: Path
) -> None:
    keys = yaml.safe_load(data.read_text())
    data.write_text(yaml.safe_dump({**keys, "names": {0: "car", 1: "person"}, "kpt_classes": ["car"]}))
    found, why_not = measure(checkpoints["pose"], data, tmp_path / "a")
    assert found == {}
    assert why_not == "pose.pt has no AP: it has 1 classes, person first, the data has 1, car first."

    boxes = data.with_name("boxes.yaml")
    boxes.write_text(yaml.safe_dump({key: keys[key] for key in ("path", "train", "val", "names")}))
    found, why_not = measure(checkpoints["pose"], boxes, tmp_path / "b")
    assert found == {}
    assert why_not == (
        f"pose.pt has no AP: {boxes} has lines for detect alone; add `kpt_shape: [K, D]` to the data YAML if its lines "
        "hold keypoints."
    )


def test_data_that_cannot_be_read_is_an_error(checkpoints: dict[str, str], data: Path, tmp_path: Path) -> None:
    (data.parent / "labels" / "val" / "1.txt").write_text("0 0.5 0.5\n")
    with pytest.raises(ValueError, match=r"1\.txt:1"):
        measure(checkpoints["pose"], data, tmp_path / "scratch")


def test_no_stock_set_is_made_of_several_sources(checkpoints: dict[str, str], data: Path, tmp_path: Path) -> None:
    several = tmp_path / "several.yaml"
    several.write_text(yaml.safe_dump({"train": [{"path": str(data)}], "val": [{"path": str(data)}], "names": NAMES}))
    found, why_not = measure(checkpoints["seg"], several, tmp_path / "scratch")
    assert found == {}
    assert why_not == f"seg.pt has no AP: {several} lists sources, of which no stock set can be made."
