"""Which detection continues which track: one cost from all cues, a limit for each pair, and the best assignment."""

from __future__ import annotations

from collections.abc import Mapping

import lap
import numpy as np
from numpy.typing import NDArray

from .boxes import Array, areas, intersections, iou
from .config import TrackerConfig
from .cues import Evidence
from .detections import Detections
from .table import Rows

GATE_RELIABILITY = 0.5  # a cue forbids a pair only where it can be relied on by more
_SHIFT = 4.0  # above any limit, so that costs stay positive after limits are taken off
_FORBIDDEN = 1e4


def combine(evidence: Mapping[str, Evidence], weights: Mapping[str, float], pairs: int) -> Array:
    """Cost (P,) of each pair: one minus the weighted mean of the similarities of its cues.

    A cue's weight is multiplied by its reliability for the pair, and the weights of each pair are scaled to sum to 1:
    what an absent cue would have weighed is shared out among the others. Where no cue has anything to say, it is 1.
    """
    total, agreement = np.zeros(pairs), np.zeros(pairs)
    for name, (similarity, reliability) in evidence.items():
        weight = weights[name] * reliability
        total += weight
        agreement += weight * similarity
    return 1 - agreement / np.maximum(total, 1e-9)


def allowed(evidence: Mapping[str, Evidence], gates: Mapping[str, float], pairs: int) -> NDArray[np.bool_]:
    """Which pairs (P,) no gate forbids: a cue forbids what it is sure about and finds less similar than its gate."""
    open_P = np.ones(pairs, dtype=bool)
    for name, (similarity, reliability) in evidence.items():
        if gates[name] > 0:
            open_P &= (similarity >= gates[name]) | (reliability <= GATE_RELIABILITY)
    return open_P


def track_limits(config: TrackerConfig, lost_T: NDArray[np.bool_], hidden_T: Array) -> Array:
    """What each track (T,) grants to the highest cost of a match: what it costs to leave it unmatched.

    It is less where the track is lost or expected behind another one, since it may well not be there to be seen. So a
    detection that a visible track explains is not taken by a hidden one that has nothing better.
    """
    granted = np.where(lost_T, config.lost_factor, 1.0) * (1 - (1 - config.hidden_factor) * hidden_T)
    return config.track_limit * granted


def detection_limits(config: TrackerConfig, detections: Detections) -> Array:
    """What each detection (D,) grants to the highest cost of a match.

    It is less where the score is low, and where it looks like a second box of an object that has a better one.
    """
    granted = np.interp(detections.score, [config.low_score, config.high_score], [config.low_factor, 1.0])
    return config.detection_limit * granted * (1 - (1 - config.repeat_factor) * detections.repeat)


def assign(d_P: Rows, t_P: Rows, excess_P: Array) -> Rows:
    """Pairs (M,) of the assignment with the least sum of costs above their limits (Jonker-Volgenant).

    Args:
        d_P: Detection of each pair.
        t_P: Track of each pair.
        excess_P: Cost of each pair less its limit; from 0 on it is not matched.
    """
    good = np.flatnonzero(excess_P < 0)
    if not len(good):
        return good
    detections, d = np.unique(d_P[good], return_inverse=True)
    tracks, t = np.unique(t_P[good], return_inverse=True)
    cost = np.full((len(detections), len(tracks)), _FORBIDDEN)
    cost[d, t] = excess_P[good] + _SHIFT
    _, track_of, _ = lap.lapjv(cost, extend_cost=True, cost_limit=_SHIFT)
    return good[track_of[d] == t]


def unexplained(config: TrackerConfig, detections: Detections, matched_M: Rows) -> Rows:
    """Detections that start tracks: with a high score, and neither a part nor a second box of what is tracked.

    Source: track-aware initialisation of TrackTrack, CVPR 2025.

    Args:
        config: Configuration.
        detections: D detections.
        matched_M: Those that continue a track.
    """
    taken = np.zeros(len(detections), dtype=bool)
    taken[matched_M] = True
    new = np.flatnonzero(~taken & (detections.score >= config.new_score))
    if not len(new):
        return new
    order = np.empty(len(detections), dtype=np.int64)  # among new ones, the better box stands for an object
    order[np.argsort(-detections.score, kind="stable")] = np.arange(len(detections))
    better = np.zeros(len(detections), dtype=bool)
    better[new] = True
    boxes, own = detections.boxes, detections.boxes[new]
    overlap = iou(own, boxes)
    inside = intersections(own, boxes) / areas(own)[:, None]
    standing = taken | (better & (order < order[new, None]))
    explained = standing & ((overlap > config.new_max_iou) | (inside > config.new_max_inside))
    same = detections.cls[new, None] == detections.cls
    return new[~(same & explained).any(axis=1)]
