"""One picture of a contact sheet or page, with its labels and what it can be filtered by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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
