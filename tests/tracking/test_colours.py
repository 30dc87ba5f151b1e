from __future__ import annotations

import numpy as np
import pytest

from yolo_multitask.tracking.colours import LENGTH, describe

BOXES = np.array([[10.0, 10, 40, 90], [60, 20, 100, 110], [-20, -5, 8, 400]])


def picture(*colours: tuple[int, int, int]) -> np.ndarray:
    image = np.full((120, 120, 3), 120, np.uint8)
    for (x1, y1, x2, y2), colour in zip(BOXES.astype(int), colours, strict=False):
        image[y1:y2, x1:x2] = colour
    return image


def test_shape_and_length() -> None:
    described = describe(picture((0, 0, 255), (255, 0, 0)), BOXES)
    assert described.shape == (3, LENGTH)
    np.testing.assert_allclose(np.linalg.norm(described, axis=1), 1)
    assert describe(picture(), BOXES[:0]).shape == (0, LENGTH)


def test_the_same_clothes_are_alike_in_another_place_and_size() -> None:
    red, blue = (40, 40, 200), (200, 60, 40)
    one, two, _ = describe(picture(red, red), BOXES)
    assert one @ two == pytest.approx(1)
    one, two, _ = describe(picture(red, blue), BOXES)
    assert one @ two < 0.8


def test_it_matters_where_a_colour_is_worn() -> None:
    image = picture((30, 30, 30), (220, 220, 220))
    image[10:50, 10:40], image[20:65, 60:100] = 220, 30  # white over black, black over white
    one, two, _ = describe(image, BOXES)
    assert one @ two < 0.85


def test_a_little_more_light_changes_little() -> None:
    one = describe(picture((40, 40, 160)), BOXES[:1])[0]
    two = describe(picture((43, 43, 170)), BOXES[:1])[0]
    assert one @ two > 0.97
