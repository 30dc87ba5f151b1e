"""Anchors of interest whose surroundings were kept, so that a branch can learn there without the network before it.

What a stack of convolutions gives at one anchor depends on a small patch of the feature map alone (see `nn.sites`).
The patches of the anchors of a few objects, kept in half precision, are smaller than the feature maps of their image,
and running a branch over them costs less than running it over the maps.

Shape suffixes: N anchors, C channels, S side of a patch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from ultralytics.nn.modules.conv import Conv

from yolo_multitask.nn.sites import Sites, convolution, flat_layers, run_valid, spread


@dataclass(frozen=True)
class StoredLevel:
    """The anchors of one level.

    Attributes:
        here_N: Which of all anchors these are.
        patches: Feature map around each, zero outside the map, (N, C, S, S).
        inside: What of it is inside the map, bool (N, 1, S, S).
    """

    here_N: torch.Tensor
    patches: torch.Tensor
    inside: torch.Tensor


class StoredSites:
    """Anchors as in `Sites`, with patches in the place of maps; `run` gives the same values.

    In training BatchNorm sees what is inside the maps alone.
    """

    def __init__(self, levels: dict[int, StoredLevel], count: int) -> None:
        """Take the anchors of each level that has any, and the number of all."""
        self.levels, self.count = levels, count

    def __len__(self) -> int:
        """Return how many anchors there are, N."""
        return self.count

    @classmethod
    def keep(cls, sites: Sites, radius: int, dtype: torch.dtype = torch.float16) -> StoredSites:
        """Return what stacks that reach `radius` cells far need of anchors, on the CPU."""
        levels = {}
        for level in sites.levels:
            patches, inside = level.patches(radius)
            levels[level.number] = StoredLevel(level.here.cpu(), patches.to(dtype).cpu(), inside.bool().cpu())
        return cls(levels, len(sites))

    @classmethod
    def join(cls, parts: Sequence[StoredSites], device: torch.device | str = "cpu") -> StoredSites:
        """Return the anchors of several images as those of one, in single precision on a device."""
        starts = [0, *accumulate(len(part) for part in parts)]
        levels = {}
        for number in sorted({number for part in parts for number in part.levels}):
            found = [(start, part.levels[number]) for start, part in zip(starts, parts, strict=False)
                     if number in part.levels]  # fmt: skip
            levels[number] = StoredLevel(
                torch.cat([level.here_N + start for start, level in found]).to(device),
                torch.cat([level.patches for _, level in found]).to(device).float(),
                torch.cat([level.inside for _, level in found]).to(device),
            )
        return cls(levels, starts[-1])

    def split(self, image_N: torch.Tensor, images: int) -> Iterator[StoredSites]:
        """Yield the anchors of each of `images` images, given the image of each anchor."""
        for image in range(images):
            mine = image_N == image
            place = mine.cumsum(0) - 1
            levels = {}
            for number, level in self.levels.items():
                chosen = mine[level.here_N]
                if chosen.any():
                    levels[number] = StoredLevel(
                        place[level.here_N[chosen]], level.patches[chosen].clone(), level.inside[chosen].clone()
                    )
            yield StoredSites(levels, int(mine.sum()))

    def run(self, stacks: nn.ModuleList) -> torch.Tensor:
        """Return what a stack of convolutions per level gives at the anchors, (1, columns, N)."""
        values = [_run(stacks[number], level) for number, level in self.levels.items()]
        order = torch.cat([level.here_N for level in self.levels.values()]).argsort()
        return torch.cat(values)[order].T[None]

    @property
    def nbytes(self) -> int:
        """Bytes of the patches."""
        return sum(level.patches.nbytes + level.inside.nbytes for level in self.levels.values())


def reach(stacks: nn.ModuleList) -> int:
    """Return how many cells to each side the output of stacks depends on."""
    return max(sum(spread(layer) for layer in flat_layers(stack)) for stack in stacks)


def _run(stack: nn.Module, level: StoredLevel) -> torch.Tensor:
    """Return what a stack gives at the anchors of a level, (N, columns)."""
    layers = list(flat_layers(stack))
    radius = sum(spread(layer) for layer in layers)
    edge = level.inside.shape[-1] // 2 - radius
    x, inside = level.patches, level.inside
    if edge:
        x, inside = (values[..., edge:-edge, edge:-edge] for values in (x, inside))
    for layer in layers:
        cut = spread(layer)
        inside = inside[..., cut:-cut, cut:-cut] if cut else inside
        x = _run_layer(layer, x, inside)
    return x.flatten(1)


def _run_layer(layer: nn.Module, x: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Return a layer's output without padding, zero outside the map."""
    if not (isinstance(layer, Conv) and hasattr(layer, "bn") and layer.bn.training):
        return run_valid(layer, x) * inside
    conv = convolution(layer)
    x = F.conv2d(x, conv.weight, conv.bias, 1, 0, conv.dilation, conv.groups)
    rows = x.movedim(1, -1)
    seen = rows[inside[:, 0]]  # (places, C)
    normed = layer.act(_normalise(layer.bn, seen))
    out = torch.zeros_like(rows)
    out[inside[:, 0]] = normed
    return out.movedim(-1, 1)


def _normalise(norm: Any, values: torch.Tensor) -> torch.Tensor:
    """Return what a BatchNorm in training makes of values (places, C); one place alone has no statistics of its own."""
    if len(values) > 1:
        return norm(values.T[None, ..., None])[0, ..., 0].T  # type: ignore[no-any-return]
    return F.batch_norm(values, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
