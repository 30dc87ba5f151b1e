"""Clips: where they are found, how frames and labels meet, and the real clip."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from yolo_multitask.data.clips import frames as frames_module
from yolo_multitask.data.clips.clip import Clip, FrameLabels
from yolo_multitask.data.clips.config import clip_spec, load_clip_data
from yolo_multitask.data.clips.find import ClipEntry
from yolo_multitask.data.clips.frames import ImageFrames, VideoFrames
from yolo_multitask.data.clips.read import read_clips

SIZE = (24, 40)  # height, width
PLAYERS = {
    "names": ["ball", "person"],
    "objects": ["ball"],
    "kpt_shape": [2, 3],
    "flip_idx": [1, 0],
    "labels": {"keypoints": True, "ids": True},
}


def picture(number: int) -> np.ndarray:
    """Return a frame whose colour says its number."""
    return np.full((*SIZE, 3), (number * 5 % 256, 255 - number * 5 % 256, 30), np.uint8)


def write_images(folder: Path, numbers: Any, digits: int = 4, ending: str = "png") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        cv2.imwrite(str(folder / f"{number:0{digits}d}.{ending}"), picture(number))
    return folder


def write_csv(file: Path, numbers: Any, head: str = "Frame,Visibility,X,Y") -> Path:
    """Write a ball that moves to the right by one pixel a frame."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join([head, *(f"{n},1,{n + 0.5},{5}" for n in numbers), ""]))
    return file


def load(root: Path, train: Any, **keys: Any) -> tuple[list[Clip], list[str]]:
    """Read the clips of a split through a data YAML."""
    file = root / "data.yaml"
    file.write_text(yaml.safe_dump({"path": str(root), "train": train, "val": train, "names": ["ball"], **keys}))
    data = load_clip_data(file, "train")
    return read_clips(data["clips"]["train"], data["clip_spec"])


def xs(labels: FrameLabels) -> list[float]:
    return labels.points[:, 0].tolist()


@pytest.mark.parametrize("name", ["labels.csv", "Label.csv", "a_ball.csv"])
def test_folder_with_csv(tmp_path: Path, name: str) -> None:
    write_images(tmp_path / "a", range(4))
    write_csv(tmp_path / "a" / name, range(4))
    (clip,), messages = load(tmp_path, "a")
    assert (clip.name, len(clip), clip.size, clip.first, messages) == ("a", 4, SIZE, 0, [])
    assert [xs(frame) for frame in clip.labels] == [[0.5], [1.5], [2.5], [3.5]]
    assert (clip.read(3) == picture(3)).all()
    assert clip.counts == {"frames": 4, "objects": 4}


def test_tennis_header_and_file_names(tmp_path: Path) -> None:
    """The first TrackNet set names files and coordinates in words, and leaves coordinates empty without a ball."""
    write_images(tmp_path / "a", range(3))
    (tmp_path / "a/Label.csv").write_text(
        "file name,visibility,x-coordinate,y-coordinate,status\n0000.png,1,3,4,0\n0001.png,0,,,\n0002.png,3,5,6,1\n"
    )
    (clip,), _ = load(tmp_path, "a")
    assert [(f.labelled, f.points.tolist(), f.visible.tolist()) for f in clip.labels] == [
        (True, [[3, 4]], [1]),
        (True, [], []),
        (True, [[5, 6]], [3]),
    ]
    assert clip.counts["hidden objects"] == 1


def test_several_objects_of_several_classes(tmp_path: Path) -> None:
    write_images(tmp_path / "a", range(2))
    (tmp_path / "a/labels.csv").write_text(
        "Frame,Visibility,X,Y,Class,Id\n0,1,1,2,ball,4\n0,2,3,4,1,5\n0,1,5,6,ball,\n1,0,,,ball,\n1,1,7,8,puck,5\n"
    )
    (clip,), _ = load(tmp_path, "a", names=["ball", "puck"], objects=["ball", "puck"])
    first, second = clip.labels
    assert (first.cls.tolist(), first.ids.tolist(), first.visible.tolist()) == ([0, 1, 0], [4, 5, -1], [1, 2, 1])
    assert (second.cls.tolist(), second.points.tolist()) == ([1], [[7, 8]])


def test_frames_that_are_missing_or_not_labelled(tmp_path: Path) -> None:
    """A gap is filled with the image before it and not labelled; so is a frame without a line."""
    write_images(tmp_path / "a", [3, 4, 7, 8])
    write_csv(tmp_path / "a/labels.csv", [3, 5, 7, 12])
    (clip,), _ = load(tmp_path, "a")
    assert (len(clip), clip.first) == (6, 3)
    assert [frame.labelled for frame in clip.labels] == [True, False, False, False, True, False]
    assert [Path(clip.frames.file(i)).stem for i in range(6)] == ["0003", "0004", "0004", "0004", "0007", "0008"]
    assert [clip.frames.key(i) for i in range(6)] == [0, 1, 1, 1, 4, 5]
    assert clip.counts["missing frames"] == 2
    assert clip.counts["labels without a frame"] == 2  # 5 and 12


