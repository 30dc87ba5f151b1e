from __future__ import annotations

import cv2
import numpy as np
import pytest

from yolo_multitask.tracking.camera import Camera

NOBODY = np.zeros((0, 4))


def scenery(width: int = 480, height: int = 300) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 255, (height // 10, width // 10, 3), dtype=np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("factor", [1, 3])
def test_shift(factor: int) -> None:
    wide = scenery(480 * factor, 300 * factor)
    camera, (x, y) = Camera(), (9 * factor, 4 * factor)
    assert camera.motion(wide[:-y, :-x], NOBODY) is None  # nothing to compare with
    affine = camera.motion(wide[y:, x:], NOBODY)
    assert affine is not None
    np.testing.assert_allclose(affine, [[1, 0, -x], [0, 1, -y]], atol=0.1 * factor)


def test_turn_and_zoom() -> None:
    image = scenery()
    turned = cv2.getRotationMatrix2D((240, 150), 3, 1.04)
    camera = Camera()
    camera.motion(image, NOBODY)
    affine = camera.motion(cv2.warpAffine(image, turned, (480, 300)), NOBODY)
    assert affine is not None
    np.testing.assert_allclose(affine[:, :2], turned[:, :2], atol=0.004)
    centre = np.array([240, 150, 1])
    np.testing.assert_allclose(affine @ centre, turned @ centre, atol=0.5)


def test_what_moves_in_front_says_nothing() -> None:
    back, front = scenery()[:200, :300], np.rot90(scenery(), 2)[:160, :120]
    camera = Camera()
    for step, expected in ((0, None), (12, None)):
        image = back.copy()
        image[20:180, 40 + step : 160 + step] = front
        affine = camera.motion(image, np.array([[40.0 + step, 20, 160 + step, 180]]))
        assert affine is expected


def test_a_still_camera_an_empty_picture_and_another_size() -> None:
    camera = Camera()
    assert camera.motion(scenery(), NOBODY) is None
    assert camera.motion(scenery(), NOBODY) is None
    assert camera.motion(np.full((300, 480, 3), 90, np.uint8), NOBODY) is None
    assert camera.motion(scenery(), NOBODY) is None  # the last one has no corners
    assert camera.motion(scenery(240, 160), NOBODY) is None


def test_gray_pictures_and_reset() -> None:
    wide = cv2.cvtColor(scenery(), cv2.COLOR_BGR2GRAY)
    camera = Camera()
    camera.motion(wide[:, :-8], NOBODY)
    assert camera.motion(wide[:, 8:], NOBODY) is not None
    camera.motion(wide[:, :-8], NOBODY)
    camera.reset()
    assert camera.motion(wide[:, 8:], NOBODY) is None
