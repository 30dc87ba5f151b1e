"""Ultralytics NDJSON to label lines: hand-made files, and the same lines as the host's own converter writes."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from support.labelled import balanced, labels_of, write_images

from yolo_multitask.data.config import load_data
from yolo_multitask.data.convert.ndjson import convert_ndjson
from yolo_multitask.data.labels import LabelSpec, read_labels

BOX = [0, 0.5, 0.5, 0.2, 0.4]
SEGMENT = [0, 0.4, 0.3, 0.6, 0.3, 0.6, 0.7, 0.4, 0.7]  # around BOX
POSE = [*BOX, 0.45, 0.4, 2, 0.55, 0.4, 1, 0, 0, 0]
NAMES = {"0": "person", "1": "cat"}


def head(task: str = "detect", **more: Any) -> dict[str, Any]:
    """Return the first record."""
    return {"type": "dataset", "task": task, "name": "t", "class_names": NAMES} | more


def record(name: str, annotations: dict[str, Any] | None = None, split: str = "train", **more: Any) -> dict[str, Any]:
    """Return the record of an image."""
    row = {"type": "image", "file": name, "url": f"https://example.com/{name}", "width": 40, "height": 20}
    return row | {"split": split, "annotations": annotations or {}} | more


def write(folder: Path, records: list[Any], place: str = "", missing: tuple[str, ...] = ()) -> Path:
    """Write the file and its images."""
    folder.mkdir(parents=True, exist_ok=True)
    named = [str(r["file"]) for r in records if isinstance(r, dict) and r.get("type") == "image"]
    write_images(folder / place, [name for name in named if name not in missing])
    file = folder / "set.ndjson"
    file.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in records) + "\n")
    return file


def test_boxes_and_splits(tmp_path: Path) -> None:
    rows = [
        head(),
        record("a.png", {"boxes": [BOX, [1, 0.25, 0.25, 0.1, 0.1]]}),
        record("b.png"),
        record("c.png", {"boxes": [BOX]}, "val"),
        record("d.png", {"boxes": [BOX]}, "val"),
    ]
    report = convert_ndjson(write(tmp_path / "in", rows, missing=("d.png",)), tmp_path / "out")
    assert list(report.splits) == ["train", "val"]
    found = labels_of(tmp_path / "out", "a")
    assert found.cls.tolist() == [0, 1]
    np.testing.assert_allclose(found.boxes, [BOX[1:], [0.25, 0.25, 0.1, 0.1]], atol=1e-7)
    train, val = report.splits["train"], report.splits["val"]
    assert (train.images, train.background, train.instances) == (2, 1, 2)
    assert (val.images, val.images_missing, val.dropped) == (1, 1, {"image missing in the folder": 1})
    assert balanced(train)
    assert balanced(val)
    data = load_data(tmp_path / "out/data.yaml")
    assert data["names"] == {0: "person", 1: "cat"}
    assert data["label_spec"] == LabelSpec(nc=2, kpt_shape=None, polygons=False)
    few = convert_ndjson(tmp_path / "in/set.ndjson", tmp_path / "few", background=False).splits["train"]
    assert (few.images, few.images_skipped) == (1, 1)


def test_objects_without_area_are_left_out(tmp_path: Path) -> None:
    rows = [
        head("segment"),
        record("a.png", {"segments": [SEGMENT, [0, 0.1, 0.1, 0.1, 0.2, 0.1, 0.3]]}),
        record("b.png", {"boxes": [[0, 0.5, 0.5, 0, 0.1], BOX], "segments": [SEGMENT, SEGMENT]}),
    ]
    report = convert_ndjson(write(tmp_path / "in", rows), tmp_path / "out").splits["train"]
    assert (report.instances, report.dropped) == (2, {"box of zero area": 2})
    assert balanced(report)


def test_segments(tmp_path: Path) -> None:
    rows = [head("segment"), record("a.png", {"segments": [SEGMENT]}), record("b.png", {"segments": []})]
    report = convert_ndjson(write(tmp_path / "in", rows), tmp_path / "out").splits["train"]
    found = labels_of(tmp_path / "out", "a")
    np.testing.assert_allclose(found.boxes[0], BOX[1:], atol=1e-6)
    assert found.polygons[0] is not None
    np.testing.assert_allclose(found.polygons[0], np.reshape(SEGMENT[1:], (-1, 2)), atol=1e-7)
    assert (report.polygons, report.background) == (1, 1)


def test_pose(tmp_path: Path) -> None:
    more = {"kpt_shape": [3, 3], "kpt_names": {"0": ["nose", "left_hand", "right_hand"]}}
    rows = [head("pose", class_names={"0": "person"}, **more), record("a.png", {"pose": [POSE]})]
    convert_ndjson(write(tmp_path / "in", rows), tmp_path / "out")
    found = labels_of(tmp_path / "out", "a").keypoints
    assert found is not None
    np.testing.assert_allclose(found[0], [[0.45, 0.4, 2], [0.55, 0.4, 1], [0, 0, 0]], atol=1e-7)
    data = load_data(tmp_path / "out/data.yaml")
    assert data["kpt_names"] == {0: ["nose", "left_hand", "right_hand"]}
    assert data["flip_idx"] == [0, 2, 1]


@pytest.mark.parametrize(
    ("tail", "shape"),
    [([0.4, 0.4, 2, 0.5, 0.5, 0], [2, 3]), ([0.4, 0.4, 0.5, 0.5], [2, 2]), ([0.4, 0.4, 0.5, 0.5, 0.6, 0.6], None)],
)
def test_shape_of_keypoints_that_the_file_does_not_give(tmp_path: Path, tail: list[float], shape: Any) -> None:
    """The answers are those of the host."""
    from ultralytics.data.converter import _infer_ndjson_kpt_shape

    rows = [head("pose"), record("a.png", {"pose": [[*BOX, *tail]]})]
    file = write(tmp_path / "in", rows)
    if shape is None:
        with pytest.raises(ValueError, match="kpt_shape"):
            _infer_ndjson_kpt_shape(rows[1:])
        with pytest.raises(ValueError, match=r"set\.ndjson:1: expected kpt_shape \[K, D\]"):
            convert_ndjson(file, tmp_path / "out")
        return
    assert _infer_ndjson_kpt_shape(rows[1:]) == shape
    convert_ndjson(file, tmp_path / "out")
    assert yaml.safe_load((tmp_path / "out/data.yaml").read_text())["kpt_shape"] == shape


def test_several_keys_are_one_object_a_row(tmp_path: Path) -> None:
    second = [1, 0.2, 0.2, 0.1, 0.1]
    around = [1, 0.15, 0.15, 0.25, 0.15, 0.25, 0.25]
    annotations = {"segments": [SEGMENT, around], "boxes": [BOX, second], "pose": [POSE, [*second, *[0] * 9]]}
    rows = [head("pose", kpt_shape=[3, 3]), record("a.png", annotations), record("b.png", {"boxes": [BOX]})]
    report = convert_ndjson(write(tmp_path / "in", rows), tmp_path / "out").splits["train"]
    found = labels_of(tmp_path / "out", "a")
    assert found.cls.tolist() == [0, 1]
    assert found.has_polygon.tolist() == found.has_keypoints.tolist() == [True, True]
    assert labels_of(tmp_path / "out", "b").has_polygon.tolist() == [False]
    assert (report.instances, report.keypoints, report.polygons) == (3, 2, 2)
    assert balanced(report)
    for wrong, says in (
        ({"boxes": [BOX], "segments": [SEGMENT, around]}, "found 1 boxes, 2 segments"),
        ({"boxes": [second], "segments": [SEGMENT]}, r"segments\[0\]: expected the object of boxes\[0\]"),
        ({"boxes": [[1, *BOX[1:]]], "segments": [SEGMENT]}, r"segments\[0\]: expected the object of boxes\[0\]"),
    ):
        with pytest.raises(ValueError, match=rf"set\.ndjson:2: a\.png: .*{says}"):
            convert_ndjson(write(tmp_path / "in", [head(), record("a.png", wrong)]), tmp_path / "other")


@pytest.mark.parametrize("place", ["", "train", "images/train", "images"])
def test_where_images_are(tmp_path: Path, place: str) -> None:
    file = write(tmp_path / "in", [head(), record("a.png", {"boxes": [BOX]})], place)
    assert convert_ndjson(file, tmp_path / "out").splits["train"].images == 1
    elsewhere = tmp_path / "moved"
    (tmp_path / "in" / place if place else tmp_path / "in").joinpath("a.png").rename(tmp_path / "a.png")
    elsewhere.mkdir()
    (tmp_path / "a.png").rename(elsewhere / "a.png")
    assert convert_ndjson(file, tmp_path / "again", images=elsewhere).splits["train"].images == 1
    with pytest.raises(ValueError, match=r"found none of 1 .*does not download.*convert_ndjson_to_yolo do"):
        convert_ndjson(file, tmp_path / "third")
    assert not (tmp_path / "third").exists()


def test_images_of_two_splits_with_one_name(tmp_path: Path) -> None:
    rows = [head(), record("a.png", {"boxes": [BOX]}), record("a.png", {"boxes": [BOX]}, "val")]
    file = write(tmp_path / "in", rows)
    with pytest.raises(ValueError, match=r"set.ndjson:3: expected another image than in .*:2, found .* for both; put"):
        convert_ndjson(file, tmp_path / "out")
    for split in ("train", "val"):
        write_images(tmp_path / "in" / split, ["a.png"])
    assert len(convert_ndjson(file, tmp_path / "out").splits) == 2


def test_a_line_ends_where_json_says(tmp_path: Path) -> None:
    file = write(tmp_path / "in", [head(class_names={"0": "a\u2028b"}), record("a.png", {"boxes": [BOX]})])
    file.write_text(file.read_text().replace("\\u2028", "\u2028"), encoding="utf-8")
    assert convert_ndjson(file, tmp_path / "out").names == ["a\u2028b"]


def test_same_labels_as_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host reads local images by the key `path`; its label files hold the same numbers."""
    from ultralytics.data import converter
    from ultralytics.utils import checks

    class Session:
        """Stands for the session of downloads, of which local images need none."""

        def __init__(self, **_: Any) -> None: ...

        async def __aenter__(self) -> Session:
            return self

        async def __aexit__(self, *_: Any) -> None: ...

    monkeypatch.setitem(sys.modules, "aiohttp", SimpleNamespace(ClientSession=Session))
    for module in (checks, converter):  # older versions import it when they run
        monkeypatch.setattr(module, "check_requirements", lambda *_: True, raising=False)

    rows = [
        head("segment", path="data"),
        record("a.png", {"segments": [SEGMENT, [1, 0.1, 0.1, 0.3, 0.1, 0.3, 0.3]]}),
        record("b.png", {"segments": [SEGMENT]}, "val"),
    ]
    for row in rows[1:]:
        write(tmp_path / "in", [row], f"data/images/{row['split']}")
    file = tmp_path / "in/set.ndjson"
    file.write_text("\n".join(map(json.dumps, rows)))
    theirs = asyncio.run(converter.convert_ndjson_to_yolo(file, tmp_path / "host"))
    report = convert_ndjson(file, tmp_path / "out")
    spec = LabelSpec(nc=2, kpt_shape=None, polygons=True, format="segment")
    assert {s: r.images for s, r in report.splits.items()} == {"train": 1, "val": 1}
    for split, name in (("train", "a"), ("val", "b")):
        (stock,) = sorted((theirs.parent / "labels" / split).glob("*.txt"))
        wanted, problems = read_labels(stock, spec)
        assert problems == []
        found = labels_of(tmp_path / "out", name, split)
        assert found.cls.tolist() == wanted.cls.tolist()
        for ours, polygon in zip(found.polygons, wanted.polygons, strict=True):
            assert ours is not None
            assert polygon is not None
            np.testing.assert_array_equal(ours, polygon)


