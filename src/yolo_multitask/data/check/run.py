"""`check`: one pass over a data set in several processes; what is kept of an image is a few numbers."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo_multitask.data.check.duplicates import Pictures, same_picture
from yolo_multitask.data.check.files import image_files, orphans, shared_labels
from yolo_multitask.data.check.findings import CheckReport, Finding, Spool, spooled
from yolo_multitask.data.check.frame import Batch, Plan, check_frames
from yolo_multitask.data.check.page import write_findings_page
from yolo_multitask.data.check.pose import keypoint_names, make_sides, swapped_pairs
from yolo_multitask.data.check.settings import class_findings, yaml_findings
from yolo_multitask.data.check.tracks import Sequences
from yolo_multitask.data.config import data_file, load_data

SPLITS = ("train", "val", "test", "minival")
NEED_IMAGES = (
    *("image-unreadable", "image-size", "image-channels", "image-grey", "box-tiny", "frame-size"),
    *("leak", "leak-near", "image-duplicate", "image-near-duplicate"),
)
CHUNK = 64  # images that a worker takes at a time


def check(
    data: str | Path,
    split: str | None = None,
    images: bool = True,
    html: str | Path | None = None,
    json: str | Path | None = None,
    workers: int | None = None,
    limit: int = 20,
) -> CheckReport:
    """Look for what is wrong or doubtful in a data set; nothing is changed.

    Args:
        data: Data YAML by path or name, as for training.
        split: Check this split alone; by default all that the data YAML has.
        images: Open the images; without, what needs them is not looked for (`CheckReport.unchecked`).
        html: Page to write, with pictures of what was found.
        json: File to write with all findings and counts.
        workers: Processes; as many as there are cores by default, 0 for none beside this one.
        limit: Findings of a kind that are kept in the report and shown on the page; all are counted.

    Returns:
        The report; print it for a summary.

    Raises:
        ValueError: There is no such data YAML or split, or `limit` or `workers` is out of range.
    """
    if limit < 1 or (workers is not None and workers < 0):
        raise ValueError(f"expected limit of 1 or more and workers of 0 or more, found {limit=}, {workers=}")
    file = data_file(data)
    report = CheckReport(data=file, limit=limit, unchecked=() if images else NEED_IMAGES)
    with spooled(Path(json) if json else None) as spool:
        run = _Run(report, spool)
        settings = _load(file, split, run)
        if settings:
            run.check(settings, [split] if split else [s for s in SPLITS if settings.get(s)], images, workers)
        if spool is not None:
            spool.write(Path(str(json)), report)
    if html:
        write_findings_page(Path(html), report, settings or {})
    return report


def _load(file: str, split: str | None, run: _Run) -> dict[str, Any] | None:
    """Return the data YAML, or None where it does not load and that is a finding.

    Raises:
        ValueError: It has no such split.
    """
    try:
        settings = load_data(file)
    except (ValueError, FileNotFoundError) as error:
        message = " ".join(str(error).split()).removeprefix(f"{file}: ")
        run.take([Finding("data-yaml", file, message)])
        return None
    if settings.get("sources"):
        raise ValueError(
            f"{file}: expected a data set with plain paths, found one that lists sources; check each alone"
        )
    if split and not settings.get(split):
        there = ", ".join(s for s in SPLITS if settings.get(s))
        raise ValueError(f"split={split}: expected a split of {file}, which has {there}")
    return settings


class _Run:
    """One check: where the findings go, and what is known so far."""

    def __init__(self, report: CheckReport, spool: Spool | None) -> None:
        self.report, self.spool = report, spool
        self.objects: dict[str, Counter[int]] = {}
        self.keypoints: Counter[int] = Counter()
        self.votes: dict[int, NDArray[np.int64]] = {}
        self.examples: dict[int, tuple[str, str, str, int, int]] = {}
        self.sequences: set[str] = set()

    def take(self, findings: Iterable[Finding]) -> None:
        """Count findings and pass them on."""
        for finding in findings:
            self.report.add(finding)
            if self.spool is not None:
                self.spool.add(finding)

    def check(self, data: Mapping[str, Any], splits: list[str], images: bool, workers: int | None) -> None:
        """Check the data YAML, then every image and label file, then what can only be said of all of them."""
        self.take(yaml_findings(data, self.report.data))
        plan = make_plan(data, images)
        files: dict[str, list[str]] = {}
        for split in splits:
            try:
                files[split] = image_files(data[split], split)
            except FileNotFoundError as error:
                self.take([Finding("split-path", self.report.data, str(error), split=split)])
        pictures = Pictures(files)
        with _processes(workers, sum(map(len, files.values()))) as run_over:
            for split, found in files.items():
                self._split(split, found, plan, pictures, run_over)
                self.take(shared_labels(found, split))
                self.take(orphans(data[split], split))
            self.take(pictures.findings(self.sequences, partial(run_over, same_picture)))
        if files:
            names = data["names"]
            kpt_classes = data["kpt_classes"] if plan.spec.kpt_shape else list(names)
            self.take(class_findings(names, self.objects, self.keypoints, kpt_classes, self.report.data))
        self.take(self._swapped(plan, data["names"]))

    def _split(self, split: str, files: list[str], plan: Plan, pictures: Pictures, run_over: Any) -> None:
        """Check the images of a split."""
        from ultralytics.utils import TQDM

        counts = self.report.splits[split] = Counter()
        self.objects[split] = Counter()
        sequences = Sequences(split, plan.spec)
        bar = TQDM(total=len(files), desc=f"Checking {split}")
        for batch in run_over(partial(_check_chunk, plan), _chunks(split, files)):
            self._add(batch)
            for frame in batch.frames:
                self.take(sequences.add(frame))
                if frame.picture is not None:
                    pictures.add(split, frame.number, frame.picture)
            bar.update(batch.counts["images"])
        bar.close()
        self.take(sequences.finish())
        counts["sequences"] = len(sequences.folders)
        self.sequences |= sequences.folders
        if split in ("train", "val") and counts["without label file"] == counts["images"]:
            message = f"none of {counts['images']} images of {split} has a label file; labels stand beside images/"
            self.take([Finding("split-unlabelled", self.report.data, message, split=split)])

    def _add(self, batch: Batch) -> None:
        """Add what was found in some images."""
        self.take(batch.findings)
        self.report.splits[batch.split].update(batch.counts)
        self.objects[batch.split].update(batch.classes)
        self.keypoints.update(batch.keypoints)
        for cls, votes in batch.votes.items():
            self.votes[cls] = self.votes.get(cls, 0) + votes
        for cls, example in batch.examples.items():
            self.examples.setdefault(cls, (batch.split, *example))

    def _swapped(self, plan: Plan, names: Mapping[int, str]) -> Iterator[Finding]:
        """Yield classes whose left and right keypoints are swapped more often than not."""
        for cls, votes in self.votes.items():
            said = swapped_pairs(votes, plan.sides[cls])
            if said:
                split, image, label, line, index = self.examples[cls]
                message = f"{names[cls]}, left and right: {'; '.join(said)}. Exchange them, or correct kpt_names"
                yield Finding("keypoints-sides", label, message, line, split, image, (index,))


def make_plan(data: Mapping[str, Any], images: bool) -> Plan:
    """Return what the images of a data set are checked for.

    Args:
        data: As `load_data` returns it.
        images: Whether to open the images.
    """
    sides = {}
    if data["label_spec"].kpt_shape is not None:
        flip = [int(i) for i in data.get("flip_idx") or ()]
        made = {cls: make_sides(flip, keypoint_names(data, cls)) for cls in data["kpt_classes"]}
        sides = {cls: pairs for cls, pairs in made.items() if pairs is not None}
    return Plan(spec=data["label_spec"], images=images, channels=int(data["channels"]), sides=sides)


def _chunks(split: str, files: list[str]) -> Iterator[tuple[str, int, list[str], list[str]]]:
    """Yield split, index of the first image, images and label files of each chunk."""
    from ultralytics.data.utils import img2label_paths

    for start in range(0, len(files), CHUNK):
        chunk = files[start : start + CHUNK]
        yield split, start, chunk, img2label_paths(chunk)


def _check_chunk(plan: Plan, chunk: tuple[str, int, list[str], list[str]]) -> Batch:
    return check_frames(*chunk, plan)


@contextmanager
def _processes(workers: int | None, images: int) -> Iterator[Any]:
    """Give a function as `map` that works in processes and keeps the order; in this one for few images."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = min(cores if workers is None else workers, images // CHUNK)
    if count < 1:
        yield map
        return
    with Pool(count) as pool:
        yield pool.imap
