"""Augmentation of instances that carry more than a class.

The extras ride as columns of ``labels["cls"]`` (see `yolo_multitask.data.columns`). The classes here replace the host's
where it reads more into ``cls`` than a row per instance, where it treats every instance as fully labelled, and where a
column has to follow the picture. `adapt_transforms` puts them into the pipeline that the host builds; no host name is
rebound. They draw no random numbers, unless images differ in which classes are labelled: then a picture is mixed with
such that are labelled alike, as nothing could say where in the mixed one which class is labelled.

Every instance carries a polygon wherever the data has polygons: the corners of its box where none is labelled
(``HAS_MASK`` 0). Such a placeholder moves with the instance and is never drawn into a mask and never copy-pasted.

The columns ``MOTION`` are relative to the instance's box, so scaling and moving leave them as they are. Flips mirror
them, rotation and shear turn them (exactly for a box without a labelled polygon, else the growth is that of the box
around the turned box). They become unknown under perspective, under a spatial Albumentations transform, and where more
than `_MAX_CUT` of a side of the box is cut off, because the displacement of what remains is another one.

Shapes: N instances.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ultralytics.data.augment import (
    Albumentations,
    BaseMixTransform,
    Compose,
    CopyPaste,
    CutMix,
    MixUp,
    Mosaic,
    RandomFlip,
    RandomPerspective,
)
from ultralytics.utils.instance import Instances
from ultralytics.utils.metrics import bbox_ioa

from yolo_multitask.data.columns import (
    CLS,
    HAS_KEYPOINTS,
    HAS_MASK,
    ID,
    IGNORE,
    INSTANCE,
    MOTION,
    MOTION_H,
    MOTION_W,
    MOTION_X,
    MOTION_Y,
    NO_ID,
    NUM_COLUMNS,
)

IMAGE_KEYS = ("source", "group", "unlabelled")  # what a label says of its image where there are several sources
_PASTE_OVERLAP = 0.30  # share of any instance that a pasted one may cover (ultralytics CopyPaste)
_MAX_CUT = 0.10  # share of a side of a box that may be cut off before its displacement counts as unknown


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


class _Alike(BaseMixTransform):
    """Takes as partners only images of which the same classes are labelled."""

    def get_params(self, labels: dict[str, Any]) -> dict[str, Any]:
        """Choose the partners of an image."""
        self._group = labels.get("group")
        params: dict[str, Any] = super().get_params(labels)
        return params

    def get_indexes(self) -> Any:
        """Return the partners that the host chooses, with others in the place of those that do not fit."""
        indexes = super().get_indexes()
        if self._group is None:
            return indexes
        groups, members = self.dataset.group_of, self.dataset.groups[self._group]
        fitting = [i if groups[i] == self._group else random.choice(members) for i in np.atleast_1d(indexes).tolist()]
        return fitting if isinstance(indexes, list) else fitting[0]


class MultiTaskMosaic(_Alike, Mosaic):
    """The host's mosaic, which forgets the displacement of what its border cuts."""

    def _cat_labels(self, mosaic_labels: list[dict[str, Any]]) -> dict[str, Any]:
        """Concatenate the labels of the images, which are in pixels of the mosaic and not clipped yet."""
        size = 2 * self.imgsz
        for labels in mosaic_labels:
            cut = _is_cut(labels["instances"].bboxes, (0, 0, size, size))
            labels["cls"][cut, MOTION] = np.nan
        merged: dict[str, Any] = super()._cat_labels(mosaic_labels)
        return merged | {key: mosaic_labels[0][key] for key in IMAGE_KEYS if key in mosaic_labels[0]}


class MultiTaskMixUp(_Alike, MixUp):
    """The host's mixup, of images that are labelled alike."""


