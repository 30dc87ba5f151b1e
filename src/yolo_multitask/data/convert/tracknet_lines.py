"""What the labels of a frame of a clip become as label lines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from yolo_multitask.data.clips.clip import HIDDEN, FrameLabels, Players
from yolo_multitask.data.clips.spec import ClipSpec
from yolo_multitask.data.labels import Instance

_AWAY = 15  # frames after which an object without identity that returns is another

_WHOLE = np.array([0.5, 0.5, 1, 1], np.float32)


class Identities:
    """Numbers that are unique in one clip: for given identities, and for stays of objects without."""

    def __init__(self) -> None:
        self._given: dict[tuple[int, int], int] = {}
        self._stay: dict[int, tuple[int, int]] = {}  # class: number, and frames since it was seen
        self._count = 0

    def of(self, labels: FrameLabels) -> list[int]:
        """Return the identities of the objects, then of the players, of the next frame; -1 unknown.

        An object without identity has one where it is the only one of its class in the frame.
        """
        for cls, (number, since) in self._stay.items():
            self._stay[cls] = number, since + 1
        found = []
        for cls, ident in zip(labels.cls.tolist(), labels.ids.tolist(), strict=True):
            alone = int((labels.cls == cls).sum()) == 1
            found.append(self._number(cls, ident) if ident >= 0 or not alone else self._of_stay(cls))
        if labels.players is not None:
            pairs = zip(labels.players.cls.tolist(), labels.players.ids.tolist(), strict=True)
            found += [self._number(cls, ident) for cls, ident in pairs]
        return found

    def _number(self, cls: int, ident: int) -> int:
        if ident < 0:
            return -1
        if (cls, ident) not in self._given:
            self._given[cls, ident] = self._next()
        return self._given[cls, ident]

    def _of_stay(self, cls: int) -> int:
        number, since = self._stay.get(cls, (-1, _AWAY + 1))
        if since > _AWAY:
            number = self._next()
        self._stay[cls] = number, 0
        return number

    def _next(self) -> int:
        self._count += 1
        return self._count


def line_instances(
    labels: FrameLabels, ids: Sequence[int], spec: ClipSpec, frame: tuple[int, int], size: float
) -> list[Instance]:
    """Return the lines of a frame: objects, players, and a region of the whole picture for what is not labelled.

    Args:
        labels: Of the frame.
        ids: Of objects, then players.
        spec: The classes.
        frame: Height and width (H, W) in pixels.
        size: Side of the box of an object of which only the place is known, in longer sides of the picture.
    """
    scale = np.array((frame[1], frame[0]), np.float64)
    nominal = size * max(frame) / scale
    found = [] if labels.labelled else [Instance(cls=c, box=_WHOLE, ignore=True) for c in spec.objects]
    for row in range(len(labels.points)):
        box = labels.boxes[row].astype(np.float64)
        sides = (box[2:] - box[:2]) / scale if np.isfinite(box).all() else nominal
        values = np.concatenate((labels.points[row] / scale, np.minimum(sides, 1)))
        hidden = int(labels.visible[row]) == HIDDEN
        found.append(
            Instance(cls=int(labels.cls[row]), box=values.round(7).astype(np.float32), id=ids[row], ignore=hidden)
        )
    if labels.players is None:
        return found + [Instance(cls=c, box=_WHOLE, ignore=True) for c in spec.players]
    return found + _player_instances(labels.players, ids[len(labels.points) :], scale)


def _player_instances(players: Players, ids: Sequence[int], scale: np.ndarray) -> list[Instance]:
    """Return the lines of the players of a frame."""
    found = []
    for row, ident in enumerate(ids):
        low, high = players.boxes[row, :2] / scale, players.boxes[row, 2:] / scale
        keypoints = None
        if players.keypoints is not None and players.has_keypoints[row]:
            keypoints = players.keypoints[row].astype(np.float64)
            keypoints[:, :2] /= scale
            keypoints = keypoints.round(7).astype(np.float32)
        box = np.concatenate(((low + high) / 2, high - low)).round(7).astype(np.float32)
        found.append(
            Instance(
                cls=int(players.cls[row]), box=box, keypoints=keypoints, id=ident, ignore=bool(players.ignore[row])
            )
        )
    return found
