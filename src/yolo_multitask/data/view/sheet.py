"""Contact sheets: pictures with labels in rows, as PNG files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from yolo_multitask.data.view.draw import draw_tile, plain
from yolo_multitask.data.view.tiles import Tile

ROWS = 4  # of a sheet
CAPTION = 18  # height in pixels of the line under a picture
_GAP = 6  # between pictures, in pixels


def write_sheets(
    folder: Path, tiles: Iterable[Tile], columns: int = 4, size: int = 480, names: Mapping[int, str] | None = None
) -> list[Path]:
    """Write ``sheet-01.png``, ``sheet-02.png``, ... of 4 rows each.

    Args:
        folder: Where the files go.
        tiles: The pictures; taken one sheet at a time.
        columns: Pictures in a row.
        size: Width in pixels of the place for a picture; it is 3/4 as high.
        names: Class names by index.

    Returns:
        The files.

    Raises:
        OSError: A file cannot be written.
    """
    files: list[Path] = []
    waiting = iter(tiles)
    while batch := list(islice(waiting, columns * ROWS)):
        file = folder / f"sheet-{len(files) + 1:02d}.png"
        _, code = cv2.imencode(".png", draw_sheet(batch, columns, size, names))
        file.write_bytes(code.tobytes())
        files.append(file)
    return files


def draw_sheet(tiles: list[Tile], columns: int, size: int, names: Mapping[int, str] | None = None) -> NDArray[np.uint8]:
    """Return one sheet, uint8 (H, W, 3) BGR; as many rows as needed, and columns no more than tiles."""
    columns = min(columns, len(tiles))
    high, wide = size * 3 // 4, size
    step_y, step_x = high + CAPTION + _GAP, wide + _GAP
    sheet = np.full((-(-len(tiles) // columns) * step_y + _GAP, columns * step_x + _GAP, 3), 24, np.uint8)
    for i, tile in enumerate(tiles):
        top, left = i // columns * step_y + _GAP, i % columns * step_x + _GAP
        picture = draw_tile(tile, size, names)
        if len(picture) > high:  # drawn at the size that it is shown in, so that text stays legible
            picture = draw_tile(tile, max(size * high // len(picture), 1), names)
        h, w = picture.shape[:2]
        y, x = top + (high - h) // 2, left + (wide - w) // 2
        sheet[y : y + h, x : x + w] = picture
        _write_caption(sheet[top + high : top + high + CAPTION, left : left + wide], tile)
    return sheet


def _write_caption(line: NDArray[np.uint8], tile: Tile) -> None:
    """Write the caption and the findings of a tile; of a caption that is too long, the end."""
    text = plain(" - ".join((*(tile.caption or tile.image_path.name).splitlines(), *tile.findings)))
    while cv2.getTextSize(text, 0, 0.4, 1)[0][0] > line.shape[1] and len(text) > 1:
        text = text[1:]
    cv2.putText(line, text, (0, CAPTION - 5), 0, 0.4, (200, 200, 200), 1, cv2.LINE_AA)
