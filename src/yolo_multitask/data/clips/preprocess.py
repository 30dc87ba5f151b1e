"""From a frame to network input and back: one function for training, validation and prediction.

G frames of a window, C channels of a frame, H W the frame, h w the network input. Pixel coordinates: x right, y down,
(0, 0) is the outer corner of the first pixel.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

PADDING = 114  # grey of what is around a frame, the host's
Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Fit:
    """How a frame lies in the network input: scaled to fit, centred, as the host's ``LetterBox`` does it.

    Attributes:
        frame: Height and width (H, W) of the frame.
        shape: Height and width (h, w) of the network input.
    """

    frame: tuple[int, int]
    shape: tuple[int, int]

    @property
    def content(self) -> tuple[int, int]:
        """Height and width of the frame in the network input."""
        gain = min(self.shape[0] / self.frame[0], self.shape[1] / self.frame[1])
        return max(round(self.frame[0] * gain), 1), max(round(self.frame[1] * gain), 1)

    @property
    def corner(self) -> tuple[int, int]:
        """Rows and columns of the network input above and left of the frame."""
        (h, w), (rows, columns) = self.shape, self.content
        return round((h - rows) / 2 - 0.1), round((w - columns) / 2 - 0.1)

    @property
    def ratio_pad(self) -> tuple[tuple[float, float], tuple[int, int]]:
        """The host's ``ratio_pad``: gains of height and width, columns and rows of padding before the frame."""
        (rows, columns), (top, left) = self.content, self.corner
        return (rows / self.frame[0], columns / self.frame[1]), (left, top)

    def to_input(self, xy: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return points (..., 2) in pixels of the network input.

        Args:
            xy: In pixels of the frame.
        """
        (gain_y, gain_x), pad = self.ratio_pad
        return (np.asarray(xy, np.float64) * (gain_x, gain_y) + pad).astype(np.float32)

    def to_frame(self, xy: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return points (..., 2) in pixels of the frame; those outside of it stay outside.

        Args:
            xy: In pixels of the network input.
        """
        (gain_y, gain_x), pad = self.ratio_pad
        return ((np.asarray(xy, np.float64) - pad) / (gain_x, gain_y)).astype(np.float32)


def input_shape(frame: tuple[int, int], imgsz: int | Sequence[int], stride: int = 32) -> tuple[int, int]:
    """Return height and width of the network input for frames of a size.

    Args:
        frame: Height and width (H, W) of the frames.
        imgsz: Longer side of the scaled frame, which is then padded to multiples of the stride only (640x360 is
            640x384 at 640); or height and width of the input, rounded up to multiples.
        stride: Largest stride of the model.
    """
    if isinstance(imgsz, Sequence):
        h, w = (int(v) for v in (imgsz if len(imgsz) > 1 else (*imgsz, *imgsz)))
    else:
        gain = int(imgsz) / max(frame)
        h, w = (max(round(v * gain), 1) for v in frame)
    return -(-h // stride) * stride, -(-w // stride) * stride


def prepare_frame(bgr: Image, shape: tuple[int, int], channels: int = 1) -> Image:
    """Return a frame as the network takes it.

    Grey is OpenCV's ``BGR2GRAY`` of the frame, before it is scaled (bilinear) and centred on grey 114.

    Args:
        bgr: (H, W, 3), or (H, W) or (H, W, 1) if it is grey already.
        shape: Height and width (h, w) of the network input, see `input_shape`.
        channels: 1 for grey, 3 for RGB.

    Returns:
        (h, w, C) uint8.

    Raises:
        ValueError: The frame or `channels` is neither grey nor of three colours.
    """
    if channels not in (1, 3) or bgr.ndim not in (2, 3) or (bgr.ndim == 3 and bgr.shape[2] not in (1, 3)):
        raise ValueError(
            f"expected a frame (H, W, 3) BGR or (H, W) grey and channels 1 or 3, found {bgr.shape} and {channels}"
        )
    grey = bgr.ndim == 2 or bgr.shape[2] == 1
    image = bgr.reshape(bgr.shape[:2]) if grey else bgr
    if channels == 1 and not grey:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    elif channels == 3:
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB if grey else cv2.COLOR_BGR2RGB)
    fit = Fit((image.shape[0], image.shape[1]), shape)
    (rows, columns), (top, left) = fit.content, fit.corner
    if (rows, columns) != fit.frame:
        image = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_LINEAR)
    if (rows, columns) == shape:
        return np.ascontiguousarray(image.reshape(*shape, channels))
    out = np.full((*shape, channels), PADDING, np.uint8)
    out[top : top + rows, left : left + columns] = image.reshape(rows, columns, channels)
    return out


def stack_frames(frames: Iterable[Image]) -> Image:
    """Return a window: frames one after the other, oldest first, each with its channels.

    Args:
        frames: G prepared frames (h, w, C).

    Returns:
        (G * C, h, w) uint8.
    """
    listed = list(frames)
    h, w, channels = listed[0].shape
    out = np.empty((len(listed), channels, h, w), np.uint8)
    for planes, frame in zip(out, listed, strict=True):
        if channels == 1:
            planes[0] = frame.reshape(h, w)
        else:
            cv2.split(frame, list(planes))  # several times as fast as numpy's transpose
    return out.reshape(-1, h, w)
