"""CLEAR MOT measures (Bernardin & Stiefelhagen, 2008; MT, PT, ML: Li et al., CVPR 2009), as TrackEval 1.3.0 has them.

Shapes: G labelled and T predicted objects of all frames, P pairs of them, M matches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from yolo_multitask.metrics.tracking.matching import solve
from yolo_multitask.metrics.tracking.sequence import EPS, FlatSequence

THRESHOLD = 0.5  # least similarity of a match
CONTINUED = 1000.0  # what a match that continues one of the frame before is worth more, as in TrackEval
MOSTLY_TRACKED, MOSTLY_LOST = 0.8, 0.2


@dataclass(frozen=True, kw_only=True)
class ClearScores:
    """Counts of the one-to-one matching that first continues the matches of the frame before, then is most similar.

    The frame before is the last one that had both labelled and predicted objects; others are passed over.

    Attributes:
        tp: Labelled objects that are matched, at a similarity of 0.5 or more.
        fp: Predicted objects that are not.
        fn: Labelled objects that are not.
        idsw: Matches with another predicted identity than that of the labelled identity's last match (ID switches).
        frag: Matches of a labelled identity that was matched earlier, but not in the frame before (fragmentations).
        mt: Labelled identities matched in more than 80% of their frames (mostly tracked).
        pt: Labelled identities matched in 20% to 80% of them (partially tracked).
        ml: Labelled identities matched in less than 20% (mostly lost).
        motp_sum: Sum of the similarities of the matches.
        mota: 1 - (FN + FP + IDSW) / labelled objects; at most 1, and negative where errors outnumber the labels.
            Without labelled objects it has TrackEval's values: 0 for a sequence, -FP for a combination of some.
    """

    tp: int
    fp: int
    fn: int
    idsw: int
    frag: int
    mt: int
    pt: int
    ml: int
    motp_sum: float
    mota: float

    @property
    def motp(self) -> float:
        """Mean similarity of the matches, 0.5..1; 0 without any."""
        return self.motp_sum / max(1, self.tp)


def clear(seq: FlatSequence) -> ClearScores:
    """Return the CLEAR measures of a sequence."""
    step_G = steps(seq)
    partner_G, motp_sum = match(seq, step_G)
    by_track = np.argsort(seq.gt_G, kind="stable")
    by_track = by_track[partner_G[by_track] >= 0]
    gt_M, pred_M, step_M = seq.gt_G[by_track], partner_G[by_track], step_G[by_track]
    same = gt_M[1:] == gt_M[:-1]
    idsw = int((same & (pred_M[1:] != pred_M[:-1])).sum())
    frag = int((same & (step_M[1:] != step_M[:-1] + 1)).sum())
    share = np.bincount(gt_M, minlength=seq.gt_ids) / np.bincount(seq.gt_G, minlength=seq.gt_ids)
    mt, not_lost = int((share > MOSTLY_TRACKED).sum()), int((share >= MOSTLY_LOST).sum())
    gt_dets, tp = len(seq.gt_G), len(gt_M)
    fp = len(seq.pred_T) - tp
    return ClearScores(
        tp=tp,
        fp=fp,
        fn=gt_dets - tp,
        idsw=idsw,
        frag=frag,
        mt=mt,
        pt=not_lost - mt,
        ml=seq.gt_ids - not_lost,
        motp_sum=motp_sum,
        mota=(tp - fp - idsw) / gt_dets if gt_dets else 0.0,
    )


def steps(seq: FlatSequence) -> NDArray[np.int64]:
    """Return the number of each labelled object's frame among the frames with predicted objects, (G,), else -1."""
    frame, index = np.unique(seq.gt_frame_G, return_inverse=True)
    counted = np.isin(frame, seq.pred_frame_T)
    return np.where(counted, counted.cumsum() - 1, -1)[index]


def match(seq: FlatSequence, step_G: NDArray[np.int64]) -> tuple[NDArray[np.int64], float]:
    """Match the objects of every frame.

    Pairs without a rival in their frame need no decision. Frames where pairs have one are solved in order, because a
    match of the frame before is preferred.

    Args:
        seq: The sequence.
        step_G: See `steps`.

    Returns:
        The predicted identity of each labelled object's match, (G,), -1 without one, and the sum of the similarities.
    """
    near = np.flatnonzero(seq.similarity_P >= THRESHOLD - EPS)
    row, col, similarity = seq.row_P[near], seq.col_P[near], seq.similarity_P[near]
    alone = (np.bincount(row)[row] == 1) & (np.bincount(col)[col] == 1)
    partner = np.full(len(seq.gt_G) + 1, -1)  # the last place, index -1, is for objects that were not there before
    partner[row[alone]] = seq.pred_T[col[alone]]
    total = similarity[alone].sum()
    rivals = np.flatnonzero(~alone)
    if len(rivals):
        before = predecessors(seq, step_G)
        ends = np.flatnonzero(np.diff(step_G[row[rivals]])) + 1
        for pairs in np.split(rivals, ends):
            gt, pred = row[pairs], seq.pred_T[col[pairs]]
            continued = partner[before[gt]] == pred
            chosen = solve(gt, pred, similarity[pairs] + CONTINUED * continued)
            partner[gt[chosen]] = pred[chosen]
            total += similarity[pairs[chosen]].sum()
    return partner[:-1], float(total)


def predecessors(seq: FlatSequence, step_G: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return which labelled object is the same identity one step before, (G,) indices, -1 where there is none."""
    order = np.flatnonzero(step_G >= 0)
    order = order[np.argsort(seq.gt_G[order], kind="stable")]
    first, second = order[:-1], order[1:]
    follows = (seq.gt_G[first] == seq.gt_G[second]) & (step_G[first] + 1 == step_G[second])
    before = np.full(len(seq.gt_G), -1)
    before[second[follows]] = first[follows]
    return before


def combine_clear(parts: Sequence[ClearScores]) -> ClearScores:
    """Return the measures of several sequences: the counts are summed, MOTA is that of the sums."""
    total = {f.name: sum(getattr(part, f.name) for part in parts) for f in fields(ClearScores)}
    total["mota"] = (total["tp"] - total["fp"] - total["idsw"]) / max(1, total["tp"] + total["fn"])
    return ClearScores(**total)
