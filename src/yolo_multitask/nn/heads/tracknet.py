"""`TrackNet`: the head that follows small, fast objects through a window of frames.

Every cell of the map has `num_groups` groups, one for each frame of the window, oldest first. A group holds the
position of an object in that frame as distributions, and class scores. The idea of grouped frames and of signed
offsets as distributions is that of TrackNet-YOLO (github.com/LAKERFrank/YOLOv8-Multi-Task).

The order of elements, everywhere: level, then group, then cell (row by row). In a map the channels are those of
`cv2`, group by group, feature by feature, bin by bin, and then those of `cv3`, group by group.

Shape suffixes: B batch, G groups, F features, R bins, C classes, H W map, N elements of all levels, V decoded values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.modules.head import Detect

from yolo_multitask.nn.features import FeatureSet, feature_set
from yolo_multitask.nn.sites import Sites

PRIOR = 0.01  # score of every class before training (RetinaNet, https://arxiv.org/abs/1708.02002)


class TrackNet(Detect):
    """Positions and class scores of objects in each frame of a window, from the same feature maps.

    It subclasses the host's `Detect` for its device moves, fusion and class names; no layer of that is used.

    Attributes:
        num_groups: Frames of a window, G.
        feat_no: Regressed numbers per element, F.
        features: What they are.
        no: Channels of a map, G * (F * reg_max + nc).
        nl: Number of levels.
        stride: Pixels per cell of each level.
        above: Score from which on positions are computed at inference, where a few elements are of interest; None
            computes all. Does not apply to exports.
    """

    above: float | None = None

    def __init__(
        self,
        nc: int = 1,
        feat_no: int = 8,
        num_groups: int = 10,
        reg_max: int = 16,
        features: str | FeatureSet | None = None,
        ch: Sequence[int] = (),
    ) -> None:
        """Build the head.

        Args:
            nc: Number of classes that are followed.
            feat_no: Number of features.
            num_groups: Frames of a window.
            reg_max: Bins of a feature.
            features: The feature set or its name; default: what `feat_no` means.
            ch: Channels of each level's feature map.

        Raises:
            ValueError: If a number is not a whole one of 1 or more, or does not fit the features.
        """
        for name, value in (("nc", nc), ("feat_no", feat_no), ("frames", num_groups), ("reg_max", reg_max)):
            if type(value) is not int or value < 1:
                raise ValueError(f"TrackNet takes a whole number of 1 or more as '{name}', got {value!r}.")
        found = features if isinstance(features, FeatureSet) else feature_set(features, feat_no)
        found.check(feat_no, reg_max)
        super().__init__(nc, reg_max, False, list(ch))
        self.num_groups, self.feat_no, self.features = num_groups, feat_no, found
        self.no = num_groups * (feat_no * reg_max + nc)
        width = max(16, ch[0] // 4, reg_max * 4), max(ch[0], min(num_groups * nc, 100))  # as in the host's heads
        self.cv2 = _stacks(ch, width[0], num_groups * feat_no * reg_max)
        self.cv3 = _stacks(ch, width[1], num_groups * nc)
        self.dfl = nn.Identity()  # the host's holds four features

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the decoded values of an element before its class scores."""
        return tuple(column.name for column in self.features.columns)

    def forward(self, x: list[torch.Tensor]) -> Any:
        """Run the head.

        Args:
            x: Feature maps of all levels, (B, C, H, W) each.

        Returns:
            In training the raw outputs by name: `feats`, the maps (B, no, H, W); `positions` (B, N, F, R) and `scores`
            (B, N, nc), both logits. At inference `(values, raw)` with `values` (B, N, V + nc): the columns of the
            feature set in input pixels, then class probabilities. In export mode `values` alone. With `above`, the
            columns are NaN where no score reaches it, and `raw` is empty.
        """
        if self.above is not None and not self.training and not self.export:
            return self._values_above(x, self.above), {}
        positions = [conv(f) for conv, f in zip(self.cv2, x, strict=True)]
        scores = [conv(f) for conv, f in zip(self.cv3, x, strict=True)]
        if self.export and not self.training:
            return self._values(positions, scores)
        raw = self._raw(positions, scores)
        return raw if self.training else (self._values(positions, scores), raw)

    def _raw(self, positions: list[torch.Tensor], scores: list[torch.Tensor]) -> dict[str, Any]:
        """Return the maps and what they say element by element."""
        return {
            "feats": [torch.cat(pair, 1) for pair in zip(positions, scores, strict=True)],
            "positions": torch.cat([self._rows(p) for p in positions], 1).unflatten(2, (self.feat_no, self.reg_max)),
            "scores": torch.cat([self._rows(s) for s in scores], 1),
        }

    def _values(self, positions: list[torch.Tensor], scores: list[torch.Tensor]) -> torch.Tensor:
        """Return the decoded elements of maps, (B, N, V + nc); but for exports in float32 at least."""
        if not self.export:
            positions, scores = [_precise(p) for p in positions], [_precise(s) for s in scores]
        centres_N2, stride_N, _ = elements([p.shape[2:] for p in positions], self.stride, self.num_groups, positions[0])
        bins_R1 = torch.arange(self.reg_max, device=centres_N2.device, dtype=positions[0].dtype)[:, None]
        shape = (self.num_groups * self.feat_no, self.reg_max, -1)
        expected = [(p.reshape(p.shape[0], *shape).softmax(2) * bins_R1).sum(2) for p in positions]
        values_BNF = torch.cat([self._rows(e) for e in expected], 1)
        values = [values_BNF[..., i] for i in range(self.feat_no)]
        columns = self.features.decode(values, centres_N2, stride_N)
        probabilities = torch.cat([self._rows(s) for s in scores], 1).sigmoid()
        return torch.cat((torch.stack(columns, 2), probabilities), 2)

    def _values_above(self, x: list[torch.Tensor], above: float) -> torch.Tensor:
        """Return the decoded elements (B, N, V + nc), positions only where a score is `above` or higher."""
        scores = [conv(f) for conv, f in zip(self.cv3, x, strict=True)]
        scores_BNC = _precise(torch.cat([self._rows(s) for s in scores], 1)).sigmoid()
        centres_N2, stride_N, group_N = elements([f.shape[2:] for f in x], self.stride, self.num_groups, scores_BNC)
        image_M, element_M = (scores_BNC >= above).any(2).nonzero(as_tuple=True)
        out = scores_BNC.new_full((*scores_BNC.shape[:2], len(self.columns)), float("nan"))
        if len(element_M):
            cells, start = [], 0
            for f in x:  # which anchor, in the order level, cell, an element stands at
                count = f.shape[2] * f.shape[3]
                cells.append(torch.arange(start, start + count, device=f.device).repeat(self.num_groups))
                start += count
            found = _precise(Sites(x, self.stride, image_M, torch.cat(cells)[element_M]).run(self.cv2)[0].T)
            own_MFR = found.view(-1, self.num_groups, self.feat_no, self.reg_max)[
                torch.arange(len(element_M), device=found.device), group_N[element_M]
            ]
            bins_R = torch.arange(self.reg_max, device=found.device, dtype=found.dtype)
            values_MF = (own_MFR.softmax(2) * bins_R).sum(2)
            columns = self.features.decode(values_MF.unbind(1), centres_N2[element_M], stride_N[element_M])
            out[image_M, element_M] = torch.stack(columns, 1)
        return torch.cat((out, scores_BNC), 2)

    def _rows(self, maps: torch.Tensor) -> torch.Tensor:
        """Return maps of (B, G * columns, H, W), or with their cells flattened, as (B, G * H * W, columns)."""
        columns = maps.shape[1] // self.num_groups
        grouped = maps.reshape(maps.shape[0], self.num_groups, columns, -1)
        return grouped.transpose(2, 3).reshape(maps.shape[0], -1, columns)

    def bias_init(self) -> None:
        """Let every class begin with the score `PRIOR`, and every signed distance with zero."""
        for position, score in zip(self.cv2, self.cv3, strict=True):
            nn.init.zeros_(position[-1].bias)
            nn.init.constant_(score[-1].bias, float(torch.logit(torch.tensor(PRIOR))))


