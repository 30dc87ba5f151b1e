"""Order of frames, pairs of frames, and the loader that gives them."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ultralytics.cfg import get_cfg
from ultralytics.data.build import build_dataloader

from yolo_multitask.data.config import load_data
from yolo_multitask.data.dataset import MultiTaskDataset, build_multitask_dataset
from yolo_multitask.data.loader import build_train_dataloader
from yolo_multitask.data.sequences import PairSampler, frames_by_folder, relative_displacement
from yolo_multitask.data.synthetic import WorldConfig, write_dataset

SIZE = 64


def test_frames_are_in_natural_order_within_their_folder() -> None:
    files = ["b/10.jpg", "a/2.jpg", "b/9.jpg", "a/x10y2.jpg", "a/x10y1.jpg", "a/x9.jpg", "b/009.jpg", "b/f.jpg"]
    found = {folder: [files[i] for i in frames] for folder, frames in frames_by_folder(files).items()}
    assert found == {
        "a": ["a/2.jpg", "a/x9.jpg", "a/x10y1.jpg", "a/x10y2.jpg"],
        "b": ["b/009.jpg", "b/9.jpg", "b/10.jpg", "b/f.jpg"],
    }


def test_relative_displacement_leads_to_the_next_box() -> None:
    rng = np.random.default_rng(0)
    now, then = rng.uniform(0.1, 0.5, (2, 7, 4)).astype(np.float32)
    motion = relative_displacement(now, then)
    assert motion.dtype == np.float32
    np.testing.assert_allclose(now[:, :2] + motion[:, :2] * now[:, 2:], then[:, :2], rtol=1e-5)
    np.testing.assert_allclose(now[:, 2:] * np.exp(motion[:, 2:]), then[:, 2:], rtol=1e-5)
    assert relative_displacement(now[:0], then[:0]).shape == (0, 4)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[list[int]], int]:
    """Return sequences of indices and the number of images; some are in no sequence, none in two."""
    lengths = draw(st.lists(st.integers(1, 12), max_size=5))
    n = sum(lengths) + draw(st.integers(0, 9))
    order = draw(st.permutations(range(max(n, 1))))
    ends = np.cumsum([0, *lengths])
    return [list(order[a:b]) for a, b in pairwise(ends)], max(n, 1)


def pairs_of(sampler: PairSampler) -> list[tuple[int, int]]:
    """Return the next epoch of a sampler as pairs."""
    found = list(sampler)
    assert len(found) == len(sampler)
    return list(zip(found[::2], found[1::2], strict=True))


@given(worlds(), st.integers(1, 5), st.integers(0, 99))
def test_partners_are_near_frames_or_the_image_itself(
    world: tuple[list[list[int]], int], max_gap: int, seed: int
) -> None:
    sequences, n = world
    place = {i: (s, k) for s, frames in enumerate(sequences) for k, i in enumerate(frames) if len(frames) > 1}
    sampler = PairSampler(sequences, n, max_gap=max_gap, seed=seed)
    assert len(sampler) == n + n % 2
    for _ in range(3):
        for i, j in pairs_of(sampler):
            if i not in place:
                assert i == j
                continue
            assert place[i][0] == place[j][0]
            assert 1 <= abs(place[i][1] - place[j][1]) <= max_gap


@given(worlds(), st.integers(1, 5), st.integers(0, 99))
def test_an_epoch_takes_every_frame_once(world: tuple[list[list[int]], int], max_gap: int, seed: int) -> None:
    sequences, n = world
    sampler = PairSampler(sequences, n, max_gap=max_gap, seed=seed)
    for _ in range(2):
        used = Counter(i for pair in pairs_of(sampler) for i in pair)
        for frames in (s for s in sequences if len(s) > 1):
            counts = sorted(used[i] for i in frames)
            whole = [1] * (len(frames) - len(frames) % 2)
            assert counts in ([[*whole]] if len(frames) % 2 == 0 else [[0, *whole], [*whole, 2]])


@given(worlds(), st.integers(0, 99))
def test_two_epochs_take_every_still_image(world: tuple[list[list[int]], int], seed: int) -> None:
    sequences, n = world
    sampler = PairSampler(sequences, n, max_gap=3, seed=seed)
    stills = set(range(n)) - {i for s in sequences if len(s) > 1 for i in s}
    first, second = ([i for i, j in pairs_of(sampler) if i == j] for _ in range(2))
    assert len(first) == len(set(first))
    assert len(stills - set(first) - set(second)) <= len(stills) % 2
    assert abs(len(first) - len(stills) / 2) <= 0.5


def test_every_image_is_used_equally_often() -> None:
    sampler = PairSampler([[*range(40)], [*range(40, 65)]], 80, max_gap=4, seed=0)
    used = Counter(i for _ in range(400) for i in sampler)
    counts = np.array([used[i] for i in range(80)]) / 400
    assert counts.mean() == 1
    assert abs(counts[:40] - 1).max() == 0
    assert abs(counts[40:65] - 1).max() < 0.1  # of an odd number: one is left out or used twice
    assert abs(counts[65:] - 1).max() < 0.1


def test_a_share_of_the_pairs_are_views() -> None:
    """Of 40 frames in two sequences and 40 stills a quarter is in pairs of views, the rest in any order."""
    sequences = [[*range(20)], [*range(20, 40)]]
    whole, sampler = (PairSampler(sequences, 80, max_gap=4, seed=0, share=share) for share in (1.0, 0.25))
    assert len(sampler) == len(whole) == 80
    used: Counter[int] = Counter()
    views = 0
    for _ in range(200):
        pairs = pairs_of(sampler)
        used.update(i for pair in pairs for i in pair)
        near = [(i, j) for i, j in pairs if i == j or (i < 40 and i // 20 == j // 20 and abs(i - j) <= 4)]
        assert len(near) >= 10
        views += len(near)
    assert 10 <= views / 200 < 14, "others are views by chance"
    counts = np.array([used[i] for i in range(80)]) / 200
    assert counts.mean() == 1
    assert abs(counts - 1).max() < 0.2
    assert not set(pairs_of(PairSampler(sequences, 80, max_gap=4, seed=0, share=0))) & set(pairs_of(whole))


def test_all_distances_up_to_the_gap_occur() -> None:
    sampler = PairSampler([[*range(30)]], 30, max_gap=4, seed=0)
    gaps = Counter(abs(i - j) for _ in range(20) for i, j in pairs_of(sampler))
    assert set(gaps) == {1, 2, 3, 4}
    assert min(gaps.values()) > 30


@given(worlds(), st.integers(0, 99), st.integers(0, 9))
def test_order_depends_on_seed_and_epoch_alone(world: tuple[list[list[int]], int], seed: int, epoch: int) -> None:
    sequences, n = world
    one, two = (PairSampler(sequences, n, max_gap=2, seed=seed) for _ in range(2))
    one.set_epoch(epoch)
    for _ in range(epoch):
        list(two)
    assert list(one) == list(two)
    assert one.epoch == two.epoch == epoch + 1


def test_epochs_and_seeds_differ() -> None:
    sampler = PairSampler([[*range(30)]], 50, max_gap=4, seed=0)
    orders = [list(sampler), list(sampler), list(PairSampler([[*range(30)]], 50, max_gap=4, seed=1))]
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_an_epoch_that_was_started_ahead_is_not_repeated() -> None:
    sampler = PairSampler([], 50, max_gap=1, seed=0)
    seen = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        seen += [list(sampler)] if epoch else [list(sampler), list(sampler)]  # workers fetch ahead
    assert len({tuple(order) for order in seen}) == 4


@given(worlds(), st.integers(1, 4))
def test_processes_share_an_epoch(world: tuple[list[list[int]], int], replicas: int) -> None:
    sequences, n = world

    def sampler(rank: int) -> PairSampler:
        return PairSampler(sequences, n, max_gap=2, seed=5, num_replicas=replicas, rank=rank)

    shards = [pairs_of(sampler(rank)) for rank in range(replicas)]
    assert len({len(shard) for shard in shards}) == 1
    whole = pairs_of(PairSampler(sequences, n, max_gap=2, seed=5))
    extra = sum(map(len, shards)) - len(whole)
    assert 0 <= extra < replicas
    together = Counter(pair for shard in shards for pair in shard)
    assert set(together) == set(whole)
    if not extra:
        assert together == Counter(whole)


@pytest.mark.parametrize(
    "wrong",
    [{"n": 0}, {"max_gap": 0}, {"seed": -1}, {"rank": 2}, {"rank": -1}, {"num_replicas": 0}, {"share": 1.5}],
)
def test_bad_arguments(wrong: dict[str, Any]) -> None:
    good: dict[str, Any] = {"n": 4, "max_gap": 1, "seed": 0, "num_replicas": 2, "rank": 0}
    with pytest.raises(ValueError, match="PairSampler: expected"):
        PairSampler([], **{**good, **wrong})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write two sequences of five frames of 96 x 64 pixels; return the data YAML."""
    return write_dataset(
        tmp_path_factory.mktemp("world") / "world",
        train_sequences=2,
        val_sequences=1,
        frames_per_sequence=5,
        config=WorldConfig(width=96, height=64),
    )


