"""Exported files as backends of the host: what their metadata says, and their outputs in one order and layout."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from itertools import permutations
from math import prod
from pathlib import Path
from typing import Any

import torch
from ultralytics.utils import LOGGER

from yolo_multitask import host
from yolo_multitask.args import check_tasks
from yolo_multitask.engine.masks import MaskFactors
from yolo_multitask.tasks import TASK, RowLayout

NMS_DEFAULTS = {"conf": 0.25, "iou": 0.7, "max_det": 300, "agnostic_nms": False}  # what a run asks for by itself
CHANNELS_LAST = ("saved_model", "pb")  # formats whose maps always are (B, H, W, C), also where H is the number of C
_TEXT = ("description", "author", "date", "version", "license", "docs", "task", "head")  # metadata that is no literal


def read_metadata(file: str | Path) -> dict[str, Any]:
    """Return the metadata of an exported file with its values, not their texts; empty where it has none."""
    return _values(host.file_metadata(file))


def adopt(model: Any, file: str | Path) -> None:
    """Let the metadata of a backend of the host hold values, which some formats keep as text; a network is left alone.

    A float32 file is also computed in float32: OpenVINO would take bfloat16 on some CPUs, which moves keypoints by
    pixels.

    Args:
        model: The backend.
        file: What it has loaded.

    Raises:
        ValueError: If the file is not one of a multitask network.
    """
    if getattr(model, "format", "pt") == "pt":
        return
    values = _values(model.metadata)
    if values.get("task") != TASK or "tasks" not in values:
        raise ValueError(
            f"expected a file exported from a multitask network by this package, found one of task "
            f"'{values.get('task', 'unknown')}' without 'tasks' in its metadata. Export it again with 'ymt export', or "
            "run a stock file with task=detect, segment or pose."
        )
    model.backend.apply_metadata(values)
    if model.format == "openvino" and values["args"].get("quantize") in (None, 32):
        host.compile_in_float32(model.backend, file)


def tasks(model: Any) -> tuple[str, ...]:
    """Return the tasks that a file computes.

    Raises:
        ValueError: If it does not say.
    """
    named = (getattr(model, "metadata", None) or {}).get("tasks")
    if not named:
        raise ValueError(
            f"expected a MultiTaskModel or a file exported from one, found {type(model).__name__} "
            "without 'tasks'; stock models run through ultralytics.YOLO"
        )
    return check_tasks(named)


def layout(model: Any) -> RowLayout:
    """Return the layout of the rows of a file, which always computes all its tasks."""
    metadata = model.metadata
    return RowLayout(
        nc=len(model.names),
        nk=prod(metadata["kpt_shape"]) if "pose" in tasks(model) else 0,
        nm=metadata["nm"],
        ne=metadata["embed_dim"],
        nb=4 * metadata["next"],
    )


def read_outputs(model: Any, outputs: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the rows and the second output of a file.

    Args:
        model: The backend.
        outputs: What it gave: one tensor or several, in any order; maps may have their channels last.

    Returns:
        Rows (B, 4 + nc + extra, A), or (B, M, 6 + extra) with an NMS in the file or of a one-to-one head. Prototypes
        (B, nm, h/4, w/4); with masks in the file their logits (B, M, h/4, w/4), and a last column of each row that
        says which is its own; None without masks.
    """
    each = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    rows = next(x for x in each if x.ndim == 3)
    if model.metadata["relative"]:
        units = pixel_units(layout(model), model.metadata.get("kpt_shape"), model.imgsz)
        units[:4] = 1  # the host has done it
        rows = rows * units.to(rows)[:, None]
    maps = next((x for x in each if x.ndim == 4), None)
    nm, masks = model.metadata["nm"], model.metadata["masks"]
    if maps is not None and masks:
        own = torch.arange(rows.shape[1], device=rows.device, dtype=rows.dtype)[None, :, None]
        rows = torch.cat((rows, own.expand(len(rows), -1, 1)), 2)
    elif maps is not None and (model.format in CHANNELS_LAST or maps.shape[1] != nm):
        maps = maps.permute(0, 3, 1, 2)
    return rows, maps


