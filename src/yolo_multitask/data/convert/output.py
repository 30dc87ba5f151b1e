"""Writing a converted data set: images and labels by split, one data YAML, whole or not at all.

Layout: ``out/images/<split>/x.jpg``, ``out/labels/<split>/x.txt``, ``out/data.yaml``.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

import yaml

from yolo_multitask.data.labels import cache_file

SPLITS = ("train", "val", "test")


def read_data_yaml(out: Path) -> dict[str, Any]:
    """Return ``out/data.yaml`` as a dict, empty when there is none.

    Raises:
        ValueError: The file is not a YAML mapping.
    """
    file = out / "data.yaml"
    if not file.is_file():
        return {}
    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{file}: expected a YAML mapping, found {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise ValueError(f"{file}: expected a YAML mapping, found {type(data).__name__}")
    return data


def written_splits(out: Path) -> list[str]:
    """Return the splits of the data set in `out`: those that its data YAML names, and those with a folder."""
    data = read_data_yaml(out)
    return [s for s in SPLITS if data.get(s) or (out / "images" / s).exists() or (out / "labels" / s).exists()]


def check_free(out: Path, splits: Sequence[str], exist_ok: bool) -> None:
    """Refuse to overwrite a split.

    Raises:
        ValueError: A split exists and `exist_ok` is False, or `out` is a file.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"out={out}: expected a folder to write, found a file")
    taken = [s for s in written_splits(out) if s in splits]
    if taken and not exist_ok:
        raise ValueError(
            f"out={out}: the split {', '.join(taken)} exists already; give exist_ok=True to replace it, another split= "
            "or another out="
        )


def check_apart(out: Path, splits: Sequence[str], sources: Iterable[Path]) -> None:
    """Refuse to replace a split in which there is what it is made of: that would be gone.

    Raises:
        ValueError: A file of `sources` lies in a split that exists.
    """
    replaced = [p.resolve() for s in splits for p in (out / "images" / s, out / "labels" / s) if p.exists()]
    if not replaced:
        return
    for folder in {source.parent for source in sources}:
        if any(folder.resolve().is_relative_to(p) for p in replaced):
            raise ValueError(
                f"out={out}: expected the source elsewhere, found {folder} in the split that is replaced, where it "
                "would be deleted; give another out="
            )


def without_images(path: PurePath) -> PurePath:
    """Return a path below ``images/<split>`` without folders called images.

    The host finds the label file of an image by its last folder of that name, which has to be that of the data set.
    """
    return PurePath(*(p for p in path.parts[:-1] if p != "images"), path.name)


def place_image(source: Path, target: Path, copy: bool) -> None:
    """Hard-link an image into the data set, or copy it where that is asked for or a link is impossible."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not copy:
        try:
            os.link(os.path.realpath(source), target)
            return
        except OSError:  # another device, or a file system without hard links
            pass
    shutil.copy2(source, target)


def data_yaml_text(data: Mapping[str, Any]) -> str:
    """Return the text of a data YAML with one line a key and the names below each other, at the end."""
    options: dict[str, Any] = {"sort_keys": False, "allow_unicode": True, "width": 120}
    lines = []
    for key, value in sorted(data.items(), key=lambda item: item[0] == "names"):
        inline = None if key != "names" and isinstance(value, (list, tuple, dict)) else False  # of what is in it
        lines.append(yaml.safe_dump({key: value}, default_flow_style=inline, **options))
    return "".join(lines)


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """Give a temporary folder beside `out`, on the same device; it is removed in the end."""
    out.parent.mkdir(parents=True, exist_ok=True)
    stage = out.parent / f".{out.name}.{uuid.uuid4().hex[:8]}.tmp"
    stage.mkdir()
    try:
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def install(stage: Path, out: Path, splits: Sequence[str], files: Sequence[str] = ()) -> None:
    """Move a staged data set to `out`. If anything fails, `out` is as before.

    Args:
        stage: Folder with ``images/<split>``, ``labels/<split>`` and ``data.yaml``.
        out: The data set; other splits in it are kept, the given ones replaced.
        splits: Splits in the stage.
        files: Further files beside ``data.yaml`` that are replaced, or removed where the stage has none.
    """
    if not out.exists():
        os.replace(stage, out)
        return
    moves: list[tuple[Path, Path]] = []
    parts = [f"{kind}/{split}" for split in splits for kind in ("images", "labels")]
    try:
        for part in [*parts, "data.yaml", *files]:
            target = out / part
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists():
                kept = stage / "replaced" / part
                kept.parent.mkdir(parents=True, exist_ok=True)
                os.replace(target, kept)
                moves.append((target, kept))
            if (stage / part).exists():
                os.replace(stage / part, target)
                moves.append((stage / part, target))
    except BaseException:  # also when the user interrupts
        for source, target in reversed(moves):
            os.replace(target, source)
        raise
    for split in splits:
        labels = out / "labels" / split
        for stale in (cache_file(labels), labels.with_name(f"{split}.cache")):  # ours, and the host's
            stale.unlink(missing_ok=True)
