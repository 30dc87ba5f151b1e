"""Data sets whose splits list several sources: what is found in each and across them, and how they are shown."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from yolo_multitask.data.check import CheckReport, check
from yolo_multitask.data.view.view import view

CAR, WALKER = "0 0.5 0.5 0.4 0.4 0.3 0.3 0.7 0.3 0.7 0.7 0.3 0.7 #1", "1 0.2 0.2 0.1 0.1 - #2"
HUMAN, DOG = "0 0.5 0.5 0.4 0.4 0.4 0.4 2 0.6 0.6 2", "1 0.3 0.8 0.2 0.2 0.05 0.05 2 0.3 0.8 2"  # a dog's ear is away
SHAPES = {"path": "shapes", "tasks": ["detect", "segment", "track"]}
PEOPLE = {"path": "people", "classes": {"human": "person"}, "weight": 2}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Write a clean set of two: a film of cars and persons with polygons and identities; people in stock pose lines."""
    noise = np.random.default_rng(0)
    for name, lines in (("shapes/{}/train/film", (CAR, WALKER)), ("people/{}/train", (HUMAN, DOG))):
        for split in ("train", "val"):
            for i in range(1, 5):
                files = [tmp_path / name.replace("train", split).format(kind) / str(i) for kind in ("images", "labels")]
                for file in files:
                    file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(noise.integers(0, 255, (48, 64, 3), np.uint8)).save(files[0].with_suffix(".png"))
                files[1].with_suffix(".txt").write_text("".join(f"{line}\n" for line in lines))
    splits = {"train": "images/train", "val": "images/val"}
    write(tmp_path / "shapes", **splits, names=["car", "person"], labels={"polygons": True, "ids": True})
    write(tmp_path / "people", **splits, names=["human", "dog"], kpt_shape=[2, 3], flip_idx=[1, 0])
    write(tmp_path, train=[SHAPES, PEOPLE], val=[SHAPES, PEOPLE], names=["person", "car"])
    return tmp_path


def write(folder: Path, **content: Any) -> None:
    (folder / "data.yaml").write_text(yaml.safe_dump(content))


def run(root: Path, **arguments: Any) -> CheckReport:
    return check(root / "data.yaml", workers=0, **arguments)


def relabel(root: Path, name: str, *lines: str) -> str:
    """Replace the lines of a label file; return the path of the last one as ``file:line``."""
    file = root / f"{name}.txt"
    file.write_text("".join(f"{line}\n" for line in lines))
    return f"{file}:{len(lines)}"


FILM, CROWD = "shapes/labels/train/film/2", "people/labels/train/2"
PLANTED: dict[str, tuple[str, str, Callable[[Path], str]]] = {
    "a class that the source lacks": (
        "line-class",
        "shapes",
        lambda r: relabel(r, FILM, WALKER, "2 0.5 0.5 0.2 0.2 -"),
    ),
    "lines of the other source": ("line-grammar", "people", lambda r: relabel(r, CROWD, HUMAN, DOG, f"{DOG} #3")),
    "a box beside its polygon": (
        "box-polygon",
        "shapes",
        lambda r: relabel(r, FILM, WALKER, CAR.replace("0.5 0.5 0.4 0.4", "0.8 0.8 0.2 0.2")),
    ),
    "an identity twice": ("id-twice", "shapes", lambda r: relabel(r, FILM, CAR, "1 0.2 0.2 0.1 0.1 - #1")),
    "a class that changes": ("id-class", "shapes", lambda r: relabel(r, FILM, WALKER, CAR.replace("0", "1", 1))),
    "a keypoint far away": (
        "keypoints-outside",
        "people",
        lambda r: relabel(r, CROWD, DOG, "0 0.9 0.9 0.1 0.1 0.1 0.1 2 0.9 0.9 2"),
    ),
}


def test_nothing_in_the_clean_set(root: Path) -> None:
    report = run(root)
    assert dict(report.counts) == {}, str(report)
    assert list(report.splits) == ["train shapes", "train people", "val shapes", "val people"]
    assert [c["objects"] for c in report.splits.values()] == [8, 4, 8, 4]
    assert [c["of other classes"] for c in report.splits.values()] == [0, 4, 0, 4]
    assert [c["sequences"] for c in report.splits.values()] == [1, 0, 1, 0]
    assert report.classes == [
        {"class": 0, "name": "person", "train": 8, "val": 8},
        {"class": 1, "name": "car", "train": 4, "val": 4},
    ]


