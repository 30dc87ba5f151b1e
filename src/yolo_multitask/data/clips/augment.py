"""What is done to a window in training, the same to all of its frames and to what is labelled in them.

Coordinates are pixels of the network input: x right, y down, (0, 0) is the outer corner of the first pixel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from yolo_multitask.data.clips.preprocess import PADDING, Image

_NOISE_TILE = 64  # by how much the tile of noise is larger than a frame, so that it lies elsewhere in each


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What was drawn for one window.

    Attributes:
        matrix: (3, 3), from pixels of the input to pixels of the augmented one, flips included.
        lookup: uint8 (256,) of grey frames, or (256, 3) of hue, saturation and value; None to leave them.
        noise: Standard deviation of image noise in grey values, 0 for none.
        mirrored: Whether left and right are swapped.
        reverse: Whether time runs backwards.
        seed: Of the noise.
    """

    matrix: NDArray[np.float64]
    lookup: NDArray[np.uint8] | None = None
    noise: float = 0.0
    mirrored: bool = False
    reverse: bool = False
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class WindowAugment:
    """How much a window is changed, in the host's names and units; what is 0 is left out.

    Attributes:
        scale, translate, degrees, shear: Of the one affine map of a window.
        fliplr, flipud: Probabilities of a mirror image.
        hsv_h, hsv_s, hsv_v: Gains of colour; of grey frames `hsv_v` changes brightness and, half as much, contrast.
        noise: Largest standard deviation of image noise in grey values; every second window has some.
        reverse: Probability that time runs backwards.
    """

    scale: float = 0.0
    translate: float = 0.0
    degrees: float = 0.0
    shear: float = 0.0
    fliplr: float = 0.0
    flipud: float = 0.0
    hsv_h: float = 0.0
    hsv_s: float = 0.0
    hsv_v: float = 0.0
    noise: float = 3.0
    reverse: float = 0.0

    @classmethod
    def from_args(cls, args: Any) -> WindowAugment:
        """Return what a configuration says; the keys that it lacks have their defaults. Mosaic, mixup and the like do
        not exist here: they would tear a window apart.
        """
        keys = cls.__dataclass_fields__
        return cls(**{k: float(getattr(args, k)) for k in keys if getattr(args, k, None) is not None})

    def draw(self, rng: np.random.Generator, shape: tuple[int, int], channels: int) -> Drawn:
        """Draw what is done to one window.

        Args:
            rng: Source of randomness.
            shape: Height and width (h, w) of the network input.
            channels: Of a frame.
        """
        h, w = shape
        matrix = self._affine(rng, w, h)
        mirrored, upside = rng.random() < self.fliplr, rng.random() < self.flipud
        if mirrored:
            matrix = np.array([[-1, 0, w], [0, 1, 0], [0, 0, 1.0]]) @ matrix
        if upside:
            matrix = np.array([[1, 0, 0], [0, -1, h], [0, 0, 1.0]]) @ matrix
        noisy = self.noise > 0 and rng.random() < 0.5
        return Drawn(
            matrix=matrix,
            lookup=self._lookup(rng, channels),
            noise=float(rng.uniform(0, self.noise)) if noisy else 0.0,
            mirrored=bool(mirrored),
            reverse=bool(rng.random() < self.reverse),
            seed=int(rng.integers(2**31)),
        )

    def _affine(self, rng: np.random.Generator, w: int, h: int) -> NDArray[np.float64]:
        """Draw scale, rotation, shear about the centre, and a shift; as the host's ``RandomPerspective``."""
        if not (self.scale or self.translate or self.degrees or self.shear):
            return np.eye(3)
        centre, back = np.eye(3), np.eye(3)
        centre[:2, 2] = -w / 2, -h / 2
        back[:2, 2] = rng.uniform(0.5 - self.translate, 0.5 + self.translate, 2) * (w, h)
        angle, gain = (
            math.radians(rng.uniform(-self.degrees, self.degrees)),
            rng.uniform(1 - self.scale, 1 + self.scale),
        )
        turn = np.eye(3)
        turn[:2, :2] = gain * np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        lean = np.eye(3)
        lean[0, 1], lean[1, 0] = np.tan(np.radians(rng.uniform(-self.shear, self.shear, 2)))
        return np.asarray(back @ lean @ turn @ centre)

    def _lookup(self, rng: np.random.Generator, channels: int) -> NDArray[np.uint8] | None:
        """Draw the change of colour or brightness as a table."""
        values = np.arange(256)
        if channels == 1:
            if not self.hsv_v:
                return None
            gain, contrast = 1 + rng.uniform(-1, 1, 2) * (self.hsv_v, self.hsv_v / 2)
            return np.clip(np.rint((values * gain - 127.5) * contrast + 127.5), 0, 255).astype(np.uint8)
        if not (self.hsv_h or self.hsv_s or self.hsv_v):
            return None
        r = rng.uniform(-1, 1, 3) * (self.hsv_h, self.hsv_s, self.hsv_v)
        saturation, value = (np.clip(values * (1 + gain), 0, 255) for gain in r[1:])
        return np.stack(((values + r[0] * 180) % 180, saturation, value), 1).astype(np.uint8)


