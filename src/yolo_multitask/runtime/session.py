"""An exported ONNX file that predicts and tracks, without torch."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from yolo_multitask.runtime.decode import Settings, decode
from yolo_multitask.runtime.detections import Detections
from yolo_multitask.runtime.frames import Frame, as_image, read_frames, read_image
from yolo_multitask.runtime.letterbox import letterbox
from yolo_multitask.runtime.metadata import AGAIN, FLOATS, Metadata
from yolo_multitask.runtime.track import Tracker
from yolo_multitask.tracking import TrackerConfig

DEFAULT_TRACKER = "multicue.yaml"
TRACK_CONF = 0.1  # trackers use weak detections too
_ERRORS_ALONE = 3  # onnxruntime's log level


class Session:
    """An ONNX file that `MultiTaskYOLO.export(format="onnx")` wrote.

    ```python
    session = Session("best.onnx")
    found = session.predict("bus.jpg")
    for found in session.track("video.mp4"):
        print(found.ids, found.xyxy, found.keypoints)
    ```

    It keeps nothing between calls, so that threads may share it.

    Attributes:
        metadata: What the file says of itself.
        dynamic: Whether it takes images of any size.
    """

    def __init__(self, path: str | Path, *, threads: int | None = None, providers: Sequence[Any] | None = None) -> None:
        """Load a file.

        Args:
            path: The file.
            threads: Threads of onnxruntime; by default one for each core.
            providers: Execution providers of onnxruntime, best first; by default the CPU.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is no multitask model that can be run here, or there is no such provider.
        """
        try:
            self._session = _load(path, threads, providers)
            self.metadata = Metadata.read(self._session.get_modelmeta().custom_metadata_map)
            self.metadata.check(self._session.get_inputs(), self._session.get_outputs())
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        (given,) = self._session.get_inputs()
        self._input, self._dtype = given.name, (np.float32, np.float16)[FLOATS.index(given.type)]
        self._fixed = tuple(given.shape[2:]) if all(isinstance(side, int) for side in given.shape[2:]) else None
        self.dynamic = self._fixed is None

    @property
    def names(self) -> Mapping[int, str]:
        """Class names by index."""
        return self.metadata.names

    def predict(
        self,
        image: str | Path | NDArray[np.uint8],
        *,
        conf: float = 0.25,
        iou: float = 0.7,
        max_det: int = 300,
        classes: Sequence[int] | None = None,
        agnostic: bool = False,
        imgsz: int | Sequence[int] | None = None,
        retina_masks: bool = True,
    ) -> Detections:
        """Find the objects of one image.

        Args:
            image: A file, or an array (H, W, 3) BGR or (H, W) gray, uint8.
            conf: Detections have a higher score. A file with an NMS has a lower bound of its own.
            iou: A box that overlaps a better one of its class by more is dropped; not used with an NMS in the file.
            max_det: Most detections.
            classes: Classes that are kept; by default all.
            agnostic: Whether boxes of different classes drop each other too; not used with an NMS in the file.
            imgsz: Longest side, or height and width, of the network input of a dynamic file; by default that of the
                export. It is rounded up to multiples of the stride.
            retina_masks: Whether masks are of the original image, (N, H, W), else of the network input, (N, h, w).

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The image cannot be read, or a value is out of its range.
        """
        settings = self._settings(conf, iou, max_det, classes, agnostic, retina_masks)
        size, channels = self._size(imgsz), self.metadata.channels
        if isinstance(image, (str, Path)):
            return replace(self._detect(read_image(image, channels), settings, size), path=str(image))
        return self._detect(as_image(image, channels), settings, size)

    def track(
        self,
        source: str | Path | int | NDArray[np.uint8] | Iterable[Any],
        *,
        conf: float = TRACK_CONF,
        iou: float = 0.7,
        max_det: int = 300,
        classes: Sequence[int] | None = None,
        agnostic: bool = False,
        imgsz: int | Sequence[int] | None = None,
        retina_masks: bool = True,
        tracker: str | Path | TrackerConfig | Mapping[str, Any] = DEFAULT_TRACKER,
        frame_rate: float | None = None,
        vid_stride: int = 1,
    ) -> Iterator[Detections]:
        """Yield the tracked objects of each frame, with `ids`; of a frame without any, none.

        Args:
            source: A video, an image, a folder of images, a glob, the number of a camera, a URL that OpenCV opens, or
                an iterable of arrays and such names. A video, a folder and all arrays are a sequence each: its ids
                start at 1.
            conf: See `predict`.
            iou: See `predict`.
            max_det: See `predict`.
            classes: See `predict`.
            agnostic: See `predict`.
            imgsz: See `predict`.
            retina_masks: See `predict`.
            tracker: File or name of a `multicue` YAML, or its values.
            frame_rate: Frames per second; by default that of the video, of `seqinfo.ini` beside the images, or 30.
            vid_stride: Take every n-th frame of a video.

        Raises:
            FileNotFoundError: There is no such source or tracker.
            ValueError: A frame cannot be read, or a value is wrong.
        """
        settings = self._settings(conf, iou, max_det, classes, agnostic, retina_masks)
        config = Tracker(tracker).config
        frames = read_frames(source, channels=self.metadata.channels, frame_rate=frame_rate, vid_stride=vid_stride)
        return self._track(frames, settings, self._size(imgsz), config)

    def tracker(
        self, config: str | Path | TrackerConfig | Mapping[str, Any] = DEFAULT_TRACKER, frame_rate: float = 30.0
    ) -> Tracker:
        """Return a tracker for a loop of your own: `tracker.update(session.predict(frame, conf=0.1))`.

        Args:
            config: File or name of a `multicue` YAML, or its values.
            frame_rate: Frames per second of the loop.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: A value is wrong.
        """
        return Tracker(config, frame_rate=frame_rate, keypoint_sigmas=self.metadata.kpt_sigmas)

    def _track(
        self, frames: Iterator[Frame], settings: Settings, size: tuple[int, int], config: TrackerConfig
    ) -> Iterator[Detections]:
        for frame in frames:
            if frame.number == 1:
                tracker = self.tracker(config, frame.rate)
            found = self._detect(frame.image, settings, size)
            yield tracker.update(replace(found, path=frame.path, frame=frame.number))

    def _detect(self, image: NDArray[np.uint8], settings: Settings, size: tuple[int, int]) -> Detections:
        given = letterbox(image, size, self.metadata.stride if self.dynamic else None, self._dtype)
        outputs = self._session.run(None, {self._input: given})
        return decode(outputs, self.metadata, settings, image, (given.shape[2], given.shape[3]))

    def _settings(self, conf: float, *given: Any) -> Settings:
        """Return the settings of a call; warns where the NMS in the file has dropped what they ask for.

        Raises:
            ValueError: A value is out of its range.
        """
        if conf < self.metadata.conf:
            warnings.warn(
                f"conf={conf:g}: the NMS in the file drops what is below {self.metadata.conf:g}; export it with "
                f"conf={conf:g} to see those too.",
                stacklevel=3,
            )
        settings = Settings(conf, *given)
        unknown = [c for c in settings.classes or () if c not in self.names]
        if unknown:
            raise ValueError(f"classes: expected numbers from 0 to {self.metadata.nc - 1}, found {unknown}.")
        return settings

    def _size(self, imgsz: int | Sequence[int] | None) -> tuple[int, int]:
        """Return height and width that an image has to fit in.

        Raises:
            ValueError: `imgsz` is none, or not that of a file of fixed size.
        """
        if imgsz is None:
            return self._fixed or self.metadata.imgsz
        sides = imgsz if isinstance(imgsz, (list, tuple)) else (imgsz, imgsz)
        if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
            raise ValueError(f"imgsz: expected a whole number above 0, or height and width, found {imgsz!r}.")
        stride = self.metadata.stride
        size = ceil(sides[0] / stride) * stride, ceil(sides[1] / stride) * stride
        if self._fixed not in (None, size):
            raise ValueError(f"imgsz={imgsz}: expected {list(self._fixed)}, as it was exported without dynamic=True.")
        return size


def _load(path: str | Path, threads: int | None, providers: Sequence[Any] | None) -> onnxruntime.InferenceSession:
    """Open a file with onnxruntime.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be opened, or there is no such provider.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: expected an ONNX file, found none; check the path.")
    known = onnxruntime.get_available_providers()
    wanted = ["CPUExecutionProvider"] if providers is None else list(providers)
    unknown = [p for p in wanted if (p if isinstance(p, str) else p[0]) not in known]
    if unknown:
        raise ValueError(f"providers: expected some of {', '.join(known)}, found {unknown}.")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ALONE
    options.intra_op_num_threads = threads or 0
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=wanted)
    except Exception as error:  # those of onnxruntime have no base of their own
        raise ValueError(_reason(str(error))) from error


def _reason(message: str) -> str:
    """Return why onnxruntime does not open a file, in a sentence."""
    opset = re.search(r"Opset (\d+) is under.*till opset (\d+)", message, re.S)
    if opset:
        return f"expected opset {opset[2]} or lower, found {opset[1]}; update onnxruntime or export with opset=."
    text = re.sub(r"^\[ONNXRuntimeError\].*? failed:(/onnxruntime_src.*\) )?", "", message, flags=re.S)
    found = " ".join(text.split()).rstrip(".")
    return f"expected an ONNX file that onnxruntime {onnxruntime.__version__} can run, found: {found}; {AGAIN}."
