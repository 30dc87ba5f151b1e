from __future__ import annotations

import logging
import re
from argparse import Namespace

import cv2
import numpy as np
import pytest
from tracking.walkers import detections, follow, ids, looks, person, shift

from yolo_multitask.tracking import MultiCueTracker, State, TrackerConfig

RATE = 10.0


def tracker(**keys: object) -> MultiCueTracker:
    return MultiCueTracker(TrackerConfig(**keys), frame_rate=RATE)  # type: ignore[arg-type]


def test_first_frame_confirms_and_counts_from_one() -> None:
    rows = tracker().update(detections([person(50), person(150)], [0.8, 0.6]))
    assert rows.dtype == np.float32
    assert rows.shape == (2, 8)
    assert ids(rows) == [1, 2]
    np.testing.assert_allclose(rows[:, :4], [person(50), person(150)], rtol=1e-6)
    np.testing.assert_allclose(rows[:, 5:], [[0.8, 0, 0], [0.6, 0, 1]], rtol=1e-6)


def test_later_tracks_show_themselves_first() -> None:
    tracked = tracker(confirm_score=1.5)
    tracked.update(detections([person(50)]))
    seen = [ids(tracked.update(detections([person(50), person(300)], [0.9, score]))) for score in (0.6, 0.6, 0.6)]
    assert seen == [[1], [1], [1, 2]]


def test_a_false_detection_gets_no_id() -> None:
    tracked = tracker()
    tracked.update(detections([person(50)]))
    tracked.update(detections([person(50), person(300)]))
    for _ in range(4):
        assert ids(tracked.update(detections([person(50)]))) == [1]
    tracked.update(detections([person(50), person(300)]))
    tracked.update(detections([person(50), person(300)]))
    assert ids(tracked.update(detections([person(50), person(300)]))) == [1, 2]


def test_people_who_cross_keep_their_ids_by_motion() -> None:
    # One walks behind the other: while they overlap most, only the nearer one is detected.
    tracked = tracker()
    for step in range(40):
        left, right = person(60 + 6 * step, 190), person(300 - 6 * step, 200)
        if abs(left[0] - right[0]) < 12:
            assert ids(tracked.update(detections([right]))) == [2]
        else:
            assert ids(tracked.update(detections([left, right]))) == [1, 2], step


def test_people_who_meet_and_turn_back_keep_their_ids_by_looks() -> None:
    # Motion alone says that they walk on.
    def meet(with_looks: bool) -> list[int]:
        tracked = tracker()
        for step in range(41):
            at = 20 - abs(step - 20)
            boxes = [person(60 + 6 * at), person(300 - 6 * at)]
            if abs(step - 20) < 4:
                tracked.update(detections([]))
            else:
                rows = tracked.update(detections(boxes), feats=looks(0, 1) if with_looks else None)
        return ids(rows)

    assert meet(with_looks=True) == [1, 2]
    assert meet(with_looks=False) == [2, 1]


@pytest.mark.parametrize("with_looks", [True, False])
def test_a_second_behind_a_pillar(with_looks: bool) -> None:
    tracked, feats = tracker(), looks(0) if with_looks else None
    for step in range(30):
        if 10 <= step < 20:
            assert ids(tracked.update(detections([]))) == []
        else:
            seen = ids(tracked.update(detections([person(80 + 5 * step)]), feats=feats))
            assert seen in ([1], [])
            assert seen or step < 23
    assert seen == [1]


def test_who_leaves_and_comes_back_is_recognised() -> None:
    tracked = tracker()
    for step in range(20):
        rows = tracked.update(detections([person(80 - 4 * step), person(300)]), feats=looks(0, 1))
    assert ids(rows) == [1, 2]
    for _ in range(80):  # eight seconds
        assert ids(tracked.update(detections([person(300)]), feats=looks(1))) == [2]
    for step in range(4):
        rows = tracked.update(detections([person(10 + 4 * step), person(300)]), feats=looks(0, 1))
    assert ids(rows) == [1, 2]


def test_someone_else_is_not_taken_for_who_left() -> None:
    tracked = tracker()
    for step in range(20):
        tracked.update(detections([person(80 - 4 * step), person(300)]), feats=looks(0, 1))
    for _ in range(80):
        tracked.update(detections([person(300)]), feats=looks(1))
    for step in range(4):
        rows = tracked.update(detections([person(10 + 4 * step), person(300)]), feats=looks(5, 1))
    assert ids(rows) == [3, 2]


def test_memory_ends() -> None:
    tracked = tracker(memory=5.0)
    for _ in range(5):
        tracked.update(detections([person(80)]), feats=looks(0))
    for _ in range(51):
        tracked.update(detections([]), feats=np.zeros((0, 16)))
    assert len(tracked.book.id) == 0