def test_classes_without_names(tmp_path: Path) -> None:
    rows = [head(class_names={"0": "person"}), record("a.png", {"boxes": [[2, 0.5, 0.5, 0.1, 0.1]]})]
    assert convert_ndjson(write(tmp_path / "in", rows), tmp_path / "out").names == ["person", "class1", "class2"]
    for names, says in (
        ({"0": "dog"}, "out has a data set with the classes person, class1, class2, this split has dog; give another"),
        ({"0": "class1"}, "out has a data set with the classes in another order than .*give another out="),
    ):
        rows = [head(class_names=names), record("a.png", {"boxes": [BOX]}, "val")]
        with pytest.raises(ValueError, match=says):
            convert_ndjson(write(tmp_path / "in", rows), tmp_path / "out")


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (["{"], r"set\.ndjson:1: expected one JSON object a line, found text that is not JSON"),
        ([head()], "expected a line for the data set and one for each image, found 1 lines"),
        ([record("a.png")] * 2, r'set\.ndjson:1: expected {"type": "dataset", ...}'),
        ([head(), head()], r'set\.ndjson:2: expected {"type": "image", ...}'),
        ([head("classify"), record("a.png")], "expected the task detect, pose, segment, found 'classify'"),
        ([head(class_names=["a"]), record("a.png")], "expected class_names {index: name}, found"),
        ([head(class_names={}), record("a.png")], "expected class_names or annotations, found neither"),
        ([head(), record("a.png", split="valid")], r"set\.ndjson:2: a\.png: expected a split of train, val, test"),
        ([head(), record("")], "expected the name of an image in 'file', found ''"),
        (
            [head(), record("a.png", {"obb": [BOX]})],
            "expected annotations with lists of boxes, pose, segments, found obb",
        ),
        ([head(), record("a.png", {"boxes": [["x"]]})], r"boxes\[0\]: expected a list of numbers, class first"),
        ([head(), record("a.png", {"boxes": [BOX, BOX[:4]]})], r"a\.png: boxes\[1\]: expected .* found 3 of 4 box"),
        (
            [head(), record("a.png", {"boxes": [[0, 2, 0.5, 0.1, 0.1]]})],
            r"boxes\[0\]: expected box coordinates in 0..1",
        ),
        ([head(), record("a.png", {"segments": [[0, 0.1, 0.1]]})], r"segments\[0\]: expected a polygon of 3 or more"),
        ([head(kpt_shape=[2, 3]), record("a.png", {"pose": [POSE]})], r"pose\[0\]: expected .*found 3 more columns"),
        ([head(kpt_shape=[3, 3], kpt_names={"0": ["nose"]}), record("a.png", {"pose": [POSE]})], "3 names a class"),
        ([head(kpt_shape=[3, 3], kpt_names={"a": ["x"] * 3}), record("a.png", {"pose": [POSE]})], "3 names a class"),
        (
            [head(), record("a.png"), record("a.png")],
            r"expected names that differ before the suffix, found a\.png again",
        ),
    ],
)
def test_malformed_files(tmp_path: Path, rows: list[Any], says: str) -> None:
    (tmp_path / "in").mkdir()
    images = [r for r in rows if isinstance(r, dict) and r.get("file")]
    write(tmp_path / "in", images)
    (tmp_path / "in/set.ndjson").write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows))
    with pytest.raises(ValueError, match=says):
        convert_ndjson(tmp_path / "in/set.ndjson", tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_missing_places(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="src=.*expected an NDJSON file"):
        convert_ndjson(tmp_path / "set.ndjson", tmp_path / "out")
    file = write(tmp_path / "in", [head(), record("a.png", {"boxes": [BOX]})])
    with pytest.raises(FileNotFoundError, match="images=.*expected a folder with images"):
        convert_ndjson(file, tmp_path / "out", images=tmp_path / "nowhere")
    convert_ndjson(file, tmp_path / "out")
    with pytest.raises(ValueError, match="split train exists already"):
        convert_ndjson(file, tmp_path / "out")
