"""Rules for the data YAML: classes, keypoint names and what mirroring does to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from yolo_multitask.data.check.findings import Finding
from yolo_multitask.data.check.pose import keypoint_names
from yolo_multitask.data.sources import Source
from yolo_multitask.data.view.skeleton import side_and_part

IMBALANCE = 100  # times as many objects in the largest class as in the smallest that has any
OTHER_SIDE = {"left": "right", "right": "left"}
LISTED = 12  # class names in a message


def yaml_findings(data: Mapping[str, Any], file: str) -> Iterator[Finding]:
    """Yield what is wrong with a data YAML that loads.

    Args:
        data: As `load_data` returns it.
        file: The data YAML.
    """
    names = Counter(str(name) for name in data["names"].values())
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        message = f"names: {', '.join(twice)} given to more than one class; merge the classes or rename one"
        yield Finding("class-names", file, message)
    if data["label_spec"].kpt_shape is None:
        return
    flip = [int(i) for i in data.get("flip_idx") or ()]
    if not flip:
        message = "kpt_shape without flip_idx: pictures are not mirrored in training; add flip_idx"
        yield Finding("flip-idx-missing", file, message)
        return
    wrong = [i for i, j in enumerate(flip) if flip[j] != i]
    if wrong:
        message = f"flip_idx: mirrored twice, keypoints {wrong} are not themselves again; exchange pairs only"
        yield Finding("flip-idx", file, message)
        return
    for cls in data["kpt_classes"]:
        yield from _flip_findings(flip, keypoint_names(data, cls), file, data["names"][cls])


def _flip_findings(flip: list[int], names: list[str] | None, file: str, title: str) -> Iterator[Finding]:
    """Yield keypoints that `flip_idx` gives another partner than their names do."""
    known = [side_and_part(name) for name in names or ()]
    at = {point: i for i, point in enumerate(known)}
    wrong = []
    for i, (side, part) in enumerate(known):
        partner = at.get((OTHER_SIDE.get(side, ""), part))
        sided = side or known[flip[i]][0]  # the names of two points may both say nothing of a side
        if names and sided and partner not in (None, flip[i]):
            wrong.append(f"{names[i]} becomes {names[flip[i]]}")
    if wrong:
        message = f"flip_idx against kpt_names of {title}: {', '.join(wrong[:LISTED])}; correct flip_idx"
        yield Finding("flip-idx", file, message)


def class_findings(
    names: Mapping[int, str],
    objects: Mapping[str, Counter[int]],
    keypoints: Counter[int],
    kpt_classes: list[int],
    file: str,
) -> Iterator[Finding]:
    """Yield what the numbers of objects say about the classes.

    Args:
        names: Class names by index.
        objects: Number of objects of each class, by split.
        keypoints: Number of objects of each class with labelled keypoints.
        kpt_classes: Classes that have keypoints.
        file: The data YAML.
    """
    total: Counter[int] = sum(objects.values(), Counter())
    for split, counts in objects.items():
        missing = [cls for cls in names if total[cls] and not counts[cls]]
        if missing and counts:
            message = f"no object in {split}, but in another split: {_listed(names, missing)}; split the images anew"
            yield Finding("class-missing", file, message, split=split)
    counts = objects.get("train", total)
    largest = max(counts, key=lambda cls: counts[cls], default=0)
    rare = sorted((cls for cls in counts if 0 < IMBALANCE * counts[cls] <= counts[largest]), key=lambda c: counts[c])
    if rare:
        message = (
            f"{names[largest]} has {counts[largest]} objects, {counts[rare[0]]} to {counts[rare[-1]]} have "
            f"{_listed(names, rare)}; add pictures of the rare ones"
        )
        yield Finding("class-imbalance", file, message)
    for cls in sorted(set(keypoints) - set(kpt_classes)):
        message = f"{keypoints[cls]} objects of {names[cls]} have keypoints, which do not count; see kpt_classes"
        yield Finding("keypoints-class", file, message)


def unused_classes(names: Mapping[int, str], objects: Mapping[str, Counter[int]], file: str) -> Iterator[Finding]:
    """Yield classes that no split has.

    Args:
        names: Class names by index.
        objects: Number of objects of each class, by split.
        file: The data YAML.
    """
    unused = [cls for cls in names if not any(counts[cls] for counts in objects.values())]
    if unused:
        where = " or ".join(objects)
        message = f"no object in {where}: {_listed(names, unused)}; remove the names, or label the objects"
        yield Finding("class-unused", file, message)


def source_findings(
    names: Mapping[int, str], objects: Mapping[str, Counter[int]], sources: Iterable[Source], file: str
) -> Iterator[Finding]:
    """Yield sources in which nothing is of a class that they are said to label.

    Args:
        names: Class names by index.
        objects: Number of objects of each class, by the source's name.
        sources: The sources of all splits.
        file: The data YAML.
    """
    total: Counter[int] = sum(objects.values(), Counter())
    labelled: dict[str, set[int]] = {}
    for source in sources:
        labelled.setdefault(source.name, set()).update(source.labelled)
    for name, classes in labelled.items():
        unused = sorted(cls for cls in classes if total[cls] and not objects.get(name, Counter())[cls])
        if unused:
            message = (
                f"no object in {name}, but in another source: {_listed(names, unused)}; if nobody labelled them there, "
                "leave them out of its classes, or they are background in its images"
            )
            yield Finding("class-unused", file, message, source=name)


def _listed(names: Mapping[int, str], classes: list[int]) -> str:
    """Join class names for a message."""
    more = f" and {len(classes) - LISTED} more" if len(classes) > LISTED else ""
    return ", ".join(names[cls] for cls in classes[:LISTED]) + more