def change_frames(frames: Sequence[Image], drawn: Drawn) -> list[Image]:
    """Return frames (h, w, C), each changed in the same way; only the noise differs.

    Args:
        frames: Prepared frames, grey or RGB; they stay as they are.
        drawn: What to do.
    """
    h, w = frames[0].shape[:2]
    channels = frames[0].shape[2]
    tile = _noise_tile(drawn, h, w, channels) if drawn.noise else None
    rng = np.random.default_rng(drawn.seed)
    out = []
    for frame in frames:
        changed = _recolour(warp(frame, drawn.matrix), drawn.lookup)
        if tile is not None:
            y, x = rng.integers(0, _NOISE_TILE, 2)
            changed = cv2.add(changed, tile[y : y + h, x : x + w], dtype=cv2.CV_8U)
        out.append(changed.reshape(h, w, channels))
    return out


def warp(frame: Image, matrix: NDArray[np.float64]) -> Image:
    """Return a frame moved by a matrix (3, 3) in its pixels; flips alone are exact, what is around it is grey 114."""
    h, w = frame.shape[:2]
    rest, code = matrix, None
    flips = {(1.0, 1.0): None, (-1.0, 1.0): 1, (1.0, -1.0): 0, (-1.0, -1.0): -1}
    diagonal = float(matrix[0, 0]), float(matrix[1, 1])
    plain = diagonal in flips and matrix[0, 1] == matrix[1, 0] == 0
    if plain and tuple(matrix[:2, 2]) == (w if diagonal[0] < 0 else 0, h if diagonal[1] < 0 else 0):
        rest, code = np.eye(3), flips[diagonal]
    if code is not None:
        return np.asarray(cv2.flip(frame, code), np.uint8).reshape(frame.shape)
    if (rest == np.eye(3)).all():
        return frame
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])  # OpenCV counts from the centre of the first pixel
    moved = (np.linalg.inv(half) @ matrix @ half)[:2]
    border = (PADDING,) * 3
    return np.asarray(cv2.warpAffine(frame, moved, (w, h), borderValue=border), np.uint8).reshape(frame.shape)


def move_points(points: NDArray[np.float32], matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return points (..., 2) moved by a matrix (3, 3)."""
    return (points @ matrix[:2, :2].T + matrix[:2, 2]).astype(np.float32)


def move_boxes(boxes: NDArray[np.float32], matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the upright boxes (N, 4) x1 y1 x2 y2 around boxes moved by a matrix (3, 3)."""
    corners = move_points(boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2), matrix)
    return np.concatenate((corners.min(1), corners.max(1)), 1).astype(np.float32)


def _recolour(frame: Image, lookup: NDArray[np.uint8] | None) -> Image:
    """Return a frame in other colours."""
    if lookup is None:
        return frame
    if lookup.ndim == 1:
        return np.asarray(cv2.LUT(frame, lookup), np.uint8).reshape(frame.shape)
    hsv = cv2.cvtColor(frame, cv2.COLOR_RGB2HSV)
    return np.asarray(cv2.cvtColor(cv2.LUT(hsv, lookup.reshape(1, 256, 3)), cv2.COLOR_HSV2RGB), np.uint8)


def _noise_tile(drawn: Drawn, h: int, w: int, channels: int) -> NDArray[np.int8]:
    """Return image noise for a picture larger than a frame, drawn once and cut elsewhere for each frame."""
    cv2.setRNGSeed(drawn.seed)
    tile = np.empty((h + _NOISE_TILE, w + _NOISE_TILE, channels), np.int8)
    cv2.randn(tile, (0,) * channels, (drawn.noise,) * channels)
    return tile
