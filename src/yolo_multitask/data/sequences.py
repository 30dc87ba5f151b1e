"""Sequences: the frames of a folder in order, how objects move between them, and pairs of frames for identity training.

A frame is a stored image; two frames are one step apart where no image is stored between them, whatever the numbers in
their file names say: a tracker sees consecutive stored frames too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from yolo_multitask.data.columns import ID, IGNORE, MOTION, NO_ID


def frames_by_folder(im_files: Sequence[str]) -> dict[str, list[int]]:
    """Return the indices of the images of each folder in natural order of their names (``2.jpg`` before ``10.jpg``).

    Args:
        im_files: Paths of images, in any order.
    """
    folders: dict[str, list[int]] = {}
    for i in sorted(range(len(im_files)), key=lambda i: _natural(im_files[i])):
        folders.setdefault(str(Path(im_files[i]).parent), []).append(i)
    return folders


def relative_displacement(boxes: NDArray[np.float32], next_boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the displacement from boxes to boxes, float32 (N, 4): ``(dx / w, dy / h, log(w' / w), log(h' / h))``.

    Args:
        boxes: (N, 4) cx cy w h with positive sides.
        next_boxes: (N, 4) in the same frame and unit.
    """
    shift = (next_boxes[:, :2] - boxes[:, :2]) / boxes[:, 2:]
    return np.concatenate((shift, np.log(next_boxes[:, 2:] / boxes[:, 2:])), 1).astype(np.float32)


def fill_motion(labels: Sequence[Mapping[str, Any]], im_files: Sequence[str], folders: Collection[str]) -> None:
    """Set the columns ``MOTION`` of every object whose identity is in the next frame of its sequence too.

    They stay unknown where the next frame was left out of the data set, and where a frame shows an identity twice.

    Args:
        labels: ``dataset.labels`` with column ``ID`` set, changed in place.
        im_files: All images that were found, also those that were left out.
        folders: Those of the sequences.
    """
    framed = [file for file in im_files if str(Path(file).parent) in folders]
    following: dict[str, str] = {}
    for frames in frames_by_folder(framed).values():
        following.update(pairwise(dict.fromkeys(framed[i] for i in frames)))
    labels = [label for label in labels if str(Path(label["im_file"]).parent) in folders]
    seen = {label["im_file"]: (label["bboxes"], *_seen_once(label["cls"])) for label in labels}
    for label in labels:
        file = label["im_file"]
        if following.get(file) in seen:
            (boxes, ids, rows), (next_boxes, next_ids, next_rows) = seen[file], seen[following[file]]
            _, here, there = np.intersect1d(ids, next_ids, assume_unique=True, return_indices=True)
            rows, next_rows = rows[here], next_rows[there]
            label["cls"][rows, MOTION] = relative_displacement(boxes[rows], next_boxes[next_rows])


class EpochSampler(Sampler[int]):
    """Give an epoch unit by unit: what stays together in a batch, an image or a pair of views.

    Each iteration is the next epoch. It is padded to equal shares of the processes.

    Args:
        total: Number of units of an epoch for all processes.
        size: Number of images in a unit.
        num_replicas: Number of processes that share an epoch.
        rank: Number of this process.
    """

    def __init__(self, total: int, size: int, num_replicas: int, rank: int) -> None:
        self.epoch, self.size, self.num_replicas, self.rank = 0, size, num_replicas, rank
        self.count = math.ceil(total / num_replicas)  # units of this process

    def epoch_units(self, epoch: int) -> Sequence[tuple[int, ...]]:
        """Return the units of an epoch for all processes in their order.

        Args:
            epoch: Number of the epoch.
        """
        raise NotImplementedError

    def __len__(self) -> int:
        """Return the number of images in an epoch of this process."""
        return self.count * self.size

    def __iter__(self) -> Iterator[int]:
        """Start the next epoch."""
        units = self.epoch_units(self.epoch)
        self.epoch += 1
        padded = [units[i % len(units)] for i in range(self.count * self.num_replicas)]
        return (i for unit in padded[self.rank :: self.num_replicas] for i in unit)

    def set_epoch(self, epoch: int) -> None:
        """Go on with an epoch; one that a loader has started ahead is not started again.

        Worker processes fetch the first batches of the next epoch before the trainer announces it.
        """
        self.epoch = max(self.epoch, epoch)


