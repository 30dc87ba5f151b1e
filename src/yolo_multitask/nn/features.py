"""What the `TrackNet` head regresses: which coordinates, in which unit, and how they are read back.

A feature is a distance along one axis from the centre of a cell to a point, in one direction, counted in bins of
`unit` strides. The sum of a feature's probabilities times its bin numbers is its value. Two features of opposite sign
of the same point and axis share it: one takes the positive part, the other the negative. Everything is written for
numpy arrays and torch tensors alike, so that the loss, the head and a reader without torch share it. Torch-free.

Shape suffixes: N elements (or any shape in front), 2 x and y, F features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

AXES = ("x", "y")
CELL_REACH = 0.5  # strides from the centre of a cell to its border, which a position must be able to say
MARGIN = 0.125  # strides that it must be able to say beyond


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One regressed number, a distribution over bins.

    Attributes:
        name: What it is called, such as `x+`.
        point: The point that it tells: `now` the object, `next` the same object one frame later, `low` and `high` the
            corners of its box; in a set of one's own any key of the points that are encoded.
        axis: 0 for x, 1 for y.
        sign: 1 if it grows with the coordinate, -1 if it falls.
        unit: Strides per bin.
    """

    name: str
    point: str
    axis: int
    sign: int
    unit: float


@dataclass(frozen=True, kw_only=True)
class Column:
    """One decoded number, a weighted sum of coordinates of points.

    Attributes:
        name: What it is called, such as `next_x`.
        terms: (point, axis) -> weight.
    """

    name: str
    terms: Mapping[tuple[str, int], float]


