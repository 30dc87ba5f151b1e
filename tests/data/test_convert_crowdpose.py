"""CrowdPose and OCHuman to label lines: hand-made files in the form of the benchmarks' own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from support.labelled import HEIGHT, SCALE, WIDTH, balanced, labels_of, write_images, write_turned

from yolo_multitask.data.config import load_data
from yolo_multitask.data.convert.crowdpose import convert_crowdpose, convert_ochuman
from yolo_multitask.data.convert.rle import encode_rle
from yolo_multitask.data.labels import LabelSpec
from yolo_multitask.data.synthetic import KEYPOINT_NAMES

CROWDPOSE = [
    *("left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip"),
    *("right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "head", "neck"),
]
OCHUMAN = [  # the order of ochumanApi/vis.py
    *("right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist", "right_hip"),
    *("right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "head", "neck", "right_ear", "left_ear"),
    *("nose", "right_eye", "left_eye"),
]
SQUARE = [4.0, 2, 12, 2, 12, 10, 4, 10]


def crowdpose(**change: Any) -> dict[str, Any]:
    """Return a CrowdPose file of two images; as in the original, annotations have neither area nor segmentation."""
    points = [0] * 36 + [8, 2, 1, 8, 4, 2]  # head and neck
    rows = [
        {"num_keypoints": 2, "iscrowd": 0, "keypoints": points, "image_id": 7, "bbox": [4, 2, 8, 8], "id": 1},
        {"num_keypoints": 0, "iscrowd": 0, "keypoints": [0] * 42, "image_id": 7, "bbox": [20, 2, 8, 8], "id": 2},
    ]
    images = [{"file_name": f"{i}.jpg", "id": i, "height": HEIGHT, "width": WIDTH, "crowdIndex": 0.3} for i in (7, 8)]
    category = {"supercategory": "person", "id": 1, "name": "person", "keypoints": CROWDPOSE, "skeleton": [[16, 14]]}
    annotations = [row | {"category_id": 1} for row in rows]
    return {"images": images, "annotations": annotations, "categories": [category]} | change


def test_crowdpose(tmp_path: Path) -> None:
    file = tmp_path / "crowdpose_val.json"
    file.write_text(json.dumps(crowdpose()))
    images, out = write_images(tmp_path / "images", ["7.jpg", "8.jpg"]), tmp_path / "out"
    report = convert_crowdpose(file, images, out, split="val").splits["val"]
    found = labels_of(out, "7", "val")
    np.testing.assert_allclose(found.boxes * SCALE, [[8, 6, 8, 8], [24, 6, 8, 8]], atol=1e-4)
    assert found.has_keypoints.tolist() == [True, False]
    assert found.keypoints is not None
    assert found.keypoints[0, :12].tolist() == np.zeros((12, 3)).tolist()
    np.testing.assert_allclose(found.keypoints[0, 12:], [[0.2, 0.1, 1], [0.2, 0.2, 2]], atol=1e-6)
    assert (report.images, report.background, report.instances, report.keypoints) == (2, 1, 2, 1)
    assert balanced(report)
    assert not (out / "images/val/7.jpg").is_symlink()
    data = load_data(out / "data.yaml", split="val")
    assert data["kpt_shape"] == [14, 3]
    assert data["kpt_names"] == {0: CROWDPOSE}
    assert data["flip_idx"] == [1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 12, 13]
    assert data["kpt_oks_sigmas"] == [
        0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089, 0.079, 0.079,
    ]  # fmt: skip
    assert not data["annotations"]  # COCO's evaluation would need `area`
    assert data["label_spec"] == LabelSpec(nc=1, kpt_shape=(14, 3), polygons=False)
    convert_crowdpose(file, images, out, copy=True, background=False)
    assert [p.name for p in (out / "images/train").iterdir()] == ["7.jpg"]
    assert yaml.safe_load((out / "data.yaml").read_text())["val"] == "images/val"
    with pytest.raises(ValueError, match="split val exists already"):
        convert_crowdpose(file, images, out, split="val")


def test_not_crowdpose(tmp_path: Path) -> None:
    file, images = tmp_path / "a.json", write_images(tmp_path / "images", ["7.jpg"])

    def refused(says: str, error: type[Exception] = ValueError) -> None:
        with pytest.raises(error, match=says):
            convert_crowdpose(file, images, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    refused("annotations=.*expected a JSON file", FileNotFoundError)
    file.write_text("{")
    refused(r"a\.json: expected JSON, found text that is not")
    file.write_text("[]")
    refused("expected a JSON object, found list")
    file.write_text(json.dumps(crowdpose(categories=[{"id": 1, "name": "person", "keypoints": KEYPOINT_NAMES}])))
    refused(r"one category with 14 keypoints, found \[17\]; other COCO JSON is read by convert-coco")
    file.write_text(json.dumps({"images": []}))
    refused("found no categories")
    broken = crowdpose()
    del broken["images"][0]["width"]
    file.write_text(json.dumps(broken))
    refused("in each of 'images'; entry 0 lacks width")


def person(**more: Any) -> dict[str, Any]:
    """Return one person of OCHuman: every point at (i, 5), visible; a mask of one part."""
    points = [v for i in range(19) for v in (i, 5, 1)]
    outline = {"outer": [SQUARE], "inner": [], "height": HEIGHT, "width": WIDTH}
    return {"bbox": [4, 2, 12, 10], "keypoints": points, "segms": outline, "max_iou": 0.6} | more


def ochuman(*persons: Any, **change: Any) -> dict[str, Any]:
    """Return OCHuman's own file with one image of these persons and one that is not there."""
    images = [
        {"image_id": "1", "file_name": "1.jpg", "width": WIDTH, "height": HEIGHT, "annotations": list(persons)},
        {"image_id": "2", "file_name": "2.jpg", "width": WIDTH, "height": HEIGHT, "annotations": [person()]},
    ]
    visible = {"missing": 0, "vis": 1, "self_occluded": 2, "others_occluded": 3}
    return {"keypoint_names": OCHUMAN, "keypoint_visible": visible, "images": images} | change


