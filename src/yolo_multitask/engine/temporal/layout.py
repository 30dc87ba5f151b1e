"""What a model of windows computes, from the network or from the metadata of an exported file, and its outputs.

B windows, G frames of a window, C channels of a frame, N elements, P decoded values of an element, A anchors, K
keypoints of D values, M objects, h w the network input, H W the original frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from yolo_multitask.data.clips.preprocess import Fit
from yolo_multitask.data.clips.targets import NOMINAL_SIZE
from yolo_multitask.engine import exported
from yolo_multitask.engine.heads import find_network
from yolo_multitask.nn.features import FeatureSet, feature_set
from yolo_multitask.nn.heads.tracknet import elements
from yolo_multitask.nn.temporal import TemporalModel
from yolo_multitask.tasks import RowLayout
from yolo_multitask.tracking.points import NEXT_X, X, candidates
from yolo_multitask.tracking.trajectories import TrajectoryConfig

MAX_OBJECTS = 50  # of a class in a frame


@dataclass(frozen=True, kw_only=True)
class TemporalLayout:
    """What there is to know of a model to run it.

    Attributes:
        tasks: Subset of `detect`, `pose` and `track`.
        num_groups: Frames of a window, G.
        channels: Channels of a frame, C.
        names: All classes of the data by number.
        objects: Class of the data of each class that is followed.
        players: Class of the data of each class of the Pose head.
        features: What is regressed for an object; None without a TrackNet head.
        strides: Pixels per cell of each level of the TrackNet head.
        kpt_shape: Keypoints (K, D); None without a Pose head.
        object_size: Side of the box that stands for an object, in longer sides of the frame.
    """

    tasks: tuple[str, ...]
    num_groups: int
    channels: int
    names: Mapping[int, str]
    objects: tuple[int, ...]
    players: tuple[int, ...]
    features: FeatureSet | None = None
    strides: tuple[float, ...] = ()
    kpt_shape: tuple[int, int] | None = None
    object_size: float = NOMINAL_SIZE

    @classmethod
    def of(cls, model: Any) -> TemporalLayout:
        """Return the layout of a network, or of a backend of the host around one or around an exported file."""
        network = find_network(model)
        return cls._of_network(network) if isinstance(network, TemporalModel) else cls.of_file(model.metadata)

    @classmethod
    def _of_network(cls, network: TemporalModel) -> TemporalLayout:
        detect, pose = network.detect_idx, network.pose_idx
        return cls(
            tasks=tuple(network.tasks),
            num_groups=network.num_groups,
            channels=network.frame_channels,
            names=network.names,
            objects=tuple(network.objects) if detect is not None else (),
            players=tuple(network.players) if pose is not None else (),
            features=None if detect is None else network.feature_set,
            strides=() if detect is None else tuple(float(s) for s in network.model[detect].stride),
            kpt_shape=None if pose is None else tuple(network.kpt_shape),  # type: ignore[arg-type]
            object_size=getattr(network, "object_size", None) or NOMINAL_SIZE,
        )

    @classmethod
    def of_file(cls, metadata: Mapping[str, Any]) -> TemporalLayout:
        """Return the layout of an exported file from its metadata.

        Raises:
            ValueError: If it is not one of such a model.
        """
        if metadata.get("layout") != "temporal":
            raise ValueError(
                f"expected a file exported from a model of windows, found the layout {metadata.get('layout')!r} in its "
                "metadata. Export it again with 'ymt export'."
            )
        tasks = tuple(metadata["tasks"])
        follows, finds = "track" in tasks, "pose" in tasks
        return cls(
            tasks=tasks,
            num_groups=metadata["num_groups"],
            channels=metadata["frame_channels"],
            names=metadata["names"],
            objects=tuple(metadata["objects"]) if follows else (),
            players=tuple(metadata["players"]) if finds else (),
            features=feature_set(metadata["features"], metadata["feat_no"]) if follows else None,
            strides=tuple(float(s) for s in metadata["strides"]) if follows else (),
            kpt_shape=tuple(metadata["kpt_shape"]) if finds else None,  # type: ignore[arg-type]
            object_size=metadata.get("object_size") or NOMINAL_SIZE,
        )

    @property
    def rows(self) -> RowLayout:
        """Where the values of a player's row stand."""
        return RowLayout(nc=len(self.players), nk=prod(self.kpt_shape) if self.kpt_shape else 0)

    @property
    def player_names(self) -> dict[int, str]:
        """Names of the classes of the Pose head."""
        return {i: self.names[c] for i, c in enumerate(self.players)}

    @property
    def object_names(self) -> dict[int, str]:
        """Names of the classes that are followed."""
        return {i: self.names[c] for i, c in enumerate(self.objects)}

    def window_stride(self, given: int | None) -> int:
        """Return the frames from one window to the next, 1 by default.

        Raises:
            ValueError: If frames would be in no window.
        """
        if given is not None and given > self.num_groups:
            raise ValueError(
                f"window_stride={given}: a window has {self.num_groups} frames, so that every window_stride above that "
                f"leaves frames out. Use {self.num_groups} or less."
            )
        return given or 1

    def groups(self, shape: Sequence[int]) -> NDArray[np.int64]:
        """Return the group (N,) of each element for network input of height and width `shape`."""
        return _groups(tuple(shape), self.strides, self.num_groups)

    def radius(self, fit: Fit, config: TrajectoryConfig | None = None) -> float:
        """Return how far apart objects of a class are at least, in pixels of the frame.

        That is the `radius` of the configuration, but no less than the smallest cell of the head: a cell holds one
        position, so that nearer ones are the same object said twice.

        Args:
            fit: How frames lie in the network input.
            config: How objects are linked; without it the default.
        """
        config = config or TrajectoryConfig()
        cell = min(self.strides, default=0.0) / fit.ratio_pad[0][0]
        return max(config.to_pixels(config.radius, fit.frame), cell)

    def find(self, values: torch.Tensor, fit: Fit, *, conf: float, radius: float) -> NDArray[np.float64]:
        """Return the objects that one window shows, rows (M, 7) of `candidates` in pixels of the frame, none outside.

        Args:
            values: Decoded elements (N, P + number of followed classes).
            fit: How its frames lie in the network input.
            conf: Least confidence.
            radius: See `radius`.
        """
        assert self.features is not None
        nc, points = len(self.objects), 4 if self.features.has_next else 2
        likely = (values[:, -nc:] >= conf).any(1).nonzero().flatten()  # few: the rest stays where it is
        chosen = values[likely][:, [*range(points), *range(values.shape[1] - nc, values.shape[1])]]
        rows = candidates(
            chosen.double().cpu().numpy(),
            self.groups(fit.shape)[likely.cpu().numpy()],
            nc,
            self.features.has_next,
            conf,
            radius * fit.ratio_pad[0][0],
            MAX_OBJECTS,
        )
        for column in (X, NEXT_X):
            rows[:, column : column + 2] = fit.to_frame(rows[:, column : column + 2])
        height, width = fit.frame
        rows[:, X : X + 2] = rows[:, X : X + 2].clip(0, (width, height))  # as the host cuts off boxes and keypoints
        return rows


