"""A whole sequence as flat, index-aligned arrays: what the measures are computed from.

Shapes: F frames, G labelled and T predicted objects of all frames, P pairs of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

EPS = np.finfo(float).eps


@dataclass(frozen=True, kw_only=True, eq=False)
class FlatSequence:
    """The labelled and predicted objects of every frame, and the pairs that overlap at all, in order of frames.

    Attributes:
        gt_G: int (G,) identity of each labelled object, numbered from 0 without gaps.
        pred_T: int (T,) the same for predicted objects.
        gt_frame_G: int (G,) frame of each labelled object.
        pred_frame_T: int (T,) the same for predicted objects.
        row_P: int (P,) labelled object of each pair, an index into `gt_G`.
        col_P: int (P,) predicted object of each pair, an index into `pred_T`, of the same frame.
        similarity_P: float64 (P,) greater than 0; a pair that is not listed has similarity 0.
        gt_ids: Number of labelled identities.
        pred_ids: Number of predicted identities.
    """

    gt_G: NDArray[np.int64]
    pred_T: NDArray[np.int64]
    gt_frame_G: NDArray[np.int64]
    pred_frame_T: NDArray[np.int64]
    row_P: NDArray[np.int64]
    col_P: NDArray[np.int64]
    similarity_P: NDArray[np.float64]
    gt_ids: int
    pred_ids: int

    @property
    def pairs(self) -> NDArray[np.int64]:
        """One number a pair, equal where labelled identity and predicted identity are both equal."""
        return self.gt_G[self.row_P] * max(self.pred_ids, 1) + self.pred_T[self.col_P]

    def identities(self, pair_K: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the labelled and the predicted identity, (K,) each, of numbers as in `pairs`."""
        gt_K, pred_K = np.divmod(pair_K, max(self.pred_ids, 1))
        return gt_K, pred_K