def read_heads(model: Any, outputs: Any) -> dict[str, torch.Tensor | None]:
    """Return the outputs of a file of a model of windows, by head.

    Args:
        model: The backend.
        outputs: What it gave: one tensor or two, in any order.

    Returns:
        `track`, the decoded elements (B, N, P + nc), and `pose`, the rows (B, 4 + nc + K * D, A); None where the file
        lacks the head.

    Raises:
        ValueError: If they are not what the metadata says.
    """
    metadata = model.metadata
    each = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
    sizes: dict[str, tuple[int, int]] = {}  # axis and length of what one element or row has
    if "track" in metadata["outputs"]:
        sizes["track"] = 2, len(metadata["columns"]) + len(metadata["objects"])
    if "pose" in metadata["outputs"]:
        sizes["pose"] = 1, 4 + len(metadata["players"]) + prod(metadata["kpt_shape"])
    for order in permutations(each):
        found = dict(zip(metadata["outputs"], order, strict=False))
        if len(each) == len(sizes) and all(
            found[h].ndim == 3 and found[h].shape[a] == n for h, (a, n) in sizes.items()
        ):
            return {head: found.get(head) for head in ("track", "pose")}
    expected = ", ".join(f"{head} with {n} values on axis {a}" for head, (a, n) in sizes.items())
    raise ValueError(
        f"expected the outputs {expected}, found {', '.join(str(tuple(x.shape)) for x in each)}; export the file again."
    )


def pixel_units(layout: RowLayout, kpt_shape: Sequence[int] | None, size: Sequence[int]) -> torch.Tensor:
    """Return the pixels in the unit of each column of an anchor's row where pixels are shares of the input's sides.

    Args:
        layout: Layout of the row.
        kpt_shape: Keypoints (K, D), if it has any.
        size: Height and width of the input.

    Returns:
        (4 + nc + extra,), 1 where a column holds no pixels.
    """
    height, width = size
    sides = [float(width), float(height)]
    point = [*sides, 1.0][: kpt_shape[1]] if kpt_shape else []
    points = point * (layout.nk // len(point)) if layout.nk else []
    rest = [1.0] * (layout.nm + layout.ne) + sides * (layout.nb // 2)
    return torch.tensor([*sides, *sides, *[1.0] * layout.nc, *points, *rest])


def mask_factors(model: Any, rows: torch.Tensor, layout: RowLayout, maps: torch.Tensor) -> MaskFactors:
    """Return where the mask logits of the rows of an image come from.

    Args:
        model: A backend, of an exported file or a network.
        rows: Rows after NMS, (N, 6 + extra) or longer, see `read_outputs`.
        layout: Their layout.
        maps: Prototypes (nm, H, W), or mask logits of the file (M, H, W), of which each row has its own.
    """
    if not (getattr(model, "metadata", None) or {}).get("masks"):
        return MaskFactors(maps, weights=rows[:, layout.mask])
    return MaskFactors(maps, own=rows[:, -1].long())


def warn_of_nms(model: Any, args: Any) -> None:
    """Warn where a run asks for what the NMS in a file, or the choice of the best detections in its place, cannot give:
    they run with the settings of the export.
    """
    metadata = getattr(model, "metadata", None) or {}
    own = metadata.get("args", {})
    if not (own.get("nms") or metadata.get("end2end")):
        return
    asked = {key: getattr(args, key) for key in NMS_DEFAULTS if key in own}
    lost = [f"{k}={v}" for k, v in asked.items() if v != NMS_DEFAULTS[k] and not _gives(k, own.get(k, v), v)]
    if lost:
        settings = ", ".join(f"{key}={own.get(key)}" for key in asked)
        what = "the NMS is" if own.get("nms") else "the choice of the best detections is"
        LOGGER.warning(f"{what} in the file, with {settings}; export it again for {', '.join(lost)}.")


def _gives(key: str, own: Any, asked: Any) -> bool:
    """Return whether an NMS with one setting keeps all that the same with another would."""
    if key == "conf":
        return bool(own <= asked)
    return bool(own >= asked) if key == "max_det" else bool(own == asked)


def _values(metadata: Mapping[str, Any]) -> dict[str, Any]:
    found = {k: _value(v) if isinstance(v, str) and k not in _TEXT else v for k, v in metadata.items()}
    for key in ("names", "kpt_names"):
        if isinstance(found.get(key), dict):
            found[key] = {int(k): v for k, v in found[key].items()}  # JSON has no numbers as keys
    return found


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
