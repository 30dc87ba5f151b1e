"""Detection in the order that costs least: scores, boxes where one is high enough, NMS, the rest where a box is kept.

Of a one-to-one head the best scores take the place of the NMS.

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
        rows: Of each image what is kept, (N, 6 + extra), as `RowLayout` says.
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
        **settings: Further arguments of the host's NMS; of a one-to-one head `max_det` alone counts.
    """
    if head.end2end:
        most: Any = settings.get("max_det", head.max_det)
        kept, places = _select_best(head, scores, conf, classes, most)
        sites = Sites(maps["feats"], head.stride, *places)
        boxes_4N = head.boxes_at(sites)
        rows = torch.cat((boxes_4N.T, torch.cat(kept)), 1)
        return _complete(head, maps, sites, boxes_4N, rows, [len(k) for k in kept], margin)
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
    sites = Sites(maps["feats"], head.stride, image_N[chosen], anchor_N[chosen])
    return _complete(head, maps, sites, boxes_4N[:, chosen], torch.cat(found), [len(k) for k in kept], margin)


def _select_best(
    head: MultiTask, scores: torch.Tensor, conf: float, classes: Sequence[int] | None, max_det: int
) -> tuple[list[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """Return score and class of the best detections of each image, (N, 2), and the image and anchor of all."""
    score_BK, cls_BK, anchor_BK = head.best(scores)
    chosen_BK = score_BK > conf
    if classes is not None:
        chosen_BK &= torch.isin(cls_BK, torch.as_tensor(classes, device=cls_BK.device))
    chosen_BK &= chosen_BK.cumsum(1) <= max_det
    values = torch.stack((score_BK, cls_BK), 2)
    kept = [own[chosen] for own, chosen in zip(values, chosen_BK, strict=True)]
    return kept, (chosen_BK.nonzero()[:, 0], anchor_BK[chosen_BK])


def _complete(
    head: MultiTask,
    maps: Mapping[str, Any],
    sites: Sites,
    boxes_4N: torch.Tensor,
    rows: torch.Tensor,
    counts: Sequence[int],
    margin: float,
) -> Detected:
    """Return detections with the columns of the branches and the prototypes.

    Args:
        head: The head.
        maps: What its lazy forward pass gave.
        sites: The anchors of all detections.
        boxes_4N: Their boxes, from the head.
        rows: x1 y1 x2 y2, score and class of each, (N, 6).
        counts: How many of them are of each image.
        margin: See `detect`.
    """
    extra = head.rows_at(sites, boxes_4N, maps["taps"])
    around = torch.tensor([-margin, -margin, margin, margin], device=rows.device)
    proto = head.prototypes(maps, rows[:, :4] + around, sites.image_N)
    return Detected(list(torch.cat((rows, extra), 1).split(list(counts))), proto)
