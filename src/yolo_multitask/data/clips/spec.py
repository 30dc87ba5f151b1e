"""What the labels of clips are about: which classes are followed, which are players."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from yolo_multitask.data.clips.clip import FrameLabels
from yolo_multitask.data.labels import LabelSpec, LineProblem

CLIP_FORMATS = ("csv", "annotation", "lines")  # kinds of labels of a clip, as the key `format` names them


@dataclass(frozen=True, kw_only=True)
class ClipSpec:
    """The classes of clips.

    Attributes:
        names: All classes by number.
        objects: Classes that are followed, by their position alone.
        players: The other classes.
        kpt_shape: (K, D) of the players' keypoints, None without.
        kpt_classes: Players' classes that have keypoints.
        lines: What label lines hold, where a clip has those.
    """

    names: Mapping[int, str]
    objects: tuple[int, ...]
    players: tuple[int, ...]
    kpt_shape: tuple[int, int] | None
    kpt_classes: tuple[int, ...]
    lines: LabelSpec

    def class_of(self, value: Any, kind: str) -> int:
        """Return the class that a label names.

        Args:
            value: Name or number; None or empty where the label does not say, if there is one such class.
            kind: ``objects`` or ``players``.

        Raises:
            ValueError: There is no such class; the message is the reason.
        """
        among: tuple[int, ...] = getattr(self, kind)
        text = "" if value is None else str(value).strip()
        if not text:
            if len(among) == 1:
                return among[0]
            listed = ", ".join(self.names[c] for c in among) or f"none; the data YAML has no {kind}"
            raise ValueError(f"expected a class, as there are several {kind} ({listed}), found none")
        by_name = {self.names[c]: c for c in among}
        found = by_name.get(text, int(text) if text.isdecimal() and int(text) in among else None)
        if found is None:
            close = get_close_matches(text, list(by_name), 1)
            hint = f", did you mean {close[0]!r}?" if close else ""
            listed = ", ".join(by_name) or "none"
            raise ValueError(f"expected a class of the {kind} ({listed}), found {text!r}{hint}")
        return found


@dataclass(kw_only=True)
class ReadLabels:
    """What a label file says.

    Attributes:
        frames: Labels by frame number; a frame that is not in it is not labelled.
        problems: Lines that were left out, and why. Their frames are not labelled.
    """

    frames: dict[int, FrameLabels] = field(default_factory=dict)
    problems: list[LineProblem] = field(default_factory=list)
