"""Augmentation and formatting of instances that carry more than a class.

The host's transforms know one per-instance array beside boxes, polygons and keypoints: ``labels["cls"]``, (N, 1). In
this package's data sets it is (N, 5) float32, with the columns `CLS, HAS_KEYPOINTS, HAS_MASK, IGNORE, ID`, so whatever
selects, concatenates or reorders instances keeps the extras aligned. The classes here replace the host's where it reads
more into ``cls`` than a row per instance, or treats every instance as fully labelled. `adapt_transforms` puts them into
the pipeline that the host builds; no host name is rebound.

Every instance carries a polygon wherever the data has polygons: the corners of its box where none is labelled
(``HAS_MASK`` 0). Such a placeholder moves with the instance and is never drawn into a mask and never copy-pasted.

Shapes: N instances, M ignore regions, K keypoints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ultralytics.data.augment import (
    Albumentations,
    BaseMixTransform,
    Compose,
    CopyPaste,
    CutMix,
    Format,
    RandomPerspective,
)
from ultralytics.data.utils import polygons2masks, polygons2masks_overlap
from ultralytics.utils.instance import Instances
from ultralytics.utils.metrics import bbox_ioa

CLS, HAS_KEYPOINTS, HAS_MASK, IGNORE, ID = range(5)
NUM_COLUMNS = 5
NO_ID = -1
_PASTE_OVERLAP = 0.30  # share of any instance that a pasted one may cover (ultralytics CopyPaste)
_COLLATED = ("has_keypoints", "has_mask", "ids", "ignore")


def class_column(labels: Sequence[Mapping[str, Any]]) -> NDArray[np.int64]:
    """Return the class of every instance of a data set, ignore regions left out; int64 (N,).

    Args:
        labels: ``dataset.labels``.
    """
    return _stack(labels, "cls", NUM_COLUMNS)[:, CLS].astype(np.int64)


def box_rows(labels: Sequence[Mapping[str, Any]]) -> NDArray[np.float32]:
    """Return the box of every instance of a data set in the order of `class_column`; float32 (N, 4) normalised xywh.

    Args:
        labels: ``dataset.labels``.
    """
    return _stack(labels, "bboxes", 4)


class MultiTaskPerspective(RandomPerspective):
    """The host's random perspective, which keeps every ignore region that is still in the picture.

    The host drops an instance of which less than 1% (10% without polygons) remains. For an instance to learn that is
    right; of an ignore region even a small part may show objects, which would then be trained as background.
    """

    def apply_instances(self, labels: dict[str, Any], params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Transform the instances; ignore regions come last where there are any."""
        cls = labels["cls"]
        region = cls[:, IGNORE] > 0
        if not region.any():
            return super().apply_instances(labels, params)
        instances = labels.pop("instances")
        kept = super().apply_instances({"cls": cls[~region], "instances": instances[~region]}, params)
        regions = _become(_RegionPerspective, self).apply_instances(
            {"cls": cls[region], "instances": instances[region]}, params
        )
        labels["cls"] = np.concatenate((kept["cls"], regions["cls"]))
        labels["instances"] = Instances.concatenate([kept["instances"], regions["instances"]])
        return labels


class _RegionPerspective(RandomPerspective):
    """Random perspective that keeps whatever still has an area."""

    @staticmethod
    def box_candidates(
        box1: NDArray[np.float32], box2: NDArray[np.float32], *args: Any, **kwargs: Any
    ) -> NDArray[np.bool_]:
        """Return bool (N,), whether the transformed boxes `box2` (4, N) xyxy pixels have an area."""
        return (box2[2] > box2[0]) & (box2[3] > box2[1])


class MultiTaskCutMix(CutMix):
    """The host's CutMix, which brings along every ignore region that reaches into the pasted area."""

    def get_params(self, labels: dict[str, Any]) -> dict[str, Any]:
        """Choose the area, and add the second image's ignore regions to the instances that come with it."""
        params = super().get_params(labels)
        if params.get("skip"):
            return params
        other = labels["mix_labels"][0]
        inside = bbox_ioa(params["area"][None], other["instances"].bboxes)[0] > 0
        regions = np.flatnonzero(inside & (other["cls"][:, IGNORE] > 0))
        if len(regions):
            params["indexes2"] = np.union1d(params["indexes2"], regions)
        return params


