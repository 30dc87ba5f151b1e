from __future__ import annotations

import numpy as np
import pytest

from yolo_multitask.tracking import TrackerConfig
from yolo_multitask.tracking.motion import SIZE_VELOCITY_DECAY, START_SIZE_SPEED, Motion

CONFIG = TrackerConfig()
START = np.array([[100.0, 60, 30, 80], [40, 50, 12, 20]])
DT = 0.1


def motion() -> Motion:
    filters = Motion(CONFIG, DT)
    filters.grow(2)
    filters.start(np.arange(2), START)
    return filters


class Reference:
    """One track with the full 8 x 8 matrices."""

    def __init__(self, xywh: np.ndarray) -> None:
        scale = np.sqrt(xywh[2] * xywh[3])
        noise = np.repeat([CONFIG.position_noise, CONFIG.size_noise], 2) * scale
        speed = np.repeat([CONFIG.start_speed, START_SIZE_SPEED], 2) * DT * scale
        self.x, self.P = np.r_[xywh, np.zeros(4)], np.diag(np.r_[noise, speed] ** 2)

    def predict(self) -> None:
        damp = np.diag(np.r_[np.ones(6), np.full(2, SIZE_VELOCITY_DECAY)])
        scale = np.sqrt(self.x[2] * self.x[3])
        drift = (np.repeat([CONFIG.speed_drift, CONFIG.size_drift], 2) * DT**1.5 * scale) ** 2
        step = np.eye(8) + np.eye(8, k=4)
        Q = np.zeros((8, 8))
        Q[:4, :4] = np.diag(drift / 3 + (CONFIG.jitter * scale) ** 2)
        Q[:4, 4:] = Q[4:, :4] = np.diag(drift / 2)
        Q[4:, 4:] = np.diag(drift)
        self.x, self.P = step @ damp @ self.x, step @ self.P @ step.T + Q  # damping is no part of the model

    def correct(self, z: np.ndarray, score: float, hidden: float) -> None:
        noise = (np.repeat([CONFIG.position_noise, CONFIG.size_noise], 2) * np.sqrt(self.x[2] * self.x[3])) ** 2
        R = np.diag(noise * 2 * max(1 - score, 0.2) * (1 + CONFIG.hidden_noise * hidden))
        H = np.eye(4, 8)
        K = self.P @ H.T @ np.linalg.inv(H @ self.P @ H.T + R)
        self.x, self.P = self.x + K @ (z - H @ self.x), (np.eye(8) - K @ H) @ self.P


def test_equals_the_full_filter() -> None:
    rng = np.random.default_rng(0)
    filters, references = motion(), [Reference(row) for row in START]
    for step in range(12):
        filters.predict(np.zeros(2, bool))
        z = START + np.array([2.0 * step, step, 0.3, 0.5]) + rng.normal(size=(2, 4))
        score, hidden = rng.uniform(0.1, 1, 2), rng.uniform(0, 1, 2)
        filters.correct(np.arange(2), z, score, hidden)
        for i, reference in enumerate(references):
            reference.predict()
            reference.correct(z[i], score[i], hidden[i])
            np.testing.assert_allclose(filters.mean[i], reference.x, rtol=1e-9)
            full = filters.covariance[i]
            np.testing.assert_allclose(full[0], reference.P.diagonal()[:4], rtol=1e-8)
            np.testing.assert_allclose(full[1], reference.P.diagonal(4), rtol=1e-8)
            np.testing.assert_allclose(full[2], reference.P.diagonal()[4:], rtol=1e-8)


def test_learns_the_speed() -> None:
    filters = motion()
    for step in range(1, 15):
        filters.predict(np.zeros(2, bool))
        filters.correct(np.arange(2), START + np.array([3.0 * step, 0, 0, 0]), np.full(2, 0.9), np.zeros(2))
    np.testing.assert_allclose(filters.mean[0, 4:6], [3, 0], atol=0.15)


def test_unseen_tracks_slow_down_keep_their_size_and_grow_uncertain() -> None:
    filters = motion()
    filters.mean[:, 4:8] = [3.0, 0.0, 1.0, 1.0]
    spread = []
    for _ in range(round(CONFIG.coast_half_life / DT)):
        filters.predict(np.ones(2, bool))
        spread.append(filters.expected_variance()[0, 0])
    assert filters.mean[0, 4] == pytest.approx(1.5)
    np.testing.assert_allclose(filters.mean[:, 2:4], START[:, 2:])
    assert (np.diff(spread) > 0).all()


def test_speed_is_bounded() -> None:
    filters = motion()
    filters.mean[:, 4] = 1e3
    filters.predict(np.zeros(2, bool))
    np.testing.assert_allclose(filters.mean[:, 4], CONFIG.max_speed * DT * np.sqrt(START[:, 2] * START[:, 3]))


def test_sizes_stay_positive() -> None:
    filters = motion()
    filters.mean[:, 6:8] = -500
    filters.predict(np.zeros(2, bool))
    assert (filters.mean[:, 2:4] >= 1).all()


def test_restart_takes_the_mean_velocity_of_the_gap() -> None:
    filters = motion()
    for _ in range(8):
        filters.predict(np.ones(2, bool))
    filters.restart(np.array([1]), START[1:] + np.array([16, -8, 0, 0]), np.array([8.0]))
    np.testing.assert_allclose(filters.mean[1], [56, 42, 12, 20, 2, -1, 0, 0])


def test_camera_zoom_turn_and_shift() -> None:
    filters = motion()
    filters.mean[:, 4:6] = [2.0, 0.0]
    before = filters.covariance.copy()
    filters.warp(np.array([[0.0, -2, 10], [2, 0, -5]]))  # a quarter turn, twice as large
    np.testing.assert_allclose(filters.mean[0], [-110, 195, 60, 160, 0, 4, 0, 0])
    np.testing.assert_allclose(filters.seen[0], [-110, 195, 60, 160])
    np.testing.assert_allclose(filters.covariance, 4 * before)


def test_rows_grow_shrink_and_move_together() -> None:
    filters = motion()
    filters.grow(1)
    assert {len(column) for column in filters.columns().values()} == {3}
    filters.move(np.array([0]), np.array([2]))
    filters.select(np.array([False, True, True]))
    np.testing.assert_array_equal(filters.seen, START[[1, 0]])
