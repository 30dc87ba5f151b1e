"""Which lost tracks come back: a new track that is about to be confirmed may be an old one.

Only here a track is compared over a long gap. A tentative track has been seen for some frames by then, so its looks are
averaged over them, and it is known not to be explained by a track that is followed.

- After a short gap, motion is enough: people do not appear in the middle of a picture, so a track that was born near
  the place where another was lost is that one, unless the lost one was leaving the picture.
- After a long gap, looks decide, under a strict gate; motion only says what can be reached in the time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .appearance import Appearance
from .association import assign
from .book import Book
from .boxes import Array
from .config import TrackerConfig
from .motion import Motion
from .table import Rows

HEIGHT_SPREAD = 0.25  # standard deviation of the log of the ratio of heights before and after a gap
NEAR_HEIGHT_CHANGE, FAR_HEIGHT_CHANGE = 0.5, 1.0  # limits of the same after a short and after a long gap
BORDER = 0.6  # sizes: what is lost nearer to the side of the picture may have left it


def revive(
    config: TrackerConfig,
    dt: float,
    frame: int,
    candidates: Rows,
    lost: Rows,
    *,
    book: Book,
    motion: Motion,
    appearance: Appearance,
    size: Array,
) -> tuple[Rows, Rows]:
    """Find lost tracks that go on as tentative ones.

    Args:
        config: Configuration.
        dt: Seconds between two frames.
        frame: Number of the frame.
        candidates: (C,) rows of tentative tracks to be confirmed.
        lost: (L,) rows of tracks without a detection.
        book: States of all tracks.
        motion: Filters of all tracks.
        appearance: Galleries of all tracks.
        size: (2,) width and height of the picture in pixels.

    Returns:
        Rows (M,) of candidates and of the lost tracks that they are.
    """
    gap = (frame - book.last[lost]) * dt
    possible = book.born[candidates][:, None] > book.last[lost]
    if config.class_gate:
        possible &= book.cls[candidates][:, None] == book.cls[lost]
    distance, height = _separation(motion, candidates, lost)
    spread = config.revive_spread + config.revive_speed * gap
    nearness = np.exp(-0.5 * (distance / spread) ** 2 - 0.5 * (height / HEIGHT_SPREAD) ** 2)
    near = possible & (distance < config.revive_reach * spread) & (gap <= config.max_lost)
    near &= (height < NEAR_HEIGHT_CHANGE) & _inside(motion, lost, size)
    score = np.where(near, 0.4 + 0.6 * nearness, 0.0)
    gallery = appearance.table
    if gallery.mean.shape[1]:
        known = (gallery.sightings[candidates] > 0)[:, None] & (gallery.sightings[lost] > 0)
        reachable = possible & (distance < 1 + config.max_speed * gap) & (height < FAR_HEIGHT_CHANGE)
        c, k = np.nonzero(known & (near | reachable))  # no other pair needs its looks compared
        same = np.zeros_like(score)
        same[c, k] = gallery.calibration.probability(gallery.similarity(gallery.mean[candidates[c]], lost[k]))
        by_looks = np.where(reachable & (same >= config.revive_min_same), 0.5 + 0.5 * same + 0.3 * nearness, 0.0)
        by_place = np.where(near & (same >= config.revive_min_same_near), (same + score) / 2, 0.0)
        score = np.where(known, np.maximum(by_looks, by_place), score)
    c, k = np.nonzero(score)
    best = assign(c, k, -score[c, k])
    return candidates[c[best]], lost[k[best]]


def _separation(motion: Motion, candidates: Rows, lost: Rows) -> tuple[Array, Array]:
    """How far each candidate is from where each track was lost or is expected, whichever is nearer.

    Returns:
        Distance of the centres (C, L) in sizes, and absolute log ratio of the heights (C, L).
    """
    here = motion.mean[candidates][:, None]
    expected, seen = motion.mean[lost], motion.seen[lost]
    from_expected = np.hypot(here[..., 0] - expected[:, 0], here[..., 1] - expected[:, 1])
    from_seen = np.hypot(here[..., 0] - seen[:, 0], here[..., 1] - seen[:, 1])
    scale = np.sqrt(motion.scale[candidates][:, None] * motion.scale[lost])
    height = np.abs(np.log(here[..., 3] / seen[:, 3]))
    return np.minimum(from_expected, from_seen) / scale, height


def _inside(motion: Motion, lost: Rows, size: Array) -> NDArray[np.bool_]:
    """Whether lost tracks (L,) are expected well inside the picture, so that they cannot have left it."""
    centre, margin = motion.mean[lost, :2], BORDER * motion.scale[lost]
    x, y = centre[:, 0], centre[:, 1]
    inside: NDArray[np.bool_] = (x > margin) & (x < size[0] - margin) & (y > margin) & (y < size[1])
    return inside
