"""What a check found: kinds, single findings, and the report that counts them."""

from __future__ import annotations

import json
import os
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

SEVERITIES = ("error", "warning", "info")
LARGEST = 12  # classes whose numbers are in the printed summary
SHOWN = 3  # findings of a kind in the printed summary


class Kind(NamedTuple):
    """How bad a kind of finding is, and what it is called."""

    severity: str
    title: str


KINDS: dict[str, Kind] = {
    "data-yaml": Kind("error", "data YAML that does not load"),
    "split-path": Kind("error", "split without images"),
    "split-unlabelled": Kind("error", "split without any label file"),
    "flip-idx": Kind("error", "flip_idx that does not mirror"),
    "flip-idx-missing": Kind("info", "keypoints without flip_idx"),
    "source-overlap": Kind("error", "image in two sources of a split"),
    "class-names": Kind("warning", "class name given twice"),
    "class-unused": Kind("warning", "class in names that no split has"),
    "class-missing": Kind("warning", "class without an instance in a split"),
    "class-imbalance": Kind("warning", "classes that are rare next to the largest"),
    "image-unreadable": Kind("error", "image that is truncated or cannot be read"),
    "image-size": Kind("error", "image without size"),
    "image-channels": Kind("warning", "image with other channels"),
    "image-grey": Kind("info", "grey image in a colour data set"),
    "label-missing": Kind("info", "image without label file, a background"),
    "label-orphan": Kind("warning", "label file without image"),
    "label-shared": Kind("warning", "label file that two images share"),
    "label-unreadable": Kind("error", "label file that cannot be read"),
    "line-grammar": Kind("error", "line that does not parse"),
    "line-class": Kind("error", "class out of range"),
    "line-range": Kind("error", "coordinate outside 0..1"),
    "line-keypoints": Kind("error", "line that does not fit kpt_shape"),
    "line-duplicate": Kind("warning", "line given twice"),
    "box-duplicate": Kind("warning", "object labelled twice"),
    "box-outside": Kind("warning", "box that reaches out of the picture"),
    "box-tiny": Kind("warning", "box below 2 pixels"),
    "box-full": Kind("info", "box that covers the whole picture"),
    "box-polygon": Kind("warning", "box that disagrees with its polygon"),
    "polygon-flat": Kind("warning", "polygon without area"),
    "polygon-repeats": Kind("warning", "polygon that repeats its points"),
    "keypoints-outside": Kind("warning", "keypoints far outside their box"),
    "keypoints-absent": Kind("warning", "large object with all keypoints absent"),
    "keypoints-collapsed": Kind("warning", "keypoints all at one place"),
    "keypoints-class": Kind("info", "keypoints on a class that has none"),
    "keypoints-sides": Kind("warning", "left and right swapped more often than not"),
    "id-twice": Kind("error", "identity twice in a frame"),
    "id-class": Kind("warning", "identity that changes its class"),
    "id-jump": Kind("warning", "identity that jumps"),
    "frame-gap": Kind("warning", "sequence with missing frame numbers"),
    "frame-size": Kind("warning", "sequence with frames of another size"),
    "leak": Kind("error", "same picture in two splits"),
    "leak-near": Kind("warning", "nearly the same picture in two splits"),
    "image-duplicate": Kind("warning", "same picture twice in a split"),
    "image-near-duplicate": Kind("info", "nearly the same picture twice in a split"),
}
"""Every kind of finding by name, in the order of a report within its severity."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found.

    Attributes:
        kind: A key of `KINDS`.
        file: The file or folder that it is about.
        message: What was found and what to do.
        line: Line number in `file`, from 1; 0 where it is about the whole file.
        split: Split of the data YAML; empty where it is about the data set.
        image: The picture that shows it; empty where there is none.
        instances: Indices of the instances that it is about, among those of the file that the training takes.
        source: Source of the split; empty where it lists none.
        twin: The picture that `image` equals or resembles, for findings about that.
    """

    kind: str
    file: str
    message: str
    line: int = 0
    split: str = ""
    image: str = ""
    instances: tuple[int, ...] = ()
    source: str = ""
    twin: str = ""

    @property
    def severity(self) -> str:
        """``error``, ``warning`` or ``info``."""
        return KINDS[self.kind].severity

    def __str__(self) -> str:
        """Return ``file:line: message``."""
        return f"{self.file}{f':{self.line}' if self.line else ''}: {self.message}"


