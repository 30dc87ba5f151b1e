"""LabelMe JSON to label lines: hand-made files where every line is known."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from support.labelled import HEIGHT, SCALE, WIDTH, balanced, images_of, labels_of, pixels, write_images

from yolo_multitask.data.config import load_data
from yolo_multitask.data.convert.labelme import convert_labelme
from yolo_multitask.data.labels import LabelSpec

KPTS = "nose,left_hand,right_hand"


def shape(label: str, points: Any, kind: str = "polygon", group: Any = None, **more: Any) -> dict[str, Any]:
    """Return one shape as LabelMe writes it."""
    return {"label": label, "points": points, "group_id": group, "shape_type": kind, "flags": {}} | more


def write(folder: Path, name: str, shapes: list[Any], image: bool = True, **more: Any) -> Path:
    """Write an image and its JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    if image:
        write_images(folder, [f"{name}.png"])
    data = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": f"{name}.png", "imageData": None}
    data |= {"imageHeight": HEIGHT, "imageWidth": WIDTH} | more
    (folder / f"{name}.json").write_text(json.dumps(data))
    return folder


def png(mask: np.ndarray) -> str:
    """Return a mask as LabelMe stores it."""
    return base64.b64encode(cv2.imencode(".png", mask)[1].tobytes()).decode()


def test_types_of_shapes(tmp_path: Path) -> None:
    mask = np.zeros((6, 8), np.uint8)
    mask[1:5, 2:7] = 1
    shapes = [
        shape("cat", [[4, 2], [12, 2], [12, 10], [4, 10]]),
        shape("dog", [[20, 10], [10, 5]], "rectangle"),  # from lower right to upper left
        shape("ball", [[20, 10], [23, 14]], "circle"),  # radius 5
        shape("cat", [[30, 10], [37, 15]], "mask", mask=png(mask)),
        shape("dog", [[30, 0], [34, 2], [32, 6], [28, 4]], "oriented_rectangle"),
        shape("dog", [[32, 10], [36, 12], [34, 16], [30, 14]], "rotation"),
        shape("lane", [[0, 0], [5, 5]], "line"),
        shape("lane", [[0, 0], [5, 5], [9, 9]], "linestrip"),
        shape("spot", [[1, 1]], "point"),
        shape("cat", [[50, 2], [60, 2], [60, 8]]),
        shape("dog", [[5, 5], [5, 9]], "rectangle"),
        shape("cat", [[3, 3], [5, 5]], "mask", mask=png(np.zeros((2, 2), np.uint8))),
        shape("dog", [[0, 10], [20, 20]], "rectangle", flags={"crowd": True, "wet": True}),
    ]
    report = convert_labelme(write(tmp_path / "in", "a", shapes), tmp_path / "out").splits["train"]
    found = labels_of(tmp_path / "out", "a")
    assert found.cls.tolist() == [1, 2, 0, 1, 2, 2, 2]  # ball, cat, dog
    assert [pixels(found, i) for i in range(7)] == [
        [4, 2, 12, 10],
        [10, 5, 20, 10],
        [15, 5, 25, 15],
        [32, 11, 37, 15],
        [28, 0, 34, 6],
        [30, 10, 36, 16],
        [0, 10, 20, 20],
    ]
    assert found.has_polygon.tolist() == [True, False, True, True, False, False, False]
    assert found.ignore.tolist() == [False] * 6 + [True]
    assert found.polygons[0] is not None
    assert found.polygons[2] is not None
    assert found.polygons[3] is not None
    np.testing.assert_allclose(found.polygons[0] * SCALE[:2], shapes[0]["points"], atol=1e-4)
    radii = np.linalg.norm(found.polygons[2] * SCALE[:2] - [20, 10], axis=1)
    np.testing.assert_allclose(radii, 5, atol=1e-4)
    corners = {tuple(p) for p in np.rint(found.polygons[3] * SCALE[:2]).astype(int).tolist()}
    assert corners == {(32, 11), (36, 11), (36, 14), (32, 14)}
    assert report.dropped == {
        "line, no outline of an object": 1,
        "linestrip, no outline of an object": 1,
        "point that keypoints= does not name": 1,
        "box outside the image": 1,
        "box of zero area": 1,
        "empty mask": 1,
    }
    assert report.notes == {"rotated box, taken as the box around it": 2}
    assert balanced(report)
    assert (report.annotations, report.instances, report.ignored, report.polygons) == (13, 6, 1, 3)