def test_states() -> None:
    tracked = tracker(max_lost=0.5)
    tracked.update(detections([person(80)]))
    tracked.update(detections([person(80), person(200)]))
    assert tracked.book.state.tolist() == [State.CONFIRMED, State.TENTATIVE]
    tracked.update(detections([person(200)]))
    assert tracked.book.state.tolist() == [State.LOST, State.CONFIRMED]
    for _ in range(5):
        tracked.update(detections([person(200)]))
    assert tracked.book.id.tolist() == [2]


def test_empty_frames() -> None:
    tracked = tracker()
    for _ in range(3):
        rows = tracked.update(detections([]), feats=np.zeros((0, 16)), keypoints=np.zeros((0, 17, 3)))
        assert rows.shape == (0, 8)
        assert rows.dtype == np.float32
    assert ids(tracked.update(detections([person(50)] * 1))) == []
    assert follow(tracked, [[person(50)]]) == [[1]]


def test_all_detections_lost_and_found() -> None:
    tracked = tracker()
    crowd = [person(60 * n + 40, 100 + 10 * (n % 3)) for n in range(8)]
    for _ in range(3):
        before = ids(tracked.update(detections(crowd)))
    for _ in range(5):
        assert ids(tracked.update(detections([]))) == []
    assert ids(tracked.update(detections(crowd))) == before == list(range(1, 9))


def test_detections_below_the_lowest_score_are_not_tracked() -> None:
    rows = tracker(low_score=0.3).update(detections([person(50), person(150)], [0.2, 0.8]))
    assert rows[:, [4, 7]].tolist() == [[1, 1]]


def test_a_low_score_continues_a_track_but_starts_none() -> None:
    tracked = tracker()
    tracked.update(detections([person(50)]))
    for _ in range(5):
        assert ids(tracked.update(detections([person(50), person(200)], [0.15, 0.15]))) == [1]


def test_a_second_box_of_a_person_starts_no_track() -> None:
    tracked = tracker()
    upper = [34, 120, 66, 165]  # of the person at 50
    for _ in range(6):
        rows = tracked.update(detections([person(50), upper], [0.9, 0.7]))
        assert rows[:, [4, 7]].tolist() == [[1, 0]]


def test_five_hundred_detections() -> None:
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(np.arange(25) * 40.0, np.arange(20) * 90.0), -1).reshape(-1, 2) + 60
    speed = rng.uniform(-2, 2, grid.shape)
    feats = rng.normal(size=(500, 32))
    tracked, first = tracker(), np.zeros(500, dtype=int)
    for step in range(6):
        centre = grid + speed * step
        boxes = np.tile(centre, 2) + np.array([-12, -30, 12, 30])
        order = rng.permutation(500)
        rows = tracked.update(detections(boxes[order]), feats=feats[order])
        assert len(rows) == 500
        by_person = np.empty(500, dtype=int)
        by_person[order[rows[:, 7].astype(int)]] = rows[:, 4]
        if step:
            np.testing.assert_array_equal(by_person, first)
        first = by_person.copy()
    assert sorted(first) == list(range(1, 501))


def test_reset_forgets_everything() -> None:
    used, fresh = tracker(), tracker()
    frames = [[person(40 + 5 * n), person(200 - 3 * n)] for n in range(6)]
    for boxes in frames:
        used.update(detections([*boxes, person(400)]), feats=looks(0, 1, 2))
    used.reset()
    assert follow(used, frames) == follow(fresh, frames) == [[1, 2]] * 6


def test_two_trackers_share_nothing() -> None:
    alone = follow(tracker(), [[person(40 + 5 * n), person(200)] for n in range(5)])
    first, second = tracker(), tracker()
    for n in range(5):
        assert ids(first.update(detections([person(40 + 5 * n), person(200)]))) == alone[n]
        assert ids(second.update(detections([person(300)]))) == [1]


