"""Reading COCO JSON: the files of a split joined by id, and what a data set made of them holds."""

from __future__ import annotations

import json
import math
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from yolo_multitask.data.convert.output import SPLITS
from yolo_multitask.data.labels import LabelSpec


@dataclass(frozen=True, kw_only=True)
class Source:
    """The parsed files of one split."""

    split: str
    files: dict[str, Path]  # "instances", "keypoints" -> JSON
    folder: Path
    images: dict[Any, dict[str, Any]]  # by image id
    annotations: dict[Any, list[dict[str, Any]]]  # by image id
    categories: dict[int, dict[str, Any]]  # by category id


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """What the converted data set holds."""

    categories: list[int]  # class index -> category id
    names: list[str]
    kpt_names: dict[int, list[str]]  # by class index, empty without keypoints
    flip_idx: list[int] | None
    spec: LabelSpec

    def data_yaml(self) -> dict[str, Any]:
        """Return the keys of the data YAML that say what the lines hold."""
        data: dict[str, Any] = {"labels": {"keypoints": bool(self.kpt_names), "polygons": self.spec.polygons}}
        if self.spec.kpt_shape is not None:
            data["kpt_shape"] = list(self.spec.kpt_shape)
            if self.flip_idx is not None:
                data["flip_idx"] = self.flip_idx
            data["kpt_classes"] = [self.names[i] for i in self.kpt_names]
            data["kpt_names"] = self.kpt_names
        return data | {"coco_categories": self.categories, "names": dict(enumerate(self.names))}


def read_sources(splits: list[str], images: list[str], instances: list[str], keypoints: list[str]) -> list[Source]:
    """Check the arguments and read the files of each split.

    Args:
        splits: Names of the splits.
        images: One folder a split.
        instances: One ``instances_*.json`` a split, or nothing.
        keypoints: One ``person_keypoints_*.json`` a split, or nothing.

    Raises:
        ValueError: The lists differ in length, or a file is not COCO JSON or does not belong to the other.
        FileNotFoundError: A file or folder does not exist.
    """
    if not instances and not keypoints:
        raise ValueError("expected instances= or keypoints= (COCO JSON files), found neither")
    unknown = [s for s in splits if s not in SPLITS]
    if unknown or not splits or len(set(splits)) < len(splits):
        raise ValueError(
            f"split: expected different ones of {', '.join(SPLITS)}, found {', '.join(splits) or 'nothing'}"
        )
    for name, value in (("images", images), ("instances", instances), ("keypoints", keypoints)):
        if len(value) != len(splits) and (value or name == "images"):
            raise ValueError(f"{name}: expected {len(splits)}, one for each of split={splits}, found {len(value)}")
    for folder in images:
        if not Path(folder).expanduser().is_dir():
            raise FileNotFoundError(f"images={folder}: expected a folder with images, found none there")
    read: dict[Path, dict[str, Any]] = {}
    sources = []
    for i, split in enumerate(splits):
        given = (("instances", instances), ("keypoints", keypoints))
        files = {kind: Path(value[i]).expanduser() for kind, value in given if value}
        for file in files.values():
            if file not in read:
                read[file] = _read_coco(file)
        sources.append(_join(split, Path(images[i]).expanduser(), files, read))
    return sources


def _read_coco(file: Path) -> dict[str, Any]:
    """Read one COCO JSON file and check what every later step relies on."""
    if not file.is_file():
        raise FileNotFoundError(f"{file}: expected a COCO JSON file, found none there")
    try:
        data = json.loads(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file}: expected a COCO JSON file, found text that is not JSON: {error}") from error
    wanted = {"images": ("id", "file_name", "width", "height"), "annotations": ("id", "image_id", "category_id")}
    for key, fields in {**wanted, "categories": ("id", "name")}.items():
        rows = data.get(key) if isinstance(data, dict) else None
        if not isinstance(rows, list):
            raise ValueError(
                f"{file}: expected COCO JSON with the lists images, annotations, categories; '{key}' is missing"
            )
        for i, row in enumerate(rows):
            missing = [f for f in fields if not isinstance(row, dict) or f not in row]
            if missing:
                raise ValueError(
                    f"{file}: expected {', '.join(fields)} in each of '{key}'; entry {i} lacks {missing[0]}"
                )
    for row in data["images"]:
        if not (finite([row["width"], row["height"]]) and row["width"] > 0 and row["height"] > 0):
            raise ValueError(
                f"{file}: image {row['id']}: expected a width and height, found {row['width']}x{row['height']}"
            )
    return dict(data)


