"""What is said below the table, of made-up models."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from yolo_multitask.benchmark.memory import Memory
from yolo_multitask.benchmark.notes import describe

SETTINGS = {
    "source": "bus.jpg",
    "runs": 3,
    "warmup": 1,
    "imgsz": 64,
    "threads": 2,
    "lazy": "auto",
    "device": "cpu",
    "half": False,
    "batches": (1,),
}
KEYS = ("cpu", "cores", "device", "torch", "ultralytics", "python", "yolo_multitask", "load_before", "load_after")
PLACE = dict.fromkeys(KEYS, "x")


def model(name: str, format: str = "pt", **changes: Any) -> tuple[Any, Any]:
    """Return what stands for a row and its contender."""
    device, task = changes.get("device", "cpu"), changes.get("task", "multitask")
    row = {"found": 5, "metrics": {}, "memory": Memory(peak=2.0, growth=1.0, device=None)}
    contender = {"has_nms": False, "is_fixed": False, "backend": SimpleNamespace(device=torch.device(device))}
    return (
        SimpleNamespace(name=name, format=format, **{key: changes.get(key, value) for key, value in row.items()}),
        SimpleNamespace(
            name=name,
            format=format,
            model=SimpleNamespace(task=task),
            **{key: changes.get(key, value) for key, value in contender.items()},
        ),
    )


def said(*models: tuple[Any, Any], **settings: Any) -> str:
    rows, contenders = zip(*models, strict=True)
    return "\n".join(describe({**SETTINGS, **settings}, PLACE, rows, contenders))


@pytest.mark.parametrize(
    ("text", "models", "others", "settings"),
    [
        ("different numbers of objects", [model("a"), model("b", found=4)], [model("a"), model("b")], {}),
        ("a predicts lazily", [model("a")], [model("a", "onnx")], {}),
        (
            "AP of a stock",
            [model("a"), model("b", task="pose", metrics={"m": 1.0})],
            [model("a", metrics={"m": 1.0})],
            {},
        ),
        ("The NMS is in the file: b.", [model("a"), model("b", "onnx", has_nms=True)], [model("a")], {}),
        ("The input is fixed at 64 x 64: b.", [model("a"), model("b", "ncnn", is_fixed=True)], [model("a")], {}),
        ("half: the exports alone", [model("a")], [], {"half": True}),
        (
            "so with threads of its own, and its libraries count as memory: b.",
            [model("a"), model("b", "onnx")],
            [model("b", "torchscript")],
            {},
        ),
        (
            "On the CPU, not on cuda:0: b.",
            [model("a", device="cuda"), model("b", "openvino")],
            [model("a", device="cuda")],
            {"device": "cuda:0"},
        ),
    ],
)
def test_what_sets_models_apart_is_said_where_it_does(
    text: str, models: list[Any], others: list[Any], settings: dict[str, Any]
) -> None:
    assert text in said(*models, **settings)
    if others:
        assert text not in said(*others, **settings)


def test_larger_batches_go_through_a_fixed_file_in_parts() -> None:
    fixed = model("b", "ncnn", is_fixed=True)
    assert "may go through it in parts" in said(model("a"), fixed, batches=(1, 4))
    assert "may go through it in parts" not in said(model("a"), fixed)


def test_the_memory_of_another_runtime_on_a_device_is_not_claimed() -> None:
    seen = Memory(peak=2.0, growth=1.0, device=3.0)
    own, other = model("a", device="cuda", memory=seen), model("b", "onnx", device="cuda")
    assert "so there is none for b." in said(own, other, device="cuda:0")
    assert "device memory: what PyTorch allocated there." in said(own, device="cuda:0")
    assert "device memory" not in said(model("a"))
