"""The label grammar: one text line per instance, read and written by this module alone (numpy only, no torch).

A line of the multitask grammar is whitespace-separated::

    cls  cx cy w h  KEYPOINTS  POLYGON  [#id] [@conf] [!]

``KEYPOINTS`` is there only when the source has a ``kpt_shape`` (K, D): K*D numbers, or ``-`` for "not labelled" (all
visibilities 0 means "labelled and absent"). ``POLYGON`` is there only when the labels hold polygons: three or more
``x y`` pairs, or ``-``. ``#id`` is an identity, ``@conf`` the confidence of a prediction, ``!`` an ignore region.

Stock Ultralytics lines are read as they are: ``detect`` (``cls cx cy w h``), ``segment`` (``cls x1 y1 x2 y2 ...``),
``pose`` (``cls cx cy w h KEYPOINTS``), and ``kpt_seg`` (``cls KEYPOINTS POLYGON``, no box: the polygon gives it).
Which grammar a source has is said by its data YAML (`LabelSpec.from_data`), never guessed from the length of a line.

Rules for values, the same as the host's where the host has one:

* Coordinates are normalised to 0..1. Up to 1% outside is clipped, beyond that the line is refused. Coordinates of
  absent keypoints are free, but finite.
* A visibility is a number in 0..2: 0, 1, 2 in labels, a confidence 0..1 in predictions. 0 is absent, above 0 visible.
* With D = 2 a keypoint is absent when one of its coordinates is negative.

Shapes: N instances, K keypoints, M polygon vertices.
"""

from __future__ import annotations

import math
import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo_multitask.data.instances import Instance, Labels
from yolo_multitask.data.spec import FORMATS, LABEL_KEYS, LabelSpec, check_kpt_shape

__all__ = (
    "FORMATS",
    "LABEL_KEYS",
    "Instance",
    "LabelError",
    "LabelSpec",
    "Labels",
    "LineProblem",
    "check_kpt_shape",
    "format_line",
    "parse_line",
    "polygon_box",
    "read_labels",
    "write_labels",
)

TOLERANCE = 0.01  # how far outside 0..1 a coordinate is clipped instead of refused (ultralytics verify_image_label)
ABSENT_2D = -0.01  # coordinate written for an absent keypoint when D = 2: the most negative one that the host reads
_TINY = float(np.finfo(np.float32).tiny)  # smallest side that is still above 0 as float32
_MAX = float(np.finfo(np.float32).max)
_MAX_ID = 2**63 - 1


class LabelError(ValueError):
    """A label line that does not follow the grammar; the message is the reason, with what was expected and found."""


@dataclass(frozen=True)
class LineProblem:
    """One line of a label file that was left out, and why. ``str()`` gives ``path:line: reason``.

    Attributes:
        path: The label file.
        line: Line number, from 1.
        reason: What was expected and what was found.
        kind: ``"error"`` (does not parse) or ``"duplicate"`` (repeats an earlier line; the earlier one is kept).
    """

    path: str
    line: int
    reason: str
    kind: str = "error"

    def __str__(self) -> str:
        """Return ``path:line: reason``."""
        return f"{self.path}:{self.line}: {self.reason}"


def parse_line(line: str, spec: LabelSpec) -> Instance:
    """Parse one label line.

    Args:
        line: The text, without comments (the grammar has none).
        spec: What the line holds.

    Returns:
        The instance; coordinates are clipped to 0..1 where they were within the tolerance.

    Raises:
        LabelError: The line does not follow the grammar; the message says what was expected and found.
    """
    tokens = line.split()
    if not tokens:
        raise LabelError(f"expected {spec.grammar}, found a blank line")
    ident, conf, ignore = -1, math.nan, False
    if tokens[-1][0] in "#@!":
        ident, conf, ignore = _take_flags(tokens, spec)
    if not tokens:
        raise LabelError(f"expected {spec.grammar}, found no class index")
    cls = _class_index(tokens[0], spec.nc)
    box_text, kpt_text, poly_text = _split_fields(tokens, spec)
    keypoints = polygon = None
    if kpt_text is not None and spec.kpt_shape is not None:
        keypoints = _keypoints(_numbers(kpt_text, "keypoints"), spec.kpt_shape[1])
    if poly_text is not None:
        polygon = _polygon(_numbers(poly_text, "polygon"))
    if box_text is not None:
        box = _box(_numbers(box_text, "box"))
    elif polygon is not None:
        box = polygon_box(polygon)
        if not (box[2] > 0 and box[3] > 0):
            raise LabelError(f"expected a polygon with a width and height above 0, found {box[2]:g} x {box[3]:g}")
    return Instance(cls=cls, box=box, keypoints=keypoints, polygon=polygon, id=ident, ignore=ignore, conf=conf)


