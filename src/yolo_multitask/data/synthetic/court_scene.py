"""A court with players, a small fast ball, and things that look like the ball in any one picture.

The ball is a few pixels large and drawn as it moves while the shutter is open. Spots of the same colour, size and blur
lie still, sway slowly, or flash up for one frame: what tells the ball from them is how it moves, which one picture does
not show. Posts stand before the ball, players sometimes too; it leaves the picture and returns.

Frame: x right, y down, (0, 0) is the outer corner of the first pixel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from .canvas import Image
from .rally import Path, draw_path
from .render import Frame, World
from .world import WorldConfig

CLEAR, HARD, HIDDEN = 1, 2, 3  # how well the ball is seen
_STEPS = 13  # pictures that make up the blur of one
_FAINT = 40.0  # grey values above what is around it, below which a ball is hard to see
_MOSTLY = 0.6  # share of the ball that a post or player covers where it counts as hidden


@dataclass(frozen=True, kw_only=True)
class CourtConfig:
    """What a court looks like; all frames of one clip share it.

    Args:
        width, height: Of the picture in pixels.
        length: Frames of a clip.
        fps: Frames per second of the players.
        players: Smallest and largest number of players.
        radius: Smallest and largest radius of the ball in pixels.
        speed: Slowest and fastest mean speed of a flight, in picture widths a frame.
        shutter: Share of the time that the shutter is open: how much is blurred.
        away: Shortest and longest time that the ball is away, in frames.
        still, swaying: Number of spots that look like the ball and lie still, or sway.
        flashes: Mean number of spots a frame that are there for one frame.
        posts: Number of posts before the ball.
        pan: Largest shift of the camera, in units of the width.
        noise: Standard deviation of image noise in grey values.
        lighting: Largest relative change of brightness.

    Raises:
        ValueError: A value is out of its range.
    """

    width: int = 640
    height: int = 360
    length: int = 60
    fps: float = 25.0
    players: tuple[int, int] = (2, 4)
    radius: tuple[float, float] = (1.5, 3.0)
    speed: tuple[float, float] = (0.015, 0.04)
    shutter: float = 0.4
    away: tuple[int, int] = (6, 16)
    still: int = 6
    swaying: int = 3
    flashes: float = 1.0
    posts: int = 2
    pan: float = 0.01
    noise: float = 2.5
    lighting: float = 0.08

    def __post_init__(self) -> None:
        """Check the values."""
        rules: tuple[tuple[bool, str, object], ...] = (
            (min(self.width, self.height) >= 64, "width and height of at least 64", (self.width, self.height)),
            (self.length >= 1, "length of at least 1", self.length),
            (0 < self.radius[0] <= self.radius[1] <= 16, "radius=(low, high) within 0 to 16", self.radius),
            (0 < self.speed[0] <= self.speed[1] <= 0.2, "speed=(low, high) within 0 to 0.2", self.speed),
            (0 <= self.shutter <= 1, "shutter from 0 to 1", self.shutter),
            (0 <= self.away[0] <= self.away[1], "away=(low, high) from 0", self.away),
            (min(self.still, self.swaying, self.posts, self.flashes, self.noise) >= 0, "counts from 0", "one below"),
        )
        for holds, expected, found in rules:
            if not holds:
                raise ValueError(f"CourtConfig: expected {expected}, found {found}")

    @property
    def world(self) -> WorldConfig:
        """The world of the players."""
        return WorldConfig(
            width=self.width, height=self.height, figures=self.players, length=self.length, fps=self.fps,
            figure_height=(0.3, 0.55), pan=self.pan, lighting=0, noise=0, max_yaw=75,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Ball:
    """The ball in one frame.

    Attributes:
        x, y: Its centre in pixels when the shutter is half open; inside of the picture.
        size: Width and height of what it covers while the shutter is open, centred on it.
        visible: `CLEAR`, `HARD` to see or `HIDDEN`.
        ident: Number of its stay in the picture, from 0: a ball that returns has another.
    """

    x: float
    y: float
    size: tuple[float, float]
    visible: int
    ident: int


@dataclass(frozen=True, kw_only=True)
class CourtFrame:
    """One picture with its exact labels.

    Attributes:
        image: (H, W, 3) uint8 BGR.
        ball: The ball, None where it is not in the picture.
        players: The players as `World` labels them; its picture is without the ball.
    """

    image: Image
    ball: Ball | None
    players: Frame


@dataclass(frozen=True, kw_only=True)
class _Spot:
    """Something that looks like the ball: where it is, and its streak (half of it) in pixels."""

    place: tuple[float, float]
    streak: tuple[float, float]
    sway: tuple[float, float, float, float]  # amplitudes in x and y, turns a frame, phase


class Court:
    """One clip.

    Args:
        seed: Names the clip; the same seed and config give the same frames, in any order of access.
        config: What it looks like.
    """

    def __init__(self, seed: int, config: CourtConfig | None = None) -> None:
        self.seed, self.config = seed, config or CourtConfig()
        config = self.config
        self.world = World(seed, config.world)
        rng = np.random.default_rng([seed, 7])
        self._size = config.width, config.height
        self.radius = float(rng.uniform(*config.radius))
        self.colour = np.array([rng.uniform(110, 210), rng.uniform(232, 250), rng.uniform(225, 250)])
        self.path: Path = draw_path(rng, self._size, config.length, config.speed, config.away)
        self.spots = [self._spot(rng, sways=i >= config.still) for i in range(config.still + config.swaying)]
        self._posts = [self._post(rng) for _ in range(config.posts)]
        self._lines, self._phase = self._markings(rng), float(rng.uniform())

    def __len__(self) -> int:
        """Return the number of frames."""
        return self.config.length

    def __iter__(self) -> Iterator[CourtFrame]:
        """All frames in order."""
        return (self.frame(index) for index in range(len(self)))

    def frame(self, index: int) -> CourtFrame:
        """Render one frame.

        Args:
            index: From 0 to `len(court) - 1`.
        """
        config, rng = self.config, np.random.default_rng([self.seed, 8, index])
        players = self.world.frame(index)
        covered: NDArray[np.bool_] = np.asarray(players.masks.any(axis=0))
        scene = players.image.astype(np.float32)
        shift = -float(self.world.pan[index])
        for ends in self._lines:
            (ax, ay), (bx, by) = ends
            a, b = (round(16 * (ax + shift)), round(16 * ay)), (round(16 * (bx + shift)), round(16 * by))
            cv2.line(scene, a, b, (225, 228, 228), 2, cv2.LINE_AA, 4)
        for spot in self.spots:
            self._draw(scene, self._streak(spot, index, shift))
        for _ in range(rng.poisson(config.flashes)):
            place = rng.uniform(0, 1, 2) * self._size
            self._draw(scene, place + np.linspace(-1, 1, _STEPS)[:, None] * self._half_streak(rng))
        post = np.zeros(covered.shape, bool)
        for left, right, top, bottom, tone in self._posts:
            where = np.s_[
                max(round(top), 0) : round(bottom), max(round(left + shift), 0) : max(round(right + shift), 0)
            ]
            scene[where], post[where] = tone, True
        scene[covered] = players.image[covered]
        ball = self._ball(scene, index, post, covered)
        return CourtFrame(image=self._expose(scene, rng, index), ball=ball, players=players)

    def _ball(
        self, scene: NDArray[np.float32], index: int, post: NDArray[np.bool_], covered: NDArray[np.bool_]
    ) -> Ball | None:
        """Draw the ball behind what is before it, and return its label."""
        config = self.config
        times = index + np.linspace(-0.5, 0.5, _STEPS) * config.shutter
        flight = self.path.flight(index)
        if flight is None:
            return None
        places = self.path.at(times)
        there = np.isfinite(places).all(1)
        x, y = (float(v) for v in flight.at(np.asarray(float(index))))
        before = post | covered if flight.behind else post & ~covered
        seen, contrast = self._draw(scene, places[there], before, len(times))
        if not (0 <= x < config.width and 0 <= y < config.height):
            return None
        size = 2 * np.abs(places[there] - (x, y)).max(0) + 2 * self.radius
        visible = HIDDEN if seen < 1 - _MOSTLY else HARD if contrast < _FAINT else CLEAR
        return Ball(x=x, y=y, size=(float(size[0]), float(size[1])), visible=visible, ident=self._stay(index))

    def _stay(self, index: int) -> int:
        """Number of the stay of the ball in the picture: how often it was away before."""
        flights = [f for f in self.path.flights if f.begin <= index]
        return sum(b.begin > a.end for a, b in pairwise(flights))

    def _draw(
        self,
        scene: NDArray[np.float32],
        places: NDArray[np.float64],
        before: NDArray[np.bool_] | None = None,
        steps: int = _STEPS,
    ) -> tuple[float, float]:
        """Draw a ball at several places, each for a part of the time, in place.

        Args:
            scene: (H, W, 3) BGR.
            places: (S, 2) centres in pixels.
            before: (H, W), what covers it.
            steps: Number of places that are the whole time.

        Returns:
            Share of it that is seen, and how much brighter its brightest pixel is than what was there, in grey values.
        """
        reach = self.radius + 1
        low = np.maximum(np.floor(places.min(0) - reach).astype(int), 0)
        high = np.minimum(np.ceil(places.max(0) + reach).astype(int), self._size)
        if (high <= low).any():
            return 1.0, 0.0
        where = np.s_[low[1] : high[1], low[0] : high[0]]
        y, x = np.mgrid[where] + 0.5
        distance = np.hypot(x[..., None] - places[:, 0], y[..., None] - places[:, 1])
        cover = np.clip(self.radius + 0.5 - distance, 0, 1).sum(-1) / steps
        whole = float(cover.sum())
        if before is not None:
            cover = np.where(before[where], 0, cover)
        part = scene[where]
        change = cover[..., None] * (self.colour - part)
        part += change.astype(np.float32)
        grey = change @ (0.114, 0.587, 0.299)
        return (float(cover.sum()) / whole if whole else 1.0), float(np.abs(grey).max(initial=0))

    def _spot(self, rng: np.random.Generator, sways: bool) -> _Spot:
        """Draw a spot that looks like the ball and lies still or sways."""
        sway = (*rng.uniform(2, 7, 2), float(rng.uniform(0.01, 0.03)), float(rng.uniform())) if sways else (0, 0, 0, 0)
        x, y = rng.uniform(0.02, 0.98, 2) * self._size
        streak = self._half_streak(rng)
        return _Spot(place=(float(x), float(y)), streak=(float(streak[0]), float(streak[1])), sway=sway)

    def _half_streak(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draw half of the streak that a flight would leave, (2,) pixels: mostly level, as those are."""
        length = 0.5 * self.config.shutter * self.config.width * float(rng.uniform(*self.config.speed))
        angle = float(rng.normal(0, 0.35))
        return length * np.array([math.cos(angle), math.sin(angle)])

    def _streak(self, spot: _Spot, index: int, shift: float) -> NDArray[np.float64]:
        """Return the places (S, 2) of a spot in one frame."""
        across, down, turns, phase = spot.sway
        turn = 2 * math.pi * (turns * index + phase)
        moved = np.array((shift + across * math.sin(turn), down * math.sin(1.7 * turn)))
        centre = spot.place + moved
        return centre + np.linspace(-1, 1, _STEPS)[:, None] * spot.streak

    def _post(self, rng: np.random.Generator) -> tuple[float, float, float, float, NDArray[np.float64]]:
        """Draw a post: left, right, top, bottom, and its colour."""
        width, height = self._size
        left, wide = float(rng.uniform(0.12, 0.85)) * width, float(rng.uniform(0.02, 0.05)) * width
        top, bottom = float(rng.uniform(0.0, 0.3)) * height, float(rng.uniform(0.6, 0.95)) * height
        return left, left + wide, top, bottom, rng.uniform(30, 110) + rng.uniform(-15, 15, 3)

    def _markings(self, rng: np.random.Generator) -> list[tuple[tuple[float, float], tuple[float, float]]]:
        """Draw the lines of the court, ends in pixels."""
        (width, height), far = self._size, float(rng.uniform(0.5, 0.6))
        near, skew = float(rng.uniform(0.9, 0.97)), float(rng.uniform(-0.05, 0.05))

        def place(x: float, depth: float) -> tuple[float, float]:
            half = 0.28 + 0.2 * depth
            return width * (0.5 + skew * (1 - depth) + half * (2 * x - 1)), height * (far + (near - far) * depth)

        across = [(place(0, d), place(1, d)) for d in (0.0, 0.35, 0.7, 1.0)]
        return [*across, *((place(x, 0), place(x, 1)) for x in (0.0, 0.5, 1.0))]

    def _expose(self, scene: NDArray[np.float32], rng: np.random.Generator, index: int) -> Image:
        """Return a picture with the brightness of its time and image noise."""
        config = self.config
        gain = 1 + config.lighting * math.sin(2 * math.pi * (index / 90 + self._phase))
        image = np.asarray(cv2.convertScaleAbs(scene, alpha=gain), np.uint8)
        if config.noise:
            cv2.setRNGSeed(int(rng.integers(2**31)))
            grain = np.empty(image.shape, np.int8)
            cv2.randn(grain, (0, 0, 0), (config.noise,) * 3)
            image = np.asarray(cv2.add(image, grain, dtype=cv2.CV_8U), np.uint8)
        return image
