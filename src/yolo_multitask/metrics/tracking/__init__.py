"""How well objects keep their identity: HOTA, CLEAR and identity measures, as TrackEval defines them.

A sequence is given frame by frame to a `SequenceAccumulator`, whose `compute` returns a `TrackingResult`; `combine`
sums sequences up. The similarity may be that of boxes, masks or keypoints. Needs only numpy and lap.

The figures are TrackEval's, except where two assignments have exactly the same total, as equal similarities in one
frame may give: HOTA and CLEAR then depend on which of them the solver takes. The identity measures never do.
"""

from yolo_multitask.metrics.tracking.accumulate import SequenceAccumulator
from yolo_multitask.metrics.tracking.hota import ALPHAS
from yolo_multitask.metrics.tracking.result import TrackingResult, combine
from yolo_multitask.metrics.tracking.similarity import box_similarity, mask_similarity, oks_similarity

__all__ = [
    "ALPHAS",
    "SequenceAccumulator",
    "TrackingResult",
    "box_similarity",
    "combine",
    "mask_similarity",
    "oks_similarity",
]
