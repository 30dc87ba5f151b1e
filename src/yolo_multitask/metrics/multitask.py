"""Average precisions of several tasks on the same detections, and the tracking figures of sequences.

Each task has its own statistics, because an instance may be labelled for one task and not for another. T similarity
thresholds (10, from 0.50 to 0.95), N predictions and M targets of an image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ultralytics.utils.metrics import DetMetrics, Metric, ap_per_class

from yolo_multitask.metrics.track import COLUMNS as TRACK_COLUMNS
from yolo_multitask.metrics.track import TrackMetric
from yolo_multitask.tasks import SPECS

_FIELDS = ("tp", "conf", "pred_cls", "target_cls")
_CURVES = ("Precision-Recall", "F1-Confidence", "Precision-Confidence", "Recall-Confidence")
_COLUMNS = ("precision", "recall", "mAP50", "mAP50-95")
_SAMPLES = 1000  # points of a curve in the host's `ap_per_class`


def stat_key(field: str, task: str) -> str:
    """Return the key of `field` (`tp`, `conf`, `pred_cls`, `target_cls`) of a task in `MultiTaskMetrics.stats`."""
    return field if task == "detect" else f"{field}_{SPECS[task].letter.lower()}"


class MultiTaskMetrics(DetMetrics):
    """The measures of each task, with the interface of the host's metrics.

    These are precision, recall and average precision, frame by frame; of `track`, HOTA and its like over sequences.

    Attributes:
        tasks: Tasks measured; `detect` is always the first.
        box: The host's `Metric` of the boxes.
        seg: That of the masks; only with `segment`.
        pose: That of the keypoints; only with `pose`.
        track: `TrackMetric` of the sequences; only with `track`.
        stats: Arrays per image, by `stat_key`: `tp` (N, T) bool, `conf` (N,), `pred_cls` (N,), `target_cls` (M,); and
            `target_img`, the classes present in an image, `source` (1,), the number of its source.
        by_source: Metrics of the images of each source alone, by its name; where the split lists several.
    """

    def __init__(self, names: Mapping[int, str] | None = None, tasks: Sequence[str] = tuple(SPECS)) -> None:
        """Build empty metrics.

        Args:
            names: Class names by index.
            tasks: Tasks to measure.
        """
        super().__init__(names)
        self.tasks = tuple(t for t in SPECS if t == "detect" or t in tasks)
        self.by_source: dict[str, MultiTaskMetrics] = {}
        self.stats["source"] = []
        for task in self.tasks[1:]:
            spec = SPECS[task]
            setattr(self, spec.metric, Metric() if spec.precision else TrackMetric())
            if spec.precision:
                self.stats.update({stat_key(field, task): [] for field in _FIELDS})

    def __getattr__(self, name: str) -> Any:
        """Explain a missing `seg`, `pose` or `track`."""
        if any(name == spec.metric for spec in SPECS.values()):
            raise AttributeError(
                f"metrics.{name} was not measured; this run measured: {', '.join(self.tasks)}. The model must have the "
                "task, the data must label it (for `track`: with ids, in sequences), and its switch must not be off."
            )
        return super().__getattr__(name)

    @property
    def parts(self) -> dict[str, Metric]:
        """The `Metric` of each task with an average precision, in the order of `tasks`."""
        return {task: getattr(self, SPECS[task].metric) for task in self.tasks if SPECS[task].precision}

    def update_stats(self, stat: dict[str, Any]) -> None:
        """Add one image.

        Args:
            stat: An array for every key of `stats`, and `im_name`, the file name.
        """
        for key, values in self.stats.items():
            values.append(stat[key])
        for task, metric in self.parts.items():
            tp, target_cls, pred_cls = (stat[stat_key(f, task)] for f in ("tp", "target_cls", "pred_cls"))
            metric.update_image_metrics(tp, target_cls, pred_cls, stat["im_name"])

    def process(
        self, save_dir: Path = Path("."), plot: bool = False, on_plot: Callable[..., Any] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Compute the average precisions from `stats`, and draw the curves; `track` is computed by its own `update`.

        Args:
            save_dir: Folder of the curve plots.
            plot: Whether to draw them, with the prefixes Box, Mask, Pose and HOTA.
            on_plot: Called with each plot's path.

        Returns:
            The concatenated `stats`.
        """
        stats = {key: np.concatenate(values, 0) for key, values in self.stats.items()}
        for task, metric in self.parts.items():
            tp, conf, pred_cls, target_cls = (stats[stat_key(f, task)] for f in _FIELDS)
            metric.nc = len(self.names)
            if len(target_cls) == 0:
                metric.update(_nothing_labelled(tp.shape[1]))
                continue
            prefix = SPECS[task].title
            metric.update(
                ap_per_class(
                    tp,
                    conf,
                    pred_cls,
                    target_cls,
                    plot=plot,
                    on_plot=on_plot,
                    save_dir=save_dir,
                    names=self.names,
                    prefix=prefix,
                )[2:]
            )
        if plot and "track" in self.tasks:
            self.track.plot(save_dir / "HOTA_curve.png", on_plot)
        self.nt_per_class = np.bincount(stats["target_cls"].astype(int), minlength=len(self.names))
        self.nt_per_image = np.bincount(stats["target_img"].astype(int), minlength=len(self.names))
        return stats

    def divide(self, tasks: Mapping[str, Sequence[str]]) -> None:
        """Compute the measures of each source alone, `by_source`, from `stats`.

        Args:
            tasks: What each source labels, by its name, in the order of its number.
        """
        source = np.array([int(number[0]) for number in self.stats["source"]], dtype=int)
        self.by_source = {}
        for number, (name, labelled) in enumerate(tasks.items()):
            own = MultiTaskMetrics(self.names, [t for t in self.tasks if t in labelled and SPECS[t].precision])
            chosen = np.flatnonzero(source == number)
            if len(chosen):
                own.stats = {key: [self.stats[key][i] for i in chosen] for key in own.stats}
                own.process()
                own.seen = len(chosen)
                self.by_source[name] = own

    def clear_image_metrics(self) -> None:
        """Forget the per-image metrics."""
        for metric in self.parts.values():
            metric.clear_image_metrics()

    @property
    def keys(self) -> list[str]:
        """Names of the mean results: four per task, such as `metrics/mAP50-95(B)`, of `track` six."""
        columns = {task: _COLUMNS if SPECS[task].precision else TRACK_COLUMNS for task in self.tasks}
        return [f"metrics/{column}({SPECS[task].letter})" for task in self.tasks for column in columns[task]]

    def mean_results(self) -> list[float]:
        """Return mean precision, recall, mAP50 and mAP50-95 of each task, then the figures of `track`, as in `keys`."""
        metrics = (getattr(self, SPECS[task].metric) for task in self.tasks)
        return [value for metric in metrics for value in metric.mean_results()]

    def class_result(self, i: int) -> tuple[float, ...]:
        """Return the results of class `ap_class_index[i]`, as `keys` without those of `track`; nan without targets."""
        results: list[float] = []
        for metric in self.parts.values():
            row = self._row(metric, int(self.ap_class_index[i]))
            results.extend([np.nan] * len(_COLUMNS) if row is None else metric.class_result(row))
        return tuple(results)

    @property
    def maps(self) -> NDArray[np.float64]:
        """Sum over the tasks of each class's mAP50-95, (nc,), as in the host's metrics of two tasks."""
        return np.sum([metric.maps for metric in self.parts.values()], axis=0)

    @property
    def fitness(self) -> float:
        """Mean of the tasks' mAP50-95, in 0..1."""
        return float(np.mean([metric.fitness() for metric in self.parts.values()]))

    @property
    def curves(self) -> list[str]:
        """Names of the curves, four per task with an average precision."""
        return [f"{curve}({SPECS[task].letter})" for task in self.parts for curve in _CURVES]

    @property
    def curves_results(self) -> list[list[Any]]:
        """The curves in the order of `curves`: x, y, and what they are."""
        return [curve for metric in self.parts.values() for curve in metric.curves_results]

    def summary(self, normalize: bool = True, decimals: int = 5) -> list[dict[str, Any]]:
        """Return one row per class with targets: the host's box columns, then those of each other task.

        Args:
            normalize: Kept for the host's signature; all values are in 0..1.
            decimals: Digits to round to.
        """
        rows = list(super().summary(normalize, decimals))
        for task, metric in list(self.parts.items())[1:]:
            title = SPECS[task].title
            for row, cls in zip(rows, self.ap_class_index, strict=True):
                i = self._row(metric, int(cls))
                p, r, ap50, ap = (np.nan,) * 4 if i is None else metric.class_result(i)
                f1 = np.nan if i is None else metric.f1[i]
                for column, value in (("P", p), ("R", r), ("F1", f1), ("mAP50", ap50), ("mAP50-95", ap)):
                    row[f"{title}-{column}"] = round(float(value), decimals)
        return rows

    @staticmethod
    def _row(metric: Metric, cls: int) -> int | None:
        """Return the row of a class in a task's results, or None where the task has no target of it."""
        found = np.flatnonzero(np.asarray(metric.ap_class_index) == cls)
        return int(found[0]) if len(found) else None


def _nothing_labelled(thresholds: int) -> tuple[NDArray[Any], ...]:
    """Return what `ap_per_class` gives, from the third item on, when there is no target: zero classes, no curves."""
    none, curve = np.zeros(0), np.zeros((0, _SAMPLES))
    x = np.linspace(0, 1, _SAMPLES)
    classes, precision = np.zeros(0, int), np.zeros((1, _SAMPLES))
    return none, none, none, np.zeros((0, thresholds)), classes, curve, curve, curve, x, precision
