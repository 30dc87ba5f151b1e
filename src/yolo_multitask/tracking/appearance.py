"""The embedding cue: what each track looks like, by embeddings of the network or else by colours."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from . import colours
from .config import TrackerConfig
from .cues import Evidence, Pairs
from .detections import Detections
from .gallery import Calibration, Gallery
from .table import Rows

# What the calibration starts with: similarity of the same and of different objects, standard deviation of both.
EMBEDDINGS, COLOURS = (0.6, 0.3, 0.12), (0.97, 0.84, 0.05)


class Appearance:
    """A gallery of looks for each track.

    Attributes:
        table: The gallery.
    """

    def __init__(self, config: TrackerConfig) -> None:
        self._config = config
        self._kind = EMBEDDINGS
        self.table = Gallery(config, Calibration(*EMBEDDINGS))

    def attend(self, detections: Detections, img: NDArray[Any] | None) -> Detections:
        """Let colours stand in for embeddings as long as there were none; galleries start anew when that changes.

        Args:
            detections: D detections.
            img: (H, W, 3) BGR uint8, if there is one.

        Returns:
            The detections, with colours as embeddings where these are used; without any where looks have no weight.

        Raises:
            ValueError: Embeddings have another length than before.
        """
        if self._config.embedding_weight == 0:
            return replace(detections, embeddings=None)
        if detections.embeddings is not None:
            self._choose(EMBEDDINGS)
            self.table.fit(detections.embeddings.shape[1])
        elif self._config.colours and img is not None and not self._has_embeddings:
            self._choose(COLOURS)
            self.table.fit(colours.LENGTH)
            return replace(detections, embeddings=colours.describe(img, detections.boxes))
        return detections

    @property
    def _has_embeddings(self) -> bool:
        """Whether the gallery holds embeddings of a network."""
        return self._kind is EMBEDDINGS and self.table.mean.shape[1] > 0

    def _choose(self, kind: tuple[float, float, float]) -> None:
        """Choose what the gallery holds."""
        if kind is not self._kind:
            tracks = len(self.table.mean)
            self._kind, self.table = kind, Gallery(self._config, Calibration(*kind))
            self.table.grow(tracks)

    def compare(self, pairs: Pairs) -> Evidence | None:
        """Probability that two looks are one object's; the more of a detection is hidden, the less it counts."""
        feats = pairs.detections.embeddings
        if feats is None:
            return None
        probability = self.table.calibration.probability(self.table.similarity(feats[pairs.d], pairs.row))
        sharp = (1 - 0.9 * pairs.detections.hidden) * feats.any(axis=1)
        known = self.table.sightings[pairs.row] > 0
        return Evidence(probability, sharp[pairs.d] * known * self.table.calibration.separation)

    def learn(self, rows_M: Rows, dets_M: Rows, detections: Detections, frame: int, *, born: bool) -> None:
        """Learn the looks of M tracks from their detections, where these are unhidden and sure."""
        feats = detections.embeddings
        if feats is None:
            return
        good = detections.hidden[dets_M] <= self._config.embedding_max_hidden
        good &= (detections.score[dets_M] >= self._config.embedding_min_score) & feats[dets_M].any(axis=1)
        if good.any():
            self.table.learn(rows_M[good], feats[dets_M[good]], frame, calibrate=not born)
