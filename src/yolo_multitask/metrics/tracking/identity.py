"""Identity measures (Ristani et al., ECCV workshops 2016), as TrackEval 1.3.0 computes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from yolo_multitask.metrics.tracking.matching import assign
from yolo_multitask.metrics.tracking.sequence import FlatSequence

THRESHOLD = 0.5  # least similarity of two objects that may be the same


@dataclass(frozen=True, kw_only=True)
class IdentityScores:
    """Counts of the one-to-one matching of whole identities that explains most objects.

    Attributes:
        idtp: Objects where a labelled identity and the predicted one that is matched to it are similar (0.5 or more).
        idfp: Predicted objects that are none of those.
        idfn: Labelled objects that are none of those.
    """

    idtp: int
    idfp: int
    idfn: int

    @property
    def idp(self) -> float:
        """Identity precision IDTP / (IDTP + IDFP), 0..1."""
        return self.idtp / max(1, self.idtp + self.idfp)

    @property
    def idr(self) -> float:
        """Identity recall IDTP / (IDTP + IDFN), 0..1."""
        return self.idtp / max(1, self.idtp + self.idfn)

    @property
    def idf1(self) -> float:
        """2 IDTP / (2 IDTP + IDFP + IDFN), 0..1."""
        return 2 * self.idtp / max(1, 2 * self.idtp + self.idfp + self.idfn)


def identity(seq: FlatSequence) -> IdentityScores:
    """Return the identity measures of a sequence.

    Matching two identities turns each of their similar objects from one false positive and one false negative into one
    true positive, so the fewest errors are the most true positives.
    """
    pair_K, count_K = np.unique(seq.pairs[seq.similarity_P >= THRESHOLD], return_counts=True)
    matched_K = assign(*seq.identities(pair_K), count_K.astype(float), np.zeros_like(pair_K))
    idtp = int(count_K[matched_K].sum())
    return IdentityScores(idtp=idtp, idfp=len(seq.pred_T) - idtp, idfn=len(seq.gt_G) - idtp)


def combine_identity(parts: Sequence[IdentityScores]) -> IdentityScores:
    """Return the measures of several sequences: all counts are summed."""
    return IdentityScores(
        idtp=sum(part.idtp for part in parts),
        idfp=sum(part.idfp for part in parts),
        idfn=sum(part.idfn for part in parts),
    )
