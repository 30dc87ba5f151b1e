"""From an image to the network input and back, as Ultralytics' `LetterBox`, `scale_boxes` and `scale_coords`.

H W the original image, h w the network input, N boxes, K points of D values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

PADDING = 114


def letterbox(image: NDArray[np.uint8], size: tuple[int, int], stride: int | None, dtype: Any) -> NDArray[Any]:
    """Return the network input of an image: scaled to fit, centred on grey, planar, RGB, 0..1.

    Args:
        image: (H, W, C), BGR if C is 3; other channels stay in their order.
        size: Height and width (h, w) that it has to fit in.
        stride: Pad only to multiples of it, so that the input may be smaller than `size`; None for all of `size`.
        dtype: float32 or float16.

    Returns:
        (1, C, h, w).
    """
    height, width, channels = image.shape
    gain = min(size[0] / height, size[1] / width)
    rows, columns = max(round(height * gain), 1), max(round(width * gain), 1)
    spare_y, spare_x = size[0] - rows, size[1] - columns
    if stride is not None:
        spare_y, spare_x = spare_y % stride, spare_x % stride
    top, left = round(spare_y / 2 - 0.1), round(spare_x / 2 - 0.1)
    if (rows, columns) != (height, width):
        image = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_LINEAR).reshape(rows, columns, channels)
    out = np.full((1, channels, rows + spare_y, columns + spare_x), PADDING / 255, np.float32)
    planes = out[0, ::-1] if channels == 3 else out[0]
    for plane, values in zip(planes, np.moveaxis(image, 2, 0), strict=True):
        np.divide(values, 255, out=plane[top : top + rows, left : left + columns], dtype=np.float32)
    return out.astype(dtype, copy=False)


@dataclass(frozen=True)
class Scale:
    """The way back from a network input.

    Attributes:
        shape: Height and width (h, w) of the network input.
        image: Height and width (H, W) of the original image.
    """

    shape: tuple[int, int]
    image: tuple[int, int]

    @property
    def content(self) -> tuple[int, int]:
        """Height and width of the image in the network input."""
        gain = min(self.shape[0] / self.image[0], self.shape[1] / self.image[1])
        return max(round(self.image[0] * gain), 1), max(round(self.image[1] * gain), 1)

    @property
    def corner(self) -> tuple[int, int]:
        """Rows and columns of the network input above and left of the image."""
        (h, w), (rows, columns) = self.shape, self.content
        return round((h - rows) / 2 - 0.1), round((w - columns) / 2 - 0.1)

    def points(self, xy: NDArray[np.float32], *, clip: bool = True) -> NDArray[np.float32]:
        """Return points (..., D) in original pixels; what follows x and y stays.

        Args:
            xy: In pixels of the network input.
            clip: Whether to move points outside the image to its edge.
        """
        gain = np.divide(self.content[::-1], self.image[::-1]).astype(np.float32)
        out = xy.astype(np.float32)
        out[..., :2] = (out[..., :2] - np.array(self.corner[::-1], np.float32)) / gain
        if clip:
            out[..., :2] = out[..., :2].clip(0, np.array(self.image[::-1], np.float32))
        return out

    def boxes(self, xyxy: NDArray[np.float32], *, clip: bool = True) -> NDArray[np.float32]:
        """Return boxes (N, 4) x1 y1 x2 y2 in original pixels.

        Args:
            xyxy: In pixels of the network input.
            clip: Whether to cut boxes off at the edge of the image.
        """
        return self.points(xyxy.reshape(-1, 2, 2), clip=clip).reshape(-1, 4)

    def crop(self, masks: NDArray[Any]) -> NDArray[Any]:
        """Return the view of masks (N, h, w) of the network input that covers the image."""
        (top, left), (rows, columns) = self.corner, self.content
        return masks[:, top : top + rows, left : left + columns]
