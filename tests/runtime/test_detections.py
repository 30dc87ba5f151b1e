"""One container, whose fields stay aligned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from yolo_multitask.runtime import Detections
from yolo_multitask.runtime.detections import PER_DETECTION

N = 4


def make(**fields: Any) -> Detections:
    rng = np.random.default_rng(0)
    given = {
        "image": np.zeros((6, 8, 3), np.uint8),
        "names": {0: "a", 1: "b"},
        "xyxy": rng.random((N, 4), np.float32),
        "score": rng.random(N, np.float32),
        "cls": np.array([0, 1, 0, 1]),
        "keypoints": rng.random((N, 5, 3), np.float32),
        "masks": rng.random((N, 6, 8)) > 0.5,
        "embeddings": rng.random((N, 3), np.float32),
        "next_boxes": rng.random((N, 4), np.float32),
        "ids": np.arange(1, N + 1),
    }
    return Detections(**{**given, **fields}, path="a.jpg", frame=3)


@pytest.mark.parametrize(
    ("index", "rows"),
    [
        (2, [2]),
        (-1, [3]),
        (np.int64(1), [1]),
        (slice(1, 3), [1, 2]),
        ([3, 0], [3, 0]),
        (np.array([True, False, False, True]), [0, 3]),
        ([], []),
    ],
)
def test_an_index_selects_in_all_fields(index: Any, rows: list[int]) -> None:
    found = make()
    chosen = found[np.array(index, int) if isinstance(index, list) else index]
    assert len(chosen) == len(rows)
    for name in PER_DETECTION:
        np.testing.assert_array_equal(getattr(chosen, name), getattr(found, name)[rows])
    assert (chosen.path, chosen.frame, chosen.names) == ("a.jpg", 3, found.names)
    assert chosen.image is found.image


def test_fields_that_are_not_there_stay_none() -> None:
    found = make(masks=None, ids=None)[0]
    assert found.masks is None
    assert found.ids is None
    assert found.orig_shape == (6, 8)


def test_iteration_gives_each_detection_and_ends() -> None:
    assert [int(one.ids[0]) for one in make()] == [1, 2, 3, 4]
    with pytest.raises(IndexError):
        make()[N]


def test_fields_of_different_length_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"expected one entry per detection in every field, found .*'cls': 3"):
        make(cls=np.zeros(3, int))


def test_it_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        make().ids = None  # type: ignore[misc]


def test_it_is_handed_on_to_other_tools() -> None:
    np.testing.assert_array_equal(make().to_mot(3)[:, :2], [[3, 1], [3, 2], [3, 3], [3, 4]])
