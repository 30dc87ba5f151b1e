"""Identities for the detections of successive frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from yolo_multitask.runtime.detections import Detections
from yolo_multitask.runtime.letterbox import Scale
from yolo_multitask.tracking import MultiCueTracker, TrackerConfig, load_config
from yolo_multitask.tracking.config import as_config

_ID, _INDEX = 4, 7  # columns of a tracker's row


class Tracker:
    """The `multicue` tracker on `Detections`, with all cues that they have.

    Attributes:
        config: Its configuration.
    """

    def __init__(
        self,
        config: str | Path | TrackerConfig | Mapping[str, Any],
        *,
        frame_rate: float = 30.0,
        keypoint_sigmas: Sequence[float] | None = None,
    ) -> None:
        """Start without objects.

        Args:
            config: File or name of a `multicue` YAML, or its values.
            frame_rate: Frames per second of what is tracked.
            keypoint_sigmas: Spread of each keypoint; by default the tracker's.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: A value is wrong.
        """
        self.config = load_config(config) if isinstance(config, (str, Path)) else as_config(config)
        self._tracker = MultiCueTracker(self.config, frame_rate=frame_rate, keypoint_sigmas=keypoint_sigmas)

    def reset(self) -> None:
        """Forget everything: the next frame is the first, and ids start at 1 again."""
        self._tracker.reset()

    def update(self, found: Detections) -> Detections:
        """Return the detections of the next frame that are tracked, with their ids."""
        masks = found.masks if self.config.mask_weight > 0 else None
        if masks is not None:
            masks = Scale((masks.shape[1], masks.shape[2]), found.orig_shape).crop(masks)
        rows = self._tracker.update(
            SimpleNamespace(xyxy=found.xyxy, conf=found.score, cls=found.cls),
            img=np.ascontiguousarray(found.image),
            feats=found.embeddings,
            keypoints=found.keypoints,
            masks=masks,
            next_boxes=found.next_boxes,
        )
        return replace(found[rows[:, _INDEX].astype(np.int64)], ids=rows[:, _ID].astype(np.int64))
