"""Training of models that see windows of frames: the multitask trainer with clips, windows and their validator."""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import Any

from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils import DEFAULT_CFG, LOGGER, RANK
from ultralytics.utils.plotting import plot_images
from ultralytics.utils.torch_utils import unwrap_model

from yolo_multitask.args import select_tasks
from yolo_multitask.data.clips.config import load_clip_data
from yolo_multitask.data.clips.targets import NOMINAL_SIZE
from yolo_multitask.data.clips.windows import WindowDataset, build_window_dataset
from yolo_multitask.data.config import data_file
from yolo_multitask.engine.temporal.draw import labelled_pictures
from yolo_multitask.engine.temporal.plots import PLOTTED
from yolo_multitask.engine.temporal.validator import TemporalValidator, data_tasks
from yolo_multitask.engine.trainer import MultiTaskTrainer
from yolo_multitask.nn.network import load_model_yaml
from yolo_multitask.nn.temporal import TemporalModel
from yolo_multitask.nn.temporal_yaml import HEAD_TASK, read_temporal_yaml

# arguments of the multitask trainer that mean nothing here, and the value that leaves them out
_UNSUPPORTED = {
    "single_cls": False,
    "teachers": None,
    "balance": "fixed",
    "cls_pw": 0.0,
    "distill_model": None,
    "alone": None,
}