def elements(
    shapes: Sequence[Sequence[int]],
    strides: torch.Tensor | Sequence[float],
    num_groups: int,
    like: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return where each element stands, in the order level, group, cell.

    Args:
        shapes: Height and width of each level's map.
        strides: Pixels per cell of each level.
        num_groups: Frames of a window, G.
        like: A tensor with the device and the floating type of the results; default: float32 on the CPU.

    Returns:
        Cell centres in input pixels (N, 2), pixels per cell (N,), and group (N,) int64; 0 is the oldest frame.
    """
    like = torch.zeros(1) if like is None else like
    options: dict[str, Any] = {"device": like.device, "dtype": like.dtype}
    strides_L = strides.to(**options) if isinstance(strides, torch.Tensor) else torch.tensor(strides, **options)
    group_G11 = torch.arange(num_groups, device=like.device, dtype=torch.int64)[:, None, None]
    centres, sizes, groups = [], [], []
    for level, (height, width) in enumerate(shapes):
        y, x = torch.arange(height, **options) + 0.5, torch.arange(width, **options) + 0.5
        grid = torch.stack((x[None, :].expand(height, width), y[:, None].expand(height, width)), 2)
        centres.append((grid * strides_L[level]).flatten(0, 1).repeat(num_groups, 1))
        group = group_G11.expand(num_groups, height, width).flatten()
        groups.append(group)
        sizes.append(torch.ones_like(group, dtype=like.dtype) * strides_L[level])
    return torch.cat(centres), torch.cat(sizes), torch.cat(groups)


def _precise(value: torch.Tensor) -> torch.Tensor:
    """Return half precision as float32: above 512 pixels it knows positions to half a pixel alone."""
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value


def _stacks(ch: Sequence[int], width: int, columns: int) -> nn.ModuleList:
    """Return two 3x3 and one 1x1 convolution per level."""
    return nn.ModuleList(
        nn.Sequential(Conv(c, width, 3), Conv(width, width, 3), nn.Conv2d(width, columns, 1)) for c in ch
    )
