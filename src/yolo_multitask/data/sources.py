"""Several sources in one split, each with its own tasks, classes, label lines and share of the training.

A split of a data YAML may be a list of sources::

    train:
      - {path: coco-seg, tasks: [detect, segment]}
      - {path: crowdpose/data.yaml, tasks: [detect, pose], classes: [person], weight: 2}
      - {path: mot17/images/train, labels: {ids: true}, names: [human], classes: {human: person}}

`path` is a data YAML, a data set folder with one, or images as in any split. What a source without a data YAML of
its own does not say is taken from the YAML that lists it. See `Source` for what becomes of the other keys.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo_multitask.data.spec import LabelSpec
from yolo_multitask.tasks import TASKS

SPLITS = ("train", "val", "test", "minival")
SOURCE_KEYS = ("path", "split", "tasks", "classes", "weight", "names", "labels", "task", "format", "kpt_shape")
_LINE_KEYS = ("labels", "task", "format", "kpt_shape")  # what says what the lines hold
_KEYPOINT_KEYS = ("kpt_shape", "flip_idx", "kpt_oks_sigmas")


@dataclass(frozen=True, kw_only=True)
class Source:
    """One source of a split.

    Attributes:
        name: What to call it in messages and tables.
        paths: Image folders or list files.
        spec: What its label lines hold.
        tasks: What counts as labelled. Of the others nothing is learned and nothing is measured on these images.
        classes: Class in the training by class in the lines. A line of another class is left out, with a count.
        labelled: Classes of the training of which every object is labelled. Of the others nothing is known here: they
            are neither positive nor background.
        kpt_classes: Classes of the training whose keypoints are labelled.
        views: Whether embeddings are learned from its objects, by their ids or from two views of an image.
        weight: How often an image is taken in an epoch, on average.
    """

    name: str
    paths: tuple[str, ...]
    spec: LabelSpec
    tasks: tuple[str, ...]
    classes: Mapping[int, int]
    labelled: tuple[int, ...]
    kpt_classes: tuple[int, ...]
    views: bool = True
    weight: float = 1.0

    def unlabelled(self, count: int) -> NDArray[np.bool_]:
        """Which of `count` classes are not labelled, bool (C,)."""
        out = np.ones(count, dtype=bool)
        out[list(self.labelled)] = False
        return out


def has_sources(data: Mapping[str, Any]) -> bool:
    """Return whether a split of a data YAML lists sources with keys of their own."""
    splits = (data.get(split) for split in SPLITS)
    return any(isinstance(item, Mapping) for value in splits if isinstance(value, (list, tuple)) for item in value)


def read_sources(
    data: Mapping[str, Any],
    root: Sequence[Path],
    load: Callable[[str], dict[str, Any]],
    task: str | None = None,
    labels: Mapping[str, bool] | None = None,
) -> tuple[dict[str, Any], dict[str, list[Source]]]:
    """Resolve the sources of a data YAML.

    Args:
        data: The YAML; a plain path in a list with sources is a source without keys.
        root: Folders that relative paths may start from, in the order in which they are tried.
        load: Loads the data YAML of a source.
        task: As `LabelSpec.from_data`, for sources without a data YAML.
        labels: The same.

    Returns:
        The YAML with absolute paths in the place of sources, and `names` and the keypoint keys where only sources have
        them; and the sources of each split.

    Raises:
        ValueError: A source is malformed, or does not fit the others; the message says what to change.
        FileNotFoundError: There is nothing at its path.
    """
    out = dict(data)
    found: dict[str, list[_Found]] = {}
    for split in SPLITS:
        value = data.get(split)
        items = value if isinstance(value, (list, tuple)) else [value] if value else []
        if split in SPLITS[:2] or any(isinstance(item, Mapping) for item in items):
            reader = _Reader(data=data, root=root, load=load, task=task, labels=labels)
            found[split] = [reader.find(item, split) for item in items]
    everything = [source for sources in found.values() for source in sources]
    out["names"] = names = _names(data, everything)
    out.pop("nc", None)
    posed = [s for s in everything if "pose" in s.tasks]
    for key in _KEYPOINT_KEYS:
        given = [s.own[key] for s in posed if s.own.get(key) is not None]
        if out.get(key) is None and given:
            out[key] = given[0]
    if out.get("channels") is None and len(channels := {s.own.get("channels", 3) for s in everything}) == 1:
        out["channels"] = channels.pop()
    sources = {split: _distinct([_resolve(s, names, out) for s in listed]) for split, listed in found.items() if listed}
    for split, listed in sources.items():
        out[split] = [path for source in listed for path in source.paths]
    _settle_keypoints(out, posed, sources, names)
    spec = merged_spec([s for listed in sources.values() for s in listed], len(names), out.get("kpt_shape"))
    out["labels"] = {"keypoints": spec.kpt_shape is not None, "polygons": spec.polygons, "ids": spec.ids}
    for key in ("task", "format"):
        out.pop(key, None)
    return out, sources


def _distinct(sources: list[Source]) -> list[Source]:
    """Return the sources under names that differ."""
    seen: dict[str, int] = {}
    out = []
    for source in sources:
        seen[source.name] = count = seen.get(source.name, 0) + 1
        out.append(source if count == 1 else replace(source, name=f"{source.name} #{count}"))
    return out


def _settle_keypoints(
    out: dict[str, Any], posed: Sequence[_Found], sources: dict[str, list[Source]], names: Mapping[int, str]
) -> None:
    """Bring the classes with keypoints and the names of these into numbers of the training, in place."""
    every = [source for listed in sources.values() for source in listed]
    index = {name: i for i, name in names.items()}
    if out.get("kpt_classes") is not None:
        top = {index.get(str(c), c) for c in out["kpt_classes"]}
        for split, listed in sources.items():
            sources[split] = [replace(s, kpt_classes=tuple(c for c in s.kpt_classes if c in top)) for s in listed]
    elif classes := sorted({c for source in every for c in source.kpt_classes}):
        out["kpt_classes"] = classes
    lists = [(found, points) for found in posed for points in found.keypoint_names.values()]
    for found, points in lists[1:]:
        if points != lists[0][1]:
            raise ValueError(
                f"{found.where}: its keypoints are {', '.join(points)}, those of {lists[0][0].where} "
                f"{', '.join(lists[0][1])}; all sources with 'pose' need the same in the same order. Leave 'pose' out "
                "of its 'tasks', or reorder its labels"
            )
    if out.get("kpt_names") is None:
        named = {
            index[target]: list(points)
            for found in posed
            for own, points in found.keypoint_names.items()
            if (target := found.class_names.get(own)) in index
        }
        if named:
            out["kpt_names"] = named


def sources_of(data: Mapping[str, Any], img_path: Any, split: str) -> tuple[Source, ...]:
    """Return the sources that the images at `img_path` are from, none where that split lists no sources.

    Args:
        data: What `load_data` returned.
        img_path: The paths of a split.
        split: Its name; another one with these paths is taken where it does not fit.
    """
    by_split = data.get("sources", {})
    for listed in (by_split.get(split, ()), *by_split.values()):
        if [path for source in listed for path in source.paths] == img_path:
            return tuple(listed)
    return ()


def merged_spec(sources: Sequence[Source], nc: int, kpt_shape: Any) -> LabelSpec:
    """Return what the instances of several sources may have."""
    tasks = {task for source in sources for task in source.tasks}
    return LabelSpec(
        nc=nc,
        kpt_shape=kpt_shape if "pose" in tasks else None,
        polygons="segment" in tasks,
        ids=any(source.spec.ids and "track" in source.tasks for source in sources),
    )


@dataclass(frozen=True, kw_only=True)
class _Found:
    """A source before its classes are known in the training: its keys, its own data YAML, its images."""

    item: Mapping[str, Any]
    own: Mapping[str, Any]
    paths: tuple[str, ...]
    spec: LabelSpec
    tasks: tuple[str, ...]
    names: Mapping[int, str]

    @property
    def where(self) -> str:
        return f"source '{self.item['path']}'"

    @property
    def class_names(self) -> dict[int, str]:
        """Name of a class in the training by its number in the lines, of the classes that are taken."""
        chosen = self.item.get("classes")
        names = chosen if isinstance(chosen, Mapping) else {n: n for n in chosen or self.names.values()}
        return {i: str(names[name]) for i, name in self.names.items() if name in names}

    @property
    def keypoint_names(self) -> dict[int, list[str]]:
        """Names of the keypoints by class in the lines, where the data YAML of the source has them."""
        given = self.own.get("kpt_names")
        return {int(k): list(v) for k, v in given.items()} if isinstance(given, Mapping) else {}


@dataclass(frozen=True, kw_only=True)
class _Reader:
    """What is the same for all sources of a data YAML; see `read_sources`."""

    data: Mapping[str, Any]
    root: Sequence[Path]
    load: Callable[[str], dict[str, Any]]
    task: str | None
    labels: Mapping[str, bool] | None

    def find(self, item: Any, split: str) -> _Found:
        """Find the images of a source and what its lines hold."""
        item = _keys(item, split)
        where = f"source '{item['path']}'"
        path = _path(item["path"], self.root)
        config = _data_yaml(path)
        if config is not None:
            own, paths = _own_data(self.load(str(config)), item, split, where)
        else:
            keys = (*_LINE_KEYS, "names", "nc", "channels")
            own, paths = {k: self.data[k] for k in keys if self.data.get(k) is not None}, _images(path, split)
        given = {k: item[k] for k in _LINE_KEYS if k in item}
        if given.keys() - {"kpt_shape"}:
            own = {k: v for k, v in own.items() if k not in {"labels", "task", "format"}}
        own |= given
        names = _as_names(item.get("names", own.get("names")), where)
        try:
            spec = LabelSpec.from_data({**own, "names": names, "nc": len(names)}, task=self.task, labels=self.labels)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        return _Found(item=item, own=own, paths=paths, spec=spec, tasks=_tasks(item, spec, where), names=names)


def _keys(item: Any, split: str) -> Mapping[str, Any]:
    """Return the keys of a source, checked; a plain path is one with no other key."""
    item = {"path": item} if isinstance(item, str) else item
    if not isinstance(item, Mapping) or not isinstance(item.get("path"), str):
        raise ValueError(f"'{split}': expected paths or sources with a 'path', found {item!r}")
    where = f"source '{item['path']}'"
    for key in item:
        if key not in SOURCE_KEYS:
            close = get_close_matches(str(key), SOURCE_KEYS, 1)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            raise ValueError(f"{where}: unknown key '{key}'; expected {', '.join(SOURCE_KEYS)}.{hint}")
    return item


def _own_data(
    own: dict[str, Any], item: Mapping[str, Any], split: str, where: str
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return a source's own data YAML as it was loaded, and the images of its split."""
    if own.get("sources"):
        raise ValueError(f"{where}: expected a data set with plain paths, found one that lists sources itself")
    wanted = item.get("split", split)
    images = own.get(wanted)
    if not images:
        there = ", ".join(s for s in SPLITS if own.get(s))
        raise ValueError(f"{where}: expected a split '{wanted}', found {there}; name one with 'split:'")
    return own, tuple(images) if isinstance(images, (list, tuple)) else (images,)


