"""Tracking on consecutive frames: objects by their trajectories, players by the tracker of a YAML, ids of their own.

M objects and T players of a frame, K keypoints of D values, L past frames of a trail.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from yolo_multitask.engine.results import Results
from yolo_multitask.engine.track import TRAIL_SECONDS, SourceTracker, Tracking, frame_rate, source_key
from yolo_multitask.tracking.point_files import PointFile


class TemporalTracking(Tracking):
    """The tracks of a predictor of windows. The predictor links the objects; this links the players and numbers both.

    In a frame without players because no window ends with it (`window_stride`), the players' tracks wait.
    """

    def __init__(self, predictor: Any) -> None:
        """Read the tracker that the predictor's arguments name.

        Raises:
            ValueError: As `Tracking`, and if the tracker takes appearance from the detector: this one has none.
        """
        super().__init__(predictor)
        if self.factory.appearance:
            raise ValueError(
                f"tracker={self.name}: 'with_reid: True' with 'model: auto' takes the appearance from the detector, "
                "but a model of windows gives none. Name a ReID network under 'model:', or set 'with_reid: False'."
            )
        self._numbers: dict[int, _Numbers] = {}
        self._tables: dict[int, PointFile] = {}

    def update(self, predictor: Any, persist: bool, save_mot: bool) -> list[Any]:
        """Return the tracked results of a batch."""
        dataset = predictor.dataset
        stride = 1 if dataset.mode == "image" else predictor.args.vid_stride
        tracked = []
        for i, (frame, result) in enumerate(zip(dataset.current, predictor.results, strict=True)):
            source = self.sources[frame.slot]
            if frame.index == 0 or frame.slot not in self._numbers:
                key = source_key(result.path, dataset.mode)
                source.enter(key, frame_rate(dataset, i, result.path) / stride, persist)
                self._close_table(frame.slot)
                if frame.slot not in self._numbers or not persist:
                    self._numbers[frame.slot] = _Numbers()
                self._numbers[frame.slot].enter()
            source.frame = frame.index  # `source.update` counts on
            numbers = self._numbers[frame.slot]
            objects, players = self._track(source, result, predictor.objects[i], predictor.found_players[i])
            objects_ids = numbers.of_objects(predictor.objects[i].ids, frame.index, predictor.trajectories.max_gap)
            players.update(boxes=_with_ids(players.boxes.data, numbers.of_players(_ids(players))))
            length = ceil(TRAIL_SECONDS * frame_rate(dataset, i, result.path) / stride)
            points = torch.zeros(0, 3) if objects.points is None else objects.points.data
            trails = numbers.follow(frame.index, objects_ids, points, length)
            tracked.append(_join(objects, objects_ids, trails, players))
            if save_mot:
                self._save(predictor, frame, source, tracked[-1], len(objects), frame.index * stride)
        return tracked

    def _track(self, source: SourceTracker, result: Any, objects: Any, looked: bool) -> tuple[Any, Any]:
        """Return the objects and the tracked players of a frame."""
        m = len(objects.xy)
        players = result[m:]
        if not looked:
            players.update(boxes=_with_ids(players.boxes.data, np.zeros(0, np.int64)))
            return result[:m], players
        (given,) = self.factory.frame_inputs([players])
        return result[:m], source.update(players, given)

    def _save(self, predictor: Any, frame: Any, source: SourceTracker, result: Any, m: int, number: int) -> None:
        """Write a frame: its objects as CSV, its players as a MOTChallenge file."""
        folder = Path(predictor.save_dir)
        mot = self.mot_file(source, result.path, folder)
        if "pose" in predictor.tasks:
            mot.add(number + 1, result[m:])
        if "track" in predictor.tasks:
            table = self._tables.get(frame.slot)
            if table is None:
                table = self._tables[frame.slot] = PointFile(mot.path.with_name(f"{mot.path.stem}_points.csv"))
            table.add(number, _point_rows(result[:m]))

    def _close_table(self, slot: int) -> None:
        table = self._tables.pop(slot, None)
        if table is not None:
            table.close()

    def close(self, keep: bool) -> None:
        """Complete the files, or remove those that are not finished."""
        super().close(keep)
        for table in self._tables.values():
            table.close(keep)


class _Numbers:
    """Ids over objects and players of a source, from 1 in the order of appearance, and where the objects have been."""

    def __init__(self) -> None:
        self._last = 0
        self._players: dict[int, int] = {}
        self._objects: dict[int, tuple[int, int]] = {}  # number, and frame in which it was last, the oldest first
        self._trails: dict[int, deque[tuple[int, NDArray[np.float32]]]] = {}

    def enter(self) -> None:
        """Go to another clip, whose objects are none of those before."""
        self._objects, self._trails = {}, {}

    def of_players(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the ids of players that are told apart by `ids`."""
        for i in ids.tolist():
            if i not in self._players:
                self._players[i] = self._next()
        return np.array([self._players[i] for i in ids.tolist()], np.int64)

    def of_objects(self, ids: NDArray[np.int64], frame: int, max_gap: int) -> NDArray[np.int64]:
        """Return the ids of objects that are told apart by `ids`, and forget those that cannot come back.

        Args:
            ids: Of the trajectories.
            frame: Number of the frame.
            max_gap: Frames that a trajectory may miss.
        """
        numbers = []
        for i in ids.tolist():
            known = self._objects.pop(i, None)
            numbers.append(self._next() if known is None else known[0])
            self._objects[i] = numbers[-1], frame
        while self._objects and self._objects[oldest := next(iter(self._objects))][1] < frame - max_gap - 1:
            del self._objects[oldest]
        return np.array(numbers, np.int64)

    def _next(self) -> int:
        self._last += 1
        return self._last

    def follow(self, frame: int, ids: NDArray[np.int64], points: Any, length: int) -> NDArray[np.float32]:
        """Return the trails (M, L, 3) of objects x y interpolated, from old to new, NaN before there is one.

        Args:
            frame: Number of the frame.
            ids: Of the objects in it.
            points: Their points (M, 3).
            length: Frames that a trail reaches back.
        """
        for i, point in zip(ids.tolist(), points.cpu().numpy(), strict=True):
            self._trails.setdefault(i, deque()).append((frame, point))
        for trail in self._trails.values():
            while trail and trail[0][0] <= frame - length:
                trail.popleft()
        self._trails = {i: trail for i, trail in self._trails.items() if trail}
        longest = max((len(self._trails[i]) for i in ids.tolist()), default=0)
        out = np.full((len(ids), longest, 3), np.nan, np.float32)
        for row, i in zip(out, ids.tolist(), strict=True):
            row[longest - len(self._trails[i]) :] = [point for _, point in self._trails[i]]
        return out


