"""The parts of a split: images whose label lines are alike, those of one source or all where it lists no sources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo_multitask.data.check.findings import Finding
from yolo_multitask.data.labels import Labels, LabelSpec
from yolo_multitask.data.sources import Source, sources_of


@dataclass(frozen=True, kw_only=True)
class Part:
    """Images of a split whose label lines are alike.

    Attributes:
        split: The split.
        paths: Image folders or list files.
        source: Where they are from; None where the split lists no sources.
        spec: What the label lines hold.
        trained: What the instances of the training may have.
    """

    split: str
    paths: tuple[str, ...]
    source: Source | None
    spec: LabelSpec
    trained: LabelSpec

    @property
    def source_name(self) -> str:
        """Name of the source; empty where there is none."""
        return self.source.name if self.source else ""

    @property
    def title(self) -> str:
        """Split and source, for tables."""
        return f"{self.split} {self.source_name}".rstrip()


def parts_of(data: Mapping[str, Any], split: str) -> list[Part]:
    """Return the parts of a split.

    Args:
        data: As `load_data` returns it.
        split: One that it has.
    """
    paths, spec = data[split], data["label_spec"]
    sources = sources_of(data, paths, split)
    if not sources:
        paths = (paths,) if isinstance(paths, str) else tuple(paths)
        return [Part(split=split, paths=paths, source=None, spec=spec, trained=spec)]
    return [Part(split=split, paths=s.paths, source=s, spec=s.spec, trained=spec) for s in sources]


def taken(labels: Labels, source: Source, spec: LabelSpec) -> tuple[Labels, NDArray[np.int64]]:
    """Return what the training takes of the labels of a source, see `conform`, and int64 (N,) which they are.

    Args:
        labels: Of one image.
        source: Where it is from.
        spec: What the instances of the training may have.
    """
    from yolo_multitask.data.columns import CLS, HAS_KEYPOINTS, HAS_MASK, IGNORE, INSTANCE, new_columns
    from yolo_multitask.data.partial import conform

    columns = new_columns(len(labels))
    for column, values in (
        (CLS, labels.cls),
        (HAS_KEYPOINTS, labels.has_keypoints),
        (HAS_MASK, labels.has_polygon),
        (IGNORE, labels.ignore),
        (INSTANCE, np.arange(len(labels))),
    ):
        columns[:, column] = values
    label: dict[str, Any] = {
        "cls": columns,
        "bboxes": labels.boxes,
        "segments": labels.polygons,
        "keypoints": labels.keypoints,
        "ids": labels.ids,
    }
    conform(label, source, spec)
    columns = label["cls"]
    rows = columns[:, INSTANCE].astype(np.int64)
    out = Labels(
        cls=columns[:, CLS].astype(np.int64),
        boxes=label["bboxes"],
        keypoints=label["keypoints"],
        has_keypoints=columns[:, HAS_KEYPOINTS] > 0,
        polygons=[labels.polygons[i] if has else None for i, has in zip(rows, columns[:, HAS_MASK], strict=True)],
        ids=label["ids"],
        ignore=columns[:, IGNORE] > 0,
        conf=labels.conf[rows],
    )
    return out, rows


def repeated_images(parts: Sequence[Part], files: Sequence[Sequence[str]]) -> Iterator[Finding]:
    """Yield images that are listed more than once, by their paths.

    Args:
        parts: The parts.
        files: The images of each.
    """
    owner: dict[str, Part] = {}
    for part, images in zip(parts, files, strict=True):
        for image in images:
            if image not in owner:
                owner[image] = part
                continue
            first = owner[image]
            if first.split != part.split:
                kind, message = "leak", f"is in {first.title} too; have it in one split alone"
            elif first is not part:
                kind, message = "source-overlap", f"is in the source {first.source_name} too; leave it out of one"
            else:
                kind, message = "image-duplicate", f"is listed twice in {part.title}; list it once"
            yield Finding(kind, image, message, 0, part.split, image, (), part.source_name)