def _path(text: str, root: Sequence[Path]) -> Path:
    """Return the absolute path of a source."""
    tries = [(folder / text).resolve() for folder in root]
    for path in tries:
        if path.exists():
            return path
    listed = ", ".join(dict.fromkeys(map(str, tries)))
    raise FileNotFoundError(
        f"source '{text}': expected a data YAML, a data set folder or images, found none of {listed}"
    )


def _data_yaml(path: Path) -> Path | None:
    """Return the data YAML that a path is or that a data set folder has, None for plain images."""
    if path.suffix in {".yaml", ".yml"}:
        return path
    file = path / "data.yaml"
    return file if file.is_file() else None


def _images(path: Path, split: str) -> tuple[str, ...]:
    """Return the images of a path without a data YAML: of a split below `images/` where that is how they are kept."""
    below = path / "images" / split
    return (str(below.resolve() if below.is_dir() else path),)


def _as_names(value: Any, where: str) -> dict[int, str]:
    """Return class names by index."""
    if isinstance(value, (list, tuple)):
        value = dict(enumerate(value))
    if not isinstance(value, Mapping) or not value or not all(str(k).isdecimal() for k in value):
        raise ValueError(
            f"{where}: expected 'names' as a list, or by class index, here or in the data YAML, found {value!r}"
        )
    return {int(k): str(v) for k, v in value.items()}


