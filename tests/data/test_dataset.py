"""Scan, cache and selection of the data set, and parity with the host's data sets where everything is labelled."""

from __future__ import annotations

import os
import pickle
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from ultralytics.cfg import get_cfg
from ultralytics.data.build import build_dataloader
from ultralytics.data.dataset import YOLODataset

from yolo_multitask.data.augment import class_column
from yolo_multitask.data.columns import (
    CLS,
    HAS_KEYPOINTS,
    HAS_MASK,
    ID,
    IGNORE,
    IMAGE,
    INSTANCE,
    MOTION,
    MOTION_X,
    SCENE,
)
from yolo_multitask.data.dataset import MultiTaskDataset, build_multitask_dataset
from yolo_multitask.data.labels import LabelSpec, format_line, parse_line
from yolo_multitask.data.scan import scan_image

SIZE = 64
NAMES = {0: "person", 1: "ball", 2: "car"}
FULL = LabelSpec(nc=3, kpt_shape=(2, 3), polygons=True, ids=True)
BOXES = LabelSpec(nc=3, kpt_shape=None, polygons=False, format="detect")
AUGMENT: dict[str, Any] = {
    "mosaic": 0.6,
    "mixup": 0.3,
    "cutmix": 0.3,
    "copy_paste": 0.5,
    "degrees": 10.0,
    "shear": 3.0,
    "fliplr": 0.5,
    "flipud": 0.2,
    "mask_ratio": 2,
}


def image_folder(root: Path, labels: dict[str, str | None], *, channels: int = 3, split: str = "train") -> Path:
    """Write one noise image per name and its label file (None: no file); return the image folder."""
    folder = root / "images" / split
    rng = np.random.default_rng(0)
    for i, (name, text) in enumerate(labels.items()):
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (SIZE, 48) if i % 2 else (40, SIZE)
        cv2.imwrite(str(path), rng.integers(0, 255, (*shape, channels), dtype=np.uint8))
        label = root / "labels" / split / f"{name}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        if text is not None:
            label.write_text(text)
    return folder


def data_for(spec: LabelSpec, **extra: Any) -> dict[str, Any]:
    """Return a data configuration as `load_data` would."""
    data = {"names": NAMES, "nc": 3, "channels": 3, "label_spec": spec, "kpt_classes": [0, 1, 2]}
    if spec.kpt_shape:
        data |= {"kpt_shape": list(spec.kpt_shape), "flip_idx": list(range(spec.kpt_shape[0]))[::-1]}
    return data | extra


def make(folder: Path, spec: LabelSpec = FULL, *, augment: bool = False, **kwargs: Any) -> MultiTaskDataset:
    """Build a data set without the host's configuration file."""
    hyp = get_cfg(overrides={"imgsz": SIZE, **kwargs.pop("hyp", {})})
    data = data_for(spec, **kwargs.pop("data", {}))
    return MultiTaskDataset(img_path=str(folder), imgsz=SIZE, augment=augment, hyp=hyp, data=data, **kwargs)


def seeded(dataset: Any, rounds: int = 3) -> list[dict[str, Any]]:
    """Draw every image `rounds` times from fixed seeds."""
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    return [dataset[i] for _ in range(rounds) for i in range(len(dataset))]


def polygon_lines(n: int, rng: np.random.Generator) -> str:
    """Return n stock segment lines."""
    lines = []
    for _ in range(n):
        angles = np.sort(rng.uniform(0, 2 * np.pi, 7))
        radius = rng.uniform(0.08, 0.2, (7, 1))
        points = rng.uniform(0.25, 0.75, 2) + radius * np.stack((np.cos(angles), np.sin(angles)), 1)
        lines.append(" ".join(map(str, [rng.integers(3), *points.clip(0, 1).ravel().tolist()])))
    return "\n".join(lines)


