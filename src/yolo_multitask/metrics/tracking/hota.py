"""Higher order tracking accuracy (Luiten et al., IJCV 2021), as TrackEval 1.3.0 computes it.

Shapes: A thresholds, P pairs of objects, K pairs of identities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yolo_multitask.metrics.tracking.matching import assign
from yolo_multitask.metrics.tracking.sequence import EPS, FlatSequence

ALPHAS: NDArray[np.float64] = np.arange(0.05, 0.99, 0.05)  # (19,); the values of TrackEval to the last bit
ALPHAS.setflags(write=False)

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class HotaScores:
    """HOTA and its parts at each of the 19 similarity thresholds `ALPHAS`; all in 0..1, larger is better.

    A pair counts as a true positive (TP) at a threshold if it is matched and at least so similar. Its association is
    A(c) = TPA / (TPA + FNA + FPA): frames in which its two identities are a TP, over frames in which either occurs.

    Attributes:
        hota_tp: int (19,) true positives.
        hota_fn: int (19,) labelled objects that are no true positive.
        hota_fp: int (19,) predicted objects that are no true positive.
        assa: (19,) association accuracy, the mean of A(c) over the true positives; 0 without any.
        assre: (19,) association recall, the mean of TPA / (TPA + FNA).
        asspr: (19,) association precision, the mean of TPA / (TPA + FPA).
        loca: (19,) localisation accuracy, the mean similarity of the true positives; 1 without any.
    """

    hota_tp: NDArray[np.int64]
    hota_fn: NDArray[np.int64]
    hota_fp: NDArray[np.int64]
    assa: Array
    assre: Array
    asspr: Array
    loca: Array

    @property
    def detre(self) -> Array:
        """Detection recall TP / (TP + FN), (19,)."""
        return self.hota_tp / np.maximum(1, self.hota_tp + self.hota_fn)

    @property
    def detpr(self) -> Array:
        """Detection precision TP / (TP + FP), (19,)."""
        return self.hota_tp / np.maximum(1, self.hota_tp + self.hota_fp)

    @property
    def deta(self) -> Array:
        """Detection accuracy TP / (TP + FN + FP), (19,)."""
        return self.hota_tp / np.maximum(1, self.hota_tp + self.hota_fn + self.hota_fp)

    @property
    def hota(self) -> Array:
        """sqrt(DetA * AssA), (19,); the single figure that is quoted is its mean."""
        return np.asarray(np.sqrt(self.deta * self.assa))


def hota(seq: FlatSequence) -> HotaScores:
    """Return HOTA of a sequence.

    One assignment a frame serves all thresholds: it maximises similarity times the alignment of the two identities, the
    overlap of their tracks in the whole sequence, which is why nothing can be matched before the last frame is known.
    """
    matched_P = match(seq)
    similarity = seq.similarity_P[matched_P]
    passed = np.searchsorted(ALPHAS - EPS, similarity, side="right")  # number of thresholds that a match reaches
    tp = reached(np.bincount(passed, minlength=len(ALPHAS) + 1))
    located = reached(np.bincount(passed, similarity, minlength=len(ALPHAS) + 1))

    pair_K, index = np.unique(seq.pairs[matched_P], return_inverse=True)
    shape = len(pair_K), len(ALPHAS) + 1
    tpa_KA = reached(np.bincount(index * shape[1] + passed, minlength=shape[0] * shape[1]).reshape(shape))
    gt_K1, pred_K1 = (count[:, None] for count in lengths(seq, pair_K))

    def mean(total_KA: NDArray[np.int64]) -> Array:
        return np.asarray((tpa_KA * (tpa_KA / total_KA)).sum(0) / np.maximum(1, tp))

    return HotaScores(
        hota_tp=tp,
        hota_fn=len(seq.gt_G) - tp,
        hota_fp=len(seq.pred_T) - tp,
        assa=mean(gt_K1 + pred_K1 - tpa_KA),
        assre=mean(gt_K1),
        asspr=mean(pred_K1),
        loca=mean_similarity(located, tp),
    )


def match(seq: FlatSequence) -> NDArray[np.bool_]:
    """Return which pairs are matched, bool (P,)."""
    similarity = seq.similarity_P
    row_sum = np.bincount(seq.row_P, similarity, len(seq.gt_G))
    col_sum = np.bincount(seq.col_P, similarity, len(seq.pred_T))
    union = row_sum[seq.row_P] + col_sum[seq.col_P] - similarity
    share = np.divide(similarity, union, out=np.zeros_like(similarity), where=union > EPS)
    pair_K, index = np.unique(seq.pairs, return_inverse=True)
    common_K = np.bincount(index, share, len(pair_K))
    gt_K, pred_K = lengths(seq, pair_K)
    alignment_K = common_K / (gt_K + pred_K - common_K)
    return assign(seq.row_P, seq.col_P, alignment_K[index] * similarity, seq.gt_frame_G[seq.row_P])


def lengths(seq: FlatSequence, pair_K: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return in how many frames the labelled and the predicted identity of each pair occur, (K,) each."""
    gt_K, pred_K = seq.identities(pair_K)
    return np.bincount(seq.gt_G, minlength=seq.gt_ids)[gt_K], np.bincount(seq.pred_T, minlength=seq.pred_ids)[pred_K]


def reached(passed: NDArray) -> NDArray:
    """Return amounts at each threshold, (..., A), from amounts by number of thresholds passed, (..., A + 1)."""
    return passed[..., :0:-1].cumsum(-1)[..., ::-1]


def mean_similarity(total: Array, tp: NDArray[np.int64]) -> Array:
    """Return LocA, `total / tp`, and 1 where nothing is matched, as in TrackEval."""
    return np.where(tp > 0, total / np.maximum(1, tp), 1.0)


def combine_hota(parts: Sequence[HotaScores]) -> HotaScores:
    """Return HOTA of several sequences: counts are summed, means are weighted by true positives."""
    weight = np.stack([part.hota_tp for part in parts])
    tp = weight.sum(0)

    def mean(name: str) -> Array:
        return np.asarray((weight * [getattr(part, name) for part in parts]).sum(0) / np.maximum(1, tp))

    return HotaScores(
        hota_tp=tp,
        hota_fn=np.sum([part.hota_fn for part in parts], axis=0),
        hota_fp=np.sum([part.hota_fp for part in parts], axis=0),
        assa=mean("assa"),
        assre=mean("assre"),
        asspr=mean("asspr"),
        loca=mean_similarity((weight * [part.loca for part in parts]).sum(0), tp),
    )