def test_a_range_of_frames(tmp_path: Path) -> None:
    write_images(tmp_path / "a", range(10))
    write_csv(tmp_path / "a/labels.csv", range(10))
    clips, _ = load(tmp_path, [{"path": "a", "frames": [0, 5]}, {"path": "a", "frames": [6, 9]}])
    assert [(c.name, len(c), c.first) for c in clips] == [("a:0-5", 6, 0), ("a:6-9", 4, 6)]
    assert xs(clips[1].labels[0]) == [6.5]
    assert (clips[1].read(0) == picture(6)).all()
    assert "labels without a frame" not in clips[1].counts
    with pytest.raises(ValueError, match=r"expected `frames` within 0 to 9, found \[5, 10\]"):
        load(tmp_path, {"path": "a", "frames": [5, 10]})


def write_video(file: Path, count: int) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"MJPG"), 25, SIZE[::-1])
    for number in range(count):
        writer.write(picture(number))
    writer.release()
    return file


def test_tracknet_v2_matches(tmp_path: Path) -> None:
    """`match1/video/NAME.mp4`, `match1/csv/NAME_ball.csv`; frames in `match1/frame/NAME` go before the video."""
    write_video(tmp_path / "set/match1/video/1_00.avi", 6)
    write_video(tmp_path / "set/match1/video/1_01.avi", 4)
    write_video(tmp_path / "set/match1/video/1_02.avi", 4)
    for name, count in (("1_00", 6), ("1_01", 4)):
        write_csv(tmp_path / f"set/match1/csv/{name}_ball.csv", range(count))
    write_images(tmp_path / "set/match1/frame/1_01", range(4), 1)
    write_images(tmp_path / "set/match2/frame/1_01", range(3), 1)
    write_csv(tmp_path / "set/match2/csv/1_01_ball.csv", range(3))
    clips, messages = load(tmp_path, "set")
    names = ["set/match1/frame/1_01", "set/match1/video/1_00.avi", "set/match2/frame/1_01"]
    assert [clip.name for clip in clips] == names
    assert [len(clip) for clip in clips] == [4, 6, 3]
    assert clips[1].rate == 25
    assert [m.split(": ", 1)[1] for m in messages] == [
        "left out, a video without a CSV file of its name",
        "left out, its frames are there as images",
    ]


@pytest.mark.parametrize(("ending", "codec"), [("avi", "MJPG"), ("mp4", "mp4v")])
def test_a_video_gives_the_same_frames_in_any_order(tmp_path: Path, ending: str, codec: str) -> None:
    file, rng = tmp_path / f"a.{ending}", np.random.default_rng(0)
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*codec), 25, (64, 48))
    for number in range(150):
        writer.write(np.full((48, 64, 3), number, np.uint8))
    writer.release()
    frames = VideoFrames(file)
    straight = [frames.read(i) for i in range(150)]
    assert abs(float(straight[140].mean()) - 140) < 4
    for i in rng.integers(0, 150, 30):
        assert (frames.read(int(i)) == straight[i]).all()
    part = VideoFrames(file, 100, 120)
    assert len(part) == 21
    assert (part.read(20) == straight[120]).all()
    with pytest.raises(ValueError, match="expected frames 100 to 150, found 0 to 149"):
        VideoFrames(file, 100, 150)


def test_annotation_json(tmp_path: Path) -> None:
    write_images(tmp_path / "a/frame", range(4))
    point = {"X": 4, "Y": 5}
    player = {"Bounding Box": {"X": 2, "Y": 3, "Width": 10, "Height": 30}, "Keypoints": [point, {"X": 0, "Y": 0}]}
    (tmp_path / "a/annotation.json").write_text(
        json.dumps(
            [
                {"Frame": 0, "Balls": [{"X": 1, "Y": 2}, {"X": 3, "Y": 4, "Visibility": 3}], "Players": [player]},
                {"Frame": 1, "Balls": [], "Players": []},
                {"Frame": 2, "Balls": [{"X": 1, "Y": 2}]},
                {"Frame": 3, "Players": [{"Bounding Box": player["Bounding Box"], "Keypoints": []}]},
            ]
        )
    )
    (clip,), _ = load(tmp_path, "a", **PLAYERS)
    first, second, third, fourth = clip.labels
    assert (first.points.tolist(), first.visible.tolist()) == ([[1, 2], [3, 4]], [1, 3])
    assert first.players is not None
    assert first.players.boxes.tolist() == [[2, 3, 12, 24]]  # cut off at the edge
    assert first.players.cls.tolist() == [1]
    assert first.players.keypoints is not None
    assert first.players.keypoints.tolist() == [[[4, 5, 2], [0, 0, 0]]]  # (0, 0) without visibility is absent
    assert (second.labelled, len(second.points)) == (True, 0)
    assert second.players is not None
    assert len(second.players.cls) == 0
    assert (third.labelled, third.players) == (True, None)
    assert fourth.labelled is False
    assert fourth.players is not None
    assert fourth.players.has_keypoints.tolist() == [False]


