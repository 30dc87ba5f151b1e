r"""What consecutive frames are worth: the same network on windows of frames and on single frames, with one budget.

    python scripts/experiments/court.py --out runs/court

Court clips are rendered (a small blurred ball among spots that look like it in any one picture, players), and two
networks are trained on them, from scratch or both from `--weights`. One sees `--frames` frames at once, the other one;
they differ in the first convolution and the number of groups alone. Both take as many steps with as many network passes
each, see every frame of every clip as the newest one as often as the other, and have the same schedule. So the first
has more labels of the ball: those of all frames of a window. `--long-single` gives the single-frame network in a third
training as many steps more as it takes to see as many labels.

Both are then run over the validation clips as in prediction, and measured by the same code. Finished trainings are
kept in the output folder and not repeated; one that was stopped is resumed.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml
from ball_scores import found_balls, once, summary, table, train_once

from yolo_multitask import MultiTaskYOLO
from yolo_multitask.data.clips.config import load_clip_data
from yolo_multitask.data.clips.read import read_clips
from yolo_multitask.data.synthetic.court import write_court
from yolo_multitask.demo import TRAINING
from yolo_multitask.nn.network import load_model_yaml

COLUMNS = ("F1", "precision", "recall", "error", "best F1", "best conf", "pose mAP50", "pose mAP50-95", "box mAP50-95")
KEYS = {"pose mAP50": "mAP50(P)", "pose mAP50-95": "mAP50-95(P)", "box mAP50-95": "mAP50-95(B)"}


def main() -> None:
    """Read the arguments, train what is missing, print the table."""
    args = parse()
    data = args.out / "data" / "data.yaml"
    if not data.exists():
        size = (args.imgsz, args.imgsz * 9 // 16)
        write_court(
            data.parent, clips=args.clips, val_clips=args.val_clips, frames=args.length, size=size, seed=args.seed
        )
    contenders = {f"{args.frames} frames": (args.frames, args.epochs), "1 frame": (1, args.epochs)}
    if args.long_single:
        contenders["1 frame, as many labels"] = (1, args.epochs * args.frames)
    windows = args.clips * args.length
    print(f"{windows} windows an epoch, {-(-windows // args.batch)} steps of {args.batch} network passes each")
    rows = {}
    for name, (frames, epochs) in contenders.items():
        if args.only and name not in args.only:
            continue
        print(
            f"{name}: {epochs} epochs, {epochs * windows} network passes, {epochs * windows * frames} labelled frames"
        )
        rows[name] = once(args.out / f"{name.replace(' ', '-')}.json", lambda: run(args, data, name, frames, epochs))  # noqa: B023
    print(table(rows, COLUMNS))


def parse() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--out", type=lambda path: Path(path).absolute(), required=True)
    add("--clips", type=int, default=24)
    add("--val-clips", type=int, default=6)
    add("--length", type=int, default=40, help="frames of a clip")
    add("--imgsz", type=int, default=256)
    add("--frames", type=int, default=5, help="frames of a window")
    add("--only", nargs="+", help="names of the contenders to train, to run them side by side")
    add("--weights", type=lambda path: Path(path).absolute(), help="a checkpoint that both start from, of scale n")
    add("--epochs", type=int, default=12)
    add("--batch", type=int, default=8)
    add("--lr", type=float, default=0.003)
    add("--track-pos", type=float, default=5.0, help="gain of the position loss")
    add("--seed", type=int, default=0)
    add("--long-single", action="store_true")
    return parser.parse_args()


def write_model(file: Path, frames: int) -> Path:
    """Write the model YAML of a contender, of scale n, and return it."""
    config: dict[str, Any] = load_model_yaml("multitask.yaml") | {"frames": frames}
    config.pop("yaml_file")
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    return file


def train(args: argparse.Namespace, data: Path, run_name: str, model_file: Path, epochs: int) -> Path:
    """Train a contender, or finish its training, and return its weights.

    The windows begin one frame apart and before the clips too, so that every frame is once an epoch the newest of one.
    """
    settings = {**TRAINING, "data": str(data), "imgsz": args.imgsz, "batch": args.batch, "nbs": args.batch}
    settings |= {"epochs": epochs, "lr0": args.lr, "seed": args.seed, "window_stride": 1, "scale": 0.1, "hsv_v": 0.2}
    settings |= {"project": str(args.out), "name": run_name, "exist_ok": True, "track_pos": args.track_pos}
    settings |= {"pretrained": str(args.weights)} if args.weights else {}
    return train_once(model_file, args.out / run_name / "weights" / "last.pt", settings)


def run(args: argparse.Namespace, data: Path, name: str, frames: int, epochs: int) -> dict[str, Any]:
    """Return the measures of a contender."""
    run_name = name.replace(" ", "-").replace(",", "")
    file = write_model(args.out / f"frames{frames}-multitask.yaml", frames)
    model = MultiTaskYOLO(train(args, data, run_name, file, epochs))
    quiet = {"imgsz": args.imgsz, "device": "cpu", "project": str(args.out), "exist_ok": True, "plots": False}
    metrics = model.val(data=str(data), batch=args.batch, name=f"{run_name}-val", workers=0, **quiet)
    loaded = load_clip_data(data)
    clips, _ = read_clips(loaded["clips"]["val"], loaded["clip_spec"])
    found = []
    for clip in clips:
        results = model.predict(clip.path, conf=0.05, stream=True, verbose=False, name=f"{run_name}-val", **quiet)
        found.append((clip, found_balls(results)))
    values = metrics.results_dict
    return {**summary(found), **{column: float(values[f"metrics/{key}"]) for column, key in KEYS.items()}}


if __name__ == "__main__":
    main()
