"""Branches at a few anchors: the values that they have there in the dense maps, without computing the others.

A branch is a stack of convolutions. What it gives at one anchor depends on a small patch of its input, 5x5 cells for
two 3x3 convolutions. So the patches around the anchors are gathered and the same convolutions are run over them without
padding. Where a patch leaves the map, what lies outside is set to zero before each convolution, as its padding does.

Shape suffixes: N anchors of interest, spread over the batch; B batch, C channels, H W map, R radius of a patch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import nn
from ultralytics.nn.modules.conv import Conv, DWConv

# share of a level's anchors from which its whole map is no slower (on a CPU, scripts/benchmarks/crossover.py)
DENSE_SHARE = 0.06


class Sites:
    """Anchors of interest of a batch, with the feature maps around them.

    Attributes:
        feats: Feature maps of all levels, (B, C, H, W) each.
        strides_of_levels: Pixels per cell of each level.
        image_N: Image of each anchor, int64.
        anchor_N: Index of each anchor over all levels, as in the head's outputs, int64.
    """

    def __init__(
        self, feats: Sequence[torch.Tensor], strides: torch.Tensor, image_N: torch.Tensor, anchor_N: torch.Tensor
    ) -> None:
        """Take what the attributes say."""
        self.feats, self.strides_of_levels, self.image_N, self.anchor_N = feats, strides, image_N, anchor_N

    def __len__(self) -> int:
        """Return how many anchors there are, N."""
        return len(self.anchor_N)

    @cached_property
    def levels(self) -> list[Level]:
        """The levels that have any of the anchors."""
        found, start = [], 0
        for number, x in enumerate(self.feats):
            count = x.shape[2] * x.shape[3]
            here = ((self.anchor_N >= start) & (self.anchor_N < start + count)).nonzero().flatten()
            if len(here):
                found.append(Level(number, x, here, self.image_N[here], self.anchor_N[here] - start))
            start += count
        return found

    @cached_property
    def anchors(self) -> torch.Tensor:
        """Anchor points in grid units, x and y, (2, N)."""
        out = self.feats[0].new_empty(2, len(self))
        for level in self.levels:
            out[:, level.here] = torch.stack((level.x_N, level.y_N)).to(out.dtype) + 0.5
        return out

    @cached_property
    def strides(self) -> torch.Tensor:
        """Pixels per grid unit, (1, N)."""
        out = self.feats[0].new_empty(1, len(self))
        for level in self.levels:
            out[:, level.here] = self.strides_of_levels[level.number].to(out)
        return out

    def run(self, stacks: Sequence[nn.Module] | nn.ModuleList) -> torch.Tensor:
        """Return what a stack of convolutions per level gives at the anchors, (1, columns, N)."""
        out: torch.Tensor | None = None
        for level in self.levels:
            values = level.run(stacks[level.number])
            if out is None:
                out = values.new_empty(len(self), values.shape[1])
            out[level.here] = values
        if out is None:
            last = list(flat_layers(stacks[0]))[-1]
            out = self.feats[0].new_empty(0, last.out_channels)
        return out.T[None]


class Level:
    """The anchors of interest of one level.

    Attributes:
        number: Of the level.
        x: Its feature map, (B, C, H, W).
        here: Which of all anchors of interest these are, (N,).
        image_N: Image of each.
    """

    def __init__(
        self, number: int, x: torch.Tensor, here: torch.Tensor, image_N: torch.Tensor, cell_N: torch.Tensor
    ) -> None:
        """Take the anchors in the cells `cell_N` of the images `image_N`; see the class for the others."""
        self.number, self.x, self.here, self.image_N = number, x, here, image_N
        self.cell_N = cell_N
        width = x.shape[3]
        self.y_N, self.x_N = cell_N // width, cell_N % width
        self._patches: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def is_dense(self) -> bool:
        """Return whether it is cheaper to compute the whole map."""
        batch, _, height, width = self.x.shape
        return len(self.here) > DENSE_SHARE * batch * height * width

    def patches(self, radius: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the input around each anchor (N, C, 2R + 1, 2R + 1), zero outside the map, and what is inside it.

        The second tensor is (N, 1, 2R + 1, 2R + 1), 1 inside and 0 outside.
        """
        if radius not in self._patches:
            height, width = self.x.shape[2:]
            reach = torch.arange(-radius, radius + 1, device=self.x.device)
            y_NS, x_NS = self.y_N[:, None] + reach, self.x_N[:, None] + reach
            inside_y, inside_x = (y_NS >= 0) & (y_NS < height), (x_NS >= 0) & (x_NS < width)
            inside = (inside_y[:, :, None] & inside_x[:, None, :])[:, None].to(self.x.dtype)
            y_NS, x_NS = y_NS.clamp(0, height - 1), x_NS.clamp(0, width - 1)
            found = self.x[self.image_N[:, None, None], :, y_NS[:, :, None], x_NS[:, None, :]]  # (N, S, S, C)
            found *= inside[:, 0, :, :, None]
            self._patches[radius] = found.permute(0, 3, 1, 2), inside
        return self._patches[radius]

    def run(self, stack: nn.Module) -> torch.Tensor:
        """Return what a stack of convolutions gives at the anchors, (N, columns)."""
        if self.is_dense():
            return stack(self.x).flatten(2)[self.image_N, :, self.cell_N]  # type: ignore[no-any-return]
        layers = list(flat_layers(stack))
        radius = sum(spread(layer) for layer in layers)
        x, inside = self.patches(radius)
        for layer in layers:
            x = run_valid(layer, x)
            radius -= spread(layer)
            if radius:
                edge = (inside.shape[-1] - 2 * radius - 1) // 2
                x = x * inside[:, :, edge:-edge, edge:-edge] if edge else x * inside
        return x.flatten(1)


def flat_layers(stack: nn.Module) -> Iterator[nn.Module]:
    """Yield the convolutions of a stack in order, out of sequences in it too.

    Raises:
        TypeError: If there is a layer in it that is no plain convolution, with one output for each place of its input.
    """
    if isinstance(stack, nn.Sequential):
        for layer in stack:
            yield from flat_layers(layer)
        return
    if type(stack) not in (Conv, DWConv, nn.Conv2d):
        raise TypeError(f"expected a stack of convolutions, found a {type(stack).__name__} in it")
    conv = convolution(stack)
    side, reach = conv.kernel_size[0], spread(stack)
    if conv.kernel_size != (side, side) or side % 2 == 0 or conv.stride != (1, 1) or conv.padding != (reach, reach):
        raise TypeError(f"expected convolutions with an odd square kernel, stride 1 and same padding, found {conv}")
    yield stack


def convolution(layer: nn.Module) -> nn.Conv2d:
    """Return the convolution in a layer of `flat_layers`."""
    conv = layer.conv if isinstance(layer, Conv) else layer
    assert isinstance(conv, nn.Conv2d)
    return conv


def spread(layer: nn.Module) -> int:
    """Return how many cells to each side a layer's output depends on."""
    conv = convolution(layer)
    return conv.dilation[0] * (conv.kernel_size[0] // 2)


def run_valid(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return a layer's output (N, C', H - 2 * spread, W - 2 * spread) without padding."""
    conv = convolution(layer)
    x = F.conv2d(x, conv.weight, conv.bias, 1, 0, conv.dilation, conv.groups)
    if isinstance(layer, Conv):
        if hasattr(layer, "bn"):  # not fused
            x = layer.bn(x)
        x = layer.act(x)
    return x
