"""Label lines to COCO JSON and to stock sets for one task: every field, what is left out, and the way back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from support.labelled import HEIGHT, WIDTH, lines_of, write_set

from yolo_multitask.cli.data import call
from yolo_multitask.data.config import load_data
from yolo_multitask.data.convert.coco import convert_coco
from yolo_multitask.data.convert.to_coco import polygon_area, to_coco
from yolo_multitask.data.convert.to_yolo import to_yolo
from yolo_multitask.data.labels import Instance, Labels, LabelSpec, polygon_box, read_labels, write_labels
from yolo_multitask.data.merge import merge

KPTS = "0.3 0.3 2 0.5 0.5 1"
SQUARE = "0.1 0.1 0.6 0.1 0.6 0.6 0.1 0.6"
FULL: dict[str, Any] = {
    "names": {0: "dog", 1: "person", 2: "cat"},
    "labels": {"keypoints": True, "polygons": True, "ids": True},
    "kpt_shape": [2, 3],
    "flip_idx": [1, 0],
    "kpt_names": {1: ["left", "right"]},
    "kpt_classes": ["person"],
    "coco_categories": [18, 1, 17],
}
LINES = [
    f"1 0.35 0.35 0.5 0.5 {KPTS} {SQUARE} #4",
    f"1 0.35 0.35 0.5 0.5 - {SQUARE}",
    "1 0.5 0.5 0.25 0.5 0 0 0 -3 0.5 0 -",
    f"0 0.35 0.35 0.5 0.5 - {SQUARE}",
    "2 0.5 0.5 0.25 0.5 - -",
    "0 0.5 0.5 0.25 0.5 - - @0.5 !",
    f"0 0.35 0.35 0.5 0.5 - {SQUARE} #9",
]


def random_labels(seed: int, spec: LabelSpec, kpt_class: int) -> Labels:
    """Return instances in the cells of a grid, each with polygon or keypoints or both; coordinates have 6 decimals."""
    rng = np.random.default_rng(seed)
    instances = []
    for cell in rng.permutation(9)[: rng.integers(0, 10)]:
        low = np.array(divmod(int(cell), 3)) / 3 + 0.02
        points = low + rng.uniform(0, 0.29, (rng.integers(3, 9), 2))
        corners = np.concatenate([points.min(0, keepdims=True), points.max(0, keepdims=True)])
        cls, parts = int(rng.integers(spec.nc)), int(rng.integers(1, 4))
        keypoints = None
        if cls == kpt_class and parts != 2:
            keypoints = np.concatenate([rng.uniform(0, 1, (2, 2)), rng.integers(1, 3, (2, 1))], 1)
            keypoints[rng.integers(2)] *= rng.integers(2)  # one may be absent
        moved = corners + rng.uniform(0, 0.01, (2, 2)) * np.ptp(corners, 0)  # an annotated box, not quite the polygon's
        box = np.concatenate([moved.mean(0), np.ptp(moved, 0)])
        box, polygon = box.round(6).astype(np.float32), points.round(6).astype(np.float32)
        if keypoints is None:
            box = polygon_box(polygon)  # as of a stock line
        else:
            keypoints = keypoints.round(6).astype(np.float32)
        has_polygon = parts != 1 or keypoints is None
        instances.append(Instance(cls=cls, box=box, keypoints=keypoints, polygon=polygon if has_polygon else None))
    return Labels.from_instances(instances, spec)


def same(a: Instance, b: Instance, box_atol: float = 0.0) -> bool:
    """Return whether two instances are equal; boxes to a tolerance."""
    fields = ((a.keypoints, b.keypoints), (a.polygon, b.polygon))
    equal = all((x is None) == (y is None) and (x is None or np.array_equal(x, y)) for x, y in fields)
    alike = np.allclose(a.box, b.box, rtol=0, atol=box_atol)
    return equal and alike and (a.cls, a.id, a.ignore) == (b.cls, b.id, b.ignore)


# ---- to stock sets --------------------------------------------------------------------------------------------------


def test_detect(tmp_path: Path) -> None:
    report = to_yolo(write_set(tmp_path / "in", {"val/a": LINES}, **FULL), "detect", tmp_path / "out")
    assert lines_of(tmp_path / "out", "val/a") == [
        "1 0.35 0.35 0.5 0.5",
        "1 0.5 0.5 0.25 0.5",
        "0 0.35 0.35 0.5 0.5",
        "2 0.5 0.5 0.25 0.5",
    ]
    counts = report.splits["val"]
    assert counts.dropped == {"ignore region": 1, "repeats a line of its file in what detect says": 2}
    assert counts.notes == {"identity left out": 2}
    assert counts.annotations == counts.instances + sum(counts.dropped.values()) == 7
    data = yaml.safe_load((tmp_path / "out/data.yaml").read_text())
    assert data == {
        **{"train": None, "val": "images/val", "task": "detect", "coco_categories": [18, 1, 17]},
        "names": FULL["names"],
    }


def test_segment(tmp_path: Path) -> None:
    lines = [*LINES, "0 0.5 0.5 0.5 0.5 - 0.1 0.1 0.1 0.2 0.1 0.3"]
    report = to_yolo(write_set(tmp_path / "in", {"val/a": lines}, **FULL), "segment", tmp_path / "out")
    assert lines_of(tmp_path / "out", "val/a") == [f"1 {SQUARE}", f"0 {SQUARE}"]
    counts = report.splits["val"]
    assert counts.dropped == {
        "ignore region": 1,
        "polygon not labelled": 2,
        "polygon without width or height": 1,
        "repeats a line of its file in what segment says": 2,
    }
    assert (counts.instances, counts.polygons, counts.keypoints) == (2, 2, 0)
    assert load_data(tmp_path / "out/data.yaml")["label_spec"].format == "segment"


def test_pose(tmp_path: Path) -> None:
    report = to_yolo(write_set(tmp_path / "in", {"val/a": LINES}, **FULL), "pose", tmp_path / "out")
    assert lines_of(tmp_path / "out", "val/a") == [f"0 0.35 0.35 0.5 0.5 {KPTS}", "0 0.5 0.5 0.25 0.5 0 0 0 0 0 0"]
    counts = report.splits["val"]
    assert counts.dropped == {"keypoints not labelled": 1, "class without keypoints": 3, "ignore region": 1}
    assert counts.notes == {"identity left out": 1, "absent keypoint outside the image, written as 0 0": 1}
    data = load_data(tmp_path / "out/data.yaml")
    assert data["names"] == {0: "person"}
    assert data["label_spec"] == LabelSpec(nc=1, kpt_shape=(2, 3), polygons=False, format="pose")
    assert (data["kpt_names"], data["flip_idx"]) == ({0: ["left", "right"]}, [1, 0])
    assert data["coco_categories"] == [1]


def test_pose_with_two_numbers_a_keypoint(tmp_path: Path) -> None:
    keys = {"names": ["person"], "labels": {"polygons": True}, "kpt_shape": [2, 2]}
    data = write_set(tmp_path / "in", {"val/a": ["0 0.5 0.5 0.2 0.2 0.25 0.75 -7 0.5 -"]}, **keys)
    to_yolo(data, "pose", tmp_path / "out")
    assert lines_of(tmp_path / "out", "val/a") == ["0 0.5 0.5 0.2 0.2 0.25 0.75 -0.01 -0.01"]
    assert host_problems(tmp_path / "out/data.yaml", "pose") == []


def host_problems(data: Path, task: str) -> list[str]:
    """Read the val split with the host's own data set; return what it complains about."""
    from ultralytics.cfg import get_cfg
    from ultralytics.data.build import build_yolo_dataset
    from ultralytics.data.utils import check_det_dataset, load_dataset_cache_file

    checked = check_det_dataset(str(data))
    built = build_yolo_dataset(get_cfg(overrides={"task": task, "imgsz": 32}), checked["val"], 1, checked, mode="val")
    cache = load_dataset_cache_file(data.parent / "labels/val.cache")
    assert cache["results"][3] == 0, cache["msgs"]  # corrupt
    written = sum(len(file.read_text().splitlines()) for file in data.parent.glob("labels/val/*.txt"))
    assert sum(len(label["cls"]) for label in built.labels) == written > 0
    assert built[0]["img"].shape[0] == 3
    return list(cache["msgs"])


