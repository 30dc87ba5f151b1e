"""Reading data sets of images and label lines, for tools that join them or write them in another format."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from yolo_multitask.data.config import load_data
from yolo_multitask.data.convert.output import SPLITS, check_free, without_images, written_splits
from yolo_multitask.data.convert.values import texts
from yolo_multitask.data.labels import Labels, LabelSpec, read_labels

_ANY_CLASS = 1_000_000  # more classes than any data set has


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image and its label file, which may be missing."""

    image: Path
    label: Path


@dataclass(frozen=True, kw_only=True)
class LabelledSet:
    """A data set of images and label lines.

    Attributes:
        where: What to call it in messages: ``argument=value``.
        data: Its data YAML as `load_data` returns it.
        names: Class names by index.
        spec: What its lines hold.
        kpt_classes: Indices of the classes that have keypoints.
        splits: Its splits, in the order of `SPLITS`.
    """

    where: str
    data: dict[str, Any]
    names: dict[int, str]
    spec: LabelSpec
    kpt_classes: tuple[int, ...]
    splits: tuple[str, ...]

    def pictures(self, split: str) -> dict[str, Picture]:
        """Return the images of a split by their path below ``images/<split>`` without suffix; none where it is missing.

        Raises:
            ValueError: Two images have the same path, or there is no image.
            FileNotFoundError: A path of the data YAML does not exist.
        """
        from ultralytics.data.utils import img2label_paths

        if split not in self.splits:
            return {}
        found: dict[str, Picture] = {}
        for key, image in _images(self.data[split], f"{self.where}: {split}"):
            if key in found and found[key].image != image:
                raise ValueError(
                    f"{self.where}: expected images of {split} that differ in their path without suffix, found "
                    f"{found[key].image} and {image}; rename one of them"
                )
            found[key] = Picture(image=image, label=Path(img2label_paths([str(image)])[0]))
        if not found:
            raise ValueError(f"{self.where}: expected images in {self.data[split]}, found none")
        return found

    def read(self, picture: Picture) -> tuple[Labels, int]:
        """Return the labels of an image, and how many lines were left out because they repeat another.

        Raises:
            ValueError: A line does not parse; the message names file and line.
        """
        labels, problems = read_labels(picture.label, self.spec)
        errors = [p for p in problems if p.kind == "error"]
        if errors:
            more = f" (and {len(errors) - 1} more lines of this file)" if len(errors) > 1 else ""
            raise ValueError(f"{errors[0]}{more}")
        return labels, len(problems)


def open_set(
    source: str | os.PathLike[str], argument: str, *, task: str | None = None, bare: LabelSpec | None = None
) -> LabelledSet:
    """Open a data set.

    Args:
        source: Its data YAML, by path or name, or the folder that holds it.
        argument: Name of the argument that `source` is from, for messages.
        task: What the lines are where the data YAML does not say (see `LabelSpec.from_data`).
        bare: What the lines of a folder without data YAML hold (``images/`` and ``labels/``, with or without folders
            for the splits); its classes are then numbered only. None: such a folder is an error.

    Raises:
        ValueError: The data YAML is unknown or contradicts itself, or lists sources of several kinds.
        FileNotFoundError: There is no data YAML in the folder, or no such images.
    """
    where, path = f"{argument}={os.fspath(source)}", Path(source).expanduser()
    file = _yaml_in(path, where) if path.is_dir() else path if path.exists() else source
    if file is None:
        if bare is None or not (path / "images").is_dir():
            raise FileNotFoundError(f"{where}: expected a data YAML or a folder with data.yaml, found none there")
        return _open_bare(path.resolve(), where, bare)
    data = load_data(file, task=task)
    if data.get("sources"):
        raise ValueError(f"{where}: expected a data set with plain paths, found one that lists sources; give one alone")
    return _labelled_set(where, data)


def split_names(split: str | Sequence[str] | None, *sources: LabelledSet) -> list[str]:
    """Return the chosen splits (a list, or one text with commas), all that are there where None.

    Raises:
        ValueError: A split is unknown, or in none of the sources.
    """
    there = [s for s in SPLITS if any(s in source.splits for source in sources)]
    if split is None:
        return there
    chosen = texts(split, True)
    if not chosen or not set(chosen) <= set(there):
        raise ValueError(f"split: expected one or more of {', '.join(there)}, found {', '.join(chosen) or 'nothing'}")
    return [s for s in SPLITS if s in chosen]


def check_out(out: Path, splits: Sequence[str], exist_ok: bool, *sources: LabelledSet) -> None:
    """Refuse an output folder that holds one of the sources, another split, or (without `exist_ok`) one of `splits`.

    Raises:
        ValueError: See above.
    """
    for source in sources:
        for split in source.splits:
            for path in _as_list(source.data[split]):
                if Path(path).resolve().is_relative_to(out.resolve()):
                    raise ValueError(f"out={out}: expected another folder, found the images of {source.where} in it")
    check_free(out, splits, exist_ok)
    others = [s for s in written_splits(out) if s not in splits]
    if others:
        raise ValueError(
            f"out={out}: the split {', '.join(others)} of another run is there; write all splits at once, or give "
            "another out="
        )


