"""The frames of a synthetic world: pictures and the labels that belong to them, exact by construction.

Bodies are laid over the background from far to near, so that a pixel belongs to the nearest body that covers it.

Frame: x right, y down, (0, 0) is the outer corner of the first pixel, so the centre of pixel (row i, column j) is at
(j + 0.5, i + 0.5).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .backdrop import draw_backdrop, draw_shadow
from .bodies import draw_ball, draw_figure
from .canvas import Image, Layer, clip, lay_over
from .motion import BallMotion, FigureMotion, camera_pan, figure_paths, move_ball, move_figure
from .world import KEYPOINT_NAMES, WorldConfig, draw_look


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One picture with its exact labels; N instances, index-aligned, in the order of their ids.

    An instance of which no pixel is visible is not in the frame.

    Attributes:
        index: number of the frame in its sequence, from 0.
        image: (H, W, 3) uint8 BGR.
        masks: (N, H, W) bool, visible pixels; no pixel belongs to two instances.
        boxes: (N, 4) float32 xyxy in pixels, the tight box of the visible pixels.
        keypoints: (N, 17, 3) float32, x and y in pixels and visibility: 2 seen, 1 hidden by another body or by the
            figure's own, 0 outside the picture (x and y are then 0). All 0 for a class without keypoints.
        ids: (N,) int64, constant over the sequence, from 1.
        cls: (N,) int64, 0 person, 1 ball.
        visible_fraction: (N,) float32, visible pixels over all pixels of the body, also those outside the picture.
        hidden_fraction: (N,) float32, share of the body's pixels inside the picture that a nearer body hides.
        ignore: (N,) bool, too little is visible to ask for a detection.
    """

    index: int
    image: Image
    masks: NDArray[np.bool_]
    boxes: NDArray[np.float32]
    keypoints: NDArray[np.float32]
    ids: NDArray[np.int64]
    cls: NDArray[np.int64]
    visible_fraction: NDArray[np.float32]
    hidden_fraction: NDArray[np.float32]
    ignore: NDArray[np.bool_]


