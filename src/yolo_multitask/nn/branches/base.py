"""The interface of a branch.

Shape suffixes used in `nn`: B batch, C channels, H W map, A anchors of all levels, K keypoints, D keypoint dimensions,
E embedding.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any

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
        doubled: Names of the layers that a one-to-one head has of its own. The copy of `convs` is `one2one_convs`.
        training_only: Names of the layers that no inference needs.
        detached: Raw outputs of `shared` that the loss of a one-to-one head does not train.
        class_layers: Names of the weights whose rows are classes.
    """

    task: str
    stock: type[Detect] | None = None
    doubled: tuple[str, ...] = ()
    training_only: tuple[str, ...] = ()
    detached: tuple[str, ...] = ()
    class_layers: tuple[str, ...] = ()

    @property
    def row(self) -> dict[str, int]:
        """How many values the branch adds to a row, by field of `RowLayout`."""
        raise NotImplementedError

    def add_one2one(self) -> None:
        """Add the layers of a one-to-one head, with the same weights to start from, as the host does."""
        for name in self.doubled:
            setattr(self, f"one2one_{name}", deepcopy(getattr(self, name)))

    def layers(self, name: str, one2one: bool) -> Any:
        """Return one of the `doubled` layers, of the one-to-many or the one-to-one head."""
        return getattr(self, f"one2one_{name}" if one2one else name)

    def strip(self, one2one: bool) -> None:
        """Drop what inference with one of the two heads does not need.

        Args:
            one2one: Which head is left.
        """
        for name in (*(self.doubled if one2one else [f"one2one_{n}" for n in self.doubled]), *self.training_only):
            setattr(self, name, None)

    def shared(self, feats: list[torch.Tensor], taps: Sequence[torch.Tensor] = ()) -> dict[str, torch.Tensor]:
        """Return the raw outputs that belong to the image, not to an anchor, and are the same for both heads.

        Args:
            feats: Feature maps of all levels, (B, C, H, W) each.
            taps: Feature maps of the other layers that the head reads.
        """
        return {}

    def forward(self, feats: list[torch.Tensor], one2one: bool = False) -> dict[str, torch.Tensor]:
        """Return the raw outputs of the anchors; with those of `shared` they are what its `TaskSpec` lists.

        Args:
            feats: See `shared`.
            one2one: Whether of the one-to-one head.
        """
        raise NotImplementedError

    def at(
        self, sites: Sites, boxes: torch.Tensor, taps: Sequence[torch.Tensor] = (), one2one: bool = False
    ) -> dict[str, torch.Tensor]:
        """Return what `decode` reads of the raw outputs at a few anchors alone, as those of one image with N anchors.

        Args:
            sites: The anchors.
            boxes: Their decoded boxes, cx cy w h in input pixels, (1, 4, N).
            taps: See `shared`.
            one2one: See `forward`.
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

    doubled: tuple[str, ...] = ("convs",)

    def __init__(self, columns: int, ch: tuple[int, ...]) -> None:
        """Build the convolutions.

        Args:
            columns: Output channels.
            ch: Channels of each level's feature map.
        """
        super().__init__()
        self.columns = columns
        self.convs = level_convs(columns, ch)

    def stock_state(self, head: nn.Module) -> dict[str, torch.Tensor]:
        """See `Branch.stock_state`."""
        return stock_layers(head, {"convs": "cv4"})


def stock_layers(head: Any, names: Mapping[str, str]) -> dict[str, torch.Tensor]:
    """Return the state of layers of a host head, and of their one-to-one copies where it has them.

    Args:
        head: The host's head.
        names: Our name of a layer -> the host's.
    """
    found: dict[str, torch.Tensor] = {}
    for prefix in ("", "one2one_"):
        for own, theirs in names.items():
            layer = getattr(head, prefix + theirs, None)
            state = {} if layer is None else layer.state_dict()
            found |= {f"{prefix}{own}.{key}": value for key, value in state.items()}
    return found


def level_convs(columns: int, ch: tuple[int, ...]) -> nn.ModuleList:
    """Return two 3x3 and one 1x1 convolution per level, as wide as in the host's heads."""
    width = max(ch[0] // 4, columns)
    return nn.ModuleList(
        nn.Sequential(Conv(c, width, 3), Conv(width, width, 3), nn.Conv2d(width, columns, 1)) for c in ch
    )


def run_levels(convs: Iterable[nn.Module], feats: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the outputs of all levels, (B, columns, A)."""
    return torch.cat([conv(x).flatten(2) for conv, x in zip(convs, feats, strict=True)], 2)
