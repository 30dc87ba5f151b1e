"""A network without weights that finds coloured blobs, as an exported file, and a scene for it.

What it finds depends on the picture alone: red or blue things of about `BOX`, with two keypoints, a mask, and their
colour as embedding. So ids can be compared between two readers of the file without training anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

HEIGHT, WIDTH = 96, 160
BOX = (14.0, 20.0)  # width and height
NAMES = {0: "red", 1: "blue"}
IOU = 0.3  # neighbouring cells find the same thing
METADATA: dict[str, Any] = {
    "task": "multitask",
    "tasks": ["detect", "segment", "pose", "track"],
    "nc": 2,
    "names": NAMES,
    "kpt_shape": [2, 3],
    "nm": 3,
    "embed_dim": 3,
    "next": True,
    "masks": False,
    "relative": False,
    "stride": 32,
    "imgsz": [HEIGHT, WIDTH],
    "channels": 3,
    "batch": 1,
    "args": {"nms": None, "dynamic": False},
}


class Blobs(torch.nn.Module):
    """Rows (1, 4 + 2 + 6 + 3 + 3 + 4, A) and prototypes (1, 3, h/4, w/4) of pictures (1, 3, h, w)."""

    def __init__(self) -> None:
        super().__init__()
        self.size = torch.tensor(BOX)[None, :, None]

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        cells = F.avg_pool2d(image, 12, 4, 4)
        rows, columns = cells.shape[2:]
        y, x = (torch.arange(n, dtype=torch.float32) * 4 + 2 for n in (rows, columns))
        centre = torch.stack((x.repeat(rows), y.repeat_interleave(columns)))[None]
        size = torch.ones_like(centre) * self.size
        low, high = centre - size / 2, centre + size / 2
        colours = cells.flatten(2)
        redness = colours[:, :1] - colours[:, 2:]
        scores = torch.cat((redness, -redness), 1).clamp(0, 1)
        seen = scores.amax(1, keepdim=True)
        centred = colours - colours.mean(1, keepdim=True)
        embedding = centred / (centred.norm(dim=1, keepdim=True) + 1e-6)
        values = (centre, size, scores, low, seen, high, seen, colours - 0.4, embedding, low, high)
        return torch.cat(values, 1), F.avg_pool2d(image, 4) - 0.4


def write_blobs(path: Path, **metadata: Any) -> Path:
    """Write the network; `metadata` replaces entries, and `...` leaves them out."""
    image = torch.zeros(1, 3, HEIGHT, WIDTH)
    names = ["output0", "output1"]
    torch.onnx.export(
        Blobs(), (image,), path, dynamo=False, opset_version=18, input_names=["images"], output_names=names
    )
    return change_metadata(path, path, **{**METADATA, **metadata})


def change_metadata(source: Path, target: Path, **metadata: Any) -> Path:
    """Write a copy of a file with entries of its metadata replaced, or left out where they are `...`."""
    model = onnx.load(source)
    entries = {p.key: p.value for p in model.metadata_props} | {k: str(v) for k, v in metadata.items()}
    onnx.helper.set_model_props(model, {k: v for k, v in entries.items() if metadata.get(k) is not ...})
    onnx.save(model, target)
    return target


def picture(frame: int, things: int = 6) -> NDArray[np.uint8]:
    """Return a picture (H, W, 3) BGR in which things of different colours cross, hide each other and leave."""
    image = np.full((HEIGHT, WIDTH, 3), 100, np.uint8)
    image[::8] = 115
    for i in range(things):
        x = (20 * i + (3 + i % 3) * (-1) ** i * frame) % (WIDTH + 40) - 20
        y = 8 + (13 * i + (frame if i % 2 else 0)) % (HEIGHT - 30)
        shade = (30 + 8 * i, 60 + 30 * (i % 3), 240) if i % 2 else (240, 60 + 30 * (i % 3), 30 + 8 * i)
        cv2.rectangle(image, (x, y), (x + int(BOX[0]), y + int(BOX[1])), shade, -1)
    return image


def pictures(count: int) -> Iterator[NDArray[np.uint8]]:
    """Yield the scene."""
    return (picture(frame) for frame in range(count))


def write_video(path: Path, count: int, fps: float = 10.0) -> Path:
    """Write the scene as a video."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (WIDTH, HEIGHT))
    for image in pictures(count):
        writer.write(image)
    writer.release()
    return path


def write_folder(path: Path, count: int) -> Path:
    """Write the scene as a folder of images."""
    path.mkdir(parents=True)
    for frame, image in enumerate(pictures(count)):
        cv2.imwrite(str(path / f"{frame + 1:06d}.png"), image)
    return path
