"""Tracking: the callbacks that give each result of a predictor its ids, in place of the host's.

The state of a run is a `Tracking` on its predictor, with one `SourceTracker` for each stream. Videos, folders and
arrays share one and pass through it in turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ultralytics.cfg import TASKS as HOST_TASKS
from ultralytics.data.utils import IMG_FORMATS
from ultralytics.utils import LOGGER

from yolo_multitask.data.mot import read_seqinfo
from yolo_multitask.engine.heads import find_network
from yolo_multitask.engine.mot import MotFile
from yolo_multitask.engine.results import TrackedResults
from yolo_multitask.engine.trackers import TrackerFactory
from yolo_multitask.tasks import TASK

TRACKABLE = (TASK, "detect", "segment", "pose", "obb")  # tasks whose results have boxes
FRAME_RATE = 30.0  # of sources that do not say
TRAIL_SECONDS = 1.5


def register(model: Any, *, persist: bool, save_mot: bool) -> None:
    """Let a `YOLO` object track with our callbacks; those of an earlier call are replaced.

    Args:
        model: The object.
        persist: Whether trackers keep their objects from call to call, and from one source to the next.
        save_mot: Whether to write a `MotFile` for each sequence into the folder of the run.
    """
    for event, function in (("on_predict_start", _start), ("on_predict_postprocess_end", _update)):
        callbacks = model.callbacks[event]
        callbacks[:] = [c for c in callbacks if getattr(c, "func", None) is not function]
        callbacks.append(partial(function, persist=persist, save_mot=save_mot))


@contextmanager
def closing_files(model: Any) -> Iterator[None]:
    """Complete the files of a run when the `with` is left, also where its user stops it.

    After an error, the file of the sequence that was not finished is removed.
    """
    keep = False
    try:
        yield
        keep = True
    except (GeneratorExit, KeyboardInterrupt):
        keep = True
        raise
    finally:
        tracking = getattr(model.predictor, "tracking", None)
        if tracking is not None:
            tracking.close(keep)


def _start(predictor: Any, persist: bool, save_mot: bool) -> None:
    """Make the trackers of a run, or keep those of the last one; another `tracker` than before starts anew."""
    if predictor.args.mode != "track":
        return
    task = predictor.args.task
    if task in HOST_TASKS and task not in TRACKABLE:
        raise ValueError(
            f"expected a model whose task has boxes to track ({', '.join(TRACKABLE)}), found one for '{task}'."
        )
    last = getattr(predictor, "tracking", None)
    if not persist or last is None or last.name != predictor.args.tracker:
        predictor.tracking = getattr(predictor, "tracking_class", Tracking)(predictor)
    if hasattr(predictor, "keep_clips"):
        predictor.keep_clips(persist)
    predictor.tracking.verbose = predictor.args.verbose
    predictor.tracking.prepare(predictor.dataset.bs if predictor.dataset.mode == "stream" else 1)


def _update(predictor: Any, persist: bool, save_mot: bool) -> None:
    """Put the tracked results in the place of the detected ones."""
    if predictor.args.mode == "track":
        predictor.results = predictor.tracking.update(predictor, persist, save_mot)
        predictor.trackers = [source.tracker for source in predictor.tracking.sources]  # where the host has them


class Tracking:
    """The trackers of a predictor.

    Attributes:
        name: What the argument `tracker` named.
        sources: One for each stream, one alone for everything else.
        factory: Makes the trackers.
        verbose: Whether to log where files are saved.
    """

    verbose = False

    def __init__(self, predictor: Any) -> None:
        """Read the tracker that the predictor's arguments name.

        Raises:
            ValueError: As `TrackerFactory`.
        """
        layout = getattr(predictor, "layout", None)
        self.name = predictor.args.tracker
        self.factory = TrackerFactory(
            self.name,
            model=predictor.args.model,
            device=predictor.device,
            embedded=layout is not None and layout.ne > 0,
            keypoint_sigmas=getattr(find_network(predictor.model), "kpt_oks_sigmas", None),
        )
        self.factory.attach(predictor)
        self._files: set[Path] = set()
        self.sources: list[SourceTracker] = []

    def prepare(self, count: int) -> None:
        """Be ready for `count` sources at once; those that are there keep their state."""
        self.sources += [SourceTracker(self.factory) for _ in range(count - len(self.sources))]

    def update(self, predictor: Any, persist: bool, save_mot: bool) -> list[TrackedResults]:
        """Return the tracked results of a batch, whose images follow each other unless they are of several streams."""
        dataset = predictor.dataset
        stride = 1 if dataset.mode == "image" else predictor.args.vid_stride
        tracked = []
        inputs = self.factory.frame_inputs(predictor.results, predictor)
        for i, (result, given) in enumerate(zip(predictor.results, inputs, strict=True)):
            source = self.sources[i if dataset.mode == "stream" else 0]
            key = source_key(result.path, dataset.mode)
            if key != source.key:
                source.enter(key, frame_rate(dataset, i, result.path) / stride, persist)
            tracked.append(source.update(result, given))
            if save_mot:
                frame = source.frame * stride  # in the numbering of the source
                self.mot_file(source, result.path, Path(predictor.save_dir)).add(frame, tracked[-1])
        return tracked

    def mot_file(self, source: SourceTracker, path: str, folder: Path) -> MotFile:
        """Return the file of a source; sources of the same name get -2, -3 and so on."""
        if source.file is None or source.file.path.parent != folder:
            name = source_name(path, source.key)
            file, k = folder / f"{name}.txt", 1
            while file in self._files:
                k += 1
                file = folder / f"{name}-{k}.txt"
            self._files.add(file)
            source.leave()
            source.file = MotFile(file)
        return source.file

    def close(self, keep: bool) -> None:
        """Complete the files, or remove those that are not finished."""
        for source in self.sources:
            source.leave(keep)
        if self.verbose and keep and self._files:
            folder = next(iter(self._files)).parent
            LOGGER.info(f"{len(self._files)} MOTChallenge file{'s' * (len(self._files) > 1)} saved to {folder}")


class SourceTracker:
    """The tracker of one source at a time, and where its objects have been.

    Attributes:
        tracker: Gives the ids; None before the first frame.
        key: What is tracked, see `source_key`; None before the first frame.
        frame: Number of the last frame that was tracked, from 1.
        file: Where the tracks are written, or None.
    """

    def __init__(self, factory: TrackerFactory) -> None:
        """Start without a source; the first frame says what it is."""
        self._factory = factory
        self._frame_rate = FRAME_RATE
        self._trails: dict[int, deque[tuple[int, float, float]]] = {}  # frame, x, y by id
        self.tracker: Any = None
        self.key: str | None = None
        self.frame = 0
        self.file: MotFile | None = None

    def enter(self, key: str, frame_rate: float, keep: bool) -> None:
        """Go to another source.

        Args:
            key: What it is.
            frame_rate: Its frames per second, as they are tracked.
            keep: Whether the tracker goes on with its objects.
        """
        self.leave()
        self.key, self.frame, self.file, self._trails = key, 0, None, {}
        self._frame_rate = frame_rate
        if self.tracker is None or not keep:
            self.tracker = self._factory.start(frame_rate, self.tracker)

    def leave(self, keep: bool = True) -> None:
        """Complete the file, or remove it where it is not finished."""
        if self.file is not None:
            self.file.close(keep)

    def update(self, result: Any, given: dict[str, Any]) -> TrackedResults:
        """Return the tracked objects of the next frame, index-aligned; their boxes are the tracker's.

        Args:
            result: What was detected.
            given: What the tracker takes beyond the boxes and the image.
        """
        self.frame += 1
        found = result.boxes if result.obb is None else result.obb
        rows = self.tracker.update(found.cpu().numpy(), np.ascontiguousarray(result.orig_img), **given)
        columns = found.data.shape[1] + 1  # with an id, also where there are no tracks
        boxes = torch.as_tensor(rows[:, :-1], dtype=torch.float32, device=found.data.device).reshape(-1, columns)
        tracked = TrackedResults.of(result[rows[:, -1].astype(int)])
        tracked.update(**{"boxes" if result.obb is None else "obb": boxes})
        tracked.update(trails=torch.as_tensor(self._follow(tracked), device=boxes.device))
        return tracked

    def _follow(self, tracked: TrackedResults) -> NDArray[np.float32]:
        """Remember where the objects are, and return their trails (N, T, 2), see `Trails`.

        The point is where an object stands, the middle of the lower edge of its box; of an oriented box the centre.
        """
        boxes = (tracked.boxes if tracked.obb is None else tracked.obb).cpu().numpy()
        corners = boxes.xyxy
        points = np.stack(((corners[:, 0] + corners[:, 2]) / 2, corners[:, 3]), 1)
        if tracked.obb is not None:
            points = boxes.xywhr[:, :2]
        ids = boxes.id.astype(int).tolist()
        for i, (x, y) in zip(ids, points.tolist(), strict=True):
            self._trails.setdefault(i, deque()).append((self.frame, x, y))
        oldest = self.frame - ceil(TRAIL_SECONDS * self._frame_rate)
        for trail in self._trails.values():
            while trail and trail[0][0] <= oldest:
                trail.popleft()
        self._trails = {i: trail for i, trail in self._trails.items() if trail}
        length = max((len(self._trails[i]) for i in ids), default=0)
        out = np.full((len(ids), length, 2), np.nan, np.float32)
        for row, i in zip(out, ids, strict=True):
            row[length - len(self._trails[i]) :] = [point[1:] for point in self._trails[i]]
        return out


def source_key(path: str, mode: str) -> str:
    """Return what a frame belongs to: its folder for an image, else its video or stream.

    Args:
        path: Path of the result.
        mode: The host's mode of the source, `image`, `video` or `stream`.
    """
    return str(Path(path).parent) if mode != "stream" and _is_image(path) else path


def source_name(path: str, key: str | None) -> str:
    """Return the name of a sequence: of its video or stream, or of its folder (of a MOTChallenge one, not `img1`)."""
    folder = Path(path).parent
    if key != str(folder) or not folder.name:
        return Path(path).stem
    return folder.parent.name if folder.name == "img1" else folder.name


def frame_rate(dataset: Any, i: int, path: str) -> float:
    """Return the frames per second of a source, 30 where it does not say.

    Args:
        dataset: The host's loader.
        i: Index of the image in its batch.
        path: Path of the result. Among images `seqinfo.ini` may say it, or beside their folder if that is called
            `img1`, as in MOTChallenge.
    """
    if dataset.mode == "image":
        info = Path(path).with_name("seqinfo.ini")
        if not info.is_file() and info.parent.name == "img1":
            info = info.parent.with_name("seqinfo.ini")
        rate = read_seqinfo(info).frame_rate if Path(path).is_file() and info.is_file() else None
    else:
        rate = dataset.fps[i] if isinstance(dataset.fps, list) else dataset.fps
    return rate if rate is not None and 0 < rate < 1000 else FRAME_RATE


def _is_image(path: str) -> bool:
    return Path(path).suffix[1:].lower() in IMG_FORMATS
