"""What exported files of every format give, weigh and cost, beside the network that they were made from.

    python scripts/benchmarks/formats.py --weights DIR --images DIR
    python scripts/benchmarks/formats.py --model best.pt --images DIR --formats onnx openvino --imgsz 320

Each file is made in a folder that is deleted again: as the format has it, with batch and sizes left open where it takes
`dynamic`, and with the NMS where its graph can hold one. It predicts real pictures, letterboxed beforehand, so that
network and file get the same input: one at a time and two at once, a file with open sizes also at a second size. Every
field of every result is compared to the network's. A bar that is missed ends the run with exit code 1.

Time is that of a whole `predict` of one picture, network and file in turn. Every file has a process of its own.

`--weights` holds `yolov8n-seg.pt` and `yolov8n-pose.pt`, from which the network is made: it does the work of a trained
one, but its keypoints and embeddings are not meant to be right. `--model` names a trained one.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import math
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipeline import SUFFIXES, multitask
from timing import alternate, available_cores, load_average, machine, positive, progress, where, write_json

HIGHEST = {"boxes": 0.5, "scores": 1e-3, "keypoints": 0.5, "detections": 0}  # bars, in pixels, probability, number
LOWEST = {"mask_iou": 0.99, "cosine": 0.999}  # bars
HEADINGS = ("boxes, px", "scores", "keypoints, px", "detections", "mask IoU", "cosine")


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A file to make.

    Attributes:
        format: As the argument of `export`.
        dynamic: Whether batch and size are left open.
        nms: Whether the NMS is in the file.
        masks: Whether the masks are assembled in it too.
        without: A task that the format cannot hold, or "".
    """

    format: str
    dynamic: bool = False
    nms: bool = False
    masks: bool = False
    without: str = ""

    def __str__(self) -> str:
        """Return what to call it in a table."""
        names = [name for name in ("nms", "masks", "dynamic") if getattr(self, name)]
        return ", ".join([self.format, *names, *([f"{self.without}=False"] if self.without else [])])

    @property
    def switches(self) -> dict[str, bool]:
        """The task that is switched off, as an argument of `export` and `predict`."""
        return {self.without: False} if self.without else {}


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; a wrong argument ends the process with exit code 2."""
    known = [fmt for fmt in host_formats() if fmt not in refused()]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--weights", type=Path, help="folder with yolov8n-seg.pt and yolov8n-pose.pt")
    add("--model", type=Path, help="trained multitask checkpoint (default: made from the stock ones)")
    add("--images", type=Path, required=True, help="folder of pictures")
    add("--formats", nargs="+", choices=known, default=known, metavar="FORMAT", help="default: all but the refused")
    add("--count", type=positive, default=8, help="pictures that results are compared on (default: %(default)s)")
    add("--imgsz", type=positive, default=640, help="a multiple of 128 (default: %(default)s)")
    add("--conf", type=float, default=0.25)
    add("--runs", type=positive, default=15, help="timed runs of network and file (default: %(default)s)")
    add("--warmup", type=positive, default=3)
    add("--threads", type=positive, default=available_cores(), help="of torch; the runtimes take all cores")
    add("--json", type=Path, help="file to write all figures to")
    args = parser.parse_args(argv)
    if not (args.weights or args.model):
        parser.error("expected --weights DIR or --model best.pt, found neither.")
    if args.imgsz % 128:
        parser.error(f"--imgsz must be a multiple of 128, for a second size of 3/4 of it; got {args.imgsz}.")
    if len(files_in(args.images, args.count)) < args.count:
        parser.error(f"--images: expected {args.count} pictures or more in '{args.images}'; lower --count.")
    return args


def host_formats() -> dict[str, tuple[str, ...]]:
    """Return the arguments that the host takes for each format, by its name."""
    from ultralytics.engine.exporter import export_formats

    table = export_formats()
    return {name: tuple(own) for name, own in zip(table["Argument"][1:], table["Arguments"][1:], strict=True)}


def refused() -> Mapping[str, str]:
    """Return the formats that this package refuses, and why."""
    from yolo_multitask.export.formats import REFUSED

    return REFUSED


def files_in(folder: Path, count: int) -> list[Path]:
    """Return the first `count` pictures of a folder."""
    return sorted(f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES)[:count]


def variants(fmt: str) -> list[Variant]:
    """Return the files to make of a format."""
    from yolo_multitask.export.formats import GRAPH_NMS, LACKING

    without = LACKING.get(fmt, ("", ""))[0]
    out = [Variant(format=fmt, without=without)]
    open_sizes = "dynamic" in host_formats()[fmt]
    if open_sizes:
        out.append(Variant(format=fmt, dynamic=True, without=without))
    if fmt in GRAPH_NMS:
        out.append(Variant(format=fmt, nms=True, without=without))
        out += [Variant(format=fmt, nms=True, dynamic=True, without=without)] if open_sizes else []
        out.append(Variant(format=fmt, nms=True, masks=True, without=without))
    return out


def pictures(files: Iterable[Path], size: tuple[int, int]) -> list[Any]:
    """Return images (h, w, 3), BGR, letterboxed to a size (h, w)."""
    import cv2
    from ultralytics.data.augment import LetterBox

    return [LetterBox(size, auto=False)(image=cv2.imread(str(file))) for file in files]


def differences(expected: Any, found: Any) -> dict[str, float]:
    """Return how far two results of an image are apart: the keys of `HIGHEST` and `LOWEST`.

    A detection is compared to the nearest of its class, by box and score. Keypoints are compared in pixels, their
    visibility as scores.
    """
    here: dict[str, float] = {**dict.fromkeys(HIGHEST, 0.0), **dict.fromkeys(LOWEST, 1.0)}
    here["detections"] = abs(len(expected) - len(found))
    if not (len(expected) and len(found)):
        return here
    apart = (expected.boxes.data[:, None, :5] - found.boxes.data[:, :5]).abs().sum(2)
    apart[expected.boxes.cls[:, None] != found.boxes.cls] = math.inf
    nearest = apart.argmin(1)
    here["detections"] = max(here["detections"], int(apart.amin(1).isinf().sum()))
    here["boxes"] = float((expected.boxes.xyxy - found.boxes.xyxy[nearest]).abs().max())
    here["scores"] = float((expected.boxes.conf - found.boxes.conf[nearest]).abs().max())
    if expected.keypoints is not None:
        off = (expected.keypoints.data - found.keypoints.data[nearest]).abs()
        here["keypoints"] = float(off[..., :2].max())
        here["scores"] = max(here["scores"], float(off[..., 2:].amax())) if off.shape[2] > 2 else here["scores"]
    if expected.masks is not None:
        one, two = expected.masks.data.bool().flatten(1), found.masks.data[nearest].bool().flatten(1)
        both, either = (one & two).sum(1), (one | two).sum(1)
        here["mask_iou"] = float((both / either.clamp(min=1)).where(either > 0, both + 1.0).min())
    if expected.embeddings is not None:
        here["cosine"] = float((expected.embeddings.data * found.embeddings.data[nearest]).sum(1).min())
    return here


def worst(each: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the worst of each of `differences`."""
    high = {key: max(one[key] for one in each) for key in HIGHEST}
    return high | {key: min(one[key] for one in each) for key in LOWEST}


