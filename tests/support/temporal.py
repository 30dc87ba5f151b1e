"""Small models that see windows of frames, and batches of windows."""

from __future__ import annotations

from typing import Any

import torch
from ultralytics.utils import IterableSimpleNamespace

from yolo_multitask.args import full_cfg
from yolo_multitask.nn.network import load_model_yaml
from yolo_multitask.nn.temporal import TemporalModel


def tiny_temporal_yaml(frames: int = 3, **keys: Any) -> dict[str, Any]:
    """Return the YAML of `multitask.yaml` with half the channels of scale n; `keys` go before its own."""
    config = load_model_yaml("multitask.yaml") | {"frames": frames} | keys
    config["scales"] = {"n": [0.33, 0.125, 1024]}
    return config


def tiny_temporal(frames: int = 3, yaml: dict[str, Any] | None = None, **kwargs: Any) -> TemporalModel:
    """Build a small model with training arguments attached."""
    model = TemporalModel(tiny_temporal_yaml(frames, **(yaml or {})), verbose=False, **kwargs)
    model.args = IterableSimpleNamespace(**full_cfg())
    return model


def make_windows(
    size: int = 64, frames: int = 3, channels: int = 1, nc: int = 1, seed: int = 0, dtype: Any = torch.float32
) -> dict[str, Any]:
    """Return a batch of two windows.

    The first has an object in each frame, a second one in the newest, and a player; all of the second is labelled but
    empty, except for a player in it.
    """
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(frames + 1, 2, generator=generator, dtype=dtype) * 0.8 + 0.1
    keypoints = torch.rand(2, 17, 3, generator=generator, dtype=dtype)
    keypoints[..., 2] = 2
    return {
        "img": torch.rand(2, frames * channels, size, size, generator=generator, dtype=dtype),
        "points": points,
        "points_idx": torch.zeros(frames + 1, dtype=torch.long),
        "points_group": torch.tensor([*range(frames), frames - 1]),
        "points_cls": torch.tensor([0] * frames + [nc - 1]),
        "points_visible": torch.ones(frames + 1, dtype=torch.long),
        "points_next": (points + 0.05).clamp(0, 1),
        "points_has_next": torch.tensor([True] * (frames - 1) + [False, True]),
        "points_boxes": torch.cat((points, torch.full_like(points, 0.3)), 1),
        "points_labelled": torch.ones(2, frames, dtype=torch.bool),
        "batch_idx": torch.tensor([0.0, 1.0]),
        "cls": torch.zeros(2, 1),
        "bboxes": torch.tensor([[0.5, 0.5, 0.6, 0.5], [0.4, 0.5, 0.5, 0.5]], dtype=dtype),
        "keypoints": keypoints,
        "has_keypoints": torch.ones(2, dtype=torch.bool),
        "ignore": torch.zeros(0, 4),
        "ignore_idx": torch.zeros(0),
    }
