"""Drawing of one body as a map of part numbers, and laying it over a picture.

A body is drawn at twice the picture's resolution. The map gives its colours, its amodal mask (pixels covered by at
least half) and which part is on top at a point.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

T = TypeVar("T", bound=np.generic)
Image = NDArray[np.uint8]
Point = tuple[float, float]

SUPER = 2  # drawing resolution per picture pixel
SHIFT = 4  # fractional bits of cv2's drawing coordinates
OUTLINE = 64  # part number + OUTLINE marks the outline of a part


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A drawn body, not clipped to the picture.

    Attributes:
        origin: x and y of its first pixel in the picture.
        colour: (h, w, 3) uint8 BGR, already multiplied by `cover`.
        cover: (h, w) uint8, how much of each pixel the body covers; from 128 on the pixel is the body's.
        seen: (K,) bool, which keypoints are not hidden by the body itself.
    """

    origin: tuple[int, int]
    colour: Image
    cover: Image
    seen: NDArray[np.bool_]


class Canvas:
    """A map of part numbers at `SUPER` times the picture's resolution, (h, w) uint8, with drawing in picture pixels.

    Args:
        low: left and upper end of the map in picture pixels.
        high: right and lower end.
        unit: unit of widths and radii in picture pixels: the height of a figure, the radius of a ball.
    """

    def __init__(self, low: Point, high: Point, unit: float) -> None:
        self.x, self.y = math.floor(low[0]), math.floor(low[1])
        size = math.ceil(high[1]) - self.y, math.ceil(high[0]) - self.x
        self.map: Image = np.zeros((size[0] * SUPER, size[1] * SUPER), np.uint8)
        self.unit = unit * SUPER  # drawing pixels per unit
        self.edge = max(1, round(0.006 * self.unit))

    def at(self, point: Point) -> tuple[int, int]:
        """Fixed-point drawing coordinates of a point in picture pixels."""
        return self._fixed(point[0] - self.x), self._fixed(point[1] - self.y)

    @staticmethod
    def _fixed(value: float) -> int:
        return round((value * SUPER - 0.5) * (1 << SHIFT))

    def limb(self, start: Point, end: Point, width: float, part: int, outline: bool = True) -> None:
        """A thick line with round ends; `width` in units."""
        thick = max(1, round(width * self.unit))
        a, b = self.at(start), self.at(end)
        if outline:
            cv2.line(self.map, a, b, part + OUTLINE, thick + 2 * self.edge, cv2.LINE_8, SHIFT)
        cv2.line(self.map, a, b, part, thick, cv2.LINE_8, SHIFT)

    def disc(self, centre: Point, radius: float, part: int, outline: bool = True) -> None:
        """A filled circle; `radius` in units."""
        self.oval(centre, radius, radius, part, outline)

    def oval(self, centre: Point, half_width: float, half_height: float, part: int, outline: bool = True) -> None:
        """A filled ellipse; half axes in units."""
        c, unit = self.at(centre), self.unit * (1 << SHIFT)
        grow = self.edge << SHIFT
        axes = round(half_width * unit), round(half_height * unit)
        if outline:
            grown = axes[0] + grow, axes[1] + grow
            cv2.ellipse(self.map, c, grown, 0, 0, 360, part + OUTLINE, -1, cv2.LINE_8, SHIFT)
        cv2.ellipse(self.map, c, axes, 0, 0, 360, part, -1, cv2.LINE_8, SHIFT)

    def blob(self, points: list[Point], width: float, part: int) -> None:
        """The convex hull of points, grown by `width` / 2 units, with an outline."""
        corners = cv2.convexHull(np.array([self.at(p) for p in points], np.int32))
        thick = max(1, round(width * self.unit))
        for value, line in ((part + OUTLINE, thick + 2 * self.edge), (part, thick)):
            cv2.polylines(self.map, [corners], True, value, line, cv2.LINE_8, SHIFT)
            cv2.fillConvexPoly(self.map, corners, value, cv2.LINE_8, SHIFT)

    def part_at(self, point: Point) -> int:
        """The part on top at a point, 0 for none."""
        x, y = (int(v) for v in ((point[0] - self.x) * SUPER, (point[1] - self.y) * SUPER))
        return int(self.map[y, x]) % OUTLINE

    def layer(self, palette: Image, seen: NDArray[np.bool_]) -> Layer:
        """Colour the map with a palette (256, 3) uint8 and bring it to the picture's resolution."""
        size = self.map.shape[1] // SUPER, self.map.shape[0] // SUPER
        colour = cv2.LUT(cv2.merge([self.map] * 3), palette.reshape(1, 256, 3))
        cover = cv2.threshold(self.map, 0, 255, cv2.THRESH_BINARY)[1]
        return Layer(
            origin=(self.x, self.y),
            colour=cv2.resize(colour, size, interpolation=cv2.INTER_AREA),
            cover=cv2.resize(cover, size, interpolation=cv2.INTER_AREA),
            seen=seen,
        )


def clip(array: NDArray[T], origin: tuple[int, int], shape: tuple[int, ...]) -> tuple[NDArray[T], tuple[slice, slice]]:
    """The part of a patch that lies in a picture, and where in the picture it lies.

    Args:
        array: (h, w, ...) the patch.
        origin: x and y of its first pixel in the picture.
        shape: (H, W, ...) of the picture.
    """
    left, top = max(0, origin[0]), max(0, origin[1])
    right, bottom = min(shape[1], origin[0] + array.shape[1]), min(shape[0], origin[1] + array.shape[0])
    right, bottom = max(left, right), max(top, bottom)
    patch = array[top - origin[1] : bottom - origin[1], left - origin[0] : right - origin[0]]
    return patch, (slice(top, top + patch.shape[0]), slice(left, left + patch.shape[1]))


def lay_over(image: Image, owner: NDArray[np.int16], layer: Layer, number: int) -> None:
    """Blend a layer over a picture and mark the pixels that it covers by at least half as its own, in place."""
    cover, where = clip(layer.cover, layer.origin, owner.shape)
    if not cover.size:
        return
    colour, _ = clip(layer.colour, layer.origin, owner.shape)
    rest = cv2.merge([cv2.bitwise_not(np.ascontiguousarray(cover))] * 3)
    below = cv2.multiply(image[where], rest, scale=1 / 255)
    image[where] = cv2.add(below, np.ascontiguousarray(colour))
    owner[where][cover >= 128] = number