def keypoint_keys(data: Mapping[str, Any], index: Mapping[int, int]) -> dict[str, Any]:
    """Return the keys of a data YAML that describe keypoints, with the classes renumbered.

    Args:
        data: The data YAML.
        index: New class index by old one; the names of the keypoints of other classes are left out.
    """
    out = {k: data[k] for k in ("kpt_shape", "flip_idx", "kpt_names", "kpt_oks_sigmas") if data.get(k) is not None}
    if isinstance(out.get("kpt_names"), Mapping):
        out["kpt_names"] = {index[int(k)]: list(v) for k, v in out["kpt_names"].items() if int(k) in index}
    return out


def category_ids(source: LabelledSet) -> dict[int, int] | None:
    """Return the COCO category id of each class from ``coco_categories``, None where the data YAML has none.

    Raises:
        ValueError: The key does not give one integer a class, or an id twice.
    """
    value = source.data.get("coco_categories")
    if value is None:
        return None
    if isinstance(value, Mapping):
        value = [value.get(name, value.get(i)) for i, name in sorted(source.names.items())]
    good = isinstance(value, (list, tuple)) and len(value) == len(source.names)
    if not good or not all(type(v) is int for v in value) or len(set(value)) < len(value):
        raise ValueError(
            f"{source.where}: 'coco_categories': expected a different integer for each of the {len(source.names)} "
            f"classes, as a list in class order or by name, found {value!r}"
        )
    return dict(zip(sorted(source.names), value, strict=True))


def _labelled_set(where: str, data: dict[str, Any]) -> LabelledSet:
    """Return a data set whose YAML is loaded."""
    return LabelledSet(
        where=where,
        data=data,
        names={int(k): str(v) for k, v in data["names"].items()},
        spec=data["label_spec"],
        kpt_classes=tuple(data["kpt_classes"]) if data["label_spec"].kpt_shape is not None else (),
        splits=tuple(s for s in SPLITS if data.get(s)),
    )


def _yaml_in(folder: Path, where: str) -> Path | None:
    """Return the data YAML of a folder: ``data.yaml``, else the only one; None where there is none."""
    files = sorted(p for p in folder.iterdir() if p.suffix in {".yaml", ".yml"})
    named = [p for p in files if p.stem == "data"]
    if len(named or files) > 1:
        raise ValueError(f"{where}: expected one data YAML, found {', '.join(p.name for p in files)}; name one of them")
    return next(iter(named or files), None)


def _open_bare(folder: Path, where: str, spec: LabelSpec) -> LabelledSet:
    """Open a folder without data YAML: as many classes as its lines use, called ``class_0`` and so on."""
    images = folder / "images"
    below = {p: next((s for s in SPLITS if p.name.startswith(s)), None) for p in images.iterdir() if p.is_dir()}
    splits = {split: str(path) for path, split in below.items() if split}
    if len(splits) < max(len(below), 1):  # folders that are no splits, or two of one: one split with all
        splits = {"train": str(images)}
    data = {"names": {}, "kpt_classes": [], "label_spec": replace(spec, nc=_ANY_CLASS), **splits}
    anything = _labelled_set(where, data)
    read = [anything.read(p)[0] for split in anything.splits for p in anything.pictures(split).values()]
    highest = max((int(labels.cls.max()) for labels in read if len(labels)), default=-1)
    if highest < 0:
        raise ValueError(f"{where}: expected label files with lines in {folder / 'labels'}, found none")
    names = {i: f"class_{i}" for i in range(highest + 1)}
    data |= {"names": names, "kpt_classes": sorted(names), "label_spec": replace(spec, nc=len(names))}
    if spec.kpt_shape is not None:
        data["kpt_shape"] = list(spec.kpt_shape)
    return _labelled_set(where, data)


def _images(value: str | Sequence[str], where: str) -> Iterator[tuple[str, Path]]:
    """Give key and file of each image of a split: a folder, a text file with a path a line, or a list of both."""
    for item in _as_list(value):
        path = Path(item)
        if path.is_dir():
            for file in sorted(path.rglob("*")):
                below = file.relative_to(path)
                if _is_image(file) and not any(part.startswith(".") for part in below.parts):  # as the host
                    yield _key(below), file
        elif path.is_file():
            for line in filter(None, map(str.strip, path.read_text(encoding="utf-8-sig").splitlines())):
                found = [file for file in (path.parent / line, Path(line).absolute()) if file.is_file()]
                if not found:
                    raise FileNotFoundError(f"{where}: expected the images that {path} names, found no {line}")
                yield _key(_below_split(found[0])), found[0]
        else:
            raise FileNotFoundError(f"{where}: expected images in {path}, found nothing there")


def _below_split(file: Path) -> PurePath:
    """Return the path of an image below ``images/<split>``; its bare name where no folder is called images."""
    folders = file.parts[:-1]
    if "images" not in folders:
        return PurePath(file.name)
    at = len(folders) - folders[::-1].index("images")
    return PurePath(*folders[at + 1 :], file.name)


def _key(path: PurePath) -> str:
    """Return a relative path without suffix, and without folders called images."""
    return without_images(path).with_suffix("").as_posix()


def _is_image(file: Path) -> bool:
    """Return whether the host reads such a file."""
    from ultralytics.data.utils import IMG_FORMATS

    return file.suffix[1:].lower() in IMG_FORMATS and file.is_file()


def _as_list(value: str | Sequence[str]) -> list[str]:
    """Return the paths of a split, which may be one."""
    return [value] if isinstance(value, str) else list(value)
