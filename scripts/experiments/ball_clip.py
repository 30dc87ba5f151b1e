r"""A ball in a broadcast clip: windows of frames beside a stock detector on single frames, with one budget.

    python scripts/experiments/ball_clip.py --clip DIR --weights yolov8n.pt --out runs/ball

DIR is a clip of the TrackNet data: frames and `labels.csv`. Both networks are trained on the first `--split` frames and
measured on the rest; no window holds frames of both. The stock network sees each training frame as a picture with one
box of `--box` pixels around the ball, the other windows of `--frames` frames with the ball's position in each. Both
start from the same checkpoint and take as many steps of as many network passes each; one epoch of both shows every
training frame once as the newest. Both are measured by the same code on the same frames. Finished trainings are kept
in the output folder and not repeated; one that was stopped is resumed.

It leaves pictures with the trail of the ball, and the clip with it.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from ball_scores import Found, found_balls, once, summary, table, train_once
from numpy.typing import NDArray

from yolo_multitask import MultiTaskYOLO
from yolo_multitask.data.clips.clip import HIDDEN, Clip
from yolo_multitask.data.clips.config import load_clip_data
from yolo_multitask.data.clips.read import read_clips
from yolo_multitask.demo import TRAINING
from yolo_multitask.nn.network import load_model_yaml

COLUMNS = ("F1", "precision", "recall", "error", "TP", "FP", "FN", "best F1", "best conf")
PICTURES = 6


def main() -> None:
    """Read the arguments, train what is missing, print the table."""
    args = parse()
    args.out.mkdir(parents=True, exist_ok=True)
    data = write_clip_data(args)
    loaded = load_clip_data(data)
    (train_clip,), (val_clip,) = (read_clips(loaded["clips"][s], loaded["clip_spec"])[0] for s in ("train", "val"))
    boxes = write_boxes(args, {"train": train_clip, "val": val_clip})
    passes = len(train_clip) * args.epochs
    print(f"{passes} network passes each, {-(-len(train_clip) // args.batch) * args.epochs} steps of {args.batch}")
    rows = {}
    if args.only != "single":
        rows[f"{args.frames} frames"] = once(args.out / "windows.json", lambda: run_windows(args, data, val_clip))
    if args.only != "windows":
        name = f"stock {Path(args.weights).stem}, single frames"
        rows[name] = once(args.out / "single.json", lambda: run_single(args, boxes, val_clip))
    print(f"{len(val_clip)} frames, {sum(len(f.points) for f in val_clip.labels)} balls, at confidence 0.25:")
    print(table(rows, COLUMNS))


def parse() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--clip", type=lambda path: Path(path).absolute(), required=True)
    add("--weights", type=lambda path: Path(path).absolute(), required=True, help="a stock checkpoint of scale n")
    add("--out", type=lambda path: Path(path).absolute(), required=True)
    add("--split", type=int, default=120, help="frames to train on")
    add("--frames", type=int, default=5, help="frames of a window")
    add("--only", choices=("windows", "single"), help="one of the two, to train them side by side")
    add("--track-pos", type=float, default=5.0, help="gain of the position loss")
    add("--box", type=float, default=12, help="side of the stock network's boxes in pixels of the frame")
    add("--imgsz", type=int, default=480)
    add("--epochs", type=int, default=12)
    add("--batch", type=int, default=4)
    add("--lr", type=float, default=0.001)
    add("--seed", type=int, default=0)
    return parser.parse_args()


def write_clip_data(args: argparse.Namespace) -> Path:
    """Write the data YAML of the windows: one clip, two ranges of frames."""
    count = sum(1 for line in (args.clip / "labels.csv").read_text().splitlines() if line[:1].isdigit())
    ranges = {"train": [0, args.split - 1], "val": [args.split, count - 1]}
    content = {split: [{"path": str(args.clip), "frames": frames}] for split, frames in ranges.items()}
    file = args.out / "clip.yaml"
    file.write_text(yaml.safe_dump({**content, "names": {0: "ball"}, "objects": ["ball"], "format": "csv"}))
    return Path(file)


def write_boxes(args: argparse.Namespace, clips: dict[str, Clip]) -> Path:
    """Write the same frames and labels as pictures with boxes, for the stock network; return the data YAML."""
    root = args.out / "boxes"
    for split, clip in clips.items():
        images, labels = root / "images" / split, root / "labels" / split
        for folder in (images, labels):
            folder.mkdir(parents=True, exist_ok=True)
        height, width = clip.size
        for i, frame in enumerate(clip.labels):
            source = Path(clip.frames.file(i))
            shutil.copyfile(source, images / source.name)
            shown = frame.points[frame.visible != HIDDEN]
            lines = [f"0 {x / width} {y / height} {args.box / width} {args.box / height}\n" for x, y in shown]
            (labels / f"{source.stem}.txt").write_text("".join(lines))
    file = root / "data.yaml"
    file.write_text(
        yaml.safe_dump({"path": str(root), "train": "images/train", "val": "images/val", "names": {0: "ball"}})
    )
    return Path(file)


def settings(args: argparse.Namespace, data: Path, name: str) -> dict[str, Any]:
    """Return what both trainings have in common."""
    common = {**TRAINING, "data": str(data), "imgsz": args.imgsz, "batch": args.batch, "nbs": args.batch}
    common |= {"epochs": args.epochs, "lr0": args.lr, "seed": args.seed, "scale": 0.2, "hsv_v": 0.2}
    return common | {"project": str(args.out), "name": name, "exist_ok": True, "rect": False}


def run_windows(args: argparse.Namespace, data: Path, clip: Clip) -> dict[str, Any]:
    """Train on windows, measure, and draw the trail."""
    config: dict[str, Any] = load_model_yaml("multitaskn.yaml") | {"frames": args.frames}
    config["head"] = [line for line in config["head"] if line[2] != "Pose"]
    config.pop("yaml_file")
    file = args.out / "windows-multitask.yaml"
    file.write_text(yaml.safe_dump(config))
    given = settings(args, data, "windows") | {"window_stride": 1, "track_pos": args.track_pos}
    given |= {"pretrained": str(args.weights)}
    model = MultiTaskYOLO(train_once(file, args.out / "windows" / "weights" / "last.pt", given))
    frames = [clip.frames.read(i) for i in range(len(clip))]
    quiet = {"imgsz": args.imgsz, "device": "cpu", "verbose": False, "project": str(args.out), "exist_ok": True}
    found = found_balls(model.predict(frames, conf=0.05, stream=True, name="windows-val", **quiet))
    tracked = model.track(frames, conf=0.25, stream=True, name="windows-val", **quiet)
    trail = list(draw(args.out / "trail", tracked, clip))
    return {**summary([(clip, found)]), **{f"tracked {k}": v for k, v in summary([(clip, trail)]).items()}}


def draw(folder: Path, results: Any, clip: Clip) -> Iterator[NDArray[np.float64]]:
    """Save the clip with trails, and some of its frames as pictures; give the balls of each frame."""
    folder.mkdir(exist_ok=True)
    height, width = clip.size
    writer = cv2.VideoWriter(str(folder / "clip.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 30, (width, height))
    chosen = np.linspace(10, len(clip) - 1, PICTURES).astype(int)
    for i, result in enumerate(results):
        picture = result.plot(labels=False)
        writer.write(picture)
        if i in chosen:
            cv2.imwrite(str(folder / f"{i:04d}.png"), picture)
        yield from found_balls([result])
    writer.release()


def run_single(args: argparse.Namespace, data: Path, clip: Clip) -> dict[str, Any]:
    """Train the stock network on single frames, and measure it."""
    given = settings(args, data, "single")
    model = MultiTaskYOLO(train_once(args.weights, args.out / "single" / "weights" / "last.pt", given))
    frames = [clip.frames.read(i) for i in range(len(clip))]
    found: Found = []
    for frame in frames:
        found += found_balls(model.predict(frame, conf=0.05, imgsz=args.imgsz, device="cpu", verbose=False))
    return summary([(clip, found)])


if __name__ == "__main__":
    main()
