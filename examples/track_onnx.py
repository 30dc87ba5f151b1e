"""Track a video or camera with an exported file, without torch: ids, masks and keypoints in a plain loop.

python examples/track_onnx.py best.onnx video.mp4
python examples/track_onnx.py best.onnx 0 --show
"""

from __future__ import annotations

import argparse
import time

import cv2
import numpy as np

from yolo_multitask.runtime import Detections, Session, draw


def describe(found: Detections, i: int) -> str:
    """Return what is known of one object."""
    x, y = (found.xyxy[i, :2] + found.xyxy[i, 2:]) / 2
    parts = [f"{found.names[int(found.cls[i])]} {found.ids[i]} at ({x:.0f}, {y:.0f})"]
    if found.masks is not None:
        parts.append(f"{np.count_nonzero(found.masks[i])} mask pixels")
    if found.keypoints is not None:
        parts.append(f"{np.count_nonzero(found.keypoints[i, :, -1] > 0.5)} keypoints")
    return ", ".join(parts)


def main() -> None:
    """Read frames, find objects in each, give them ids, print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="exported ONNX file")
    parser.add_argument("source", help="video, or number of a camera")
    parser.add_argument("--show", action="store_true", help="show the frames; q quits")
    args = parser.parse_args()

    session = Session(args.model)
    capture = cv2.VideoCapture(int(args.source) if args.source.isdecimal() else args.source)
    if not capture.isOpened():
        parser.error(f"expected a video or camera that OpenCV can read, found none: {args.source}")
    tracker = session.tracker(frame_rate=capture.get(cv2.CAP_PROP_FPS) or 30)
    while True:
        there, image = capture.read()
        if not there:
            break
        start = time.perf_counter()
        found = tracker.update(session.predict(image, conf=0.1))  # weak detections too: the tracker sorts them out
        print(f"{len(found)} objects in {(time.perf_counter() - start) * 1e3:.0f} ms")
        for i in range(len(found)):
            print("  " + describe(found, i))
        if args.show:
            cv2.imshow("track_onnx", draw(found))
            if cv2.waitKey(1) == ord("q"):
                break
    capture.release()


if __name__ == "__main__":
    main()
