"""Rules for keypoints, and whether left and right are what they are called. N instances, K keypoints, S pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo_multitask.data.check.sheet import Fault, Sheet
from yolo_multitask.data.synthetic.world import FLIP_IDX, KEYPOINT_NAMES
from yolo_multitask.data.view.skeleton import side_and_part

FAR = 0.5  # of the box's larger side
LARGE = 0.01  # area of a box over that of the picture
ONE_PLACE = 0.02  # of the box's larger side
APART = 0.03  # of the box's larger side: the least distance of two points of which one is surely the left one
ENOUGH = 10  # instances to judge by
SIGMAS = 3.0  # by which a share must be above one half
MOST = 0.55  # and the share itself: where people are seen from above, sides are as often left as right


def keypoint_faults(sheet: Sheet) -> Iterator[Fault]:
    """Yield keypoints far outside their box, all absent on a large object, or all at one place."""
    labels = sheet.labels
    rows = np.flatnonzero(labels.has_keypoints & sheet.real)
    if labels.keypoints is None or not len(rows):
        return
    points, boxes = labels.keypoints[rows], labels.boxes[rows]
    seen = points[..., 2] > 0
    side = (boxes[:, 2:] / sheet.pixel).max(1)  # pixels
    away = np.abs(points[..., :2] - boxes[:, None, :2]) - boxes[:, None, 2:] / 2
    away = np.where(_plain(points)[..., None], away, 0) / sheet.pixel
    count = (away > FAR * side[:, None, None]).any(2).sum(1)
    for i in np.flatnonzero(count):
        message = f"{count[i]} of {seen[i].sum()} keypoints lie far outside the box; they may be another's"
        yield Fault("keypoints-outside", (int(rows[i]),), message)
    # stock lines cannot say '-': there, all absent is how one writes that nobody labelled them
    large = (boxes[:, 2:].prod(1) > LARGE) & (sheet.spec.format == "multitask")
    for i in np.flatnonzero(~seen.any(1) & large):
        message = "all keypoints are said to be absent on a large object; write '-' if nobody labelled them"
        yield Fault("keypoints-absent", (int(rows[i]),), message)
    some = seen[..., None]
    spread = np.where(some, points[..., :2], -np.inf).max(1) - np.where(some, points[..., :2], np.inf).min(1)
    gathered = (spread / sheet.pixel < ONE_PLACE * side[:, None]).all(1)
    for i in np.flatnonzero(gathered & (seen.sum(1) > 2)):
        message = f"{seen[i].sum()} visible keypoints are at one place; label them anew or write '-'"
        yield Fault("keypoints-collapsed", (int(rows[i]),), message)


@dataclass(frozen=True, kw_only=True)
class Sides:
    """The keypoints of a class that come in pairs.

    Attributes:
        pairs: int64 (S, 2) left and right keypoint; the lower index first where the names do not say.
        names: A name for each pair.
        face: Nose, left eye and right eye, by which one knows that an instance faces the camera; None without them.
    """

    pairs: NDArray[np.int64]
    names: tuple[str, ...]
    face: tuple[int, int, int] | None


def keypoint_names(data: Mapping[str, Any], cls: int) -> list[str] | None:
    """Return the keypoint names of a class: those of the data YAML, else COCO's where `flip_idx` is COCO's."""
    names = data.get("kpt_names")
    if isinstance(names, Mapping):
        found = names.get(cls, names.get(str(cls)))
        return None if found is None else [str(n) for n in found]
    return list(KEYPOINT_NAMES) if tuple(data.get("flip_idx") or ()) == FLIP_IDX else None


def make_sides(flip_idx: Sequence[int], names: Sequence[str] | None) -> Sides | None:
    """Return the pairs of a class, or None where it has none.

    Args:
        flip_idx: K indices, see the data YAML.
        names: K names, or None where the data YAML gives none.
    """
    pairs = [(i, j) for i, j in enumerate(flip_idx) if i < j and flip_idx[j] == i]
    if not pairs:
        return None
    known = [side_and_part(name) for name in names or ()]
    pairs = [(j, i) if known and known[i][0] == "right" else (i, j) for i, j in pairs]
    titles = tuple(f"{names[i]}/{names[j]}" if names else f"{i}/{j}" for i, j in pairs)
    nose, left, right = (known.index(point) if point in known else -1 for point in _FACE)
    face = (nose, left, right) if nose >= 0 and (left, right) in pairs else None
    return Sides(pairs=np.array(pairs, np.int64), names=titles, face=face)


_FACE = (("", "nose"), ("left", "eye"), ("right", "eye"))


def side_votes(sheet: Sheet, cls: int, sides: Sides) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count on which side the left ones of a class are.

    An instance that faces the camera (nose and both eyes seen) has every left one on the right. Whatever way it faces,
    all its left ones are on the same side, but for crossed limbs and a twisted trunk.

    Returns:
        int64 (S, 4): instances that face the camera, those of them where the pair is the wrong way round, instances
        with other pairs to compare to, and those of them where the pair is the other way round than most. And the
        indices of instances with a wrong pair.
    """
    labels = sheet.labels
    rows = np.flatnonzero(labels.has_keypoints & sheet.real & (labels.cls == cls))
    if labels.keypoints is None or not len(rows):
        return np.zeros((len(sides.pairs), 4), np.int64), rows
    points = labels.keypoints[rows]
    seen = _plain(points)
    left, right = sides.pairs.T
    gap = points[:, left, 0] - points[:, right, 0]
    least = APART * (labels.boxes[rows, 2:] / sheet.pixel).max(1) * sheet.pixel[0]
    sign = np.sign(gap) * (seen[:, left] & seen[:, right] & (np.abs(gap) > least[:, None]))
    rest = np.sign(sign.sum(1, keepdims=True) - sign)
    compared = (sign != 0) & (rest != 0)
    votes = np.zeros((len(sides.pairs), 4), np.int64)
    votes[:, 2], votes[:, 3] = compared.sum(0), (compared & (sign != rest)).sum(0)
    wrong = compared & (sign != rest)
    if sides.face is not None:
        facing = seen[:, sides.face].all(1, keepdims=True) & (sign != 0)
        votes[:, 0], votes[:, 1] = facing.sum(0), (facing & (sign < 0)).sum(0)
        wrong |= facing & (sign < 0)
    return votes, rows[wrong.any(1)]


def _plain(points: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which keypoints are in plain view, (N, K): where an instance has 1 and 2, those of 1 are hidden guesses.

    Args:
        points: (N, K, 3) x y visibility.
    """
    visibility = points[..., 2]
    return np.asarray((visibility > 0) & (visibility == visibility.max(1, keepdims=True)))


def swapped_pairs(votes: NDArray[np.int64], sides: Sides) -> list[str]:
    """Return in words which pairs are the wrong way round more often than not, by more than chance."""
    said = []
    for name, (facing, wrong, compared, other) in zip(sides.names, votes, strict=True):
        if _most(wrong, facing):
            said.append(f"{name} in {wrong} of {facing} that face the camera")
        elif _most(other, compared):
            said.append(f"{name} the other way round than the rest of the body in {other} of {compared}")
    return said


def _most(part: int, whole: int) -> bool:
    """Return whether a part is more than half, clearly and by more than chance."""
    return whole >= ENOUGH and part > MOST * whole and part - whole / 2 > SIGMAS * whole**0.5 / 2
