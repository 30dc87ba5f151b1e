"""Look at the labels of a data set: contact sheets, and a page with filters."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from yolo_multitask.data.check.files import image_files
from yolo_multitask.data.check.findings import Finding
from yolo_multitask.data.check.frame import check_frames
from yolo_multitask.data.check.parts import Part, parts_of
from yolo_multitask.data.check.run import make_plan
from yolo_multitask.data.config import load_data
from yolo_multitask.data.convert.output import SPLITS, staged
from yolo_multitask.data.view.page import write_page
from yolo_multitask.data.view.sheet import write_sheets
from yolo_multitask.data.view.tiles import Tile, make_tile
from yolo_multitask.tasks import TASKS

PAGE = "index.html"


@dataclass(kw_only=True)
class ViewReport:
    """What `view` wrote.

    Attributes:
        page: The HTML page.
        sheets: The contact sheets.
        images: Images shown.
        of: Images of the split.
        instances: Instances shown, by class name.
        others: Instances not shown, as they are of classes that the training does not take from their source.
        ignored: Ignore regions shown.
        problems: Files of the shown images that cannot be read, and lines that do not parse or are repeated, as
            ``file:line: reason``.
    """

    page: Path
    sheets: list[Path]
    images: int
    of: int
    instances: dict[str, int]
    others: int
    ignored: int
    problems: list[str]

    def __str__(self) -> str:
        """Return one line a fact."""
        first, last = self.sheets[0], self.sheets[-1]
        counts = ", ".join(f"{n} {name}" for name, n in self.instances.items()) or "none"
        lines = [f"{self.images} of {self.of} images", f"instances: {counts}"]
        lines += [f"ignore regions: {self.ignored}"] if self.ignored else []
        lines += [f"of other classes: {self.others}"] if self.others else []
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
    names: dict[int, str] = loaded["names"]
    wanted = _known(_texts(classes), list(names.values()), "classes"), _known(_texts(tasks), TASKS, "tasks")
    files = _files(loaded, split)
    tiles, findings = _choose(files, loaded, limit, wanted, seed)
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
        others=sum(t.others for t in tiles),
        ignored=sum(int(t.labels.ignore.sum()) for t in tiles if t.labels is not None),
        problems=[str(f) for f in findings if f.kind.startswith("line-") or f.kind.endswith("-unreadable")],
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


def _files(loaded: Mapping[str, Any], split: str) -> list[tuple[str, Part]]:
    """Return the images of a split, each with its part, part after part in natural order."""
    return [(file, part) for part in parts_of(loaded, split) for file in image_files(part.paths, part.title)]


def _choose(
    files: Sequence[tuple[str, Part]],
    loaded: Mapping[str, Any],
    limit: int,
    wanted: tuple[set[str], set[str]],
    seed: int,
) -> tuple[list[Tile], list[Finding]]:
    """Return up to `limit` tiles of random files in their order, and what was found in these."""
    base = os.path.commonpath([os.path.dirname(os.path.abspath(file)) for file, _ in files])
    chosen: dict[int, Tile] = {}
    for i in np.random.default_rng(seed).permutation(len(files)).tolist():
        file, part = files[i]
        tile = make_tile(file, part, loaded, caption=os.path.relpath(file, base))
        if all(
            not want or want.intersection(has) for want, has in zip(wanted, (tile.classes, tile.tasks), strict=True)
        ):
            chosen[i] = tile
        if len(chosen) == limit:
            break
    shown, findings = [], []
    for i in sorted(chosen):
        found = _findings(*files[i], loaded)
        shown.append(replace(chosen[i], findings=tuple(dict.fromkeys(f.kind for f in found))))
        findings += found
    return shown, findings


def _findings(file: str, part: Part, loaded: Mapping[str, Any]) -> list[Finding]:
    """Return what `ymt data check` says about an image alone."""
    from ultralytics.data.utils import img2label_paths

    return check_frames(0, [file], img2label_paths([file]), make_plan(loaded, part, images=True)).findings


def _counts(tiles: Sequence[Tile], names: Mapping[int, str]) -> dict[str, int]:
    """Return the number of instances by class name, the most frequent first."""
    counts: Counter[str] = Counter()
    for tile in tiles:
        if tile.labels is not None:
            counts.update(names[int(c)] for c in tile.labels.cls[~tile.labels.ignore])
    return dict(counts.most_common())


def _earlier(out: Path) -> list[Path]:
    """Return the files of a view that are in a folder."""
    return sorted(file for file in out.glob("*") if re.fullmatch(rf"sheet-\d\d+\.png|{re.escape(PAGE)}", file.name))


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
