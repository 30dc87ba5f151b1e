"""Data YAMLs: found by name, loaded by the host, checked by us.

The host's ``check_det_dataset`` resolves paths and downloads. This module adds what it does not check: misspelt keys,
the keypoint keys against each other, and what the label lines hold. Everything that can be checked without the images
is checked before the host may start a download.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from yolo_multitask.configs import config_names, resolve_yaml
from yolo_multitask.data.sources import Source, has_sources, read_sources
from yolo_multitask.data.spec import LabelSpec, check_kpt_shape

__all__ = ("KNOWN_KEYS", "load_data", "resolve_yaml")

KNOWN_KEYS = (
    *("path", "train", "val", "test", "minival", "validation", "names", "nc", "channels", "download", "masks_dir"),
    *("kpt_shape", "flip_idx", "kpt_names", "kpt_classes", "kpt_oks_sigmas"),
    *("labels", "task", "format", "objects", "coco_categories", "annotations", "yaml_file"),
)
_SPLITS = ("train", "val", "test", "minival")


def load_data(
    name: str | os.PathLike[str],
    task: str | None = None,
    labels: Mapping[str, bool] | None = None,
    split: str = "",
) -> dict[str, Any]:
    """Load a data YAML through the host and check it.

    Args:
        name: File, bare name of one of our or the host's data sets (with or without ``.yaml``), folder, archive or URL.
        task: Task the caller wants, used where the YAML does not say what its lines hold (see `LabelSpec.from_data`).
        labels: What the lines hold, used where the YAML does not say.
        split: Split that must exist (``train``, ``val`` or ``test``); empty for the host's default, ``val``.

    Returns:
        The host's dict (absolute image paths, ``names`` as {index: name}, ``nc``, ``channels``) plus ``label_spec``
        (LabelSpec) and ``kpt_classes`` (sorted class indices; all classes when the YAML names none). Where a split
        lists sources, ``sources`` holds them by split. Picklable.

    Raises:
        ValueError: The YAML is unknown, does not parse or contradicts itself; the message says what to change.
        FileNotFoundError: The images are missing and nothing says where to download them (the host's message).
    """
    from ultralytics.data.utils import check_det_dataset

    path, sources = find_data(os.fspath(name)), None
    try:
        if path.lower().endswith((".yaml", ".yml")) and Path(path).is_file():
            content = read_yaml(path)
            if has_sources(content):
                content, sources = _read_sources(content, Path(path), task, labels)
            _check(content, path, task, labels)
        with _resolved(path, content if sources else None) as file:
            data: dict[str, Any] = check_det_dataset(file, split=split)
    except (SyntaxError, TypeError, KeyError) as error:  # what the host raises for a bad YAML
        message = error.args[0] if error.args else error
        raise ValueError(f"{path}: {message}") from error
    if sources:
        data |= {"yaml_file": path, "sources": sources}
    data["label_spec"], data["kpt_classes"] = _check(data, path, task, labels)
    return data


def _read_sources(
    content: dict[str, Any], file: Path, task: str | None, labels: Mapping[str, bool] | None
) -> tuple[dict[str, Any], dict[str, list[Source]]]:
    """Resolve the sources of a data YAML; see `read_sources`."""
    from ultralytics.utils import DATASETS_DIR

    _check_keys(content)
    given = content.get("path")
    roots = [file.parent] if given is None else [Path(given), file.parent / given, DATASETS_DIR / given, file.parent]
    try:
        load = partial(load_data, task=task, labels=labels)
        return read_sources(content, [*roots, DATASETS_DIR], load, task, labels)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


@contextmanager
def host_yaml(data: Mapping[str, Any]) -> Iterator[str]:
    """Give a data YAML that the host can load itself: where splits list sources a temporary one, without their keys.

    Args:
        data: What `load_data` returned.
    """
    plain = {k: v for k, v in data.items() if k in {*_SPLITS, "names", "channels", "kpt_shape"} and v is not None}
    with _resolved(str(data["yaml_file"]), plain if data.get("sources") else None) as file:
        yield file


@contextmanager
def _resolved(path: str, content: Mapping[str, Any] | None) -> Iterator[str]:
    """Give the data YAML that the host is to load: the one at `path`, or a temporary one with `content`."""
    if content is None:
        yield path
        return
    from ultralytics.utils import YAML

    with TemporaryDirectory() as folder:
        file = Path(folder) / Path(path).name
        YAML.save(file, {**content, "path": str(Path(path).parent.resolve())})
        yield str(file)


def data_file(name: str | Path) -> str:
    """Return the absolute path of a data YAML by path or name, however it is spelt; a URL stays as it is."""
    found = find_data(str(name))
    return found if "://" in found else str(Path(found).resolve())


def find_data(name: str) -> str:
    """Return the path of a data YAML, or the name itself where the host resolves it (URL, folder, archive)."""
    from ultralytics.utils.checks import check_file

    if "://" in name:
        return name
    found = resolve_yaml(name, "datasets")
    if found is not None:
        return str(found)
    if os.path.exists(name):
        return name
    tries = [name] if Path(name).suffix else [f"{name}.yaml", f"{name}.yml"]
    for candidate in tries:
        hit = check_file(candidate, download=False, hard=False)
        if hit:
            return str(hit)
    ours = config_names("datasets")
    close = get_close_matches(Path(name).name, ours, 1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    raise ValueError(
        f"data '{name}': expected a data YAML, found no such file here and no data set of that name.{hint} "
        f"Data sets of this package: {', '.join(ours)}; every Ultralytics data set name works too, e.g. coco8-pose.yaml"
    )


def read_yaml(path: str) -> dict[str, Any]:
    """Read a YAML file with the host's reader and return the mapping."""
    import yaml
    from ultralytics.utils import YAML

    try:
        data = YAML.load(path)
    except (yaml.YAMLError, ValueError) as error:
        detail = " ".join(str(error).split())
        raise ValueError(f"{path}: expected a YAML mapping, found text that does not parse: {detail}") from error
    if not isinstance(data, dict) or not data:
        found = "an empty file" if not data else type(data).__name__
        raise ValueError(f"{path}: expected a YAML mapping with train, val and names, found {found}")
    return data


def _check(
    data: Mapping[str, Any], where: str, task: str | None, labels: Mapping[str, bool] | None
) -> tuple[LabelSpec | None, list[int]]:
    """Check our keys and return (what the lines hold, classes with keypoints); None where `names` is for the host."""
    try:
        check_yaml_keys(data)
        names = class_names(data)
        if names is None:
            return None, []
        spec = LabelSpec.from_data({**data, "nc": len(names)}, task=task, labels=labels)
        return spec, keypoint_classes(data.get("kpt_classes"), names)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _check_keys(data: Mapping[str, Any]) -> None:
    """Refuse keys that are nearly a known key, and split values that the host cannot join to a path."""
    for key in data:
        if key in KNOWN_KEYS:
            continue
        close = get_close_matches(str(key).lower(), KNOWN_KEYS, 1, 0.8)
        if close and data.get(close[0]) is None:
            raise ValueError(f"unknown key '{key}', did you mean '{close[0]}'? Rename or remove it")
    for split in _SPLITS:
        value = data.get(split)
        for item in value if isinstance(value, (list, tuple)) else []:
            if not isinstance(item, (str, Mapping)):
                raise ValueError(f"'{split}': expected a path or a list of paths, found the entry {item!r}")


def check_yaml_keys(data: Mapping[str, Any]) -> None:
    """Check the keys of a data YAML, and those about keypoints against each other.

    Raises:
        ValueError: One is misspelt or contradicts another.
    """
    _check_keys(data)
    shape = None if data.get("kpt_shape") is None else check_kpt_shape(data["kpt_shape"])
    _check_keypoint_keys(data, shape)


def _check_keypoint_keys(data: Mapping[str, Any], shape: tuple[int, int] | None) -> None:
    """Check flip_idx, kpt_names and kpt_oks_sigmas against kpt_shape."""
    for key in ("flip_idx", "kpt_names", "kpt_classes", "kpt_oks_sigmas"):
        if data.get(key) and shape is None:
            raise ValueError(f"'{key}' is given without 'kpt_shape'; add `kpt_shape: [K, D]` or remove '{key}'")
    if shape is None:
        return
    count = shape[0]
    flip = data.get("flip_idx")
    if flip and not (isinstance(flip, (list, tuple)) and sorted(map(str, flip)) == sorted(map(str, range(count)))):
        found = f"{len(flip)} entries: {flip!r}" if isinstance(flip, (list, tuple)) else repr(flip)
        raise ValueError(
            f"'flip_idx': expected a permutation of 0..{count - 1} ({count} keypoints in kpt_shape), found {found}"
        )
    sigmas = data.get("kpt_oks_sigmas")
    if sigmas is not None:
        if not isinstance(sigmas, (list, tuple)) or len(sigmas) != count:
            found = f"{len(sigmas)} entries" if isinstance(sigmas, (list, tuple)) else repr(sigmas)
            raise ValueError(f"'kpt_oks_sigmas': expected {count} numbers, one a keypoint, found {found}")
        bad = [s for s in sigmas if isinstance(s, bool) or not isinstance(s, (int, float)) or not 0 < s < float("inf")]
        if bad:
            raise ValueError(f"'kpt_oks_sigmas': expected numbers above 0, found {bad[0]!r}")
    by_class = data.get("kpt_names")
    for cls, names in (by_class if isinstance(by_class, Mapping) else {}).items():
        if not isinstance(names, (list, tuple)) or len(names) != count:
            found = f"{len(names)}" if isinstance(names, (list, tuple)) else repr(names)
            raise ValueError(f"'kpt_names' of class {cls}: expected {count} names as in kpt_shape, found {found}")


def class_names(data: Mapping[str, Any]) -> dict[int, str] | None:
    """Return the class names by index, or None where the host must complain about them."""
    names = data.get("names")
    if isinstance(names, (list, tuple)):
        names = dict(enumerate(names))
    if names is None and str(data.get("nc", "")).isdecimal():
        names = {i: f"class_{i}" for i in range(int(data["nc"]))}
    if not isinstance(names, Mapping) or not names or not all(str(k).isdecimal() for k in names):
        return None
    return {int(k): str(v) for k, v in names.items()}


def keypoint_classes(value: Any, names: Mapping[int, str]) -> list[int]:
    """Return the sorted class indices of `kpt_classes` (names or indices); all classes when it is None."""
    if value is None:
        return sorted(names)
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError(f"'kpt_classes': expected a list of class names, found {value!r}")
    index = {v: k for k, v in names.items()}
    out = set()
    for item in value:
        if isinstance(item, int) and not isinstance(item, bool) and item in names:
            out.add(item)
        elif str(item) in index:
            out.add(index[str(item)])
        else:
            close = get_close_matches(str(item), list(index), 1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            listed = ", ".join(list(index)[:100])
            raise ValueError(f"'kpt_classes': expected names of classes, found {item!r}.{hint} Classes: {listed}")
    return sorted(out)
