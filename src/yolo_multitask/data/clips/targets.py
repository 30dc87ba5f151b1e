"""What is labelled in a window, as the losses take it.

P objects in all frames of a window, N players, M ignore regions, K keypoints; (h, w) the network input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from yolo_multitask.data.clips.augment import Drawn, move_boxes, move_points
from yolo_multitask.data.clips.clip import Clip, FrameLabels, Players
from yolo_multitask.data.clips.preprocess import Fit

NOMINAL_SIZE = 0.02  # side of the box of an object of which only the position is known, in longer sides of the input
_MIN_SIDE, _MIN_AREA = 2.0, 0.1  # pixels, and share of a player's box that must stay in the picture; the host's


def object_targets(
    clip: Clip, indices: Sequence[int], nexts: Sequence[int | None], objects: Sequence[int], fit: Fit, drawn: Drawn
) -> dict[str, torch.Tensor]:
    """Return the objects in the frames of a window.

    An object that an augmentation moves out of the picture is not in it any more.

    Args:
        clip: The clip.
        indices: Index of each frame in the clip, -1 for padding, whose labels do not count.
        nexts: Index of the frame after each, None where there is none.
        objects: Class of the data of each class that is followed.
        fit: From a frame to the input.
        drawn: The augmentation.

    Returns:
        ``points, points_next`` (P, 2) and ``points_boxes`` (P, 4, centre and size) float32, normalised by the input;
        ``points_group, points_cls, points_visible`` (P,) int64, ``points_has_next`` (P,) bool, ``points_labelled``
        (G,) bool.
    """
    number = {cls: i for i, cls in enumerate(objects)}
    (h, w), nan = fit.shape, np.full(2, np.nan, np.float32)
    places, after, boxes, numbers = [], [], [], []
    for group, (index, following) in enumerate(zip(indices, nexts, strict=True)):
        if index < 0:
            continue
        labels = clip.labels[index]
        later = clip.labels[following] if following is not None else None
        for row in range(len(labels.points)):
            match = None if later is None else find_next(labels, row, later)
            places.append(labels.points[row])
            after.append(nan if later is None or match is None else later.points[match])
            boxes.append(labels.boxes[row])
            numbers.append((group, number[int(labels.cls[row])], int(labels.visible[row])))
    points = move_points(fit.to_input(np.array(places, np.float32).reshape(-1, 2)), drawn.matrix)
    inside = np.logical_and(points >= 0, points < np.array((w, h))).all(axis=1)
    table = torch.tensor(numbers, dtype=torch.int64).reshape(-1, 3)[torch.from_numpy(inside)]
    points_next = move_points(fit.to_input(np.array(after, np.float32).reshape(-1, 2)), drawn.matrix)[inside]
    has_next: NDArray[np.bool_] = np.isfinite(points_next[:, 0])
    size = np.array((w, h), np.float32)
    sides = _sides(np.array(boxes, np.float32).reshape(-1, 4), fit, drawn)[inside]
    return {
        "points": torch.from_numpy(points[inside] / size),
        "points_group": table[:, 0],
        "points_cls": table[:, 1],
        "points_visible": table[:, 2],
        "points_next": torch.from_numpy(np.where(has_next[:, None], points_next, 0).astype(np.float32) / size),
        "points_has_next": torch.from_numpy(has_next),
        "points_boxes": torch.from_numpy(np.concatenate((points[inside], sides), 1) / np.tile(size, 2)),
        "points_labelled": torch.tensor([i >= 0 and clip.labels[i].labelled for i in indices]),
    }


def find_next(labels: FrameLabels, row: int, later: FrameLabels) -> int | None:
    """Return the row of the same object in a later frame.

    It has the same identity, or it is the only one of its class in both frames and an identity is not known.

    Args:
        labels: Of a frame.
        row: The object in it.
        later: Labels of the later frame.
    """
    cls, ident = labels.cls[row], labels.ids[row]
    rows = np.flatnonzero(later.cls == cls)
    if ident >= 0:
        same = rows[later.ids[rows] == ident]
        if len(same):
            return int(same[0])
    alone = len(rows) == 1 and int((labels.cls == cls).sum()) == 1
    return int(rows[0]) if alone and (ident < 0 or later.ids[rows[0]] < 0) else None


def _sides(boxes: NDArray[np.float32], fit: Fit, drawn: Drawn) -> NDArray[np.float32]:
    """Return width and height (P, 2) of objects in pixels of the input; nominal where they are not known."""
    known = np.isfinite(boxes).all(1)
    sides = np.full((len(boxes), 2), NOMINAL_SIZE * max(fit.shape), np.float32)
    moved = move_boxes(fit.to_input(boxes[known].reshape(-1, 2, 2)).reshape(-1, 4), drawn.matrix)
    sides[known] = moved[:, 2:] - moved[:, :2]
    return sides


def player_targets(
    players: Players | None,
    classes: Sequence[int],
    fit: Fit,
    drawn: Drawn,
    flip_idx: Sequence[int] | None,
    kpt_count: int | None,
) -> dict[str, torch.Tensor]:
    """Return the players of the newest frame, in the keys and units of `MultiTaskFormat`.

    Args:
        players: The players, None where they are not labelled.
        classes: Class of the data of each class of the Pose head.
        fit: From a frame to the input.
        drawn: The augmentation.
        flip_idx: Keypoint that takes the place of each in a mirror image.
        kpt_count: K, None where the data has no keypoints.

    Returns:
        ``cls`` (N, 1), ``bboxes`` (N, 4) normalised cx cy w h, ``keypoints`` (N, K, 3) where the data has them,
        ``has_keypoints`` (N,), ``ids`` (N,) identities in the clip, ``ignore`` (M, 4) normalised cx cy w h,
        ``unlabelled`` (classes,) bool, all true where players are not labelled.
    """
    n = 0 if players is None else len(players.cls)
    boxes, cls = np.zeros((n, 4), np.float32), np.zeros(n, np.int64)
    keypoints = np.zeros((n, kpt_count or 0, 3), np.float32)
    has, ids, region = np.zeros(n, bool), np.full(n, -1, np.int64), np.zeros(n, bool)
    if players is not None and n:
        number = {c: i for i, c in enumerate(classes)}
        cls[:] = [number[int(c)] for c in players.cls]
        boxes = move_boxes(fit.to_input(players.boxes.reshape(-1, 2, 2)).reshape(-1, 4), drawn.matrix)
        has, ids, region = players.has_keypoints.copy(), players.ids, players.ignore
        if players.keypoints is not None and kpt_count:
            keypoints = _move_keypoints(players.keypoints, fit, drawn, flip_idx)
    h, w = fit.shape
    cut = boxes.clip(0, (w, h, w, h))
    sides, whole = cut[:, 2:] - cut[:, :2], (boxes[:, 2:] - boxes[:, :2]).prod(1)
    there = (sides > _MIN_SIDE).all(1) & (sides.prod(1) > _MIN_AREA * whole)
    keep = there & ~region
    scale = np.array((w, h, w, h), np.float32)
    centred = np.concatenate(((cut[:, :2] + cut[:, 2:]) / 2, sides), 1) / scale
    keypoints[..., :2] /= scale[:2]
    keypoints[~has] = 0
    return {
        "cls": torch.from_numpy(cls[keep, None].astype(np.float32)),
        "bboxes": torch.from_numpy(centred[keep].astype(np.float32)),
        **({"keypoints": torch.from_numpy(keypoints[keep])} if kpt_count else {}),
        "has_keypoints": torch.from_numpy(has[keep]),
        "ids": torch.from_numpy(ids[keep]),
        "ignore": torch.from_numpy(centred[region & (sides > 0).all(1)].astype(np.float32)),
        "unlabelled": torch.full((len(classes),), players is None),
    }


def _move_keypoints(
    keypoints: NDArray[np.float32], fit: Fit, drawn: Drawn, flip_idx: Sequence[int] | None
) -> NDArray[np.float32]:
    """Return keypoints (N, K, 3) in pixels of the input; those outside of the picture are absent."""
    out = keypoints.copy()
    out[..., :2] = move_points(fit.to_input(out[..., :2]), drawn.matrix)
    h, w = fit.shape
    outside = ((out[..., :2] < 0) | (out[..., :2] > (w, h))).any(2) | (out[..., 2] == 0)
    out[outside] = 0
    return out[:, list(flip_idx)] if drawn.mirrored and flip_idx else out


def player_extras(count: int, ids: torch.Tensor, frame: int, scene: int) -> dict[str, Any]:
    """Return the other per-instance keys of `MultiTaskFormat`.

    Args:
        count: N.
        ids: (N,) identities in the data set, -1 unknown.
        frame: Number of the frame in the data set.
        scene: Number of the clip.
    """
    return {
        "batch_idx": torch.zeros(count),
        "has_mask": torch.zeros(count, dtype=torch.bool),
        "ids": ids,
        "has_id": ids >= 0,
        "instance": torch.arange(count) + frame * 4096,
        "image": torch.full((count,), frame),
        "scene": torch.full((count,), scene),
        "motion": torch.full((count, 4), float("nan")),
    }