def _tasks(item: Mapping[str, Any], spec: LabelSpec, where: str) -> tuple[str, ...]:
    """Return the tasks of a source: those named, else all that its lines hold. Boxes are always there."""
    named = item.get("tasks")
    if named is None:
        return spec.tasks
    if not isinstance(named, (list, tuple)) or not set(named) <= set(TASKS):
        raise ValueError(f"{where}: 'tasks': expected a list of {', '.join(TASKS)}, found {named!r}")
    missing = [task for task in named if task not in {*spec.tasks, "track"}]  # views of an image need no ids
    if missing:
        raise ValueError(
            f"{where}: 'tasks' names {missing[0]}, but its lines are `{spec.grammar}`; {spec.advice[missing[0]]}"
        )
    return tuple(task for task in TASKS if task == "detect" or task in named)


def _names(data: Mapping[str, Any], found: Sequence[_Found]) -> dict[int, str]:
    """Return the classes of the training: those of the data YAML, else the union of those of the sources."""
    if data.get("names") is not None:
        return _as_names(data["names"], "data YAML")
    taken: dict[str, None] = {}
    for source in found:
        chosen = source.item.get("classes")
        names = chosen.values() if isinstance(chosen, Mapping) else chosen or source.names.values()
        taken.update(dict.fromkeys(map(str, names)))
    return dict(enumerate(taken))


