"""Detection as one graph without control flow, for files: scores, boxes where one is high enough, NMS, and everything
else only where a box was kept. Of a one-to-one head the best scores take the place of the NMS.

It is `engine.lazy` in operators that a traced graph can hold: every size that depends on the picture stays a tensor,
and every list of anchors begins with a stand-in, so that none is ever empty, which not every runtime takes.

Shape suffixes: B batch, C channels, H W map, A anchors of all levels, N anchors of interest, M rows of an image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import nms

from yolo_multitask.nn.branches.segment import SegmentBranch
from yolo_multitask.nn.branches.track import places_in_images
from yolo_multitask.nn.heads import MultiTask
from yolo_multitask.nn.sites import Level, Sites

FEW_CANDIDATES = 0.05  # confidence above which boxes are computed at the candidates alone


@dataclass(frozen=True, kw_only=True)
class Suppression:
    """What the NMS in a graph does.

    Attributes:
        conf: Lowest class probability of a detection.
        iou: Overlap from which the lower of two boxes of a class is dropped.
        max_det: Rows of an image, M.
        agnostic: Whether boxes of different classes drop each other too.
        masks: Whether masks are assembled in the graph.
    """

    conf: float
    iou: float
    max_det: int
    agnostic: bool = False
    masks: bool = False


class GraphSites(Sites):
    """Anchors of interest whose number a trace does not fix. Each level has one more, its first anchor, as stand-in."""

    def __init__(self, *args: Any, dense: bool = False) -> None:
        """Take the arguments of `Sites`; if `dense`, whole maps are computed."""
        super().__init__(*args)
        self.dense = dense

    @cached_property
    def levels(self) -> list[Level]:
        """All levels, each with its stand-in as the first of its anchors."""
        found: list[Level] = []
        start = torch.zeros((), dtype=torch.int64, device=self.anchor_N.device)
        for number, x in enumerate(self.feats):
            count = x.shape[2] * x.shape[3]
            here = ((self.anchor_N >= start) & (self.anchor_N < start + count)).nonzero()[:, 0]
            image_N, cell_N = _with_stand_in(self.image_N[here]), _with_stand_in(self.anchor_N[here] - start)
            found.append(GraphLevel(number, x, here, image_N, cell_N, dense=self.dense))
            start = start + count
        return found

    @cached_property
    def anchors(self) -> torch.Tensor:
        """See `Sites.anchors`."""
        return self._gather([torch.stack((e.x_N, e.y_N), 1)[1:] + 0.5 for e in self.levels]).T

    @cached_property
    def strides(self) -> torch.Tensor:
        """See `Sites.strides`."""
        each = [torch.ones_like(e.x_N[1:, None]) * self.strides_of_levels[e.number] for e in self.levels]
        return self._gather(each).T

    def run(self, stacks: Sequence[nn.Module] | nn.ModuleList) -> torch.Tensor:
        """See `Sites.run`."""
        return self._gather([level.run(stacks[level.number])[1:] for level in self.levels]).T[None]

    def _gather(self, values: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return what the levels give at their anchors, (N_level, columns) each, in the order of all, (N, columns)."""
        order = torch.cat([level.here for level in self.levels])
        return torch.cat(list(values))[order.argsort()].to(self.feats[0].dtype)


class GraphLevel(Level):
    """A level where it is known beforehand whether its whole map is computed."""

    def __init__(self, *args: Any, dense: bool) -> None:
        """Take the arguments of `Level`; if `dense`, the whole map is computed."""
        super().__init__(*args)
        self.dense = dense

    def is_dense(self) -> bool:
        """See `Level.is_dense`."""
        return self.dense


def suppress(
    head: MultiTask, scores: torch.Tensor, maps: Mapping[str, Any], how: Suppression
) -> tuple[torch.Tensor, ...]:
    """Detect in the outputs of a lazy forward pass.

    Args:
        head: A head whose last forward pass was lazy.
        scores: What it gave, class probabilities (B, nc, A).
        maps: The same.
        how: What the NMS does.

    Returns:
        Rows (B, M, 6 + extra) as `RowLayout` says, by falling score, those that are not used zero. With masks also the
        prototypes (B, nm, H, W), or the mask logits of the rows (B, M, H, W), zero two cells and further from the box.
    """
    batch, rows_of_image = scores.shape[0], how.max_det
    best_BA, cls_BA = scores.max(1)
    image_N, anchor_N = (best_BA > how.conf).nonzero().unbind(1)
    image_N, anchor_N = _with_stand_in(image_N), _with_stand_in(anchor_N)
    sites = GraphSites(maps["feats"], head.stride, image_N, anchor_N, dense=how.conf < FEW_CANDIDATES)
    boxes_4N = head.boxes_at(sites)
    centre_N2, half_N2 = boxes_4N[:2].T, boxes_4N[2:].T / 2
    corners_N4 = torch.cat((centre_N2 - half_N2, centre_N2 + half_N2), 1)
    score_N, cls_N = best_BA[image_N, anchor_N], cls_BA[image_N, anchor_N]
    down_N = torch.zeros_like(cls_N) if how.agnostic else cls_N
    apart_N2 = torch.stack((image_N, down_N), 1).float()  # images side by side, classes one below another
    low, high = corners_N4.float().min(), corners_N4.float().max()  # boxes may reach far beyond the image
    within_N4 = (corners_N4.float() - low) / (high - low)
    found_K = nms((within_N4 + apart_N2.repeat(1, 2))[1:], score_N[1:].float(), how.iou) + 1
    rank_K = places_in_images(image_N[found_K], batch)
    within_K = rank_K < rows_of_image
    kept_K, rank_K = _with_stand_in(found_K[within_K]), _with_stand_in(rank_K[within_K])

    sites = GraphSites(maps["feats"], head.stride, image_N[kept_K], anchor_N[kept_K])
    extra_KE = head.rows_at(sites, boxes_4N[:, kept_K], maps["taps"])
    rows_KE = torch.cat((corners_N4[kept_K], score_N[kept_K, None], cls_N[kept_K, None].to(scores.dtype), extra_KE), 1)
    out = _by_image(rows_KE, image_N[kept_K], rank_K, batch, rows_of_image)
    branch = head.running.get("segment")
    if branch is None:
        return (out,)
    assert isinstance(branch, SegmentBranch)
    proto = branch.whole_prototypes(maps["feats"])
    if not how.masks:
        return out, proto
    used = out[:, torch.arange(rank_K.max() + 1, device=out.device)]
    logits = mask_logits(used[..., head.layout.mask], used[..., :4] / (head.stride[0] / 2), proto)
    return out, F.pad(logits, (0, 0, 0, 0, 0, rows_of_image - logits.shape[1]))


