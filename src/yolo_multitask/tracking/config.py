"""The configuration of the `multicue` tracker, as its YAML gives it."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from math import isfinite
from pathlib import Path
from typing import Any

import yaml

from yolo_multitask.configs import config_names, resolve_yaml

TRACKER_TYPE = "multicue"
CUES = ("box", "motion", "embedding", "keypoint", "mask", "next_box")


@dataclass(frozen=True, kw_only=True)
class TrackerConfig:
    """What `configs/trackers/multicue.yaml` says; the defaults are its values.

    Times are seconds, so that they hold for any frame rate. Lengths are in sizes of the object, a size being the root
    of the area of its box.

    Attributes:
        tracker_type: Always `multicue`; what the host chooses the tracker by.
        low_score: Detections below are not looked at.
        high_score: From here on a detection counts fully; below, it must agree better to be matched.
        new_score: A track may start from a detection with at least this score.
        confirm_score: A track gets its id when the scores of its detections sum to this; in the first frame at once.
        tentative_lost: A track without an id is dropped after this many seconds unseen.
        max_lost: A lost track is followed for this many seconds.
        memory: A lost track whose looks are known can be recognised for this many seconds.
        box_weight: Weight of the overlap with the expected box.
        motion_weight: Weight of the distance to the expected centre.
        embedding_weight: Weight of the looks; with 0 neither embeddings nor colours are used, also not for revival.
        keypoint_weight: Weight of the keypoint similarity.
        mask_weight: Weight of the mask overlap.
        next_box_weight: Weight of the overlap with the box that the network expected.
        box_gate: A pair with a smaller similarity is never matched; likewise for the other cues. 0 is no gate.
        motion_gate: As `box_gate`.
        embedding_gate: As `box_gate`.
        keypoint_gate: As `box_gate`.
        mask_gate: As `box_gate`.
        next_box_gate: As `box_gate`.
        class_gate: Only detections of a track's own class continue it. If false, classes play no part in matching, and
            a track has the class of its last detection.
        track_limit: What a track grants to the highest cost of a match.
        detection_limit: What a detection grants to it.
        lost_factor: Of what a track grants, what is left when it is lost.
        hidden_factor: The same when it is expected wholly behind another track.
        low_factor: Of what a detection grants, what is left at `low_score`.
        repeat_factor: The same where it looks like a second box of a better detection.
        position_noise: Standard deviation of the centre of a detection, in sizes.
        size_noise: The same of width and height.
        hidden_noise: The variance of a wholly hidden detection is larger by this many times.
        jitter: Standard deviation of an object about steady motion, in sizes a frame.
        speed_drift: Standard deviation of the change of speed within a second, in sizes per second.
        size_drift: The same of width and height.
        start_speed: Standard deviation of the speed of a new track, in sizes per second.
        max_speed: No track is expected to be faster, in sizes per second.
        coast_half_life: Seconds in which the expected speed of a lost track halves.
        camera_motion: Undo the motion of the camera where pictures are given.
        colours: Take the colours of what is worn for embeddings where a network gives none but pictures are given.
        gallery_size: Embeddings kept of a track.
        embedding_momentum: Weight of the old in the running mean of embeddings.
        embedding_min_score: Embeddings of detections with a lower score are not learnt.
        embedding_max_hidden: Embeddings of detections of which a larger share is hidden are not learnt.
        keypoint_min_score: Keypoints with a lower confidence do not count.
        new_max_iou: A detection that overlaps a matched one by more starts no track.
        new_max_inside: A detection of which a larger share lies inside a matched one starts no track.
        revive_spread: Standard deviation in sizes of where a lost track comes back, at once.
        revive_speed: Its growth in sizes per second.
        revive_reach: How many of these standard deviations away a lost track may come back.
        revive_min_same: Least probability of the same looks to recognise a lost track by them.
        revive_min_same_near: The same for one that comes back near where it was lost.

    Raises:
        ValueError: A value has the wrong type or is out of its range.
    """

    tracker_type: str = TRACKER_TYPE
    low_score: float = 0.1
    high_score: float = 0.4
    new_score: float = 0.45
    confirm_score: float = 1.2
    tentative_lost: float = 0.15
    max_lost: float = 3.0
    memory: float = 20.0
    box_weight: float = 1.0
    motion_weight: float = 0.5
    embedding_weight: float = 1.5
    keypoint_weight: float = 0.25
    mask_weight: float = 0.25
    next_box_weight: float = 0.25
    box_gate: float = 0.0
    motion_gate: float = 0.13
    embedding_gate: float = 0.01
    keypoint_gate: float = 0.0
    mask_gate: float = 0.0
    next_box_gate: float = 0.0
    class_gate: bool = True
    track_limit: float = 0.4
    detection_limit: float = 0.35
    lost_factor: float = 0.6
    hidden_factor: float = 0.7
    low_factor: float = 0.5
    repeat_factor: float = 0.2
    position_noise: float = 0.06
    size_noise: float = 0.08
    hidden_noise: float = 6.0
    jitter: float = 0.015
    speed_drift: float = 0.9
    size_drift: float = 0.15
    start_speed: float = 2.0
    max_speed: float = 5.0
    coast_half_life: float = 1.0
    camera_motion: bool = True
    colours: bool = True
    gallery_size: int = 8
    embedding_momentum: float = 0.9
    embedding_min_score: float = 0.4
    embedding_max_hidden: float = 0.4
    keypoint_min_score: float = 0.3
    new_max_iou: float = 0.4
    new_max_inside: float = 0.8
    revive_spread: float = 0.5
    revive_speed: float = 0.6
    revive_reach: float = 1.8
    revive_min_same: float = 0.75
    revive_min_same_near: float = 0.2

    def __post_init__(self) -> None:
        if self.tracker_type != TRACKER_TYPE:
            raise ValueError(f"tracker_type: expected '{TRACKER_TYPE}', found {self.tracker_type!r}.")
        for field in fields(self):
            _check(field.name, getattr(self, field.name), field.default)
        if not self.low_score <= self.high_score:
            raise ValueError(f"expected low_score <= high_score, found {self.low_score} and {self.high_score}.")
        if not any(self.weights.values()):
            raise ValueError("expected at least one cue with a weight above 0, found none.")

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each cue by name."""
        return {cue: getattr(self, f"{cue}_weight") for cue in CUES}

    @property
    def gates(self) -> dict[str, float]:
        """Gate of each cue by name."""
        return {cue: getattr(self, f"{cue}_gate") for cue in CUES}


