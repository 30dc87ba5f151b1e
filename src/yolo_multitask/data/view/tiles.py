"""One picture of a contact sheet or page, with its labels and what it can be filtered by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolo_multitask.data.check.parts import Part
from yolo_multitask.data.check.pose import keypoint_names
from yolo_multitask.data.check.sheet import Sheet
from yolo_multitask.data.labels import Labels, LabelSpec


@dataclass(frozen=True)
class Tile:
    """One image with its labels.

    Attributes:
        image_path: The image; read when the tile is drawn.
        labels: Its instances, normalised coordinates; None where they could not be read.
        spec: What its label lines hold.
        classes: Names of the classes that occur in it.
        tasks: Tasks for which something in it is labelled.
        findings: Kinds of what was found wrong with it.
        caption: Text under the picture.
        highlight: Indices of the instances to draw strongly; the others are then drawn thin. None: all alike.
        kpt_names: Names of the keypoints, from which left, right and limbs are taken; COCO's where there are 17.
        twin: A picture to show beside this one, without labels.
        others: Number of instances that are not shown, as the training does not take them.
    """

    image_path: Path
    labels: Labels | None
    spec: LabelSpec
    classes: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    caption: str = ""
    highlight: tuple[int, ...] = ()
    kpt_names: tuple[str, ...] = ()
    twin: Path | None = None
    others: int = 0


def make_tile(image: str, part: Part, data: Mapping[str, Any], **fields: Any) -> Tile:
    """Return the tile of an image of a data set, with the labels that the training takes.

    Args:
        image: The file.
        part: The part of a split that it is in.
        data: As `load_data` returns it.
        fields: Findings, caption, highlight and twin of the tile.
    """
    from ultralytics.data.utils import img2label_paths

    try:
        sheet = Sheet.read(img2label_paths([image])[0], part)
    except OSError:
        return Tile(Path(image), None, part.trained, **fields)
    labels = sheet.labels
    posed = labels.cls[labels.has_keypoints].tolist()
    return Tile(
        image_path=Path(image),
        labels=labels,
        spec=part.trained,
        classes=tuple(data["names"][cls] for cls in sorted(set(labels.cls.tolist()))),
        tasks=tasks_of(labels),
        kpt_names=tuple((posed and keypoint_names(data, posed[0])) or ()),
        others=sheet.others,
        **fields,
    )


def tasks_of(labels: Labels) -> tuple[str, ...]:
    """Return the tasks for which an instance is labelled, in the package's order; none for background."""
    real = ~labels.ignore
    there = {
        "detect": real.any(),
        "segment": (labels.has_polygon & real).any(),
        "pose": (labels.has_keypoints & real).any(),
        "track": ((labels.ids >= 0) & real).any(),
    }
    return tuple(task for task, labelled in there.items() if labelled)
