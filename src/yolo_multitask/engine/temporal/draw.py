"""Windows as pictures: the newest frame, with the way of each object through the window."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

OLD, NEW = np.array([200, 40, 40]), np.array([255, 230, 60])  # RGB of the oldest and of the newest frame's objects
HIDDEN = 3


def newest_frames(windows: torch.Tensor, channels: int) -> NDArray[np.uint8]:
    """Return the newest frame of windows as pictures (B, h, w, 3) RGB.

    Args:
        windows: (B, G*C, h, w), uint8 or in 0..1.
        channels: Channels of a frame, C.
    """
    frames = windows[:, -channels:].expand(-1, 3, -1, -1).permute(0, 2, 3, 1).cpu()
    frames = frames if frames.dtype == torch.uint8 else (frames.float() * 255).round().to(torch.uint8)
    return np.ascontiguousarray(frames.numpy())


def draw_objects(image: NDArray[np.uint8], objects: Iterable[tuple[float, float, float, bool]]) -> None:
    """Draw a ring around each object, from red (oldest) to yellow (newest); of a hidden one a thin cross.

    Args:
        image: (h, w, 3) RGB, changed in place.
        objects: x, y in pixels, age in 0 (oldest) to 1 (newest), and whether it is hidden.
    """
    radius = max(round(max(image.shape[:2]) / 160), 3)
    for x, y, age, hidden in objects:
        colour = tuple(int(v) for v in (1 - age) * OLD + age * NEW)
        centre = round(x), round(y)
        if hidden:
            cv2.drawMarker(image, centre, colour, cv2.MARKER_TILTED_CROSS, 2 * radius, 1, cv2.LINE_AA)
        else:
            cv2.circle(image, centre, radius, colour, 1, cv2.LINE_AA)


def labelled_pictures(batch: Mapping[str, Any], channels: int) -> torch.Tensor:
    """Return the newest frames of a batch with its labelled objects drawn, (B, 3, h, w) uint8.

    Args:
        batch: A batch of windows.
        channels: Channels of a frame.
    """
    pictures = newest_frames(batch["img"], channels)
    height, width = pictures.shape[1:3]
    groups = max(batch["valid"].shape[1] - 1, 1)
    for i, picture in enumerate(pictures):
        own = (batch["points_idx"] == i).nonzero().flatten().tolist()
        rows = []
        for k in own:
            x, y = batch["points"][k].tolist()
            age = float(batch["points_group"][k]) / groups
            rows.append((x * width, y * height, age, int(batch["points_visible"][k]) == HIDDEN))
        draw_objects(picture, rows)
    return torch.from_numpy(pictures).permute(0, 3, 1, 2)
