"""Augmented samples as tensors, and samples as a batch.

Shapes: N instances, M ignore regions, K keypoints.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ultralytics.data.augment import Format
from ultralytics.data.utils import polygons2masks, polygons2masks_overlap
from ultralytics.utils.instance import Instances

from yolo_multitask.data.columns import (
    CLS,
    HAS_KEYPOINTS,
    HAS_MASK,
    ID,
    IGNORE,
    IMAGE,
    INSTANCE,
    MOTION,
    NO_ID,
    SCENE,
)

_FLAGS = {"has_keypoints": HAS_KEYPOINTS, "has_mask": HAS_MASK}  # bool batch keys by column
_NUMBERS = {"ids": ID, "instance": INSTANCE, "image": IMAGE, "scene": SCENE}  # int64 batch keys by column
_COLLATED = (*_FLAGS, *_NUMBERS, "has_id", "motion", "ignore")


class MultiTaskFormat(Format):
    """Turn an augmented sample into tensors and split the extras off the class column.

    Gives the host's keys ``img, cls (N, 1), bboxes (N, 4), batch_idx (N,)``, ``masks`` where the data has polygons and
    ``keypoints (N, K, 3)`` where it has keypoints, plus ``has_keypoints, has_mask, has_id (N,)`` bool, ``ids (N,)``
    int64 (-1 unknown), ``instance, image, scene (N,)`` int64, ``motion (N, 4)`` float32 (NaN unknown; see
    `yolo_multitask.data.columns`) and ``ignore (M, 4)``. Coordinates are normalised, boxes xywh. Ignore regions are in
    ``ignore`` only. All of it has the same keys and types for an empty image.

    With ``mask_overlap`` instances are sorted as the host does (by mask area, largest first; an empty mask sorts
    first), the ones without a labelled polygon after them, and ``masks`` is (1, H', W') where i + 1 marks instance i.
    Without it, the order stays and ``masks`` is (N, H', W'), empty for an instance without a labelled polygon.
    ``sem_masks`` of the host's Format is left out.
    """

    def apply_instances(self, labels: dict[str, Any], params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Format all instance fields.

        Raises:
            ValueError: ``mask_ratio`` is larger than the image.
        """
        assert params is not None
        w, h, cls, instances = params["w"], params["h"], params["cls"], params["instances"]
        region = cls[:, IGNORE] > 0
        labels["ignore"] = _region_boxes(instances[region], w, h)
        cls, instances = cls[~region], instances[~region]
        labels.pop("group", None)  # was for the choice of images to mix
        if "unlabelled" in labels:
            labels["unlabelled"] = torch.from_numpy(labels["unlabelled"])
        if self.return_mask:
            masks, order = self._rasterise(instances.segments, cls[:, HAS_MASK] > 0, w, h)
            labels["masks"] = torch.from_numpy(masks)
            cls, instances = cls[order], instances[order]
        labels["cls"] = _float_tensor(cls[:, CLS : CLS + 1])
        labels["bboxes"] = _float_tensor(instances.bboxes)
        labels.update({key: torch.from_numpy(cls[:, column] > 0) for key, column in _FLAGS.items()})
        labels.update({key: torch.from_numpy(cls[:, column].astype(np.int64)) for key, column in _NUMBERS.items()})
        labels["has_id"] = labels["ids"] != NO_ID
        labels["motion"] = _float_tensor(cls[:, MOTION])
        if self.return_keypoint:
            keypoints = _float_tensor(instances.keypoints)
            keypoints[~labels["has_keypoints"]] = 0.0
            if self.normalize:
                keypoints[..., 0] /= w
                keypoints[..., 1] /= h
            labels["keypoints"] = keypoints
        if self.normalize:
            labels["bboxes"][:, [0, 2]] /= w
            labels["bboxes"][:, [1, 3]] /= h
        if self.batch_idx:
            labels["batch_idx"] = torch.zeros(len(cls))
        return labels

    def _rasterise(
        self, polygons: NDArray[np.float32], labelled: NDArray[np.bool_], w: int, h: int
    ) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Draw the labelled polygons.

        Args:
            polygons: (N, P, 2) pixels.
            labelled: bool (N,).
            w: Image width in pixels.
            h: Image height in pixels.

        Returns:
            The masks, and int64 (N,) the order in which to take the instances so that they match.
        """
        ratio = self.mask_ratio
        if ratio > min(h, w):
            raise ValueError(f"mask_ratio={ratio}: expected at most {min(h, w)}, the shorter side of the {w}x{h} image")
        drawn, rest = np.flatnonzero(labelled), np.flatnonzero(~labelled)
        if self.mask_overlap:
            if not len(drawn):
                return np.zeros((1, h // ratio, w // ratio), np.uint8), rest
            masks, by_area = polygons2masks_overlap((h, w), polygons[drawn], downsample_ratio=ratio)
            return masks[None], np.concatenate((drawn[by_area], rest))
        masks = np.zeros((len(labelled), h // ratio, w // ratio), np.uint8)
        if len(drawn):
            masks[drawn] = polygons2masks((h, w), polygons[drawn], color=1, downsample_ratio=ratio)
        return masks, np.arange(len(labelled))


def collate_extras(batch: dict[str, Any]) -> dict[str, Any]:
    """Concatenate this package's keys of a batch that the host has collated, and add ``ignore_idx``.

    Args:
        batch: Holds what `MultiTaskFormat` adds to the host's keys as one tensor per image.

    Returns:
        The same dict with ``has_keypoints, has_mask, has_id, ids, instance, image, scene`` (N,), ``motion`` (N, 4),
        ``ignore`` (M, 4) normalised xywh and ``ignore_idx`` (M,) float, the image of each ignore region. Where images
        differ in which classes are labelled, ``unlabelled`` (B, C) bool says which are not.
    """
    counts = torch.tensor([len(x) for x in batch["ignore"]])
    batch["ignore_idx"] = torch.repeat_interleave(torch.arange(len(counts)), counts).float()
    for key in _COLLATED:
        batch[key] = torch.cat(batch[key], 0)
    if "unlabelled" in batch:
        batch["unlabelled"] = torch.stack(batch["unlabelled"])
    return batch


def _region_boxes(instances: Instances, w: int, h: int) -> torch.Tensor:
    """Return ignore regions as float32 (M, 4) normalised xywh, clipped to the image; those outside are left out."""
    instances.convert_bbox("xyxy")
    boxes = instances.bboxes.astype(np.float32) / np.array([w, h, w, h], np.float32)
    boxes = boxes.clip(0, 1)
    boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(1)]
    return torch.from_numpy(np.concatenate(((boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]), 1))


def _float_tensor(values: NDArray[Any]) -> torch.Tensor:
    """Return a float32 tensor that shares nothing with `values`."""
    return torch.from_numpy(np.array(values, dtype=np.float32))