class TemporalTrainer(MultiTaskTrainer):
    """Train the heads of a `TemporalModel` on clips; what the host's trainer does is inherited.

    A batch holds windows. Their frames are seen by the TrackNet head, the players of the newest one by the Pose head.
    """

    def __init__(
        self, cfg: Any = DEFAULT_CFG, overrides: dict[str, Any] | None = None, _callbacks: dict[str, Any] | None = None
    ) -> None:
        """Take the host's configuration and arguments, see `MultiTaskTrainer`.

        Raises:
            ValueError: If an argument is for other models, or there are no such clips.
        """
        super().__init__(cfg, overrides, _callbacks)
        if isinstance(self.args.freeze, str):
            raise ValueError(
                f"freeze={self.args.freeze!r}: expected a number of layers or a list of layers for a model of windows."
            )

    def get_dataset(self) -> dict[str, Any]:
        """Load and check the data YAML.

        Raises:
            ValueError: If it is none of clips, or an argument is for other models.
        """
        args = self.args
        given = [f"{key}={getattr(args, key)}" for key, off in _UNSUPPORTED.items() if getattr(args, key) != off]
        if given:
            raise ValueError(f"{', '.join(given)}: not available for models that take windows of frames; leave it out.")
        data = load_clip_data(args.data, split=args.split)
        args.data = data["yaml_file"]
        return data

    def get_model(
        self, cfg: str | Path | dict[str, Any] | None = None, weights: Any = None, verbose: bool = True
    ) -> TemporalModel:
        """Build the model for the data's classes and keypoints, with the tasks to train, and load `weights` if given.

        Raises:
            ValueError: If a switch asks for a task that the model or the data does not have.
        """
        config = dict(cfg) if isinstance(cfg, dict) else load_model_yaml(cfg or self.args.model)
        tasks, data = self._select_tasks(config), self.data
        model = TemporalModel(
            config,
            nc=len(data["objects"]),
            pose_nc=len(data["players"]) if "pose" in tasks else None,
            kpt_shape=data["kpt_shape"] if "pose" in tasks else None,
            tasks=[t for t in tasks if t != "detect"],
            verbose=verbose and RANK == -1,
        )
        self._name_classes(model)
        if weights:
            model.load(weights)
        self.args.tasks = list(tasks)
        self.save_tasks()
        data["channels"] = model.num_groups * model.frame_channels
        return model

    def _name_classes(self, model: TemporalModel) -> None:
        """Give a model the classes of the data."""
        model.names = dict(self.data["names"])
        model.objects, model.players = list(self.data["objects"]), list(self.data["players"])

    def _select_tasks(self, config: dict[str, Any]) -> tuple[str, ...]:
        """Return the tasks to train: those asked for, else those that both the model and the data have.

        Raises:
            ValueError: If a task was asked for that the model or the data lacks, or none is left.
        """
        switches = dict(self.args.switches or {})
        if self.args.tasks is not None:  # resolved before: resume, DDP worker
            switches = {t: t in self.args.tasks for t in HEAD_TASK.values()}
        model_has = {HEAD_TASK[name] for name in read_temporal_yaml(config).heads}
        model_name = f"model '{config.get('yaml_file', 'dict')}'"
        in_model = select_tasks(switches, model_has, model_name)
        advice = {"pose": "give the data players: classes beside 'objects', with 'kpt_shape'"}
        in_data = select_tasks(switches, data_tasks(self.data), f"data '{self.args.data}'", advice)
        tasks = tuple(t for t in in_model if t in in_data)
        for task in in_model:
            if task not in in_data:
                LOGGER.info(f"{task}: off, data '{self.args.data}' does not have it")
        if tasks == ("detect",):
            raise ValueError(
                f"{model_name} has {', '.join(sorted(model_has))}, data '{self.args.data}' has "
                f"{', '.join(data_tasks(self.data)[1:])}; with the switches {switches} nothing is left to train."
            )
        return tasks

    def set_model_attributes(self) -> None:
        """Attach classes, keypoint names and where the labels are from to the model, and to its checkpoint."""
        DetectionTrainer.set_model_attributes(self)
        self._name_classes(self.model)
        self.model.trained_on = {"labels": None, "label_task": None, "data": data_file(self.args.data)}
        self.model.kpt_names, self.model.kpt_classes = self.data.get("kpt_names"), self.data["kpt_classes"]
        self.model.kpt_oks_sigmas = self.data.get("kpt_oks_sigmas")

    def get_validator(self) -> TemporalValidator:
        """Return the validator of this run."""
        args = copy(self.args)
        args.window_stride = None  # that of the windows to train on
        return TemporalValidator(self.test_loader, save_dir=self.save_dir, args=args, _callbacks=self.callbacks)

    def build_dataset(self, img_path: Any, mode: str = "train", batch: int | None = 16) -> WindowDataset:
        """Build the windows of training or validation."""
        model, train = unwrap_model(self.model), mode == "train"
        return build_window_dataset(
            self.args,
            self.data,
            "train" if train else self.args.split,
            num_groups=model.num_groups,
            channels=model.frame_channels,
            stride=max(int(model.stride.max()), 32),
            train=train,
            window_stride=None if train else model.num_groups,
            frame_steps=None if train else (1,),
        )

    def get_dataloader(self, dataset_path: Any, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Any:
        """Return the loader of a split."""
        return DetectionTrainer.get_dataloader(self, dataset_path, batch_size, rank, mode)

    def _build_train_pipeline(self) -> None:
        """Build the loaders, and note the size of the objects for the boxes that stand for them."""
        super()._build_train_pipeline()
        unwrap_model(self.model).object_size = self.train_loader.dataset.object_size or NOMINAL_SIZE

    def optimizer_step(self) -> None:
        """Take the host's step."""
        DetectionTrainer.optimizer_step(self)

    def plot_training_labels(self) -> None:
        """Plot the class and box distributions of the newest frames; what is followed has a box of nominal size."""
        DetectionTrainer.plot_training_labels(self)

    def plot_training_samples(self, batch: dict[str, Any], ni: int) -> None:
        """Plot the newest frames of a batch with the players, and the way of the objects through each window."""
        model = unwrap_model(self.model)
        plot_images(
            labels={key: batch[key] for key in PLOTTED if key in batch},
            images=labelled_pictures(batch, model.frame_channels),
            paths=batch["im_file"],
            fname=self.save_dir / f"train_batch{ni}.jpg",
            names=dict(enumerate(model.names[c] for c in model.players)),
            on_plot=self.on_plot,
        )