def test_ochuman(tmp_path: Path) -> None:
    kinds = [v for i in range(19) for v in (i, 5, {16: 2, 18: 3, 17: 0, 12: 0}.get(i, 1))]  # of nose, eyes and head
    parts = {"outer": [SQUARE, [20, 2, 28, 2, 28, 10]], "inner": [[6, 4, 8, 4, 8, 6]]}
    rows = (
        person(keypoints=kinds, segms=parts),
        person(keypoints=None, segms=None, bbox=[20, 2, 30, 12]),
        person(bbox=[4, 2, 4, 10]),
    )
    (tmp_path / "ochuman.json").write_text(json.dumps(ochuman(*rows)))
    out = tmp_path / "out"
    report = convert_ochuman(tmp_path / "ochuman.json", write_images(tmp_path / "images", ["1.jpg"]), out).splits["val"]
    found = labels_of(out, "1", "val")
    np.testing.assert_allclose(found.boxes * SCALE, [[8, 6, 8, 8], [25, 7, 10, 10]], atol=1e-4)
    assert found.has_keypoints.tolist() == found.has_polygon.tolist() == [True, False]
    assert found.keypoints is not None
    wanted = [[OCHUMAN.index(name) / WIDTH, 0.25, 2] for name in KEYPOINT_NAMES]
    wanted[1] = [18 / WIDTH, 0.25, 1]  # left eye, hidden by others
    wanted[2] = [0, 0, 0]  # right eye, missing
    np.testing.assert_allclose(found.keypoints[0], wanted, atol=1e-6)
    polygon = found.polygons[0]
    assert polygon is not None
    corners = {tuple(p) for p in np.rint(polygon * SCALE[:2]).astype(int).tolist()}
    assert corners == {(4, 2), (12, 2), (12, 10), (4, 10), (20, 2), (28, 2), (28, 10)}
    assert report.dropped == {"image missing in the folder": 1, "box of zero area": 1}
    assert report.notes == {"hole in a mask, filled": 1, "point that is not among COCO's 17, left out": 1 + 2 + 2}
    assert (report.images, report.images_missing, report.instances) == (1, 1, 2)
    assert balanced(report)
    data = load_data(out / "data.yaml")
    assert data["kpt_shape"] == [17, 3]
    assert data["flip_idx"] == [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
    assert data["label_spec"] == LabelSpec(nc=1, kpt_shape=(17, 3), polygons=True)


def test_an_image_of_ochuman_that_lies_on_its_side(tmp_path: Path) -> None:
    (tmp_path / "ochuman.json").write_text(json.dumps(ochuman(person())))
    images = write_images(tmp_path / "images", ["2.jpg"])
    write_turned(images / "1.jpg")
    report = convert_ochuman(tmp_path / "ochuman.json", images, tmp_path / "out").splits["val"]
    assert (report.images, report.images_unfit) == (1, 1)
    assert report.dropped == {"image of another shape than annotated": 1}
    assert balanced(report)


def test_ochuman_joins_a_data_set_with_more_classes(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    theirs = {"train": "images/train", "val": None, "names": {0: "dog", 1: "person"}, "kpt_shape": [17, 3]}
    theirs |= {"labels": {"keypoints": True, "polygons": True}, "kpt_names": {1: list(KEYPOINT_NAMES)}}
    (tmp_path / "out/data.yaml").write_text(yaml.safe_dump(theirs))
    (tmp_path / "ochuman.json").write_text(json.dumps(ochuman(person())))
    convert_ochuman(tmp_path / "ochuman.json", write_images(tmp_path / "images", ["1.jpg"]), tmp_path / "out")
    assert labels_of(tmp_path / "out", "1", "val").cls.tolist() == [1]
    written = yaml.safe_load((tmp_path / "out/data.yaml").read_text())
    assert (written["names"], written["train"]) == (theirs["names"], "images/train")


def test_ochuman_coco_file(tmp_path: Path) -> None:
    """The benchmark's COCO files have masks as compressed RLE."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[2:11, 4:13] = 1
    points = [v for i in range(17) for v in (i, 5, 2)]
    row = {
        "image_id": 1,
        "area": 64,
        "num_keypoints": 17,
        "iscrowd": 0,
        "id": 1,
        "category_id": 1,
        "bbox": [4, 2, 8, 8],
    }
    data = {
        "images": [{"id": 1, "file_name": "1.jpg", "height": HEIGHT, "width": WIDTH}],
        "annotations": [row | {"keypoints": points, "segmentation": encode_rle(mask)}],
        "categories": [{"id": 1, "name": "person", "keypoints": KEYPOINT_NAMES}],
    }
    file = tmp_path / "ochuman_coco_format_val_range_0.00_1.00.json"
    file.write_text(json.dumps(data))
    convert_ochuman(file, write_images(tmp_path / "images", ["1.jpg"]), tmp_path / "out")
    found = labels_of(tmp_path / "out", "1", "val")
    assert found.has_keypoints.tolist() == found.has_polygon.tolist() == [True]
    polygon = found.polygons[0]
    assert polygon is not None
    corners = {tuple(p) for p in np.rint(polygon * SCALE[:2]).astype(int).tolist()}
    assert corners == {(4, 2), (12, 2), (12, 10), (4, 10)}
    written = load_data(tmp_path / "out/data.yaml")
    assert Path(written["annotations"]["val"]["keypoints"]) == file


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"images": []}, "expected OCHuman's JSON with 'keypoint_names', or a COCO file; 'nose' is not among them"),
        (ochuman(keypoint_names=OCHUMAN[:16]), "'nose' is not among them"),
        (ochuman(images=[]), "expected OCHuman's JSON with the list 'images', found none"),
        (ochuman(images=[{"file_name": "1.jpg"}]), "image 0: expected file_name, width, height and annotations"),
        (
            ochuman(person(bbox=[1, 2, 3])),
            r"1\.jpg: annotation 0: expected a bbox \[x1, y1, x2, y2\], found \[1, 2, 3\]",
        ),
        (ochuman(person(), None), r"1\.jpg: annotation 1: expected a bbox"),
        (ochuman(person(keypoints=[1, 2, 1])), "annotation 0: expected keypoints x y visibility of every name"),
        (ochuman(person(keypoints=[4] * 57)), "annotation 0: expected visibilities 0, 1, 2 or 3, found 4"),
        (ochuman(person(segms={"outer": [[1, 2]]})), "annotation 0: expected outer polygons"),
    ],
)
def test_malformed_ochuman(tmp_path: Path, data: dict[str, Any], says: str) -> None:
    (tmp_path / "ochuman.json").write_text(json.dumps(data))
    images = write_images(tmp_path / "images", ["1.jpg"])
    with pytest.raises(ValueError, match=says):
        convert_ochuman(tmp_path / "ochuman.json", images, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(FileNotFoundError, match="images=.*expected a folder"):
        convert_ochuman(tmp_path / "ochuman.json", tmp_path / "nowhere", tmp_path / "out")
