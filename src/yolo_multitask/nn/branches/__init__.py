"""Branches: what the shared head adds for each task. No branch knows another."""

from yolo_multitask.nn.branches.base import Branch
from yolo_multitask.nn.branches.pose import PoseBranch, PoseBranch26
from yolo_multitask.nn.branches.segment import SegmentBranch, SegmentBranch26
from yolo_multitask.nn.branches.track import TrackBranch

BRANCHES: dict[str, type[Branch]] = {"segment": SegmentBranch, "pose": PoseBranch, "track": TrackBranch}
BRANCHES_26: dict[str, type[Branch]] = {**BRANCHES, "segment": SegmentBranch26, "pose": PoseBranch26}

__all__ = [
    "BRANCHES",
    "BRANCHES_26",
    "Branch",
    "PoseBranch",
    "PoseBranch26",
    "SegmentBranch",
    "SegmentBranch26",
    "TrackBranch",
]