def test_label_lines(tmp_path: Path) -> None:
    write_images(tmp_path / "images/train/a", range(1, 6))
    folder = tmp_path / "labels/train/a"
    folder.mkdir(parents=True)
    texts = {
        1: "0 0.5 0.25 0.1 0.1 - #7\n1 0.5 0.5 0.5 0.5 0.25 0.5 2 0.75 0.5 1 #1\n",
        2: "",
        3: "0 0.5 0.5 0.1 0.1 - #7 !\n1 0.5 0.5 1 1 - !\n",
        4: "0 0.5 0.5 1 1 - !\n1 0.5 0.5 0.5 0.5 -\n",
    }
    for number, text in texts.items():
        (folder / f"{number:04d}.txt").write_text(text)
    (clip,), _ = load(tmp_path, "images/train", **PLAYERS)
    assert clip.name == "train/a"
    seen, empty, hidden, whole, missing = clip.labels
    np.testing.assert_allclose(seen.points, [[20, 6]])
    np.testing.assert_allclose(seen.boxes, [[18, 4.8, 22, 7.2]], rtol=1e-6)
    assert (seen.ids.tolist(), seen.visible.tolist()) == ([7], [1])
    assert seen.players is not None
    assert seen.players.keypoints is not None
    assert seen.players.boxes.tolist() == [[10, 6, 30, 18]]
    assert seen.players.keypoints.tolist() == [[[10, 12, 2], [30, 12, 1]]]
    assert (empty.labelled, len(empty.points), empty.players is not None) == (True, 0, True)
    assert hidden.visible.tolist() == [3]
    assert hidden.players is not None
    assert hidden.players.ignore.tolist() == [True]
    assert (whole.labelled, len(whole.points)) == (False, 0)
    assert whole.players is not None
    assert whole.players.has_keypoints.tolist() == [False]
    assert (missing.labelled, missing.players) == (False, None)


def test_classes_of_an_entry_are_those_that_are_labelled(tmp_path: Path) -> None:
    """A clip of which only the ball is labelled does not make its players background."""
    write_images(tmp_path / "images/a", [1])
    (tmp_path / "labels/a").mkdir(parents=True)
    (tmp_path / "labels/a/0001.txt").write_text("0 0.5 0.5 0.1 0.1 -\n1 0.5 0.5 0.5 0.5 -\n")
    for classes, labelled, players in ((["ball"], True, False), (["person"], False, True)):
        (clip,), _ = load(tmp_path, {"path": "images/a", "classes": classes}, **PLAYERS)
        assert (clip.labels[0].labelled, clip.labels[0].players is not None) == (labelled, players)


def test_frames_of_another_size_are_refused(tmp_path: Path) -> None:
    write_images(tmp_path / "a", [0])
    cv2.imwrite(str(tmp_path / "a/0001.png"), np.zeros((10, 10, 3), np.uint8))
    frames = ImageFrames(sorted((tmp_path / "a").iterdir()))
    with pytest.raises(ValueError, match="expected a frame of 40x24 as the first of the clip, found 10x10"):
        frames.read(1)


def test_clips_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for folder in ("x/a", "y/a"):
        write_images(tmp_path / folder, [0])
        write_csv(tmp_path / folder / "labels.csv", [0])
    assert [c.name for c in load(tmp_path, ["x/a", "y/a"])[0]] == ["a", "a (2)"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"names": ["ball", "person"]}, "expected the key 'objects'"),
        ({"names": ["ball"], "objects": ["bal"]}, "Did you mean 'ball'"),
        ({"names": ["ball"], "objects": []}, "each class that is followed once"),
        ({"names": ["ball"], "kpt_shape": [3, 3]}, "all classes are 'objects'"),
        ({"names": ["ball", "p"], "objects": [0], "kpt_shape": [1, 3], "kpt_classes": ["ball"]}, "expected classes of"),
        ({"names": ["ball"], "format": "xml"}, "expected one of csv, annotation, lines"),
        ({"names": ["ball"], "object": ["ball"]}, "did you mean 'objects'"),
    ],
)
def test_data_yaml_that_contradicts_itself(tmp_path: Path, keys: dict[str, Any], message: str) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(ValueError, match=message):
        load(tmp_path, "a", **keys)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"path": "a", "frames": [3]}, "two frame numbers in order"),
        ({"path": "a", "frames": [3, 1]}, "two frame numbers in order"),
        ({"path": "a", "frame": [3, 1]}, "expected the keys path, frames, classes, format"),
        ({"frames": [0, 1]}, "expected a path or"),
        ({"path": "a", "classes": ["boll"]}, "expected `classes` of ball"),
        ({"path": "a", "format": "txt"}, "expected a format of csv"),
    ],
)
def test_entry_that_is_wrong(tmp_path: Path, entry: dict[str, Any], message: str) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(ValueError, match=message):
        load(tmp_path, [entry])


