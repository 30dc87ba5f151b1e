"""The figures of one sequence, or of several together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from yolo_multitask.metrics.tracking.clear import ClearScores, combine_clear
from yolo_multitask.metrics.tracking.hota import HotaScores, combine_hota
from yolo_multitask.metrics.tracking.identity import IdentityScores, combine_identity

CURVES = ("hota", "deta", "assa", "loca", "detre", "detpr", "assre", "asspr")


@dataclass(frozen=True, kw_only=True, eq=False)
class TrackingResult(HotaScores, ClearScores, IdentityScores):
    """HOTA at each threshold, CLEAR and identity measures; see the three classes for the meaning of each figure.

    Attributes:
        gt_dets: Number of labelled objects in all frames.
        pred_dets: Number of predicted objects in all frames.
        gt_ids: Number of labelled identities.
        pred_ids: Number of predicted identities.
    """

    gt_dets: int
    pred_dets: int
    gt_ids: int
    pred_ids: int

    def mean(self, name: str) -> float:
        """Return the mean over the thresholds of one of `CURVES`, 0..1.

        Raises:
            ValueError: `name` is none of them.
        """
        if name not in CURVES:
            raise ValueError(f"Expected one of {', '.join(CURVES)}, found '{name}'.")
        return float(getattr(self, name).mean())

    def summary(self) -> dict[str, float | int]:
        """Return the figures that are usually quoted: fractions as float in 0..1 (MOTA at most 1), counts as int."""
        return {
            "HOTA": self.mean("hota"),
            "DetA": self.mean("deta"),
            "AssA": self.mean("assa"),
            "LocA": self.mean("loca"),
            "MOTA": self.mota,
            "IDF1": self.idf1,
            "IDSW": self.idsw,
            "Frag": self.frag,
            "FP": self.fp,
            "FN": self.fn,
        }


def combine(results: Iterable[TrackingResult]) -> TrackingResult:
    """Return the figures of several sequences together, as TrackEval's COMBINED_SEQ: counts are summed, not averaged.

    Raises:
        ValueError: There are no results.
    """
    parts = list(results)
    if not parts:
        raise ValueError("Expected the result of at least one sequence to combine, found none.")
    return TrackingResult(
        **vars(combine_hota(parts)),
        **vars(combine_clear(parts)),
        **vars(combine_identity(parts)),
        gt_dets=sum(part.gt_dets for part in parts),
        pred_dets=sum(part.pred_dets for part in parts),
        gt_ids=sum(part.gt_ids for part in parts),
        pred_ids=sum(part.pred_ids for part in parts),
    )
