"""A model that takes part in a benchmark: its own copy, what it is asked to do, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn
from ultralytics.utils.files import file_size
from ultralytics.utils.torch_utils import get_flops

from yolo_multitask.engine.exported import read_metadata
from yolo_multitask.model import MultiTaskYOLO
from yolo_multitask.tasks import TASK

STOCK_TASKS = {"detect": ("detect",), "segment": ("detect", "segment"), "pose": ("detect", "pose")}
CONF = 0.25  # of a detection, where no number of detections is asked for
LOWEST_CONF = 1e-9  # every anchor is a detection
BELOW = 1 - 1e-3  # a score times this is lower in half precision too


class Contender:
    """A model with the arguments of its `predict`.

    Attributes:
        model: A `MultiTaskYOLO` of its own, without the user's callbacks.
        name: What to call it.
        file: What a process of its own can load it from.
        arguments: Of its `predict`.
        found: Objects that it finds in the image, once `prepare` has run.
    """

    def __init__(self, model: Any, arguments: Mapping[str, Any], scratch: Path, threads: int | None) -> None:
        """Take the model over.

        Args:
            model: A `MultiTaskYOLO`; it is not to be used by others.
            arguments: Of its `predict`.
            scratch: Folder where a network is saved as it is now; an exported file is used where it stands.
            threads: Threads of PyTorch; None for as many as the host takes.
        """
        self.model = model
        self.name = Path(str(model.model_name)).name
        self.arguments = {"conf": CONF, **arguments}
        self.found = 0
        self.file = str(model.model)
        if isinstance(model.model, nn.Module):
            self.file = str(scratch / f"model-{id(self)}.pt")
            model.save(self.file)
        model.reset_callbacks()
        if threads is not None:  # the host sets its own number whenever it selects a device
            for event in ("on_predict_start", "on_val_start"):
                model.add_callback(event, lambda _: torch.set_num_threads(threads))

    @property
    def backend(self) -> Any:
        """The host's backend: the network as `predict` runs it, fused and on its device."""
        return self.model.predictor.model

    @property
    def network(self) -> Any:
        """The fused `torch.nn.Module`; None for an exported file."""
        return self.backend.model if self.backend.format == "pt" else None

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks that it computes."""
        return self.model.predictor.tasks if self.model.task == TASK else STOCK_TASKS[self.model.task]

    @property
    def parameters(self) -> int | None:
        """Number of parameters after fusion, also of branches that are switched off; None for an exported file."""
        return sum(p.numel() for p in self.network.parameters()) if self.network is not None else None

    @property
    def format(self) -> str:
        """The host's name of its format; `pt` of a network."""
        return str(self.backend.format)

    @property
    def file_mib(self) -> float | None:
        """Size of an exported file or folder in MiB; None for a network."""
        return None if self.format == "pt" else file_size(self.file)

    @property
    def has_nms(self) -> bool:
        """Whether it is an exported file with the NMS in it."""
        return bool((getattr(self.backend, "metadata", None) or {}).get("args", {}).get("nms"))

    @property
    def is_fixed(self) -> bool:
        """Whether it is an exported file that takes images of one size alone."""
        return self.format != "pt" and not getattr(self.backend, "dynamic", False)

    def gflops(self, imgsz: int) -> float | None:
        """Return the GFLOPs of all running branches at all anchors, as the host counts them.

        Args:
            imgsz: Input size in pixels.

        Returns:
            None for an exported file, and where the host cannot count them.
        """
        if self.network is None:
            return None
        return float(get_flops(deepcopy(self.network).float(), imgsz)) or None

    def prepare(self, image: Any, detections: int | None) -> None:
        """Set the predictor up, choose the threshold, and count what is found.

        The NMS decides on a detection by those of a higher score alone. So the threshold just below the last one that
        it keeps leaves the same objects, and gives it no more candidates than they need.

        Args:
            image: Image (H, W, 3), uint8 BGR.
            detections: Objects to keep; None for those of a confidence of `CONF` and more.

        Raises:
            ValueError: If objects are to be kept, and none is found.
        """
        if detections is not None:
            self.arguments |= {"conf": LOWEST_CONF, "max_det": detections}
            scores = self.predict(image).boxes.conf
            if not len(scores):
                raise ValueError(f"{self.name} keeps no object of this image, whatever the score; try another source=.")
            self.arguments["conf"] = float(scores.min()) * BELOW
        self.found = len(self.predict(image).boxes)

    def predict(self, image: Any) -> Any:
        """Return the result of an image (H, W, 3)."""
        return self.model.predict(image, **self.arguments)[0]

    def stages(self, image: Any) -> dict[str, float]:
        """Predict an image (H, W, 3); return the milliseconds of preprocess, inference and postprocess."""
        result = self.predict(image)
        synchronise(self.backend.device)
        return dict(result.speed)

    def as_input(self, images: torch.Tensor) -> torch.Tensor:
        """Return images (B, 3, h, w) on its device and in its precision."""
        images = images.to(self.backend.device)
        return images.half() if self.backend.fp16 else images

    def forward(self, images: torch.Tensor) -> None:
        """Run the network or file alone on its input (B, 3, h, w), a network with all branches at all anchors."""
        with torch.inference_mode():
            self.backend(images)
        synchronise(images.device)


def distinct_names(files: Sequence[str]) -> list[str]:
    """Return the shortest ends of paths that tell different files apart: `best.pt`, or `a/weights/best.pt`."""
    parts = [Path(file).parts for file in files]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(p[-length:]) for p in parts]
        if len(set(names)) == len(set(files)):
            break
    return names


def input_size(model: Any) -> tuple[tuple[int, int] | None, bool]:
    """Return the height and width that an exported file was made for, None where it does not say, and whether it takes
    no others.

    Args:
        model: A `MultiTaskYOLO` that holds an exported file.
    """
    metadata = read_metadata(model.model)
    size, arguments = metadata.get("imgsz"), metadata.get("args")
    fixed = arguments is not None and not arguments.get("dynamic")
    return (int(size[0]), int(size[1])) if size else None, fixed


def synchronise(device: torch.device) -> None:
    """Wait until a device has done what it was told."""
    if device.type == "mps":
        torch.mps.synchronize()
    elif device.type != "cpu":  # cuda, xpu, npu
        getattr(torch, device.type).synchronize(device)


def own_copy(model: Any) -> Any:
    """Return a copy of a `MultiTaskYOLO` that shares nothing with it, without predictor, trainer and callbacks."""
    left_out: dict[int, Any] = {id(model.predictor): None, id(model.trainer): None, id(model.callbacks): {}}
    return deepcopy(model, left_out)


def open_model(file: str, task: str | None = None) -> Any:
    """Return the `MultiTaskYOLO` of a checkpoint, exported file or model YAML.

    Args:
        file: Path or name.
        task: Task of an exported file that does not say.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no model with boxes, masks or keypoints.
    """
    try:
        model = MultiTaskYOLO(file, task=task)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"against={file}: expected a checkpoint, exported file or model YAML, found none; check the path ({error})"
        ) from error
    if model.task not in (TASK, *STOCK_TASKS):
        raise ValueError(
            f"against={file}: expected a model for {', '.join(STOCK_TASKS)} or {TASK}, found one for '{model.task}'; "
            "leave it out."
        )
    return model
