"""Sequences in validation: all frames are collected, then each sequence is tracked in order and measured."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch.distributed as dist
from numpy.typing import NDArray
from ultralytics.utils import RANK, TQDM
from ultralytics.utils.patches import imread

from yolo_multitask.data.columns import ID, IGNORE, NO_ID
from yolo_multitask.engine.frames import Frame
from yolo_multitask.engine.track import frame_rate
from yolo_multitask.engine.trackers import TrackerFactory
from yolo_multitask.metrics.tracking import SequenceAccumulator, TrackingResult


class Sequences:
    """The sequences of a data set and the tracker that runs over them.

    Attributes:
        dataset: The `MultiTaskDataset`.
        files: Images of each sequence in order, by its name; see `find_sequences`.
        frames: What was collected, by image.
        cues: Tasks whose output the tracker takes beyond boxes and embeddings.
    """

    def __init__(self, dataset: Any) -> None:
        """Find the sequences of a data set.

        Raises:
            ValueError: If a frame shows an identity twice.
        """
        self.dataset = dataset
        self.files = find_sequences(dataset)
        self.frames: dict[str, Frame] = {}
        self.cues: tuple[str, ...] = ()
        self._wanted = {file for files in self.files.values() for file in files}
        self._images = False
        self._factory: TrackerFactory | None = None
        check_identities(dataset, self._wanted)

    def __contains__(self, file: str) -> bool:
        """Return whether an image is of a sequence."""
        return file in self._wanted

    def prepare(
        self, tracker: str | Path, model: str | Path, device: Any, *, images: bool, keypoint_sigmas: Any = None
    ) -> None:
        """Forget all frames, and choose the tracker.

        Args:
            tracker: Name or file of its YAML.
            model: Name of the model, for messages.
            device: That of the model.
            images: Whether the tracker may see the images, if it wants to.
            keypoint_sigmas: Spread of each of the model's keypoints, None for the default.

        Raises:
            ValueError: If there is no such tracker, or it cannot track this model's boxes.
        """
        self.frames = {}
        self._factory = TrackerFactory(
            tracker, model=model, device=device, embedded=True, keypoint_sigmas=keypoint_sigmas
        )
        config = self._factory.config if self._factory.kind == "multicue" else None  # another may want all images
        self._images = images and (config is None or config.camera_motion)
        weights = {} if config is None else {"segment": config.mask_weight, "pose": config.keypoint_weight}
        self.cues = tuple(task for task, weight in weights.items() if weight > 0)

    def gather(self) -> None:
        """Collect the frames of all processes in the first one."""
        if RANK == -1:
            return
        parts: list[Any] | None = [None] * dist.get_world_size() if RANK == 0 else None
        dist.gather_object(self.frames, parts, dst=0)
        self.frames = {file: frame for part in parts or [] for file, frame in part.items()}

    def measure(self) -> dict[str, list[TrackingResult]]:
        """Track every sequence; return the figures of each, one for each class that has identities anywhere.

        The frames are forgotten.

        Raises:
            ValueError: If there is no object to be found.
        """
        classes = np.unique(np.concatenate([f.cls[f.ids != NO_ID] for f in self.frames.values()])).tolist()
        if not classes:
            raise ValueError(
                "expected labelled objects that have both an identity and what is compared, found none. Compare boxes "
                "with 'similarity=box', or switch 'track' off."
            )
        assert self._factory is not None
        results: dict[str, list[TrackingResult]] = {}
        tracker = None
        bar = TQDM(total=len(self._wanted), desc="Tracking", disable=not self._images)
        for name, files in self.files.items():
            accumulators = {cls: SequenceAccumulator() for cls in classes}
            tracker = self._factory.start(frame_rate(SimpleNamespace(mode="image"), 0, files[0]), tracker)
            for file in files:
                rows = self._track(tracker, file)
                for cls, accumulator in accumulators.items():
                    accumulator.update(*self.frames[file].compare(rows, cls))
                bar.update()
            results[name] = [accumulator.compute() for accumulator in accumulators.values()]
        bar.close()
        self.frames = {}
        return results

    def _track(self, tracker: Any, file: str) -> NDArray[np.float32]:
        """Return the tracks (T, 8) of the next frame of a tracker."""
        assert self._factory is not None
        image = read_image(file) if self._images else None
        result = self.frames[file].result(image)
        (given,) = self._factory.frame_inputs([result])
        return np.asarray(tracker.update(result.boxes, image, **given), np.float32)


def find_sequences(dataset: Any) -> dict[str, list[str]]:
    """Return the images of each sequence in order, by name.

    A sequence is a folder with labelled identities and two images or more. Its name is its path below the folder that
    holds them all, without an `img1` at the end.
    """
    marked = {label["im_file"] for label in dataset.labels if (label["cls"][:, ID] != NO_ID).any()}  # of kept classes
    found = [list(dict.fromkeys(dataset.im_files[i] for i in frames)) for frames in dataset.sequences]
    found = [files for files in found if len(files) > 1 and not marked.isdisjoint(files)]
    folders = [Path(files[0]).parent for files in found]
    if all(folder.name == "img1" for folder in folders):
        folders = [folder.parent for folder in folders]
    root = os.path.commonpath([folder.parent for folder in folders]) if folders else ""
    return {folder.relative_to(root).as_posix(): files for folder, files in zip(folders, found, strict=True)}


def check_identities(dataset: Any, files: set[str]) -> None:
    """Check that none of these frames shows an identity twice.

    Raises:
        ValueError: If one does.
    """
    for label in dataset.labels:
        columns = label["cls"]
        ids = columns[(columns[:, ID] != NO_ID) & (columns[:, IGNORE] == 0), ID]
        values, counts = np.unique(ids, return_counts=True)
        if label["im_file"] in files and (counts > 1).any():
            number = dataset.identities[int(values[counts > 1][0])][1]
            raise ValueError(
                f"{label['im_file']}: expected every identity at most once in a frame, found #{number} more often. "
                "Correct its label file, or validate with 'track=False'."
            )


def read_image(file: str) -> NDArray[np.uint8]:
    """Return an image (H, W, 3) BGR.

    Raises:
        FileNotFoundError: If it is gone.
    """
    image: NDArray[np.uint8] | None = imread(file)
    if image is None:
        raise FileNotFoundError(f"{file}: expected the image that was validated, found none that can be read.")
    return image
