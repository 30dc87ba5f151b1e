"""What the label lines of a source hold, as its data YAML says it (torch-free, host-free)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

FORMATS = ("multitask", "detect", "segment", "pose", "kpt_seg")
LABEL_KEYS = ("keypoints", "polygons", "ids")


@dataclass(frozen=True, kw_only=True)
class LabelSpec:
    """What the label lines of one source hold.

    Attributes:
        nc: Number of classes; a class index is in 0..nc-1.
        kpt_shape: (K, D) with D in {2, 3}, or None when the lines have no keypoint field.
        polygons: Whether the lines have a polygon field.
        ids: Whether the lines may carry ``#id`` (multitask grammar only).
        format: One of `FORMATS`.

    Raises:
        ValueError: The parts contradict each other, e.g. format ``pose`` without ``kpt_shape``.
    """

    nc: int
    kpt_shape: tuple[int, int] | None
    polygons: bool
    ids: bool = False
    format: str = "multitask"

    def __post_init__(self) -> None:
        """Check that the format and the fields agree."""
        if self.format not in FORMATS:
            raise ValueError(f"label format: expected {_one_of(FORMATS)}, found {self.format!r}{_nearest(self.format)}")
        if isinstance(self.nc, bool) or not isinstance(self.nc, int) or self.nc < 1:
            raise ValueError(f"nc: expected the number of classes (1 or more), found {self.nc!r}")
        if self.kpt_shape is not None:
            object.__setattr__(self, "kpt_shape", check_kpt_shape(self.kpt_shape))
        wanted = {"detect": (False, False), "segment": (False, True), "pose": (True, False), "kpt_seg": (True, True)}
        if self.format in wanted:
            has = (self.kpt_shape is not None, self.polygons)
            if has != wanted[self.format]:
                raise ValueError(
                    f"label format {self.format!r} has {_fields(*wanted[self.format])}, but the labels are said to "
                    f"have {_fields(*has)}; keypoints need `kpt_shape: [K, D]` in the data YAML"
                )
            if self.ids:
                raise ValueError(f"label format {self.format!r} has no identities; use `labels: {{ids: true}}` alone")

    @classmethod
    def from_data(
        cls, data: Mapping[str, Any], *, task: str | None = None, labels: Mapping[str, bool] | None = None
    ) -> LabelSpec:
        """Decide what the lines hold from a data YAML, and from arguments where the YAML does not say.

        In this order: the key ``format:``, the key ``labels: {keypoints, polygons, ids}`` (multitask grammar), the key
        ``task:``; then ``kpt_shape`` (a stock pose set); then the argument ``labels=`` (multitask grammar) or ``task=``
        (``segment``); else boxes.

        Args:
            data: The data YAML as a mapping; needs ``nc`` or ``names``.
            task: Task the caller wants to train, used only where the YAML says nothing.
            labels: Same keys as the YAML's ``labels:``, used only where the YAML says nothing.

        Returns:
            The specification.

        Raises:
            ValueError: An unknown key or format, a malformed ``kpt_shape``, or two statements that contradict.
        """
        nc = data.get("nc")
        if nc is None:
            names = data.get("names")
            if not names:
                raise ValueError("data YAML: expected `names:` or `nc:`, found neither")
            nc = len(names)
        shape = None if data.get("kpt_shape") is None else check_kpt_shape(data["kpt_shape"])
        said = _label_flags(data.get("labels"), "data YAML `labels:`")
        kind = data.get("format")
        if kind in ("csv", "annotation"):
            raise ValueError(
                f"data YAML `format: {kind}` has clips, not images with label lines: train a temporal model "
                "(model=multitask.yaml) on it, or convert it with `ymt data convert-tracknet`"
            )
        if kind == "lines":  # of clips: the same lines
            kind = None
        if kind is None and said is None:
            kind = data.get("task")
            if kind is not None and kind not in FORMATS[1:4]:
                raise ValueError(
                    f"data YAML `task: {kind}`: expected {_one_of(FORMATS[1:4])}; for several tasks in one line say "
                    "what the lines hold, e.g. `labels: {keypoints: true, polygons: true}`"
                )
        if kind is None and said is None:
            asked = _label_flags(labels, "argument labels=")
            if shape is not None:
                if asked and (asked.get("polygons") or asked.get("ids") or asked.get("keypoints") is False):
                    raise ValueError(
                        "the data YAML has `kpt_shape` and no `labels:` key, so its lines are stock pose lines, but "
                        f"the argument labels={dict(asked)} says otherwise; put `labels:` into the data YAML"
                    )
                kind = "pose"
            elif asked is not None:
                said = asked
            else:
                kind = "segment" if task == "segment" else "detect"
        if kind is not None and kind != "multitask":
            return cls._stock(nc, shape, str(kind), said)
        if said is None:
            raise ValueError(
                "data YAML `format: multitask`: expected `labels: {keypoints: .., polygons: .., ids: ..}` beside it"
            )
        keypoints = said.get("keypoints", shape is not None)
        if keypoints and shape is None:
            raise ValueError("labels say keypoints: true, but the data YAML has no `kpt_shape: [K, D]`; add it")
        return cls(
            nc=nc,
            kpt_shape=shape if keypoints else None,
            polygons=said.get("polygons", False),
            ids=said.get("ids", False),
        )

    @classmethod
    def _stock(cls, nc: int, shape: tuple[int, int] | None, kind: str, said: Mapping[str, bool] | None) -> LabelSpec:
        """Return the specification of a fixed format; `said` (if given) must not contradict it."""
        spec = cls(
            nc=nc,
            kpt_shape=shape if kind in ("pose", "kpt_seg") else None,
            polygons=kind in ("segment", "kpt_seg"),
            format=kind,
        )
        holds = {"keypoints": spec.kpt_shape is not None, "polygons": spec.polygons, "ids": False}
        for key, value in (said or {}).items():
            if value != holds[key]:
                raise ValueError(
                    f"data YAML: `format: {kind}` has {key}: {str(holds[key]).lower()}, but `labels:` says "
                    f"{key}: {str(value).lower()}; remove one of the two"
                )
        return spec

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks these labels can train, in the package's order; ``detect`` always."""
        wanted = (
            ("detect", True),
            ("segment", self.polygons),
            ("pose", self.kpt_shape is not None),
            ("track", self.ids),
        )
        return tuple(name for name, there in wanted if there)

    @property
    def advice(self) -> dict[str, str]:
        """What to change so that labels that seem to lack a task train it, by missing task, for messages."""
        polygons = "add `labels: {keypoints: true, polygons: true}` to the data YAML if polygons follow the keypoints"
        if self.kpt_shape is None:
            polygons = (
                "say `task: segment` in the data YAML or pass task=segment if its lines are stock polygon lines, or "
                "add `labels: {polygons: true}` to it if polygons follow the box"
            )
        texts = {
            "segment": polygons,
            "pose": "add `kpt_shape: [K, D]` to the data YAML if its lines hold keypoints",
            "track": "add `labels: {ids: true}` to the data YAML if its lines hold identities",
        }
        if self.format == "multitask":  # `labels:` decides, and nothing beside it
            texts = {
                "segment": "set `polygons: true` under `labels:` in the data YAML if its lines hold polygons",
                "pose": "set `keypoints: true` under `labels:` and `kpt_shape` in the data YAML if its lines hold them",
                "track": "set `ids: true` under `labels:` in the data YAML if its lines hold identities",
            }
        return {task: text for task, text in texts.items() if task not in self.tasks}

    @property
    def has_box(self) -> bool:
        """Whether the lines hold a box; else it is taken from the polygon."""
        return self.format not in ("segment", "kpt_seg")

    @property
    def grammar(self) -> str:
        """The line in words, for messages: ``cls cx cy w h KEYPOINTS(17x3) POLYGON [#id] [@conf] [!]``."""
        parts = ["cls"] + (["cx cy w h"] if self.has_box else [])
        if self.kpt_shape is not None:
            parts.append(f"KEYPOINTS({self.kpt_shape[0]}x{self.kpt_shape[1]})")
        if self.polygons:
            parts.append("POLYGON")
        if self.format == "multitask":
            parts += (["[#id]"] if self.ids else []) + ["[@conf]", "[!]"]
        return " ".join(parts)


