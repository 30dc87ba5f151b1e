from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from yolo_multitask.configs import resolve_yaml
from yolo_multitask.tracking import TrackerConfig, load_config
from yolo_multitask.tracking.config import CUES, as_config


def test_the_yaml_holds_every_key_with_its_default() -> None:
    path = resolve_yaml("multicue.yaml", "trackers")
    assert path is not None
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert list(values) == [field.name for field in fields(TrackerConfig)]
    assert load_config("multicue.yaml") == load_config("multicue") == load_config(path) == TrackerConfig()


def test_the_yaml_and_the_class_say_what_each_key_is() -> None:
    path = resolve_yaml("multicue.yaml", "trackers")
    assert path is not None
    text, doc = path.read_text(encoding="utf-8"), TrackerConfig.__doc__ or ""
    assert all(f"        {field.name}: " in doc for field in fields(TrackerConfig))
    plain = [line.split(":")[0] for line in text.splitlines() if line and "#" not in line]
    assert plain == [f"{cue}_gate" for cue in CUES]  # explained together


def test_a_file_of_the_user_changes_single_keys(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("tracker_type: multicue\nmax_lost: 5\ncolours: false\n")
    assert load_config(path) == TrackerConfig(max_lost=5, colours=False)


def test_unknown_key_names_the_file_and_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("max_lots: 5\n")
    with pytest.raises(ValueError, match=r"mine\.yaml: unknown key 'max_lots' .* nearest is 'max_lost'"):
        load_config(path)
    with pytest.raises(ValueError, match="nearest is 'new_score'"):
        as_config({"new_track_score": 0.5})


@pytest.mark.parametrize("content", ["- 1\n", "", "a: [\n"])
def test_a_file_that_is_no_mapping(tmp_path: Path, content: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"mine\.yaml"):
        load_config(path)


def test_missing_file() -> None:
    with pytest.raises(FileNotFoundError, match=r"'multiclue.yaml'; this package has multicue\.yaml"):
        load_config("multiclue.yaml")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"tracker_type": "botsort"}, "tracker_type: expected 'multicue', found 'botsort'"),
        ({"new_score": 1.5}, "new_score: expected a number from 0 to 1, found 1.5"),
        ({"new_score": "high"}, "new_score: expected a number from 0 to 1, found 'high'"),
        ({"new_score": None}, "new_score: expected a number from 0 to 1, found None"),
        ({"new_score": True}, "new_score: expected a number from 0 to 1, found True"),
        ({"max_lost": -1}, "max_lost: expected a number of 0 or more, found -1"),
        ({"max_lost": float("nan")}, "max_lost: expected a number of 0 or more, found nan"),
        ({"position_noise": 0}, "position_noise: expected a number above 0, found 0"),
        ({"gallery_size": 2.5}, "gallery_size: expected a whole number from 1 to 1000, found 2.5"),
        ({"class_gate": 1}, "class_gate: expected true or false, found 1"),
        ({"low_score": 0.5, "high_score": 0.4}, "low_score <= high_score, found 0.5 and 0.4"),
        (
            dict.fromkeys([f"{c}_weight" for c in ("box", "motion", "embedding", "keypoint", "mask", "next_box")], 0),
            "none",
        ),
    ],
)
def test_wrong_values(keys: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        TrackerConfig(**keys)  # type: ignore[arg-type]


def test_configurations_are_frozen() -> None:
    with pytest.raises(AttributeError):
        TrackerConfig().max_lost = 1  # type: ignore[misc]
