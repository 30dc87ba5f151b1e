"""What a merge did, in numbers. Every line of both sets is counted."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from yolo_multitask.data.convert.table import count_table
from yolo_multitask.data.convert.values import shortened
from yolo_multitask.data.labels import Instance
from yolo_multitask.data.merge_match import Doubt

REPORT, SHEET = "merge-report.txt", "merge-doubtful.png"  # files beside data.yaml
NEVER_LEFT_OUT = ("images", "lines", "  of both sets", "  of the keypoint set alone", "  of the segmentation set alone")


@dataclass(frozen=True, kw_only=True)
class DoubtfulPair:
    """Two instances that were paired or not, but only just.

    Attributes:
        name: ``<split>/<image>``.
        image: The image file.
        class_name: Of both.
        pose: Of the keypoint set.
        mask: Of the segmentation set.
        doubt: What is doubtful.
    """

    name: str
    image: Path
    class_name: str
    pose: Instance
    mask: Instance
    doubt: Doubt

    def __str__(self) -> str:
        """Return one line: image, class, IoU and reason."""
        return f"{self.name}: {self.class_name}, IoU {self.doubt.iou:.3f}, {self.doubt.reason}"


@dataclass(kw_only=True)
class MergeCounts:
    """Counts of one split.

    The keypoint set had ``paired + poses_alone + pose_repeats`` lines, the segmentation set ``paired + masks_alone +
    mask_repeats``.

    Attributes:
        images_both: Images in both sets.
        images_poses: Images in the keypoint set alone.
        images_masks: Images in the segmentation set alone.
        poses_alone: Lines of the keypoint set without partner, written with polygon ``-``.
        masks_alone: Lines of the segmentation set without partner, written with keypoints ``-``.
        ignored: Ignore regions among the lines written.
        pose_repeats: Lines of the keypoint set left out because they repeat another of their file.
        mask_repeats: The same of the segmentation set.
        ious: IoU of each pair.
        doubtful: Pairs that were made or not made, but only just.
    """

    images_both: int = 0
    images_poses: int = 0
    images_masks: int = 0
    poses_alone: int = 0
    masks_alone: int = 0
    ignored: int = 0
    pose_repeats: int = 0
    mask_repeats: int = 0
    ious: list[float] = field(default_factory=list)
    doubtful: list[DoubtfulPair] = field(default_factory=list)

    @property
    def paired(self) -> int:
        """Lines written that are of both sets."""
        return len(self.ious)

    def rows(self) -> dict[str, int]:
        """Return the counts by title."""
        return {
            "images": self.images_both + self.images_poses + self.images_masks,
            "  in the keypoint set alone": self.images_poses,
            "  in the segmentation set alone": self.images_masks,
            "lines": self.paired + self.poses_alone + self.masks_alone,
            "  of both sets": self.paired,
            "  of the keypoint set alone": self.poses_alone,
            "  of the segmentation set alone": self.masks_alone,
            "ignore regions among them": self.ignored,
            "doubtful pairs": len(self.doubtful),
            "left out: repeats a line of the keypoint set": self.pose_repeats,
            "left out: repeats a line of the segmentation set": self.mask_repeats,
        }


@dataclass(kw_only=True)
class MergeReport:
    """What `merge` wrote.

    Attributes:
        out: Folder of the data set.
        yaml: Its data YAML.
        names: Class names in order.
        splits: Counts by split.
        remarks: What to know of the result, one sentence each.
    """

    out: Path
    yaml: Path
    names: list[str]
    splits: dict[str, MergeCounts]
    remarks: list[str] = field(default_factory=list)

    @property
    def doubtful(self) -> list[DoubtfulPair]:
        """The doubtful pairs of all splits, those with the smallest margin first."""
        return sorted((d for c in self.splits.values() for d in c.doubtful), key=lambda d: (d.doubt.margin, d.name))

    def __str__(self) -> str:
        """Return a table: one column a split, one row a count; rows that are 0 everywhere are left out."""
        table = count_table({name: counts.rows() for name, counts in self.splits.items()}, NEVER_LEFT_OUT)
        ious = np.concatenate([np.array(c.ious) for c in self.splits.values()])
        quality = [f"IoU of the pairs: mean {ious.mean():.3f}, lowest {ious.min():.3f}"] if len(ious) else []
        shown = shortened(self.names)
        pairs = [f"doubtful pairs: see {REPORT} and {SHEET} beside data.yaml"] if self.doubtful else []
        return "\n".join([table, *quality, *pairs, f"classes: {shown}", *self.remarks, f"written: {self.yaml}"])
