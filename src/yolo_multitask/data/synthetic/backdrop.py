"""The place of a synthetic world: a textured wall and floor with shapes, and the shadows of bodies on it."""

from __future__ import annotations

import cv2
import numpy as np

from .canvas import Image
from .motion import HORIZON, JOINT, BallMotion, FigureMotion
from .world import WorldConfig


def draw_backdrop(rng: np.random.Generator, config: WorldConfig) -> Image:
    """Textured wall and floor with shapes, (H, W + 2 * pan, 3) uint8 BGR: as wide as the camera sees while it pans."""
    height, width = config.height, config.width + 2 * round(config.pan * config.width)
    edge = round(height * float(rng.uniform(HORIZON + 0.12, HORIZON + 0.26)))
    tones = rng.integers(70, 200, size=(4, 1, 3)) * 0.5 + rng.integers(70, 200, size=(4, 1, 1)) * 0.5
    ramp = np.linspace(0, 1, height).reshape(-1, 1, 1)
    wall = tones[0] + (tones[1] - tones[0]) * ramp
    floor = tones[2] + (tones[3] - tones[2]) * ramp
    image = np.repeat(np.where(np.arange(height).reshape(-1, 1, 1) < edge, wall, floor), width, axis=1)
    for cells, strength in ((6, 24), (24, 16), (80, 12)):
        size = cells * 3 // 4, cells
        grey = rng.integers(-strength, strength + 1, size=(*size, 1))
        tint = rng.integers(-strength // 3, strength // 3 + 1, size=(*size, 3))
        image += cv2.resize((grey + tint).astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    canvas = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    for _ in range(int(rng.integers(9, 17))):
        _draw_shape(canvas, rng, edge)
    return np.asarray(cv2.GaussianBlur(canvas, (3, 3), 0), np.uint8)


def _draw_shape(canvas: Image, rng: np.random.Generator, edge: int) -> None:
    """Draw one random window, post, bush, stripe or tile, in place."""
    height, width = canvas.shape[:2]
    tone = rng.integers(50, 210) * 0.6 + rng.integers(50, 210, size=3) * 0.4
    colour = tuple(float(v) for v in np.rint(tone))
    x, y = int(rng.integers(width)), int(rng.integers(height))
    w, h = (int(rng.integers(height // 24, height // 4)) for _ in range(2))
    kind = int(rng.integers(5))
    if kind == 0:
        cv2.rectangle(canvas, (x, y * edge // height), (x + w, y * edge // height + h), colour, -1)
    elif kind == 1:
        cv2.rectangle(canvas, (x, edge - 2 * h), (x + w // 4 + 2, edge + h // 4), colour, -1)
    elif kind == 2:
        cv2.ellipse(canvas, (x, edge), (w // 2 + 2, h // 3 + 2), 0, 0, 360, colour, -1)
    elif kind == 3:
        cv2.line(canvas, (x, y), (x + w - height // 8, y + h - height // 8), colour, 1 + h // 16)
    else:
        top = edge + (y * (height - edge)) // height
        corners = np.array([(x, top), (x + w, top), (x + w + h // 2, top + h // 3), (x + h // 2, top + h // 3)])
        cv2.fillConvexPoly(canvas, corners.astype(np.int32), colour)


def draw_shadow(image: Image, body: FigureMotion | BallMotion, index: int) -> None:
    """Darken the ground below a body, in place."""
    if isinstance(body, FigureMotion):
        hips = body.points[index, [JOINT["left_hip"], JOINT["right_hip"]], 0]
        x, half = float(hips.mean()), 0.17 * float(body.height[index])
    else:
        x, half = float(body.centre[index, 0]), float(body.radius[index])
    y, reach = round(float(body.ground[index])), int(half) + 2
    left, right = max(0, round(x) - reach), min(image.shape[1], round(x) + reach)
    top, bottom = max(0, y - reach // 3), min(image.shape[0], y + reach // 3)
    if left >= right or top >= bottom:
        return
    area = image[top:bottom, left:right]
    dark = area.copy()
    cv2.ellipse(dark, (round(x) - left, y - top), (int(half), int(half / 4)), 0, 0, 360, (20.0, 20.0, 20.0), -1)
    cv2.addWeighted(area, 0.65, dark, 0.35, 0, dst=area)