def test_a_group_is_one_object(tmp_path: Path) -> None:
    shapes = [
        shape("nose", [[8, 4]], "point", 1),  # before its object
        shape("person", [[4, 2], [12, 2], [12, 10], [4, 10]], group=1),
        shape("person", [[14, 2], [18, 2], [18, 10]], group=1),
        shape("person", [[3, 1], [19, 11]], "rectangle", 1),
        shape("right_hand", [[6, 5]], "point", 1, flags={"occluded": True}),
        shape("person", [[22, 2], [30, 2], [30, 10]], group=2),
        shape("cat", [[22, 12], [30, 12], [30, 18]], group=2),
        shape("nose", [[25, 4]], "point", 2),
        shape("nose", [[25, 4]], "point", 7),
        shape("nose", [[25, 4]], "point"),
        shape("tail", [[25, 4]], "point", 1),
        shape("person", [[32, 12], [38, 18]], "rectangle", 3),
        shape("left_hand", [[45, 15]], "point", 3),
        shape("nose", [[33, 13]], "point", 3),
    ]
    report = convert_labelme(write(tmp_path / "in", "a", shapes), tmp_path / "out", keypoints=KPTS).splits["train"]
    found = labels_of(tmp_path / "out", "a")
    assert found.cls.tolist() == [1, 1, 0, 1]
    assert pixels(found, 0) == [3, 1, 19, 11]  # the box that was drawn
    assert pixels(found, 1) == [22, 2, 30, 10]
    assert found.has_polygon.tolist() == [True, True, True, False]
    assert found.has_keypoints.tolist() == [True, False, False, True]
    assert found.keypoints is not None
    np.testing.assert_allclose(found.keypoints[0], [[0.2, 0.2, 2], [0, 0, 0], [0.15, 0.25, 1]], atol=1e-6)
    np.testing.assert_allclose(found.keypoints[3], [[33 / 40, 13 / 20, 2], [0, 0, 0], [0, 0, 0]], atol=1e-6)
    first = found.polygons[0]
    assert first is not None
    drawn = cv2.fillPoly(np.zeros((HEIGHT, WIDTH), np.uint8), [np.rint(first * SCALE[:2]).astype(np.int32)], 1)
    assert drawn[6, 8] == drawn[4, 17] == 1  # both parts
    assert report.dropped == {
        "keypoint of a group with several objects": 1,
        "keypoint of a group with no box or outline": 1,
        "keypoint without a group": 1,
        "point that keypoints= does not name": 1,
    }
    assert report.notes == {
        "shape joined with others of its group": 2,
        "keypoint outside the image, written as absent": 1,
    }
    assert balanced(report)
    assert (report.instances, report.keypoints) == (4, 2)


def test_data_yaml(tmp_path: Path) -> None:
    shapes = [
        shape("person", [[3, 1], [19, 11]], "rectangle", 1),
        shape("nose", [[8, 4]], "point", 1),
        shape("cat", [[3, 1], [19, 11]], "rectangle"),
    ]
    source = write(tmp_path / "in", "a", shapes)
    for split in ("train", "val"):
        convert_labelme(source, tmp_path / "out", split=split, keypoints=KPTS)
    data = load_data(tmp_path / "out/data.yaml")
    assert data["names"] == {0: "cat", 1: "person"}
    assert data["kpt_shape"] == [3, 3]
    assert data["flip_idx"] == [0, 2, 1]
    assert data["kpt_classes"] == [1]
    assert data["kpt_names"] == {1: KPTS.split(",")}
    assert data["label_spec"] == LabelSpec(nc=2, kpt_shape=(3, 3), polygons=False)
    assert Path(data["val"]) == tmp_path / "out/images/val"


def test_another_split_may_have_keypoints_of_another_class(tmp_path: Path) -> None:
    for split, label in (("train", "cat"), ("val", "dog")):
        boxes = [shape(c, [[3, 1], [19, 11]], "rectangle", i) for i, c in enumerate(("cat", "dog"))]
        point = shape("nose", [[8, 4]], "point", ("cat", "dog").index(label))
        source = write(tmp_path / split, split, [*boxes, point])
        convert_labelme(source, tmp_path / "out", split=split, keypoints=KPTS)
    assert load_data(tmp_path / "out/data.yaml")["kpt_classes"] == [0, 1]
    assert labels_of(tmp_path / "out", "val", "val").has_keypoints.tolist() == [False, True]
    with pytest.raises(ValueError, match="kpt_shape .3, 3. and the keypoints .*give another out="):
        convert_labelme(tmp_path / "val", tmp_path / "out", split="test", keypoints="nose,tail")


