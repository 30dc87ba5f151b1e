"""What the converters write beside labels."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from yolo_multitask.data.convert.output import data_yaml_text


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        ({"train": "images/train", "task": "segment", "names": {0: "person"}}, 4),
        ({"names": {0: "person", 1: "dog"}, "train": ["a", "b"], "kpt_shape": [17, 3]}, 5),
        ({"val": "v", "kpt_names": {0: ["left", "right"]}, "flip_idx": [], "names": {0: "ä: {b}"}}, 6),
        ({"names": {}}, 1),
    ],
)
def test_a_data_yaml_reads_as_it_was(data: dict[str, Any], lines: int) -> None:
    text = data_yaml_text(data)
    assert yaml.safe_load(text) == data
    assert len(text.splitlines()) == lines
    assert list(yaml.safe_load(text))[-1] == "names"
