"""What the other tasks pay for identities: the same training with and without the track branch, over several seeds.

    python scripts/experiments/track_cost.py --out runs/track-cost --seeds 0 1 2 3
    python scripts/experiments/track_cost.py --out runs/track-cost --seeds 0 1 2 3 --share 0

Renders one synthetic world, trains the network of `ymt demo` on it from scratch, with `track=True` and `track=False` in
turn for each seed, and prints box, mask and keypoint AP on sequences that are not trained on, with the differences and
their spread. Finished trainings are kept in the output folder and not repeated.

The identity loss itself has no influence on the other tasks. What can differ is which images share a batch, and
chance. `--share 0` is the control: with the branch, but without pairs of views in a batch, so that only chance differs.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from yolo_multitask import MultiTaskYOLO
from yolo_multitask.data.synthetic import write_dataset
from yolo_multitask.demo import TRAINING, rate_schedule
from yolo_multitask.engine import trainer

COLUMNS = {"Box": "metrics/mAP50-95(B)", "Mask": "metrics/mAP50-95(M)", "Pose": "metrics/mAP50-95(P)"}


def main() -> None:
    """Read the arguments, train what is missing, print the table."""
    args = parse()
    trainer.PAIR_SHARE = args.share
    args.out /= f"{args.sequences}x{args.val_sequences}-{args.imgsz}px-{args.epochs}"  # other arguments, other results
    data = args.out / "data" / "data.yaml"
    if not data.exists():
        write_dataset(
            data.parent, train_sequences=args.sequences, val_sequences=args.val_sequences, frames_per_sequence=16
        )
    results = {
        track: np.array([measure(args, data, seed, track) for seed in args.seeds]) * 100 for track in (False, True)
    }
    print(table(results, args.seeds))


def parse() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=lambda path: Path(path).absolute(), required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sequences", type=int, default=64, help="training sequences of 16 frames")
    parser.add_argument("--val-sequences", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--imgsz", type=int, default=128)
    parser.add_argument("--share", type=float, default=trainer.PAIR_SHARE, help="of a batch that is pairs of views")
    return parser.parse_args()


def measure(args: argparse.Namespace, data: Path, seed: int, track: bool) -> list[float]:
    """Return box, mask and keypoint AP of one training, in 0..1."""
    name = f"{'with' if track else 'without'}-{seed}" + (f"-share-{args.share:g}" if track else "")
    done = args.out / f"{name}.json"
    if not done.exists():
        model = MultiTaskYOLO("demo-multitask.yaml")
        model.add_callback("on_train_batch_start", rate_schedule(0.06))
        common: dict[str, Any] = {"data": str(data), "imgsz": args.imgsz, "batch": 16, "device": "cpu"}
        model.train(
            **{**TRAINING, **common},
            nbs=16,
            lr0=0.002,
            epochs=args.epochs,
            seed=seed,
            track=track,
            project=str(args.out),
            name=name,
            exist_ok=True,
        )
        metrics = MultiTaskYOLO(args.out / name / "weights" / "last.pt").val(
            **common, track=False, rect=True, plots=False, workers=0, project=str(args.out), name=f"{name}-val"
        )
        done.write_text(json.dumps([float(metrics.results_dict[key]) for key in COLUMNS.values()]))
    values: list[float] = json.loads(done.read_text())
    return values


def table(results: dict[bool, Any], seeds: list[int]) -> str:
    """Return a Markdown table: a row per seed, the mean, and the differences with their standard deviation.

    Args:
        results: AP in percent, (seeds, 3), without and with the track branch.
        seeds: The seeds.
    """
    lines = ["| seed | " + " | ".join(f"{c} without / with" for c in COLUMNS) + " |", "|---|" + "---:|" * len(COLUMNS)]
    pairs = np.stack((results[False], results[True]), -1)  # (seeds, 3, 2)
    for name, row in [*zip(seeds, pairs, strict=True), ("mean", pairs.mean(0))]:
        lines.append(f"| {name} | " + " | ".join(f"{without:.1f} / {with_:.1f}" for without, with_ in row) + " |")
    difference = results[True] - results[False]
    spread = difference.std(0, ddof=1) if len(seeds) > 1 else np.full(3, np.nan)
    cells = (f"{mean:+.2f} ± {sd:.2f}" for mean, sd in zip(difference.mean(0), spread, strict=True))
    lines.append("| difference, mean ± standard deviation | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