@pytest.mark.parametrize("task", ["detect", "segment", "pose"])
def test_the_host_reads_it_without_complaint(tmp_path: Path, task: str) -> None:
    to_yolo(write_set(tmp_path / "in", {"val/a": LINES}, **FULL), task, tmp_path / "out")
    assert host_problems(tmp_path / "out/data.yaml", task) == []


@pytest.mark.parametrize("seed", range(8))
def test_merging_the_stock_sets_gives_the_original_back(tmp_path: Path, seed: int) -> None:
    keys = {k: v for k, v in FULL.items() if k != "labels"} | {"labels": {"keypoints": True, "polygons": True}}
    data = write_set(tmp_path / "in", {"train/x/a": [], "val/b": []}, **keys)
    spec = load_data(data)["label_spec"]
    wanted = {name: random_labels(seed + i, spec, 1) for i, name in enumerate(("train/x/a", "val/b"))}
    for name, labels in wanted.items():
        write_labels(tmp_path / f"in/labels/{name}.txt", labels, spec)
    for task in ("pose", "segment"):
        to_yolo(data, task, tmp_path / task)
    merge(tmp_path / "pose", tmp_path / "segment", tmp_path / "out")
    again = load_data(tmp_path / "out/data.yaml")
    for key in ("names", "label_spec", "kpt_classes", "kpt_names", "flip_idx", "coco_categories"):
        assert again[key] == load_data(data)[key], key
    for name, labels in wanted.items():
        found = list(read_labels(tmp_path / f"out/labels/{name}.txt", spec)[0])
        left = list(labels)
        for instance in found:
            at = [i for i, other in enumerate(left) if same(instance, other)]
            assert len(at) == 1
            del left[at[0]]
        assert left == []


