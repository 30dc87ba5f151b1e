"""One pass of a network over a sequence: boxes, features of the boxes found, and features of the true boxes.

N detections, G true boxes, A anchors, E feature values, h w the network input, H W the image.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from timing import progress

from trackbench.frames import Frame, load_frames, save_frames
from trackbench.osnet import OSNet
from trackbench.sequence import TruthSequence
from yolo_multitask.metrics.tracking import box_similarity

PERSON = "person"
Image = NDArray[np.uint8]


def cached_frames(
    cache: Path | None, weights: Path, sequence: TruthSequence, settings: dict[str, Any], run: Callable[[], list[Frame]]
) -> list[Frame]:
    """Return the frames of `run()`, from the folder `cache` if they are there for these weights and settings."""
    if cache is None:
        return run()
    text = (
        f"{hashlib.sha256(weights.read_bytes()).hexdigest()} {sequence.name} {len(sequence)} {sorted(settings.items())}"
    )
    path = cache / f"{weights.stem}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.npz"
    if not path.is_file():
        save_frames(path, run())
    return load_frames(path)


class HeadReader:
    """Reads what enters and leaves a detection head in each forward pass.

    Attributes:
        head: The head.
        maps: Feature maps (1, C, h, w) of all levels.
        rows: Decoded rows (A, 4 + nc + extra), boxes as cx cy w h in input pixels.
    """

    def __init__(self, head: Any) -> None:
        """Hook onto `head`, a `Detect` of the host or of this package."""
        self.head = head
        self.maps: list[Any] = []
        self.rows: Any = None
        head.register_forward_hook(self._read)

    def _read(self, _: Any, inputs: Any, output: Any) -> None:
        self.maps = list(inputs[0])
        rows = output[0][0] if isinstance(output[0], tuple) else output[0]
        self.rows = rows[0].T.clone()  # the NMS changes boxes in place

    def nearest(self, boxes: NDArray[Any], cls: int, shape: tuple[int, int]) -> tuple[Any, NDArray[Any]]:
        """Return the anchor whose score of class `cls` times its box's overlap is highest, for each of `boxes`.

        Args:
            boxes: Boxes (G, 4), x1 y1 x2 y2 in pixels of the image.
            cls: Class number.
            shape: Height and width of the image.

        Returns:
            Anchor numbers (G,) as a tensor, and the overlaps (G,) of their boxes.
        """
        import torch
        from ultralytics.utils import ops

        input_shape = tuple(int(side * self.head.stride[0]) for side in self.maps[0].shape[2:])
        found = ops.scale_boxes(input_shape, ops.xywh2xyxy(self.rows[:, :4]), shape).numpy()
        overlap = box_similarity(boxes, found)
        best = (overlap * self.rows[:, 4 + cls].numpy()).argmax(1)
        return torch.from_numpy(best), overlap[np.arange(len(best)), best]


def person_class(names: dict[int, str], weights: Path) -> int:
    """Return the number of the class `person`.

    Raises:
        ValueError: If there is none.
    """
    numbers = [number for number, name in names.items() if name == PERSON]
    if not numbers:
        raise ValueError(f"'{weights}' has no class '{PERSON}'; its classes are {list(names.values())[:10]}.")
    return numbers[0]


def stock_frames(weights: Path, sequence: TruthSequence, osnet: OSNet | None, imgsz: int, conf: float) -> list[Frame]:
    """Run the host's own `track` with a tracker that only writes down what the host hands it.

    So boxes, native features and suppressed boxes are those of the host. The vectors of the true boxes are the native
    ones at the nearest anchor, and OSNet's of the box itself.
    """
    from ultralytics import YOLO
    from ultralytics.models.yolo.detect import DetectionPredictor
    from ultralytics.trackers import register_tracker
    from ultralytics.trackers.track import TRACKTRACK

    class Recorder(TRACKTRACK):
        """A tracker with the extras of TrackTrack that keeps its input and tracks nothing."""

        received: tuple[Any, Any, Any]

        def update(self, results: Any, img: Any = None, dets_del: Any = None, **kwargs: Any) -> NDArray[np.float32]:
            self.received = results.data, dets_del, kwargs.get("feats")
            return np.zeros((0, 8), np.float32)

    readers: list[HeadReader] = []
    recorders: list[Recorder] = []

    def install(predictor: Any) -> None:
        if not readers:
            readers.append(HeadReader(predictor.model.model.model[-1]))
            recorders.append(Recorder(predictor.trackers[0].args))
            predictor.trackers = list(recorders)

    model = YOLO(str(weights))
    cls = person_class(model.names, weights)
    register_tracker(model, persist=True)
    model.add_callback("on_predict_start", install)  # after the host's own
    frames = []
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "recorder.yaml"
        config.write_text(_with_reid("tracktrack.yaml"))
        options = {"persist": True, "tracker": str(config), "imgsz": imgsz, "conf": conf, "classes": [cls]}
        for image, truth in images_of(sequence, weights.name):
            model.track(image, device="cpu", verbose=False, **options)
            boxes, suppressed, feats = recorders[0].received
            reader, features = readers[0], {"native": _numpy(feats, len(boxes))}
            anchors, overlap = reader.nearest(truth, cls, image.shape[:2])
            start = time.perf_counter()
            native = DetectionPredictor.get_obj_feats(reader.maps, [anchors])
            milliseconds = {"native": (time.perf_counter() - start) * 1e3}
            truth_features = {"native": _numpy(native[0], len(truth))}
            if osnet is not None:
                start = time.perf_counter()
                features["osnet"] = osnet(image, boxes[:, :4])
                milliseconds["osnet"] = (time.perf_counter() - start) * 1e3
                truth_features["osnet"] = osnet(image, truth)
            frames.append(
                Frame(
                    boxes=_person_boxes(boxes),
                    suppressed=_suppressed(suppressed),
                    features=features,
                    truth_features=truth_features,
                    truth_overlap=overlap,
                    milliseconds=milliseconds,
                )
            )
    return frames


def model_frames(weights: Path, sequence: TruthSequence, name: str, imgsz: int, conf: float) -> list[Frame]:
    """Run `predict` of a model of this package with a track branch.

    The vectors of the true boxes are the embeddings at the nearest anchor. The feature source is called `name`.

    Raises:
        ValueError: If the model gives no embeddings.
    """
    from yolo_multitask import MultiTaskYOLO
    from yolo_multitask.engine.heads import find_head

    model = MultiTaskYOLO(str(weights))
    cls = person_class(model.names, weights)
    readers: list[HeadReader] = []

    def install(predictor: Any) -> None:
        if not readers:
            readers.append(HeadReader(find_head(predictor.model)))

    model.add_callback("on_predict_start", install)
    frames = []
    for image, truth in images_of(sequence, weights.name):
        given = {"imgsz": imgsz, "conf": conf, "classes": [cls], "device": "cpu", "verbose": False}
        result = model.predict(image, lazy=False, **given)[0].numpy()  # the reader wants every anchor
        if getattr(result, "embeddings", None) is None:
            raise ValueError(f"'{weights}' gives no embeddings; train it with track=True.")
        anchors, overlap = readers[0].nearest(truth, cls, image.shape[:2])
        layout = readers[0].head.layout
        before_nms = 4 + layout.nc - 6  # a row has all scores there, and one score and the class after
        columns = slice(layout.embed.start + before_nms, layout.embed.stop + before_nms)
        cues, mask_width = _cues(result)
        frames.append(
            Frame(
                boxes=_person_boxes(result.boxes.data),
                suppressed=np.zeros((0, 6), np.float32),
                features={name: np.asarray(result.embeddings.data)},
                truth_features={name: readers[0].rows[anchors][:, columns].numpy()},
                truth_overlap=overlap,
                cues=cues,
                mask_width=mask_width,
            )
        )
    return frames


def images_of(sequence: TruthSequence, label: str) -> Iterator[tuple[Image, NDArray[Any]]]:
    """Yield the picture and the true boxes (G, 4) of each frame; tell under `label` how far it is."""
    for i, (path, truth) in enumerate(zip(sequence.images, sequence.boxes, strict=True)):
        if i % 100 == 0:
            progress(f"{label}: frame {i} of {len(sequence)}")
        yield read_image(path), truth


def _with_reid(name: str) -> str:
    import yaml
    from ultralytics.utils import YAML
    from ultralytics.utils.checks import check_yaml

    return yaml.safe_dump({**YAML.load(check_yaml(name)), "with_reid": True, "model": "auto"})


def _numpy(features: Any, count: int) -> NDArray[np.float32]:
    return np.stack([np.asarray(f, np.float32) for f in features]) if count else np.zeros((0, 1), np.float32)


def _person_boxes(boxes: Any) -> NDArray[np.float32]:
    return np.concatenate((np.asarray(boxes, np.float32)[:, :5], np.zeros((len(boxes), 1), np.float32)), 1)


def _suppressed(extras: Any) -> NDArray[np.float32]:
    """Return the host's (xywh, conf, cls) as rows x1 y1 x2 y2 score class."""
    if extras is None:
        return np.zeros((0, 6), np.float32)
    xywh, conf, _ = extras
    half = xywh[:, 2:] / 2
    rows = (xywh[:, :2] - half, xywh[:, :2] + half, conf[:, None], np.zeros((len(conf), 1)))
    return np.concatenate(rows, 1).astype(np.float32)


def _cues(result: Any) -> tuple[dict[str, NDArray[Any]], int]:
    """Return `Frame.cues` of `Results`, and the width of the masks, which cover the image as `track` has them."""
    from yolo_multitask.engine.trackers import crop_padding

    found: dict[str, NDArray[Any]] = {}
    mask_width = 0
    if result.keypoints is not None:
        found["keypoints"] = np.asarray(result.keypoints.data, np.float32)
    if result.masks is not None:
        masks = crop_padding(np.asarray(result.masks.data) > 0.5, result.orig_shape)
        found["masks"], mask_width = np.packbits(masks, axis=-1), masks.shape[-1]
    if result.next_boxes is not None:
        found["next_boxes"] = np.asarray(result.next_boxes.xyxy, np.float32)
    return found, mask_width


def read_image(path: Path) -> Image:
    """Return an image (H, W, 3), BGR.

    Raises:
        ValueError: If it cannot be read.
    """
    image = cv2.imread(str(path))
    if image is None:
        raise ValueError(f"Image '{path}' cannot be read.")
    return np.asarray(image, np.uint8)
