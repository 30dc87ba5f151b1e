"""What checking a data set costs: seconds, and memory at two numbers of label files, without opening images.

Label files are made up for it: as many objects, persons with keypoints and polygon points as COCO has on average. Each
number of files is checked in a process of its own, so that its peak memory is its own. Processor time is that of all
processes together, and says what the work costs next to everything else on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read once, when numpy is imported: one core for each process

import numpy as np
from timing import load_average, positive, progress, write_json

OBJECTS, PERSONS, POINTS, CLASSES = 7.3, 0.3, 24, 80  # a picture, of them, a polygon, in all
VARIANTS = 500  # different label files; each is written many times
YAML = f"""train: images/train
val: images/val
names: {{{", ".join(f"{i}: class {i}" for i in range(CLASSES))}}}
labels: {{keypoints: true, polygons: true}}
kpt_shape: [17, 3]
flip_idx: [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
kpt_classes: [0]
"""


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; a wrong argument ends the process with exit code 2."""
    parser = argparse.ArgumentParser(description=" ".join((__doc__ or "").split("\n\n")[0].split()))
    add = parser.add_argument
    add("--files", nargs="+", type=positive, default=[10_000, 50_000], help="label files (default: 10000 50000)")
    add("--workers", type=positive, default=2, help="processes (default: %(default)s)")
    add("--json", type=Path, help="file to write all figures to (default: none)")
    add("--measure", type=Path, help=argparse.SUPPRESS)  # one data set, in this process
    return parser.parse_args(argv)


def label_text(rng: np.random.Generator) -> str:
    """Return the lines of one image: boxes with a polygon around their centre, some with keypoints in them."""
    lines = []
    for _ in range(rng.poisson(OBJECTS)):
        person = rng.uniform() < PERSONS
        w, h = rng.uniform(0.05, 0.4, 2)
        x, y = rng.uniform(w / 2, 1 - w / 2), rng.uniform(h / 2, 1 - h / 2)
        angle = np.linspace(0, 2 * np.pi, POINTS, endpoint=False)
        polygon = np.stack([x + w / 2 * np.cos(angle), y + h / 2 * np.sin(angle)], 1)
        points = np.concatenate(
            [rng.uniform([x - w / 2, y - h / 2], [x + w / 2, y + h / 2], (17, 2)), np.full((17, 1), 2)], 1
        )
        keypoints = numbers(points) if person else "-"
        lines.append(
            f"{0 if person else rng.integers(1, CLASSES)} {numbers([x, y, w, h])} {keypoints} {numbers(polygon)}"
        )
    return "".join(f"{line}\n" for line in lines)


def numbers(values: Any) -> str:
    """Return numbers as a label line has them."""
    return " ".join(f"{v:.6g}" for v in np.asarray(values).ravel())


def write_set(root: Path, files: int) -> None:
    """Write a data set of label files beside empty images, a tenth of them to validate with."""
    rng = np.random.default_rng(0)
    texts = [label_text(rng) for _ in range(VARIANTS)]
    (root / "data.yaml").write_text(YAML)
    for i in range(files):
        split = "val" if i % 10 == 0 else "train"
        for kind, suffix, text in (("images", "jpg", ""), ("labels", "txt", texts[i % VARIANTS])):
            folder = root / kind / split
            if i < 2:
                folder.mkdir(parents=True)
            (folder / f"{i:012d}.{suffix}").write_text(text)


def measure(root: Path, workers: int) -> dict[str, Any]:
    """Check a data set in this process; return all figures by name, memory in MB."""
    from yolo_multitask.data.check import check
    from yolo_multitask.data.config import load_data

    load_data(root / "data.yaml")  # imports the host, which is most of the memory
    before, cpu = peak(resource.RUSAGE_SELF), cpu_seconds()
    start = time.perf_counter()
    report = check(root / "data.yaml", images=False, workers=workers)
    return {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": cpu_seconds() - cpu,
        "before_mb": before,
        "peak_mb": peak(resource.RUSAGE_SELF),
        "worker_peak_mb": peak(resource.RUSAGE_CHILDREN),
        "images": sum(counts["images"] for counts in report.splits.values()),
        "objects": sum(counts["objects"] for counts in report.splits.values()),
        "findings": dict(report.counts),
    }


def peak(who: int) -> float:
    """Return the largest resident set in MB, of this process or of the largest of its children."""
    return resource.getrusage(who).ru_maxrss / (1e3 if sys.platform != "darwin" else 1e6)


def cpu_seconds() -> float:
    """Return the processor time of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the figures as a markdown table."""
    head = ["label files", "objects", "seconds", "processor seconds", "before, MB", "peak, MB", "peak of a worker, MB"]
    lines = [f"| {' | '.join(head)} |", "|" + "--:|" * len(head)]
    for row in rows:
        memory = " | ".join(f"{row[key]:.0f}" for key in ("before_mb", "peak_mb", "worker_peak_mb"))
        cells = f"{row['images']} | {row['objects']} | {row['seconds']:.1f} | {row['cpu_seconds']:.1f}"
        lines.append(f"| {cells} | {memory} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table and write the JSON file; return the exit code."""
    args = parse(argv)
    if args.measure:
        print(json.dumps(measure(args.measure, args.workers)))
        return 0
    before, rows = load_average(), []
    for files in args.files:
        with tempfile.TemporaryDirectory() as folder:
            progress(f"{files} files")
            write_set(Path(folder), files)
            command = [sys.executable, __file__, "--measure", folder, "--workers", str(args.workers)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
    print(f"{table(rows)}\n\n{args.workers} processes. Load average {before} before, {load_average()} after.")
    if args.json:
        write_json(args.json, {"workers": args.workers, "load_before": before, "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