def format_line(instance: Instance, spec: LabelSpec) -> str:
    """Write one label line, without newline; `parse_line` gives the same float32 values back.

    Args:
        instance: The instance, normalised coordinates.
        spec: The grammar to write.

    Raises:
        ValueError: The instance holds something that the grammar cannot say, or lacks what it needs.
    """
    parts = [str(instance.cls)]
    if spec.has_box:
        parts += _texts(instance.box)
    if spec.kpt_shape is not None:
        parts += _keypoint_texts(instance.keypoints, spec)
    elif instance.keypoints is not None:
        raise ValueError(f"cannot write keypoints: the lines are `{spec.grammar}`; give the specification a kpt_shape")
    if spec.polygons:
        parts += _polygon_texts(instance.polygon, spec)
    elif instance.polygon is not None:
        raise ValueError(f"cannot write a polygon: the lines are `{spec.grammar}`; use a specification with polygons")
    flags = []
    if instance.id >= 0:
        if not spec.ids:
            raise ValueError(f"cannot write the identity {instance.id}: use a specification with ids=True")
        flags.append(f"#{instance.id}")
    if not math.isnan(instance.conf):
        flags.append(f"@{_text(np.float32(instance.conf))}")
    if instance.ignore:
        flags.append("!")
    if flags and spec.format != "multitask":
        raise ValueError(f"cannot write {' '.join(flags)} in a stock {spec.format} line; use the format multitask")
    return " ".join(parts + flags)


