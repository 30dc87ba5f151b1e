"""The page with pictures of what was found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_multitask.data.check.findings import KINDS, CheckReport, Finding
from yolo_multitask.data.check.pose import keypoint_names
from yolo_multitask.data.labels import Labels, read_labels

if TYPE_CHECKING:
    from yolo_multitask.data.view.tiles import Tile


def write_findings_page(path: Path, report: CheckReport, data: Mapping[str, Any]) -> None:
    """Write a page with the counts and one picture for every image of the findings that are kept.

    Args:
        path: The HTML file.
        report: What was found.
        data: As `load_data` returns it; empty where the data YAML does not load.
    """
    from yolo_multitask.data.view.page import write_page

    path.parent.mkdir(parents=True, exist_ok=True)
    write_page(path, f"Check of {report.data}", tiles(report, data), summary(report), data.get("names"))


def summary(report: CheckReport) -> list[tuple[str, str]]:
    """Return what stands above the pictures: counts of the splits, then of the kinds, then what has no picture."""
    splits = list(report.splits)
    rows = [
        (name, ", ".join(f"{split} {n}" for split, n in zip(splits, values, strict=True)))
        for name, values in report.table()
    ]
    rows += [(f"{KINDS[k].severity}: {k}", f"{report.counts[k]} × {KINDS[k].title}") for k in report.kinds()]
    return rows + [(f.kind, str(f)) for k in report.kinds() for f in report.findings[k] if not f.image]


def tiles(report: CheckReport, data: Mapping[str, Any]) -> Iterator[Tile]:
    """Yield a tile per image, those with the worst findings first.

    Args:
        report: What was found.
        data: As `load_data` returns it.
    """
    from ultralytics.data.utils import img2label_paths

    by_image: dict[str, list[Finding]] = {}
    for kind in report.kinds():
        for finding in report.findings[kind]:
            if finding.image:
                by_image.setdefault(finding.image, []).append(finding)
    for image, findings in by_image.items():
        labels, _ = read_labels(img2label_paths([image])[0], data["label_spec"])
        yield _tile(image, labels, findings, data)


def _tile(image: str, labels: Labels, findings: list[Finding], data: Mapping[str, Any]) -> Tile:
    """Return the tile of one image."""
    from yolo_multitask.data.view.tiles import Tile, tasks_of

    lines = [f"{f.kind}{f' (line {f.line})' if f.line else ''}: {f.message}" for f in findings]
    posed = labels.cls[labels.has_keypoints].tolist()
    return Tile(
        image_path=Path(image),
        labels=labels,
        spec=data["label_spec"],
        classes=tuple(data["names"][cls] for cls in sorted(set(labels.cls.tolist()))),
        tasks=tasks_of(labels),
        findings=tuple(dict.fromkeys(f.kind for f in findings)),
        caption="\n".join([f"{findings[0].split}: {image}", *lines]),
        highlight=tuple(sorted({i for f in findings for i in f.instances})),
        kpt_names=tuple((posed and keypoint_names(data, posed[0])) or ()),
    )
