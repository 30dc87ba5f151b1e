"""One converted data set: what it holds, and writing its images and labels, whole or not at all."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path, PurePath
from typing import Any

from yolo_multitask.data.convert.output import (
    SPLITS,
    check_apart,
    check_free,
    data_yaml_text,
    install,
    place_image,
    read_data_yaml,
    staged,
    without_images,
)
from yolo_multitask.data.convert.report import ConvertReport, SplitReport, count_labels
from yolo_multitask.data.convert.values import shortened, texts
from yolo_multitask.data.labels import Instance, Labels, LabelSpec, write_labels


@dataclass(frozen=True, kw_only=True)
class Content:
    """What a converted data set holds.

    Attributes:
        names: Class names in order.
        kpt_names: Names of the keypoints by class index, of equal number; empty without keypoints.
        polygons: Whether the lines have polygons.
        ids: Whether the lines have identities.
        dims: Numbers a keypoint, 2 or 3.
        keys: Further keys of the data YAML, which go before those derived from the names.
    """

    names: list[str]
    kpt_names: dict[int, list[str]] = field(default_factory=dict)
    polygons: bool = False
    ids: bool = False
    dims: int = 3
    keys: dict[str, Any] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Number of keypoints, 0 without."""
        return len(next(iter(self.kpt_names.values()), []))

    @property
    def spec(self) -> LabelSpec:
        """What the lines hold."""
        shape = (self.count, self.dims) if self.kpt_names else None
        return LabelSpec(nc=len(self.names), kpt_shape=shape, polygons=self.polygons, ids=self.ids)

    def data_yaml(self) -> dict[str, Any]:
        """Return the keys of the data YAML that say what the lines hold."""
        holds = {"keypoints": bool(self.kpt_names), "polygons": self.polygons, "ids": self.ids}
        data: dict[str, Any] = {"labels": holds}
        if self.kpt_names:
            data["kpt_shape"] = [self.count, self.dims]
            mirrored = flip_idx(self.kpt_names.values())
            data |= {} if mirrored is None else {"flip_idx": mirrored}
            data |= {"kpt_classes": [self.names[i] for i in self.kpt_names], "kpt_names": self.kpt_names}
        return data | self.keys | {"names": dict(enumerate(self.names))}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image and its labels.

    Attributes:
        name: Path below ``images/<split>``; folders called images are left out of it.
        source: The image file, or the bytes of one.
        instances: Normalised coordinates.
    """

    name: str
    source: Path | bytes
    instances: list[Instance]


@dataclass(kw_only=True)
class Target:
    """Where a data set goes, and what is there already.

    Attributes:
        out: Its folder.
        splits: The splits to write.
        existing: The data YAML that is there, empty where every split of it is replaced.
    """

    out: Path
    splits: list[str]
    existing: dict[str, Any]

    @classmethod
    def open(cls, out: str | Path, splits: Sequence[str], exist_ok: bool) -> Target:
        """Check the names of the splits, and that they may be written.

        Raises:
            ValueError: A split is none of train, val and test, or exists, or those that are there have stock lines.
        """
        for i, split in enumerate(splits):
            if split not in SPLITS or split in splits[:i]:
                again = " again" if split in SPLITS else ""
                raise ValueError(f"split: expected one of {', '.join(SPLITS)}, found {split!r}{again}")
        target = Path(out).expanduser()
        check_free(target, splits, exist_ok)
        existing = read_data_yaml(target)
        if {s for s in SPLITS if existing.get(s)} <= set(splits):
            existing = {}
        if existing and not isinstance(existing.get("labels"), Mapping):
            raise ValueError(
                f"out={out}: expected a data set whose data.yaml has the key labels, to add {', '.join(splits)} to it, "
                "found one of stock label lines; give another out="
            )
        return cls(out=target, splits=list(splits), existing=existing)

    def check_sources(self, files: Iterable[Path]) -> None:
        """Refuse to replace a split that holds some of the files that are converted; see `check_apart`."""
        check_apart(self.out, self.splits, files)

    def class_names(self, found: Sequence[str], classes: str | Sequence[str] | None) -> list[str]:
        """Return the class names in order: the chosen ones, else those of the data set that is there, else the found.

        Raises:
            ValueError: A chosen class does not occur, or the data set that is there lacks a class or has more than the
                chosen ones.
        """
        chosen = texts(classes, True) or list(found)
        for name in texts(classes, True):
            if name not in found:
                close = get_close_matches(name, found, 1, 0.5)
                hint = f"did you mean {close[0]!r}? " if close else ""
                raise ValueError(f"classes: expected labels, found {name!r}; {hint}There are: {shortened(found, 20)}")
        if not chosen:
            raise ValueError("expected labels of objects, found none")
        if not self.existing:
            return list(dict.fromkeys(chosen))
        there = self.names
        if not set(chosen) <= set(there) or (classes is not None and chosen != there):
            raise ValueError(
                f"out has a data set with the classes {shortened(there, 20)}, this split has {shortened(chosen, 20)}; "
                "give another out=, or choose the same classes"
            )
        return there

    @property
    def names(self) -> list[str]:
        """Class names of the data set that is there, in order."""
        names = self.existing.get("names") or []
        return [str(n) for n in (names.values() if isinstance(names, Mapping) else names)]

    def settle(self, content: Content) -> Content:
        """Return the content to write: with a data set that is there, what that one holds.

        Raises:
            ValueError: The data set that is there holds less, or other keypoints.
        """
        if not self.existing:
            return content
        said = dict(self.existing["labels"])
        named = self.existing.get("kpt_names") if said.get("keypoints") else None
        theirs = {int(k): list(v) for k, v in named.items()} if isinstance(named, Mapping) else {}
        ours = content.kpt_names
        shape = [len(next(iter(ours.values()), [])), content.dims]
        fits = content.polygons <= bool(said.get("polygons")) and content.ids <= bool(said.get("ids"))
        fits = fits and all(theirs.get(c, names) == names for c, names in ours.items())
        fits = fits and bool(theirs) == bool(said.get("keypoints"))  # without names nothing says what theirs are
        if not fits or (ours and shape != self.existing.get("kpt_shape")):
            raise ValueError(
                f"out has a data set with labels {said}, kpt_shape {self.existing.get('kpt_shape')} and the keypoints "
                f"{theirs}, this split has {content.data_yaml()['labels']} and the keypoints {ours}; give another "
                "out=, or convert the split that has more first"
            )
        return Content(
            names=content.names,
            kpt_names=dict(sorted((theirs | ours).items())),
            polygons=bool(said.get("polygons")),
            ids=bool(said.get("ids")),
            dims=self.existing["kpt_shape"][1] if theirs else content.dims,
            keys=content.keys,
        )

    def write(
        self,
        content: Content,
        pictures: Mapping[str, Callable[[SplitReport], Iterator[Picture]]],
        *,
        background: bool = True,
        copy: bool = False,
        files: Mapping[str, str] | None = None,
    ) -> ConvertReport:
        """Write the splits, whole or not at all.

        Args:
            content: What the lines hold.
            pictures: For each split a function that takes its report, counts there what it leaves out, and yields
                the pictures.
            background: Keep images without any line.
            copy: Copy the images; else they are hard links where possible.
            files: Texts to write beside the images, by path below ``images``.

        Returns:
            The counts by split.

        Raises:
            ValueError: A split gets no image or one twice, or two images would have the same label file.
        """
        reports = {split: SplitReport() for split in pictures}
        with staged(self.out) as stage:
            for split, read in pictures.items():
                found = self._apart(read(reports[split]))
                _write_split(stage, split, found, reports[split], content.spec, background, copy)
            for name, text in (files or {}).items():
                file = stage / "images" / without_images(PurePath(name))
                if file.parent.is_dir():  # else no image was written there
                    file.write_text(text, encoding="utf-8")
            (stage / "data.yaml").write_text(data_yaml_text(self._data_yaml(content)), encoding="utf-8")
            install(stage, self.out, self.splits)
        return ConvertReport(out=self.out, yaml=self.out / "data.yaml", names=content.names, splits=reports)

    def _apart(self, pictures: Iterator[Picture]) -> Iterator[Picture]:
        """Yield the pictures; none may lie in a split that is replaced."""
        for picture in pictures:
            if isinstance(picture.source, Path):
                self.check_sources([picture.source])
            yield picture

    def _data_yaml(self, content: Content) -> dict[str, Any]:
        """Return the data YAML: what is there, and the new splits. The host requires `train` and `val` to be there."""
        paths = {"train": None, "val": None} | {s: self.existing[s] for s in SPLITS if s in self.existing}
        data = {**paths, **{s: f"images/{s}" for s in self.splits}, **content.data_yaml()}
        return data | {k: v for k, v in self.existing.items() if k not in data}  # keys that the user added


def _write_split(
    stage: Path,
    split: str,
    pictures: Iterator[Picture],
    report: SplitReport,
    spec: LabelSpec,
    background: bool,
    copy: bool,
) -> None:
    """Write images and labels of one split into the stage."""
    from ultralytics.data.utils import IMG_FORMATS
    from ultralytics.utils import TQDM

    written: set[str] = set()
    sources: set[str] = set()
    for picture in TQDM(pictures, desc=f"Converting {split}"):
        name = without_images(PurePath(picture.name))
        if name.suffix[1:].lower() not in IMG_FORMATS:
            report.images_unfit += 1
            report.dropped[f"image of the format {name.suffix}, which is not read"] += len(picture.instances)
            continue
        label = str(name.with_suffix(".txt"))
        if label in written:
            raise ValueError(f"images: expected names that differ before the suffix, found {name} again")
        written.add(label)
        if isinstance(picture.source, Path):
            source = os.path.abspath(picture.source)
            if source in sources:
                raise ValueError(f"expected one annotation of each image of {split}, found {source} again")
            sources.add(source)
        distinct = {_values(i): i for i in picture.instances}
        report.dropped["repeats another of its image"] += len(picture.instances) - len(distinct)
        labels = Labels.from_instances(list(distinct.values()), spec)
        if not len(labels) and not background:
            report.images_skipped += 1
            continue
        count_labels(report, labels)
        place = stage / "images" / split / name
        if isinstance(picture.source, Path):
            place_image(picture.source, place, copy)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(picture.source)
        write_labels(stage / "labels" / split / label, labels, spec)
    if not report.images:
        raise ValueError(
            f"expected images to write for {split}, found none; {report.images_missing} images are missing in the "
            f"folder, {report.images_unfit} are of another shape than annotated or of a format that is not read, and "
            f"{report.images_skipped} have no line"
        )
    report.dropped, report.notes = +report.dropped, +report.notes  # without the reasons that did not occur


def _values(instance: Instance) -> tuple[Any, ...]:
    """Return what two label lines have in common that say the same; the second would not be read."""
    arrays = (instance.box, instance.keypoints, instance.polygon)
    return instance.cls, instance.id, instance.ignore, *(None if a is None else a.tobytes() for a in arrays)


def flip_idx(kpt_names: Iterable[Sequence[str]]) -> list[int] | None:
    """Return the keypoint order of a mirrored image from left/right in the names; None where the names do not say."""
    found = []
    for names in kpt_names:
        index = {n.lower(): i for i, n in enumerate(names)}
        mirrored = [re.sub("left|right", lambda m: "right" if m[0] == "left" else "left", n.lower()) for n in names]
        if not all(m in index for m in mirrored):
            return None
        found.append([index[m] for m in mirrored])
    if not found or any(f != found[0] for f in found) or found[0] == list(range(len(found[0]))):
        return None
    return found[0]