def _join(split: str, folder: Path, files: dict[str, Path], read: Mapping[Path, dict[str, Any]]) -> Source:
    """Join the files of one split: images and categories by id, annotations by annotation id."""
    images: dict[Any, dict[str, Any]] = {}
    categories: dict[int, dict[str, Any]] = {}
    joined: dict[Any, dict[str, Any]] = {}
    for file in files.values():
        data = read[file]
        images.update({row["id"]: row for row in data["images"]})
        _add_categories(categories, data["categories"], file)
        own: set[Any] = set()
        for row in data["annotations"]:
            first = joined.get(row["id"])
            if row["id"] in own:
                raise ValueError(f"{file}: expected each annotation id once, found {row['id']} again")
            own.add(row["id"])
            if first is None:
                joined[row["id"]] = row
                continue
            for key in ("image_id", "category_id"):
                if first[key] != row[key]:
                    raise ValueError(
                        f"annotation {row['id']} has {key} {first[key]} in {files['instances']} and {row[key]} in "
                        f"{file}; the two files do not belong together"
                    )
            extra = {k: row[k] for k in ("keypoints", "num_keypoints") if k in row}
            joined[row["id"]] = {**first, **extra}
    by_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for row in joined.values():
        by_image[row["image_id"]].append(row)
    return Source(split=split, files=files, folder=folder, images=images, annotations=by_image, categories=categories)


def _add_categories(known: dict[int, dict[str, Any]], rows: Iterable[Mapping[str, Any]], file: Path) -> None:
    """Add categories by id; the same id must have the same name everywhere."""
    for row in rows:
        first = known.setdefault(row["id"], {})
        if first.get("name", row["name"]) != row["name"]:
            raise ValueError(f"{file}: category {row['id']} is {row['name']!r} here and {first['name']!r} elsewhere")
        first.update(row)


def make_scheme(sources: Sequence[Source], chosen: list[str] | None, existing: Mapping[str, Any]) -> Scheme:
    """Decide classes, keypoints and the grammar; with an existing data set, the same as there.

    Args:
        sources: The splits that are converted.
        chosen: Names or category ids of the classes, None for all.
        existing: Data YAML of the data set that the splits are added to, empty for a new one.

    Raises:
        ValueError: An unknown class, keypoints that differ between classes, or a scheme unlike the existing one.
    """
    known: dict[int, dict[str, Any]] = {}
    for source in sources:
        _add_categories(known, source.categories.values(), next(iter(source.files.values())))
    ids = sorted(known) if chosen is None else _choose(chosen, known)
    if not ids:
        raise ValueError("expected at least one category, found none in the files")
    names = [str(known[i]["name"]) for i in ids]
    kpt_names = {c: [str(k) for k in known[i]["keypoints"]] for c, i in enumerate(ids) if known[i].get("keypoints")}
    if any("keypoints" in s.files for s in sources) and not kpt_names:
        raise ValueError(f"keypoints= is given, but none of the classes {', '.join(names)} has keypoints; leave it out")
    counts = {len(k) for k in kpt_names.values()}
    if len(counts) > 1:
        listed = ", ".join(f"{names[c]}: {len(k)}" for c, k in kpt_names.items())
        raise ValueError(f"expected the same number of keypoints for every class, found {listed}; choose with classes=")
    chosen_ids = set(ids)
    polygons = any(
        row.get("segmentation")
        for s in sources
        for rows in s.annotations.values()
        for row in rows
        if row["category_id"] in chosen_ids
    )
    if existing:
        polygons, kpt_names = _as_existing(existing, ids, names, polygons, kpt_names)
        counts = {len(k) for k in kpt_names.values()}
    spec = LabelSpec(nc=len(ids), kpt_shape=(counts.pop(), 3) if counts else None, polygons=polygons)
    return Scheme(categories=ids, names=names, kpt_names=kpt_names, flip_idx=flip_idx(kpt_names.values()), spec=spec)


