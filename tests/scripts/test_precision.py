"""The benchmark of precisions: its figures on answers that are known, and that it runs."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import cv2
import numpy as np
import precision
import pytest
import torch
from embeddings import Sightings
from precision import Row, holds_nms, identities, separation, table, truth_of
from support.training import random_model, write_world
from trackbench.sequence import TruthSequence

from yolo_multitask.engine.results import Results

BOXES = np.array([[10.0, 10, 30, 50], [60, 10, 80, 50]])


def sequence(folder: Path, frames: int = 4) -> TruthSequence:
    """Return a sequence of two people who stand still."""
    files = [folder / f"{i}.png" for i in range(frames)]
    for file in files:
        cv2.imwrite(str(file), np.zeros((64, 96, 3), np.uint8))
    ids = [np.array([5, 9])] * frames
    return TruthSequence(name="s", frame_rate=10, images=files, ids=ids, boxes=[BOXES] * frames)


class Tracker:
    """A model that finds both, with ids and embeddings that change places in the last frame if it is `confused`."""

    names: ClassVar[dict[int, str]] = {0: "person"}

    def __init__(self, confused: bool) -> None:
        """Start a sequence."""
        self.confused, self.frame = confused, 0

    def track(self, image: Any, persist: bool, **_: Any) -> list[Results]:
        """Return the result of a frame."""
        assert persist == (self.frame > 0)
        self.frame += 1
        order = [1, 0] if self.confused and self.frame == 4 else [0, 1]
        ids = torch.tensor([[1.0, 2.0]])[:, order].T
        boxes = torch.cat((torch.from_numpy(BOXES).float(), ids, torch.tensor([[0.9, 0], [0.8, 0]])), 1)
        given = {"boxes": boxes, "embeddings": torch.eye(4)[order]}
        return [Results(image, path="x.png", names=self.names, **given)]


def test_identities(tmp_path: Path):
    truth, args = sequence(tmp_path), Namespace(mot=None, frames=10, imgsz=64)
    assert identities(Tracker(confused=False), [truth], args) == {"IDF1": 100, "AUC": 1}
    confused = identities(Tracker(confused=True), [truth], args)
    assert confused["IDF1"] == pytest.approx(75)
    assert confused["AUC"] == pytest.approx(0.5)  # of 12 pairs of either kind, 6 are alike
    first = identities(Tracker(confused=True), [truth], Namespace(mot=None, frames=3, imgsz=64))
    assert first == {"IDF1": 100, "AUC": 1}


def test_pairs_are_of_one_sequence():
    def seen(vectors: list[list[float]]) -> Sightings:
        count = len(vectors)
        return Sightings(
            vectors=np.array(vectors, np.float32),
            ids=np.array([1, 1, 2]),
            frames=np.arange(count),
            alone=np.ones(count, bool),
        )

    x, y = [1.0, 0.0], [0.0, 1.0]
    assert separation([seen([x, x, y]), seen([y, y, x])]) == 1  # across them it would be lower
    assert separation([seen([x, y, x])]) == 0.25
    assert np.isnan(separation([]))


def test_sequences_of_a_data_set():
    cls = np.zeros((3, 12), np.float32)
    cls[:, 4], cls[2, 3] = [7, -1, 8], 1  # the second has no identity, the third is to be ignored
    labels = [
        {"im_file": f"/d/s/{i}.jpg", "cls": cls, "bboxes": np.full((3, 4), 0.5, np.float32), "shape": (100, 200)}
        for i in range(2)
    ]
    files = [label["im_file"] for label in labels]
    (truth,) = truth_of(SimpleNamespace(labels=labels, im_files=files, sequences=[[0, 1]]))
    assert [path.name for path in truth.images] == ["0.jpg", "1.jpg"]
    assert truth.ids[0].tolist() == [7]
    assert truth.boxes[0].tolist() == [[50, 25, 150, 75]]


def test_table_leaves_out_what_is_not_there():
    figures = {"box AP": 40.04, "AUC": 0.98765}
    rows = [
        Row(name="checkpoint", path="a", mb=1.26, figures=figures, times=[3, 1, 2]),
        Row(name="openvino INT8", reason="ModuleNotFoundError: No module named 'openvino'"),
    ]
    assert table(rows).splitlines() == [
        "| file | MB | box AP | AUC | ms |",
        "|---|--:|--:|--:|--:|",
        "| checkpoint | 1.3 | 40.0 | 0.988 | 2.0 |",
        "",
        "- openvino INT8: ModuleNotFoundError: No module named 'openvino'",
    ]


def test_the_nms_is_in_onnx_files():
    assert holds_nms("onnx")


def test_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    data = write_world(tmp_path / "data")
    random_model(tmp_path, nc=2, kpt_shape=(17, 3)).save(tmp_path / "model.pt")
    given = ["--model", str(tmp_path / "model.pt"), "--data", str(data), "--imgsz", "64", "--formats", "onnx"]
    given += ["--precisions", "FP32", "INT8", "--runs", "2", "--warmup", "1", "--threads", "1"]
    assert precision.main([*given, "--json", str(tmp_path / "out.json")]) == 0
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["checkpoint", "onnx FP32", "onnx INT8"]
    for row in rows:
        assert not row["reason"]
        assert set(row["figures"]) == {"box AP", "mask AP", "pose AP", "IDF1", "AUC"}
        assert len(row["times"]) == 2
    assert rows[2]["mb"] < rows[1]["mb"]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" |")[0] for line in lines[2:5]] == ["| checkpoint", "| onnx FP32", "| onnx INT8"]
