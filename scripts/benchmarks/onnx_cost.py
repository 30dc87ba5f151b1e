"""One ONNX file against two, in ONNX Runtime on the CPU: boxes, masks, keypoints and embeddings of real pictures.

    python scripts/benchmarks/onnx_cost.py --weights DIR --images DIR
    python scripts/benchmarks/onnx_cost.py --weights DIR --images DIR --detections 0 20 100

Compared are `yolov8n-multitask` with `nms=True`, and Ultralytics' own exports of stock `yolov8n-seg` and
`yolov8n-pose`, one after the other. A run goes from the network's input to boxes, masks at the resolution of the input,
keypoints and embeddings: behind the stock files, Ultralytics' NMS and its `process_mask`; behind ours, the masks of the
rows. All files run in turn, on the same picture.

`--detections` adds rows in which every file finds as many objects in one picture: the class scores of each network are
raised or lowered until that many are above `--conf`.

`--weights` holds `yolov8n-seg.pt` and `yolov8n-pose.pt`, from which the multitask network is made: it does the work of
a trained one, but its keypoints and embeddings are not meant to be right. A bar that is missed on the pictures as they
are ends the run with exit code 1.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from formats import files_in, pictures
from timing import Comparison, load_average, machine, positive, progress, where, write_json

STOCK = ("seg", "pose")
BARS = {"pose + seg": 0.60, "seg": 1.05}  # highest time of the multitask file over that of these
LOWEST_CONF = 1e-6  # of the detections among which a number of them is chosen


@dataclass(frozen=True, kw_only=True)
class Once:
    """One run of a file: milliseconds of the session alone and of everything, and how many objects were found."""

    bare: float
    whole: float
    found: int


class File:
    """An ONNX file, and what stands behind it."""

    def __init__(self, path: str, threads: int, behind: Callable[[list[Any]], int]) -> None:
        """Open the file; `behind` takes its outputs as tensors and returns how many objects there are."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.behind = behind

    def __call__(self, image: Any) -> Once:
        """Run an input (1, 3, h, w), float32."""
        import torch

        start = time.perf_counter()
        outputs = self.session.run(None, {"images": image})
        between = time.perf_counter()
        found = self.behind([torch.from_numpy(x) for x in outputs])
        end = time.perf_counter()
        return Once(bare=(between - start) * 1e3, whole=(end - start) * 1e3, found=found)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; a wrong argument ends the process with exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--weights", type=Path, required=True, help="folder with yolov8n-seg.pt and yolov8n-pose.pt")
    add("--images", type=Path, required=True, help="folder of pictures")
    add("--count", type=positive, default=20, help="pictures (default: %(default)s)")
    add("--detections", nargs="+", type=int, default=[], help="numbers of objects for further rows")
    add("--imgsz", type=positive, default=640)
    add("--conf", type=float, default=0.25)
    add("--iou", type=float, default=0.7)
    add("--runs", type=positive, default=40, help="timed runs of each file (default: %(default)s)")
    add("--warmup", type=positive, default=5)
    add("--threads", type=positive, default=2, help="of ONNX Runtime and of torch (default: %(default)s)")
    add("--json", type=Path, help="file to write all figures to")
    args = parser.parse_args(argv)
    if not files_in(args.images, 1):
        parser.error(f"--images: expected pictures in '{args.images}', found none.")
    return args


def networks(args: argparse.Namespace) -> dict[str, Any]:
    """Return the models by name."""
    from ultralytics import YOLO

    from yolo_multitask import MultiTaskYOLO

    files = {task: args.weights / f"yolov8n-{task}.pt" for task in STOCK}
    own = MultiTaskYOLO("yolov8n-multitask.yaml").load(list(files.values()))
    return {"multitask": own} | {task: YOLO(file) for task, file in files.items()}


def make(name: str, model: Any, folder: Path, args: argparse.Namespace) -> File:
    """Export a model into a folder; return the file with what stands behind it."""
    import torch
    from ultralytics.utils import nms, ops

    from yolo_multitask.engine.masks import MaskFactors, assemble

    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"model": model.model}, folder / f"{name}.pt")  # `save` would round to half precision
    common = {"format": "onnx", "imgsz": args.imgsz, "device": "cpu"}
    own = {"nms": True, "conf": args.conf, "iou": args.iou} if name == "multitask" else {}
    path = type(model)(str(folder / f"{name}.pt")).export(**common, **own)
    shape, classes = (args.imgsz, args.imgsz), len(model.names)
    layout = model.model.head.layout if name == "multitask" else None

    def keep(outputs: list[Any]) -> int:
        rows = outputs[0][0]
        rows = rows[rows[:, 4] > 0]
        assemble(MaskFactors(outputs[1][0], weights=rows[:, layout.mask]), rows[:, :4], shape)
        return len(rows)

    def suppress(outputs: list[Any]) -> int:
        with torch.inference_mode():
            (rows,) = nms.non_max_suppression(outputs[0], args.conf, args.iou, nc=classes)
            if len(outputs) > 1:
                masks = ops.process_mask(outputs[1][0], rows[:, 6:], rows[:, :4], shape, upsample=True)
                rows = rows[masks.amax((-2, -1)) > 0]  # as the host's predictor
        return len(rows)

    return File(path, args.threads, keep if name == "multitask" else suppress)


