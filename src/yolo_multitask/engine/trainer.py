"""Training: the host's detection trainer with our data, model, losses and validator."""

from __future__ import annotations

import os
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils import DEFAULT_CFG, LOGGER, RANK, YAML
from ultralytics.utils.plotting import plot_labels
from ultralytics.utils.torch_utils import torch_distributed_zero_first, unwrap_model

from yolo_multitask import host
from yolo_multitask.args import full_cfg, normalise, own_cfg, select_tasks
from yolo_multitask.data.augment import box_rows, class_column
from yolo_multitask.data.config import data_file, load_data
from yolo_multitask.data.dataset import build_multitask_dataset
from yolo_multitask.data.loader import build_train_dataloader
from yolo_multitask.data.sources import sources_of
from yolo_multitask.engine import alone
from yolo_multitask.engine.validator import MultiTaskValidator
from yolo_multitask.losses import MultiTaskLoss
from yolo_multitask.losses.balance import UncertaintyBalance
from yolo_multitask.nn.network import MultiTaskModel, load_model_yaml, network_of
from yolo_multitask.tasks import BRANCH_TASKS

PAIR_SHARE = 0.25  # of the pairs in a batch that are views of the same objects; the other tasks learn from variety

MAX_NORM = 10.0  # of gradients, the host's


