r"""What the ring buffer saves: windows built from scratch, taken from the buffer, and one window for all its frames.

    python scripts/benchmarks/temporal.py --imgsz 640 --length 40 --json out.json

A rendered clip is run through a model with random weights in three ways, in turn, `--runs` times:

- scratch: a plain loop that prepares all frames of a window anew for each frame, runs the network and combines what
  the windows say;
- buffer: the predictor, with every window computed;
- stride: the predictor with `window_stride` at the length of a window, so that each frame is in one.

Reading and drawing are left out: the frames are in memory. Printed: median milliseconds a frame, and the medians of
the ratios of neighbouring runs. `prepare` alone is timed too, because the network takes most of the rest.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from timing import available_cores, load_average, machine, positive, progress, where, write_json

CONF = 0.25


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", default="multitaskn.yaml", help="model YAML, checkpoint or exported file")
    add("--imgsz", type=positive, default=640)
    add("--length", type=positive, default=30, help="frames of the clip")
    add("--width", type=positive, default=1280, help="width of its frames")
    add("--runs", type=positive, default=5)
    add("--warmup", type=positive, default=1)
    add("--threads", type=positive, default=available_cores())
    add("--json", type=Path)
    return parser.parse_args(argv)


def render(width: int, length: int) -> list[Any]:
    """Return the frames (H, W, 3) of a clip with moving dots on noise."""
    height = width * 9 // 16
    rng = np.random.default_rng(0)
    backdrop = rng.integers(40, 90, (height, width, 3), dtype=np.uint8)
    frames = []
    for t in range(length):
        image = backdrop.copy()
        x, y = 20 + 12 * t % (width - 40), 20 + 5 * t % (height - 40)
        image[y : y + 6, x : x + 6] = 240
        frames.append(image)
    return frames


def plain_loop(model: Any, frames: list[Any], imgsz: int) -> Callable[[], int]:
    """Return what builds every window from scratch; it returns how many objects it has found."""
    import torch

    from yolo_multitask.data.clips.preprocess import Fit, input_shape, prepare_frame, stack_frames
    from yolo_multitask.engine.temporal.clip import FrameEstimates, Window
    from yolo_multitask.engine.temporal.layout import read_outputs

    layout, backend = model.predictor.temporal, model.predictor.model
    size = frames[0].shape[:2]
    fit = Fit(size, input_shape(size, imgsz, 32))
    radius = layout.radius(fit)

    def run() -> int:
        estimates = FrameEstimates(CONF, radius)
        for t in range(len(frames)):
            numbers = [t - back for back in reversed(range(layout.num_groups))]
            prepared = [prepare_frame(frames[max(n, 0)], fit.shape, layout.channels) for n in numbers]
            pixels = torch.from_numpy(stack_frames(prepared))[None].float() / 255
            with torch.inference_mode():
                values, rows = read_outputs(backend, backend(pixels))
            model.predictor._find_players(rows, 1)
            found = layout.find(values[0], fit, conf=CONF / 2, radius=radius)
            estimates.add(Window(t, [max(n, -1) for n in numbers], found))
        return sum(len(estimates.take(t)) for t in range(len(frames)))

    return run


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print the table; return the exit code."""
    args = parse(argv)
    import torch

    from yolo_multitask import MultiTaskYOLO
    from yolo_multitask.benchmark.timing import take_turns
    from yolo_multitask.data.clips.preprocess import input_shape, prepare_frame

    torch.set_num_threads(args.threads)
    place = {**machine(), "load_before": load_average()}
    frames = render(args.width, args.length)
    model = MultiTaskYOLO(args.model)
    with tempfile.TemporaryDirectory() as folder:
        common = {"imgsz": args.imgsz, "conf": CONF, "verbose": False, "device": "cpu", "project": folder}
        model.predict(frames[:1], **common)
        groups = model.predictor.temporal.num_groups
        shape = input_shape(frames[0].shape[:2], args.imgsz, 32)

        def predict(stride: int) -> Callable[[], int]:
            return lambda: sum(len(r) for r in model.predict(frames, stream=True, window_stride=stride, **common))

        ways = {
            "scratch": plain_loop(model, frames, args.imgsz),
            "buffer": predict(1),
            "stride": predict(groups),
            "prepare": lambda: [prepare_frame(f, shape, model.predictor.temporal.channels) for f in frames],
        }
        timed = take_turns(list(ways.values()), args.runs, args.warmup, lambda: progress("."))
    ms = {name: [run.ms / args.length for run in runs] for name, runs in zip(ways, timed, strict=True)}
    place["load_after"] = load_average()
    print("| way | ms a frame | scratch / this |\n|---|--:|--:|")
    for name, values in ms.items():
        ratio = statistics.median(a / b for a, b in zip(ms["scratch"], values, strict=True))
        print(f"| {name} | {statistics.median(values):.1f} | {ratio:.2f} |")
    print(
        f"\n{args.model}, windows of {groups} frames, {args.length} frames {args.width} wide at {args.imgsz} px, "
        f"{args.runs} runs. {where(place, args.threads)}"
    )
    if args.json:
        write_json(args.json, {"machine": place, "ms": ms})
    return 0


if __name__ == "__main__":
    sys.exit(main())
