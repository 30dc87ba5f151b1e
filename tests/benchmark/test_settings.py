"""The arguments of a benchmark: what is taken, and what is answered to the rest."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from yolo_multitask.benchmark.settings import OWN_KEYS, Settings, read_settings


def test_defaults_are_those_that_the_command_line_shows() -> None:
    settings = read_settings({})
    assert (settings.runs, settings.warmup) == (OWN_KEYS["runs"], OWN_KEYS["warmup"])
    assert all(hasattr(settings, key) for key in OWN_KEYS)
    assert settings == Settings()


def test_one_stands_for_a_list_and_switches_are_collected() -> None:
    settings = read_settings({"against": Path("a.pt"), "batches": 4, "segment": False, "track": True, "data": None})
    assert settings.against == ("a.pt",)
    assert settings.batches == (4,)
    assert settings.switches == {"segment": False, "track": True}


@pytest.mark.parametrize(
    ("given", "formats"),
    [
        (None, ()),
        ("", ()),
        ("pt", ()),
        ("onnx", ("onnx",)),
        ("onnx,openvino", ("onnx", "openvino")),
        (["ONNX", "-", "tflite", "litert", "trt"], ("onnx", "litert", "engine")),
    ],
)
def test_formats_have_the_names_of_the_host(given: Any, formats: tuple[str, ...]) -> None:
    assert read_settings({"format": given}).format == formats


def test_the_precision_is_that_of_the_host() -> None:
    assert read_settings({"format": "onnx"}).quantize is None
    assert read_settings({"format": "onnx", "half": True}).quantize == 16
    assert read_settings({"format": "onnx", "int8": True, "data": "a.yaml"}).quantize == 8


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"run": 3}, "unknown argument 'run' of benchmark; did you mean 'runs'?"),
        ({"xyzzy": 3}, "unknown argument 'xyzzy' of benchmark; it takes against, batches,"),
        ({"epochs": 3}, "unknown argument 'epochs' of benchmark"),
        ({"runs": 0}, "'runs' must be a whole number of 1 or more, got 0"),
        ({"runs": 2.5}, "'runs' must be a whole number of 1 or more, got 2.5"),
        ({"warmup": -1}, "'warmup' must be a whole number of 0 or more, got -1"),
        ({"threads": "all"}, "'threads' must be a whole number of 1 or more, got 'all'"),
        ({"threads": True}, "'threads' must be a whole number"),
        ({"detections": 0}, "'detections' must be a whole number of 1 or more, got 0"),
        ({"batches": []}, "'batches' must name one batch size or more"),
        ({"batches": [1, 0]}, "'batches' must be a whole number of 1 or more, got 0"),
        ({"imgsz": 65}, "'imgsz' must be a multiple of 32 pixels, got 65"),
        ({"imgsz": [64, 64]}, "'imgsz' must be a whole number"),
        ({"against": [3]}, "'against' must list models by path or name, got 3"),
        ({"half": 1}, "'half' must be True or False, got 1"),
        ({"int8": True}, "'int8' is the precision of an export, calibrated on a data set: it needs format= and data="),
        ({"int8": True, "format": "onnx"}, "it needs format= and data= as well"),
        ({"int8": True, "half": True, "format": "onnx", "data": "a.yaml"}, "expected one of 'half' and 'int8'"),
        ({"format": "onx"}, "format=onx: found no such format; expected one of torchscript, onnx"),
        ({"format": ["onnx", "imx"]}, "format=imx is refused for a multitask network"),
        ({"format": ["onnx", 3]}, "'format' must list formats by name, got ['onnx', 3]"),
        ({"lazy": 3}, "'lazy' must be True, False or auto"),
        ({"segment": 3}, "'segment' must be True or False, got 3"),
    ],
)
def test_wrong_arguments_are_answered(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        read_settings(arguments)
