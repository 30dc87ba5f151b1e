"""What all outputs cost beside single-task networks, by the number of detections.

    python scripts/benchmarks/detections.py --models yolov8n yolov8s yolov8m yolo11n --osnet osnet.onnx
    python scripts/benchmarks/detections.py --plot stages.png

For each model, `MODEL-multitask` with every branch (boxes, masks, keypoints, embeddings) is compared to itself with
`lazy=False`, to stock `MODEL-seg` alone, to `MODEL-pose` and `MODEL-seg` one after the other, and to both with an OSNet
on the crop of every detection: the forward pass and all behind it up to the `Results` (NMS, masks at the resolution of
the input). One class, batch 1, torch eager, fused. All ways are timed in turn in one process.

Weights are random, so that every network finds as many objects as it is asked for (`--counts`); ten times as many
anchors enter the NMS. A box is `--reach` cells of its level to each side: with 2.5 it is 40, 80 or 160 pixels wide. The
larger boxes are, the more of the prototypes and masks has to be computed.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from one_net_or_two import settle
from timing import available_cores, load_average, machine, positive, progress, where, write_json

COUNTS = (0, 5, 20, 50, 100, 300)
CANDIDATES = 10  # anchors that enter the NMS for each detection
WAYS = ("multitask", "dense", "seg", "pose + seg", "pose + seg + OSNet")
STAGES = ("boxes_at", "non_max_suppression", "rows_at", "prototypes", "assemble")


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--models", nargs="+", default=["yolov8n"])
    add("--counts", nargs="+", type=int, default=list(COUNTS), help="detections (default: %(default)s)")
    add("--imgsz", type=positive, default=640)
    add("--reach", type=float, default=2.5, help="cells from an anchor to each side of its box, below 14")
    add("--runs", type=positive, default=15, help="timed runs of each way (default: %(default)s)")
    add("--warmup", type=positive, default=2)
    add("--threads", type=positive, default=available_cores())
    add("--osnet", type=Path, help="OSNet as ONNX for crops of 128 x 256; without it that way is left out")
    add("--plot", type=Path, help="PNG to plot the time of each stage over the detections of the first model to")
    add("--json", type=Path, help="file to write all figures to")
    return parser.parse_args(argv)


def network(name: str, reach: float) -> Any:
    """Return a random network of one class as a `MultiTaskYOLO`, fused, with boxes of `reach` cells to each side."""
    import cv2
    import torch
    from ultralytics.utils import ASSETS

    from yolo_multitask import MultiTaskYOLO

    model = MultiTaskYOLO(name)
    built = type(model.model)(name, nc=1, verbose=False)
    built.args, built.task = model.model.args, model.task
    model.model = built
    settle(built, cv2.imread(str(ASSETS / "bus.jpg")), 640)
    low, share = int(reach), reach % 1
    for stack in built.model[-1].cv2:
        with torch.no_grad():
            stack[-1].weight.zero_()
            bias = stack[-1].bias.view(4, -1)
            bias.fill_(-20.0)  # two neighbouring bins share what is left
            bias[:, low], bias[:, low + 1] = math.log(1 - share), math.log(max(share, 1e-9))
    built.fuse(verbose=False)
    return model


def thresholds(model: Any, image: Any, imgsz: int, counts: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Return the arguments of `predict` that make a network find each of `counts` objects."""
    common = {"imgsz": imgsz, "device": "cpu", "verbose": False, "iou": 0.9}
    most = CANDIDATES * max(counts) + 1
    scores = model.predict(image, conf=1e-9, **{**common, "iou": 1.0}, max_det=most)[0].boxes.conf.sort(descending=True)
    found = scores.values.tolist()
    out = {}
    for n in counts:
        last = min(CANDIDATES * n, len(found) - 1)  # the threshold lies between two scores
        conf = (found[last - 1] + found[last]) / 2 if n else 1.0
        out[n] = {**common, "conf": conf, "max_det": max(n, 1)}
    return out


def work(model: Any, image: Any, given: dict[str, Any]) -> Callable[[], tuple[float, Any]]:
    """Return what runs a network once: milliseconds from the network's input to the `Results`, and these."""

    def run() -> tuple[float, Any]:
        result = model.predict(image, **given)[0]
        return result.speed["inference"] + result.speed["postprocess"], result

    return run


def measure(name: str, args: argparse.Namespace, osnet: Any) -> list[dict[str, Any]]:
    """Return a row for each number of detections: milliseconds of each run of each way, and objects found."""
    import cv2
    import torch
    from ultralytics.utils import ASSETS

    image = cv2.resize(cv2.imread(str(ASSETS / "bus.jpg")), (args.imgsz, args.imgsz))
    nets = {kind: network(f"{name}-{kind}.yaml", args.reach) for kind in ("multitask", "seg", "pose")}
    given = {kind: thresholds(model, image, args.imgsz, args.counts) for kind, model in nets.items()}
    torch.set_num_threads(args.threads)  # the host sets its own number when it selects a device
    rows = []
    for count in args.counts:
        runs = {kind: work(model, image, given[kind][count]) for kind, model in nets.items()}
        runs["dense"] = work(nets["multitask"], image, {**given["multitask"][count], "lazy": False})
        times: dict[str, list[float]] = {way: [] for way in (*runs, *(["OSNet"] if osnet else []))}
        found: dict[str, int] = {}
        for i in range(args.warmup + args.runs):
            for kind, run in runs.items():
                ms, result = run()
                found[kind] = len(result)
                if i >= args.warmup:
                    times[kind].append(ms)
                if kind == "seg" and osnet:
                    start = time.perf_counter()
                    osnet(image, result.boxes.xyxy.numpy())
                    if i >= args.warmup:
                        times["OSNet"].append((time.perf_counter() - start) * 1e3)
        times["pose + seg"] = [a + b for a, b in zip(times["pose"], times["seg"], strict=True)]
        if osnet:
            times["pose + seg + OSNet"] = [a + b for a, b in zip(times["pose + seg"], times["OSNet"], strict=True)]
        if set(found.values()) != {count}:
            raise RuntimeError(f"{name}: every network is to find {count} objects, found {found}; lower --counts.")
        rows.append({"model": name, "detections": count, "found": found, "ms": times})
        progress(
            f"{name}, {count} detections: " + ", ".join(f"{w} {statistics.median(t):.1f}" for w, t in times.items())
        )
    return rows


