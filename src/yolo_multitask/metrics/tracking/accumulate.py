"""From one frame after the other to the figures of a sequence."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import ArrayLike, NDArray

from yolo_multitask.metrics.tracking.clear import clear
from yolo_multitask.metrics.tracking.hota import hota
from yolo_multitask.metrics.tracking.identity import identity
from yolo_multitask.metrics.tracking.result import TrackingResult
from yolo_multitask.metrics.tracking.sequence import FlatSequence

ROUNDING = 1e-6  # how far outside 0..1 a similarity may lie; single precision overlaps reach 1 + 1e-7


class SequenceAccumulator:
    """Collects the frames of one sequence and one class, in order, and computes HOTA, CLEAR and identity measures.

    HOTA matches objects by how well their whole tracks agree, so nothing can be counted before the last frame. Until
    then a frame is kept as its identities and the similarities above 0 (for boxes, those that touch), not as a matrix.

    >>> acc = SequenceAccumulator()
    >>> acc.update([1, 2], [7], [[0.8], [0.0]])
    >>> acc.update([1, 2], [7, 8], [[0.8, 0.0], [0.0, 0.6]])
    >>> acc.compute().summary()["MOTA"]
    0.75
    """

    def __init__(self) -> None:
        self.frames = 0  # number of frames so far
        self._gt_index: dict[int, int] = {}  # identity to its number, by first occurrence
        self._pred_index: dict[int, int] = {}
        self._gt: list[list[int]] = []  # numbers of the identities, a list a frame
        self._pred: list[list[int]] = []
        self._row: list[NDArray[np.int64]] = []  # labelled object of each pair, an index into the sequence's
        self._col: list[NDArray[np.int64]] = []
        self._similarity: list[NDArray[np.float64]] = []
        self._gt_dets = self._pred_dets = 0

    def update(self, gt_ids: ArrayLike, pred_ids: ArrayLike, similarity: ArrayLike) -> None:
        """Add the next frame. Frames without objects count too: give empty ids and a matrix with a side of 0.

        Args:
            gt_ids: Integers (G,), identities of the labelled objects; any values, each at most once.
            pred_ids: Integers (T,), identities of the predicted objects, of their own numbering.
            similarity: Floats (G, T) in 0..1, 1 for equal objects; what rounding puts outside by 1e-6 is clipped.

        Raises:
            ValueError: An argument is none of that; nothing is added then. The message numbers frames from 1.
        """
        frame = self.frames + 1
        gt, pred = check_ids("gt_ids", gt_ids, frame), check_ids("pred_ids", pred_ids, frame)
        values = check_similarity(similarity, (len(gt), len(pred)), frame)
        row, col = np.nonzero(values)
        self._row.append(row + self._gt_dets)
        self._col.append(col + self._pred_dets)
        self._similarity.append(values[row, col])
        self._gt.append([self._gt_index.setdefault(i, len(self._gt_index)) for i in gt])
        self._pred.append([self._pred_index.setdefault(i, len(self._pred_index)) for i in pred])
        self._gt_dets += len(gt)
        self._pred_dets += len(pred)
        self.frames = frame

    def compute(self) -> TrackingResult:
        """Return the figures of the frames so far; more frames may follow."""
        gt_G, gt_frame_G = flatten(self._gt)
        pred_T, pred_frame_T = flatten(self._pred)
        seq = FlatSequence(
            gt_G=gt_G,
            pred_T=pred_T,
            gt_frame_G=gt_frame_G,
            pred_frame_T=pred_frame_T,
            row_P=np.concatenate([np.zeros(0, np.int64), *self._row]),
            col_P=np.concatenate([np.zeros(0, np.int64), *self._col]),
            similarity_P=np.concatenate([np.zeros(0), *self._similarity]),
            gt_ids=len(self._gt_index),
            pred_ids=len(self._pred_index),
        )
        return TrackingResult(
            **vars(hota(seq)),
            **vars(clear(seq)),
            **vars(identity(seq)),
            gt_dets=self._gt_dets,
            pred_dets=self._pred_dets,
            gt_ids=seq.gt_ids,
            pred_ids=seq.pred_ids,
        )


def flatten(frames: list[list[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the numbers of all frames in one row, and the frame of each, from 0."""
    lengths = np.array([len(frame) for frame in frames], np.int64)
    return np.array([i for frame in frames for i in frame], np.int64), np.repeat(np.arange(len(frames)), lengths)


def check_ids(name: str, ids: ArrayLike, frame: int) -> list[int]:
    """Return the identities of a frame as a list.

    Raises:
        ValueError: They are no integers, no row, or one of them occurs twice.
    """
    array = np.asarray(ids)
    if array.ndim != 1 or (array.dtype.kind not in "iu" and array.size):
        raise ValueError(
            f"Frame {frame}: expected {name} as one row of integers, found shape {array.shape} of {array.dtype}."
        )
    values: list[int] = array.tolist()
    if len(set(values)) < len(values):
        twice = [i for i, count in Counter(values).items() if count > 1]
        raise ValueError(
            f"Frame {frame}: expected every identity at most once in {name}, found {', '.join(map(str, twice))} more "
            "often; give each object its own, and each class its own accumulator."
        )
    return values


def check_similarity(similarity: ArrayLike, shape: tuple[int, int], frame: int) -> NDArray[np.float64]:
    """Return the similarities of a frame as float64, of the given shape and in 0..1.

    Raises:
        ValueError: They have another shape, or values that are no number or outside 0..1.
    """
    values = np.asarray(similarity, np.float64)
    if values.shape != shape:
        raise ValueError(
            f"Frame {frame}: expected similarities of shape {shape}, labelled by predicted, found {values.shape}."
        )
    if values.size == 0 or (values.min() >= 0 and values.max() <= 1):
        return values
    bad = ~((values >= -ROUNDING) & (values <= 1 + ROUNDING))  # also where it is not a number
    if bad.any():
        row, col = np.argwhere(bad)[0]
        raise ValueError(
            f"Frame {frame}: expected similarities in 0..1, found {values[row, col]} at row {row}, column {col}."
        )
    return values.clip(0, 1)
