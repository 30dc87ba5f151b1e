"""Teachers look at a batch of views and say what they see, anchor by anchor and instance by instance.

Shape suffixes: A anchors of all levels, C classes of the student, n anchors on which something is seen, m instances.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from ultralytics.utils import nms
from ultralytics.utils.metrics import box_iou
from ultralytics.utils.ops import xywh2xyxy

from yolo_multitask.distill.lessons import Lesson
from yolo_multitask.distill.teachers import Teacher, class_map

SEEN = 0.05  # class probability from which an anchor is on an object
ENTRY = 0.01  # class probability below which it is as good as zero
MOST = 300  # anchors of a view
CONF, IOU = 0.15, 0.6  # of the NMS that makes instances
SAME = 0.5  # box IoU from which two detections of a class, or an anchor and an instance, are of the same object


class Labeller:
    """All teachers of a student, for pictures of one size.

    Attributes:
        teachers: The one that the student starts from first.
        names: The student's classes.
        kpt_shape: The student's keypoints, (0, 3) without any.
        reg_max: Bins of the student's box distances.
    """

    def __init__(
        self,
        teachers: Sequence[Teacher],
        names: Mapping[int, str],
        kpt_shape: Sequence[int] | None,
        reg_max: int,
        embedder: Any = None,
    ) -> None:
        """Take the teachers; `embedder` maps a picture (H, W, 3) and boxes (m, 4) in its pixels to (m, E)."""
        self.teachers, self.names, self.reg_max, self.embedder = list(teachers), dict(names), reg_max, embedder
        self.kpt_shape: tuple[int, int] = (int(kpt_shape[0]), int(kpt_shape[1])) if kpt_shape else (0, 3)
        self.maps = [class_map(teacher, names) for teacher in teachers]
        self.known = sorted({ours for pairs in self.maps for _, ours in pairs})
        posed = [pairs for t, pairs in zip(teachers, self.maps, strict=True) if "pose" in t.tasks]
        self.kpt_classes = sorted({ours for pairs in posed for _, ours in pairs})

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> list[Lesson]:
        """Return what the teachers say of each image; images are (B, 3, H, W) in 0..1."""
        seen = [self._look(teacher, pairs, images) for teacher, pairs in zip(self.teachers, self.maps, strict=True)]
        return [self._lesson([s[i] for s in seen]) for i in range(len(images))]

    def _look(self, teacher: Teacher, pairs: list[tuple[int, int]], images: torch.Tensor) -> list[dict[str, Any]]:
        """Return of each image a teacher's boxes, class probabilities, instances and prototypes."""
        out, raw = teacher.network(images)
        y = out[0] if isinstance(out, tuple) else out
        theirs, ours = (torch.tensor(i, device=y.device) for i in zip(*pairs, strict=True))
        scores = y.new_zeros(len(y), len(self.names), y.shape[2])
        scores[:, ours] = y[:, 4 + theirs]
        columns = torch.cat((y[:, :4], scores, y[:, 4 + len(teacher.names) :]), 1)
        # the host leaves out the rest of a batch on a slow machine; a lesson is kept, and must be whole
        rows = nms.non_max_suppression(columns, CONF, IOU, nc=len(self.names), max_time_img=math.inf)
        keypoints, masks = teacher.columns()
        found = []
        for i, own in enumerate(rows):
            proto = raw["proto"][i] if "proto" in raw and "segment" in teacher.tasks else None
            found.append(
                {
                    "boxes": xywh2xyxy(y[i, :4].T), "scores": scores[i], "bins": raw["boxes"][i].T,
                    "instance_boxes": own[:, :4], "instance_score": own[:, 4], "instance_class": own[:, 5].long(),
                    "keypoints": own[:, keypoints] if "pose" in teacher.tasks else None,
                    "masks": None if proto is None else mask_crops(own[:, masks], proto, own[:, :4], images.shape[2:]),
                }
            )  # fmt: skip
        return found

    def _lesson(self, seen: list[dict[str, Any]]) -> Lesson:
        """Put together what the teachers say of one image."""
        best_TA = torch.stack([s["scores"].amax(0) for s in seen])
        who_A = best_TA.argmax(0)
        scores_CA = torch.stack([s["scores"] for s in seen]).amax(0)
        top_A, class_A = scores_CA.max(0)
        anchors = (top_A > SEEN).nonzero().flatten()
        anchors = anchors[top_A[anchors].argsort(descending=True)[:MOST]].sort().values
        who = who_A[anchors]
        boxes = torch.stack([s["boxes"][anchors] for s in seen])[who, torch.arange(len(anchors))]
        same_bins = all(s["bins"].shape[1] == 4 * self.reg_max for s in seen)
        bins = (
            torch.stack([s["bins"][anchors] for s in seen])[who, torch.arange(len(anchors))]
            if same_bins
            else boxes[:, :0]
        )
        entry_class, entry_anchor = (scores_CA > ENTRY).nonzero(as_tuple=True)
        instances = merge_instances(seen, self.kpt_shape)
        iou = box_iou(boxes, instances["boxes"]) * (class_A[anchors][:, None] == instances["class"])
        best, owner = iou.max(1) if iou.shape[1] else (iou.sum(1), torch.full_like(anchors, -1))
        owner = torch.where(best >= SAME, owner, -1)
        return Lesson(
            anchors=array(anchors, np.int32), boxes=array(boxes), bins=array(bins, np.float16),
            scores=array(top_A[anchors]), owner=array(owner, np.int16),
            entry_anchor=array(entry_anchor, np.int32), entry_class=array(entry_class, np.int16),
            entry_score=array(scores_CA[entry_class, entry_anchor]),
            instance_boxes=array(instances["boxes"]), instance_class=array(instances["class"], np.int16),
            instance_score=array(instances["score"]), keypoints=array(instances["keypoints"]),
            mask_corner=instances["corner"], mask_values=instances["values"],
            embeddings=np.zeros((len(instances["boxes"]), 0), np.float16),
        )  # fmt: skip


