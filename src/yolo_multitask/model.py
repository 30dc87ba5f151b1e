"""`MultiTaskYOLO`: the class that users work with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import nn
from ultralytics import YOLO
from ultralytics.utils import DEFAULT_CFG_DICT, LOGGER, RANK, YAML

from yolo_multitask import host
from yolo_multitask.args import DEFAULTS, SWITCHES, fill_from_cfg, host_cfg, normalise
from yolo_multitask.configs import resolve_yaml
from yolo_multitask.data.config import data_file
from yolo_multitask.engine import track
from yolo_multitask.engine.exported import read_metadata
from yolo_multitask.engine.predictor import MultiTaskPredictor
from yolo_multitask.engine.sources import open_list
from yolo_multitask.engine.trackers import DEFAULT_TRACKER
from yolo_multitask.engine.trainer import MultiTaskTrainer
from yolo_multitask.engine.validator import MultiTaskValidator
from yolo_multitask.nn.network import (
    MultiTaskModel,
    build_model,
    check_model_yaml,
    has_placeholder_names,
    is_multitask_yaml,
    load_model_yaml,
    network_of,
)
from yolo_multitask.nn.temporal import TemporalModel
from yolo_multitask.nn.transfer import check_one_head
from yolo_multitask.tasks import DEFAULT_MODEL

host.register()


def temporal_classes() -> dict[str, Any]:
    """Return the model, trainer, validator and predictor of models that see several consecutive frames at once."""
    from yolo_multitask.engine.temporal import TemporalPredictor, TemporalTrainer, TemporalValidator

    return {
        "model": TemporalModel,
        "trainer": TemporalTrainer,
        "validator": TemporalValidator,
        "predictor": TemporalPredictor,
    }


class MultiTaskYOLO(YOLO):
    """A superset of `ultralytics.YOLO`: multitask models through this package, all others through the host's classes.

    Examples:
        >>> from yolo_multitask import MultiTaskYOLO
        >>> model = MultiTaskYOLO("yolov8n-multitask.yaml")
        >>> model.task, model.model.tasks
        ('multitask', ('detect', 'segment', 'pose', 'track'))
    """

    overrides: dict[str, Any]  # the host's arguments of this object
    _layout: str | None = None  # of an exported file's outputs: `temporal`, or None for one row per anchor

    def __init__(self, model: Any = DEFAULT_MODEL, task: str | None = None, verbose: bool = False) -> None:
        """Build from a model YAML or load a checkpoint or exported file.

        Args:
            model: Name or path, as for `YOLO`, or a model YAML of this package by name (`yolov8n-multitask.yaml`).
            task: Task of an exported file that does not say; as for `YOLO`.
            verbose: Whether to log a summary of a model that is built.
        """
        super().__init__(model=model, task=task, verbose=verbose)

    def _new(self, cfg: str, task: str | None = None, verbose: bool = False) -> None:
        """Build from a YAML: ours if its head is of this package, else the host's.

        Raises:
            FileNotFoundError: If there is no such YAML.
            ValueError: If it is not a model YAML, or its head cannot be read.
        """
        path = resolve_yaml(cfg, "models")
        if path is not None:
            check_model_yaml(YAML.load(path), path)
        if path is None or not is_multitask_yaml(YAML.load(path)):
            try:
                super()._new(cfg, task=task, verbose=verbose)
            except FileNotFoundError:
                load_model_yaml(cfg)  # names the nearest model of this package
                raise
            return
        self.cfg = cfg
        self.task = host.TASK
        self.model = build_model(load_model_yaml(cfg), verbose=verbose and RANK == -1)
        self.overrides["model"], self.overrides["task"] = cfg, self.task
        self.model.args = {**DEFAULT_CFG_DICT, **self.overrides}
        self.model.task = self.task
        self.model_name = cfg

    def _load(self, weights: str, task: str | None = None) -> None:
        """Load a checkpoint or name an exported file, whose task and input size are in its metadata.

        Raises:
            ValueError: If a checkpoint is damaged or holds no YOLO network.
            FileNotFoundError: If there is no such file.
        """
        metadata = {} if weights.endswith(".pt") else read_metadata(weights)
        self._layout = metadata.get("layout")
        task = task or (metadata.get("task") if weights.endswith(".mnn") else None)  # the host does not read it there
        with host.checkpoint_errors(weights):
            super()._load(weights, task=task)
            network = self.model if isinstance(self.model, nn.Module) else None
            if network is not None and not (hasattr(network, "model") or hasattr(network, "student_model")):
                raise TypeError(f"{type(network).__name__} is no YOLO network")
        if isinstance(self.model, str) and not metadata and task is None:
            LOGGER.warning(
                f"{weights}: expected metadata, found none, so that it is taken for a stock '{self.task}' model. "
                "Export a multitask network again with 'ymt export', or name the task."
            )
        if self.task == host.TASK and "imgsz" in metadata:
            height, width = metadata["imgsz"]  # the host takes it from static files alone
            self.overrides["imgsz"] = height if height == width else [height, width]

    @property
    def task_map(self) -> dict[str, dict[str, Any]]:
        """Map each task to its model, trainer, validator and predictor."""
        ours = {
            "model": MultiTaskModel,
            "trainer": MultiTaskTrainer,
            "validator": MultiTaskValidator,
            "predictor": MultiTaskPredictor,
        }
        return {**super().task_map, host.TASK: temporal_classes() if self.is_temporal else ours}

    @property
    def is_temporal(self) -> bool:
        """Whether this is a model, or a file exported from one, that sees several consecutive frames at once."""
        return self._layout == "temporal" if isinstance(self.model, str) else isinstance(self.model, TemporalModel)

    def load(self, weights: Any = "yolov8n-seg.pt") -> MultiTaskYOLO:
        """Load weights from one or several checkpoints, and log what was taken from where.

        Args:
            weights: A checkpoint (path, network or dict), or a list of them: trunk and box/cls from the first, each
                branch from the first that has it. Stock detect, segment and pose checkpoints and multitask ones are
                taken, also with other classes or tasks.

        Raises:
            ValueError: If the first is of another architecture or scale than this model.
        """
        if self.task != host.TASK:
            super().load(weights)
            return self
        host.require_network(self)
        listed = weights if isinstance(weights, (list, tuple)) else [weights]
        networks = [network_of(host.load_network(w) if isinstance(w, (str, Path)) else w) for w in listed]
        free = has_placeholder_names(self.model) and not self.is_temporal
        model = self._fitting(networks) if free else self.model
        model.load(networks)
        self.model = model
        self.overrides.pop("pretrained", None)
        self.ckpt, self.ckpt_path = {"model": self.model}, None  # training then starts from these weights
        self.predictor = None
        return self

    def _fitting(self, networks: Sequence[Any]) -> Any:
        """Return a model for the classes of the first network and the keypoints of the first that has any, so that
        their weights fit: this one, if it stands as its YAML says for them already, else a new one.
        """
        own, config = self.model, self.model.yaml
        nc = len(getattr(networks[0], "names", None) or own.names)
        shapes = [list(n.kpt_shape) for n in networks if getattr(n, "kpt_shape", None)]
        kpt_shape = shapes[0] if shapes and "pose" in own.tasks else config.get("kpt_shape")
        if nc == len(own.names) and kpt_shape == config.get("kpt_shape"):
            return own
        model = MultiTaskModel(config, ch=config["channels"], nc=nc, kpt_shape=kpt_shape, verbose=False)
        model.args, model.task = own.args, own.task
        return model.to(self.device)

    def train(self, trainer: Any = None, **kwargs: Any) -> Any:
        """Train; see the host's `train`. `segment`, `pose` and `track` switch tasks on or off, `seg` is the mask gain,
        `task` says of what stock task the label lines are where the data YAML does not.
        """
        if self.task == host.TASK and kwargs.get("cfg"):
            kwargs = fill_from_cfg(kwargs)
        kwargs = self._arguments(kwargs)
        pretrained = kwargs.get("pretrained")
        if isinstance(pretrained, (list, tuple)) and self.ckpt:
            self.load(kwargs.pop("pretrained"))
        return super().train(trainer=trainer, **kwargs)

    def extend(self, task: str, data: Any = None, replace: bool = False, **kwargs: Any) -> Any:
        """Add a branch to a trained model, stock or multitask, and train it alone; this object becomes the result.

        Every other output stays as it was, to the last bit: trunk, boxes, classes and the other branches are frozen,
        BatchNorm statistics included.

        Args:
            task: The task to add: `segment`, `pose` or `track`.
            data: Data YAML that labels it, with the model's classes.
            replace: Whether to put a new branch in the place of one that the model has.
            **kwargs: As for `train`, with other defaults (`engine.extend.DEFAULTS`). Beyond them `views`, how many
                augmented views of each image are kept as the trunk sees them, and `cache`: where (True, "ram": memory,
                what does not fit on disk; "disk"; False: nowhere, computed anew in each epoch).

        Returns:
            Metrics of the validation at the end, as `val`.

        Raises:
            ValueError: If the model has that task, the data does not label it or has other classes, or the model
                cannot be extended; the message names both sides.
        """
        from yolo_multitask.engine.extend import extend

        return extend(self, task, data, replace=replace, **kwargs)

    def adopt(self, network: MultiTaskModel) -> None:
        """Let this object hold a trained multitask network in the place of what it holds."""
        network.task = self.task = host.TASK
        self.model, self.ckpt, self.ckpt_path = network, {"model": network}, None
        self.overrides["task"] = host.TASK
        self.predictor = None

    def val(self, validator: Any = None, **kwargs: Any) -> Any:
        """Validate; see the host's `val`. Returns metrics with `.box`, `.seg`, `.pose` and `.track`.

        The data of the training is read as it was there, unless `task` or `labels` says otherwise.
        """
        kwargs = self._arguments(kwargs)
        if self.task == host.TASK:
            kwargs = {**self._trained_labels(kwargs), **kwargs}
        return super().val(validator=validator, **kwargs)

    def _trained_labels(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return what the training was told about the label lines of its data, if that data is asked for."""
        trained: dict[str, Any] = getattr(self.model, "trained_on", {})
        told = {key: trained[key] for key in ("labels", "label_task") if trained.get(key) is not None}
        if not told or any(given.get(key) is not None for key in ("labels", "label_task")):
            return {}
        data = given.get("data")
        return told if data is None or data_file(data) == trained["data"] else {}

    def predict(self, source: Any = None, stream: bool = False, predictor: Any = None, **kwargs: Any) -> Any:
        """Predict; see the host's `predict`. A task switched off is not computed."""
        kwargs = self._arguments(kwargs)
        if self.task == host.TASK:
            # the host checks the arguments of a predictor that it reuses against `overrides`
            own = {"switches": {}, **{key: DEFAULTS[key] for key in ("lazy", "window_stride", "delay", "max_gap")}}
            self.overrides = {**own, **self.overrides}
            kwargs = {**own, **{k: v for k, v in kwargs.items() if k in own or k not in DEFAULTS}}
        return super().predict(source=source, stream=stream, predictor=predictor, **kwargs)

    def track(self, source: Any = None, stream: bool = False, persist: bool = False, **kwargs: Any) -> Any:
        """Predict with ids that last over frames; see the host's `track`.

        Args:
            source: As for `predict`; a list may also hold videos and folders, or streams. A video, a folder of images,
                a stream, and all arrays of a call are a sequence each: its ids start at 1.
            stream: Whether to return a generator.
            persist: Whether to go on with the objects of the last call, for frames that are passed one by one.
            **kwargs: As for `predict`. `tracker` is the name or path of a tracker's YAML, `multicue.yaml` by default
                (Ultralytics' default for stock models); `conf` is 0.1 by default; `save_txt` writes one file for
                each sequence, see `MotFile`.

        Returns:
            Results of the objects that are tracked, with `boxes.id`; all fields are aligned with it.

        Raises:
            ValueError: If there is no such tracker, or it cannot track with this model.
        """
        kwargs["conf"] = 0.1 if kwargs.get("conf") is None else kwargs["conf"]  # trackers use weak detections too
        kwargs["batch"] = kwargs.get("batch") or 1
        if kwargs.get("tracker") is None:
            kwargs.pop("tracker", None)
            kwargs |= {"tracker": DEFAULT_TRACKER} if self.task == host.TASK else {}
        save_mot = bool(kwargs.pop("save_txt", self.overrides.get("save_txt", False)))
        kwargs.update(mode="track", save_txt=False)  # no label files of single frames
        reading = {k: kwargs[k] for k in ("batch", "vid_stride", "stream_buffer") if k in kwargs}
        channels = 3 if self.is_temporal else getattr(self.model, "yaml", {}).get("channels", 3)
        source = open_list(source, **reading, channels=channels)
        track.register(self, persist=persist, save_mot=save_mot)
        if stream:
            return self._tracked(self.predict(source, stream=True, **kwargs))
        with track.closing_files(self):
            return self.predict(source, **kwargs)

    def _tracked(self, results: Iterator[Any]) -> Iterator[Any]:
        with track.closing_files(self):
            yield from results

    def export(self, **kwargs: Any) -> str:
        """Export to another format; see the host's `export` for formats and arguments.

        Args:
            **kwargs: The host's. For a multitask model also the switches, and `masks`: with `nms=True`, whether masks
                are assembled in the graph.

        Returns:
            The path of the file or folder.

        Raises:
            ValueError: If the format cannot carry the model, or an argument does not fit.
        """
        if self.task != host.TASK:
            return str(super().export(**host_cfg(kwargs)))
        from yolo_multitask.export.exporter import MultiTaskExporter
        from yolo_multitask.export.temporal import TemporalExporter

        host.require_network(self)
        exporter = TemporalExporter if self.is_temporal else MultiTaskExporter
        own = {"imgsz": self.model.args["imgsz"], "batch": 1, "data": None, "device": None, "verbose": False}
        overrides = {**self.overrides, **own, **kwargs, "mode": "export"}  # as the host
        return exporter(overrides=overrides, _callbacks=self.callbacks)(model=self.model)

    def benchmark(self, data: Any = None, format: Any = "", verbose: Any = False, **kwargs: Any) -> Any:
        """Measure a multitask model, beside the models that it replaces; a stock model through the host.

        Args:
            data: Data YAML for the average precisions.
            format: Formats to export a multitask model to and measure beside it, a list or one text with commas; else
                as for the host.
            verbose: Whether to show progress, for a multitask model; else as for the host.
            **kwargs: For a multitask model, see `yolo_multitask.benchmark.settings.Settings`; else as for the host.

        Returns:
            A `BenchmarkReport`, whose `str` is a table; for a stock model what the host returns.

        Raises:
            ValueError: If an argument is wrong, or is for multitask models alone and this is none.
            FileNotFoundError: If there is no model or data set of a name.
        """
        from yolo_multitask.benchmark.settings import OWN_KEYS

        if self.is_temporal:
            raise ValueError(
                "'benchmark' measures models of single images, and this one sees windows of frames; "
                "scripts/benchmarks/temporal.py measures such a one."
            )
        if self.task == host.TASK:
            from yolo_multitask.benchmark.run import benchmark

            return benchmark(self, data=data, format=format, verbose=verbose, **kwargs)
        if own := sorted(OWN_KEYS.keys() & kwargs.keys()):
            raise ValueError(
                f"{', '.join(own)} is for multitask models, but this is a stock '{self.task}' model, which Ultralytics "
                "measures. Leave it out, or give a multitask model and this one as against=."
            )
        return super().benchmark(data=data, format=format, verbose=verbose, **kwargs)

    def distill(self, **kwargs: Any) -> Any:
        """Learn from finished networks on pictures without labels, until this one does the work of all of them.

        Args:
            **kwargs: The teachers by task (`detect`, `pose`, `segment`: checkpoints; `reid`: an ONNX file for crops),
                `source` (images, folders, videos), `data` where there are labels to measure on, the settings of
                `yolo_multitask.distill.settings.Settings`, and the arguments of a training.

        Returns:
            A `DistillReport`, whose `str` is a table of the student against each teacher.

        Raises:
            ValueError: If this is no multitask model, or a setting, teacher or source does not fit.
            FileNotFoundError: If there is no such file.
        """
        if self.task != host.TASK:
            raise ValueError(
                f"distill: expected a multitask model such as {DEFAULT_MODEL}, found a '{self.task}' model."
            )
        host.require_network(self)
        check_one_head(self.model, "distill")
        from yolo_multitask.distill.run import distill

        return distill(self, **kwargs)

    def tune(self, *args: Any, **kwargs: Any) -> Any:
        """Tune the hyperparameters of stock models through the host.

        Raises:
            NotImplementedError: For multitask models.
        """
        if self.task == host.TASK:
            raise NotImplementedError(
                "'tune' does not take multitask models; train with the gains that you want to try."
            )
        return super().tune(*args, **kwargs)

    def _arguments(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Separate switches from gains; for a stock model leave out switches that are unset.

        Raises:
            ValueError: If a switch is given for a stock model.
        """
        out = normalise(kwargs)
        if self.task == host.TASK:
            return out
        switches = out.get("switches", {})
        if not switches or (switches == {"pose": True} and "pose" in out):  # the gain of a stock pose model
            return {k: v for k, v in kwargs.items() if k != "switches" and not (k in SWITCHES and v is None)}
        asked: Sequence[str] = [f"{k}={kwargs.get(k, v)}" for k, v in switches.items()]
        raise ValueError(
            f"{', '.join(asked)} switches a task of a multitask model, but this is a stock '{self.task}' model. "
            f"Leave it out, or use a multitask model such as {DEFAULT_MODEL}."
        )
