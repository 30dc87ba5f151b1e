"""`ymt run`: its arguments, what it prints and what it writes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from support.blobs import change_metadata, picture, write_blobs, write_folder, write_video

from yolo_multitask import MultiTaskYOLO
from yolo_multitask.cli import onnx_run
from yolo_multitask.cli.app import main
from yolo_multitask.cli.grammar import UsageError
from yolo_multitask.data.mot import read_mot
from yolo_multitask.runtime import Session

FRAMES = 6


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_blobs(tmp_path_factory.mktemp("model") / "best.onnx")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("clip") / "clip.avi", FRAMES)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def run(*argv: Any) -> int:
    return main(["run", *map(str, argv), "iou=0.3"])


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (["a.onnx", "b.mp4"], {}),
        (["source=b.mp4", "a.onnx"], {}),
        (["a.onnx", "track", "source=b.mp4"], {"track": True}),
        (["model", "=", "a.onnx", "--source", "b.mp4", "track=False"], {"track": False}),
        (
            ["a.onnx", "b.mp4", "conf=0.3", "classes=[0, 1]", "imgsz=320"],
            {"conf": 0.3, "classes": [0, 1], "imgsz": 320},
        ),
        (["a.onnx", "b.mp4", "out=1e5", "show"], {"out": "1e5", "show": True}),
    ],
)
def test_arguments(tokens: list[str], expected: dict[str, Any]) -> None:
    given = {**onnx_run.ARGUMENTS, "track": None, "model": "a.onnx", "source": "b.mp4", **expected}
    assert onnx_run.parse(tokens) == given


def test_a_camera_is_a_number() -> None:
    assert onnx_run.parse(["a.onnx", "0"])["source"] == "0"


@pytest.mark.parametrize(
    ("tokens", "says"),
    [
        ([], "'model' is missing; write 'ymt run best.onnx video.mp4'."),
        (["a.onnx"], "'source' is missing"),
        (["a.onnx", "b.mp4", "c.mp4"], "expected a file and a source, found a.onnx, b.mp4, c.mp4"),
        (["a.onnx", "b.mp4", "model=c.onnx"], "found 'b.mp4' beside model= and source=; give either"),
        (["a.onnx", "b.mp4", "con=3"], "unknown argument 'con'; did you mean 'conf'?"),
        (["a.onnx", "b.mp4", "conf=high"], "'conf' must be a number, found 'high'"),
        (["a.onnx", "b.mp4", "conf=True"], "'conf' must be a number, found True"),
        (["a.onnx", "b.mp4", "threads=1.5"], "'threads' must be a whole number, found 1.5"),
        (["a.onnx", "b.mp4", "show=3"], "'show' must be True or False, found 3"),
        (["a.onnx", "b.mp4", "conf"], "expected a file and a source"),
    ],
)
def test_wrong_arguments_give_one_line_and_exit_code_2(
    tokens: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match=re.escape(says)):
        onnx_run.parse(tokens)
    assert main(["run", *tokens]) in (0, 2)
    assert capsys.readouterr().err.count("\n") <= 1


def test_a_video_is_tracked(model: Path, clip: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(model, clip, "save_txt") == 0
    out = here / "runs" / "multitask" / "run"
    assert files(out) == ["clip.mp4", "clip.txt"]
    capture = cv2.VideoCapture(str(out / "clip.mp4"))
    assert int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) == FRAMES
    assert capture.get(cv2.CAP_PROP_FPS) == 10
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == FRAMES + 1
    assert re.fullmatch(rf"{clip} 1/{FRAMES}: \d+ reds, \d+ blues \(id [\d ]+\), [\d.]+ ms", lines[0])
    assert lines[-1] == "files are in runs/multitask/run"


@pytest.mark.parametrize("stride", [1, 2])
def test_a_track_file_is_that_of_ymt_track(model: Path, clip: Path, here: Path, stride: int) -> None:
    assert run(model, clip, "save_txt", "save=False", "verbose=False", "out=o", f"vid_stride={stride}") == 0
    MultiTaskYOLO(model).track(
        clip, save_txt=True, iou=0.3, retina_masks=True, vid_stride=stride, project=str(here), name="t", verbose=False
    )
    assert files(here / "o") == files(here / "t") == ["clip.txt"]
    assert (here / "o" / "clip.txt").read_text() == (here / "t" / "clip.txt").read_text()
    assert set(read_mot(here / "o" / "clip.txt").frames) == set(range(stride, FRAMES + 1, stride))


def test_pictures_are_predicted(model: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_folder(here / "frames", 2)
    assert run(model, folder, "save_txt", "save_conf", "out=o") == 0
    assert files(here / "o") == ["000001.png", "000002.png", "labels/000001.txt", "labels/000002.txt"]
    lines = (here / "o" / "labels" / "000002.txt").read_text().splitlines()
    assert len(lines) == len(Session(model).predict(picture(1), iou=0.3))
    assert all(" @0." in line for line in lines)
    assert "(id" not in capsys.readouterr().out


def test_pictures_are_tracked_where_that_is_asked_for(model: Path, here: Path) -> None:
    folder = write_folder(here / "walk" / "img1", 3)
    assert run(model, folder, "track", "save_txt", "out=o") == 0
    assert files(here / "o") == ["000001.png", "000002.png", "000003.png", "walk.txt"]


def test_a_video_is_predicted_where_that_is_asked_for(model: Path, clip: Path, here: Path) -> None:
    assert run(model, clip, "track=False", "save_txt", "save=False", "out=o") == 0
    assert files(here / "o") == [f"labels/clip_{i + 1}.txt" for i in range(FRAMES)]


def test_files_of_the_same_name_are_kept_apart(model: Path, here: Path) -> None:
    for name in ("a", "b"):
        write_folder(here / name / "img1", 1)
    source = here / "*" / "img1" / "*.png"
    assert run(model, source, "save_txt", "out=o") == 0
    assert files(here / "o") == ["000001-2.png", "000001.png", "labels/000001-2.txt", "labels/000001.txt"]
    assert run(model, source, "save_txt", "save=False", "track", "out=t") == 0
    assert files(here / "t") == ["a.txt", "b.txt"]


def test_runs_do_not_overwrite_each_other_unless_out_says_where(model: Path, here: Path) -> None:
    write_folder(here / "frames", 1)
    for _ in range(3):
        assert run(model, "frames", "verbose=False") == 0
    assert sorted(p.name for p in (here / "runs" / "multitask").iterdir()) == ["run", "run2", "run3"]
    for _ in range(2):
        assert run(model, "frames", "out=o") == 0
    assert files(here / "o") == ["000001.png"]


def test_nothing_is_written_where_nothing_is_asked_for(
    model: Path, clip: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(model, clip, "save=False", "verbose=False") == 0
    assert list(here.iterdir()) == []
    assert capsys.readouterr().out == ""


def test_after_an_error_what_is_not_whole_is_gone(model: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_folder(here / "frames", 2)
    (folder / "000002.png").write_bytes(b"broken")
    assert run(model, folder, "track", "save_txt", "out=o", "verbose=False") == 1
    assert files(here / "o") == ["000001.png"], "that one is whole; the track file is not"
    err = capsys.readouterr().err
    assert "000002.png: expected an image that OpenCV can read" in err
    assert err.count("\n") == 1


def test_what_there_is_is_kept_where_the_user_stops(
    model: Path, clip: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    count: Iterator[int] = iter(range(3))

    def stop(*_: Any) -> str:
        if next(count) == 2:
            raise KeyboardInterrupt
        return ""

    monkeypatch.setattr(onnx_run, "line", stop)
    assert run(model, clip, "save_txt", "out=o") == 130
    assert files(here / "o") == ["clip.mp4", "clip.txt"]
    assert set(read_mot(here / "o" / "clip.txt").frames) == {1, 2}
    assert "files are in o" in capsys.readouterr().out


def test_a_window_is_left_by_a_key(
    model: Path, clip: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[np.ndarray] = []
    monkeypatch.setattr(cv2, "imshow", lambda _, image: shown.append(image))
    monkeypatch.setattr(cv2, "waitKey", lambda _: ord("q") if len(shown) == 2 else -1)
    assert run(model, clip, "show", "save=False") == 0
    assert len(shown) == 2
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_an_nms_in_the_file_is_warned_of_once(
    model: Path, clip: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load = Session.__init__

    def load_with_nms(self: Session, *args: Any, **kwargs: Any) -> None:
        load(self, *args, **kwargs)
        self.metadata = replace(self.metadata, conf=0.4)

    monkeypatch.setattr(Session, "__init__", load_with_nms)
    assert run(model, clip, "save=False", "verbose=False") == 0
    assert capsys.readouterr().err.splitlines() == [
        "ymt: warning: conf=0.1: the NMS in the file drops what is below 0.4; export it with conf=0.1 to see those too."
    ]


def test_failures_are_one_line(model: Path, clip: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stock = change_metadata(model, here / "stock.onnx", task="detect")
    for argv, code, says in (
        ((here / "no.onnx", clip), 1, "no.onnx: expected an ONNX file, found none"),
        ((stock, clip), 1, "stock.onnx: expected a model of task 'multitask', found 'detect'"),
        ((model, "no.mp4"), 1, "source=no.mp4: expected a video"),
        ((model, clip, "tracker=botsort.yaml"), 1, "no tracker file 'botsort.yaml'; this package has multicue.yaml"),
        ((model, clip, "imgsz=64"), 1, "imgsz=64: expected [96, 160]"),
        ((model, clip, "classes=7"), 1, "classes: expected numbers from 0 to 1, found [7]"),
        ((model, clip, "conf=7"), 1, "conf: expected a number from 0 to 1, found 7"),
        ((model, clip, "providers=Abacus"), 1, "providers: expected some of"),
    ):
        assert run(*argv) == code
        err = capsys.readouterr().err
        assert says in err
        assert err.count("\n") == 1
    assert files(here) == ["stock.onnx"]
