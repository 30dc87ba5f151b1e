"""Frames per second from files to ids, masks and keypoints, beside the networks that people chain today.

    python scripts/benchmarks/pipeline.py --weights DIR --source DIR/mot/PETS09-S2L1-a/img1
    python scripts/benchmarks/pipeline.py --weights DIR --source film.mp4 --memory

One network is `track` of a multitask network with `multicue`. The chain is stock `yolov8n-pose` with `track` and its
tracker, stock `yolov8n-seg`, and an OSNet on the crop of every tracked person. Both are one loop that reads a frame and
hands it on; nothing is drawn or written. The frames are cut into parts, which both run through in turn. "One network,
reading ahead" is `track` of the files themselves, where the next frame is read while the network runs.

Also: where our time goes, stage by stage, and the floor, the network without its head. `--memory` runs our way alone
over the whole source and prints the memory of the process as it goes.

`--weights` holds `yolov8n-seg.pt`, `yolov8n-pose.pt` and `osnet*.onnx`. The multitask network is made from both: it
does the work of a trained one, but its keypoints and embeddings are not meant to be right. `--model` names a trained
one.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
from timing import available_cores, load_average, machine, positive, progress, where, write_json

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp"}
STEP = 100  # frames from one print of the memory to the next


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    from ultralytics.utils import DEFAULT_CFG_DICT

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--weights", type=Path, required=True)
    add("--source", type=Path, required=True, help="folder of frames, or (with --memory) a video")
    add("--model", type=Path, help="trained multitask checkpoint (default: made from the stock ones)")
    add("--tracker", default=DEFAULT_CFG_DICT["tracker"], help="of the chain (default: the host's, %(default)s)")
    add("--imgsz", type=positive, default=640)
    add("--conf", type=float, default=0.1)
    add("--parts", type=positive, default=9, help="parts that are run in turn; the first is not timed")
    add("--frames", type=positive, default=20, help="frames of a part")
    add("--threads", type=positive, default=available_cores())
    add("--memory", action="store_true", help="print the memory over the whole source, and nothing else")
    add("--json", type=Path)
    return parser.parse_args(argv)


def multitask(args: argparse.Namespace) -> Any:
    """Return the multitask network, the given one or one made from the stock checkpoints."""
    from yolo_multitask import MultiTaskYOLO

    if args.model:
        return MultiTaskYOLO(str(args.model))
    return MultiTaskYOLO("yolov8n-multitask.yaml").load([args.weights / f"yolov8n-{t}.pt" for t in ("seg", "pose")])


def common(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of every network."""
    return {"imgsz": args.imgsz, "conf": args.conf, "classes": [0], "device": "cpu", "verbose": False}


def ours(model: Any, files: list[str], args: argparse.Namespace) -> Iterator[Any]:
    """Yield the result of each frame: boxes with ids, masks, keypoints, embeddings."""
    for file in files:
        yield model.track(cv2.imread(file), persist=True, **common(args))[0]


def reading_ahead(model: Any, files: list[str], args: argparse.Namespace) -> Iterator[Any]:
    """Yield the same from the files; a text file lists them, as the host takes a Python list for one batch."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "frames.txt"
        path.write_text("\n".join(files))
        yield from model.track(str(path), persist=True, stream=True, **common(args))


def chained(pose: Any, seg: Any, osnet: Any, files: list[str], args: argparse.Namespace) -> Iterator[Any]:
    """Yield the same of each frame from three networks and a stock tracker."""
    for file in files:
        image = cv2.imread(file)
        tracked = pose.track(image, persist=True, tracker=args.tracker, **common(args))[0]
        masks = seg.predict(image, **common(args))[0]
        yield tracked, masks, osnet(image, tracked.boxes.xyxy.numpy())


def stage_times(model: Any, files: list[str], args: argparse.Namespace) -> dict[str, list[float]]:
    """Return the milliseconds of each stage of our way, frame by frame."""
    import torch

    from yolo_multitask.engine.track import Tracking

    out: dict[str, list[float]] = {"reading and the rest": [], "preprocess": [], "inference": [], "postprocess": []}
    spent: list[float] = []
    update = Tracking.update

    def timed(*given: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        result = update(*given, **kwargs)
        spent.append((time.perf_counter() - start) * 1e3)
        return result

    torch.set_num_threads(args.threads)
    Tracking.update = timed  # type: ignore[method-assign]
    try:
        start = time.perf_counter()
        for result in ours(model, files, args):
            whole = (time.perf_counter() - start) * 1e3
            for stage, ms in result.speed.items():
                out[stage].append(ms)
            out["reading and the rest"].append(whole - sum(result.speed.values()) - spent[-1])
            start = time.perf_counter()
    finally:
        Tracking.update = update  # type: ignore[method-assign]
    return {**out, "tracker": spent}


def floor_ms(model: Any, image: Any, runs: int) -> float:
    """Return the median milliseconds of the network without its head, on an input tensor."""
    import torch

    network = model.predictor.model.model
    times = []
    with torch.inference_mode():
        for _ in range(runs + 2):
            start = time.perf_counter()
            kept: list[Any] = []
            x = image
            for layer in network.model[:-1]:
                if layer.f != -1:
                    x = kept[layer.f] if isinstance(layer.f, int) else [x if j == -1 else kept[j] for j in layer.f]
                x = layer(x)
                kept.append(x)
            times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times[2:])


def run_in_turn(
    files: list[str], ways: dict[str, Callable[[list[str]], Iterator[Any]]], args: argparse.Namespace
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Return milliseconds per frame of each part by way, and how many objects each way gives."""
    import torch

    times: dict[str, list[float]] = {name: [] for name in ways}
    found = dict.fromkeys(ways, 0)
    for part in range(args.parts):
        chosen = [files[(part * args.frames + i) % len(files)] for i in range(args.frames)]
        for name, way in ways.items():
            torch.set_num_threads(args.threads)  # the host sets its own number when it selects a device
            start = time.perf_counter()
            for result in way(chosen):
                found[name] += len(result[0] if isinstance(result, tuple) else result)
            if part:
                times[name].append((time.perf_counter() - start) * 1e3 / args.frames)
        progress(f"part {part}: " + ", ".join(f"{name} {t[-1]:.1f} ms" for name, t in times.items() if t))
    return times, found


