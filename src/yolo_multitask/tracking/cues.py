"""The cues: how well detections agree with tracks, from boxes, motion, pose, shape, and (`appearance.py`) looks.

A cue compares the two sides of P pairs and returns `Evidence`: a similarity in 0..1 and how far it may be relied on,
0..1, where 0 means that the cue has nothing to say on the pair. What a cue must remember about a track is a table with
one row a track. Everything is vectorised over pairs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .boxes import Array, areas, paired_iou
from .config import TrackerConfig
from .detections import Detections
from .motion import Motion
from .table import Rows, Table

MOTION_SIGMAS = 2.0  # width of the motion cue in standard deviations of the filter: people do not walk like one
MASK_GRID = (24, 12)  # rows and columns at which a mask is kept, over the box of its track
COCO_SIGMAS = np.array([26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]) / 1000
POINT_VARIANCES = 2.0  # of the two points that are compared, both are off
BODY_AREA = 0.53  # area of a body over that of its box, as Ultralytics takes it where there is no mask


class Evidence(NamedTuple):
    """What a cue says on P pairs.

    Attributes:
        similarity: (P,) 0..1.
        reliability: (P,) 0..1; 0 where the cue is absent.
    """

    similarity: Array
    reliability: Array


class Pairs(NamedTuple):
    """Detections and the tracks that they may belong to, P pairs.

    Attributes:
        detections: All detections of the frame.
        d: (P,) detection of each pair.
        row: (P,) row of its track.
        boxes: (P, 4) corners of its track's expected box, in pixels.
        age: (P,) frames since its track was seen, 1 if it was in the last one.
    """

    detections: Detections
    d: Rows
    row: Rows
    boxes: Array
    age: NDArray[np.int64]


def motion_similarity(detections: Detections, motion: Motion, rows_T: Rows) -> Array:
    """How near detections are to where filters expect them, (D, T), in standard deviations of the filters."""
    mean, variance = motion.mean[rows_T], motion.expected_variance()[rows_T]
    distance = (detections.xywh[:, None, 0] - mean[:, 0]) ** 2 / variance[:, 0]
    distance += (detections.xywh[:, None, 1] - mean[:, 1]) ** 2 / variance[:, 1]
    similarity: Array = np.exp(-0.5 / MOTION_SIGMAS**2 * distance)
    return similarity


def compare_boxes(pairs: Pairs) -> Evidence:
    """Overlap of a detection with the expected box, times that of their heights."""
    overlap, heights = paired_iou(pairs.detections.boxes[pairs.d], pairs.boxes)
    return Evidence(overlap * heights, np.ones(len(pairs.d)))


class Pose(Table):
    """The keypoint cue: OKS with the last keypoints of a track, moved and scaled with its box.

    Attributes:
        points: (T, K, 2) in units of the track's box, 0..1 inside.
        confidence: (T, K), 0 where a point is unknown.
    """

    def __init__(self, config: TrackerConfig, sigmas: Array | None = None) -> None:
        """Start without tracks.

        Args:
            config: Configuration.
            sigmas: (K,) spread of each keypoint; default: COCO's for 17, else 1 / K each, as in Ultralytics.
        """
        self._config = config
        self._sigmas: Array = np.zeros(0) if sigmas is None else sigmas
        self.points: Array = np.zeros((0, 0, 2))
        self.confidence: Array = np.zeros((0, 0))

    def fit(self, detections: Detections) -> None:
        """Set the number K of keypoints by the first that there are.

        Raises:
            ValueError: There were another number before.
        """
        if detections.keypoints is None:
            return
        (tracks, known, _), count = self.points.shape, detections.keypoints.shape[1]
        if known == count:
            return
        if known:
            raise ValueError(f"update: expected {known} keypoints as before, got {count}; call reset() between.")
        if not len(self._sigmas):
            self._sigmas = COCO_SIGMAS if count == len(COCO_SIGMAS) else np.full(count, 1 / count)
        if len(self._sigmas) != count:
            raise ValueError(f"update: expected {len(self._sigmas)} keypoints, one for each sigma, got {count}.")
        self.points, self.confidence = np.zeros((tracks, count, 2)), np.zeros((tracks, count))

    def compare(self, pairs: Pairs) -> Evidence | None:
        """OKS over the keypoints that both sides have; nothing where fewer than three are shared."""
        if pairs.detections.keypoints is None:
            return None
        given = pairs.detections.keypoints[pairs.d]
        low, size = pairs.boxes[:, None, :2], pairs.boxes[:, None, 2:] - pairs.boxes[:, None, :2]
        error = given[..., :2] - (low + self.points[pairs.row] * size)
        distance = error[..., 0] ** 2 + error[..., 1] ** 2
        area = np.maximum(areas(pairs.boxes) * BODY_AREA, 1.0)[:, None]
        oks = np.exp(-distance / (2 * POINT_VARIANCES * area * (2 * self._sigmas) ** 2))
        least = self._config.keypoint_min_score
        shared = (given[..., 2] >= least) & (self.confidence[pairs.row] >= least)
        count = shared.sum(axis=1)
        similarity = (oks * shared).sum(axis=1) / np.maximum(count, 1)
        return Evidence(similarity, (count >= min(3, given.shape[1])).astype(float))

    def learn(self, rows_M: Rows, dets_M: Rows, detections: Detections, boxes_M4: Array) -> None:
        """Keep the keypoints of M tracks, relative to their boxes."""
        if detections.keypoints is None:
            return
        given = detections.keypoints[dets_M]
        low, size = boxes_M4[:, None, :2], boxes_M4[:, None, 2:] - boxes_M4[:, None, :2]
        self.points[rows_M] = (given[..., :2] - low) / size
        self.confidence[rows_M] = given[..., 2]


class Shape(Table):
    """The mask cue: overlap of a mask with the last mask of a track, moved and scaled with its box.

    Attributes:
        grid: (T, R, C) bool, the mask at the centres of an R x C grid over the track's box.
        known: (T,) bool.
    """

    def __init__(self) -> None:
        self.grid = np.zeros((0, *MASK_GRID), dtype=bool)
        self.known = np.zeros(0, dtype=bool)

    def compare(self, pairs: Pairs) -> Evidence | None:
        """Intersection over union of the two masks, where the boxes overlap.

        What the masks share is counted on the grid of the track's expected box, outside which it has no mask.
        """
        detections = pairs.detections
        if detections.masks is None:
            return None
        similarity = np.zeros(len(pairs.d))
        overlap, _ = paired_iou(detections.boxes[pairs.d], pairs.boxes)
        p = np.flatnonzero((overlap > 0) & self.known[pairs.row])
        if len(p):
            d, boxes = pairs.d[p], pairs.boxes[p]
            seen, kept = _sample(detections, d, boxes), self.grid[pairs.row[p]]
            cell = areas(boxes) / (MASK_GRID[0] * MASK_GRID[1])
            whole = _count(_sample(detections, np.arange(len(detections)), detections.boxes))
            whole_area = whole * areas(detections.boxes) / (MASK_GRID[0] * MASK_GRID[1])
            total = np.maximum(whole_area[d], _count(seen) * cell)
            shared = _count(seen & kept) * cell
            similarity[p] = shared / np.maximum(total + _count(kept) * cell - shared, 1e-9)
        return Evidence(similarity, self.known[pairs.row].astype(float))

    def learn(self, rows_M: Rows, dets_M: Rows, detections: Detections, boxes_M4: Array) -> None:
        """Keep the masks of M tracks over their boxes."""
        if detections.masks is None:
            return
        self.grid[rows_M] = grid = _sample(detections, dets_M, boxes_M4)
        self.known[rows_M] = _count(grid) > 0


class NextBox(Table):
    """The next-box cue: overlap with the box that the network expected for this frame when it saw the track.

    Attributes:
        boxes: (T, 4) corners in pixels of the current frame.
        known: (T,) bool.
    """

    def __init__(self) -> None:
        self.boxes: Array = np.zeros((0, 4))
        self.known = np.zeros(0, dtype=bool)

    def compare(self, pairs: Pairs) -> Evidence | None:
        """Overlap of the boxes, for tracks that were seen in the last frame."""
        known = self.known[pairs.row] & (pairs.age == 1)
        if not known.any():
            return None
        expected = np.where(known[:, None], self.boxes[pairs.row], 0.0)
        overlap, _ = paired_iou(pairs.detections.boxes[pairs.d], expected)
        return Evidence(overlap, known.astype(float))

    def learn(self, rows_M: Rows, dets_M: Rows, detections: Detections) -> None:
        """Keep what the network expects for M tracks."""
        self.known[rows_M] = False
        if detections.next_boxes is not None:
            self.boxes[rows_M] = detections.next_boxes[dets_M]
            self.known[rows_M] = np.isfinite(self.boxes[rows_M]).all(axis=1)

    def warp(self, affine_23: Array) -> None:
        """Apply the motion of the camera."""
        linear, shift = affine_23[:, :2], affine_23[:, 2]
        centre, half = (self.boxes[:, :2] + self.boxes[:, 2:]) / 2, (self.boxes[:, 2:] - self.boxes[:, :2]) / 2
        centre, half = centre @ linear.T + shift, half * np.sqrt(abs(np.linalg.det(linear)))
        self.boxes = np.concatenate([centre - half, centre + half], axis=1)


def _count(grid_PRC: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Number (P,) of set points of each grid."""
    return np.count_nonzero(grid_PRC.reshape(len(grid_PRC), -1), axis=1)


def _sample(detections: Detections, dets_P: Rows, boxes_P4: Array) -> NDArray[np.bool_]:
    """Masks at the centres of a grid over boxes, (P, R, C); outside the picture there is no mask."""
    assert detections.masks is not None
    _, height, width = detections.masks.shape
    rows, columns = ((np.arange(n) + 0.5) / n for n in MASK_GRID)
    low, size = boxes_P4[:, :2], boxes_P4[:, 2:] - boxes_P4[:, :2]
    x = np.floor((low[:, 0, None] + columns * size[:, 0, None]) * detections.mask_scale[0]).astype(np.int64)
    y = np.floor((low[:, 1, None] + rows * size[:, 1, None]) * detections.mask_scale[1]).astype(np.int64)
    inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None]
    line = detections.index[dets_P][:, None] * height + np.clip(y, 0, height - 1)
    place = line[:, :, None] * width + np.clip(x, 0, width - 1)[:, None]
    sampled: NDArray[np.bool_] = inside & (detections.masks.reshape(-1)[place] > 0)
    return sampled
