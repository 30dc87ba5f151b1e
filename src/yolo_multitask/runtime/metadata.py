"""What an exported ONNX file says of itself, and whether its inputs and outputs are as it says."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from yolo_multitask.runtime.masks import CELL
from yolo_multitask.tasks import TASK, TASKS, RowLayout

FLOATS = ("tensor(float)", "tensor(float16)")
AGAIN = "export it again with 'ymt export format=onnx'"
_REQUIRED: Mapping[str, Any] = {
    "tasks": list,
    "nc": int,
    "names": dict,
    "nm": int,
    "embed_dim": int,
    "next": bool,
    "stride": int,
    "imgsz": list,
}


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """The metadata of an exported file.

    Attributes:
        tasks: What the file computes.
        nc: Number of classes.
        names: Their names by index.
        kpt_shape: Keypoints (K, D), None without pose.
        kpt_classes: Classes that have keypoints, None where all have.
        kpt_sigmas: Spread of each keypoint, None for the tracker's default.
        nm: Number of prototypes, 0 without segment.
        embed_dim: Length of the embedding, 0 without track.
        next: Whether a box in the next frame is predicted.
        stride: Multiples that the sides of an input must have.
        imgsz: Height and width of the export's input.
        channels: Channels of an input.
        nms: Whether the rows of the file are detections, by an NMS in it or from a one-to-one head.
        conf: Score that its detections have at least, 0 without.
        max_det: Its rows of an image, None without.
        masks: Whether masks are assembled in the file.
    """

    tasks: tuple[str, ...]
    nc: int
    names: Mapping[int, str]
    kpt_shape: tuple[int, int] | None
    kpt_classes: tuple[int, ...] | None
    kpt_sigmas: tuple[float, ...] | None
    nm: int
    embed_dim: int
    next: bool
    stride: int
    imgsz: tuple[int, int]
    channels: int
    nms: bool
    conf: float
    max_det: int | None
    masks: bool

    @property
    def layout(self) -> RowLayout:
        """Where the values of an output row stand."""
        nk = prod(self.kpt_shape) if self.kpt_shape else 0
        return RowLayout(nc=self.nc, nk=nk, nm=self.nm, ne=self.embed_dim, nb=4 if self.next else 0)

    @classmethod
    def read(cls, texts: Mapping[str, str]) -> Metadata:
        """Read the metadata of an ONNX file, whose values are Python literals, but for `task`.

        Raises:
            ValueError: It is not that of a multitask model.
        """
        task = texts.get("task")
        if task is None:
            raise ValueError(f"expected the metadata of a multitask model, found none; {AGAIN}.")
        if task != TASK:
            raise ValueError(f"expected a model of task '{TASK}', found '{task}'; run it with 'ymt predict' or 'yolo'.")
        if texts.get("layout") == "temporal":
            raise ValueError(
                "expected a model of single images, found one of windows of frames, which a session does not run; use "
                "MultiTaskYOLO(file).predict or .track, or 'ymt track model=FILE source=VIDEO'."
            )
        given = {key: _literal(texts, key, kind) for key, kind in _REQUIRED.items()}
        optional = {
            "kpt_shape": list,
            "kpt_classes": list,
            "kpt_oks_sigmas": list,
            "channels": int,
            "masks": bool,
            "end2end": bool,
        }
        given |= {key: _literal(texts, key, kind) for key, kind in optional.items() if key in texts}
        args = _literal(texts, "args", dict) if "args" in texts else {}
        tasks = tuple(given["tasks"])
        for name, key in (("pose", "kpt_shape"), ("segment", "nm"), ("track", "embed_dim")):
            if (name in tasks) != bool(given.get(key)):
                raise ValueError(f"metadata: expected '{key}' with the task {name} alone, found {tasks}; {AGAIN}.")
        if not set(tasks) <= set(TASKS) or sorted(given["names"]) != list(range(given["nc"])):
            raise ValueError(
                f"metadata: expected tasks among {', '.join(TASKS)} and one name for each of {given['nc']} classes, "
                f"found {tasks} and {given['names']}; {AGAIN}."
            )
        nms = bool(args.get("nms") or given.get("end2end"))
        return cls(
            tasks=tasks,
            nc=given["nc"],
            names=given["names"],
            kpt_shape=_maybe_tuple(given.get("kpt_shape")),
            kpt_classes=_maybe_tuple(given.get("kpt_classes")),
            kpt_sigmas=_maybe_tuple(given.get("kpt_oks_sigmas")),
            nm=given["nm"],
            embed_dim=given["embed_dim"],
            next=given["next"],
            stride=given["stride"],
            imgsz=(given["imgsz"][0], given["imgsz"][1]),
            channels=given.get("channels", 3),
            nms=nms,
            conf=args.get("conf", 0.0) if nms else 0.0,
            max_det=args.get("max_det") if nms else None,
            masks=given.get("masks", False),
        )

    def check(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        """Check the inputs and outputs that onnxruntime finds in the file.

        Raises:
            ValueError: They are not what the metadata says.
        """
        for kind, values, count in (("input", inputs, 1), ("output", outputs, 1 + bool(self.nm))):
            if len(values) != count or any(value.type not in FLOATS for value in values):
                found = ", ".join(f"{value.name} {value.type}" for value in values) or "none"
                raise ValueError(
                    f"expected {count} {kind}{'s' * (count > 1)} of floats for {', '.join(self.tasks)}, found {found}; "
                    f"{AGAIN}."
                )
        _check_shape(inputs[0], (1, self.channels, None, None), "; export it with batch=1 or dynamic=True.")
        columns = 4 + self.nc + self.layout.extra
        rows = (1, self.max_det, 6 + self.layout.extra) if self.nms else (1, columns, None)
        _check_shape(outputs[0], rows, f", for the tasks and sizes in its metadata; {AGAIN}.")
        if self.nm:
            cells = [side // CELL if isinstance(side, int) else None for side in inputs[0].shape[2:]]
            maps = (1, None if self.masks else self.nm, *cells)
            _check_shape(outputs[1], maps, f", for the tasks and sizes in its metadata; {AGAIN}.")


def _check_shape(value: Any, expected: Sequence[int | None], hint: str) -> None:
    """Check the declared shape of an input or output; None, and an axis that the file leaves open, fit anything."""
    found = list(value.shape)
    pairs = zip(found, expected, strict=False)
    if len(found) != len(expected) or any(isinstance(a, int) and b is not None and a != b for a, b in pairs):
        shape = ", ".join("any" if side is None else str(side) for side in expected)
        raise ValueError(f"expected '{value.name}' of shape ({shape}), found {tuple(found)}{hint}")


def _literal(texts: Mapping[str, str], key: str, kind: type) -> Any:
    """Return a value of the metadata.

    Raises:
        ValueError: It is missing, or of another type.
    """
    if key not in texts:
        raise ValueError(f"metadata: expected '{key}', found none among {', '.join(sorted(texts))}; {AGAIN}.")
    try:
        value = ast.literal_eval(texts[key])
    except (ValueError, SyntaxError):
        value = texts[key]
    value = list(value) if isinstance(value, tuple) else value
    if type(value) is not kind:
        raise ValueError(f"metadata: expected '{key}' to be a {kind.__name__}, found {texts[key][:60]!r}; {AGAIN}.")
    return value


def _maybe_tuple(value: list[Any] | None) -> Any:
    return None if value is None else tuple(value)
