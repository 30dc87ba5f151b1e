"""Checking a data set: what is wrong or doubtful in its YAML, pictures, labels, sequences and splits."""

from yolo_multitask.data.check.findings import KINDS, CheckReport, Finding
from yolo_multitask.data.check.run import check

__all__ = ["KINDS", "CheckReport", "Finding", "check"]