class World:
    """One sequence: a background, a panning camera, and figures and balls with constant identities.

    Args:
        seed: names the sequence; the same seed and config give the same frames, in any order of access.
        config: what the world looks like.

    Raises:
        ValueError: the seed is negative.
    """

    def __init__(self, seed: int, config: WorldConfig | None = None) -> None:
        if seed < 0:
            raise ValueError(f"World: expected a seed of 0 or above, found {seed}")
        self.seed = seed
        self.config = config = config or WorldConfig()
        rng = np.random.default_rng([seed, 0])
        self.pan = camera_pan(rng, config)
        paths = figure_paths(rng, config)
        hue = float(rng.uniform())
        self.looks = [draw_look(rng, (hue + i / len(paths)) % 1.0) for i in range(len(paths))]
        self.figures = [move_figure(rng, config, share, ends, self.pan) for share, ends in paths]
        self.balls = [move_ball(rng, config, self.pan) for _ in range(config.objects)]
        self._light = rng.uniform(size=2)
        self._backdrop = draw_backdrop(np.random.default_rng([seed, 1]), config)

    def __len__(self) -> int:
        """Number of frames."""
        return self.config.length

    def __iter__(self) -> Iterator[Frame]:
        """All frames in order."""
        return (self.frame(index) for index in range(len(self)))

    def frame(self, index: int) -> Frame:
        """Render one frame; frames do not depend on each other.

        Args:
            index: from 0 to `len(world) - 1`.

        Raises:
            IndexError: there is no such frame.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"frame: expected an index from 0 to {len(self) - 1}, found {index}")
        config = self.config
        start = round(config.pan * config.width) + int(self.pan[index])
        image = self._backdrop[:, start : start + config.width].copy()
        bodies: list[FigureMotion | BallMotion] = [*self.figures, *self.balls]
        order = sorted(range(len(bodies)), key=lambda i: (float(bodies[i].ground[index]), i))
        for i in order:
            draw_shadow(image, bodies[i], index)
        owner = np.full(image.shape[:2], -1, np.int16)
        layers: dict[int, Layer] = {}
        for i in order:
            body = bodies[i]
            if isinstance(body, FigureMotion):
                layers[i] = draw_figure(body, self.looks[i], index)
            else:
                layers[i] = draw_ball(body, index)
            lay_over(image, owner, layers[i], i)
        self._expose(image, index)
        return self._label(image, owner, [layers[i] for i in range(len(bodies))], index)

    def _expose(self, image: Image, index: int) -> None:
        """Change the brightness of a picture and add image noise, in place."""
        config, time = self.config, index / self.config.fps
        slow, quick = np.sin(2 * math.pi * (np.array([0.05, 0.31]) * time + self._light))
        gain = 1 + config.lighting * (0.8 * slow + 0.2 * quick)
        cv2.LUT(image, np.clip(np.rint(np.arange(256) * gain), 0, 255).astype(np.uint8), dst=image)
        if config.noise:
            grain = np.random.default_rng([self.seed, 2, index]).integers(
                -config.noise, config.noise + 1, size=image.shape, dtype=np.int8
            )
            cv2.add(image, grain, dst=image, dtype=cv2.CV_8U)

    def _label(self, image: Image, owner: NDArray[np.int16], layers: list[Layer], index: int) -> Frame:
        """Read the labels of a frame off its owner map (H, W) and its layers."""
        config = self.config
        rows: list[tuple[int, NDArray[np.bool_], tuple[int, ...], NDArray[np.float32], float, float, int]] = []
        for i, layer in enumerate(layers):
            mask = owner == i
            area = int(cv2.countNonZero(mask.view(np.uint8)))
            if not area:
                continue
            whole = layer.cover >= 128
            inside = int(np.count_nonzero(clip(whole, layer.origin, mask.shape)[0]))
            if i < len(self.figures):
                points = self.figures[i].points[index, : len(KEYPOINT_NAMES)]
                keypoints = _keypoints(points, layer.seen, owner, i)
            else:
                keypoints = np.zeros((len(KEYPOINT_NAMES), 3), np.float32)
            x, y, w, h = cv2.boundingRect(mask.view(np.uint8))
            box = (x, y, x + w, y + h)
            rows.append((i, mask, box, keypoints, area / int(np.count_nonzero(whole)), 1 - area / inside, area))
        n, (height, width) = len(rows), owner.shape
        visible = np.array([row[4] for row in rows], np.float32)
        return Frame(
            index=index,
            image=image,
            masks=np.array([row[1] for row in rows], bool).reshape(n, height, width),
            boxes=np.array([row[2] for row in rows], np.float32).reshape(n, 4),
            keypoints=np.array([row[3] for row in rows], np.float32).reshape(n, len(KEYPOINT_NAMES), 3),
            ids=np.array([row[0] + 1 for row in rows], np.int64),
            cls=np.array([int(row[0] >= len(self.figures)) for row in rows], np.int64),
            visible_fraction=visible,
            hidden_fraction=np.array([row[5] for row in rows], np.float32),
            ignore=(visible < config.min_visible) | (np.array([row[6] for row in rows]) < config.min_area),
        )


def render_sequence(seed: int, config: WorldConfig | None = None) -> Iterator[Frame]:
    """All frames of one sequence in order; see `World`."""
    return iter(World(seed, config))


def _keypoints(
    points: NDArray[np.float64], seen: NDArray[np.bool_], owner: NDArray[np.int16], number: int
) -> NDArray[np.float32]:
    """Keypoints (17, 3) in pixels with visibility.

    Args:
        points: (17, 2) in pixels.
        seen: (17,) which of them the figure itself does not hide.
        owner: (H, W) number of the body of each pixel.
        number: the figure's number.
    """
    height, width = owner.shape
    keypoints = np.zeros((len(points), 3), np.float32)
    for k, (x, y) in enumerate(points):
        if 0 <= x < width and 0 <= y < height:
            keypoints[k] = x, y, 2 if seen[k] and owner[int(y), int(x)] == number else 1
    return keypoints
