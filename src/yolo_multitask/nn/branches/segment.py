"""Mask coefficients and prototypes, as in YOLACT (https://arxiv.org/abs/1904.02689) and Ultralytics' `Segment`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from ultralytics.nn.modules.block import Proto
from ultralytics.nn.modules.head import Segment

from yolo_multitask.nn.branches.base import ConvBranch
from yolo_multitask.nn.proto import FusedProto
from yolo_multitask.nn.sites import Sites


class SegmentBranch(ConvBranch):
    """Instance masks as a product of per-anchor coefficients and per-image prototypes.

    Raw outputs: `mask_coefficient` (B, nm, A) and `proto` (B, nm, H/4, W/4).
    """

    task = "segment"
    stock = Segment

    def __init__(self, ch: tuple[int, ...], nm: int = 32, npr: int = 256) -> None:
        """Build the branch for feature maps of `ch` channels, with `nm` masks from prototypes `npr` channels wide."""
        super().__init__(nm, ch)
        self.proto = Proto(ch[0], npr, nm)

    @property
    def row(self) -> dict[str, int]:
        """See `Branch.row`."""
        return {"nm": self.columns}

    def forward(self, feats: list[torch.Tensor], taps: Sequence[torch.Tensor] = ()) -> dict[str, torch.Tensor]:
        """Return `mask_coefficient` and `proto`."""
        return {"mask_coefficient": self.rows(feats), "proto": self.proto(feats[0])}

    def at(self, sites: Sites, boxes: torch.Tensor, taps: Sequence[torch.Tensor] = ()) -> dict[str, torch.Tensor]:
        """Return `mask_coefficient` (1, nm, N); see `Branch.at`. The prototypes are those of `prototypes`."""
        return {"mask_coefficient": sites.run(self.convs)}

    def prototypes(self, feat: torch.Tensor, boxes_N4: torch.Tensor, image_N: torch.Tensor) -> torch.Tensor:
        """Return the prototypes (B, nm, H/4, W/4) where boxes are; elsewhere they may be zero.

        Args:
            feat: Feature map of the first level, (B, C, H/8, W/8).
            boxes_N4: x1 y1 x2 y2 in its cells.
            image_N: Image of each box.
        """
        if isinstance(self.proto, FusedProto):
            return self.proto.inside(feat, boxes_N4, image_N)
        if not len(boxes_N4):
            height, width = feat.shape[2:]
            return feat.new_zeros(len(feat), self.columns, 2 * height, 2 * width)
        return self.proto(feat)  # type: ignore[no-any-return]

    def fuse(self) -> None:
        """Make the prototypes cheaper, for inference alone; to be called when convolutions are fused with BatchNorm."""
        if not isinstance(self.proto, FusedProto):
            self.proto = FusedProto(self.proto)

    def decode(
        self, raw: dict[str, torch.Tensor], boxes: torch.Tensor, anchors: torch.Tensor, strides: torch.Tensor
    ) -> torch.Tensor:
        """Return the coefficients as they are."""
        return raw["mask_coefficient"]

    def stock_state(self, head: nn.Module) -> dict[str, torch.Tensor]:
        """Return coefficients and prototypes of a host `Segment` head."""
        proto = {f"proto.{k}": v for k, v in head.proto.state_dict().items()}  # type: ignore[operator, union-attr]
        return {**super().stock_state(head), **proto}
