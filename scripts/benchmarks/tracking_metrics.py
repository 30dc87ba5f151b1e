"""Tracking measures: HOTA, CLEAR and identity measures of a sequence by this package and by TrackEval.

Both get the same identities and similarities of a made-up sequence: boxes that move about and hide each other, and a
tracker that misses, invents and confuses some. Both are timed in turn (A B A B ...) in one process; a ratio below 1
means that this package is faster. Nothing is timed unless both give the same figures.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from timing import alternate, load_average, machine, positive, progress, write_json

from yolo_multitask.metrics.tracking import SequenceAccumulator, TrackingResult, box_similarity

Frame = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]  # ids (G,), ids (T,), similarity (G, T)

SCREEN = np.array([1920.0, 1080.0])
SAME = {"hota": "HOTA", "deta": "DetA", "assa": "AssA", "loca": "LocA", "mota": "MOTA", "motp": "MOTP", "idf1": "IDF1"}
SAME |= {"tp": "CLR_TP", "fp": "CLR_FP", "fn": "CLR_FN", "idsw": "IDSW", "frag": "Frag", "idtp": "IDTP", "mt": "MT"}


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; a wrong argument ends the process with exit code 2."""
    parser = argparse.ArgumentParser(description=" ".join((__doc__ or "").split("\n\n")[0].split()))
    add = parser.add_argument
    add("--frames", type=positive, default=600, help="frames of the sequence (default: %(default)s)")
    add("--objects", type=positive, default=25, help="labelled objects in every frame (default: %(default)s)")
    add("--runs", type=positive, default=20, help="timed runs of each way (default: %(default)s)")
    add("--warmup", type=positive, default=2, help="runs of each way that are not timed (default: %(default)s)")
    add("--seed", type=positive, default=1, help="of the random numbers (default: %(default)s)")
    add("--json", type=Path, help="file to write all figures to (default: none)")
    return parser.parse_args(argv)


def sequence(frames: int, objects: int, seed: int) -> list[Frame]:
    """Return a made-up sequence of people-sized boxes in `SCREEN` pixels.

    The tracker also follows things that are not labelled, one to ten objects. It misses one box in seven, is off by a
    few pixels, and gives a track a new identity every 300 frames, every 30 where nothing is labelled.
    """
    rng = np.random.default_rng(seed)
    total = objects + -(-objects // 10)
    centre, speed = rng.uniform(0, SCREEN, (total, 2)), rng.normal(0, 3, (total, 2))
    half = rng.uniform((20, 50), (45, 125), (total, 2))
    names = np.arange(total)
    renamed = np.where(names < objects, 1 / 300, 1 / 30)
    made = []
    for _ in range(frames):
        speed = np.where((centre < 0) | (centre > SCREEN), -speed, speed)
        centre = centre + speed
        boxes = np.hstack([centre - half, centre + half])
        names = np.where(rng.random(total) < renamed, rng.integers(total, 2**60, total), names)
        kept = rng.random(total) < 6 / 7
        pred = boxes[kept] + rng.normal(0, 6, (kept.sum(), 4))
        made.append((np.arange(objects), names[kept], box_similarity(boxes[:objects], pred)))
    return made


def ours(frames: Sequence[Frame]) -> TrackingResult:
    """Return this package's figures."""
    accumulator = SequenceAccumulator()
    for frame in frames:
        accumulator.update(*frame)
    return accumulator.compute()


def prepared(frames: Sequence[Frame]) -> dict[str, Any]:
    """Return a sequence as TrackEval takes it, with identities numbered from 0 without gaps."""
    data: dict[str, Any] = {"similarity_scores": [f[2] for f in frames], "num_timesteps": len(frames)}
    for side, name in ((0, "gt"), (1, "tracker")):
        known = np.unique(np.concatenate([f[side] for f in frames]))
        data[f"{name}_ids"] = [np.searchsorted(known, f[side]) for f in frames]
        data[f"num_{name}_ids"], data[f"num_{name}_dets"] = len(known), sum(len(f[side]) for f in frames)
    return data


def trackeval(frames: Sequence[Frame]) -> Callable[[], dict[str, Any]]:
    """Return a function that computes TrackEval's figures."""
    from trackeval.metrics import CLEAR, HOTA, Identity

    metrics = HOTA(), CLEAR({"PRINT_CONFIG": False}), Identity({"PRINT_CONFIG": False})
    data = prepared(frames)
    return lambda: {key: value for metric in metrics for key, value in metric.eval_sequence(data).items()}


def differences(found: TrackingResult, expected: dict[str, Any]) -> list[str]:
    """Return the names of the figures that are not the same."""
    return [a for a, b in SAME.items() if not np.allclose(getattr(found, a), expected[b], rtol=0, atol=1e-9)]


def table(row: dict[str, Any]) -> str:
    """Return the figures as a markdown table."""
    (low, high), (least, most) = row["ratio_quartiles"], row["ratio_range"]
    return (
        "| frames | objects | identities, labelled / predicted | this package, ms | TrackEval, ms | ratio |\n"
        "|--:|--:|--:|--:|--:|---|\n"
        f"| {row['frames']} | {row['gt_dets']} | {row['gt_ids']} / {row['pred_ids']} | {row['one_ms']:.1f} "
        f"| {row['two_ms']:.1f} | **{row['ratio']:.2f}** [{low:.2f}–{high:.2f}] ({least:.2f}–{most:.2f}) |"
    )


def notes(settings: dict[str, Any], place: dict[str, Any]) -> str:
    """Return what the table's cells mean and where they were measured."""
    return (
        f"Medians of {settings['runs']} runs of each in turn after {settings['warmup']} to warm up; the ratio of the "
        "medians, then quartiles [ ] and range ( ) of the ratio over neighbouring runs.\n"
        f"{place['cpu']}, {place['cores']} cores; numpy {place['numpy']}, lap {place['lap']}, TrackEval "
        f"{place['trackeval']}, Python {place['python']}, yolo-multitask {place['yolo_multitask']}. "
        f"Load average {place['load_before']} before, {place['load_after']} after. Seed {settings['seed']}."
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Compare, time, print the table and write the JSON file; return the exit code."""
    args = parse(argv)
    frames = sequence(args.frames, args.objects, args.seed)
    try:
        theirs = trackeval(frames)
    except ImportError as error:
        print(f"TrackEval cannot be imported: {error}. Install it with 'pip install trackeval'.", file=sys.stderr)
        return 1
    result = ours(frames)
    if wrong := differences(result, theirs()):
        print(f"This package and TrackEval differ in {', '.join(wrong)}.", file=sys.stderr)
        return 1
    progress("the figures agree: " + ", ".join(f"{k} {v:.4g}" for k, v in result.summary().items()))
    place = {**machine(), **{name: version(name) for name in ("numpy", "lap", "trackeval")}}
    place["load_before"] = load_average()
    times = alternate(lambda: ours(frames), theirs, args.runs, args.warmup).summary()
    place["load_after"] = load_average()
    counts = {"gt_dets": result.gt_dets, "gt_ids": result.gt_ids, "pred_ids": result.pred_ids}
    row = {"frames": args.frames, **counts, **times}
    settings = {"runs": args.runs, "warmup": args.warmup, "seed": args.seed, "objects": args.objects}
    print(f"{table(row)}\n\n{notes(settings, place)}")
    if args.json:
        write_json(args.json, {"machine": place, "settings": settings, "rows": [row]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
