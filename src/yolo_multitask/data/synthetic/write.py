"""Data sets and clips of the synthetic world on disk, written whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from ..labels import Labels, LabelSpec, write_labels
from .render import Frame, World
from .world import FLIP_IDX, KEYPOINT_NAMES, WorldConfig

SEEDS_PER_SET = 1_000_000  # sequence seeds that belong to one data set seed
SEED_RANGES = {"train": (0, 500_000), "val": (500_000, 750_000), "test": (750_000, SEEDS_PER_SET)}  # of them
ENCODINGS: dict[str, tuple[int, ...]] = {"jpg": (cv2.IMWRITE_JPEG_QUALITY, 95), "png": (cv2.IMWRITE_PNG_COMPRESSION, 1)}
CODECS: dict[str, str] = {".avi": "MJPG", ".mp4": "mp4v"}


def sequence_seeds(split: str, count: int, seed: int = 0) -> range:
    """Seeds of the sequences of a split; those of two splits, or of two data set seeds, never meet.

    Args:
        split: `train`, `val` or `test`.
        count: number of sequences.
        seed: seed of the data set, 0 or above.

    Raises:
        ValueError: an unknown split, a negative seed or a count that does not fit.
    """
    if split not in SEED_RANGES:
        raise ValueError(f"sequence_seeds: expected a split of {', '.join(SEED_RANGES)}, found {split!r}")
    first, end = SEED_RANGES[split]
    if seed < 0 or not 0 <= count <= end - first:
        raise ValueError(
            f"sequence_seeds: expected a seed of 0 or above and a count from 0 to {end - first}, "
            f"found {seed} and {count}"
        )
    start = seed * SEEDS_PER_SET + first
    return range(start, start + count)


def data_yaml(config: WorldConfig, splits: tuple[str, ...] = ("train", "val")) -> dict[str, Any]:
    """The data YAML of a synthetic data set as a mapping; paths are relative to the file."""
    names = {0: "person", 1: "ball"} if config.objects else {0: "person"}
    return {
        **{split: f"images/{split}" for split in splits},
        "names": names,
        "kpt_shape": [len(KEYPOINT_NAMES), 3],
        "flip_idx": list(FLIP_IDX),
        "kpt_names": {0: list(KEYPOINT_NAMES)},
        "kpt_classes": ["person"],
        "labels": {"keypoints": True, "polygons": True, "ids": True},
    }


def write_dataset(
    out: str | os.PathLike[str],
    *,
    train_sequences: int = 160,
    val_sequences: int = 24,
    frames_per_sequence: int = 16,
    test_sequences: int = 0,
    test_frames: int = 96,
    seed: int = 0,
    config: WorldConfig | None = None,
    stride: int = 3,
    image_format: str = "jpg",
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Render a training and a validation split, and if wanted a test split, with labels in the package's grammar.

    The layout is `images/<split>/<sequence>/000001.jpg` beside `labels/<split>/<sequence>/000001.txt` and `data.yaml`.
    The same arguments give the same files.

    Args:
        out: folder to make; must not exist, or be empty.
        train_sequences: sequences of the training split.
        val_sequences: sequences of the validation split; their seeds are none of the training split's.
        frames_per_sequence: frames of every training and validation sequence.
        test_sequences: sequences of the test split, to track through: they keep every frame. 0 for no such split.
        test_frames: frames of every test sequence.
        seed: seed of the data set.
        config: the world; its `length` is set to what is needed.
        stride: keep every n-th frame of the world for training and validation.
        image_format: `jpg` (quality 95) or `png` (lossless).
        progress: called with the number of frames written and the number of all frames.

    Returns:
        Path of `data.yaml`.

    Raises:
        ValueError: an argument is out of range or `out` is in use.
        OSError: a file cannot be written; nothing is left behind.
    """
    target = Path(out)
    if image_format not in ENCODINGS:
        raise ValueError(f"image_format: expected {' or '.join(ENCODINGS)}, found {image_format!r}")
    for name, value in (
        ("train_sequences", train_sequences), ("val_sequences", val_sequences),
        ("frames_per_sequence", frames_per_sequence), ("stride", stride), ("test_frames", test_frames),
    ):  # fmt: skip
        if value < 1:
            raise ValueError(f"{name}: expected at least 1, found {value}")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"expected a new or empty folder, found {target} in use; remove it or name another")
    config = config or WorldConfig()
    plan = {  # split: sequences, frames of each, stride
        "train": (train_sequences, frames_per_sequence, stride),
        "val": (val_sequences, frames_per_sequence, stride),
        **({"test": (test_sequences, test_frames, 1)} if test_sequences else {}),
    }
    data = data_yaml(config, tuple(plan))
    spec = LabelSpec.from_data(data)
    total, done = sum(sequences * frames for sequences, frames, _ in plan.values()), 0
    with whole_folder(target) as folder:
        for split, (sequences, frames, step) in plan.items():
            length = (frames - 1) * step + 1
            for number, world_seed in enumerate(sequence_seeds(split, sequences, seed), 1):
                world, name = World(world_seed, replace(config, length=length)), f"seq{number:04d}"
                (folder / "images" / split / name).mkdir(parents=True)
                for k in range(frames):
                    frame = world.frame(k * step)
                    image = folder / "images" / split / name / f"{k + 1:06d}.{image_format}"
                    image.write_bytes(encode(frame.image, image_format))
                    labels = frame_labels(frame, config)
                    write_labels(folder / "labels" / split / name / f"{k + 1:06d}.txt", labels, spec)
                    done += 1
                    if progress is not None:
                        progress(done, total)
        text = yaml.safe_dump(data, sort_keys=False, default_flow_style=None, width=120)
        (folder / "data.yaml").write_text(text, encoding="utf-8")
    return target / "data.yaml"


