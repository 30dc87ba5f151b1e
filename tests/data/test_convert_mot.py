"""MOTChallenge sequences to label lines: made-up benchmarks where every line is known, and TrackEval's own rules."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from yolo_multitask.configs import resolve_yaml
from yolo_multitask.data.config import load_data
from yolo_multitask.data.convert.mot import MotReport, convert_mot
from yolo_multitask.data.labels import Labels, LabelSpec, read_labels
from yolo_multitask.data.mot import read_seqinfo

WIDTH, HEIGHT = 64, 48
SIZE = np.array([WIDTH, HEIGHT, WIDTH, HEIGHT])
SPEC = LabelSpec(nc=1, kpt_shape=None, polygons=False, ids=True)


def write_sequence(
    folder: Path,
    lines: Sequence[str],
    frames: Sequence[int] = (1, 2, 3, 4),
    *,
    digits: int = 6,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    info: str | None = "",
) -> Path:
    """Write a sequence: frames, ground truth, and a seqinfo.ini unless `info` is None."""
    (folder / "img1").mkdir(parents=True)
    (folder / "gt").mkdir()
    for number in frames:
        Image.new("RGB", size, (number % 256, 0, 0)).save(folder / "img1" / f"{number:0{digits}d}.jpg")
    (folder / "gt/gt.txt").write_text("".join(f"{line}\n" for line in lines))
    if info is not None:
        head = f"[Sequence]\nname={folder.name}\nimDir=img1\nframeRate=30\nimWidth={WIDTH}\nimHeight={HEIGHT}\n"
        (folder / "seqinfo.ini").write_text(f"{head}{info}\n")
    return folder


def walk(identity: int, frames: Sequence[int] = (1, 2, 3, 4), more: str = "1,1,1") -> list[str]:
    """Return the lines of a person who walks to the right."""
    return [f"{t},{identity},{8 * identity + t},10,6,20,{more}" for t in frames]


def labels_of(out: Path, name: str) -> Labels:
    """Read one written label file, such as ``train/a/000001``; every line must parse."""
    path = out / "labels" / f"{name}.txt"
    assert path.is_file()
    labels, problems = read_labels(path, SPEC)
    assert problems == []
    return labels


def tree(root: Path) -> dict[str, bytes]:
    """Return all files below a folder by relative path."""
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def images(out: Path) -> list[str]:
    """Return the paths of the written images."""
    return sorted(p.relative_to(out / "images").as_posix() for p in (out / "images").rglob("*.jpg"))


LINES = [
    "1,1,16,12,32,24,1,1,1.0",
    "1,2,-8,12,16,24,1,1,0.5",  # over the left edge
    "1,3,60,40,20,20,1,1,0.05",  # over a corner, nearly hidden
    "1,4,0,0,8,8,0,1,1.0",  # a person who is not considered
    "1,5,20,0,8,8,0,7,1.0",  # static person
    "1,6,30,0,8,8,0,3,1.0",  # car
    "1,7,70,0,8,8,1,1,1.0",  # outside the image
    "1,8,10,10,0,8,1,1,1.0",  # no area
    "1,9,20,0,8,8,0,12,1.0",  # reflection, at the place of the static person
    "1,10,40,0,8,8,0,13,1.0",  # crowd
    "3,1,17,12,32,24,1,1,1.0",
    "4,1,18,12,32,24,1,1,1.0",  # its frame is missing
]


def test_every_line(tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = convert_mot(write_sequence(tmp_path / "a", LINES, (1, 2, 3)), out)
    assert (out / "labels/train/a/000001.txt").read_text().splitlines() == [
        "0 0.5 0.5 0.5 0.5 #1",
        "0 0.0625 0.5 0.125 0.5 #2",
        "0 0.96875 0.916667 0.0625 0.166667 #3",
        "0 0.0625 0.083333 0.125 0.166667 !",
        "0 0.375 0.083333 0.125 0.166667 !",
        "0 0.6875 0.083333 0.125 0.166667 !",
    ]
    assert (out / "labels/train/a/000002.txt").read_text() == ""  # background between annotated frames
    assert labels_of(out, "train/a/000003").ids.tolist() == [1]
    assert images(out) == [f"train/a/00000{i}.jpg" for i in (1, 2, 3)]
    counts = report.splits["train"]
    assert counts.dropped == {
        "class car": 1,
        "box outside the image": 1,
        "box of zero area": 1,
        "ignore region given twice": 1,
        "frame missing in the folder": 1,
    }
    assert counts.notes == {
        "box over the edge, clipped to the image": 2,
        "person marked 0 to ignore region": 1,
        "static person to ignore region": 1,
        "crowd to ignore region": 1,
    }
    assert (counts.images, counts.background, counts.images_missing) == (3, 1, 1)
    assert (counts.instances, counts.ignored) == (4, 3)
    assert counts.annotations == counts.instances + counts.ignored + sum(counts.dropped.values()) == len(LINES)
    (sequence,) = report.sequences
    assert (sequence.name, sequence.split, sequence.images, sequence.instances, sequence.identities) == (
        "a", "train", 3, 4, 3,
    )  # fmt: skip
    assert report.remarks == []


def test_the_frame_rate_stays_with_the_images(tmp_path: Path) -> None:
    """Each split's part of a sequence says its frame rate; the host does not take the file for an image."""
    from types import SimpleNamespace

    from ultralytics.data.base import BaseDataset

    from yolo_multitask.engine.track import frame_rate

    source = tmp_path / "MOT"
    write_sequence(source / "train" / "a", walk(1), info="frameRate=12.5")
    write_sequence(source / "train" / "b", walk(2), info=None)
    out = tmp_path / "out"
    convert_mot(source, out, val_half=True)
    for split, count in (("train", 3), ("val", 1)):
        folder = out / "images" / split
        info = read_seqinfo(folder / "a" / "seqinfo.ini")
        assert (info.name, info.frames, info.frame_rate, info.length) == ("a", ".", 12.5, count)
        assert not (folder / "b" / "seqinfo.ini").exists()
        loader = SimpleNamespace(mode="image")
        for name, rate in (("a", 12.5), ("b", 30)):
            assert frame_rate(loader, 0, str(next((folder / name).glob("*.jpg")))) == rate
        listed = BaseDataset.get_img_files(SimpleNamespace(prefix="", fraction=1.0), str(folder))
        assert len(listed) == 2 * count
        assert {Path(file).suffix for file in listed} == {".jpg"}