def read_labels(path: str | os.PathLike[str], spec: LabelSpec) -> tuple[Labels, list[LineProblem]]:
    """Read a label file. A missing or empty file is an image without instances.

    UTF-8 with or without byte-order mark, any newline; blank lines are skipped. A line that does not parse, or that
    repeats an earlier one (as numbers, not as text), is left out and reported.

    Args:
        path: The text file.
        spec: What its lines hold.

    Returns:
        The labels in file order, and one problem per line that was left out.

    Raises:
        OSError: The file exists but cannot be read.
    """
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:
            raw = file.read()
    except FileNotFoundError:
        return Labels.from_instances([], spec), []
    problems: list[LineProblem] = []
    instances: list[Instance] = []
    seen: dict[tuple[Any, ...], int] = {}
    if b"\r" in raw:
        raw = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    for number, line in enumerate(raw.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        try:
            text = line.decode("utf-8")
            if not text or text.isspace():
                continue
            instance = parse_line(text, spec)
        except UnicodeDecodeError as error:
            problems.append(LineProblem(name, number, f"expected UTF-8 text, found byte 0x{line[error.start]:02x}"))
            continue
        except LabelError as error:
            problems.append(LineProblem(name, number, str(error)))
            continue
        first = seen.setdefault(_key(instance), number)
        if first == number:
            instances.append(instance)
        else:
            problems.append(LineProblem(name, number, f"repeats line {first}; kept once", "duplicate"))
    return Labels.from_instances(instances, spec), problems


def cache_file(folder: Path) -> Path:
    """Return the file that keeps what was read from a folder of label files; the host's own is ``<folder>.cache``."""
    return folder.with_name(f"{folder.name}.multitask.cache")


def write_labels(path: str | os.PathLike[str], labels: Labels, spec: LabelSpec) -> None:
    """Write a label file whole or not at all (temporary file in the same folder, then rename).

    Args:
        path: The text file; its folder is made. No instances gives an empty file.
        labels: The instances of one image, normalised coordinates.
        spec: The grammar to write.

    Raises:
        ValueError: An instance does not fit the grammar (see `format_line`).
        OSError: The file cannot be written.
    """
    target = Path(path)
    text = "".join(f"{format_line(instance, spec)}\n" for instance in labels)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def polygon_box(polygon: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the box around a polygon.

    Args:
        polygon: float32 (M, 2), M >= 1.

    Returns:
        float32 (4,) cx cy w h in the polygon's frame. Same arithmetic as ultralytics ``segments2boxes``.
    """
    low, high = polygon.min(0), polygon.max(0)
    return np.concatenate(((low + high) / 2, high - low)).astype(np.float32)


def _take_flags(tokens: list[str], spec: LabelSpec) -> tuple[int, float, bool]:
    """Remove the trailing ``#id @conf !`` (any order) from the tokens and return (id, conf, ignore)."""
    found: dict[str, str] = {}
    while tokens and tokens[-1][0] in "#@!":
        token = tokens.pop()
        if token[0] in found:
            raise LabelError(f"expected at most one {token[0]}, found {_show(found[token[0]])} and {_show(token)}")
        found[token[0]] = token
    if spec.format != "multitask":
        raise LabelError(
            f"expected a stock {spec.format} line, found the flag {_show(next(iter(found.values())))}; flags need the "
            "key `labels:` in the data YAML, e.g. `labels: {ids: true}`"
        )
    ident, conf = -1, math.nan
    if "#" in found:
        text = found["#"][1:]
        if not (text.isascii() and text.isdecimal() and len(text) < 40 and int(text) <= _MAX_ID):
            raise LabelError(f"expected #id with an integer 0 or above, found {_show(found['#'])}")
        if not spec.ids:
            raise LabelError(f"found the identity {found['#']}; add `labels: {{ids: true}}` to the data YAML")
        ident = int(text)
    if "@" in found:
        try:
            conf = float(found["@"][1:])
        except ValueError:
            conf = math.nan
        if not 0 <= conf <= 1:
            raise LabelError(f"expected @conf with a number in 0..1, found {_show(found['@'])}")
        conf = float(np.float32(conf))
    if len(found.get("!", "!")) != 1:
        raise LabelError(f"expected ! alone for an ignore region, found {_show(found['!'])}")
    return ident, conf, "!" in found


def _split_fields(tokens: list[str], spec: LabelSpec) -> tuple[list[str] | None, list[str] | None, list[str] | None]:
    """Split the tokens after the class into box, keypoint and polygon tokens; None for absent or ``-``."""
    at, box, keypoints, polygon = 1, None, None, None
    free = spec.format == "multitask"  # '-' (not labelled) exists only there
    if spec.has_box:
        box, at = tokens[1:5], 5
        if len(box) < 4:
            raise LabelError(f"expected {spec.grammar}, found {len(box)} of 4 box numbers")
    if spec.kpt_shape is not None:
        rows, dims = spec.kpt_shape
        need = rows * dims
        if free and at < len(tokens) and tokens[at] == "-":
            at += 1
        else:
            keypoints = tokens[at : at + need]
            if len(keypoints) < need or (free and "-" in keypoints):
                there = keypoints.index("-") if "-" in keypoints else len(keypoints)
                dash = " or '-'" if free else ""
                raise LabelError(f"expected {need} keypoint numbers ({rows} x {dims}){dash}, found {there}")
            at += need
    if spec.polygons:
        polygon, at = tokens[at:], len(tokens)
        if free and polygon == ["-"]:
            polygon = None
        elif len(polygon) < 6 or len(polygon) % 2:
            raise LabelError(
                f"expected a polygon of 3 or more x y pairs{' or -' if free else ''}, found {len(polygon)} columns "
                f"(the line is {spec.grammar})"
            )
    if at < len(tokens):
        extra = len(tokens) - at
        hint = f", found {extra} more column{'s' if extra > 1 else ''} from {_show(tokens[at])}"
        raise LabelError(f"expected {spec.grammar}{hint}{_key_to_add(spec)}")
    return box, keypoints, polygon


def _key_to_add(spec: LabelSpec) -> str:
    """Return the advice for a line that is longer than the data YAML says."""
    if spec.polygons:
        return ""
    if spec.kpt_shape is not None:
        return "; if the lines also hold polygons, add `labels: {keypoints: true, polygons: true}` to the data YAML"
    return (
        "; the data YAML says nothing but boxes: for polygons after the box add `labels: {polygons: true}` to it, for "
        "stock polygon lines `task: segment` (or pass task=segment), for keypoints `kpt_shape: [K, D]`"
    )


def _class_index(token: str, nc: int) -> int:
    """Parse the class; an integer that is written as a float (``3.0``) is accepted as the host does."""
    try:
        value = int(token) if len(token) < 20 and token.isdecimal() else float(token)
    except ValueError:
        raise LabelError(f"expected an integer class first, found {_show(token)}") from None
    if not math.isfinite(value) or value != int(value):
        raise LabelError(f"expected an integer class first, found {_show(token)}")
    if not 0 <= value < nc:
        raise LabelError(f"expected a class in 0..{nc - 1} (nc is {nc}), found {_show(token)}")
    return int(value)


def _numbers(tokens: list[str], what: str) -> list[float]:
    """Convert tokens to finite floats."""
    try:
        values = list(map(float, tokens))
    except ValueError:
        bad = next(t for t in tokens if not _is_number(t))
        advice = ""
        if bad[0] in "#@!":
            advice = "; #id, @conf and ! go to the end of the line"
        elif bad == "-":
            advice = "; '-' (not labelled) stands alone for the whole field, under the key `labels:` of the data YAML"
        raise LabelError(f"expected a number in the {what}, found {_show(bad)}{advice}") from None
    if not math.isfinite(sum(values)):
        for token, value in zip(tokens, values, strict=True):
            if not math.isfinite(value):
                raise LabelError(f"expected a finite number in the {what}, found {_show(token)}")
    return values


def _box(values: list[float]) -> NDArray[np.float32]:
    """Check cx cy w h and return them clipped, float32 (4,)."""
    cx, cy, w, h = values
    if w < _TINY or h < _TINY:
        raise LabelError(f"expected a box width and height above 0, found {w:g} x {h:g}")
    low, high = min(cx, cy), max(cx, cy, w, h)
    _check_range(low, high, "box")
    box = np.array(values, np.float32)
    return box if low >= 0 and high <= 1 else box.clip(0, 1)


def _keypoints(values: list[float], dims: int) -> NDArray[np.float32]:
    """Check keypoint values and return float32 (K, 3), coordinates of visible ones clipped."""
    low, high = min(values), max(values)
    if low < -_MAX or high > _MAX:
        raise LabelError(f"expected keypoint coordinates that fit float32, found {high if high > _MAX else low:g}")
    points = np.array(values, np.float32).reshape(-1, dims)
    if dims == 2:
        points = np.concatenate((points, (points >= 0).all(1, keepdims=True)), 1, dtype=np.float32)
    elif min(values[2::3]) < 0 or max(values[2::3]) > 2:
        bad = next(v for v in values[2::3] if not 0 <= v <= 2)
        raise LabelError(f"expected a keypoint visibility of 0, 1 or 2 (a confidence 0..1), found {bad:g}")
    if low < 0 or high > 1:
        seen = points[:, 2] > 0
        shown = points[seen, :2]
        if shown.size:
            _check_range(float(shown.min()), float(shown.max()), "visible keypoint")
            points[seen, :2] = shown.clip(0, 1)
    return points


def _polygon(values: list[float]) -> NDArray[np.float32]:
    """Check polygon values and return float32 (M, 2), clipped."""
    low, high = min(values), max(values)
    _check_range(low, high, "polygon")
    points = np.array(values, np.float32).reshape(-1, 2)
    return points if low >= 0 and high <= 1 else points.clip(0, 1)


def _check_range(low: float, high: float, what: str) -> None:
    """Refuse coordinates outside 0..1 by more than the tolerance."""
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        bad = high if high > 1 + TOLERANCE else low
        raise LabelError(f"expected {what} coordinates in 0..1 (normalised by the image size), found {bad:g}")


def _keypoint_texts(keypoints: NDArray[np.float32] | None, spec: LabelSpec) -> list[str]:
    """Return the keypoint tokens of a line whose grammar has the field."""
    assert spec.kpt_shape is not None
    rows, dims = spec.kpt_shape
    if keypoints is None:
        if spec.format != "multitask":
            raise ValueError(f"cannot write unlabelled keypoints in a stock {spec.format} line; use format multitask")
        return ["-"]
    if keypoints.shape != (rows, 3):
        raise ValueError(f"expected keypoints of shape ({rows}, 3), found {keypoints.shape}")
    if dims == 3:
        return _texts(keypoints)
    points = keypoints[:, :2].copy()
    points[(keypoints[:, 2] == 0) & (points >= 0).all(1)] = ABSENT_2D
    return _texts(points)


def _polygon_texts(polygon: NDArray[np.float32] | None, spec: LabelSpec) -> list[str]:
    """Return the polygon tokens of a line whose grammar has the field."""
    if polygon is None:
        if spec.format != "multitask":
            raise ValueError(f"cannot write an unlabelled polygon in a stock {spec.format} line; use format multitask")
        return ["-"]
    if polygon.ndim != 2 or polygon.shape[1] != 2 or len(polygon) < 3:
        raise ValueError(f"expected a polygon of shape (M, 2) with M >= 3, found {polygon.shape}")
    return _texts(polygon)


def _texts(values: NDArray[np.float32]) -> list[str]:
    """Return the shortest decimal texts that give the same float32 back."""
    return [_text(v) for v in np.asarray(values, np.float32).ravel()]


def _text(value: np.float32) -> str:
    """Return the shortest decimal text that gives the same float32 back, without exponent."""
    return np.format_float_positional(value, unique=True, trim="-")


def _key(instance: Instance) -> tuple[Any, ...]:
    """Return what makes two lines the same instance."""
    kpt, polygon = instance.keypoints, instance.polygon
    return (
        instance.cls,
        instance.box.tobytes(),
        None if kpt is None else kpt.tobytes(),
        None if polygon is None else polygon.tobytes(),
        instance.id,
        instance.ignore,
        None if math.isnan(instance.conf) else instance.conf,
    )


def _is_number(token: str) -> bool:
    """Return whether float() takes the token."""
    try:
        float(token)
    except ValueError:
        return False
    return True


def _show(token: str) -> str:
    """Quote a token for a message, cut to a readable length."""
    return repr(token if len(token) <= 32 else f"{token[:29]}...")
