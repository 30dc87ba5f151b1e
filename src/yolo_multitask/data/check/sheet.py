"""The labels of one image as the rules see them, and where in the file each instance stands."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from yolo_multitask.data.check.parts import Part, taken
from yolo_multitask.data.labels import Labels, LabelSpec, LineProblem, read_labels

# how the reasons of `parse_line` begin, for those that are a kind of their own
_REASONS = (
    ("line-class", re.compile(r"expected a class in ")),
    ("line-range", re.compile(r"expected [a-z ]+ coordinates in 0\.\.1")),
    (
        "line-keypoints",
        re.compile(r"expected \d+ keypoint numbers|expected .*KEYPOINTS\S*(?: \[\S+\])*, found \d+ more"),
    ),
)


class Fault(NamedTuple):
    """What a rule found in one image: a key of `KINDS`, the instances (the last one gives the line), and the words."""

    kind: str
    instances: tuple[int, ...]
    message: str


@dataclass
class Sheet:
    """The labels of one image.

    Attributes:
        path: The label file.
        spec: What its lines hold.
        labels: Its instances that the training takes, normalised coordinates.
        rows: int64 (N,) number of each among all instances of the file.
        others: Number of instances that the training does not take, as they are of other classes.
        problems: Its lines that were left out.
        size: Width and height of the image in pixels, or None where it was not opened.
    """

    path: str
    spec: LabelSpec
    labels: Labels
    rows: NDArray[np.int64]
    others: int
    problems: Sequence[LineProblem]
    size: tuple[int, int] | None = None

    @classmethod
    def read(cls, path: str, part: Part, size: tuple[int, int] | None = None) -> Sheet:
        """Read a label file; a missing one has no instances.

        Args:
            path: The label file.
            part: What its lines hold, and what the training takes of them.
            size: Width and height of the image in pixels, or None where it was not opened.

        Raises:
            OSError: It cannot be read.
        """
        labels, problems = read_labels(path, part.spec)
        total, rows = len(labels), np.arange(len(labels))
        if part.source is not None:
            labels, rows = taken(labels, part.source, part.trained)
        return cls(path, part.spec, labels, rows, total - len(rows), problems, size)

    @cached_property
    def lines(self) -> list[int]:
        """Line number of each instance, from 1."""
        with open(self.path, "rb") as file:
            text = file.read().replace(b"\r\n", b"\n").replace(b"\r", b"\n").removeprefix(b"\xef\xbb\xbf")
        left_out = {problem.line for problem in self.problems}
        numbers = enumerate(text.split(b"\n"), 1)
        # blank as `read_labels` sees it, so as text: a no-break space is blank too
        every = [n for n, line in numbers if n not in left_out and line.decode().strip()]
        return [every[row] for row in self.rows]

    @cached_property
    def real(self) -> NDArray[np.bool_]:
        """Which instances are no ignore regions, bool (N,)."""
        return ~self.labels.ignore

    @cached_property
    def pixel(self) -> NDArray[np.float64]:
        """Width and height of a pixel in normalised units; of a picture of 640 pixels where the size is not known."""
        return 1 / np.array(self.size or (640, 640), np.float64)


def line_faults(problems: Iterable[LineProblem]) -> Iterable[tuple[str, LineProblem]]:
    """Yield the kind of every line that was left out."""
    for problem in problems:
        if problem.kind == "duplicate":
            yield "line-duplicate", problem
        else:
            yield next((kind for kind, reason in _REASONS if reason.match(problem.reason)), "line-grammar"), problem
