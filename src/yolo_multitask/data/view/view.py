"""Look at the labels of a data set: contact sheets, and a page with filters."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from yolo_multitask.data.config import load_data
from yolo_multitask.data.convert.output import SPLITS, staged
from yolo_multitask.data.labels import LabelSpec, read_labels
from yolo_multitask.data.view.page import write_page
from yolo_multitask.data.view.sheet import write_sheets
from yolo_multitask.data.view.tiles import Tile, tasks_of

PAGE = "index.html"
TASKS = ("detect", "segment", "pose", "track")


@dataclass(kw_only=True)
class ViewReport:
    """What `view` wrote.

    Attributes:
        page: The HTML page.
        sheets: The contact sheets.
        images: Images shown.
        of: Images of the split.
        instances: Instances shown, by class name.
        ignored: Ignore regions shown.
        problems: Lines of the shown images that do not parse or are repeated, as ``file:line: reason``.
    """

    page: Path
    sheets: list[Path]
    images: int
    of: int
    instances: dict[str, int]
    ignored: int
    problems: list[str]

    def __str__(self) -> str:
        """Return one line a fact."""
        first, last = self.sheets[0], self.sheets[-1]
        counts = ", ".join(f"{n} {name}" for name, n in self.instances.items()) or "none"
        lines = [f"{self.images} of {self.of} images", f"instances: {counts}"]
        lines += [f"ignore regions: {self.ignored}"] if self.ignored else []
        lines += [f"not shown: {problem}" for problem in self.problems]
        lines += [f"written: {first}" + (f" to {last.name}" if last != first else ""), f"written: {self.page}"]
        return "\n".join(lines)


def view(
    data: str | Path,
    out: str | Path,
    *,
    split: str = "train",
    limit: int = 64,
    classes: str | Sequence[str] | None = None,
    tasks: str | Sequence[str] | None = None,
    seed: int = 0,
    columns: int = 4,
    size: int = 480,
    exist_ok: bool = False,
) -> ViewReport:
    """Draw the labels of some images of a split, on contact sheets and on a page with filters.

    Writes ``out/sheet-01.png``, ... and ``out/index.html``, one file with the pictures in it; whole or not at all.

    Args:
        data: Data YAML by path or name.
        out: Folder to write to.
        split: ``train``, ``val`` or ``test``.
        limit: Number of images at most, taken at random and shown in order.
        classes: Only images with an object or ignore region of one of these classes; names, a list or one text with
            commas.
        tasks: Only images in which something is labelled for one of these tasks: detect, segment, pose, track.
        seed: Of the choice of images.
        columns: Pictures in a row of a sheet.
        size: Width in pixels of a picture's place on a sheet; those of the page are 720.
        exist_ok: Replace the sheets and the page of an earlier view; other files in the folder stay.

    Returns:
        What was written; print it.

    Raises:
        ValueError: An argument is wrong, ``out`` has a view already, or no image fits.
        FileNotFoundError: There are no images.
    """
    target = Path(out).expanduser()
    _check_arguments(split, {"limit": limit, "columns": columns}, size, seed)
    _check_free(target, exist_ok)
    loaded = load_data(data, split=split)
    if loaded.get("sources"):
        raise ValueError(
            f"data={data}: expected a data set with plain paths, found one that lists sources; view each alone"
        )
    names: dict[int, str] = loaded["names"]
    wanted = _known(_texts(classes), list(names.values()), "classes"), _known(_texts(tasks), TASKS, "tasks")
    files = _image_files(loaded, split)
    tiles, problems = _choose(files, loaded, split, limit, wanted, seed)
    if not tiles:
        asked = " and ".join(
            f"{k}={','.join(sorted(v))}" for k, v in zip(("classes", "tasks"), wanted, strict=True) if v
        )
        raise ValueError(f"{data}: none of the {len(files)} images of {split} has a label for {asked}")
    counts = _counts(tiles, names)
    with staged(target) as stage:
        sheets = write_sheets(stage, tiles, columns, size, names)
        summary = [
            ("split", split),
            ("images", f"{len(tiles)} of {len(files)}"),
            ("objects", str(sum(counts.values()))),
        ]
        write_page(stage / PAGE, f"Labels of {'/'.join(Path(data).parts[-2:])}", tiles, summary, names)
        _install(stage, target)
    return ViewReport(
        page=target / PAGE,
        sheets=[target / sheet.name for sheet in sheets],
        images=len(tiles),
        of=len(files),
        instances=counts,
        ignored=sum(int(t.labels.ignore.sum()) for t in tiles if t.labels is not None),
        problems=problems,
    )


def _check_arguments(split: str, counts: Mapping[str, Any], size: Any, seed: Any) -> None:
    """Refuse values that are none of the possible ones."""
    if split not in SPLITS:
        raise ValueError(f"split: expected one of {', '.join(SPLITS)}, found {split!r}")
    for name, value, low in (*((k, v, 1) for k, v in counts.items()), ("size", size, 64), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise ValueError(f"{name}: expected an integer of {low} or more, found {value!r}")


def _texts(value: str | Sequence[str] | None) -> list[str]:
    """Return a list argument as texts; one text may be ``a,b`` or ``[a, b]`` (as on a command line)."""
    if value is None or isinstance(value, str):
        parts = (value or "").strip().removeprefix("[").removesuffix("]").split(",")
        return [part.strip().strip("'\"") for part in parts if part.strip()]
    return [str(v) for v in value]


def _known(values: list[str], known: Sequence[str], what: str) -> set[str]:
    """Return names that are all known.

    Raises:
        ValueError: One is not, with the nearest that is.
    """
    for value in values:
        if value not in known:
            near = get_close_matches(value, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; expected some of {', '.join(known[:100])}"
            raise ValueError(f"{what}: found {value!r}, which is none of them{hint}")
    return set(values)


def _image_files(loaded: Mapping[str, Any], split: str) -> list[str]:
    """Return the images of a split in natural order, found as the host finds them for training."""
    from ultralytics.data.base import BaseDataset

    from yolo_multitask.data.sequences import frames_by_folder

    found = BaseDataset.get_img_files(SimpleNamespace(prefix="", fraction=1.0), loaded[split])
    return [found[i] for frames in frames_by_folder(found).values() for i in frames]


def _choose(
    files: list[str], loaded: Mapping[str, Any], split: str, limit: int, wanted: tuple[set[str], set[str]], seed: int
) -> tuple[list[Tile], list[str]]:
    """Return up to `limit` tiles of random files in their order, and the problems of their label lines."""
    from ultralytics.data.utils import img2label_paths

    base = _base(files, loaded[split])
    chosen: dict[int, tuple[Tile, list[str]]] = {}
    for i in np.random.default_rng(seed).permutation(len(files)).tolist():
        tile, problems = _tile(files[i], img2label_paths([files[i]])[0], base, loaded)
        if all(
            not want or want.intersection(has) for want, has in zip(wanted, (tile.classes, tile.tasks), strict=True)
        ):
            chosen[i] = tile, problems
        if len(chosen) == limit:
            break
    shown = [chosen[i] for i in sorted(chosen)]
    return [tile for tile, _ in shown], [problem for _, problems in shown for problem in problems]


def _base(files: Sequence[str], source: str | Sequence[str]) -> str:
    """Return the folder that captions leave out: that of the split, or the one of all images of a list file."""
    roots = [source] if isinstance(source, str) else list(source)
    if not all(map(os.path.isdir, roots)):
        roots = [os.path.dirname(file) for file in files]
    return os.path.commonpath(roots)


def _tile(file: str, label_file: str, base: str, loaded: Mapping[str, Any]) -> tuple[Tile, list[str]]:
    """Return the tile of an image, and the problems of its label lines."""
    spec: LabelSpec = loaded["label_spec"]
    labels, problems = read_labels(label_file, spec)
    kinds = {"error": "bad line", "duplicate": "repeated line"}
    tile = Tile(
        image_path=Path(file),
        labels=labels,
        spec=spec,
        classes=tuple(loaded["names"][int(c)] for c in np.unique(labels.cls)),
        tasks=tasks_of(labels),
        findings=tuple(dict.fromkeys(kinds[p.kind] for p in problems)),
        caption=os.path.relpath(file, base),
        highlight=(),
        kpt_names=_keypoint_names(loaded),
    )
    return tile, [str(problem) for problem in problems]


def _keypoint_names(loaded: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the keypoints, or none; of several classes with their own, those of the first."""
    by_class = loaded.get("kpt_names") or {}
    names = next(iter(by_class.values()), ()) if isinstance(by_class, Mapping) else by_class
    return tuple(map(str, names))