def _ids(result: Any) -> NDArray[np.int64]:
    """Return the ids of a tracked result."""
    return np.asarray(result.boxes.id.cpu().numpy(), np.int64) if len(result) else np.zeros(0, np.int64)


def _point_rows(objects: Any) -> NDArray[np.float64]:
    """Return x, y, confidence, class, id and interpolated (M, 6) of tracked objects."""
    points, boxes = objects.points.data.cpu().numpy(), objects.boxes.data.cpu().numpy()
    return np.column_stack((points[:, :2], boxes[:, [5, 6, 4]], points[:, 2])).astype(np.float64)


def _with_ids(boxes: torch.Tensor, ids: NDArray[np.int64]) -> torch.Tensor:
    """Return the rows of boxes, with or without ids, with these."""
    column = torch.as_tensor(ids, device=boxes.device).to(boxes)[:, None]
    return torch.cat((boxes[:, :4], column, boxes[:, -2:]), 1)


def _join(objects: Any, ids: NDArray[np.int64], trails: NDArray[np.float32], players: Any) -> Results:
    """Return one result of the objects of a frame and its tracked players."""
    boxes = torch.cat((_with_ids(objects.boxes.data, ids), players.boxes.data.to(objects.boxes.data)))
    fields: Mapping[str, Any] = {
        name: torch.cat((getattr(objects, name).data, getattr(players, name).data))
        for name in ("keypoints", "points")
        if getattr(objects, name) is not None
    }
    joined = Results(objects.orig_img, path=objects.path, names=objects.names, boxes=boxes, **fields)
    joined.update(trails=_join_trails(trails, players.trails).to(boxes.device))
    return joined


def _join_trails(objects: NDArray[np.float32], players: Any) -> torch.Tensor:
    """Return the trails (M + T, L, 3) of objects (M, L, 3) and players (T, L, 2), NaN before each begins."""
    own = np.zeros((0, 0, 2), np.float32) if players is None else players.cpu().numpy().data
    longest = max(objects.shape[1], own.shape[1])
    out = np.full((len(objects) + len(own), longest, 3), np.nan, np.float32)
    out[: len(objects), longest - objects.shape[1] :] = objects
    out[len(objects) :, longest - own.shape[1] :, :2] = own[..., :2]
    out[len(objects) :, :, 2] = np.where(np.isnan(out[len(objects) :, :, 0]), np.nan, 0)
    return torch.from_numpy(out)
