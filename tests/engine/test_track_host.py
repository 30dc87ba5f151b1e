"""The seams of Ultralytics that tracking stands on. A failure names the seam that moved."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from ultralytics.engine.results import Boxes
from ultralytics.trackers import track
from ultralytics.utils import YAML, IterableSimpleNamespace
from ultralytics.utils.checks import check_yaml

from yolo_multitask import host

HOST = ("botsort", "bytetrack", "deepocsort", "fasttrack", "ocsort", "tracktrack")


def make(kind: str, **changes: object) -> object:
    values = {**YAML.load(check_yaml(f"{kind}.yaml")), "device": "cpu", **changes}
    return host.tracker_classes()[kind](args=IterableSimpleNamespace(**values))


def detections(shift: float = 0.0) -> Boxes:
    data = [[5 + shift, 5, 25 + shift, 45, 0.9, 0], [40 - shift, 10, 60 - shift, 50, 0.85, 0]]
    return Boxes(np.array(data, np.float32), (64, 64))


def test_all_six_trackers_are_there() -> None:
    assert set(HOST) <= set(host.tracker_classes())


@pytest.mark.parametrize("kind", HOST)
def test_each_numbers_its_own_objects(kind: str) -> None:
    """Two trackers in turn, one of them started again: ids of one never come from the other."""
    image = np.full((64, 64, 3), 90, np.uint8)
    first, second = make(kind), make(kind)
    for frame in range(6):
        for tracker in (first, second):
            rows = np.asarray(tracker.update(detections(float(frame)), image))
            assert rows.shape == (2, 8)
            assert sorted(rows[:, 4]) == [1, 2]
            assert sorted(rows[:, -1]) == [0, 1]
        if frame == 3:
            second.reset()


@pytest.mark.parametrize("kind", ["botsort", "deepocsort", "tracktrack"])
def test_features_in_numpy_are_taken_in_the_order_of_the_detections(kind: str) -> None:
    tracker = make(kind, with_reid=True, model="auto")
    features = np.eye(2, 6, dtype=np.float32)
    rows = np.asarray(tracker.update(detections(), np.zeros((64, 64, 3), np.uint8), feats=features))
    for row, state in zip(rows, tracker.tracked_stracks, strict=True):
        np.testing.assert_allclose(state.smooth_feat, features[int(row[-1])])


def test_what_the_callbacks_of_the_host_do() -> None:
    """Ours do the same, by these names."""
    start = inspect.getsource(track.on_predict_start)
    for name in ("_feats", "_hook", "_orig_postprocess", "setup_predictor", "register_forward_pre_hook"):
        assert name in start, f"on_predict_start no longer uses {name}"
    update = inspect.getsource(track.on_predict_postprocess_end)
    for name in ("compute_frame_extras", "dets_del", "feats", "orig_img"):
        assert name in update, f"on_predict_postprocess_end no longer uses {name}"
