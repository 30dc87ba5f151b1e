"""The shared head: one box and class prediction per anchor, and a branch for each task.

With `end2end: True` in the model YAML there are two of it, as in YOLO26: a one-to-many head, whose detections need an
NMS, and a one-to-one head, whose best detections are taken as they are. Which one is used at inference is the host's
`end2end` of a head, set by its argument `nms`.

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
from yolo_multitask.nn.branches import (
    Branch,
    PoseBranch,
    PoseBranch26,
    SegmentBranch,
    SegmentBranch26,
    TrackBranch,
)
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
            end2end: Whether to add a one-to-one head.
            ch: Channels of each level's feature map.

        Raises:
            ValueError: If `pose` is among the tasks without a valid `kpt_shape`.
        """
        super().__init__(nc, reg_max, end2end, list(ch))
        self.tasks = check_tasks(tasks)
        self.active = self.tasks
        branches: dict[str, Branch] = {}
        if "segment" in self.tasks:
            branches["segment"] = self.segment_branch(tuple(ch), nm, npr)
        if "pose" in self.tasks:
            branches["pose"] = self.pose_branch(tuple(ch), check_kpt_shape(kpt_shape))
        if "track" in self.tasks:
            branches["track"] = TrackBranch(tuple(ch), tuple(taps or ch), embed_dim, next_box)
        self.branches = nn.ModuleDict(branches)
        for branch in branches.values() if end2end else ():
            branch.add_one2one()

    def segment_branch(self, ch: tuple[int, ...], nm: int, npr: int) -> SegmentBranch:
        """Build the branch of `segment`."""
        return SegmentBranch(ch, nm, npr)

    def pose_branch(self, ch: tuple[int, ...], kpt_shape: tuple[int, int]) -> PoseBranch:
        """Build the branch of `pose`."""
        return PoseBranch(ch, kpt_shape)

    @property
    def dual(self) -> bool:
        """Whether there is a one-to-one head beside or in place of the one-to-many head."""
        return getattr(self, "one2one_cv2", None) is not None

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
            of the branches; of two heads, those of both under `one2many` and `one2one`. At inference `(y, raw)`, or
            `((y, proto), raw)` where masks are active, with `y` (B, 4 + nc + extra, A): boxes as cx cy w h in input
            pixels, class probabilities, then the decoded columns of `layout`. If `end2end`, `y` is instead
            (B, max_det, 6 + extra), rows as `layout` says. In export mode the first element alone. If `lazy`,
            `(scores, maps)` with class probabilities (B, nc, A) of the head in use and `maps`: `feats` and `taps`, the
            feature maps of the levels and of the other layers.
        """
        feats, taps = x[: self.nl], x[self.nl :] or x
        if self.lazy and not self.training:
            scores = [conv(f).flatten(2) for conv, f in zip(self._used["cls_head"], feats, strict=True)]
            return torch.cat(scores, 2).sigmoid(), {"feats": feats, "taps": taps}
        preds = self._raw(feats, taps)
        if self.training:
            return preds
        used = preds["one2one" if self.end2end else "one2many"] if self.dual else preds
        y = host.decode_boxes(self, used)
        boxes = self.centred(y[:, :4])
        y = torch.cat([y, *(b.decode(used, boxes, self.anchors, self.strides) for b in self.running.values())], 1)
        if self.end2end:
            y = self.postprocess(y.permute(0, 2, 1))
        out = (y, used["proto"]) if "proto" in used else y
        return out if self.export else (out, preds)

    def _raw(self, feats: list[torch.Tensor], taps: Sequence[torch.Tensor]) -> dict[str, Any]:
        """Return the raw outputs, of two heads one beside the other."""
        shared: dict[str, torch.Tensor] = {}
        for branch in self.running.values():
            shared |= branch.shared(feats, taps)
        if not self.dual:
            return self._raw_of_head(feats, shared, one2one=False)
        one2many = {} if self.cv2 is None else self._raw_of_head(feats, shared, one2one=False)
        if self.training:  # the one-to-one head does not train what it shares with the other, as in the host
            held = {name for branch in self.running.values() for name in branch.detached}
            feats = [x.detach() for x in feats]
            shared = {name: x.detach() if name in held else x for name, x in shared.items()}
        return {"one2many": one2many, "one2one": self._raw_of_head(feats, shared, one2one=True)}

    def _raw_of_head(
        self, feats: list[torch.Tensor], shared: Mapping[str, torch.Tensor], *, one2one: bool
    ) -> dict[str, torch.Tensor]:
        raw: dict[str, torch.Tensor] = self.forward_head(feats, **(self.one2one if one2one else self.one2many))
        for branch in self.running.values():
            raw.update(branch(feats, one2one=one2one))
        return {**raw, **shared}

    @property
    def _used(self) -> dict[str, Any]:
        """The box and class layers that inference uses."""
        layers: dict[str, Any] = self.one2one if self.end2end else self.one2many
        return layers

    def centred(self, boxes: torch.Tensor) -> torch.Tensor:
        """Return boxes as this head decodes them, (B, 4, N), as cx cy w h; a one-to-one head gives corners."""
        if not self.end2end:
            return boxes
        low, high = boxes.chunk(2, 1)
        return torch.cat(((low + high) / 2, high - low), 1)

    def fuse(self) -> None:
        """Drop the head that inference does not use, and the layers that only training needs; see the host."""
        one2one = self.end2end
        super().fuse()
        for branch in self.branches.values():
            branch.strip(one2one)  # type: ignore[operator]

    def best(self, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return score, class and anchor of the best detections of a one-to-one head, (B, K) each, the best first.

        Args:
            scores: Class probabilities (B, nc, A).
        """
        score, cls, anchor = self.get_topk_index(scores.permute(0, 2, 1), self.max_det)
        return score[..., 0], cls[..., 0], anchor

    def boxes_at(self, sites: Sites) -> torch.Tensor:
        """Return the boxes at a few anchors in input pixels, (4, N), cx cy w h, or x1 y1 x2 y2 if `end2end`."""
        if not len(sites):
            return self.stride.new_empty(4, 0)
        distances = self.dfl(sites.run(self._used["box_head"]))
        return (self.decode_bboxes(distances, sites.anchors[None]) * sites.strides)[0]

    def rows_at(self, sites: Sites, boxes_4N: torch.Tensor, taps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the decoded columns of the active branches at a few anchors, (N, extra), as `layout` says.

        Args:
            sites: The anchors.
            boxes_4N: Their boxes from `boxes_at`.
            taps: Feature maps of the other layers that the head reads.
        """
        if not len(sites):
            return boxes_4N.new_empty(0, self.layout.extra)
        boxes, one2one = self.centred(boxes_4N[None]), self.end2end
        columns = [
            branch.decode(branch.at(sites, boxes, taps, one2one), boxes, sites.anchors, sites.strides)
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
        return branch.prototypes(maps["feats"], boxes_N4 / self.stride[0], image_N)


class MultiTask26(MultiTask):
    """The shared head with the branches of YOLO26: prototypes from all levels, keypoints with their likelihood."""

    def segment_branch(self, ch: tuple[int, ...], nm: int, npr: int) -> SegmentBranch:
        """See `MultiTask.segment_branch`."""
        return SegmentBranch26(ch, nm, npr, self.nc)

    def pose_branch(self, ch: tuple[int, ...], kpt_shape: tuple[int, int]) -> PoseBranch:
        """See `MultiTask.pose_branch`."""
        return PoseBranch26(ch, kpt_shape)
