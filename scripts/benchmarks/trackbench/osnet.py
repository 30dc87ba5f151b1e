"""OSNet: the usual second network, run on the crop of every person.

The crop is the box alone and is normalised as in the network's training. The host's own `model: osnet.onnx` does
neither (it adds a margin of 10 pixels and does not normalise), and gives worse vectors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

SIZE = (128, 256)  # width, height of a crop in pixels
MEAN, STD = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], np.float32)  # of ImageNet, RGB


class OSNet:
    """A ReID network in onnxruntime, on the CPU."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        """Open the network at `path`, which takes (N, 3, 256, 128) and gives (N, E)."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name
        self.size = self.session.get_outputs()[0].shape[-1]

    def __call__(self, image: NDArray[np.uint8], boxes: NDArray[Any]) -> NDArray[np.float32]:
        """Return the L2-normalised vectors (N, E) of `boxes` (N, 4), x1 y1 x2 y2 in pixels of `image` (H, W, 3) BGR.

        A box is cut at the border of the image and rounded outwards to whole pixels.
        """
        if not len(boxes):
            return np.zeros((0, self.size), np.float32)
        crops = np.stack([_crop(image, box) for box in boxes])
        vectors = self.session.run(None, {self.input: crops})[0]
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def _crop(image: NDArray[np.uint8], box: NDArray[Any]) -> NDArray[np.float32]:
    height, width = image.shape[:2]
    x1, y1 = np.clip(np.floor(box[:2]).astype(int), 0, (width - 1, height - 1))
    x2, y2 = np.clip(np.ceil(box[2:]).astype(int), (x1 + 1, y1 + 1), (width, height))
    crop = cv2.resize(image[y1:y2, x1:x2], SIZE, interpolation=cv2.INTER_LINEAR)[..., ::-1]
    return ((crop.astype(np.float32) / 255 - MEAN) / STD).transpose(2, 0, 1)
