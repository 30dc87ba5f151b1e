"""A result as supervision's containers, as entries of a COCO results file, as rows of a MOTChallenge file.

N detections, K keypoints of D values, E embedding values, H W the original image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo_multitask.data.convert.rle import encode_rle
from yolo_multitask.interop.arrays import Arrays, arrays_of
from yolo_multitask.interop.library import library
from yolo_multitask.interop.masks import original_masks

MOT_FORMAT = ("%d", "%d", *["%.2f"] * 4, "%.6f", "%d", "%d", "%d")  # of the columns of `to_mot`, for `numpy.savetxt`


def to_supervision(result: Any) -> tuple[Any, Any]:
    """Return a result as `supervision.Detections` and `supervision.KeyPoints`, index-aligned.

    Args:
        result: See `arrays_of`.

    Returns:
        Detections with `confidence`, `class_id`, `tracker_id`, `mask` bool (N, H, W), and in `data` `class_name`,
        `embedding` (N, E), `next_box` (N, 4), `point` (N, 3) and, of oriented boxes, `xyxyxyxy` (N, 4, 2); what the
        result does not have is absent. And N sets of keypoints with confidences and `class_id`, and in `data`
        `class_name` and, where there are ids, `tracker_id`; without keypoints the sets are empty, (N, 0, 2).

    Raises:
        ImportError: If supervision is not installed, or older than 0.29.
        ValueError: If the result has no boxes.
    """
    sv = library("supervision")
    if "keypoint_confidence" not in {field.name for field in fields(sv.KeyPoints)}:
        raise ImportError(
            f"expected supervision 0.29 or later, found {sv.__version__}; run 'pip install -U supervision'."
        )
    found = arrays_of(result)
    names = np.array(found.class_names, dtype=str)
    extras = {
        "embedding": found.embeddings,
        "next_box": found.next_boxes,
        "point": found.points,
        "xyxyxyxy": found.corners,
    }
    detections = sv.Detections(
        xyxy=found.xyxy,
        mask=_stacked_masks(result),
        confidence=found.score,
        class_id=found.cls,
        tracker_id=found.ids,
        data={"class_name": names, **{name: values for name, values in extras.items() if values is not None}},
    )
    points = np.zeros((len(found), 0, 2), np.float32) if found.keypoints is None else found.keypoints
    keypoints = sv.KeyPoints(
        xy=points[..., :2],
        keypoint_confidence=found.keypoint_scores,
        detection_confidence=found.score.copy(),
        class_id=found.cls.copy(),
        data={"class_name": names.copy(), **({} if found.ids is None else {"tracker_id": found.ids.copy()})},
    )
    return detections, keypoints


def to_coco(
    result: Any, image_id: int | str, category_ids: Sequence[int] | Mapping[int, int] | None = None
) -> list[dict[str, Any]]:
    """Return a result as entries of a COCO results file, rounded as `save_json` does.

    Args:
        result: See `arrays_of`.
        image_id: `id` of the image in the annotation file.
        category_ids: The category of each class, as a list in class order or by class; without it the class plus 1.

    Returns:
        N entries with `image_id`, `category_id`, `bbox` (x y w h in pixels of the image) and `score`; with masks
        `segmentation` (compressed RLE of the image's size), with keypoints `keypoints` (3 K numbers, x y confidence;
        not where all are zero, as of classes without any), with ids `track_id`.

    Raises:
        ValueError: If a class has no category, or the result has no boxes.
    """
    found = arrays_of(result)
    categories = _categories(found, category_ids)
    corners, sizes = found.xyxy[:, :2], found.xyxy[:, 2:] - found.xyxy[:, :2]
    boxes = np.concatenate((corners, sizes), 1).tolist()
    entries: list[dict[str, Any]] = [
        {"image_id": image_id, "category_id": category, "bbox": _rounded(box), "score": round(score, 5)}
        for category, box, score in zip(categories, boxes, found.score.tolist(), strict=True)
    ]
    if found.masks is not None:
        for entry, mask in zip(entries, original_masks(result), strict=True):
            entry["segmentation"] = encode_rle(mask.view(np.uint8))
    if found.keypoints is not None:
        scored = found.keypoints if found.keypoints.shape[2] == 3 else np.insert(found.keypoints, 2, 1, axis=2)
        for entry, points in zip(entries, scored, strict=True):
            if points[:, :2].any():
                entry["keypoints"] = _rounded(points.ravel().tolist())
    if found.ids is not None:
        for entry, track in zip(entries, found.ids.tolist(), strict=True):
            entry["track_id"] = track
    return entries


def to_mot(result: Any, frame: int) -> NDArray[np.float64]:
    """Return a tracked result as rows of a MOTChallenge results file.

    `numpy.savetxt(file, rows, fmt=MOT_FORMAT, delimiter=",")` writes them as `save_txt` of a tracked sequence does.

    Args:
        result: See `arrays_of`.
        frame: Number of the frame, from 1.

    Returns:
        (N, 10): frame, id, left, top, width and height in pixels of the image, score, and three times -1. The class is
        not in it: evaluations take numbers there for the classes of MOTChallenge.

    Raises:
        ValueError: If the frame is below 1, or the result has no ids or no boxes.
    """
    if frame < 1:
        raise ValueError(f"to_mot: expected a frame number from 1, as MOTChallenge counts, found {frame}; add 1 to it.")
    found = arrays_of(result)
    if found.ids is None:
        raise ValueError("to_mot: expected a result with ids, found none; take one of `track`, not of `predict`.")
    rows = np.full((len(found), 10), -1.0)
    rows[:, 0], rows[:, 1], rows[:, 2:4], rows[:, 6] = frame, found.ids, found.xyxy[:, :2], found.score
    rows[:, 4:6] = found.xyxy[:, 2:] - rows[:, 2:4]
    return rows


def _stacked_masks(result: Any) -> NDArray[np.bool_] | None:
    """Return the masks bool (N, H, W) of the image's size, or None."""
    if result.masks is None:
        return None
    masks = np.zeros((len(result.masks), *result.orig_shape), bool)
    for i, mask in enumerate(original_masks(result)):
        masks[i] = mask
    return masks


def _categories(found: Arrays, category_ids: Sequence[int] | Mapping[int, int] | None) -> list[int]:
    """Return the category of each detection, N of them.

    Raises:
        ValueError: If a class has none.
    """
    classes: list[int] = found.cls.tolist()
    if category_ids is None:
        return [cls + 1 for cls in classes]
    known = dict(category_ids if isinstance(category_ids, Mapping) else enumerate(category_ids))
    missing = sorted(set(classes) - set(known))
    if missing:
        name = found.names[missing[0]]
        raise ValueError(
            f"category_ids: expected a category for each class, found none for class {missing[0]} ({name}); add it."
        )
    return [int(known[cls]) for cls in classes]


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 3) for value in values]