def _choose(chosen: Sequence[str], known: Mapping[int, Mapping[str, Any]]) -> list[int]:
    """Return the category ids of names or ids, sorted."""
    by_name = {str(known[i]["name"]): i for i in sorted(known)}
    ids = set()
    for item in chosen:
        if item in by_name:
            ids.add(by_name[item])
        elif item.isdecimal() and int(item) in known:
            ids.add(int(item))
        else:
            close = get_close_matches(item, list(by_name), 1, 0.5)
            hint = f"did you mean {close[0]!r}? " if close else ""
            listed = ", ".join(list(by_name)[:100])
            raise ValueError(f"classes: expected names or category ids, found {item!r}; {hint}There are: {listed}")
    return sorted(ids)


def _as_existing(
    existing: Mapping[str, Any], ids: list[int], names: list[str], polygons: bool, kpt_names: dict[int, list[str]]
) -> tuple[bool, dict[int, list[str]]]:
    """Check that the data set in `out` has the same classes, and return its polygons and keypoints."""
    there = list((existing.get("names") or {}).values()) if isinstance(existing.get("names"), dict) else None
    if there != names or existing.get("coco_categories") != ids:
        raise ValueError(
            f"out has a data set with the classes {_short(there or [])}, this split has {_short(names)}; "
            "give the same classes= or another out="
        )
    labels = existing.get("labels") or {}
    theirs = {int(k): list(v) for k, v in (existing.get("kpt_names") or {}).items()} if labels.get("keypoints") else {}
    if (polygons and not labels.get("polygons")) or (kpt_names and kpt_names != theirs):
        raise ValueError(
            f"out has a data set with labels {dict(labels)} and the keypoints of {len(theirs)} classes, this split "
            "holds others; convert all splits in one call (split=[train,val] with lists of files) or give another out="
        )
    return bool(labels.get("polygons")), theirs


def _short(names: Sequence[str]) -> str:
    """List names for a message, cut to a readable length."""
    return ", ".join(names[:8]) + (f", ... ({len(names)})" if len(names) > 8 else "")


def flip_idx(kpt_names: Iterable[Sequence[str]]) -> list[int] | None:
    """Return the keypoint order of a mirrored image from left/right in the names; None where the names do not say."""
    found = []
    for names in kpt_names:
        index = {n.lower(): i for i, n in enumerate(names)}
        mirrored = [re.sub("left|right", lambda m: "right" if m[0] == "left" else "left", n.lower()) for n in names]
        found.append([index.get(m, i) for i, m in enumerate(mirrored)])
    if not found or any(f != found[0] for f in found) or found[0] == list(range(len(found[0]))):
        return None
    return found[0]


def texts(value: Any, commas: bool = False) -> list[str]:
    """Return a list argument as texts; one text may be ``[a, b]`` (as on a command line), or ``a,b`` with `commas`."""
    if value is None:
        return []
    if isinstance(value, (str, os.PathLike, int)):
        text = os.fspath(value) if not isinstance(value, int) else str(value)
        bracketed = text.startswith("[") and text.endswith("]")
        parts = text.strip("[]").split(",") if bracketed or commas else [text]
        return [p.strip().strip("'\"") for p in parts if p.strip()]
    return [str(v) for v in value]


def finite(values: Iterable[Any]) -> bool:
    """Return whether all values are finite numbers."""
    return all(isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) for v in values)