@dataclass(kw_only=True)
class CheckReport:
    """What a check found, in numbers and with the first findings of each kind.

    Attributes:
        data: The data YAML.
        limit: Findings of a kind that are kept; all are counted.
        splits: Counts by name, by split, or by split and source where it lists sources.
        classes: One dict for each class: ``class``, ``name``, and the number of objects in each split by its name.
        counts: Number of findings by kind.
        findings: The first `limit` findings of each kind.
        unchecked: Kinds that were not looked for.
    """

    data: str
    limit: int
    splits: dict[str, Counter[str]] = field(default_factory=dict)
    classes: list[dict[str, Any]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    findings: dict[str, list[Finding]] = field(default_factory=dict)
    unchecked: tuple[str, ...] = ()

    @property
    def errors(self) -> int:
        """Number of findings that are errors."""
        return self._of("error")

    @property
    def warnings(self) -> int:
        """Number of findings that are warnings."""
        return self._of("warning")

    def _of(self, severity: str) -> int:
        return sum(n for kind, n in self.counts.items() if KINDS[kind].severity == severity)

    def add(self, finding: Finding) -> None:
        """Count a finding, and keep it if it is among the first of its kind."""
        self.counts[finding.kind] += 1
        kept = self.findings.setdefault(finding.kind, [])
        if len(kept) < self.limit:
            kept.append(finding)

    def kinds(self) -> list[str]:
        """Return the kinds that were found, the worst first."""
        order = sorted(KINDS, key=lambda kind: SEVERITIES.index(KINDS[kind].severity))
        return [kind for kind in order if self.counts[kind]]

    def table(self) -> list[tuple[str, list[int]]]:
        """Return rows of counts, one column a split; rows that are 0 everywhere are left out."""
        rows = dict.fromkeys(name for counts in self.splits.values() for name in counts)
        values = [(name, [counts[name] for counts in self.splits.values()]) for name in rows]
        return [(name, row) for name, row in values if any(row)]

    def balance(self) -> str:
        """Return the number of objects of the largest classes in words."""
        counts = [(sum(v for k, v in c.items() if k not in ("class", "name")), c["name"]) for c in self.classes]
        largest = sorted((c for c in counts if c[0]), key=lambda c: -c[0])[:LARGEST]
        more = f"{len(counts) - len(largest)} classes with {'fewer' if len(largest) == LARGEST else 'none'}"
        listed = [f"{name} {count}" for count, name in largest]
        return ", ".join([*listed, more] if len(largest) < len(counts) else listed)

    def __str__(self) -> str:
        """Return the summary: a table of the splits, then every kind with its first findings."""
        lines = [f"data: {self.data}", *self._table_lines()]
        if len(self.classes) > 1:
            lines += ["", f"objects by class: {self.balance()}"]
        total = f"{self.errors} errors, {self.warnings} warnings, {self._of('info')} notes"
        lines += ["", f"{total}" if self.counts else "nothing found"]
        for kind in self.kinds():
            severity, title = KINDS[kind]
            lines += ["", f"{severity} {kind}: {title} ({self.counts[kind]})"]
            shown = self.findings[kind][:SHOWN]
            lines += [f"  {finding}" for finding in shown]
            if self.counts[kind] > len(shown):
                lines.append(f"  ... and {self.counts[kind] - len(shown)} more")
        if self.unchecked:
            lines += ["", f"not looked for, as images were not opened: {', '.join(self.unchecked)}"]
        return "\n".join(lines)

    def _table_lines(self) -> Iterator[str]:
        rows = self.table()
        if not rows:
            return
        left = max(len(name) for name, _ in rows)
        width = max(10, *(len(split) + 2 for split in self.splits))
        yield " " * left + "".join(f"{split:>{width}}" for split in self.splits)
        for name, values in rows:
            yield f"{name:<{left}}" + "".join(f"{value:>{width}}" for value in values)


class Spool:
    """Findings on their way to a JSON file: on disk, not in memory, one line each."""

    def __init__(self, file: IO[str]) -> None:
        self.file = file

    def add(self, finding: Finding) -> None:
        """Append a finding."""
        record = {"kind": finding.kind, "severity": finding.severity} | asdict(finding)
        self.file.write(json.dumps(record) + "\n")

    def write(self, path: Path, report: CheckReport) -> None:
        """Write the JSON file whole or not at all: counts of the report, then all findings."""
        head: dict[str, Any] = {
            "data": report.data,
            "errors": report.errors,
            "warnings": report.warnings,
            "counts": {kind: report.counts[kind] for kind in report.kinds()},
            "splits": {split: dict(counts) for split, counts in report.splits.items()},
            "classes": report.classes,
            "unchecked": list(report.unchecked),
        }
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            with open(temporary, "w", encoding="utf-8", newline="\n") as out:
                out.write(json.dumps(head, indent=1)[:-2] + ',\n "findings": [')
                self.file.seek(0)
                for i, line in enumerate(self.file):
                    out.write(f"{',' if i else ''}\n  {line.rstrip()}")
                out.write("\n ]\n}\n")
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def spooled(path: Path | None) -> Iterator[Spool | None]:
    """Give a spool for the findings of one check, or None where no JSON file is wanted."""
    if path is None:
        yield None
        return
    import tempfile

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n") as file:
        yield Spool(file)
