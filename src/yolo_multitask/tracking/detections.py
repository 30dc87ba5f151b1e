"""The detections of one frame as the tracker sees them: checked, index-aligned, with what hides what."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .boxes import Array, hidden_shares, iou, to_xywh

LOGGER = logging.getLogger(__name__)
REPEAT_IOU = (0.45, 0.7)  # a second box of one object: from here it may be one, above this NMS removes it


@dataclass(frozen=True, kw_only=True)
class Detections:
    """Detections of one frame that can be tracked; D of the N that were given.

    Attributes:
        index: (D,) row in what was given.
        boxes: (D, 4) corners in pixels.
        xywh: (D, 4) centres and sizes in pixels.
        score: (D,) 0..1.
        cls: (D,) class.
        hidden: (D,) share of the box that the box of a nearer object of its class covers, 0..1.
        repeat: (D,) how much it looks like a second box of an object that has a better one, 0..1.
        embeddings: (D, E) unit length, rows of zeros where there is none; None without the branch.
        keypoints: (D, K, 3) x and y in pixels and confidence; None without the branch.
        masks: (N, h, w) of all that were given, because a copy is expensive, non-zero on the object; None without.
        mask_scale: (2,) columns and rows of a mask for each pixel of the picture.
        next_boxes: (D, 4) corners of the box that is expected in the next frame, NaN where unknown; None without.
    """

    index: NDArray[np.int64]
    boxes: Array
    xywh: Array
    score: Array
    cls: NDArray[np.int64]
    hidden: Array
    repeat: Array
    embeddings: Array | None = None
    keypoints: Array | None = None
    masks: NDArray[Any] | None = None
    mask_scale: tuple[float, float] = (1.0, 1.0)
    next_boxes: Array | None = None

    def __len__(self) -> int:
        """Number of detections."""
        return len(self.index)


def read_detections(
    det: Any,
    *,
    low_score: float,
    feats: Any = None,
    keypoints: Any = None,
    masks: Any = None,
    next_boxes: Any = None,
    picture: tuple[int, int] | None = None,
) -> tuple[Detections, int]:
    """Check what a frame gives and keep what can be tracked.

    Args:
        det: N detections with `.xyxy`, `.conf` and `.cls`, as Ultralytics' `Boxes` in numpy.
        low_score: Detections below are left out.
        feats: (N, E) embeddings.
        keypoints: (N, K, 2 or 3) in pixels, the third value a confidence.
        masks: (N, h, w) over the whole picture, in any resolution.
        next_boxes: (N, 4) corners in pixels of the box in the next frame.
        picture: Width and height in pixels; None if masks have its resolution.

    Returns:
        The detections, and how many are broken: a box that is not finite or has no area, or a score or class that is
        not finite.

    Raises:
        ValueError: A cue does not have one row a detection, or not its shape.
    """
    boxes = np.asarray(det.xyxy, dtype=float).reshape(-1, 4)
    score = np.asarray(det.conf, dtype=float).reshape(-1)
    cls = np.asarray(det.cls, dtype=float).reshape(-1)
    count = len(boxes)
    if not len(score) == len(cls) == count:
        raise ValueError(f"update: expected one score and one class a box, got {len(score)} and {len(cls)} for {count}")
    with np.errstate(invalid="ignore"):
        sound = np.isfinite(boxes).all(1) & np.isfinite(score) & np.isfinite(cls)
        sound &= (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    given_masks = _masks(masks, count)
    index = np.flatnonzero(sound & (score >= low_score))
    boxes, score, labels = boxes[index], score[index], cls[index].astype(np.int64)
    detections = Detections(
        index=index,
        boxes=boxes,
        xywh=to_xywh(boxes),
        score=score,
        cls=labels,
        hidden=hidden_shares(boxes, labels, np.ones(len(boxes), bool)),
        repeat=_repeats(boxes, score, labels),
        embeddings=_embeddings(_rows("feats", feats, count, 2, index)),
        keypoints=_keypoints(_rows("keypoints", keypoints, count, 3, index)),
        masks=given_masks,
        mask_scale=_mask_scale(given_masks, picture),
        next_boxes=_next_boxes(_rows("next_boxes", next_boxes, count, 2, index)),
    )
    return detections, count - int(sound.sum())


def _repeats(boxes_D4: Array, score_D: Array, cls_D: NDArray[np.int64]) -> Array:
    """How much each detection looks like a second box of an object that has a better one, (D,) 0..1."""
    if len(boxes_D4) < 2:
        return np.zeros(len(boxes_D4))
    better = (score_D > score_D[:, None]) & (cls_D == cls_D[:, None])
    low, high = REPEAT_IOU
    return np.clip((np.where(better, iou(boxes_D4, boxes_D4), 0.0).max(axis=1) - low) / (high - low), 0, 1)


def _rows(name: str, value: Any, count: int, ndim: int, index: NDArray[np.int64]) -> Array | None:
    """The rows `index` of a cue that has one row for each of `count` detections, or None without the cue."""
    if value is None:
        return None
    array = np.asarray(value, dtype=float)
    if not count and not array.size:
        return None
    if array.ndim != ndim or len(array) != count:
        raise ValueError(
            f"update: expected {name} with {ndim} axes and a row for each of {count} detections, got {array.shape}"
        )
    return array[index]


def _embeddings(feats_DE: Array | None) -> Array | None:
    """Embeddings of unit length; a row that is zero or not finite becomes zeros, which means none."""
    if feats_DE is None:
        return None
    length = np.linalg.norm(feats_DE, axis=1, keepdims=True)
    sound = np.isfinite(length) & (length > 1e-9)
    unit: Array = (np.where(sound, feats_DE, 0.0) / np.where(sound, length, 1.0)).astype(np.float32)
    return unit


def _keypoints(keypoints_DKX: Array | None) -> Array | None:
    """Keypoints with a confidence: 1 where none was given, 0 where a coordinate is not finite."""
    if keypoints_DKX is None:
        return None
    if keypoints_DKX.shape[2] not in (2, 3):
        raise ValueError(f"update: expected keypoints of 2 or 3 values (x, y, confidence), got {keypoints_DKX.shape}")
    confidence = keypoints_DKX[..., 2:] if keypoints_DKX.shape[2] == 3 else np.ones((*keypoints_DKX.shape[:2], 1))
    points = np.concatenate([keypoints_DKX[..., :2], confidence], axis=2)
    return np.where(np.isfinite(points).all(axis=2, keepdims=True), points, 0.0)


def _masks(masks: Any, count: int) -> NDArray[Any] | None:
    """Masks (N, h, w) as they are: they are too large to convert."""
    if masks is None:
        return None
    array = np.asarray(masks)
    if not count and not array.size:
        return None
    if array.ndim != 3 or len(array) != count or not array.size:
        raise ValueError(
            f"update: expected masks with 3 axes and a row for each of {count} detections, got {array.shape}"
        )
    return array


def _mask_scale(masks: NDArray[Any] | None, picture: tuple[int, int] | None) -> tuple[float, float]:
    """Columns and rows of a mask for each pixel of the picture."""
    if masks is None or picture is None:
        return 1.0, 1.0
    return masks.shape[2] / picture[0], masks.shape[1] / picture[1]


def _next_boxes(boxes_D4: Array | None) -> Array | None:
    """Boxes in the next frame; NaN where one is not finite or has no area."""
    if boxes_D4 is None:
        return None
    if boxes_D4.shape[1] != 4:
        raise ValueError(f"update: expected next_boxes of 4 values (x1 y1 x2 y2), got {boxes_D4.shape[1]}")
    with np.errstate(invalid="ignore"):
        sound_D1 = (np.isfinite(boxes_D4).sum(1) == 4)[:, None] & (boxes_D4[:, 2:] > boxes_D4[:, :2]).all(
            1, keepdims=True
        )
    return np.where(sound_D1, boxes_D4, np.nan)
