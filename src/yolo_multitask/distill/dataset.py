"""Views of pictures and their lessons as a training set, with labelled images beside them where there are any.

B views of a batch, A anchors of all levels, C classes of the student.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from yolo_multitask.distill.lessons import Lesson
from yolo_multitask.distill.views import view_of
from yolo_multitask.losses.lessons import MASKS, Targets
from yolo_multitask.runtime.frames import read_image


class LessonDataset(torch.utils.data.Dataset[dict[str, Any]]):
    """Views of pictures; each time a picture is asked for, another of its views.

    Attributes:
        im_files: The pictures.
        labels: None of them has any; the host counts them.
        labelled: A data set with real labels, of which an image goes with each view, or None.
    """

    rect = False
    labels: tuple[Any, ...] = ()

    def __init__(
        self, files: Sequence[Path], size: int, views: int, cache: Path, channels: int = 3, labelled: Any = None
    ) -> None:
        """Take the pictures, and where the lessons of their views are kept.

        Args:
            files: The pictures.
            size: Side of the network input in pixels.
            views: How many views there are of each.
            cache: Folder of the lessons.
            channels: Channels of a picture.
            labelled: See the class.
        """
        self.im_files = [str(file) for file in files]
        self.size, self.views, self.cache, self.channels, self.labelled = size, views, cache, channels, labelled

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.im_files)

    @property
    def known(self) -> int:
        """How many of the views have a lesson."""
        places = (lesson_file(self.cache, Path(f), i) for f in self.im_files for i in range(self.views))
        return sum(place.exists() for place in places)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return a view of a picture with its lesson, None where it is not in the cache, and a labelled image."""
        number = random.randrange(self.views)
        sample = self.view(index, number)
        if self.labelled is not None:
            sample["labelled"] = self.labelled[random.randrange(len(self.labelled))]
        return sample

    def view(self, index: int, number: int) -> dict[str, Any]:
        """Return a certain view of a picture, as `__getitem__` does."""
        file = Path(self.im_files[index])
        picture = read_image(file, self.channels)
        view = view_of(file, number, picture.shape[:2], self.size)
        place = lesson_file(self.cache, file, number)
        return {"img": planes(view.show(picture)), "lesson": Lesson.load(place), "lesson_file": place, "view": view,
                "im_file": str(file)}  # fmt: skip

    def close_mosaic(self, hyp: Any) -> None:
        """Stop the mosaics of the labelled images; the host calls this near the end."""
        if self.labelled is not None:
            self.labelled.close_mosaic(hyp)

    def collate_fn(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """Return a batch: `img` of views, then of labelled images; the rest of the latter as a batch of its own."""
        images = torch.stack([s["img"] for s in samples])
        batch: dict[str, Any] = {k: [s[k] for s in samples] for k in ("lesson", "lesson_file", "view", "im_file")}
        if self.labelled is not None:
            real = self.labelled.collate_fn([s["labelled"] for s in samples])
            images = torch.cat((images, real["img"]))
            batch["labelled"] = real
        return batch | {"img": images}


def planes(image: NDArray[np.uint8]) -> torch.Tensor:
    """Return an image (H, W, C), BGR if C is 3, as the host's data sets do: (C, H, W), RGB."""
    image = image[:, :, None] if image.ndim == 2 else image
    flipped = image[..., ::-1] if image.shape[2] == 3 else image
    return torch.from_numpy(np.ascontiguousarray(flipped.transpose(2, 0, 1)))


def lesson_file(cache: Path, picture: Path, number: int) -> Path:
    """Return the file of the lesson of a view; it changes with the picture's size and time."""
    stat = picture.stat()
    key = hashlib.sha256(f"{picture} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()[:16]
    return cache / key[:2] / f"{key}-{number}.npz"


def collect_targets(
    lessons: Sequence[Lesson],
    nc: int,
    known: Sequence[int],
    anchors: int,
    proto: tuple[int, int],
    device: torch.device,
) -> Targets:
    """Return the lessons of a batch as tensors.

    Args:
        lessons: Of each view.
        nc: Classes of the student, C.
        known: Those that a teacher knows.
        anchors: Number of anchors, A.
        proto: Height and width of the prototypes.
        device: Where the tensors are wanted.
    """
    scores = np.zeros((len(lessons), nc, anchors), np.float32)
    masks = []
    for i, lesson in enumerate(lessons):
        scores[i, lesson.entry_class, lesson.entry_anchor] = lesson.entry_score
        chosen, values = _masks(lesson, proto)
        masks.append((chosen + sum(len(x.anchors) for x in lessons[:i]), values))
    sizes = [len(lesson.anchors) for lesson in lessons]
    embedded = [lesson.has_embedding for lesson in lessons]
    vectors = [x.embeddings[e] for x, e in zip(lessons, embedded, strict=True) if e.any()]
    known_C = np.zeros(nc, bool)
    known_C[list(known)] = True

    def joined(parts: list[NDArray[Any]], dtype: Any = np.float32) -> torch.Tensor:
        return torch.from_numpy(np.concatenate(parts).astype(dtype)).to(device)

    return Targets(
        scores_BCA=torch.from_numpy(scores).to(device),
        known_C=torch.from_numpy(known_C).to(device),
        image_n=torch.from_numpy(np.repeat(np.arange(len(lessons)), sizes)).to(device),
        anchor_n=joined([lesson.anchors for lesson in lessons], np.int64),
        weight_n=joined([lesson.scores for lesson in lessons]),
        boxes_n4=joined([lesson.boxes for lesson in lessons]),
        bins_nR=joined([lesson.bins for lesson in lessons]),
        keypoints_nKD=joined([_owned(lesson.keypoints, lesson.owner) for lesson in lessons]),
        masks=[
            (torch.from_numpy(chosen).to(device), torch.from_numpy(values).to(device)) for chosen, values in masks
        ],
        instance_boxes_V4=joined([x.instance_boxes[e] for x, e in zip(lessons, embedded, strict=True)]),
        instance_image_V=torch.from_numpy(np.repeat(np.arange(len(lessons)), [e.sum() for e in embedded])).to(device),
        embeddings_VE=joined(vectors or [np.zeros((0, 1))]),
    )  # fmt: skip


def _owned(values: NDArray[np.float32], owner: NDArray[np.int16]) -> NDArray[np.float32]:
    """Return the values of the instance that each anchor stands for, NaN where it stands for none."""
    none = np.full((1, *values.shape[1:]), np.nan, np.float32)
    return np.concatenate((values, none))[owner]  # -1 is the last


def _masks(lesson: Lesson, size: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the most certain anchors that stand for an instance with a mask, and their masks."""
    has = np.append(lesson.has_mask, False)[lesson.owner]
    chosen = np.flatnonzero(has)
    chosen = chosen[np.argsort(-lesson.scores[chosen], kind="stable")[:MASKS]]
    return chosen, lesson.masks(size)[lesson.owner[chosen]]
