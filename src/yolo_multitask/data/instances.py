"""The labelled instances of one image, index-aligned (numpy only).

Shapes: N instances, K keypoints, M polygon vertices.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yolo_multitask.data.spec import LabelSpec


@dataclass(kw_only=True, eq=False, slots=True)
class Instance:
    """One label line, checked.

    Attributes:
        cls: Class index.
        box: float32 (4,) normalised cx cy w h.
        keypoints: float32 (K, 3) normalised x y and visibility, or None when not labelled or not in the lines.
        polygon: float32 (M, 2) normalised x y, or None when not labelled or not in the lines.
        id: Identity, -1 when unknown.
        ignore: True for an ignore region.
        conf: Confidence of a prediction, nan when not given.
    """

    cls: int
    box: NDArray[np.float32]
    keypoints: NDArray[np.float32] | None = None
    polygon: NDArray[np.float32] | None = None
    id: int = -1
    ignore: bool = False
    conf: float = math.nan


@dataclass(kw_only=True, eq=False)
class Labels:
    """The N instances of one image, index-aligned.

    Attributes:
        cls: int64 (N,) class indices.
        boxes: float32 (N, 4) normalised cx cy w h.
        keypoints: float32 (N, K, 3) normalised x y and visibility (0 absent), zero where not labelled; None when the
            lines have no keypoint field.
        has_keypoints: bool (N,), whether the keypoints are labelled.
        polygons: N entries, float32 (M, 2) normalised x y or None where not labelled.
        ids: int64 (N,), -1 where unknown.
        ignore: bool (N,), True for ignore regions.
        conf: float32 (N,), nan where not given.

    Raises:
        ValueError: The fields differ in length or have the wrong shape.
    """

    cls: NDArray[np.int64]
    boxes: NDArray[np.float32]
    keypoints: NDArray[np.float32] | None
    has_keypoints: NDArray[np.bool_]
    polygons: list[NDArray[np.float32] | None]
    ids: NDArray[np.int64]
    ignore: NDArray[np.bool_]
    conf: NDArray[np.float32]

    def __post_init__(self) -> None:
        """Check that every field has N entries."""
        n = len(self.cls)
        lengths = {
            k: len(getattr(self, k)) for k in ("boxes", "has_keypoints", "polygons", "ids", "ignore", "conf")
        } | ({} if self.keypoints is None else {"keypoints": len(self.keypoints)})
        wrong = {k: v for k, v in lengths.items() if v != n}
        if wrong:
            raise ValueError(f"Labels: expected {n} entries in every field as in cls, found {wrong}")
        if self.boxes.shape != (n, 4) or (
            self.keypoints is not None and (self.keypoints.ndim != 3 or self.keypoints.shape[2] != 3)
        ):
            shapes = self.boxes.shape, None if self.keypoints is None else self.keypoints.shape
            raise ValueError(f"Labels: expected boxes (N, 4) and keypoints (N, K, 3) or None, found {shapes}")

    def __len__(self) -> int:
        """Return N."""
        return len(self.cls)

    def __getitem__(self, index: int) -> Instance:
        """Return one instance; the arrays are views."""
        labelled = self.keypoints is not None and bool(self.has_keypoints[index])
        return Instance(
            cls=int(self.cls[index]),
            box=self.boxes[index],
            keypoints=self.keypoints[index] if self.keypoints is not None and labelled else None,
            polygon=self.polygons[index],
            id=int(self.ids[index]),
            ignore=bool(self.ignore[index]),
            conf=float(self.conf[index]),
        )

    def __iter__(self) -> Iterator[Instance]:
        """Iterate over the instances."""
        return (self[i] for i in range(len(self)))

    @property
    def has_polygon(self) -> NDArray[np.bool_]:
        """Whether each polygon is labelled, bool (N,)."""
        return np.array([p is not None for p in self.polygons], dtype=bool)

    @classmethod
    def from_instances(cls, instances: Sequence[Instance], spec: LabelSpec) -> Labels:
        """Stack instances; an empty sequence gives arrays of length 0.

        Args:
            instances: What `parse_line` returned.
            spec: Gives K of the keypoint array.
        """
        n = len(instances)
        keypoints = None if spec.kpt_shape is None else np.zeros((n, spec.kpt_shape[0], 3), np.float32)
        if keypoints is not None:
            for i, instance in enumerate(instances):
                if instance.keypoints is not None:
                    keypoints[i] = instance.keypoints
        return cls(
            cls=np.array([i.cls for i in instances], np.int64),
            boxes=np.array([i.box for i in instances], np.float32).reshape(n, 4),
            keypoints=keypoints,
            has_keypoints=np.array([i.keypoints is not None for i in instances], bool),
            polygons=[i.polygon for i in instances],
            ids=np.array([i.id for i in instances], np.int64),
            ignore=np.array([i.ignore for i in instances], bool),
            conf=np.array([i.conf for i in instances], np.float32),
        )
