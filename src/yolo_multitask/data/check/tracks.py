"""Rules for sequences: frames of a folder in which objects have identities."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from yolo_multitask.data.check.files import frame_number
from yolo_multitask.data.check.findings import Finding
from yolo_multitask.data.check.frame import Frame
from yolo_multitask.data.check.parts import Part
from yolo_multitask.data.check.sheet import Sheet

JUMP = 2.0  # widths and heights of an object between two frames, at the least
UNUSUAL = 8.0  # times the median of its class in the sequence
CAMERA = 4  # objects from whose median the motion of the camera is taken


@dataclass(frozen=True, slots=True)
class Place:
    """An instance: its image, its label file and its index there."""

    image: str
    label: str
    row: int


@dataclass(frozen=True, slots=True)
class Jump:
    """An object that moved far: class, identity, distance in object sizes, and where it is afterwards."""

    cls: int
    ident: int
    distance: float
    place: Place


@dataclass
class Sequence:
    """The frames of one folder, given in order.

    Attributes:
        folder: The folder.
        part: The part of a split that it is in.
        names: Class names by index.
    """

    folder: str
    part: Part
    names: Mapping[int, str]
    _previous: Frame | None = None
    _numbers: list[int] = field(default_factory=list)  # of the frames that have one in their name
    _images: list[str] = field(default_factory=list)  # of the same frames
    _sizes: dict[tuple[int, int], tuple[str, int]] = field(default_factory=dict)  # first image, number of images
    _seen: dict[int, dict[int, Place]] = field(default_factory=dict)  # identity, class -> first place
    _counts: Counter[tuple[int, int]] = field(default_factory=Counter)  # identity and class -> frames
    _moves: dict[int, list[NDArray[np.float32]]] = field(default_factory=dict)  # class -> distances by frame
    _jumps: list[Jump] = field(default_factory=list)

    @property
    def has_ids(self) -> bool:
        """Whether an object had an identity so far; a folder without any is no sequence."""
        return bool(self._seen)

    def add(self, frame: Frame) -> None:
        """Take the next frame."""
        number = frame_number(frame.image)
        if number is not None:
            self._numbers.append(number)
            self._images.append(frame.image)
        if frame.picture is not None:
            first, count = self._sizes.get(frame.picture.size, (frame.image, 0))
            self._sizes[frame.picture.size] = first, count + 1
        for ident, cls, row in zip(frame.ids.tolist(), frame.cls.tolist(), frame.rows.tolist(), strict=True):
            self._counts[ident, cls] += 1
            self._seen.setdefault(ident, {}).setdefault(cls, Place(frame.image, frame.label, row))
        if self._previous is not None and self._is_next():
            self._move(self._previous, frame)
        self._previous = frame

    def findings(self) -> Iterator[Finding]:
        """Yield what is wrong with the sequence."""
        if self.has_ids:
            yield from self._gaps()
            yield from self._other_sizes()
            yield from self._class_changes()
            yield from self._unusual_jumps()

    def _is_next(self) -> bool:
        """Return whether the last frame follows the one before as the second follows the first, or closer."""
        if not self._numbers:
            return True
        first, *_ = steps = np.diff(self._numbers[:2] + self._numbers[-2:])
        return bool(steps[-1] <= first)

    def _move(self, before: Frame, after: Frame) -> None:
        """Note how far each object moved, in its widths and heights, and which left the place where it was."""
        ids, here, there = np.intersect1d(before.ids, after.ids, assume_unique=True, return_indices=True)
        if not len(ids):
            return
        one, two = before.boxes[here], after.boxes[there]
        shift = two[:, :2] - one[:, :2]
        if len(ids) >= CAMERA:
            shift = shift - np.median(shift, axis=0)
        parts = np.abs(shift) / ((one[:, 2:] + two[:, 2:]) / 2)
        distance = np.hypot(*parts.T).astype(np.float32)
        classes = after.cls[there]
        for cls in np.unique(classes).tolist():
            self._moves.setdefault(cls, []).append(distance[classes == cls])
        for i in np.flatnonzero(distance > JUMP):
            place = Place(after.image, after.label, int(after.rows[there[i]]))
            self._jumps.append(Jump(int(classes[i]), int(ids[i]), float(distance[i]), place))

    def _gaps(self) -> Iterator[Finding]:
        numbers = self._numbers
        steps = np.diff(numbers)
        if not len(steps) or (steps < 1).any():  # the last numbers of the names do not count the frames
            return
        usual = Counter(steps.tolist()).most_common(1)[0][0]
        missing = steps // usual - 1
        wide = np.flatnonzero(missing > 0)
        if len(wide):
            message = (
                f"frame {numbers[wide[0]]} is followed by {numbers[wide[0] + 1]}; the usual step is {usual}, and "
                f"{missing[wide].sum()} are missing at {len(wide)} places. Add them, or make a folder of each unbroken "
                "part"
            )
            image = self._images[wide[0] + 1]
            yield Finding("frame-gap", self.folder, message, split=self.part.split, image=image)

    def _other_sizes(self) -> Iterator[Finding]:
        if len(self._sizes) < 2:
            return
        usual = max(self._sizes, key=lambda size: self._sizes[size][1])
        for size, (image, count) in self._sizes.items():
            if size != usual:
                message = (
                    f"{count} frames are {size[0]} x {size[1]}, this one first; {self._sizes[usual][1]} of the "
                    f"sequence are {usual[0]} x {usual[1]}. Make a folder of each"
                )
                yield Finding("frame-size", image, message, split=self.part.split, image=image)

    def _class_changes(self) -> Iterator[Finding]:
        for ident, places in self._seen.items():
            usual, *others = sorted(places, key=lambda cls: -self._counts[ident, cls])
            for cls in others:
                message = (
                    f"identity #{ident} is {self.names[cls]} in {self._counts[ident, cls]} frames, here first, and "
                    f"{self.names[usual]} in {self._counts[ident, usual]}; correct the class or the identity"
                )
                yield self._at("id-class", places[cls], message)

    def _unusual_jumps(self) -> Iterator[Finding]:
        usual = {cls: float(np.median(np.concatenate(self._moves[cls]))) for cls in {j.cls for j in self._jumps}}
        for jump in self._jumps:
            if jump.distance > UNUSUAL * usual[jump.cls]:
                message = (
                    f"identity #{jump.ident} is {jump.distance:.1f} object sizes from its place in the frame before, "
                    f"where {usual[jump.cls]:.2f} is usual; look whether this is another object"
                )
                yield self._at("id-jump", jump.place, message)

    def _at(self, kind: str, place: Place, message: str) -> Finding:
        line = Sheet.read(place.label, self.part).lines[place.row]
        return Finding(kind, place.label, message, line, self.part.split, place.image, (place.row,))


@dataclass
class Sequences:
    """The sequences of a part of a split, whose frames come folder after folder; one is kept at a time.

    Attributes:
        part: The part.
        names: Class names by index.
        folders: Folders that turned out to be sequences.
    """

    part: Part
    names: Mapping[int, str]
    folders: set[str] = field(default_factory=set)
    _open: Sequence | None = None

    def add(self, frame: Frame) -> Iterator[Finding]:
        """Take the next frame; where it is the first of a folder, yield what is wrong with the folder before."""
        folder = os.path.dirname(frame.image)
        if self._open is None or self._open.folder != folder:
            yield from self.finish()
            self._open = Sequence(folder, self.part, self.names)
        self._open.add(frame)

    def finish(self) -> Iterator[Finding]:
        """Yield what is wrong with the last folder."""
        if self._open is not None and self._open.has_ids:
            self.folders.add(self._open.folder)
            yield from self._open.findings()
        self._open = None
