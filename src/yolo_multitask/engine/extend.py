"""Adding a branch to a trained model: a training of that branch alone, from features that are computed once.

The command is `ymt extend`, the method `MultiTaskYOLO.extend`. How everything else is kept as it is stands in
`engine.alone`; what is kept of the images in `engine.views`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy, deepcopy
from typing import Any

from torch import nn
from ultralytics.utils import LOGGER, RANK
from ultralytics.utils.torch_utils import unwrap_model

from yolo_multitask import host
from yolo_multitask.configs import config_names
from yolo_multitask.engine.trainer import MultiTaskTrainer
from yolo_multitask.engine.views import CACHED_TASKS, ViewBatch, ViewLoss, collect
from yolo_multitask.nn.heads import MultiTask
from yolo_multitask.nn.network import MultiTaskModel, load_model_yaml
from yolo_multitask.nn.transfer import check_one_head, trained_tasks
from yolo_multitask.tasks import BRANCH_TASKS, SPECS

# What `extend` trains with where the user says nothing: a new branch takes a larger rate than the host would choose
# for a model of many classes; a view is not a mosaic of four images, which would show objects smaller than they are.
DEFAULTS: dict[str, Any] = {
    "epochs": 20,
    "batch": 16,
    "nbs": 16,
    "optimizer": "AdamW",
    "lr0": 0.003,
    "lrf": 0.02,
    "cos_lr": True,
    "warmup_epochs": 0.5,
    "warmup_bias_lr": 0.0,
    "mosaic": 0.0,
    "close_mosaic": 0,
    "patience": 0,
    "val": False,
    "amp": False,
    "cache": True,
    "name": "extend",
}
BY_TASK: dict[str, dict[str, Any]] = {"pose": {"weight_decay": 0.5}}  # on few images less of them is learned by heart


class ExtendTrainer(MultiTaskTrainer):
    """Trains one branch alone, from views of the images as the frozen trunk sees them where the branch allows that.

    With `cache=True` the views are in memory as far as they fit, else on disk, with `cache=disk` all of them are there;
    with `cache=False`, several devices, or a branch that reads more than the surroundings of its anchors, each batch is
    computed from the images as in any training.
    """

    args: Any
    train_loader: Any

    @property
    def cached(self) -> bool:
        """Whether the branch learns from kept views."""
        return (
            bool(self.args.cache) and self.alone in CACHED_TASKS and self.world_size <= 1 and not self.teacher_networks
        )

    def build_dataset(self, img_path: Any, mode: str = "train", batch: int = 16) -> Any:
        """Build the data set; its images are read once for each view, so that they are not cached themselves."""
        args = self.args
        self.args = copy(args)
        self.args.cache = False
        try:
            return super().build_dataset(img_path, mode, batch)
        finally:
            self.args = args

    def _setup_train(self) -> None:
        """Set up the run, and say in one line what is frozen, where the host says it in hundreds."""
        self.started = time.time()
        with _unlogged("Freezing layer"):
            super()._setup_train()
        LOGGER.info(f"Training the {self.alone} branch alone; everything else stays as it is.")
        if self.cached:
            model = unwrap_model(self.model)
            model.criterion = ViewLoss(model, str(self.alone))  # the average that is validated makes its own

    def _build_train_pipeline(self) -> None:
        """Build the loaders, and put that of the views in the place of the images'."""
        super()._build_train_pipeline()
        if not self.cached:
            if self.args.cache:
                LOGGER.info(f"{self.alone}: features are computed anew in each epoch")
            return
        if self.args.multi_scale:
            raise ValueError(
                f"multi_scale={self.args.multi_scale} changes the input from batch to batch, but views are kept. "
                "Leave it out (scale= varies the size of objects), or pass cache=False."
            )
        images = self.train_loader
        self.train_loader = collect(self, unwrap_model(self.model), str(self.alone))
        images.close()

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Move a batch of images, or of views, to the device."""
        views = batch.get("views")
        if views is None:
            return super().preprocess_batch(batch)  # type: ignore[no-any-return]
        return {**batch, "views": ViewBatch.join(views, self.device)}

    def plot_training_samples(self, batch: dict[str, Any], ni: int) -> None:
        """Plot a batch of images; views have none."""
        if "views" not in batch:
            super().plot_training_samples(batch, ni)

    def final_eval(self) -> None:
        """Validate the best checkpoint, and say what the branch reached and how long it took."""
        seconds = int(time.time() - self.started)
        super().final_eval()
        if RANK in {-1, 0} and self.metrics:
            spec = SPECS[str(self.alone)]
            shown = {
                k: v for k, v in self.metrics.items() if k.startswith("metrics/") and k.endswith(f"({spec.letter})")
            }
            found = ", ".join(f"{key.split('/')[1]} {value:.3f}" for key, value in shown.items())
            LOGGER.info(
                f"{spec.title} after {seconds // 60}:{seconds % 60:02d} min: {found or 'not measured'}. {self.best}"
            )

    def progress_string(self) -> str:
        """Return the header of an epoch's losses, and how long the rest will take."""
        done = self.epoch - self.start_epoch
        if not done:
            return str(super().progress_string())
        left = (time.time() - self.train_time_start) / done * (self.epochs - self.epoch)
        return f"\n{int(left) // 60}:{int(left) % 60:02d} left{super().progress_string()}"


