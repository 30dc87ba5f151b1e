"""Validators without a model or files: targets and predictions are made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from ultralytics.models.yolo.detect import DetectionValidator
from ultralytics.models.yolo.pose import PoseValidator
from ultralytics.models.yolo.segment import SegmentationValidator
from ultralytics.utils import ops
from ultralytics.utils.metrics import ConfusionMatrix

from yolo_multitask.engine.validator import MultiTaskValidator
from yolo_multitask.metrics.pose import oks_sigmas

SIZE = 64  # of the square network input
STOCK = {"detect": DetectionValidator, "segment": SegmentationValidator, "pose": PoseValidator}


def ready_validator(
    save_dir: Path,
    names: dict[int, str],
    tasks: Sequence[str] = ("detect", "segment", "pose"),
    kpt_shape: Sequence[int] = (2, 3),
    kpt_classes: Sequence[int] | None = None,
    **args: Any,
) -> MultiTaskValidator:
    """Return a validator of ours as it is after `init_metrics`."""
    validator = MultiTaskValidator(save_dir=save_dir, args={"tasks": list(tasks), "plots": False, **args})
    validator.kpt_classes = sorted(names) if kpt_classes is None else list(kpt_classes)
    validator.sigmas = oks_sigmas(kpt_shape)
    return _prepare(validator, names, kpt_shape)


def ready_stock(task: str, save_dir: Path, names: dict[int, str], kpt_shape: Sequence[int] = (2, 3)) -> Any:
    """Return a stock validator in the same state."""
    validator = _prepare(STOCK[task](save_dir=save_dir, args={"plots": False}), names, kpt_shape)
    validator.process = ops.process_mask
    validator.sigma = oks_sigmas(kpt_shape)
    validator.is_custom_json = validator.build_gdict = False
    return validator


def _prepare(validator: Any, names: dict[int, str], kpt_shape: Sequence[int]) -> Any:
    validator.device, validator.seen, validator.jdict = torch.device("cpu"), 0, []
    validator.names, validator.nc, validator.training = names, len(names), False
    validator.data = {"kpt_shape": list(kpt_shape)}
    validator.class_map = list(range(1, len(names) + 1))
    validator.metrics.names = names
    validator.confusion_matrix = ConfusionMatrix(names=names)
    return validator


def targets(
    boxes: Sequence[Sequence[float]],
    cls: Sequence[int],
    keypoints: Any = None,
    has_mask: Sequence[bool] | None = None,
    has_keypoints: Sequence[bool] | None = None,
    ignore: Sequence[Sequence[float]] = (),
    name: str = "1.jpg",
) -> dict[str, Any]:
    """Return the batch of one image; boxes x1 y1 x2 y2 in pixels, whose masks fill them where `has_mask`."""
    n = len(boxes)
    xyxy = torch.tensor(boxes, dtype=torch.float32).reshape(n, 4)
    masked = [True] * n if has_mask is None else list(has_mask)
    overlap = torch.zeros(1, SIZE // 4, SIZE // 4)
    for i, mask in enumerate(box_masks(xyxy)):
        if masked[i]:
            overlap[0][mask.bool()] = i + 1
    points = torch.ones(n, 2, 3) if keypoints is None else torch.as_tensor(keypoints, dtype=torch.float32)
    scaled = points.clone()
    scaled[..., :2] /= SIZE
    regions = torch.tensor(list(ignore), dtype=torch.float32).reshape(-1, 4)
    return {
        "img": torch.zeros(1, 3, SIZE, SIZE),
        "im_file": [name],
        "ori_shape": [(SIZE, SIZE)],
        "ratio_pad": [((1.0, 1.0), (0.0, 0.0))],
        "batch_idx": torch.zeros(n),
        "cls": torch.tensor(list(cls), dtype=torch.float32).reshape(n, 1),
        "bboxes": ops.xyxy2xywh(xyxy) / SIZE,
        "masks": overlap,
        "keypoints": scaled,
        "has_mask": torch.tensor(masked, dtype=torch.bool),
        "has_keypoints": torch.tensor([True] * n if has_keypoints is None else list(has_keypoints), dtype=torch.bool),
        "ignore": ops.xyxy2xywh(regions) / SIZE,
        "ignore_idx": torch.zeros(len(regions)),
    }


def predictions(
    boxes: Any, conf: Sequence[float], cls: Sequence[int], masks: Tensor | None = None, keypoints: Any = None
) -> dict[str, Tensor]:
    """Return the predictions of one image, sorted by confidence as after the NMS; masks default to the boxes."""
    xyxy = torch.as_tensor(np.array(boxes, np.float32)).reshape(len(conf), 4)
    order = torch.argsort(torch.tensor(list(conf)), descending=True)
    points = torch.zeros(len(conf), 2, 3) if keypoints is None else torch.as_tensor(keypoints, dtype=torch.float32)
    found = {
        "bboxes": xyxy,
        "conf": torch.tensor(list(conf), dtype=torch.float32),
        "cls": torch.tensor(list(cls), dtype=torch.float32),
        "masks": box_masks(xyxy) if masks is None else masks,
        "keypoints": points,
    }
    return {k: v[order] for k, v in found.items()}


def box_masks(xyxy: Tensor) -> Tensor:
    """Return masks (N, SIZE/4, SIZE/4) uint8 that fill the boxes; corners at multiples of 4 are exact."""
    masks = torch.zeros(len(xyxy), SIZE // 4, SIZE // 4, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, (xyxy / 4).round().int().tolist(), strict=True):
        mask[y1:y2, x1:x2] = 1
    return masks
