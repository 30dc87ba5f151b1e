"""Exported ONNX files without torch: images and videos in, boxes, masks, keypoints, embeddings and ids out.

Needs numpy, OpenCV, onnxruntime, lap and PyYAML alone. See `Session`.
"""

from .detections import Detections
from .draw import draw
from .frames import Frame, read_frames
from .session import Session
from .track import Tracker

__all__ = ["Detections", "Frame", "Session", "Tracker", "draw", "read_frames"]
