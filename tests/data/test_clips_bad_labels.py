"""Each kind of wrong label: `file:line: reason`, a count, and a frame that is not labelled rather than background."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from yolo_multitask.data.clips.annotation import read_annotation
from yolo_multitask.data.clips.clip import Clip
from yolo_multitask.data.clips.config import clip_spec
from yolo_multitask.data.clips.csv_labels import read_csv
from yolo_multitask.data.clips.find import ClipEntry, locate
from yolo_multitask.data.clips.read import number_images, read_clips

SIZE = (24, 40)
BALL = clip_spec({"names": ["ball"]})
TWO = clip_spec({"names": ["ball", "puck"], "objects": ["ball", "puck"]})
PERSONS = clip_spec({"names": ["ball", "person"], "objects": ["ball"], "kpt_shape": [2, 3]})
HEAD = "Frame,Visibility,X,Y,Class,Id"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("x,1,1,2", "expected a frame number 0 or above, or a file name with one, found 'x'"),
        ("-1,1,1,2", "expected a frame number 0 or above"),
        ("1.5,1,1,2", "expected a frame number"),
        ("1,4,1,2", "expected a Visibility of 0, 1, 2 or 3, found '4'"),
        ("1,yes,1,2", "expected a number as Visibility, found 'yes'"),
        ("1", "expected a number as Visibility, found ''"),
        ("1,1,a,2", "expected a number as X, found 'a'"),
        ("1,1,,", "expected a number as X, found ''"),
        ("1,1,1,nan", "expected a number as Y, found 'nan'"),
        ("1,1,40.5,2", "expected X in 0..40 pixels, the size of the frame, found 40.5"),
        ("1,1,1,-0.1", "expected Y in 0..24 pixels"),
        ("1,1,1,2,boll", "expected a class of the objects (ball, puck), found 'boll', did you mean 'ball'?"),
        ("1,1,1,2,", "expected a class, as there are several objects (ball, puck), found none"),
        ("1,1,1,2,2", "expected a class of the objects"),
        ("1,1,1,2,ball,-2", "expected an Id that is an integer 0 or above, or -1, found '-2'"),
        ("1,1,1,2,ball,1.5", "expected an Id"),
        ("0,0,,,ball", "expected one answer for frame 0, found lines with and without an object"),
        ("0,1,9,9,ball,3", "expected an Id once in frame 0, found 3 at two places"),
    ],
)
def test_csv_line(tmp_path: Path, line: str, reason: str) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(f"{HEAD}\n0,1,1,2,ball,3\n\n{line}\n2,1,3,4,puck,3\n")
    found = read_csv(file, TWO, SIZE)
    (problem,) = found.problems
    assert str(problem).startswith(f"{file}:4: ")
    assert reason in str(problem)
    bad = {0} if line.startswith("0") else set()
    assert set(found.frames) == {0, 2} - bad  # the frame of the bad line is not labelled


def test_csv_line_that_repeats_another_is_counted(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("Frame,Visibility,X,Y\n0,1,1,2\n0,1,1.0,2.0\n")
    found = read_csv(file, BALL, SIZE)
    assert [str(p) for p in found.problems] == [f"{file}:3: repeats a line of frame 0"]
    assert found.problems[0].kind == "duplicate"
    assert len(found.frames[0].points) == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "expected the columns Frame,Visibility,X,Y, found an empty file"),
        (b"Frame,X,Y\n0,1,2\n", "name the column visibility in the first line"),
        (b"0,1,2,3\n", "name the columns frame, visibility, x, y"),
        (b"Frame,Visibility,X,Y\n0,1,\xff,2\n", "expected a CSV file in UTF-8"),
    ],
)
def test_file_that_is_no_csv_of_positions(tmp_path: Path, text: bytes, reason: str) -> None:
    file = tmp_path / "labels.csv"
    file.write_bytes(text)
    with pytest.raises(ValueError, match=re.escape(f"{file}:1: ") + ".*" + re.escape(reason)):
        read_csv(file, BALL, SIZE)


BOX = {"X": 1, "Y": 2, "Width": 3, "Height": 4}
POINTS = [{"X": 1, "Y": 2}, {"X": 2, "Y": 3}]


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (5, "expected a frame as {Frame, Balls, Players}, found 5"),
        ({"Balls": []}, "expected Frame to be a number 0 or above, found None"),
        ({"Frame": "1"}, "expected Frame to be a number 0 or above, found '1'"),
        ({"Frame": 0}, "expected frame 0 once, found it again"),
        ({"Frame": 1, "Balls": {"X": 1}}, "expected Balls to be a list of objects"),
        ({"Frame": 1, "Balls": [{"X": 1}]}, "expected Y of a ball to be a number, found None"),
        ({"Frame": 1, "Balls": [{"X": 1, "Y": "2"}]}, "expected Y of a ball to be a number, found '2'"),
        ({"Frame": 1, "Balls": [{"X": 41, "Y": 2}]}, "expected a ball in the frame of 40x24 pixels, found (41, 2)"),
        ({"Frame": 1, "Balls": [{"X": 1, "Y": 2, "Visibility": 9}]}, "expected a ball's Visibility of 0, 1, 2 or 3"),
        ({"Frame": 1, "Balls": [{"X": 1, "Y": 2, "Id": "a"}]}, "expected an Id"),
        ({"Frame": 1, "Players": [{}]}, "expected a player's 'Bounding Box'"),
        ({"Frame": 1, "Players": [{"Bounding Box": {"X": 1}}]}, "expected Y of a player's box to be a number"),
        ({"Frame": 1, "Players": [{"Bounding Box": {**BOX, "Width": 0}}]}, "expected a player's box in the frame"),
        ({"Frame": 1, "Players": [{"Bounding Box": {**BOX, "X": 50}}]}, "expected a player's box in the frame"),
        (
            {"Frame": 1, "Players": [{"Bounding Box": BOX, "Keypoints": POINTS[:1]}]},
            "expected 2 Keypoints as kpt_shape",
        ),
        ({"Frame": 1, "Players": [{"Bounding Box": BOX, "Keypoints": [*POINTS[:1], 3]}]}, "expected X of a keypoint"),
        (
            {"Frame": 1, "Players": [{"Bounding Box": BOX, "Keypoints": [{**POINTS[0], "Visibility": 7}, None]}]},
            "expected a keypoint's Visibility of 0, 1 or 2, found 7",
        ),
        ({"Frame": 1, "Players": [{"Bounding Box": BOX, "Class": "dog"}]}, "expected a class of the players (person)"),
    ],
)
def test_annotation_entry(tmp_path: Path, entry: Any, reason: str) -> None:
    file = tmp_path / "annotation.json"
    good = [{"Frame": 0, "Balls": [{"X": 1, "Y": 2}]}, {"Frame": 2, "Balls": []}]
    file.write_text("[\n" + ",\n\n".join(json.dumps(e) for e in (good[0], entry, good[1])) + "\n]\n")
    found = read_annotation(file, PERSONS, SIZE)
    (problem,) = found.problems
    assert str(problem).startswith(f"{file}:4: ")  # on which the entry begins
    assert reason in str(problem)
    assert set(found.frames) == ({2} if entry == {"Frame": 0} else {0, 2})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", ":1: expected a JSON list of frames, found ''"),
        ('{"Frame": 0}', ":1: expected a JSON list of frames"),
        ('[\n{"Frame": 0},\n{"Frame" 1}]', ":3: expected a JSON list of frames, found expecting ':' delimiter"),
        ('[{"Frame": 0}', ":1: expected ',' or ']', found ''"),
        ('[{"Frame": 0}\n{"Frame": 1}]', ":2: expected ',' or ']', found '{'"),
    ],
)
def test_file_that_is_no_annotation(tmp_path: Path, text: str, reason: str) -> None:
    file = tmp_path / "annotation.json"
    file.write_text(text)
    with pytest.raises(ValueError, match="^" + re.escape(f"{file}{reason}")):
        read_annotation(file, PERSONS, SIZE)


def clip_of(folder: Path, lines: dict[int, str]) -> Clip:
    """Read a clip with label lines."""
    for kind in ("images", "labels"):
        (folder / kind / "a").mkdir(parents=True)
    for number, text in lines.items():
        cv2.imwrite(str(folder / f"images/a/{number:04d}.png"), np.zeros((*SIZE, 3), np.uint8))
        (folder / f"labels/a/{number:04d}.txt").write_text(text)
    keys = {"names": ["ball", "person"], "objects": ["ball"], "labels": {"ids": True}}
    return read_clips([ClipEntry(path=folder / "images/a")], clip_spec(keys))[0][0]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0 0.5 0.5 0.1\n", "found 3 of 4 box numbers"),
        ("2 0.5 0.5 0.1 0.1\n", "class"),
        ("0 0.5 0.5 0.1 0.1 #1\n0 0.2 0.5 0.1 0.1 #1\n", "expected #1 once in class 0 of a frame, found it again"),
    ],
)
def test_label_line(tmp_path: Path, text: str, reason: str) -> None:
    clip = clip_of(tmp_path, {1: "0 0.5 0.5 0.1 0.1 #1\n", 2: text})
    (message,) = clip.messages
    assert message.startswith(f"{tmp_path}/labels/a/0002.txt:")
    assert reason in message
    assert [frame.labelled for frame in clip.labels] == [True, False]
    assert clip.labels[1].players is None
    assert clip.counts["bad lines"] == 1


def images(folder: Path, names: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        cv2.imwrite(str(folder / name), np.zeros((*SIZE, 3), np.uint8))
    return folder


def test_clip_whose_labels_are_of_no_frame(tmp_path: Path) -> None:
    images(tmp_path / "a", ["0100.png", "0101.png"])
    (tmp_path / "a/labels.csv").write_text("Frame,Visibility,X,Y\n0,1,1,2\n")
    with pytest.raises(ValueError, match=r"labels\.csv: expected labels of the frames 100 to 101, found none of them"):
        read_clips([ClipEntry(path=tmp_path / "a")], BALL)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["1.png", "frame.png"], "expected a name that ends in the number of its frame, found 'frame'"),
        (["1.png", "01.png"], "expected one image of frame 1"),
        ([f"{n}.png" for n in (1, 2, 999999)], "found 3 images numbered 1 to 999999"),
    ],
)
def test_names_that_are_no_frame_numbers(tmp_path: Path, names: list[str], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        number_images(images(tmp_path / "a", names))


def test_two_kinds_of_labels_are_not_chosen_between(tmp_path: Path) -> None:
    images(tmp_path / "a", ["1.png"])
    (tmp_path / "a/labels.csv").write_text("")
    (tmp_path / "a/annotation.json").write_text("")
    with pytest.raises(ValueError, match="expected labels of one kind, found .*say which with `format: annotation`"):
        locate(tmp_path / "a")
    assert [clip.kind for clip in locate(tmp_path / "a", "csv")[0]] == ["csv"]


def test_folder_without_labels(tmp_path: Path) -> None:
    images(tmp_path / "set/a", ["1.png"])
    with pytest.raises(ValueError, match="expected frames or a video with labels .*set/a: left out, images without"):
        locate(tmp_path / "set")


def test_file_that_is_no_picture(tmp_path: Path) -> None:
    images(tmp_path / "a", ["1.png"])
    (tmp_path / "a/0.png").write_text("no picture")
    (tmp_path / "a/labels.csv").write_text("Frame,Visibility,X,Y\n1,1,1,2\n")
    with pytest.raises(ValueError, match=r"0\.png: expected a picture"):
        read_clips([ClipEntry(path=tmp_path / "a")], BALL)
