"""One converted data set: what it holds, and writing its images and labels, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Any

from yolo_multitask.data.convert.coco_files import flip_idx, texts
from yolo_multitask.data.convert.output import (
    SPLITS,
    check_free,
    data_yaml_text,
    install,
    place_image,
    read_data_yaml,
    staged,
)
from yolo_multitask.data.convert.report import ConvertReport, SplitReport, count_labels
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
        name: Path below ``images/<split>``.
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
            ValueError: A split is none of train, val and test, or exists.
        """
        for split in splits:
            if split not in SPLITS:
                raise ValueError(f"split: expected one of {', '.join(SPLITS)}, found {split!r}")
        target = Path(out).expanduser()
        check_free(target, splits, exist_ok)
        existing = read_data_yaml(target)
        replaced = {s for s in SPLITS if existing.get(s)} <= set(splits)
        return cls(out=target, splits=list(splits), existing={} if replaced else existing)

    def class_names(self, found: Sequence[str], classes: str | Sequence[str] | None) -> list[str]:
        """Return the class names in order: the chosen ones, else those of the data set that is there, else the found.

        Raises:
            ValueError: A chosen class does not occur, or the data set that is there lacks a class.
        """
        chosen = texts(classes, True) or list(found)
        for name in texts(classes, True):
            if name not in found:
                close = get_close_matches(name, found, 1, 0.5)
                hint = f"did you mean {close[0]!r}? " if close else ""
                raise ValueError(f"classes: expected labels, found {name!r}; {hint}There are: {_short(found)}")
        if not chosen:
            raise ValueError("expected labels of objects, found none")
        if not self.existing:
            return list(dict.fromkeys(chosen))
        there = [str(n) for n in dict(self.existing.get("names") or {}).values()]
        if not set(chosen) <= set(there):
            raise ValueError(
                f"out has a data set with the classes {_short(there)}, this split has {_short(chosen)}; give another "
                "out=, or choose the same classes"
            )
        return there

    def settle(self, content: Content) -> Content:
        """Return the content to write: with a data set that is there, what that one holds.

        Raises:
            ValueError: The data set that is there holds less, or other keypoints.
        """
        if not self.existing:
            return content
        said = dict(self.existing.get("labels") or {})
        theirs = {int(k): list(v) for k, v in dict(self.existing.get("kpt_names") or {}).items()}
        theirs = theirs if said.get("keypoints") else {}
        ours = content.kpt_names
        shape = [len(next(iter(ours.values()), [])), content.dims]
        fits = content.polygons <= bool(said.get("polygons")) and content.ids <= bool(said.get("ids"))
        fits = fits and all(theirs.get(c, names) == names for c, names in ours.items())
        if not fits or (ours and shape != self.existing.get("kpt_shape")):
            raise ValueError(
                f"out has a data set with labels {said}, kpt_shape {self.existing.get('kpt_shape')} and the keypoints "
                f"{theirs}, this split has {content.data_yaml()['labels']} and the keypoints {ours}; give another out="
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
            ValueError: A split gets no image, or two images would have the same label file.
        """
        reports = {split: SplitReport() for split in pictures}
        with staged(self.out) as stage:
            for split, read in pictures.items():
                _write_split(stage, split, read(reports[split]), reports[split], content.spec, background, copy)
            for name, text in (files or {}).items():
                if (stage / "images" / name).parent.is_dir():  # else no image was written there
                    (stage / "images" / name).write_text(text, encoding="utf-8")
            (stage / "data.yaml").write_text(data_yaml_text(self._data_yaml(content)), encoding="utf-8")
            install(stage, self.out, self.splits)
        return ConvertReport(out=self.out, yaml=self.out / "data.yaml", names=content.names, splits=reports)

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
    from ultralytics.utils import TQDM

    written: set[str] = set()
    for picture in TQDM(pictures, desc=f"Converting {split}"):
        label = str(PurePosixPath(picture.name).with_suffix(".txt"))
        if label in written:
            raise ValueError(f"images: expected names that differ before the suffix, found {picture.name} again")
        written.add(label)
        labels = Labels.from_instances(picture.instances, spec)
        if not len(labels) and not background:
            report.images_skipped += 1
            continue
        count_labels(report, labels)
        place = stage / "images" / split / picture.name
        if isinstance(picture.source, Path):
            place_image(picture.source, place, copy)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(picture.source)
        write_labels(stage / "labels" / split / label, labels, spec)
    if not report.images:
        raise ValueError(
            f"expected images to write for {split}, found none; {report.images_missing} images are missing in the "
            f"folder and {report.images_skipped} have no line"
        )
    report.dropped, report.notes = +report.dropped, +report.notes  # without the reasons that did not occur


def _short(names: Sequence[str]) -> str:
    """List names for a message, cut to a readable length."""
    return ", ".join(names[:20]) + (f", ... ({len(names)})" if len(names) > 20 else "")