def _counts(tiles: Sequence[Tile], names: Mapping[int, str]) -> dict[str, int]:
    """Return the number of instances by class name, the most frequent first."""
    counts: Counter[str] = Counter()
    for tile in tiles:
        if tile.labels is not None:
            counts.update(names[int(c)] for c in tile.labels.cls[~tile.labels.ignore])
    return dict(counts.most_common())


def _earlier(out: Path) -> list[Path]:
    """Return the files of a view that are in a folder."""
    return sorted([*out.glob("sheet-[0-9][0-9]*.png"), *out.glob(PAGE)])


def _check_free(out: Path, exist_ok: bool) -> None:
    """Refuse to overwrite a view.

    Raises:
        ValueError: There is one and `exist_ok` is False, or `out` is a file.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"out={out}: expected a folder to write, found a file")
    if _earlier(out) and not exist_ok:
        raise ValueError(f"out={out}: there is a view already; give exist_ok=True to replace it, or another out=")


def _install(stage: Path, out: Path) -> None:
    """Move a staged view to `out` in place of an earlier one. If anything fails, `out` is as before."""
    if not out.exists():
        os.replace(stage, out)
        return
    kept = stage / "replaced"
    files = _earlier(stage)
    kept.mkdir()
    moves = [(file, kept / file.name) for file in _earlier(out)] + [(file, out / file.name) for file in files]
    done: list[tuple[Path, Path]] = []
    try:
        for source, destination in moves:
            os.replace(source, destination)
            done.append((source, destination))
    except OSError:
        for source, destination in reversed(done):
            os.replace(destination, source)
        raise
