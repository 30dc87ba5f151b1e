"""How validation measures tracks: which data has any, what is kept of each image, and what is reported.

N predictions and M targets of an image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ultralytics.models.yolo.detect import DetectionValidator
from ultralytics.utils import LOGGER

from yolo_multitask.engine.frames import Frame, trackable
from yolo_multitask.engine.sequences import Sequences
from yolo_multitask.engine.targets import similarity
from yolo_multitask.engine.trackers import DEFAULT_TRACKER
from yolo_multitask.metrics.multitask import MultiTaskMetrics

COMPARED = {"box": "detect", "mask": "segment", "oks": "pose"}  # the task whose output a `similarity` compares


class TrackValidation(DetectionValidator):
    """The part of `MultiTaskValidator` that measures tracks.

    Attributes:
        tasks: Tasks that are validated.
        metrics: The measures of these tasks.
        sequences: Those of the data, None as long as they were not asked for.
        sigmas: Spread of each keypoint, None without `pose`.
    """

    tasks: tuple[str, ...]
    metrics: MultiTaskMetrics
    sequences: Sequences | None = None
    sigmas: NDArray[Any] | None = None

    def check_similarity(self) -> None:
        """Check that what tracks are to be compared by is validated.

        Raises:
            ValueError: If it is not.
        """
        compared = COMPARED[self.args.similarity]
        if "track" in self.tasks and compared not in self.tasks:
            raise ValueError(
                f"'similarity={self.args.similarity}' compares tracks by what '{compared}' predicts, but this run only "
                f"validates {', '.join(self.tasks)}. Use 'similarity=box', or a model and data that have '{compared}', "
                "and do not switch it off."
            )

    def with_sequences(self, tasks: tuple[str, ...], dataset: Any) -> tuple[str, ...]:
        """Return `tasks`, without `track` where the data has no sequences; these are looked for once a data set.

        Raises:
            ValueError: If there are none, and `track=True` was asked for; or a frame shows an identity twice.
        """
        if "track" not in tasks:
            return tasks
        if self.sequences is None or self.sequences.dataset is not dataset:
            self.sequences = Sequences(dataset)
            if not self.sequences.files and dataset.spec.ids:
                self._report_no_sequences()
        return tasks if self.sequences.files else tuple(t for t in tasks if t != "track")

    def _report_no_sequences(self) -> None:
        need = "tracks are measured on sequences (folders of two images or more, with '#id' in their labels)"
        found = f"data '{self.data_name}' has none in its split '{self.args.split}'"
        if self.args.tasks is None and self.args.switches.get("track"):
            raise ValueError(f"'track=True' was asked for, but {need}; {found}. Leave it out, or add such a folder.")
        LOGGER.warning(f"'track' is not measured: {need}; {found}")

    def prepare_tracking(self, keypoint_sigmas: Any) -> tuple[str, ...]:
        """Choose the tracker, and return the tasks whose output it takes.

        In training it is always the default one, without the images: reading them again would take longer than all
        else.

        Args:
            keypoint_sigmas: Spread of each of the model's keypoints, None for the default.
        """
        if "track" not in self.tasks:
            return ()
        assert self.sequences is not None
        tracker = DEFAULT_TRACKER if self.training else self.args.tracker
        self.sequences.prepare(
            tracker, self.args.model, self.device, images=not self.training, keypoint_sigmas=keypoint_sigmas
        )
        return self.sequences.cues

    def keep_frame(self, preds: Mapping[str, torch.Tensor], targets: Mapping[str, Any]) -> None:
        """Keep what is needed to track the sequence of an image, if it is of one; both in input pixels."""
        if "track" not in self.tasks or self.sequences is None or targets["im_file"] not in self.sequences:
            return
        preds, compared = trackable(preds), COMPARED[self.args.similarity]
        known, similar = targets["labelled"]["track"] & targets["labelled"][compared], None
        if compared == "pose":
            known = known & (targets["keypoints"][..., 2] > 0).any(1)
        if compared != "detect":
            similar = similarity(compared, preds, targets, known, self.sigmas)
        self.sequences.frames[targets["im_file"]] = Frame.of(preds, targets, known, similar)

    def gather_stats(self) -> None:
        """Gather the statistics of all processes."""
        super().gather_stats()
        if "track" in self.tasks and self.sequences is not None:
            self.sequences.gather()

    def get_stats(self) -> dict[str, Any]:
        """Track the sequences; compute and return all metrics by key."""
        if "track" in self.tasks and self.sequences is not None:
            self.metrics.track.update(self.sequences.measure())
        return super().get_stats()  # type: ignore[no-any-return]

    def finalize_metrics(self) -> None:
        """Attach speed and confusion matrix to the metrics; outside training write the figures of tracks to a file."""
        super().finalize_metrics()
        if "track" in self.tasks and not self.training:
            self.metrics.track.save_csv(self.save_dir / "tracking.csv")

    def print_tracks(self) -> None:
        """Log the table of `track`: each sequence, in training and with `verbose=False` only all together."""
        rows = self.metrics.track.rows()
        LOGGER.info(f"{'Sequence':>22}" + "".join(f"{column:>11}" for column in rows[0][1]))
        for name, summary in rows if self.args.verbose and not self.training else rows[-1:]:
            LOGGER.info(table_row(name, *summary.values()))


def table_row(name: str, *values: Any) -> str:
    """Return one row of a table: whole numbers as they are, others to three digits, `-` for nan."""
    return f"{name:>22}" + "".join(f"{_number(v):>11}" for v in values)


def _number(value: Any) -> str:
    if isinstance(value, (int, np.integer)):
        return str(value)
    return "-" if np.isnan(value) else format(value, ".3g")
