"""Validation of all tasks in one pass.

N predictions and M targets of an image, K keypoints of D values, h w the network input, H W the original image.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from ultralytics.models.yolo.detect import DetectionValidator
from ultralytics.utils import LOGGER, RANK, ops

from yolo_multitask import host
from yolo_multitask.args import host_cfg, normalise, own_cfg, select_tasks
from yolo_multitask.data.config import load_data
from yolo_multitask.data.convert.rle import encode_rle
from yolo_multitask.data.dataset import build_multitask_dataset
from yolo_multitask.engine import coco
from yolo_multitask.engine.heads import activate, find_head, model_tasks
from yolo_multitask.engine.results import Results
from yolo_multitask.metrics import detect, pose, segment
from yolo_multitask.metrics.multitask import MultiTaskMetrics, stat_key
from yolo_multitask.tasks import SPECS, TASK, RowLayout

MOSTLY_INSIDE = 0.5  # share of a prediction's area inside an ignore region above which it is no false positive
SAME_INSTANCE = 0.5  # box IoU from which a prediction belongs to an instance that is not labelled for the task
CONFUSION_IOU = 0.45  # the host's matching threshold in the confusion matrix


class MultiTaskValidator(DetectionValidator):
    """Validator of `MultiTaskModel`: boxes, masks and keypoints of the same detections against partial labels.

    For each task only the instances that are labelled for it are targets. A prediction that matches none of them is
    left out where the labels cannot tell whether it is wrong: mostly inside an ignore region, or on an instance of its
    class that is not labelled for the task. With everything labelled the numbers are those of the host's validators.

    Attributes:
        tasks: Tasks that are validated: those of the model that the data labels and no switch turns off.
        metrics: `MultiTaskMetrics` of these tasks.
        kpt_classes: Classes that have keypoints.
    """

    def __init__(
        self,
        dataloader: Any = None,
        save_dir: Path | None = None,
        args: Any = None,
        _callbacks: dict[str, Any] | None = None,
    ) -> None:
        """Build the validator; `args` (dict or namespace) may hold this package's keys and switches.

        Raises:
            ValueError: If a switch has a wrong type.
        """
        typed = isinstance(args, Mapping) or args is None  # else a full configuration
        given = normalise(args if typed else vars(args), typed=typed)
        super().__init__(dataloader, save_dir, {**host_cfg(given), "task": TASK}, _callbacks)
        self.args.task = TASK
        for key, value in own_cfg(given).items():
            setattr(self.args, key, value)
        self.layout = RowLayout(nc=0)
        self.sigmas: NDArray[Any] | None = None
        self.kpt_classes: list[int] = []
        self._native_masks = False
        self._image_root = Path()
        self._label_batches: dict[str, int] = {}
        self._loaded: dict[str, Any] | None = None
        self._set_tasks(tuple(self.args.tasks or ("detect",)))

    def _set_tasks(self, tasks: tuple[str, ...]) -> None:
        self.tasks = tuple(t for t in SPECS if t == "detect" or t in tasks)
        if getattr(self.metrics, "tasks", None) != self.tasks:
            self.metrics: MultiTaskMetrics = MultiTaskMetrics(tasks=self.tasks)

    # ---- set-up -----------------------------------------------------------------------------------------------------

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
            self.args.data = str(self._loaded.get("yaml_file") or self.args.data)
            if head is not None:  # the host prints the table's header before it has set up the model
                self._set_tasks(self._choose_tasks(model, self._loaded, training=False))
        try:
            return super().__call__(trainer=trainer, model=model, **kwargs)
        finally:
            if head is not None:
                head.active = active

    def _choose_tasks(self, model: Any, data: Mapping[str, Any], *, training: bool) -> tuple[str, ...]:
        """Return the tasks that the model has, the data labels and, outside training, no switch turns off."""
        has, labelled = model_tasks(model), data["label_spec"].tasks
        if not training:
            switches = self.args.switches
            has = select_tasks(switches, has, f"model '{self.args.model}'")
            for task in has:
                if switches.get(task) and task in SPECS and task not in labelled:
                    raise ValueError(
                        f"'{task}=True' was asked for and model '{self.args.model}' has it, but the labels of data "
                        f"'{self.args.data}' hold only: {', '.join(labelled)}. Leave out '{task}=True', or "
                        f"{data['label_spec'].advice[task]}."
                    )
        return tuple(t for t in SPECS if t in has and t in labelled)

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
            ValueError: If model and data do not fit each other, or the data YAML's sigmas or categories are malformed.
        """
        if not self.training and self._loaded is not None:
            self.data = self._loaded
        self._set_tasks(self._choose_tasks(model, self.data, training=self.training))
        super().init_metrics(model)
        self.layout = activate(model, model_tasks(model) if self.training else self.tasks)
        self._native_masks = bool(self.args.save_json or self.args.save_txt)  # more accurate, slower; as the host
        if self.args.save_txt:
            self._image_root = Path(
                os.path.commonpath([Path(f).resolve().parent for f in self.dataloader.dataset.im_files])
            )
        self._label_batches = dict.fromkeys(self.tasks[1:], 0)
        self.kpt_classes = [0] if self.args.single_cls else list(self.data["kpt_classes"])
        if "pose" in self.tasks:
            self._check_keypoints(model)
            self.sigmas = pose.oks_sigmas(self.data["kpt_shape"], self.data.get("kpt_oks_sigmas"))
        if self.data.get("coco_categories") is not None:
            self.class_map = coco.category_ids(self.data["coco_categories"], self.data["names"])

    def _check_keypoints(self, model: Any) -> None:
        inner = find_head(model)
        shape = model.kpt_shape if inner is None else inner.branches["pose"].kpt_shape
        if shape[0] != self.data["kpt_shape"][0]:
            raise ValueError(
                f"model '{self.args.model}' predicts {shape[0]} keypoints (kpt_shape {list(shape)}), but data "
                f"'{self.args.data}' labels {self.data['kpt_shape'][0]} (kpt_shape {list(self.data['kpt_shape'])}). "
                "Validate with data of the same keypoints, or with 'pose=False'."
            )

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
            preds: `(y, raw)`, or `((y, proto), raw)` with masks; `y` or `[y, proto]` from an exported file.

        Returns:
            Per image: `bboxes` (N, 4) x1 y1 x2 y2, `conf` (N,), `cls` (N,), with `segment` `masks` (N, h/4, w/4) or
            (N, h, w), with `pose` `keypoints` (N, K, D), all in input pixels.
        """
        layout, proto = self.layout, None
        if layout.nm and "segment" in self.tasks:
            proto = preds[0][1] if isinstance(preds[0], tuple) else preds[1]
        found = super().postprocess(preds[0] if isinstance(preds, (list, tuple)) else preds)
        process = ops.process_mask_native if self._native_masks else ops.process_mask
        for i, pred in enumerate(found):
            extra = pred.pop("extra")  # a row without its first six values
            if proto is not None:
                coefficients = extra[:, layout.mask.start - 6 : layout.mask.stop - 6]
                pred["masks"] = process(proto[i], coefficients, pred["bboxes"], shape=[4 * x for x in proto.shape[2:]])
            if "pose" in self.tasks:
                dims = layout.nk // self.data["kpt_shape"][0]
                points = extra[:, layout.kpt.start - 6 : layout.kpt.stop - 6].unflatten(1, (-1, dims)).clone()
                points[~self._has_keypoints(pred["cls"])] = 0
                pred["keypoints"] = points
        return found  # type: ignore[no-any-return]

    def _has_keypoints(self, classes: torch.Tensor) -> torch.Tensor:
        """Return which of the predicted classes (N,) have keypoints, bool (N,)."""
        if self.args.single_cls:
            return torch.ones_like(classes, dtype=torch.bool)
        return torch.isin(classes.long(), torch.tensor(self.kpt_classes, dtype=torch.long, device=classes.device))

    def _prepare_batch(self, si: int, batch: dict[str, Any]) -> dict[str, Any]:
        """Return the targets of image `si` in input pixels.

        The host's fields, and: `labelled`, per task bool (M,); `regions` (R, 4) x1 y1 x2 y2; with `segment` `masks`
        (M, h/4, w/4) or (M, h, w); with `pose` `keypoints` (M, K, 3).
        """
        pbatch = super()._prepare_batch(si, batch)
        chosen = batch["batch_idx"] == si
        height, width = pbatch["imgsz"]
        scale = torch.tensor([width, height, width, height], device=self.device)
        pbatch["regions"] = ops.xywh2xyxy(batch["ignore"][batch["ignore_idx"] == si]) * scale
        pbatch["labelled"] = {task: _labelled(task, batch)[chosen] for task in self.tasks}
        if "segment" in self.tasks:
            pbatch["masks"] = self._target_masks(si, batch, len(pbatch["cls"]))
        if "pose" in self.tasks:
            keypoints = batch["keypoints"][chosen].clone()
            keypoints[..., 0] *= width
            keypoints[..., 1] *= height
            pbatch["keypoints"] = keypoints
        return pbatch  # type: ignore[no-any-return]

    def _target_masks(self, si: int, batch: dict[str, Any], count: int) -> torch.Tensor:
        """Return the masks of image `si`, one per instance, at the size of the predicted ones; as the host does."""
        if self.args.overlap_mask:
            index = torch.arange(1, count + 1, device=self.device).view(count, 1, 1)
            masks = (batch["masks"][si] == index).float()
        else:
            masks = batch["masks"][batch["batch_idx"] == si]
        size = tuple(x if self._native_masks else x // 4 for x in batch["img"].shape[2:])
        if count and tuple(masks.shape[1:]) != size:
            masks = torch.nn.functional.interpolate(masks[None], size, mode="bilinear", align_corners=False)[0].gt_(0.5)
        return masks

    def update_metrics(self, preds: list[dict[str, torch.Tensor]], batch: dict[str, Any]) -> None:
        """Add a batch to the statistics, the confusion matrix and the files that were asked for."""
        for task in self._label_batches:
            self._label_batches[task] += int(bool(_labelled(task, batch).any()))
        for si, pred in enumerate(preds):
            self.seen += 1
            pbatch = self._prepare_batch(si, batch)
            predn = host.merge_classes(self, pred)
            cls = pbatch["cls"].cpu().numpy()
            stats, ignored = self._image_stats(predn, pbatch)
            name = Path(pbatch["im_file"]).name
            self.metrics.update_stats({**stats, "target_img": np.unique(cls), "im_name": name})
            if self.args.plots:
                self._update_confusion(predn, pbatch, ignored, batch["img"][si])
            if len(predn["cls"]) and (self.args.save_json or self.args.save_txt):
                self._save(predn, pbatch)

    def _image_stats(
        self, preds: dict[str, torch.Tensor], batch: dict[str, Any]
    ) -> tuple[dict[str, NDArray[Any]], NDArray[np.bool_]]:
        """Return the statistics of every task for one image, and which boxes (N,) are neither right nor wrong."""
        no_pred = len(preds["cls"]) == 0
        conf = np.zeros(0) if no_pred else preds["conf"].cpu().numpy()
        pred_cls = np.zeros(0) if no_pred else preds["cls"].cpu().numpy()
        stats: dict[str, NDArray[Any]] = {}
        ignored: dict[str, NDArray[np.bool_]] = {}
        for task in self.tasks:
            targets = batch["cls"][batch["labelled"][task]]
            tp = np.zeros((len(pred_cls), self.niou), dtype=bool)
            if len(targets) and not no_pred:
                tp = self.match_predictions(preds["cls"], targets, self._similarity(task, preds, batch)).cpu().numpy()
            ignored[task] = self._undecidable(task, tp, preds, batch)
            counted = ~ignored[task]
            if task == "pose":
                counted &= self._has_keypoints(preds["cls"]).cpu().numpy()
            stats[stat_key("tp", task)] = tp[counted]
            stats[stat_key("conf", task)] = conf[counted]
            stats[stat_key("pred_cls", task)] = pred_cls[counted]
            stats[stat_key("target_cls", task)] = targets.cpu().numpy()
        return stats, ignored["detect"]

    def _similarity(self, task: str, preds: dict[str, torch.Tensor], batch: dict[str, Any]) -> torch.Tensor:
        """Return the similarity (M', N) of the instances labelled for a task with all predictions."""
        labelled = batch["labelled"][task]
        if task == "segment":
            return segment.similarity(batch["masks"][labelled], preds["masks"])
        boxes = batch["bboxes"][labelled]
        if task == "pose":
            assert self.sigmas is not None
            return pose.similarity(batch["keypoints"][labelled], preds["keypoints"], boxes, self.sigmas)
        return detect.similarity(boxes, preds["bboxes"])

    @staticmethod
    def _undecidable(
        task: str, tp: NDArray[np.bool_], preds: dict[str, torch.Tensor], batch: dict[str, Any]
    ) -> NDArray[np.bool_]:
        """Return which predictions (N,) match no target and stand where the labels cannot tell if they are wrong."""
        unmatched = np.asarray(~tp.any(axis=1), dtype=bool)
        if not unmatched.any():
            return unmatched
        excused = detect.share_inside(preds["bboxes"], batch["regions"]) > MOSTLY_INSIDE
        unlabelled = ~batch["labelled"][task]
        if unlabelled.any():
            overlap = detect.similarity(batch["bboxes"][unlabelled], preds["bboxes"]) >= SAME_INSTANCE
            excused = excused | (overlap & (batch["cls"][unlabelled][:, None] == preds["cls"])).any(0)
        return np.logical_and(unmatched, excused.cpu().numpy())

    def _update_confusion(
        self, preds: dict[str, torch.Tensor], batch: dict[str, Any], ignored: NDArray[np.bool_], img: torch.Tensor
    ) -> None:
        """Add one image to the confusion matrix, without the predictions that ignore regions excuse."""
        keep = torch.from_numpy(~ignored).to(preds["cls"].device)
        if len(batch["cls"]) and len(keep):  # a confusion of classes counts wherever it stands
            keep |= (detect.similarity(batch["bboxes"], preds["bboxes"]) > CONFUSION_IOU).any(0)
        shown = {k: v[keep] for k, v in preds.items()}
        self.confusion_matrix.process_batch(shown, batch, conf=self.args.conf)
        if self.args.visualize:
            self.confusion_matrix.plot_matches(
                img, batch["im_file"], self.save_dir, self.args.show_labels, self.args.show_conf
            )

    # ---- the whole split --------------------------------------------------------------------------------------------

    def gather_stats(self) -> None:
        """Gather the statistics of all processes, and rescale the validation losses to batches with labels."""
        super().gather_stats()
        for metric in list(self.metrics.parts.values())[1:]:
            host.gather_image_metrics(self, metric)
        if self.training:
            self._rescale_losses()

    def _rescale_losses(self) -> None:
        """Undo that the host divides by all batches: a batch without labels for a task says nothing about its loss."""
        world = dist.get_world_size() if RANK > -1 else 1
        for task, batches in self._label_batches.items():
            count = torch.tensor(float(batches), device=self.device)
            if world > 1:
                dist.all_reduce(count)
            factor = world * len(self.dataloader) / max(float(count), 1.0)
            for name in SPECS[task].losses:
                if name in self.loss:
                    self.loss[name] = self.loss[name] * factor

    def get_desc(self) -> str:
        """Return the header of the table."""
        columns = [c for t in self.tasks for c in (f"{SPECS[t].title}(P", "R", "mAP50", "mAP50-95)")]
        return "%22s" % "Class" + "".join(f"{c:>11}" for c in ("Images", "Instances", *columns))  # noqa: UP031

    def print_results(self) -> None:
        """Log the table: all classes, then each class; `-` where a task has no target of a class."""
        metrics = self.metrics
        LOGGER.info(_table_row("all", self.seen, metrics.nt_per_class.sum(), metrics.mean_results()))
        if metrics.nt_per_class.sum() == 0:
            LOGGER.warning(f"no labels in split '{self.args.split}' of data '{self.args.data}', nothing to measure")
        if self.args.verbose and not self.training and self.nc > 1:
            for i, c in enumerate(metrics.ap_class_index):
                images, instances = metrics.nt_per_image[c], metrics.nt_per_class[c]
                LOGGER.info(_table_row(self.names[c], images, instances, metrics.class_result(i)))

    def plot_predictions(
        self, batch: dict[str, Any], preds: list[dict[str, torch.Tensor]], ni: int, max_det: int | None = None
    ) -> None:
        """Draw boxes, masks and keypoints of a batch; see the host."""
        limit = max_det or self.args.max_det
        shown = [dict(pred) for pred in preds]
        for pred in shown:
            if "masks" in pred:
                pred["masks"] = pred["masks"][:limit].byte().cpu()
        super().plot_predictions(batch, shown, ni, max_det=limit)

    # ---- files ------------------------------------------------------------------------------------------------------

    def _save(self, predn: dict[str, torch.Tensor], pbatch: dict[str, Any]) -> None:
        """Write the predictions of one image to the files that were asked for."""
        scaled = self.scale_preds(predn, pbatch)
        if self.args.save_json:
            self.pred_to_json(scaled, pbatch)
        if self.args.save_txt:
            path = Path(pbatch["im_file"]).resolve()
            name = "_".join(path.relative_to(self._image_root).with_suffix("").parts)  # a/1.jpg is a_1.txt, b/1.jpg b_1
            self.save_one_txt(
                scaled, self.args.save_conf, pbatch["ori_shape"], self.save_dir / "labels" / f"{name}.txt"
            )

    def scale_preds(self, predn: dict[str, torch.Tensor], pbatch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Return the predictions of one image in original pixels, masks (N, H, W)."""
        scaled: dict[str, torch.Tensor] = super().scale_preds(predn, pbatch)
        shape, ratio_pad = pbatch["ori_shape"], pbatch["ratio_pad"]
        if "masks" in predn:
            scaled["masks"] = ops.scale_masks(predn["masks"][None], shape, ratio_pad=ratio_pad)[0].byte()
        if "keypoints" in predn:
            points = predn["keypoints"].clone()
            absent = ~points.flatten(1).any(1)
            scaled["keypoints"] = ops.scale_coords(pbatch["imgsz"], points, shape, ratio_pad=ratio_pad)
            scaled["keypoints"][absent] = 0  # classes without keypoints
        return scaled

    def save_one_txt(self, predn: dict[str, torch.Tensor], save_conf: bool, shape: tuple[int, int], file: Path) -> None:
        """Append the predictions of one image, in original pixels, to a label file in this package's grammar."""
        Results(
            np.zeros(tuple(shape[:2]), dtype=np.uint8),
            path=None,
            names=self.names,
            boxes=torch.cat([predn["bboxes"], predn["conf"][:, None], predn["cls"][:, None]], dim=1),
            masks=predn.get("masks"),
            keypoints=predn.get("keypoints"),
        ).save_txt(file, save_conf=save_conf)

    def pred_to_json(self, predn: dict[str, torch.Tensor], pbatch: dict[str, Any]) -> None:
        """Add one COCO entry per prediction: `bbox`, with masks `segmentation` (RLE), with pose `keypoints` (3 K)."""
        super().pred_to_json(predn, pbatch)
        entries = self.jdict[len(self.jdict) - len(predn["cls"]) :]
        if "masks" in predn:
            for entry, mask in zip(entries, predn["masks"].cpu().numpy(), strict=True):
                entry["segmentation"] = encode_rle(mask)
        if "keypoints" in predn:
            points = predn["keypoints"]
            if points.shape[2] == 2:
                points = torch.cat((points, torch.ones_like(points[..., :1])), 2)
            there = self._has_keypoints(predn["cls"]).tolist()
            for entry, has, values in zip(entries, there, points.flatten(1).tolist(), strict=True):
                if has:
                    entry["keypoints"] = [round(v, 3) for v in values]

    def eval_json(self, stats: dict[str, Any]) -> dict[str, Any]:
        """Add the reference evaluation, `metrics/COCO-AP(B)` and so on, where the data YAML names `annotations`.

        `annotations: {val: {instances: path, keypoints: path}}`, relative to the data's `path`; COCO has its own names.
        """
        files = dict((self.data.get("annotations") or {}).get(self.args.split) or {})
        if self.is_coco:
            files = {
                "instances": "annotations/instances_val2017.json",
                "keypoints": "annotations/person_keypoints_val2017.json",
                **files,
            }
        if files:
            paths = {k: Path(self.data["path"]) / v for k, v in files.items()}
            images = self.dataloader.dataset.im_files
            stats.update(coco.evaluate(self.jdict, paths, self.tasks, images, self.sigmas))
        return stats


def _labelled(task: str, batch: Mapping[str, Any]) -> torch.Tensor:
    """Return which instances of a batch are labelled for a task, bool (N,)."""
    flag = SPECS[task].flag
    return torch.ones_like(batch["cls"][:, 0], dtype=torch.bool) if flag is None else batch[flag].bool()


def _table_row(name: str, images: int, instances: int, values: Any) -> str:
    """Return one row of the table, in the columns of `get_desc`."""
    numbers = "".join(f"{'-' if np.isnan(v) else format(v, '.3g'):>11}" for v in values)
    return f"{name:>22}{images:>11}{instances:>11}{numbers}"
