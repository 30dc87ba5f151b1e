"""Mask prototypes at half the price, and only where a box is.

Ultralytics' `Proto` runs its widest convolution after it has doubled the resolution: a transposed 2x2 convolution,
then a 3x3 one. Nothing but a bias stands between the two, so that together they are linear: each of the four fine
pixels of a cell sees 2x2 cells, with weights that can be multiplied out once. That is 16 products a cell and pair of
channels in the place of 40, and the 1x1 convolution behind them runs before the fine pixels are put in their places.

At the border the convolution's padding stands where fine pixels would have had the bias; `edge` takes that away again.

Shape suffixes: B batch, C channels, H W map of cells, T cells of a tile's side, M tiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
import torch.nn.functional as F
from torch import nn
from ultralytics.nn.modules.block import Proto, Proto26

from yolo_multitask.nn.sites import run_valid

TILE = 16  # cells of a tile's side
HALO = 2  # cells around a tile that its prototypes depend on
DENSE_TILES = (
    0.65  # share of all tiles from which the whole map is no slower (on a CPU, scripts/benchmarks/crossover.py)
)


class FusedProto(nn.Module):
    """The prototypes of a `Proto` whose convolutions are fused with their BatchNorms, for inference.

    Attributes:
        cv1: The host's first convolution.
        pairs: 2x2 convolution to the four fine pixels between four cells, (4C, C, 2, 2).
        act: The host's activation after it.
        cv3: The host's last convolution, 1x1.
        edge: What the bias of the upsampling in each of the four cells gives, (4C, 1, 2, 2).
    """

    edge: torch.Tensor

    def __init__(self, proto: Proto) -> None:
        """Multiply out the weights of `proto`; its other layers are kept, not copied."""
        super().__init__()
        self.cv1, self.act, self.cv3 = proto.cv1, proto.cv2.act, proto.cv3
        weight, edge = multiply_out(proto.upsample, proto.cv2.conv)
        own = proto.cv2.conv.bias.detach().repeat(4)
        self.pairs = nn.utils.skip_init(nn.Conv2d, weight.shape[1], weight.shape[0], 2, padding=1)
        self.pairs.weight = nn.Parameter(weight, requires_grad=False)
        self.pairs.bias = nn.Parameter(own + edge.sum((1, 2, 3)), requires_grad=False)
        self.register_buffer("edge", edge)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the prototypes (B, nm, 2H, 2W) of a feature map (B, C, H, W)."""
        found, edge = self.pairs(self.cv1(x)), self.edge[:, 0]
        found[:, :, 0] -= edge[:, 0].sum(-1)[:, None]
        found[:, :, -1] -= edge[:, 1].sum(-1)[:, None]
        found[:, :, :, 0] -= edge[:, :, 0].sum(-1)[:, None]
        found[:, :, :, -1] -= edge[:, :, 1].sum(-1)[:, None]
        for y, x_ in product((0, -1), repeat=2):  # in both
            found[:, :, y, x_] += edge[:, y, x_]
        return self._place(found).contiguous()

    def inside(self, x: torch.Tensor, boxes_N4: torch.Tensor, image_N: torch.Tensor) -> torch.Tensor:
        """Return the prototypes (B, nm, 2H, 2W) where boxes are, and a cell around; elsewhere they may be zero.

        Args:
            x: Feature map, (B, C, H, W).
            boxes_N4: x1 y1 x2 y2 in cells.
            image_N: Image of each box.
        """
        batch, _, height, width = x.shape
        rows, columns = -(-height // TILE), -(-width // TILE)
        image_M, row_M, column_M = touched(boxes_N4, image_N, (batch, rows, columns)).nonzero(as_tuple=True)
        if len(image_M) > DENSE_TILES * batch * rows * columns:
            return self(x)
        out = x.new_zeros(batch, self.cv3.conv.out_channels, rows, 2 * TILE, columns, 2 * TILE)
        if len(image_M):
            padded = F.pad(x, (HALO, HALO + columns * TILE - width, HALO, HALO + rows * TILE - height))
            patches = padded.unfold(2, TILE + 2 * HALO, TILE).unfold(3, TILE + 2 * HALO, TILE)
            found = run_valid(self.cv1, patches[image_M, :, row_M, column_M])
            inside = _inside_map(row_M, column_M, height, width).to(x.dtype)
            border = (inside.amin((1, 2, 3)) == 0).nonzero().flatten()
            found[border] *= inside[border]
            found = F.conv2d(found, self.pairs.weight, self.pairs.bias)
            found[border] += F.conv2d(inside[border] - 1, self.edge)
            out[image_M, :, row_M, :, column_M] = self._place(found)
        return out.flatten(4).flatten(2, 3)[:, :, : 2 * height, : 2 * width].contiguous()

    def _place(self, pairs: torch.Tensor) -> torch.Tensor:
        """Return the prototypes (M, nm, 2H, 2W) from what `pairs` gives, (M, 4C, H + 1, W + 1)."""
        count, channels, height, width = pairs.shape
        cells = self.act(pairs).permute(0, 2, 3, 1).reshape(-1, channels // 4)  # the host keeps CPU maps channels last
        fine = self.cv3.act(F.linear(cells, self.cv3.conv.weight.flatten(1), self.cv3.conv.bias))
        fine = fine.view(count, height, width, 2, 2, -1).permute(0, 5, 1, 3, 2, 4)
        return fine.reshape(count, -1, 2 * height, 2 * width)[:, :, 1:-1, 1:-1]


class FusedProto26(nn.Module):
    """The prototypes of a `Proto26` likewise; what mixes the levels stays whole.

    Attributes:
        feat_refine: The host's 1x1 convolutions of the levels behind the first.
        feat_fuse: The host's 3x3 convolution of their sum.
        finish: The rest.
    """

    def __init__(self, proto: Proto26) -> None:
        """Take over the layers of `proto`, whose convolutions are fused with their BatchNorms."""
        super().__init__()
        self.feat_refine, self.feat_fuse = proto.feat_refine, proto.feat_fuse
        self.finish = FusedProto(proto)

    def mix(self, feats: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the map that the prototypes are computed from, (B, C, H, W) as the first of the feature maps."""
        x = feats[0]
        for level, (refine, feat) in enumerate(zip(self.feat_refine, feats[1:], strict=True), 1):
            x = x + F.interpolate(refine(feat), scale_factor=2**level, mode="nearest")
        return self.feat_fuse(x)  # type: ignore[no-any-return]

    def forward(self, feats: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the prototypes (B, nm, 2H, 2W) of the feature maps of all levels."""
        return self.finish(self.mix(feats))  # type: ignore[no-any-return]

    def inside(self, feats: Sequence[torch.Tensor], boxes_N4: torch.Tensor, image_N: torch.Tensor) -> torch.Tensor:
        """See `FusedProto.inside`; `feats` are the feature maps of all levels."""
        return self.finish.inside(self.mix(feats), boxes_N4, image_N)


def multiply_out(upsample: nn.ConvTranspose2d, conv: nn.Conv2d) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weights of a 2x2 upsampling and a 3x3 convolution behind it as one convolution over cells.

    Between the cells p - 1 and p lie the fine pixels 2p - 1 and 2p. From fine pixel 2p - 1 + s the convolution reads
    2p - 2 + s + k for k in 0..2, which is the fine pixel (s + k) % 2 of cell p - 1 + (s + k) // 2.

    Args:
        upsample: The upsampling.
        conv: The convolution.

    Returns:
        The weights (4C, C, 2, 2), and those of the upsampling's bias (4C, 1, 2, 2).
    """
    assert upsample.bias is not None
    given = (conv.weight, upsample.weight, upsample.bias)  # (C, C, 3, 3), (C, C, 2, 2), (C,)
    fine, up, bias = (x.detach().cpu().double() for x in given)  # not every device has double
    width = len(fine)
    weight, edge = fine.new_zeros(2, 2, width, up.shape[0], 2, 2), fine.new_zeros(2, 2, width, 1, 2, 2)
    for sy, sx, ky, kx in product(range(2), range(2), range(3), range(3)):
        (cell_y, sub_y), (cell_x, sub_x) = divmod(sy + ky, 2), divmod(sx + kx, 2)
        weight[sy, sx, :, :, cell_y, cell_x] += fine[:, :, ky, kx] @ up[:, :, sub_y, sub_x].T
        edge[sy, sx, :, 0, cell_y, cell_x] += fine[:, :, ky, kx] @ bias
    return weight.flatten(0, 2).to(conv.weight), edge.flatten(0, 2).to(conv.weight)


def touched(boxes_N4: torch.Tensor, image_N: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
    """Return which tiles boxes reach into, with a margin of one cell, bool (B, rows, columns) as `shape` says.

    Args:
        boxes_N4: x1 y1 x2 y2 in cells.
        image_N: Image of each box.
        shape: Images, rows and columns of tiles.
    """
    batch, rows, columns = shape
    limits = torch.tensor([columns, rows, columns, rows], device=boxes_N4.device) - 1
    first, last = ((boxes_N4 + sign) / TILE for sign in (-1, 1))
    x1, y1 = first[:, :2].floor().long().clamp(limits.new_zeros(2), limits[:2]).T
    x2, y2 = last[:, 2:].floor().long().clamp(limits.new_zeros(2), limits[2:]).T + 1
    count = boxes_N4.new_zeros(batch, rows + 1, columns + 1, dtype=torch.int64)  # a corner more, a corner less
    for y, x, sign in ((y1, x1, 1), (y1, x2, -1), (y2, x1, -1), (y2, x2, 1)):
        count.index_put_((image_N, y, x), torch.full_like(y, sign), accumulate=True)
    return count.cumsum(1).cumsum(2)[:, :rows, :columns] > 0


def _inside_map(row_M: torch.Tensor, column_M: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return whether the cells of tiles, and those next to them, are in the map, bool (M, 1, T + 2, T + 2)."""
    reach = torch.arange(-1, TILE + 1, device=row_M.device)
    y, x = row_M[:, None] * TILE + reach, column_M[:, None] * TILE + reach
    inside_y, inside_x = (y >= 0) & (y < height), (x >= 0) & (x < width)
    return (inside_y[:, :, None] & inside_x[:, None])[:, None]
