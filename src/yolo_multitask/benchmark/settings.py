"""Arguments of `benchmark`, checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from yolo_multitask.args import normalise

OWN_KEYS: Mapping[str, Any] = {
    "against": None,
    "batches": None,
    "detections": None,
    "runs": 20,
    "threads": None,
    "warmup": 3,
}  # keys that only `benchmark` has, with what the command line shows as their default
STRIDE = 32


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured, and how.

    Attributes:
        data: Data YAML for the average precisions; None for none.
        format: Formats that the model is exported to and measured in beside itself, by the host's names.
        verbose: Whether to show progress on stderr.
        imgsz: Input size in pixels, a multiple of 32; None for that of the training.
        half: Whether to run in half precision, networks not on a CPU; the exports have it too.
        int8: Whether the exports are in int8, calibrated on `data`.
        device: As for `predict`.
        threads: Threads of PyTorch; None for as many as the host takes.
        batches: Batch sizes of the forward pass.
        against: Models to measure beside it, anything that `MultiTaskYOLO` opens.
        source: Image to predict, a path or an array (H, W, 3), uint8 BGR; None for the `bus.jpg` of the host.
        runs: Timed runs of each model.
        warmup: Runs of each before them.
        detections: Objects that every model is to keep; None for those of a confidence of 0.25 and more.
        lazy: As for `predict`.
        switches: Tasks that are switched on or off, `{task: bool}`.
        project: As for the host's runs: where to save.
        name: The same.
        exist_ok: The same.
    """

    data: str | Path | None = None
    format: tuple[str, ...] = ()
    verbose: bool = False
    imgsz: int | None = None
    half: bool = False
    int8: bool = False
    device: Any = None
    threads: int | None = None
    batches: tuple[int, ...] = (1,)
    against: tuple[str, ...] = ()
    source: Any = None
    runs: int = 20
    warmup: int = 3
    detections: int | None = None
    lazy: Any = "auto"
    switches: Mapping[str, bool] = field(default_factory=dict)
    project: str | Path | None = None
    name: str | None = None
    exist_ok: bool = False

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            ValueError: If one is wrong.
        """
        for key, least in (("runs", 1), ("warmup", 0)):
            _whole(key, getattr(self, key), least)
        for key in ("threads", "detections", "imgsz"):
            if getattr(self, key) is not None:
                _whole(key, getattr(self, key), 1)
        for key in ("verbose", "half", "int8", "exist_ok"):
            if not isinstance(getattr(self, key), bool):
                raise ValueError(f"'{key}' must be True or False, got {getattr(self, key)!r}.")
        if self.imgsz is not None and self.imgsz % STRIDE:
            raise ValueError(f"'imgsz' must be a multiple of {STRIDE} pixels, got {self.imgsz}.")
        if not self.batches:
            raise ValueError("'batches' must name one batch size or more, got none; write batches=[1,4].")
        for size in self.batches:
            _whole("batches", size, 1)
        for key in ("data", "project", "name"):
            value = getattr(self, key)
            if value is not None and not isinstance(value, (str, Path)):
                raise ValueError(f"'{key}' must be a path or a name, got {value!r}.")
        for name in self.against:
            if not isinstance(name, str) or not name:
                raise ValueError(f"'against' must list models by path or name, got {name!r}.")
        if self.int8 and (not self.format or self.data is None):
            raise ValueError(
                "'int8' is the precision of an export, calibrated on a data set: it needs format= and data= as well."
            )
        if self.int8 and self.half:
            raise ValueError("expected one of 'half' and 'int8', got both; leave one out.")

    @property
    def quantize(self) -> int | None:
        """Precision of the exports in bits, as the host says it; None for float32."""
        return 8 if self.int8 else 16 if self.half else None


def read_settings(arguments: Mapping[str, Any]) -> Settings:
    """Return the settings that a user asks for.

    Args:
        arguments: By name, as typed: task switches, one model, format or batch size instead of a list, and formats as
            one text with commas.

    Raises:
        ValueError: If there is no such argument, or a value is wrong.
    """
    given = {key: value for key, value in normalise(arguments).items() if value is not None}
    known = sorted({f.name for f in fields(Settings)} - {"switches"} | {"segment", "pose", "track"})
    for key in given.keys() - {f.name for f in fields(Settings)}:
        near = get_close_matches(key, known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"it takes {', '.join(known)}."
        raise ValueError(f"unknown argument '{key}' of benchmark; {hint}")
    for key in ("batches", "against"):
        if key in given:
            listed = given[key] if isinstance(given[key], (list, tuple)) else [given[key]]
            given[key] = tuple(str(v) if isinstance(v, Path) else v for v in listed)
    if "format" in given:
        given["format"] = _formats(given["format"])
    for key in ("project", "name"):  # as the host takes them
        if isinstance(given.get(key), (int, float, Path)):
            given[key] = str(given[key])
    return Settings(**given)


def _formats(value: Any) -> tuple[str, ...]:
    """Return the host's names of formats, each once; that of a network is left out, which is measured anyway."""
    from yolo_multitask.export.formats import check_format  # not above: the command line reads this module's keys

    names = value if isinstance(value, (list, tuple)) else [value]
    if not all(isinstance(name, str) for name in names):
        raise ValueError(f"'format' must list formats by name, got {value!r}.")
    texts = [text.strip() for name in names for text in name.split(",")]
    return tuple(dict.fromkeys(check_format(text) for text in texts if text.lower() not in ("", "pt", "-")))


def _whole(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"'{name}' must be a whole number of {least} or more, got {value!r}.")
