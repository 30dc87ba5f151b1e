"""COCO JSON to label lines: a hand-made set where every line is known, and parity with pycocotools' masks."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image
from support.labelled import HEIGHT, WIDTH, balanced, images_of, labels_of, lines_of, write_images, write_turned

from yolo_multitask.data.config import load_data
from yolo_multitask.data.convert.coco import convert_coco
from yolo_multitask.data.convert.report import ConvertReport
from yolo_multitask.data.convert.rle import decode_rle, encode_rle, mask_outlines
from yolo_multitask.data.labels import cache_file

KPTS = ["nose", "left_hand", "right_hand"]
PERSON = {"id": 1, "name": "person", "keypoints": KPTS}
SQUARE = [4.0, 2, 12, 2, 12, 10, 4, 10]
TWO_PARTS = [SQUARE, [20.0, 2, 28, 2, 28, 10]]
BLOCK = {"size": [HEIGHT, WIDTH], "counts": [45, 5, 15, 5, 15, 5, 710]}  # columns 2..4, rows 5..9


def annotation(number: int, image: int = 1, category: int = 1, **more: Any) -> dict[str, Any]:
    """Return one instances annotation."""
    row = {"id": number, "image_id": image, "category_id": category, "bbox": [4, 2, 8, 8], "iscrowd": 0}
    return row | {"segmentation": [SQUARE]} | more


INSTANCES = [
    annotation(10),  # with keypoints
    annotation(11, segmentation=TWO_PARTS, bbox=[4, 2, 24, 8]),  # person without keypoints, two parts
    annotation(12, iscrowd=1, segmentation=BLOCK, bbox=[2, 5, 3, 5]),
    annotation(13, category=18, segmentation=[], bbox=[-4, 2, 8, 8]),  # no mask, box over the edge
    annotation(14, category=18, bbox=[4, 2, 0, 8]),
    annotation(15, category=18, bbox=[50, 2, 8, 8]),
    annotation(16, image=9),  # its image is in no JSON
    annotation(17, image=3),  # its image is not in the folder
    annotation(18, category=18, segmentation=BLOCK | {"counts": [1]}),  # mask that does not decode
]
KEYPOINTS = [
    annotation(10, keypoints=[8, 4, 3, 10, 5, 1, 50, 5, 2], num_keypoints=3),
    annotation(11, keypoints=[0] * 9, num_keypoints=0),
]


@pytest.fixture
def coco(tmp_path: Path) -> dict[str, Path]:
    """Write a COCO set of three images, one of which is missing in the folder."""
    write_images(tmp_path / "pictures", ["1.png", "2.png"])
    rows = [{"id": i, "file_name": f"{i}.png", "width": WIDTH, "height": HEIGHT} for i in (1, 2, 3)]
    plain = [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}]
    write(tmp_path / "instances.json", images=rows, annotations=INSTANCES, categories=plain)
    write(tmp_path / "keypoints.json", images=rows, annotations=KEYPOINTS, categories=[PERSON])
    names = ("instances.json", "keypoints.json", "pictures")
    return dict(zip(("instances", "keypoints", "images"), (tmp_path / n for n in names), strict=True))


def write(file: Path, **data: Any) -> None:
    """Write a JSON file."""
    file.write_text(json.dumps(data))


def convert(coco: dict[str, Path], out: Path, **more: Any) -> ConvertReport:
    """Convert the set."""
    return convert_coco(**{**coco, "out": out, **more})


def test_every_line(coco: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = convert(coco, out).splits["train"]
    found = labels_of(out, "1")
    assert found.cls.tolist() == [0, 0, 0, 1, 1]
    assert found.ignore.tolist() == [False, False, True, False, False]
    assert found.has_keypoints.tolist() == [True, False, False, False, False]
    assert found.has_polygon.tolist() == [True, True, True, False, False]
    scale = np.array([WIDTH, HEIGHT, WIDTH, HEIGHT])
    np.testing.assert_allclose(found.boxes[0] * scale, [8, 6, 8, 8], atol=1e-4)
    np.testing.assert_allclose(found.boxes[3] * scale, [2, 6, 4, 8], atol=1e-4)  # clipped at the left edge
    assert found.keypoints is not None
    np.testing.assert_allclose(found.keypoints[0], [[0.2, 0.2, 2], [0.25, 0.25, 1], [0, 0, 0]], atol=1e-6)
    assert found.polygons[0] is not None
    np.testing.assert_allclose(found.polygons[0] * scale[:2], np.reshape(SQUARE, (-1, 2)), atol=1e-4)
    assert report.dropped == {
        "box of zero area": 1,
        "box outside the image": 1,
        "image not in the JSON": 1,
        "image missing in the folder": 1,
    }
    assert balanced(report)
    assert report.annotations == 9
    assert (report.images, report.background, report.images_missing) == (2, 1, 1)
    assert (report.instances, report.ignored, report.keypoints, report.polygons) == (4, 1, 1, 2)
    assert report.notes == {
        "visibility outside of 0..2, written as the nearest of them": 1,
        "keypoint outside the image, written as absent": 1,
        "mask without a usable outline, written as not labelled": 1,
    }
    assert (out / "labels/train/2.txt").read_text() == ""  # background
    assert sorted(p.name for p in (out / "images/train").iterdir()) == ["1.png", "2.png"]


def test_images_that_do_not_fit_are_left_out(coco: dict[str, Path], tmp_path: Path) -> None:
    """An image that lies on its side in the file is shown upright, but was annotated as it lies."""
    write_turned(coco["images"] / "2.jpg")
    (coco["images"] / "1.png").rename(coco["images"] / "1.gif")
    write_images(coco["images"], ["3.png"])
    content = json.loads(coco["instances"].read_text())
    for row, suffix in zip(content["images"], ("gif", "jpg", "png"), strict=True):
        row["file_name"] = f"{row['id']}.{suffix}"
    rows = [annotation(1), annotation(2, image=2), annotation(3, image=3)]
    write(coco["instances"], **content | {"annotations": rows})
    report = convert_coco(instances=coco["instances"], images=coco["images"], out=tmp_path / "out").splits["train"]
    assert images_of(tmp_path / "out") == ["3.png"]
    assert (report.images, report.images_unfit) == (1, 2)
    assert report.dropped == {
        "image of the format .gif, which is not read": 1,
        "image of another shape than annotated": 1,
    }
    assert balanced(report)
    half = tmp_path / "half"  # of half the size, but of the same shape
    half.mkdir()
    Image.new("RGB", (WIDTH // 2, HEIGHT // 2)).save(half / "3.png")
    convert_coco(instances=coco["instances"], images=half, out=tmp_path / "small")
    assert lines_of(tmp_path / "small", "train/3") == lines_of(tmp_path / "out", "train/3")


def test_folders_called_images_are_left_out_of_names(coco: dict[str, Path], tmp_path: Path) -> None:
    """The host finds the label file of an image by its last folder of that name."""
    from ultralytics.data.utils import img2label_paths

    write_images(coco["images"], ["images/day/1.png"])
    content = json.loads(coco["instances"].read_text())
    content["images"][0]["file_name"] = "images/day/1.png"
    write(coco["instances"], **content)
    out = tmp_path / "out"
    convert_coco(instances=coco["instances"], images=coco["images"], out=out)
    assert images_of(out) == ["2.png", "day/1.png"]
    (label,) = img2label_paths([str(out / "images/train/day/1.png")])
    assert len(Path(label).read_text().splitlines()) == 5


def test_what_a_mask_loses_is_counted(coco: dict[str, Path], tmp_path: Path) -> None:
    ring = np.zeros((HEIGHT, WIDTH), np.uint8)
    ring[2:12, 2:12] = 1
    ring[4:6, 4:6] = ring[8:10, 8:10] = 0
    rows = [annotation(1, segmentation=encode_rle(ring)), annotation(2, segmentation=[SQUARE, [1, 1, 2, 2]])]
    write(coco["instances"], **json.loads(coco["instances"].read_text()) | {"annotations": rows})
    report = convert_coco(instances=coco["instances"], images=coco["images"], out=tmp_path / "out").splits["train"]
    assert report.notes == {"hole in a mask, filled": 2, "part of a mask that is no polygon, left out": 1}
    assert report.polygons == 2


def test_what_is_there_twice_is_written_once(coco: dict[str, Path], tmp_path: Path) -> None:
    rows = [annotation(1), annotation(2), annotation(3, iscrowd=1)]
    write(coco["instances"], **json.loads(coco["instances"].read_text()) | {"annotations": rows})
    report = convert_coco(instances=coco["instances"], images=coco["images"], out=tmp_path / "out").splits["train"]
    assert labels_of(tmp_path / "out", "1").ignore.tolist() == [False, True]
    assert report.dropped == {"repeats another of its image": 1}
    assert balanced(report)


def test_a_category_that_the_file_lacks(coco: dict[str, Path], tmp_path: Path) -> None:
    rows = [annotation(1), annotation(2, category=99)]
    write(coco["instances"], **json.loads(coco["instances"].read_text()) | {"annotations": rows})
    report = convert_coco(instances=coco["instances"], images=coco["images"], out=tmp_path / "out").splits["train"]
    assert report.dropped == {"class not in the categories": 1}
    assert balanced(report)


def test_parts_are_joined_without_changing_the_mask(coco: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(coco, out)
    polygon = labels_of(out, "1").polygons[1]
    assert polygon is not None
    wanted = draw(*[np.reshape(p, (-1, 2)) for p in TWO_PARTS])
    joined = draw(polygon * [WIDTH, HEIGHT])
    assert wanted[joined == 0].sum() == 0  # nothing lost
    assert (joined > wanted).sum() <= 16  # but for the thin line between the parts


def draw(*polygons: np.ndarray) -> np.ndarray:
    """Return polygons in pixels as one mask, drawn as the host draws them."""
    return cv2.fillPoly(np.zeros((HEIGHT, WIDTH), np.uint8), [np.rint(p).astype(np.int32) for p in polygons], 1)


def test_data_yaml_loads_and_leads_back_to_the_json(coco: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(coco, out)
    assert yaml.safe_load((out / "data.yaml").read_text())["val"] is None
    convert(coco, out, split="val")
    data = load_data(out / "data.yaml")
    assert data["names"] == {0: "person", 1: "dog"}
    assert data["coco_categories"] == [1, 18]
    assert data["kpt_classes"] == [0]
    assert data["flip_idx"] == [0, 2, 1]
    assert data["label_spec"].tasks == ("detect", "segment", "pose")
    assert Path(data["train"]) == out / "images/train"
    for split in ("train", "val"):
        for kind in ("instances", "keypoints"):
            assert Path(data["path"]) / data["annotations"][split][kind] == coco[kind]


def test_two_splits_at_once_equal_two_calls(coco: dict[str, Path], tmp_path: Path) -> None:
    for split in ("train", "val"):
        convert(coco, tmp_path / "twice", split=split)
    double = {k: f"[{v},{v}]" for k, v in coco.items()}  # as the command line passes it
    report = convert_coco(**double, out=str(tmp_path / "once"), split="train,val")
    assert list(report.splits) == ["train", "val"]
    trees = [
        {p.relative_to(root): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}
        for root in (tmp_path / "once", tmp_path / "twice")
    ]
    assert trees[0] == trees[1]


def test_classes(coco: dict[str, Path], tmp_path: Path) -> None:
    report = convert(coco, tmp_path / "a", classes="person").splits["train"]
    assert report.dropped["class not chosen"] == 4
    dog = convert_coco(
        instances=coco["instances"], images=coco["images"], out=tmp_path / "b", classes=[18], background=False
    )
    assert dog.names == ["dog"]
    assert dog.splits["train"].images == 1
    assert dog.splits["train"].images_skipped == 1
    data = yaml.safe_load((tmp_path / "b/data.yaml").read_text())
    assert "kpt_shape" not in data
    assert data["labels"] == {"keypoints": False, "polygons": True, "ids": False}


def test_one_file_is_enough(coco: dict[str, Path], tmp_path: Path) -> None:
    report = convert_coco(keypoints=coco["keypoints"], images=coco["images"], out=tmp_path / "out")
    assert (report.splits["train"].instances, report.splits["train"].keypoints) == (2, 1)


def test_an_image_of_crowds_has_no_instances(coco: dict[str, Path], tmp_path: Path) -> None:
    source = json.loads(coco["instances"].read_text())
    write(coco["instances"], **{**source, "annotations": [annotation(1), annotation(2, image=2, iscrowd=1)]})
    for background in (True, False):
        report = convert_coco(
            instances=coco["instances"], images=coco["images"], out=tmp_path / str(background), background=background
        ).splits["train"]
        assert (report.images, report.background, report.ignored, report.images_skipped) == (2, 1, 1, 0)


def test_replacing_a_split_removes_its_caches(coco: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(coco, out)
    caches = [cache_file(out / "labels/train"), out / "labels/train.cache"]
    for cache in caches:
        cache.touch()
    kept = cache_file(out / "labels/val")
    kept.touch()
    convert(coco, out, exist_ok=True)
    assert not any(cache.exists() for cache in caches)
    assert kept.exists()


def test_links_and_copies(coco: dict[str, Path], tmp_path: Path) -> None:
    source = coco["images"] / "1.png"
    convert(coco, tmp_path / "linked")
    convert(coco, tmp_path / "copied", copy=True)
    assert os.path.samefile(source, tmp_path / "linked/images/train/1.png")
    assert not os.path.samefile(source, tmp_path / "copied/images/train/1.png")
    assert (tmp_path / "copied/images/train/1.png").read_bytes() == source.read_bytes()


def test_existing_split_is_kept_unless_told(coco: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(coco, out)
    with pytest.raises(ValueError, match=r"split train exists already.*exist_ok=True"):
        convert(coco, out)
    convert(coco, out, split="val")
    convert(coco, out, classes=None, exist_ok=True)
    assert set(load_data(out / "data.yaml")["annotations"]) == {"train", "val"}
    with pytest.raises(ValueError, match="the same classes="):
        convert(coco, out, exist_ok=True, classes="person")


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_whole_or_not_at_all(
    coco: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    out = tmp_path / "out"
    convert(coco, out)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    replace, failed = os.replace, []

    def fail(source: Path, target: Path) -> None:
        if Path(target) == out / "data.yaml" and not failed:
            failed.append(target)
            raise error("disk full")
        replace(source, target)

    monkeypatch.setattr("yolo_multitask.data.convert.output.os.replace", fail)
    with pytest.raises(error, match="disk full"):
        convert(coco, out, split="val")
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_a_split_that_holds_the_source_is_not_replaced(coco: dict[str, Path], tmp_path: Path) -> None:
    """What is not in the JSON would be gone with the images of the split."""
    images = write_images(tmp_path / "out/images/train", ["1.png", "2.png", "mine.png"])
    with pytest.raises(ValueError, match="expected the source elsewhere, found .*images/train in the split that is"):
        convert(coco, tmp_path / "out", images=images, exist_ok=True)
    coco["instances"].rename(images / "instances.json")
    with pytest.raises(ValueError, match="expected the source elsewhere"):
        convert(coco, tmp_path / "out", instances=images / "instances.json", exist_ok=True)
    assert images_of(tmp_path / "out") == ["1.png", "2.png", "instances.json", "mine.png"]
    convert(coco, tmp_path / "out", instances=images / "instances.json", images=images, split="val")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"instances": None, "keypoints": None}, "found neither"),
        ({"split": "training"}, "split: expected one of train, val, test, found 'training'"),
        ({"split": "train,train"}, "split: expected one of train, val, test, found 'train' again"),
        ({"split": "train,val"}, "images: expected 2"),
        ({"classes": "persn"}, "did you mean 'person'"),
        ({"classes": "99"}, "There are: person, dog"),
        ({"classes": "dog"}, "none of the classes dog has keypoints"),
    ],
)
def test_wrong_arguments(coco: dict[str, Path], tmp_path: Path, change: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        convert(coco, tmp_path / "out", **change)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("not json", "not JSON"),
        ("[]", "'images' is missing"),
        ('{"images": [], "annotations": []}', "'categories' is missing"),
        ('{"images": [{"id": 1}], "annotations": [], "categories": []}', "lacks file_name"),
        ('{"images": [], "annotations": [{"id": 1, "caption": "a dog"}], "categories": []}', "lacks image_id"),
        ('{"images": [], "annotations": [], "categories": []}', "at least one category"),
        (
            '{"images": [], "annotations": [], "categories": [{"id": "1", "name": "dog"}]}',
            "'categories', entry 0: expected an integer in 'id', found '1'",
        ),
        (
            '{"images": [], "annotations": [{"id": 1, "image_id": 1, "category_id": [1]}], "categories": []}',
            r"'annotations', entry 0: expected a number in 'category_id', found \[1\]",
        ),
    ],
)
def test_not_coco(coco: dict[str, Path], tmp_path: Path, text: str, reason: str) -> None:
    coco["instances"].write_text(text)
    with pytest.raises(ValueError, match=reason):
        convert_coco(instances=coco["instances"], images=coco["images"], out=tmp_path / "out")


def test_missing_paths(coco: dict[str, Path], tmp_path: Path) -> None:
    for key in ("instances", "images"):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            convert(coco, tmp_path / "out", **{key: tmp_path / "nowhere"})
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"found none of 3.*1\.png"):
        convert(coco, tmp_path / "out", images=tmp_path / "empty")


def test_files_that_do_not_belong_together(coco: dict[str, Path], tmp_path: Path) -> None:
    data = json.loads(coco["keypoints"].read_text())
    data["annotations"][0]["image_id"] = 2
    write(coco["keypoints"], **data)
    with pytest.raises(ValueError, match="annotation 10 has image_id 1 .* do not belong together"):
        convert(coco, tmp_path / "out")
    data["images"][0]["file_name"] = "other.png"
    write(coco["keypoints"], **data)
    with pytest.raises(
        ValueError, match=r"image 1 is other\.png here and 1\.png in the other .* do not belong together"
    ):
        convert(coco, tmp_path / "out")
    write(coco["keypoints"], **data | {"images": data["images"] * 2})
    with pytest.raises(ValueError, match=r"keypoints\.json: expected each image id once, found 1 again"):
        convert_coco(keypoints=coco["keypoints"], images=coco["images"], out=tmp_path / "out")


def test_report_is_a_table(coco: dict[str, Path], tmp_path: Path) -> None:
    text = str(convert(coco, tmp_path / "out"))
    assert "left out: box of zero area" in text
    assert "classes: person, dog" in text
    rows = [line for line in text.splitlines() if line[-1:].isdigit()]
    assert len({len(line) for line in rows}) == 1  # columns line up


def test_rle_by_hand() -> None:
    mask = decode_rle(BLOCK, HEIGHT, WIDTH)
    wanted = np.zeros((HEIGHT, WIDTH), np.uint8)
    wanted[5:10, 2:5] = 1
    np.testing.assert_array_equal(mask, wanted)
    (outline,) = mask_outlines(mask)
    assert outline.min(0).tolist() == [2, 5]
    assert outline.max(0).tolist() == [4, 9]


@pytest.mark.parametrize(
    ("rle", "reason"),
    [
        ({"size": [2, 2], "counts": [4]}, "expected size"),
        ({"size": [HEIGHT, WIDTH], "counts": [1]}, "add up to 800"),
        ({"size": [HEIGHT, WIDTH], "counts": [-1, 801]}, "add up to 800"),
        ({"size": [HEIGHT, WIDTH]}, "found NoneType"),
        ({"size": [HEIGHT, WIDTH], "counts": "P"}, "cut or foreign"),
        ({"size": [HEIGHT, WIDTH], "counts": "é"}, "cut or foreign"),
    ],
)
def test_bad_rle(rle: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        decode_rle(rle, HEIGHT, WIDTH)


@pytest.mark.parametrize("seed", range(4))
def test_run_lengths(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = (rng.random((37, 1 + 61 * seed)) < (0.02, 0.5, 0.98, 0.1)[seed]).astype(np.uint8)
    for array in (mask, np.zeros_like(mask), np.ones_like(mask)):
        np.testing.assert_array_equal(decode_rle(encode_rle(array), *array.shape), array)
    reference = pytest.importorskip("pycocotools.mask")
    assert encode_rle(mask)["counts"] == reference.encode(np.asfortranarray(mask))["counts"].decode()


def test_compressed_rle_equals_pycocotools() -> None:
    masks = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(0)
    for density in (0.0, 0.02, 0.5, 0.97, 1.0):
        mask = (rng.random((37, 91)) < density).astype(np.uint8)
        rle = masks.encode(np.asfortranarray(mask))
        np.testing.assert_array_equal(decode_rle(rle, 37, 91), mask)
        np.testing.assert_array_equal(decode_rle({**rle, "counts": rle["counts"].decode()}, 37, 91), mask)


@pytest.mark.parametrize("name", ["coco-multitask", "coco8-multitask"])
def test_download_scripts(name: str, tmp_path: Path, coco: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripts in our data YAMLs run, on files that a stand-in for the host's download puts there."""
    from yolo_multitask.data.config import resolve_yaml

    root = tmp_path / "sets"
    people = json.loads(coco["instances"].read_text()) | {"categories": [PERSON, {"id": 18, "name": "dog"}]}

    def download(urls: list[str], dir: Path, **_: Any) -> None:
        for url in urls:
            stem = Path(url).stem
            if stem.startswith("annotations"):
                (dir / "annotations").mkdir(parents=True)
                for split in ("train2017", "val2017"):
                    write(dir / f"annotations/instances_{split}.json", **people)
                    text = coco["keypoints"].read_text()
                    (dir / f"annotations/person_keypoints_{split}.json").write_text(text)
                continue
            folders = ["images/train", "images/val"] if stem == "coco8-pose" else [""]
            for folder in folders:
                (dir / stem / folder).mkdir(parents=True)
                for i in (1, 2):
                    (dir / stem / folder / f"{i}.png").write_bytes((coco["images"] / f"{i}.png").read_bytes())

    monkeypatch.setattr("ultralytics.utils.downloads.download", download)
    file = resolve_yaml(f"{name}.yaml", "datasets")
    assert file is not None
    script = yaml.safe_load(file.read_text(encoding="utf-8"))["download"]
    exec(script, {"yaml": {"path": root / name}})
    for split in ("train", "val"):
        assert len(labels_of(root / name, "1", split)) == 5


