"""`benchmark`: measure a multitask model, beside the models that it replaces, in one run."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn
from ultralytics.cfg import get_save_dir
from ultralytics.utils import ASSETS, LOGGER, TQDM
from ultralytics.utils.torch_utils import select_device

from yolo_multitask.benchmark.accuracy import accuracy
from yolo_multitask.benchmark.contender import Contender, distinct_names, open_model, own_copy
from yolo_multitask.benchmark.memory import Memory, measure_memory
from yolo_multitask.benchmark.report import STAGES, BenchmarkReport, Row, one_after_the_other
from yolo_multitask.benchmark.settings import Settings, read_settings
from yolo_multitask.benchmark.timing import Run, load_average, machine, take_turns
from yolo_multitask.data.convert.output import staged
from yolo_multitask.tasks import TASK

DEFAULT_SIZE = 640
MEMORY_RUNS = 3  # the peak of more runs differs less than that of two processes


def benchmark(model: Any, **arguments: Any) -> BenchmarkReport:
    """Measure latency, throughput, memory, GFLOPs and, with `data`, the average precision of a multitask model.

    The model itself is left as it is. The files are written whole or not at all, in a folder numbered as the host
    numbers its runs.

    Args:
        model: A `MultiTaskYOLO` that holds a multitask model.
        **arguments: See `Settings`; and the switches `segment`, `pose` and `track`.

    Returns:
        The report; print it for the table.

    Raises:
        ValueError: If an argument is wrong.
        FileNotFoundError: If there is no model or data set of a name.
    """
    settings = read_settings(arguments)
    image = read_image(settings.source)
    with quiet(), kept_threads(), staged(_save_dir(settings)) as stage, TemporaryDirectory() as scratch:
        device = select_device(settings.device, verbose=False)
        if settings.half and device.type == "cpu":
            raise ValueError("'half' has no effect on a CPU, which computes in full precision; leave it out.")
        trial = _Trial(settings, model, image, device, Path(scratch))
        report = trial.report()
        report.save(stage)
        _install(stage, report.save_dir)
    return report


class _Trial:
    """One benchmark: the models, opened, and everything that is measured of them."""

    def __init__(self, settings: Settings, model: Any, image: Any, device: torch.device, scratch: Path) -> None:
        self.settings, self.image, self.device, self.scratch = settings, image, device, scratch
        self.imgsz = settings.imgsz or int(model.overrides.get("imgsz") or DEFAULT_SIZE)
        self.common = {"imgsz": self.imgsz, "device": str(device), "quantize": 16 if settings.half else None}
        models = [own_copy(model), *(open_model(file) for file in settings.against)]
        self.contenders = [Contender(m, self._arguments(m), scratch, settings.threads) for m in models]
        for contender, name in zip(self.contenders, distinct_names([str(m.model_name) for m in models]), strict=True):
            contender.name = name
        strides = [int(max(m.model.stride)) for m in models if isinstance(m.model, nn.Module)]
        if self.imgsz % max([1, *strides]):
            raise ValueError(f"'imgsz' must be a multiple of {max(strides)} pixels for these models, got {self.imgsz}.")
        self.notes: list[str] = []

    def _arguments(self, model: Any) -> dict[str, Any]:
        """Return the arguments of a model's `predict`; switches are for the multitask models among them."""
        own = {"lazy": self.settings.lazy, **self.settings.switches} if model.task == TASK else {}
        return {**self.common, "verbose": False, **own}

    def report(self) -> BenchmarkReport:
        """Measure everything."""
        load = load_average()
        metrics = self._metrics()
        for contender in self.contenders:
            contender.prepare(self.image, self.settings.detections)
        threads = torch.get_num_threads()
        predicts = self._in_turn("predict", [partial(c.stages, self.image) for c in self.contenders])
        forwards = self._forwards()
        rows = []
        for i, contender in enumerate(self.contenders):
            forward = {size: [run.ms for run in runs[i]] for size, runs in forwards.items()}
            rows.append(self._row(contender, predicts[i], forward, metrics[i]))
        separate = self._separate(rows[1:])
        settings = self._said(threads)
        place = {**machine(), "device": _device_name(self.device), "load_before": load, "load_after": load_average()}
        return BenchmarkReport(
            rows=rows,
            separate=separate,
            settings=settings,
            machine=place,
            notes=[*self.notes, *_notes(settings, place, rows)],
            save_dir=_save_dir(self.settings),
        )

    def _said(self, threads: int) -> dict[str, Any]:
        """Return the settings as JSON takes them, with what became of size, device and threads."""
        asked = asdict(replace(self.settings, source=_source_name(self.settings.source)))
        paths = {key: None if asked[key] is None else str(asked[key]) for key in ("data", "project")}
        return {**asked, **paths, "imgsz": self.imgsz, "device": str(self.device), "threads": threads}

    def _row(
        self, contender: Contender, runs: Sequence[Run], forward: dict[int, list[float]], metrics: dict[str, float]
    ) -> Row:
        return Row(
            name=contender.name,
            tasks=contender.tasks,
            format=contender.backend.format,
            parameters=contender.parameters,
            gflops=contender.gflops(self.imgsz),
            predict_ms=[run.ms for run in runs],
            stages_ms={stage: [run.value[stage] for run in runs] for stage in STAGES},
            forward_ms=forward,
            memory=self._memory([contender]),
            found=contender.found,
            metrics=metrics,
        )

    def _metrics(self) -> list[dict[str, float]]:
        """Return the measures of each model on the data set; first of all, so that bad data costs no time."""
        data = self.settings.data
        if data is None:
            return [{} for _ in self.contenders]
        found = []
        for contender in self.contenders:
            self._say(f"{contender.name}: validating on {data}")
            own = self.settings.switches if contender.model.task == TASK else {}
            measures, why_not = accuracy(contender, data, {**self.common, **own}, self.scratch)
            self.notes += [why_not] if why_not else []
            found.append(measures)
        return found

    def _forwards(self) -> dict[int, list[list[Run]]]:
        """Return the forward passes of each model by batch size."""
        out = {}
        for size in self.settings.batches:
            channels = getattr(self.contenders[0].backend, "channels", 3)
            images = torch.rand(size, channels, self.imgsz, self.imgsz, device=self.device)
            ways = [partial(c.forward, images.half() if c.backend.fp16 else images) for c in self.contenders]
            out[size] = self._in_turn(f"forward pass, batch {size}", ways)
        return out

    def _in_turn(self, what: str, ways: Sequence[Any]) -> list[list[Run]]:
        rounds, warmup = self.settings.runs, self.settings.warmup
        with TQDM(total=rounds + warmup, desc=what, file=sys.stderr, disable=not self.settings.verbose) as bar:
            return take_turns(ways, rounds, warmup, after_round=partial(bar.update, 1))

    def _memory(self, contenders: Sequence[Contender]) -> Memory:
        self._say(f"{' + '.join(c.name for c in contenders)}: memory")
        return measure_memory(contenders, self.image, self.settings.threads, MEMORY_RUNS, self.scratch)

    def _separate(self, rows: Sequence[Row]) -> Row | None:
        """Return the row of the models that this one is measured against, one after the other."""
        if len(rows) > 1:
            return one_after_the_other(rows, self._memory(self.contenders[1:]))
        return rows[0] if rows else None

    def _say(self, text: str) -> None:
        if self.settings.verbose:
            print(text, file=sys.stderr, flush=True)