@contextmanager
def stage_times() -> Iterator[dict[str, float]]:
    """Collect the milliseconds that each of `STAGES` takes while the `with` runs."""
    from yolo_multitask.engine import lazy, predictor
    from yolo_multitask.nn.heads import MultiTask

    spent = dict.fromkeys(STAGES, 0.0)
    places = {"non_max_suppression": lazy.nms, "assemble": predictor}
    kept = []
    for stage in STAGES:
        place = places.get(stage, MultiTask)
        function = getattr(place, stage)

        def timed(*args: Any, _run: Any = function, _stage: str = stage, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return _run(*args, **kwargs)
            finally:
                spent[_stage] += (time.perf_counter() - start) * 1e3

        kept.append((place, stage, function))
        setattr(place, stage, timed)
    try:
        yield spent
    finally:
        for place, stage, function in kept:
            setattr(place, stage, function)


def measure_stages(name: str, args: argparse.Namespace) -> dict[str, list[float]]:
    """Return the median milliseconds of each stage behind the class scores, by the number of detections."""
    import cv2
    import torch
    from ultralytics.utils import ASSETS

    image = cv2.resize(cv2.imread(str(ASSETS / "bus.jpg")), (args.imgsz, args.imgsz))
    model = network(f"{name}-multitask.yaml", args.reach)
    given = thresholds(model, image, args.imgsz, args.counts)
    torch.set_num_threads(args.threads)
    out: dict[str, list[float]] = {stage: [] for stage in STAGES}
    for count in args.counts:
        runs: list[dict[str, float]] = []
        for _ in range(args.warmup + args.runs):
            with stage_times() as spent:
                model.predict(image, **given[count])
            runs.append(dict(spent))
        for stage in STAGES:
            out[stage].append(statistics.median(run[stage] for run in runs[args.warmup :]))
    return out


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return a markdown table: median milliseconds, and the ratio of every other way to ours."""
    ways = [way for way in WAYS if way in rows[0]["ms"]]
    lines = [
        "| model | detections | "
        + " | ".join(f"{way}, ms" for way in ways)
        + " | "
        + " | ".join(f"ours / {way}" for way in ways[1:])
        + " |",
        "|---|--:|" + "--:|" * (2 * len(ways) - 1),
    ]
    for row in rows:
        medians = {way: statistics.median(row["ms"][way]) for way in ways}
        cells = [f"{medians[way]:.1f}" for way in ways] + [
            f"{medians['multitask'] / medians[way]:.2f}" for way in ways[1:]
        ]
        lines.append(f"| {row['model']} | {row['detections']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(path: Path, counts: Sequence[int], stages: dict[str, list[float]], title: str) -> None:
    """Plot the time of each stage over the number of detections."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    for stage, times in stages.items():
        axis.plot(counts, times, marker="o", label=stage)
    axis.set(xlabel="detections", ylabel="ms", title=title, xlim=(0, None), ylim=(0, None))
    axis.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print the table; return the exit code."""
    args = parse(argv)
    os.environ.setdefault("YOLO_OFFLINE", "true")
    import torch
    from trackbench.osnet import OSNet
    from ultralytics.utils import LOGGER

    LOGGER.setLevel(logging.WARNING)
    torch.manual_seed(0)
    place = {**machine(), "load_before": load_average()}
    osnet = OSNet(args.osnet, args.threads) if args.osnet else None
    rows = [row for name in args.models for row in measure(name, args, osnet)]
    print(table(rows))
    stages = measure_stages(args.models[0], args) if args.plot else {}
    if args.plot:
        print("\n| stage, ms | " + " | ".join(map(str, args.counts)) + " |\n|---|" + "--:|" * len(args.counts))
        for stage, times in stages.items():
            print(f"| {stage} | " + " | ".join(f"{t:.1f}" for t in times) + " |")
        draw(args.plot, args.counts, stages, f"{args.models[0]}-multitask, {args.imgsz} px")
    place["load_after"] = load_average()
    print(
        f"\nMedians of {args.runs} runs of each way in turn. Input {args.imgsz}, batch 1. {where(place, args.threads)}"
    )
    if args.json:
        settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()}
        write_json(args.json, {"machine": place, "settings": settings, "rows": rows, "stages": stages})
    return 0


if __name__ == "__main__":
    sys.exit(main())