def memory_mb() -> float:
    """Return the resident memory of this process in MB."""
    import psutil

    return float(psutil.Process().memory_info().rss / 2**20)


def follow_memory(model: Any, args: argparse.Namespace) -> list[tuple[int, float]]:
    """Return the memory after every `STEP` frames of the whole source."""
    import torch

    out = []
    for i, _ in enumerate(model.track(str(args.source), persist=True, stream=True, **common(args)), start=1):
        if i == 1:
            torch.set_num_threads(args.threads)
        if i % STEP == 0:
            out.append((i, memory_mb()))
            progress(f"frame {i}: {out[-1][1]:.0f} MB")
    return out


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    args = parse(argv)
    os.environ.setdefault("YOLO_OFFLINE", "true")
    import torch
    from trackbench.osnet import OSNet
    from ultralytics import YOLO
    from ultralytics.utils import LOGGER

    LOGGER.setLevel(logging.WARNING)
    place = {**machine(), "load_before": load_average()}
    model = multitask(args)
    if args.memory:
        points = follow_memory(model, args)
        print("| frame | " + " | ".join(str(i) for i, _ in points) + " |\n|---|" + "--:|" * len(points))
        print("| MB | " + " | ".join(f"{mb:.0f}" for _, mb in points) + " |")
        return 0
    files = sorted(str(f) for f in args.source.iterdir() if f.suffix.lower() in SUFFIXES)
    pose, seg = (YOLO(args.weights / f"yolov8n-{task}.pt") for task in ("pose", "seg"))
    osnet = OSNet(next(args.weights.glob("osnet*.onnx")), args.threads)
    ahead = multitask(args)  # with a tracker of its own
    ways: dict[str, Callable[[list[str]], Iterator[Any]]] = {
        "one network": lambda part: ours(model, part, args),
        "chain": lambda part: chained(pose, seg, osnet, part, args),
        "one network, reading ahead": lambda part: reading_ahead(ahead, part, args),
    }
    times, found = run_in_turn(files, ways, args)
    stages = stage_times(model, files[: 3 * args.frames], args)
    medians = {name: statistics.median(t) for name, t in times.items()}
    frames = args.parts * args.frames
    print("| way | ms a frame | frames a second | objects a frame |\n|---|--:|--:|--:|")
    for name, ms in medians.items():
        print(f"| {name} | {ms:.1f} | {1000 / ms:.1f} | {found[name] / frames:.1f} |")
    ratios = sorted(b / a for a, b in zip(times["one network"], times["chain"], strict=True))
    print(f"\n**{medians['chain'] / medians['one network']:.2f}** times as fast ({ratios[0]:.2f} to {ratios[-1]:.2f})")

    x = torch.rand(1, 3, *model.predictor.preprocess([cv2.imread(files[0])]).shape[2:])
    print("\n| stage | ms |\n|---|--:|")
    for name, ms in stages.items():
        print(f"| {name} | {statistics.median(ms):.1f} |")
    print(f"| floor: the network without its head | {floor_ms(model, x, args.frames):.1f} |")
    place["load_after"] = load_average()
    print(f"\n{where(place, args.threads)}")
    if args.json:
        write_json(args.json, {"machine": place, "ms": times, "stages": stages, "objects": found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