@pytest.mark.parametrize("fault", PLANTED)
def test_a_fault_in_a_source(root: Path, fault: str) -> None:
    kind, source, plant = PLANTED[fault]
    place = plant(root)
    report = run(root)
    assert dict(report.counts) == {kind: 1}, str(report)
    (finding,) = report.findings[kind]
    assert str(finding).startswith(place)
    assert (finding.split, finding.source) == ("train", source)
    assert root.as_posix() in Path(finding.image).as_posix()


def test_classes_are_called_by_their_names(root: Path) -> None:
    relabel(root, FILM, WALKER, CAR.replace("0", "1", 1))
    assert "identity #1 is person in 1 frames, here first, and car in 3" in str(run(root))


@pytest.mark.parametrize(
    ("target", "kind", "source"),
    [
        ("people/images/val/2.png", "leak", "people"),
        ("people/images/train/2.png", "image-duplicate", "people"),
        ("shapes/images/val/film/2.png", "leak", "shapes"),
    ],
)
def test_one_picture_in_two_sources_and_splits(root: Path, target: str, kind: str, source: str) -> None:
    first = root / "shapes/images/train/film/1.png"
    shutil.copy(first, root / target)
    report = run(root)
    assert dict(report.counts) == {kind: 1}, str(report)
    (finding,) = report.findings[kind]
    assert (finding.file, finding.source) == (str(root / target), source)
    assert str(first) in finding.message


def test_an_image_in_two_sources(root: Path) -> None:
    """Training refuses it; that it is the same file twice goes without saying."""
    write(root, train=[SHAPES, PEOPLE, {**PEOPLE, "weight": 1}], val=[SHAPES, PEOPLE], names=["person", "car"])
    report = run(root)
    assert dict(report.counts) == {"source-overlap": 4}
    assert "is in the source people too" in report.findings["source-overlap"][0].message
    assert run(root, images=False).errors == 4


def test_a_source_without_labels_and_one_without_images(root: Path) -> None:
    shutil.rmtree(root / "people/labels/train")
    for file in (root / "shapes/images/train/film").iterdir():
        file.unlink()
    report = run(root)
    found = {kind: report.findings[kind][0] for kind in ("split-path", "split-unlabelled")}
    assert {kind: f.source for kind, f in found.items()} == {"split-path": "shapes", "split-unlabelled": "people"}
    assert "none of 4 images of train people has a label file" in found["split-unlabelled"].message


def test_a_class_that_a_source_does_not_label_after_all(root: Path) -> None:
    for file in (root / "shapes/labels").rglob("*.txt"):
        file.write_text(f"{CAR}\n")
    report = run(root)
    assert dict(report.counts) == {"class-unused": 1}
    assert "no object in shapes, but in another source: person" in str(report)


def test_the_page_shows_both(root: Path, tmp_path: Path) -> None:
    for fault in ("a box beside its polygon", "a keypoint far away"):
        PLANTED[fault][2](root)
    run(root, html=tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    captions = re.findall(r"<figcaption>([^\n]*)", text)
    assert [c.split(": ")[0] for c in captions] == ["train shapes", "train people"]
    assert re.findall(r'data-class="([^"]*)"', text) == [
        "[&quot;person&quot;, &quot;car&quot;]",
        "[&quot;person&quot;]",
    ]


def test_view_shows_what_is_trained(root: Path, tmp_path: Path) -> None:
    report = view(root / "data.yaml", tmp_path / "look", size=64)
    assert (report.images, report.of) == (8, 8)
    assert report.instances == {"person": 8, "car": 4}
    assert report.others == 4
    assert "of other classes: 4" in str(report)
    text = report.page.read_text()
    captions = re.findall(r"<figcaption>([^<]*)", text)
    assert captions == [
        f"{f}/{i}.png" for f in ("shapes/images/train/film", "people/images/train") for i in range(1, 5)
    ]
    tasks = re.findall(r'data-task="([^"]*)"', text)
    assert tasks == [
        str(t).replace("'", "&quot;") for t in [["detect", "segment", "track"]] * 4 + [["detect", "pose"]] * 4
    ]
    only = view(root / "data.yaml", tmp_path / "cars", classes="car", size=64)
    assert only.instances == {"person": 4, "car": 4}
