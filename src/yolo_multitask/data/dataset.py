"""The data set: images with label lines of this package's grammar, through the host's loading and augmentation.

A label has the host's keys (``im_file, shape, cls, bboxes, segments, keypoints, normalized, bbox_format``). ``cls``
is (N, `NUM_COLUMNS`) float32, see `yolo_multitask.data.columns`. Column ``ID`` numbers the identities of the whole data
set: an ``#id`` is unique within a sequence only (a sequence is a folder), so the same ``#id`` in two folders is two
identities, and the index fits a float32 where an arbitrary integer does not. `MultiTaskDataset.identities` maps the
index back.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import numpy as np
from ultralytics.data.augment import Compose
from ultralytics.data.base import BaseDataset
from ultralytics.data.dataset import YOLODataset
from ultralytics.data.utils import get_split_fraction, img2label_paths
from ultralytics.utils import LOCAL_RANK, LOGGER, NUM_THREADS, TQDM, colorstr

from yolo_multitask.data.augment import adapt_transforms
from yolo_multitask.data.columns import CLS, HAS_KEYPOINTS, ID, IMAGE, INSTANCE, MAX_NUMBER, SCENE
from yolo_multitask.data.format import MultiTaskFormat, collate_extras
from yolo_multitask.data.labels import LabelSpec, cache_file
from yolo_multitask.data.partial import conform, count_labels, source_table
from yolo_multitask.data.scan import CACHE_VERSION, Scan, read_cache, scan_image, write_cache
from yolo_multitask.data.sequences import fill_motion, frames_by_folder
from yolo_multitask.data.sources import Source, sources_of


class MultiTaskDataset(YOLODataset):
    """Images whose instances may have polygons, keypoints and identities, each labelled or not.

    The fields follow ``data["label_spec"]``: with polygons it augments as the host's segment data set, else as its
    detect and pose data sets; keypoints follow in both. A box is the label file's. Under random perspective (training)
    it becomes the box around the polygon where one is labelled, as in the host's segment data set.

    Args:
        data: Data set configuration as `yolo_multitask.data.config.load_data` returns it: ``label_spec``,
            ``kpt_classes`` (by the classes of the lines, with ``single_cls`` too), ``names``, ``flip_idx`` and
            ``channels``.
        sources: What the images are from, where the split lists sources.
        *args: As `ultralytics.data.base.BaseDataset`.
        **kwargs: As `ultralytics.data.base.BaseDataset`.

    Attributes:
        spec: What the label lines hold.
        kpt_classes: Classes whose keypoints count, None for all.
        scan: Counts and messages of the scan (its labels are in `labels`).
        identities: (folder, ``#id``) of each identity index.
        sources: What the images are from, where the split lists sources; else none.

    Raises:
        ValueError: ``data`` has no ``label_spec``, no image is usable, or there is no label file to train from.
        FileNotFoundError: There are no images.
    """

    format_class = MultiTaskFormat
    im_files: list[str]
    fraction: float

    def __init__(self, *args: Any, data: dict[str, Any], sources: Sequence[Source] = (), **kwargs: Any) -> None:
        spec = data.get("label_spec")
        self.sources = tuple(sources)
        if not isinstance(spec, LabelSpec):
            raise ValueError(f"data: expected `label_spec`, found {spec!r}; load the data YAML with `load_data`")
        self.data = data
        self.spec = spec
        named = set(data.get("kpt_classes") or range(spec.nc))
        self.kpt_classes = None if named.issuperset(range(spec.nc)) else tuple(sorted(named))
        self.use_segments = spec.polygons
        self.use_keypoints = spec.kpt_shape is not None
        self.use_obb = False
        self.scan = Scan()
        self._source_of: dict[str, int] = {}
        self.identities: list[tuple[str, int]] = []
        # YOLODataset.__init__ is left out: it sets the flags above from one task, and polygons exclude keypoints there
        BaseDataset.__init__(self, *args, channels=data.get("channels", 3), **kwargs)

    def get_img_files(self, img_path: str | list[str]) -> list[str]:
        """Return the images, source by source where there are several; `fraction` takes its share of each.

        Raises:
            FileNotFoundError: A path does not exist, or there are no images.
            ValueError: An image is in two sources.
        """
        if not self.sources:
            return super().get_img_files(img_path)  # type: ignore[no-any-return]
        share, self.fraction = self.fraction, 1.0
        listed = [super(MultiTaskDataset, self).get_img_files(list(source.paths)) for source in self.sources]
        self.fraction = share
        total = sum(map(len, listed))
        count = min(share if isinstance(share, int) else max(1, round(total * share)), total)
        listed = [files[: -(-count * len(files) // total)] for files in listed]
        for number, source in enumerate(self.sources):
            for file in listed[number]:
                if self._source_of.setdefault(file, number) != number:
                    both = f"'{self.sources[self._source_of[file]].name}' and '{source.name}'"
                    raise ValueError(f"{self.prefix}{file}: expected an image in one source, found it in {both}")
        return [file for files in listed for file in files]

    def get_label_files(self) -> list[str]:
        """Return the label file of every image and keep them in `label_files`."""
        self.label_files: list[str] = img2label_paths(self.im_files)
        return self.label_files

    def get_cache_hash(self) -> str:
        """Return a hash of the label grammar and of path, size and modification time of every image and label file."""
        specs = [source.spec for source in self.sources] or [self._scan_spec("")]
        digest = hashlib.sha256(f"{CACHE_VERSION} {specs!r}".encode())
        for path in (*self.im_files, *self.label_files):
            digest.update(os.fsencode(path) + b"%d" % self._source_of.get(path, -1))
            try:
                stat = os.stat(path)
            except OSError:
                digest.update(b"\0missing\0")
            else:
                digest.update(f"\0{stat.st_size} {stat.st_mtime_ns}\0".encode())
        return digest.hexdigest()

    def cache_labels(self, path: Path = Path("./labels.multitask.cache")) -> dict[str, Any]:
        """Scan all images and label files and write the result to the cache file.

        Args:
            path: The cache file.

        Returns:
            The cache: ``version``, ``hash`` and the fields of a `Scan`.
        """
        scan = Scan()
        desc = f"{self.prefix}Scanning {path.parent / path.name.split('.')[0]}..."
        with ThreadPool(NUM_THREADS) as pool:
            pairs = zip(self.im_files, self.label_files, strict=True)
            found = pool.imap(lambda pair: scan_image(*pair, self._scan_spec(pair[0])), pairs)
            bar = TQDM(found, desc=desc, total=len(self.im_files))
            for one in bar:
                scan.add(one)
                bar.desc = f"{desc} {scan.summary}"
            bar.close()
        scan.count_sequences()
        if scan.messages:
            LOGGER.warning("\n".join(f"{self.prefix}{message}" for message in scan.messages))
        cache = {"version": CACHE_VERSION, "hash": self.get_cache_hash(), **vars(scan)}
        write_cache(path, cache, self.prefix)
        return cache

    def get_labels(self) -> list[dict[str, Any]]:
        """Return one label dict per usable image, from the cache file if it is up to date.

        Raises:
            ValueError: See the class.
        """
        found, files = self.im_files, self.get_label_files()
        if not files:
            raise ValueError(
                f"{self.prefix}expected images in {self.img_path}, found none for fraction={self.fraction}"
            )
        path = cache_file(Path(files[0]).parent)
        cache = read_cache(path, self.get_cache_hash())
        if cache is None:
            cache = self.cache_labels(path)
        elif LOCAL_RANK in {-1, 0} and cache["messages"]:
            LOGGER.warning("\n".join(f"{self.prefix}{message}" for message in cache["messages"]))
        if LOCAL_RANK in {-1, 0}:
            LOGGER.info(f"{self.prefix}{path}: {Scan(counts=cache['counts']).summary}")
        labels: list[dict[str, Any]] = cache["labels"]
        self.scan = Scan(counts=cache["counts"], messages=cache["messages"], label_files=cache["label_files"])
        self._check(labels)
        if self.sources:
            self._conform(labels)
        self.im_files = [label["im_file"] for label in labels]
        self.label_files = img2label_paths(self.im_files)
        self._fill_columns(labels, found)
        return labels

    def update_labels(self, include_class: list[int] | None) -> None:
        """Keep the given classes, ignore regions among them; set every class to 0 with ``single_cls``.

        Args:
            include_class: Class indices, None for all.
        """
        for label in self.labels:
            if include_class is not None:
                keep = np.isin(label["cls"][:, CLS], include_class)
                label["cls"], label["bboxes"] = label["cls"][keep], label["bboxes"][keep]
                if label["segments"]:
                    label["segments"] = [label["segments"][i] for i in np.flatnonzero(keep)]
                if label["keypoints"] is not None:
                    label["keypoints"] = label["keypoints"][keep]
            if self.single_cls:
                label["cls"][:, CLS] = 0

    def build_transforms(self, hyp: Any) -> Compose:
        """Build the host's transforms with this package's in place of those that do not know the extras.

        Args:
            hyp: Hyperparameters, as the host's.
        """
        return adapt_transforms(super().build_transforms(hyp))

    @property
    def sequences(self) -> list[list[int]]:
        """Indices of the images of each sequence in order: of each folder where any label has an identity."""
        frames = frames_by_folder(self.im_files)
        return [frames[folder] for folder in self._sequence_folders]

    @staticmethod
    def collate_fn(batch: list[dict[str, Any]]) -> dict[str, Any]:
        """Collate samples as the host does, and this package's keys with them (see `collate_extras`)."""
        return collate_extras(YOLODataset.collate_fn(batch))

    @cached_property
    def group_of(self) -> list[int]:
        """Group of each image: the same where the same classes are labelled."""
        return [label["group"] for label in self.labels]

    @cached_property
    def groups(self) -> dict[int, list[int]]:
        """Indices of the images of each group."""
        members: dict[int, list[int]] = {}
        for i, group in enumerate(self.group_of):
            members.setdefault(group, []).append(i)
        return members

    def _scan_spec(self, file: str) -> LabelSpec:
        """Return what the lines of an image hold; with ``single_cls`` any class index is fine, as in the host."""
        if self.sources:
            return self.sources[self._source_of[file]].spec
        return replace(self.spec, nc=MAX_NUMBER) if self.single_cls else self.spec

    def _conform(self, labels: list[dict[str, Any]]) -> None:
        """Leave of the labels what their sources are there for, and say which classes they do not label."""
        missing = [source.unlabelled(self.spec.nc) for source in self.sources]
        if self.single_cls:  # an object of a class that is not labelled is of the one class, too
            missing = [np.array([m.any()]) for m in missing]
        groups: dict[bytes, int] = {}
        group = [groups.setdefault(m.tobytes(), len(groups)) for m in missing]
        counts: list[Counter[str]] = [Counter() for _ in self.sources]
        for label in labels:
            number = self._source_of[label["im_file"]]
            others = conform(label, self.sources[number], self.spec)
            label["source"] = number
            if any(m.any() for m in missing):
                label |= {"group": group[number], "unlabelled": missing[number]}
            counts[number].update(count_labels(label), **{"other classes": others})
        if LOCAL_RANK in {-1, 0}:
            names = None if self.single_cls else self.data["names"]
            table = source_table(list(zip(self.sources, counts, strict=True)), names)
            LOGGER.info(f"{self.prefix}sources\n{table}")
            for source, count in zip(self.sources, counts, strict=True):
                if not count["instances"]:
                    LOGGER.warning(
                        f"{self.prefix}source '{source.name}': expected labelled instances, found none in "
                        f"{count['images']} images; what they show counts as background. Correct its 'path', 'classes' "
                        "or labels if that is not meant"
                    )

    def _check(self, labels: list[dict[str, Any]]) -> None:
        """Refuse a data set that nothing can be learned from or measured on."""
        if not labels:
            reasons = "\n".join(f"  {message}" for message in self.scan.messages[:10])
            found = f"expected usable images in {self.img_path}, found {self.scan.summary}"
            raise ValueError(f"{self.prefix}{found}. Correct these:\n{reasons}")
        if self.scan.label_files == 0:
            missing = f"{self.prefix}expected label files such as {self.label_files[0]}, found none"
            if self.augment:
                raise ValueError(f"{missing}; training needs labels")
            LOGGER.warning(missing)
        elif self.scan.counts["instances"] == 0:
            LOGGER.warning(f"{self.prefix}no labelled instance in {self.img_path}: {self.scan.summary}")

    def _fill_columns(self, labels: list[dict[str, Any]], im_files: list[str]) -> None:
        """Set what depends on the whole data set: which classes have keypoints, all numbers, and motion.

        Args:
            labels: Of the usable images, changed in place.
            im_files: All images that were found.
        """
        index: dict[tuple[str, int], int] = {}
        numbers: dict[str, tuple[int, int]] = {}  # of each image and of its first instance; one may be listed twice
        instances = 0
        for label in labels:
            cls, file = label["cls"], label["im_file"]
            if self.kpt_classes is not None and not self.sources:
                cls[~np.isin(cls[:, CLS], self.kpt_classes), HAS_KEYPOINTS] = 0
            folder = str(Path(file).parent)
            ids = label.pop("ids")
            for i in np.flatnonzero(ids >= 0):
                cls[i, ID] = index.setdefault((folder, int(ids[i])), len(index))
            image, first = numbers.setdefault(file, (len(numbers), instances))
            cls[:, IMAGE], cls[:, INSTANCE] = image, np.arange(first, first + len(cls))
            if self.sources and not self.sources[label["source"]].views:
                cls[:, INSTANCE] = -1
            instances = max(instances, first + len(cls))
        self.identities = list(index)
        scenes = {folder: number for number, folder in enumerate(self._sequence_folders)}
        for label in labels:
            cls, folder = label["cls"], str(Path(label["im_file"]).parent)
            cls[:, SCENE] = scenes.get(folder, len(scenes) + cls[:, IMAGE])
        largest = max(instances, len(scenes) + len(numbers))  # there are no more identities than instances
        if largest > MAX_NUMBER:
            raise ValueError(
                f"{self.prefix}expected at most {MAX_NUMBER} instances, found {largest}; split the data set"
            )
        fill_motion(labels, im_files, scenes)

    @property
    def _sequence_folders(self) -> list[str]:
        """Folders whose labels have identities, in the order of their scene numbers."""
        return list(dict.fromkeys(folder for folder, _ in self.identities))


def build_multitask_dataset(
    args: Any,
    img_path: str | list[str],
    batch: int,
    data: dict[str, Any],
    mode: str = "train",
    rect: bool = False,
    stride: int = 32,
    fraction: float | None = None,
) -> MultiTaskDataset:
    """Build a data set from the configuration, as `ultralytics.data.build.build_yolo_dataset` does for stock tasks.

    Args:
        args: Configuration namespace.
        img_path: Folder of images, list file, or a list of either.
        batch: Batch size.
        data: Data set configuration as `yolo_multitask.data.config.load_data` returns it.
        mode: ``train`` augments, anything else does not.
        rect: Rectangular batches, also on with ``args.rect``.
        stride: Model stride in pixels.
        fraction: Share of the images to use; None takes it from ``args.fraction``.
    """
    if data.get("complete"):
        fraction = 1.0  # the host has limited the data set when it downloaded it
    elif fraction is None:
        fraction = get_split_fraction(args.fraction, "train" if mode == "train" else args.split)
    return MultiTaskDataset(
        img_path=img_path,
        imgsz=args.imgsz,
        batch_size=batch,
        augment=mode == "train",
        hyp=args,
        rect=args.rect or rect,
        cache=args.cache or None,
        single_cls=args.single_cls or False,
        stride=stride,
        pad=0.0 if mode == "train" else 0.5,
        prefix=colorstr(f"{mode}: "),
        classes=args.classes,
        data=data,
        sources=sources_of(data, img_path, "train" if mode == "train" else args.split),
        fraction=fraction,
    )
