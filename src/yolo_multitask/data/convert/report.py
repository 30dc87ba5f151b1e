"""What a conversion did, in numbers. Nothing is left out without a count."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from yolo_multitask.data.convert.table import count_table
from yolo_multitask.data.convert.values import shortened
from yolo_multitask.data.labels import Labels


@dataclass(kw_only=True)
class SplitReport:
    """Counts of one converted split.

    ``annotations == instances + ignored + sum(dropped.values())``.

    Attributes:
        images: Images written.
        background: Images among them without an instance; they may have ignore regions.
        images_missing: Images named in the annotations that are not in the image folder.
        images_unfit: Images left out: of another shape than annotated (such as turned ones), or of a format that the
            host does not read.
        images_skipped: Images without a line that were left out because background was not wanted.
        annotations: Annotations read.
        instances: Instances written.
        keypoints: Instances among them with labelled keypoints.
        polygons: Instances among them with a polygon.
        ignored: Ignore regions written (``!``).
        dropped: Annotations left out, by reason.
        notes: Things changed in what was written, by what happened.
    """

    images: int = 0
    background: int = 0
    images_missing: int = 0
    images_unfit: int = 0
    images_skipped: int = 0
    annotations: int = 0
    instances: int = 0
    keypoints: int = 0
    polygons: int = 0
    ignored: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)


def count_labels(report: SplitReport, labels: Labels) -> None:
    """Add the lines of one image to the counts."""
    kept = ~labels.ignore
    report.images += 1
    report.background += int(not kept.any())
    report.instances += int(kept.sum())
    report.ignored += int(labels.ignore.sum())
    report.keypoints += int((labels.has_keypoints & kept).sum())
    report.polygons += int((labels.has_polygon & kept).sum())


@dataclass(kw_only=True)
class ConvertReport:
    """What a converter wrote.

    Attributes:
        out: Folder of the data set.
        yaml: Its data YAML.
        names: Class names in order.
        splits: Counts by split.
    """

    out: Path
    yaml: Path
    names: list[str]
    splits: dict[str, SplitReport]

    def __str__(self) -> str:
        """Return a table: one column a split, one row a count; rows that are 0 everywhere are left out."""
        titles = {
            "images": "images",
            "background": "  without instances",
            "images_missing": "images missing in the folder",
            "images_unfit": "images of another shape or format left out",
            "images_skipped": "images without any line left out",
            "annotations": "annotations",
            "instances": "instances",
            "keypoints": "  with keypoints",
            "polygons": "  with polygons",
            "ignored": "ignore regions",
        }
        columns = {
            name: {title: int(getattr(report, key)) for key, title in titles.items()}
            for name, report in self.splits.items()
        }
        reasons: list[str] = []
        for group, prefix in (("dropped", "left out"), ("notes", "changed")):
            for reason in dict.fromkeys(reason for r in self.splits.values() for reason in getattr(r, group)):
                reasons.append(f"{prefix}: {reason}")
                for name, report in self.splits.items():
                    columns[name][reasons[-1]] = getattr(report, group)[reason]
        table = count_table(columns, ("images", "annotations", "instances", *reasons))
        return "\n".join([table, f"classes: {shortened(self.names)}", f"written: {self.yaml}"])
