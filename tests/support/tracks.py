"""Sequences whose objects are known, and a validator that finds them, so that its tracking figures can be foretold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor

from yolo_multitask.engine.trackers import TrackerFactory
from yolo_multitask.engine.validator import MultiTaskValidator

SHAPES = {"a": (48, 64), "b": (64, 48)}  # height and width of the pictures of each sequence
FRAMES = {"a": 12, "b": 9}  # 2.png comes after 10.png by name
NAMES = {0: "person", 1: "car"}
Pred = dict[str, Tensor]


def line(cls: int, box: tuple[float, ...], shape: tuple[int, int], rest: str = "", points: str = "") -> str:
    """Return a label line of a box x1 y1 x2 y2 in pixels; what is in `rest` follows."""
    (x1, y1, x2, y2), (h, w) = box, shape
    return f"{cls} {(x1 + x2) / 2 / w} {(y1 + y2) / 2 / h} {(x2 - x1) / w} {(y2 - y1) / h} {points} {rest}"


def objects(frame: int) -> dict[int, tuple[float, ...]]:
    """Return the boxes x1 y1 x2 y2 of a frame, from 0, by identity: 4 goes right, 7 goes left, below it."""
    return {4: (2 + 2 * frame, 4, 14 + 2 * frame, 20), 7: (32 - 2 * frame, 24, 44 - 2 * frame, 44)}


def write_sequences(
    folder: Path,
    write: Callable[[str, int, tuple[int, int]], list[str]] | None = None,
    frames: dict[str, int] = FRAMES,
    **keys: Any,
) -> Path:
    """Write two sequences and a still picture; return the data YAML.

    Args:
        folder: Where to.
        write: Gives the label lines of a frame: sequence, number from 0, shape. Default: `objects`, all persons.
        frames: Number of frames by sequence.
        keys: Of the data YAML.
    """
    rng = np.random.default_rng(0)

    def one(name: str, lines: list[str], shape: tuple[int, int]) -> None:
        for kind in ("images", "labels"):
            (folder / kind / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / "images" / f"{name}.png"), rng.integers(0, 255, (*shape, 3), dtype=np.uint8))
        (folder / "labels" / f"{name}.txt").write_text("".join(f"{text}\n" for text in lines))

    def all_persons(_: str, frame: int, shape: tuple[int, int]) -> list[str]:
        return [line(0, box, shape, f"#{i}") for i, box in objects(frame).items()]

    for sequence, count in frames.items():
        for frame in range(count):
            shape = SHAPES[sequence]
            one(f"val/{sequence}/{frame + 1}", (write or all_persons)(sequence, frame, shape), shape)
    one("val/still/1", [], (48, 64))
    data = {"path": str(folder), "train": "images/val", "val": "images/val", "names": NAMES, "labels": {"ids": True}}
    (folder / "data.yaml").write_text(yaml.safe_dump({**data, **keys}))
    return folder / "data.yaml"


class Truth(MultiTaskValidator):
    """Finds every labelled object as it is labelled, with an embedding that is its identity.

    Attributes:
        change: Called with sequence, frame from 0 and predictions of each image; returns what is found instead.
    """

    change: Callable[[str, int, Pred], Pred] = staticmethod(lambda sequence, frame, pred: pred)

    def preprocess(self, batch: dict[str, Any]) -> dict[str, Any]:
        self._batch = super().preprocess(batch)
        return self._batch

    def postprocess(self, preds: Any) -> list[Pred]:
        found = []
        for si, file in enumerate(self._batch["im_file"]):
            truth = self._prepare_batch(si, self._batch)
            n = len(truth["cls"])
            pred = {
                "bboxes": truth["bboxes"].clone().reshape(n, 4),
                "conf": 0.9 - 0.01 * torch.arange(n),
                "cls": truth["cls"].clone(),
                "embeddings": torch.eye(16)[truth["ids"] if "track" in self.tasks else torch.arange(n)],
                "next_boxes": truth["bboxes"].clone().reshape(n, 4),
            }
            pred |= {k: truth[k].clone() for k in ("masks", "keypoints") if k in truth}
            found.append(self.change(Path(file).parent.name, int(Path(file).stem) - 1, pred))
        return found


def with_row(pred: Pred, **values: Any) -> Pred:
    """Return predictions with one more, of confidence 0.5, like the first one but for `values`."""
    new = {k: torch.as_tensor(values.get(k, v[0]), dtype=v.dtype)[None] for k, v in pred.items()}
    new["conf"] = torch.tensor([values.get("conf", 0.5)])
    return {k: torch.cat((v, new[k])) for k, v in pred.items()}


class ByEmbedding:
    """A tracker whose ids are the places of the largest values of the embeddings."""

    def update(self, det: Any, img: Any = None, feats: Any = None, **_: Any) -> NDArray[np.float32]:
        ids = np.asarray(feats).argmax(1) + 1 if len(feats) else np.zeros(0)
        return np.column_stack((det.xyxy, ids, det.conf, det.cls, np.arange(len(ids)))).astype(np.float32)


def by_embedding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let validation track by `ByEmbedding`."""

    def start(self: TrackerFactory, frame_rate: float, last: Any = None) -> ByEmbedding:
        return ByEmbedding()

    monkeypatch.setattr(TrackerFactory, "start", start)
