"""What figures and balls look like: the parts they are drawn of, from far to near, and the colours of the parts."""

from __future__ import annotations

import math

import cv2
import numpy as np

from .canvas import OUTLINE, SHIFT, SUPER, Canvas, Image, Layer, Point
from .motion import HEAD_RADIUS, JOINT, BallMotion, FigureMotion
from .world import KEYPOINT_NAMES, Look

(
    TORSO, PATTERN, BELT, SKIRT, FACE, HAIR, EYE, NOSE, MOUTH, LEFT_EAR, RIGHT_EAR, LEFT_ARM, LEFT_FOREARM, LEFT_HAND,
    RIGHT_ARM, RIGHT_FOREARM, RIGHT_HAND, LEFT_THIGH, LEFT_SHIN, LEFT_SHOE, RIGHT_THIGH, RIGHT_SHIN, RIGHT_SHOE,
) = range(1, 24)  # fmt: skip
PARTS = 24

# The parts on which a keypoint is seen; any other part over it hides it.
SEEN_ON: dict[str, tuple[int, ...]] = {
    "nose": (NOSE, FACE),
    "left_eye": (EYE, FACE),
    "right_eye": (EYE, FACE),
    "left_ear": (LEFT_EAR,),
    "right_ear": (RIGHT_EAR,),
    "left_shoulder": (TORSO, PATTERN, LEFT_ARM),
    "right_shoulder": (TORSO, PATTERN, RIGHT_ARM),
    "left_elbow": (LEFT_ARM, LEFT_FOREARM),
    "right_elbow": (RIGHT_ARM, RIGHT_FOREARM),
    "left_wrist": (LEFT_FOREARM, LEFT_HAND),
    "right_wrist": (RIGHT_FOREARM, RIGHT_HAND),
    "left_hip": (TORSO, PATTERN, BELT, SKIRT, LEFT_THIGH),
    "right_hip": (TORSO, PATTERN, BELT, SKIRT, RIGHT_THIGH),
    "left_knee": (LEFT_THIGH, LEFT_SHIN),
    "right_knee": (RIGHT_THIGH, RIGHT_SHIN),
    "left_ankle": (LEFT_SHIN, LEFT_SHOE),
    "right_ankle": (RIGHT_SHIN, RIGHT_SHOE),
}


def draw_figure(motion: FigureMotion, look: Look, index: int) -> Layer:
    """Draw a figure in one frame, its far limbs first.

    Args:
        motion: path and pose over the sequence.
        look: what the figure wears.
        index: the frame.
    """
    height = float(motion.height[index])
    joints = motion.points[index]
    margin = 0.13 * height + 2
    low, high = joints.min(0) - margin, joints.max(0) + margin
    canvas = Canvas((float(low[0]), float(low[1])), (float(high[0]), float(high[1])), height)
    at = {name: (float(joints[j, 0]), float(joints[j, 1])) for name, j in JOINT.items()}
    near = {name: float(motion.near[index, j]) for name, j in JOINT.items()}
    yaw = float(motion.yaw[index])

    for side in sorted(("left", "right"), key=lambda s: near[f"{s}_hip"] + 0.5 * near[f"{s}_knee"]):
        _draw_leg(canvas, at, side)
    arms = {side: near[f"{side}_elbow"] + near[f"{side}_wrist"] for side in ("left", "right")}
    for side in sorted(arms, key=lambda s: arms[s]):
        if arms[side] < 0:
            _draw_arm(canvas, at, side)
    _draw_trunk(canvas, at, look, yaw)
    _draw_head(canvas, at, near, yaw)
    for side in sorted(arms, key=lambda s: arms[s]):
        if arms[side] >= 0:
            _draw_arm(canvas, at, side)
    seen = np.array([canvas.part_at(at[name]) in SEEN_ON[name] for name in KEYPOINT_NAMES])
    return canvas.layer(_palette(look, near), seen)