@lru_cache(maxsize=8)
def _groups(shape: tuple[int, ...], strides: tuple[float, ...], num_groups: int) -> NDArray[np.int64]:
    maps = [[int(side / stride) for side in shape] for stride in strides]
    return np.asarray(elements(maps, strides, num_groups)[2].numpy(), np.int64)


def read_outputs(model: Any, outputs: Any) -> tuple[torch.Tensor | None, Any]:
    """Return what the heads of a model gave for a batch of windows.

    Args:
        model: The network, or a backend of the host around one or around an exported file.
        outputs: What it gave.

    Returns:
        The decoded elements (B, N, P + followed classes) of the TrackNet head, None without. Of the Pose head the rows
        (B, 4 + extra, A), cx cy w h in input pixels, after a lazy pass its scores and maps; None without.
    """
    if isinstance(find_network(model), TemporalModel):
        track, pose = outputs.get("track"), outputs.get("pose")
        lazily = pose is not None and isinstance(pose[1], dict) and "taps" in pose[1]
        return None if track is None else track[0], pose if pose is None or lazily else pose[0]
    found = exported.read_heads(model, outputs)
    return found["track"], found["pose"]


@contextmanager
def lazy_heads(network: TemporalModel, conf: float) -> Iterator[None]:
    """Let the heads of a network compute inside the `with` only what is needed.

    The Pose head stops at its class scores, see `read_outputs`. The TrackNet head computes positions where a score
    reaches `conf`.
    """
    pose = None if network.pose_idx is None else network.head
    track = None if network.detect_idx is None else network.track_head
    if pose is not None:
        pose.lazy = True
    if track is not None:
        track.above = conf
    try:
        yield
    finally:
        if pose is not None:
            pose.lazy = False
        if track is not None:
            track.above = None
