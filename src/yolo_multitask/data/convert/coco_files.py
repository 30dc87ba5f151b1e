"""Reading COCO JSON: the files of a split joined by id, and what a data set made of them holds."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from yolo_multitask.data.convert.dataset import Content
from yolo_multitask.data.convert.values import finite


@dataclass(frozen=True, kw_only=True)
class Source:
    """The parsed files of one split."""

    split: str
    files: dict[str, Path]  # "instances", "keypoints" -> JSON
    folder: Path
    images: dict[Any, dict[str, Any]]  # by image id
    annotations: dict[Any, list[dict[str, Any]]]  # by image id
    categories: dict[int, dict[str, Any]]  # by category id


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
            odd = [f for f in fields if f.endswith("id") and not isinstance(row[f], (int, str))]
            if odd or (key == "categories" and not isinstance(row["id"], int)):
                kind = "an integer" if key == "categories" else "a number"
                field = (odd or ["id"])[0]
                raise ValueError(f"{file}: '{key}', entry {i}: expected {kind} in '{field}', found {row[field]!r}")
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
        _add_images(images, data["images"], file)
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


def _add_images(known: dict[Any, dict[str, Any]], rows: Iterable[dict[str, Any]], file: Path) -> None:
    """Add images by id; an id is there once in a file, and names the same image in both."""
    own: set[Any] = set()
    for row in rows:
        first = known.setdefault(row["id"], row)
        if row["id"] in own:
            raise ValueError(f"{file}: expected each image id once, found {row['id']} again")
        own.add(row["id"])
        if first["file_name"] != row["file_name"]:
            raise ValueError(
                f"{file}: image {row['id']} is {row['file_name']} here and {first['file_name']} in the other file; the "
                "two files do not belong together"
            )


def _add_categories(known: dict[int, dict[str, Any]], rows: Iterable[Mapping[str, Any]], file: Path) -> None:
    """Add categories by id; the same id must have the same name everywhere."""
    for row in rows:
        first = known.setdefault(row["id"], {})
        if first.get("name", row["name"]) != row["name"]:
            raise ValueError(f"{file}: category {row['id']} is {row['name']!r} here and {first['name']!r} elsewhere")
        first.update(row)


def make_content(sources: Sequence[Source], chosen: list[str] | None) -> Content:
    """Decide classes, keypoints and the grammar.

    Args:
        sources: The splits that are converted.
        chosen: Names or category ids of the classes, None for all.

    Returns:
        What the data set holds; ``keys["coco_categories"]`` has the category id of each class.

    Raises:
        ValueError: An unknown class, or keypoints that differ in number between classes.
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
    if len({len(k) for k in kpt_names.values()}) > 1:
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
    return Content(names=names, kpt_names=kpt_names, polygons=polygons, keys={"coco_categories": ids})


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
