"""What a reader of a benchmark's table has to know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from yolo_multitask.benchmark.contender import Contender
from yolo_multitask.benchmark.memory import TORCH_FORMATS
from yolo_multitask.benchmark.report import Row
from yolo_multitask.tasks import TASK


def describe(
    settings: Mapping[str, Any], place: Mapping[str, Any], rows: Sequence[Row], contenders: Sequence[Contender]
) -> list[str]:
    """Return what the columns of the table mean, where they were measured, and what sets rows apart.

    Args:
        settings: What was asked for, and what became of it.
        place: The machine, its device and its load.
        rows: What was measured of each model.
        contenders: The models, in the same order.
    """
    found = {row.found for row in rows}
    notes = ["The models found different numbers of objects; detections=20 lets each keep as many."] * (len(found) > 1)
    notes += [
        f"predict: one image ({settings['source']}), median [quartiles] of {settings['runs']} runs of each model in "
        f"turn after {settings['warmup']} to warm up. images/s and GFLOPs: the forward pass alone, all branches at all "
        f"anchors, input {settings['imgsz']}. memory: peak of predict in a process of its own, beyond that of the "
        "libraries.",
        f"{place['cpu']}, {place['cores']} cores, {settings['threads']} threads, device {place['device']}; torch "
        f"{place['torch']}, ultralytics {place['ultralytics']}, Python {place['python']}, yolo-multitask "
        f"{place['yolo_multitask']}; load average {place['load_before']} before, {place['load_after']} after.",
    ]
    if rows[0].format == "pt" and (settings["lazy"] is True or (settings["lazy"] == "auto" and _on_cpu(settings))):
        notes.append(
            f"{rows[0].name} predicts lazily: its branches run where it detects something, and its inference includes "
            "the NMS."
        )
    if any(row.metrics and contender.model.task != TASK for row, contender in zip(rows, contenders, strict=True)):
        notes.append("AP of a stock model counts the instances that are labelled for its task, that of boxes too.")
    if settings["half"] and _on_cpu(settings):
        notes.append("half: the exports alone; networks compute in float32 on a CPU.")
    return notes + _of_memory(rows) + _of_files(settings, contenders)


def _of_files(settings: Mapping[str, Any], contenders: Sequence[Contender]) -> list[str]:
    """Return what sets exported files apart from networks."""
    notes = []
    if names := _names(c for c in contenders if c.has_nms):
        notes.append(
            f"The NMS is in the file: {names}. Its inference and images/s include it, and its branches are computed "
            "for what it keeps alone."
        )
    if names := _names(c for c in contenders if c.is_fixed):
        size = settings["imgsz"]
        parts = "; a batch larger than its own may go through it in parts" * (max(settings["batches"]) > 1)
        notes.append(
            f"The input is fixed at {size} x {size}: {names}. Of an image that is not square the others see less, so "
            f"predict and AP differ for that too{parts}."
        )
    if names := _names(c for c in contenders if c.backend.device.type != settings["device"].split(":")[0]):
        notes.append(f"On the CPU, not on {settings['device']}: {names}.")
    if names := _names(c for c in contenders if c.format not in TORCH_FORMATS):
        notes.append(f"Not by PyTorch, so with threads of its own, and its libraries count as memory: {names}.")
    return notes


def _of_memory(rows: Sequence[Row]) -> list[str]:
    """Return what the memory of a device leaves out."""
    if all(row.memory.device is None for row in rows):
        return []
    unseen = ", ".join(row.name for row in rows if row.memory.device is None)
    return [
        "device memory: what PyTorch allocated there"
        + (f"; another runtime's is not seen by it, so there is none for {unseen}." if unseen else ".")
    ]


def _names(contenders: Iterable[Contender]) -> str:
    return ", ".join(contender.name for contender in contenders)


def _on_cpu(settings: Mapping[str, Any]) -> bool:
    return bool(settings["device"] == "cpu")
