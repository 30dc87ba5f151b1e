"""What a benchmark exports: a model in each format to be timed, and, if the NMS is in that, without for validation."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from types import SimpleNamespace
from typing import Any

from torch import nn
from ultralytics.engine.exporter import export_formats

from yolo_multitask.args import select_tasks
from yolo_multitask.benchmark.contender import CONF, open_model
from yolo_multitask.benchmark.settings import Settings
from yolo_multitask.export.formats import (
    GRAPH_NMS,
    ExportArgumentError,
    check_arguments,
    check_precision,
    check_tasks_fit,
)

PRECISIONS = {None: "", 16: " half", 8: " int8"}
BOUND_BATCH = ("engine", "coreml")  # formats whose dynamic files take no more images at once than the export says
OWN_DEVICE = ("torchscript", "engine")  # formats whose files run on the device of the export alone
REASON_LENGTH = 240  # characters


@dataclass(frozen=True, kw_only=True)
class Export:
    """How a model is exported to a format.

    Attributes:
        format: The host's name of it.
        arguments: Of `export`, without an NMS in the file.
        nms: Whether the file that is timed has the NMS in it.
    """

    format: str
    arguments: Mapping[str, Any]
    nms: bool

    @property
    def label(self) -> str:
        """Return what to call the file beside the model's name."""
        return f"{self.format}{PRECISIONS[self.arguments['quantize']]}"

    @property
    def validation(self) -> dict[str, Any]:
        """Return the arguments of `val` that the file needs beyond those of the network."""
        return {"batch": self.arguments["batch"]} if self.format in BOUND_BATCH else {}

    def write(self, checkpoint: str, folder: Path, *, nms: bool) -> str:
        """Export a checkpoint into a folder, which is made; return the path of the file or folder.

        Args:
            checkpoint: The network, as a file.
            folder: Where to write.
            nms: Whether the NMS is in the file.

        Raises:
            Exception: What the format's converter raises.
        """
        folder.mkdir()
        model = open_model(checkpoint)
        model.model.pt_path = str(folder / "model.pt")  # the export is written beside that
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the tracing
            return str(model.export(**self.arguments, **({"nms": True, "conf": CONF} if nms else {})))


def plan_exports(settings: Settings, model: Any, imgsz: int, device: str) -> list[Export]:
    """Return how a model is exported to each format that is asked for, all checked.

    Files are dynamic where the format can have them so: they then see the same input as the network. Those in int8 have
    no NMS in them, whose sizes no calibration fits.

    Args:
        settings: What is asked for.
        model: A `MultiTaskYOLO`.
        imgsz: Input size in pixels.
        device: Where the models run.

    Raises:
        ExportArgumentError: If the model is no network, or a format cannot hold it or take the precision.
    """
    if not settings.format:
        return []
    if not isinstance(model.model, nn.Module):
        raise ExportArgumentError(
            f"format={','.join(settings.format)}: expected a network to export, found the exported file "
            f"'{model.model_name}'; give its checkpoint as the model, or leave format= out."
        )
    tasks = select_tasks(settings.switches, model.model.tasks, f"model '{model.model_name}'")
    table = export_formats()
    taken = dict(zip(table["Argument"], table["Arguments"], strict=True))
    exports = []
    for name in settings.format:
        check_tasks_fit(name, tasks)
        dynamic = "dynamic" in taken[name]
        arguments = {
            "format": name,
            "imgsz": imgsz,
            "device": device if name in OWN_DEVICE else "cpu",
            "quantize": settings.quantize,
            "dynamic": dynamic,
            "batch": max(settings.batches) if dynamic else 1,
        }
        if settings.int8 and "data" in taken[name]:
            arguments["data"] = str(settings.data)
        check_arguments(name, SimpleNamespace(**arguments))
        check_precision(name, settings.quantize)
        nms = name in GRAPH_NMS and settings.detections is None and not settings.int8
        exports.append(Export(format=name, arguments={**arguments, **settings.switches}, nms=nms))
    return exports


def reason(error: Exception) -> str:
    """Return in one line why an export failed or cannot be run."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"{error.name} is not installed"
    return shorten(str(error) or type(error).__name__, REASON_LENGTH, placeholder=" ...")
