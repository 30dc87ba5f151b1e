"""Validation of all tasks in one pass.

N predictions and M targets of an image, K keypoints of D values, h w the network input, H W the original image.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ultralytics.utils import DEFAULT_CFG_DICT, LOGGER, ops

from yolo_multitask import host
from yolo_multitask.args import host_cfg, normalise, own_cfg, select_tasks
from yolo_multitask.data.config import host_yaml, load_data
from yolo_multitask.data.dataset import build_multitask_dataset
from yolo_multitask.data.sources import Source
from yolo_multitask.engine import coco, exported
from yolo_multitask.engine.heads import activate, find_head, find_network, model_tasks
from yolo_multitask.engine.lazy import detect as detect_lazily
from yolo_multitask.engine.lazy import is_lazy
from yolo_multitask.engine.loss_means import LossMeans
from yolo_multitask.engine.prediction_files import PredictionFiles
from yolo_multitask.engine.targets import labelled, similarity, target_masks, undecidable
from yolo_multitask.engine.track_validation import TrackValidation, table_row
from yolo_multitask.engine.trackers import DEFAULT_TRACKER
from yolo_multitask.metrics import detect, pose
from yolo_multitask.metrics.multitask import MultiTaskMetrics, stat_key
from yolo_multitask.nn.heads import MultiTask
from yolo_multitask.tasks import SPECS, TASK, RowLayout

CONFUSION_IOU = 0.45  # the host's matching threshold in the confusion matrix
FIELDS = {"segment": "masks", "pose": "keypoints"}  # what a task adds to the predictions of an image


class MultiTaskValidator(TrackValidation, PredictionFiles):
    """Validator of `MultiTaskModel`: boxes, masks, keypoints and tracks of the same detections against partial labels.

    For each task only the instances that are labelled for it are targets. A prediction that matches none of them is
    left out where the labels cannot tell whether it is wrong: mostly inside an ignore region, or on an instance of its
    class that is not labelled for the task. With everything labelled the numbers are those of the host's validators.

    Attributes:
        tasks: Tasks that are validated: those of the model that the data labels and no switch turns off.
        cues: Tasks that are computed for the tracker alone, because the data does not label them.
        metrics: `MultiTaskMetrics` of the validated tasks.
        sequences: Those of the data, see `TrackValidation`.
        kpt_classes: Classes that have keypoints.
        sources: What the images are from, where the split lists sources.
    """

    # ---- set-up -----------------------------------------------------------------------------------------------------

    def __init__(
        self,
        dataloader: Any = None,
        save_dir: Path | None = None,
        args: Any = None,
        _callbacks: dict[str, Any] | None = None,
    ) -> None:
        """Build the validator; `args` (dict or namespace) may hold this package's keys and switches.

        Raises:
            ValueError: If a switch has a wrong type, or the data of `dataloader` cannot be tracked.
        """
        typed = isinstance(args, Mapping) or args is None  # else a full configuration
        given = normalise(args if typed else vars(args), typed=typed)
        super().__init__(dataloader, save_dir, {**host_cfg(given), "task": TASK}, _callbacks)
        self.args.task = TASK
        for key, value in own_cfg(given).items():
            setattr(self.args, key, value)
        tracker = given.get("tracker")
        if tracker is None or (not typed and tracker == DEFAULT_CFG_DICT["tracker"]):
            self.args.tracker = DEFAULT_TRACKER
        self.layout = RowLayout(nc=0)
        self.kpt_classes: list[int] = []
        self.cues: tuple[str, ...] = ()
        self._kpt_shape: tuple[int, int] | None = None
        self.sources: tuple[Source, ...] = ()
        self._native_masks = False
        self._lazy_head: MultiTask | None = None
        self._exported: Any = None
        self._loss_means = LossMeans()
        self._loaded: dict[str, Any] | None = None
        tasks = tuple(self.args.tasks or ("detect",))
        self._set_tasks(tasks if dataloader is None else self.with_sequences(tasks, dataloader.dataset))

    def _set_tasks(self, tasks: tuple[str, ...]) -> None:
        self.tasks = tuple(t for t in SPECS if t == "detect" or t in tasks)
        self.check_similarity()
        if getattr(self.metrics, "tasks", None) != self.tasks:
            self.metrics = MultiTaskMetrics(tasks=self.tasks)

    def __call__(self, trainer: Any = None, model: Any = None, **kwargs: Any) -> Any:
        """Validate; see the host's method for the arguments and the result.

        Raises:
            ValueError: If a switch asks for what the model or the data does not have, or they do not fit each other.
        """
        head = find_head(model) if isinstance(model, torch.nn.Module) else None
        active = () if head is None else head.active
        if trainer is None:
            self._loaded = load_data(
                self.args.data, task=self.args.label_task, labels=self.args.labels, split=self.args.split or ""
            )
            self.args.data = self.data_name
            # the host prints the table's header before it has set up the model
            file = model or self.args.model
            has = model_tasks(model) if head is not None else exported.read_metadata(file).get("tasks", ())
            self._set_tasks(self._choose_tasks(self.available(has), self._loaded))
        try:
            if trainer is not None or self._loaded is None or not self._loaded.get("sources"):
                return super().__call__(trainer=trainer, model=model, **kwargs)
            with host_yaml(self._loaded) as self.args.data:
                return super().__call__(trainer=trainer, model=model, **kwargs)
        finally:
            if trainer is None and self._loaded is not None:
                self.args.data = self.data_name
            if head is not None:
                head.active = active
            if self._lazy_head is not None:
                self._lazy_head.lazy, self._lazy_head = False, None

    @property
    def data_name(self) -> str:
        """What to call the data in messages."""
        return str((self._loaded or {}).get("yaml_file") or self.args.data)

    def available(self, has: tuple[str, ...]) -> tuple[str, ...]:
        """Return which of a model's tasks no switch turns off; in a training run, those that it trains."""
        if self.args.tasks is not None:  # resolved by the trainer
            return tuple(t for t in has if t in self.args.tasks)
        return select_tasks(self.args.switches, has, f"model '{self.args.model}'")

    def _choose_tasks(self, available: tuple[str, ...], data: Mapping[str, Any]) -> tuple[str, ...]:
        """Return those of the available tasks that the data labels."""
        sources = data.get("sources", {}).get("val" if self._loaded is None else self.args.split)
        named = {task for source in sources or () for task in source.tasks}
        in_data = tuple(t for t in data["label_spec"].tasks if sources is None or t in named)
        for task in available if self.args.tasks is None else ():
            if self.args.switches.get(task) and task not in in_data:
                raise ValueError(
                    f"'{task}=True' was asked for and model '{self.args.model}' has it, but the labels of data "
                    f"'{self.data_name}' hold only: {', '.join(in_data)}. Leave out '{task}=True', or "
                    f"{data['label_spec'].advice.get(task, 'validate on a split that labels it')}."
                )
        return tuple(t for t in SPECS if t in available and t in in_data)

    def get_dataloader(self, dataset_path: Any, batch_size: int) -> Any:
        """Return the loader of the split to validate."""
        if self._loaded is not None:
            self.data = self._loaded
            dataset_path = self.data[self.args.split]
        return super().get_dataloader(dataset_path, batch_size)

    def build_dataset(self, img_path: Any, mode: str = "val", batch: int | None = None) -> Any:
        """Return our data set of a split; see the host's method for the arguments."""
        size = batch or self.args.batch
        return build_multitask_dataset(self.args, img_path, size, self.data, mode=mode, stride=self.stride)

    def init_metrics(self, model: Any) -> None:
        """Choose the tasks, make the model compute them, and reset the statistics.

        Raises:
            ValueError: If model and data do not fit each other, the data YAML's sigmas or categories are malformed, or
                there is no such tracker.
        """
        if not self.training and self._loaded is not None:
            self.data = self._loaded
        exported.adopt(model, self.args.model)
        self._exported = None if find_head(model) is not None else model
        exported.warn_of_nms(self._exported, self.args)
        self.sources = self.dataloader.dataset.sources
        tasks = self._choose_tasks(self.available(model_tasks(model)), self.data)
        self._set_tasks(self.with_sequences(tasks, self.dataloader.dataset))
        super().init_metrics(model)
        unused = [t for t in model_tasks(model) if t not in self.tasks and self.args.switches.get(t, True)]
        cues = self.prepare_tracking(getattr(find_network(model), "kpt_oks_sigmas", None))
        self.cues = tuple(t for t in cues if t in unused)
        self.layout = activate(model, model_tasks(model) if self.training else (*self.tasks, *self.cues))
        whole = self.training or self.args.augment or not is_lazy(self.args, self.device)
        self._lazy_head = None if whole else find_head(model)
        if self._lazy_head is not None:
            self._lazy_head.lazy = True
        self._native_masks = bool(self.args.save_json or self.args.save_txt)  # more accurate, slower; as the host
        if self.args.save_txt:
            self.find_image_root()
        self._loss_means = LossMeans()
        self._prepare_keypoints(model)
        if self.data.get("coco_categories") is not None:
            self.class_map = coco.category_ids(self.data["coco_categories"], self.data["names"])

    def _prepare_keypoints(self, model: Any) -> None:
        """Note which classes have keypoints, how many, and their sigmas."""
        self.kpt_classes = [0] if self.args.single_cls else list(self.data["kpt_classes"])
        if "pose" not in (*self.tasks, *self.cues):
            return
        inner = find_head(model)
        self._kpt_shape = shape = tuple(model.kpt_shape if inner is None else inner.branches["pose"].kpt_shape)
        if "pose" in self.cues:
            self.kpt_classes = list(getattr(find_network(model), "kpt_classes", None) or self.kpt_classes)
            return
        if shape[0] != self.data["kpt_shape"][0]:
            raise ValueError(
                f"model '{self.args.model}' predicts {shape[0]} keypoints (kpt_shape {list(shape)}), but data "
                f"'{self.data_name}' labels {self.data['kpt_shape'][0]} (kpt_shape {list(self.data['kpt_shape'])}). "
                "Validate with data of the same keypoints, or with 'pose=False'."
            )
        self.sigmas = pose.oks_sigmas(self.data["kpt_shape"], self.data.get("kpt_oks_sigmas"))

    # ---- one batch --------------------------------------------------------------------------------------------------

    def preprocess(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Move a batch to the device, images to 0..1; see the host."""
        batch = super().preprocess(batch)
        for key in ("masks", "keypoints"):
            if key in batch:
                batch[key] = batch[key].float()
        return batch

    def postprocess(self, preds: Any) -> list[dict[str, torch.Tensor]]:
        """Apply one NMS for all tasks.

        Args:
            preds: `(y, raw)`, or `((y, proto), raw)` with masks; `(scores, maps)` of a lazy pass; what an exported
                file gives.

        Returns:
            Per image: `bboxes` (N, 4) x1 y1 x2 y2, `conf` (N,), `cls` (N,), with `segment` `masks` (N, h/4, w/4) or
            (N, h, w), with `pose` `keypoints` (N, K, D), with `track` `embeddings` (N, E) and, where the model has
            them, `next_boxes` (N, 4); all in input pixels.
        """
        layout, proto = self.layout, None
        wanted = {*self.tasks, *self.cues}
        if self._lazy_head is not None:
            found, proto = self._detect_lazily(self._lazy_head, *preds)
        elif self._exported is not None:
            rows, proto = exported.read_outputs(self._exported, preds)
            proto = proto if "segment" in wanted else None
            found = super().postprocess(rows)
        else:
            if layout.nm and "segment" in wanted:
                proto = preds[0][1]
            found = super().postprocess(preds[0])
        process = ops.process_mask_native if self._native_masks else ops.process_mask
        for i, pred in enumerate(found):
            row = torch.nn.functional.pad(pred.pop("extra"), (6, 0))  # `layout` counts the first six values too
            if proto is not None:
                size = [4 * x for x in proto.shape[2:]]
                factors = exported.mask_factors(self._exported, row, layout, proto[i])
                pred["masks"] = factors.process(process, pred["bboxes"], shape=size)
            if "pose" in wanted:
                assert self._kpt_shape is not None
                points = row[:, layout.kpt].unflatten(1, (self._kpt_shape[0], -1)).clone()
                points[~self.has_keypoints(pred["cls"])] = 0
                pred["keypoints"] = points
            if "track" in wanted:
                pred["embeddings"] = row[:, layout.embed]
                if layout.nb:
                    pred["next_boxes"] = row[:, layout.next]
        return found  # type: ignore[no-any-return]

    def _detect_lazily(
        self, head: MultiTask, scores: torch.Tensor, maps: Mapping[str, Any]
    ) -> tuple[list[dict[str, torch.Tensor]], torch.Tensor | None]:
        """Return what the host's method returns, and the prototypes, None without masks; see `engine.lazy`."""
        rows, proto = detect_lazily(
            head,
            scores,
            maps,
            conf=self.args.conf,
            iou_thres=self.args.iou,
            multi_label=True,
            agnostic=self.args.single_cls or self.args.agnostic_nms,
            max_det=self.args.max_det,
        )
        return [{"bboxes": x[:, :4], "conf": x[:, 4], "cls": x[:, 5], "extra": x[:, 6:]} for x in rows], proto

    def _measured(self, pred: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the predictions of an image without what is only there for the tracker."""
        hidden = {"embeddings", "next_boxes", *(FIELDS[task] for task in self.cues)}
        return {k: v for k, v in pred.items() if k not in hidden}

    def _prepare_batch(self, si: int, batch: dict[str, Any]) -> dict[str, Any]:
        """Return the targets of image `si` in input pixels.

        The host's fields, and: `labelled`, per task bool (M,); `regions` (R, 4) x1 y1 x2 y2; with `segment` `masks`
        (M, h/4, w/4) or (M, h, w); with `pose` `keypoints` (M, K, 3); with `track` `ids` (M,).
        """
        pbatch = super()._prepare_batch(si, batch)
        chosen = batch["batch_idx"] == si
        height, width = pbatch["imgsz"]
        scale = torch.tensor([width, height, width, height], device=self.device)
        pbatch["regions"] = ops.xywh2xyxy(batch["ignore"][batch["ignore_idx"] == si]) * scale
        pbatch["labelled"] = {task: labelled(task, batch)[chosen] for task in self.tasks}
        pbatch["source"] = batch["source"][si] if "source" in batch else 0
        if "unlabelled" in batch:
            pbatch["unlabelled"] = batch["unlabelled"][si].cpu().numpy()
        if "segment" in self.tasks:
            pbatch["masks"] = target_masks(
                si, batch, len(pbatch["cls"]), overlap=self.args.overlap_mask, native=self._native_masks
            )
        if "pose" in self.tasks:
            keypoints = batch["keypoints"][chosen].clone()
            keypoints[..., 0] *= width
            keypoints[..., 1] *= height
            pbatch["keypoints"] = keypoints
        if "track" in self.tasks:
            pbatch["ids"] = batch["ids"][chosen]
        return pbatch  # type: ignore[no-any-return]

    def update_metrics(self, preds: list[dict[str, torch.Tensor]], batch: dict[str, Any]) -> None:
        """Add a batch to the statistics, the confusion matrix and the files that were asked for."""
        if self.training:
            self._loss_means.count(self.loss)
        for si, pred in enumerate(preds):
            self.seen += 1
            pbatch = self._prepare_batch(si, batch)
            predn = host.merge_classes(self, pred)
            self.keep_frame(predn, pbatch)
            predn = self._measured(predn)
            cls = pbatch["cls"].cpu().numpy()
            stats, ignored = self._image_stats(predn, pbatch)
            name = Path(pbatch["im_file"]).name
            source = np.array([pbatch["source"]])
            self.metrics.update_stats({**stats, "target_img": np.unique(cls), "source": source, "im_name": name})
            if self.args.plots:
                self._update_confusion(predn, pbatch, ignored, batch["img"][si])
            if len(predn["cls"]) and (self.args.save_json or self.args.save_txt):
                self.save_files(predn, pbatch)

    def _image_stats(
        self, preds: dict[str, torch.Tensor], batch: dict[str, Any]
    ) -> tuple[dict[str, NDArray[Any]], NDArray[np.bool_]]:
        """Return the statistics of every task for one image, and which boxes (N,) are neither right nor wrong."""
        no_pred = len(preds["cls"]) == 0
        conf = np.zeros(0) if no_pred else preds["conf"].cpu().numpy()
        pred_cls = np.zeros(0) if no_pred else preds["cls"].cpu().numpy()
        stats: dict[str, NDArray[Any]] = {}
        ignored: dict[str, NDArray[np.bool_]] = {}
        for task in self.metrics.parts:
            targets = batch["cls"][batch["labelled"][task]]
            tp = np.zeros((len(pred_cls), self.niou), dtype=bool)
            if len(targets) and not no_pred:
                similar = similarity(task, preds, batch, batch["labelled"][task], self.sigmas)
                tp = self.match_predictions(preds["cls"], targets, similar).cpu().numpy()
            ignored[task] = undecidable(task, tp, preds, batch)
            ignored[task] |= ~self._can_be_judged(task, pred_cls, batch)
            counted = ~ignored[task]
            if task == "pose":
                counted &= self.has_keypoints(preds["cls"]).cpu().numpy()
            stats[stat_key("tp", task)] = tp[counted]
            stats[stat_key("conf", task)] = conf[counted]
            stats[stat_key("pred_cls", task)] = pred_cls[counted]
            stats[stat_key("target_cls", task)] = targets.cpu().numpy()
        return stats, ignored["detect"]

    def _can_be_judged(self, task: str, pred_cls: NDArray[Any], batch: Mapping[str, Any]) -> NDArray[np.bool_]:
        """Return which predictions (N,) the source of the image can judge: of classes and a task that it labels."""
        if self.sources and task not in self.sources[batch["source"]].tasks:
            return np.zeros(len(pred_cls), dtype=bool)
        if "unlabelled" not in batch:
            return np.ones(len(pred_cls), dtype=bool)
        return np.isin(pred_cls, np.flatnonzero(~batch["unlabelled"]))

    def _update_confusion(
        self, preds: dict[str, torch.Tensor], batch: dict[str, Any], ignored: NDArray[np.bool_], img: torch.Tensor
    ) -> None:
        """Add one image to the confusion matrix, without the predictions that ignore regions excuse."""
        keep = torch.from_numpy(~ignored).to(preds["cls"].device)
        if len(batch["cls"]) and len(keep):  # a confusion of classes counts wherever it stands
            keep |= (detect.similarity(batch["bboxes"], preds["bboxes"]) > CONFUSION_IOU).any(0)
        keep &= torch.from_numpy(self._can_be_judged("detect", preds["cls"].cpu().numpy(), batch)).to(keep.device)
        shown = {k: v[keep] for k, v in preds.items()}
        self.confusion_matrix.process_batch(shown, batch, conf=self.args.conf)
        if self.args.visualize:
            self.confusion_matrix.plot_matches(
                img, batch["im_file"], self.save_dir, self.args.show_labels, self.args.show_conf
            )

    # ---- the whole split --------------------------------------------------------------------------------------------

    def get_stats(self) -> dict[str, Any]:
        """Compute all metrics, of each source too where there are several, and return the means by key."""
        if len(self.sources) > 1:
            self.metrics.divide({source.name: source.tasks for source in self.sources})
        return super().get_stats()  # type: ignore[no-any-return]

    def gather_stats(self) -> None:
        """Gather the statistics of all processes, and rescale the validation losses to batches with labels."""
        super().gather_stats()
        for metric in list(self.metrics.parts.values())[1:]:
            host.gather_image_metrics(self, metric)
        if self.training:
            self._loss_means.rescale(self.loss, len(self.dataloader))

    def get_desc(self) -> str:
        """Return the header of the table."""
        columns = [c for t in self.metrics.parts for c in (f"{SPECS[t].title}(P", "R", "mAP50", "mAP50-95)")]
        return "%22s" % "Class" + "".join(f"{c:>11}" for c in ("Images", "Instances", *columns))  # noqa: UP031

    def print_results(self) -> None:
        """Log the table: all classes, then each class; `-` where a task has no target of a class. Then the tracks."""
        metrics = self.metrics
        values = [value for metric in metrics.parts.values() for value in metric.mean_results()]
        LOGGER.info(table_row("all", self.seen, metrics.nt_per_class.sum(), *values))
        if metrics.nt_per_class.sum() == 0:
            LOGGER.warning(f"no labels in split '{self.args.split}' of data '{self.data_name}', nothing to measure")
        if self.args.verbose and not self.training and self.nc > 1:
            for i, c in enumerate(metrics.ap_class_index):
                images, instances = metrics.nt_per_image[c], metrics.nt_per_class[c]
                LOGGER.info(table_row(self.names[c], images, instances, *metrics.class_result(i)))
        for name, own in metrics.by_source.items():
            values = [
                v for t in metrics.parts for v in (own.parts[t].mean_results() if t in own.parts else [np.nan] * 4)
            ]
            LOGGER.info(table_row(name[-22:], own.seen, own.nt_per_class.sum(), *values))
        if "track" in self.tasks:
            self.print_tracks()

    def plot_predictions(
        self, batch: dict[str, Any], preds: list[dict[str, torch.Tensor]], ni: int, max_det: int | None = None
    ) -> None:
        """Draw boxes, masks and keypoints of a batch; see the host."""
        limit = max_det or self.args.max_det
        shown = [self._measured(pred) for pred in preds]
        for pred in shown:
            if "masks" in pred:
                pred["masks"] = pred["masks"][:limit].byte().cpu()
        super().plot_predictions(batch, shown, ni, max_det=limit)
