"""The YAML of a model that sees several frames at once: its keys and its head lines, checked and resolved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from yolo_multitask.data.spec import check_kpt_shape
from yolo_multitask.nn.features import FeatureSet, feature_set
from yolo_multitask.tasks import SPECS

LINES: Mapping[str, tuple[str, ...]] = {
    "TrackNet": ("nc", "feat_no", "frames", "reg_max"),
    "Pose": ("pose_nc", "kpt_shape"),
}  # arguments of a head line, each a key of the YAML too
HEAD_TASK: Mapping[str, str] = {"TrackNet": "track", "Pose": "pose"}
_DEFAULTS: Mapping[str, Any] = {"nc": 1, "feat_no": 8, "frames": 10, "reg_max": 16, "pose_nc": 1, "kpt_shape": [17, 3]}
_CHANNELS = (1, 3)


def is_temporal_yaml(config: Any) -> bool:
    """Return whether a model YAML is one of a model that sees several frames: it has a TrackNet head, or `frames`."""
    try:
        return "frames" in config or any(line[2] == "TrackNet" for line in config["head"])
    except (KeyError, IndexError, TypeError):
        return False


@dataclass(frozen=True, kw_only=True)
class TemporalConfig:
    """What a YAML of such a model says.

    Attributes:
        yaml: The YAML with every key filled in and the head lines that are built, as the model keeps it.
        heads: Names of the heads that are built, `TrackNet` and `Pose`, in the order of their lines.
        frames: Frames of a window.
        frame_channels: Channels of a frame.
        features: What TrackNet regresses.
    """

    yaml: dict[str, Any]
    heads: tuple[str, ...]
    frames: int
    frame_channels: int
    features: FeatureSet | None

    @property
    def plain(self) -> dict[str, Any]:
        """The YAML with a plain head of the host in the place of each of ours."""
        out = deepcopy(self.yaml)
        out.pop("reg_max", None)  # is TrackNet's; boxes have the host's
        for line in out["head"][-len(self.heads) :]:
            line[2:] = ["Detect", [out["pose_nc"] if line[2] == "Pose" else 1]]
        return out


def read_temporal_yaml(
    config: Mapping[str, Any], tasks: Sequence[str] | None = None, **overrides: Any
) -> TemporalConfig:
    """Read and check a model YAML.

    Args:
        config: The YAML, or that of a model that was built.
        tasks: Tasks whose heads are built; default: all that the YAML has.
        **overrides: Values that go before those of the keys `nc`, `pose_nc`, `kpt_shape`, `frames` and `channels`, the
            channels of a frame. None leaves the YAML's.

    Raises:
        ValueError: If a value cannot be built, two places contradict each other, or a task has no head.
    """
    yaml = deepcopy(dict(config))
    heads = _head_lines(yaml)
    for name, line in heads.items():
        _resolve(yaml, name, line)
    channels = overrides.pop("channels", None)
    yaml["frame_channels"] = channels or yaml.get("frame_channels") or yaml.get("channels", 1)
    yaml |= {key: value for key, value in overrides.items() if value is not None}
    for key in ("nc", "frames", "pose_nc"):
        yaml.setdefault(key, _DEFAULTS[key])
        if type(yaml[key]) is not int or yaml[key] < 1:
            raise ValueError(f"'{key}' must be a whole number of 1 or more, got {yaml[key]!r}.")
    if yaml["frame_channels"] not in _CHANNELS:
        raise ValueError(
            f"'channels' must be 1 (gray) or 3 (colour), those of one frame, got {yaml['frame_channels']!r}. The "
            "network takes frames * channels."
        )
    if yaml.get("end2end"):
        raise ValueError("These heads have no one-to-one branches; remove 'end2end: True' from the model YAML.")
    yaml["channels"] = yaml["frames"] * yaml["frame_channels"]  # what the host reads
    yaml["head"] = yaml["head"][: -len(heads)] + list(_wanted(heads, tasks).values())
    names = tuple(line[2] for line in yaml["head"] if line[2] in LINES)
    if "Pose" in names:
        yaml["kpt_shape"] = list(check_kpt_shape(yaml["kpt_shape"]))
    features = None
    if "TrackNet" in names:
        features = feature_set(yaml.get("features"), yaml["feat_no"])
        features.check(yaml["feat_no"], yaml["reg_max"])
    return TemporalConfig(
        yaml=yaml,
        heads=names,
        frames=yaml["frames"],
        frame_channels=yaml["frame_channels"],
        features=features,
    )


def _head_lines(yaml: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the head lines by the name of the head.

    Raises:
        ValueError: If there is none, one is there twice, or another layer follows.
    """
    names = [line[2] for line in yaml["head"]]
    found = [name for name in names if name in LINES]
    if not found or len(set(found)) < len(found) or names[-len(found) :] != found:
        raise ValueError(
            "'head' must end in one line of TrackNet, one of Pose, or both in any order, after all other layers; got "
            f"{', '.join(names[-3:])} as its last."
        )
    before = len(yaml["backbone"]) + len(names) - len(found)
    for line in yaml["head"][-len(found) :]:
        if not isinstance(line[0], list) or not line[0] or not all(type(i) is int and 0 <= i < before for i in line[0]):
            raise ValueError(
                f"{line[2]} takes a list of layers in 0..{before - 1} as its first entry, got {line[0]!r}."
            )
        if not isinstance(line[3], list) or len(line[3]) > len(LINES[line[2]]):
            raise ValueError(f"{line[2]} takes at most the arguments {list(LINES[line[2]])}, got {line[3]!r}.")
    return {line[2]: line for line in yaml["head"][-len(found) :]}


def _resolve(yaml: dict[str, Any], name: str, line: list[Any]) -> None:
    """Let the YAML's keys hold what a head line says, and the line name the keys.

    Raises:
        ValueError: If the line gives another value than the key.
    """
    for key, given in zip(LINES[name], line[3], strict=False):
        value = yaml.get(given, _DEFAULTS.get(given, given)) if isinstance(given, str) else given
        if value != yaml.setdefault(key, value):
            raise ValueError(
                f"The line of {name} says {key}={value!r}, the key '{key}' of the model YAML {yaml[key]!r}. Write "
                f"'{key}' in the line, and the number once."
            )
    for key in LINES[name]:
        yaml.setdefault(key, _DEFAULTS[key])
    line[3] = list(LINES[name])


def _wanted(heads: dict[str, list[Any]], tasks: Sequence[str] | None) -> dict[str, list[Any]]:
    """Return the head lines of tasks.

    Raises:
        ValueError: If a task has no head, or no head is left.
    """
    if tasks is None:
        return heads
    has = {"detect", *(HEAD_TASK[name] for name in heads)}
    if lacking := [task for task in tasks if task not in has]:
        raise ValueError(
            f"'{lacking[0]}' was asked for, but the model YAML has only: {', '.join(t for t in SPECS if t in has)}."
        )
    kept = {name: line for name, line in heads.items() if HEAD_TASK[name] in tasks}
    if not kept:
        raise ValueError(f"tasks={list(tasks)} leave no head; name {' or '.join(HEAD_TASK[name] for name in heads)}.")
    return kept