def pose_lines(n: int, dims: int, rng: np.random.Generator) -> str:
    """Return n stock pose lines with two keypoints."""
    lines = []
    for _ in range(n):
        cx, cy, w, h = *rng.uniform(0.3, 0.7, 2), *rng.uniform(0.1, 0.5, 2)
        points = [[cx - w / 4, cy, 2], [cx + w / 4, cy - h / 4, rng.integers(3)]]
        numbers = np.array(points)[:, :dims].ravel().tolist()
        lines.append(" ".join(map(str, [rng.integers(3), cx, cy, w, h, *numbers])))
    return "\n".join(lines)


def assert_same(ours: Any, host: Any, keys: set[str]) -> None:
    """Compare two data sets sample by sample under the same seeds."""
    assert ours.im_files == host.im_files
    seen = 0
    for a, b in zip(seeded(ours), seeded(host), strict=True):
        assert set(b) - set(a) <= {"sem_masks"}
        for key in keys:
            torch.testing.assert_close(a[key], b[key], rtol=0, atol=0, check_dtype=len(b["cls"]) > 0, msg=key)
        for key in ("im_file", "ori_shape", "resized_shape"):
            assert a[key] == b[key]
        seen += len(a["cls"])
        assert len(a["ignore"]) == 0
    assert seen > 20


@pytest.mark.parametrize("augment", [True, False])
@pytest.mark.parametrize("overlap", [True, False])
def test_same_as_the_hosts_segment_data_set(tmp_path: Path, augment: bool, overlap: bool) -> None:
    rng = np.random.default_rng(3)
    folder = image_folder(tmp_path, {f"{i}": polygon_lines(n, rng) for i, n in enumerate((4, 3, 0, 5, 1))})
    spec = LabelSpec(nc=3, kpt_shape=None, polygons=True, format="segment")
    hyp = AUGMENT | {"overlap_mask": overlap}
    ours = make(folder, spec, augment=augment, hyp=hyp)
    args = get_cfg(overrides={"imgsz": SIZE, **hyp})
    host = YOLODataset(img_path=str(folder), imgsz=SIZE, augment=augment, hyp=args, data=data_for(spec), task="segment")
    assert_same(ours, host, {"img", "cls", "bboxes", "masks", "batch_idx"})


@pytest.mark.parametrize("augment", [True, False])
@pytest.mark.parametrize("dims", [2, 3])
def test_same_as_the_hosts_pose_data_set(tmp_path: Path, augment: bool, dims: int) -> None:
    rng = np.random.default_rng(4)
    folder = image_folder(tmp_path, {f"{i}": pose_lines(n, dims, rng) for i, n in enumerate((4, 3, 0, 5, 1))})
    spec = LabelSpec(nc=3, kpt_shape=(2, dims), polygons=False, format="pose")
    ours = make(folder, spec, augment=augment, hyp=AUGMENT)
    args = get_cfg(overrides={"imgsz": SIZE, **AUGMENT})
    host = YOLODataset(img_path=str(folder), imgsz=SIZE, augment=augment, hyp=args, data=data_for(spec), task="pose")
    assert_same(ours, host, {"img", "cls", "bboxes", "keypoints", "batch_idx"})
    assert "masks" not in ours[0]


def test_same_as_the_hosts_detect_data_set(tmp_path: Path) -> None:
    folder = image_folder(tmp_path, {f"{i}": "0 0.3 0.4 0.2 0.3\n2 0.6 0.6 0.3 0.2\n" for i in range(4)})
    ours = make(folder, BOXES, augment=True, hyp=AUGMENT)
    args = get_cfg(overrides={"imgsz": SIZE, **AUGMENT})
    host = YOLODataset(img_path=str(folder), imgsz=SIZE, augment=True, hyp=args, data=data_for(BOXES), task="detect")
    assert_same(ours, host, {"img", "cls", "bboxes", "batch_idx"})
    assert not {"masks", "keypoints"} & set(ours[0])