def _draw_leg(canvas: Canvas, at: dict[str, Point], side: str) -> None:
    """Draw shoe, shin and thigh of one side."""
    thigh, shin, shoe = (LEFT_THIGH, LEFT_SHIN, LEFT_SHOE) if side == "left" else (RIGHT_THIGH, RIGHT_SHIN, RIGHT_SHOE)
    ankle, knee = at[f"{side}_ankle"], at[f"{side}_knee"]
    heel = (ankle[0], ankle[1] + 0.012 * canvas.unit / SUPER)
    canvas.limb(heel, at[f"{side}_toe"], 0.058, shoe)
    canvas.limb(ankle, knee, 0.078, shin)
    canvas.limb(knee, at[f"{side}_hip"], 0.108, thigh)
    canvas.limb(knee, ankle, 0.078, shin, outline=False)


def _draw_arm(canvas: Canvas, at: dict[str, Point], side: str) -> None:
    """Draw upper arm, forearm and hand of one side."""
    arm, forearm, hand = (
        (LEFT_ARM, LEFT_FOREARM, LEFT_HAND) if side == "left" else (RIGHT_ARM, RIGHT_FOREARM, RIGHT_HAND)
    )
    canvas.disc(at[f"{side}_hand"], 0.034, hand)
    canvas.limb(at[f"{side}_shoulder"], at[f"{side}_elbow"], 0.080, arm)
    canvas.limb(at[f"{side}_elbow"], at[f"{side}_wrist"], 0.064, forearm)


def _draw_trunk(canvas: Canvas, at: dict[str, Point], look: Look, yaw: float) -> None:
    """Draw skirt, neck, patterned shirt, belt, and the row of buttons that shows where the front is."""
    hips, shoulders = [at["left_hip"], at["right_hip"]], [at["left_shoulder"], at["right_shoulder"]]
    if look.skirt:
        hems = [_between(at[f"{s}_hip"], at[f"{s}_knee"], 0.85) for s in ("left", "right")]
        canvas.blob([*hips, *hems], 0.125, SKIRT)
    canvas.limb(_middle(shoulders), at["head"], 0.072, FACE)
    canvas.blob([*shoulders, *hips], 0.120, TORSO)
    _print_pattern(canvas, _middle([*shoulders, *hips]), look.pattern)
    waist, reach = _middle(hips), 0.5 * abs(hips[0][0] - hips[1][0]) + 0.045 * canvas.unit / SUPER
    canvas.limb((waist[0] - reach, waist[1]), (waist[0] + reach, waist[1]), 0.030, BELT, outline=False)
    if math.cos(yaw) > 0.1:
        canvas.limb(at["collar"], at["buckle"], 0.022, BELT, outline=False)


def _print_pattern(canvas: Canvas, centre: Point, pattern: str) -> None:
    """Turn some pixels of the shirt into its second colour, in a pattern that moves with the body."""
    if pattern == "plain":
        return
    y, x = (np.arange(n, dtype=np.float64) for n in canvas.map.shape)
    pitch = 0.085 * canvas.unit
    rows = ((y - (centre[1] - canvas.y) * SUPER) / pitch % 1.0 < 0.45)[:, None]
    columns = ((x - (centre[0] - canvas.x) * SUPER) / pitch % 1.0 < 0.45)[None, :]
    chosen = {"rows": rows, "columns": columns, "checks": rows ^ columns, "dots": rows & columns}[pattern]
    canvas.map[(canvas.map == TORSO) & chosen] = PATTERN


def _draw_head(canvas: Canvas, at: dict[str, Point], near: dict[str, float], yaw: float) -> None:
    """Draw hair, face and what of the face is turned towards the camera."""
    face_first = math.cos(yaw) < -0.2
    if face_first:
        canvas.oval(at["face"], 0.92 * HEAD_RADIUS, HEAD_RADIUS, FACE)
        canvas.disc(at["hair"], HEAD_RADIUS, HAIR)
    else:
        canvas.disc(at["hair"], HEAD_RADIUS, HAIR)
        canvas.oval(at["face"], 0.86 * HEAD_RADIUS, 0.92 * HEAD_RADIUS, FACE, outline=False)
        fringe = (at["face"][0], at["face"][1] - 0.075 * canvas.unit / SUPER)
        canvas.oval(fringe, 0.75 * HEAD_RADIUS, 0.32 * HEAD_RADIUS, HAIR, outline=False)
    for part, side in ((LEFT_EAR, "left"), (RIGHT_EAR, "right")):
        if near[f"{side}_ear"] - near["head"] > -0.03:
            canvas.oval(at[f"{side}_ear"], 0.016, 0.024, part)
    if face_first:
        return
    for side in ("left", "right"):
        if near[f"{side}_eye"] - near["head"] > 0.0:
            canvas.oval(at[f"{side}_eye"], 0.012, 0.015, EYE, outline=False)
    canvas.disc(at["nose"], 0.015, NOSE)
    mouth = _between(at["nose"], at["face"], 0.35)
    drop = mouth[1] + 0.036 * canvas.unit / SUPER
    half = 0.018 * canvas.unit / SUPER * max(0.4, math.cos(yaw))
    canvas.limb((mouth[0] - half, drop), (mouth[0] + half, drop), 0.010, MOUTH, outline=False)


