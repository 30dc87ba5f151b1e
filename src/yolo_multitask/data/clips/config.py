"""Data YAMLs of temporal models: clips, and which classes are followed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from yolo_multitask.data.clips.find import ClipEntry
from yolo_multitask.data.clips.spec import CLIP_FORMATS, ClipSpec
from yolo_multitask.data.config import check_yaml_keys, class_names, find_data, keypoint_classes, read_yaml
from yolo_multitask.data.labels import LabelSpec, check_kpt_shape

_SPLITS = ("train", "val", "test", "minival")
_ENTRY_KEYS = ("path", "frames", "classes", "format")


def load_clip_data(name: str | os.PathLike[str], split: str = "") -> dict[str, Any]:
    """Load and check the data YAML of a temporal model.

    Args:
        name: File, or bare name of one of our data sets (with or without ``.yaml``).
        split: Split that must be there (``train``, ``val`` or ``test``); empty for ``val``.

    Returns:
        The keys of the YAML, ``names`` as {index: name}, ``nc``, ``channels``, ``path``, ``yaml_file``, the splits as
        lists of absolute paths, and

        - ``objects``, ``players``: class indices that are followed, and the others;
        - ``kpt_classes``: players' classes with keypoints, all if it does not say;
        - ``clip_spec`` (ClipSpec), ``label_spec`` (LabelSpec): what labels hold;
        - ``clips``: {split: tuple of ClipEntry}, see `yolo_multitask.data.clips.read.read_clips`.

    Raises:
        ValueError: The YAML is unknown, does not parse or contradicts itself; the message says what to change.
        FileNotFoundError: An entry of a split does not exist.
    """
    file = Path(find_data(os.fspath(name)))
    if file.suffix.lower() not in (".yaml", ".yml") or not file.is_file():
        raise ValueError(f"data '{name}': expected a data YAML file with clips, found {file}")
    content = read_yaml(str(file))
    try:
        data = _load(content, file)
        _check_splits(data, split or "val")
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    return data


def clip_spec(data: Mapping[str, Any]) -> ClipSpec:
    """Return which classes of a data YAML are followed, which are players, and what label lines hold.

    Args:
        data: The YAML; ``names``, ``objects``, ``kpt_shape``, ``kpt_classes``, ``labels`` and ``format`` are read.

    Raises:
        ValueError: They contradict each other.
    """
    names = class_names(data)
    if names is None:
        raise ValueError(f"'names': expected names of classes, found {data.get('names')!r}")
    objects = _objects(data.get("objects"), names)
    players = tuple(c for c in names if c not in objects)
    shape = None if data.get("kpt_shape") is None else check_kpt_shape(data["kpt_shape"])
    if shape is not None and not players:
        raise ValueError("'kpt_shape' is given, but all classes are 'objects', which have none; remove one of them")
    given = data.get("kpt_classes")
    kpt_classes = keypoint_classes(given, names) if given is not None else list(players if shape else ())
    wrong = [names[c] for c in kpt_classes if c in objects]
    if wrong:
        raise ValueError(f"'kpt_classes': expected classes of players, found {wrong[0]!r}, which is in 'objects'")
    kind = data.get("format")
    if kind is not None and kind not in (*CLIP_FORMATS, "multitask"):
        raise ValueError(f"'format': expected one of {', '.join(CLIP_FORMATS)} for clips, found {kind!r}")
    if kind in ("csv", "annotation"):
        lines = LabelSpec(nc=len(names), kpt_shape=shape, polygons=False, ids=True)
    else:
        lines = LabelSpec.from_data({**data, "nc": len(names)})
    return ClipSpec(
        names=names, objects=objects, players=players, kpt_shape=shape, kpt_classes=tuple(kpt_classes), lines=lines
    )


def _load(content: dict[str, Any], file: Path) -> dict[str, Any]:
    """Check the keys of a data YAML and resolve its paths."""
    check_yaml_keys(content)
    if content.get("download"):
        raise ValueError("'download': expected clips that are there, they are not downloaded; remove the key")
    spec = clip_spec(content)
    names = dict(spec.names)
    if content.get("nc") is not None and content["nc"] != len(names):
        raise ValueError(f"'nc': expected {len(names)}, the number of 'names', found {content['nc']!r}")
    kind = content.get("format") if content.get("format") in CLIP_FORMATS else None
    roots = _roots(content.get("path"), file)
    clips = {s: _entries(content[s], s, roots, spec, kind) for s in _SPLITS if content.get(s)}
    return {
        **content,
        **{s: [str(entry.path) for entry in entries] for s, entries in clips.items()},
        "path": roots[0],
        "yaml_file": str(file),
        "names": names,
        "nc": len(names),
        "channels": content.get("channels", 3),
        "kpt_shape": None if spec.kpt_shape is None else list(spec.kpt_shape),
        "objects": list(spec.objects),
        "players": list(spec.players),
        "kpt_classes": list(spec.kpt_classes),
        "clip_spec": spec,
        "label_spec": spec.lines,
        "clips": clips,
    }


def _objects(value: Any, names: Mapping[int, str]) -> tuple[int, ...]:
    """Return the classes that are followed."""
    if value is None:
        if len(names) == 1:
            return tuple(names)
        raise ValueError(
            f"expected the key 'objects' with the classes that are followed (a ball), as there are several classes: "
            f"{', '.join(names.values())}. Add e.g. `objects: [{next(iter(names.values()))}]`"
        )
    listed = list(value) if isinstance(value, (list, tuple)) else [value]
    index = {v: k for k, v in names.items()}
    found = []
    for item in listed:
        number = (
            item if isinstance(item, int) and not isinstance(item, bool) and item in names else index.get(str(item))
        )
        if number is None:
            close = get_close_matches(str(item), list(index), 1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"'objects': expected classes of {', '.join(index)}, found {item!r}.{hint}")
        found.append(number)
    if not found or len(set(found)) != len(found):
        raise ValueError(f"'objects': expected each class that is followed once, found {value!r}")
    return tuple(found)


def _roots(path: Any, file: Path) -> list[Path]:
    """Return the folders that paths of splits may start at: as the host's, and that of the YAML."""
    here = file.parent.resolve()
    if path is None:
        return [here]
    given = Path(str(path)).expanduser()
    if given.is_absolute() or given.exists():
        return [given.resolve()]
    if (here / given).exists():
        return [(here / given).resolve()]
    from ultralytics.utils import DATASETS_DIR

    return [(DATASETS_DIR / given).resolve()]


