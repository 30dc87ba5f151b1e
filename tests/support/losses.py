"""Raw outputs and assignments for the loss tests."""

from __future__ import annotations

from typing import Any

import torch

from yolo_multitask.losses.detect import Assignment

STRIDES = (8, 16, 32)


def make_raw(
    size: int = 64,
    batch: int = 2,
    nc: int = 1,
    nk: int = 51,
    nm: int = 4,
    seed: int = 0,
    dtype: Any = torch.float64,
) -> dict[str, Any]:
    """Return random raw outputs that require gradients, for square inputs of `size` pixels."""
    generator = torch.Generator().manual_seed(seed)
    grids = [(size // s, size // s) for s in STRIDES]
    anchors = sum(h * w for h, w in grids)

    def rand(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_()

    return {
        "boxes": rand(batch, 64, anchors),
        "scores": rand(batch, nc, anchors),
        "feats": [torch.zeros(batch, 8, h, w, dtype=dtype) for h, w in grids],
        "kpts": rand(batch, nk, anchors),
        "mask_coefficient": rand(batch, nm, anchors),
        "proto": rand(batch, nm, size // 4, size // 4),
    }


def make_assignment(size: int = 64, dtype: Any = torch.float64) -> Assignment:
    """Assign two anchors of image 0 to its instances 0 and 1, and one of image 1 to its only one."""
    from ultralytics.utils.tal import make_anchors

    feats = [torch.zeros(2, 1, size // s, size // s, dtype=dtype) for s in STRIDES]
    anchors, strides = make_anchors(feats, torch.tensor(STRIDES), 0.5)
    fg = torch.zeros(2, len(anchors), dtype=torch.bool)
    gt = torch.zeros(2, len(anchors), dtype=torch.long)
    instance = torch.zeros_like(gt)
    boxes = torch.zeros(2, len(anchors), 4, dtype=dtype)
    pixel = torch.tensor([[12.8, 16, 51.2, 48], [8, 6.4, 24, 19.2], [16, 16, 48, 48]], dtype=dtype)
    for image, anchor, index, batch_index in ((0, 27, 0, 0), (0, 9, 1, 1), (1, 70, 0, 2)):
        fg[image, anchor] = True
        gt[image, anchor] = index
        instance[image, anchor] = batch_index
        boxes[image, anchor] = pixel[batch_index]
    return Assignment(
        fg_BA=fg,
        gt_BA=gt,
        instance_BA=instance,
        boxes_BA4=boxes,
        anchors_A2=anchors.to(dtype),
        strides_A1=strides.to(dtype),
        imgsz_2=torch.tensor([size, size], dtype=dtype),
    )
