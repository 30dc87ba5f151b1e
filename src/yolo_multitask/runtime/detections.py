"""What a network finds in one image, index-aligned.

N detections, K keypoints of D values, E embedding values, H W the original image, h w the network input.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo_multitask.interop import Interop

PER_DETECTION = ("xyxy", "score", "cls", "keypoints", "masks", "embeddings", "next_boxes", "ids")


@dataclass(frozen=True, kw_only=True, eq=False)
class Detections(Interop):
    """The N detections of one image by falling score, in pixels of that image.

    A field is None where the file does not compute it; without detections it has length 0. An index, a list of them, a
    slice or a mask selects in all fields at once, and gives `Detections` again. The methods of `Interop` hand them on.

    Attributes:
        image: The image, (H, W, 3) BGR as it came.
        names: Class names by index.
        xyxy: Boxes (N, 4) x1 y1 x2 y2, float32, clipped to the image.
        score: Class probabilities (N,), float32.
        cls: Classes (N,), int64.
        keypoints: (N, K, D) x, y and, where D is 3, the probability to be visible; float32. All zero for a class
            without keypoints.
        masks: Bool, (N, H, W); or (N, h, w) of the letterboxed network input, where that was asked for.
        embeddings: Appearance (N, E) of unit length, float32.
        next_boxes: Boxes expected in the next frame, (N, 4), float32; not clipped.
        ids: Identities (N,) from 1, int64; None where nothing is tracked.
        path: File, video or camera that the image is from; empty for an array.
        frame: Number of the image in its sequence, from 1.
    """

    image: NDArray[np.uint8]
    names: Mapping[int, str]
    xyxy: NDArray[np.float32]
    score: NDArray[np.float32]
    cls: NDArray[np.int64]
    keypoints: NDArray[np.float32] | None = None
    masks: NDArray[np.bool_] | None = None
    embeddings: NDArray[np.float32] | None = None
    next_boxes: NDArray[np.float32] | None = None
    ids: NDArray[np.int64] | None = None
    path: str = ""
    frame: int = 1

    def __post_init__(self) -> None:
        """Check that the fields are aligned."""
        lengths = {k: len(v) for k in PER_DETECTION if (v := getattr(self, k)) is not None}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"Detections: expected one entry per detection in every field, found {lengths}.")

    @property
    def orig_shape(self) -> tuple[int, int]:
        """Height and width (H, W) of the image."""
        return self.image.shape[0], self.image.shape[1]

    def __len__(self) -> int:
        """Return N."""
        return len(self.xyxy)

    def __getitem__(self, index: Any) -> Detections:
        """Select detections; a single index gives `Detections` of length 1.

        Raises:
            IndexError: There is no such detection.
        """
        chosen = [index] if isinstance(index, (int, np.integer)) else index
        fields = {k: v[chosen] for k in PER_DETECTION if (v := getattr(self, k)) is not None}
        return replace(self, **fields)
