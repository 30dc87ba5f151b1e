"""Switches are told from gains once, and what cannot be had is an error that names both sides."""

from __future__ import annotations

from typing import Any

import pytest

from yolo_multitask.args import check_tasks, full_cfg, host_cfg, normalise, own_cfg, select_tasks


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"pose": True}, {"switches": {"pose": True}}),
        ({"pose": False}, {"switches": {"pose": False}}),
        ({"pose": 20.0}, {"pose": 20.0, "switches": {"pose": True}}),
        ({"pose": 12.0}, {"pose": 12.0}),
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


def test_a_switch_never_overwrites_a_gain() -> None:
    from ultralytics.cfg import get_cfg

    for value in (True, False):
        args = get_cfg(full_cfg(), normalise({"pose": value}))
        assert args.pose == 12.0
        assert args.switches == {"pose": value}


@pytest.mark.parametrize("bad", [{"segment": 1}, {"track": "yes"}, {"pose": "on"}, {"seg": True}, {"seg": "much"}])
def test_normalise_refuses(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        normalise(bad)


def test_select_tasks() -> None:
    have = ("detect", "segment", "pose")
    assert select_tasks({}, have, "model") == have
    assert select_tasks({"pose": False}, have, "model") == ("detect", "segment")
    assert select_tasks({}, (), "model") == ("detect",)
    with pytest.raises(ValueError, match="'pose=True' was asked for, but data 'x.yaml' has only: detect, segment"):
        select_tasks({"pose": True}, ("segment",), "data 'x.yaml'")


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
