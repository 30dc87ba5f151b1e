"""Export of a multitask network through the host's exporter, whose formats and arguments it takes."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch.utils.data import DataLoader
from ultralytics.data import build_dataloader
from ultralytics.engine.exporter import Exporter
from ultralytics.utils import DEFAULT_CFG, LOGGER

from yolo_multitask import host
from yolo_multitask.args import full_cfg, normalise, select_tasks
from yolo_multitask.data.config import load_data
from yolo_multitask.data.dataset import build_multitask_dataset
from yolo_multitask.export.formats import (
    GRAPH_NMS,
    ExportArgumentError,
    check_arguments,
    check_batch,
    check_format,
    check_nms,
    check_opset,
    check_precision,
    check_tasks_fit,
    holds_choice,
)
from yolo_multitask.export.network import ExportNetwork
from yolo_multitask.nn.graph import Suppression
from yolo_multitask.nn.network import MultiTaskModel
from yolo_multitask.tasks import TASK

CONF = 0.25  # the host's, where an NMS is exported and none is given
ENOUGH_IMAGES = 300  # for calibration, as the host recommends


class MultiTaskExporter(Exporter):
    """Exporter of `MultiTaskModel`.

    The host traces and converts a network that gives rows and prototypes as its segmentation network does. What it
    would decide by the task, the layout of the rows and the NMS, is in that network, see `export.network`.

    Attributes:
        masks: Whether masks are assembled in the graph.
    """

    def __init__(
        self, cfg: Any = DEFAULT_CFG, overrides: dict[str, Any] | None = None, _callbacks: dict[str, Any] | None = None
    ) -> None:
        """Build the exporter.

        Args:
            cfg: The host's configuration.
            overrides: Arguments; may hold the switches and `masks`.
            _callbacks: The host's.

        Raises:
            ValueError: If an argument has a wrong value.
        """
        given = normalise(overrides)
        self.masks = given.pop("masks", None) or False
        if not isinstance(self.masks, bool):
            raise ExportArgumentError(
                f"'masks' must be True or False (assemble masks in the graph), got {self.masks!r}."
            )
        super().__init__(full_cfg(cfg), {**given, "task": TASK}, _callbacks)

    def __call__(self, model: MultiTaskModel) -> str:
        """Export a network and return the path of the file or folder, which is written whole or not at all.

        Raises:
            ValueError: If the format cannot carry the network, or an argument does not fit the format.
        """
        args: Any = self.args
        fmt = args.format = check_format(str(args.format))
        check_arguments(fmt, args)
        check_batch(fmt, args.batch)
        network = self.network(model, fmt)
        target = _target(model)
        with TemporaryDirectory(prefix=".export-", dir=target.parent) as folder, _renamed(folder, target.parent):
            network.pt_path = str(Path(folder) / f"{target.stem}.pt")
            made = Path(super().__call__(network))
            self.finish(made, fmt)
            return str(_move(made, target.parent, keep_onnx=fmt == "onnx"))

    def network(self, model: Any, fmt: str) -> Any:
        """Return the network to trace, after a check of what is asked for.

        Args:
            model: The model.
            fmt: The format.

        Raises:
            ValueError: If the format cannot carry it, or an argument does not fit.
        """
        args: Any = self.args
        nms = bool(args.nms)
        check_nms(fmt, nms=nms, masks=self.masks, dynamic=bool(args.dynamic), quantize=args.quantize, conf=args.conf)
        check_precision(fmt, args.quantize)
        try:
            tasks = select_tasks(args.switches, model.tasks, f"model '{args.model}'")
        except ValueError as error:
            raise ExportArgumentError(str(error)) from error
        check_opset(args.opset, tasks)
        check_tasks_fit(fmt, tasks)
        if self.masks and "segment" not in tasks:
            raise ExportArgumentError(
                f"masks=True needs the task segment, but the file will have only: {', '.join(tasks)}."
            )
        suppression = None
        if nms:
            args.conf = CONF if args.conf is None else args.conf
            suppression = Suppression(
                conf=args.conf, iou=args.iou, max_det=args.max_det, agnostic=args.agnostic_nms, masks=self.masks
            )
        if args.quantize == 8 and not args.data:
            args.data = host.default_data(TASK)
        one2one = args.nms is False and model.head.dual
        in_graph = one2one and holds_choice(fmt, dynamic=bool(args.dynamic), quantize=args.quantize)
        if args.conf is not None and one2one and not in_graph:
            raise ExportArgumentError(
                f"conf={args.conf} cannot be in this file: with nms=False it can in {', '.join(GRAPH_NMS)} "
                "(openvino with dynamic=True). Leave it out: it is an argument of predict."
            )
        args.nms = False if one2one else None  # the host's own NMS would drop ours, which is part of the network
        network = ExportNetwork.of(model, tasks, suppression)
        network.lowest = (args.conf or 0.0) if in_graph else None
        network.relative = fmt == "litert" and not one2one  # its reader multiplies boxes by the input's sides
        return network

    def finish(self, made: Path, fmt: str) -> None:
        """Complete the file that the host has made."""
        if fmt == "onnx" and (self.model.suppression is not None or self.model.end2end):
            _name_axes(made, self.output_shape, dynamic=bool(self.args.dynamic))

    def complete_metadata(self) -> None:
        """Add what a reader must know, and the settings of the NMS or of the choice of the best in the file."""
        self.metadata.update(self.model.metadata())
        if self.model.suppression is not None:
            own = self.model.suppression
            nms = {"conf": own.conf, "iou": own.iou, "max_det": own.max_det, "agnostic_nms": own.agnostic}
            self.metadata["args"] = {**self.metadata["args"], "nms": True, **nms}
        elif self.model.end2end:
            head, conf = self.model.head, self.model.lowest or 0.0
            best = {"conf": conf, "max_det": head.max_det, "agnostic_nms": head.agnostic_nms}
            self.metadata["args"] = {**self.metadata["args"], **best}

    def run_callbacks(self, event: str) -> None:
        """Run the callbacks of an event; see the host. Before anything is written, the metadata is completed."""
        if event == "on_export_start":
            self.complete_metadata()
        super().run_callbacks(event)

    def get_int8_calibration_dataloader(self, prefix: str = "") -> DataLoader[Any]:
        """Return the images that ranges are measured on, uint8 (B, 3, h, w) of the export's size; see the host.

        Raises:
            ValueError: If the split has no images.
        """
        args: Any = self.args
        split = args.split or "val"
        LOGGER.info(f"{prefix} collecting INT8 calibration images from 'data={args.data}'")
        data = load_data(args.data, task=args.label_task, labels=args.labels, split=split)
        own = type(args)(**{**vars(args), "imgsz": max(self.imgsz), "rect": False, "task": TASK, "split": split})
        fraction = None if isinstance(args.fraction, list) else args.fraction
        dataset = build_multitask_dataset(own, data[split], args.batch, data, mode="val", fraction=fraction)
        dataset.transforms.transforms[0].new_shape = self.imgsz
        if not len(dataset):
            raise ValueError(f"data={args.data}: expected images in split '{split}' to calibrate with, found none.")
        if len(dataset) < ENOUGH_IMAGES:
            LOGGER.warning(
                f"{prefix} >{ENOUGH_IMAGES} images recommended for INT8 calibration, found {len(dataset)} images."
            )
        batch = min(args.batch, len(dataset))
        return build_dataloader(dataset, batch=batch, workers=0, drop_last=True)  # type: ignore[no-any-return]


def _target(model: Any) -> Path:
    """Return the path that the exported file has but for its suffix: beside the checkpoint, else in this folder."""
    path = Path(str(getattr(model, "pt_path", None) or model.yaml.get("yaml_file") or "model"))
    return path.absolute() if path.suffix not in {".yaml", ".yml"} else Path(path.name).absolute()


def _move(made: Path, parent: Path, *, keep_onnx: bool) -> Path:
    """Move what an export made into the folder `parent`, but for an ONNX file on the way to another format."""
    for path in sorted(made.parent.iterdir()):
        if path.suffix == ".onnx" and not keep_onnx:
            continue
        _replace(path, parent / path.name)
    return parent / made.name


def _replace(path: Path, place: Path) -> None:
    """Move a file to its place, or each file of a folder; what else stands in a folder there is left alone."""
    if not path.is_dir():
        os.replace(path, place)
        return
    place.mkdir(exist_ok=True)
    for inner in path.iterdir():
        _replace(inner, place / inner.name)


@contextmanager
def _renamed(folder: str, parent: Path) -> Iterator[None]:
    """Let the host's messages name the place where files end up, and this package's command, inside the `with`."""

    def rename(record: logging.LogRecord) -> bool:
        text = str(record.msg).replace(str(Path(folder).resolve()), str(parent)).replace(folder, str(parent))
        for old, new in (
            ("task=segment ", ""),
            ("task=detect ", ""),
            ("yolo predict", "ymt predict"),
            ("yolo val", "ymt val"),
        ):
            text = text.replace(old, new)
        record.msg = text
        return True

    LOGGER.addFilter(rename)
    try:
        yield
    finally:
        LOGGER.removeFilter(rename)


def _name_axes(file: Path, shapes: tuple[Any, ...], *, dynamic: bool) -> None:
    """Say of the axes of a file with an NMS what they are; the host takes its rows for anchors.

    Args:
        file: The file, changed in place.
        shapes: Of the output, or of each of two, in the trial run.
        dynamic: Whether batch, height and width are.
    """
    import onnx

    model = onnx.load(file)
    shapes = shapes if isinstance(shapes[0], tuple) else (shapes,)
    for number, (output, shape) in enumerate(zip(model.graph.output, shapes, strict=True)):
        for i, (axis, size) in enumerate(zip(output.type.tensor_type.shape.dim, shape, strict=True)):
            if not dynamic or i == 1 or (i and not number):
                axis.dim_value = size
    onnx.save(model, file)