def test_folders_and_images(tmp_path: Path) -> None:
    box = [shape("cat", [[3, 1], [19, 11]], "rectangle")]
    write(tmp_path / "in/day", "a", box)
    write(tmp_path / "in/night", "a", [])  # no object
    write(tmp_path / "in", "b", box, image=False, imagePath="..\\pictures\\b.png")
    write(tmp_path / "pictures", "b", [])
    write(tmp_path / "in", "c", box, image=False)  # only elsewhere
    write(tmp_path / "moved", "c", [])
    write(tmp_path / "in", "d", box, image=False)  # nowhere
    raw = base64.b64encode((tmp_path / "moved/c.png").read_bytes()).decode()
    write(tmp_path / "in", "e", box, image=False, imageData=raw, imagePath="e.heic", imageWidth=None)
    (tmp_path / "in/unlabelled.png").touch()
    (tmp_path / "in/._a.json").write_bytes(b"\0")  # as macOS writes beside a file
    report = convert_labelme(tmp_path / "in", tmp_path / "out", images=tmp_path / "moved").splits["train"]
    images = tmp_path / "out/images/train"
    assert images_of(tmp_path / "out") == ["b.png", "c.png", "day/a.png", "e.png", "night/a.png"]
    assert (images / "e.png").read_bytes() == (tmp_path / "moved/c.png").read_bytes()
    assert (images / "day/a.png").samefile(tmp_path / "in/day/a.png")
    assert (report.images, report.background, report.images_missing) == (5, 1, 1)
    assert report.dropped == {"image missing in the folder": 1}
    assert balanced(report)
    fewer = convert_labelme(tmp_path / "in", tmp_path / "few", background=False).splits["train"]
    assert (fewer.images, fewer.images_skipped, fewer.images_missing) == (3, 1, 2)


def test_images_beside_the_file_or_annotated_twice(tmp_path: Path) -> None:
    box = [shape("cat", [[3, 1], [19, 11]], "rectangle")]
    write(tmp_path / "in", "a", box, imagePath="..\\before\\a.png")  # moved since
    report = convert_labelme(tmp_path / "in", tmp_path / "out").splits["train"]
    assert (report.images, report.images_missing) == (1, 0)
    write(tmp_path / "in/again", "b", box, image=False, imagePath="../a.png")
    with pytest.raises(ValueError, match=r"expected one annotation of each image of train, found .*a\.png again"):
        convert_labelme(tmp_path / "in", tmp_path / "other")


def test_a_split_that_holds_the_files_is_not_replaced(tmp_path: Path) -> None:
    source = write(tmp_path / "out/images/train", "a", [shape("cat", [[3, 1], [19, 11]], "rectangle")])
    with pytest.raises(ValueError, match="expected the source elsewhere, found .*; give another out="):
        convert_labelme(source, tmp_path / "out", exist_ok=True)
    assert images_of(tmp_path / "out") == ["a.json", "a.png"]


def test_a_split_more_for_a_data_set_of_others(tmp_path: Path) -> None:
    """Their YAML may list the names without numbers."""
    (tmp_path / "out").mkdir()
    theirs = {"train": "images/train", "val": None, "names": ["cat", "dog"], "labels": {"polygons": False}}
    (tmp_path / "out/data.yaml").write_text(yaml.safe_dump(theirs | {"val": "elsewhere/val"}))
    with pytest.raises(ValueError, match="the split val exists already"):
        convert_labelme(write(tmp_path / "in", "a", []), tmp_path / "out", split="val")
    (tmp_path / "out/data.yaml").write_text(yaml.safe_dump(theirs))
    box = [shape("dog", [[3, 1], [19, 11]], "rectangle")]
    convert_labelme(write(tmp_path / "in", "a", box), tmp_path / "out", split="val")
    assert labels_of(tmp_path / "out", "a", "val").cls.tolist() == [1]
    unnamed = theirs | {"labels": {"keypoints": True}, "kpt_shape": [2, 3]}
    (tmp_path / "out/data.yaml").write_text(yaml.safe_dump(unnamed))
    with pytest.raises(ValueError, match="kpt_shape .2, 3. and the keypoints .., this split"):
        convert_labelme(tmp_path / "in", tmp_path / "out", split="test")
    stock = yaml.safe_dump({k: v for k, v in theirs.items() if k != "labels"} | {"task": "segment"})
    (tmp_path / "out/data.yaml").write_text(stock)
    with pytest.raises(ValueError, match="has the key labels, to add test to it, found one of stock label lines; give"):
        convert_labelme(tmp_path / "in", tmp_path / "out", split="test")


def test_the_keypoints_of_a_mirrored_image(tmp_path: Path) -> None:
    """A left one without its right one has no place in the mirrored image."""
    shapes = [shape("person", [[3, 1], [19, 11]], "rectangle", 1), shape("nose", [[8, 4]], "point", 1)]
    convert_labelme(
        write(tmp_path / "in", "a", shapes), tmp_path / "out", keypoints="nose,left_eye,right_eye,left_hand"
    )
    assert "flip_idx" not in yaml.safe_load((tmp_path / "out/data.yaml").read_text())


