"""Print box, mask area and visible keypoints of every object in a picture or video.

python examples/predict.py best.pt video.mp4
"""

from __future__ import annotations

import sys

from yolo_multitask import MultiTaskYOLO


def main(weights: str, source: str) -> None:
    """Predict `source` frame by frame with the checkpoint `weights`."""
    for frame, result in enumerate(MultiTaskYOLO(weights).predict(source, stream=True, verbose=False)):
        for i, box in enumerate(result.boxes):
            parts = [f"frame {frame}: {result.names[int(box.cls)]} {float(box.conf):.2f}"]
            if result.masks is not None:
                parts.append(f"{int(result.masks.data[i].sum())} mask pixels")
            if result.keypoints is not None and result.keypoints.has_visible:
                parts.append(f"{int((result.keypoints.conf[i] > 0.5).sum())} keypoints")
            print(", ".join(parts))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("expected two arguments; usage: python examples/predict.py WEIGHTS SOURCE")
    main(*sys.argv[1:])
