"""COCO run-length masks, decoded and encoded with numpy (no pycocotools needed), and their outlines.

Source: the COCO API, ``common/maskApi.c`` (``rleDecode``, ``rleFrString``, ``rleToString``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

MIN_PART = 0.01  # parts of a mask below this share of its largest part are specks of the raster


def decode_rle(rle: Mapping[str, Any], height: int, width: int) -> NDArray[np.uint8]:
    """Decode a COCO RLE mask.

    Args:
        rle: ``{"size": [H, W], "counts": [...]}`` (runs of 0 and 1 in turn, column by column) or with compressed text
            in ``counts``.
        height: Height of the image in pixels.
        width: Width of the image in pixels.

    Returns:
        uint8 (H, W), 1 inside.

    Raises:
        ValueError: The size is not the image's, or the runs do not add up to it.
    """
    if list(rle.get("size", ())) != [height, width]:
        raise ValueError(f"RLE mask: expected size {[height, width]} as the image, found {rle.get('size')}")
    counts = rle.get("counts")
    if isinstance(counts, (str, bytes)):
        runs = _runs(counts.encode() if isinstance(counts, str) else counts)
    elif isinstance(counts, list) and all(isinstance(c, int) for c in counts):
        runs = counts
    else:
        raise ValueError(f"RLE mask: expected a list of runs or text in 'counts', found {type(counts).__name__}")
    if min(runs, default=0) < 0 or sum(runs) != height * width:
        raise ValueError(f"RLE mask: expected runs that add up to {height * width} pixels, found {sum(runs)}")
    values = np.zeros(len(runs), np.uint8)
    values[1::2] = 1
    return np.repeat(values, runs).reshape(width, height).T.copy()


def encode_rle(mask: NDArray[np.uint8]) -> dict[str, Any]:
    """Encode a binary mask (H, W) as COCO RLE with compressed text, ``{"size": [H, W], "counts": str}``.

    Runs go down the columns and start with background. Each is written in groups of 5 bits, from the fourth on as the
    difference to the run two before it.
    """
    flat = np.asarray(mask, bool).ravel(order="F")
    ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]) + 1, flat.size)
    runs = np.diff(ends, prepend=0).astype(np.int64)
    if flat.size and flat[0]:
        runs = np.concatenate(([0], runs))
    values = runs.copy()
    values[3:] -= runs[1:-2]
    groups = values[:, None] >> (5 * np.arange(flat.size.bit_length() // 5 + 2))
    more = (groups < -16) | (groups > 15)
    kept = np.column_stack((np.ones(len(values), bool), more[:, :-1]))
    text = ((groups & 31) + 32 * more + 48)[kept].astype(np.uint8).tobytes().decode("ascii")
    return {"size": [int(n) for n in np.shape(mask)], "counts": text}


def mask_outlines(mask: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
    """Return the outer outlines of the parts of a mask, without specks.

    Args:
        mask: uint8 (H, W), above 0 inside.

    Returns:
        One float64 (M, 2) per part, x y in pixels, M >= 3; empty where no part has three corners.
    """
    import cv2

    found = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
    parts = [c.reshape(-1, 2) for c in found if len(c) >= 3]
    areas = [cv2.contourArea(p) for p in parts]
    floor = MIN_PART * max(areas, default=0.0)
    return [p.astype(np.float64) for p, area in zip(parts, areas, strict=True) if area >= floor]


def count_holes(mask: NDArray[np.uint8]) -> int:
    """Return the number of holes in a mask (H, W), which its outlines do not tell."""
    import cv2

    tree = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)[1]
    return 0 if tree is None else int((tree[0, :, 3] >= 0).sum())  # the number of the outline around each


def _runs(text: bytes) -> list[int]:
    """Return the runs in compressed COCO text: 5 bits a character, differences to the run before last."""
    runs: list[int] = []
    at = 0
    while at < len(text):
        value = shift = 0
        more = True
        while more:
            if at >= len(text) or not 48 <= text[at] < 112:
                raise ValueError("RLE mask: expected compressed COCO text in 'counts', found a cut or foreign string")
            code = text[at] - 48
            value |= (code & 31) << shift
            more = bool(code & 32)
            at += 1
            shift += 5
            if not more and code & 16:
                value |= -1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    return runs
