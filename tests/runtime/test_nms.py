"""Which boxes are kept is what the host's NMS keeps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from ultralytics.utils.nms import non_max_suppression

from yolo_multitask.runtime.decode import Settings, keep, select
from yolo_multitask.runtime.nms import BLOCK, suppress
from yolo_multitask.tasks import RowLayout

assert torchvision  # once it is imported, the host uses its NMS


def anchors(count: int, nc: int, extra: int, seed: int, spread: float) -> np.ndarray:
    """Return an output (4 + nc + extra, A) of a network, crowded where `spread` is small."""
    rng = np.random.default_rng(seed)
    centre, size = rng.random((2, count)) * spread, rng.random((2, count)) * 60 + 1
    return np.concatenate((centre, size, rng.random((nc, count)), rng.normal(size=(extra, count)))).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(0, 3 * BLOCK),
    nc=st.integers(1, 5),
    extra=st.integers(1, 4),
    seed=st.integers(0, 999),
    spread=st.sampled_from([10.0, 200.0, 640.0]),
    conf=st.sampled_from([0.0, 0.1, 0.5, 0.99]),
    iou=st.sampled_from([0.0, 0.3, 0.7, 1.0]),
    max_det=st.sampled_from([1, 20, 300]),
    agnostic=st.booleans(),
    classes=st.sampled_from([None, [0], [0, 2]]),
)
def test_rows_are_those_of_the_host(
    count: int,
    nc: int,
    extra: int,
    seed: int,
    spread: float,
    conf: float,
    iou: float,
    max_det: int,
    agnostic: bool,
    classes: list[int] | None,
) -> None:
    assume(count != 6)  # which the host takes for the six columns of an end-to-end network
    output = anchors(count, nc, extra, seed, spread)
    (expected,) = non_max_suppression(
        torch.tensor(output)[None], conf, iou, classes=classes, agnostic=agnostic, max_det=max_det, nc=nc
    )
    how = Settings(conf=conf, iou=iou, max_det=max_det, classes=classes, agnostic=agnostic)
    found = select(output, RowLayout(nc=nc, ne=extra), how)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_a_chain_of_boxes_is_suppressed_greedily() -> None:
    x = np.arange(5, dtype=np.float32) * 4  # each overlaps its neighbours alone
    boxes = np.stack((x, x * 0, x + 10, x * 0 + 10), 1)
    score = np.linspace(0.9, 0.5, 5, dtype=np.float32)
    np.testing.assert_array_equal(suppress(boxes, score, None, 0.4, 300), [0, 2, 4])


def test_the_first_of_equal_boxes_is_kept() -> None:
    boxes = np.tile(np.float32([[0, 0, 10, 10]]), (BLOCK + 5, 1))
    score = np.full(BLOCK + 5, 0.5, np.float32)
    np.testing.assert_array_equal(suppress(boxes, score, None, 0.7, 300), [0])


def test_classes_do_not_drop_each_other_unless_asked() -> None:
    boxes, score = np.tile(np.float32([[0, 0, 10, 10]]), (2, 1)), np.float32([0.4, 0.8])
    np.testing.assert_array_equal(suppress(boxes, score, np.array([0, 1]), 0.7, 300), [1, 0])
    np.testing.assert_array_equal(suppress(boxes, score, None, 0.7, 300), [1])


def test_boxes_without_area_are_kept() -> None:
    boxes = np.zeros((3, 4), np.float32)
    np.testing.assert_array_equal(suppress(boxes, np.float32([0.1, 0.3, 0.2]), None, 0.7, 300), [1, 2, 0])


@pytest.mark.parametrize("classes", [None, [1]])
def test_rows_of_an_nms_in_the_file(classes: list[int] | None) -> None:
    rng = np.random.default_rng(0)
    output = np.concatenate((rng.random((20, 6)), rng.normal(size=(20, 3))), 1).astype(np.float32)
    output[:, 5] = rng.integers(0, 2, 20)
    output = output[np.argsort(-output[:, 4])]
    output[15:] = 0
    (expected,) = non_max_suppression(torch.tensor(output)[None], 0.3, classes=classes, max_det=5, end2end=True)
    rows, index = keep(output, Settings(conf=0.3, max_det=5, classes=classes))
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(output[index], rows)
    assert len(keep(output, Settings(conf=0.0))[0]) == 15, "rows that are not used have no score"


@pytest.mark.parametrize(("name", "value"), [("conf", -0.1), ("conf", 1.1), ("iou", 2), ("max_det", 0)])
def test_values_out_of_range_are_named(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: expected .*, found {value}\.$"):
        Settings(**{name: value})  # type: ignore[arg-type]
