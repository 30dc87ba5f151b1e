"""Who is where, in which pose: the paths of figures and balls as arrays over all frames of a sequence.

Shapes: `T` frames, `J` joints, `2` picture x and y in pixels (x right, y down, (0, 0) the outer corner of the first
pixel). Body axes are (forward, left, up), in units of the figure's height; the origin is on the ground below the hips.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .world import KEYPOINT_NAMES, WorldConfig, hsv

# Needed to draw a figure, never labelled.
EXTRA_JOINTS = ("left_toe", "right_toe", "left_hand", "right_hand", "head", "face", "hair", "collar", "buckle")
JOINT: dict[str, int] = {name: i for i, name in enumerate((*KEYPOINT_NAMES, *EXTRA_JOINTS))}

# Body proportions in units of the figure's height: the head a little larger than a person's, so that a face is seen.
THIGH, SHIN, ANKLE_HEIGHT, FOOT = 0.240, 0.225, 0.050, 0.085
UPPER_ARM, FOREARM, HAND = 0.160, 0.145, 0.040
SHOULDER_HALF, HIP_HALF, TRUNK, HEAD_RISE = 0.120, 0.068, 0.285, 0.108
HEAD_RADIUS = 0.082

CAMERA_HEIGHT = 0.75  # of a figure's height above the ground: the feet of nearer (taller) figures stand lower
HORIZON = 0.36  # of the picture's height
TILT = 0.10  # how much lower a point appears that is one unit nearer: the camera looks slightly down

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class FigureMotion:
    """The path and pose of one figure over a sequence.

    Attributes:
        points: (T, J, 2) joints in pixels; may lie outside the picture.
        near: (T, J) how far a joint is towards the camera from the figure's axis, in figure heights.
        height: (T,) height of the figure in pixels.
        yaw: (T,) angle of the figure's front in radians: 0 towards the camera, positive to the right of the picture.
        ground: (T,) y of the ground under the figure in pixels; the larger, the nearer the figure.
    """

    points: Array
    near: Array
    height: Array
    yaw: Array
    ground: Array


@dataclass(frozen=True, kw_only=True)
class BallMotion:
    """The path of one ball over a sequence.

    Attributes:
        centre: (T, 2) in pixels.
        radius: (T,) in pixels.
        spin: (T,) turn of its pattern in radians.
        ground: (T,) y of the ground under the ball in pixels.
        colours: BGR of its two halves.
    """

    centre: Array
    radius: Array
    spin: Array
    ground: Array
    colours: tuple[tuple[int, int, int], tuple[int, int, int]]


def camera_pan(rng: np.random.Generator, config: WorldConfig) -> NDArray[np.int64]:
    """Shift of the camera to the right in whole pixels, (T,), within `config.pan` of the width."""
    time = np.arange(config.length) / config.fps
    swing = np.sin(2 * math.pi * (time * rng.uniform(0.03, 0.08) + rng.uniform()))
    return np.rint(config.pan * config.width * swing).astype(np.int64)


def figure_paths(rng: np.random.Generator, config: WorldConfig) -> list[tuple[float, tuple[float, float]]]:
    """Height and ends of the path of every figure, in units of the picture's height and width.

    Small crowds are more frequent than large ones. The first figure is among the tallest and the second among the
    smallest, and the middles of the paths are spread: figures meet and part, and a tall one hides a small one.
    """
    low, high = config.figures
    count = int(rng.integers(low, high + 1, size=2).min())
    share = rng.uniform(size=count)
    share[:1] = rng.uniform(0.7, 1.0)
    share[1:2] = rng.uniform(0.0, 0.4)
    short, tall = config.figure_height
    middle = 0.1 + 0.8 * (rng.permutation(count) + rng.uniform(size=count)) / count
    half = rng.uniform(0.5, 0.9, size=count) / (1 + count / 2)
    left, right = np.clip(middle - half, 0.05, 0.95), np.clip(middle + half, 0.05, 0.95)
    return [
        (float(short + (tall - short) * s), (float(a), float(b))) for s, a, b in zip(share, left, right, strict=True)
    ]


def walk(config: WorldConfig, ends: tuple[float, float], speed: float, phase: float) -> tuple[Array, Array, Array]:
    """To and fro between two places, slowing down to turn.

    Args:
        config: gives length and fps.
        ends: x of the left and the right end in pixels.
        speed: mean speed in pixels per second.
        phase: where in the round trip the sequence starts, in turns.

    Returns:
        x (T,) in pixels, velocity (T,) from -1 (left at full speed) to 1, and way (T,): pixels walked since the start.
    """
    low, high = ends
    time = np.arange(config.length) / config.fps
    turn = 2 * math.pi * (phase + time * speed / (2 * (high - low)))
    sharp = 0.97  # 1 would be a triangle wave: turning on the spot
    x = (low + high) / 2 + (high - low) / 2 * np.arcsin(sharp * np.sin(turn)) / math.asin(sharp)
    velocity = np.cos(turn) / np.sqrt(1 - (sharp * np.sin(turn)) ** 2)
    way = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)))])
    return x, velocity, way


def move_figure(
    rng: np.random.Generator, config: WorldConfig, share: float, ends: tuple[float, float], pan: NDArray[np.int64]
) -> FigureMotion:
    """Walk one figure along its path and pose it in every frame.

    Args:
        rng: source of the speed and the gait.
        config: the world.
        share: height of the figure in units of the picture's height.
        ends: left and right end of its path in units of the picture's width.
        pan: (T,) camera shift in pixels.
    """
    time = np.arange(config.length) / config.fps
    slow = np.sin(2 * math.pi * (time * rng.uniform(0.02, 0.06) + rng.uniform()))
    height = config.height * share * (1 + 0.05 * slow)
    ground = HORIZON * config.height + CAMERA_HEIGHT * height
    speed = float(rng.uniform(0.45, 0.85)) * config.height * share
    x, velocity, way = walk(config, (ends[0] * config.width, ends[1] * config.width), speed, float(rng.uniform()))
    yaw = math.radians(config.max_yaw) * rng.uniform(0.55, 1.0) * np.tanh(2.0 * velocity) / math.tanh(2.0)
    joints = pose(rng, time, way / height, np.abs(velocity))
    forward, left, up = joints[..., 0], joints[..., 1], joints[..., 2]
    sine, cosine = np.sin(yaw)[:, None], np.cos(yaw)[:, None]
    near = forward * cosine - left * sine
    scale = height[:, None]
    across = (x - pan)[:, None] + scale * (forward * sine + left * cosine)
    down = ground[:, None] - scale * (up - TILT * near)
    return FigureMotion(points=np.stack([across, down], -1), near=near, height=height, yaw=yaw, ground=ground)


def pose(rng: np.random.Generator, time: Array, way: Array, pace: Array) -> Array:
    """Joints of a walking figure in body axes, (T, J, 3).

    Args:
        rng: source of the gait (stride, arm swing, how far elbows bend, whether it waves).
        time: (T,) in seconds.
        way: (T,) distance walked in figure heights.
        pace: (T,) speed from 0 (stands) to 1.
    """
    cycle = 2 * math.pi * (way / rng.uniform(0.85, 1.05) + rng.uniform())
    stride = rng.uniform(0.40, 0.55) * (0.15 + 0.85 * np.minimum(1.0, 1.3 * pace))
    swing, spread = rng.uniform(0.6, 1.2), rng.uniform(0.15, 0.35)
    bend = rng.uniform(0.2, 1.0, size=2)
    waves = rng.integers(6, size=2) == 0
    wave_at, wave_for = rng.uniform(0.0, 8.0, size=2), rng.uniform(0.8, 1.6)

    joints = np.zeros((len(time), len(JOINT), 3))
    legs = []
    for sign in (1.0, -1.0):
        thigh = stride * sign * np.sin(cycle) + 0.05
        shin = thigh - 0.08 - 1.7 * stride * np.maximum(0.0, sign * np.cos(cycle))  # the knee bends as the leg swings
        legs.append((thigh, shin))
    pelvis = ANKLE_HEIGHT + np.max([THIGH * np.cos(thigh) + SHIN * np.cos(shin) for thigh, shin in legs], axis=0)

    def put(name: str, forward: Array | float, left: Array | float, up: Array | float) -> Array:
        joints[:, JOINT[name]] = np.stack(np.broadcast_arrays(forward, left, up), -1)
        return joints[:, JOINT[name]]

    lean = 0.02 + 0.02 * pace
    shoulder_up = pelvis + TRUNK
    for index, side in enumerate(("left", "right")):
        sign = 1.0 - 2.0 * index
        thigh, shin = legs[index]
        hip = put(f"{side}_hip", 0.0, sign * HIP_HALF, pelvis)
        knee = put(f"{side}_knee", THIGH * np.sin(thigh), hip[:, 1], hip[:, 2] - THIGH * np.cos(thigh))
        ankle = put(f"{side}_ankle", knee[:, 0] + SHIN * np.sin(shin), hip[:, 1], knee[:, 2] - SHIN * np.cos(shin))
        foot = np.minimum(0.0, shin + 0.35)  # the foot hangs while the shin is far back
        toe_up = ankle[:, 2] - 0.025 + FOOT * np.sin(foot)
        put(f"{side}_toe", ankle[:, 0] + FOOT * np.cos(foot), hip[:, 1] * 1.15, toe_up)

        shoulder = put(f"{side}_shoulder", lean, sign * SHOULDER_HALF, shoulder_up)
        since = (time + wave_at[index]) % 8.0 - 4.0  # it waves every eight seconds
        raised = waves[index] * np.exp(-((since / wave_for) ** 4))
        ahead = -sign * swing * stride * np.sin(cycle) * (1 - raised)
        out = spread + raised * (1.9 - spread)
        out_fore = 0.5 * spread + raised * (2.8 + 0.35 * np.sin(7.0 * time) - 0.5 * spread)
        ahead_fore = ahead + (bend[index] + 0.3 * np.maximum(0.0, ahead)) * (1 - raised)
        elbow = put(f"{side}_elbow", *_reach(shoulder, UPPER_ARM, ahead, sign * out))
        wrist = put(f"{side}_wrist", *_reach(elbow, FOREARM, ahead_fore, sign * out_fore))
        put(f"{side}_hand", *_reach(wrist, HAND, ahead_fore, sign * out_fore))

        put(f"{side}_eye", lean + 0.066, sign * 0.032, shoulder_up + HEAD_RISE + 0.016)
        put(f"{side}_ear", lean + 0.0, sign * 0.072, shoulder_up + HEAD_RISE)
    put("head", lean, 0.0, shoulder_up + HEAD_RISE)
    put("nose", lean + 0.088, 0.0, shoulder_up + HEAD_RISE - 0.012)
    put("face", lean + 0.014, 0.0, shoulder_up + HEAD_RISE - 0.008)
    put("hair", lean - 0.016, 0.0, shoulder_up + HEAD_RISE + 0.014)
    put("collar", lean + 0.065, 0.0, shoulder_up + 0.02)
    put("buckle", 0.075, 0.0, pelvis + 0.02)
    return joints


def _reach(start: Array, length: float, ahead: Array, out: Array) -> tuple[Array, Array, Array]:
    """End of a limb: from `start` (T, 3) down, turned forward by `ahead` and sideways by `out` (radians)."""
    return (
        start[:, 0] + length * np.sin(ahead) * np.cos(out),
        start[:, 1] + length * np.sin(out),
        start[:, 2] - length * np.cos(ahead) * np.cos(out),
    )


def move_ball(rng: np.random.Generator, config: WorldConfig, pan: NDArray[np.int64]) -> BallMotion:
    """Draw the path of one ball that rolls or bounces to and fro.

    Args:
        rng: source of the path.
        config: the world.
        pan: (T,) camera shift in pixels.
    """
    short, tall = config.figure_height
    scale = config.height * float(rng.uniform(short, tall))  # height of a figure that stood where the ball is
    ends = (float(rng.uniform(0.05, 0.3)) * config.width, float(rng.uniform(0.7, 0.95)) * config.width)
    x, velocity, way = walk(config, ends, float(rng.uniform(0.4, 1.0)) * scale, float(rng.uniform()))
    radius = np.full(config.length, scale * float(rng.uniform(0.07, 0.10)))
    ground = np.full(config.length, HORIZON * config.height + CAMERA_HEIGHT * scale)
    time = np.arange(config.length) / config.fps
    hop = float(rng.uniform(0.0, 0.35)) * int(rng.integers(2)) * scale
    up = hop * np.abs(np.sin(math.pi * (time * 1.2 + rng.uniform())))
    hue = float(rng.uniform())
    return BallMotion(
        centre=np.stack([x - pan, ground - radius - up], -1),
        radius=radius,
        spin=np.sign(velocity[0] + 1e-9) * way / radius,
        ground=ground,
        colours=(hsv(hue, 0.9, 0.95), (245, 245, 245)),
    )