def test_what_to_yolo_refuses(tmp_path: Path) -> None:
    data = write_set(tmp_path / "in", {"val/a": LINES}, **FULL)
    boxes = write_set(tmp_path / "boxes", {"val/a": []}, names=["dog"])
    several = boxes.with_name("several.yaml")
    source = {"path": str(tmp_path / "in"), "split": "val"}
    several.write_text(yaml.safe_dump({"train": [source], "val": [source]}))
    for error, words, message in (
        (ValueError, (data, "obb", "o"), "task: expected one of detect, segment, pose, found 'obb'"),
        (ValueError, (boxes, "pose", "o"), "its lines are `cls cx cy w h`; add `kpt_shape: [K, D]`"),
        (ValueError, (several, "pose", "o"), "expected a data set with plain paths, found one that lists sources"),
        (ValueError, (data, "pose", "in"), "expected another folder, found the images of data="),
        (FileNotFoundError, (tmp_path, "pose", "o"), "expected a data YAML or a folder with data.yaml"),
    ):
        with pytest.raises(error) as caught:
            to_yolo(words[0], words[1], tmp_path / words[2])
        assert message in str(caught.value)
    to_yolo(data, "pose", tmp_path / "o")
    with pytest.raises(ValueError, match="the split val exists already"):
        to_yolo(data, "pose", tmp_path / "o")
    with pytest.raises(ValueError, match="the split val of another run is there"):
        to_yolo(write_set(tmp_path / "t", {"train/a": LINES}, **FULL), "pose", tmp_path / "o")
    to_yolo(data, "detect", tmp_path / "o", exist_ok=True)
    assert yaml.safe_load((tmp_path / "o/data.yaml").read_text())["task"] == "detect"


def test_hidden_files_are_not_taken(tmp_path: Path) -> None:
    """As the host takes none; macOS writes them beside its own."""
    data = write_set(tmp_path / "in", {"val/a": LINES}, **FULL)
    (tmp_path / "in/images/val/._a.png").write_bytes(b"")
    assert to_yolo(data, "detect", tmp_path / "out").splits["val"].images == 1
    assert to_coco(data, tmp_path / "out.json").counts["images"] == 1


def test_images_without_lines(tmp_path: Path) -> None:
    data = write_set(tmp_path / "in", {"val/a": LINES, "val/b": LINES[3:]}, **FULL)
    with_all = to_yolo(data, "pose", tmp_path / "all").splits["val"]
    assert (with_all.images, with_all.background, with_all.images_skipped) == (2, 1, 0)
    without = to_yolo(data, "pose", tmp_path / "some", background=False).splits["val"]
    assert (without.images, without.background, without.images_skipped) == (1, 0, 1)
    assert [p.name for p in (tmp_path / "some/images/val").iterdir()] == ["a.png"]
    only = write_set(tmp_path / "only", {"val/b": LINES[3:]}, **FULL)
    with pytest.raises(ValueError, match="expected labels for pose in val, found none"):
        to_yolo(only, "pose", tmp_path / "none", background=False)


