"""What `trackers.py` and `embeddings.py` share: arguments, and the passes of the networks over the sequence."""

from __future__ import annotations

import argparse
import hashlib
import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from timing import available_cores

from trackbench.frames import Frame
from trackbench.networks import cached_frames, model_frames, stock_frames
from trackbench.osnet import OSNet
from trackbench.sequence import PARTS, TruthSequence, part_of, read_sequence

STOCK_SOURCES = ("native", "osnet")


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What is measured on.

    Attributes:
        sequence: The frames that are evaluated.
        stock: What the stock network finds in them.
        models: The same of each model, by its name.
    """

    sequence: TruthSequence
    stock: list[Frame]
    models: dict[str, list[Frame]]


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that both scripts have."""
    add = parser.add_argument
    root = os.environ.get("YMT_REALDATA")
    add("--data", type=Path, default=root and Path(root), help="folder with weights/ and mot/ (default: $YMT_REALDATA)")
    add("--sequence", default="PETS09-S2L1-a", help="folder in mot/, in MOTChallenge's layout (default: %(default)s)")
    add("--weights", default="yolov8n.pt", help="stock network in weights/ that finds the boxes (default: %(default)s)")
    add(
        "--osnet",
        default="osnet_x0_25_msmt17.onnx",
        help="ReID network in weights/, '' for none (default: %(default)s)",
    )
    add("--model", nargs="+", type=named_model, default=[], metavar="NAME=PATH", help="checkpoints with a track branch")
    add("--frames", choices=PARTS, default="all", help="frames to evaluate: all, or a half (default: %(default)s)")
    add("--imgsz", type=int, default=640, help="input size of the networks in pixels (default: %(default)s)")
    add(
        "--conf",
        type=float,
        default=0.1,
        help="lowest score of a detection (default: %(default)s, the host's for track)",
    )
    add("--threads", type=int, default=available_cores(), help="threads of torch and onnxruntime (default: all cores)")
    add("--cache", type=Path, help="folder that keeps what the networks found, by their content, not by their code")
    add("--json", type=Path, help="file to write all figures to (default: none)")


def named_model(text: str) -> tuple[str, Path]:
    """Return the name and the path of a checkpoint given as NAME=PATH.

    Raises:
        argparse.ArgumentTypeError: If it is not of this form, the name is taken, or there is no such file.
    """
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise argparse.ArgumentTypeError(f"expected NAME=PATH, got '{text}'")
    if name in STOCK_SOURCES:
        raise argparse.ArgumentTypeError(f"'{name}' is the name of a stock source; name '{path}' otherwise")
    if not Path(path).is_file():
        raise argparse.ArgumentTypeError(f"'{path}' is no file; give NAME=PATH of a checkpoint")
    return name, Path(path)


def check_common(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """End the process with exit code 2 unless all files are there."""
    if args.data is None:
        parser.error("--data is missing, and YMT_REALDATA is not set; name a folder with weights/ and mot/.")
    names = [args.weights, *([args.osnet] if args.osnet else [])]
    wanted = [args.data / "mot" / args.sequence, *(args.data / "weights" / name for name in names)]
    if missing := [f"'{path}'" for path in wanted if not path.exists()]:
        parser.error(f"{' and '.join(missing)} not found; choose another --data, --sequence, --weights or --osnet.")
    if len({name for name, _ in args.model}) < len(args.model):
        parser.error("--model: every checkpoint needs a name of its own.")


def find_everything(args: argparse.Namespace) -> Inputs:
    """Run every network over the whole sequence, and return the frames that `args.frames` asks for.

    Raises:
        ValueError: If the sequence is not complete, or a model gives no embeddings or knows no persons.
    """
    whole = read_sequence(args.data / "mot" / args.sequence)
    settings: dict[str, Any] = {"imgsz": args.imgsz, "conf": args.conf}
    weights = args.data / "weights" / args.weights
    osnet = args.data / "weights" / args.osnet if args.osnet else None
    digest = hashlib.sha256(osnet.read_bytes()).hexdigest() if osnet else ""

    def run_stock() -> list[Frame]:
        return stock_frames(weights, whole, OSNet(osnet, args.threads) if osnet else None, args.imgsz, args.conf)

    stock = cached_frames(args.cache, weights, whole, {**settings, "osnet": digest}, run_stock)
    models = {}
    for name, path in args.model:
        run_model = partial(model_frames, path, whole, name, args.imgsz, args.conf)
        models[name] = cached_frames(args.cache, path, whole, {**settings, "name": name}, run_model)
    frames = part_of(len(whole), args.frames)
    return Inputs(
        sequence=whole.part(args.frames),
        stock=stock[frames],
        models={name: found[frames] for name, found in models.items()},
    )


def share_features(stock: list[Frame], model: list[Frame]) -> list[Frame]:
    """Return the stock frames with the features and cues of a model whose boxes are the same."""
    return [
        replace(
            one,
            features={**one.features, **two.features},
            cues={**one.cues, **two.cues},
            mask_width=two.mask_width or one.mask_width,
        )
        for one, two in zip(stock, model, strict=True)
    ]