ABOVE_ZERO = {"position_noise", "size_noise", "speed_drift", "size_drift", "start_speed", "max_speed"}
ABOVE_ZERO |= {"coast_half_life"}
UNBOUNDED = {"confirm_score", "tentative_lost", "max_lost", "memory", "hidden_noise", "jitter", "revive_spread"}
UNBOUNDED |= {"revive_speed", "revive_reach", *(f"{cue}_weight" for cue in CUES)}  # all other numbers lie in 0..1


def _check(name: str, value: Any, default: Any) -> None:
    """Check one value against the type of its default and its range.

    Raises:
        ValueError: It does not fit.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)
    if isinstance(default, str):
        fits, expected = isinstance(value, str), "text"
    elif isinstance(default, bool):
        fits, expected = isinstance(value, bool), "true or false"
    elif isinstance(default, int):
        fits, expected = number and isinstance(value, int) and 1 <= value <= 1000, "a whole number from 1 to 1000"
    elif name in ABOVE_ZERO:
        fits, expected = number and value > 0, "a number above 0"
    elif name in UNBOUNDED:
        fits, expected = number and value >= 0, "a number of 0 or more"
    else:
        fits, expected = number and 0 <= value <= 1, "a number from 0 to 1"
    if not fits:
        raise ValueError(f"{name}: expected {expected}, found {value!r}.")


def as_config(value: TrackerConfig | Mapping[str, Any] | Namespace | None) -> TrackerConfig:
    """Return a configuration from its keys.

    Args:
        value: A configuration, a mapping or namespace of some of its keys, or None; the rest is default.

    Raises:
        ValueError: A key is unknown, or a value wrong.
    """
    if isinstance(value, TrackerConfig):
        return value
    given = {} if value is None else dict(value) if isinstance(value, Mapping) else dict(vars(value))
    known = [field.name for field in fields(TrackerConfig)]
    for key in given:
        if key not in known:
            near = get_close_matches(str(key), known, n=1, cutoff=0)
            raise ValueError(f"unknown key '{key}' of the {TRACKER_TYPE} tracker; the nearest is '{near[0]}'.")
    return TrackerConfig(**given)


def load_config(name: str | Path) -> TrackerConfig:
    """Read a configuration.

    Args:
        name: Path of a YAML file, or the name of one of this package (`multicue.yaml`).

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no YAML mapping, has an unknown key, or a wrong value; the message names the file.
    """
    path = resolve_yaml(name, "trackers")
    if path is None:
        raise FileNotFoundError(f"no tracker file '{name}'; this package has {', '.join(config_names('trackers'))}.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"expected 'key: value' lines, found {type(content).__name__}.")
        return as_config(content)
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: {error}") from error
