"""The fields of a result in numpy, whichever class it is of.

N detections, K keypoints of D values, E embedding values, h w the resolution of the masks, H W the original image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FLOATS = ("xyxy", "score", "corners", "keypoints", "embeddings", "next_boxes", "points")
_INTEGERS = ("cls", "ids")


@dataclass(frozen=True, kw_only=True, eq=False)
class Arrays:
    """The detections of one image, index-aligned, in pixels of the original image.

    Attributes:
        xyxy: float32 (N, 4) boxes x1 y1 x2 y2; of oriented boxes the upright ones around them.
        score: float32 (N,), 0..1.
        cls: int64 (N,) classes.
        names: Name of each class.
        orig_shape: Height and width (H, W) of the image.
        ids: int64 (N,) identities, or None where nothing is tracked.
        corners: float32 (N, 4, 2) of oriented boxes, else None.
        masks: uint8 or bool (N, h, w), of the image itself or of the letterboxed network input, or None.
        keypoints: float32 (N, K, D) x y and with D = 3 a confidence, or None.
        embeddings: float32 (N, E), or None.
        next_boxes: float32 (N, 4) boxes in the next frame, or None.
        points: float32 (N, 3) x y of small objects and whether it is interpolated, NaN for others, or None.
    """

    xyxy: NDArray[np.float32]
    score: NDArray[np.float32]
    cls: NDArray[np.int64]
    names: Mapping[int, str]
    orig_shape: tuple[int, int]
    ids: NDArray[np.int64] | None = None
    corners: NDArray[np.float32] | None = None
    masks: NDArray[Any] | None = None
    keypoints: NDArray[np.float32] | None = None
    embeddings: NDArray[np.float32] | None = None
    next_boxes: NDArray[np.float32] | None = None
    points: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        """Return N."""
        return len(self.xyxy)

    @property
    def class_names(self) -> list[str]:
        """The name of each detection's class, N of them."""
        return [self.names[c] for c in self.cls.tolist()]

    @property
    def keypoint_scores(self) -> NDArray[np.float32] | None:
        """Confidence of each keypoint, float32 (N, K), or None where there is none."""
        return self.keypoints[..., 2] if self.keypoints is not None and self.keypoints.shape[2] == 3 else None


def arrays_of(result: Any) -> Arrays:
    """Return the fields of a result in numpy: copies, but for the masks.

    Args:
        result: A `Results` of this package or of Ultralytics, or anything with the fields of `Arrays`, such as
            `runtime.Detections`.

    Raises:
        ValueError: If it has no boxes.
    """
    given = _own_fields(result) if has_arrays(result) else _host_fields(result)
    for kind, names in ((np.float32, _FLOATS), (np.int64, _INTEGERS)):
        given |= {name: np.array(given[name], kind) for name in names if given[name] is not None}
    return Arrays(**given)


def has_arrays(result: Any) -> bool:
    """Return whether a result has the fields of `Arrays`; the host's `Results` has `boxes` instead."""
    return hasattr(result, "xyxy")


def _own_fields(result: Any) -> dict[str, Any]:
    return {field.name: getattr(result, field.name, None) for field in fields(Arrays)}


def _host_fields(result: Any) -> dict[str, Any]:
    found = result.numpy()
    boxes = found.boxes if found.obb is None else found.obb
    if boxes is None:
        raise ValueError("expected a result with boxes, found one without any, as of classification; pass another.")
    parts = {name: getattr(found, name, None) for name in ("masks", "keypoints", "embeddings", "next_boxes", "points")}
    return {
        "xyxy": boxes.xyxy,
        "score": boxes.conf,
        "cls": boxes.cls,
        "names": result.names,
        "orig_shape": result.orig_shape,
        "ids": boxes.id,
        "corners": None if found.obb is None else boxes.xyxyxyxy,
        **{name: None if part is None else part.data for name, part in parts.items()},
    }