def frame_labels(frame: Frame, config: WorldConfig) -> Labels:
    """Labels of a frame, normalised to the picture.

    An ignore region keeps its box and id and has neither keypoints nor polygon; a ball has no keypoints.
    """
    scale = np.array([config.width, config.height], np.float64)
    boxes = frame.boxes.astype(np.float64).reshape(-1, 2, 2) / scale
    centre_size = np.concatenate([boxes.mean(1), boxes[:, 1] - boxes[:, 0]], 1)
    has_keypoints = (frame.cls == 0) & ~frame.ignore
    keypoints = frame.keypoints.astype(np.float64)
    keypoints[..., :2] /= scale
    keypoints[~has_keypoints] = 0
    polygons: list[NDArray[np.float32] | None] = []
    for mask, ignored in zip(frame.masks, frame.ignore, strict=True):
        polygon = None if ignored else mask_to_polygon(mask)
        polygons.append(None if polygon is None else _normalised(polygon / scale))
    return Labels(
        cls=frame.cls,
        boxes=_normalised(centre_size),
        keypoints=_normalised(keypoints),
        has_keypoints=has_keypoints,
        polygons=polygons,
        ids=frame.ids,
        ignore=frame.ignore,
        conf=np.full(len(frame.cls), np.nan, np.float32),
    )


def mask_to_polygon(mask: NDArray[np.bool_]) -> NDArray[np.float64] | None:
    """One polygon through the centres of a mask's border pixels.

    Filled with cv2's rule (even-odd, border pixels included, coordinates rounded down) it gives the mask back, but for
    this: parts and holes are joined to the largest part by a line there and back along the shortest way, as Ultralytics
    joins the parts of a COCO instance (`merge_multi_segment`); a part with fewer pixels than its line is left out.

    Args:
        mask: (H, W) bool.

    Returns:
        (M, 2) x and y in pixels, or None where the mask has no border of three points.
    """
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    rings = [c.reshape(-1, 2).astype(np.float64) for c in contours]
    areas = [abs(cv2.contourArea(c)) + len(c) / 2 for c in contours]
    if not rings:
        return None
    rest = sorted(range(len(rings)), key=lambda i: -areas[i])
    joined = rings[rest.pop(0)]
    while rest:
        ways = [_shortest_way(joined, rings[i]) for i in rest]
        best = min(range(len(rest)), key=lambda i: ways[i][2])
        i, (start, end, length) = rest.pop(best), ways[best]
        if areas[i] > length:
            ring = np.roll(rings[i], -end, axis=0)
            joined = np.concatenate([joined[: start + 1], ring, ring[:1], joined[start:]])
    return joined + 0.5 if len(joined) >= 3 else None


def _shortest_way(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[int, int, float]:
    """Indices of the nearest points of two rings (M, 2) and their distance in pixels."""
    distance = np.hypot(a[:, None, 0] - b[None, :, 0], a[:, None, 1] - b[None, :, 1])
    start, end = np.unravel_index(int(distance.argmin()), distance.shape)
    return int(start), int(end), float(distance[start, end])


def write_clip(
    path: str | os.PathLike[str], *, seed: int = 0, config: WorldConfig | None = None, frames: int | None = None
) -> Path:
    """Write one sequence as a video.

    Args:
        path: `.avi` (Motion JPEG, works everywhere) or `.mp4`; an existing file is replaced.
        seed: of the sequence, see `World` and `sequence_seeds`.
        config: the world.
        frames: number of frames; `config.length` by default.

    Returns:
        The path.

    Raises:
        ValueError: an unknown ending or number of frames.
        OSError: the video cannot be written; nothing is left behind.
    """
    target = Path(path)
    if target.suffix.lower() not in CODECS:
        raise ValueError(f"write_clip: expected a file ending in {' or '.join(CODECS)}, found {target.name!r}")
    config = config or WorldConfig()
    if frames is not None:
        config = replace(config, length=frames)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{uuid.uuid4().hex}{target.suffix.lower()}")
    codec = cv2.VideoWriter.fourcc(*CODECS[target.suffix.lower()])
    try:
        writer = cv2.VideoWriter(str(temporary), codec, config.fps, (config.width, config.height))
        try:
            if not writer.isOpened():
                raise OSError(
                    f"cannot write {target} as {CODECS[target.suffix.lower()]} video; try a name ending in .avi"
                )
            for frame in World(seed, config):
                writer.write(frame.image)
        finally:
            writer.release()
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A temporary folder that takes the place of `target` at the end, or is removed after an error."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{uuid.uuid4().hex}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        if target.exists():
            target.rmdir()
        os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def encode(image: NDArray[np.uint8], image_format: str) -> bytes:
    """File contents of a picture (H, W, 3) BGR."""
    good, data = cv2.imencode(f".{image_format}", image, list(ENCODINGS[image_format]))
    if not good:
        raise OSError(f"cannot encode a picture as {image_format}")
    return bytes(data)


def _normalised(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Six decimals are below a thousandth of a pixel and keep label files short."""
    return np.round(values, 6).astype(np.float32)