def test_a_clip_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="'train': expected a clip at .*nowhere"):
        load(tmp_path, "nowhere")


def test_the_usual_loader_says_what_such_data_is_for(tmp_path: Path) -> None:
    from yolo_multitask.data.config import load_data

    file = tmp_path / "data.yaml"
    file.write_text(yaml.safe_dump({"train": ".", "val": ".", "names": ["ball"], "format": "csv"}))
    with pytest.raises(ValueError, match="train a temporal model"):
        load_data(file)


def test_names_or_numbers_of_objects() -> None:
    for objects in (["puck"], [1], 1, "puck"):
        spec = clip_spec({"names": ["ball", "puck"], "objects": objects})
        assert (spec.objects, spec.players) == ((1,), (0,))


def test_the_data_yaml_that_is_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads TrackNetV2 as it is unpacked."""
    for part in ("Professional", "Amateur", "Test"):
        write_video(tmp_path / f"TrackNetV2/{part}/match1/video/1_01_00.avi", 3)
        write_csv(tmp_path / f"TrackNetV2/{part}/match1/csv/1_01_00_ball.csv", range(3))
    monkeypatch.chdir(tmp_path)
    data = load_clip_data("tracknet-multitask")
    clips, _ = read_clips(data["clips"]["train"], data["clip_spec"])
    assert [clip.name for clip in clips] == [f"{p}/match1/video/1_01_00.avi" for p in ("Professional", "Amateur")]
    assert (data["names"], data["objects"], len(data["clips"]["val"])) == ({0: "shuttlecock"}, [0], 1)


@pytest.mark.realdata
def test_the_real_tennis_clip(realdata: Path) -> None:
    """Every line of the file is there, where it says, and the ball is where the picture is brighter than around it."""
    folder = realdata / "ball/tennis-clip1-a"
    spec = clip_spec({"names": ["ball"]})
    (clip,), messages = read_clips([ClipEntry(path=folder)], spec)
    lines = [line.split(",") for line in (folder / "labels.csv").read_text().splitlines()[1:]]
    assert (len(clip), clip.size, messages, clip.messages) == (180, (360, 640), [], ())
    for line in lines:
        frame = clip.labels[int(line[0])]
        assert frame.labelled
        assert frame.visible.tolist() == ([int(line[1])] if line[1] != "0" else [])
        if line[1] != "0":
            assert frame.points[0].tolist() == [float(line[2]), float(line[3])]
    brighter = []
    for i in range(0, 180, 5):
        frame = clip.labels[i]
        if frame.visible.tolist() == [1]:
            x, y = frame.points[0].astype(int)
            gray = cv2.cvtColor(clip.read(i), cv2.COLOR_BGR2GRAY).astype(float)
            around = gray[max(y - 12, 0) : y + 13, max(x - 12, 0) : x + 13]
            brighter.append(gray[y - 2 : y + 3, x - 2 : x + 3].max() > np.median(around) + 15)
    assert len(brighter) > 5
    assert np.mean(brighter) > 0.9


def test_few_videos_are_open_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each open video holds a file and the threads of a decoder."""
    monkeypatch.setattr(frames_module, "_OPEN", 2)
    videos = [VideoFrames(write_video(tmp_path / f"{i}.avi", 4)) for i in range(5)]
    for index in range(4):
        for video in videos:
            assert video.read(index).shape == (*SIZE, 3)
            assert sum(v._reader is not None for v in videos) <= 2


def test_a_header_that_tells_of_frames_that_are_not_there(tmp_path: Path) -> None:
    """A download that broke off: the frames that can be read are the clip."""
    whole = write_video(tmp_path / "whole.avi", 50)
    (tmp_path / "cut.avi").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    video = VideoFrames(tmp_path / "cut.avi")
    assert 5 < len(video) < 50
    for index in range(len(video)):
        video.read(index)
