"""Losses: one assignment per step, one file a task, and their sum."""

from yolo_multitask.losses.multitask import MultiTaskLoss

__all__ = ["MultiTaskLoss"]