class MultiTaskTrainer(DetectionTrainer):
    """Train any subset of the tasks that both the model and the data have.

    Everything that the host's trainer does (resume, AMP, EMA, freezing, multi-scale, early stopping, callbacks, DDP,
    automatic batch size, `results.csv`, plots) is inherited.
    """

    model: Any
    best_fitness: float | None
    last: Path
    best: Path

    def __init__(
        self, cfg: Any = DEFAULT_CFG, overrides: dict[str, Any] | None = None, _callbacks: dict[str, Any] | None = None
    ) -> None:
        """Take the host's configuration and arguments, in which `segment`, `pose` and `track` may be switches."""
        self._loss_sums: dict[str, tuple[float, int]] = {}
        super().__init__(full_cfg(cfg), {**normalise(overrides), "task": host.TASK}, _callbacks)
        self.alone = alone.task_of(self.args)
        if self.args.distill_model is not None:
            raise ValueError(
                f"'distill_model={self.args.distill_model}' wraps a network of one task and does not take multitask "
                "models. Use 'teachers=[...]' with checkpoints of the single tasks instead."
            )
        if self.alone and self.args.balance != "fixed":
            raise ValueError(
                f"balance={self.args.balance} weighs several tasks, but {alone.asked_as(self.args)} trains one."
            )
        self.teacher_networks = self._load_teachers()

    def check_resume(self, overrides: dict[str, Any]) -> None:
        """Take over the arguments of the run to resume; those that its checkpoint does not know get their defaults."""
        super().check_resume(overrides)
        for key, value in own_cfg(self.args).items():
            setattr(self.args, key, value)

    def get_dataset(self) -> dict[str, Any]:
        """Load and check the data YAML."""
        args = self.args
        data = load_data(args.data, task=args.label_task, labels=args.labels, split=args.split)
        self.args.data = data.get("yaml_file", self.args.data)
        if self.args.single_cls:
            LOGGER.info("Overriding class names with single class.")
            data["names"], data["nc"] = {0: "item"}, 1  # `kpt_classes` stays: the label lines have their own classes
        return data

    def setup_model(self) -> Any:
        """Build or load the model; `pretrained` may name several checkpoints, of which each gives the branches that
        it has.
        """
        pretrained = self.args.pretrained
        if isinstance(pretrained, (str, Path)):
            pretrained = [pretrained]
        ckpt = None
        if isinstance(self.model, nn.Module) or self.resume or not isinstance(pretrained, (list, tuple)):
            ckpt = super().setup_model()
        else:
            cfg = host.load_network(self.model).yaml if str(self.model).endswith(".pt") else self.model
            self.model = self.get_model(cfg, [host.load_network(p) for p in pretrained], verbose=RANK in {-1, 0})
        if self.alone:
            self.args.freeze = alone.all_but(self.model, self.alone)
        return ckpt

    def get_model(
        self, cfg: str | Path | dict[str, Any] | None = None, weights: Any = None, verbose: bool = True
    ) -> MultiTaskModel:
        """Build the model for the data's classes and keypoints, with the tasks to train, and load `weights` if
        given.
        """
        config = dict(cfg) if isinstance(cfg, dict) else load_model_yaml(cfg or self.args.model)
        if self.args.next is not None:
            config["next"] = self.args.next
        if self.alone:
            sources = weights if isinstance(weights, (list, tuple)) else [weights] if weights else []
            tasks: tuple[str, ...] = ("detect", self.alone)
            networks = [network_of(w) for w in sources]
            model = alone.finished_model(config, networks, self.data, self.args, verbose and RANK == -1)
            self.data.update(names=model.names, nc=len(model.names))
        else:
            tasks = self._select_tasks(config)
            model = MultiTaskModel(
                config,
                nc=self.data["nc"],
                ch=self.data["channels"],
                kpt_shape=self.data.get("kpt_shape"),
                tasks=tasks,
                verbose=verbose and RANK == -1,
            )
            self.set_model_names_for_load(model)
            if weights:
                model.load(weights)
            if self.args.balance == "uncertainty":
                model.balance = UncertaintyBalance(model.tasks)
                if self.resume:
                    model.balance.load_state_dict(network_of(weights).balance.state_dict())
        self.args.tasks = [t for t in model.tasks if t in tasks]
        self.save_tasks()
        return model

    def save_tasks(self) -> None:
        """Write the resolved tasks into the run's `args.yaml`, which the host saves before there is a model."""
        file = self.save_dir / "args.yaml"
        if RANK in {-1, 0} and file.is_file():
            YAML.save(file, {**YAML.load(file), "tasks": self.args.tasks})

    def _select_tasks(self, config: dict[str, Any]) -> tuple[str, ...]:
        """Return the tasks to train: those asked for, else those that both the model and the data have.

        Raises:
            ValueError: If a task was asked for that the model or the data lacks.
        """
        switches = dict(self.args.switches or {})
        if self.args.tasks is not None:  # resolved before: resume, DDP worker
            switches = {t: t in self.args.tasks for t in BRANCH_TASKS}
        model_has = set(config.get("tasks", BRANCH_TASKS)) | ({"track"} if switches.get("track") else set())
        in_model = select_tasks(switches, model_has, f"model '{config.get('yaml_file', 'dict')}'")
        spec = self.data["label_spec"]
        sources = self.data.get("sources", {}).get("train")
        labelled = spec.tasks if sources is None else {task for source in sources for task in source.tasks}
        data_has = {*labelled} | ({"track"} if switches.get("track") else set())  # views of an image need no ids
        in_data = select_tasks(switches, data_has, f"data '{self.args.data}'", spec.advice)
        tasks = tuple(t for t in in_model if t in in_data)
        for task in in_model:
            if task not in in_data:
                LOGGER.info(f"{task}: off, the labels of '{self.args.data}' do not have it")
        return tasks

    def set_model_attributes(self) -> None:
        """Attach classes, keypoint names and how the labels were read to the model, and to its checkpoint."""
        super().set_model_attributes()
        # a finished checkpoint keeps none of our arguments: the host strips them
        self.model.trained_on = {key: getattr(self.args, key) for key in ("labels", "label_task")}
        self.model.trained_on["data"] = data_file(self.args.data)
        if self.alone and self.alone != "pose":
            return  # the keypoints are those of the finished model
        names, classes = self.data.get("kpt_names"), self.data["kpt_classes"]
        if self.args.single_cls:
            named = [names[c] for c in classes if c in names] if isinstance(names, dict) else []
            names, classes = {0: named[0]} if named else None, [0]
        self.model.kpt_names, self.model.kpt_classes = names, classes
        self.model.kpt_oks_sigmas = self.data.get("kpt_oks_sigmas")

    def get_validator(self) -> MultiTaskValidator:
        """Return the validator of this run."""
        return MultiTaskValidator(
            self.test_loader, save_dir=self.save_dir, args=copy(self.args), _callbacks=self.callbacks
        )

    def build_dataset(self, img_path: Any, mode: str = "train", batch: int = 16) -> Any:
        """Build our data set for training or validation."""
        stride = max(int(unwrap_model(self.model).stride.max()), 32)
        return build_multitask_dataset(
            self.args, img_path, batch, self.data, mode=mode, rect=mode == "val", stride=stride
        )

    def get_dataloader(self, dataset_path: Any, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Any:
        """Return the loader of a split; the training's decides which images share a batch, see `data.loader`."""
        pairs = "track" in self.args.tasks
        if mode != "train" or not (pairs or sources_of(self.data, dataset_path, mode)):
            return super().get_dataloader(dataset_path, batch_size, rank, mode)
        with torch_distributed_zero_first(rank):
            dataset = self.build_dataset(dataset_path, mode, batch_size)
        return build_train_dataloader(
            dataset,
            batch_size,
            self.args.workers,
            rank=rank,
            seed=self.args.seed,
            max_gap=self.args.pair_gap if pairs else None,
            share=1.0 if self.alone else PAIR_SHARE,
            drop_last=bool(self.args.compile),
            device=self.device,
        )

    def _setup_train(self) -> None:
        """Set up the run; with `teachers`, the loss holds them, so that neither the EMA nor a checkpoint does."""
        freeze = self.args.freeze
        try:
            super()._setup_train()
        finally:
            self.args.freeze = freeze  # `setup_model` may have spelt it out for the host
        if self.teacher_networks:
            model = unwrap_model(self.model)
            model.criterion = MultiTaskLoss(model, {k: v.to(self.device) for k, v in self.teacher_networks.items()})
            if self.start_epoch:  # a run that is resumed goes on with the schedule of two heads
                model.criterion.updates = self.start_epoch - 1
                model.criterion.update()

    def validate(self) -> tuple[dict[str, Any] | None, float | None]:
        """Validate; where one branch trains alone, fitness is its own, as that of the others cannot change."""
        best = self.best_fitness
        metrics, fitness = super().validate()
        if self.alone is None or metrics is None:
            return metrics, fitness
        fitness = alone.fitness(metrics, self.alone)
        self.best_fitness = fitness if best is None else max(best, fitness)
        return metrics, fitness

    def optimizer_step(self) -> None:
        """Take a step; where one branch trains alone, undo what averaging does to the last bit of the other weights."""
        branches = unwrap_model(self.model).head.branches
        if "track" in branches and not self.alone:
            self._step_apart(list(branches["track"].parameters()))
        else:
            super().optimizer_step()
        if self.alone and self.ema:
            alone.restore(self.ema.ema, unwrap_model(self.model), self.alone)

    def _step_apart(self, own: list[nn.Parameter]) -> None:
        """Take the host's step with the gradients of `own` clipped by themselves.

        Clipped together, large gradients of embeddings would shorten the steps of the tasks that they do not touch.
        """
        chosen = {id(p) for p in own}
        self.scaler.unscale_(self.optimizer)
        for part in (own, [p for p in self.model.parameters() if id(p) not in chosen]):
            nn.utils.clip_grad_norm_(part, max_norm=MAX_NORM)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        if self.ema:
            self.ema.update(self.model)

    def _load_teachers(self) -> dict[str, Any]:
        """Return the networks that `teachers` names.

        Raises:
            ValueError: If `teachers` is not a list of checkpoints, or one takes images of other channels.
            FileNotFoundError: If one does not exist.
        """
        files = self.args.teachers or []
        if not isinstance(files, (list, tuple)) or not all(isinstance(f, (str, Path)) for f in files):
            raise ValueError(f"'teachers' must be a checkpoint or a list of checkpoints, got {files!r}.")
        teachers = {str(file): host.load_network(file) for file in files}
        for name, teacher in teachers.items():
            channels = (getattr(teacher, "yaml", None) or {}).get("channels", 3)
            if channels != self.data["channels"]:
                raise ValueError(
                    f"Teacher '{name}' takes images of {channels} channels, the data has {self.data['channels']}. "
                    "Leave it out of 'teachers', or use one that was trained on such images."
                )
        return teachers

    def _build_train_pipeline(self) -> None:
        """Build the loaders, and raise `max_det` where images hold more instances, as the host does for its own
        tasks.
        """
        super()._build_train_pipeline()
        datasets = {"train": self.train_loader.dataset, "val": self.test_loader.dataset}
        host.raise_max_det(self.args, datasets)
        unwrap_model(self.model).set_head_attr(max_det=self.args.max_det)

    def get_class_counts(self) -> Any:
        """Return the number of training instances per class, float (nc,); the host counts over all label columns."""
        classes = class_column(self.train_loader.dataset.labels)
        return np.bincount(classes, minlength=self.data["nc"]).astype(np.float32)

    def plot_training_labels(self) -> None:
        """Plot the class and box distributions of the training labels."""
        labels = self.train_loader.dataset.labels
        plot_labels(
            box_rows(labels),
            class_column(labels),
            names=self.data["names"],
            save_dir=self.save_dir,
            on_plot=self.on_plot,
        )

    def save_metrics(self, metrics: dict[str, Any]) -> None:
        """Write a row of `results.csv`, with the learned weights of the tasks where there are such."""
        balance = getattr(unwrap_model(self.model), "balance", None)
        weights = {} if balance is None else {f"balance/{task}": w for task, w in balance.weights.items()}
        super().save_metrics({**metrics, **weights})

    def save_model(self) -> bool:
        """Save the checkpoints, each written whole: a run killed while it saves keeps its previous ones."""
        last, best = self.last, self.best
        self.last, self.best = partial = tuple(p.with_name(f"{p.stem}.partial.pt") for p in (last, best))
        self._remove(*partial)  # what a run killed while it saved has left must not pass for this one's best
        try:
            saved = bool(super().save_model())
            for written, final in zip(partial, (last, best), strict=True):
                if written.exists():
                    os.replace(written, final)
        finally:
            self.last, self.best = last, best
            self._remove(*partial)
        return saved

    @staticmethod
    def _remove(*files: Path) -> None:
        for file in files:
            file.unlink(missing_ok=True)

    def resume_training(self, ckpt: Any) -> None:
        """Take over the state of a run, and drop the rows of `results.csv` that were written after its checkpoint."""
        super().resume_training(ckpt)
        if self.start_epoch and hasattr(self.train_loader.sampler, "set_epoch"):
            self.train_loader.sampler.set_epoch(self.start_epoch)
        if self.start_epoch and RANK in {-1, 0} and self.csv.is_file():
            header, *rows = self.csv.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [row for row in rows if row.endswith("\n") and int(row.split(",")[0]) <= self.start_epoch]
            partial = self.csv.with_suffix(".partial.csv")
            partial.write_text("".join((header, *kept)), encoding="utf-8")
            os.replace(partial, self.csv)

    @property
    def tloss(self) -> dict[str, Any] | None:
        """The average of each loss since the epoch began, over the batches that have labels for it; None before any."""
        return {name: total / max(batches, 1) for name, (total, batches) in self._loss_sums.items()} or None

    @tloss.setter
    def tloss(self, host_average: dict[str, Any] | None) -> None:
        """Add the current batch, or start an epoch with None; the host's average over all batches is not used."""
        if host_average is None:
            self._loss_sums = {}
            return
        for name, value in self.loss_items.items():
            total, batches = self._loss_sums.get(name, (value * 0, 0))
            used = self.loss_items.counts.get(name, 1) > 0
            self._loss_sums[name] = (total + value * used, batches + used)
