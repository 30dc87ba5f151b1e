"""Trackers by the name of their YAML: the six of Ultralytics behind one adapter, and this package's `multicue`.

N detections, M tracks of a frame, E embedding values, h w the size of the masks, H W the original image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ultralytics.utils import LOGGER, ROOT, YAML, IterableSimpleNamespace
from ultralytics.utils.checks import check_yaml

from yolo_multitask import host
from yolo_multitask.configs import resolve_yaml
from yolo_multitask.tracking import MultiCueTracker, load_config

DEFAULT_TRACKER = "multicue.yaml"
_ID = -4  # column of the id in a tracker's row: box (4, or 5 with an angle), id, score, class, index


class HostTracker:
    """A tracker of Ultralytics, whose ids count the objects that it shows.

    The host also numbers tracks that it never shows. Here ids run from 1 in the order in which objects appear, without
    gaps; each object of this class counts for itself.

    Attributes:
        tracker: The host's tracker.
    """

    def __init__(self, tracker: Any) -> None:
        """Wrap `tracker`."""
        self.tracker = tracker
        self._shown: dict[int, int] = {}

    def update(self, det: Any, img: Any = None, feats: Any = None, **extras: Any) -> NDArray[np.float32]:
        """Track one frame.

        Args:
            det: Its detections, the host's `Boxes` or `OBB` in numpy.
            img: The image (H, W, 3) BGR.
            feats: Appearance (N, E) for trackers with `model: auto`.
            **extras: What only one tracker takes.

        Returns:
            (M, 8) x1 y1 x2 y2 id score class index, or (M, 9) with x y w h angle for the box; pixels.
        """
        rows = np.asarray(self.tracker.update(det, img, feats=feats, **extras), np.float32)
        if not len(rows):
            return np.zeros((0, 8), np.float32)
        rows[:, _ID] = [self._shown.setdefault(int(i), len(self._shown) + 1) for i in rows[:, _ID]]
        return rows

    def reset(self) -> None:
        """Forget everything; ids start at 1 again."""
        self.tracker.reset()
        self._shown = {}


class TrackerFactory:
    """Makes the trackers of a run, and says what they are to be fed with.

    Attributes:
        kind: `tracker_type` of the YAML.
        appearance: Whether a host tracker takes what `update` calls `feats`.
        config: A `TrackerConfig` of `multicue`, or the namespace that a host tracker takes.
    """

    def __init__(
        self, name: str | Path, *, model: str | Path, device: Any, embedded: bool, keypoint_sigmas: Any = None
    ) -> None:
        """Read the YAML of a tracker.

        Args:
            name: A file, or the name of a YAML of this package or of Ultralytics.
            model: Name of the model, for messages.
            device: That of the model.
            embedded: Whether its results have embeddings. Then Ultralytics' own YAMLs run with `with_reid: True` and
                `model: auto`; a YAML of the user's stands as it is written.
            keypoint_sigmas: Spread of each of the model's K keypoints, None for the default.

        Raises:
            ValueError: If there is no such tracker.
        """
        self._path, values = read_tracker(name)
        self._model, self._embedded, self._keypoint_sigmas = model, embedded, keypoint_sigmas
        self.kind: str = values["tracker_type"]
        self.appearance = False
        self.config: Any = None
        if self.kind == "multicue":
            self.config = load_config(self._path)
            return
        if embedded and "with_reid" in values and self._path.resolve() == _shipped(self.kind):
            values |= {"with_reid": True, "model": "auto"}
        self.appearance = bool(values.get("with_reid")) and values.get("model", "auto") == "auto"
        self.config = IterableSimpleNamespace(**{**values, "device": device})

    def attach(self, predictor: Any) -> None:
        """Let a predictor, with its model and source set up, collect what the tracker takes.

        Raises:
            ValueError: If the tracker cannot track this model's boxes, or asks for the features of a detector that
                gives none.
        """
        host.collect_features(predictor, False)
        host.restore_postprocess(predictor)
        if self.kind == "multicue":
            if predictor.args.task == "obb":
                raise ValueError(
                    f"tracker={self._path.name} tracks upright boxes, but '{self._model}' is an obb model; "
                    "use one of Ultralytics' trackers, such as tracker=botsort.yaml."
                )
            return
        if self.appearance and not self._embedded and not host.collect_features(predictor, True):
            raise ValueError(
                f"{self._path.name}: 'with_reid: True' with 'model: auto' takes the appearance from the detector, but "
                f"'{self._model}' gives none (it is exported, end-to-end, or of another architecture). Use a "
                "multitask model with the track task, name a ReID network under 'model:', or set 'with_reid: False'."
            )
        self._recover(predictor)

    def _recover(self, predictor: Any) -> None:
        """Let TrackTrack recover boxes that the NMS dropped, where a result is boxes alone."""
        tracker = host.tracker_classes()[self.kind]
        if not hasattr(tracker, "setup_predictor"):
            return
        if predictor.args.task in {"detect", "obb"}:
            tracker.setup_predictor(predictor)
        else:
            LOGGER.info(
                f"{self._path.name}: boxes that the NMS dropped are not recovered, as they have no mask, keypoints or "
                "embedding."
            )

    def start(self, frame_rate: float, last: Any = None) -> Any:
        """Return a tracker without objects for a new source.

        Args:
            frame_rate: Its frames per second.
            last: The tracker of the source before it; used again where it does not depend on the frame rate.
        """
        if self.kind == "multicue":
            return MultiCueTracker(self.config, frame_rate=frame_rate, keypoint_sigmas=self._keypoint_sigmas)
        if last is None:
            return HostTracker(host.tracker_classes()[self.kind](args=self.config))
        last.reset()
        return last

    def frame_inputs(self, results: Sequence[Any], predictor: Any = None) -> list[dict[str, Any]]:
        """Return what `update` takes beyond the detections and the image, for each result of a batch.

        Args:
            results: The results.
            predictor: The predictor that made them and is attached, if there is one.
        """
        if self.kind == "multicue":
            return [_cues(result, self.config.weights) for result in results]
        inputs = [{"feats": _appearance(result) if self.appearance else None} for result in results]
        recover = getattr(host.tracker_classes()[self.kind], "compute_frame_extras", None)
        if recover is not None and predictor is not None:
            for given, dropped in zip(inputs, recover(predictor) or (), strict=False):
                given["dets_del"] = dropped
        return inputs


def read_tracker(name: str | Path) -> tuple[Path, dict[str, Any]]:
    """Return the path and the values of a tracker's YAML; what it leaves out is as in Ultralytics' YAML of that type.

    Args:
        name: A file, or the name of a YAML of this package or of Ultralytics; the suffix may be missing.

    Raises:
        ValueError: If there is no such file, or it is none of a tracker.
    """
    text = str(name) if Path(name).suffix else f"{name}.yaml"
    names = [f"{kind}.yaml" for kind in host.tracker_classes()]
    if Path(text).suffix not in {".yaml", ".yml"}:
        raise ValueError(f"tracker={name}: expected the YAML of a tracker, one of {', '.join(names)} or a file.")
    found = resolve_yaml(text, "trackers") or check_yaml(text, hard=False)
    if not found:
        near = get_close_matches(Path(text).name, names, 1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ValueError(f"tracker={name}: expected a file or one of {', '.join(names)}, found neither.{hint}")
    path = Path(found)
    values = YAML.load(path)
    kind = values.get("tracker_type")
    if not isinstance(kind, str) or kind not in host.tracker_classes():
        raise ValueError(
            f"{path}: expected 'tracker_type', one of {', '.join(host.tracker_classes())}, found {kind!r}."
        )
    shipped = _shipped(kind)
    return path, values if shipped is None else {**YAML.load(shipped), **values}


def _shipped(kind: str) -> Path | None:
    """Return Ultralytics' own YAML of a tracker type, not one of that name in the working folder; None for ours."""
    return None if kind == "multicue" else ROOT / "cfg" / "trackers" / f"{kind}.yaml"


