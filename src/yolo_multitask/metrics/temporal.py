"""What is measured of a model of windows: positions of objects in every frame, average precision of the players."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ultralytics.utils.metrics import Metric

from yolo_multitask.metrics.multitask import MultiTaskMetrics
from yolo_multitask.metrics.points import POINT_PX, PointMetrics

POINT_KEYS = tuple(PointMetrics({}).results_dict)  # four figures, then counts
FIGURES = 4  # of them in the table


class TemporalMetrics(MultiTaskMetrics):
    """`MultiTaskMetrics` of the players, if there is a head for them, and `PointMetrics` of the objects.

    Attributes:
        measured: What is measured, as given.
        points: Of the objects, only where a head follows them: `.precision`, `.recall`, `.f1`, `.error`, `.counts`,
            see `PointMetrics`.
        box: The host's `Metric` of the players' boxes.
        pose: That of their keypoints, only with a Pose head.
    """

    def __init__(self, names: Mapping[int, str] | None = None, tasks: Sequence[str] = ("pose", "track")) -> None:
        """Build empty metrics.

        Args:
            names: Names of the players' classes by index.
            tasks: What to measure, of `pose` (the players) and `track` (the objects).
        """
        self.measured = tuple(tasks)
        self._follows = "track" in tasks
        self._has_players = "pose" in tasks
        super().__init__(names, [task for task in tasks if task != "track"])
        if self._follows:
            self.points = PointMetrics({})
        self.nt_per_class = self.nt_per_image = np.zeros(0, int)

    def __getattr__(self, name: str) -> Any:
        """Explain a missing `points`."""
        if name == "points":
            raise AttributeError("metrics.points was not measured: the model has no TrackNet head, or it is off.")
        return super().__getattr__(name)

    def follow(self, names: Mapping[int, str], threshold: float = POINT_PX) -> None:
        """Start to measure objects.

        Args:
            names: Names of their classes, by the data's number.
            threshold: See `PointMetrics`.
        """
        if self._follows:
            self.points = PointMetrics(names, threshold)

    @property
    def parts(self) -> dict[str, Metric]:
        """The `Metric` of each task with an average precision; none without players."""
        return super().parts if self._has_players else {}

    def process(
        self, save_dir: Path = Path("."), plot: bool = False, on_plot: Callable[..., Any] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Compute the average precisions; see `MultiTaskMetrics.process`."""
        if self._has_players and self.stats["target_cls"]:
            return super().process(save_dir, plot, on_plot)
        return {}

    @property
    def keys(self) -> list[str]:
        """Names of the mean results: those of the players, then those of the objects."""
        return [*(super().keys if self._has_players else []), *(POINT_KEYS if self._follows else [])]

    def mean_results(self) -> list[float]:
        """Return the values of `keys`."""
        players = super().mean_results() if self._has_players else []
        return [*players, *(self.points.results_dict.values() if self._follows else [])]

    @property
    def fitness(self) -> float:
        """Mean of the objects' F1 and the players' keypoint mAP50-95, of those that are measured, in 0..1."""
        both = [self.points.f1] if self._follows else []
        both += [self.pose.fitness()] if self._has_players else []
        return float(np.mean(both)) if both else 0.0
