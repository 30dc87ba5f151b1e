"""TrackNet's clips to label lines: they say what the labels said, whole or not at all, and all is counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from yolo_multitask.cli.data import run_data
from yolo_multitask.data.clips.clip import Clip
from yolo_multitask.data.clips.config import load_clip_data
from yolo_multitask.data.clips.read import read_clips
from yolo_multitask.data.config import load_data
from yolo_multitask.data.convert.tracknet import convert_tracknet
from yolo_multitask.data.labels import read_labels
from yolo_multitask.data.mot import read_seqinfo

H, W = 24, 40


def write_clip(folder: Path, count: int = 6, lines: list[str] | None = None, gap: int | None = None) -> Path:
    """Write a clip whose ball moves to the right; frame `gap` has no image."""
    folder.mkdir(parents=True)
    for number in range(count):
        if number != gap:
            cv2.imwrite(str(folder / f"{number}.png"), np.full((H, W, 3), number * 7, np.uint8))
    rows = lines if lines is not None else [f"{n},1,{n + 0.25},{n + 1.5}" for n in range(count)]
    (folder / "labels.csv").write_text("\n".join(["Frame,Visibility,X,Y", *rows, ""]))
    return folder


def tree(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def clips_of(out: Path) -> dict[str, Clip]:
    """Read the written data set as clips, by split and name."""
    data = load_clip_data(out / "data.yaml")
    found = {}
    for split in ("train", "val"):
        clips, messages = read_clips(data["clips"][split], data["clip_spec"])
        assert messages == []
        assert all(clip.messages == () for clip in clips)
        found |= {clip.name: clip for clip in clips}
    return found


def test_every_line(tmp_path: Path) -> None:
    rows = ["0,1,10,6", "1,2,20,12", "2,3,30,18", "3,0,,", "4,7,1,1", "5,1,5,5", "5,1,5,5"]
    write_clip(tmp_path / "src/a", 7, rows)
    write_clip(tmp_path / "src/b", 3)
    report = convert_tracknet(tmp_path / "src", tmp_path / "out", val_clips="b", size=0.1)
    folder = tmp_path / "out/labels/train/a"
    assert [(folder / f"{n:06d}.txt").read_text() for n in range(7)] == [
        "0 0.25 0.25 0.1 0.1666667 #1\n",
        "0 0.5 0.5 0.1 0.1666667 #1\n",
        "0 0.75 0.75 0.1 0.1666667 #1 !\n",  # hidden
        "",  # not there
        "0 0.5 0.5 1 1 !\n",  # its line is wrong: not labelled
        "0 0.125 0.2083333 0.1 0.1666667 #1\n",
        "0 0.5 0.5 1 1 !\n",  # no line
    ]
    counts = report.splits["train"]
    assert counts.dropped == {"line that does not parse": 1, "line that repeats another": 1}
    assert counts.notes == {
        "hard to see, written as seen": 1,
        "hidden object to ignore region": 1,
        "not labelled, an ignore region of the whole picture": 2,
    }
    assert counts.annotations == counts.instances + counts.ignored + sum(counts.dropped.values()) == 8
    first, second = report.clips
    assert (first.name, first.split, first.images, first.objects, first.hidden) == ("a", "train", 7, 4, 1)
    assert (second.name, second.split, second.images) == ("b", "val", 3)
    assert any("labels.csv:6: expected a Visibility of 0, 1, 2 or 3, found '7'" in r for r in report.remarks)
    assert "line that does not parse" in str(report)


def test_read_back_it_is_the_same_clip(tmp_path: Path) -> None:
    write_clip(tmp_path / "src/a", 6, gap=2)
    write_clip(tmp_path / "src/b", 6)
    convert_tracknet(tmp_path / "src", tmp_path / "out", val_clips=["b"])
    clips = clips_of(tmp_path / "out")
    assert set(clips) == {"train/a", "val/b"}
    assert clips["train/a"].counts["missing frames"] == 1
    for number in (0, 1, 3, 4, 5):
        labels = clips["train/a"].labels[number]
        np.testing.assert_allclose(labels.points, [[number + 0.25, number + 1.5]], atol=1e-4)
        assert (labels.visible.tolist(), labels.ids.tolist()) == ([1], [1])
        assert (clips["train/a"].read(number) == number * 7).all()
    assert load_data(tmp_path / "out/data.yaml")["label_spec"].ids  # other models take it, too


def test_players_of_annotation_json(tmp_path: Path) -> None:
    for name in ("a", "b"):
        folder = tmp_path / "src" / name / "frame"
        folder.mkdir(parents=True)
        for number in range(3):
            cv2.imwrite(str(folder / f"{number}.png"), np.zeros((H, W, 3), np.uint8))
        box = {"X": 4, "Y": 3, "Width": 10, "Height": 12}
        points = [{"X": 5 + k, "Y": 6} for k in range(17)]
        players = [{"Bounding Box": box, "Keypoints": points, "Id": 0}, {"Bounding Box": box}]
        frames: list[dict[str, Any]] = [
            {"Frame": 0, "Balls": [{"X": 8, "Y": 6, "Id": 0}, {"X": 9, "Y": 7}], "Players": players},
            {"Frame": 1, "Balls": []},
            {"Frame": 2, "Players": []},
        ]
        (tmp_path / "src" / name / "annotation.json").write_text(json.dumps(frames))
    report = convert_tracknet(tmp_path / "src", tmp_path / "out")
    data = load_clip_data(tmp_path / "out/data.yaml")
    assert (data["names"], data["objects"], data["kpt_shape"]) == ({0: "ball", 1: "person"}, [0], [17, 3])
    assert data["flip_idx"][1:3] == [2, 1]
    clip = clips_of(tmp_path / "out")["train/a"]
    first, second, third = clip.labels
    assert (first.ids.tolist(), first.cls.tolist()) == ([1, -1], [0, 0])  # two without numbers cannot be told apart
    assert first.players is not None
    assert (first.players.ids.tolist(), first.players.has_keypoints.tolist()) == ([2, -1], [True, False])
    np.testing.assert_allclose(first.players.boxes[0], [4, 3, 14, 15], atol=1e-4)
    assert first.players.keypoints is not None
    np.testing.assert_allclose(first.players.keypoints[0, :, 0], np.arange(17) + 5, atol=1e-4)
    assert second.labelled
    assert second.players is not None
    assert second.players.ignore.tolist() == [True]  # not labelled: nothing in the picture is background
    np.testing.assert_allclose(second.players.boxes, [[0, 0, W, H]], atol=1e-4)
    assert not third.labelled
    assert third.players is not None
    assert len(third.players.cls) == 0
    assert report.splits["train"].keypoints == 1


def test_a_ball_that_returns_is_another(tmp_path: Path) -> None:
    seen = [*range(3), *range(6, 9), *range(30, 32)]
    rows = [f"{n},{int(n in seen)},{n},5" for n in range(32)]
    write_clip(tmp_path / "src/a", 32, rows)
    write_clip(tmp_path / "src/b", 1)
    convert_tracknet(tmp_path / "src", tmp_path / "out", val_clips="b")
    labels = clips_of(tmp_path / "out")["train/a"].labels
    assert [int(labels[n].ids[0]) for n in seen] == [1] * 6 + [2] * 2


def test_every_second_frame(tmp_path: Path) -> None:
    write_clip(tmp_path / "src/a", 7)
    write_clip(tmp_path / "src/b", 2)
    convert_tracknet(tmp_path / "src", tmp_path / "out", every=2, val_clips="b")
    clip = clips_of(tmp_path / "out")["train/a"]
    assert [float(frame.points[0, 0]) for frame in clip.labels] == pytest.approx([0.25, 2.25, 4.25, 6.25], abs=1e-4)
    assert (clip.read(3) == 42).all()


def test_a_single_clip_is_divided_by_frames(tmp_path: Path) -> None:
    report = convert_tracknet(write_clip(tmp_path / "a", 10), tmp_path / "out", val=0.3)
    clips = clips_of(tmp_path / "out")
    assert [(c.name, c.split, c.images) for c in report.clips] == [("a", "train", 7), ("a", "val", 3)]
    assert [(clip.first, len(clip)) for clip in clips.values()] == [(0, 7), (7, 3)]


def test_a_share_of_the_clips_goes_to_val(tmp_path: Path) -> None:
    for k in range(10):
        write_clip(tmp_path / f"src/c{k}", 1)
    report = convert_tracknet(tmp_path / "src", tmp_path / "out", val=0.2)
    assert [c.name for c in report.clips if c.split == "val"] == ["c2", "c7"]


def test_videos_of_a_match(tmp_path: Path) -> None:
    for name in ("1_00", "1_01"):
        file = tmp_path / f"set/match1/video/{name}.avi"
        file.parent.mkdir(parents=True, exist_ok=True)
        writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"MJPG"), 30, (W, H))
        for number in range(4):
            writer.write(np.full((H, W, 3), 60 * number, np.uint8))
        writer.release()
        csv = tmp_path / f"set/match1/csv/{name}_ball.csv"
        csv.parent.mkdir(exist_ok=True)
        csv.write_text("Frame,Visibility,X,Y\n" + "".join(f"{n},1,{n},{n}\n" for n in range(4)))
    convert_tracknet(tmp_path / "set", tmp_path / "out", val=0.5, objects="shuttlecock", every=2)
    assert sorted(p.name for p in (tmp_path / "out/images/train").iterdir()) == ["match1-1_00"]
    clip = clips_of(tmp_path / "out")["train/match1-1_00"]
    assert (len(clip), clip.rate) == (2, 15)
    assert abs(clip.read(1).mean() - 120) < 4
    info = read_seqinfo(tmp_path / "out/images/train/match1-1_00/seqinfo.ini")
    assert (info.frame_rate, info.length) == (15, 2)


def test_a_ball_at_the_edge_keeps_its_place(tmp_path: Path) -> None:
    write_clip(tmp_path / "src/a", 2, [f"0,1,0,{H}", f"1,1,{W},0"])
    write_clip(tmp_path / "src/b", 1)
    convert_tracknet(tmp_path / "src", tmp_path / "out", val_clips="b", size=0.2)
    data = load_data(tmp_path / "out/data.yaml")
    labels, problems = read_labels(tmp_path / "out/labels/train/a/000000.txt", data["label_spec"])
    assert problems == []
    assert labels.boxes[0, :2].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"val": 0}, "val: expected a share above 0 and below 1, found 0"),
        ({"val": 1.5}, "val: expected a share"),
        ({"every": 0}, "every: expected a number of 1 or more, found 0"),
        ({"size": 0.7}, "size: expected a share"),
        ({"val_clips": "c*"}, r"val_clips: expected names of clips \(a, b\), found 'c\*'"),
        ({"val_clips": "*"}, "expected clips that stay in train"),
        ({"objects": "ball,person"}, "objects: expected names that differ"),
        ({"objects": "ball,puck"}, "expected labels of the frames"),  # which of them is not said in the file
    ],
)
def test_wrong_arguments_leave_nothing_behind(tmp_path: Path, keys: dict[str, Any], message: str) -> None:
    write_clip(tmp_path / "src/a")
    write_clip(tmp_path / "src/b")
    before = tree(tmp_path)
    with pytest.raises(ValueError, match=message):
        convert_tracknet(tmp_path / "src", tmp_path / "out", **keys)
    assert tree(tmp_path) == before


def test_what_is_there_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    write_clip(tmp_path / "src/a")
    write_clip(tmp_path / "src/b")
    convert_tracknet(tmp_path / "src", tmp_path / "out")
    with pytest.raises(ValueError, match="exists already; give exist_ok=True"):
        convert_tracknet(tmp_path / "src", tmp_path / "out")
    before = tree(tmp_path / "out")
    (tmp_path / "src/b/labels.csv").write_text("a,b\n")
    with pytest.raises(ValueError, match=r"labels\.csv:1: expected the columns"):
        convert_tracknet(tmp_path / "src", tmp_path / "out", exist_ok=True)
    assert tree(tmp_path / "out") == before
    with pytest.raises(ValueError, match="found label lines"):
        convert_tracknet(tmp_path / "out", tmp_path / "again")


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b", "c"):
        write_clip(tmp_path / "src" / name, 2)
    arguments = [f"src={tmp_path / 'src'}", f"out={tmp_path / 'out'}", "val_clips=[a,b]", "objects=puck", "size=0.05"]
    assert run_data("convert-tracknet", arguments) == 0
    assert "written" in capsys.readouterr().out
    assert sorted(p.name for p in (tmp_path / "out/images/val").iterdir()) == ["a", "b"]


@pytest.mark.realdata
def test_the_real_clip_keeps_every_position(realdata: Path, tmp_path: Path) -> None:
    folder = realdata / "ball/tennis-clip1-a"
    convert_tracknet(folder, tmp_path / "out", val=0.25, copy=True)
    clips = clips_of(tmp_path / "out")
    lines = [line.split(",") for line in (folder / "labels.csv").read_text().splitlines()[1:]]
    by_number = {clip.first + i: frame for clip in clips.values() for i, frame in enumerate(clip.labels)}
    assert len(by_number) == len(lines) == 180
    for number, visible, x, y in lines:
        frame = by_number[int(number)]
        assert len(frame.points) == (visible != "0")
        if visible != "0":
            np.testing.assert_allclose(frame.points[0], (float(x), float(y)), atol=1e-3)
            assert (int(frame.visible[0]) == 3) == (visible == "3")
