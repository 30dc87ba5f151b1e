"""The fields of every kind of result in numpy."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields

import numpy as np
import pytest
import torch
from support.results import CLASSES, IDS, NAMES, SCORES, XYXY, H, N, W, make_results, plain
from ultralytics.engine.results import Results as HostResults

from yolo_multitask.interop import Arrays, arrays_of


def test_fields_of_a_result() -> None:
    result = make_results()
    found = arrays_of(result)
    np.testing.assert_array_equal(found.xyxy, np.float32(XYXY))
    np.testing.assert_array_equal(found.score, np.float32(SCORES))
    assert (found.cls.tolist(), found.ids.tolist(), found.cls.dtype, found.ids.dtype) == (
        CLASSES,
        IDS,
        "int64",
        "int64",
    )
    assert (len(found), found.orig_shape, found.names) == (N, (H, W), NAMES)
    assert found.class_names == ["person", "car", "dog"]
    np.testing.assert_array_equal(found.masks, result.masks.data)
    np.testing.assert_array_equal(found.keypoints, result.keypoints.data)
    np.testing.assert_array_equal(found.keypoint_scores, result.keypoints.conf)
    np.testing.assert_array_equal(found.embeddings, result.embeddings.data)
    np.testing.assert_array_equal(found.next_boxes, result.next_boxes.xyxy)
    assert found.corners is None


@pytest.mark.parametrize("tracked", [False, True])
def test_both_kinds_of_result_hold_the_same(tracked: bool) -> None:
    result = make_results(tracked)
    one, other = arrays_of(result), arrays_of(plain(result))
    for field in fields(Arrays):
        ours, theirs = getattr(one, field.name), getattr(other, field.name)
        assert (ours is None) == (theirs is None), field.name
        np.testing.assert_array_equal(ours, theirs, err_msg=field.name)
        assert getattr(ours, "dtype", 0) == getattr(theirs, "dtype", 0) or field.name == "masks"


def test_a_result_is_not_changed_through_its_arrays() -> None:
    result = make_results().numpy()
    found = arrays_of(result)
    for values in (found.xyxy, found.score, found.cls, found.ids, found.keypoints, found.embeddings, found.next_boxes):
        values[:] = 0
    np.testing.assert_array_equal(result.boxes.xyxy, np.float32(XYXY))
    assert result.boxes.id.tolist() == IDS
    assert result.keypoints.data.any()
    assert result.embeddings.data.any()
    assert result.next_boxes.data.any()


def test_results_of_stock_models() -> None:
    image = np.zeros((H, W, 3), np.uint8)
    upright = HostResults(image, path="a", names=NAMES, boxes=torch.tensor([[1.0, 2, 30, 40, 0.5, 1]]))
    found = arrays_of(upright)
    assert found.xyxy.tolist() == [[1, 2, 30, 40]]
    assert (found.ids, found.masks, found.keypoints, found.keypoint_scores, found.embeddings) == (None,) * 5
    turned = HostResults(image, path="a", names=NAMES, obb=torch.tensor([[50.0, 40, 20, 10, np.pi / 2, 3, 0.5, 1]]))
    found = arrays_of(turned)
    np.testing.assert_allclose(found.xyxy, [[45, 30, 55, 50]], atol=1e-5)
    assert (found.ids.tolist(), found.corners.shape) == ([3], (1, 4, 2))
    np.testing.assert_allclose(np.sort(found.corners[0], 0), [[45, 30], [45, 30], [55, 50], [55, 50]], atol=1e-5)


def test_a_result_without_boxes_is_refused() -> None:
    classified = HostResults(np.zeros((H, W, 3), np.uint8), path="a", names=NAMES, probs=torch.tensor([0.2, 0.8]))
    with pytest.raises(ValueError, match=r"expected a result with boxes, found one without"):
        arrays_of(classified)


def test_it_runs_without_torch() -> None:
    code = """
import sys
from types import SimpleNamespace
import numpy as np
from yolo_multitask import interop
assert not {"cv2", "polars"} & set(sys.modules)
found = SimpleNamespace(
    xyxy=np.float32([[1, 2, 30, 40]]), score=np.float32([0.5]), cls=np.array([1]), names={1: "car"}, ids=np.array([4]),
    orig_shape=(90, 120), masks=np.ones((1, 96, 96), bool), keypoints=np.float32([[[5, 6]]]), embeddings=None,
    next_boxes=None,
)
print(interop.to_coco(found, 8)[0]["segmentation"]["size"], interop.to_mot(found, 2)[0, :3], len(interop.to_df(found)))
assert not {"torch", "ultralytics"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[90, 120] [2. 4. 1.] 1\n"
