"""Small models and batches that the tests share."""

from __future__ import annotations

from typing import Any

import torch
from ultralytics.utils import IterableSimpleNamespace

from yolo_multitask.args import full_cfg
from yolo_multitask.nn.network import MultiTaskModel, load_model_yaml


def tiny_yaml(family: str = "yolov8n", width: float = 0.125) -> dict[str, Any]:
    """Return the YAML of a family with half the channels of its scale n, and every output that a branch can have."""
    config = load_model_yaml(f"{family}-multitask.yaml") | {"next": True, "embed_dim": 16}
    config["scales"] = {"n": [0.33, width, 1024]}
    return config


def tiny_model(family: str = "yolov8n", **kwargs: Any) -> MultiTaskModel:
    """Build a small model with training arguments attached."""
    model = MultiTaskModel(tiny_yaml(family), verbose=False, **kwargs)
    model.args = IterableSimpleNamespace(**full_cfg())
    return model


def randomise(model: torch.nn.Module, seed: int = 0) -> None:
    """Give every weight and BatchNorm statistic a random value, so that no layer is close to the identity."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if not value.is_floating_point():
                continue
            noise = torch.rand(value.shape, generator=generator)
            if "running_var" in key:
                value.copy_(noise + 0.5)
            elif value.ndim > 1 and "dfl" not in key:
                value.copy_((noise - 0.5) * 2 * (3 / value[0].numel()) ** 0.5)
            elif "dfl" not in key:
                value.copy_(noise * 0.4 + (0.8 if "bn.weight" in key else -0.2))


def make_batch(
    size: int = 64, kpt_shape: tuple[int, int] = (17, 3), seed: int = 0, dtype: Any = torch.float32
) -> dict[str, Any]:
    """Return a batch of two images with three labelled instances; keypoints always carry a visibility, as the data
    set's do.
    """
    generator = torch.Generator().manual_seed(seed)
    quarter = size // 4
    masks = torch.zeros(2, quarter, quarter)
    masks[0, 4:12, 3:13] = 1
    masks[0, 2:5, 2:6] = 2
    masks[1, 4:12, 4:12] = 1
    keypoints = torch.rand(3, kpt_shape[0], 3, generator=generator, dtype=dtype)
    keypoints[..., 2] = torch.randint(0, 3, (3, kpt_shape[0]), generator=generator)
    keypoints[:, 0, 2] = 2
    boxes = torch.tensor([[0.5, 0.5, 0.6, 0.5], [0.25, 0.2, 0.25, 0.2], [0.5, 0.5, 0.5, 0.5]], dtype=dtype)
    return {
        "img": torch.rand(2, 3, size, size, generator=generator, dtype=dtype),
        "batch_idx": torch.tensor([0.0, 0.0, 1.0]),
        "cls": torch.zeros(3, 1),
        "bboxes": boxes,
        "masks": masks,
        "keypoints": keypoints,
        "has_mask": torch.ones(3, dtype=torch.bool),
        "has_keypoints": torch.ones(3, dtype=torch.bool),
        "ids": torch.full((3,), -1),
        "has_id": torch.zeros(3, dtype=torch.bool),
        "instance": torch.arange(3),
        "image": torch.tensor([0, 0, 1]),
        "scene": torch.tensor([0, 0, 1]),
        "motion": torch.tensor([[0.2, -0.1, 0.0, 0.1], [-0.3, 0.0, 0.1, 0.0], [0.0, 0.2, 0.0, -0.1]]),
        "ignore": torch.zeros(0, 4),
        "ignore_idx": torch.zeros(0),
    }