def test_classes_and_a_second_split(tmp_path: Path) -> None:
    out = tmp_path / "out"
    train = write(tmp_path / "train", "a", [shape(c, [[3, 1], [19, 11]], "rectangle") for c in ("cat", "dog", "ant")])
    report = convert_labelme(train, out, classes="dog,cat")
    assert report.names == ["dog", "cat"]
    assert report.splits["train"].dropped == {"class not chosen": 1}
    val = write(tmp_path / "val", "b", [shape("cat", [[3, 1], [19, 11]], "rectangle")])
    convert_labelme(val, out, split="val")  # takes the classes that are there
    assert labels_of(out, "b", "val").cls.tolist() == [1]
    for classes, says in ((None, "ant, cat, dog"), ("cat", "cat"), ("cat,dog", "cat, dog")):
        with pytest.raises(ValueError, match=f"the classes dog, cat, this split has {says}; give another out="):
            convert_labelme(train, out, split="test", classes=classes)
    with pytest.raises(ValueError, match="split val exists already"):
        convert_labelme(val, out, split="val")
    outlined = write(tmp_path / "test", "c", [shape("cat", [[3, 1], [19, 1], [19, 11]])])
    with pytest.raises(ValueError, match="out has a data set with labels .*give another out="):
        convert_labelme(outlined, out, split="test")
    assert not (out / "images/test").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            shape("cat", [[1, 1], [2, 2]]),
            r"a\.json: shape 0: expected a polygon with 3 or more points x y, found 2 points",
        ),
        (shape("cat", [[1, 1]], "rectangle"), "shape 0: expected a rectangle with 2 corners .*, found 1 points"),
        (shape("cat", [[1, 1, 1]], "circle"), "shape 0: expected a circle with its centre"),
        (shape("cat", [[1, None]], "point"), "shape 0: expected a point with 1 point"),
        (shape("cat", [[1, 1], [9, 9]], "mask", mask="no png"), "shape 0: expected a mask that is a PNG in base64"),
        (shape("cat", [[1, 1], [9, 9]], "mask"), "shape 0: expected a mask that is a PNG in base64, found 'None'"),
        ({"points": [[1, 1]]}, "shape 0: expected a shape with a 'label'"),
        (shape("cat", [[1, 1], [2, 2]], "rectangle", [1]), "shape 0: expected a group_id"),
        ("cat", "shape 0: expected a shape with a 'label', found cat"),
    ],
)
def test_malformed_shapes(tmp_path: Path, change: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        convert_labelme(write(tmp_path / "in", "a", [change]), tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_malformed_files(tmp_path: Path) -> None:
    box = [shape("cat", [[3, 1], [19, 11]], "rectangle")]

    def refused(says: str, source: Path, error: type[Exception] = ValueError, **more: Any) -> None:
        with pytest.raises(error, match=says):
            convert_labelme(source, tmp_path / "out", **more)
        assert not (tmp_path / "out").exists()

    refused("src=.*nowhere: expected a LabelMe JSON file", tmp_path / "nowhere", FileNotFoundError)
    (tmp_path / "empty").mkdir()
    refused("expected LabelMe JSON files, found none in the folder", tmp_path / "empty")
    (tmp_path / "text.json").write_text("{")
    refused(r"text\.json: expected a LabelMe JSON file, found text that is not JSON", tmp_path / "text.json")
    (tmp_path / "coco.json").write_text('{"images": []}')
    refused(r"coco\.json: expected a LabelMe JSON file with the list 'shapes'", tmp_path / "coco.json")
    good = write(tmp_path / "good", "a", box)
    refused("images=.*nowhere: expected a folder", good, FileNotFoundError, images=tmp_path / "nowhere")
    refused("split: expected one of train, val, test, found 'training'", good, split="training")
    refused("classes: expected labels, found 'cats'; did you mean 'cat'", good, classes="cats")
    refused("keypoints=nose: expected points with these labels", good, keypoints="nose")
    refused("keypoints: expected different names", good, keypoints="nose,nose")
    refused("expected labels of objects, found none", write(tmp_path / "none", "a", []))
    wide = write(tmp_path / "wide", "a", box, imageWidth=80)
    refused(r"a\.png: expected an image of 80x20 as .*a\.json says, found 40x20", wide)
    refused(
        "expected images to write for train, found none; 1 images are missing", write(tmp_path / "m", "a", box, False)
    )
    broken = write(tmp_path / "e", "a", box, False, imageData="AAAA")
    refused(r"a\.json: expected an image in base64 in 'imageData'", broken)
    twice = [*box, shape("nose", [[4, 4]], "point", 1), shape("nose", [[5, 4]], "point", 1)]
    twice[0]["group_id"] = 1
    refused(
        r"shape 2: expected each keypoint once in a group, found 'nose' again",
        write(tmp_path / "t", "a", twice),
        keypoints="nose",
    )
    write(tmp_path / "same", "a", box)
    write(tmp_path / "same", "b", box, False, imagePath="a.png")
    refused(r"expected names that differ before the suffix, found a\.png again", tmp_path / "same")
