"""A tracked result of a letterboxed network input, and the same without torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ultralytics.utils import ops

from yolo_multitask.engine.results import Results
from yolo_multitask.runtime import Detections

NAMES = {0: "person", 1: "car", 2: "dog"}
H, W = 90, 120  # of the image
SIZE = 96  # of the network input, in which the image is 72 rows high, 12 below the top
N, K, E = 3, 4, 8
XYXY = [[5.0, 5, 35, 75], [40, 30, 110, 60], [60, 10, 80.5, 85.25]]
SCORES = [0.9, 0.75, 0.6]
CLASSES = [0, 1, 2]
IDS = [7, 9, 12]


def input_masks() -> torch.Tensor:
    """Return masks (N, SIZE, SIZE) uint8 of the network input: a box, two parts, and a disc with a hole."""
    masks = torch.zeros(N, SIZE, SIZE, dtype=torch.uint8)
    masks[0, 16:72, 4:28] = 1
    masks[1, 36:60, 32:50] = masks[1, 40:60, 60:88] = 1
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    distance = ((x - 56) ** 2 + ((y - 50) / 3) ** 2).sqrt()
    masks[2] = ((distance < 8) & (distance > 3)).byte()
    return masks


def host_masks(masks: torch.Tensor, shape: tuple[int, int] = (H, W)) -> NDArray[np.bool_]:
    """Return masks (N, h, w) in the size of the image, as the host draws them."""
    found: NDArray[np.bool_] = (ops.scale_masks(masks[None].float(), shape)[0] > 0.5).numpy()
    return found


def make_results(tracked: bool = True, dims: int = 3, **fields: Any) -> Results:
    """Return N detections, the car without keypoints; `fields` replaces any but the boxes, None leaves one out."""
    generator = torch.Generator().manual_seed(0)
    keypoints = torch.rand(N, K, dims, generator=generator)
    keypoints[..., 0] *= W
    keypoints[..., 1] *= H
    keypoints[1] = 0
    boxes = torch.tensor(XYXY)
    ids = [torch.tensor(IDS)[:, None].float()] if tracked else []
    given = {
        "masks": input_masks(),
        "keypoints": keypoints,
        "embeddings": torch.nn.functional.normalize(torch.rand(N, E, generator=generator)),
        "next_boxes": boxes + torch.tensor([3.0, -8, 3, -8]),
        **fields,
    }
    data = torch.cat((boxes, *ids, torch.tensor(SCORES)[:, None], torch.tensor(CLASSES)[:, None]), 1)
    return Results(np.zeros((H, W, 3), np.uint8), path="a.jpg", names=NAMES, boxes=data, **given)


def plain(result: Results, *, native: bool = False) -> Detections:
    """Return a result without torch; its masks are of the image if `native`, else of the network input."""
    found = result.numpy()
    parts = {k: getattr(found, k) for k in ("keypoints", "embeddings", "next_boxes")}
    masks = result.masks
    if masks is not None:
        masks = host_masks(masks.data) if native else masks.data.bool().numpy()
    return Detections(
        image=result.orig_img,
        names=result.names,
        xyxy=found.boxes.xyxy,
        score=found.boxes.conf,
        cls=found.boxes.cls.astype(np.int64),
        masks=masks,
        ids=None if found.boxes.id is None else found.boxes.id.astype(np.int64),
        **{k: None if part is None else part.data for k, part in parts.items()},
    )
