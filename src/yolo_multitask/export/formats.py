"""Which formats a multitask network can be exported to, and how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ultralytics.engine.exporter import export_formats, validate_args

ALIASES: Mapping[str, str] = {
    "tensorrt": "engine",
    "trt": "engine",
    "mlmodel": "coreml",
    "mlpackage": "coreml",
    "mlprogram": "coreml",
    "apple": "coreml",
    "ios": "coreml",
    "tflite": "litert",
    "tfjs": "litert",
    "huawei": "ascend",
    "cann": "ascend",
    "om": "ascend",
    "vitis": "xilinx",
    "vitisai": "xilinx",
    "versal": "xilinx",
}  # the host's other names
TRACK_OPSET = 16  # the first with GridSample
GRAPH_NMS = ("onnx", "torchscript", "openvino")  # formats whose graph may hold sizes that depend on the picture
_FIXED_LAYOUT = "it rebuilds the output of the stock heads layer by layer, and knows no others"
_UNTRIED = "no multitask network was ever compiled for it or run on its chips"
REFUSED: Mapping[str, str] = {
    "imx": _FIXED_LAYOUT,
    "hailo": _FIXED_LAYOUT,
    "edgetpu": "it has whole numbers alone, of which the boxes, keypoints and embeddings of a row share one scale",
    "rknn": f"{_UNTRIED}. In 16 bits rknn-toolkit2 takes the file of format=onnx opset=19 as it is",
    "ascend": f"{_UNTRIED}. Huawei's 'atc' takes the file of format=onnx opset=17 as it is",
    "xilinx": f"{_UNTRIED}. AMD Quark takes the file of format=onnx opset=17, and leaves its head in float32",
    "deepx": f"{_UNTRIED}. dx_com takes the file of format=onnx, but in INT8 alone, which embeddings may not survive",
    "qnn": f"{_UNTRIED}. onnxruntime-qnn takes the graph of format=onnx with its input's channels last, in 16 bits",
    "axelera": f"{_UNTRIED}. Its compiler takes no ONNX file but the network, and asks for the kind of its head",
}  # and why
_MIXED_AXES = "its converter, onnx2tf, mixes up the axes of the points where the appearance in a box is read"
LACKING: Mapping[str, tuple[str, str]] = {
    "paddle": ("track", "its converter has no grid_sample, which reads the appearance in a box"),
    "saved_model": ("track", _MIXED_AXES),
    "pb": ("track", _MIXED_AXES),
}  # the task that a format cannot hold, and why

NO_BATCH = ("ncnn",)  # formats whose files take pictures one at a time; the host hands them a batch so


class ExportArgumentError(ValueError):
    """An argument that the format or the network cannot take, found before any work is done."""


def check_format(name: str) -> str:
    """Return the host's name of a format.

    Raises:
        ExportArgumentError: If there is none of that name, or it cannot carry a multitask network.
    """
    fmt = ALIASES.get(name.lower(), name.lower())
    known = tuple(export_formats()["Argument"][1:])
    taken = ", ".join(f for f in known if f not in REFUSED)
    if fmt not in known:
        found = "a network is in that already" if fmt in ("pt", "-") else "found no such format"
        raise ExportArgumentError(f"format={name}: {found}; expected one of {taken}.")
    if fmt in REFUSED:
        raise ExportArgumentError(
            f"format={name} is refused for a multitask network: {REFUSED[fmt]}. Export to one of {taken}."
        )
    return fmt


def check_arguments(fmt: str, args: Any) -> None:
    """Check whether the host takes the arguments of an export, those not at their defaults, for a format.

    Raises:
        ExportArgumentError: If it does not take one.
    """
    formats = export_formats()
    taken = dict(zip(formats["Argument"], formats["Arguments"], strict=True))[fmt]
    try:
        validate_args(fmt, args, taken)
    except AssertionError as error:
        said = str(error).removeprefix("ERROR ❌️ ")
        raise ExportArgumentError(f"{said}; it takes imgsz, device, {', '.join(taken)}.") from error


def check_batch(fmt: str, batch: int) -> None:
    """Check whether a file of a format can take as many pictures at once.

    Raises:
        ExportArgumentError: If not.
    """
    if fmt in NO_BATCH and batch > 1:
        raise ExportArgumentError(
            f"batch={batch}: files of format={fmt} have no batch axis, expected batch=1. Leave it out: predict, val "
            "and track hand such a file any number of pictures, one at a time."
        )


def check_tasks_fit(fmt: str, tasks: Sequence[str]) -> None:
    """Check whether a format can hold tasks.

    Raises:
        ExportArgumentError: If one is lacking.
    """
    task, reason = LACKING.get(fmt, (None, ""))
    if task in tasks:
        raise ExportArgumentError(
            f"format={fmt} cannot hold {task}: {reason}. Export with {task}=False, or to another format."
        )


def check_precision(fmt: str, quantize: Any) -> None:
    """Check whether a format can hold a network in a precision.

    Raises:
        ExportArgumentError: If not.
    """
    if fmt == "litert" and quantize in (8, "w8a16"):
        raise ExportArgumentError(
            f"format=litert cannot hold a multitask network with quantize={quantize}: boxes, keypoints, mask "
            "coefficients and embeddings of a row would share one scale, by which the embeddings are lost. Export with "
            "quantize='w8a32', or to onnx or openvino."
        )


def check_opset(opset: int | None, tasks: Sequence[str]) -> None:
    """Check whether an ONNX opset has the operators of the tasks; None is the highest that can be had.

    Raises:
        ExportArgumentError: If not.
    """
    if opset is not None and opset < TRACK_OPSET and "track" in tasks:
        raise ExportArgumentError(
            f"opset={opset} has no GridSample, which reads the appearance in a box; expected {TRACK_OPSET} or above, "
            "or track=False."
        )


def check_nms(fmt: str, *, nms: bool, masks: bool, dynamic: bool, quantize: Any, conf: float | None) -> None:
    """Check whether the NMS, and the masks behind it, can be in a file of a format.

    Raises:
        ExportArgumentError: If not.
    """
    if masks and not nms:
        raise ExportArgumentError("masks=True assembles the masks of what the NMS keeps: it needs nms=True as well.")
    if not nms:
        return
    if fmt not in GRAPH_NMS:
        raise ExportArgumentError(
            f"nms=True cannot be in a multitask file of format={fmt}, whose graphs have fixed sizes alone; it can in "
            f"{', '.join(GRAPH_NMS)}. Leave it out: predict, val and track run the NMS outside the file."
        )
    if fmt == "openvino" and (not dynamic or quantize == 8):
        raise ExportArgumentError(
            "nms=True in an OpenVINO file needs dynamic=True and no quantize=8: OpenVINO does not run it otherwise. "
            "Export with dynamic=True, or without nms."
        )
    if conf is not None and not 0 <= conf < 1:
        raise ExportArgumentError(
            f"conf must be in 0..1, below which the NMS in the file drops a detection, got {conf}."
        )


def holds_choice(fmt: str, *, dynamic: bool, quantize: Any) -> bool:
    """Return whether a file of a format can compute the branches at the detections of a one-to-one head alone.

    Their number at each level depends on the picture, as that behind an NMS does.
    """
    return fmt in GRAPH_NMS and (fmt != "openvino" or (dynamic and quantize != 8))
