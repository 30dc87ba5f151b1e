"""Motion of all tracks: constant-velocity Kalman filters, vectorised over tracks.

The state of a track is `cx cy w h` and its velocities, pixels and pixels a frame. Process and measurement noise are
diagonal, so that the four coordinates are independent filters of position and velocity: the 8 x 8 covariance is kept
as the three numbers (variance of the position, covariance, variance of the velocity) of each, which is exact.
Noise is given in units of the size of the object (root of its area) and in seconds, so that one setting holds for all
sizes and frame rates.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .boxes import Array, scales, to_xyxy
from .config import TrackerConfig
from .table import Rows, Table

SIZE_VELOCITY_DECAY = 0.9  # a frame: a box that grew is not expected to keep growing
START_SIZE_SPEED = 0.2  # standard deviation at birth, sizes per second


class Motion(Table):
    """Kalman filters of T tracks.

    Attributes:
        mean: (T, 8) `cx cy w h` in pixels and their velocities in pixels a frame.
        covariance: (T, 3, 4) variance of position, covariance, variance of velocity, for each coordinate.
        seen: (T, 4) `cx cy w h` of the last detection.
    """

    def __init__(self, config: TrackerConfig, dt: float) -> None:
        self._config = config
        self._dt = dt
        self._position_noise = np.array([config.position_noise] * 2 + [config.size_noise] * 2)
        self._drift = np.array([config.speed_drift] * 2 + [config.size_drift] * 2) * dt**1.5
        self.mean: Array = np.zeros((0, 8))
        self.covariance: Array = np.zeros((0, 3, 4))
        self.seen: Array = np.zeros((0, 4))

    @property
    def boxes(self) -> Array:
        """Corners (T, 4) of the expected boxes."""
        return to_xyxy(self.mean)

    @property
    def scale(self) -> Array:
        """Size (T,) of each track as one length in pixels."""
        return scales(self.mean)

    def start(self, rows_M: Rows, xywh_M4: Array) -> None:
        """Start filters at detections: at rest, with an unknown velocity."""
        self.mean[rows_M] = np.concatenate([xywh_M4, np.zeros_like(xywh_M4)], axis=1)
        self.covariance[rows_M] = self._start_covariance(xywh_M4)
        self.seen[rows_M] = xywh_M4

    def predict(self, unseen_T: NDArray[np.bool_]) -> None:
        """Move all tracks on by one frame.

        Args:
            unseen_T: Tracks without a detection in the last frame. They slow down and keep their size: what is known
                of their speed ages.
        """
        mean, covariance, scale = self.mean, self.covariance, self.scale[:, None]
        mean[:, 4:6] *= np.where(unseen_T, 0.5 ** (self._dt / self._config.coast_half_life), 1.0)[:, None]
        mean[:, 6:8] *= np.where(unseen_T, 0.0, SIZE_VELOCITY_DECAY)[:, None]
        speed = np.hypot(mean[:, 4], mean[:, 5])[:, None]
        mean[:, 4:6] *= np.minimum(1.0, self._config.max_speed * self._dt * scale / np.maximum(speed, 1e-9))
        mean[:, :4] += mean[:, 4:]
        mean[:, 2:4] = np.maximum(mean[:, 2:4], 1.0)
        drift = (self._drift * scale) ** 2  # white-noise acceleration: the same over a second at any frame rate
        covariance[:, 0] += 2 * covariance[:, 1] + covariance[:, 2] + drift / 3 + (self._config.jitter * scale) ** 2
        covariance[:, 1] += covariance[:, 2] + drift / 2
        covariance[:, 2] += drift

    def expected_variance(self) -> Array:
        """Variance (T, 2) of the centre of the next detection, in square pixels."""
        noise = self._position_noise[:2] * self.scale[:, None]
        return self.covariance[:, 0, :2] + 2 * noise**2

    def correct(self, rows_M: Rows, xywh_M4: Array, score_M: Array, hidden_M: Array) -> None:
        """Correct tracks by their detections.

        The noise of a detection falls with its score (NSA Kalman, GIAOTracker, arXiv 2202.11983) and rises with the
        share of it that something hides, because the box of a half-hidden object ends where it is hidden.
        """
        mean, covariance = self.mean[rows_M], self.covariance[rows_M]
        noise = (self._position_noise * scales(mean)[:, None]) ** 2
        noise *= (2 * np.maximum(1 - score_M, 0.2) * (1 + self._config.hidden_noise * hidden_M))[:, None]
        total = covariance[:, 0] + noise
        gain, velocity_gain = covariance[:, 0] / total, covariance[:, 1] / total
        error = xywh_M4 - mean[:, :4]
        mean[:, :4] += gain * error
        mean[:, 4:] += velocity_gain * error
        self.mean[rows_M] = mean
        corrected = (
            covariance[:, 0] * (1 - gain),
            covariance[:, 1] * (1 - gain),
            covariance[:, 2] - velocity_gain * covariance[:, 1],
        )
        self.covariance[rows_M] = np.stack(corrected, axis=1)
        self.seen[rows_M] = xywh_M4

    def restart(self, rows_M: Rows, xywh_M4: Array, gap_M: Array) -> None:
        """Start tracks anew that were not seen for a while, at the mean velocity of the gap.

        What the filter believed while it saw nothing is dropped for what the two ends of the gap say
        (observation-centric re-update of OC-SORT, arXiv 2203.14360, in closed form).

        Args:
            rows_M: Tracks.
            xywh_M4: Their new detections.
            gap_M: Frames since the last one.
        """
        velocity = (xywh_M4[:, :2] - self.seen[rows_M, :2]) / gap_M[:, None]
        self.start(rows_M, xywh_M4)
        self.mean[rows_M, 4:6] = velocity
        self.covariance[rows_M, 2, :2] *= 0.25

    def warp(self, affine_23: Array) -> None:
        """Apply the motion of the camera: `affine_23` maps pixels of the last frame to this one."""
        linear, shift = affine_23[:, :2], affine_23[:, 2]
        zoom = float(np.sqrt(abs(np.linalg.det(linear))))
        self.mean[:, :2] = self.mean[:, :2] @ linear.T + shift
        self.mean[:, 4:6] = self.mean[:, 4:6] @ linear.T
        self.seen[:, :2] = self.seen[:, :2] @ linear.T + shift
        for sizes in (self.mean[:, 2:4], self.mean[:, 6:8], self.seen[:, 2:4]):
            sizes *= zoom
        self.covariance *= zoom**2

    def _start_covariance(self, xywh_M4: Array) -> Array:
        """Covariance (M, 3, 4) of a track that one detection started."""
        scale = scales(xywh_M4)[:, None]
        speed = np.array([self._config.start_speed] * 2 + [START_SIZE_SPEED] * 2) * self._dt
        covariance = np.zeros((len(xywh_M4), 3, 4))
        covariance[:, 0] = (self._position_noise * scale) ** 2
        covariance[:, 2] = (speed * scale) ** 2
        return covariance
