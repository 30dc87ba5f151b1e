"""A made-up scene of objects that move, put in the place of what a network detects.

The network runs, but its detections are replaced where the host does its NMS. So a test knows which object each row of
a result is of: by its embedding, its keypoints and its class.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from ultralytics.models.yolo.detect import predict as host_predict

from yolo_multitask.tasks import RowLayout

SIZE, FRAMES = 64, 8
STEPS = ((2.5, 0.0), (-2.5, 0.0), (0.0, 1.0))  # of each object, pixels a frame
STARTS = ((8.0, 4.0), (50.0, 26.0), (12.0, 30.0))  # top left corners
BOX = (10.0, 14.0)  # width and height
N = len(STEPS)
LOOSE_IOU = 0.95  # of the host's second NMS for TrackTrack


def boxes(frame: int) -> np.ndarray:
    """Return the boxes (N, 4) x1 y1 x2 y2 of all objects in a frame, from 0."""
    corner = np.array(STARTS) + frame * np.array(STEPS)
    return np.concatenate((corner, corner + BOX), 1).astype(np.float32)


def order(frame: int) -> list[int]:
    """Return which object stands in which row of a frame; it changes from frame to frame."""
    return [(i + frame) % N for i in range(N)]


def rows(frame: int, layout: RowLayout | None = None, kpt_shape: tuple[int, int] = (5, 3)) -> torch.Tensor:
    """Return rows after the NMS; an object's embedding is a unit vector and its keypoints stand at its centre.

    Without a layout, rows of a stock detector.
    """
    objects = order(frame)
    xyxy = torch.as_tensor(boxes(frame)[objects])
    out = torch.zeros(N, 6 + (layout.extra if layout else 0))
    out[:, :4] = xyxy
    out[:, 4] = torch.tensor([0.95 - 0.01 * i for i in objects])
    if layout is None:
        return out
    if layout.nk:
        points = torch.zeros(N, *kpt_shape)
        points[..., :2] = (xyxy[:, None, :2] + xyxy[:, None, 2:]) / 2
        points[..., 2] = torch.tensor(objects)[:, None] / 10 + 0.5
        out[:, layout.kpt] = points.flatten(1)
    if layout.nm:
        out[:, layout.mask] = torch.randn(N, layout.nm, generator=torch.Generator().manual_seed(frame))
    if layout.ne:
        out[:, layout.embed] = torch.eye(layout.ne)[objects]
    if layout.nb:
        out[:, layout.next] = torch.as_tensor(boxes(frame + 1)[objects])
    return out


class Scene:
    """Replaces the NMS; every call is the next frame, of each image of the batch the same.

    Attributes:
        frame: Number of the next frame, from 0.
        batch_is_time: Whether the images of a batch follow each other.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, layout: RowLayout | None, **kwargs: Any) -> None:
        """Put the scene in place for the rest of the test."""
        self.layout, self.kwargs, self.frame, self.batch_is_time = layout, kwargs, 0, False
        monkeypatch.setattr(host_predict.nms, "non_max_suppression", self)
        for module in ("predictor", "validator"):  # whole rows pass the NMS in dense passes alone
            monkeypatch.setattr(f"yolo_multitask.engine.{module}.is_lazy", lambda *_: False)

    def __call__(
        self, preds: Any, conf: float = 0.25, iou: float | None = None, *_: Any, return_idxs: bool = False, **__: Any
    ) -> Any:
        """Return the rows of each image, and anchors where features are asked for.

        TrackTrack asks again with a high `iou`; nothing more is found then. Exported models warm up without one.
        """
        preds = preds[0] if isinstance(preds, (list, tuple)) else preds
        if iou is None:
            return []
        if iou == LOOSE_IOU:
            return [rows(self.frame - 1, self.layout, **self.kwargs)] * len(preds)
        out = []
        for _ in range(len(preds)):
            out.append(rows(self.frame, self.layout, **self.kwargs))
            self.frame += self.batch_is_time
        self.frame += not self.batch_is_time
        return (out, [torch.arange(N) + 5 * i for i in range(len(out))]) if return_idxs else out


def picture(frame: int) -> np.ndarray:
    """Return a picture (H, W, 3) of the scene."""
    image = np.full((SIZE, SIZE, 3), 90, np.uint8)
    image[::8] = 120
    for i, box in enumerate(boxes(frame).round().astype(int)):
        cv2.rectangle(image, tuple(box[:2].tolist()), tuple(box[2:].tolist()), (40 + 70 * i, 200, 255 - 70 * i), -1)
    return image


def write_video(path: Path, frames: int = FRAMES, fps: float = 10) -> Path:
    """Write the scene as a video."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (SIZE, SIZE))
    for frame in range(frames):
        writer.write(picture(frame))
    writer.release()
    return path


def write_frames(folder: Path, frames: int = FRAMES) -> Path:
    """Write the scene as a folder of images."""
    folder.mkdir(parents=True)
    for frame in range(frames):
        cv2.imwrite(str(folder / f"{frame + 1:06d}.png"), picture(frame))
    return folder


def objects_of(result: Any) -> list[int]:
    """Return which object each row of a result is of, by its embedding."""
    return result.embeddings.data.argmax(1).tolist()
