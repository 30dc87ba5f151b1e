"""Branches: what the shared head adds for each task. No branch knows another."""

from yolo_multitask.nn.branches.base import Branch
from yolo_multitask.nn.branches.pose import PoseBranch
from yolo_multitask.nn.branches.segment import SegmentBranch
from yolo_multitask.nn.branches.track import TrackBranch

BRANCHES: dict[str, type[Branch]] = {"segment": SegmentBranch, "pose": PoseBranch, "track": TrackBranch}

__all__ = ["BRANCHES", "Branch", "PoseBranch", "SegmentBranch", "TrackBranch"]
