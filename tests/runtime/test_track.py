"""Ids of a file are those of `MultiTaskYOLO.track` with the same file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.blobs import IOU, change_metadata, picture, pictures, write_folder, write_video
from support.exported import CONF, SIZE

from yolo_multitask import MultiTaskYOLO
from yolo_multitask.runtime import Session, Tracker
from yolo_multitask.tracking import TrackerConfig

FRAMES = 30


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("clip") / "clip.avi", FRAMES)


def assert_same_ids(file: Path, source: Any, *, total: int, **options: Any) -> None:
    """Compare ids, boxes and cues of every frame with those of `MultiTaskYOLO`."""
    given = {"iou": IOU, "retina_masks": True, **options}
    torch = MultiTaskYOLO(file).track(str(source), stream=True, verbose=False, device="cpu", **given)
    found = list(Session(file).track(source, **given))
    seen: set[int] = set()
    for frame, expected in zip(found, torch, strict=True):
        result = expected.numpy()
        np.testing.assert_array_equal(frame.ids, result.boxes.id)
        np.testing.assert_allclose(frame.xyxy, result.boxes.xyxy, atol=1e-3)
        np.testing.assert_array_equal(frame.cls, result.boxes.cls)
        np.testing.assert_allclose(frame.embeddings, result.embeddings.data, atol=1e-5)
        np.testing.assert_allclose(frame.keypoints, result.keypoints.data, atol=1e-3)
        assert len(frame.masks) == len(frame)
        seen |= set(frame.ids.tolist())
    assert len(seen) >= total, "a scene in which ids change puts the comparison to the test"


@pytest.mark.parametrize("retina", [True, False])
def test_ids_are_those_of_torch(blobs: Path, clip: Path, retina: bool) -> None:
    assert_same_ids(blobs, clip, total=20, retina_masks=retina)


def test_ids_of_a_folder_at_its_own_frame_rate(blobs: Path, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "seq" / "img1", 12)
    (tmp_path / "seq" / "seqinfo.ini").write_text("[Sequence]\nframeRate=7\n")
    assert_same_ids(blobs, folder, total=15)


def test_ids_with_a_stride_and_a_tracker_of_ones_own(blobs: Path, clip: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("tracker_type: multicue\nmask_weight: 2.0\nnew_score: 0.3\nembedding_weight: 0\n")
    assert_same_ids(blobs, clip, total=10, vid_stride=2, tracker=str(mine))


@pytest.mark.parametrize("kind", ["dynamic", "masks"])
def test_ids_of_an_exported_network(exported: Callable[[str], Path], clip: Path, kind: str) -> None:
    assert_same_ids(exported(kind), clip, total=1, imgsz=SIZE, conf=CONF, iou=0.7)


def test_sigmas_of_the_keypoints_reach_the_tracker(blobs: Path, tmp_path: Path) -> None:
    session = Session(change_metadata(blobs, tmp_path / "sigmas.onnx", kpt_oks_sigmas=[0.1, 0.1, 0.1]))
    with pytest.raises(ValueError, match="expected 3 keypoints, one for each sigma, got 2"):
        list(session.track([picture(0)]))


def test_a_frame_without_objects_gives_an_empty_result(blobs: Path) -> None:
    empty = np.full((60, 90, 3), 90, np.uint8)
    found = list(Session(blobs).track([picture(0), empty, picture(2)], iou=IOU))
    assert [len(f) > 0 for f in found] == [True, False, True]
    assert [f.frame for f in found] == [1, 2, 3]
    assert found[1].ids.dtype == np.int64
    assert found[1].masks.shape == (0, 60, 90)


def test_ids_start_at_1_in_every_sequence(blobs: Path, clip: Path) -> None:
    one = [f.ids.tolist() for f in Session(blobs).track(clip, iou=IOU)]
    two = list(Session(blobs).track([clip, clip], iou=IOU))
    assert [f.ids.tolist() for f in two] == one + one
    assert [f.frame for f in two] == [*range(1, FRAMES + 1)] * 2
    assert {f.path for f in two} == {str(clip)}


def test_a_loop_of_ones_own(blobs: Path) -> None:
    session = Session(blobs)
    tracker = session.tracker(frame_rate=25)
    own = [tracker.update(session.predict(image, conf=0.1, iou=IOU)).ids.tolist() for image in pictures(8)]
    assert own == [f.ids.tolist() for f in session.track(pictures(8), iou=IOU, frame_rate=25)]
    tracker.reset()
    assert tracker.update(session.predict(picture(0), conf=0.1, iou=IOU)).ids.tolist() == own[0]


def test_masks_that_have_no_weight_are_not_read(blobs: Path) -> None:
    found = Session(blobs).predict(picture(0), conf=0.1, iou=IOU)
    tracked = Tracker({"mask_weight": 0}).update(replace(found, masks=np.zeros((len(found), 0, 0), bool)))
    assert len(tracked) > 0


def test_a_configuration_may_be_given_in_any_way(blobs: Path, tmp_path: Path) -> None:
    session = Session(blobs)
    (tmp_path / "t.yaml").write_text("new_score: 0.9\n")
    given = ["multicue", "multicue.yaml", {}, TrackerConfig()]
    every = [[f.ids.tolist() for f in session.track(pictures(4), iou=IOU, tracker=how)] for how in given]
    assert every == [every[0]] * 4
    strict = [f.ids.tolist() for f in session.track(pictures(4), iou=IOU, tracker=tmp_path / "t.yaml")]
    assert strict != every[0]


def test_what_is_wrong_is_said_before_the_first_frame(blobs: Path, tmp_path: Path) -> None:
    session = Session(blobs)
    with pytest.raises(FileNotFoundError, match="no tracker file 'botsort.yaml'; this package has multicue.yaml"):
        session.track(tmp_path, tracker="botsort.yaml")
    with pytest.raises(ValueError, match="unknown key 'mask_wait'"):
        session.track([], tracker={"mask_wait": 1})
    with pytest.raises(ValueError, match="iou: expected a number from 0 to 1, found 3"):
        session.track([], iou=3)
    with pytest.raises(FileNotFoundError, match="source="):
        session.track("nowhere.mp4")
    with pytest.raises(ValueError, match="expected a frame_rate above 0, got -1"):
        list(session.track([picture(0)], frame_rate=-1))
