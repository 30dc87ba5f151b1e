"""A network of windows that sees exactly: white dots are objects, grey blocks are players."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml

from support.temporal import tiny_temporal_yaml
from yolo_multitask import MultiTaskYOLO
from yolo_multitask.nn.heads.tracknet import elements
from yolo_multitask.nn.temporal import TemporalModel

SIZE = (64, 96)  # height and width of a frame, and of the network input
DOT, BLOCK = 250, 120
Place = tuple[float, float]


def frame(dots: list[Place] = [], blocks: list[Place] = []) -> np.ndarray:  # noqa: B006
    """Return a frame with dots of 3x3 pixels around their places and blocks of 20x30 from their top left corners."""
    image = np.zeros((*SIZE, 3), np.uint8)
    for x, y in blocks:
        image[int(y) : int(y) + 30, int(x) : int(x) + 20] = BLOCK
    for x, y in dots:
        image[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2] = DOT
    return image


def fly(count: int, start: Place = (10, 20), step: Place = (4, 1)) -> list[Place]:
    """Return the places of a dot that flies straight."""
    return [(start[0] + step[0] * t, start[1] + step[1] * t) for t in range(count)]


def write_images(folder: Path, frames: list[np.ndarray]) -> Path:
    """Write frames as 000000.png and so on."""
    folder.mkdir(parents=True)
    for i, image in enumerate(frames):
        cv2.imwrite(str(folder / f"{i:06d}.png"), image)
    return folder


def write_video(file: Path, frames: list[np.ndarray], rate: float = 25) -> Path:
    """Write frames as a video."""
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter_fourcc(*"MJPG"), rate, SIZE[::-1])
    for image in frames:
        writer.write(image)
    writer.release()
    return file


def see(windows: torch.Tensor, model: TemporalModel, confidence: Callable[[int, int], float]) -> dict[str, Any]:
    """Return what a perfect model gives for windows (B, G, h, w).

    Args:
        windows: In 0..1.
        model: Says which heads there are.
        confidence: Of a dot, from the group that it is in and its number in the frame.
    """
    out: dict[str, Any] = {}
    batch, groups, height, width = windows.shape
    if model.detect_idx is not None:
        head = model.track_head
        shapes = [(int(height / s), int(width / s)) for s in head.stride]
        _, _, group_N = elements(shapes, head.stride, groups)
        columns = len(model.feature_set.columns)
        values = torch.zeros(batch, len(group_N), columns + head.nc)
        for b in range(batch):
            for g in range(groups):
                first = int((group_N == g).nonzero()[0])
                for k, (x, y) in enumerate(find_dots(windows[b, g])):
                    values[b, first + k, :columns] = torch.tensor([x, y, x, y][:columns])
                    values[b, first + k, columns] = confidence(g, k)
                    if columns > 2:
                        values[b, first + k, 2:4] = torch.tensor(next_place(windows[b], g, (x, y)))
        out["track"] = (values, None)
    if model.pose_idx is not None:
        rows = torch.zeros(batch, 4 + model.head.nc + 51, 40)
        for b in range(batch):
            for k, (x, y, w, h) in enumerate(find_blocks(windows[b, -1])):
                rows[b, :4, k] = torch.tensor([x + w / 2, y + h / 2, w, h])
                rows[b, 4, k] = 0.8
                rows[b, 5:, k] = torch.tensor([x + w / 2, y + h / 2, 0.9]).repeat(17)
        out["pose"] = (rows, {})
    return out


def find_dots(image: torch.Tensor) -> list[Place]:
    """Return the centres of the dots of a frame (h, w), from left to right."""
    mask = (image.numpy() > 0.75).astype(np.uint8)
    _, _, stats, centres = cv2.connectedComponentsWithStats(mask)
    return sorted(
        (float(x) + 0.5, float(y) + 0.5) for (x, y), s in zip(centres[1:], stats[1:], strict=True) if s[4] < 20
    )


def find_blocks(image: torch.Tensor) -> list[tuple[int, int, int, int]]:
    """Return x, y, width and height of the blocks of a frame."""
    mask = ((image.numpy() > 0.3) & (image.numpy() < 0.7)).astype(np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask)
    return [tuple(int(v) for v in s[:4]) for s in stats[1:] if 100 < s[4] < 1000]


def next_place(window: torch.Tensor, group: int, place: Place) -> Place:
    """Return where the dot at a place is in the next frame: the nearest one there, else as far on as it came."""
    after, before = (nearest(window[g], place) if 0 <= g < len(window) else None for g in (group + 1, group - 1))
    if after is not None:
        return after
    return place if before is None else (2 * place[0] - before[0], 2 * place[1] - before[1])


def nearest(image: torch.Tensor, place: Place) -> Place | None:
    """Return the dot of a frame that is nearest to a place."""
    return min(find_dots(image), key=lambda d: float(np.hypot(d[0] - place[0], d[1] - place[1])), default=None)


def write_model(folder: Path, frames: int = 3, heads: tuple[str, ...] = ("TrackNet", "Pose")) -> Path:
    """Write the YAML of a tiny model with some of its heads; return the file."""
    config = tiny_temporal_yaml(frames)
    config["head"] = [line for line in config["head"] if line[2] in heads or line[2] not in ("TrackNet", "Pose")]
    config.pop("yaml_file")
    file = folder / "tiny-multitask.yaml"
    file.write_text(yaml.safe_dump(config))
    return file


def oracle(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    frames: int = 4,
    confidence: Callable[[int, int], float] = lambda group, number: 0.9,
    heads: tuple[str, ...] = ("TrackNet", "Pose"),
) -> Any:
    """Return a `MultiTaskYOLO` whose network sees exactly.

    Args:
        monkeypatch: Undoes it.
        folder: For the model YAML.
        frames: Of a window.
        confidence: See `see`.
        heads: Which heads it has.
    """
    model: Any = MultiTaskYOLO(str(write_model(folder, frames, heads)))
    seen: list[int] = []

    def predict(self: TemporalModel, x: torch.Tensor, *_: Any, **__: Any) -> dict[str, Any]:
        seen.extend([1] * len(x))
        return see(x.float(), self, confidence)

    monkeypatch.setattr(TemporalModel, "_predict_once", predict)
    model.windows_seen = seen
    return model
