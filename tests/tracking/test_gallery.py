from __future__ import annotations

import numpy as np
import pytest
from tracking.walkers import looks

from yolo_multitask.tracking import TrackerConfig
from yolo_multitask.tracking.gallery import Calibration, Gallery


def gallery(tracks: int, **keys: object) -> Gallery:
    made = Gallery(TrackerConfig(**keys), Calibration(0.6, 0.3, 0.1))  # type: ignore[arg-type]
    made.grow(tracks)
    made.fit(16)
    return made


def similar(rng: np.random.Generator, count: int, mean: float, deviation: float) -> np.ndarray:
    return mean + deviation * rng.normal(size=count)


def test_calibration_finds_the_two_distributions() -> None:
    rng, calibration = np.random.default_rng(0), Calibration(0.6, 0.3, 0.12)
    for _ in range(400):
        calibration.learn(similar(rng, 6, 0.93, 0.02), similar(rng, 24, 0.86, 0.04))
    assert calibration.same == pytest.approx(0.93, abs=0.01)
    assert calibration.different == pytest.approx(0.86, abs=0.01)
    assert calibration.same_variance**0.5 == pytest.approx(0.02, rel=0.25)
    assert calibration.different_variance**0.5 == pytest.approx(0.04, rel=0.25)
    low, middle, high = calibration.probability(np.array([0.8, 0.9, 0.95]))
    assert low < 0.2
    assert low < middle < high
    assert high > 0.7
    assert calibration.separation == pytest.approx(1, abs=0.15)


def test_embeddings_that_tell_nothing_count_nothing() -> None:
    rng, calibration = np.random.default_rng(0), Calibration(0.6, 0.3, 0.12)
    for _ in range(400):
        calibration.learn(similar(rng, 6, 0.5, 0.1), similar(rng, 24, 0.5, 0.1))
    assert calibration.separation < 0.1


def test_probability_rises_with_similarity() -> None:
    calibration = Calibration(0.97, 0.84, 0.05)
    calibration.same_variance = 0.01**2
    probability = calibration.probability(np.linspace(-1, 1, 101))
    assert (np.diff(probability) >= 0).all()
    assert 0 < probability[0] < 0.05
    assert probability[-1] > 0.8


def test_learning_from_nothing_different() -> None:
    calibration = Calibration(0.6, 0.3, 0.1)
    calibration.learn(np.array([0.8]), np.zeros(0))
    assert calibration.same > 0.6
    assert calibration.different == 0.3


def test_a_look_is_found_again_among_many() -> None:
    filled = gallery(2)
    for frame, look in enumerate((0, 1, 2, 0, 1, 2), start=1):
        filled.learn(np.array([0]), looks(look), frame, calibrate=False)
    filled.learn(np.array([1]), looks(5), 9, calibrate=False)
    assert np.count_nonzero(filled.used[0]) == 3
    for look in (0, 1, 2):
        mine, other = filled.similarity(looks(look, look), np.array([0, 1]))
        assert mine > 0.7
        assert other == pytest.approx(0)
    assert filled.sightings.tolist() == [6, 1]


def test_a_full_gallery_forgets_what_was_seen_longest_ago() -> None:
    filled = gallery(1, gallery_size=3)
    for frame, look in enumerate((0, 1, 2, 0, 3), start=1):
        filled.learn(np.array([0]), looks(look), frame, calibrate=False)
    kept = {int(entry.argmax()) for entry in filled.entries[0]}
    assert kept == {0, 2, 3}


def test_near_looks_share_a_place_and_stay_of_unit_length() -> None:
    filled = gallery(1)
    near = looks(0) + 0.3 * looks(1)
    for frame, feats in enumerate((looks(0), near / np.linalg.norm(near), looks(0)), start=1):
        filled.learn(np.array([0]), feats, frame, calibrate=False)
    assert np.count_nonzero(filled.used) == 1
    np.testing.assert_allclose(np.linalg.norm(filled.entries[0, 0]), 1, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(filled.mean[0]), 1, rtol=1e-6)


def test_calibrates_on_its_own_and_on_other_tracks() -> None:
    filled = gallery(3)
    filled.learn(np.arange(3), looks(0, 1, 2), 1, calibrate=True)
    assert (filled.calibration.same, filled.calibration.different) == (0.6, 0.3)  # nothing to compare with yet
    for frame in range(2, 60):
        filled.learn(np.arange(3), looks(0, 1, 2), frame, calibrate=True)
    assert filled.calibration.same > 0.95
    assert filled.calibration.different < 0.05


def test_the_length_of_embeddings_is_fixed() -> None:
    with pytest.raises(ValueError, match="feats of 16 values as before, got 8"):
        gallery(1).fit(8)