@dataclass(frozen=True)
class FeatureSet:
    """The features of an element in their order, and the columns that they decode to.

    Attributes:
        name: Key in `FEATURE_SETS` and value of `features:` in a model YAML.
        features: In the order of the channels.
        columns: In the order of the decoded values; the first two are the x and y of the object.
    """

    name: str
    features: tuple[Feature, ...]
    columns: tuple[Column, ...]

    def __post_init__(self) -> None:
        """Check that the columns can be read from the features.

        Raises:
            ValueError: If one cannot, or the first two are not `x` and `y`.
        """
        told = {(f.point, f.axis) for f in self.features}
        for column in self.columns:
            if missing := set(column.terms) - told:
                raise ValueError(
                    f"features '{self.name}': column '{column.name}' reads {missing}, no feature tells it."
                )
        if tuple(column.name for column in self.columns[:2]) != AXES:
            found = ", ".join(column.name for column in self.columns)
            raise ValueError(f"features '{self.name}': expected the columns x, y first, found {found}.")

    @property
    def feat_no(self) -> int:
        """How many features there are."""
        return len(self.features)

    @cached_property
    def points(self) -> tuple[str, ...]:
        """The points that are told, in the order of the features."""
        return tuple(dict.fromkeys(f.point for f in self.features))

    @property
    def has_next(self) -> bool:
        """Whether the third and fourth column are the object's position in the next frame."""
        return tuple(column.name for column in self.columns[2:4]) == ("next_x", "next_y")

    @cached_property
    def _shared(self) -> tuple[bool, ...]:
        """Whether a feature is one half of a signed distance."""
        signs = {(f.point, f.axis, f.sign) for f in self.features}
        return tuple((f.point, f.axis, -f.sign) in signs for f in self.features)

    def encode(self, points: Mapping[str, Any], centres_N2: Any, stride_N: Any) -> list[Any]:
        """Return the value of each feature in bins, F arrays of (N,).

        Args:
            points: Position of each point, (N, 2) in input pixels, by its name.
            centres_N2: Cell centres in input pixels.
            stride_N: Pixels per cell.

        Returns:
            Values; those outside 0..reg_max - 1 cannot be said, see `in_range`.
        """
        values = []
        for feature, shared in zip(self.features, self._shared, strict=True):
            distance = points[feature.point][..., feature.axis] - centres_N2[..., feature.axis]
            value = distance * feature.sign / (stride_N * feature.unit)
            values.append(value.clip(0) if shared else value)
        return values

    def in_range(self, values: Sequence[Any], reg_max: int) -> list[Any]:
        """Return whether the point of each feature can be said, F boolean arrays of (N,).

        All features of a point share it: a target out of range is left out whole, never clipped.

        Args:
            values: From `encode`.
            reg_max: Number of bins.
        """
        fits: dict[str, Any] = {}
        for feature, value in zip(self.features, values, strict=True):
            fit = (value >= 0) & (value <= reg_max - 1)
            fits[feature.point] = fits[feature.point] & fit if feature.point in fits else fit
        return [fits[feature.point] for feature in self.features]

    def decode(self, values: Sequence[Any], centres_N2: Any, stride_N: Any) -> list[Any]:
        """Return the columns in input pixels, `len(columns)` arrays of (N,); the inverse of `encode`.

        Args:
            values: Value of each feature in bins, F arrays of (N,).
            centres_N2: Cell centres in input pixels.
            stride_N: Pixels per cell.
        """
        distance: dict[tuple[str, int], Any] = {}
        for feature, value in zip(self.features, values, strict=True):
            key, moved = (feature.point, feature.axis), value * (feature.sign * feature.unit)
            distance[key] = distance[key] + moved if key in distance else moved
        columns = []
        for column in self.columns:
            total = sum(weight * distance[key] for key, weight in column.terms.items()) * stride_N
            for axis in (0, 1):
                if anchored := sum(weight for (_, own), weight in column.terms.items() if own == axis):
                    total = total + anchored * centres_N2[..., axis]
            columns.append(total)
        return columns

    def check(self, feat_no: int, reg_max: int) -> None:
        """Check whether a head with `feat_no` features of `reg_max` bins can hold this set.

        Raises:
            ValueError: If it has another number of features, or so few bins that they do not reach over a cell.
        """
        if feat_no != self.feat_no:
            raise ValueError(
                f"feat_no={feat_no}, but features '{self.name}' are {self.feat_no}: "
                f"{', '.join(f.name for f in self.features)}. Set feat_no: {self.feat_no}, or other features."
            )
        if reg_max < 2:
            raise ValueError(f"reg_max={reg_max}: expected 2 or more bins.")
        halves = [f for f, shared in zip(self.features, self._shared, strict=True) if shared]
        for feature in halves:
            needed = int(-(-(CELL_REACH + MARGIN) // feature.unit)) + 1
            if reg_max < needed:
                raise ValueError(
                    f"reg_max={reg_max} bins of {feature.unit} strides do not reach from the centre of a cell over its "
                    f"border for '{feature.name}' of features '{self.name}'; expected {needed} or more."
                )


def _signed(point: str, unit: float, prefix: str = "") -> tuple[Feature, ...]:
    return tuple(
        Feature(name=f"{prefix}{AXES[axis]}{'+' if sign > 0 else '-'}", point=point, axis=axis, sign=sign, unit=unit)
        for axis in (0, 1)
        for sign in (1, -1)
    )


def _coordinates(point: str, prefix: str = "") -> tuple[Column, ...]:
    return tuple(Column(name=f"{prefix}{AXES[axis]}", terms={(point, axis): 1.0}) for axis in (0, 1))


NOW_UNIT = 1 / 8  # strides per bin: 16 bins reach 1.9 strides, and the object is within half of one
NEXT_UNIT = 1.0  # a fast object moves over many cells in a frame: 16 bins reach 15
_SIDES = (("l", "low", 0, -1), ("t", "low", 1, -1), ("r", "high", 0, 1), ("b", "high", 1, 1))

FEATURE_SETS: dict[str, FeatureSet] = {}


def register_feature_set(features: FeatureSet) -> FeatureSet:
    """Add a feature set to `FEATURE_SETS`, so that `features: NAME` in a model YAML finds it, and return it.

    Registering an equal one again changes nothing.

    Raises:
        ValueError: If another one has the name.
    """
    known = FEATURE_SETS.setdefault(features.name, features)
    if known != features:
        raise ValueError(f"features '{features.name}' are registered with other features; choose another name.")
    return features


def feature_set(name: str | None, feat_no: int) -> FeatureSet:
    """Return the feature set of a name, or where none is given the one that `feat_no` means.

    Raises:
        ValueError: If there is none of the name, or none that `feat_no` means.
    """
    if name is None:
        name = DEFAULT_FEATURES.get(feat_no)
    if name is None:
        meanings = ", ".join(f"{n} ({default})" for n, default in DEFAULT_FEATURES.items())
        raise ValueError(f"feat_no={feat_no}: expected one of {meanings}, or 'features:' with a set of that many.")
    if name not in FEATURE_SETS:
        raise ValueError(f"features '{name}': expected one of {', '.join(FEATURE_SETS)}.")
    return FEATURE_SETS[name]


DEFAULT_FEATURES: Mapping[int, str] = {4: "offsets", 8: "offsets_next"}  # of a YAML without `features:`
register_feature_set(FeatureSet("offsets", _signed("now", NOW_UNIT), _coordinates("now")))
register_feature_set(
    FeatureSet(
        "offsets_next",
        _signed("now", NOW_UNIT) + _signed("next", NEXT_UNIT, "next_"),
        _coordinates("now") + _coordinates("next", "next_"),
    )
)
register_feature_set(
    FeatureSet(
        "box",
        tuple(Feature(name=n, point=p, axis=axis, sign=sign, unit=1.0) for n, p, axis, sign in _SIDES),
        (
            *(Column(name=AXES[axis], terms={("low", axis): 0.5, ("high", axis): 0.5}) for axis in (0, 1)),
            *(Column(name=n, terms={("low", axis): -1.0, ("high", axis): 1.0}) for axis, n in enumerate("wh")),
        ),
    )
)
