"""`Results` of one image: the host's class with an embedding per detection and this package's label grammar.

N detections, K keypoints of D values, E embedding values, M polygon vertices, T past frames.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ultralytics.engine.results import BaseTensor
from ultralytics.engine.results import Results as HostResults
from ultralytics.utils.plotting import colors

from yolo_multitask import host
from yolo_multitask.data.labels import Instance, LabelSpec, format_line
from yolo_multitask.engine.draw import draw_trails
from yolo_multitask.interop import Interop

_SMALLEST_SIDE = 1e-6  # normalised side written for a box that was clipped to nothing; a label needs one above 0


class Embeddings(BaseTensor):
    """Appearance vectors of the detections of one image, (N, E), L2-normalised as the head gives them.

    Supports indexing, `cpu`, `numpy`, `cuda` and `to` as the host's containers do.
    """

    def __init__(self, data: Any, orig_shape: tuple[int, int]) -> None:
        """Hold `data`, (N, E) or the (E,) of one detection, of an image of height and width `orig_shape`."""
        super().__init__(data if data.ndim > 1 else data[None], orig_shape)

    def similarity(self, other: Embeddings) -> Any:
        """Return the cosine similarities (N, N') to `other`, in -1..1 for normalised vectors."""
        return self.data @ other.data.T


class NextBoxes(BaseTensor):
    """Where the objects of one image are expected in the next frame, (N, 4), not clipped to the image."""

    def __init__(self, data: Any, orig_shape: tuple[int, int]) -> None:
        """Hold `data`, (N, 4) or the (4,) of one detection, of an image of height and width `orig_shape`."""
        super().__init__(data if data.ndim > 1 else data[None], orig_shape)

    @property
    def xyxy(self) -> Any:
        """The boxes (N, 4), x1 y1 x2 y2 in original pixels."""
        return self.data


class Trails(BaseTensor):
    """Where the objects of one image have been, (N, T, 2)."""

    def __init__(self, data: Any, orig_shape: tuple[int, int]) -> None:
        """Hold `data`, (N, T, 2) or the (T, 2) of one object, of an image of height and width `orig_shape`."""
        super().__init__(data if data.ndim > 2 else data[None], orig_shape)

    @property
    def xy(self) -> Any:
        """The points (N, T, 2) in original pixels from old to new; NaN where an object was not seen."""
        return self.data


class TrackedResults(Interop, HostResults):
    """The host's results with the trail of each object, which `plot` draws.

    Attributes:
        trails: `Trails` (N, T, 2), or None where nothing is tracked.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Build the result; all arguments are the host's."""
        super().__init__(*args, **kwargs)
        host.add_result_field(self, "trails")
        self.trails: Trails | None = None

    @classmethod
    def of(cls, result: HostResults) -> TrackedResults:
        """Return `result` as a `TrackedResults`: itself if it is one, else a copy that shares its fields."""
        if isinstance(result, cls):
            return result
        copy = cls(orig_img=result.orig_img, path=result.path, names=result.names, speed=result.speed)
        host.copy_result_fields(result, copy)
        copy.save_dir = result.save_dir
        return copy

    def update(self, *args: Any, trails: Any = None, **kwargs: Any) -> None:
        """Replace fields that are given; all arguments but `trails` (N, T, 2) are the host's."""
        super().update(*args, **kwargs)
        if trails is not None:
            self.trails = Trails(trails, self.orig_shape)

    def new(self) -> Any:
        """Return a result of the same image without detections."""
        result = type(self)(orig_img=self.orig_img, path=self.path, names=self.names, speed=self.speed)
        result.save_dir = self.save_dir
        return result

    def plot(self, *args: Any, **kwargs: Any) -> Any:
        """Draw the result as the host does; tracked objects have the colour of their id, and a trail in it.

        Args:
            *args: The host's arguments.
            **kwargs: The host's arguments; with `color_mode="class"` boxes, masks and trails have the colour of their
                class.
        """
        given = inspect.signature(super().plot).bind(*args, **kwargs).arguments
        if isinstance(given.get("img"), torch.Tensor):
            given["img"] = given["img"].cpu().numpy()
        boxes = self.boxes if self.obb is None else self.obb
        if boxes is None or not boxes.is_track:
            return super().plot(**given)
        mode = given.setdefault("color_mode", "instance")
        if self.trails is not None and len(self.trails):
            keys = boxes.id if mode == "instance" else boxes.cls
            image = np.array(given["img"] if given.get("img") is not None else self.orig_img, order="C")
            if image.shape[2] == 1:
                image = np.repeat(image, 3, axis=2)
            draw_trails(image, self.trails.cpu().numpy().xy, [colors(k, True) for k in keys], given.get("line_width"))
            given["img"] = image
        return super().plot(**given)


class Results(TrackedResults):
    """Boxes, masks, keypoints, embeddings and next boxes of one image, index-aligned; each may be None.

    Everything else is the host's: plotting, tables, indexing. Indexing and device moves apply to all fields at once.

    Attributes:
        embeddings: `Embeddings` (N, E), or None where the model has no embedding branch.
        next_boxes: `NextBoxes` (N, 4), or None where the model does not predict the next frame.
    """

    def __init__(self, *args: Any, embeddings: Any = None, next_boxes: Any = None, **kwargs: Any) -> None:
        """Build the result; all arguments but `embeddings` (N, E) and `next_boxes` (N, 4) are the host's.

        Raises:
            ValueError: If the fields differ in length.
        """
        super().__init__(*args, **kwargs)
        for name in ("embeddings", "next_boxes"):
            host.add_result_field(self, name)
        self.embeddings = None if embeddings is None else Embeddings(embeddings, self.orig_shape)
        self.next_boxes = None if next_boxes is None else NextBoxes(next_boxes, self.orig_shape)
        self._check_lengths()

    def update(self, *args: Any, embeddings: Any = None, next_boxes: Any = None, **kwargs: Any) -> None:
        """Replace fields that are given; see `TrackedResults.update` for all but `embeddings` and `next_boxes`.

        Raises:
            ValueError: If the fields differ in length afterwards.
        """
        super().update(*args, **kwargs)
        if embeddings is not None:
            self.embeddings = Embeddings(embeddings, self.orig_shape)
        if next_boxes is not None:
            self.next_boxes = NextBoxes(next_boxes, self.orig_shape)
        self._check_lengths()

    def save_txt(self, txt_file: str | Path, save_conf: bool = False) -> str:
        """Append one label line per detection, in the grammar of `yolo_multitask.data.labels`.

        A mask without a contour of three points is written as `-`, as are keypoints that are all zero (a class that has
        none); no detection is left out. A keypoint's visibility is its confidence. Without detections nothing is
        written.

        Args:
            txt_file: The file; its folder is made.
            save_conf: Whether to add `@conf`.

        Returns:
            The path as a string.
        """
        if self.boxes is None:
            return str(super().save_txt(txt_file, save_conf=save_conf))
        text = "".join(f"{line}\n" for line in self.label_lines(save_conf))
        if text:
            Path(txt_file).parent.mkdir(parents=True, exist_ok=True)
            with open(txt_file, "a", encoding="utf-8", newline="\n") as file:
                file.write(text)
        return str(txt_file)

    def label_lines(self, save_conf: bool = False) -> list[str]:
        """Return the N label lines that `save_txt` writes."""
        found = self.numpy()
        boxes = found.boxes
        keypoints = _visible_keypoints(found.keypoints)
        polygons: Sequence[NDArray[np.float32]] | None = None if found.masks is None else found.masks.xyn
        spec = LabelSpec(
            nc=len(self.names),
            kpt_shape=None if keypoints is None else tuple(found.keypoints.shape[1:]),  # type: ignore[arg-type]
            polygons=polygons is not None,
            ids=bool(boxes.is_track),
        )
        sides = np.asarray(boxes.xywhn, np.float32).clip(0, 1)
        sides[:, 2:] = sides[:, 2:].clip(_SMALLEST_SIDE)
        lines = []
        for i in range(len(boxes)):
            polygon = None if polygons is None or len(polygons[i]) < 3 else np.asarray(polygons[i], np.float32)
            instance = Instance(
                cls=int(boxes.cls[i]),
                box=sides[i],
                keypoints=keypoints[i] if keypoints is not None and keypoints[i].any() else None,
                polygon=None if polygon is None else polygon.clip(0, 1),
                id=int(boxes.id[i]) if boxes.is_track else -1,
                conf=float(boxes.conf[i]) if save_conf else float("nan"),
            )
            lines.append(format_line(instance, spec))
        return lines

    def _check_lengths(self) -> None:
        names = ("boxes", "masks", "keypoints", "embeddings", "next_boxes", "trails")
        fields = {k: getattr(self, k) for k in names}
        lengths = {k: len(v) for k, v in fields.items() if v is not None}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"Results: expected one entry per detection in every field, found {lengths}.")


def _visible_keypoints(keypoints: Any) -> NDArray[np.float32] | None:
    """Return normalised x, y and visibility (N, K, 3) in 0..1, or None; without visibility in the data it is 1."""
    if keypoints is None:
        return None
    xy = np.asarray(keypoints.xyn, np.float32)
    visible = keypoints.conf if keypoints.has_visible else np.ones(xy.shape[:2], np.float32)
    return np.concatenate((xy, np.asarray(visible, np.float32)[..., None]), 2).clip(0, 1)
