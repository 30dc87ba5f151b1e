"""Which keypoints a limb joins, and which side of the body they are on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from yolo_multitask.data.synthetic.world import KEYPOINT_NAMES

_NECK = (("head", "neck"), ("neck", "left_shoulder"), ("neck", "right_shoulder"))  # CrowdPose, AI Challenger, MPII
_SIDES = {"left": "left", "l": "left", "right": "right", "r": "right"}


@dataclass(frozen=True)
class Skeleton:
    """How K keypoints hang together.

    Attributes:
        sides: K times ``left``, ``right`` or ``middle``.
        limbs: Pairs of keypoint indices.
    """

    sides: tuple[str, ...]
    limbs: tuple[tuple[int, int], ...]

    def limb_side(self, limb: tuple[int, int]) -> str:
        """Return the side of a limb: that of its ends, ``middle`` where it joins left and right."""
        sides = {self.sides[i] for i in limb} - {"middle"}
        return sides.pop() if len(sides) == 1 else "middle"


def skeleton(count: int, names: Sequence[str], coco_limbs: Sequence[Sequence[int]]) -> Skeleton:
    """Return the skeleton of keypoints by their names; without limbs where the names are not those of a body.

    Args:
        count: Number of keypoints K.
        names: Their names, such as ``left_hip`` or ``r-ankle``; without names, 17 keypoints are COCO's.
        coco_limbs: Pairs of COCO keypoints, numbered from 1 (`ultralytics.utils.plotting.Annotator.skeleton`).
    """
    if len(names) != count:
        names = KEYPOINT_NAMES if count == len(KEYPOINT_NAMES) else ()
    known = [side_and_part(name) for name in names]
    at = {"_".join(filter(None, (side, part))): i for i, (side, part) in enumerate(known)}
    by_name = [(KEYPOINT_NAMES[a - 1], KEYPOINT_NAMES[b - 1]) for a, b in coco_limbs]
    limbs = tuple((at[a], at[b]) for a, b in [*by_name, *_NECK] if a in at and b in at)
    sides = tuple(side or "middle" for side, _ in known) or ("middle",) * count
    return Skeleton(sides=sides, limbs=limbs)


def side_and_part(name: str) -> tuple[str, str]:
    """Split ``LeftHip``, ``LHip``, ``lefthip``, ``l_hip`` or ``hip-left`` into ``("left", "hip")``; no side is ''."""
    spaced = re.sub(r"([a-z](?=[A-Z])|\b[LR](?=[A-Z][a-z]))", r"\1_", name).lower()
    words = re.findall(r"left|right|[a-z]+|[0-9]+", spaced)
    side = next((_SIDES[word] for word in words if word in _SIDES), "")
    return side, "_".join(word for word in words if word not in _SIDES)
