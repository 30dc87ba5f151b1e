"""What each track looks like: a gallery of embeddings per track, and how telling these embeddings are.

Embeddings of different networks have different similarities: an untrained one gives 0.9 for any two people, a trained
one 0.3. `Calibration` measures, while it tracks, how similar two sightings of one object and of two objects are, and
turns a similarity into the probability of "the same" between the two.
"""

from __future__ import annotations

import numpy as np

from .boxes import Array
from .config import TrackerConfig
from .table import Rows, Table

ODDS = 0.5  # of the log odds that are believed
LEAST_VARIANCE = 1e-4
LEAST_SPREAD = 0.25  # of the same, over the distance of the means
OTHERS = 4  # other objects that a sighting is compared with to calibrate
RATE, MAX_RATE = 0.02, 0.3  # of what the calibration learns from one sighting, and from one frame


class Calibration:
    """Running mean and variance of the similarity of the same and of different objects.

    Args:
        same: Mean cosine similarity of one object, to start with.
        different: The same of two objects.
        deviation: Standard deviation of both.
    """

    def __init__(self, same: float, different: float, deviation: float) -> None:
        self.same, self.different = same, different
        self.same_variance = self.different_variance = deviation**2

    @property
    def separation(self) -> float:
        """How telling looks are, 0..1: 1 where the two means lie two (root mean square) standard deviations apart."""
        deviation = np.sqrt((self.same_variance + self.different_variance) / 2)
        return float(np.clip((self.same - self.different) / deviation / 2, 0, 1))

    @property
    def usual(self) -> float:
        """Least similarity that is usual for one object: a standard deviation below the mean."""
        return float(self.same - np.sqrt(self.same_variance))

    def probability(self, similarity: Array) -> Array:
        """Probability of "the same" given a cosine similarity, for two normal distributions, rising between the means.

        The log odds are halved: the errors of the sightings of a track are not independent. The sightings that are
        learnt from follow each other closely; those of an object that turned or was hidden are less alike, so that
        the spread of the same is taken to be at least a part of the distance of the means.
        """
        value = np.clip(similarity, min(self.different, self.same), self.same)
        same_variance = max(self.same_variance, (LEAST_SPREAD * (self.same - self.different)) ** 2)
        odds = (value - self.different) ** 2 / self.different_variance - (value - self.same) ** 2 / same_variance
        odds = odds / 2 + np.log(self.different_variance / same_variance) / 2
        return 1 / (1 + np.exp(-np.clip(odds * ODDS, -30, 30)))

    def learn(self, same_M: Array, different_L: Array) -> None:
        """Learn from the similarity of M sightings to their own track, and of L sightings to another one."""
        rate = min(RATE * len(same_M), MAX_RATE)
        self.same += rate * (float(same_M.mean()) - self.same)
        variance = max(float(((same_M - self.same) ** 2).mean()), LEAST_VARIANCE)
        self.same_variance += rate * (variance - self.same_variance)
        if len(different_L):
            self.different += rate * (float(different_L.mean()) - self.different)
            variance = max(float(((different_L - self.different) ** 2).mean()), LEAST_VARIANCE)
            self.different_variance += rate * (variance - self.different_variance)


class Gallery(Table):
    """Embeddings of T tracks: a running mean and up to G that differ from each other.

    Attributes:
        mean: (T, E) running mean, unit length.
        entries: (T, G, E) unit length, zeros where unused.
        used: (T, G) number of the frame in which an entry was last written, 0 where unused.
        sightings: (T,) how many embeddings a track has learnt.
    """

    def __init__(self, config: TrackerConfig, calibration: Calibration) -> None:
        self._config = config
        self.calibration = calibration
        self.mean: Array = np.zeros((0, 0), dtype=np.float32)
        self.entries: Array = np.zeros((0, config.gallery_size, 0), dtype=np.float32)
        self.used = np.zeros((0, config.gallery_size), dtype=np.int64)
        self.sightings = np.zeros(0, dtype=np.int64)

    def fit(self, width: int) -> None:
        """Set the length E of an embedding, once.

        Raises:
            ValueError: Another length was set before.
        """
        tracks, known = self.mean.shape
        if known == width:
            return
        if known:
            raise ValueError(f"update: expected feats of {known} values as before, got {width}; call reset() between.")
        self.mean = np.zeros((tracks, width), dtype=np.float32)
        self.entries = np.zeros((tracks, self._config.gallery_size, width), dtype=np.float32)

    def similarity(self, feats_PE: Array, rows_P: Rows) -> Array:
        """Cosine similarity (P,): the mean of that to the running mean and that to the nearest entry."""
        nearest = np.matmul(self.entries[rows_P], feats_PE[:, :, None])[..., 0]
        nearest = np.where(self.used[rows_P] > 0, nearest, -1.0).max(axis=1)
        return (nearest + np.einsum("pe,pe->p", feats_PE, self.mean[rows_P])) / 2

    def learn(self, rows_M: Rows, feats_ME: Array, frame: int, *, calibrate: bool) -> None:
        """Add one embedding to each of M tracks.

        An embedding that is as near an entry as sightings of one object mostly are is averaged into it; else it takes
        a free place, or that of the entry which was written longest ago.

        Args:
            rows_M: The tracks, each once.
            feats_ME: Their embeddings, unit length.
            frame: Number of the frame, from 1.
            calibrate: Whether the calibration learns from them, too: not at birth, where nothing was compared.
        """
        if calibrate:
            self._calibrate(rows_M, feats_ME)
        entries, used = self.entries[rows_M], self.used[rows_M]
        similarity = np.where(used > 0, np.einsum("me,mge->mg", feats_ME, entries), -2.0)
        nearest = similarity.argmax(axis=1)
        each = np.arange(len(rows_M))
        merge = similarity[each, nearest] >= self.calibration.usual
        slot = np.where(merge, nearest, used.argmin(axis=1))
        old = np.where(merge, 0.8, 0.0)[:, None]
        self.entries[rows_M, slot] = _unit(old * entries[each, slot] + (1 - old) * feats_ME)
        self.used[rows_M, slot] = frame
        sightings = self.sightings[rows_M]
        keep = np.minimum(self._config.embedding_momentum, sightings / (sightings + 1.0))[:, None]
        self.mean[rows_M] = _unit(keep * self.mean[rows_M] + (1 - keep) * feats_ME)
        self.sightings[rows_M] = sightings + 1

    def _calibrate(self, rows_M: Rows, feats_ME: Array) -> None:
        """Compare sightings with their own tracks and with those of some others, which are in sight, too."""
        known = self.sightings[rows_M] > 0
        rows, feats = rows_M[known], feats_ME[known]
        if not len(rows):
            return
        count, turns = len(rows), min(OTHERS + 1, len(rows))
        sighting = np.arange(count)
        track = (sighting + np.arange(turns)[:, None]) % count  # its own first
        similarity = self.similarity(np.tile(feats, (turns, 1)), rows[track.ravel()]).reshape(turns, count)
        self.calibration.learn(similarity[0], similarity[1:].ravel())


def _unit(vectors_ME: Array) -> Array:
    return vectors_ME / np.maximum(np.linalg.norm(vectors_ME, axis=1, keepdims=True), 1e-9)