def build(world: Path, **hyp: Any) -> MultiTaskDataset:
    """Build the training data set."""
    data = load_data(world)
    args = get_cfg(overrides={"imgsz": SIZE, "mosaic": 0.0, **hyp})
    return build_multitask_dataset(args, data["train"], 4, data)


def places(dataset: MultiTaskDataset, batch: dict[str, Any]) -> list[tuple[str, int]]:
    """Return sequence and frame number of every image of a batch."""
    return [(Path(f).parent.name, int(Path(f).stem)) for f in batch["im_file"]]


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_gives_pairs_in_every_epoch(world: Path, workers: int) -> None:
    dataset = build(world, fliplr=0.5)
    loader = build_train_dataloader(dataset, 4, workers, -1, seed=3, max_gap=2, device="cpu")
    assert len(loader) == 3
    assert len(loader.sampler) == 10
    assert loader.num_workers == workers
    orders = []
    for _ in range(3):
        batches = list(loader)
        assert [len(b["im_file"]) for b in batches] == [4, 4, 2]
        found = [place for batch in batches for place in places(dataset, batch)]
        for (a, i), (b, j) in zip(found[::2], found[1::2], strict=True):
            assert a == b
            assert 1 <= abs(i - j) <= 2
        orders.append(found)
    assert orders[0] != orders[1] != orders[2]
    shared = [
        set(b["ids"][b["batch_idx"] == 0].tolist()) & set(b["ids"][b["batch_idx"] == 1].tolist()) for b in batches
    ]
    assert any(shared)
    assert any((~b["motion"].isnan()).any() for b in batches)
    loader.reset()
    assert len(list(loader)) == 3
    loader.close()


