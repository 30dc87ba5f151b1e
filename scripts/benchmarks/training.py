"""What a training step costs: one multitask network, and the networks for pose and segmentation that it replaces.

    python scripts/benchmarks/training.py

The same rendered pictures are written for all three. Each network is trained for a few steps in a process of its own,
in turn, `--rounds` times. Printed: median time of a step, with the loading of its batch, and the peak memory of the
process above what it held before the training.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from timing import available_cores, load_average, machine, positive, progress, where, write_json

KINDS = ("multitask", "multitask, track", "seg", "pose")
FAMILY = "yolov8n"


class EnoughError(Exception):
    """Ends a training before its validation."""


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--rounds", type=positive, default=2)
    add("--steps", type=positive, default=8, help="steps of a training; the first two are not timed")
    add("--batch", type=positive, default=4)
    add("--imgsz", type=positive, default=640)
    add("--threads", type=positive, default=available_cores())
    add("--json", type=Path)
    add("--one", nargs=2, metavar=("KIND", "DATA"), help=argparse.SUPPRESS)  # what a process of its own is called with
    return parser.parse_args(argv)


def write_data(folder: Path, args: argparse.Namespace) -> dict[str, Path]:
    """Write the pictures with multitask labels and with those of each stock task; return the data YAMLs by kind."""
    from yolo_multitask.data.convert.to_yolo import to_yolo
    from yolo_multitask.data.synthetic import WorldConfig, write_dataset

    world = WorldConfig(width=args.imgsz, height=args.imgsz)
    frames = args.steps * args.batch
    data = write_dataset(
        folder / "all", train_sequences=2, val_sequences=1, frames_per_sequence=-(-frames // 2), config=world
    )
    out = {"multitask": Path(data), "multitask, track": Path(data)}
    for kind, task in (("seg", "segment"), ("pose", "pose")):
        to_yolo(data=str(data), task=task, out=str(folder / kind))
        out[kind] = folder / kind / "data.yaml"
    return out


def train_one(kind: str, data: str, args: argparse.Namespace) -> dict[str, Any]:
    """Train one network in this process; return milliseconds of each step and MB at the peak and before."""
    import resource

    import psutil
    import torch

    from yolo_multitask import MultiTaskYOLO

    ends: list[float] = []

    def begin(_: Any) -> None:
        torch.set_num_threads(args.threads)

    def end(_: Any) -> None:
        ends.append(time.perf_counter())

    def stop(_: Any) -> None:
        raise EnoughError

    model = MultiTaskYOLO(f"{FAMILY}-{kind.split(',')[0]}.yaml")
    model.add_callback("on_train_batch_start", begin)
    model.add_callback("on_train_batch_end", end)
    before = psutil.Process().memory_info().rss / 2**20
    switch = {"track": "track" in kind} if kind.startswith("multitask") else {}
    model.add_callback("on_train_epoch_end", stop)
    settings = {"epochs": 1, "batch": args.batch, "nbs": args.batch, "imgsz": args.imgsz, "device": "cpu", "workers": 0}
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(EnoughError):
        model.train(data=data, project=folder, plots=False, **settings, **switch)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return {"ms": [(b - a) * 1e3 for a, b in pairwise(ends)][1:], "before": before, "peak": peak}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print the table; return the exit code."""
    args = parse(argv)
    os.environ.setdefault("YOLO_OFFLINE", "true")
    if args.one:
        print(json.dumps(train_one(*args.one, args)))
        return 0
    place = {**machine(), "load_before": load_average()}
    runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as folder:
        data = write_data(Path(folder), args)
        same = [f"--{k}={getattr(args, k)}" for k in ("steps", "batch", "imgsz", "threads")]
        for _ in range(args.rounds):
            for kind in KINDS:
                command = [sys.executable, __file__, *same, "--one", kind, str(data[kind])]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    sys.exit(f"{kind}: {done.stderr}")
                runs[kind].append(json.loads(done.stdout.splitlines()[-1]))
                progress(f"{kind}: {statistics.median(runs[kind][-1]['ms']):.0f} ms a step")
    ms = {kind: statistics.median(t for run in r for t in run["ms"]) for kind, r in runs.items()}
    mb = {kind: statistics.median(run["peak"] - run["before"] for run in r) for kind, r in runs.items()}
    both, larger = ms["seg"] + ms["pose"], max(mb["seg"], mb["pose"])
    print("| network | ms a step | / (seg + pose) | MB at the peak | / the larger of both |\n|---|--:|--:|--:|--:|")
    for kind in KINDS:
        print(f"| {kind} | {ms[kind]:.0f} | {ms[kind] / both:.2f} | {mb[kind]:.0f} | {mb[kind] / larger:.2f} |")
    place["load_after"] = load_average()
    print(f"\n{FAMILY}, batch {args.batch}, {args.imgsz} px. {where(place, args.threads)}")
    if args.json:
        write_json(args.json, {"machine": place, "runs": runs})
    return 0


if __name__ == "__main__":
    sys.exit(main())