def missed(row: Mapping[str, Any]) -> list[str]:
    """Return which bars a row misses; NaN misses its own."""
    found = row.get("worst", {})
    high = [key for key, bar in HIGHEST.items() if key in found and not found[key] <= bar]
    return high + [key for key, bar in LOWEST.items() if key in found and not found[key] >= bar]


def megabytes(path: Path) -> float:
    """Return the size of a file, or of all files in a folder."""
    return sum(f.stat().st_size for f in ([path] if path.is_file() else path.rglob("*")) if f.is_file()) / 1e6


class Bench:
    """A file of one variant beside its network."""

    def __init__(self, variant: Variant, args: argparse.Namespace, folder: Path) -> None:
        """Save the network into `folder`, from where it is exported."""
        from yolo_multitask import MultiTaskYOLO

        self.variant, self.args, self.folder = variant, args, folder
        self.given = {"conf": args.conf, "device": "cpu", "verbose": False, **variant.switches}
        self.load = MultiTaskYOLO
        multitask(args).save(folder / "model.pt")
        self.network = self.open(folder / "model.pt")

    def open(self, file: Path) -> Any:
        """Return a model that runs with the threads asked for; the host sets its own number for each run."""
        import torch

        model = self.load(str(file))
        model.add_callback("on_predict_start", lambda _: torch.set_num_threads(self.args.threads))
        return model

    def export(self, batch: int) -> tuple[Path, float]:
        """Return a file for a batch, and the seconds that it took to make."""
        variant = self.variant
        given = {name: True for name in ("dynamic", "nms", "masks") if getattr(variant, name)} | variant.switches
        if variant.nms:
            given["conf"] = self.args.conf
        source = self.folder / f"batch{batch}.pt"
        source.write_bytes((self.folder / "model.pt").read_bytes())
        start = time.perf_counter()
        made = self.load(str(source)).export(
            format=variant.format, imgsz=self.args.imgsz, batch=batch, device="cpu", **given
        )
        return Path(made), time.perf_counter() - start

    def compare(self, model: Any, batch: int, size: tuple[int, int]) -> list[dict[str, float]]:
        """Return the differences of all pictures, predicted `batch` at once."""
        images = pictures(files_in(self.args.images, self.args.count), size)
        expected = [self.network.predict(image, imgsz=size, **self.given)[0] for image in images]
        chunks = [images[i : i + batch] for i in range(0, len(images) - batch + 1, batch)]
        found = [result for chunk in chunks for result in model.predict(chunk, imgsz=size, **self.given)]
        return [differences(*both) for both in zip(expected, found, strict=False)]

    def measure(self) -> dict[str, Any]:
        """Return all figures of the variant."""
        from yolo_multitask.export.formats import NO_BATCH

        side = self.args.imgsz
        square, flat = (side, side), (side * 3 // 4, side)
        file, seconds = self.export(2 if self.variant.dynamic else 1)
        model = self.open(file)
        pairs = self.compare(model, 1, square)
        if self.variant.dynamic:
            pairs += self.compare(model, 2, square) + self.compare(model, 2, flat) + self.compare(model, 1, flat)
        else:
            two = model if self.variant.format in NO_BATCH else self.open(self.export(2)[0])
            pairs += self.compare(two, 2, square)
        images = pictures(files_in(self.args.images, self.args.count), square)
        turns = [itertools.cycle(images) for _ in range(2)]
        times = alternate(
            lambda: model.predict(next(turns[0]), imgsz=square, **self.given),
            lambda: self.network.predict(next(turns[1]), imgsz=square, **self.given),
            runs=self.args.runs,
            warmup=self.args.warmup,
        )
        return {"worst": worst(pairs), "seconds": seconds, "mb": megabytes(file), "times": times.summary()}


def measure(variant: Variant, args: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of a variant, or under `reason` why there are none."""
    from ultralytics.utils import LOGGER

    LOGGER.setLevel(logging.CRITICAL)
    row: dict[str, Any] = {"name": str(variant), **asdict(variant)}
    with TemporaryDirectory() as folder:
        try:
            return row | Bench(variant, args, Path(folder)).measure()
        except Exception as error:  # of a library that is not there, or whatever a runtime raises
            lines = str(error).strip().splitlines() or [""]
            return row | {"reason": f"{type(error).__name__}: {lines[-1] or lines[0]}"}


def isolated(variant: Variant, args: argparse.Namespace) -> dict[str, Any]:
    """Run `measure` in a process of its own, because runtimes do not always bear each other, and some crash."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=keep_stdout) as pool:
        try:
            return pool.submit(measure, variant, args).result()
        except BrokenProcessPool:
            return {"name": str(variant), **asdict(variant), "reason": "the process died"}


def keep_stdout() -> None:
    """Send what converters print to stderr, so that stdout holds the table alone."""
    os.dup2(2, 1)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the figures of the files that run here as a markdown table."""
    headings = ("file", *HEADINGS, "made in, s", "MB", "ms", "network, ms", "file / network")
    lines = [f"| {' | '.join(headings)} |", f"|---|{'--:|' * (len(headings) - 1)}"]
    for row in rows:
        if "reason" in row:
            continue
        found, times = row["worst"], row["times"]
        cells = [row["name"]]
        cells += [f"{found[key]:.1g}" if key != "detections" else f"{found[key]:.0f}" for key in HIGHEST]
        cells += [f"{found[key]:.5f}" for key in LOWEST]
        cells += [f"{row['seconds']:.1f}", f"{row['mb']:.1f}", f"{times['one_ms']:.0f}", f"{times['two_ms']:.0f}"]
        lines.append(f"| {' | '.join([*cells, '{:.2f}'.format(times['ratio'])])} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    os.environ.setdefault("YOLO_OFFLINE", "true")
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")  # what is not installed is reported as such
    args = parse(argv)
    place = {**machine(), "load_before": load_average()}
    rows = []
    for variant in itertools.chain.from_iterable(variants(fmt) for fmt in args.formats):
        rows.append(isolated(variant, args))
        progress(f"{variant}: {rows[-1].get('reason') or rows[-1]['worst']}")
    place["load_after"] = load_average()
    print(table(rows))
    if absent := [row for row in rows if "reason" in row]:
        print("\nNot measured:\n")
        print("\n".join(f"- {row['name']}: {row['reason']}" for row in absent))
    detections = f"{args.count} pictures, {args.imgsz} px, conf {args.conf:g}"
    print(f"\nWorst of {detections}. Medians of {args.runs} runs in turn. {where(place, args.threads)}")
    below = {row["name"]: keys for row in rows if (keys := missed(row))}
    if below:
        print("\nMissed: " + "; ".join(f"{name}: {', '.join(keys)}" for name, keys in below.items()))
    if args.json:
        settings = {key: str(value) for key, value in vars(args).items()}
        write_json(args.json, {"machine": place, "settings": settings, "rows": rows, "missed": below})
    return 1 if below else 0


if __name__ == "__main__":
    sys.exit(main())