def select_best(
    head: MultiTask, scores: torch.Tensor, maps: Mapping[str, Any], conf: float
) -> tuple[torch.Tensor, ...]:
    """Detect in the outputs of a lazy forward pass of a one-to-one head.

    Args:
        head: A head that is `end2end`, whose last forward pass was lazy.
        scores: What it gave, class probabilities (B, nc, A).
        maps: The same.
        conf: Lowest class probability of a detection; 0 for all of the `max_det` best.

    Returns:
        Rows (B, M, 6 + extra) as `RowLayout` says, by falling score, those that are not used zero, and with masks the
        prototypes (B, nm, H, W).
    """
    batch = scores.shape[0]
    score_BM, cls_BM, anchor_BM = head.best(scores)
    rows_of_image = anchor_BM.shape[1]
    image_K, rank_K = (score_BM > conf).nonzero().unbind(1)
    image_K, rank_K = _with_stand_in(image_K), _with_stand_in(rank_K)
    sites = GraphSites(maps["feats"], head.stride, image_K, anchor_BM[image_K, rank_K])
    boxes_4K = head.boxes_at(sites)
    values = (boxes_4K.T, score_BM[image_K, rank_K, None], cls_BM[image_K, rank_K, None].to(scores.dtype))
    rows_KE = torch.cat((*values, head.rows_at(sites, boxes_4K, maps["taps"])), 1)
    out = _by_image(rows_KE, image_K, rank_K, batch, rows_of_image)
    branch = head.running.get("segment")
    if branch is None:
        return (out,)
    assert isinstance(branch, SegmentBranch)
    return out, branch.whole_prototypes(maps["feats"])


def _by_image(
    rows_KE: torch.Tensor, image_K: torch.Tensor, rank_K: torch.Tensor, batch: int, rows_of_image: int
) -> torch.Tensor:
    """Return rows image by image, (B, M, 6 + extra), zero where there are none.

    Args:
        rows_KE: The rows, of which the first is a stand-in.
        image_K: Image of each.
        rank_K: Place of each in its image.
        batch: Number of images.
        rows_of_image: M.
    """
    place_K = image_K * rows_of_image + rank_K
    unused = torch.arange(place_K.shape[0], device=place_K.device) == 0  # the stand-in's row is cut off
    place_K = torch.where(unused, torch.ones_like(place_K) * batch * rows_of_image, place_K)
    out = rows_KE.new_zeros(batch * rows_of_image + 1, rows_KE.shape[1])
    return out.index_put_((place_K,), rows_KE)[:-1].view(-1, rows_of_image, rows_KE.shape[1])


def mask_logits(weights_BMC: torch.Tensor, boxes_BM4: torch.Tensor, proto: torch.Tensor) -> torch.Tensor:
    """Return mask logits (B, M, H, W), zero two cells and further from the box.

    Args:
        weights_BMC: Coefficients.
        boxes_BM4: x1 y1 x2 y2 in cells.
        proto: Prototypes (B, C, H, W).
    """
    height, width = proto.shape[2:]
    values = (weights_BMC @ proto.flatten(2)).unflatten(2, (height, width))
    x1, y1, x2, y2 = boxes_BM4[..., None].unbind(2)
    x, y = torch.arange(width, device=proto.device), torch.arange(height, device=proto.device)
    inside_x, inside_y = (x > x1 - 2) & (x < x2 + 2), (y > y1 - 2) & (y < y2 + 2)
    return values * inside_x[:, :, None] * inside_y[..., None]


def _with_stand_in(values: torch.Tensor) -> torch.Tensor:
    """Return integers (N,) with a 0 before them."""
    return torch.cat((values.new_zeros(1), values))
