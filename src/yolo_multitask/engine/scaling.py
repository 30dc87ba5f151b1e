"""From the network input back to the original image. N detections, K keypoints of D values, h w masks, H W the image.

`pbatch` is what the host's validator prepares of an image: `imgsz` the network input, `ori_shape` the original image,
`ratio_pad` the gains (y, x) and the padding (x, y) of the letterbox.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ultralytics.utils import ops

MASK_STEP = 4  # pixels of the network input for each pixel of a mask that is kept: the prototypes' resolution


def original_boxes(boxes: torch.Tensor, pbatch: Mapping[str, Any], *, clip: bool = True) -> NDArray[np.float32]:
    """Return boxes (N, 4) x1 y1 x2 y2 in original pixels, clipped to the image or not."""
    given = boxes.float().clone() if clip else ops.xyxy2xywh(boxes.float())  # the host does not clip centre and size
    scaled = ops.scale_boxes(pbatch["imgsz"], given, pbatch["ori_shape"], ratio_pad=pbatch["ratio_pad"], xywh=not clip)
    return np.asarray((scaled if clip else ops.xywh2xyxy(scaled)).cpu().numpy(), np.float32)


def original_keypoints(points: torch.Tensor, pbatch: Mapping[str, Any]) -> torch.Tensor:
    """Return keypoints (N, K, D) in original pixels; rows of zeros (classes without keypoints) stay."""
    absent = ~points.flatten(1).any(1)
    scaled = ops.scale_coords(pbatch["imgsz"], points.clone(), pbatch["ori_shape"], ratio_pad=pbatch["ratio_pad"])
    scaled[absent] = 0
    return scaled  # type: ignore[no-any-return]


def visible_masks(masks: torch.Tensor, pbatch: Mapping[str, Any]) -> NDArray[np.uint8]:
    """Return masks (N, h, w) that cover the original image, in a quarter of the resolution of the network input.

    Args:
        masks: Of the network input, in its resolution or a quarter of it.
        pbatch: See the module.
    """
    if masks.shape[1] == pbatch["imgsz"][0]:
        masks = masks[:, ::MASK_STEP, ::MASK_STEP]
    (gain_y, gain_x), (left, top) = pbatch["ratio_pad"]
    height, width = pbatch["ori_shape"][:2]
    rows = slice(round(top / MASK_STEP), round((top + height * gain_y) / MASK_STEP))
    columns = slice(round(left / MASK_STEP), round((left + width * gain_x) / MASK_STEP))
    return np.asarray(masks[:, rows, columns].cpu().numpy(), np.uint8)
