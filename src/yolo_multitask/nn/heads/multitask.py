"""The shared head: one box and class prediction per anchor, and a branch for each task.

Shape suffixes: B batch, C channels, H W map, A anchors of all levels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from ultralytics.nn.modules.head import Detect

from yolo_multitask import host
from yolo_multitask.args import check_tasks
from yolo_multitask.data.spec import check_kpt_shape
from yolo_multitask.nn.branches import Branch, PoseBranch, SegmentBranch, TrackBranch
from yolo_multitask.nn.sites import Sites
from yolo_multitask.tasks import BRANCH_TASKS, RowLayout

ROW_ORDER = ("pose", "segment", "track")  # of the branches' columns in a row, see `RowLayout`


class MultiTask(Detect):
    """Boxes, classes and any subset of the branches in `nn.branches.BRANCHES` from the same feature maps.

    It subclasses the host's `Detect`, whose box and class layers keep their names (`cv2`, `cv3`), so that the host's
    class remapping by name, device moves and fusion apply to it.

    Attributes:
        branches: The branches by task name.
        active: Tasks computed at inference, a subset of `tasks`. Training always computes all.
        lazy: Whether a forward pass at inference stops at the class scores. Boxes are then computed by `boxes_at` where
            a score is high enough, and everything else by `rows_at` where a box was kept.
    """

    lazy = False

    def __init__(
        self,
        nc: int = 80,
        nm: int = 32,
        npr: int = 256,
        kpt_shape: tuple[int, int] | None = (17, 3),
        tasks: Sequence[str] = BRANCH_TASKS,
        embed_dim: int = 128,
        next_box: bool = False,
        taps: Sequence[int] = (),
        reg_max: int = 16,
        end2end: bool = False,
        ch: Sequence[int] = (),
    ) -> None:
        """Build the head.

        Args:
            nc: Number of classes.
            nm: Number of mask prototypes.
            npr: Channels of the prototype layers.
            kpt_shape: Keypoints (K, D); D is 2 (x, y) or 3 (x, y, visibility). Needed by `pose` only.
            tasks: Tasks to build branches for.
            embed_dim: Length of the embedding of `track`.
            next_box: Whether `track` predicts the box in the next frame too.
            taps: Channels of the maps that `track` reads appearance from; default: those of the levels.
            reg_max: Bins of the box distance distribution.
            end2end: Whether to add a one-to-one head; not supported here.
            ch: Channels of each level's feature map.

        Raises:
            ValueError: If `pose` is among the tasks without a valid `kpt_shape`, or `end2end` is asked for.
        """
        if end2end:
            raise ValueError(
                "The MultiTask head has no one-to-one branches; remove 'end2end: True' from the model YAML."
            )
        super().__init__(nc, reg_max, end2end, list(ch))
        self.tasks = check_tasks(tasks)
        self.active = self.tasks
        branches: dict[str, Branch] = {}
        if "segment" in self.tasks:
            branches["segment"] = SegmentBranch(tuple(ch), nm, npr)
        if "pose" in self.tasks:
            branches["pose"] = PoseBranch(tuple(ch), check_kpt_shape(kpt_shape))
        if "track" in self.tasks:
            branches["track"] = TrackBranch(tuple(ch), tuple(taps or ch), embed_dim, next_box)
        self.branches = nn.ModuleDict(branches)

    @property
    def layout(self) -> RowLayout:
        """Where the values of an output row stand, for the active tasks."""
        columns: dict[str, int] = {}
        for task, branch in self.branches.items():
            if task in self.active:
                columns |= branch.row
        return RowLayout(nc=self.nc, **columns)

    @property
    def running(self) -> dict[str, Branch]:
        """Branches that the next forward pass computes, in the order of their columns in a row."""
        wanted = self.tasks if self.training else self.active
        found: dict[str, Any] = dict(self.branches.items())
        return {t: found[t] for t in ROW_ORDER if t in found and t in wanted}

    def forward(self, x: list[torch.Tensor]) -> Any:
        """Run the head.

        Args:
            x: Feature maps of all levels, (B, C, H, W) each, then those of the layers that `track` reads from.

        Returns:
            In training, the raw outputs by name: `boxes` (B, 4 * reg_max, A), `scores` (B, nc, A), `feats` and those
            of the branches. At inference `(y, raw)`, or `((y, proto), raw)` where masks are active, with `y`
            (B, 4 + nc + extra, A): boxes as cx cy w h in input pixels, class probabilities, then the decoded columns of
            `layout`. In export mode the first element alone. If `lazy`, `(scores, maps)` with class probabilities
            (B, nc, A) and `maps`: `feats` and `taps`, the feature maps of the levels and of the other layers.
        """
        feats, taps = x[: self.nl], x[self.nl :] or x
        if self.lazy and not self.training:
            scores = [conv(f).flatten(2) for conv, f in zip(self.cv3, feats, strict=True)]
            return torch.cat(scores, 2).sigmoid(), {"feats": feats, "taps": taps}
        raw = self.forward_head(feats, **self.one2many)
        running = self.running
        for branch in running.values():
            raw.update(branch(feats, taps))
        if self.training:
            return raw
        y = host.decode_boxes(self, raw)
        boxes = y[:, :4]
        y = torch.cat([y, *(b.decode(raw, boxes, self.anchors, self.strides) for b in running.values())], 1)
        out = (y, raw["proto"]) if "proto" in raw else y
        return out if self.export else (out, raw)

    def boxes_at(self, sites: Sites) -> torch.Tensor:
        """Return the boxes at a few anchors, (4, N), cx cy w h in input pixels."""
        if not len(sites):
            return self.stride.new_empty(4, 0)
        return (self.decode_bboxes(self.dfl(sites.run(self.cv2)), sites.anchors[None]) * sites.strides)[0]

    def rows_at(self, sites: Sites, boxes_4N: torch.Tensor, taps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the decoded columns of the active branches at a few anchors, (N, extra), as `layout` says.

        Args:
            sites: The anchors.
            boxes_4N: Their boxes from `boxes_at`.
            taps: Feature maps of the other layers that the head reads.
        """
        if not len(sites):
            return boxes_4N.new_empty(0, self.layout.extra)
        boxes = boxes_4N[None]
        columns = [
            branch.decode(branch.at(sites, boxes, taps), boxes, sites.anchors, sites.strides)
            for branch in self.running.values()
        ]
        return torch.cat(columns, 1)[0].T if columns else boxes_4N.T[:, :0]

    def prototypes(self, maps: Mapping[str, Any], boxes_N4: torch.Tensor, image_N: torch.Tensor) -> torch.Tensor | None:
        """Return the mask prototypes (B, nm, H/4, W/4) where boxes are, elsewhere maybe zero; None without masks.

        Args:
            maps: From `forward`.
            boxes_N4: x1 y1 x2 y2 in input pixels.
            image_N: Image of each box, int64.
        """
        branch = self.running.get("segment")
        if branch is None:
            return None
        assert isinstance(branch, SegmentBranch)
        return branch.prototypes(maps["feats"][0], boxes_N4 / self.stride[0], image_N)
