"""Sizes of images, from their headers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def image_size(image: Path) -> tuple[int, int]:
    """Return width and height of an image in pixels as it is shown (EXIF orientation applied), from its header.

    Raises:
        ValueError: The file is no image.
    """
    from PIL import Image
    from ultralytics.data.utils import exif_size

    try:
        with Image.open(image) as opened:
            width, height = exif_size(opened)
    except Exception as error:  # Pillow raises what the file format's plugin happens to raise
        raise ValueError(f"{image}: expected an image, found a file that cannot be read as one; replace it") from error
    return int(width), int(height)


def same_shape(first: Sequence[float], second: Sequence[float]) -> bool:
    """Return whether two sizes (width, height) have the same proportions, up to rounding to whole pixels."""
    (w1, h1), (w2, h2) = first, second
    return abs(w1 * h2 - w2 * h1) <= max(w1, h1, w2, h2)


def check_size(image: Path, said: tuple[int, int], where: str) -> None:
    """Refuse an image whose size is not that of its annotations: they are in pixels.

    Raises:
        ValueError: It is not.
    """
    found = image_size(image)
    if found != said:
        raise ValueError(
            f"{image}: expected an image of {said[0]}x{said[1]} as {where} says, found {found[0]}x{found[1]}; "
            "annotations are in pixels, so give the image that was annotated"
        )
