"""Heads: the layers that end a model YAML."""

from yolo_multitask.nn.heads.multitask import MultiTask
from yolo_multitask.nn.heads.tracknet import TrackNet

__all__ = ["MultiTask", "TrackNet"]
