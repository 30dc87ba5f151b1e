"""What validation draws: the newest frame of each window, with the objects of all its frames."""

from __future__ import annotations

from typing import Any

import torch
from ultralytics.models.yolo.detect import DetectionValidator
from ultralytics.utils.plotting import plot_images

from yolo_multitask.data.clips.preprocess import Fit
from yolo_multitask.engine.temporal.draw import draw_objects, labelled_pictures, newest_frames
from yolo_multitask.engine.temporal.layout import TemporalLayout

PLOTTED = ("batch_idx", "cls", "bboxes", "keypoints")  # of the labels of a batch


class ValidationPlots(DetectionValidator):
    """The part of `TemporalValidator` that draws.

    Attributes:
        temporal: What the model computes.
        values: Decoded elements (B, N, P + followed classes) of the batch at hand, None without a TrackNet head.
        point_conf: Confidence from which an object counts.
    """

    temporal: TemporalLayout
    tasks: tuple[str, ...]
    values: torch.Tensor | None = None
    point_conf = 0.0

    def plot_val_samples(self, batch: dict[str, Any], ni: int) -> None:
        """Draw the newest frame of each window with its labels."""
        plot_images(
            labels={key: batch[key] for key in PLOTTED if key in batch},
            images=labelled_pictures(batch, self.temporal.channels),
            paths=batch["im_file"],
            fname=self.save_dir / f"val_batch{ni}_labels.jpg",
            names=self.names,
            on_plot=self.on_plot,
        )

    def plot_predictions(
        self, batch: dict[str, Any], preds: list[dict[str, torch.Tensor]], ni: int, max_det: int | None = None
    ) -> None:
        """Draw the newest frame of each window with what was found in the window."""
        pictures = newest_frames(batch["img"], self.temporal.channels)
        for i, picture in enumerate(pictures):
            if self.values is not None and "track" in self.tasks:
                draw_objects(picture, self._found(i, picture.shape[:2]))
        shown = {**batch, "img": torch.from_numpy(pictures).permute(0, 3, 1, 2)}
        none = torch.zeros(0)
        found = preds or [{"bboxes": torch.zeros(0, 4), "conf": none, "cls": none} for _ in pictures]
        DetectionValidator.plot_predictions(self, shown, found, ni, max_det)

    def _found(self, i: int, shape: tuple[int, int]) -> list[tuple[float, float, float, bool]]:
        """Return what `draw_objects` takes of the objects that window i of the batch shows."""
        assert self.values is not None
        fit = Fit(shape, shape)
        rows = self.temporal.find(self.values[i], fit, conf=self.point_conf, radius=self.temporal.radius(fit))
        return [(x, y, group / max(self.temporal.num_groups - 1, 1), False) for group, x, y in rows[:, :3]]
