"""A keypoint set and a segmentation set joined: who is paired with whom, what is kept, and what is refused."""

from __future__ import annotations

import itertools
import os
import runpy
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support.labelled import lines_of, write_set

from yolo_multitask.cli.data import call
from yolo_multitask.data.config import load_data
from yolo_multitask.data.convert.coco import convert_coco
from yolo_multitask.data.convert.to_yolo import to_yolo
from yolo_multitask.data.labels import Labels, LabelSpec, read_labels, write_labels
from yolo_multitask.data.merge import merge
from yolo_multitask.data.merge_match import NEAR, doubts, match

SCRIPT = Path(__file__).parents[2] / "scripts" / "merge_kpt_seg.py"
POSE = {"kpt_shape": [2, 3], "flip_idx": [1, 0]}
KPTS = "0.3 0.3 2 0.5 0.5 1"


def box_line(x: float, y: float, w: float, h: float, rest: str = KPTS, cls: int = 0) -> str:
    """Return a line with the box that has its low corner at x y."""
    return f"{cls} {x + w / 2:g} {y + h / 2:g} {w:g} {h:g} {rest}".strip()


def rectangle(x: float, y: float, w: float, h: float) -> str:
    """Return the polygon of a rectangle."""
    return f"{x:g} {y:g} {x + w:g} {y:g} {x + w:g} {y + h:g} {x:g} {y + h:g}"


def two_sets(
    tmp_path: Path, poses: list[str], masks: list[str], pose_keys: dict[str, Any] | None = None, **mask_keys: Any
) -> tuple[Path, Path]:
    """Write two sets of one image, with the classes person and (segments only) dog."""
    first = write_set(tmp_path / "pose", {"train/a": poses}, ["person"], **POSE, **(pose_keys or {}))
    return first, write_set(tmp_path / "seg", {"train/a": masks}, ["dog", "person"], **mask_keys)


def test_pairs_get_both_and_the_rest_is_kept(tmp_path: Path) -> None:
    poses = [box_line(0.5, 0.5, 0.4, 0.4), box_line(0.125, 0.125, 0.25, 0.25)]
    masks = [
        f"0 {rectangle(0.125, 0.125, 0.25, 0.25)}",  # a dog, where a person is
        f"1 {rectangle(0.125, 0.125, 0.25, 0.225)}",
        f"1 {rectangle(0.75, 0.125, 0.25, 0.25)}",
    ]
    report = merge(*two_sets(tmp_path, poses, masks), tmp_path / "out")
    assert lines_of(tmp_path / "out", "train/a") == [
        "0 0.25 0.25 0.25 0.25 - 0.125 0.125 0.375 0.125 0.375 0.375 0.125 0.375",
        f"1 0.25 0.25 0.25 0.25 {KPTS} 0.125 0.125 0.375 0.125 0.375 0.35 0.125 0.35",  # the keypoint set's box
        "1 0.875 0.25 0.25 0.25 - 0.75 0.125 1 0.125 1 0.375 0.75 0.375",
        f"1 0.7 0.7 0.4 0.4 {KPTS} -",
    ]
    counts = report.splits["train"]
    assert (counts.images_both, counts.images_poses, counts.images_masks) == (1, 0, 0)
    assert (counts.paired, counts.poses_alone, counts.masks_alone) == (1, 1, 2)
    assert counts.ious == pytest.approx([0.9])
    assert counts.doubtful == []
    assert [p.name for p in (tmp_path / "out/images/train").iterdir()] == ["a.png"]


def test_data_yaml(tmp_path: Path) -> None:
    keys = {"kpt_names": {0: ["left", "right"]}, "kpt_oks_sigmas": [0.1, 0.2], "coco_categories": [1]}
    sets = two_sets(tmp_path, [box_line(0, 0, 0.5, 0.5)], [], keys, coco_categories={"dog": 18, "person": 1})
    merge(*sets, tmp_path / "out")
    data = load_data(tmp_path / "out/data.yaml")
    assert data["names"] == {0: "dog", 1: "person"}
    assert data["label_spec"] == LabelSpec(nc=2, kpt_shape=(2, 3), polygons=True)
    assert data["labels"] == {"keypoints": True, "polygons": True}
    assert data["kpt_classes"] == [1]
    assert data["kpt_names"] == {1: ["left", "right"]}
    assert (data["flip_idx"], data["kpt_oks_sigmas"], data["coco_categories"]) == ([1, 0], [0.1, 0.2], [18, 1])
    assert (data["train"], data["val"]) == (str(tmp_path / "out/images/train"), None)


