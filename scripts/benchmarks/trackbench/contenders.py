"""The trackers that are compared: those of the host, and this package's `multicue` with all cues or with some.

N detections, S boxes that the NMS suppressed, T tracks of a frame, H W the image.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackbench.frames import Frame
from trackbench.sequence import IntArray
from yolo_multitask.tracking import MultiCueTracker, load_config
from yolo_multitask.tracking.config import CUES

STOCK = ("bytetrack", "ocsort", "fasttrack", "botsort", "deepocsort", "tracktrack")
WITH_REID = ("botsort", "deepocsort", "tracktrack")
RECOVERS = "tracktrack"  # takes boxes that the NMS suppressed
OURS = "multicue"
INPUTS = {"embedding": "feats", "keypoint": "keypoints", "mask": "masks", "next_box": "next_boxes"}  # of a cue


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A tracker and what it is given.

    Attributes:
        tracker: Name of its YAML, without the suffix.
        pool: The network whose boxes it gets.
        features: Source of the feature vectors; None for a tracker without them.
        recovers: Whether it also gets the suppressed boxes.
        cues: Cues of `multicue` that it uses; of the others, the weight is 0 and the input is withheld. None for all.
    """

    tracker: str
    pool: str
    features: str | None = None
    recovers: bool = False
    cues: tuple[str, ...] | None = None

    @property
    def label(self) -> str:
        """Name in the table."""
        cues = None if self.cues is None else "+".join(self.cues)
        limit = "no recovery" if self.tracker == RECOVERS and not self.recovers else None
        extras = ", ".join(extra for extra in (self.features, cues, limit) if extra)
        return f"{self.tracker} ({extras})" if extras else self.tracker

    def config(self) -> dict[str, Any]:
        """Return the tracker's YAML as it is, but for appearance and the cues asked for."""
        if self.tracker == OURS:
            off = [] if self.cues is None else [cue for cue in CUES if cue not in self.cues]
            return {**asdict(load_config(f"{OURS}.yaml")), **{f"{cue}_weight": 0.0 for cue in off}}
        from ultralytics.utils import YAML
        from ultralytics.utils.checks import check_yaml

        appearance = {"with_reid": self.features is not None, "model": "auto", "device": "cpu"}
        return {**YAML.load(check_yaml(f"{self.tracker}.yaml")), **(appearance if self.tracker in WITH_REID else {})}

    def build(self, frame_rate: float) -> Any:
        """Return a new tracker."""
        config = self.config()
        if self.tracker == OURS:
            return MultiCueTracker(config, frame_rate=frame_rate)
        from ultralytics.trackers.track import TRACKER_MAP
        from ultralytics.utils import IterableSimpleNamespace

        return TRACKER_MAP[config["tracker_type"]](args=IterableSimpleNamespace(**config))

    def lowest_scores(self) -> tuple[float, float]:
        """Return from which score on the tracker takes a detection, and a suppressed box (infinity: never)."""
        config = self.config()
        if self.tracker == OURS:
            return float(config["low_score"]), float("inf")
        high = float(config["track_high_thresh"])
        low = float(config["track_low_thresh"]) if config.get("use_byte", True) else high
        return low, high if self.recovers else float("inf")

    def arguments(self, frame: Frame, image: NDArray[np.uint8]) -> tuple[tuple[Any, Any], dict[str, Any]]:
        """Return the arguments of `update` for `frame` and its picture (H, W, 3) BGR."""
        from ultralytics.engine.results import Boxes

        keywords: dict[str, Any] = {"feats": None if self.features is None else frame.features[self.features]}
        if self.recovers:
            keywords["dets_del"] = host_extras(frame.suppressed)
        if self.tracker == OURS:
            keywords |= frame.update_arguments()
            if self.cues is not None:
                withheld = {name for cue, name in INPUTS.items() if cue not in self.cues}
                keywords = {name: value for name, value in keywords.items() if name not in withheld}
        return (Boxes(frame.boxes, image.shape[:2]), image), keywords


def host_extras(suppressed: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]] | None:
    """Return suppressed boxes (S, 6) as the host hands them over: centre, width and height, score, class."""
    if not len(suppressed):
        return None
    low, high = suppressed[:, :2], suppressed[:, 2:4]
    return np.concatenate(((low + high) / 2, high - low), 1), suppressed[:, 4], suppressed[:, 5]


def boxes_above(frame: Frame, lowest: tuple[float, float]) -> NDArray[np.float32]:
    """Return the detections and the suppressed boxes (N, 6) of `frame` with the scores of `lowest_scores`."""
    return np.concatenate(
        (frame.boxes[frame.boxes[:, 4] > lowest[0]], frame.suppressed[frame.suppressed[:, 4] > lowest[1]])
    )


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """What a tracker answered.

    Attributes:
        tracks: Of each frame, boxes (T, 4), x1 y1 x2 y2 in pixels, cut at the border of the image as in the host's
            results, and identities (T,).
        milliseconds: Time of each `update`.
    """

    tracks: list[tuple[NDArray[Any], IntArray]]
    milliseconds: list[float]


def run_in_turn(
    contenders: Sequence[Contender],
    pools: Mapping[str, Sequence[Frame]],
    images: Sequence[NDArray[np.uint8]],
    frame_rate: float,
) -> list[Tracked]:
    """Run all `contenders` side by side over the sequence, and time every `update`.

    All of them see a frame before any of them sees the next, each time another one first, so that load from other
    processes hits all alike.
    """
    trackers = [contender.build(frame_rate) for contender in contenders]
    answers = [Tracked(tracks=[], milliseconds=[]) for _ in contenders]
    for number, image in enumerate(images):
        height, width = image.shape[:2]
        for turn in range(len(contenders)):
            i = (turn + number) % len(contenders)
            given, keywords = contenders[i].arguments(pools[contenders[i].pool][number], image)
            start = time.perf_counter()
            rows = trackers[i].update(*given, **keywords)
            answers[i].milliseconds.append((time.perf_counter() - start) * 1e3)
            rows = np.asarray(rows, np.float64).reshape(-1, 8)
            answers[i].tracks.append((rows[:, :4].clip(0, (width, height, width, height)), rows[:, 4].astype(np.int64)))
    return answers