def everything_labelled(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Write the same instances as multitask, stock segment and stock pose lines; return the three image folders."""
    rng = np.random.default_rng(5)
    stock, ours = LabelSpec(nc=3, kpt_shape=None, polygons=True, format="segment"), FULL
    pose = LabelSpec(nc=3, kpt_shape=(2, 3), polygons=False, format="pose")
    texts: dict[str, dict[str, str | None]] = {"multitask": {}, "segment": {}, "pose": {}}
    for i, n in enumerate((4, 3, 0, 5, 1)):
        rows: dict[str, list[str]] = {name: [] for name in texts}
        for line in polygon_lines(n, rng).splitlines():
            one = parse_line(line, stock)
            points = np.concatenate((one.box[:2] + rng.uniform(-0.1, 0.1, (2, 2)) * one.box[2:], [[2], [1]]), 1)
            both = replace(one, keypoints=points.astype(np.float32))
            rows["segment"].append(line)
            rows["multitask"].append(format_line(both, ours))
            rows["pose"].append(format_line(replace(both, polygon=None), pose))
        for name, lines in rows.items():
            texts[name][str(i)] = "\n".join(lines)
    folders = [image_folder(tmp_path / name, text) for name, text in texts.items()]
    return folders[0], folders[1], folders[2]


@pytest.mark.parametrize("augment", [True, False])
def test_everything_labelled_gives_the_hosts_masks_and_keypoints(tmp_path: Path, augment: bool) -> None:
    multitask, segment, pose = everything_labelled(tmp_path)
    data = data_for(FULL)
    hosts = (  # what the two host data sets do alike: no copy-paste, and nothing cut off that only one of them keeps
        (segment, "segment", {"img", "cls", "bboxes", "masks", "batch_idx"}, AUGMENT),
        (pose, "pose", {"img", "cls", "keypoints", "batch_idx"}, {"mixup": 0.5, "degrees": 5.0, "fliplr": 0.5}),
    )
    for folder, task, keys, augmentation in hosts:
        hyp = {"mosaic": 0.0, "translate": 0.0, "scale": 0.1, **augmentation, "overlap_mask": task == "segment"}
        ours = seeded(make(multitask, augment=augment, hyp=hyp))
        args = get_cfg(overrides={"imgsz": SIZE, **hyp})
        host = YOLODataset(img_path=str(folder), imgsz=SIZE, augment=augment, hyp=args, data=data, task=task)
        for a, b in zip(ours, seeded(host), strict=True):
            for key in keys:
                torch.testing.assert_close(a[key], b[key], rtol=0, atol=0, check_dtype=len(b["cls"]) > 0, msg=key)
            assert a["has_mask"].all()
            assert a["has_keypoints"].all()


BOX = "0.5 0.5 0.4 0.4"
KPT = "0.4 0.5 2 0.6 0.5 1"
POLY = "0.3 0.3 0.7 0.3 0.7 0.7"


def test_columns_say_what_is_labelled(tmp_path: Path) -> None:
    text = "\n".join(
        (f"0 {BOX} {KPT} {POLY} #7", f"1 {BOX} - {POLY}", f"2 {BOX} {KPT} -", f"0 {BOX} - - !", f"1 {BOX} {KPT} -")
    )
    dataset = make(image_folder(tmp_path, {"a": text}), data={"kpt_classes": [0, 2]})
    label = dataset.labels[0]
    assert set(label) == {
        *("im_file", "shape", "cls", "bboxes", "segments", "keypoints", "normalized", "bbox_format"),
    }
    assert label["cls"].dtype == np.float32
    assert label["cls"][:, CLS].tolist() == [0, 1, 2, 0, 1]
    assert label["cls"][:, HAS_KEYPOINTS].tolist() == [1, 0, 1, 0, 0]  # class 1 has no keypoints by kpt_classes
    assert label["cls"][:, HAS_MASK].tolist() == [1, 1, 0, 0, 0]
    assert label["cls"][:, IGNORE].tolist() == [0, 0, 0, 1, 0]
    assert label["cls"][:, ID].tolist() == [0, -1, -1, -1, -1]
    assert [len(s) for s in label["segments"]] == [3, 3, 4, 4, 4]
    np.testing.assert_allclose(label["segments"][2], [[0.3, 0.3], [0.7, 0.3], [0.7, 0.7], [0.3, 0.7]], atol=1e-6)
    assert class_column(dataset.labels).tolist() == [0, 1, 2, 1]


def test_bad_lines_leave_the_image_out_and_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    good = f"0 {BOX} {KPT} {POLY} #7\n"
    folder = image_folder(
        tmp_path,
        {
            "bad": f"{good}5 {BOX} - -\n\n0 0.5 0.5 - -\n",
            "broken": good,
            "empty": "",
            "flat": f"1 {BOX} - 0.2 0.3 0.5 0.3 0.8 0.3\n",
            "good": good + good + f"2 {BOX} - - !\n",
            "none": None,
        },
    )
    (folder / "broken.png").write_bytes(b"not an image")
    dataset = make(folder)
    assert [Path(f).stem for f in dataset.im_files] == ["empty", "flat", "good", "none"]
    bad = str(tmp_path / "labels/train/bad.txt")
    messages = dataset.scan.messages
    assert [m.split(" ")[0] for m in messages if m.startswith(bad)] == [f"{bad}:2:", f"{bad}:4:"]
    assert any("broken.png: corrupt image left out" in m for m in messages)
    assert any("flat.txt: 1 polygons without width or height" in m for m in messages)
    assert any("good.txt:2: repeats line 1" in m for m in messages)
    assert all(m in caplog.text for m in messages)
    assert dataset.scan.summary == (
        "4 images, 2 backgrounds, 1 corrupt, 2 instances, 1 with polygons, 1 with keypoints, 1 with ids, 1 sequences, "
        "1 ignore regions, 2 bad lines, 1 duplicate lines, 1 flat polygons, 1 images left out for bad lines"
    )
    caplog.clear()
    again = make(folder)  # from the cache file, with the same report
    assert again.scan.messages == messages
    assert again.scan.summary == dataset.scan.summary
    assert all(m in caplog.text for m in messages)
    flat = dataset.labels[1]
    assert flat["cls"][0, HAS_MASK] == 0
    assert len(flat["segments"][0]) == 4


def test_an_unreadable_label_file_is_a_bad_line(tmp_path: Path) -> None:
    folder = image_folder(tmp_path, {"a": None})
    (tmp_path / "labels/train/a.txt").mkdir(parents=True)
    scan = scan_image(str(folder / "a.png"), str(tmp_path / "labels/train/a.txt"), FULL)
    assert scan.labels == []
    assert scan.counts["bad lines"] == 1
    assert "a.txt:0: cannot be read" in scan.messages[0]


def test_no_usable_image_is_an_error_that_names_the_reason(tmp_path: Path) -> None:
    folder = image_folder(tmp_path, {"a": f"9 {BOX} - -"})
    with pytest.raises(ValueError, match=r"found 0 images.*1 bad lines(?s:.*)a\.txt:1: expected a class in 0\.\.2"):
        make(folder)


def test_training_without_label_files_is_an_error(tmp_path: Path) -> None:
    folder = image_folder(tmp_path, {"a": None})
    with pytest.raises(ValueError, match=r"expected label files such as .*a\.txt, found none"):
        make(folder, augment=True)
    assert len(make(folder)[0]["cls"]) == 0


def test_no_images_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(FileNotFoundError, match="images"):
        make(tmp_path / "images")


def test_data_without_label_spec_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="label_spec"):
        MultiTaskDataset(img_path=str(tmp_path), data={"names": NAMES})


def test_cache_file_is_our_own_and_notices_changes(tmp_path: Path) -> None:
    text = f"0 {BOX} {KPT} {POLY}\n"
    folder = image_folder(tmp_path, {"a": text, "b": text})
    path = tmp_path / "labels/train.multitask.cache"
    make(folder)
    first = path.read_bytes()
    assert sorted(p.name for p in (tmp_path / "labels").iterdir()) == ["train", "train.multitask.cache"]
    make(folder)
    assert path.read_bytes() == first

    label = tmp_path / "labels/train/a.txt"
    stat = label.stat()
    label.write_text(text.replace("0 ", "1 ", 1))  # the same size
    os.utime(label, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))
    assert make(folder).labels[0]["cls"][0, CLS] == 1

    without_ids = LabelSpec(nc=3, kpt_shape=(2, 3), polygons=True, ids=False)
    assert make(folder, without_ids).get_cache_hash() != make(folder).get_cache_hash()

    path.write_bytes(first[:-50])
    assert len(make(folder)) == 2
    path.write_bytes(b"")
    assert len(make(folder)) == 2
    assert not list((tmp_path / "labels").glob(".*"))


def test_cache_does_not_meet_the_hosts(tmp_path: Path) -> None:
    folder = image_folder(tmp_path, {"a": f"0 {BOX}\n"})
    host = YOLODataset(img_path=str(folder), imgsz=SIZE, augment=False, data=data_for(BOXES), task="detect")
    make(folder, BOXES)
    assert (tmp_path / "labels/train.cache").is_file()
    assert (tmp_path / "labels/train.multitask.cache").is_file()
    assert host.labels[0]["cls"].shape == (1, 1)


def test_a_read_only_folder_only_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*args: Any) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr("yolo_multitask.data.scan.os.replace", refuse)
    assert len(make(image_folder(tmp_path, {"a": f"0 {BOX} - -"}))) == 1
    assert "not written: read-only" in caplog.text
    assert not list((tmp_path / "labels").glob("*cache*"))


def test_identities_are_counted_per_folder(tmp_path: Path) -> None:
    big = 2**40
    folder = image_folder(
        tmp_path,
        {
            "s1/0": f"0 {BOX} - - #3\n1 {BOX} - - #{big}\n",
            "s1/1": f"1 {BOX} - - #{big + 1}\n1 {BOX} - - #{big}\n",
            "s2/0": f"0 {BOX} - - #3\n2 {BOX} - -\n",
        },
    )
    dataset = make(folder)
    assert [label["cls"][:, ID].tolist() for label in dataset.labels] == [[0, 1], [2, 1], [3, -1]]
    names = [(Path(f).name, i) for f, i in dataset.identities]
    assert names == [("s1", 3), ("s1", big), ("s1", big + 1), ("s2", 3)]
    assert dataset[2]["ids"].tolist() == [3, -1]


SEQUENCES: dict[str, str | None] = {
    "s1/2": "0 0.5 0.5 0.2 0.4 - - #7\n0 0.2 0.2 0.1 0.1 - - #8",
    "s1/10": "0 0.6 0.3 0.4 0.4 - - #7\n0 0.2 0.2 0.1 0.1 - -\n1 0.5 0.5 0.1 0.1 - - #7 !",
    "s1/30": "0 0.6 0.3 0.4 0.4 - - #8\n0 0.55 0.4 0.4 0.2 - - #7",
    "s2/1": "0 0.5 0.5 0.2 0.2 - - #7",
    "s2/2": None,
    "s2/3": "0 0.5 0.5 0.2 0.2 - - #7",
    "still/1": "0 0.5 0.5 0.2 0.2 - -",
    "still/2": "0 0.5 0.5 0.2 0.2 - -",
}


def test_scenes_instances_and_images_are_numbered(tmp_path: Path) -> None:
    dataset = make(image_folder(tmp_path, SEQUENCES))
    names = [f"{Path(f).parent.name}/{Path(f).stem}" for f in dataset.im_files]
    assert "8 images, 1 backgrounds, 0 corrupt, 10 instances, 7 with ids, 2 sequences" in dataset.scan.summary
    assert [[names[i] for i in s] for s in dataset.sequences] == [["s1/2", "s1/10", "s1/30"], ["s2/1", "s2/2", "s2/3"]]
    rows = np.concatenate([label["cls"] for label in dataset.labels])
    assert rows[:, INSTANCE].tolist() == list(range(11))
    scenes = {n: label["cls"][:, SCENE].tolist() for n, label in zip(names, dataset.labels, strict=True)}
    assert {n: set(s) for n, s in scenes.items() if s} == {
        **{"s1/2": {0}, "s1/10": {0}, "s1/30": {0}, "s2/1": {1}, "s2/3": {1}},
        **{"still/1": {2 + names.index("still/1")}, "still/2": {2 + names.index("still/2")}},
    }
    for i, label in enumerate(dataset.labels):
        assert (label["cls"][:, IMAGE] == i).all()
    again = make(tmp_path / "images/train")  # from the cache file
    for a, b in zip(dataset.labels, again.labels, strict=True):
        np.testing.assert_array_equal(a["cls"], b["cls"])


def test_motion_is_to_the_next_stored_frame(tmp_path: Path) -> None:
    dataset = make(image_folder(tmp_path, SEQUENCES))
    motion = {
        f"{Path(label['im_file']).parent.name}/{Path(label['im_file']).stem}": label["cls"][:, MOTION]
        for label in dataset.labels
    }
    unknown = [np.nan] * 4
    expected = {
        "s1/2": [[0.5, -0.5, np.log(2), 0], unknown],  # the frame after 2 is 10; there 8 is gone
        "s1/10": [[-0.125, 0.25, 0, -np.log(2)], unknown, unknown],  # without an id; ignore region
        "s1/30": [unknown, unknown],
        "s2/1": [unknown],  # the next frame is empty
        **{name: [unknown] for name in ("s2/3", "still/1", "still/2")},
    }
    for name, values in expected.items():
        np.testing.assert_allclose(motion[name], values, atol=1e-6, err_msg=name)


def test_motion_is_unknown_across_a_frame_that_was_left_out(tmp_path: Path) -> None:
    lines = dict.fromkeys(("s/1", "s/2", "s/3", "s/4"), f"0 {BOX} - - #7")
    dataset = make(image_folder(tmp_path, lines | {"s/3": "0 bad line"}))
    found = {Path(x["im_file"]).stem: x["cls"][0, MOTION_X] for x in dataset.labels}
    np.testing.assert_array_equal([found["1"], found["2"], found["4"]], [0, np.nan, np.nan])
    assert [[Path(dataset.im_files[i]).stem for i in s] for s in dataset.sequences] == [["1", "2", "4"]]


def test_motion_is_unknown_where_a_frame_shows_an_identity_twice(tmp_path: Path) -> None:
    twice = f"0 {BOX} - - #7\n0 0.2 0.2 0.1 0.1 - - #7\n0 {BOX} - - #8"
    dataset = make(image_folder(tmp_path, {"s/1": f"0 {BOX} - - #8\n0 {BOX} - - #7", "s/2": twice, "s/3": twice}))
    values = [label["cls"][:, MOTION_X].tolist() for label in dataset.labels]
    np.testing.assert_array_equal(np.concatenate(values), [0, np.nan, np.nan, np.nan, 0, np.nan, np.nan, np.nan])


def test_an_image_that_is_listed_twice_is_one_image(tmp_path: Path) -> None:
    folder = image_folder(tmp_path, {"s/1": f"0 {BOX} - - #7", "s/2": "0 0.7 0.5 0.4 0.4 - - #7"})
    names = [folder / "s/1.png", folder / "s/1.png", folder / "s/2.png"]
    (tmp_path / "list.txt").write_text("\n".join(map(str, names)))
    dataset = make(tmp_path / "list.txt")
    values = [label["cls"][0, MOTION_X] for label in dataset.labels]
    np.testing.assert_allclose(values, [0.5, 0.5, np.nan], atol=1e-6)
    assert [label["cls"][0, INSTANCE] for label in dataset.labels] == [0, 0, 1]
    assert [label["cls"][0, IMAGE] for label in dataset.labels] == [0, 0, 1]


def test_rect_keeps_sequences_in_order(tmp_path: Path) -> None:
    dataset = make(image_folder(tmp_path, SEQUENCES), rect=True, batch_size=2)
    names = [[Path(dataset.im_files[i]).stem for i in s] for s in dataset.sequences]
    assert names == [["2", "10", "30"], ["1", "2", "3"]]


def test_single_cls_touches_the_class_only(tmp_path: Path) -> None:
    text = f"0 {BOX} {KPT} {POLY} #7\n12 {BOX} {KPT} -\n2 {BOX} - - !"
    folder = image_folder(tmp_path, {"a": text})
    label = make(folder, single_cls=True).labels[0]["cls"]
    assert label[:, : ID + 1].tolist() == [[0, 1, 1, 0, 0], [0, 1, 0, 0, -1], [0, 0, 0, 1, -1]]
    with pytest.raises(ValueError, match="1 bad lines"):
        make(folder)


def test_single_cls_keeps_the_keypoint_labels_of_the_classes_in_the_files(tmp_path: Path) -> None:
    text = f"0 {BOX} {KPT} -\n1 {BOX} {KPT} -"
    folder = image_folder(tmp_path, {"a": text})
    label = make(folder, single_cls=True, data={"names": {0: "item"}, "nc": 1, "kpt_classes": [1]}).labels[0]["cls"]
    assert label[:, CLS].tolist() == [0, 0]
    assert label[:, HAS_KEYPOINTS].tolist() == [0, 1]


def test_classes_filter_covers_ignore_regions(tmp_path: Path) -> None:
    text = f"0 {BOX} {KPT} {POLY} #0\n1 {BOX} {KPT} {POLY}\n2 {BOX} - - !\n1 {BOX} - - !"
    dataset = make(image_folder(tmp_path, {"a": text, "b": ""}), classes=[1])
    label = dataset.labels[0]
    assert label["cls"][:, CLS].tolist() == [1, 1]
    assert label["cls"][:, IGNORE].tolist() == [0, 1]
    assert {k: len(label[k]) for k in ("bboxes", "segments", "keypoints")} == dict.fromkeys(
        ("bboxes", "segments", "keypoints"), 2
    )
    assert dataset[0]["cls"].tolist() == [[1.0]]
    assert len(dataset[0]["ignore"]) == 1
    assert dataset[1]["cls"].shape == (0, 1)


def test_batches_have_every_key(tmp_path: Path) -> None:
    folder = image_folder(
        tmp_path,
        {
            "a": f"0 {BOX} {KPT} {POLY} #7\n1 {BOX} - -\n2 {BOX} - - !",
            "b": "",
            "c": f"2 {BOX} - - !\n0 0.2 0.2 0.1 0.1 - - !\n1 {BOX} - {POLY}",
        },
    )
    dataset = make(folder, hyp={"mask_ratio": 2})
    batch = next(iter(build_dataloader(dataset, batch=3, workers=0, shuffle=False)))
    assert batch["img"].shape == (3, 3, SIZE, SIZE)
    assert batch["masks"].shape == (3, SIZE // 2, SIZE // 2)
    assert batch["masks"].dtype == torch.uint8
    assert batch["cls"].shape == (3, 1)
    assert batch["bboxes"].shape == (3, 4)
    assert batch["keypoints"].shape == (3, 2, 3)
    assert batch["batch_idx"].tolist() == [0, 0, 2]
    assert batch["has_mask"].tolist() == [True, False, True]
    assert batch["has_keypoints"].tolist() == [True, False, False]
    assert batch["ids"].tolist() == [0, -1, -1]
    assert batch["has_id"].tolist() == [True, False, False]
    assert batch["instance"].tolist() == [0, 1, 5]
    assert batch["image"].tolist() == batch["batch_idx"].tolist()
    assert batch["scene"].tolist() == [0, 0, 0]
    assert {batch[k].dtype for k in ("ids", "instance", "image", "scene")} == {torch.int64}
    assert batch["has_id"].dtype == torch.bool
    assert batch["motion"].dtype == torch.float32
    assert batch["motion"].shape == (3, 4)
    assert batch["motion"].isnan().all()
    assert batch["ignore"].shape == (3, 4)
    assert batch["ignore_idx"].tolist() == [0, 2, 2]
    assert batch["masks"][0].max() == batch["masks"][2].max() == 1
    assert batch["masks"][1].max() == 0


def test_batches_of_empty_images(tmp_path: Path) -> None:
    dataset = make(image_folder(tmp_path, {"a": "", "b": None}), hyp={"overlap_mask": False})
    batch = dataset.collate_fn([dataset[0], dataset[1]])
    shapes = {k: tuple(batch[k].shape) for k in batch if isinstance(batch[k], torch.Tensor) and k != "img"}
    assert shapes == {
        **dict.fromkeys(("batch_idx", "has_id", "has_keypoints", "has_mask", "instance", "image", "scene"), (0,)),
        "motion": (0, 4),
        "cls": (0, 1),
        "bboxes": (0, 4),
        "keypoints": (0, 2, 3),
        "ids": (0,),
        "ignore": (0, 4),
        "ignore_idx": (0,),
        "masks": (0, SIZE // 4, SIZE // 4),
    }


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_channels(tmp_path: Path, channels: int) -> None:
    folder = image_folder(tmp_path, {"a": f"0 {BOX} {KPT} {POLY}", "b": f"0 {BOX} - -"}, channels=channels)
    dataset = make(folder, augment=True, hyp=AUGMENT, data={"channels": channels})
    assert {s["img"].shape[0] for s in seeded(dataset)} == {channels}


@pytest.mark.parametrize("cache", ["ram", "disk"])
def test_image_cache_gives_the_same_samples(tmp_path: Path, cache: str) -> None:
    folder = image_folder(tmp_path, {"a": f"0 {BOX} {KPT} {POLY} #1", "b": f"1 {BOX} - - !"})
    plain, cached = make(folder), make(folder, cache=cache)
    for a, b in zip(seeded(plain), seeded(cached), strict=True):
        for key, value in a.items():
            if isinstance(value, torch.Tensor):
                torch.testing.assert_close(value, b[key], rtol=0, atol=0, equal_nan=True, msg=key)


def test_rect_batches_share_a_shape(tmp_path: Path) -> None:
    folder = image_folder(tmp_path, {f"{i}": f"0 {BOX} {KPT} {POLY} #{i}" for i in range(4)})
    dataset = make(folder, rect=True, batch_size=2)
    for first in (0, 2):
        batch = dataset.collate_fn([dataset[first], dataset[first + 1]])
        assert batch["img"].shape[2:] == tuple(dataset.batch_shapes[first // 2])
    assert sorted(int(dataset[i]["ids"]) for i in range(4)) == [0, 1, 2, 3]
    train = make(folder, augment=True, rect=True, batch_size=2, hyp=AUGMENT)
    assert len({s["img"].shape for s in seeded(train)}) == 2


def test_data_set_can_be_sent_to_a_worker(tmp_path: Path) -> None:
    dataset = make(image_folder(tmp_path, {"a": f"0 {BOX} {KPT} {POLY}"}), augment=True)
    assert len(pickle.loads(pickle.dumps(dataset))) == 1


@pytest.mark.parametrize(("mode", "expected"), [("train", 2), ("val", 4)])
def test_build_follows_the_configuration(tmp_path: Path, mode: str, expected: int) -> None:
    folder = image_folder(tmp_path, {f"{i}": f"2 {BOX} {KPT} {POLY}" for i in range(4)})
    args = get_cfg(overrides={"imgsz": SIZE, "fraction": 0.5, "single_cls": True})
    data = data_for(FULL)
    dataset = build_multitask_dataset(args, str(folder), 2, data, mode=mode, rect=mode == "val", stride=32)
    assert len(dataset) == expected
    assert dataset.augment == (mode == "train")
    assert dataset.rect == (mode == "val")
    assert dataset.labels[0]["cls"][0, CLS] == 0
    assert len(build_multitask_dataset(args, str(folder), 2, data | {"complete": True}, mode=mode)) == 4
    assert len(build_multitask_dataset(args, str(folder), 2, data, mode=mode, fraction=0.25)) == 1
