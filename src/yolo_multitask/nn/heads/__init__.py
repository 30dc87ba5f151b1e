"""Heads: the layers that end a model YAML."""

from yolo_multitask.nn.heads.multitask import MultiTask, MultiTask26
from yolo_multitask.nn.heads.tracknet import TrackNet

__all__ = ["MultiTask", "MultiTask26", "TrackNet"]