def test_loader_is_the_hosts_but_for_the_order(world: Path) -> None:
    dataset = build(world)
    ours = build_train_dataloader(dataset, 4, 2, -1, seed=0, max_gap=2, device="cpu")
    host = build_dataloader(dataset, 4, 2, shuffle=True, rank=-1, device="cpu")
    assert type(ours) is type(host)
    for name in ("num_workers", "prefetch_factor", "pin_memory", "collate_fn", "worker_init_fn", "drop_last"):
        assert getattr(ours, name) == getattr(host, name), name
    assert ours.generator.initial_seed() == host.generator.initial_seed()
    assert ours.batch_size == host.batch_size == 4


def test_loader_of_a_process_group_takes_its_share(world: Path) -> None:
    dataset = build(world)
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        loader = build_train_dataloader(dataset, 4, 0, 0, seed=0, max_gap=2, device="cpu")
    finally:
        torch.distributed.destroy_process_group()
    assert isinstance(loader.sampler, PairSampler)
    assert (loader.sampler.num_replicas, loader.sampler.rank) == (1, 0)
    assert len(loader) == 3


def test_two_views_of_a_still_image_differ(world: Path) -> None:
    dataset = build(world)
    dataset.identities = []  # no sequences
    batch = next(iter(build_train_dataloader(dataset, 4, 0, -1, seed=0, max_gap=2, device="cpu")))
    assert batch["im_file"][0] == batch["im_file"][1] != batch["im_file"][2] == batch["im_file"][3]
    assert not torch.equal(batch["img"][0], batch["img"][1])
    first, second = (set(batch["instance"][batch["batch_idx"] == i].tolist()) for i in range(2))
    assert first & second


@pytest.mark.parametrize(("batch", "text"), [(3, "not every pair"), (1, "no pair"), (4, None)])
def test_an_odd_batch_warns(world: Path, caplog: pytest.LogCaptureFixture, batch: int, text: str | None) -> None:
    dataset = build(world)
    caplog.clear()
    loader = build_train_dataloader(dataset, batch, 0, -1, seed=0, max_gap=2, device="cpu")
    assert sum(len(b["im_file"]) for b in loader) == 10
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert [text in w for w in warnings] == ([True] if text else [])


def test_drop_last_keeps_full_batches(world: Path) -> None:
    dataset = build(world)

    def sizes(batch: int) -> list[int]:
        loader = build_train_dataloader(dataset, batch, 0, -1, seed=0, max_gap=2, drop_last=True, device="cpu")
        return [len(b["im_file"]) for b in loader]

    assert sizes(4) == [4, 4]
    assert sizes(100) == [10]


def test_rect_batches_of_several_shapes_are_refused(world: Path) -> None:
    dataset = build(world, rect=True)
    assert len(build_train_dataloader(dataset, 4, 0, -1, seed=0, max_gap=2, device="cpu")) == 3
    dataset.batch_shapes = dataset.batch_shapes.copy()
    dataset.batch_shapes[0] += 32
    with pytest.raises(ValueError, match="set rect=False"):
        build_train_dataloader(dataset, 4, 0, -1, seed=0, max_gap=2, device="cpu")
