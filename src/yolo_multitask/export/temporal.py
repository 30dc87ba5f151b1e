"""Export of a model that sees windows of frames: a file with the decoded elements of the TrackNet head and the rows of
the Pose head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from math import prod
from pathlib import Path
from typing import Any

import torch

from yolo_multitask.args import select_tasks
from yolo_multitask.export.exporter import MultiTaskExporter
from yolo_multitask.export.formats import ExportArgumentError
from yolo_multitask.export.network import LEAST_STRIDE
from yolo_multitask.nn.temporal import TemporalModel
from yolo_multitask.tasks import TASK

LAYOUT = "temporal"  # of the outputs, in the metadata
HEADS = ("track", "pose")  # in the order of the outputs
_RESCALED = "the host's reader multiplies columns of its rows by the input's sides, and knows the rows of boxes alone"
REFUSED: Mapping[str, str] = {
    "litert": _RESCALED,
    "saved_model": _RESCALED,
    "pb": _RESCALED,
    "paddle": "its converter mistakes the shape of channels that are taken apart by frame",
}  # beside those of all


class TemporalExportNetwork(TemporalModel):
    """A `TemporalModel` that is traced.

    Attributes:
        outputs: Heads whose outputs are given, in the order of `HEADS`.
    """

    outputs: tuple[str, ...] = HEADS

    @classmethod
    def of(cls, network: TemporalModel, tasks: Sequence[str]) -> TemporalExportNetwork:
        """Return a copy of `network` that computes `tasks`."""
        copy: Any = deepcopy(network)
        copy.__class__ = cls
        copy.outputs = tuple(head for head in HEADS if head in tasks)
        copy.task = "detect"  # the host then names one output, and leaves ours as they are
        return copy  # type: ignore[no-any-return]

    def predict(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """Return what each head gives for windows (B, G * C, h, w), one tensor or a tuple of two.

        Elements of the TrackNet head (B, N, P + nc), positions in input pixels; rows of the Pose head (B, 4 + nc + K *
        D, A), boxes as cx cy w h and keypoints in input pixels.
        """
        found = super().predict(x, *args, **kwargs)
        given = tuple(found[head] for head in self.outputs)
        given = tuple(out[0] if isinstance(out, tuple) else out for out in given)
        return given if len(given) > 1 else given[0]

    def metadata(self) -> dict[str, Any]:
        """Return what a reader of the file must know beyond the host's metadata."""
        out: dict[str, Any] = {
            "task": TASK,
            "layout": LAYOUT,
            "tasks": ["detect", *(task for task in ("pose", "track") if task in self.outputs)],
            "outputs": list(self.outputs),
            "stride": max(LEAST_STRIDE, int(self.stride.max())),
            "num_groups": self.num_groups,
            "frame_channels": self.frame_channels,
            "objects": [int(i) for i in self.objects] if "track" in self.outputs else [],
            "players": [int(i) for i in self.players] if "pose" in self.outputs else [],
            "relative": False,
        }
        if "track" in self.outputs:
            head = self.track_head
            out |= {"features": head.features.name, "feat_no": head.feat_no, "columns": list(head.columns)}
            out["strides"] = [float(s) for s in head.stride]
            if getattr(self, "object_size", None) is not None:
                out["object_size"] = float(self.object_size)
        if "pose" in self.outputs:
            out["kpt_shape"] = list(self.kpt_shape)
            assert prod(self.kpt_shape) == self.head.layout.nk
            for key in ("kpt_classes", "kpt_names", "kpt_oks_sigmas"):
                if getattr(self, key, None) is not None:
                    out[key] = getattr(self, key)
        return out


class TemporalExporter(MultiTaskExporter):
    """Exporter of `TemporalModel`."""

    def network(self, model: Any, fmt: str) -> Any:
        """Return the network to trace; see `MultiTaskExporter.network`.

        Raises:
            ValueError: If the format or an argument does not fit.
        """
        args: Any = self.args
        if fmt in REFUSED:
            raise ExportArgumentError(
                f"format={fmt} cannot carry a model of windows: {REFUSED[fmt]}. Export to onnx, openvino or "
                "torchscript."
            )
        if args.nms or self.masks:
            raise ExportArgumentError(
                f"{'nms' if args.nms else 'masks'}=True cannot be in a file of a model of windows: what its windows "
                "say of a frame is put together outside, and it has no masks. Leave it out."
            )
        if args.quantize in (8, "w8a16"):
            raise ExportArgumentError(
                f"quantize={args.quantize} needs windows of frames to calibrate with, which the exporter does not "
                "read. Export with quantize=16, or without."
            )
        try:
            tasks = select_tasks(args.switches, model.tasks, f"model '{args.model}'")
        except ValueError as error:
            raise ExportArgumentError(str(error)) from error
        if not set(tasks) & set(HEADS):
            raise ExportArgumentError("the switches leave no head to export; leave track or pose on.")
        args.nms = None  # also where it was False: there is none in the host's file either way
        return TemporalExportNetwork.of(model, tasks)

    def finish(self, made: Path, fmt: str) -> None:
        """Do nothing: `export_onnx` has named the outputs, also those of an ONNX file on the way to another format."""

    def complete_metadata(self) -> None:
        """Add what a reader must know."""
        self.metadata.update(self.model.metadata())

    def export_onnx(self, *args: Any, **kwargs: Any) -> str:
        """Export to ONNX as the host does, and name the outputs and their axes."""
        file = super().export_onnx(*args, **kwargs)
        name_outputs(Path(file), self.model.outputs, self.output_shape, dynamic=bool(self.args.dynamic))
        return str(file)


def name_outputs(file: Path, heads: Sequence[str], shapes: Sequence[Any], *, dynamic: bool) -> None:
    """Call the outputs of an ONNX file `output0`, `output1`, and their axes what they are.

    Args:
        file: The file, changed in place.
        heads: The head of each output.
        shapes: Of the output, or of each of two, in the trial run.
        dynamic: Whether batch, height and width are.
    """
    import onnx

    model = onnx.load(file)
    each = [shapes] if isinstance(shapes[0], int) else list(shapes)
    names = {output.name: f"output{i}" for i, output in enumerate(model.graph.output)}
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for output, head, shape in zip(model.graph.output, heads, each, strict=True):
        output.name = names[output.name]
        axes = ("batch", "elements", None) if head == "track" else ("batch", None, "anchors")
        for axis, name, size in zip(output.type.tensor_type.shape.dim, axes, shape, strict=True):
            if dynamic and name:
                axis.dim_param = name
            else:
                axis.dim_value = size
    onnx.save(model, file)
