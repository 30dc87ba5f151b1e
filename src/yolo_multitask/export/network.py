"""The network as an export sees it: a copy that gives rows and prototypes, or detections."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from math import prod
from typing import Any

import torch
from ultralytics.nn.tasks import DetectionModel, SegmentationModel

from yolo_multitask.engine.exported import pixel_units
from yolo_multitask.nn.graph import Suppression, select_best, suppress
from yolo_multitask.nn.network import MultiTaskModel
from yolo_multitask.tasks import TASK

LEAST_STRIDE = 32  # pixels that the sides of an input are multiples of, as the host takes of a network in PyTorch


class ExportNetwork(MultiTaskModel):
    """A `MultiTaskModel` that is traced.

    Attributes:
        suppression: What the NMS in the graph does; None to give all anchors.
        lowest: Score above which the branches of a one-to-one head are computed, at detections alone; None to compute
            them everywhere.
        relative: Whether pixels are given as shares of the input's sides, in formats where the host expects that.
    """

    suppression: Suppression | None = None
    lowest: float | None = None
    relative = False

    @classmethod
    def of(cls, network: MultiTaskModel, tasks: Sequence[str], suppression: Suppression | None) -> ExportNetwork:
        """Return a copy of `network` that computes `tasks`.

        The host names a second output, and its axes, where the network is one of its `SegmentationModel`.
        """
        copy: Any = deepcopy(network)
        copy.__class__ = SegmentingExportNetwork if "segment" in tasks else cls
        copy.head.active, copy.suppression = tuple(tasks), suppression
        copy.task = "segment" if "segment" in tasks else "detect"
        return copy  # type: ignore[no-any-return]

    def predict(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """Return `rows` or `(rows, proto)` of images (B, 3, h, w); with an NMS what `nn.graph.suppress` does, of a
        one-to-one head what `select_best` does.
        """
        choose = self.end2end and self.lowest is not None
        if self.suppression is None and not choose:
            out = super().predict(x, *args, **kwargs)
            if not self.relative:
                return out
            rows, *others = out if isinstance(out, tuple) else (out,)
            rows = rows / pixel_units(self.head.layout, getattr(self, "kpt_shape", None), x.shape[2:]).to(rows)[:, None]
            return (rows, *others) if others else rows
        self.head.lazy = True
        scores, maps = super().predict(x, *args, **kwargs)
        self.head.lazy = False
        if self.suppression is None:
            assert self.lowest is not None
            out = select_best(self.head, scores, maps, self.lowest)
        else:
            out = suppress(self.head, scores, maps, self.suppression)
        return out if len(out) > 1 else out[0]

    def fuse(self, *args: Any, **kwargs: Any) -> Any:
        """Fuse convolutions and BatchNorms alone: few runtimes are fast where our own prototype layer is."""
        return DetectionModel.fuse(self, *args, **kwargs)

    def metadata(self) -> dict[str, Any]:
        """Return what a reader of the file must know beyond the host's metadata."""
        layout = self.head.layout
        out: dict[str, Any] = {
            "task": TASK,
            "tasks": list(self.head.active),
            "stride": max(LEAST_STRIDE, int(self.stride.max())),
            "nc": layout.nc,
            "nm": layout.nm,
            "embed_dim": layout.ne,
            "next": bool(layout.nb),
            "relative": self.relative,
            "masks": self.suppression is not None and self.suppression.masks,
        }
        if "pose" in self.head.active:
            out["kpt_shape"] = list(self.kpt_shape)
            assert prod(self.kpt_shape) == layout.nk
            for key in ("kpt_classes", "kpt_names", "kpt_oks_sigmas"):
                if getattr(self, key, None) is not None:
                    out[key] = getattr(self, key)
        return out


class SegmentingExportNetwork(ExportNetwork, SegmentationModel):
    """An `ExportNetwork` with masks."""
