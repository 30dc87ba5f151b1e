"""`benchmark`: measure a multitask model, beside the models that it replaces, in one run."""

from __future__ import annotations

import logging
import os
import shutil
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
from ultralytics.data.augment import LetterBox
from ultralytics.utils import ASSETS, LOGGER, TQDM
from ultralytics.utils.torch_utils import select_device

from yolo_multitask.benchmark.accuracy import accuracy
from yolo_multitask.benchmark.contender import CONF, Contender, distinct_names, input_size, open_model, own_copy
from yolo_multitask.benchmark.exports import Export, plan_exports, reason
from yolo_multitask.benchmark.memory import Memory, measure_memory
from yolo_multitask.benchmark.notes import describe
from yolo_multitask.benchmark.report import STAGES, BenchmarkReport, Row, one_after_the_other
from yolo_multitask.benchmark.settings import Settings, read_settings
from yolo_multitask.benchmark.timing import Run, load_average, machine, take_turns
from yolo_multitask.data.convert.output import staged
from yolo_multitask.tasks import TASK

DEFAULT_SIZE = 640
MEMORY_RUNS = 3  # the peak of more runs differs less than that of two processes


def benchmark(model: Any, **arguments: Any) -> BenchmarkReport:
    """Measure latency, throughput, memory, GFLOPs and, with `data`, the average precision of a multitask model.

    The model itself is left as it is, and so is PyTorch's random number generator. The files are written whole or not
    at all, in a folder numbered as the host numbers its runs; exports are gone afterwards.

    Args:
        model: A `MultiTaskYOLO` that holds a multitask model.
        **arguments: See `Settings`; and the switches `segment`, `pose` and `track`.

    Returns:
        The report; print it for the table.

    Raises:
        ValueError: If an argument is wrong.
        FileNotFoundError: If there is no model or data set of a name.
        RuntimeError: If none of the formats that were asked for can be measured.
    """
    settings = read_settings(arguments)
    image = read_image(settings.source)
    with quiet(logging.WARNING), kept_threads(), staged(_save_dir(settings)) as stage, TemporaryDirectory() as scratch:
        device = _torch_device(settings)
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            report = _Trial(settings, model, image, device, Path(scratch)).report()
        report.save(stage)
        install(stage, report.save_dir)
    return report


