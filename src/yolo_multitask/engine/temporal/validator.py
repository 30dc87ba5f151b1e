"""Validation of models of windows: the objects in every frame, and the players in the newest frame of each window.

B windows, G frames of a window, N elements, P decoded values of an element, T players of a frame, A anchors.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from ultralytics.data import build_dataloader
from ultralytics.models.yolo.detect import DetectionValidator
from ultralytics.utils import LOGGER, RANK
from ultralytics.utils.metrics import ConfusionMatrix

from yolo_multitask import host
from yolo_multitask.data.clips.config import load_clip_data
from yolo_multitask.data.clips.preprocess import Fit
from yolo_multitask.data.clips.windows import WindowDataset, build_window_dataset
from yolo_multitask.data.config import host_yaml
from yolo_multitask.engine import exported
from yolo_multitask.engine.loss_means import LossMeans
from yolo_multitask.engine.temporal.clip import FrameEstimates, Window
from yolo_multitask.engine.temporal.layout import TemporalLayout, read_outputs
from yolo_multitask.engine.temporal.plots import ValidationPlots
from yolo_multitask.engine.track_validation import table_row
from yolo_multitask.engine.validator import MultiTaskValidator
from yolo_multitask.metrics import pose
from yolo_multitask.metrics.temporal import FIGURES, TemporalMetrics
from yolo_multitask.tasks import SPECS

POINT_CONF = 0.25  # confidence from which an object counts, where the user names none; the players' AP needs all
WEAK = 0.5  # a window's say counts from this share of it
UNSUPPORTED = ("save_json", "save_txt", "augment", "visualize", "single_cls")


class TemporalValidator(ValidationPlots, MultiTaskValidator):
    """Validator of `TemporalModel` and of files exported from one.

    What all windows that hold a frame say of an object in it is combined, as in prediction, and compared with the
    labels by `PointMetrics`; frames that are not labelled are passed over. Players are measured by the average
    precisions of their boxes and keypoints, in the newest frame of each window. Windows are `window_stride` frames
    apart: in training as many as they have frames, so that each frame is seen once; else 1.

    Attributes:
        temporal: What the model computes.
        metrics: `TemporalMetrics`.
    """

    metrics: TemporalMetrics
    temporal: TemporalLayout

    def __init__(
        self,
        dataloader: Any = None,
        save_dir: Path | None = None,
        args: Any = None,
        _callbacks: dict[str, Any] | None = None,
    ) -> None:
        """Build the validator; see `MultiTaskValidator`."""
        given = args if isinstance(args, Mapping) else vars(args) if args is not None else {}
        conf = given.get("conf")
        self.point_conf = POINT_CONF if conf is None else float(conf)
        self._windows: list[tuple[str, Window]] = []
        super().__init__(dataloader, save_dir, args, _callbacks)

    def _set_tasks(self, tasks: tuple[str, ...]) -> None:
        self.tasks = tuple(t for t in SPECS if t == "detect" or t in tasks)
        if getattr(self.metrics, "measured", None) != self.tasks:
            self.metrics = TemporalMetrics(tasks=self.tasks)

    def with_sequences(self, tasks: tuple[str, ...], dataset: Any) -> tuple[str, ...]:
        """Return `tasks`: objects are followed in every clip."""
        return tasks

    def __call__(self, trainer: Any = None, model: Any = None, **kwargs: Any) -> Any:
        """Validate; see the host's method for the arguments and the result.

        Raises:
            ValueError: If a switch asks for what the model or the data does not have, or they do not fit each other.
        """
        if trainer is not None:
            return DetectionValidator.__call__(self, trainer=trainer, model=model, **kwargs)
        if unsupported := [key for key in UNSUPPORTED if getattr(self.args, key, False)]:
            raise ValueError(f"{', '.join(unsupported)}: not available for models that take windows of frames.")
        self._loaded = load_clip_data(self.args.data, split=self.args.split or "val")
        # the host prints the table's header and asks for the data before it has set up the model
        self.temporal = self._read_layout(model or self.args.model)
        self._set_tasks(self._choose_tasks(self.available(self.temporal.tasks), self._loaded))
        channels = self.temporal.num_groups * self.temporal.channels
        shown = {"sources": self._loaded["clips"], "channels": channels}
        try:
            with host_yaml({**self._loaded, **shown}) as self.args.data:
                return DetectionValidator.__call__(self, trainer=trainer, model=model, **kwargs)
        finally:
            self.args.data = self.data_name

    @staticmethod
    def _read_layout(model: Any) -> TemporalLayout:
        if isinstance(model, torch.nn.Module):
            return TemporalLayout.of(model)
        if str(model).endswith(".pt"):
            return TemporalLayout.of(host.load_network(model))
        return TemporalLayout.of_file(exported.read_metadata(model))

    def _choose_tasks(self, available: tuple[str, ...], data: Mapping[str, Any]) -> tuple[str, ...]:
        """Return those of the available tasks that the data labels."""
        in_data = data_tasks(data)
        for task in available if self.args.tasks is None else ():
            if self.args.switches.get(task) and task not in in_data:
                raise ValueError(
                    f"'{task}=True' was asked for and model '{self.args.model}' has it, but data '{self.data_name}' "
                    f"has only: {', '.join(in_data)}. Leave out '{task}=True', or validate on data that labels it."
                )
        return tuple(t for t in SPECS if t in available and t in in_data)

    def get_dataloader(self, dataset_path: Any, batch_size: int) -> Any:
        """Return the loader of the split to validate."""
        assert self._loaded is not None
        self.data = self._loaded
        dataset = self.build_dataset(dataset_path)
        return build_dataloader(dataset, batch_size, self.args.workers, shuffle=False, rank=-1)

    def build_dataset(self, img_path: Any, mode: str = "val", batch: int | None = None) -> WindowDataset:
        """Return the windows of the split to validate."""
        assert self._loaded is not None
        stride = self.temporal.window_stride(self.args.window_stride)
        return build_window_dataset(
            self.args,
            self._loaded,
            self.args.split or "val",
            num_groups=self.temporal.num_groups,
            channels=self.temporal.channels,
            stride=int(self.stride),
            window_stride=stride,
            frame_steps=(1,),
            padded=stride == 1,
        )

    def init_metrics(self, model: Any) -> None:
        """Set up the run for `model` (a network, or a backend around one or around a file).

        Raises:
            ValueError: If model and data do not fit each other.
        """
        if not self.training and self._loaded is not None:
            self.data = self._loaded
        exported.adopt(model, self.args.model)
        self.temporal, self._model = TemporalLayout.of(model), model
        self._check_classes()
        self._set_tasks(self._choose_tasks(self.available(self.temporal.tasks), self.data))
        DetectionValidator.init_metrics(self, model)
        self.names = self.metrics.names = self.temporal.player_names
        self.nc = len(self.names)
        self.confusion_matrix = ConfusionMatrix(names=self.names)
        self.metrics.follow({c: self.temporal.names[c] for c in self.temporal.objects}, self.args.point_px)
        self._windows, self._loss_means = [], LossMeans()
        self.kpt_classes = [i for i, c in enumerate(self.temporal.players) if c in self.data["kpt_classes"]]
        if "pose" in self.tasks:
            self._check_keypoints()
            self.sigmas = pose.oks_sigmas(self.data["kpt_shape"], self.data.get("kpt_oks_sigmas"))

    def _check_classes(self) -> None:
        """Check that the model's classes are those of the data.

        Raises:
            ValueError: If they are not.
        """
        layout, data = self.temporal, self.data
        pairs = ((layout.objects, data["objects"]), (layout.players, data["players"]))
        if dict(layout.names) != dict(data["names"]) or any(own and list(own) != list(of) for own, of in pairs):
            raise ValueError(
                f"model '{self.args.model}' knows the classes {dict(layout.names)} and follows {list(layout.objects)}, "
                f"but data '{self.data_name}' has {data['names']} and follows {data['objects']}. Validate on data with "
                "the same 'names' and 'objects'."
            )

    def _check_keypoints(self) -> None:
        own, of = self.temporal.kpt_shape, self.data["kpt_shape"]
        assert own is not None
        if own[0] != of[0]:
            raise ValueError(
                f"model '{self.args.model}' predicts {own[0]} keypoints (kpt_shape {list(own)}), but data "
                f"'{self.data_name}' labels {of[0]} (kpt_shape {list(of)}). Validate with data of the same keypoints, "
                "or with 'pose=False'."
            )

    # ---- one batch --------------------------------------------------------------------------------------------------

    def postprocess(self, preds: Any) -> list[dict[str, torch.Tensor]]:
        """Keep what is said of the objects, and apply the NMS to the players.

        Args:
            preds: What the model gives for a batch of windows.

        Returns:
            Per window `bboxes` (T, 4) x1 y1 x2 y2, `conf` (T,), `cls` (T,) and `keypoints` (T, K, D) of the players in
            input pixels; empty without a Pose head.
        """
        self.values, rows = read_outputs(self._model, preds)
        if rows is None or "pose" not in self.tasks:
            return []
        found: list[dict[str, torch.Tensor]] = DetectionValidator.postprocess(self, rows)
        for pred in found:
            extra = pred.pop("extra")
            assert self.temporal.kpt_shape is not None
            pred["keypoints"] = extra.reshape(len(extra), *self.temporal.kpt_shape).clone()
            pred["keypoints"][~self.has_keypoints(pred["cls"])] = 0
        return found

    def update_metrics(self, preds: list[dict[str, torch.Tensor]], batch: dict[str, Any]) -> None:
        """Add a batch to the statistics."""
        if self.values is not None and "track" in self.tasks:
            for i, values in enumerate(self.values):
                self._windows.append((batch["clip"][i], self._window(values, batch, i)))
        if preds:
            super().update_metrics(preds, batch)
            return
        self.seen += len(batch["clip"])
        if self.training:
            self._loss_means.count(self.loss)

    def _window(self, values: torch.Tensor, batch: Mapping[str, Any], i: int) -> Window:
        """Return what window i of a batch says of its frames."""
        fit = Fit(tuple(batch["ori_shape"][i]), tuple(batch["img"].shape[2:]))
        found = self.temporal.find(values, fit, conf=self.point_conf * WEAK, radius=self.temporal.radius(fit))
        frames = torch.where(batch["valid"][i], batch["frame_numbers"][i], -1).tolist()
        return Window(max(frames), frames, found)

    # ---- the whole split --------------------------------------------------------------------------------------------

    def gather_stats(self) -> None:
        """Gather the statistics of all processes."""
        super().gather_stats()
        if RANK == 0:
            everyone: list[Any] = [None] * dist.get_world_size()
            dist.gather_object(self._windows, everyone, dst=0)
            self._windows = [window for part in everyone for window in part]
        elif RANK > 0:
            dist.gather_object(self._windows, None, dst=0)

    def get_stats(self) -> dict[str, Any]:
        """Combine what the windows say, compare it with the labels; return all metrics by key."""
        if "track" in self.tasks:
            self._measure_objects()
        return super().get_stats()

    def _measure_objects(self) -> None:
        said: dict[str, FrameEstimates] = {}
        clips = {clip.name: clip for clip in self.dataloader.dataset.clips}
        for name, window in self._windows:
            if name not in said:
                fit = Fit(clips[name].size, self.dataloader.dataset.shape)
                said[name] = FrameEstimates(self.point_conf, self.temporal.radius(fit))
            said[name].add(window)
        for name, estimates in said.items():
            for frame, labels in enumerate(clips[name].labels):
                rows = estimates.take(frame)
                cls = np.take(self.temporal.objects, rows[:, 5].astype(int))
                self.metrics.points.update(
                    rows[:, :2],
                    cls,
                    labels.points,
                    labels.cls,
                    labels.visible,
                    size=clips[name].size,
                    labelled=labels.labelled,
                )

    def finalize_metrics(self) -> None:
        """Attach speed and confusion matrix to the metrics."""
        plots, self.args.plots = self.args.plots, self.args.plots and "pose" in self.tasks
        DetectionValidator.finalize_metrics(self)
        self.args.plots = plots

    def get_desc(self) -> str:
        """Return the header of the table."""
        columns = ["Frames", "Instances"]
        columns += [c for t in self.metrics.parts for c in (f"{SPECS[t].title}(P", "R", "mAP50", "mAP50-95)")]
        columns += ["Points(P", "R", "F1", "error)"] if "track" in self.tasks else []
        return "%22s" % "Class" + "".join(f"{c:>11}" for c in columns)  # noqa: UP031

    def print_results(self) -> None:
        """Log the table: all classes, then each class; `-` where a figure is not of a class."""
        metrics = self.metrics
        values = [value for metric in metrics.parts.values() for value in metric.mean_results()]
        total = metrics.points.results_dict if "track" in self.tasks else {}
        labels = int(metrics.nt_per_class.sum()) + (metrics.points.counts.labels if total else 0)
        LOGGER.info(table_row("all", self.seen, labels, *values, *list(total.values())[:FIGURES]))
        if not labels:
            LOGGER.warning(f"no labels in split '{self.args.split}' of data '{self.data_name}', nothing to measure")
        if not self.args.verbose or self.training:
            return
        blank = [np.nan] * FIGURES if total else []
        for i, c in enumerate(metrics.ap_class_index if metrics.parts else ()):
            frames, instances = metrics.nt_per_image[c], metrics.nt_per_class[c]
            LOGGER.info(table_row(self.names[c], frames, instances, *metrics.class_result(i), *blank))
        for c, counts in metrics.points.per_class.items() if total else ():
            figures = [*[np.nan] * len(values), counts.precision, counts.recall, counts.f1, counts.error]
            row = table_row(self.temporal.names[c], metrics.points.frames, counts.labels, *figures)
            LOGGER.info(f"{row}  (TP {counts.tp}, FP1 {counts.fp1}, FP2 {counts.fp2}, FN {counts.fn})")


def data_tasks(data: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the tasks that the data of `load_clip_data` can label."""
    poses = data["players"] and data.get("kpt_shape")
    return ("detect", *(["pose"] if poses else []), *(["track"] if data["objects"] else []))
