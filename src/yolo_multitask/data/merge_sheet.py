"""A contact sheet of doubtful pairs: what the keypoint set says in orange, what the segmentation set says in blue."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from yolo_multitask.data.labels import Instance
from yolo_multitask.data.merge_report import DoubtfulPair

Image = NDArray[np.uint8]

MOST = 60  # pairs on the sheet, those with the smallest margin
SIDE, CAPTION, GAP, COLUMNS = 240, 34, 6, 6  # of a tile, in pixels; columns of the sheet
ORANGE, BLUE, WHITE = (0, 159, 230), (233, 180, 86), (255, 255, 255)  # BGR, apart for colour-blind eyes too
_MARGIN = 0.15  # of the larger side of the pair, shown around it
_FILL = 0.35  # opacity of a polygon


def write_sheet(file: Path, pairs: Sequence[DoubtfulPair]) -> None:
    """Write the pictures of pairs as one PNG file.

    Args:
        file: The PNG file.
        pairs: One or more, in the order in which they are shown; the first `MOST` of them.

    Raises:
        OSError: The file cannot be written.
    """
    tiles = [_tile(pair) for pair in pairs[:MOST]]
    columns = min(COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    high, wide = SIDE + CAPTION + GAP, SIDE + GAP
    sheet = np.full((CAPTION + rows * high + GAP, max(columns, 2) * wide + GAP, 3), 32, np.uint8)
    _write(sheet, 14, f"doubtful pairs: {len(tiles)} of {len(pairs)}", WHITE)
    _write(sheet, 28, "keypoint set", ORANGE)
    _write(sheet, 28, "segmentation set", BLUE, left=110)
    for i, tile in enumerate(tiles):
        top, left = CAPTION + i // columns * high, GAP + i % columns * wide
        sheet[top : top + len(tile), left : left + SIDE] = tile
    done, code = cv2.imencode(".png", sheet)
    assert done
    file.write_bytes(code.tobytes())


def _tile(pair: DoubtfulPair) -> Image:
    """Return the picture of one pair with its caption, (SIDE + CAPTION, SIDE, 3)."""
    from ultralytics.utils.patches import imread

    tile = np.zeros((SIDE + CAPTION, SIDE, 3), np.uint8)
    image = imread(str(pair.image))
    _write(tile, SIDE + 13, pair.name[-38:], WHITE)
    _write(tile, SIDE + 28, f"IoU {pair.doubt.iou:.2f}, {pair.doubt.reason}", WHITE)
    if image is None:
        return tile
    size = np.array(image.shape[1::-1])
    corners = np.concatenate([_corners(pair.pose), _corners(pair.mask)]) * size
    low, high = corners.min(0), corners.max(0)
    side = max(float((high - low).max()) * (1 + 2 * _MARGIN), 8.0)
    origin, zoom = (low + high) / 2 - side / 2, SIDE / side
    move = np.array([[zoom, 0, -origin[0] * zoom], [0, zoom, -origin[1] * zoom]])
    shown = cv2.warpAffine(image[..., :3], move, (SIDE, SIDE), flags=cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR)
    for instance, colour in ((pair.mask, BLUE), (pair.pose, ORANGE)):
        _draw(shown, instance, colour, size, origin, zoom)
    tile[:SIDE] = shown
    return tile


def _draw(
    image: Image,
    instance: Instance,
    colour: tuple[int, int, int],
    size: NDArray[np.int64],
    origin: NDArray[np.float64],
    zoom: float,
) -> None:
    """Draw polygon, box and visible keypoints of an instance into a tile."""

    def place(points: NDArray[np.float32]) -> NDArray[np.int32]:
        return np.rint((points * size - origin) * zoom).astype(np.int32)

    if instance.polygon is not None:
        filled = cv2.fillPoly(image.copy(), [place(instance.polygon)], colour)
        cv2.addWeighted(filled, _FILL, image, 1 - _FILL, 0, dst=image)
    low, high = place(_corners(instance))
    cv2.rectangle(image, low.tolist(), high.tolist(), colour, 2)
    if instance.keypoints is not None:
        for x, y in place(instance.keypoints[instance.keypoints[:, 2] > 0, :2]).tolist():
            cv2.circle(image, (x, y), 3, colour, -1, cv2.LINE_AA)


def _corners(instance: Instance) -> NDArray[np.float32]:
    """Return the low and the high corner of the box, float32 (2, 2), normalised."""
    centre, half = instance.box[:2], instance.box[2:] / 2
    return np.stack([centre - half, centre + half])


def _write(image: Image, baseline: int, text: str, colour: tuple[int, int, int], left: int = 4) -> None:
    """Write a line of text."""
    ascii_text = text.encode("ascii", "replace").decode()
    cv2.putText(image, ascii_text, (left, baseline), cv2.FONT_HERSHEY_SIMPLEX, 0.36, colour, 1, cv2.LINE_AA)
