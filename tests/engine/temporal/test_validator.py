"""Validation of a perfect network, and of one that errs in a known way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from support.oracle import SIZE, fly, frame, oracle, write_images

BASE: dict[str, Any] = {"imgsz": 96, "device": "cpu", "workers": 0, "plots": False, "verbose": False, "batch": 4}
N = 11


def write_clips(root: Path, hidden: set[int] = frozenset(), unlabelled: set[int] = frozenset(), clips: int = 1) -> Path:  # type: ignore[assignment]
    """Write clips with a dot and a block, labelled as lines; return the data YAML."""
    height, width = SIZE
    for clip in range(clips):
        dots = fly(N, (10, 20 + clip))
        frames = [frame([] if t in hidden else [dot], [(5 + 2 * t, 30)]) for t, dot in enumerate(dots)]
        write_images(root / "images" / f"clip{clip}", frames)
        labels = root / "labels" / f"clip{clip}"
        labels.mkdir(parents=True)
        for t, (x, y) in enumerate(dots):
            if t in unlabelled:
                continue
            left = 5 + 2 * t
            keypoints = f"{(left + 10) / width} {45 / height} 2 " * 17
            ball = "" if t in hidden else f"0 {(x + 0.5) / width} {(y + 0.5) / height} 0.03 0.03 -\n"
            player = f"1 {(left + 10) / width} {45 / height} {20 / width} {30 / height} {keypoints}\n"
            (labels / f"{t:06d}.txt").write_text(ball + player)
    content = {"path": str(root), "train": "images", "val": "images", "names": {0: "0", 1: "1"}, "objects": [0]}
    content |= {"kpt_shape": [17, 3], "labels": {"keypoints": True, "polygons": False}}
    (root / "data.yaml").write_text(yaml.safe_dump(content))
    return root / "data.yaml"


@pytest.mark.parametrize("stride", [None, 1, 2, 4])
def test_a_perfect_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stride: int | None) -> None:
    data = write_clips(tmp_path / "data", hidden={4, 5}, clips=2)
    metrics = oracle(monkeypatch, tmp_path).val(data=str(data), window_stride=stride, **BASE)
    counts = metrics.points.counts
    assert (counts.tp, counts.fp1, counts.fp2, counts.fn, counts.tn) == (18, 0, 0, 0, 4), "each frame counts once"
    assert metrics.points.error == pytest.approx(0, abs=0.02)
    assert (metrics.points.precision, metrics.points.recall, metrics.points.f1) == (1, 1, 1)
    assert metrics.box.map50 == metrics.pose.map50 == pytest.approx(0.995)
    assert metrics.fitness == pytest.approx((1 + metrics.pose.map) / 2)
    assert list(metrics.results_dict) == [*metrics.keys, "fitness"]
    assert metrics.results_dict["metrics/F1(T)"] == 1


def test_frames_without_labels_are_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = write_clips(tmp_path / "data", unlabelled={2, 3, 7})
    metrics = oracle(monkeypatch, tmp_path).val(data=str(data), **BASE)
    assert metrics.points.frames == N - 3
    assert (metrics.points.counts.tp, metrics.points.counts.fp2) == (N - 3, 0)
    assert metrics.box.map50 == pytest.approx(0.995), "nor is a player there a false positive"


def test_what_it_misses_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = oracle(monkeypatch, tmp_path, confidence=lambda group, number: 0.2)
    data = write_clips(tmp_path / "data")
    assert model.val(data=str(data), **BASE).points.counts.fn == N, "an object counts from a confidence of 0.25"
    assert model.val(data=str(data), conf=0.1, **BASE).points.f1 == 1, "or from the one that is asked for"


@pytest.mark.parametrize(("head", "keys"), [("TrackNet", "(T)"), ("Pose", "(B)(P)")])
def test_one_head(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, head: str, keys: str) -> None:
    model = oracle(monkeypatch, tmp_path, heads=(head,))
    model.model.names = {0: "0", 1: "1"}
    if head == "Pose":
        model.model.players = [1]
    metrics = model.val(data=str(write_clips(tmp_path / "data")), **BASE)
    assert {key[-3:] for key in metrics.keys} == {keys[i : i + 3] for i in range(0, len(keys), 3)}
    assert metrics.fitness == pytest.approx(1 if head == "TrackNet" else metrics.pose.map)


def test_the_same_classes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = oracle(monkeypatch, tmp_path)
    model.model.names = {0: "shuttle", 1: "person"}
    with pytest.raises(ValueError, match=r"knows the classes .*shuttle.*Validate on data with the same 'names'"):
        model.val(data=str(write_clips(tmp_path / "data")), **BASE)


@pytest.mark.parametrize("argument", ["save_json", "save_txt", "augment"])
def test_what_cannot_be_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, argument: str) -> None:
    with pytest.raises(ValueError, match=f"{argument}: not available"):
        oracle(monkeypatch, tmp_path).val(data=str(write_clips(tmp_path / "data")), **{argument: True}, **BASE)


def test_pictures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = write_clips(tmp_path / "data")
    settings = {**BASE, "plots": True, "project": str(tmp_path), "name": "val"}
    oracle(monkeypatch, tmp_path).val(data=str(data), **settings)
    made = {p.name for p in (tmp_path / "val").iterdir()}
    assert {"val_batch0_labels.jpg", "val_batch0_pred.jpg", "confusion_matrix.png"} <= made