class MultiTaskPerspective(RandomPerspective):
    """The host's random perspective, which turns displacements and keeps every ignore region that is in the picture.

    The host drops an instance of which less than 1% (10% without polygons) remains. For an instance to learn that is
    right; of an ignore region even a small part may show objects, which would then be trained as background.
    """

    def apply_instances(self, labels: dict[str, Any], params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Transform the instances; ignore regions come last where there are any."""
        assert params is not None
        cls, instances = labels["cls"], labels["instances"]
        instances.convert_bbox("xyxy")
        instances.denormalize(*params["orig_shape"][::-1])
        self._turn_motion(cls, instances, params)
        region = cls[:, IGNORE] > 0
        if not region.any():
            return super().apply_instances(labels, params)
        kept = super().apply_instances({"cls": cls[~region], "instances": instances[~region]}, params)
        regions = _become(_RegionPerspective, self).apply_instances(
            {"cls": cls[region], "instances": instances[region]}, params
        )
        labels["cls"] = np.concatenate((kept["cls"], regions["cls"]))
        labels["instances"] = Instances.concatenate([kept["instances"], regions["instances"]])
        return labels

    def _turn_motion(self, cls: NDArray[np.float32], instances: Instances, params: Mapping[str, Any]) -> None:
        """Let the displacements follow the transformation, in place.

        Args:
            cls: (N, C) columns.
            instances: Before the transformation, xyxy pixels.
            params: The transformation: its matrix, and the size of the picture that it gives.
        """
        known = np.flatnonzero(~np.isnan(cls[:, MOTION_X]))
        if self.perspective or not len(known):
            cls[:, MOTION] = np.nan
            return
        linear, shift = params["M"][:2, :2], params["M"][:2, 2]
        corners = instances.bboxes[known][:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
        outlines = instances.segments[known] if len(instances.segments) else corners
        x, y = np.moveaxis(outlines @ linear.T + shift, 2, 0)  # (N, P) each; reducing one array (N, P, 2) is slow
        boxes = np.stack((x.min(1), y.min(1), x.max(1), y.max(1)), 1)
        whole = ~_is_cut(boxes, (0, 0, *params["size"]))
        cls[known[~whole], MOTION] = np.nan
        known, corners, boxes = known[whole], corners[whole], boxes[whole]
        sides, new_sides = corners[:, 2] - corners[:, 0], boxes[:, 2:] - boxes[:, :2]
        shifts = cls[known, MOTION_X : MOTION_Y + 1] * sides
        next_sides = np.exp(cls[known, MOTION_W : MOTION_H + 1]) * sides
        cls[known, MOTION_X : MOTION_Y + 1] = shifts @ linear.T / new_sides
        cls[known, MOTION_W : MOTION_H + 1] = np.log((next_sides @ abs(linear).T) / (sides @ abs(linear).T))


class _RegionPerspective(RandomPerspective):
    """Random perspective that keeps whatever still has an area."""

    @staticmethod
    def box_candidates(
        box1: NDArray[np.float32], box2: NDArray[np.float32], *args: Any, **kwargs: Any
    ) -> NDArray[np.bool_]:
        """Return bool (N,), whether the transformed boxes `box2` (4, N) xyxy pixels have an area."""
        return (box2[2] > box2[0]) & (box2[3] > box2[1])


class MultiTaskCutMix(_Alike, CutMix):
    """The host's CutMix, which brings along every ignore region that reaches into the pasted area, and forgets the
    displacement of what the area cuts.
    """

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
        other["cls"][_is_cut(other["instances"].bboxes, params["area"]), MOTION] = np.nan
        return params


class MultiTaskCopyPaste(_Alike, CopyPaste):
    """The host's copy-paste for instances that may lack a polygon and may carry keypoints and an identity.

    Only instances with a labelled polygon are pasted, ignore regions never. A pasted mirror image (mode ``flip``) gets
    ``flip_idx`` applied to its keypoints (without ``flip_idx`` they become "not labelled"), moves the other way, and
    loses its identity and its instance number. Mode ``mixup`` keeps the identity unless the picture already shows it.
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
            cls[-n:, [ID, INSTANCE]] = NO_ID
            cls[-n:, MOTION_X] *= -1
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


class MultiTaskFlip(RandomFlip):
    """The host's flip, which mirrors displacements too."""

    def apply_instances(self, labels: dict[str, Any], params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Flip the instances where the picture is flipped."""
        assert params is not None
        if params["flip"]:
            labels["cls"][:, MOTION_Y if params["direction"] == "vertical" else MOTION_X] *= -1
        flipped: dict[str, Any] = super().apply_instances(labels, params)
        return flipped


class MultiTaskAlbumentations(Albumentations):
    """The host's Albumentations transform, which keeps one class column per instance; all columns follow here.

    What a spatial transform did is not known, so displacements become unknown wherever the pipeline has one.
    """

    def __call__(self, labels: dict[str, Any]) -> dict[str, Any]:
        """Transform with row numbers in the class column, then take the rows that are left."""
        columns = labels["cls"]
        labels["cls"] = np.arange(len(columns), dtype=np.float32)[:, None]
        labels = super().__call__(labels)
        labels["cls"] = columns[labels["cls"][:, 0].astype(np.int64)]
        if getattr(self, "contains_spatial", False):  # set only where Albumentations is installed
            labels["cls"][:, MOTION] = np.nan
        return labels


def adapt_transforms(transforms: Compose) -> Compose:
    """Replace the host's transforms by this package's, in a pipeline and in the pipelines nested in it.

    Args:
        transforms: What the host's dataset built; a transform that is used twice stays one object.

    Returns:
        The same `Compose`, changed in place.
    """
    own = {
        Mosaic: MultiTaskMosaic,
        RandomPerspective: MultiTaskPerspective,
        MixUp: MultiTaskMixUp,
        CutMix: MultiTaskCutMix,
        CopyPaste: MultiTaskCopyPaste,
        RandomFlip: MultiTaskFlip,
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


def _is_cut(boxes: NDArray[np.float32], area: Sequence[float] | NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return bool (N,), whether more than `_MAX_CUT` of a side of a box is outside an area; one without sides is cut.

    Args:
        boxes: (N, 4) xyxy pixels.
        area: x1 y1 x2 y2 pixels.
    """
    x1, y1, x2, y2 = area
    inside = np.minimum(boxes[:, 2:], (x2, y2)) - np.maximum(boxes[:, :2], (x1, y1))
    sides = boxes[:, 2:] - boxes[:, :2]
    return np.asarray((inside <= (1 - _MAX_CUT) * sides).any(1))


def _stack(labels: Sequence[Mapping[str, Any]], key: str, columns: int) -> NDArray[np.float32]:
    """Concatenate an array of every image, without the rows of ignore regions."""
    rows = [label[key][label["cls"][:, IGNORE] == 0] for label in labels]
    return np.concatenate([np.zeros((0, columns), np.float32), *rows])
