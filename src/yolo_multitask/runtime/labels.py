"""Detections as lines of this package's label grammar."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from yolo_multitask.data.labels import Instance, LabelSpec, format_line
from yolo_multitask.interop.masks import outline
from yolo_multitask.runtime.detections import Detections

_SMALLEST_SIDE = 1e-6  # normalised side written for a box that was clipped to nothing; a label needs one above 0


def label_lines(found: Detections, *, conf: bool = False) -> list[str]:
    """Return N label lines, as `ymt predict save_txt` writes them.

    A mask without a contour of three points is written as `-`, as are keypoints that are all zero. A keypoint's
    visibility is its probability.

    Args:
        found: The detections.
        conf: Whether to add `@conf`.
    """
    size = np.array(found.orig_shape[::-1], np.float32)
    low, high = found.xyxy[:, :2], found.xyxy[:, 2:]
    boxes = np.concatenate(((low + high) / 2 / size, (high - low) / size), 1).clip(0, 1)
    boxes[:, 2:] = boxes[:, 2:].clip(_SMALLEST_SIDE)
    points = _normalised(found.keypoints, size)
    spec = LabelSpec(
        nc=len(found.names),
        kpt_shape=None if found.keypoints is None else found.keypoints.shape[1:],  # type: ignore[arg-type]
        polygons=found.masks is not None,
        ids=found.ids is not None,
    )
    return [
        format_line(
            Instance(
                cls=int(found.cls[i]),
                box=boxes[i],
                keypoints=points[i] if points is not None and points[i].any() else None,
                polygon=None if found.masks is None else _polygon(found.masks[i], found.orig_shape, size),
                id=-1 if found.ids is None else int(found.ids[i]),
                conf=float(found.score[i]) if conf else math.nan,
            ),
            spec,
        )
        for i in range(len(found))
    ]


def _normalised(keypoints: NDArray[np.float32] | None, size: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Return normalised x, y and visibility (N, K, 3) of keypoints (N, K, D); without a visibility it is 1."""
    if keypoints is None:
        return None
    seen = keypoints[..., 2:] if keypoints.shape[2] == 3 else np.ones_like(keypoints[..., :1])
    return np.concatenate((keypoints[..., :2] / size, seen), 2).clip(0, 1)


def _polygon(
    mask: NDArray[np.bool_], orig_shape: tuple[int, int], size: NDArray[np.float32]
) -> NDArray[np.float32] | None:
    points = outline(mask.view(np.uint8), orig_shape)
    return (points / size).clip(0, 1) if len(points) > 2 else None