def read_image(source: Any) -> Any:
    """Return an image (H, W, 3), uint8 BGR.

    Args:
        source: Its path, or the image itself; None for the host's `bus.jpg`.

    Raises:
        ValueError: If it is no such image.
    """
    if isinstance(source, np.ndarray):
        if source.ndim != 3 or source.shape[2] != 3 or source.dtype != np.uint8 or not source.size:
            raise ValueError(f"source: expected an image (H, W, 3) of uint8, got {source.shape} of {source.dtype}.")
        return source
    path = ASSETS / "bus.jpg" if source is None else source
    image = cv2.imread(str(path))
    if image is None:
        raise ValueError(f"source={path}: expected one image that OpenCV can read, found none; check the path.")
    return image


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the host from logging more than warnings."""
    level = LOGGER.level
    LOGGER.setLevel(logging.WARNING)
    try:
        yield
    finally:
        LOGGER.setLevel(level)


@contextmanager
def kept_threads() -> Iterator[None]:
    """Give PyTorch the number of threads back that it had."""
    count = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(count)


def _save_dir(settings: Settings) -> Path:
    """Return the folder to save in: a new one, unless `exist_ok`."""
    args = SimpleNamespace(
        project=str(settings.project or ""), name=settings.name, exist_ok=settings.exist_ok, task=TASK, mode="benchmark"
    )
    return Path(get_save_dir(args))


def _install(stage: Path, out: Path) -> None:
    """Move the files of a finished stage to their folder."""
    if not out.exists():
        os.replace(stage, out)
        return
    for file in stage.iterdir():
        os.replace(file, out / file.name)


def _source_name(source: Any) -> str:
    return "an array" if isinstance(source, np.ndarray) else Path(source or "bus.jpg").name


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _notes(settings: dict[str, Any], place: dict[str, Any], rows: Sequence[Row]) -> list[str]:
    """Return what the columns of the table mean and where they were measured."""
    memory = "allocated on the device" if rows[0].memory.device is not None else "beyond that of the libraries"
    notes = [
        f"predict: one image ({settings['source']}), median [quartiles] of {settings['runs']} runs of each model in "
        f"turn after {settings['warmup']} to warm up. images/s and GFLOPs: the forward pass alone, all branches at all "
        f"anchors, input {settings['imgsz']}. memory: peak of predict in a process of its own, {memory}.",
        f"{place['cpu']}, {place['cores']} cores, {settings['threads']} threads, device {place['device']}; torch "
        f"{place['torch']}, ultralytics {place['ultralytics']}, Python {place['python']}, yolo-multitask "
        f"{place['yolo_multitask']}; load average {place['load_before']} before, {place['load_after']} after.",
    ]
    if len({row.found for row in rows}) > 1:
        notes.insert(0, "The models found different numbers of objects; detections=20 lets each keep as many.")
    if settings["lazy"] is True or (settings["lazy"] == "auto" and settings["device"] == "cpu"):
        notes.append(
            f"{rows[0].name} predicts lazily: its branches run where it detects something, and its inference includes "
            "the NMS."
        )
    if any(row.metrics for row in rows[1:]):
        notes.append("AP of a stock model counts the instances that are labelled for its task, that of boxes too.")
    return notes
