"""The page runs as it stands; the examples with supervision do so in `test_supervision.py`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.page import page_examples, run_page

from yolo_multitask.data.mot import read_mot


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    space = run_page([example for example in page_examples() if "supervision" not in example])
    (entry,) = json.loads(Path("results.json").read_text())
    assert (entry["image_id"], entry["category_id"], entry["segmentation"]["size"]) == (42, 1, [480, 640])
    assert read_mot("sequence.txt").frames.tolist() == [1, 2]
    assert space["people"]["embedding"].to_list() == [[0.5] * 4]
    assert "(1, 4)" in capsys.readouterr().out
