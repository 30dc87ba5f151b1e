"""What a source does not label, in the label dicts of a data set that has several.

Shapes: N instances, C classes of the training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo_multitask.data.columns import CLS, HAS_KEYPOINTS, HAS_MASK, IGNORE
from yolo_multitask.data.scan import corners
from yolo_multitask.data.sources import Source
from yolo_multitask.data.spec import LabelSpec

_TASKS = {"segment": "polygons", "pose": "keypoints", "track": "ids"}


def conform(label: dict[str, Any], source: Source, spec: LabelSpec) -> int:
    """Turn what the label lines of a source say into what counts in the training.

    Classes get their numbers in the training; instances of other classes are taken out, ignore regions stay. Tasks that
    the source does not label count as not labelled. The fields become those of the training.

    Args:
        label: Of one image, as `scan_image` gives it; changed in place.
        source: Where it is from.
        spec: What the instances of the training may have.

    Returns:
        Number of instances that are of other classes.
    """
    cls = label["cls"]
    region = cls[:, IGNORE] > 0
    mapped = np.array([source.classes.get(int(c), -1) for c in cls[:, CLS]], dtype=np.float32)
    keep = (mapped >= 0) | region
    cls[:, CLS] = np.where(mapped >= 0, mapped, 0)  # a region is one for all classes
    cls[:, HAS_KEYPOINTS] *= np.isin(cls[:, CLS], source.kpt_classes)
    if "segment" not in source.tasks:
        cls[:, HAS_MASK] = 0
    if "track" not in source.tasks:
        label["ids"][:] = -1
    label["cls"], label["bboxes"], label["ids"] = cls[keep], label["bboxes"][keep], label["ids"][keep]
    label["segments"] = _polygons(label, keep) if spec.polygons else []
    label["keypoints"] = _keypoints(label, keep, spec)
    return int((~keep).sum())


def _polygons(label: dict[str, Any], keep: NDArray[np.bool_]) -> list[NDArray[np.float32]]:
    """Return the polygons of the instances that are kept, the corners of the box where there is none."""
    given = [p for p, kept in zip(label["segments"], keep, strict=True) if kept] if label["segments"] else None
    has = label["cls"][:, HAS_MASK] > 0
    return [given[i] if given and has[i] else corners(box) for i, box in enumerate(label["bboxes"])]


def _keypoints(label: dict[str, Any], keep: NDArray[np.bool_], spec: LabelSpec) -> NDArray[np.float32] | None:
    """Return the keypoints of the instances that are kept (N, K, 3), zero where there are none; None without `pose`."""
    if spec.kpt_shape is None:
        return None
    if label["keypoints"] is None:
        return np.zeros((int(keep.sum()), spec.kpt_shape[0], 3), np.float32)
    given: NDArray[np.float32] = label["keypoints"][keep]
    return given * (label["cls"][:, HAS_KEYPOINTS] > 0)[:, None, None]


def count_labels(label: dict[str, Any]) -> dict[str, int]:
    """Return how many images (one), instances, polygons, keypoints and ids a label dict has."""
    real = label["cls"][:, IGNORE] == 0
    cls = label["cls"][real]
    flags = {"polygons": cls[:, HAS_MASK] > 0, "keypoints": cls[:, HAS_KEYPOINTS] > 0, "ids": label["ids"][real] >= 0}
    return {"images": 1, "instances": len(cls), **{name: int(flag.sum()) for name, flag in flags.items()}}


def strata(labels: Sequence[dict[str, Any]]) -> NDArray[np.int64]:
    """Return which images are labelled alike, int64 (images,): of the same source, and for the same tasks.

    Args:
        labels: ``dataset.labels``.
    """
    index: dict[tuple[Any, ...], int] = {}
    out = []
    for label in labels:
        flags = label["cls"][:, [HAS_KEYPOINTS, HAS_MASK]].any(0)
        out.append(index.setdefault((label.get("source", 0), *flags.tolist()), len(index)))
    return np.array(out, dtype=np.int64)


def source_table(rows: Sequence[tuple[Source, dict[str, int]]], names: dict[int, str] | None) -> str:
    """Return a table of what each source holds, and of all together.

    Args:
        rows: Each source with its counts: images, instances, polygons, keypoints, ids, other classes.
        names: Classes of the training, None where all are one.
    """
    columns = ("images", "instances", *_TASKS.values(), "other classes")
    lines = [("source", *columns, "weight", "classes")]
    for source, counts in rows:
        numbers = [str(counts[c]) if c not in _TASKS.values() or _is_on(c, source) else "-" for c in columns]
        every = names is None or len(source.labelled) == len(names)
        listed = "all" if every or names is None else _listed([names[c] for c in source.labelled])
        lines.append((source.name, *numbers, f"{source.weight:g}", listed))
    if len(rows) > 1:
        lines.append(("all", *(str(sum(counts[c] for _, counts in rows)) for c in columns), "", ""))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i in {0, len(widths) - 1} else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _is_on(field: str, source: Source) -> bool:
    return next(task for task, name in _TASKS.items() if name == field) in source.tasks


def _listed(names: Sequence[str], limit: int = 6) -> str:
    """Join names, only the first where there are many."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