def _palette(look: Look, near: dict[str, float]) -> Image:
    """BGR of every part number, (256, 3) uint8: parts away from the camera are darker, outlines darker still."""
    sleeve = look.shirt if look.long_sleeves else look.skin
    leg = look.trousers if look.long_trousers and not look.skirt else look.skin
    thigh = look.skin if look.skirt else look.trousers
    base = np.zeros((PARTS, 3))
    shade = np.ones((PARTS, 1))
    dark = tuple(0.45 * v for v in look.trousers)
    lips = (0.5 * look.skin[0], 0.45 * look.skin[1], 0.75 * look.skin[2])
    for part, colour in (
        (TORSO, look.shirt), (PATTERN, look.accent), (BELT, dark), (SKIRT, look.trousers), (FACE, look.skin),
        (HAIR, look.hair), (EYE, (30, 25, 25)), (NOSE, tuple(0.82 * v for v in look.skin)), (MOUTH, lips),
        (LEFT_EAR, look.skin), (RIGHT_EAR, look.skin),
    ):  # fmt: skip
        base[part] = colour
    for side, arm, thigh_part in (("left", LEFT_ARM, LEFT_THIGH), ("right", RIGHT_ARM, RIGHT_THIGH)):
        base[arm : arm + 3] = look.shirt, sleeve, look.skin
        base[thigh_part : thigh_part + 3] = thigh, leg, look.shoes
        shade[arm : arm + 3, 0] = [_shade(near[f"{side}_{j}"]) for j in ("shoulder", "elbow", "wrist")]
        shade[arm, 0] *= 0.92
        shade[arm + 1, 0] *= 0.84 if look.long_sleeves else 1.0
        shade[thigh_part : thigh_part + 3, 0] = [_shade(near[f"{side}_{j}"]) for j in ("hip", "knee", "ankle")]
        shade[thigh_part + 1, 0] *= 0.86
    palette = np.zeros((256, 3))
    palette[:PARTS] = base * shade
    palette[OUTLINE : OUTLINE + PARTS] = 0.45 * base * shade
    return np.clip(np.rint(palette), 0, 255).astype(np.uint8)


def _shade(near: float) -> float:
    """Brightness of a limb: 1 on the figure's axis, less away from the camera."""
    return min(1.08, max(0.62, 1.0 + 1.6 * near))


def draw_ball(motion: BallMotion, index: int) -> Layer:
    """Draw a ball of two colours in one frame."""
    radius = float(motion.radius[index])
    x, y = (float(v) for v in motion.centre[index])
    canvas = Canvas((x - radius - 2, y - radius - 2), (x + radius + 2, y + radius + 2), radius)
    canvas.disc((x, y), 0.95, 1)
    spin = math.degrees(float(motion.spin[index])) % 360
    half = round(0.95 * canvas.unit * (1 << SHIFT))
    for start in (0, 180):
        cv2.ellipse(canvas.map, canvas.at((x, y)), (half, half), spin, start, start + 90, 2, -1, cv2.LINE_8, SHIFT)
    palette = np.zeros((256, 3), np.uint8)
    palette[1:3] = motion.colours
    palette[OUTLINE + 1] = 40
    return canvas.layer(palette, np.zeros(len(KEYPOINT_NAMES), bool))


def _between(a: Point, b: Point, share: float) -> Point:
    """The point at `share` of the way from a to b."""
    return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share


def _middle(points: list[Point]) -> Point:
    """The mean of points."""
    return sum(p[0] for p in points) / len(points), sum(p[1] for p in points) / len(points)
