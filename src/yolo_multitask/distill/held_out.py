"""Pictures to measure on where there are no labels: what the teachers say of them is taken for the truth."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ultralytics.utils import TQDM, YAML
from ultralytics.utils.ops import masks2segments

from yolo_multitask.data.instances import Instance, Labels
from yolo_multitask.data.labels import write_labels
from yolo_multitask.data.spec import LabelSpec
from yolo_multitask.distill.dataset import planes
from yolo_multitask.distill.labelling import Labeller
from yolo_multitask.distill.lessons import Lesson
from yolo_multitask.distill.views import View, view_of
from yolo_multitask.runtime.frames import read_image

CONF = 0.25  # from which what a teacher sees is taken for an object
VISIBLE = 0.5  # probability from which a keypoint is


def write_held_out(
    labeller: Labeller, files: Sequence[Path], folder: Path, size: int, extra: Mapping[str, Any], device: Any
) -> Path:
    """Write a data set of pictures with the teachers' labels; return its data YAML.

    Args:
        labeller: The teachers.
        files: The pictures.
        folder: Where to write it.
        size: Side of the network input in pixels.
        extra: Further keys of the YAML, such as `kpt_names`.
        device: Of the teachers.

    Raises:
        ValueError: If they see nothing in any of the pictures.
    """
    posed = labeller.kpt_shape[0] > 0
    spec = LabelSpec(nc=len(labeller.names), kpt_shape=labeller.kpt_shape if posed else None,
                     polygons=any("segment" in t.tasks for t in labeller.teachers))  # fmt: skip
    found = 0
    for number, file in enumerate(TQDM(files, desc="Labelling held-out images")):
        picture = read_image(file)
        view = view_of(file, 0, picture.shape[:2], size)
        image = planes(view.show(picture))[None].to(device).float() / 255
        labels = as_labels(labeller(image)[0], view, picture.shape[:2], spec)
        target = folder / "images" / f"{number:05d}{file.suffix.lower()}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
        write_labels(folder / "labels" / f"{number:05d}.txt", labels, spec)
        found += len(labels.cls)
    if not found:
        raise ValueError(
            f"source: expected pictures of what the teachers know, but in {len(files)} held-out ones they see nothing; "
            "learn from other pictures."
        )
    content = {
        "path": str(folder.resolve()), "train": "images", "val": "images", "names": dict(labeller.names),
        "labels": {"keypoints": posed, "polygons": spec.polygons}, **extra,
    }  # fmt: skip
    if posed:
        content |= {
            "kpt_shape": list(labeller.kpt_shape),
            "kpt_classes": [labeller.names[c] for c in labeller.kpt_classes],
        }
    YAML.save(folder / "data.yaml", content)
    return folder / "data.yaml"


def as_labels(lesson: Lesson, view: View, shape: tuple[int, int], spec: LabelSpec) -> Labels:
    """Return the instances of a lesson of a whole picture as labels.

    Args:
        lesson: What the teachers say.
        view: Of the picture, not mirrored.
        shape: Height and width of the picture.
        spec: What a label holds.
    """
    limits = np.array([shape[1], shape[0]], np.float32)
    boxes = view.back(lesson.instance_boxes).reshape(-1, 2, 2).clip(0, limits) / limits
    masks = lesson.masks((view.size // 4, view.size // 4))
    instances = []
    for i in np.flatnonzero(lesson.instance_score >= CONF):
        low, high = boxes[i]
        if (high - low).min() <= 0:
            continue
        keypoints = (
            _keypoints(lesson.keypoints[i], view, limits) if spec.kpt_shape and lesson.has_keypoints[i] else None
        )
        polygon = _polygon(masks[i], view, limits) if spec.polygons and lesson.has_mask[i] else None
        box = np.concatenate(((low + high) / 2, high - low)).astype(np.float32)
        instances.append(Instance(cls=int(lesson.instance_class[i]), box=box, keypoints=keypoints, polygon=polygon))
    return Labels.from_instances(instances, spec)


def _points(points: NDArray[Any], view: View, limits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return points of the input as shares of the picture."""
    gain, shift = view.matrix[0, 0], view.matrix[:, 2]
    return (((points - shift) / gain) / limits).astype(np.float32)


def _keypoints(values: NDArray[np.float32], view: View, limits: NDArray[np.float32]) -> NDArray[np.float32]:
    out = np.zeros((len(values), 3), np.float32)
    out[:, :2] = _points(values[:, :2], view, limits)
    inside = ((out[:, :2] >= 0) & (out[:, :2] <= 1)).all(1)
    out[:, 2] = 2 * (inside & (values[:, 2] >= VISIBLE if values.shape[1] == 3 else True))
    out[out[:, 2] == 0] = 0
    return out


def _polygon(mask: NDArray[np.float32], view: View, limits: NDArray[np.float32]) -> NDArray[np.float32] | None:
    (segment,) = masks2segments(torch.from_numpy(mask[None] > 0.5).byte())
    if len(segment) < 3:
        return None
    points = _points((segment + 0.5) * 4, view, limits).clip(0, 1)
    return points if len(np.unique(points, axis=0)) > 2 else None