def test_min_visibility(tmp_path: Path) -> None:
    source = write_sequence(tmp_path / "a", LINES, (1, 2, 3))
    report = convert_mot(source, tmp_path / "out", min_visibility=0.5).splits["train"]
    assert labels_of(tmp_path / "out", "train/a/000001").ids.tolist() == [1, 2, -1, -1, -1, -1]
    assert report.notes["person below min_visibility to ignore region"] == 1
    assert (report.instances, report.ignored) == (3, 4)


def test_min_visibility_without_visibility_is_said(tmp_path: Path) -> None:
    source = write_sequence(tmp_path / "a", walk(1, more="1,-1,-1,-1"))
    report = convert_mot(source, tmp_path / "out", min_visibility=0.5)
    assert report.splits["train"].instances == 4
    assert report.remarks == ["a: gt.txt gives no visibility, so min_visibility changes nothing"]


BENCHMARKS = {"MOT15": "ADL-Rundle-6", "MOT16": "MOT16-02", "MOT17": "MOT17-02-SDP", "MOT20": "MOT20-01"}


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_rules_are_trackevals(benchmark: str, tmp_path: Path) -> None:
    """What TrackEval keeps of the ground truth are our instances; where it forgives a detection is ignored."""
    datasets = pytest.importorskip("trackeval.datasets")
    name = BENCHMARKS[benchmark]
    places = [(9 * (i % 7), 9 * (i // 7)) for i in range(28)]
    kinds = [(cls, conf) for cls in range(1, 14) for conf in (1, 0)]
    ends = ["-1,-1,-1" if benchmark == "MOT15" else f"{cls},1" for cls, _ in kinds]
    lines = [f"1,{i + 1},{x},{y},8,8,{kinds[i][1]},{ends[i]}" for i, (x, y) in enumerate(places[: len(kinds)])]
    source = write_sequence(tmp_path / "gt" / name, lines, (1,), info="seqLength=1")
    answers = tmp_path / "trackers/all/data"
    answers.mkdir(parents=True)
    rows = [line.split(",") for line in lines]
    (answers / f"{name}.txt").write_text("".join(f"{','.join([*row[:6], '1,-1,-1,-1'])}\n" for row in rows))
    reference = datasets.MotChallenge2DBox(
        {
            "GT_FOLDER": str(tmp_path / "gt"),
            "TRACKERS_FOLDER": str(tmp_path / "trackers"),
            "SKIP_SPLIT_FOL": True,
            "SEQ_INFO": {name: None},
            "BENCHMARK": benchmark,
            "PRINT_CONFIG": False,
        }
    )
    kept = reference.get_preprocessed_seq_data(reference.get_raw_seq_data("all", name), "pedestrian")

    convert_mot(source, tmp_path / "out")
    found = labels_of(tmp_path / "out", f"train/{name}/000001")
    boxes = found.boxes * SIZE
    boxes[:, :2] -= boxes[:, 2:] / 2
    np.testing.assert_allclose(boxes[~found.ignore], kept["gt_dets"][0], atol=1e-4)

    def places_of(dets: np.ndarray) -> set[tuple[int, int]]:
        return {(round(float(x)), round(float(y))) for x, y, *_ in dets}

    ignored = places_of(boxes[found.ignore])
    forgiven = places_of([row[2:6] for row in rows]) - places_of(kept["tracker_dets"][0])
    unmarked = {
        p for p, (cls, conf) in zip(places, kinds, strict=False) if conf == 0 and (benchmark == "MOT15" or cls == 1)
    }
    crowd = {p for p, (cls, _) in zip(places, kinds, strict=False) if cls == 13 and benchmark != "MOT15"}
    assert forgiven <= ignored
    assert ignored - forgiven == unmarked | crowd  # our own choice, as documented
    assert len(forgiven) == {"MOT15": 0, "MOT20": 10}.get(benchmark, 8)


def benchmark(root: Path, **names: Sequence[str]) -> Path:
    """Write a benchmark: folders with sequences of two people in four frames."""
    for split, sequences in names.items():
        for name in sequences:
            write_sequence(root / split / name, [*walk(1), *walk(2)])
    return root


def placed(report: MotReport) -> set[tuple[str, str, int]]:
    """Return (split, sequence, images) of what was written."""
    return {(s.split, s.name, s.images) for s in report.sequences}


MOT17 = [f"MOT17-{n:02d}-{d}" for n in (2, 4) for d in ("DPM", "FRCNN", "SDP")]


def test_a_split_in_numbered_folders(tmp_path: Path) -> None:
    """DanceTrack's train set comes as two archives."""
    source = benchmark(tmp_path / "DanceTrack", train1=["dancetrack0001"], train2=["dancetrack0002"], val=["d3"])
    report = convert_mot(source, tmp_path / "out")
    assert placed(report) == {("train", "dancetrack0001", 4), ("train", "dancetrack0002", 4), ("val", "d3", 4)}


def test_mot17_one_copy_and_halves(tmp_path: Path) -> None:
    source = benchmark(tmp_path / "MOT17", train=MOT17, test=["MOT17-01-DPM"])
    report = convert_mot(source, tmp_path / "out", val_half=True)
    assert placed(report) == {
        (split, f"MOT17-{n}-FRCNN", count) for n in ("02", "04") for split, count in (("train", 3), ("val", 1))
    }
    assert images(tmp_path / "out") == sorted(
        f"{split}/MOT17-{n}-FRCNN/00000{i}.jpg"
        for n in ("02", "04")
        for split, numbers in (("train", (1, 2, 3)), ("val", (4,)))
        for i in numbers
    )
    assert report.remarks == [
        "left out: test with 1 sequences (split=test takes it)",
        "left out, the same frames for other detectors: MOT17-02-DPM, MOT17-02-SDP, MOT17-04-DPM, MOT17-04-SDP",
    ]
    other = convert_mot(source, tmp_path / "sdp", detector="SDP", val="MOT17-04")
    assert placed(other) == {("train", "MOT17-02-SDP", 4), ("val", "MOT17-04-SDP", 4)}
    only = convert_mot(source, tmp_path / "dpm", sequences="MOT17-02-DPM")  # its FRCNN copy is not asked for
    assert placed(only) == {("train", "MOT17-02-DPM", 4)}


@pytest.mark.parametrize(("count", "train"), [(2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (600, 301), (837, 419)])
def test_the_cut_is_the_usual_one(count: int, train: int) -> None:
    """CenterTrack's `convert_mot_to_coco.py`: indices 0..n // 2 and n // 2 + 1..n - 1."""
    from yolo_multitask.data.convert.mot import _ranges
    from yolo_multitask.data.convert.mot_files import MotSequence, Part
    from yolo_multitask.data.mot import MotBoxes, SequenceInfo

    frames = np.arange(1, count + 1)
    zeros = np.zeros(count)
    boxes = MotBoxes(
        path="", lines=frames, frames=frames, ids=frames, boxes=np.zeros((count, 4)), conf=zeros, classes=frames,
        visibility=zeros,
    )  # fmt: skip
    sequence = MotSequence(name="a", info=SequenceInfo(), boxes=boxes, frames={int(i): Path() for i in frames})
    part = Part(folder=Path("a"), split="train", half=True)
    if count == 2:
        with pytest.raises(ValueError, match="annotated frames in both halves of a, found none for val"):
            _ranges(part, sequence)
        return
    assert _ranges(part, sequence) == {"train": range(1, train + 1), "val": range(train + 1, count + 1)}


def test_halves_of_the_frames_that_are_there(tmp_path: Path) -> None:
    lines = [*walk(1, range(1, 11)), *walk(2, (9, 10))]
    source = write_sequence(tmp_path / "a", lines, (2, 3, 5, 8, 9), info="seqLength=10")
    report = convert_mot(source, tmp_path / "out", val_half=True)
    assert images(tmp_path / "out") == [
        "train/a/000002.jpg", "train/a/000003.jpg", "train/a/000005.jpg", "val/a/000008.jpg", "val/a/000009.jpg",
    ]  # fmt: skip
    assert [(s.split, s.instances, s.identities) for s in report.sequences] == [("train", 3, 1), ("val", 3, 2)]
    assert {s: r.dropped for s, r in report.splits.items()} == {
        "train": {"frame missing in the folder": 2},
        "val": {"frame missing in the folder": 4},
    }
    assert report.remarks == ["a: seqinfo.ini says 10 frames, 5 are there"]


def test_a_sequence_called_images(tmp_path: Path) -> None:
    """The host would look for its labels in labels/train/labels."""
    convert_mot(write_sequence(tmp_path / "images", walk(1)), tmp_path / "out")
    assert images(tmp_path / "out") == [f"train/00000{i}.jpg" for i in (1, 2, 3, 4)]
    assert labels_of(tmp_path / "out", "train/000001").ids.tolist() == [1]
    assert read_seqinfo(tmp_path / "out/images/train/seqinfo.ini").frame_rate == 30


def test_dancetrack_layout(tmp_path: Path) -> None:
    """Eight digits, two split folders, one class; the folders give the splits, at once or one after the other."""
    for split, name in (("train", "dancetrack0001"), ("val", "dancetrack0004")):
        write_sequence(tmp_path / "DanceTrack" / split / name, walk(1), digits=8)
    (tmp_path / "DanceTrack/test/dancetrack0003/img1").mkdir(parents=True)
    report = convert_mot(tmp_path / "DanceTrack", tmp_path / "once")
    assert placed(report) == {("train", "dancetrack0001", 4), ("val", "dancetrack0004", 4)}
    assert images(tmp_path / "once")[0] == "train/dancetrack0001/000001.jpg"
    for split in ("train", "val"):
        convert_mot(tmp_path / "DanceTrack", tmp_path / "twice", split=split)
    assert tree(tmp_path / "once") == tree(tmp_path / "twice")
    with pytest.raises(FileNotFoundError, match=r"dancetrack0003/gt/gt.txt: expected the ground truth .*test sets"):
        convert_mot(tmp_path / "DanceTrack", tmp_path / "test", split="test")
    with pytest.raises(ValueError, match="divide the sequences of train, found train and val"):
        convert_mot(tmp_path / "DanceTrack", tmp_path / "half", val_half=True)


def test_val_by_name_and_the_rest_in_halves(tmp_path: Path) -> None:
    source = benchmark(tmp_path / "set", train=["a", "b1", "b2"]) / "train"
    (source / "notes").mkdir()
    report = convert_mot(source, tmp_path / "out", val=["b*"], val_half=True)
    assert placed(report) == {("train", "a", 3), ("val", "a", 1), ("val", "b1", 4), ("val", "b2", 4)}
    assert report.remarks == ["left out, no sequences: notes"]
    few = convert_mot(source, tmp_path / "few", sequences="[a, b2]", split="val")
    assert placed(few) == {("val", "a", 4), ("val", "b2", 4)}


def test_frames_outside_of_the_annotation_are_left_out(tmp_path: Path) -> None:
    source = write_sequence(tmp_path / "a", [*walk(1, (3,)), *walk(1, (5,))], range(1, 8), info=None)
    report = convert_mot(source, tmp_path / "out")
    assert images(tmp_path / "out") == [f"train/a/00000{i}.jpg" for i in (3, 4, 5)]
    assert report.splits["train"].background == 1
    assert report.remarks == ["a: 4 frames outside of the annotated 3..5 left out"]


def test_data_set_reads_the_identities(tmp_path: Path) -> None:
    from ultralytics.cfg import get_cfg

    from yolo_multitask.data.dataset import MultiTaskDataset

    source = benchmark(tmp_path / "set", train=["a", "b"], val=["c"])
    convert_mot(source, tmp_path / "out")
    data = load_data(tmp_path / "out/data.yaml")
    assert data["names"] == {0: "person"}
    assert data["label_spec"].tasks == ("detect", "track")
    dataset = MultiTaskDataset(img_path=data["train"], imgsz=64, augment=False, hyp=get_cfg(), data=data)
    folder = Path(data["train"])
    assert sorted(dataset.identities) == sorted((str(folder / s), i) for s in ("a", "b") for i in (1, 2))
    assert [Path(f).relative_to(folder).as_posix() for f in dataset.im_files] == [
        f"{s}/00000{i}.jpg" for s in ("a", "b") for i in (1, 2, 3, 4)
    ]
    sample = dataset[4]
    assert [dataset.identities[i] for i in sample["ids"].tolist()] == [(str(folder / "b"), i) for i in (1, 2)]
    assert dataset.scan.messages == []


def test_links_and_copies(tmp_path: Path) -> None:
    source = write_sequence(tmp_path / "a", walk(1))
    convert_mot(source, tmp_path / "linked")
    convert_mot(source, tmp_path / "copied", copy=True)
    first = source / "img1/000001.jpg"
    assert os.path.samefile(first, tmp_path / "linked/images/train/a/000001.jpg")
    assert not os.path.samefile(first, tmp_path / "copied/images/train/a/000001.jpg")
    assert (tmp_path / "copied/images/train/a/000001.jpg").read_bytes() == first.read_bytes()


def test_existing_split_is_kept_unless_told(tmp_path: Path) -> None:
    source = benchmark(tmp_path / "set", train=["a", "b"]) / "train"
    out = tmp_path / "out"
    convert_mot(source / "a", out)
    before = tree(out)
    with pytest.raises(ValueError, match=r"split train exists already.*exist_ok=True"):
        convert_mot(source / "b", out)
    assert tree(out) == before
    convert_mot(source / "b", out, split="val")
    convert_mot(source / "b", out, exist_ok=True)
    assert {p.split("/")[2] for p in tree(out) if p.startswith("images/train")} == {"b"}
    assert yaml.safe_load((out / "data.yaml").read_text())["val"] == "images/val"
    (out / "data.yaml").write_text("{train: images/train, val: images/val, names: {0: dog}, labels: {ids: true}}")
    with pytest.raises(ValueError, match="out has a data set with names: {0: 'dog'} .*another out="):
        convert_mot(source / "b", out, split="test")


def test_nothing_is_left_of_a_failure(tmp_path: Path) -> None:
    source = benchmark(tmp_path / "set", train=["a", "b"])
    (source / "train/b/img1/000004.jpg").write_bytes(b"no image")
    before = tree(tmp_path)
    with pytest.raises(ValueError, match=r"b/img1/000004\.jpg: expected an image"):
        convert_mot(source, tmp_path / "out")
    assert tree(tmp_path) == before
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"split": "training"}, "split: expected one of train, val, test, found 'training'"),
        ({"split": "val"}, r"expected sequences .*, found none in .*set.val"),
        ({"detector": "YOLO"}, "detector: expected one of DPM, FRCNN, SDP, found 'YOLO'"),
        ({"min_visibility": 25}, r"min_visibility: expected a number in 0\.\.1, found 25"),
        ({"min_visibility": "half"}, "min_visibility: expected a number"),
        ({"sequences": "c"}, "sequences: expected names or patterns of sequences, found 'c'; there are: a, b"),
        ({"sequences": "a", "val": "b"}, "val: expected names or patterns of sequences, found 'b'; there are: a"),
        ({"val": "*"}, "val= takes all sequences, nothing is left for train; give split=val"),
    ],
)
def test_wrong_arguments(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    source = benchmark(tmp_path / "set", train=["a", "b"])
    with pytest.raises(ValueError, match=says):
        convert_mot(source, tmp_path / "out", **change)
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_val_half_of_another_split(tmp_path: Path) -> None:
    source = write_sequence(tmp_path / "a", walk(1))
    with pytest.raises(ValueError, match="val= and val_half= divide the sequences of train, found val"):
        convert_mot(source, tmp_path / "out", split="val", val_half=True)


def test_bad_sequences(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(FileNotFoundError, match="src=.*nowhere: expected a folder"):
        convert_mot(tmp_path / "nowhere", out)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="found none there or in train/, val/; give a sequence"):
        convert_mot(tmp_path / "empty", out)

    def refused(name: str, says: str, error: type[Exception] = ValueError) -> None:
        with pytest.raises(error, match=says):
            convert_mot(tmp_path / name, out)
        assert not out.exists()

    write_sequence(tmp_path / "late", walk(1, (9,)))
    refused("late", "expected images of the frames in .*gt.txt, 9 to 9, found none of them among 4 images")
    write_sequence(tmp_path / "wide", walk(1), size=(32, 24))
    refused("wide", r"000001\.jpg: expected a frame of 64x48 as seqinfo\.ini says, found 32x24")
    write_sequence(tmp_path / "none", walk(1), ())
    refused("none", "expected frames such as 000001.jpg, found no images")
    (write_sequence(tmp_path / "named", walk(1)) / "img1/cover.png").touch()
    refused("named", r"cover\.png: expected frames named by their numbers")
    (write_sequence(tmp_path / "twice", walk(1)) / "img1/1.jpg").touch()
    refused("twice", r"1\.jpg: expected each frame once, found 000001\.jpg beside it")
    (write_sequence(tmp_path / "moved", walk(1)) / "img1").rename(tmp_path / "moved/frames")
    refused("moved", "img1: expected the folder with the frames", FileNotFoundError)
    again = write_sequence(tmp_path / "again", [*walk(1), *walk(1, (2,))]) / "gt/gt.txt"
    refused("again", rf"{re.escape(str(again))}:5: .*found id 1 of frame 2 again, first at {re.escape(str(again))}:2")


def test_src_may_be_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write_sequence(tmp_path / "a", walk(1)))
    assert placed(convert_mot(".", tmp_path / "out")) == {("train", "a", 4)}