@contextmanager
def _unlogged(beginning: str) -> Iterator[None]:
    """Leave out of the log what begins so, inside the `with`."""

    def keep(record: Any) -> bool:
        return not record.getMessage().startswith(beginning)

    LOGGER.addFilter(keep)
    try:
        yield
    finally:
        LOGGER.removeFilter(keep)


def extend(model: Any, task: str, data: Any = None, *, replace: bool = False, **kwargs: Any) -> Any:
    """Add a branch to the network of a `MultiTaskYOLO` and train it alone; see `MultiTaskYOLO.extend`."""
    if task not in BRANCH_TASKS:
        raise ValueError(f"extend adds the branch of a task, one of {', '.join(BRANCH_TASKS)}, got {task!r}.")
    if data is None:
        raise ValueError(f"extend needs data= with labels of '{task}' ({SPECS[task].label}), found none.")
    if not isinstance(model.model, nn.Module):
        raise ValueError(f"extend needs a checkpoint to train from, found the exported file {model.model}.")
    if not model.ckpt:
        raise ValueError(
            f"extend adds to a trained model, found {model.overrides.get('model')} without trained weights. Pass a "
            "checkpoint such as best.pt or yolov8n-seg.pt."
        )
    network = model.model
    if not hasattr(network, "model") or not isinstance(getattr(network, "yaml", None), dict):
        raise ValueError(f"extend takes a YOLO network, found {type(network).__name__}.")
    check_one_head(network, "extend")
    has = trained_tasks(network)
    name = model.ckpt_path or model.overrides.get("model")
    if task in has and not replace:
        raise ValueError(
            f"{name} has '{task}' already (it has {', '.join(('detect', *has))}). Pass replace=True for a new branch "
            f"in its place, or train the one that it has: ymt train model={name} alone={task} data={data}."
        )
    kept = tuple(t for t in has if t != task)
    finished = multitask_network(network, kept)
    if finished is not network:
        model.adopt(finished)
    defaults = {**DEFAULTS, **BY_TASK.get(task, {})}
    given = {key: value for key, value in defaults.items() if kwargs.get(key) is None}
    return model.train(trainer=ExtendTrainer, **{**kwargs, **given, "data": data, "alone": task})


def multitask_network(network: Any, tasks: Sequence[str]) -> MultiTaskModel:
    """Return a multitask network with the weights of a network, stock or multitask, and these of its branches.

    Raises:
        ValueError: If its head is none that this package knows.
    """
    if isinstance(network, MultiTaskModel) and set(tasks) == set(trained_tasks(network)):
        return network
    shape = getattr(network, "kpt_shape", None) if "pose" in tasks else None
    names = dict(network.names)
    model = MultiTaskModel(
        multitask_config(network), ch=network.yaml.get("channels", 3), nc=len(names), kpt_shape=shape, tasks=tasks,
        verbose=False,
    )  # fmt: skip
    model.names = names
    model.load([network], verbose=False)
    keys = ["args", "pt_path", *(("kpt_names", "kpt_classes", "kpt_oks_sigmas") if "pose" in tasks else ())]
    host.copy_attributes(model, network, tuple(keys))
    return model.eval()


def multitask_config(network: Any) -> dict[str, Any]:
    """Return the YAML of a network with the multitask head in the place of its own.

    Raises:
        ValueError: If its head is none that this package knows.
    """
    config = deepcopy(network.yaml)
    if isinstance(network.model[-1], MultiTask):
        return config
    *_, (source, repeats, module, arguments) = config["head"]
    if module not in {"Detect", "Segment", "Pose"}:
        raise ValueError(f"extend takes models that end in Detect, Segment, Pose or MultiTask, found {module}.")
    masks = arguments[1:3] if module == "Segment" else [32, 256]
    config["head"][-1] = [source, repeats, "MultiTask", ["nc", *masks, "kpt_shape"]]
    config.setdefault("kpt_shape", [17, 3])
    for known in map(load_model_yaml, config_names("models")):
        if known["backbone"] == config["backbone"]:
            config |= {key: known[key] for key in ("embed_dim", "embed_from", "next") if key in known}
            break
    return config