def merge_instances(seen: Sequence[Mapping[str, Any]], kpt_shape: Sequence[int]) -> dict[str, Any]:
    """Return the instances of all teachers, each once: `boxes`, `class`, `score`, `keypoints`, `corner`, `values`.

    A later teacher's detection that overlaps one of its class that is there already gives that one what it lacks; any
    other is a new one.

    Args:
        seen: What each teacher sees in one image, see `Labeller`.
        kpt_shape: Keypoints (K, D) of an instance.
    """
    boxes, classes, scores = (seen[0][f"instance_{k}"] for k in ("boxes", "class", "score"))
    keypoints = boxes.new_full((len(boxes), *kpt_shape), torch.nan)
    crops: list[Any] = [None] * len(boxes)
    for s in seen:
        iou = box_iou(s["instance_boxes"], boxes) * (s["instance_class"][:, None] == classes)
        best, place = iou.max(1) if iou.shape[1] else (iou.sum(1), s["instance_class"] * 0)
        new = (best < SAME).nonzero().flatten()
        place[new] = len(boxes) + torch.arange(len(new), device=place.device)
        boxes, classes, scores = (
            torch.cat((own, s[f"instance_{k}"][new]))
            for own, k in ((boxes, "boxes"), (classes, "class"), (scores, "score"))
        )
        keypoints = torch.cat((keypoints, keypoints.new_full((len(new), *kpt_shape), torch.nan)))
        crops += [None] * len(new)
        for i in reversed(range(len(place))):  # the most certain comes first in the NMS, and stays
            if s["keypoints"] is not None:
                keypoints[place[i]] = s["keypoints"][i].view(*kpt_shape)
            if s["masks"] is not None:
                crops[place[i]] = s["masks"][i]
    none = (np.zeros(4, np.int32), np.zeros(0, np.uint8))
    crops = [none if c is None else c for c in crops]
    return {
        "boxes": boxes, "class": classes, "score": scores, "keypoints": keypoints,
        "corner": np.array([c[0] for c in crops], np.int32).reshape(-1, 4),
        "values": np.concatenate([none[1], *(c[1] for c in crops)]),
    }  # fmt: skip


def mask_crops(
    coefficients: torch.Tensor, proto: torch.Tensor, boxes: torch.Tensor, size: Sequence[int]
) -> list[tuple[Any, Any]]:
    """Return the mask of each detection inside its box: corners x1 y1 x2 y2 in cells, and uint8 values row by row.

    Args:
        coefficients: (m, nm).
        proto: (nm, h, w).
        boxes: (m, 4) x1 y1 x2 y2 in pixels of the input.
        size: Height and width of the input.
    """
    height, width = proto.shape[1:]
    gain = boxes.new_tensor([width / size[1], height / size[0]] * 2)
    limit = boxes.new_tensor([width, height] * 2)
    low, high = ((boxes * gain).floor(), (boxes * gain).ceil())
    corners = torch.minimum(torch.cat((low[:, :2], high[:, 2:]), 1).clamp(min=0), limit).int().cpu().numpy()
    out = []
    for own, corner in zip(coefficients, corners, strict=True):
        x1, y1, x2, y2 = corner
        mask = torch.einsum("m,mhw->hw", own, proto[:, y1:y2, x1:x2]).sigmoid()
        out.append((corner, (mask * 255).round().byte().cpu().numpy().ravel()))
    return out


def array(values: torch.Tensor, dtype: Any = np.float32) -> Any:
    """Return a tensor as an array of a type."""
    return values.cpu().numpy().astype(dtype)
