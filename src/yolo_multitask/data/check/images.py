"""Opening a picture: whether it can be read and is what the data YAML says, and hashes of what it shows."""

from __future__ import annotations

import contextlib
import hashlib
import io
import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LEAST_SIDE = 10  # pixels; smaller pictures are left out of training
THUMB = 32  # side of the grey thumbnail by which two pictures are compared
FLAT = 4.0  # grey levels; the hash of a picture with less contrast says nothing
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "JPEG2000", "AVIF", "HEIF")
_GREY = {"1", "L"}
_COLOUR = {"RGB", "P", "YCbCr"}


class Picture(NamedTuple):
    """What is kept of a picture.

    Attributes:
        size: Width and height in pixels, turned as its EXIF data says, to which labels refer.
        digest: Hash of the file's bytes.
        across: Difference hash of neighbours in a row, 64 bits, 0 for a picture without contrast.
        down: The same in a column.
    """

    size: tuple[int, int]
    digest: int
    across: int
    down: int


class UnreadableError(ValueError):
    """A picture that cannot be read; the message says why."""


def open_picture(path: str, channels: int) -> tuple[Picture, list[tuple[str, str]]]:
    """Decode a picture.

    Args:
        path: The file.
        channels: Of the data YAML.

    Returns:
        The picture, and (kind, message) of what is doubtful about it.

    Raises:
        UnreadableError: It cannot be read to its end.
    """
    from ultralytics.data.utils import exif_size

    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise UnreadableError(f"cannot be read: {error.strerror}") from error
    if not content:
        raise UnreadableError("the file is empty; copy it again or remove it")
    try:
        with _identify(content) as image:
            size, doubts = exif_size(image), list(_doubts(image, channels))
            grey = _thumbnail(image)
    except UnreadableError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # what Pillow's decoders raise
        raise UnreadableError(f"cannot be decoded ({error}); copy it again or remove it") from error
    digest = int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")
    return Picture(size, digest, *_hashes(grey)), doubts


def thumbnail(path: str) -> NDArray[np.float32]:
    """Return a picture in grey, float32 (`THUMB`, `THUMB`), 0..255, stretched to a square."""
    with open(path, "rb") as file, _identify(file.read()) as image:
        return _thumbnail(image)


def _identify(content: bytes) -> Image.Image:
    """Open an image of a format that is used in training.

    Not by `Image.open`: the host replaces that by one that installs a package when it meets a file that is no image.

    Raises:
        UnreadableError: It is none.
    """
    if content[4:8] == b"ftyp" and "HEIF" not in Image.OPEN:
        with contextlib.suppress(ImportError):
            import pi_heif  # type: ignore[import-not-found,unused-ignore]

            pi_heif.register_heif_opener()
    Image.init()
    for name in FORMATS:
        opener, accepts = Image.OPEN.get(name, (None, None))
        if opener is not None and accepts is not None and accepts(content[:16]) is True:
            try:
                return opener(io.BytesIO(content), "")
            except (SyntaxError, IndexError, TypeError, struct.error) as error:  # as Pillow's plugins say "not mine"
                raise UnreadableError(f"is no whole {name} image ({error}); copy it again or remove it") from error
    raise UnreadableError(
        f"is no image of the formats {', '.join(FORMATS)} (HEIF with the package pi-heif); convert it, copy it again, "
        "or remove it"
    )


def _doubts(image: Image.Image, channels: int) -> Iterator[tuple[str, str]]:
    """Yield kind and message of what the loader of the training would change or refuse."""
    width, height = image.size
    if min(width, height) < LEAST_SIDE:
        yield "image-size", f"the image is {width} x {height} pixels, too small to be used; remove it"
    mode, bands = image.mode, len(image.getbands())
    if channels == 3 and mode in _GREY:
        yield "image-grey", "the image is grey; it is used with three equal channels"
    elif channels == 3 and mode not in _COLOUR:
        yield "image-channels", f"expected 8-bit colour, found mode {mode}; convert it, so that nothing is cut off"
    elif channels not in (1, 3):
        found = bands if bands > 1 else getattr(image, "n_frames", 1)
        if found != channels:
            yield "image-channels", f"expected {channels} channels as the data YAML says, found {found}"


def _thumbnail(image: Image.Image) -> NDArray[np.float32]:
    """Decode an image to its end and return it in grey; a JPEG is decoded at a fraction of its size."""
    image.draft("L", (2 * THUMB, 2 * THUMB))
    image.load()
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, np.float32)
        image = Image.fromarray(np.uint8(255 * (values - values.min()) / max(float(np.ptp(values)), 1.0)))
    return np.asarray(image.convert("L").resize((THUMB, THUMB), Image.Resampling.BOX), np.float32)


def _hashes(grey: NDArray[np.float32]) -> tuple[int, int]:
    """Return the difference hashes across and down, after Krawetz, https://www.hackerfactor.com/blog/?/archives/529."""
    if grey.std() < FLAT:
        return 0, 0
    image = Image.fromarray(grey)
    across = np.asarray(image.resize((9, 8), Image.Resampling.BOX))
    down = np.asarray(image.resize((8, 9), Image.Resampling.BOX))
    bits = np.packbits([across[:, 1:] > across[:, :-1], down[1:] > down[:-1]]).reshape(2, 8)
    return int.from_bytes(bits[0].tobytes(), "big"), int.from_bytes(bits[1].tobytes(), "big")
