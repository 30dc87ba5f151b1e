"""Box similarity. M targets, N predictions, R ignore regions; boxes are x1 y1 x2 y2 in any one frame."""

from __future__ import annotations

import torch
from ultralytics.utils.metrics import box_iou


def similarity(targets: torch.Tensor, preds: torch.Tensor) -> torch.Tensor:
    """Return the intersection over union, (M, N) in 0..1, of boxes (M, 4) and (N, 4).

    The host's function, so that box AP equals that of its detection validator.
    """
    return box_iou(targets, preds)  # type: ignore[no-any-return]


def share_inside(boxes: torch.Tensor, regions: torch.Tensor) -> torch.Tensor:
    """Return the largest share, (N,) in 0..1, of each box's area (N, 4) that lies inside a single region of (R, 4).

    Zero without regions. The measure that COCO uses for crowd regions: intersection over the area of the detection.
    """
    if len(regions) == 0 or len(boxes) == 0:
        return boxes.new_zeros(len(boxes))
    low = torch.maximum(boxes[:, None, :2], regions[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:4], regions[None, :, 2:4])
    inside = (high - low).clamp(min=0).prod(2)
    area = (boxes[:, 2:4] - boxes[:, :2]).clamp(min=0).prod(1)
    return (inside / area[:, None].clamp(min=1e-7)).amax(1)