def measure(files: dict[str, File], images: Sequence[Any], args: argparse.Namespace) -> dict[str, list[Once]]:
    """Return the timed runs of each file, in turn on the same picture."""
    import numpy as np

    inputs = [np.ascontiguousarray(x[..., ::-1].transpose(2, 0, 1)[None], np.float32) / 255 for x in images]
    kept: dict[str, list[Once]] = {name: [] for name in files}
    for i in range(args.warmup + args.runs):
        for name, file in files.items():
            once = file(inputs[i % len(inputs)])
            if i >= args.warmup:
                kept[name].append(once)
    return kept


def scores(model: Any, image: Any, args: argparse.Namespace) -> list[float]:
    """Return the scores of the detections of an image down to `LOWEST_CONF`, falling."""
    given = {"imgsz": args.imgsz, "iou": args.iou, "max_det": 10**4, "device": "cpu", "verbose": False}
    found = model.predict(image, conf=LOWEST_CONF, **given)[0].boxes.conf
    return found.sort(descending=True).values.tolist()


def crowded(models: dict[str, Any], images: Sequence[Any], most: int, args: argparse.Namespace) -> tuple[Any, Any]:
    """Return the first image in which every network finds more than `most` objects, and the scores of each.

    Raises:
        ValueError: If there is none.
    """
    for image in images:
        found = {name: scores(deepcopy(model), image, args) for name, model in models.items()}
        if all(len(each) > most for each in found.values()):
            return image, found
    raise ValueError(f"expected a picture with more than {most} detections of every network; lower --detections.")


def raised(model: Any, falling: Sequence[float], count: int, conf: float) -> Any:
    """Return a copy of a model whose class scores are shifted so that `count` detections are above `conf`."""
    import torch

    copy = deepcopy(model)
    top = falling[count - 1] if count else (1 + falling[0]) / 2
    between = (top + falling[count]) / 2
    shift = math.log(conf / (1 - conf)) - math.log(between / (1 - between))
    with torch.no_grad():
        for stack in copy.model.model[-1].cv3:
            stack[-1].bias += shift
    return copy


def compare(times: dict[str, list[Once]], part: str) -> dict[str, Comparison]:
    """Return the multitask file beside each of `BARS`; `part` of `Once`."""
    each = {name: [getattr(once, part) for once in runs] for name, runs in times.items()}
    each["pose + seg"] = [sum(both) for both in zip(each["pose"], each["seg"], strict=True)]
    return {name: Comparison(one_ms=each["multitask"], two_ms=each[name]) for name in BARS}


def table(rows: dict[str, dict[str, list[Once]]]) -> str:
    """Return the figures as a markdown table; in parentheses those of the sessions alone, in brackets the quartiles."""
    lines = [
        "| pictures | objects, multitask / seg / pose | multitask, ms | seg, ms | pose, ms | multitask / (pose + seg) "
        "| multitask / seg |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for label, times in rows.items():
        order = ("multitask", *STOCK)
        cells = [label, " / ".join(f"{statistics.mean(o.found for o in times[name]):.1f}" for name in order)]
        for name in order:
            whole, bare = (statistics.median(getattr(o, part) for o in times[name]) for part in ("whole", "bare"))
            cells.append(f"{whole:.0f} ({bare:.0f})")
        whole_ratios, bare_ratios = compare(times, "whole"), compare(times, "bare")
        for name, ratio in whole_ratios.items():
            low, high = ratio.quartiles
            cells.append(f"{ratio.ratio:.2f} [{low:.2f}, {high:.2f}] ({bare_ratios[name].ratio:.2f})")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def run(args: argparse.Namespace, folder: Path) -> dict[str, dict[str, list[Once]]]:
    """Return the timed runs of each file for each row of the table."""
    import torch

    models = networks(args)
    torch.set_num_threads(args.threads)
    images = pictures(files_in(args.images, args.count), (args.imgsz, args.imgsz))
    files = {name: make(name, model, folder / "real", args) for name, model in models.items()}
    rows = {f"{len(images)} as they are": measure(files, images, args)}
    if args.detections:
        image, found = crowded(models, images, max(args.detections), args)
        for count in args.detections:
            moved = {name: raised(model, found[name], count, args.conf) for name, model in models.items()}
            files = {name: make(name, model, folder / str(count), args) for name, model in moved.items()}
            rows[f"one, {count} objects"] = measure(files, [image], args)
            progress(f"{count} objects done")
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    args = parse(argv)
    os.environ.setdefault("YOLO_OFFLINE", "true")
    import onnxruntime
    from ultralytics.utils import LOGGER

    LOGGER.setLevel(logging.ERROR)
    place = {**machine(), "onnxruntime": onnxruntime.__version__, "load_before": load_average()}
    try:
        with TemporaryDirectory() as folder:
            rows = run(args, Path(folder))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    place["load_after"] = load_average()
    ratios = {name: both.ratio for name, both in compare(next(iter(rows.values())), "whole").items()}
    missed = {name: ratio for name, ratio in ratios.items() if ratio > BARS[name]}
    print(
        f"{table(rows)}\n\nMedians of {args.runs} runs in turn, of the session alone in parentheses, quartiles in "
        f"brackets. Input {args.imgsz}, batch 1, ONNX Runtime {onnxruntime.__version__}. {where(place, args.threads)}"
    )
    for name, ratio in missed.items():
        print(f"\nMissed: {ratio:.2f} of {name}, the bar is {BARS[name]:.2f}.")
    if args.json:
        settings = {key: str(value) for key, value in vars(args).items()}
        figures = {
            label: {name: [vars(once) for once in runs] for name, runs in times.items()}
            for label, times in rows.items()
        }
        write_json(args.json, {"machine": place, "settings": settings, "rows": figures, "ratios": ratios})
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
