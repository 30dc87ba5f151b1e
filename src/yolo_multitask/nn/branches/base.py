"""The interface of a branch.

Shape suffixes used in `nn`: B batch, C channels, H W map, A anchors of all levels, K keypoints, D keypoint dimensions.
"""

from __future__ import annotations

import torch
from torch import nn
from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.modules.head import Detect


class Branch(nn.Module):
    """Layers that predict `columns` values per anchor for one task, from the same feature maps as the boxes.

    Attributes:
        task: Task name, a key of `yolo_multitask.tasks.SPECS`.
        stock: Host head class that has the same layers.
        columns: Values that the branch adds to a row.
        convs: One stack of two 3x3 and one 1x1 convolution per level, as in the host's heads.
    """

    task: str
    stock: type[Detect]

    def __init__(self, columns: int, ch: tuple[int, ...]) -> None:
        """Build the per-level convolutions.

        Args:
            columns: Output channels.
            ch: Channels of each level's feature map.
        """
        super().__init__()
        self.columns = columns
        width = max(ch[0] // 4, columns)
        self.convs = nn.ModuleList(
            nn.Sequential(Conv(c, width, 3), Conv(width, width, 3), nn.Conv2d(width, columns, 1)) for c in ch
        )

    def rows(self, feats: list[torch.Tensor]) -> torch.Tensor:
        """Return the raw values of all levels, (B, columns, A), from feature maps of (B, C, H, W)."""
        return torch.cat([conv(x).flatten(2) for conv, x in zip(self.convs, feats, strict=True)], 2)

    def forward(self, feats: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the branch's raw outputs by name, as listed in its `TaskSpec.raw`."""
        raise NotImplementedError

    def decode(self, raw: dict[str, torch.Tensor], anchors: torch.Tensor, strides: torch.Tensor) -> torch.Tensor:
        """Return the decoded columns, (B, columns, A).

        Args:
            raw: Raw outputs of the head.
            anchors: Anchor points in grid units, (2, A).
            strides: Pixels per grid unit, (1, A).
        """
        raise NotImplementedError

    def stock_state(self, head: nn.Module) -> dict[str, torch.Tensor]:
        """Return the weights of a host head of type `stock` under this branch's own names."""
        return {f"convs.{k}": v for k, v in head.cv4.state_dict().items()}  # type: ignore[operator, union-attr]