class _Trial:
    """One benchmark: the models, opened, and everything that is measured of them."""

    def __init__(self, settings: Settings, model: Any, image: Any, device: torch.device, scratch: Path) -> None:
        self.settings, self.image, self.device, self.scratch = settings, image, device, scratch
        self.imgsz = settings.imgsz or _own_size(model)
        self.exports = plan_exports(settings, model, self.imgsz, str(device))
        half = settings.half and device.type != "cpu"
        self.common = {"imgsz": self.imgsz, "device": str(device), "quantize": 16 if half else None}
        models = [own_copy(model), *(open_model(file) for file in settings.against)]
        names = distinct_names([str(m.model_name) for m in models])
        strides = [int(max(m.model.stride)) for m in models if isinstance(m.model, nn.Module)]
        if self.imgsz % max([1, *strides]):
            raise ValueError(f"'imgsz' must be a multiple of {max(strides)} pixels for these models, got {self.imgsz}.")
        for m, name in zip(models, names, strict=True):
            _check_size(m, name, self.imgsz)
        self.contenders = [self._contender(m, name) for m, name in zip(models, names, strict=True)]
        self.notes: list[str] = []

    def _contender(self, model: Any, name: str) -> Contender:
        """Return a model as a contender; switches are for the multitask models among them."""
        own = {"lazy": self.settings.lazy, **self.settings.switches} if model.task == TASK else {}
        arguments = {**self.common, "verbose": False, **own}
        contender = Contender(model, arguments, self.scratch, self.settings.threads)
        contender.name = name
        return contender

    def _square(self, count: int) -> torch.Tensor:
        """Return the image as a square input, so many times, (count, 3, imgsz, imgsz), RGB in 0..1."""
        image = LetterBox((self.imgsz, self.imgsz), auto=False)(image=self.image)
        planes = torch.from_numpy(image[..., ::-1].transpose(2, 0, 1).copy())
        return (planes.float() / 255).repeat(count, 1, 1, 1)

    def report(self) -> BenchmarkReport:
        """Measure everything."""
        load = load_average()
        metrics = {contender: self._metrics(contender) for contender in self.contenders}
        for contender in self.contenders:
            contender.prepare(self.image, self.settings.detections)
        exported = self._exported()
        metrics |= exported
        own, *against = self.contenders
        ordered = [own, *exported, *against]
        threads = self.settings.threads or torch.get_num_threads()
        torch.set_num_threads(threads)  # an export sets its own
        predicts = self._in_turn("predict", [partial(c.stages, self.image) for c in ordered])
        forwards = self._forwards(ordered)
        rows = []
        for i, contender in enumerate(ordered):
            forward = {size: [run.ms for run in runs[i]] for size, runs in forwards.items()}
            rows.append(self._row(contender, predicts[i], forward, metrics[contender]))
        separate = self._separate(rows[1 + len(exported) :], against)
        settings = self._said(threads)
        place = {**machine(), "device": _device_name(self.device), "load_before": load, "load_after": load_average()}
        return BenchmarkReport(
            rows=rows,
            separate=separate,
            settings=settings,
            machine=place,
            notes=[*self.notes, *describe(settings, place, rows, ordered)],
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
            format=contender.format,
            parameters=contender.parameters,
            gflops=contender.gflops(self.imgsz),
            predict_ms=[run.ms for run in runs],
            stages_ms={stage: [run.value[stage] for run in runs] for stage in STAGES},
            forward_ms=forward,
            memory=self._memory([contender]),
            file_mib=contender.file_mib,
            found=contender.found,
            metrics=metrics,
        )

    def _metrics(self, contender: Contender, **arguments: Any) -> dict[str, float]:
        """Return the measures of a model on the data set; first of all, so that bad data costs no time."""
        data = self.settings.data
        if data is None:
            return {}
        self._say(f"{contender.name}: validating on {data}")
        own = self.settings.switches if contender.model.task == TASK else {}
        measures, why_not = accuracy(contender, data, {**self.common, **own, **arguments}, self.scratch)
        self.notes += [why_not] if why_not else []
        return measures

    def _exported(self) -> dict[Contender, dict[str, float]]:
        """Return the exports of the model, ready to be timed, with their measures on the data set.

        Raises:
            RuntimeError: If formats are asked for, and none can be measured.
        """
        ready, failed = {}, []
        for export in self.exports:
            name = f"{self.contenders[0].name} as {export.label}"
            try:
                contender, metrics = self._export(export, name)
            except Exception as error:  # converters and runtimes raise whatever they like
                failed.append(f"{name} was not measured: {reason(error)}")
            else:
                ready[contender] = metrics
        if failed and not ready:
            raise RuntimeError(f"none of the formats could be measured: {'; '.join(failed)}.")
        if self.settings.data is not None and any(contender.has_nms for contender in ready):
            self.notes.append(f"AP of an export is that of a file without NMS, which would drop what is below {CONF}.")
        self.notes += [f"{text}." for text in failed]
        return ready

    def _export(self, export: Export, name: str) -> tuple[Contender, dict[str, float]]:
        """Export the model, validate that, and try everything that is timed."""
        self._say(f"{name}: exporting")
        checkpoint, folder = self.contenders[0].file, self.scratch / export.format
        with quiet(logging.CRITICAL):
            file = export.write(checkpoint, folder, nms=export.nms)
        contender = judged = self._contender(open_model(file), name)
        if export.nms and self.settings.data is not None:
            with quiet(logging.CRITICAL):
                file = export.write(checkpoint, folder.with_name(f"{export.format}-val"), nms=False)
            judged = self._contender(open_model(file), name)
        metrics = self._metrics(judged, **export.validation)
        contender.prepare(self.image, self.settings.detections)
        for size in self.settings.batches:
            contender.forward(contender.as_input(self._square(size)))
        return contender, metrics

    def _forwards(self, contenders: Sequence[Contender]) -> dict[int, list[list[Run]]]:
        """Return the forward passes of each model by batch size."""
        out = {}
        for size in self.settings.batches:
            images = self._square(size)
            ways = [partial(c.forward, c.as_input(images)) for c in contenders]
            out[size] = self._in_turn(f"forward pass, batch {size}", ways)
        return out

    def _in_turn(self, what: str, ways: Sequence[Any]) -> list[list[Run]]:
        rounds, warmup = self.settings.runs, self.settings.warmup
        with TQDM(total=rounds + warmup, desc=what, file=sys.stderr, disable=not self.settings.verbose) as bar:
            return take_turns(ways, rounds, warmup, after_round=partial(bar.update, 1))

    def _memory(self, contenders: Sequence[Contender]) -> Memory:
        self._say(f"{' + '.join(c.name for c in contenders)}: memory")
        return measure_memory(contenders, self.image, self.settings.threads, MEMORY_RUNS, self.scratch)

    def _separate(self, rows: Sequence[Row], contenders: Sequence[Contender]) -> Row | None:
        """Return the row of the models that this one is measured against, one after the other."""
        if len(rows) > 1:
            return one_after_the_other(rows, self._memory(contenders))
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
def quiet(level: int) -> Iterator[None]:
    """Keep the host from logging what is below a level, such as `logging.WARNING`."""
    before = LOGGER.level
    LOGGER.setLevel(level)
    try:
        yield
    finally:
        LOGGER.setLevel(before)