def test_same_input_gives_the_same_output() -> None:
    rng = np.random.default_rng(3)
    frames = [
        (rng.uniform(0, 300, (12, 1)) + np.array([0, 0, 20, 60]), rng.uniform(0.1, 1, 12), rng.normal(size=(12, 8)))
        for _ in range(12)
    ]
    runs = []
    for _ in range(2):
        tracked = tracker()
        runs.append([tracked.update(detections(boxes, conf), feats=feats) for boxes, conf, feats in frames])
    for one, two in zip(*runs, strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_changed_class_is_another_object_unless_classes_are_ignored() -> None:
    for gate, expected in ((True, []), (False, [[1.0, 2.0]])):
        tracked = tracker(class_gate=gate)
        for _ in range(3):
            tracked.update(detections([person(50)], cls=0))
        assert tracked.update(detections([person(50)], cls=2))[:, [4, 6]].tolist() == expected


def test_objects_of_two_classes_in_one_place_are_two() -> None:
    tracked = tracker()
    for _ in range(3):
        rows = tracked.update(detections([person(50), person(51)], [0.9, 0.8], [0, 1]))
        assert rows[:, [4, 6]].tolist() == [[1, 0], [2, 1]]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_broken_boxes_are_left_out_with_one_warning(value: float, caplog: pytest.LogCaptureFixture) -> None:
    tracked = tracker()
    broken = [value, 0, 10, 10], [50, 50, 50, 90], [80, 80, 70, 90]
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            rows = tracked.update(detections([*broken[:2], person(50), broken[2]]), feats=looks(0, 1, 2, 3))
            assert rows[:, [4, 7]].tolist() == [[1, 2]]
    assert [r.message for r in caplog.records] == ["3 detections without a finite box, score and class are not tracked"]
    assert caplog.records[0].name.startswith("yolo_multitask")


def test_broken_cues_say_nothing() -> None:
    tracked = tracker()
    for step in range(4):
        rows = tracked.update(
            detections([person(50 + step), person(200)]),
            feats=np.array([[np.nan] * 8, [0.0] * 8]),
            keypoints=np.full((2, 17, 3), np.nan),
            next_boxes=np.full((2, 4), np.nan),
        )
        assert ids(rows) == [1, 2]
    assert np.isfinite(tracked.motion.mean).all()


def test_output_rows_point_at_their_detections() -> None:
    rng = np.random.default_rng(1)
    tracked, people = tracker(), np.array([person(60 * n + 40, 150 + n) for n in range(8)])
    for _ in range(8):
        order = rng.permutation(8)[: rng.integers(3, 9)]
        boxes, conf = people[order] + rng.normal(size=(len(order), 4)), rng.uniform(0.3, 1, len(order))
        det = detections(boxes, conf)
        rows = tracked.update(det)
        index = rows[:, 7].astype(int)
        assert len(set(index)) == len(index)
        assert len(set(ids(rows))) == len(rows)
        assert index.tolist() == sorted(index)
        np.testing.assert_array_equal(rows[:, :4], det.xyxy[index])
        np.testing.assert_array_equal(rows[:, 5], det.conf[index])


def scenery(width: int = 480, height: int = 200) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def test_a_panning_camera_is_compensated() -> None:
    # It swings by 30 pixels a frame, back and forth: more than a person is wide, and no steady motion.
    wide, people = scenery(), np.array([person(150, 150, 60), person(230, 160, 60)])

    def watch(camera_motion: bool) -> list[list[int]]:
        tracked = tracker(camera_motion=camera_motion, colours=False)
        seen = []
        for step in range(8):
            pan = 30 * (step % 2)
            seen.append(ids(tracked.update(detections(shift(people, -pan)), wide[:, pan : pan + 320])))
        return seen

    assert watch(camera_motion=True) == [[1, 2]] * 8
    assert watch(camera_motion=False) != [[1, 2]] * 8


def test_colours_stand_in_for_embeddings() -> None:
    # As in `test_people_who_meet_and_turn_back...`, without a network that gives embeddings.
    def meet(colours: bool) -> list[int]:
        tracked = tracker(colours=colours, camera_motion=False)
        for step in range(41):
            at = 20 - abs(step - 20)
            boxes = [person(60 + 6 * at), person(300 - 6 * at)]
            image = np.full((240, 360, 3), 128, np.uint8)
            for box, colour in zip(boxes, ((30, 30, 200), (200, 60, 30)), strict=True):
                cv2.rectangle(image, (int(box[0]), int(box[1])), (int(box[2]), int(box[3])), colour, -1)
            rows = tracked.update(detections([] if abs(step - 20) < 4 else boxes), image)
        return ids(rows)

    assert meet(colours=True) == [1, 2]
    assert meet(colours=False) == [2, 1]


def test_embeddings_take_the_place_of_colours() -> None:
    tracked, image = tracker(), np.zeros((240, 360, 3), np.uint8)
    assert ids(tracked.update(detections([person(50)]), image)) == [1]
    assert ids(tracked.update(detections([person(50)]), image, feats=looks(0))) == [1]
    assert ids(tracked.update(detections([person(50)]), image)) == [1]
    assert tracked.appearance.table.mean.shape == (1, 16)


@pytest.mark.parametrize("with_feats", [True, False])
def test_looks_of_weight_zero_are_not_learned(with_feats: bool) -> None:
    tracked = tracker(embedding_weight=0.0)
    for _ in range(3):
        assert ids(tracked.update(detections([person(50)]), scenery(), feats=looks(0) if with_feats else None)) == [1]
    assert tracked.appearance.table.mean.shape == (1, 0)
    assert not tracked.appearance.table.sightings.any()


@pytest.mark.parametrize("channels", [None, 1, 4])
def test_pictures_of_other_channels(channels: int | None) -> None:
    """Gray is as gray in three channels, and what follows BGR counts for nothing."""
    gray = scenery()[..., 0]
    bgr = np.repeat(gray[..., None], 3, axis=2)
    image = {None: gray, 1: gray[..., None], 4: np.dstack([bgr, 255 - gray])}[channels]
    one, other = tracker(), tracker()
    for step in range(4):
        found = detections([person(60 + 4 * step), person(250)])
        cut = 10 * (step % 2)
        np.testing.assert_array_equal(one.update(found, image[:, cut:]), other.update(found, bgr[:, cut:]))
    np.testing.assert_array_equal(one.appearance.table.mean, other.appearance.table.mean)


def test_the_size_of_the_picture_is_that_of_the_detections_without_a_picture() -> None:
    tracked = {True: tracker(), False: tracker()}
    boxes = np.array([person(60), person(200)])
    masks = np.zeros((2, 120, 160), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, (boxes / 2).astype(int), strict=True):
        mask[y1:y2, x1:x2] = True
    found = Namespace(xyxy=boxes, conf=np.full(2, 0.9), cls=np.zeros(2), orig_shape=(240, 320))
    for with_image, each in tracked.items():
        each.update(found, scenery(320, 240) if with_image else None, masks=masks)
        assert each._size.tolist() == [320, 240]
    np.testing.assert_array_equal(tracked[False].shape.grid, tracked[True].shape.grid)
    assert tracked[False].shape.grid[:, 5:-5, 2:-2].all()


def test_every_cue_at_once_and_masks_in_another_resolution() -> None:
    tracked, image = tracker(), scenery(320, 240)
    for step in range(5):
        boxes = np.array([person(60 + 4 * step), person(200 - 4 * step)])
        keypoints = boxes[:, None, :2] + np.linspace(0.1, 0.9, 17)[:, None] * (boxes[:, 2:] - boxes[:, :2])[:, None]
        masks = np.zeros((2, 120, 160), bool)
        for mask, (x1, y1, x2, y2) in zip(masks, (boxes / 2).astype(int), strict=True):
            mask[y1:y2, x1:x2] = True
        rows = tracked.update(
            detections(boxes),
            image,
            feats=looks(0, 1),
            keypoints=keypoints,
            masks=masks,
            next_boxes=np.concatenate([shift(boxes[:1], 4), shift(boxes[1:], -4)]),
        )
        assert ids(rows) == [1, 2]
    assert tracked.shape.grid[:, 5:-5, 2:-2].all()  # half the resolution, the same place


@pytest.mark.parametrize(
    ("cues", "message"),
    [
        ({"feats": np.zeros((3, 16))}, "feats with 2 axes and a row for each of 2 detections, got (3, 16)"),
        ({"feats": np.ones((2, 8))}, "feats of 16 values as before, got 8"),
        ({"keypoints": np.zeros((2, 17))}, "keypoints with 3 axes and a row for each of 2 detections, got (2, 17)"),
        ({"keypoints": np.zeros((2, 17, 4))}, "keypoints of 2 or 3 values (x, y, confidence), got (2, 17, 4)"),
        ({"keypoints": np.zeros((2, 5, 3))}, "expected 17 keypoints as before, got 5"),
        ({"masks": np.zeros((1, 8, 8))}, "masks with 3 axes and a row for each of 2 detections, got (1, 8, 8)"),
        ({"next_boxes": np.zeros((2, 5))}, "next_boxes of 4 values (x1 y1 x2 y2), got 5"),
    ],
)
def test_wrong_cues(cues: dict[str, np.ndarray], message: str) -> None:
    tracked = tracker()
    good = {"feats": looks(0, 1), "keypoints": np.ones((2, 17, 3))}
    tracked.update(detections([person(50), person(150)]), **good)
    with pytest.raises(ValueError, match=re.escape(message)):
        tracked.update(detections([person(50), person(150)]), **{**good, **cues})
    assert ids(tracked.update(detections([person(50), person(150)]), **good)) == [1, 2]


def test_wrong_detections_and_frame_rate() -> None:
    with pytest.raises(ValueError, match="one score and one class a box, got 1 and 2 for 2"):
        tracker().update(detections([person(1), person(9)])._replace(conf=np.ones(1)))
    for rate in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="frame_rate above 0"):
            MultiCueTracker(frame_rate=rate)


def test_configured_as_host_trackers_are() -> None:
    keys = {"tracker_type": "multicue", "new_score": 0.95}
    for config in (keys, Namespace(**keys), TrackerConfig(new_score=0.95)):
        assert len(MultiCueTracker(config).update(detections([person(50)], 0.9))) == 0
    assert len(MultiCueTracker().update(detections([person(50)], 0.9))) == 1
