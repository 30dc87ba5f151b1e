from __future__ import annotations

import itertools

import numpy as np
import pytest
from tracking.walkers import detections, person

from yolo_multitask.tracking import TrackerConfig
from yolo_multitask.tracking.association import (
    allowed,
    assign,
    combine,
    detection_limits,
    track_limits,
    unexplained,
)
from yolo_multitask.tracking.config import CUES
from yolo_multitask.tracking.cues import Evidence
from yolo_multitask.tracking.detections import read_detections

PAIRS = 12


def evidence(rng: np.random.Generator) -> dict[str, Evidence]:
    return {cue: Evidence(rng.uniform(size=PAIRS), rng.uniform(size=PAIRS)) for cue in CUES}


@pytest.mark.parametrize("cue", CUES)
def test_the_only_valid_cue_is_the_cost(cue: str) -> None:
    rng = np.random.default_rng(0)
    weights = TrackerConfig().weights
    said = evidence(rng)
    silent = {name: Evidence(each.similarity, np.zeros(PAIRS)) for name, each in said.items() if name != cue}
    expected = 1 - said[cue].similarity
    np.testing.assert_allclose(combine({cue: said[cue]}, weights, PAIRS), expected)
    np.testing.assert_allclose(combine({**silent, cue: said[cue]}, weights, PAIRS), expected)


def test_the_weight_of_an_absent_cue_is_shared_out() -> None:
    said = {name: Evidence(np.full(2, value), np.ones(2)) for name, value in (("box", 0.8), ("mask", 0.2))}
    said["keypoint"] = Evidence(np.full(2, 0.5), np.array([1.0, 0.0]))  # absent for the second pair
    weights = {"box": 3.0, "mask": 1.0, "keypoint": 4.0}
    np.testing.assert_allclose(1 - combine(said, weights, 2), [(2.4 + 0.2 + 2.0) / 8, (2.4 + 0.2) / 4])


def test_cost_does_not_depend_on_the_unit_of_the_weights() -> None:
    said = evidence(np.random.default_rng(1))
    weights = TrackerConfig().weights
    doubled = {name: 2 * weight for name, weight in weights.items()}
    np.testing.assert_allclose(combine(said, weights, PAIRS), combine(said, doubled, PAIRS))


def test_no_cue_is_the_highest_cost() -> None:
    assert combine({}, TrackerConfig().weights, 3).tolist() == [1, 1, 1]


def test_gates_forbid_only_where_the_cue_is_sure() -> None:
    said = {"mask": Evidence(np.array([0.1, 0.1, 0.3]), np.array([1.0, 0.4, 1.0]))}
    assert allowed(said, {"mask": 0.2}, 3).tolist() == [False, True, True]
    assert allowed(said, {"mask": 0.0}, 3).tolist() == [True, True, True]


def test_assignment_is_the_best_of_all() -> None:
    rng = np.random.default_rng(2)
    for _ in range(30):
        excess = rng.uniform(-1, 0.6, (4, 3))
        d, t = (index.ravel() for index in np.indices(excess.shape))
        kept = assign(d, t, excess.ravel())
        assert len(set(d[kept])) == len(set(t[kept])) == len(kept)
        options = (
            sum(min(excess[i, j], 0) for i, j in zip(rows, range(3), strict=True))
            for rows in itertools.permutations(range(4), 3)
        )
        assert excess.ravel()[kept].sum() == pytest.approx(min(options))


def test_assignment_without_a_good_pair() -> None:
    assert len(assign(np.array([0, 1]), np.array([0, 0]), np.array([0.0, np.inf]))) == 0
    assert len(assign(np.zeros(0, int), np.zeros(0, int), np.zeros(0))) == 0


def test_limits() -> None:
    config = TrackerConfig(
        track_limit=0.4, lost_factor=0.5, hidden_factor=0.25, detection_limit=0.2, low_factor=0.5, repeat_factor=0.1
    )
    lost, hidden = np.array([False, True, False, True]), np.array([0, 0, 1.0, 1.0])
    np.testing.assert_allclose(track_limits(config, lost, hidden), [0.4, 0.2, 0.1, 0.05])
    three, _ = read_detections(
        detections([person(50), person(150), person(250)], [config.high_score, config.low_score, 0.9]), low_score=0.1
    )
    np.testing.assert_allclose(detection_limits(config, three), [0.2, 0.1, 0.2])
    repeated, _ = read_detections(detections([person(50), person(50)], [0.9, 0.8]), low_score=0.1)
    np.testing.assert_allclose(detection_limits(config, repeated), [0.2, 0.02])


def test_what_starts_a_track() -> None:
    config = TrackerConfig(new_score=0.5, new_max_iou=0.4, new_max_inside=0.8)
    part = [34, 120, 66, 150]
    boxes = [person(50), person(52), part, person(150), person(151), person(250), person(350)]
    given = detections(boxes, [0.9, 0.8, 0.8, 0.7, 0.8, 0.4, 0.6], [0, 0, 0, 0, 0, 0, 0])
    everything, _ = read_detections(given, low_score=0.1)
    # 0 is tracked; 1 overlaps it, 2 is a part of it; 4 is the better of two; 5 has too low a score
    assert unexplained(config, everything, np.array([0])).tolist() == [4, 6]
    other, _ = read_detections(given._replace(cls=np.array([1, 0, 0, 0, 1, 0, 0])), low_score=0.1)
    assert unexplained(config, other, np.array([0])).tolist() == [1, 3, 4, 6]
