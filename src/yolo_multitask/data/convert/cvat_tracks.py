"""CVAT's tracks frame by frame, with its linear interpolation between the shapes that a file gives."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from yolo_multitask.data.convert.cvat_xml import (
    DRAWN,
    OUTLINES,
    Document,
    Drawn,
    group_of,
    is_ignored,
    parse,
    to_shape,
)
from yolo_multitask.data.convert.objects import Shape


def video_frames(document: Document) -> range:
    """Return the frame numbers of a video: those of its task, else up to the last one that a track names."""
    if document.frames is not None:
        return document.frames
    named = [int(e.get("frame", "")) for t in document.tracks for e in t if (e.get("frame") or "").isdecimal()]
    return range(max(named, default=-1) + 1)


def shapes_by_frame(
    document: Document,
    skeletons: Mapping[str, Sequence[str]],
    kpt_names: Sequence[str],
    dropped: Counter[str],
    notes: Counter[str],
) -> dict[int, list[Shape]]:
    """Return the shapes of all tracks by frame number; the number of a track is their identity.

    Tracks that are one object by their group have the smallest of their numbers, in every frame.

    A track is given at some frames. Between two of them it is interpolated as CVAT does, from one that is ``outside``
    to the next it is hidden. After its last one it goes on to the end of the task, unless the file holds interpolated
    shapes (``keyframe="0"``): CVAT has written the track whole then. One that is given in the last frame but one alone
    ends there: so CVAT writes a shape of that frame that is no track.

    Args:
        document: The file.
        skeletons: Names of the points of each skeleton in order, by its label.
        kpt_names: Names of the keypoints in order, for points outside of a skeleton.
        dropped: Takes what is no object nor part of one, by reason.
        notes: Takes what was changed.

    Raises:
        ValueError: An element is malformed; the message names file, track and frame.
    """
    frames = video_frames(document)
    whole = any(e.get("keyframe") == "0" for t in document.tracks for e in t)
    found: dict[int, list[Shape]] = defaultdict(list)
    for track, ident in zip(document.tracks, _identities(document), strict=True):
        label, where = track.get("label", ""), f"{document.file}: track {track.get('id')}"
        for frame, drawn, ignore in _states(track, frames, skeletons.get(label, kpt_names), whole, where, dropped):
            if frame not in frames:
                dropped["frame that is not in the task"] += 1
                continue
            at = f"{where}, frame {frame}"
            empty = Shape(label=label, where=at, group=group_of(track), id=ident, ignore=ignore)
            if isinstance(drawn, tuple):
                notes["outline between keyframes with other numbers of points, written as not labelled"] += 1
                empty.boxes.append(np.array(drawn))
                found[frame].append(empty)
                continue
            shape = to_shape(drawn, empty, kpt_names, dropped, notes)
            if shape is not None:
                found[frame].append(shape)
    return found


def _identities(document: Document) -> list[int]:
    """Return the identity of each track: its number, the smallest one of its object's for tracks of a group."""
    ids: list[int] = []
    for number, track in enumerate(document.tracks):
        label, ident = track.get("label"), track.get("id", "")
        if not label or not ident.isdecimal() or int(ident) in ids:
            raise ValueError(
                f"{document.file}: track {ident or number}: expected a label= and an id= of its own, found {label!r} "
                f"and {ident!r}"
            )
        ids.append(int(ident))
    groups: dict[str, list[int]] = defaultdict(list)
    for i, track in enumerate(document.tracks):
        group = group_of(track)
        if group is not None:
            groups[group].append(i)
    found = list(ids)
    for members in groups.values():
        outlined = [i for i in members if any(e.tag in OUTLINES for e in document.tracks[i])]
        labels = {document.tracks[i].get("label") for i in outlined}
        for label in labels:
            one = members if len(labels) == 1 else [i for i in outlined if document.tracks[i].get("label") == label]
            for i in one:
                found[i] = min(ids[k] for k in one)
    return found


State = tuple[int, "Drawn | tuple[float, ...]", bool]


def _states(
    track: ElementTree.Element,
    frames: range,
    kpt_names: Sequence[str],
    whole: bool,
    where: str,
    dropped: Counter[str],
) -> list[State]:
    """Return (frame, what is drawn, whether it is ignored) for every frame in which a track shows.

    Where an outline cannot be interpolated, what is drawn is the box alone, x1 y1 x2 y2.
    """
    given: dict[int, tuple[Drawn, bool, bool]] = {}
    for element in track:
        text = element.get("frame") or ""
        at = f"{where}, frame {text or '?'} (<{element.tag}>)"
        if element.tag not in DRAWN:
            dropped[f"{element.tag}, no outline of an object"] += 1
            continue
        if not text.isdecimal() or int(text) in given:
            raise ValueError(f"{at}: expected a frame= of its own, found {text!r}")
        drawn = parse(element, kpt_names, at)
        first = next(iter(given.values()), (drawn,))[0]
        if drawn.kind != first.kind:
            raise ValueError(f"{at}: expected one kind of shape in a track, found {first.kind} and {drawn.kind}")
        hidden = element.get("outside") == "1" or (drawn.kind == "skeleton" and not drawn.visible.any())
        given[int(text)] = (drawn, hidden, is_ignored(element))
    states: list[State] = []
    order = sorted(given)
    for i, frame in enumerate(order):
        drawn, hidden, ignore = given[frame]
        if hidden:
            continue
        states.append((frame, drawn, ignore))
        if i + 1 < len(order):
            following = order[i + 1]
            between = frames[bisect_right(frames, frame) : bisect_left(frames, following)]
            end = given[following][0]
            states += [(f, _between(drawn, end, (f - frame) / (following - frame)), ignore) for f in between]
        elif not whole and not (len(order) == 1 and frame in frames[-2:]):
            states += [(f, drawn, ignore) for f in frames[bisect_right(frames, frame) :]]
    return states


def _between(start: Drawn, end: Drawn, share: float) -> Drawn | tuple[float, ...]:
    """Return what is drawn between two frames, `share` of the way; the box alone where outlines do not match.

    Points outside of a skeleton stay where they are if there are several, as in CVAT. Visibility is that of the start.
    """
    if start.kind == "points" and (len(start.points) > 1 or len(end.points) > 1):
        return start
    if start.kind != "mask" and len(start.points) == len(end.points):
        target = np.where(np.isnan(end.points), start.points, end.points)
        turn = (end.rotation - start.rotation + 180) % 360 - 180
        return replace(
            start,
            points=start.points + (target - start.points) * share,
            rotation=(start.rotation + turn * share) % 360,
        )
    boxes = [_box(d) for d in (start, end)]
    if boxes[0] is None or boxes[1] is None:  # an empty mask
        return start
    return tuple((boxes[0] + (boxes[1] - boxes[0]) * share).tolist())


def _box(drawn: Drawn) -> NDArray[np.float64] | None:
    """Return the box around an outline, x1 y1 x2 y2; None for an empty mask."""
    shape = to_shape(drawn, Shape(label="", where=""), (), Counter(), Counter())
    return None if shape is None else shape.extents[0]
