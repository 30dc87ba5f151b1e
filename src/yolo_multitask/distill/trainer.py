"""The training of a student by its teachers: the package's own trainer with lessons in the place of labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn
from ultralytics.data.build import build_dataloader
from ultralytics.utils import LOGGER, RANK
from ultralytics.utils.torch_utils import torch_distributed_zero_first, unwrap_model

from yolo_multitask.distill.dataset import LessonDataset, collect_targets
from yolo_multitask.distill.embedder import CropEmbedder, attach_embeddings
from yolo_multitask.distill.labelling import Labeller
from yolo_multitask.distill.settings import Settings
from yolo_multitask.distill.source import list_pictures
from yolo_multitask.distill.stitch import fit_branches, layer_pairs
from yolo_multitask.distill.teachers import Teacher, check_together, fingerprint, load_teachers, order_teachers
from yolo_multitask.engine.trainer import MultiTaskTrainer
from yolo_multitask.losses import MultiTaskLoss
from yolo_multitask.losses.lessons import DistillCriterion
from yolo_multitask.nn.network import MultiTaskModel, load_model_yaml
from yolo_multitask.runtime.frames import read_image

KEPT_RATE = 0.1  # learning rate of what came with the first teacher, relative to that of what is new on its trunk


class DistillTrainer(MultiTaskTrainer):
    """Train a student on what its teachers say of pictures, and on real labels where there are any.

    First only the branches learn that are new on the trunk; everything else stays as the first teacher has it, so that
    its tasks cannot get worse. Then all learn together. BatchNorm keeps the teachers' statistics throughout: those of a
    few pictures are no better.

    Attributes:
        settings: See `Settings`.
        teachers: The first is the one that the student starts from.
        labeller: What the teachers say.
        cache: Folder of the lessons.
    """

    settings: Settings
    teachers: list[Teacher]
    labeller: Labeller
    cache: Path
    _embedder: Any
    _filled: bool

    def get_dataset(self) -> dict[str, Any]:
        """Load and check the data YAML that is measured on, and read the settings."""
        self.settings = Settings.from_dict(self.args.distilling)
        return super().get_dataset()

    def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> MultiTaskModel:
        """Build the student with everything that is taught, and fill it from its teachers, or from `weights`."""
        config = dict(cfg) if isinstance(cfg, dict) else load_model_yaml(cfg or self.args.model)
        names, taught = dict(self.data["names"]), load_teachers(self.settings.networks)
        self.teachers = order_teachers(taught, config, self.settings.first)
        model = build_student(config, self.teachers, names, self.data, embeds="reid" in self.settings.teachers)
        check_together(self.teachers, model)
        model.load(weights if self.resume else [*([weights] if weights else []), *(t.network for t in self.teachers)])
        self._filled = bool(weights)
        self.args.tasks = list(model.tasks)
        self.save_tasks()
        return model

    def set_model_attributes(self) -> None:
        """Attach classes and keypoints to the model, make the teachers ready, and fit what is new on the trunk."""
        super().set_model_attributes()
        model = unwrap_model(self.model)
        for teacher in self.teachers:
            teacher.network.to(self.device)
        self.labeller = Labeller(self.teachers, model.names, getattr(model, "kpt_shape", None), model.head.reg_max)
        if "pose" in model.tasks and self.data.get("kpt_shape") is None:
            model.kpt_classes = self.labeller.kpt_classes
        reid = self.settings.teachers.get("reid")
        self._embedder = CropEmbedder(reid) if reid else None
        self.cache = lesson_folder(self.settings, model, self.args.imgsz)
        if self.settings.fit and not self._filled:
            dataset = self._views()
            fit_branches(model, self.teachers, self.fitting, dataset, self.settings.fit)

    @property
    def foreign(self) -> tuple[str, ...]:
        """Tasks whose branch is new on the trunk."""
        return tuple(t for t in unwrap_model(self.model).head.branches if t not in self.teachers[0].tasks)

    @property
    def fitting(self) -> tuple[str, ...]:
        """Those whose branch can be fitted to the trunk; the others start from nothing."""
        head = unwrap_model(self.model).head
        return tuple(
            t for t in self.foreign if any(layer_pairs(head, x.head, t) for x in self.teachers if t in x.tasks)
        )

    def _views(self, labelled: Any = None) -> LessonDataset:
        """Return the views to learn from."""
        files = list_pictures(self.settings.source, Path(self.settings.lessons), self.settings.frames)
        files = [f for f in files if str(f) not in self.settings.measured]
        return LessonDataset(
            files, self.args.imgsz, self.settings.views, self.cache, self.data["channels"], labelled=labelled
        )

    def build_dataset(self, img_path: Any, mode: str = "train", batch: int = 16) -> Any:
        """Build the views to learn from, with the labelled images of the data YAML; or the data set to measure on."""
        if mode != "train":
            return super().build_dataset(img_path, mode, batch)
        return self._views(super().build_dataset(img_path, mode, batch) if self.settings.supervised else None)

    def get_dataloader(self, dataset_path: Any, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Any:
        """Return the loader of the views, or of the data set to measure on."""
        if mode != "train":
            return super().get_dataloader(dataset_path, batch_size, rank, mode)
        with torch_distributed_zero_first(rank):
            dataset = self.build_dataset(dataset_path, mode, batch_size)
        return build_dataloader(
            dataset, min(batch_size, len(dataset)), self.args.workers, shuffle=True, rank=rank, device=self.device
        )

    def build_optimizer(self, model: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Build the host's optimizer; what came with the first teacher learns more slowly than what is new."""
        optimizer = super().build_optimizer(model, *args, **kwargs)
        new = {id(p) for p in self._new_parameters()}
        for group in list(optimizer.param_groups):
            kept = [p for p in group["params"] if id(p) not in new]
            group["params"] = [p for p in group["params"] if id(p) in new]
            if kept:
                optimizer.add_param_group({**group, "params": kept, "lr": group["lr"] * KEPT_RATE})
        optimizer.param_groups = [g for g in optimizer.param_groups if g["params"]]
        return optimizer

    def _new_parameters(self) -> list[nn.Parameter]:
        branches = unwrap_model(self.model).head.branches
        return [p for task in self.foreign for p in branches[task].parameters()]

    def _setup_train(self) -> None:
        """Set up the run with the losses against the teachers."""
        super()._setup_train()
        model = unwrap_model(self.model)
        supervised = MultiTaskLoss(model) if self.train_loader.dataset.labelled is not None else None
        model.criterion = DistillCriterion(model, supervised)
        dataset: LessonDataset = self.train_loader.dataset
        LOGGER.info(
            f"Lessons: {dataset.known} of {len(dataset) * dataset.views} views are known; the teachers look at others "
            "when they come up"
        )

    def _model_train(self) -> None:
        """Set the model in training mode, with the parts learning that are to learn now."""
        super()._model_train()
        model = unwrap_model(self.model)
        fresh = [f"branches.{t}." for t in self.foreign if not (self.settings.fit and t in self.fitting)]
        for name, module in model.named_modules():
            if isinstance(module, nn.BatchNorm2d) and not any(part in f"{name}." for part in fresh):
                module.eval()
        alone = self.is_frozen
        new = {id(p) for p in self._new_parameters()}
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(".dfl" not in name and (not alone or id(parameter) in new))
        learning = self.foreign if alone else model.tasks
        if learning != model.criterion.lessons.tasks and RANK in {-1, 0}:
            LOGGER.info(f"Learning from here on: {', '.join(learning)}" + (" alone, all else stays" if alone else ""))
        model.criterion.lessons.tasks = tuple(learning)

    @property
    def is_frozen(self) -> bool:
        """Whether only what is new on the trunk learns in this epoch."""
        return bool(self.foreign) and self.epoch < round(self.settings.frozen * self.epochs)

    def optimizer_step(self) -> None:
        """Take a step; undo what averaging does to the last bit of the weights that stay as they are."""
        super().optimizer_step()
        if self.is_frozen and self.ema:
            model = unwrap_model(self.model)
            state, new = model.state_dict(), tuple(f"model.{model.head.i}.branches.{t}." for t in self.foreign)
            for key, value in self.ema.ema.state_dict().items():
                if not key.startswith(new):
                    value.copy_(state[key])

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Move a batch to the device, and let the teachers look at the views that they have not seen."""
        batch = super().preprocess_batch(batch)
        views = len(batch["lesson"])
        if batch.get("labelled") is not None:
            real = super().preprocess_batch({**batch["labelled"], "img": batch["labelled"]["img"][:0]})
            batch["labelled"] = {**real, "img": batch["img"][views:]}
        unseen = [i for i, lesson in enumerate(batch["lesson"]) if lesson is None]
        if unseen:
            self.teach(batch, unseen)
        model, (height, width) = unwrap_model(self.model), batch["img"].shape[2:]
        anchors = sum((height // int(s)) * (width // int(s)) for s in model.stride)
        known = self.labeller.known
        batch["targets"] = collect_targets(
            batch["lesson"], len(model.names), known, anchors, (height // 4, width // 4), self.device
        )
        return batch

    def teach(self, batch: dict[str, Any], unseen: list[int]) -> None:
        """Fill in the lessons of some views of a batch, and keep them."""
        for i, lesson in zip(unseen, self.labeller(batch["img"][unseen].float()), strict=True):
            if self._embedder is not None:
                picture = read_image(batch["im_file"][i], self.data["channels"])
                attach_embeddings(lesson, self._embedder, picture, batch["view"][i], self.labeller.kpt_classes)
            lesson.save(batch["lesson_file"][i])
            batch["lesson"][i] = lesson

    def plot_training_labels(self) -> None:
        """Plot nothing: there are no labels."""

    def plot_training_samples(self, batch: dict[str, Any], ni: int) -> None:
        """Plot nothing: there are no labels."""


def build_student(
    config: dict[str, Any], teachers: list[Teacher], names: dict[int, str], data: dict[str, Any], *, embeds: bool
) -> MultiTaskModel:
    """Return a student with a branch for everything that is taught, its weights still random.

    Args:
        config: Its YAML.
        teachers: Its teachers.
        names: Its classes.
        data: The data that it is measured on; its keypoints go before those of the teachers.
        embeds: Whether it learns embeddings.
    """
    taught = {task for teacher in teachers for task in teacher.tasks} | ({"track"} if embeds else set())
    shapes = [t.network.kpt_shape for t in teachers if "pose" in t.tasks]
    kpt_shape = data.get("kpt_shape") or (list(shapes[0]) if shapes else None)
    model = MultiTaskModel(
        config,
        nc=len(names),
        ch=data["channels"],
        kpt_shape=kpt_shape,
        tasks=["detect", *sorted(taught)],
        verbose=False,
    )
    model.names = names
    return model


def lesson_folder(settings: Settings, model: Any, size: int) -> Path:
    """Return the folder of the lessons of these teachers for such a student and input size."""
    shape = getattr(model, "kpt_shape", None)
    key = fingerprint(list(settings.teachers.values()), sorted(settings.teachers), size, dict(model.names), shape)
    return Path(settings.lessons) / f"{size}-{key}"
