"""Switches are told from gains once, and what cannot be had is an error that names both sides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from yolo_multitask.args import (
    check_tasks,
    fill_from_cfg,
    from_file,
    full_cfg,
    host_cfg,
    merge,
    normalise,
    own_cfg,
    select_tasks,
)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"pose": True}, {"switches": {"pose": True}}),
        ({"pose": False}, {"switches": {"pose": False}}),
        ({"pose": 20.0}, {"pose": 20.0, "switches": {"pose": True}}),
        ({"pose": 12.0}, {"pose": 12.0, "switches": {"pose": True}}),
        ({"pose": 12.0, "switches": {}}, {"pose": 12.0, "switches": {}}),
        ({"task": "segment"}, {"task": "multitask", "label_task": "segment"}),
        ({"task": "multitask"}, {"task": "multitask"}),
        ({"pose": None}, {}),
        ({"segment": False, "track": True}, {"switches": {"segment": False, "track": True}}),
        ({"segment": None}, {}),
        ({"epochs": 3}, {"epochs": 3}),
        ({"pose": 20.0, "tasks": ["detect"]}, {"pose": 20.0, "tasks": ["detect"]}),
    ],
)
def test_normalise(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert normalise(given) == expected
    assert normalise(normalise(given)) == expected


def test_a_full_configuration_switches_nothing() -> None:
    assert "switches" not in normalise({"pose": 12.0}, typed=False)
    assert "pose" not in normalise({"pose": 12.0}, typed=False), "so that it switches nothing afterwards either"
    assert normalise({"pose": 20.0}, typed=False)["switches"] == {"pose": True}
    assert normalise(full_cfg(), typed=False)["switches"] == {}
    assert normalise(full_cfg())["switches"] == {}, "it was normalised before: DDP, validation during training"


def test_a_configuration_file_says_what_is_not_the_default(tmp_path: Path) -> None:
    file = tmp_path / "args.yaml"
    assert from_file({"pose": 12.0, "seg": 7.5, "switches": {}, "tasks": None, "epochs": 3}, file) == {"epochs": 3}
    assert from_file({"pose": True, "segment": False}, file) == {"switches": {"pose": True, "segment": False}}
    run = {**full_cfg(), "tasks": ["detect", "pose"], "pose": 20.0, "save_dir": str(tmp_path), "task": "multitask"}
    found = from_file(run, file)
    assert found["switches"] == {"segment": False, "pose": True, "track": False}
    assert found["pose"] == 20.0
    assert not {"tasks", "save_dir", "seg", "labels"} & found.keys()
    assert from_file({"save_dir": "elsewhere"}, file) == {"save_dir": "elsewhere"}
    with pytest.raises(ValueError, match="Unknown task 'posee'"):
        from_file({"tasks": ["posee"]}, file)


def test_what_is_typed_goes_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("segment: false\npose: true\nseg: 7.5\nmodel: other.pt\nepochs: 3\n")
    assert merge({"switches": {"pose": True}, "epochs": 3}, {"switches": {"segment": True}, "epochs": 1}) == {
        "switches": {"pose": True, "segment": True},
        "epochs": 1,
    }
    given = fill_from_cfg({"cfg": str(file), "segment": True, "epochs": 1})
    assert given == {"switches": {"segment": True, "pose": True}, "epochs": 1}
    assert normalise(given) == given


def test_a_switch_never_overwrites_a_gain() -> None:
    from ultralytics.cfg import get_cfg

    for value in (True, False):
        args = get_cfg(full_cfg(), normalise({"pose": value}))
        assert args.pose == 12.0
        assert args.switches == {"pose": value}


@pytest.mark.parametrize(
    "bad",
    [
        {"segment": 1},
        {"track": "yes"},
        {"pose": "on"},
        *({gain: value} for gain in ("seg", "reid", "motion", "distill") for value in (True, "much")),
        {"next": 1},
        {"next": "yes"},
        {"pair_gap": 0},
        {"pair_gap": 2.0},
        {"pair_gap": True},
        {"pair_gap": "far"},
        {"pair_gap": None},
        {"similarity": "iou"},
        {"similarity": None},
    ],
    ids=str,
)
def test_normalise_refuses(bad: dict[str, Any]) -> None:
    ((key, value),) = bad.items()
    with pytest.raises(ValueError, match=f"'{key}' must be .* got {value!r}"):
        normalise(bad)


def test_a_refused_gain_names_the_switch() -> None:
    for gain, switch in {"seg": "segment", "reid": "track", "motion": "next"}.items():
        with pytest.raises(ValueError, match=f"'{gain}' must be a number, the gain of .*switch is '{switch}'"):
            normalise({gain: False})


@pytest.mark.parametrize(
    "good",
    [{"next": True}, {"next": None}, {"pair_gap": 1}, {"reid": 0.0}, {"motion": 2}, {"similarity": "oks"}],
    ids=str,
)
def test_settings_of_tracks_are_taken_as_they_are(good: dict[str, Any]) -> None:
    assert normalise(good) == good
    assert own_cfg(full_cfg() | good) == own_cfg(full_cfg()) | good


def test_select_tasks() -> None:
    have = ("detect", "segment", "pose")
    assert select_tasks({}, have, "model") == have
    assert select_tasks({"pose": False}, have, "model") == ("detect", "segment")
    assert select_tasks({}, (), "model") == ("detect",)
    with pytest.raises(ValueError, match=r"but data 'x.yaml' has only: detect, segment\. Leave out 'pose=True'\.$"):
        select_tasks({"pose": True}, ("segment",), "data 'x.yaml'")
    with pytest.raises(ValueError, match=r"Leave out 'pose=True', or label it\.$"):
        select_tasks({"pose": True}, (), "data", {"pose": "label it"})


def test_check_tasks() -> None:
    assert check_tasks(["pose"]) == ("detect", "pose")
    assert check_tasks(["pose", "segment", "detect"]) == ("detect", "segment", "pose")
    with pytest.raises(ValueError, match="Did you mean 'segment'"):
        check_tasks(["segmen"])


def test_host_and_own_cfg_split_the_arguments() -> None:
    args = full_cfg()
    host, own = host_cfg(args), own_cfg(args)
    assert not host.keys() & own.keys()
    assert {**host, **own} == args


def test_what_is_typed_goes_before_the_file_all_the_way_to_the_trainer(tmp_path: Path) -> None:
    """The host's own reading of `cfg` would put the file first."""
    from yolo_multitask import MultiTaskYOLO

    seen: list[dict[str, Any]] = []

    class StopHereError(Exception):
        """Ends the call where a trainer would be built."""

    def trainer(overrides: dict[str, Any], _callbacks: Any) -> None:
        seen.append(normalise(overrides))
        raise StopHereError

    file = tmp_path / "settings.yaml"
    file.write_text("segment: true\npose: 12.0\nepochs: 7\nimgsz: 96\n")
    with pytest.raises(StopHereError):
        MultiTaskYOLO("yolov8n-multitask.yaml").train(
            trainer=trainer, cfg=str(file), data="x.yaml", segment=False, epochs=2
        )
    (given,) = seen
    assert given["switches"] == {"segment": False}  # and the default gain of a full copy is no switch
    assert (given["epochs"], given["imgsz"], given["data"]) == (2, 96, "x.yaml")


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"window_stride": 0}, "'window_stride' .* 1 or more, got 0"),
        ({"delay": -1}, "'delay' .* 0 or more, got -1"),
        ({"delay": 2.5}, "'delay' .* got 2.5"),
        ({"max_gap": True}, "'max_gap' .* got True"),
        ({"frame_steps": []}, r"'frame_steps' .* got \[\]"),
        ({"frame_steps": [1, 0]}, r"'frame_steps' .* got \[1, 0\]"),
        ({"frame_steps": "2"}, "'frame_steps' .* got '2'"),
        ({"reverse": 1.5}, "'reverse' .* from 0 to 1.* got 1.5"),
        ({"point_px": 0}, "'point_px' .* above 0, got 0"),
        ({"track_pos": "much"}, "'track_pos' .* gain .* 'much'"),
        ({"track_conf": True}, "'track_conf' .* gain .* True"),
    ],
    ids=str,
)
def test_bad_settings_of_windows_are_refused(bad: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        normalise(bad)


def test_settings_of_windows() -> None:
    assert normalise({"frame_steps": 2})["frame_steps"] == [2]
    assert normalise({"frame_steps": (1, 3)})["frame_steps"] == [1, 3]
    good = {"delay": 0, "window_stride": 10, "max_gap": 0, "reverse": 0, "point_px": 4, "track_pos": 2.0}
    assert normalise(good) == good
    assert own_cfg(full_cfg() | good) == own_cfg(full_cfg()) | good
    assert normalise(full_cfg(), typed=False).keys() >= good.keys(), "the defaults are valid"
