"""What validation keeps of a frame of a sequence until the whole sequence can be tracked.

N detections, M labelled objects, T tracks, R ignore regions; H W the original image, h w its masks. All coordinates
are pixels of the original image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from yolo_multitask.data.columns import NO_ID
from yolo_multitask.engine.results import Results
from yolo_multitask.engine.scaling import original_boxes, original_keypoints, visible_masks
from yolo_multitask.engine.targets import excused
from yolo_multitask.metrics.tracking import box_similarity
from yolo_multitask.metrics.tracking.matching import assign

TRACK_CONF = 0.1  # least confidence of what is tracked, as of `track`; validation itself goes down to 0.001
MATCH = 0.5  # least similarity from which a track belongs to an object, and is not left out, as in the MOTChallenge
_BOX, _ID, _CLS, _INDEX = slice(0, 4), 4, 6, 7  # columns of a tracker's row


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """Detections and labels of a frame.

    Attributes:
        shape: Height and width (H, W) of the image.
        found: Detections (N, 6), x1 y1 x2 y2 confidence class.
        cues: What else a tracker takes of them, where the model has it: `embeddings` (N, E), `next_boxes` (N, 4),
            `keypoints` (N, K, D).
        masks: Packed bits of their masks (N, h, ceil(w / 8)), or None.
        mask_width: Width w of the masks.
        boxes: Labelled objects (M, 4), x1 y1 x2 y2.
        cls: Their classes (M,).
        ids: Their identities (M,); -1 for an object that need not be found.
        regions: Ignore regions (R, 4).
        similarity: Of the labelled objects with the detections (M, N), or None where boxes are compared.
        unlabelled: Classes of which nothing is known in the image.
    """

    shape: tuple[int, int]
    found: NDArray[np.float32]
    cues: dict[str, NDArray[np.float32]]
    masks: NDArray[np.uint8] | None
    mask_width: int
    boxes: NDArray[np.float32]
    cls: NDArray[np.int64]
    ids: NDArray[np.int64]
    regions: NDArray[np.float32]
    similarity: NDArray[np.float64] | None
    unlabelled: frozenset[int] = frozenset()

    @classmethod
    def of(
        cls,
        pred: Mapping[str, torch.Tensor],
        targets: Mapping[str, Any],
        known: torch.Tensor,
        similarity: torch.Tensor | None = None,
    ) -> Frame:
        """Keep the detections and labels of an image, given in pixels of the network input.

        Args:
            pred: Detections: `bboxes`, `conf`, `cls`, and any of `embeddings`, `next_boxes`, `keypoints`, `masks`.
            targets: Its targets, see `MultiTaskValidator`.
            known: Which objects are to be found, bool (M,): those with an identity, and a label of what is compared.
            similarity: Of these M' with the detections (M', N), or None to compare the boxes of the tracks.
        """
        cues = {}
        if "embeddings" in pred:
            cues["embeddings"] = pred["embeddings"].float().cpu().numpy()
        if "next_boxes" in pred:
            cues["next_boxes"] = original_boxes(pred["next_boxes"], targets, clip=False)
        if "keypoints" in pred:
            cues["keypoints"] = original_keypoints(pred["keypoints"].float(), targets).cpu().numpy()
        masks = visible_masks(pred["masks"], targets) if "masks" in pred else None
        columns = [original_boxes(pred["bboxes"], targets), *(pred[k].cpu().numpy()[:, None] for k in ("conf", "cls"))]
        full = None
        if similarity is not None:
            full = np.zeros((len(known), len(pred["cls"])))
            full[known.cpu().numpy()] = similarity.cpu().numpy()
        return cls(
            shape=tuple(targets["ori_shape"][:2]),
            found=np.concatenate(columns, 1).astype(np.float32),
            cues=cues,
            masks=None if masks is None else np.packbits(masks, axis=2),
            mask_width=0 if masks is None else masks.shape[2],
            boxes=original_boxes(targets["bboxes"], targets),
            cls=targets["cls"].long().cpu().numpy(),
            ids=torch.where(known, targets["ids"], NO_ID).cpu().numpy(),
            regions=original_boxes(targets["regions"], targets),
            similarity=full,
            unlabelled=frozenset(np.flatnonzero(targets.get("unlabelled", ())).tolist()),
        )

    def result(self, image: NDArray[np.uint8] | None) -> Results:
        """Return the detections as prediction does; without an image, those of a black one."""
        shown = np.broadcast_to(np.uint8(0), (*self.shape, 3)) if image is None else image
        masks = None if self.masks is None else np.unpackbits(self.masks, axis=2, count=self.mask_width)
        return Results(shown, path="", names={}, boxes=self.found, masks=masks, **self.cues)

    def compare(
        self, rows: NDArray[np.float32], cls: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Return identities of the objects of a class, those of its tracks, and their similarity.

        A track that matches no object is left out where the labels cannot tell whether it is wrong: mostly inside an
        ignore region, on an object that need not be found, or of a class that is not labelled in the image.

        Args:
            rows: Tracks (T, 8), x1 y1 x2 y2 id score class index-of-detection.
            cls: The class.
        """
        of_class, known = self.cls == cls, self.ids != NO_ID
        rows = rows[(rows[:, _CLS] == cls) & (cls not in self.unlabelled)]
        if self.similarity is None:
            similarity = box_similarity(self.boxes[of_class & known], rows[:, _BOX])
        else:
            similarity = self.similarity[of_class & known][:, rows[:, _INDEX].astype(int)].clip(0, 1)
        arrays = rows[:, _BOX], rows[:, _CLS], self.regions, self.boxes[of_class & ~known], self.cls[of_class & ~known]
        left_out = excused(*(torch.from_numpy(x) for x in arrays)).numpy()
        if left_out.any():
            gt, track = np.nonzero(similarity >= MATCH)
            matched = assign(gt, track, similarity[gt, track], np.zeros_like(gt))
            left_out[track[matched]] = False
        return self.ids[of_class & known], rows[~left_out, _ID].astype(np.int64), similarity[:, ~left_out]


def trackable(pred: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return those detections of an image that prediction would give a tracker, in their order: most confident first.

    They are confident enough, and of each box the most likely class; the NMS of validation may keep a box several
    times, once for each class.
    """
    boxes = pred["bboxes"]
    repeated = (boxes[:, None] == boxes[None]).all(2).tril(-1).any(1)
    chosen = (pred["conf"] >= TRACK_CONF) & ~repeated
    return {k: v[chosen] for k, v in pred.items()}
