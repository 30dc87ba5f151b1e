"""What a small synthetic world is made of: its settings, its keypoints and the looks of its figures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

KEYPOINT_NAMES: tuple[str, ...] = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
)
"""The 17 keypoints of a figure, in COCO's order."""

FLIP_IDX: tuple[int, ...] = (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
"""For each keypoint, the one that takes its place in a mirrored picture."""


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """What a synthetic world looks like; all frames of one sequence share it.

    Args:
        width: picture width in pixels.
        height: picture height in pixels.
        figures: smallest and largest number of figures in a sequence.
        objects: number of balls, a second class (`ball`) that has no keypoints.
        length: frames in a sequence.
        fps: frames per second; sets how far a figure moves between two frames.
        figure_height: smallest and largest height of a figure, in units of the picture's height.
        max_yaw: largest angle in degrees between a figure's front and the camera; above 90 it also turns its back.
        pan: largest shift of the camera to either side, in units of the picture's width.
        lighting: largest relative change of brightness.
        noise: largest change of a pixel value by image noise, in grey levels.
        min_visible: a figure of which a smaller share is visible is an ignore region.
        min_area: a figure with fewer visible pixels is an ignore region.

    Raises:
        ValueError: a value is out of its range.
    """

    width: int = 320
    height: int = 240
    figures: tuple[int, int] = (2, 4)
    objects: int = 0
    length: int = 48
    fps: float = 12.0
    figure_height: tuple[float, float] = (0.46, 0.78)
    max_yaw: float = 60.0
    pan: float = 0.04
    lighting: float = 0.1
    noise: int = 4
    min_visible: float = 0.15
    min_area: int = 30

    def __post_init__(self) -> None:
        low, high = self.figures
        short, tall = self.figure_height
        rules: tuple[tuple[bool, str, object], ...] = (
            (min(self.width, self.height) >= 32, "width and height of at least 32", (self.width, self.height)),
            (1 <= low <= high <= 16, "figures=(low, high) with 1 <= low <= high <= 16", self.figures),
            (0 <= self.objects <= 16, "objects from 0 to 16", self.objects),
            (self.length >= 1, "length of at least 1", self.length),
            (self.fps > 0, "fps above 0", self.fps),
            (0.1 <= short <= tall <= 0.9, "figure_height=(low, high) within 0.1 to 0.9", self.figure_height),
            (0 <= self.max_yaw <= 180, "max_yaw from 0 to 180 degrees", self.max_yaw),
            (0 <= self.pan <= 0.5, "pan from 0 to 0.5", self.pan),
            (0 <= self.lighting <= 0.5, "lighting from 0 to 0.5", self.lighting),
            (0 <= self.noise <= 64, "noise from 0 to 64", self.noise),
            (0 <= self.min_visible < 1, "min_visible from 0 to below 1", self.min_visible),
            (self.min_area >= 1, "min_area of at least 1", self.min_area),
        )
        for holds, expected, found in rules:
            if not holds:
                raise ValueError(f"WorldConfig: expected {expected}, found {found}")


@dataclass(frozen=True, kw_only=True)
class Look:
    """What one figure wears: constant over its sequence.

    Colours are BGR, 0..255. `pattern` is `plain`, `rows`, `columns`, `checks` or `dots`.
    """

    skin: tuple[int, int, int]
    hair: tuple[int, int, int]
    shirt: tuple[int, int, int]
    accent: tuple[int, int, int]
    trousers: tuple[int, int, int]
    shoes: tuple[int, int, int]
    pattern: str
    long_sleeves: bool
    long_trousers: bool
    skirt: bool


def hsv(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    """BGR colour (0..255) of a hue (turns), a saturation and a value (0..1)."""
    channel = [(n + hue * 6.0) % 6.0 for n in (1.0, 3.0, 5.0)]  # blue, green, red
    blue, green, red = (round(255 * value * (1 - saturation * max(0.0, min(k, 4.0 - k, 1.0)))) for k in channel)
    return blue, green, red


def draw_look(rng: np.random.Generator, hue: float) -> Look:
    """A random look whose shirt has the given hue (turns)."""
    skins = ((176, 204, 238), (150, 182, 224), (120, 155, 205), (92, 124, 176), (66, 92, 138))
    hairs = ((24, 22, 26), (36, 54, 82), (92, 170, 214), (48, 84, 164), (150, 150, 156))
    patterns = ("plain", "rows", "columns", "checks", "dots")
    shirt = hsv(hue, float(rng.uniform(0.65, 0.95)), float(rng.uniform(0.65, 0.95)))
    light = bool(rng.integers(2))
    accent = hsv((hue + 0.5) % 1.0, 0.15, 0.95) if light else hsv(hue, 0.9, 0.30)
    trousers = hsv(float(rng.uniform()), float(rng.uniform(0.2, 0.7)), float(rng.uniform(0.25, 0.75)))
    return Look(
        skin=skins[int(rng.integers(len(skins)))],
        hair=hairs[int(rng.integers(len(hairs)))],
        shirt=shirt,
        accent=accent,
        trousers=trousers,
        shoes=hsv(float(rng.uniform()), 0.5, float(rng.uniform(0.15, 0.85))),
        pattern=patterns[int(rng.integers(len(patterns)))],
        long_sleeves=bool(rng.integers(2)),
        long_trousers=bool(rng.integers(3)),
        skirt=int(rng.integers(5)) == 0,
    )
