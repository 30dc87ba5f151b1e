"""From how many detections the whole map is cheaper: what `DENSE_SHARE` and `DENSE_TILES` are chosen by.

    python scripts/benchmarks/crossover.py

Runs the layers of random networks as `predict` does on a CPU (fused, channels last): a keypoint branch at a share of
the anchors of each level, and prototypes in a share of the tiles. Printed: time over that of the whole map; and the
whole map of prototypes over the host's own layer.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from timing import available_cores, positive

SHARES = (0.02, 0.04, 0.06, 0.08, 0.1)
TILES = (0.2, 0.4, 0.5, 0.6, 0.7, 0.8)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--models", nargs="+", default=["yolov8n", "yolov8s", "yolov8m"])
    add("--imgsz", type=positive, default=640)
    add("--runs", type=positive, default=15)
    add("--threads", type=positive, default=available_cores())
    return parser.parse_args(argv)


def ratio(one: Callable[[], Any], two: Callable[[], Any], runs: int) -> float:
    """Return the median time of `one` over that of `two`, run in turn."""
    times: tuple[list[float], list[float]] = ([], [])
    for i in range(runs + 2):
        for work, kept in zip((one, two), times, strict=True):
            start = time.perf_counter()
            work()
            if i > 1:
                kept.append(time.perf_counter() - start)
    return statistics.median(times[0]) / statistics.median(times[1])


def measure(name: str, args: argparse.Namespace) -> None:
    """Print the ratios of one model."""
    import torch
    from ultralytics.nn.tasks import DetectionModel

    from yolo_multitask.nn import proto, sites
    from yolo_multitask.nn.network import MultiTaskModel

    host, ours = (MultiTaskModel(f"{name}-multitask.yaml", nc=1, verbose=False).eval() for _ in range(2))
    DetectionModel.fuse(host, verbose=False)
    ours.fuse(verbose=False)
    for network in (host, ours):
        network.to(memory_format=torch.channels_last)
    sides = [args.imgsz // int(s) for s in ours.stride]
    feats = [
        torch.randn(1, branch[0].conv.in_channels, side, side).to(memory_format=torch.channels_last)
        for branch, side in zip(ours.head.cv2, sides, strict=True)
    ]
    stacks = ours.head.branches["pose"].convs
    start = 0
    for level, (x, side) in enumerate(zip(feats, sides, strict=True)):
        found = []
        for share in SHARES:
            anchors = start + torch.randperm(side * side)[: max(round(share * side * side), 1)]
            image = torch.zeros_like(anchors)

            def few(image: Any = image, anchors: Any = anchors) -> Any:
                return sites.Sites(feats, ours.stride, image, anchors).run(stacks)

            found.append(f"{ratio(few, lambda x=x, i=level: stacks[i](x), args.runs):.2f}")
        start += side * side
        print(f"| {name}, level {level}, {x.shape[1]} channels | " + " | ".join(found) + " |", flush=True)
    layer, stock, x = ours.head.branches["segment"].proto, host.head.branches["segment"].proto, feats[0]
    whole = ratio(lambda: layer(x), lambda: stock(x), args.runs)
    count, found = -(-sides[0] // proto.TILE), []
    for share in TILES:
        places = torch.randperm(count * count)[: round(share * count * count)]
        corner = torch.stack((places % count, places // count), 1) * proto.TILE + proto.TILE / 2
        boxes, image = torch.cat((corner, corner + 1), 1).float(), torch.zeros_like(places)
        found.append(f"{ratio(lambda b=boxes, i=image: layer.inside(x, b, i), lambda: layer(x), args.runs):.2f}")
    print(f"| {name}, prototypes | " + " | ".join(found) + f" | whole / host {whole:.2f} |", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure with both thresholds off, and print the table; return the exit code."""
    args = parse(argv)
    os.environ.setdefault("YOLO_OFFLINE", "true")
    import torch

    from yolo_multitask.nn import proto, sites

    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    sites.DENSE_SHARE = proto.DENSE_TILES = 2.0
    print(f"anchors {SHARES}, tiles {TILES}; {args.threads} threads")
    with torch.inference_mode():
        for name in args.models:
            measure(name, args)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
