"""Heads: the layers that end a model YAML."""

from yolo_multitask.nn.heads.multitask import MultiTask

__all__ = ["MultiTask"]