# ---- to COCO --------------------------------------------------------------------------------------------------------


def test_every_field_of_the_json(tmp_path: Path) -> None:
    data = write_set(tmp_path / "in", {"val/street/10": LINES[5:], "val/street/9": LINES[:3]}, **FULL)
    report = to_coco(data, tmp_path / "new/out.json")
    content = json.loads((tmp_path / "new/out.json").read_text())
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["out.json"]
    assert list(content) == ["info", "videos", "categories", "images", "annotations"]
    assert content["videos"] == [{"id": 1, "name": "street"}]
    assert content["categories"] == [
        {"id": 18, "name": "dog"},
        {"id": 1, "name": "person", "keypoints": ["left", "right"], "skeleton": []},
        {"id": 17, "name": "cat"},
    ]
    size = {"width": WIDTH, "height": HEIGHT, "video_id": 1}
    assert content["images"] == [
        {"id": 10, "file_name": "street/10.png", **size, "frame_id": 1},
        {"id": 9, "file_name": "street/9.png", **size, "frame_id": 0},
    ]
    region, dog, person, other, absent = content["annotations"]
    assert [a["id"] for a in content["annotations"]] == [1, 2, 3, 4, 5]
    assert region == {
        **{"id": 1, "image_id": 10, "category_id": 18, "iscrowd": 1, "segmentation": [], "score": 0.5},
        **{"bbox": [15.0, 5.0, 10.0, 10.0], "area": 100.0},
    }
    assert dog["instance_id"] == 9
    assert "keypoints" not in dog
    assert set(person) == set(region) - {"score"} | {"keypoints", "num_keypoints", "instance_id"}
    assert (person["image_id"], person["category_id"], person["instance_id"], person["iscrowd"]) == (9, 1, 4, 0)
    np.testing.assert_allclose(person["bbox"], [4, 2, 20, 10], atol=1e-6)
    np.testing.assert_allclose(person["segmentation"], [[4, 2, 24, 2, 24, 12, 4, 12]], atol=1e-5)
    np.testing.assert_allclose(person["keypoints"], [12, 6, 2, 20, 10, 1], atol=1e-5)
    assert (person["num_keypoints"], person["area"]) == (2, pytest.approx(200, abs=1e-4))
    assert (other["keypoints"], other["num_keypoints"]) == ([0] * 6, 0)
    assert (absent["keypoints"], absent["num_keypoints"]) == ([0] * 6, 0)
    assert +report.counts == {
        **{"images": 2, "annotations": 5, "ignore regions": 1, "with polygons": 3, "with keypoints": 1},
        **{"with identities": 2, "videos": 1, "changed: all keypoints absent, written as not labelled": 1},
    }


def test_stock_sets_and_two_numbers_a_keypoint(tmp_path: Path) -> None:
    segments = write_set(tmp_path / "s", {"val/a": [f"1 {SQUARE}"]}, names=["dog", "cat"])
    to_coco(segments, tmp_path / "s.json", task="segment")
    content = json.loads((tmp_path / "s.json").read_text())
    assert [c["id"] for c in content["categories"]] == [1, 2]
    assert "videos" not in content
    (row,) = content["annotations"]
    assert (row["category_id"], content["images"][0]["id"]) == (2, 1)
    lines = {"val/1": ["0 0.5 0.5 0.2 0.2 0.25 0.75 -1 -1"]}
    poses = write_set(tmp_path / "p", lines, names=["man"], kpt_shape=[2, 2])
    to_coco(poses, tmp_path / "p.json")
    content = json.loads((tmp_path / "p.json").read_text())
    assert content["categories"][0]["keypoints"] == ["keypoint_0", "keypoint_1"]
    assert content["annotations"][0]["keypoints"] == [10, 15, 2, 0, 0, 0]
    assert content["annotations"][0]["num_keypoints"] == 1


