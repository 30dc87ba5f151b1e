"""The interface of a branch.

Shape suffixes used in `nn`: B batch, C channels, H W map, A anchors of all levels, K keypoints, D keypoint dimensions,
E embedding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.modules.head import Detect

from yolo_multitask.nn.sites import Sites


class Branch(nn.Module):
    """Layers that predict values per anchor for one task.

    Attributes:
        task: Task name, a key of `yolo_multitask.tasks.SPECS`.
        stock: Host head class that has the same layers, None where the host has none.
    """

    task: str
    stock: type[Detect] | None = None

    @property
    def row(self) -> dict[str, int]:
        """How many values the branch adds to a row, by field of `RowLayout`."""
        raise NotImplementedError

    def forward(self, feats: list[torch.Tensor], taps: Sequence[torch.Tensor] = ()) -> dict[str, torch.Tensor]:
        """Return the branch's raw outputs by name, as listed in its `TaskSpec.raw`.

        Args:
            feats: Feature maps of all levels, (B, C, H, W) each.
            taps: Feature maps of the other layers that the head reads.
        """
        raise NotImplementedError

    def at(self, sites: Sites, boxes: torch.Tensor, taps: Sequence[torch.Tensor] = ()) -> dict[str, torch.Tensor]:
        """Return what `decode` reads of the raw outputs at a few anchors alone, as those of one image with N anchors.

        Args:
            sites: The anchors.
            boxes: Their decoded boxes, cx cy w h in input pixels, (1, 4, N).
            taps: See `forward`.
        """
        raise NotImplementedError

    def decode(
        self, raw: dict[str, torch.Tensor], boxes: torch.Tensor, anchors: torch.Tensor, strides: torch.Tensor
    ) -> torch.Tensor:
        """Return the decoded columns, (B, columns, A).

        Args:
            raw: Raw outputs of the head, or of `at`.
            boxes: Decoded boxes of the same anchors, cx cy w h in input pixels, (B, 4, A).
            anchors: Anchor points in grid units, (2, A).
            strides: Pixels per grid unit, (1, A).
        """
        raise NotImplementedError

    def stock_state(self, head: nn.Module) -> dict[str, torch.Tensor]:
        """Return the weights of a host head of type `stock` under this branch's own names."""
        raise NotImplementedError


class ConvBranch(Branch):
    """A branch with a stack of convolutions per level, from the same feature maps as the boxes, as in the host's heads.

    Attributes:
        columns: Values that the branch adds to a row.
        convs: Two 3x3 and one 1x1 convolution per level.
    """

    def __init__(self, columns: int, ch: tuple[int, ...]) -> None:
        """Build the convolutions.

        Args:
            columns: Output channels.
            ch: Channels of each level's feature map.
        """
        super().__init__()
        self.columns = columns
        self.convs = level_convs(columns, ch)

    def rows(self, feats: list[torch.Tensor]) -> torch.Tensor:
        """Return the raw values of all levels, (B, columns, A), from feature maps of (B, C, H, W)."""
        return run_levels(self.convs, feats)

    def stock_state(self, head: nn.Module) -> dict[str, torch.Tensor]:
        """See `Branch.stock_state`."""
        return {f"convs.{k}": v for k, v in head.cv4.state_dict().items()}  # type: ignore[operator, union-attr]


def level_convs(columns: int, ch: tuple[int, ...]) -> nn.ModuleList:
    """Return two 3x3 and one 1x1 convolution per level, as wide as in the host's heads."""
    width = max(ch[0] // 4, columns)
    return nn.ModuleList(
        nn.Sequential(Conv(c, width, 3), Conv(width, width, 3), nn.Conv2d(width, columns, 1)) for c in ch
    )


def run_levels(convs: nn.ModuleList, feats: list[torch.Tensor]) -> torch.Tensor:
    """Return the outputs of all levels, (B, columns, A)."""
    return torch.cat([conv(x).flatten(2) for conv, x in zip(convs, feats, strict=True)], 2)
