"""MOTChallenge text files: every column of both forms, and errors that name file and line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from yolo_multitask.data.mot import CLASSES, SequenceInfo, read_mot, read_seqinfo


def written(tmp_path: Path, text: str | bytes, name: str = "gt.txt") -> Path:
    """Write a file and return its path."""
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_nine_columns(tmp_path: Path) -> None:
    path = written(tmp_path, "2,7,-3,4.5,10,20,1,1,0.25\n\n1,7,1,2,3,4,0,7,-1\n")
    found = read_mot(path)
    assert (found.path, len(found)) == (str(path), 2)
    assert found.lines.tolist() == [1, 3]
    assert found.frames.tolist() == [2, 1]
    assert found.ids.tolist() == [7, 7]
    np.testing.assert_array_equal(found.boxes, [[-3, 4.5, 10, 20], [1, 2, 3, 4]])
    assert found.conf.tolist() == [1, 0]
    assert found.classes.tolist() == [1, 7]
    np.testing.assert_array_equal(found.visibility, [0.25, np.nan])
    assert found.frames.dtype == found.ids.dtype == found.classes.dtype == found.lines.dtype == np.int64


def test_ten_columns_have_no_class_and_no_visibility(tmp_path: Path) -> None:
    found = read_mot(written(tmp_path, "1,1,88,99,61.08,218.56,1,4.4852,5.5016,0\n1,2,1,1,5,5,0.5,-1,-1,-1\n"))
    assert found.classes.tolist() == [-1, -1]
    assert np.isnan(found.visibility).all()
    assert found.conf.tolist() == [1, 0.5]


def test_byte_order_mark_blanks_and_any_newline(tmp_path: Path) -> None:
    found = read_mot(written(tmp_path, b"\xef\xbb\xbf1, 1, 0, 0, 5, 5, 1, 1.0, 1\r\n2,1.0,0,0,5,5,1,1,1"))
    assert found.frames.tolist() == [1, 2]


GOOD = "1,1,0,0,5,5,1,1,1\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"{GOOD}1,2,0,0,5,x,1,1,1", ":2: expected numbers between commas, found '1,2,0,0,5,x,1,1,1'"),
        (f"{GOOD}\n1 2 0 0 5 5 1 1 1", ":3: expected numbers"),
        ("1,1,0,0,5,5,1", ":1: expected 9 or 10 columns, found 7"),
        (f"\n{GOOD}1,2,0,0,5,5,1,1,1,1", ":3: expected 9 columns as in line 2, found 10"),
        (f"{GOOD}0,2,0,0,5,5,1,1,1", ":2: expected a frame number from 1, found 0"),
        (f"{GOOD}1.5,2,0,0,5,5,1,1,1", ":2: expected a frame number from 1, found 1.5"),
        (f"{GOOD}1,-1,0,0,5,5,1,1,1", ":2: expected an integer id from 0, found -1"),
        (f"{GOOD}1,2,0,nan,5,5,1,1,1", ":2: expected finite numbers, found nan"),
        (f"{GOOD}1,2,0,0,5,5,1,14,1", r":2: expected a class 1\.\.13 \(or -1 for none\), found 14"),
        (f"{GOOD}1,2,0,0,5,5,1,0,1", ":2: expected a class"),
        (b"1,1,0,0,5,5,1,1,1\n\xff", ":2: expected UTF-8 text, found byte 0xff"),
        ("\n \n", "gt.txt: expected lines .*, found an empty file"),
    ],
)
def test_errors_name_file_and_line(tmp_path: Path, text: str | bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says) as error:
        read_mot(written(tmp_path, text))
    assert str(error.value).startswith(str(tmp_path / "gt.txt"))


def test_an_id_twice_in_a_frame_names_both_lines(tmp_path: Path) -> None:
    path = written(tmp_path, f"{GOOD}2,1,0,0,5,5,1,1,1\n1,2,0,0,5,5,1,1,1\n1,1,9,9,5,5,0,7,1\n")
    with pytest.raises(ValueError, match="each id once in a frame, found id 1 of frame 1 again") as error:
        read_mot(path)
    assert str(error.value).startswith(f"{path}:4: ")
    assert f"first at {path}:1;" in str(error.value)


def test_classes_are_those_of_trackeval() -> None:
    assert sorted(CLASSES) == list(range(1, 14))
    assert (CLASSES[1], CLASSES[7], CLASSES[12]) == ("pedestrian", "static person", "reflection")


def test_seqinfo(tmp_path: Path) -> None:
    head = "[Sequence]\nname=MOT17-02-FRCNN\nimDir = frames\nframeRate=29.97\nseqLength=600\n"
    text = f"{head}\n; a note\nimWidth=1920\nimHeight=1080\nimExt=.jpg\n"
    assert read_seqinfo(written(tmp_path, text, "seqinfo.ini")) == SequenceInfo(
        name="MOT17-02-FRCNN", frames="frames", frame_rate=29.97, length=600, width=1920, height=1080
    )
    assert read_seqinfo(written(tmp_path, "[Sequence]\n", "seqinfo.ini")) == SequenceInfo()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("seqLength=all", ":2: expected seqlength to be a number above 0, found 'all'"),
        ("seqLength=1.5", ":2: expected seqlength"),
        ("imWidth=0", ":2: expected imwidth"),
        ("frameRate=inf", ":2: expected framerate"),
        ("frames", ":2: expected key=value, found 'frames'"),
    ],
)
def test_bad_seqinfo(tmp_path: Path, line: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read_seqinfo(written(tmp_path, f"[Sequence]\n{line}\n", "seqinfo.ini"))


def test_missing_files(tmp_path: Path) -> None:
    for read in (read_mot, read_seqinfo):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            read(tmp_path / "nowhere")
