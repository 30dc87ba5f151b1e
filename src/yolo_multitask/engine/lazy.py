"""Detection in the order that costs least: scores, boxes where one is high enough, NMS, the rest where a box is kept.

N detections of an image, A anchors of all levels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from ultralytics.utils import nms

from yolo_multitask.args import DEFAULTS
from yolo_multitask.nn.heads import MultiTask
from yolo_multitask.nn.sites import Sites


class Detected(NamedTuple):
    """What is detected in a batch.

    Attributes:
        rows: Of each image what the NMS keeps, (N, 6 + extra), as `RowLayout` says.
        proto: Prototypes (B, nm, h/4, w/4) in and around the boxes, elsewhere maybe zero; None without masks.
    """

    rows: list[torch.Tensor]
    proto: torch.Tensor | None


def is_lazy(args: Any, device: torch.device) -> bool:
    """Return whether the argument `lazy` of a run asks for lazy passes on a device; `auto` does on a CPU."""
    lazy = getattr(args, "lazy", DEFAULTS["lazy"])
    return device.type == "cpu" if lazy == "auto" else bool(lazy)


def detect(
    head: MultiTask,
    scores: torch.Tensor,
    maps: Mapping[str, Any],
    *,
    conf: float,
    classes: Sequence[int] | None = None,
    margin: float = 0.0,
    **settings: Any,
) -> Detected:
    """Detect in the outputs of a lazy forward pass.

    Args:
        head: A head whose last forward pass was lazy.
        scores: What it gave, class probabilities (B, nc, A).
        maps: The same.
        conf: Lowest class probability of a detection.
        classes: Classes to detect, None for all.
        margin: Pixels around a box of which prototypes are needed too, beyond a cell of the first level.
        **settings: Further arguments of the host's NMS.
    """
    best, cls = (scores.amax(1), None) if classes is None else scores.max(1)
    candidate = best > conf
    if cls is not None and not settings.get("multi_label"):
        candidate &= torch.isin(cls, torch.as_tensor(classes, device=cls.device))
    image_N, anchor_N = candidate.nonzero(as_tuple=True)
    boxes_4N = head.boxes_at(Sites(maps["feats"], head.stride, image_N, anchor_N))
    found, kept = [], []
    for i, own in enumerate(scores):
        mine = (image_N == i).nonzero().flatten()
        candidates = torch.cat((boxes_4N[:, mine], own[:, anchor_N[mine]]))
        if len(mine) == 6:  # the host would take them for the rows of an end-to-end network
            candidates = F.pad(candidates, (0, 1))
        (rows,), (places,) = nms.non_max_suppression(
            candidates[None], conf, classes=classes, nc=scores.shape[1], return_idxs=True, **settings
        )
        found.append(rows)
        kept.append(mine[places.flatten().long()])
    chosen = torch.cat(kept)
    rows, image_N = torch.cat(found), image_N[chosen]
    sites = Sites(maps["feats"], head.stride, image_N, anchor_N[chosen])
    extra = head.rows_at(sites, boxes_4N[:, chosen], maps["taps"])
    around = torch.tensor([-margin, -margin, margin, margin], device=rows.device)
    proto = head.prototypes(maps, rows[:, :4] + around, image_N)
    return Detected(list(torch.cat((rows, extra), 1).split([len(k) for k in kept])), proto)
