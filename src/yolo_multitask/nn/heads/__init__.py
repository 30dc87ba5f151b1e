"""Heads: the layers that end a model YAML."""

from yolo_multitask.nn.heads.multitask import MultiTask, MultiTask26

__all__ = ["MultiTask", "MultiTask26"]
