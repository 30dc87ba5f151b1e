"""Keypoints, with the same arithmetic as Ultralytics' `Pose` and, for YOLO26, `Pose26`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from ultralytics.nn.modules.block import RealNVP
from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.modules.head import Pose, Pose26

from yolo_multitask.nn.branches.base import Branch, ConvBranch, run_levels, stock_layers
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

    def forward(self, feats: list[torch.Tensor], one2one: bool = False) -> dict[str, torch.Tensor]:
        """Return `kpts`."""
        return {"kpts": run_levels(self.layers("convs", one2one), feats)}

    def at(
        self, sites: Sites, boxes: torch.Tensor, taps: Sequence[torch.Tensor] = (), one2one: bool = False
    ) -> dict[str, torch.Tensor]:
        """Return `kpts` (1, K * D, N); see `Branch.at`."""
        return {"kpts": sites.run(self.layers("convs", one2one))}

    def place(self, xy: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
        """Return raw x and y in grid units of the feature map.

        Args:
            xy: Raw values.
            anchors: Anchor points in grid units, broadcast against `xy`.
        """
        return xy * 2.0 + (anchors - 0.5)

    def decode(
        self, raw: dict[str, torch.Tensor], boxes: torch.Tensor, anchors: torch.Tensor, strides: torch.Tensor
    ) -> torch.Tensor:
        """Return keypoints in input pixels and visibility as a probability, (B, K * D, A)."""
        kpts_BKDA = raw["kpts"].view(raw["kpts"].shape[0], *self.kpt_shape, -1)
        xy = self.place(kpts_BKDA[:, :, :2], anchors) * strides
        return torch.cat((xy, kpts_BKDA[:, :, 2:].sigmoid()), 2).flatten(1, 2)


class PoseBranch26(PoseBranch):
    """Keypoints of YOLO26: as shifts from the anchor, and how far they may be off.

    In training alone it also says how sure it is of each coordinate; the flow model gives the shape of the errors
    (residual log-likelihood estimation, https://arxiv.org/abs/2107.11291).

    Raw outputs: `kpts` (B, K * D, A), and in training `kpts_sigma` (B, K * 2, A).
    """

    stock = Pose26
    doubled = ("convs", "kpts", "sigma")
    training_only = ("flow_model", "sigma", "one2one_sigma")

    def __init__(self, ch: tuple[int, ...], kpt_shape: tuple[int, int] = (17, 3)) -> None:
        """Build the branch; see `PoseBranch`."""
        Branch.__init__(self)
        count, values = self.kpt_shape = tuple(kpt_shape)
        self.columns = count * values
        width = max(ch[0] // 4, count * (values + 2))
        self.convs = nn.ModuleList(nn.Sequential(Conv(c, width, 3), Conv(width, width, 3)) for c in ch)
        self.kpts = nn.ModuleList(nn.Conv2d(width, self.columns, 1) for _ in ch)
        self.sigma = nn.ModuleList(nn.Conv2d(width, count * 2, 1) for _ in ch)
        self.flow_model = RealNVP()

    def forward(self, feats: list[torch.Tensor], one2one: bool = False) -> dict[str, torch.Tensor]:
        """Return `kpts`, in training also `kpts_sigma`."""
        hidden = [conv(x) for conv, x in zip(self.layers("convs", one2one), feats, strict=True)]
        raw = {"kpts": run_levels(self.layers("kpts", one2one), hidden)}
        if self.training:
            raw["kpts_sigma"] = run_levels(self.layers("sigma", one2one), hidden)
        return raw

    def at(
        self, sites: Sites, boxes: torch.Tensor, taps: Sequence[torch.Tensor] = (), one2one: bool = False
    ) -> dict[str, torch.Tensor]:
        """Return `kpts` (1, K * D, N); see `Branch.at`."""
        convs, last = self.layers("convs", one2one), self.layers("kpts", one2one)
        return {"kpts": sites.run([nn.Sequential(*pair) for pair in zip(convs, last, strict=True)])}

    def place(self, xy: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
        """See `PoseBranch.place`."""
        return xy + anchors

    def stock_state(self, head: nn.Module) -> dict[str, torch.Tensor]:
        """Return keypoints, sigma and flow model of a host `Pose26` head."""
        flow = getattr(head, "flow_model", None)
        state = {} if flow is None else {f"flow_model.{k}": v for k, v in flow.state_dict().items()}
        return stock_layers(head, {"convs": "cv4", "kpts": "cv4_kpts", "sigma": "cv4_sigma"}) | state