def test_report_is_a_table(tmp_path: Path) -> None:
    text = str(convert_mot(write_sequence(tmp_path / "a", LINES, (1, 2, 3), info="seqLength=4"), tmp_path / "out"))
    lines = text.splitlines()
    assert lines[0].split() == ["sequence", "split", "images", "instances", "identities"]
    assert lines[1].split() == ["a", "train", "3", "4", "3"]
    assert len(lines[0]) == len(lines[1])
    assert "left out: class car" in text
    assert lines[-1] == "a: seqinfo.ini says 4 frames, 3 are there"


@pytest.mark.parametrize("name", ["mot17-multitask.yaml", "mot-multitask.yaml"])
def test_own_data_sets_say_what_is_written(name: str, tmp_path: Path) -> None:
    file = resolve_yaml(name, "datasets")
    assert file is not None
    ours = yaml.safe_load(file.read_text(encoding="utf-8"))
    convert_mot(benchmark(tmp_path / "set", train=["a"]), tmp_path / "out", val_half=True)
    written = yaml.safe_load((tmp_path / "out/data.yaml").read_text())
    assert {k: v for k, v in ours.items() if k != "path"} == written
    assert LabelSpec.from_data(ours).tasks == ("detect", "track")


@pytest.mark.realdata
def test_real_sequences(realdata: Path, tmp_path: Path) -> None:
    """Counts equal those of the ground truth, read here by other means."""
    for source, classes in (("PETS09-S2L1-a", None), ("MOT17-mini", {1})):
        report = convert_mot(realdata / "mot" / source, tmp_path / source, val_half=True)
        files = sorted((realdata / "mot" / source).rglob("gt.txt"))
        rows = np.concatenate([np.loadtxt(f, delimiter=",")[:, :9] for f in files])
        persons = rows[:, 6] == 1
        if classes:
            persons &= np.isin(rows[:, 7], list(classes))
            assert sum(r.ignored for r in report.splits.values()) == np.isin(rows[:, 7], [2, 7, 8, 12]).sum()
        assert sum(r.annotations for r in report.splits.values()) == len(rows)
        assert sum(r.instances for r in report.splits.values()) == persons.sum()
        assert not any("box" in reason for r in report.splits.values() for reason in r.dropped)
        assert load_data(tmp_path / source / "data.yaml")["label_spec"].ids
