"""The data set: images with label lines of this package's grammar, through the host's loading and augmentation.

A label has the host's keys (``im_file, shape, cls, bboxes, segments, keypoints, normalized, bbox_format``). ``cls``
is (N, 5) float32, see `yolo_multitask.data.augment`. Column ``ID`` numbers the identities of the whole data set: an
``#id`` is unique within a sequence only (a sequence is a folder), so the same ``#id`` in two folders is two identities,
and the index fits a float32 where an arbitrary integer does not. `MultiTaskDataset.identities` maps the index back.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections import Counter
from dataclasses import dataclass, field, replace
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ultralytics.data.augment import Compose
from ultralytics.data.base import BaseDataset
from ultralytics.data.dataset import YOLODataset
from ultralytics.data.utils import check_image, get_split_fraction, img2label_paths, load_dataset_cache_file
from ultralytics.utils import LOCAL_RANK, LOGGER, NUM_THREADS, TQDM, colorstr

from yolo_multitask.data.augment import (
    CLS,
    HAS_KEYPOINTS,
    HAS_MASK,
    ID,
    IGNORE,
    NO_ID,
    NUM_COLUMNS,
    MultiTaskFormat,
    adapt_transforms,
    collate_extras,
)
from yolo_multitask.data.labels import Labels, LabelSpec, LineProblem, cache_file, read_labels

CACHE_VERSION = "multitask-1"  # of what is written to the cache file; changes with the layout of `scan_image`'s label
_MAX_IDENTITIES = 2**24  # integers up to here are exact in float32
_COUNTS = (  # what a scan counts, in the order of its summary
    "images",
    "backgrounds",
    "corrupt",
    "instances",
    "with polygons",
    "with keypoints",
    "ignore regions",
    "bad lines",
    "duplicate lines",
    "flat polygons",
    "images left out for bad lines",
)
_ALWAYS_SHOWN = 3  # of _COUNTS; the rest is shown where it is not 0


@dataclass(kw_only=True)
class Scan:
    """What was found in one image or in all of a data set.

    Attributes:
        labels: One dict per usable image.
        counts: Number by name, see `summary`.
        messages: One per thing that was left out or repaired; bad lines as ``file:line: reason``.
        label_files: Number of label files that exist.
    """

    labels: list[dict[str, Any]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    messages: list[str] = field(default_factory=list)
    label_files: int = 0

    def add(self, other: Scan) -> None:
        """Add what was found elsewhere."""
        self.labels += other.labels
        self.counts.update(other.counts)
        self.messages += other.messages
        self.label_files += other.label_files

    @property
    def summary(self) -> str:
        """One line with all counts, e.g. ``8 images, 1 backgrounds, 0 corrupt, 31 instances, 2 bad lines``."""
        return ", ".join(
            f"{self.counts[name]} {name}" for i, name in enumerate(_COUNTS) if i < _ALWAYS_SHOWN or self.counts[name]
        )


def scan_image(im_file: str, label_file: str, spec: LabelSpec) -> Scan:
    """Check one image and read its labels.

    An image with a line that does not parse is left out whole: the object of that line would be trained as background.

    Args:
        im_file: The image.
        label_file: Its label file; a missing one means an image without instances.
        spec: What the lines hold.

    Returns:
        A scan with one label dict, or none where the image is left out.
    """
    scan = Scan(label_files=int(os.path.isfile(label_file)))
    try:
        message, shape = check_image(im_file)
    except Exception as error:  # Pillow raises what the file format's plugin happens to raise
        scan.counts["corrupt"] += 1
        scan.messages.append(f"{im_file}: corrupt image left out: {error or type(error).__name__}")
        return scan
    if message:
        scan.messages.append(message)
    try:
        labels, problems = read_labels(label_file, spec)
    except OSError as error:
        labels, problems = Labels.from_instances([], spec), [LineProblem(label_file, 0, f"cannot be read: {error}")]
    scan.messages += map(str, problems)
    bad = sum(p.kind == "error" for p in problems)
    scan.counts["bad lines"] += bad
    scan.counts["duplicate lines"] += len(problems) - bad
    if bad:
        scan.counts["images left out for bad lines"] += 1
        return scan
    labelled = np.array([p is not None and bool((np.ptp(p, 0) > 0).all()) for p in labels.polygons], dtype=bool)
    flat = int(labels.has_polygon.sum() - labelled.sum())
    if flat:
        scan.messages.append(f"{label_file}: {flat} polygons without width or height, taken as not labelled")
    real = ~labels.ignore
    scan.counts.update(
        {
            "images": 1,
            "backgrounds": int(not real.any()),
            "instances": int(real.sum()),
            "with polygons": int((labelled & real).sum()),
            "with keypoints": int((labels.has_keypoints & real).sum()),
            "ignore regions": int(labels.ignore.sum()),
            "flat polygons": flat,
        }
    )
    scan.labels.append(_label_dict(im_file, shape, labels, labelled, spec))
    return scan


class MultiTaskDataset(YOLODataset):
    """Images whose instances may have polygons, keypoints and identities, each labelled or not.

    The fields follow ``data["label_spec"]``: with polygons it augments as the host's segment data set, else as its
    detect and pose data sets; keypoints follow in both. A box is the label file's. Under random perspective (training)
    it becomes the box around the polygon where one is labelled, as in the host's segment data set.

    Args:
        data: Data set configuration as `yolo_multitask.data.config.load_data` returns it: ``label_spec``,
            ``kpt_classes`` (by the classes of the lines, with ``single_cls`` too), ``names``, ``flip_idx`` and
            ``channels``.
        *args: As `ultralytics.data.base.BaseDataset`.
        **kwargs: As `ultralytics.data.base.BaseDataset`.

    Attributes:
        spec: What the label lines hold.
        kpt_classes: Classes whose keypoints count, None for all.
        scan: Counts and messages of the scan (its labels are in `labels`).
        identities: (folder, ``#id``) of each identity index.

    Raises:
        ValueError: ``data`` has no ``label_spec``, no image is usable, or there is no label file to train from.
        FileNotFoundError: There are no images.
    """

    format_class = MultiTaskFormat

    def __init__(self, *args: Any, data: dict[str, Any], **kwargs: Any) -> None:
        spec = data.get("label_spec")
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
        self.identities: list[tuple[str, int]] = []
        # YOLODataset.__init__ is left out: it sets the flags above from one task, and polygons exclude keypoints there
        BaseDataset.__init__(self, *args, channels=data.get("channels", 3), **kwargs)

    def get_label_files(self) -> list[str]:
        """Return the label file of every image and keep them in `label_files`."""
        self.label_files: list[str] = img2label_paths(self.im_files)
        return self.label_files

    def get_cache_hash(self) -> str:
        """Return a hash of the label grammar and of path, size and modification time of every image and label file."""
        digest = hashlib.sha256(f"{CACHE_VERSION} {self._scan_spec()!r}".encode())
        for path in (*self.im_files, *self.label_files):
            digest.update(os.fsencode(path))
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
        scan, spec = Scan(), self._scan_spec()
        desc = f"{self.prefix}Scanning {path.parent / path.name.split('.')[0]}..."
        with ThreadPool(NUM_THREADS) as pool:
            found = pool.imap(lambda pair: scan_image(*pair, spec), zip(self.im_files, self.label_files, strict=True))
            bar = TQDM(found, desc=desc, total=len(self.im_files))
            for one in bar:
                scan.add(one)
                bar.desc = f"{desc} {scan.summary}"
            bar.close()
        if scan.messages:
            LOGGER.warning("\n".join(f"{self.prefix}{message}" for message in scan.messages))
        cache = {"version": CACHE_VERSION, "hash": self.get_cache_hash(), **vars(scan)}
        _write_cache(path, cache, self.prefix)
        return cache

    def get_labels(self) -> list[dict[str, Any]]:
        """Return one label dict per usable image, from the cache file if it is up to date.

        Raises:
            ValueError: See the class.
        """
        files = self.get_label_files()
        if not files:
            raise ValueError(
                f"{self.prefix}expected images in {self.img_path}, found none for fraction={self.fraction}"
            )
        path = cache_file(Path(files[0]).parent)
        cache = _read_cache(path, self.get_cache_hash())
        if cache is None:
            cache = self.cache_labels(path)
        elif LOCAL_RANK in {-1, 0} and cache["messages"]:
            LOGGER.warning("\n".join(f"{self.prefix}{message}" for message in cache["messages"]))
        if LOCAL_RANK in {-1, 0}:
            LOGGER.info(f"{self.prefix}{path}: {Scan(counts=cache['counts']).summary}")
        labels: list[dict[str, Any]] = cache["labels"]
        self.scan = Scan(counts=cache["counts"], messages=cache["messages"], label_files=cache["label_files"])
        self._check(labels)
        self.im_files = [label["im_file"] for label in labels]
        self.label_files = img2label_paths(self.im_files)
        self._fill_columns(labels)
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

    @staticmethod
    def collate_fn(batch: list[dict[str, Any]]) -> dict[str, Any]:
        """Collate samples as the host does, and this package's keys with them (see `collate_extras`)."""
        return collate_extras(YOLODataset.collate_fn(batch))

    def _scan_spec(self) -> LabelSpec:
        """Return what the lines hold; with ``single_cls`` any class index is fine, as in the host."""
        return replace(self.spec, nc=_MAX_IDENTITIES) if self.single_cls else self.spec

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

    def _fill_columns(self, labels: list[dict[str, Any]]) -> None:
        """Set what depends on the whole data set: which classes have keypoints, and identity indices for ids."""
        index: dict[tuple[str, int], int] = {}
        for label in labels:
            cls = label["cls"]
            if self.kpt_classes is not None:
                cls[~np.isin(cls[:, CLS], self.kpt_classes), HAS_KEYPOINTS] = 0
            folder = str(Path(label["im_file"]).parent)
            ids = label.pop("ids")
            cls[:, ID] = NO_ID
            for i in np.flatnonzero(ids >= 0):
                cls[i, ID] = index.setdefault((folder, int(ids[i])), len(index))
        if len(index) > _MAX_IDENTITIES:
            raise ValueError(f"{self.prefix}expected at most {_MAX_IDENTITIES} identities, found {len(index)}")
        self.identities = list(index)


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
        fraction=fraction,
    )


