"""The ways in which a picture is shown: a few of each, always the same ones, so that the teachers need to look once.

View 0 is the whole picture, view 1 its mirror image; the others are random crops and scales. What the teachers say
of a view is kept on disk, by the picture and the number of the view.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

ZOOM = (0.7, 2.0)  # of the random views, relative to the picture that fits the input
GREY = (114, 114, 114)  # around the picture, as in the host


@dataclass(frozen=True)
class View:
    """One way to show a picture.

    Attributes:
        matrix: From pixels of the picture to pixels of the input, both from the corner, float64 (2, 3).
        size: Side of the square input in pixels.
    """

    matrix: NDArray[np.float64]
    size: int

    def show(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the input (size, size, 3) of a picture (H, W, 3)."""
        gain = float(abs(self.matrix[0, 0]))
        matrix = self.matrix
        if gain < 1:  # the warp below would leave out pixels
            height, width = picture.shape[:2]
            rows, columns = max(round(height * gain), 1), max(round(width * gain), 1)
            picture = cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_LINEAR)
            matrix = matrix @ np.diag([width / columns, height / rows, 1.0])
        matrix = matrix.copy()
        matrix[:, 2] += matrix[:, :2] @ [0.5, 0.5] - 0.5  # the warp counts from the centre of the first pixel
        shown = cv2.warpAffine(picture, matrix, (self.size, self.size), flags=cv2.INTER_LINEAR, borderValue=GREY)
        return np.asarray(shown, np.uint8)

    def back(self, boxes_N4: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return boxes x1 y1 x2 y2 of the input in pixels of the picture."""
        inverse = cv2.invertAffineTransform(self.matrix)
        corners = boxes_N4.reshape(-1, 2) @ inverse[:, :2].T + inverse[:, 2]
        corners = corners.reshape(-1, 2, 2)
        return np.concatenate((corners.min(1), corners.max(1)), 1).astype(np.float32)


def view_of(file: Path, number: int, shape: tuple[int, int], size: int) -> View:
    """Return a view of a picture, always the same for the same file name and number.

    Args:
        file: Of the picture.
        number: Of the view.
        shape: Height and width of the picture.
        size: Side of the input in pixels.
    """
    height, width = shape
    rng = np.random.default_rng(int(hashlib.sha256(f"{file.name} {number}".encode()).hexdigest()[:12], 16))
    random = number > 1
    gain = size / max(height, width)
    mirror = rng.random() < 0.5 if random else number == 1
    if random:
        gain *= float(np.exp(rng.uniform(*np.log(ZOOM))))
    spare = np.array([size - width * gain, size - height * gain])
    shift = spare * (rng.random(2) if random else 0.5)
    matrix = np.array([[gain, 0, shift[0]], [0, gain, shift[1]]], np.float64)
    if mirror:
        matrix[0] = [-gain, 0, size - shift[0]]
    return View(matrix, size)