def _resolve(found: _Found, names: Mapping[int, str], data: Mapping[str, Any]) -> Source:
    """Return a source with its classes in numbers of the training."""
    where, item = found.where, found.item
    index = {name: i for i, name in names.items()}
    own = {name: i for i, name in found.names.items()}
    chosen = item.get("classes")
    if chosen is None:
        chosen = [name for name in own if name in index]
    pairs = dict(chosen) if isinstance(chosen, Mapping) else {name: name for name in chosen}
    if not pairs:
        raise ValueError(f"{where}: expected 'classes' that the data YAML names, too, found {', '.join(own)}")
    classes: dict[int, int] = {}
    for mine, theirs in pairs.items():
        for name, known, whose in ((mine, own, "of the source"), (theirs, index, "of the data YAML")):
            if str(name) not in known:
                close = get_close_matches(str(name), list(known), 1)
                hint = f" Did you mean '{close[0]}'?" if close else ""
                raise ValueError(f"{where}: 'classes': expected names {whose}, found '{name}'.{hint}")
        classes[own[str(mine)]] = index[str(theirs)]
    _check_keypoints(found, data)
    weight = item.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 < weight < 1000:
        raise ValueError(f"{where}: 'weight': expected a number above 0, found {weight!r}")
    keypoint_classes = found.own.get("kpt_classes")
    if keypoint_classes is None:
        keypoint_classes = list(found.names)
    return Source(
        name=str(item["path"]),
        paths=found.paths,
        spec=replace(found.spec, nc=max(found.names) + 1),
        tasks=found.tasks,
        classes=classes,
        labelled=tuple(sorted(set(classes.values()))),
        kpt_classes=tuple(sorted({classes[c] for c in keypoint_classes if c in classes}))
        if "pose" in found.tasks
        else (),
        views=item.get("tasks") is None or "track" in found.tasks,
        weight=float(weight),
    )


def _check_keypoints(found: _Found, data: Mapping[str, Any]) -> None:
    """Refuse keypoints that are not those of the training."""
    shape, own = data.get("kpt_shape"), found.spec.kpt_shape
    if "pose" not in found.tasks or own is None:
        return
    if shape is None or int(shape[0]) != own[0]:
        raise ValueError(
            f"{found.where}: its instances have {own[0]} keypoints, those of the training {shape and shape[0]}; all "
            "sources with 'pose' need the same. Leave 'pose' out of its 'tasks'"
        )
    mine, theirs = found.own.get("flip_idx"), data.get("flip_idx")
    if mine is not None and theirs is not None and list(mine) != list(theirs):
        raise ValueError(
            f"{found.where}: its 'flip_idx' is {list(mine)}, that of the training {list(theirs)}: the order of the "
            "keypoints differs. Leave 'pose' out of its 'tasks', or reorder its labels"
        )
