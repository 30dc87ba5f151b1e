"""From the outputs of a file to detections.

N detections, A anchors, M rows of an NMS in the file; h w the network input, H W the original image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo_multitask.runtime.detections import Detections
from yolo_multitask.runtime.letterbox import Scale
from yolo_multitask.runtime.masks import assemble
from yolo_multitask.runtime.metadata import Metadata
from yolo_multitask.runtime.nms import suppress
from yolo_multitask.tasks import RowLayout

Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Settings:
    """What of an image is kept.

    Attributes:
        conf: Detections have a higher score.
        iou: A box that overlaps a better one of its class by more is dropped; not used where the NMS is in the file.
        max_det: Most detections of an image.
        classes: Classes that are kept, None for all.
        agnostic: Whether boxes of different classes drop each other too; not used where the NMS is in the file.
        retina_masks: Whether masks are of the original image, else of the network input.

    Raises:
        ValueError: A value is out of its range.
    """

    conf: float = 0.25
    iou: float = 0.7
    max_det: int = 300
    classes: Sequence[int] | None = None
    agnostic: bool = False
    retina_masks: bool = True

    def __post_init__(self) -> None:
        for name in ("conf", "iou"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected a number from 0 to 1, found {getattr(self, name)!r}.")
        if self.max_det < 1:
            raise ValueError(f"max_det: expected 1 or more, found {self.max_det!r}.")


def select(output: NDArray[Any], layout: RowLayout, settings: Settings) -> Rows:
    """Return rows (N, 6 + extra) after NMS, as `RowLayout` says, of an output (4 + nc + extra, A) without."""
    scores_CA = output[4 : 4 + layout.nc]
    anchors = np.flatnonzero(scores_CA.max(0) > settings.conf)
    found = output[:, anchors].T.astype(np.float32)
    scores = found[:, 4 : 4 + layout.nc]
    cls = scores.argmax(1)
    if settings.classes is not None:
        chosen = np.isin(cls, settings.classes)
        found, scores, cls = found[chosen], scores[chosen], cls[chosen]
    score = np.take_along_axis(scores, cls[:, None], 1)
    centre, half = found[:, :2], found[:, 2:4] / 2
    boxes: Rows = np.concatenate((centre - half, centre + half), 1)
    kept = suppress(boxes, score[:, 0], None if settings.agnostic else cls, settings.iou, settings.max_det)
    columns = boxes, score, cls[:, None].astype(np.float32), found[:, 4 + layout.nc :]
    return np.concatenate([column[kept] for column in columns], 1)


def keep(output: NDArray[Any], settings: Settings) -> tuple[Rows, NDArray[np.int64]]:
    """Return the rows (N, 6 + extra) of an output (M, 6 + extra) with NMS that are kept, and which they are (N,)."""
    chosen = output[:, 4] > settings.conf
    if settings.classes is not None:
        chosen &= np.isin(output[:, 5], settings.classes)
    index = np.flatnonzero(chosen)[: settings.max_det]
    return output[index].astype(np.float32), index


def decode(
    outputs: Sequence[NDArray[Any]],
    metadata: Metadata,
    settings: Settings,
    image: NDArray[np.uint8],
    shape: tuple[int, int],
) -> Detections:
    """Return what the outputs of a file say of one image.

    Args:
        outputs: `output0` and, with masks, `output1`, each of one image.
        metadata: That of the file.
        settings: What is kept.
        image: The original image (H, W, C).
        shape: Height and width (h, w) of the network input.
    """
    layout, scale = metadata.layout, Scale(shape, (image.shape[0], image.shape[1]))
    if metadata.nms:
        rows, index = keep(outputs[0][0], settings)
    else:
        rows = select(outputs[0][0], layout, settings)
    xyxy, cls = scale.boxes(rows[:, :4]), rows[:, 5].astype(np.int64)
    masks = keypoints = None
    if layout.nm:
        boxes = xyxy if settings.retina_masks else rows[:, :4]
        maps, weights = (outputs[1][0][index], None) if metadata.masks else (outputs[1][0], rows[:, layout.mask])
        masks = assemble(maps, weights, boxes, scale, native=settings.retina_masks)
    if metadata.kpt_shape:
        keypoints = scale.points(rows[:, layout.kpt].reshape(-1, *metadata.kpt_shape))
        if metadata.kpt_classes is not None:
            keypoints[~np.isin(cls, metadata.kpt_classes)] = 0
    return Detections(
        image=image,
        names=metadata.names,
        xyxy=xyxy,
        score=rows[:, 4],
        cls=cls,
        keypoints=keypoints,
        masks=masks,
        embeddings=rows[:, layout.embed] if layout.ne else None,
        next_boxes=scale.boxes(rows[:, layout.next], clip=False) if layout.nb else None,
    )