@pytest.mark.parametrize("seed", range(4))
def test_convert_coco_gives_the_same_lines(tmp_path: Path, seed: int) -> None:
    """To the last digit: nothing is rounded on the way out, and on the way back what has 6 decimals stays as it is."""
    keys = {k: v for k, v in FULL.items() if k != "labels"} | {"labels": {"keypoints": True, "polygons": True}}
    keys |= {"names": {0: "person", 1: "cat", 2: "dog"}, "coco_categories": [1, 17, 18]}
    keys |= {"kpt_names": {0: ["left", "right"]}}
    data = write_set(tmp_path / "in", {"val/x/a": [], "val/x/b": []}, **keys)
    spec = load_data(data)["label_spec"]
    for i, name in enumerate("ab"):
        labels = random_labels(seed + i, spec, 0)
        labels.boxes = labels.boxes.round(6)
        write_labels(tmp_path / f"in/labels/val/x/{name}.txt", labels, spec)
    with (tmp_path / "in/labels/val/x/b.txt").open("a") as file:
        file.write(f"2 0.5 0.5 0.25 0.5 - {SQUARE} !\n2 0.5 0.5 0.25 0.5 - - !\n1 0.9 0.9 0.2 0.2 - -\n")
        file.write(f"0 0.1 0.9 0.1 0.1 0.1 0.1 2 0 0 0 {SQUARE}\n")
    to_coco(data, tmp_path / "val.json")
    convert_coco(instances=tmp_path / "val.json", images=tmp_path / "in/images/val", out=tmp_path / "out", split="val")
    for name in ("val/x/a", "val/x/b"):
        assert lines_of(tmp_path / "out", name) == lines_of(tmp_path / "in", name)
    again = load_data(tmp_path / "out/data.yaml")
    for key in ("names", "label_spec", "kpt_classes", "kpt_names", "flip_idx", "coco_categories"):
        assert again[key] == load_data(data)[key], key