def _cues(result: Any, weights: Mapping[str, float]) -> dict[str, Any]:
    """Return the cues of N detections that `MultiCueTracker.update` takes, in pixels of the original image.

    Masks are large, so they are left out where they have no weight, and stay in the resolution of the network.
    """
    fields = {
        "feats": getattr(result, "embeddings", None),
        "keypoints": result.keypoints,
        "next_boxes": getattr(result, "next_boxes", None),
    }
    cues = {k: None if v is None else np.asarray(v.numpy().data, np.float32) for k, v in fields.items()}
    if result.masks is not None and weights["mask"] > 0:
        cues["masks"] = crop_padding(result.masks.numpy().data, result.orig_shape)
    return cues


def _appearance(result: Any) -> Any:
    """Return the learned embeddings (N, E), else the host's features under each detection; None where it has none."""
    embeddings = getattr(result, "embeddings", None)
    if embeddings is not None:
        return np.asarray(embeddings.numpy().data, np.float32)
    return getattr(result, "feats", None)


def crop_padding(masks: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """Cut the letterbox padding off masks.

    Args:
        masks: (N, h, w) of the network input, or of the original image.
        shape: Height and width (H, W) of the original image.

    Returns:
        A view (N, h', w') that covers the original image, in the resolution of the network input.
    """
    h, w = masks.shape[1:]
    gain = min(h / shape[0], w / shape[1])
    height, width = (max(round(side * gain), 1) for side in shape)
    top, left = round((h - height) / 2 - 0.1), round((w - width) / 2 - 0.1)  # as the host's letterbox rounds
    return masks[:, top : top + height, left : left + width]