class MultiTaskCopyPaste(CopyPaste):
    """The host's copy-paste for instances that may lack a polygon and may carry keypoints and an identity.

    Only instances with a labelled polygon are pasted, ignore regions never. A pasted mirror image (mode ``flip``) gets
    ``flip_idx`` applied to its keypoints (without ``flip_idx`` they become "not labelled") and loses its identity. Mode
    ``mixup`` keeps the identity unless the picture already shows it.
    """

    def get_params(self, labels: dict[str, Any]) -> dict[str, Any]:
        """Choose the instances to paste: the host's rule, among those that can be pasted."""
        params = super().get_params(labels)
        source = labels["cls"] if params["labels2_cls"] is None else params["labels2_cls"]
        usable = (source[:, HAS_MASK] > 0) & (source[:, IGNORE] == 0)
        if not usable.all():
            covered = bbox_ioa(params["instances2"].bboxes, params["instances"].bboxes)
            indexes = np.flatnonzero((covered < _PASTE_OVERLAP).all(1) & usable)
            indexes = indexes[np.argsort(covered.max(1)[indexes])]
            params["selected"] = indexes[: round(self.p * len(indexes))]
        return params

    def apply_instances(self, labels: dict[str, Any], params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Append the pasted instances and correct what a copy may not keep."""
        assert params is not None
        labels = super().apply_instances(labels, params)
        n = len(params["selected"])
        if not n:
            return labels
        cls, keypoints = labels["cls"], labels["instances"].keypoints
        if self.mode == "flip":
            cls[-n:, ID] = NO_ID
            flip_idx = self.dataset.data.get("flip_idx")
            if keypoints is not None and flip_idx:
                keypoints[-n:] = keypoints[-n:, flip_idx]
            elif keypoints is not None:
                cls[-n:, HAS_KEYPOINTS] = 0
                keypoints[-n:, :, 2] = 0
            return labels
        seen = set(cls[:-n, ID].tolist())
        for row in cls[-n:]:
            if row[ID] in seen:
                row[ID] = NO_ID
            seen.add(float(row[ID]))
        return labels


class MultiTaskAlbumentations(Albumentations):
    """The host's Albumentations transform, which keeps one class column per instance; all columns follow here."""

    def __call__(self, labels: dict[str, Any]) -> dict[str, Any]:
        """Transform with row numbers in the class column, then take the rows that are left."""
        columns = labels["cls"]
        labels["cls"] = np.arange(len(columns), dtype=np.float32)[:, None]
        labels = super().__call__(labels)
        labels["cls"] = columns[labels["cls"][:, 0].astype(np.int64)]
        return labels


class MultiTaskFormat(Format):
    """Turn an augmented sample into tensors and split the extras off the class column.

    Gives the host's keys ``img, cls (N, 1), bboxes (N, 4), batch_idx (N,)``, ``masks`` where the data has polygons and
    ``keypoints (N, K, 3)`` where it has keypoints, plus ``has_keypoints (N,)`` and ``has_mask (N,)`` bool, ``ids (N,)``
    int64 (-1 unknown) and ``ignore (M, 4)``. Coordinates are normalised, boxes xywh. Ignore regions are in ``ignore``
    only. All of it has the same keys and types for an empty image.

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
        if self.return_mask:
            masks, order = self._rasterise(instances.segments, cls[:, HAS_MASK] > 0, w, h)
            labels["masks"] = torch.from_numpy(masks)
            cls, instances = cls[order], instances[order]
        labels["cls"] = _float_tensor(cls[:, CLS : CLS + 1])
        labels["bboxes"] = _float_tensor(instances.bboxes)
        labels["has_keypoints"] = torch.from_numpy(cls[:, HAS_KEYPOINTS] > 0)
        labels["has_mask"] = torch.from_numpy(cls[:, HAS_MASK] > 0)
        labels["ids"] = torch.from_numpy(cls[:, ID].astype(np.int64))
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
        batch: Holds ``has_keypoints, has_mask, ids, ignore`` as one tensor per image.

    Returns:
        The same dict with ``has_keypoints, has_mask, ids`` (N,), ``ignore`` (M, 4) normalised xywh and ``ignore_idx``
        (M,) float, the image of each ignore region.
    """
    counts = torch.tensor([len(x) for x in batch["ignore"]])
    batch["ignore_idx"] = torch.repeat_interleave(torch.arange(len(counts)), counts).float()
    for key in _COLLATED:
        batch[key] = torch.cat(batch[key], 0)
    return batch


def adapt_transforms(transforms: Compose) -> Compose:
    """Replace the host's transforms by this package's, in a pipeline and in the pipelines nested in it.

    Args:
        transforms: What the host's dataset built; a transform that is used twice stays one object.

    Returns:
        The same `Compose`, changed in place.
    """
    own = {
        RandomPerspective: MultiTaskPerspective,
        CutMix: MultiTaskCutMix,
        CopyPaste: MultiTaskCopyPaste,
        Albumentations: MultiTaskAlbumentations,
    }
    seen: dict[int, tuple[Any, Any]] = {}  # id -> (host's, ours); holding the host's keeps its id from being reused

    def adapt(node: Any) -> Any:
        if node is None:
            return None
        if id(node) not in seen:
            new = _become(own[type(node)], node) if type(node) in own else node
            seen[id(node)] = node, new
            if isinstance(new, Compose):
                new.transforms = [adapt(t) for t in new.transforms]
            elif isinstance(new, BaseMixTransform):
                new.pre_transform = adapt(new.pre_transform)
        return seen[id(node)][1]

    adapted: Compose = adapt(transforms)
    return adapted


def _become(own: type, node: Any) -> Any:
    """Return an object of the class `own` with the attributes of the host's transform `node`."""
    new: Any = object.__new__(own)
    vars(new).update(vars(node))
    return new


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


def _stack(labels: Sequence[Mapping[str, Any]], key: str, columns: int) -> NDArray[np.float32]:
    """Concatenate an array of every image, without the rows of ignore regions."""
    rows = [label[key][label["cls"][:, IGNORE] == 0] for label in labels]
    return np.concatenate([np.zeros((0, columns), np.float32), *rows])
