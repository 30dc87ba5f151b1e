"""Keypoints, with the same arithmetic as Ultralytics' `Pose`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from ultralytics.nn.modules.head import Pose

from yolo_multitask.nn.branches.base import ConvBranch
from yolo_multitask.nn.sites import Sites


class PoseBranch(ConvBranch):
    """K keypoints of D values (x, y and, if D is 3, visibility) per anchor.

    Raw output: `kpts` (B, K * D, A).
    """

    task = "pose"
    stock = Pose

    def __init__(self, ch: tuple[int, ...], kpt_shape: tuple[int, int] = (17, 3)) -> None:
        """Build the branch for feature maps of `ch` channels and keypoints of `kpt_shape` (K, D), D in {2, 3}."""
        super().__init__(kpt_shape[0] * kpt_shape[1], ch)
        self.kpt_shape = tuple(kpt_shape)

    @property
    def row(self) -> dict[str, int]:
        """See `Branch.row`."""
        return {"nk": self.columns}

    def forward(self, feats: list[torch.Tensor], taps: Sequence[torch.Tensor] = ()) -> dict[str, torch.Tensor]:
        """Return `kpts`."""
        return {"kpts": self.rows(feats)}

    def at(self, sites: Sites, boxes: torch.Tensor, taps: Sequence[torch.Tensor] = ()) -> dict[str, torch.Tensor]:
        """Return `kpts` (1, K * D, N); see `Branch.at`."""
        return {"kpts": sites.run(self.convs)}

    def decode(
        self, raw: dict[str, torch.Tensor], boxes: torch.Tensor, anchors: torch.Tensor, strides: torch.Tensor
    ) -> torch.Tensor:
        """Return keypoints in input pixels and visibility as a probability, (B, K * D, A)."""
        kpts_BKDA = raw["kpts"].view(raw["kpts"].shape[0], *self.kpt_shape, -1)
        xy = (kpts_BKDA[:, :, :2] * 2.0 + (anchors - 0.5)) * strides
        return torch.cat((xy, kpts_BKDA[:, :, 2:].sigmoid()), 2).flatten(1, 2)
