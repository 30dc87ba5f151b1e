"""COCO files: category ids, and the reference evaluation of a predictions file.

The evaluation needs `faster-coco-eval` or `pycocotools`; nothing is installed on the fly.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ultralytics.utils import LOGGER

from yolo_multitask.tasks import SPECS

# task -> (COCO's name of the evaluation, key of the data YAML's `annotations`, field of a prediction)
KINDS = {
    "detect": ("bbox", "instances", "bbox"),
    "segment": ("segm", "instances", "segmentation"),
    "pose": ("keypoints", "keypoints", "keypoints"),
}
_AREAS = ("AP", "AP50", "AP75", "AP-small", "AP-medium", "AP-large")
_STATS = {"bbox": _AREAS, "segm": _AREAS, "keypoints": ("AP", "AP50", "AP75", "AP-medium", "AP-large")}
_LIBRARIES = (
    ("faster_coco_eval", "faster_coco_eval", "COCOeval_faster"),
    ("pycocotools.coco", "pycocotools.cocoeval", "COCOeval"),
)


def category_ids(categories: Any, names: Mapping[int, str]) -> list[int]:
    """Return the COCO category id of each class, (nc,).

    Args:
        categories: `coco_categories` of a data YAML: a list in class order, or a mapping from class name or index.
        names: Class names by index.

    Raises:
        ValueError: If a class has no integer id.
    """
    if isinstance(categories, Mapping):
        categories = [categories.get(name, categories.get(i)) for i, name in sorted(names.items())]
    ok = isinstance(categories, Sequence) and len(categories) == len(names) and all(type(c) is int for c in categories)
    if not ok:
        raise ValueError(
            f"'coco_categories' must give one integer category id for each of the {len(names)} classes, as a list in "
            f"class order or by class name; got {categories!r}."
        )
    return list(categories)


def evaluate(
    predictions: Sequence[Mapping[str, Any]],
    files: Mapping[str, Path],
    tasks: Sequence[str],
    images: Sequence[str],
    sigmas: NDArray[Any] | None,
) -> dict[str, float]:
    """Return the reference's average precisions, `metrics/COCO-AP(B)` and so on; empty where it cannot run.

    Args:
        predictions: Entries of a predictions file: `file_name`, `image_id`, `category_id`, `score`, and any of `bbox`,
            `segmentation` and `keypoints`, in original pixels.
        files: Annotation files by `instances` and `keypoints`; a missing entry skips its tasks.
        tasks: Tasks to evaluate.
        images: Files of the images that were run.
        sigmas: Spread of each keypoint (K,), or None without `pose`.
    """
    library = _find_library()
    if library is None:
        LOGGER.warning(
            "COCO evaluation skipped: neither faster-coco-eval nor pycocotools is installed. "
            "Run 'pip install yolo-multitask[coco]' and validate again; the predictions are saved."
        )
        return {}
    stats: dict[str, float] = {}
    loaded: dict[Path, Any] = {}
    for task in tasks:
        kind, source, field = KINDS[task]
        path = files.get(source)
        if path is None:
            continue
        if not path.is_file():
            LOGGER.warning(
                f"COCO evaluation of {task} skipped: expected '{source}' annotations at {path}, no such file."
            )
            continue
        with contextlib.redirect_stdout(io.StringIO()) as log:
            if path not in loaded:
                loaded[path] = library[0](str(path))
            values = _run(library, loaded[path], predictions, kind, field, images, sigmas)
        LOGGER.info(log.getvalue().rstrip())
        letter = SPECS[task].letter
        stats.update({f"metrics/COCO-{name}({letter})": v for name, v in zip(_STATS[kind], values, strict=False)})
    return stats


def _run(
    library: tuple[Any, Any],
    truth: Any,
    predictions: Sequence[Mapping[str, Any]],
    kind: str,
    field: str,
    images: Sequence[str],
    sigmas: NDArray[Any] | None,
) -> list[float]:
    """Evaluate one kind of prediction and return the reference's summary; zeros without any prediction."""
    by_name = {Path(image["file_name"]).name: image["id"] for image in truth.dataset["images"]}
    wanted = [by_name[Path(name).name] for name in images if Path(name).name in by_name]
    known = set(wanted)
    results = []
    for p in predictions:
        image_id = by_name.get(p["file_name"])
        if field in p and image_id in known:
            kept = {"image_id": image_id, "category_id": p["category_id"], "score": p["score"], field: p[field]}
            results.append(kept)
    if not results:
        return [0.0] * len(_STATS[kind])
    run = library[1](truth, truth.loadRes(results), iouType=kind)
    run.params.imgIds = wanted
    if kind == "keypoints":
        run.params.kpt_oks_sigmas = np.asarray(sigmas)
        run.params.catIds = [c["id"] for c in truth.dataset["categories"] if c.get("keypoints")] or run.params.catIds
    run.evaluate()
    run.accumulate()
    run.summarize()
    return [float(v) for v in run.stats]


def _find_library() -> tuple[Any, Any] | None:
    """Return the classes (COCO, COCOeval) of the first library that is installed, or None."""
    for api, evaluation, name in _LIBRARIES:
        try:
            return import_module(api).COCO, getattr(import_module(evaluation), name)
        except ImportError:
            continue
    return None
