"""The embedding benchmark: its measures on vectors whose answer is known, and that it runs."""

from __future__ import annotations

from pathlib import Path

import embeddings
import numpy as np
import pytest
from embeddings import Sightings, auc, detected_sightings, rank_one, separation, true_sightings
from trackbench.frames import Frame
from trackbench.networks import HeadReader
from trackbench.sequence import TruthSequence


def sightings(vectors: list[list[float]], ids: list[int], frames: list[int]) -> Sightings:
    """Return sightings of people seen alone."""
    unit = np.array(vectors, np.float32)
    return Sightings(
        vectors=unit / np.linalg.norm(unit, axis=1, keepdims=True),
        ids=np.array(ids),
        frames=np.array(frames),
        alone=np.ones(len(ids), bool),
    )


def test_auc_is_that_of_all_pairs():
    rng = np.random.default_rng(0)
    same, other = rng.integers(0, 6, 40) / 5, rng.integers(0, 6, 30) / 5
    pairs = [(a > b) + (a == b) / 2 for a in same for b in other]
    assert auc(same, other) == pytest.approx(np.mean(pairs))
    assert np.isnan(auc(same, other[:0]))


def test_separation_by_time_apart():
    x, y = [1.0, 0.0], [0.0, 1.0]
    # alike at once, the other way round after three seconds; pairs of the same frame do not count
    seen = sightings([x, y, x, y, y, x], [1, 2, 1, 2, 1, 2], [0, 0, 1, 1, 31, 31])
    found = separation(seen, 10)
    assert found["near"] == 1
    assert found["far"] == 0
    assert found["all"] == auc(np.array([1, 1, 0, 0, 0, 0]), np.array([0, 0, 1, 1, 1, 1]))


def test_rank_one_counts_only_people_that_are_there():
    x, y = [1.0, 0.0], [0.0, 1.0]
    seen = sightings([x, y, [1, 1.1], x, y], [1, 2, 3, 1, 4], [0, 0, 0, 1, 1])
    assert rank_one(seen, seen, 1) == (1, 1)
    swapped = sightings([x, y, y, x], [1, 2, 1, 2], [0, 0, 2, 2])
    assert rank_one(swapped, swapped, 2) == (0, 2)
    share, queries = rank_one(swapped, swapped, 1)
    assert np.isnan(share)
    assert queries == 0


def test_sightings_of_true_boxes_and_of_detections():
    boxes = np.array([[0, 0, 20, 40], [8, 0, 28, 40], [60, 0, 80, 40]], float)
    truth = TruthSequence(name="s", frame_rate=10, images=[Path("1.jpg")], ids=[np.array([5, 6, 7])], boxes=[boxes])
    found = np.array([[61, 0, 81, 40, 0.9, 0], [90, 50, 99, 60, 0.8, 0]], np.float32)
    frame = Frame(
        boxes=found,
        suppressed=np.zeros((0, 6), np.float32),
        features={"a": np.array([[0, 3.0], [1, 1]])},
        truth_features={"a": np.array([[2.0, 0], [0, 2], [3, 4]])},
    )
    true = true_sightings(truth, [frame], "a")
    assert true.ids.tolist() == [5, 6, 7]
    assert true.alone.tolist() == [False, False, True]  # the first two overlap by 12 of 28
    np.testing.assert_allclose(true.vectors, [[1, 0], [0, 1], [0.6, 0.8]], atol=1e-6)
    detected = detected_sightings(truth, [frame], "a")
    assert detected.ids.tolist() == [7]
    np.testing.assert_allclose(detected.vectors, [[0, 1]])


def test_measure_of_perfect_vectors():
    people, frames = [1, 2] * 60, [i // 2 for i in range(120)]
    perfect = sightings([[1, 0] if i == 1 else [0, 1] for i in people], people, frames)
    row = embeddings.measure(perfect, 10)
    for chosen in ("all", "alone"):
        assert row[chosen]["auc"] == {"all": 1, "near": 1, "far": 1}
        assert row[chosen]["rank1_1s"] == {"share": 1, "queries": 100}
        assert row[chosen]["rank1_5s"] == {"share": 1, "queries": 20}


def test_nearest_anchor_is_that_of_score_times_overlap():
    import torch

    class Head(torch.nn.Module):
        stride = torch.tensor([8.0, 16.0])

        def forward(self, maps: list[torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            # cx cy w h, then two classes: a loose box of a high score, a tight one, one of another class
            rows = [[14, 20, 20, 40, 0.9, 0], [10, 20, 20, 40, 0.8, 0], [10, 20, 20, 40, 0.1, 0.9]]
            return torch.tensor(rows).T[None], {}

    head = Head()
    reader = HeadReader(head)
    maps = [torch.zeros(1, 4, 8, 8), torch.zeros(1, 4, 4, 4)]
    head(maps)
    anchors, overlap = reader.nearest(np.array([[0, 0, 20, 40.0]]), 0, (64, 64))
    assert anchors.tolist() == [1]
    assert overlap.tolist() == pytest.approx([1])
    anchors, overlap = reader.nearest(np.array([[0, 0, 10, 20.0]]), 1, (32, 32))  # the image is half the input
    assert anchors.tolist() == [2]
    assert overlap.tolist() == pytest.approx([1])
    assert reader.maps[0] is maps[0]
