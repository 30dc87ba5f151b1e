"""Pictures show what was found, where it was found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.blobs import IOU, picture

from yolo_multitask.runtime import Detections, Session, draw
from yolo_multitask.runtime.draw import colour


def one(**fields: Any) -> Detections:
    """Return one detection in the middle of a black picture."""
    given = {
        "image": np.zeros((200, 300, 3), np.uint8),
        "names": {0: "person"},
        "xyxy": np.float32([[100, 80, 200, 160]]),
        "score": np.float32([0.9]),
        "cls": np.array([0]),
    }
    return Detections(**{**given, **fields})


def test_the_picture_itself_is_not_changed(blobs: Path) -> None:
    image = picture(0)
    found = Session(blobs).predict(image, iou=IOU)
    drawn = draw(found)
    np.testing.assert_array_equal(image, picture(0))
    assert drawn.shape == image.shape
    assert (drawn != image).any()


def test_a_box_with_its_text_is_drawn_around_the_object_alone() -> None:
    drawn = draw(one())
    assert (drawn[80, 100:200] == colour(0)).all()
    assert (drawn[82:158, 103:197] == 0).all(), "nothing inside"
    assert drawn[60:78, 100:200].any(), "the text above"
    assert not drawn[:55].any()
    assert not drawn[165:].any()


def test_ids_give_the_colour() -> None:
    assert (draw(one(ids=np.array([7])))[120, 100] == colour(7)).all()
    assert len({colour(i) for i in range(100)}) == 100


@pytest.mark.parametrize("size", [(200, 300), (96, 128)])
def test_masks_of_either_resolution_fill_the_object(size: tuple[int, int]) -> None:
    masks = np.zeros((1, *size), bool)
    gain = min(size[0] / 200, size[1] / 300)
    top = round((size[0] - 200 * gain) / 2 - 0.1)
    masks[0, top + int(100 * gain) : top + int(140 * gain), int(120 * gain) : int(180 * gain)] = True
    drawn = draw(one(masks=masks))
    assert drawn[106:134, 126:174].any(2).all()
    assert not drawn[83:94, 105:195].any()


def test_keypoints_that_are_not_visible_are_not_drawn() -> None:
    points = np.zeros((1, 17, 3), np.float32)
    points[0, :, :2] = [150, 120]
    assert not draw(one(keypoints=points))[110:130, 140:160].any()
    points[0, 5] = [120, 120, 0.9]
    points[0, 6] = [180, 120, 0.9]
    drawn = draw(one(keypoints=points))
    assert drawn[120, 120:181].any(1).all(), "the shoulders are joined"
    assert not drawn[125:150, 110:190].any()
    flat = np.float32([[[130, 120], [0, 0]]])
    assert draw(one(keypoints=flat))[120, 130].any()


def test_what_lies_at_the_edge_and_what_is_nothing() -> None:
    edge = one(xyxy=np.float32([[0, 0, 300, 200]]), names={0: "pérson"})
    assert draw(edge)[:20, :80].any(), "the text stays in the picture"
    empty = replace(one(), xyxy=np.zeros((0, 4), np.float32), score=np.zeros(0, np.float32), cls=np.zeros(0, int))
    assert not draw(empty).any()


def test_gray_pictures_are_drawn_in_colour() -> None:
    assert draw(one(image=np.zeros((200, 300, 1), np.uint8))).shape == (200, 300, 3)
