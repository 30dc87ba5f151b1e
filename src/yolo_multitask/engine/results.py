"""`Results` of one image: the host's class with an embedding or an exact position per detection, and our label grammar.

N detections, K keypoints of D values, E embedding values, M polygon vertices, T past frames.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ultralytics.engine.results import Results as HostResults
from ultralytics.utils.plotting import colors

from yolo_multitask import host
from yolo_multitask.data.labels import Instance, LabelSpec, format_line
from yolo_multitask.engine.containers import Embeddings, NextBoxes, Points, Trails
from yolo_multitask.engine.draw import draw_points, draw_trails
from yolo_multitask.interop import Interop
from yolo_multitask.interop.table import point_cell

__all__ = ["Embeddings", "NextBoxes", "Points", "Results", "TrackedResults", "Trails"]

_SMALLEST_SIDE = 1e-6  # normalised side written for a box that was clipped to nothing; a label needs one above 0
_OWN_FIELDS: dict[str, type] = {"embeddings": Embeddings, "next_boxes": NextBoxes, "points": Points}


class TrackedResults(Interop, HostResults):
    """The host's results with the trail of each object, which `plot` draws.

    Attributes:
        trails: `Trails` (N, T, 2) or (N, T, 3), or None where nothing is tracked.
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
        """Replace fields that are given; all arguments but `trails` (see `Trails`) are the host's."""
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
            image = _canvas(given.get("img") if given.get("img") is not None else self.orig_img)
            trails = self.trails.cpu().numpy()
            shades = [colors(k, True) for k in keys]
            draw_trails(image, trails.xy, shades, given.get("line_width"), trails.interpolated)
            given["img"] = image
        return super().plot(**given)


class Results(TrackedResults):
    """Boxes, masks, keypoints, embeddings, next boxes and points of one image, index-aligned; each may be None.

    Everything else is the host's: plotting, tables, indexing. Indexing and device moves apply to all fields at once.

    Attributes:
        embeddings: `Embeddings` (N, E), or None where the model has no embedding branch.
        next_boxes: `NextBoxes` (N, 4), or None where the model does not predict the next frame.
        points: `Points` (N, 3) of small objects, or None where the model does not follow any.
    """

    def __init__(
        self, *args: Any, embeddings: Any = None, next_boxes: Any = None, points: Any = None, **kwargs: Any
    ) -> None:
        """Build the result; all arguments but `embeddings` (N, E), `next_boxes` (N, 4), `points` (N, 3) are the host's.

        Raises:
            ValueError: If the fields differ in length.
        """
        super().__init__(*args, **kwargs)
        for name in _OWN_FIELDS:
            host.add_result_field(self, name)
            setattr(self, name, None)
        self._hold(embeddings=embeddings, next_boxes=next_boxes, points=points)

    def update(
        self, *args: Any, embeddings: Any = None, next_boxes: Any = None, points: Any = None, **kwargs: Any
    ) -> None:
        """Replace fields that are given; see `TrackedResults.update` for all but the three of this class.

        Raises:
            ValueError: If the fields differ in length afterwards.
        """
        super().update(*args, **kwargs)
        self._hold(embeddings=embeddings, next_boxes=next_boxes, points=points)

    def _hold(self, **fields: Any) -> None:
        for name, data in fields.items():
            if data is not None:
                setattr(self, name, _OWN_FIELDS[name](data, self.orig_shape))
        self._check_lengths()

    def plot(self, *args: Any, **kwargs: Any) -> Any:
        """Draw the result as `TrackedResults.plot`; small objects as rings where they are, dashed if interpolated.

        Args:
            *args: The host's arguments.
            **kwargs: The host's arguments; `boxes`, `labels` and `conf` apply to rings as to boxes.
        """
        if self.points is None or not self.points.known.any():
            return super().plot(*args, **kwargs)
        known = np.flatnonzero(self.points.cpu().numpy().known)
        given = inspect.signature(super(TrackedResults, self).plot).bind(*args, **kwargs).arguments
        last = {key: given.pop(key) for key in ("pil", "show", "save", "filename") if key in given}
        others = self[np.setdiff1d(np.arange(len(self)), known)]
        image = _canvas(TrackedResults.plot(others, **given))
        self[known]._draw_objects(image, given)
        return TrackedResults.plot(self[:0], img=image, **last)

    def _draw_objects(self, image: NDArray[np.uint8], given: Mapping[str, Any]) -> None:
        """Draw small objects into an image; `given` are the arguments of `plot`."""
        boxes, points = self.boxes.cpu().numpy(), self.points.cpu().numpy()
        instance = given.get("color_mode", "instance" if boxes.is_track else "class") == "instance"
        keys = boxes.cls if not instance else boxes.id if boxes.is_track else range(len(boxes))
        shades, width = [colors(key, True) for key in keys], given.get("line_width")
        if self.trails is not None and len(self.trails):
            trails = self.trails.cpu().numpy()
            draw_trails(image, trails.xy, shades, width, trails.interpolated)
        if given.get("boxes", True):
            texts = [self._label(box, given.get("labels", True), given.get("conf", True)) for box in boxes]
            draw_points(image, points.xy, shades, points.interpolated, texts, width)

    def _label(self, box: Any, labels: bool, conf: bool) -> str:
        """Return what the host writes beside the box of one detection."""
        score = f"{box.conf.item():.2f}" if conf else ""
        name = (f"id:{int(box.id.item())} " if box.is_track else "") + self.names[int(box.cls.item())] if labels else ""
        return " ".join(part for part in (name, score) if part)

    def summary(self, normalize: bool = False, decimals: int = 5) -> list[dict[str, Any]]:
        """Return the host's summary, with `point` (x, y, interpolated; None for others) where there are `points`."""
        rows: list[dict[str, Any]] = super().summary(normalize, decimals)
        if self.points is None:
            return rows
        sides = np.array(self.orig_shape[::-1] if normalize else (1, 1), np.float32)
        for row, point in zip(rows, self.points.cpu().numpy().data, strict=True):
            row["point"] = point_cell(point, sides, decimals)
        return rows

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
        sides = np.array(boxes.xywhn, np.float32)
        if found.points is not None:  # the box of an object at the border may be cut off, and not centred on it
            known = found.points.known
            sides[known, :2] = found.points.xy[known] / self.orig_shape[::-1]
        sides = sides.clip(0, 1)
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
        names = ("boxes", "masks", "keypoints", *_OWN_FIELDS, "trails")
        fields = {k: getattr(self, k) for k in names}
        lengths = {k: len(v) for k, v in fields.items() if v is not None}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"Results: expected one entry per detection in every field, found {lengths}.")


def _canvas(image: Any) -> NDArray[np.uint8]:
    """Return a copy of an image (H, W, C) to draw on, with three channels where it had one."""
    copy = np.array(image, order="C")
    return np.repeat(copy, 3, axis=2) if copy.shape[2] == 1 else copy


def _visible_keypoints(keypoints: Any) -> NDArray[np.float32] | None:
    """Return normalised x, y and visibility (N, K, 3) in 0..1, or None; without visibility in the data it is 1."""
    if keypoints is None:
        return None
    xy = np.asarray(keypoints.xyn, np.float32)
    visible = keypoints.conf if keypoints.has_visible else np.ones(xy.shape[:2], np.float32)
    return np.concatenate((xy, np.asarray(visible, np.float32)[..., None]), 2).clip(0, 1)