@given(st.integers(0, 4), st.integers(0, 4), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_match_has_the_greatest_total(rows: int, columns: int, random: Any) -> None:
    iou = np.array([random.random() for _ in range(rows * columns)]).reshape(rows, columns)
    pairs = match(iou, 0.4)
    assert len(set(pairs.values())) == len(pairs)
    assert all(iou[pose, mask] >= 0.4 for mask, pose in pairs.items())
    weight = np.pad(np.where(iou >= 0.4, iou, 0), ((0, 4 - rows), (0, 4 - columns)))
    best = max(weight[range(4), order].sum() for order in itertools.permutations(range(4)))
    assert sum(iou[pose, mask] for mask, pose in pairs.items()) == pytest.approx(best)


def test_a_pair_may_give_way_so_that_two_are_found() -> None:
    assert match(np.array([[0.9, 0.8], [0.85, 0.0]]), 0.7) == {1: 0, 0: 1}


@pytest.mark.parametrize(
    ("iou", "expected"),
    [
        ([[0.70]], ["just above the threshold"]),
        ([[0.7 + NEAR + 0.01]], []),
        ([[0.69]], ["just below the threshold, not paired"]),
        ([[0.7 - NEAR - 0.01]], []),
        ([[0.90, 0.86]], ["second candidate with IoU 0.86"]),
        ([[0.90], [0.86]], ["second candidate with IoU 0.86"]),
        ([[0.90, 0.84]], []),
        ([[0.90, 0.10], [0.69, 0.90]], []),  # both taken by better ones
        ([[0.90, 0.88], [0.80, 0.00]], ["second candidate with IoU 0.90", "second candidate with IoU 0.90"]),
    ],
)
def test_what_is_doubtful(iou: list[list[float]], expected: list[str]) -> None:
    matrix = np.array(iou)
    found = doubts(matrix, match(matrix, 0.7), 0.7)
    assert [d.reason for d in found] == expected
    assert all(0 <= d.margin < NEAR and d.iou == matrix[d.pose, d.mask] for d in found)


def test_doubtful_pairs_are_listed_and_shown(tmp_path: Path) -> None:
    poses = [box_line(0.1, 0.1, 0.38, 0.4), box_line(0.1, 0.12, 0.4, 0.4), box_line(0.6, 0.6, 0.3, 0.3)]
    masks = [f"1 {rectangle(0.1, 0.1, 0.4, 0.4)}", f"1 {rectangle(0.6, 0.6, 0.3, 0.2)}"]
    report = merge(*two_sets(tmp_path, poses, masks), tmp_path / "out")
    assert [(d.name, d.doubt.reason) for d in report.doubtful] == [
        ("train/a", "just below the threshold, not paired"),
        ("train/a", "second candidate with IoU 0.90"),
    ]
    text = (tmp_path / "out/merge-report.txt").read_text()
    assert text == f"{report}\n" + "".join(f"{d}\n" for d in report.doubtful)
    assert "train/a: person, IoU 0.667, just below the threshold, not paired\n" in text
    sheet = cv2.imread(str(tmp_path / "out/merge-doubtful.png"))
    for colour in ((0, 159, 230), (233, 180, 86)):  # both sets are drawn in both pictures
        shown = (sheet[40:] == colour).all(-1)
        assert shown[:, : sheet.shape[1] // 2].any()
        assert shown[:, sheet.shape[1] // 2 :].any()


@pytest.mark.parametrize(
    "classes", ["person:human,horse : pony", {"person": "human", "horse": "pony"}, {0: 1, "1": 0}, "horse:0,0:1"]
)
def test_classes_that_correspond(tmp_path: Path, classes: Any) -> None:
    box, polygon = (0.1, 0.1, 0.5, 0.5), rectangle(0.1, 0.1, 0.5, 0.5)
    poses = [box_line(*box, cls=c) for c in range(4)]
    first = write_set(tmp_path / "p", {"val/a": poses}, ["person", "horse", "cat", "cow"], **POSE, kpt_classes=["cow"])
    second = write_set(
        tmp_path / "s", {"val/a": [f"{c} {polygon}" for c in range(3)]}, ["pony", "human", "cat"], task="segment"
    )
    report = merge(first, second, tmp_path / "out", classes=classes)
    assert report.names == ["pony", "human", "cat", "cow"]
    found = lines_of(tmp_path / "out", "val/a")
    assert [line[0] for line in found] == ["0", "1", "2", "3"]
    assert [line.endswith(f"{KPTS} {polygon}") for line in found] == [True, True, True, False]
    assert load_data(tmp_path / "out/data.yaml")["kpt_classes"] == [3]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({"person": "dgo"}, "expected a class of segments= (dog, person), found 'dgo'; did you mean 'dog'?"),
        ("man:dog", "expected a class of keypoints= (person), found 'man'"),
        ("person", "expected CLASS_OF_KEYPOINTS:CLASS_OF_SEGMENTS, e.g. person:human,dog:hound, found 'person'"),
        ("person:dog,person:person", "expected each class once, found 'person' of keypoints= twice"),
    ],
)
def test_wrong_classes(tmp_path: Path, classes: Any, message: str) -> None:
    with pytest.raises(ValueError, match="classes") as error:
        merge(*two_sets(tmp_path, [], []), tmp_path / "out", classes=classes)
    assert message in str(error.value)


def test_classes_without_partner_or_with_the_name_of_another(tmp_path: Path) -> None:
    first = write_set(tmp_path / "p", {"val/a": []}, ["man", "dog"], **POSE)
    second = write_set(tmp_path / "s", {"val/a": []}, ["human", "dog"])
    report = merge(first, second, tmp_path / "one")
    assert report.names == ["human", "dog", "man"]
    assert report.remarks == [
        "classes of the keypoint set that correspond to none of the segmentation set: man; if they have other names "
        "there, say so with classes="
    ]
    with pytest.raises(ValueError, match="'dog' of keypoints= corresponds to no class, but the one of that name"):
        merge(first, second, tmp_path / "two", classes="man:dog")
    third = write_set(tmp_path / "t", {"val/a": []}, ["human"])
    with pytest.raises(ValueError, match="expected a class that both sets have, found man, dog in keypoints= and hum"):
        merge(first, third, tmp_path / "three")


def test_ignore_regions_and_identities(tmp_path: Path) -> None:
    box = (0.1, 0.1, 0.5, 0.5)
    poses = [box_line(*box, rest="- !"), box_line(*box, rest=f"{KPTS} #7"), box_line(0.7, 0.7, 0.2, 0.2, "- ! #8")]
    masks = [box_line(*box, rest="- !", cls=1), box_line(*box, rest=rectangle(*box), cls=1)]
    labels = {"labels": {"keypoints": True, "ids": True}}
    sets = two_sets(tmp_path, poses, masks, labels, labels={"polygons": True})
    report = merge(*sets, tmp_path / "out")
    assert lines_of(tmp_path / "out", "train/a") == [
        "1 0.35 0.35 0.5 0.5 - - !",
        f"1 0.35 0.35 0.5 0.5 {KPTS} {rectangle(*box)} #7",
        "1 0.8 0.8 0.2 0.2 - - #8 !",
    ]
    assert report.splits["train"].ignored == 2
    assert load_data(tmp_path / "out/data.yaml")["label_spec"].ids
    again = write_set(tmp_path / "ids", {"train/a": []}, ["person"], labels={"polygons": True, "ids": True})
    with pytest.raises(ValueError, match="expected identities .* in one of the two sets"):
        merge(sets[0], again, tmp_path / "both")


def test_images_of_one_set_alone(tmp_path: Path) -> None:
    person, mask = box_line(0, 0, 0.5, 0.5), f"1 {rectangle(0, 0, 0.5, 0.5)}"
    first = write_set(
        tmp_path / "p", {"train/a": [person], "train/x/b": [person], "train/x/c": [person]}, ["person"], **POSE
    )
    second = write_set(
        tmp_path / "s", {"train/a": [mask], "val/x/b": [mask], "test/d": [mask]}, ["dog", "person"], task="segment"
    )
    report = merge(first, second, tmp_path / "out")
    assert list(report.splits) == ["train", "val", "test"]
    assert [c.images_both for c in report.splits.values()] == [1, 0, 0]
    assert [c.images_poses for c in report.splits.values()] == [2, 0, 0]
    assert [c.images_masks for c in report.splits.values()] == [0, 1, 1]
    assert lines_of(tmp_path / "out", "train/x/b") == [f"1 0.25 0.25 0.5 0.5 {KPTS} -"]
    assert lines_of(tmp_path / "out", "test/d") == [f"1 0.25 0.25 0.5 0.5 - {rectangle(0, 0, 0.5, 0.5)}"]
    assert report.remarks == [
        "1 images of train in the keypoint set have names of images of val in the segmentation set and were not "
        "matched, e.g. x/b",
        f"2 images are in the keypoint set alone, which lacks 1 of the classes of segments={second}: objects of these "
        "classes are background there",
    ]
    one = merge(first, second, tmp_path / "one", split="train")
    assert list(one.splits) == ["train"]
    with pytest.raises(ValueError, match="split: expected one or more of train, val, test, found train, valid"):
        merge(first, second, tmp_path / "two", split="train,valid")


def test_images_are_matched_whatever_their_suffix_and_however_listed(tmp_path: Path) -> None:
    first, second = two_sets(tmp_path, [box_line(0, 0, 0.5, 0.5)], [f"1 {rectangle(0, 0, 0.5, 0.5)}"], task="segment")
    Image.new("RGB", (80, 40)).save(tmp_path / "pose/images/train/a.bmp")  # the same picture, larger
    (tmp_path / "pose/images/train/a.png").unlink()
    (tmp_path / "pose/train.txt").write_text("./images/train/a.bmp\n")
    first.write_text(first.read_text().replace("train: images/train", "train: train.txt"))
    assert merge(first, second, tmp_path / "out").splits["train"].paired == 1


def test_an_image_that_a_list_names_twice_is_one(tmp_path: Path) -> None:
    first, second = two_sets(tmp_path, [box_line(0, 0, 0.5, 0.5)], [f"1 {rectangle(0, 0, 0.5, 0.5)}"], task="segment")
    (tmp_path / "pose/train.txt").write_text("./images/train/a.png\n" * 2)
    first.write_text(first.read_text().replace("train: images/train", "train: train.txt"))
    assert merge(first, second, tmp_path / "out").splits["train"].paired == 1
    (tmp_path / "pose/train.txt").write_text("./images/train/b.png\n")
    with pytest.raises(FileNotFoundError, match=r"expected the images that .* names, found no ./images/train/b"):
        merge(first, second, tmp_path / "other")


def test_images_that_are_ambiguous(tmp_path: Path) -> None:
    first, second = two_sets(tmp_path, [], [])
    Image.new("RGB", (16, 12)).save(tmp_path / "pose/images/train/a.bmp")
    with pytest.raises(ValueError, match=r"expected images of train that differ .*a\.bmp and .*a\.png; rename one"):
        merge(first, second, tmp_path / "out")
    (tmp_path / "pose/images/train/a.png").unlink()
    Image.new("RGB", (20, 40)).save(tmp_path / "pose/images/train/a.bmp")
    with pytest.raises(ValueError, match=r"expected the same picture .*a\.bmp with 20x40 and .*a\.png with 40x20"):
        merge(first, second, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pose", "seg"]


def test_folders_without_data_yaml(tmp_path: Path) -> None:
    poses, masks = [box_line(0, 0, 0.5, 0.5)], [f"2 {rectangle(0.5, 0.5, 0.5, 0.5)}", f"0 {rectangle(0, 0, 0.5, 0.5)}"]
    write_set(tmp_path / "p", {"train2017/a": poses}, ["person"]).unlink()
    write_set(tmp_path / "s", {"train/a": masks}, ["person"]).unlink()
    with pytest.raises(FileNotFoundError, match=r"keypoints=.*without one say kpt_shape=\[K, D\]"):
        merge(tmp_path / "p", tmp_path / "s", tmp_path / "out")
    report = merge(tmp_path / "p", tmp_path / "s", tmp_path / "out", kpt_shape=[2, 3])
    assert report.names == ["class_0", "class_1", "class_2"]
    assert report.splits["train"].paired == 1
    with pytest.raises(ValueError, match=r"a\.txt:1: expected cls cx cy w h KEYPOINTS\(1x3\), found 3 more columns"):
        merge(tmp_path / "p", tmp_path / "s", tmp_path / "other", kpt_shape=[1, 3])
    assert not (tmp_path / "other").exists()


def test_sets_that_do_not_hold_what_they_should(tmp_path: Path) -> None:
    first, second = two_sets(tmp_path, [], [], task="segment")
    with pytest.raises(ValueError, match=r"keypoints=.*its lines are `cls POLYGON`; add `kpt_shape: \[K, D\]`"):
        merge(second, second, tmp_path / "out")
    with pytest.raises(ValueError, match=r"segments=.*its lines are `cls cx cy w h KEYPOINTS\(2x3\)`; add `labels: "):
        merge(first, first, tmp_path / "out")
    joined = write_set(tmp_path / "j", {"train/a": []}, ["person"], **POSE, labels={"polygons": True})
    with pytest.raises(ValueError, match="expected lines without polygons, found .*: the set is joined already"):
        merge(joined, second, tmp_path / "out")
    with pytest.raises(ValueError, match="iou: expected a number above 0 and at most 1, found 0"):
        merge(first, second, tmp_path / "out", iou=0)


def test_a_line_that_does_not_parse_leaves_nothing_behind(tmp_path: Path) -> None:
    sets = two_sets(tmp_path, [box_line(0, 0, 0.5, 0.5), "0 0.5"], [])
    with pytest.raises(ValueError, match=r"pose.labels.train.a\.txt:2: expected"):
        merge(*sets, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pose", "seg"]


def test_repeated_lines_are_counted(tmp_path: Path) -> None:
    pose, mask = box_line(0, 0, 0.5, 0.5), f"1 {rectangle(0, 0, 0.5, 0.5)}"
    counts = merge(*two_sets(tmp_path, [pose] * 3, [mask] * 2), tmp_path / "out").splits["train"]
    assert (counts.paired, counts.pose_repeats, counts.mask_repeats) == (1, 2, 1)


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    doubtful = [box_line(0, 0, 0.5, 0.5)], [f"1 {rectangle(0, 0, 0.5, 0.37)}"]
    first, second = two_sets(tmp_path, *doubtful)
    out = tmp_path / "out"
    merge(first, second, out)
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    assert out / "merge-doubtful.png" in before
    with pytest.raises(ValueError, match="the split train exists already; give exist_ok=True"):
        merge(first, second, out)
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    (second.parent / "labels/train/a.txt").write_text("")
    merge(first, second, out, exist_ok=True)
    assert lines_of(out, "train/a") == [f"1 0.25 0.25 0.5 0.5 {KPTS} -"]
    assert sorted(p.name for p in out.iterdir()) == ["data.yaml", "images", "labels", "merge-report.txt"]
    mine = tmp_path / "mine/data.yaml"
    mine.parent.mkdir()
    mine.write_text("{train: null, val: elsewhere, names: [cat]}")
    with pytest.raises(ValueError, match="the split val of another run is there"):
        merge(first, second, mine.parent)
    for source in (first, second):
        with pytest.raises(ValueError, match="expected another folder, found the images of"):
            merge(first, second, source.parent, exist_ok=True)


def test_the_report_is_replaced_with_the_rest_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sets = two_sets(tmp_path, [box_line(0, 0, 0.5, 0.5)], [f"1 {rectangle(0, 0, 0.5, 0.37)}"])
    out, replace = tmp_path / "out", os.replace
    merge(*sets, out)
    (tmp_path / "seg/labels/train/a.txt").write_text(f"1 {rectangle(0, 0, 0.5, 0.36)}\n")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    def fail(source: Path, target: Path) -> None:
        if Path(target) == out / "merge-doubtful.png" and "replaced" not in Path(source).parts:
            raise OSError("disk full")
        replace(source, target)

    monkeypatch.setattr("yolo_multitask.data.convert.output.os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        merge(*sets, out, exist_ok=True)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_from_the_command_line(tmp_path: Path) -> None:
    pose, mask = box_line(0, 0, 0.5, 0.5), f"0 {rectangle(0, 0, 0.5, 0.5)}"
    first, second = two_sets(tmp_path, [pose], [mask])
    words = [f"keypoints={first}", f"segments={second}", f"out={tmp_path / 'out'}", "classes={person: dog}", "iou=0.9"]
    assert call(merge, [*words, "split=train", "copy"]).splits["train"].paired == 1
    assert call(merge, [*words[:3], "classes=person:dog", "exist_ok"]).splits["train"].paired == 1


def test_the_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pose, mask = box_line(0, 0, 0.5, 0.5), f"0 {rectangle(0, 0, 0.5, 0.5)}"
    first, second = two_sets(tmp_path, [pose], [mask])
    words = ["-kpt", first.parent, "-seg", second, "-o", tmp_path / "out", "--classes", "person:dog"]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, words)])
    for code, stream, text in ((0, 0, f"written: {tmp_path / 'out/data.yaml'}\n"), (1, 1, "merge_kpt_seg: out=")):
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        assert end.value.code == code
        assert text in capsys.readouterr()[stream]
    assert lines_of(tmp_path / "out", "train/a")[0].startswith("0 0.25 0.25 0.5 0.5 0.3")


# ---- real data ------------------------------------------------------------------------------------------------------

Pair = tuple[str, np.ndarray, np.ndarray]  # image, keypoints, polygon
SPLITS = ("train", "val")


@pytest.fixture(scope="module")
def truth(realdata: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return COCO's instances and keypoints, joined by their annotation ids."""
    out, root = tmp_path_factory.mktemp("real") / "truth", realdata / "coco-mini"
    files = {k: [root / f"annotations/{n}_{s}.json" for s in SPLITS] for k, n in FILES.items()}
    convert_coco(**files, images=[root / "images" / s for s in SPLITS], out=out, split=SPLITS)
    return out


FILES = {"instances": "instances", "keypoints": "person_keypoints"}


def by_this_package(realdata: Path, truth: Path, folder: Path) -> tuple[Path, Path]:
    """Write the stock sets with `to_yolo`."""
    return to_yolo(truth, "pose", folder / "pose").yaml, to_yolo(truth, "segment", folder / "segment").yaml


def by_the_host(realdata: Path, truth: Path, folder: Path) -> tuple[Path, Path]:
    """Write the stock sets with the host's converter, straight from COCO's files."""
    from ultralytics.data.converter import convert_coco as host

    data = yaml.safe_load((truth / "data.yaml").read_text())
    found = []
    for kind, keys in (("keypoints", ("kpt_shape", "flip_idx")), ("instances", ())):
        (folder / kind / "json").mkdir(parents=True)
        for split in SPLITS:  # the part of the name behind instances_ becomes the folder
            file = realdata / "coco-mini/annotations" / f"{FILES[kind]}_{split}.json"
            (folder / kind / "json" / f"instances_{split}.json").write_bytes(file.read_bytes())
        out = folder / kind / "set"
        host(str(folder / kind / "json"), str(out), use_segments=True, use_keypoints=kind == "keypoints")
        shutil.copytree(realdata / "coco-mini/images", out / "images", dirs_exist_ok=True)
        keys = {k: data[k] for k in keys}
        (out / "data.yaml").write_text(
            yaml.safe_dump({s: f"images/{s}" for s in SPLITS} | keys | {"names": data["names"]})
        )
        found.append(out / "data.yaml")
    return found[0], found[1]


def by_other_hands(realdata: Path, truth: Path, folder: Path) -> tuple[Path, Path]:
    """Write the stock sets with `to_yolo`, with each side of the keypoint set's boxes moved by up to 5% of its size."""
    first, second = by_this_package(realdata, truth, folder)
    spec, rng = load_data(first)["label_spec"], np.random.default_rng(0)
    for file in sorted(first.parent.glob("labels/*/*.txt")):
        labels = read_labels(file, spec)[0]
        half = labels.boxes[:, 2:] / 2
        move = rng.uniform(-0.05, 0.05, (2, *half.shape)) * labels.boxes[:, 2:]
        low, high = labels.boxes[:, :2] - half + move[0], labels.boxes[:, :2] + half + move[1]
        labels.boxes = np.concatenate([(low + high) / 2, high - low], 1).clip(0, 1).astype(np.float32)
        write_labels(file, labels, spec)
    return first, second


def everything(file: Path) -> dict[str, Labels]:
    """Return the labels of all images of a data set."""
    spec = load_data(file, task="segment")["label_spec"]
    root = file.parent / "labels"
    return {f.relative_to(root).as_posix(): read_labels(f, spec)[0] for f in sorted(root.rglob("*.txt"))}


def pairs_of(labels: dict[str, Labels]) -> list[Pair]:
    """Return keypoints and polygon of all instances that have both."""
    found = [(name, i) for name, of_image in labels.items() for i in of_image]
    return [(name, i.keypoints, i.polygon) for name, i in found if i.keypoints is not None and i.polygon is not None]


def agreement(found: list[Pair], wanted: list[Pair]) -> tuple[float, float]:
    """Return precision and recall of pairs; the host writes 6 digits, so coordinates may differ in the sixth."""
    left, right = list(wanted), 0
    for name, keypoints, polygon in found:
        for i, pair in enumerate(left):
            alike = name == pair[0] and len(polygon) == len(pair[2])
            if alike and np.allclose(keypoints, pair[1], atol=2e-6) and np.allclose(polygon, pair[2], atol=2e-6):
                del left[i]  # each counts once
                right += 1
                break
    return right / len(found), right / len(wanted)


@pytest.mark.realdata
@pytest.mark.parametrize("write", [by_this_package, by_the_host, by_other_hands])
def test_real_pairs_are_those_of_the_annotation_ids(realdata: Path, truth: Path, tmp_path: Path, write: Any) -> None:
    stock = write(realdata, truth, tmp_path)
    report = merge(*stock, tmp_path / "out")
    poses, masks = map(everything, stock)
    merged = everything(tmp_path / "out/data.yaml")
    precision, recall = agreement(pairs_of(merged), pairs_of(everything(truth / "data.yaml")))
    print(
        f"\n{write.__name__}: {len(pairs_of(merged))} pairs, precision {precision:.4f}, recall {recall:.4f}\n{report}"
    )
    assert precision >= 0.99
    assert recall >= 0.99
    for name, labels in merged.items():  # nothing is lost, nothing is there twice
        assert labels.keypoints is not None
        for found, source, field in (
            (list(labels.keypoints[labels.has_keypoints]), poses, "keypoints"),
            ([p for p in labels.polygons if p is not None], masks, "polygons"),
        ):
            there = getattr(source[name], field) if name in source else []
            assert Counter(v.tobytes() for v in found) == Counter(v.tobytes() for v in there)


@pytest.mark.realdata
def test_real_stock_sets_give_the_original_back(realdata: Path, truth: Path, tmp_path: Path) -> None:
    """All lines but ignore regions, which stock lines cannot say; without keypoints the box is the polygon's."""
    merge(*by_this_package(realdata, truth, tmp_path), tmp_path / "out")
    merged, wanted = everything(tmp_path / "out/data.yaml"), everything(truth / "data.yaml")
    assert merged.keys() == wanted.keys()
    for name, labels in wanted.items():
        kept = [i for i in labels if not i.ignore]
        assert len(merged[name]) == len(kept)
        for a, b in zip(merged[name], kept, strict=True):
            assert a.cls == b.cls
            np.testing.assert_array_equal(a.polygon, b.polygon)
            np.testing.assert_array_equal(a.keypoints, b.keypoints)
            np.testing.assert_allclose(a.box, b.box, atol=0 if b.keypoints is not None else 5e-3)
