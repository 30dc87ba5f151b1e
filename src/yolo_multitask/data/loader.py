"""The order of training images, where it is not the host's: pairs of views for identities, several sources.

A unit is what stays together in a batch: an image, or a pair of views.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch.distributed as dist
from numpy.typing import NDArray
from ultralytics.data.build import InfiniteDataLoader, build_dataloader
from ultralytics.utils import LOGGER

from yolo_multitask.data.partial import strata
from yolo_multitask.data.sequences import EpochSampler, PairSampler

Unit = tuple[int, ...]


class BalancedSampler(EpochSampler):
    """Order the images of several sources so that each is spread evenly over an epoch.

    Then every batch has its share of each source, and of the images that are labelled for a task, as nearly as whole
    images allow. Each iteration is the next epoch, its order given by `seed` and epoch alone.

    Args:
        units: Returns the units of an epoch.
        stratum: Images with the same number are alike, int (n,).
        weight: How often an image is taken in an epoch on average, (n,).
        seed: Of the order.
        num_replicas: Number of processes that share an epoch.
        rank: Number of this process.
    """

    def __init__(
        self,
        units: Callable[[int], Sequence[Unit]],
        stratum: NDArray[np.int64],
        weight: NDArray[np.float64],
        *,
        seed: int,
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        self._units, self.stratum, self.weight, self.seed = units, stratum, weight, seed
        size = len(units(0)[0])
        super().__init__(max(round(float(weight.sum()) / size), 1), size, num_replicas, rank)

    def epoch_units(self, epoch: int) -> list[Unit]:
        """Return the units of an epoch for all processes in their order.

        Args:
            epoch: Number of the epoch.
        """
        rng = np.random.default_rng((self.seed, epoch))
        units = self._units(epoch)
        stratum = self.stratum[[unit[0] for unit in units]]
        weight = self.weight[[unit[0] for unit in units]]
        chosen: list[int] = []
        places: list[NDArray[np.float64]] = []
        for number in np.unique(stratum):
            members = np.flatnonzero(stratum == number)
            taken = _repeated(members, float(weight[members[0]]), rng)
            chosen += taken
            places.append((np.arange(len(taken)) + rng.random()) / max(len(taken), 1))
        if not chosen:
            chosen, places = [int(rng.integers(len(units)))], [np.zeros(1)]
        order = np.argsort(np.concatenate(places), kind="stable")
        return [units[chosen[k]] for k in order]


def _repeated(members: NDArray[np.int64], weight: float, rng: np.random.Generator) -> list[int]:
    """Return members in random order, each `weight` times on average: whole times, and a random part of them."""
    count = int(weight * len(members) + rng.random())  # a part of one is one in so many epochs
    rounds = [rng.permutation(members) for _ in range(-(-count // len(members)))]
    return [int(i) for members in rounds for i in members][:count]


def build_train_dataloader(
    dataset: Any,
    batch: int,
    workers: int,
    rank: int,
    seed: int,
    max_gap: int | None,
    share: float = 1.0,
    drop_last: bool = False,
    device: Any = "cuda",
) -> InfiniteDataLoader:
    """Build the host's training loader with another order of images, where the data or the tasks ask for one.

    Pairs of views follow each other to learn identities, and several sources are spread evenly.

    Args:
        dataset: A `MultiTaskDataset`.
        batch: Batch size of this process. Even, else some partners (with 1: all) are in different batches, with a
            warning.
        workers: Number of worker processes at most.
        rank: Process rank in distributed training, -1 for one process.
        seed: Of the order of images.
        max_gap: Largest distance of the two frames of a pair; None where no identities are learned.
        share: Share of the pairs that are views of the same objects.
        drop_last: Leave out the last batch where it is not full and not the only one.
        device: Device that the batches go to.

    Raises:
        ValueError: With ``rect=True`` the images of a batch are fixed by their shapes.
    """
    if dataset.rect and not (dataset.batch_shapes == dataset.batch_shapes[0]).all():
        why = "several sources decide" if max_gap is None else "identity training decides"
        raise ValueError(
            f"{dataset.prefix}{why} which images share a batch, but rect=True orders images of several shapes by "
            "shape; set rect=False"
        )
    if max_gap is not None and batch % 2:
        which = "no pair of views" if batch == 1 else "not every pair of views"
        LOGGER.warning(f"{dataset.prefix}batch={batch}: {which} is in one batch for identity training; use an even one")
    replicas, rank_in_all = (1, 0) if rank == -1 else (dist.get_world_size(), dist.get_rank())
    host = build_dataloader(dataset, batch, workers, shuffle=True, rank=rank, drop_last=drop_last, device=device)
    shared: dict[str, Any] = {"seed": seed, "num_replicas": replicas, "rank": rank_in_all}
    sampler: Any
    if dataset.sources:
        weight = np.array([dataset.sources[label["source"]].weight for label in dataset.labels])
        sampler = BalancedSampler(_units(dataset, max_gap, seed, share), strata(dataset.labels), weight, **shared)
    else:
        assert max_gap is not None
        sampler = PairSampler(dataset.sequences, len(dataset), max_gap=max_gap, share=share, **shared)
    batch = min(batch, len(sampler))
    extra = {"pin_memory_device": host.pin_memory_device} if host.pin_memory_device else {}  # deprecated in new torch
    return InfiniteDataLoader(
        dataset=dataset,
        batch_size=batch,
        sampler=sampler,
        num_workers=host.num_workers,
        prefetch_factor=host.prefetch_factor,
        pin_memory=host.pin_memory,
        collate_fn=host.collate_fn,
        worker_init_fn=host.worker_init_fn,
        generator=host.generator,
        drop_last=drop_last and len(sampler) > batch,
        **extra,
    )


def _units(dataset: Any, max_gap: int | None, seed: int, share: float) -> Callable[[int], list[Unit]]:
    """Return what gives the units of an epoch: images alone, or pairs of views, of each source by itself.

    Args:
        dataset: A `MultiTaskDataset` with sources.
        max_gap: As `build_train_dataloader`.
        seed: Of the choice of pairs.
        share: As `build_train_dataloader`.
    """
    if max_gap is None:
        alone: list[Unit] = [(i,) for i in range(len(dataset))]
        return lambda _: alone
    samplers = []
    source = np.array([label["source"] for label in dataset.labels])
    for number in np.unique(source):
        members = np.flatnonzero(source == number)
        place = {int(image): k for k, image in enumerate(members)}
        sequences = [[place[i] for i in frames if i in place] for frames in dataset.sequences]
        samplers.append(
            (members.tolist(), PairSampler(sequences, len(members), max_gap=max_gap, seed=seed, share=share))
        )
    return lambda epoch: [(own[i], own[j]) for own, pairs in samplers for i, j in pairs.epoch_units(epoch)]
