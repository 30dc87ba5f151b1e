"""Identity: an embedding per anchor, and where the instance will be in the next frame.

An embedding that is learned with the detector, as in JDE (https://arxiv.org/abs/1909.12605) and FairMOT
(https://arxiv.org/abs/2004.01888), needs no second network. Those read it from the detector's own features, which are
trained to be alike for all persons. Here it is read from early layers of the backbone, where colour and texture are
still there, at points spread over the predicted box (as RoIAlign does, https://arxiv.org/abs/1703.06870), so that the
same part of the body meets the same weights, at any size and from any level. The embedding takes these layers as they
are: its loss does not change them, so that the other tasks keep the features that they have learned.

P points in a box, N boxes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from yolo_multitask.nn.branches.base import Branch, level_convs, run_levels
from yolo_multitask.nn.sites import Sites

ROWS, COLUMNS = 6, 3  # points in a box
WIDTH = 32  # channels at a point
HIDDEN_POINTS = 0.3  # share of the points that training hides, as another person in front would
BOX = 4  # values of a box
TINY = 1e-12  # added to the square of the length that a vector is divided by
MAX_GROWTH = 4.0  # log of how much a side may grow until the next frame; beyond, half precision would overflow


class TrackBranch(Branch):
    """E values that are alike for views of the same instance and differ between instances, per anchor.

    Raw outputs: `appearance`, a list of maps (B, WIDTH, H, W), from which `embed` reads embeddings, and, where the
    branch predicts the next frame, `next` (B, 4, A): the displacement until then relative to the box,
    (dx / w, dy / h, log(w' / w), log(h' / h)).
    """

    task = "track"

    def __init__(
        self, ch: tuple[int, ...], taps: tuple[int, ...], embed_dim: int = 128, next_box: bool = False
    ) -> None:
        """Build the branch.

        Args:
            ch: Channels of each level's feature map.
            taps: Channels of the maps that appearance is read from.
            embed_dim: Length of the embedding, E.
            next_box: Whether to predict the box in the next frame too.
        """
        super().__init__()
        self.embed_dim, self.next_box = embed_dim, next_box
        self.reduce = nn.ModuleList(nn.Conv2d(c, WIDTH, 1, bias=False) for c in taps)
        self.norm = nn.BatchNorm2d(WIDTH)
        self.project = nn.Linear(WIDTH * ROWS * COLUMNS, embed_dim)
        if next_box:
            self.motion = level_convs(BOX, ch)
            self.doubled = ("motion",)

    @property
    def row(self) -> dict[str, int]:
        """See `Branch.row`."""
        return {"ne": self.embed_dim, "nb": BOX * self.next_box}

    def shared(self, feats: list[torch.Tensor], taps: Sequence[torch.Tensor] = ()) -> dict[str, torch.Tensor]:
        """Return `appearance`."""
        return {"appearance": [conv(x.detach()) for conv, x in zip(self.reduce, taps, strict=True)]}  # type: ignore[dict-item]

    def forward(self, feats: list[torch.Tensor], one2one: bool = False) -> dict[str, torch.Tensor]:
        """Return `next`, where it is predicted."""
        return {"next": run_levels(self.layers("motion", one2one), feats)} if self.next_box else {}

    def at(
        self, sites: Sites, boxes: torch.Tensor, taps: Sequence[torch.Tensor] = (), one2one: bool = False
    ) -> dict[str, torch.Tensor]:
        """Return `samples`, what `sample` finds in the boxes, (1, WIDTH, P, N), and `next`; see `Branch.at`.

        The points are read before the 1x1 convolution, which gives the same, as both steps are linear.
        """
        shares_N4 = boxes[0].T / input_size(sites.feats, sites.strides_of_levels)
        padded, place_N = pad_by_image(shares_N4, sites.image_N, taps[0].shape[0])
        points = torch.cat([read_points(x, padded) for x in taps], 1)
        weights = torch.cat([conv.weight for conv in self.reduce], 1)  # type: ignore[arg-type, misc]
        samples = F.conv2d(gather_places(points, sites.image_N, place_N), weights)
        return {"samples": samples} | ({"next": sites.run(self.layers("motion", one2one))} if self.next_box else {})

    def sample(self, appearance: Sequence[torch.Tensor], boxes_BN4: torch.Tensor) -> torch.Tensor:
        """Return the appearance at the points of boxes, (B, WIDTH, P, N).

        Args:
            appearance: Maps, (B, WIDTH, H, W) each; they all cover the network's input.
            boxes_BN4: Boxes of each image, cx cy w h as shares of the input's sides.
        """
        total: torch.Tensor | None = None
        for x in appearance:  # one at a time: for all anchors of a large picture each is tens of megabytes
            here = read_points(x, boxes_BN4)
            total = here if total is None else total + here
        assert total is not None
        return total

    def describe(self, samples_BCPN: torch.Tensor) -> torch.Tensor:
        """Return the L2-normalised embeddings (B, E, N) of boxes from what `sample` found in them."""
        x = F.silu(self.norm(samples_BCPN))
        if self.training:
            x = x * F.dropout(torch.ones_like(x[:, :1]), HIDDEN_POINTS)
        x = F.conv1d(x.flatten(1, 2), self.project.weight[..., None], self.project.bias)
        length = (x.float().square().sum(1, keepdim=True) + TINY).sqrt()  # in half precision it could overflow
        return x / length.to(x.dtype)

    def embed(self, appearance: Sequence[torch.Tensor], boxes_N4: torch.Tensor, image_N: torch.Tensor) -> torch.Tensor:
        """Return the embeddings (N, E) of boxes that are spread over the batch.

        Args:
            appearance: See `sample`.
            boxes_N4: cx cy w h as shares of the input's sides.
            image_N: Image of each box.
        """
        padded, place_N = pad_by_image(boxes_N4, image_N, appearance[0].shape[0])
        return self.describe(gather_places(self.sample(appearance, padded), image_N, place_N))[0].T

    def decode(
        self, raw: dict[str, torch.Tensor], boxes: torch.Tensor, anchors: torch.Tensor, strides: torch.Tensor
    ) -> torch.Tensor:
        """Return L2-normalised embeddings, and next boxes as x1 y1 x2 y2 in input pixels, (B, E [+ 4], A)."""
        samples = raw.get("samples")
        if samples is None:
            shares_BA4 = boxes.transpose(1, 2) / input_size(raw["feats"], strides[0])
            samples = self.sample(raw["appearance"], shares_BA4)  # type: ignore[arg-type]
        embed = self.describe(samples)
        if not self.next_box:
            return embed
        centre, size = boxes.chunk(2, 1)
        shift, growth = raw["next"].chunk(2, 1)
        centre, half = centre + shift * size, size * growth.clamp(-MAX_GROWTH, MAX_GROWTH).exp() / 2
        return torch.cat((embed, centre - half, centre + half), 1)


def read_points(x: torch.Tensor, boxes_BN4: torch.Tensor) -> torch.Tensor:
    """Return the values of maps at the points of boxes, (B, C, P, N).

    Args:
        x: Maps that cover the network's input, (B, C, H, W).
        boxes_BN4: Boxes of each image, cx cy w h as shares of the input's sides.
    """
    across = (torch.arange(COLUMNS, device=boxes_BN4.device) + 0.5) / COLUMNS - 0.5
    down = (torch.arange(ROWS, device=boxes_BN4.device) + 0.5) / ROWS - 0.5
    offsets_P2 = torch.stack((across.repeat(ROWS), down.repeat_interleave(COLUMNS)), 1).to(boxes_BN4.dtype)
    points_BPN2 = boxes_BN4[:, None, :, :2] + offsets_P2[:, None] * boxes_BN4[:, None, :, 2:]
    return F.grid_sample(x, (points_BPN2 * 2 - 1).to(x.dtype), padding_mode="border", align_corners=False)


def pad_by_image(boxes_N4: torch.Tensor, image_N: torch.Tensor, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return boxes that are spread over a batch image by image, (B, most, 4), zero where there are fewer; and places.

    Args:
        boxes_N4: The boxes.
        image_N: Image of each.
        batch: Number of images.
    """
    place_N = places_in_images(image_N, batch)
    places = torch.arange(torch.cat((place_N, place_N.new_full((1,), -1))).max() + 1, device=image_N.device)
    padded = boxes_N4.new_zeros(batch, 1, BOX) * places[:, None]  # sizes that a trace does not fix
    return padded.index_put_((image_N, place_N), boxes_N4), place_N


def gather_places(values_BCPM: torch.Tensor, image_N: torch.Tensor, place_N: torch.Tensor) -> torch.Tensor:
    """Return of values (B, C, P, M) of padded boxes those of the boxes, (1, C, P, N), as those of one image."""
    return values_BCPM.permute(0, 3, 1, 2)[image_N, place_N].permute(1, 2, 0)[None]


def places_in_images(image_N: torch.Tensor, batch: int) -> torch.Tensor:
    """Return of each entry how many of the same image stand before it, (N,), of `batch` images."""
    here_NB = (image_N[:, None] == torch.arange(batch, device=image_N.device)).long()
    return (here_NB.cumsum(0) * here_NB).sum(1) - 1


def input_size(feats: Sequence[torch.Tensor], strides: torch.Tensor) -> torch.Tensor:
    """Return the network's input width, height, width, height in pixels, (4,).

    Args:
        feats: Feature maps of all levels.
        strides: Pixels per cell, of the first level first.
    """
    height, width = feats[0].shape[2:]
    sides = torch.stack([torch.as_tensor(side) for side in (width, height, width, height)])  # a trace does not fix them
    return sides.to(strides) * strides[0]
