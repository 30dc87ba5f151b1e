"""What tracking costs: milliseconds of one `update()` of the multicue tracker, by number of people and by cues.

People walk in a field that grows with their number, so that each meets about as many others. One in twenty is missed in
a frame; boxes jitter. Without `--cues` three sets are timed: boxes alone, boxes with embeddings, and everything that a
multitask network gives (embeddings, keypoints, masks, next boxes). There are no pictures, so camera motion and colours
are not in it. The minimum is what the work costs, the median what it costs next to everything else on the machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read once, when numpy is imported: one core

import numpy as np
from timing import load_average, positive, progress, write_json

from yolo_multitask.tracking import MultiCueTracker

CUES = ("feats", "keypoints", "masks", "next_boxes")
SETS: tuple[tuple[str, ...], ...] = ((), ("feats",), CUES)
EMBED, KEYPOINTS, MASK_SIDE, MISSED, WARMUP = 128, 17, 160, 0.05, 5


class Det(NamedTuple):
    """N detections, as `ultralytics.engine.results.Boxes` in numpy."""

    xyxy: Any
    conf: Any
    cls: Any


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; a wrong argument ends the process with exit code 2."""
    parser = argparse.ArgumentParser(description=" ".join((__doc__ or "").split("\n\n")[0].split()))
    add = parser.add_argument
    add("--people", nargs="+", type=positive, default=[20, 100, 500], help="numbers of people (default: 20 100 500)")
    add("--frames", type=positive, default=100, help="timed frames of each (default: %(default)s)")
    add("--cues", nargs="*", choices=CUES, help="one set of cues next to the boxes (default: three sets)")
    add("--json", type=Path, help="file to write all figures to (default: none)")
    return parser.parse_args(argv)


def scene(people: int, frames: int) -> Iterator[tuple[Det, dict[str, Any]]]:
    """Yield the detections of each frame and what a multitask network says on them, the same in every run."""
    rng = np.random.default_rng(0)
    side = 60 * people**0.5 + 80
    place, speed = rng.uniform(40, side - 40, (people, 2)), rng.normal(0, 1.5, (people, 2))
    half = rng.uniform([8, 20], [15, 40], (people, 2))
    embeddings, joints = rng.normal(size=(people, EMBED)), rng.uniform(0.1, 0.9, (people, KEYPOINTS, 2))
    for _ in range(frames):
        place = place + speed
        speed = np.where((place < 40) | (place > side - 40), -speed, speed)
        seen = np.flatnonzero(rng.uniform(size=people) > MISSED)
        low, size = (place - half)[seen], 2 * half[seen]
        boxes = np.concatenate([low, low + size], axis=1) + rng.normal(size=(len(seen), 4))
        points = low[:, None] + joints[seen] * size[:, None]
        corners = (boxes * (MASK_SIDE / side)).astype(int)
        masks = np.zeros((len(seen), MASK_SIDE, MASK_SIDE), bool)
        for mask, (x1, y1, x2, y2) in zip(masks, corners, strict=True):
            mask[y1:y2, x1:x2] = True
        yield (
            Det(boxes.astype(np.float32), rng.uniform(0.3, 0.95, len(seen)), np.zeros(len(seen))),
            {
                "feats": embeddings[seen] + 0.5 * rng.normal(size=(len(seen), EMBED)),
                "keypoints": np.concatenate([points, np.full((*points.shape[:2], 1), 0.8)], axis=2),
                "masks": masks,
                "next_boxes": boxes + np.tile(speed[seen], 2),
            },
        )


def measure(people: int, cues: Sequence[str], frames: int) -> dict[str, Any]:
    """Time `update()` frame by frame; return all figures by name."""
    tracker, times, rows = MultiCueTracker(), [], 0
    for det, said in scene(people, WARMUP + frames):
        given = {cue: said[cue] for cue in cues}
        start = time.perf_counter()
        tracked = tracker.update(det, **given)
        times.append((time.perf_counter() - start) * 1e3)
        rows += len(tracked)
    kept = times[WARMUP:]
    return {
        "people": people,
        "cues": list(cues),
        "median_ms": statistics.median(kept),
        "min_ms": min(kept),
        "max_ms": max(kept),
        "rows": rows / len(times),
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the figures as a markdown table."""
    lines = ["| people | cues next to boxes | median, ms | min, ms | max, ms | tracked |", "|--:|---|--:|--:|--:|--:|"]
    for row in rows:
        times = " | ".join(f"{row[key]:.2f}" for key in ("median_ms", "min_ms", "max_ms"))
        lines.append(f"| {row['people']} | {', '.join(row['cues']) or 'none'} | {times} | {row['rows']:.1f} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table and write the JSON file; return the exit code."""
    args = parse(argv)
    before = load_average()
    rows = []
    for people in args.people:
        for cues in SETS if args.cues is None else (args.cues,):
            progress(f"{people} people, {', '.join(cues) or 'boxes alone'}")
            rows.append(measure(people, cues, args.frames))
    print(f"{table(rows)}\n\n{args.frames} frames of each. Load average {before} before, {load_average()} after.")
    if args.json:
        write_json(args.json, {"frames": args.frames, "load_before": before, "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
