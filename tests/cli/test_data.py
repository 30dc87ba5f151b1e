"""`ymt data`: the parameters of a Python function are the keys of its command."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from yolo_multitask.cli import app
from yolo_multitask.cli.data import call
from yolo_multitask.cli.grammar import UsageError


def convert(source: str | Path, out: str | Path, classes: list[str] | None = None, copy: bool = False) -> tuple:
    """Stand for a converter."""
    return source, out, classes, copy


def test_parameters_are_keys() -> None:
    assert call(convert, ["source=1e5", "out", "=", "x/y"]) == ("1e5", "x/y", None, False)
    assert call(convert, ["source=a", "out=b", "classes=[person, dog]", "copy"]) == ("a", "b", ["person", "dog"], True)


@pytest.mark.parametrize(
    ("tokens", "says"),
    [
        (["source=a"], "expected out=VALUE, found source."),
        ([], "expected source=VALUE, out=VALUE, found nothing."),
        (["sorce=a"], "did you mean 'source'?"),
    ],
)
def test_wrong_arguments_are_named(tokens: list[str], says: str) -> None:
    with pytest.raises(UsageError) as error:
        call(convert, tokens)
    assert says in str(error.value)


def test_convert_coco_needs_its_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["data", "convert-coco"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("ymt: expected ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("given", ["copy=3", "copy=yes", "copy=none"])
def test_a_flag_is_true_or_false(given: str) -> None:
    with pytest.raises(UsageError, match="'copy' must be True or False, found"):
        call(convert, ["source=a", "out=b", given])


def test_convert_mot_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("MOT17-02-FRCNN", "MOT17-04-FRCNN"):
        (tmp_path / "MOT17/train" / name / "img1").mkdir(parents=True)
        (tmp_path / "MOT17/train" / name / "gt").mkdir()
        (tmp_path / "MOT17/train" / name / "gt/gt.txt").write_text("1,7,4,4,8,8,1,1,1\n2,7,5,4,8,8,1,1,0.1\n")
        for i in (1, 2):
            Image.new("RGB", (32, 24)).save(tmp_path / "MOT17/train" / name / f"img1/00000{i}.jpg")
    words = [f"src={tmp_path}/MOT17", f"out={tmp_path}/out", "val=[MOT17-04]", "min_visibility=0.2", "copy"]
    assert app.main(["data", "convert-mot", *words]) == 0
    assert "classes: person" in capsys.readouterr().out
    assert (tmp_path / "out/labels/train/MOT17-02-FRCNN/000001.txt").read_text().endswith(" #7\n")
    assert (tmp_path / "out/labels/val/MOT17-04-FRCNN/000002.txt").read_text().endswith(" !\n")
    assert app.main(["data", "convert-mot", *words]) == 1
    err = capsys.readouterr().err
    assert "the split train, val exists already" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "expected src=VALUE, out=VALUE, found nothing."),
        (["src=a", "out=b", "val_hlf"], "did you mean 'val_half'?"),
        (["src=a", "out=b", "val_half=some"], "'val_half' must be True or False, found 'some'."),
    ],
)
def test_convert_mot_wrong_arguments(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["data", "convert-mot", *words]) == 2
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1
