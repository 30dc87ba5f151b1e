"""Validation of tracks on sequences whose figures can be worked out by hand."""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from support import scene
from support.models import randomise, tiny_model
from support.tracks import FRAMES, NAMES, Pred, Truth, by_embedding, line, objects, with_row, write_sequences
from support.training import random_model, rows, train, write_model, write_world
from ultralytics.utils import LOGGER

from yolo_multitask.engine import sequences as sequences_module
from yolo_multitask.metrics.tracking import SequenceAccumulator, box_similarity
from yolo_multitask.tracking import MultiCueTracker

BASE: dict[str, Any] = {"imgsz": 64, "batch": 4, "plots": False, "verbose": False, "device": "cpu", "workers": 0}
TRACK_KEYS = [f"metrics/{name}(T)" for name in ("HOTA", "DetA", "AssA", "MOTA", "IDF1", "IDSW")]
BOXES = sum(2 * n for n in FRAMES.values())  # labelled ones of both sequences
KPT, POINTS = (2, 3), {4: (4.0, 6.0), 7: (36.0, 30.0)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sequences(tmp_path_factory.mktemp("sequences") / "data")


def network(tasks: tuple[str, ...] = ("track",)) -> Any:
    """Return a small network; what it finds is replaced."""
    model = tiny_model(nc=2, kpt_shape=KPT, tasks=tasks)
    randomise(model)
    model.names = dict(NAMES)
    return model.eval()


def validate(data: Path, save_dir: Path, change: Any = None, tasks: tuple[str, ...] = ("track",), **args: Any) -> Truth:
    """Validate what `Truth` finds."""
    validator = Truth(save_dir=save_dir, args={**BASE, "data": str(data), "model": "tiny", **args})
    if change is not None:
        validator.change = change
    validator.stats_found = validator(model=network(tasks))
    return validator


def test_all_found(data: Path, tmp_path: Path) -> None:
    """The default tracker follows two objects that are found in every frame of both sequences."""
    validator = validate(data, tmp_path)
    track = validator.metrics.track
    assert validator.tasks == ("detect", "track")
    assert list(track.per_sequence) == ["a", "b"]
    assert track.result.gt_dets == track.result.pred_dets == BOXES
    assert track.hota == pytest.approx(1, abs=1e-5)
    assert (track.mota, track.idf1, track.idsw, track.frag, track.fp, track.fn) == (1, 1, 0, 0, 0, 0)
    keys = [key for key in validator.metrics.keys if key.endswith("(T)")]
    assert keys == TRACK_KEYS
    assert [validator.stats_found[k] for k in keys] == [track.hota, track.deta, track.assa, 1, 1, 0]
    assert validator.stats_found["fitness"] == pytest.approx(validator.metrics.box.map)


def test_order_and_size_of_batches_do_not_matter(data: Path, tmp_path: Path) -> None:
    def lose_some(sequence: str, frame: int, pred: Pred) -> Pred:
        pred["bboxes"] = pred["bboxes"] + (pred["bboxes"][:, 2:3] - pred["bboxes"][:, :1]) * 0.11
        return {k: v[:1] for k, v in pred.items()} if frame in {3, 7} else pred

    first = validate(data, tmp_path / "first", lose_some).metrics.track
    assert first.fn == 4
    assert 0.5 < first.hota < 0.9
    for i, args in enumerate([{"rect": False}, {"batch": 1, "rect": True}, {"batch": 32, "rect": True, "imgsz": 96}]):
        second = validate(data, tmp_path / f"{i}", lose_some, **args).metrics.track
        for (name, one), (same, two) in zip(first.rows(), second.rows(), strict=True):
            assert name == same
            assert one == pytest.approx(two, abs=1e-5)


def test_identities_that_swap(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From frame 7 of 12 on, the two objects of one sequence have each other's id."""
    by_embedding(monkeypatch)

    def swap(sequence: str, frame: int, pred: Pred) -> Pred:
        if sequence == "a" and frame >= 6:
            pred["embeddings"] = pred["embeddings"].flip(0)
        return pred

    track = validate(data, tmp_path, swap).metrics.track
    assert (track.idsw, track.frag, track.fp, track.fn) == (2, 0, 0, 0)
    assert {name: result.idsw for name, result in track.per_sequence.items()} == {"a": 2, "b": 0}
    assert track.mota == pytest.approx(1 - 2 / BOXES)
    assert track.idf1 == pytest.approx((BOXES - 12) / BOXES), "half of sequence a has the wrong id"
    # each pair of a labelled and a tracked identity shares 6 of the 18 frames in which either occurs
    assert track.per_sequence["a"].mean("assa") == pytest.approx(1 / 3, abs=1e-5)
    assert track.assa == pytest.approx((24 / 3 + 18) / BOXES, abs=1e-5), "weighted by objects, as TrackEval combines"


def test_what_the_labels_cannot_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracks in ignore regions and on objects without an identity are no false positives, unless they match one."""
    by_embedding(monkeypatch)
    region, nameless, elsewhere = (0.0, 30, 12, 40), (30.0, 2, 42, 12), (14.0, 24, 20, 30)

    def write(sequence: str, frame: int, shape: tuple[int, int]) -> list[str]:
        x = min(frame, 5)
        own = [line(0, (2 + x, 4, 14 + x, 20), shape, "#4"), line(0, (1, 32, 11, 38), shape, "#9")]  # 9 in the region
        return [*own, line(0, nameless, shape), line(0, region, shape, "!")]

    data = write_sequences(tmp_path / "data", write)

    def add(sequence: str, frame: int, pred: Pred) -> Pred:
        if sequence == "still":
            return pred
        pred["embeddings"] = torch.eye(16)[:3]  # the third row is of the object without an identity
        padding = torch.tensor([0, 8, 0, 8] if sequence == "a" else [8, 0, 8, 0])  # around a picture of 64 x 48 pixels
        for i, box in enumerate([region, elsewhere]):
            pred = with_row(pred, bboxes=torch.tensor(box) + padding, embeddings=torch.eye(16)[5 + i])
        return pred

    track = validate(data, tmp_path / "out", add, rect=False).metrics.track
    frames = sum(FRAMES.values())
    assert (track.fp, track.fn, track.idsw) == (frames, 0, 0), "what is elsewhere is wrong in every frame"
    assert track.result.tp == 2 * frames, "an object in an ignore region is to be found"


def test_classes_are_apart_and_summed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A car that is called a person in one frame of each sequence is missed once, and one person too many."""
    by_embedding(monkeypatch)

    def write(_: str, frame: int, shape: tuple[int, int]) -> list[str]:
        boxes = objects(frame)
        return [line(0, boxes[4], shape, "#4"), line(1, boxes[7], shape, "#7")]

    def confuse(sequence: str, frame: int, pred: Pred) -> Pred:
        if frame == 4:
            pred["cls"] = torch.zeros_like(pred["cls"])
        return pred

    data = write_sequences(tmp_path / "data", write)
    track = validate(data, tmp_path / "out", confuse).metrics.track
    assert (track.fp, track.fn, track.idsw) == (2, 2, 0)
    assert track.mota == pytest.approx(1 - 4 / BOXES)
    assert {result.gt_ids for result in track.per_sequence.values()} == {2}
    only_cars = validate(data, tmp_path / "cars", confuse, classes=[1]).metrics.track
    assert (only_cars.fp, only_cars.fn) == (0, 2), "of persons nothing is said"
    single = validate(data, tmp_path / "single", confuse, single_cls=True).metrics.track
    assert (single.fp, single.fn) == (0, 0)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return sequences with masks that fill the boxes and two keypoints at their corners; a car without them."""

    def write(_: str, frame: int, shape: tuple[int, int]) -> list[str]:
        out, (h, w) = [], shape
        for i, box in objects(frame).items():
            x1, y1, x2, y2 = box
            corners = f"{x1 / w} {y1 / h} {x2 / w} {y1 / h} {x2 / w} {y2 / h} {x1 / w} {y2 / h}"
            points = f"{x1 / w} {y1 / h} 2 {x2 / w} {y2 / h} 2"
            out.append(line(0, box, shape, f"{corners} #{i}", points))
        return [*out, line(1, (46, 2, 47, 40), (48, 64), "- #3", "-")]

    keys = {"labels": {"ids": True, "keypoints": True, "polygons": True}, "kpt_shape": list(KPT)}
    return write_sequences(tmp_path_factory.mktemp("full") / "data", write, kpt_classes=["person"], **keys)


@pytest.mark.parametrize(("similarity", "task"), [("mask", "segment"), ("oks", "pose")])
def test_similarity_of_masks_and_keypoints(
    full: Path, tmp_path: Path, similarity: str, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_embedding(monkeypatch)
    args: dict[str, Any] = {"tasks": (task, "track"), "similarity": similarity}
    track = validate(full, tmp_path / "right", **args).metrics.track
    assert (track.fp, track.fn, track.result.gt_dets) == (0, 0, BOXES), "the car has neither"
    assert track.hota == pytest.approx(1, abs=1e-3)

    def spoil(sequence: str, frame: int, pred: Pred) -> Pred:
        pred |= {"masks": pred["masks"] * 0} if task == "segment" else {"keypoints": pred["keypoints"] + 300}
        return pred

    wrong = validate(full, tmp_path / "wrong", spoil, **args).metrics
    assert wrong.track.hota < 1e-6
    assert wrong.track.fn == BOXES
    assert wrong.box.map > 0.9
    by_box = validate(full, tmp_path / "box", spoil, tasks=(task, "track")).metrics.track
    assert by_box.hota == pytest.approx(1, abs=1e-3)


def test_similarity_needs_the_task(full: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"'similarity=mask' .* only validates detect, pose, track\. Use 'similarity=box"
    ):
        validate(full, tmp_path / "a", similarity="mask", tasks=("segment", "pose", "track"), segment=False)
    with pytest.raises(ValueError, match=r"'similarity=oks' compares tracks by what 'pose' predicts"):
        validate(data, tmp_path / "b", similarity="oks", tasks=("pose", "track"))


def test_cues_without_labels_are_computed_for_the_tracker_alone(data: Path, tmp_path: Path) -> None:
    """As `track` would use them; they are neither measured nor written, and a switch turns them off."""
    from yolo_multitask.engine.validator import MultiTaskValidator

    def run(folder: str, **args: Any) -> MultiTaskValidator:
        given = {**BASE, "data": str(data), "model": "tiny", "max_det": 5, "save_txt": True, "plots": True, **args}
        validator = MultiTaskValidator(save_dir=tmp_path / folder, args=given)
        kept = validator.keep_frame
        seen.clear()
        validator.keep_frame = lambda preds, targets: (seen.append(set(preds)), kept(preds, targets))
        validator(model=network(("segment", "pose", "track")))
        return validator

    seen: list[set[str]] = []
    validator = run("all")
    assert validator.tasks == ("detect", "track")
    assert validator.cues == ("segment", "pose")
    assert all({"masks", "keypoints", "embeddings", "next_boxes"} <= fields for fields in seen)
    assert {key[-3:] for key in validator.metrics.keys} == {"(B)", "(T)"}
    written = next((tmp_path / "all" / "labels").glob("*.txt")).read_text().splitlines()
    assert {len(text.split()) for text in written} == {5}, "class and box alone"
    assert run("off", segment=False, pose=False).cues == ()
    assert all(not {"masks", "keypoints"} & fields for fields in seen)


def test_table_file_and_plot(data: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    LOGGER.addHandler(handler)
    try:
        validator = validate(data, tmp_path, plots=True, verbose=True)
    finally:
        LOGGER.removeHandler(handler)
    table = [text.split() for text in lines]
    columns = ["HOTA", "DetA", "AssA", "LocA", "MOTA", "IDF1", "IDSW", "Frag", "FP", "FN"]
    start = table.index(["Sequence", *columns])
    assert [row[0] for row in table[start + 1 : start + 4]] == ["a", "b", "COMBINED"]
    assert table[start + 3][5:] == ["1", "1", "0", "0", "0", "0"]
    with open(tmp_path / "tracking.csv", newline="") as file:
        found = list(csv.DictReader(file))
    assert [row.pop("sequence") for row in found] == ["a", "b", "COMBINED"]
    expected = [summary for _, summary in validator.metrics.track.rows()]
    assert [{k: float(v) for k, v in row.items()} for row in found] == expected
    assert cv2.imread(str(tmp_path / "HOTA_curve.png")) is not None
    assert tmp_path / "HOTA_curve.png" in validator.plots


def test_no_sequences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    messages: list[str] = []
    monkeypatch.setattr("yolo_multitask.engine.track_validation.LOGGER.warning", messages.append)
    data = write_sequences(tmp_path / "data", frames={"a": 1, "b": 1})
    validator = validate(data, tmp_path / "out")
    assert validator.tasks == ("detect",)
    assert [m for m in messages if "'track' is not measured" in m and "split 'val'" in m]
    with pytest.raises(AttributeError, match=r"metrics\.track was not measured; this run measured: detect"):
        _ = validator.metrics.track
    assert not (tmp_path / "out" / "tracking.csv").exists()
    with pytest.raises(ValueError, match=r"'track=True' was asked for, but tracks are measured on sequences"):
        validate(data, tmp_path / "asked", track=True)
    no_ids = write_sequences(tmp_path / "no_ids", lambda *_: [], labels={"keypoints": False})
    with pytest.raises(ValueError, match=r"'track=True' was asked for .* hold only: detect\."):
        validate(no_ids, tmp_path / "asked_too", track=True)


def test_an_identity_twice_in_a_frame(tmp_path: Path) -> None:
    def write(_: str, frame: int, shape: tuple[int, int]) -> list[str]:
        return [
            line(0, objects(frame)[4], shape, "#4"),
            line(0, objects(frame)[7], shape, "#4" if frame == 2 else "#7"),
        ]

    with pytest.raises(ValueError, match=r"a.3\.png: expected every identity at most once in a frame, found #4"):
        validate(write_sequences(tmp_path / "data", write), tmp_path / "out")
    assert validate(tmp_path / "data" / "data.yaml", tmp_path / "off", track=False).tasks == ("detect",)


def test_nothing_found(data: Path, tmp_path: Path) -> None:
    track = validate(data, tmp_path, lambda s, f, pred: {k: v[:0] for k, v in pred.items()}).metrics.track
    assert (track.hota, track.mota, track.fn, track.fp, track.idsw) == (0, 0, BOXES, 0, 0)


def test_the_tracker_is_chosen_by_name(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(sequences_module, "imread", lambda file: (read.append(file), cv2.imread(file))[1])
    track = validate(data, tmp_path / "host", tracker="bytetrack.yaml").metrics.track
    assert track.fn < BOXES / 2
    assert read == sorted(read, key=lambda f: (Path(f).parent.name, int(Path(f).stem))), "frames come in their order"
    assert len(read) == sum(FRAMES.values())
    still = tmp_path / "still.yaml"
    still.write_text("tracker_type: multicue\ncamera_motion: false\n")
    read.clear()
    assert validate(data, tmp_path / "still", tracker=str(still)).metrics.track.idsw == 0
    assert read == [], "a tracker that does not look at the pictures does not get them"
    with pytest.raises(ValueError, match=r"tracker=multicu\.yaml: .* Did you mean multicue\.yaml\?"):
        validate(data, tmp_path / "wrong", tracker="multicu.yaml")


def test_frames_of_all_processes_are_gathered(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two processes, each has every other picture and the last one has the first picture again."""
    validator = validate(data, tmp_path)
    alone = validator.metrics.track.result.summary()
    sequences = validator.sequences
    kept: dict[str, Any] = {}
    monkeypatch.setattr(type(sequences), "measure", lambda self: kept.update(self.frames) or {})
    validate_again = Truth(save_dir=tmp_path, args={**BASE, "data": str(data), "model": "tiny"})
    validate_again(model=network())
    monkeypatch.undo()

    files = list(kept)
    shares = [{f: kept[f] for f in files[::2]}, {f: kept[f] for f in [*files[1::2], files[0]]}]

    def gather(given: Any, parts: list[Any] | None, dst: int) -> None:
        assert given is shares[0]
        assert parts is not None
        parts[:] = shares

    monkeypatch.setattr(sequences_module, "RANK", 0)
    monkeypatch.setattr(sequences_module.dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(sequences_module.dist, "gather_object", gather)
    sequences.prepare("multicue.yaml", "tiny", "cpu", images=True)
    sequences.frames = shares[0]
    sequences.gather()
    assert set(sequences.frames) == set(files)
    metrics = validator.metrics.track
    metrics.update(sequences.measure())
    assert metrics.result.summary() == pytest.approx(alone)


def test_the_tracker_sees_what_it_sees_in_track(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same detections give it the same cues in `val` and `track`, and so the same figures."""
    model = random_model(tmp_path, nc=1, kpt_shape=(5, 3), embed_dim=8, next=True)
    world = scene.Scene(monkeypatch, model.model.head.layout)
    world.batch_is_time = True
    images = scene.write_frames(tmp_path / "images" / "clip")
    labels = tmp_path / "labels" / "clip"
    labels.mkdir(parents=True)
    truth = [scene.boxes(frame) + 1.5 for frame in range(scene.FRAMES)]
    for file, boxes in zip(sorted(images.iterdir()), truth, strict=True):
        text = [line(0, tuple(box), (scene.SIZE, scene.SIZE), f"#{i}") for i, box in enumerate(boxes)]
        (labels / f"{file.stem}.txt").write_text("\n".join(text))
    data = {"path": str(tmp_path), "train": "images", "val": "images", "names": ["thing"], "labels": {"ids": True}}
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(data))

    seen: list[tuple[Any, dict[str, Any]]] = []
    update = MultiCueTracker.update

    def record(self: Any, det: Any, img: Any = None, **cues: Any) -> Any:
        seen.append((img, {"boxes": det.data, **cues}))
        return update(self, det, img, **cues)

    monkeypatch.setattr(MultiCueTracker, "update", record)
    metrics = model.val(data=str(tmp_path / "data.yaml"), **BASE, rect=False, save_dir=tmp_path / "val")
    in_val = list(seen)
    seen.clear()
    world.frame = 0
    results = model.track(str(images), imgsz=scene.SIZE, verbose=False)
    assert len(in_val) == len(seen) == scene.FRAMES
    for (img, cues), (expected_img, expected) in zip(in_val, seen, strict=True):
        np.testing.assert_array_equal(img, expected_img)
        assert cues.keys() == expected.keys() == {"boxes", "feats", "keypoints", "masks", "next_boxes"}
        masks, full = cues.pop("masks"), expected["masks"]
        assert masks.shape == (3, scene.SIZE // 4, scene.SIZE // 4), "masks are kept as large as the prototypes"
        assert (masks != full[:, ::4, ::4]).mean() < 0.1
        for name, values in cues.items():
            np.testing.assert_allclose(values, expected[name], atol=1e-4, err_msg=name)
    accumulator = SequenceAccumulator()
    for boxes, result in zip(truth, results, strict=True):
        found = result.boxes
        accumulator.update(range(len(boxes)), found.id.int().numpy(), box_similarity(boxes, found.xyxy.numpy()))
    (figures,) = metrics.track.per_sequence.values()
    assert figures.summary() == pytest.approx(accumulator.compute().summary(), abs=1e-4)
    assert 0.3 < metrics.track.hota < 0.9


def test_a_training_run(tmp_path: Path) -> None:
    """The keys stand in `results.csv` from the first epoch on, and the trained model gives them again."""
    data = write_world(tmp_path / "world")
    tiny = write_model(tmp_path / "tiny-multitask.yaml", tasks=["track"])
    model = train(tiny, data, tmp_path / "run", epochs=2, track=True, plots=True)
    table = rows(tmp_path / "run")
    assert len(table) == 2
    assert set(TRACK_KEYS) <= set(table[0])
    assert (tmp_path / "run" / "tracking.csv").is_file()
    assert (tmp_path / "run" / "HOTA_curve.png").is_file()
    metrics = model.val(data=str(data), **BASE, save_dir=tmp_path / "val")
    with open(tmp_path / "val" / "tracking.csv", newline="") as file:
        combined = list(csv.DictReader(file))[-1]
    assert {float(combined["HOTA"]), float(combined["IDF1"])} == {metrics.track.hota, metrics.track.idf1}
    assert metrics.results_dict["metrics/HOTA(T)"] == metrics.track.hota


def test_a_training_run_without_identities(tmp_path: Path) -> None:
    """It learns from views of its pictures; what it learns is not measured, from the first row to the last."""
    data = write_world(tmp_path / "world", labels={"keypoints": True, "polygons": True})
    for file in (tmp_path / "world" / "labels").rglob("*.txt"):
        text = file.read_text().splitlines()
        file.write_text("".join(" ".join(t for t in row.split() if t[0] != "#") + "\n" for row in text))
    tiny = write_model(tmp_path / "tiny-multitask.yaml", tasks=["track"])
    train(tiny, data, tmp_path / "run", track=True)
    (row,) = rows(tmp_path / "run")
    assert not [key for key in row if key.endswith("(T)")]
    assert "val/reid_loss" in row
    assert not (tmp_path / "run" / "tracking.csv").exists()