def check_kpt_shape(shape: Any) -> tuple[int, int]:
    """Return ``kpt_shape`` as (K, D).

    Args:
        shape: Two integers, K >= 1 and D in {2, 3}.

    Raises:
        ValueError: Anything else.
    """
    good = isinstance(shape, (list, tuple)) and len(shape) == 2
    good = good and all(isinstance(v, int) and not isinstance(v, bool) for v in shape)
    if not good or shape[0] < 1 or shape[1] not in (2, 3):
        raise ValueError(
            "kpt_shape: expected [K, D] with K keypoints (1 or more) and D = 2 (x y) or 3 (x y visibility), "
            f"found {shape!r}"
        )
    return int(shape[0]), int(shape[1])


def _label_flags(labels: Mapping[str, Any] | None, where: str) -> dict[str, bool] | None:
    """Check a ``labels`` mapping and return it as a dict of bools; None stays None."""
    if labels is None:
        return None
    if not isinstance(labels, Mapping):
        raise ValueError(f"{where}: expected a mapping with {_one_of(LABEL_KEYS)}, found {labels!r}")
    for key, value in labels.items():
        if key not in LABEL_KEYS:
            raise ValueError(
                f"{where}: expected the keys {_one_of(LABEL_KEYS)}, found {key!r}{_nearest(str(key), LABEL_KEYS)}"
            )
        if not isinstance(value, bool):
            raise ValueError(f"{where} {key}: expected true or false, found {value!r}")
    return dict(labels)


def _one_of(names: Sequence[str]) -> str:
    """Join names for a message."""
    return ", ".join(names[:-1]) + f" or {names[-1]}"


def _nearest(name: str, names: Sequence[str] = FORMATS) -> str:
    """Return '; did you mean ...?' for a near miss, else nothing."""
    close = get_close_matches(name, names, 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _fields(keypoints: bool, polygons: bool) -> str:
    """Name the fields of a format for a message."""
    return " and ".join([n for n, there in (("keypoints", keypoints), ("polygons", polygons)) if there]) or "boxes only"