def _entries(value: Any, split: str, roots: list[Path], spec: ClipSpec, kind: str | None) -> tuple[ClipEntry, ...]:
    """Return the entries of a split."""
    found = []
    for item in value if isinstance(value, (list, tuple)) else [value]:
        entry = {"path": item} if isinstance(item, str) else item
        if not isinstance(entry, Mapping) or not isinstance(entry.get("path"), str):
            raise ValueError(f"'{split}': expected a path or {{path: clip, frames: [first, last]}}, found {item!r}")
        unknown = [key for key in entry if key not in _ENTRY_KEYS]
        if unknown:
            raise ValueError(f"'{split}': expected the keys {', '.join(_ENTRY_KEYS)} of an entry, found {unknown[0]!r}")
        own = entry.get("format", kind)
        if own is not None and own not in CLIP_FORMATS:
            raise ValueError(f"'{split}': expected a format of {', '.join(CLIP_FORMATS)}, found {own!r}")
        found.append(
            ClipEntry(
                path=(roots[0] / Path(entry["path"]).expanduser()).resolve(),
                frames=_frames(entry.get("frames"), split),
                classes=_classes(entry.get("classes"), split, spec),
                format=own,
            )
        )
    return tuple(found)


def _frames(value: Any, split: str) -> tuple[int, int] | None:
    """Return the range of frames of an entry."""
    if value is None:
        return None
    good = isinstance(value, (list, tuple)) and len(value) == 2
    good = good and all(isinstance(v, int) and not isinstance(v, bool) for v in value)
    if not good or not 0 <= value[0] <= value[1]:
        raise ValueError(f"'{split}': expected `frames: [first, last]`, two frame numbers in order, found {value!r}")
    return value[0], value[1]


def _classes(value: Any, split: str, spec: ClipSpec) -> tuple[int, ...] | None:
    """Return the classes that an entry says are labelled: all objects or none, all players or none."""
    if value is None:
        return None
    index = {v: k for k, v in spec.names.items()}
    listed = list(value) if isinstance(value, (list, tuple)) else [value]
    unknown = [item for item in listed if str(item) not in index]
    if unknown:
        raise ValueError(f"'{split}': expected `classes` of {', '.join(index)}, found {unknown[0]!r}")
    found = tuple(index[str(item)] for item in listed)
    for kind in (spec.objects, spec.players):
        if 0 < len(set(kind) & set(found)) < len(kind):
            every = ", ".join(spec.names[c] for c in kind)
            raise ValueError(f"'{split}': expected `classes` to name all of {every} or none of them, found {value!r}")
    return found


def _check_splits(data: Mapping[str, Any], split: str) -> None:
    """Check that the splits are there."""
    missing = [s for s in dict.fromkeys((*_SPLITS[:2], split)) if s not in data]
    if missing:
        raise ValueError(f"expected the splits train and val, found no '{missing[0]}'")
    if not data["clips"].get(split):
        raise FileNotFoundError(f"{data['yaml_file']}: expected clips under '{split}', found none")
    for entry in data["clips"][split]:
        if not entry.path.exists():
            raise FileNotFoundError(
                f"{data['yaml_file']}: '{split}': expected a clip at {entry.path}, found nothing there"
            )
