"""Objects and players in an ``annotation.json``: a list of frames, coordinates in pixels.

``{"Frame": n, "Balls": [{"X", "Y"}], "Players": [{"Bounding Box": {"X", "Y", "Width", "Height"}, "Keypoints": [{"X",
"Y"}]}]}``. X and Y of a box are its left upper corner. A ball may have ``Visibility`` (0 not there, 1 clear, 2 hard to
see, 3 hidden; 1 if it does not say), a keypoint ``Visibility`` (0 absent, 1 hidden, 2 seen); without it a keypoint at
(0, 0) is absent. Both may have ``Id`` (balls, players) and ``Class``. A frame without ``Balls`` or ``Players`` is not
labelled for them; an empty list says that there is none. A player without ``Keypoints`` has none labelled.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo_multitask.data.clips.clip import HIDDEN, FrameLabels, Players
from yolo_multitask.data.clips.spec import ClipSpec, ReadLabels
from yolo_multitask.data.labels import LineProblem


def read_annotation(path: str | Path, spec: ClipSpec, size: tuple[int, int]) -> ReadLabels:
    """Read an ``annotation.json``.

    A frame with an entry that is wrong is not labelled, with a problem (the line is that on which the frame begins).

    Args:
        path: The file.
        spec: The classes, and how many keypoints there are.
        size: Height and width (H, W) of the frames.

    Raises:
        ValueError: It is not a JSON list (``file:line: reason``).
    """
    found, name, seen = ReadLabels(), str(path), set()
    for line, entry in _entries(name):
        try:
            number = _frame_number(entry)
            if number in seen:
                found.frames.pop(number, None)
                raise ValueError(f"expected frame {number} once, found it again")
            seen.add(number)
            found.frames[number] = _frame(entry, spec, size)
        except ValueError as error:
            found.problems.append(LineProblem(name, line, str(error)))
    return found


def keypoint_count(path: str | Path) -> int | None:
    """Return how many keypoints the players in an ``annotation.json`` have: 0 for none, None without players.

    Args:
        path: The file.

    Raises:
        ValueError: It is not a JSON list (``file:line: reason``).
    """
    count = None
    for _, entry in _entries(str(path)):
        players = entry.get("Players") if isinstance(entry, Mapping) else None
        if isinstance(players, list):
            count = count or 0
            for player in players:
                points = player.get("Keypoints") if isinstance(player, Mapping) else None
                if isinstance(points, list) and points:
                    return len(points)
    return count


def _entries(name: str) -> Iterator[tuple[int, Any]]:
    """Yield the entries of a JSON list with the line on which each begins."""
    try:
        text = Path(name).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}:1: expected a JSON list in UTF-8, found {error}") from error
    decoder, at, line, counted = json.JSONDecoder(), 0, 1, 0

    def skip(more: str = "") -> str:
        nonlocal at
        while at < len(text) and text[at] in f" \t\r\n{more}":
            at += 1
        return text[at : at + 1]

    if skip() != "[":
        raise ValueError(f"{name}:1: expected a JSON list of frames, found {text[at : at + 20]!r}")
    at += 1
    while (first := skip()) != "]":
        line, counted = line + text.count("\n", counted, at), at
        try:
            entry, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            found = f"{error.msg.lower()}" if first else "the end of the file"
            raise ValueError(f"{name}:{error.lineno}: expected a JSON list of frames, found {found}") from error
        yield line, entry
        if skip() == ",":
            at += 1
        elif text[at : at + 1] != "]":
            raise ValueError(
                f"{name}:{1 + text.count(chr(10), 0, at)}: expected ',' or ']', found {text[at : at + 1]!r}"
            )


def _frame_number(entry: Any) -> int:
    if not isinstance(entry, Mapping):
        raise ValueError(f"expected a frame as {{Frame, Balls, Players}}, found {entry!r}"[:200])
    number = entry.get("Frame")
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise ValueError(f"expected Frame to be a number 0 or above, found {number!r}")
    return number


def _frame(entry: Mapping[str, Any], spec: ClipSpec, size: tuple[int, int]) -> FrameLabels:
    """Return the labels of one frame."""
    balls, players = _list(entry, "Balls"), _list(entry, "Players")
    rows = []
    for ball in balls or []:
        visible = ball.get("Visibility", 1)
        if visible not in (0, 1, 2, HIDDEN) or isinstance(visible, bool):
            raise ValueError(f"expected a ball's Visibility of 0, 1, 2 or 3, found {visible!r}")
        if visible == 0:
            continue
        x, y = _numbers(ball, ("X", "Y"), "ball")
        if not (0 <= x <= size[1] and 0 <= y <= size[0]):
            raise ValueError(f"expected a ball in the frame of {size[1]}x{size[0]} pixels, found ({x:g}, {y:g})")
        rows.append((x, y, spec.class_of(ball.get("Class"), "objects"), int(visible), _ident(ball)))
    found = None if players is None or not spec.players else _players(players, spec, size)
    return FrameLabels.of(rows, labelled=balls is not None, players=found)


def _players(players: list[Mapping[str, Any]], spec: ClipSpec, size: tuple[int, int]) -> Players:
    """Return the players of one frame; boxes are cut off at its edge."""
    n, shape = len(players), spec.kpt_shape
    boxes, cls, has = np.zeros((n, 4), np.float32), np.zeros(n, np.int64), np.zeros(n, bool)
    keypoints = None if shape is None else np.zeros((n, shape[0], 3), np.float32)
    for i, player in enumerate(players):
        box = player.get("Bounding Box")
        if not isinstance(box, Mapping):
            raise ValueError(f"expected a player's 'Bounding Box' with X, Y, Width and Height, found {box!r}")
        x, y, w, h = _numbers(box, ("X", "Y", "Width", "Height"), "player's box")
        corners = np.array([x, y, x + w, y + h]).clip(0, (size[1], size[0], size[1], size[0]))
        if w <= 0 or h <= 0 or (corners[2:] <= corners[:2]).any():
            raise ValueError(
                f"expected a player's box in the frame of {size[1]}x{size[0]}, found {w:g}x{h:g} at {x:g}, {y:g}"
            )
        boxes[i], cls[i] = corners, spec.class_of(player.get("Class"), "players")
        points = player.get("Keypoints")
        if keypoints is not None and points and cls[i] in spec.kpt_classes:
            keypoints[i], has[i] = _keypoints(points, len(keypoints[i]), size), True
    ids = np.array([_ident(player) for player in players], np.int64)
    return Players(boxes=boxes, cls=cls, keypoints=keypoints, has_keypoints=has, ids=ids, ignore=np.zeros(n, bool))


def _keypoints(points: Any, count: int, size: tuple[int, int]) -> NDArray[np.float32]:
    """Return the keypoints of a player, (K, 3) x y in pixels and visibility; those outside of the frame are absent."""
    if not isinstance(points, list) or len(points) != count:
        found = f"{len(points)}" if isinstance(points, list) else repr(points)
        raise ValueError(f"expected {count} Keypoints as kpt_shape says, found {found}")
    out = np.zeros((count, 3), np.float32)
    for k, point in enumerate(points):
        if point is None:
            continue
        visible = point.get("Visibility") if isinstance(point, Mapping) else None
        if visible == 0:
            continue
        if visible not in (None, 1, 2):
            raise ValueError(f"expected a keypoint's Visibility of 0, 1 or 2, found {visible!r}")
        x, y = _numbers(point, ("X", "Y"), "keypoint")
        absent = visible is None and x == 0 and y == 0
        if not absent and 0 <= x <= size[1] and 0 <= y <= size[0]:
            out[k] = x, y, 2 if visible is None else visible
    return out


def _list(entry: Mapping[str, Any], key: str) -> list[Mapping[str, Any]] | None:
    """Return the objects under a key, None where they are not labelled."""
    value = entry.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        raise ValueError(f"expected {key} to be a list of objects, found {value!r}"[:200])
    return value


def _numbers(entry: Any, keys: tuple[str, ...], what: str) -> list[float]:
    """Return numbers of an object."""
    out = []
    for key in keys:
        value = entry.get(key) if isinstance(entry, Mapping) else None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ValueError(f"expected {key} of a {what} to be a number, found {value!r}")
        out.append(float(value))
    return out


def _ident(entry: Mapping[str, Any]) -> int:
    """Return the identity of an object, -1 where it is not known."""
    value = entry.get("Id", -1)
    value = -1 if value is None else value
    if isinstance(value, bool) or not isinstance(value, int) or value < -1:
        raise ValueError(f"expected an Id that is an integer 0 or above, found {value!r}")
    return value
