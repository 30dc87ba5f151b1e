"""A ReID network teaches embeddings: it looks at the crop of each person that the other teachers see.

m instances, E embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from yolo_multitask.distill.lessons import Lesson
from yolo_multitask.distill.views import View

MEAN, STD = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], np.float32)  # of ImageNet, RGB
SMALLEST = 16  # pixels of a crop's shorter side, below which an embedding says little


class CropEmbedder:
    """A ReID network as an ONNX file, in onnxruntime.

    The crop is the box alone, normalised as is usual for such networks (torchreid, fast-reid).
    """

    def __init__(self, file: str | Path, threads: int = 1) -> None:
        """Open the file.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is no network that takes crops (N, 3, h, w) and gives (N, E).
        """
        import onnxruntime

        if not Path(file).is_file():
            raise FileNotFoundError(f"reid={file}: expected a ReID network as an ONNX file, found no such file.")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        try:
            self.session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has an exception class for each reason, without a common one
            raise ValueError(f"reid={file}: expected a ReID network as an ONNX file, found none: {error}") from error
        given, gives = self.session.get_inputs()[0], self.session.get_outputs()[0]
        if len(given.shape) != 4 or len(gives.shape) != 2 or not all(isinstance(s, int) for s in given.shape[2:]):
            raise ValueError(
                f"reid={file}: expected a network from crops (N, 3, h, w) to vectors (N, E), found {given.shape} to "
                f"{gives.shape}."
            )
        self.name, self.size = given.name, (int(given.shape[3]), int(given.shape[2]))
        self.batch = given.shape[0] if isinstance(given.shape[0], int) else None

    def __call__(self, picture: NDArray[np.uint8], boxes_m4: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return L2-normalised embeddings (m, E) of boxes x1 y1 x2 y2 in pixels of a picture (H, W, 3) BGR."""
        crops = np.stack([self._crop(picture, box) for box in boxes_m4])
        step = self.batch or len(crops)
        vectors = np.concatenate([self._run(crops[i : i + step], step) for i in range(0, len(crops), step)])
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-9), np.float32)

    def _run(self, crops: NDArray[np.float32], step: int) -> NDArray[np.float32]:
        filled = np.concatenate((crops, np.repeat(crops[:1], step - len(crops), 0)))
        return np.asarray(self.session.run(None, {self.name: filled})[0])[: len(crops)]

    def _crop(self, picture: NDArray[np.uint8], box: NDArray[np.float32]) -> NDArray[np.float32]:
        height, width = picture.shape[:2]
        x1, y1 = np.clip(np.floor(box[:2]).astype(int), 0, (width - 1, height - 1))
        x2, y2 = np.clip(np.ceil(box[2:]).astype(int), (x1 + 1, y1 + 1), (width, height))
        crop = cv2.resize(picture[y1:y2, x1:x2], self.size, interpolation=cv2.INTER_LINEAR)[..., ::-1]
        return ((crop.astype(np.float32) / 255 - MEAN) / STD).transpose(2, 0, 1)


def attach_embeddings(
    lesson: Lesson, embedder: CropEmbedder, picture: NDArray[np.uint8], view: View, classes: Sequence[int]
) -> None:
    """Add embeddings to a lesson's instances of some classes, from the picture itself and not from its view.

    Args:
        lesson: Of a view, changed in place.
        embedder: The ReID network.
        picture: (H, W, 3) BGR.
        view: Where the picture is in the network input.
        classes: Classes that it knows; none for all.
    """
    boxes = view.back(lesson.instance_boxes)
    limits = np.array([picture.shape[1], picture.shape[0]] * 2, np.float32)
    sides = (boxes.clip(0, limits)[:, 2:] - boxes.clip(0, limits)[:, :2]).min(1, initial=np.inf)
    chosen = sides >= SMALLEST
    if classes:
        chosen &= np.isin(lesson.instance_class, list(classes))
    found = embedder(picture, boxes[chosen]) if chosen.any() else np.zeros((0, 1), np.float32)
    lesson.embeddings = np.full((len(boxes), found.shape[1]), np.nan, np.float16)
    lesson.embeddings[chosen] = found