def test_pycocotools_reads_it(tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    box = "0.35 0.35 0.5 0.5"
    whole = [f"1 {box} {KPTS} {SQUARE}", f"0 {box} - {SQUARE}", f"0 0.8 0.8 0.4 0.4 - {SQUARE} !"]
    to_coco(write_set(tmp_path / "in", {"val/7": whole}, **FULL), tmp_path / "out.json")
    truth = coco.COCO(str(tmp_path / "out.json"))
    assert truth.getImgIds() == [7]
    assert [c["name"] for c in truth.loadCats(truth.getCatIds(catNms=["person"]))] == ["person"]
    rows = truth.loadAnns(truth.getAnnIds())
    mask = truth.annToMask(rows[0])
    assert mask.shape == (HEIGHT, WIDTH)
    assert mask.sum() == 200
    assert rows[0]["area"] == pytest.approx(200)
    results = truth.loadRes([{**row, "score": 1.0} for row in rows if not row["iscrowd"]])
    for kind in ("bbox", "segm", "keypoints"):
        run = evaluation.COCOeval(truth, results, kind)
        if kind == "keypoints":
            run.params.catIds, run.params.kpt_oks_sigmas = [1], np.array([0.1, 0.1])
        run.evaluate()
        run.accumulate()
        run.summarize()
        assert run.stats[0] == pytest.approx(1.0), kind


def test_the_area_of_parts_that_turn_either_way() -> None:
    from ultralytics.data.converter import merge_multi_segment

    square = np.array([[0.0, 0], [4, 0], [4, 4], [0, 4]])
    parts = [square, square[::-1] + np.array([10, 0]), square / 2 + np.array([20, 1]), square[::-1] / 4 + 30]
    for count in range(1, 5):
        whole = parts[0] if count == 1 else np.concatenate(merge_multi_segment([p.tolist() for p in parts[:count]]))
        assert polygon_area(whole) == pytest.approx([16, 32, 36, 37][count - 1])


def test_image_ids_are_numbers_only_where_those_differ(tmp_path: Path) -> None:
    keys = {"names": ["dog"]}
    for names, ids in ((("x/1", "y/1"), [1, 2]), (("x/b", "x/5"), [1, 2]), (("x/0", "y/000000000790"), [0, 790])):
        folder = tmp_path / names[0].replace("/", "-")
        data = write_set(folder, {f"val/{name}": [] for name in names}, **keys)
        to_coco(data, folder / "out.json")
        assert [row["id"] for row in json.loads((folder / "out.json").read_text())["images"]] == ids


def test_what_to_coco_refuses(tmp_path: Path) -> None:
    data = write_set(tmp_path / "in", {"val/a": [*LINES, "0 2 2 2 2 - -"]}, **FULL)
    out = tmp_path / "out.json"
    for words, message in (
        ({"out": tmp_path / "out"}, "expected the name of a .json file"),
        ({"split": "test"}, "split: expected one of val, found 'test'"),
        ({}, "a.txt:8: expected box coordinates in 0..1"),
    ):
        with pytest.raises(ValueError, match="expected") as caught:
            to_coco(**{"data": data, "out": out, **words})
        assert message in str(caught.value)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["in"]
    (tmp_path / "in/images/val/a.png").write_text("nothing")
    with pytest.raises(ValueError, match=r"a\.png: expected an image"):
        to_coco(data, out)
    out.write_text("mine")
    with pytest.raises(ValueError, match="the file exists already; give exist_ok=True"):
        to_coco(data, out)
    other = write_set(tmp_path / "other", {"val/a": LINES}, **FULL)
    assert out.read_text() == "mine"
    to_coco(other, out, exist_ok=True)
    assert len(json.loads(out.read_text())["annotations"]) == 7


def test_from_the_command_line(tmp_path: Path) -> None:
    data = write_set(tmp_path / "in", {"val/a": LINES}, **FULL)
    text = str(call(to_coco, [f"data={data}", f"out={tmp_path / 'o.json'}", "split=val"]))
    assert text.splitlines()[1].split() == ["images", "1"]
    assert text.endswith(f"classes: dog, person, cat\nwritten: {tmp_path / 'o.json'}")
    report = call(to_yolo, [f"data={data}", f"out={tmp_path / 'out'}", "task=pose", "split=val", "copy"])
    assert report.splits["val"].instances == 2


# ---- real data ------------------------------------------------------------------------------------------------------


@pytest.mark.realdata
@pytest.mark.parametrize("split", ["train", "val"])
def test_real_coco_and_back(realdata: Path, tmp_path: Path, split: str) -> None:
    """Boxes and areas are COCO's, and the way back gives the same lines."""
    root = realdata / "coco-mini"
    files = {"instances": root / f"annotations/instances_{split}.json"}
    files["keypoints"] = root / f"annotations/person_keypoints_{split}.json"
    convert_coco(**files, images=root / f"images/{split}", out=tmp_path / "set", split=split)
    data = tmp_path / "set/data.yaml"
    to_coco(data, tmp_path / "out.json", split=split)
    convert_coco(
        instances=tmp_path / "out.json", images=tmp_path / f"set/images/{split}", out=tmp_path / "again", split=split
    )
    spec = load_data(data)["label_spec"]
    names = [p.relative_to(tmp_path / "set/labels") for p in (tmp_path / "set/labels").rglob("*.txt")]
    assert len(names) == len(list((root / f"images/{split}").iterdir()))
    for name in names:
        before, after = (read_labels(tmp_path / s / "labels" / name, spec)[0] for s in ("set", "again"))
        assert len(before) == len(after)
        # lines have 6 decimals: a box that ends at the edge may reach over it by half a unit, and is clipped there
        assert all(same(a, b, 1.1e-6) for a, b in zip(before, after, strict=True))

    wanted, found = (json.loads(f.read_text()) for f in (files["instances"], tmp_path / "out.json"))
    for image in wanted["images"]:
        pair = [[a for a in c["annotations"] if a["image_id"] == image["id"]] for c in (wanted, found)]
        for theirs, ours in zip(*pair, strict=True):
            assert (ours["category_id"], ours["iscrowd"]) == (theirs["category_id"], theirs["iscrowd"])
            np.testing.assert_allclose(ours["bbox"], theirs["bbox"], atol=1e-3)  # lines have 6 decimals
            if not theirs["iscrowd"]:
                assert ours["area"] == pytest.approx(theirs["area"], rel=5e-4)


@pytest.mark.realdata
@pytest.mark.parametrize("task", ["detect", "segment", "pose"])
def test_the_host_reads_real_stock_sets(realdata: Path, tmp_path: Path, task: str) -> None:
    root = realdata / "coco-mini"
    files = {"instances": root / "annotations/instances_val.json"}
    files["keypoints"] = root / "annotations/person_keypoints_val.json"
    convert_coco(**files, images=root / "images/val", out=tmp_path / "set", split="val")
    to_yolo(tmp_path / "set", task, tmp_path / "out")
    assert host_problems(tmp_path / "out/data.yaml", task) == []
