"""Mask coefficients and prototypes, as in YOLACT (https://arxiv.org/abs/1904.02689) and Ultralytics' `Segment` and, for
YOLO26, `Segment26`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from ultralytics.nn.modules.block import Proto, Proto26
from ultralytics.nn.modules.head import Segment, Segment26

from yolo_multitask.nn.branches.base import ConvBranch, run_levels
from yolo_multitask.nn.proto import FusedProto, FusedProto26
from yolo_multitask.nn.sites import Sites


class SegmentBranch(ConvBranch):
    """Instance masks as a product of per-anchor coefficients and per-image prototypes.

    Raw outputs: `mask_coefficient` (B, nm, A) and `proto` (B, nm, H/4, W/4).
    """

    task = "segment"
    stock = Segment
    detached = ("proto", "semantic")
    fused: type[nn.Module] = FusedProto

    def __init__(self, ch: tuple[int, ...], nm: int = 32, npr: int = 256) -> None:
        """Build the branch for feature maps of `ch` channels, with `nm` masks from prototypes `npr` channels wide."""
        super().__init__(nm, ch)
        self.proto = Proto(ch[0], npr, nm)

    @property
    def row(self) -> dict[str, int]:
        """See `Branch.row`."""
        return {"nm": self.columns}

    def shared(self, feats: list[torch.Tensor], taps: Sequence[torch.Tensor] = ()) -> dict[str, torch.Tensor]:
        """Return `proto`."""
        return {"proto": self.whole_prototypes(feats)}

    def forward(self, feats: list[torch.Tensor], one2one: bool = False) -> dict[str, torch.Tensor]:
        """Return `mask_coefficient`."""
        return {"mask_coefficient": run_levels(self.layers("convs", one2one), feats)}

    def at(
        self, sites: Sites, boxes: torch.Tensor, taps: Sequence[torch.Tensor] = (), one2one: bool = False
    ) -> dict[str, torch.Tensor]:
        """Return `mask_coefficient` (1, nm, N); see `Branch.at`. The prototypes are those of `prototypes`."""
        return {"mask_coefficient": sites.run(self.layers("convs", one2one))}

    def source(self, feats: Sequence[torch.Tensor]) -> Any:
        """Return of the feature maps what the prototypes are computed from."""
        return feats[0]

    def whole_prototypes(self, feats: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the prototypes (B, nm, H/4, W/4) everywhere; `feats` are the feature maps of all levels."""
        return self.proto(self.source(feats))  # type: ignore[no-any-return]

    def prototypes(self, feats: Sequence[torch.Tensor], boxes_N4: torch.Tensor, image_N: torch.Tensor) -> torch.Tensor:
        """Return the prototypes (B, nm, H/4, W/4) where boxes are; elsewhere they may be zero.

        Args:
            feats: Feature maps of all levels, the first (B, C, H/8, W/8).
            boxes_N4: x1 y1 x2 y2 in cells of the first.
            image_N: Image of each box.
        """
        if not len(boxes_N4):
            batch, _, height, width = feats[0].shape
            return feats[0].new_zeros(batch, self.columns, 2 * height, 2 * width)
        if isinstance(self.proto, (FusedProto, FusedProto26)):
            return self.proto.inside(self.source(feats), boxes_N4, image_N)
        return self.whole_prototypes(feats)

    def fuse(self) -> None:
        """Make the prototypes cheaper, for inference alone; to be called when convolutions are fused with BatchNorm."""
        if isinstance(self.proto, Proto):
            self.proto = self.fused(self.proto)

    def decode(
        self, raw: dict[str, torch.Tensor], boxes: torch.Tensor, anchors: torch.Tensor, strides: torch.Tensor
    ) -> torch.Tensor:
        """Return the coefficients as they are."""
        return raw["mask_coefficient"]

    def stock_state(self, head: nn.Module) -> dict[str, torch.Tensor]:
        """Return coefficients and prototypes of a host `Segment` head."""
        proto = {f"proto.{k}": v for k, v in head.proto.state_dict().items()}  # type: ignore[operator, union-attr]
        return {**super().stock_state(head), **proto}


class SegmentBranch26(SegmentBranch):
    """Masks of YOLO26: prototypes from all levels, which in training also tell the classes of pixels apart.

    Raw outputs: `mask_coefficient` (B, nm, A), `proto` (B, nm, H/4, W/4) and, in training, `semantic`
    (B, nc, H/8, W/8), class logits of the cells of the first level.
    """

    stock = Segment26
    fused = FusedProto26
    class_layers = ("proto.semseg.2.weight", "proto.semseg.2.bias")

    def __init__(self, ch: tuple[int, ...], nm: int = 32, npr: int = 256, nc: int = 80) -> None:
        """Build the branch for `nc` classes; see `SegmentBranch`."""
        super().__init__(ch, nm, npr)
        self.proto = Proto26(ch, npr, nm, nc)

    def shared(self, feats: list[torch.Tensor], taps: Sequence[torch.Tensor] = ()) -> dict[str, torch.Tensor]:
        """Return `proto`, in training also `semantic`."""
        out = self.proto(feats)
        return dict(zip(("proto", "semantic"), out, strict=True)) if isinstance(out, tuple) else {"proto": out}

    def source(self, feats: Sequence[torch.Tensor]) -> Any:
        """See `SegmentBranch.source`."""
        return feats

    def strip(self, one2one: bool) -> None:
        """See `Branch.strip`."""
        super().strip(one2one)
        self.proto.fuse()