@contextmanager
def kept_threads() -> Iterator[None]:
    """Give PyTorch the number of threads back that it had."""
    count = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(count)


def _torch_device(settings: Settings) -> torch.device:
    """Return the device to measure on.

    Raises:
        ValueError: If a network cannot run there, or not as it is asked for.
    """
    device = select_device(settings.device, verbose=False)
    if not isinstance(device, torch.device):
        raise ValueError(f"device={device}: expected a device of PyTorch, where the network itself can run.")
    if settings.half and device.type == "cpu" and not settings.format:
        raise ValueError("'half' has no effect on a CPU, which computes in full precision; leave it out.")
    return device


def _own_size(model: Any) -> int:
    """Return the input size of a network's training, or that of an exported file, in pixels."""
    size = None if isinstance(model.model, nn.Module) else input_size(model)[0]
    return max(size) if size else int(model.overrides.get("imgsz") or DEFAULT_SIZE)


def _check_size(model: Any, name: str, imgsz: int) -> None:
    """Check whether an exported file takes square images of a size.

    Raises:
        ValueError: If it takes others alone.
    """
    size, fixed = (None, False) if isinstance(model.model, nn.Module) else input_size(model)
    if fixed and size and size != (imgsz, imgsz):
        other = f", or give imgsz={size[0]}" if size[0] == size[1] else ""
        raise ValueError(
            f"'{name}' takes an input of {size[0]} x {size[1]} pixels alone, but imgsz={imgsz} is measured, {imgsz} x "
            f"{imgsz}; export it again with imgsz={imgsz} or dynamic=True{other}."
        )


def _save_dir(settings: Settings) -> Path:
    """Return the folder to save in: a new one, unless `exist_ok`."""
    args = SimpleNamespace(
        project=str(settings.project or ""), name=settings.name, exist_ok=settings.exist_ok, task=TASK, mode="benchmark"
    )
    return Path(get_save_dir(args))


def install(stage: Path, out: Path) -> None:
    """Move a finished stage to its folder; what else is in that is kept. If anything fails, the folder is as before."""
    if not out.exists():
        os.replace(stage, out)
        return
    out = out.resolve()
    new = {file.name for file in stage.iterdir()}
    shutil.copytree(
        out,
        stage,
        ignore=lambda folder, _: new if Path(folder) == out else set(),
        symlinks=True,
        copy_function=_link,
        dirs_exist_ok=True,
    )
    old = stage.with_name(f"{stage.name}.old")
    os.replace(out, old)
    try:
        os.replace(stage, out)
    except BaseException:  # also when the user interrupts
        os.replace(old, out)
        raise
    shutil.rmtree(old)


def _link(source: str, target: str) -> None:
    """Hard-link a file, or copy it where that is impossible."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _source_name(source: Any) -> str:
    return "an array" if isinstance(source, np.ndarray) else Path(source or "bus.jpg").name


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
