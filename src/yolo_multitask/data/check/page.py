"""The page with pictures of what was found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_multitask.data.check.findings import KINDS, CheckReport, Finding
from yolo_multitask.data.check.parts import parts_of

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
    rows += [("objects by class", report.balance())] if len(report.classes) > 1 else []
    rows += [(f"{KINDS[k].severity}: {k}", f"{report.counts[k]} × {KINDS[k].title}") for k in report.kinds()]
    return rows + [(f.kind, str(f)) for k in report.kinds() for f in report.findings[k] if not f.image]


def tiles(report: CheckReport, data: Mapping[str, Any]) -> Iterator[Tile]:
    """Yield a tile per image, those with the worst findings first.

    Args:
        report: What was found.
        data: As `load_data` returns it.
    """
    from yolo_multitask.data.view.tiles import make_tile

    by_image: dict[tuple[str, str, str], list[Finding]] = {}
    for kind in report.kinds():
        for finding in report.findings[kind]:
            if finding.image:
                by_image.setdefault((finding.split, finding.source, finding.image), []).append(finding)
    splits = dict.fromkeys(split for split, _, _ in by_image)
    parts = {(split, part.source_name): part for split in splits for part in parts_of(data, split)}
    for (split, source, image), findings in by_image.items():
        part = parts[split, source]
        lines = [f"{f.kind}{f' (line {f.line})' if f.line else ''}: {f.message}" for f in findings]
        yield make_tile(
            image,
            part,
            data,
            findings=tuple(dict.fromkeys(f.kind for f in findings)),
            caption="\n".join([f"{part.title}: {image}", *lines]),
            twin=next((Path(f.twin) for f in findings if f.twin), None),
            highlight=tuple(sorted({i for f in findings for i in f.instances})),
        )
