"""`check`: one pass over a data set in several processes; what is kept of an image is a few numbers."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from multiprocessing import Pool
from pathlib import Path
from typing import Any

from yolo_multitask.data.check.duplicates import Pictures, same_picture
from yolo_multitask.data.check.files import image_files, orphans, shared_labels
from yolo_multitask.data.check.findings import CheckReport, Finding, Spool, spooled
from yolo_multitask.data.check.frame import Batch, Plan, check_frames
from yolo_multitask.data.check.page import write_findings_page
from yolo_multitask.data.check.parts import Part, parts_of, repeated_images
from yolo_multitask.data.check.pose import keypoint_names, make_sides, swapped_pairs
from yolo_multitask.data.check.settings import class_findings, source_findings, unused_classes, yaml_findings
from yolo_multitask.data.check.tracks import Sequences
from yolo_multitask.data.config import data_file, load_data
from yolo_multitask.data.sources import SPLITS

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
            splits = [split] if split else [s for s in SPLITS if settings.get(s)]
            parts = [part for s in splits for part in parts_of(settings, s)]
            run.check(settings, parts, images, workers, whole=split is None)
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
    if split and not settings.get(split):
        there = ", ".join(s for s in SPLITS if settings.get(s))
        raise ValueError(f"split={split}: expected a split of {file}, which has {there}")
    return settings


class _Run:
    """One check: where the findings go, and what is known so far."""

    def __init__(self, report: CheckReport, spool: Spool | None) -> None:
        self.report, self.spool = report, spool
        self.objects: dict[str, Counter[int]] = {}  # of each class, by split
        self.by_source: dict[str, Counter[int]] = {}
        self.keypoints: Counter[int] = Counter()
        self.sequences: set[str] = set()

    def take(self, findings: Iterable[Finding], source: str = "") -> None:
        """Count findings and pass them on, under the name of their source."""
        for finding in findings:
            named = replace(finding, source=source) if source else finding
            self.report.add(named)
            if self.spool is not None:
                self.spool.add(named)

    def check(self, data: Mapping[str, Any], parts: list[Part], images: bool, workers: int | None, whole: bool) -> None:
        """Check the data YAML, then every image and label file, then what can only be said of all of them.

        Args:
            data: As `load_data` returns it.
            parts: The parts to check.
            images: Whether to open the images.
            workers: As for `check`.
            whole: Whether these are all parts; else nothing is said of classes that are nowhere.
        """
        file, names = self.report.data, data["names"]
        self.take(yaml_findings(data, file))
        files = [self._files(part) for part in parts]
        self.take(repeated_images(parts, files))
        pictures = Pictures(parts, files)
        with _processes(workers, sum(map(len, files))) as run_over:
            for number, part in enumerate(parts):
                if files[number]:
                    self._part(make_plan(data, part, images), names, number, pictures, run_over)
            self.take(pictures.findings(self.sequences, partial(run_over, same_picture)))
        if self.objects:
            kpt_classes = data["kpt_classes"] if data["label_spec"].kpt_shape else list(names)
            self.take(class_findings(names, self.objects, self.keypoints, kpt_classes, file))
            if whole:
                self.take(unused_classes(names, self.objects, file))
                self.take(source_findings(names, self.by_source, [p.source for p in parts if p.source], file))
        self.report.classes = [
            {"class": cls, "name": names[cls]} | {s: n[cls] for s, n in self.objects.items()} for cls in names
        ]

    def _files(self, part: Part) -> list[str]:
        """Return the images of a part; none where that is a finding."""
        try:
            return image_files(part.paths, part.title)
        except FileNotFoundError as error:
            finding = Finding("split-path", self.report.data, str(error), split=part.split)
            self.take([finding], part.source_name)
            return []

    def _part(
        self, plan: Plan, names: Mapping[int, str], number: int, pictures: Pictures, run_over: Callable[..., Any]
    ) -> None:
        """Check the images of a part, which has this number among all parts."""
        from ultralytics.utils import TQDM

        part, files = plan.part, pictures.images[number]
        found, sequences = Batch(), Sequences(part, names)
        take = partial(self.take, source=part.source_name)
        bar = TQDM(total=len(files), desc=f"Checking {part.title}")
        for batch in run_over(partial(_check_chunk, plan), _chunks(files)):
            take(batch.findings)
            found.count(batch)
            for frame in batch.frames:
                take(sequences.add(frame))
                if frame.picture is not None:
                    pictures.add(number, frame.number, frame.picture)
            bar.update(batch.counts["images"])
        bar.close()
        take(sequences.finish())
        take(_swapped(plan, found, names))
        take(shared_labels(files, part.split))
        take(orphans(part.paths, part.split))
        if part.split in ("train", "val") and found.counts["without label file"] == len(files):
            message = f"none of {len(files)} images of {part.title} has a label file; labels stand beside images/"
            take([Finding("split-unlabelled", self.report.data, message, split=part.split)])
        self.sequences |= sequences.folders
        found.counts["sequences"] = len(sequences.folders)
        self.report.splits[part.title] = found.counts
        self.objects.setdefault(part.split, Counter()).update(found.classes)
        self.by_source.setdefault(part.source_name, Counter()).update(found.classes)
        self.keypoints.update(found.keypoints)


def _swapped(plan: Plan, found: Batch, names: Mapping[int, str]) -> Iterator[Finding]:
    """Yield classes whose left and right keypoints are swapped more often than not."""
    for cls, votes in found.votes.items():
        said = swapped_pairs(votes, plan.sides[cls])
        if said:
            image, label, line, index = found.examples[cls]
            where = f"{names[cls]} in {plan.part.title}"
            message = f"{where}, left and right: {'; '.join(said)}. Exchange them, or correct kpt_names"
            yield Finding("keypoints-sides", label, message, line, plan.part.split, image, (index,))


def make_plan(data: Mapping[str, Any], part: Part, images: bool) -> Plan:
    """Return what the images of a part are checked for.

    Args:
        data: As `load_data` returns it.
        part: The images.
        images: Whether to open the images.
    """
    sides = {}
    if data["label_spec"].kpt_shape is not None:
        flip = [int(i) for i in data.get("flip_idx") or ()]
        made = {cls: make_sides(flip, keypoint_names(data, cls)) for cls in data["kpt_classes"]}
        sides = {cls: pairs for cls, pairs in made.items() if pairs is not None}
    return Plan(part=part, images=images, channels=int(data["channels"]), sides=sides)


def _chunks(files: Sequence[str]) -> Iterator[tuple[int, Sequence[str], list[str]]]:
    """Yield index of the first image, images and label files of each chunk."""
    from ultralytics.data.utils import img2label_paths

    for start in range(0, len(files), CHUNK):
        chunk = files[start : start + CHUNK]
        yield start, chunk, img2label_paths(chunk)


def _check_chunk(plan: Plan, chunk: tuple[int, Sequence[str], list[str]]) -> Batch:
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