class PairSampler(EpochSampler):
    """Order the images of a data set so that two views of the same objects follow each other: ``i0, j0, i1, j1, ...``.

    A frame's partner is another frame of its sequence, at most `max_gap` frames away; every frame is in one pair of an
    epoch. A still image (one of no sequence, or the only one of its sequence) is its own partner, of which augmentation
    makes two views. Half of them are in epoch 0, the others in epoch 1, and so on. Of the sequences with an odd number
    of frames, half leave a frame out and half take one twice. So an epoch is as long as the data set, rounded up to
    whole pairs and to equal shares of the processes, and takes an image once on average.

    With a `share` below 1 only so many pairs are views of the same objects. In the others any two images stand
    together, so that a batch shows more scenes.

    Each iteration is the next epoch, its order given by `seed` and epoch alone.

    Args:
        sequences: Indices of the frames of each sequence in order.
        n: Number of images in the data set; those in none of the sequences are still images.
        max_gap: Largest distance of partners in frames.
        seed: Of the order.
        share: Share of the pairs that are views of the same objects, 0..1.
        num_replicas: Number of processes that share an epoch.
        rank: Number of this process.

    Raises:
        ValueError: The data set is empty, or a number is out of range.
    """

    def __init__(
        self,
        sequences: Sequence[Sequence[int]],
        n: int,
        *,
        max_gap: int,
        seed: int,
        share: float = 1.0,
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        if n < 1 or max_gap < 1 or seed < 0 or not 0 <= share <= 1 or not 0 <= rank < num_replicas:
            raise ValueError(
                "PairSampler: expected at least 1 image, max_gap of 1 or more, seed of 0 or more, share in 0..1 and "
                f"rank below num_replicas, found {n=}, {max_gap=}, {seed=}, {share=}, {rank=}, {num_replicas=}"
            )
        self.sequences = [list(s) for s in sequences if len(s) > 1]
        framed = {i for s in self.sequences for i in s}
        self.stills = [i for i in range(n) if i not in framed]
        self.n, self.max_gap, self.seed, self.share = n, max_gap, seed, share
        super().__init__(math.ceil(n / 2), 2, num_replicas, rank)

    def epoch_units(self, epoch: int) -> list[tuple[int, int]]:
        """Return the pairs of an epoch for all processes, in random order.

        Args:
            epoch: Number of the epoch.
        """
        rng = np.random.default_rng((self.seed, epoch))
        groups = [*self.sequences, self.stills]
        odd = [g for g, group in enumerate(groups) if len(group) % 2]
        again = set(rng.permutation(odd)[: (len(odd) + 1) // 2].tolist())
        pairs = [pair for g, s in enumerate(self.sequences) for pair in self._match(s, g in again, rng)]
        # the same order for two epochs, taken from its two ends, so that no still is left out of both
        stills = np.random.default_rng((self.seed, epoch // 2)).permutation(self.stills).tolist()
        half = len(stills) // 2 + (len(self.sequences) in again)
        pairs += [(i, i) for i in (stills[::-1] if epoch % 2 else stills)[:half]]
        pairs = [pairs[k] for k in rng.permutation(len(pairs))]
        if self.share == 1:
            return pairs
        views = pairs[: round(self.share * len(pairs))]
        taken = {i for pair in views for i in pair}
        others = rng.permutation([i for i in range(self.n) if i not in taken] or range(self.n)).tolist()
        mixed = np.resize(others, 2 * (len(pairs) - len(views))).reshape(-1, 2).tolist()
        pairs = [*views, *((i, j) for i, j in mixed)]
        return [pairs[k] for k in rng.permutation(len(pairs))]

    def _match(self, frames: list[int], again: bool, rng: np.random.Generator) -> Iterator[tuple[int, int]]:
        """Yield pairs of a sequence; with an odd number of frames one is left, which `again` pairs with a near one."""
        n = len(frames)
        if n % 2 == 0:
            yield from self._match_all(frames, rng)
            return
        left = 2 * int(rng.integers(n // 2 + 1))  # an even number of frames on either side
        yield from self._match_all(frames[:left], rng)
        yield from self._match_all(frames[left + 1 :], rng)
        if again:
            near = [k for k in range(max(left - self.max_gap, 0), min(left + self.max_gap + 1, n)) if k != left]
            yield frames[left], frames[int(rng.choice(near))]

    def _match_all(self, frames: list[int], rng: np.random.Generator) -> Iterator[tuple[int, int]]:
        """Yield pairs of an even number of frames such that each is in one.

        The first free frame takes any free one within the gap. There always is one: of the `max_gap` frames behind it
        the last is out of reach of all frames before it, and near the end all that are left are within the gap.
        """
        free = list(range(len(frames)))
        while free:
            first, *rest = free
            reach = sum(k <= first + self.max_gap for k in rest[: self.max_gap])
            partner = rest[int(rng.integers(reach))]
            yield frames[first], frames[partner]
            rest.remove(partner)
            free = rest


def _natural(path: str) -> tuple[list[str | int], str]:
    """Return a sort key that orders the numbers in a path by value, and equal ones by spelling."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", path))], path


def _seen_once(cls: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the identities that exactly one object of a frame has, and its row."""
    rows = np.flatnonzero((cls[:, ID] != NO_ID) & (cls[:, IGNORE] == 0))
    ids, first, counts = np.unique(cls[rows, ID], return_index=True, return_counts=True)
    return ids[counts == 1], rows[first[counts == 1]]