def _label_dict(
    im_file: str, shape: tuple[int, int], labels: Labels, labelled: NDArray[np.bool_], spec: LabelSpec
) -> dict[str, Any]:
    """Return the host's label dict of one image, plus ``ids`` int64 (N,) until the identities are numbered."""
    cls = np.zeros((len(labels), NUM_COLUMNS), np.float32)
    cls[:, CLS] = labels.cls
    cls[:, HAS_KEYPOINTS] = labels.has_keypoints
    cls[:, HAS_MASK] = labelled
    cls[:, IGNORE] = labels.ignore
    cls[:, ID] = NO_ID
    polygons = (
        p if there else _corners(box) for p, there, box in zip(labels.polygons, labelled, labels.boxes, strict=True)
    )
    return {
        "im_file": im_file,
        "shape": shape,
        "cls": cls,
        "bboxes": labels.boxes,
        "segments": list(polygons) if spec.polygons else [],
        "keypoints": labels.keypoints,
        "normalized": True,
        "bbox_format": "xywh",
        "ids": labels.ids,
    }


def _corners(box: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the corners of a box cx cy w h as a polygon, float32 (4, 2) in the box's frame."""
    cx, cy, w, h = box
    return np.array(
        [[cx - w / 2, cy - h / 2], [cx + w / 2, cy - h / 2], [cx + w / 2, cy + h / 2], [cx - w / 2, cy + h / 2]]
    )


def _read_cache(path: Path, key: str) -> dict[str, Any] | None:
    """Return the cache if it can be read, has this version and matches the files, else None."""
    try:
        cache = load_dataset_cache_file(path)
    except Exception:  # missing, cut short, or pickled by something else: the scan writes it anew
        return None
    good = isinstance(cache, dict) and cache.get("version") == CACHE_VERSION and cache.get("hash") == key
    return cache if good else None


def _write_cache(path: Path, cache: dict[str, Any], prefix: str) -> None:
    """Write the cache file whole or not at all; a folder that cannot be written to is only warned about."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with open(temporary, "wb") as file:
            np.save(file, np.array(cache, dtype=object), allow_pickle=True)
        os.replace(temporary, path)
    except OSError as error:
        LOGGER.warning(f"{prefix}cache file {path} not written: {error}")
    finally:
        temporary.unlink(missing_ok=True)
