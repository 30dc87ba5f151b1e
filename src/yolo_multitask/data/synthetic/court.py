"""Data sets of court clips on disk: a ball to follow and players, with exact labels."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ..labels import Instance, Labels, LabelSpec, write_labels
from .court_scene import HIDDEN, Court, CourtConfig, CourtFrame
from .world import FLIP_IDX, KEYPOINT_NAMES
from .write import encode, frame_labels, sequence_seeds, whole_folder

__all__ = ("Court", "CourtConfig", "court_yaml", "write_court")

BALL, PERSON = 0, 1
FIRST_BALL = 100  # identity of the ball's first stay; those of players are below, as one is unique within a sequence
_SPEC = LabelSpec(nc=2, kpt_shape=(len(KEYPOINT_NAMES), 3), polygons=False, ids=True)


def court_yaml(labels: str = "lines", splits: tuple[str, ...] = ("train", "val")) -> dict[str, Any]:
    """Return the data YAML of court clips as a mapping; paths are relative to the file.

    Args:
        labels: ``lines`` or ``csv``, which has the ball alone.
        splits: The splits.
    """
    data: dict[str, Any] = {split: f"images/{split}" for split in splits}
    if labels == "csv":
        return data | {"names": {BALL: "ball"}, "objects": ["ball"], "format": "csv"}
    return data | {
        "names": {BALL: "ball", PERSON: "person"},
        "objects": ["ball"],
        "kpt_shape": [len(KEYPOINT_NAMES), 3],
        "flip_idx": list(FLIP_IDX),
        "kpt_names": {PERSON: list(KEYPOINT_NAMES)},
        "kpt_classes": ["person"],
        "labels": {"keypoints": True, "polygons": False, "ids": True},
    }


def write_court(
    out: str | os.PathLike[str],
    *,
    clips: int = 16,
    val_clips: int = 4,
    frames: int = 60,
    size: tuple[int, int] = (640, 360),
    seed: int = 0,
    labels: str = "lines",
    config: CourtConfig | None = None,
    image_format: str = "jpg",
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Render court clips with labels, whole or not at all. The same arguments give the same files.

    Writes ``images/<split>/<clip>/000000.jpg``, and ``labels/<split>/<clip>/000000.txt`` with the ball and the players,
    or ``labels.csv`` beside the images with the ball alone.

    Args:
        out: Folder to make; must not exist, or be empty.
        clips: Clips to train on.
        val_clips: Clips to validate on, of other seeds.
        frames: Of each clip.
        size: Width and height of the pictures.
        seed: Of the data set.
        labels: ``lines`` or ``csv``.
        config: What courts look like; its size and length are set.
        image_format: ``jpg`` (quality 95) or ``png``.
        progress: Called with the number of frames written and the number of all frames.

    Returns:
        Path of ``data.yaml``.

    Raises:
        ValueError: An argument is out of range, or `out` is in use.
    """
    target = Path(out)
    if labels not in ("lines", "csv"):
        raise ValueError(f"labels: expected lines or csv, found {labels!r}")
    if image_format not in ("jpg", "png"):
        raise ValueError(f"image_format: expected jpg or png, found {image_format!r}")
    for name, value in (("clips", clips), ("val_clips", val_clips), ("frames", frames)):
        if value < 1:
            raise ValueError(f"{name}: expected at least 1, found {value}")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"expected a new or empty folder, found {target} in use; remove it or name another")
    config = replace(config or CourtConfig(), width=size[0], height=size[1], length=frames)
    plan = {"train": clips, "val": val_clips}
    total, done = sum(plan.values()) * frames, 0
    with whole_folder(target) as folder:
        for split, count in plan.items():
            for number, clip_seed in enumerate(sequence_seeds(split, count, seed), 1):
                images = folder / "images" / split / f"clip{number:04d}"
                images.mkdir(parents=True)
                rows = ["Frame,Visibility,X,Y,Class,Id"]
                for index, frame in enumerate(Court(clip_seed, config)):
                    (images / f"{index:06d}.{image_format}").write_bytes(encode(frame.image, image_format))
                    if labels == "lines":
                        file = folder / "labels" / split / images.name / f"{index:06d}.txt"
                        write_labels(file, court_labels(frame, config), _SPEC)
                    else:
                        rows.append(_csv_row(frame, index))
                    done += 1
                    if progress is not None:
                        progress(done, total)
                if labels == "csv":
                    (images / "labels.csv").write_text("\n".join([*rows, ""]), encoding="utf-8")
        text = yaml.safe_dump(court_yaml(labels), sort_keys=False, default_flow_style=None, width=120)
        (folder / "data.yaml").write_text(text, encoding="utf-8")
    return target / "data.yaml"


def court_labels(frame: CourtFrame, config: CourtConfig) -> Labels:
    """Return the labels of a frame, normalised: the ball (``!`` where it is hidden), then the players.

    The centre of the ball's box is its position, also at the edge of the picture.
    """
    found: list[Instance] = []
    if frame.ball is not None:
        ball, scale = frame.ball, np.array([config.width, config.height])
        sides = np.minimum(ball.size / scale, 1)
        box = np.concatenate(([ball.x, ball.y] / scale, sides)).round(7).astype(np.float32)
        found.append(Instance(cls=BALL, box=box, id=FIRST_BALL + ball.ident, ignore=ball.visible == HIDDEN))
    for player in frame_labels(frame.players, config.world):
        player.cls, player.polygon = PERSON, None
        found.append(player)
    return Labels.from_instances(found, _SPEC)


def _csv_row(frame: CourtFrame, index: int) -> str:
    """Return the line of a frame in a CSV file."""
    ball = frame.ball
    if ball is None:
        return f"{index},0,,,ball,"
    return f"{index},{ball.visible},{ball.x:.3f},{ball.y:.3f},ball,{FIRST_BALL + ball.ident}"
