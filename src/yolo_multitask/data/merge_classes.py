"""The classes of a merged data set: which class of one set is which of the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from yolo_multitask.data.convert.values import shortened
from yolo_multitask.data.convert.yolo_files import LabelledSet, category_ids, keypoint_keys
from yolo_multitask.data.labels import LabelSpec


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """What the merged data set holds.

    Its classes are those of the segmentation set, in their order and with their names, then those that only the
    keypoint set has.

    Attributes:
        names: Class names in order.
        of_poses: Merged class by class of the keypoint set.
        of_masks: Merged class by class of the segmentation set.
        spec: What the lines hold.
        keys: Keys of the data YAML besides the splits.
    """

    names: list[str]
    of_poses: dict[int, int]
    of_masks: dict[int, int]
    spec: LabelSpec
    keys: dict[str, Any]


def make_scheme(poses: LabelledSet, masks: LabelledSet, classes: Mapping[str, str] | str | None) -> Scheme:
    """Decide the classes and the grammar of the merged set.

    Args:
        poses: The keypoint set.
        masks: The segmentation set.
        classes: Class of the segmentation set by class of the keypoint set, as names or indices; a mapping or text
            ``person:human,dog:hound``. Of the others, those with equal names correspond.

    Raises:
        ValueError: A class is unknown or named twice, or no class corresponds to another.
    """
    same = _corresponding(poses.names, masks.names, _pairs(classes))
    of_masks = {c: i for i, c in enumerate(sorted(masks.names))}
    names = [masks.names[c] for c in of_masks]
    of_poses = {p: of_masks[m] for p, m in same.items()}
    for cls, name in sorted(poses.names.items()):
        if cls in of_poses:
            continue
        if name in names:
            raise ValueError(
                f"classes: {name!r} of keypoints= corresponds to no class, but the one of that name in segments= to "
                "another; name both in classes="
            )
        of_poses[cls] = len(names)
        names.append(name)
    ids = poses.spec.ids or masks.spec.ids
    spec = LabelSpec(nc=len(names), kpt_shape=poses.spec.kpt_shape, polygons=True, ids=ids)
    keys: dict[str, Any] = {"labels": {"keypoints": True, "polygons": True} | ({"ids": True} if ids else {})}
    keys |= keypoint_keys(poses.data, of_poses)
    keys["kpt_classes"] = [names[i] for i in sorted(of_poses[c] for c in poses.kpt_classes)]
    categories = _categories(poses, masks, of_poses, of_masks)
    if categories is not None:
        keys["coco_categories"] = categories
    return Scheme(names=names, of_poses=of_poses, of_masks=of_masks, spec=spec, keys=keys)


def _pairs(classes: Mapping[str, str] | str | None) -> dict[str, str]:
    """Return the argument as a mapping of texts."""
    if classes is None or isinstance(classes, Mapping):
        return {str(k): str(v) for k, v in (classes or {}).items()}
    out: dict[str, str] = {}
    for part in str(classes).split(","):
        left, colon, right = (text.strip() for text in part.partition(":"))
        if not (left and colon and right):
            raise ValueError(
                f"classes: expected CLASS_OF_KEYPOINTS:CLASS_OF_SEGMENTS, e.g. person:human,dog:hound, found {part!r}"
            )
        if left in out:
            raise ValueError(f"classes: expected each class once, found {left!r} of keypoints= twice")
        out[left] = right
    return out


def _corresponding(poses: Mapping[int, str], masks: Mapping[int, str], given: Mapping[str, str]) -> dict[int, int]:
    """Return class of the segmentation set by class of the keypoint set."""
    same: dict[int, int] = {}
    for left, right in given.items():
        pose, mask = _find(left, poses, "keypoints="), _find(right, masks, "segments=")
        if pose in same or mask in same.values():
            raise ValueError(f"classes: expected each class once, found {left}:{right} after another of one of them")
        same[pose] = mask
    free = {name: c for c, name in masks.items() if c not in same.values()}
    same |= {c: free[name] for c, name in poses.items() if c not in same and name in free}
    if not same:
        raise ValueError(
            f"classes: expected a class that both sets have, found {shortened([*poses.values()])} in keypoints= and "
            f"{shortened([*masks.values()])} in segments=; say which correspond with classes=NAME:NAME"
        )
    return same


def _find(text: str, names: Mapping[int, str], whose: str) -> int:
    """Return the index of a class by name or index."""
    for cls, name in names.items():
        if text == name:
            return cls
    if text.isdecimal() and int(text) in names:
        return int(text)
    close = get_close_matches(text, list(names.values()), 1, 0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"classes: expected a class of {whose} ({shortened([*names.values()])}), found {text!r}{hint}")


def _categories(
    poses: LabelledSet, masks: LabelledSet, of_poses: Mapping[int, int], of_masks: Mapping[int, int]
) -> list[int] | None:
    """Return the COCO category ids in the order of the merged classes, None where one is unknown or there twice."""
    by_class: dict[int, int] = {}
    for source, index in ((poses, of_poses), (masks, of_masks)):
        by_class |= {index[c]: category for c, category in (category_ids(source) or {}).items()}
    whole = by_class.keys() >= {*of_poses.values(), *of_masks.values()}
    return [by_class[i] for i in sorted(by_class)] if whole and len(set(by_class.values())) == len(by_class) else None