@pytest.mark.realdata
def test_real_coco(realdata: Path, tmp_path: Path) -> None:
    """Counts equal the JSON's, and the polygons of non-crowd masks draw the masks of pycocotools."""
    masks = pytest.importorskip("pycocotools.mask")
    root = realdata / "coco-mini"
    files = {
        "instances": root / "annotations/instances_val.json",
        "keypoints": root / "annotations/person_keypoints_val.json",
    }
    report = convert_coco(**files, images=root / "images/val", out=tmp_path / "out", split="val").splits["val"]
    data, people = (json.loads(f.read_text()) for f in files.values())
    crowds = sum(a["iscrowd"] for a in data["annotations"])
    assert (report.images, report.ignored) == (len(data["images"]), crowds)
    assert report.instances == report.polygons == len(data["annotations"]) - crowds
    assert report.keypoints == sum(a["num_keypoints"] > 0 for a in people["annotations"])
    assert not report.dropped
    overlaps = []
    for image in data["images"]:
        rows = [a for a in data["annotations"] if a["image_id"] == image["id"]]
        found = labels_of(tmp_path / "out", Path(image["file_name"]).stem, "val")
        assert len(found) == len(rows)
        height, width = image["height"], image["width"]
        for row, polygon in zip(rows, found.polygons, strict=True):
            if row["iscrowd"] or row["area"] < 500 or polygon is None:
                continue
            whole = masks.decode(masks.merge(masks.frPyObjects(row["segmentation"], height, width)))
            flat = (polygon * [width, height]).ravel().tolist()
            ours = masks.decode(masks.merge(masks.frPyObjects([flat], height, width)))
            overlaps.append((whole & ours).sum() / (whole | ours).sum())
    assert np.mean(overlaps) > 0.99
