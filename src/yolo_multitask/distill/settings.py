"""What `ymt distill` is told, beyond the arguments of a training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

TEACHES = ("detect", "pose", "segment", "reid")  # keys that name a teacher
DEFAULTS: dict[str, Any] = {  # of the training; what the user types goes before
    "epochs": 100,
    "imgsz": 640,
    "batch": 8,
    "nbs": 8,
    "optimizer": "AdamW",
    "lr0": 1e-3,
    "lrf": 0.05,
    "cos_lr": True,
    "warmup_epochs": 1.0,
    "warmup_bias_lr": 0.0,
    "weight_decay": 5e-4,
    "patience": 0,
    "close_mosaic": 0,
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings, checked.

    Attributes:
        teachers: Checkpoints by task: `detect`, `pose`, `segment`; `reid` may be an exported file for crops.
        source: Pictures to learn from.
        first: Task whose teacher the student starts from; None for the one with the most classes.
        views: How many views there are of each picture.
        frozen: Share of the training in which only what is new on the trunk learns, and all else stays as it is.
        fit: Views to fit a branch from another trunk on before the training; 0 for none.
        held_out: Pictures to measure on where there is no `data`; every n-th of the source, at most a fifth.
        frames: Most frames of a video.
        supervised: Whether the real labels of `data` are learned too.
        lessons: Folder of what the teachers said; it may be deleted.
        measured: Pictures of the source that are measured on, found by `run.distill`; not learned from.
    """

    teachers: Mapping[str, str]
    source: tuple[str, ...]
    first: str | None = None
    views: int = 4
    frozen: float = 0.5
    fit: int = 200
    held_out: int = 64
    frames: int = 200
    supervised: bool = True
    lessons: str = ""
    measured: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the values."""
        if not self.teachers or set(self.teachers) == {"reid"}:
            raise ValueError(
                "teachers: expected networks to learn from, such as pose=yolov8n-pose.pt segment=yolov8n-seg.pt, found "
                f"{'reid= alone' if self.teachers else 'none'}."
            )
        for name, low in (("views", 1), ("fit", 0), ("held_out", 1), ("frames", 1)):
            value = getattr(self, name)
            if type(value) is not int or value < low:
                raise ValueError(f"{name}: expected a whole number of {low} or more, found {value!r}.")
        if isinstance(self.frozen, bool) or not isinstance(self.frozen, (int, float)) or not 0 <= self.frozen <= 1:
            raise ValueError(f"frozen: expected a share from 0 to 1, found {self.frozen!r}.")
        if not isinstance(self.supervised, bool):
            raise ValueError(f"supervised: expected True or False, found {self.supervised!r}.")

    @property
    def networks(self) -> dict[str, str]:
        """The teachers that see whole pictures."""
        return {task: file for task, file in self.teachers.items() if task != "reid"}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Settings:
        """Return the settings that `as_dict` gave."""
        return cls(**{**saved, "source": tuple(saved["source"]), "measured": tuple(saved["measured"])})

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as a checkpoint and a YAML file can hold them."""
        return {
            **asdict(self),
            "teachers": dict(self.teachers),
            "source": list(self.source),
            "measured": list(self.measured),
        }


OWN_KEYS: dict[str, Any] = {
    **dict.fromkeys(TEACHES),
    **{f.name: f.default for f in fields(Settings) if f.name not in ("teachers", "source", "measured")},
}


def read_settings(given: Mapping[str, Any]) -> tuple[Settings, dict[str, Any]]:
    """Separate the settings from the arguments of the training, which are completed.

    Args:
        given: What the user typed, without `model`.

    Raises:
        ValueError: If a setting has a wrong value, or an argument does not go with `distill`.
    """
    rest = {k: v for k, v in given.items() if k not in OWN_KEYS and k != "source"}
    teachers = {}
    for task in TEACHES:
        file = given.get(task)
        if file is None:
            continue
        if not isinstance(file, (str, Path)):
            raise ValueError(
                f"{task}: expected the file of a network that teaches it, found {file!r}. In 'distill' a task has no "
                "other switch."
            )
        teachers[task] = str(file)
    source = given.get("source")
    listed = list(source) if isinstance(source, (list, tuple)) else [source] if source is not None else []
    own = {k: v for k, v in given.items() if k in OWN_KEYS and k not in TEACHES and v is not None}
    settings = Settings(teachers=teachers, source=tuple(str(s) for s in listed), **own)
    for key in ("teachers", "distill_model", "multi_scale", "rect", "freeze"):
        if rest.get(key):
            raise ValueError(f"{key}={rest[key]!r} does not go with 'distill'; leave it out.")
    if rest.get("time") is None and rest.get("epochs") is None and rest.get("resume"):
        return settings, rest
    return settings, {**DEFAULTS, **rest}
