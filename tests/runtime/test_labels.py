"""Label lines are those that `ymt predict` writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.blobs import IOU, change_metadata, picture, pictures

from yolo_multitask import MultiTaskYOLO
from yolo_multitask.data.labels import LabelSpec, parse_line
from yolo_multitask.runtime import Session
from yolo_multitask.runtime.labels import label_lines

SPEC = LabelSpec(nc=2, kpt_shape=(2, 3), polygons=True, ids=True)


def area(points: Any) -> float:
    x, y = points.T
    return abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2


@pytest.mark.parametrize("conf", [True, False])
def test_lines_say_what_those_of_torch_say(blobs: Path, conf: bool) -> None:
    found = Session(blobs).predict(picture(5), iou=IOU)
    (result,) = MultiTaskYOLO(blobs).predict(picture(5), iou=IOU, retina_masks=True, verbose=False, device="cpu")
    lines, expected = label_lines(found, conf=conf), result.label_lines(save_conf=conf)
    assert len(lines) == len(expected) > 5
    for line, other in zip(lines, expected, strict=True):
        ours, theirs = parse_line(line, SPEC), parse_line(other, SPEC)
        assert (ours.cls, ours.id) == (theirs.cls, theirs.id)
        np.testing.assert_allclose(ours.conf, theirs.conf, rtol=1e-6)
        np.testing.assert_allclose(ours.box, theirs.box, atol=1e-6)
        np.testing.assert_allclose(ours.keypoints, theirs.keypoints, atol=1e-6)
        assert (ours.polygon is None) == (theirs.polygon is None)
        if ours.polygon is not None:
            np.testing.assert_allclose(area(ours.polygon), area(theirs.polygon), atol=1e-5)


def test_ids_are_written(blobs: Path) -> None:
    found = list(Session(blobs).track(pictures(2), iou=IOU))[1]
    assert [parse_line(line, SPEC).id for line in label_lines(found)] == found.ids.tolist()


def test_what_is_not_there_is_a_dash(blobs: Path, tmp_path: Path) -> None:
    found = Session(change_metadata(blobs, tmp_path / "a.onnx", kpt_classes=[])).predict(picture(5), iou=IOU)
    found.masks[0] = False
    first = parse_line(label_lines(found)[0], SPEC)
    assert first.keypoints is None
    assert first.polygon is None


def test_a_box_clipped_to_nothing_is_still_a_label(blobs: Path) -> None:
    found = Session(blobs).predict(picture(5), iou=IOU)[0]
    found.xyxy[:, 2] = found.xyxy[:, 0]
    assert 0 < parse_line(label_lines(found)[0], SPEC).box[2] < 1e-5


def test_no_detections_no_lines(blobs: Path) -> None:
    assert label_lines(Session(blobs).predict(np.full((50, 60, 3), 90, np.uint8))) == []
