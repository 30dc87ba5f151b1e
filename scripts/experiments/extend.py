"""Keypoints added to a segmentation network with `extend`, beside fine-tuning all of it for as long.

    python scripts/experiments/extend.py --data DIR --out runs/extend --imgsz 320

DIR holds `coco-mini/` (annotations and images) and `weights/yolov8n-seg.pt`. Both networks see the 130 training images
of coco-mini, with all 80 classes, and are validated on its 64 validation images. `extend` trains the keypoint branch
alone; the other training has all branches and the usual loader, for the number of epochs that takes about as much
processor time. The table gives AP and its difference to the network as it was; `identical` says whether boxes, scores,
mask coefficients and prototypes of every validation image are the same to the last bit. Times are of the processor, so
that others at work on the machine do not count. `--fold K` trains and validates on parts of the training images, to
choose settings.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from coco_data import make_data

from yolo_multitask import MultiTaskYOLO, host
from yolo_multitask.engine.extend import multitask_network

FOLDS = 3
KEYS = {"box": "metrics/mAP50-95(B)", "mask": "metrics/mAP50-95(M)", "pose": "metrics/mAP50-95(P)"}
RUN: dict[str, Any] = {"device": "cpu", "plots": False, "verbose": False, "exist_ok": True, "workers": 0, "amp": False}


def make_fold(data: Path, fold: int) -> Path:
    """Write a data YAML that trains on two thirds of the training images and validates on the rest; return it."""
    files = sorted((data.parent / "images" / "train").iterdir())
    order = np.random.default_rng(0).permutation(len(files))
    held = set(order[fold::FOLDS].tolist())
    for name, part in (("train", set(range(len(files))) - held), ("val", held)):
        lines = [str(files[i].absolute()) for i in sorted(part)]
        (data.parent / f"fold{fold}-{name}.txt").write_text("\n".join(lines))
    content = yaml.safe_load(data.read_text()) | {"train": f"fold{fold}-train.txt", "val": f"fold{fold}-val.txt"}
    file = data.with_name(f"fold{fold}.yaml")
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file


def measure(network: torch.nn.Module, data: Path, args: argparse.Namespace) -> dict[str, float]:
    """Return box, mask and keypoint AP (mAP50-95) of a multitask network."""
    model = MultiTaskYOLO("yolov8n-multitask.yaml")
    model.adopt(network)
    found = model.val(data=str(data), imgsz=args.imgsz, batch=8, project=str(args.out / "val"), **RUN).results_dict
    return {name: float(found[key]) for name, key in KEYS.items() if key in found}


@torch.no_grad()
def same_outputs(before: torch.nn.Module, after: torch.nn.Module, images: list[Path], imgsz: int) -> bool:
    """Return whether all raw outputs of `before` are in those of `after` to the last bit, on every image."""
    for file in images:
        picture = cv2.resize(cv2.imread(str(file)), (imgsz, imgsz))
        x = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
        (_, old), (_, new) = before.eval()(x), after.eval()(x)
        if not all(torch.equal(old[k], new[k]) for k in ("boxes", "scores", "mask_coefficient", "proto")):
            return False
    return True


def train_branch(weights: Path, data: Path, args: argparse.Namespace) -> Path:
    """Add keypoints with `extend`; return the checkpoint."""
    model = MultiTaskYOLO(weights)
    model.extend(
        "pose", data=str(data), imgsz=args.imgsz, epochs=args.epochs, views=args.views, seed=args.seed,
        project=str(args.out / "train"), name="extend", **RUN, **json.loads(args.more),
    )  # fmt: skip
    return args.out / "train" / "extend" / "weights" / "best.pt"


def train_all(weights: Path, data: Path, args: argparse.Namespace) -> Path:
    """Train all branches from the same weights, the keypoints' fresh; return the checkpoint."""
    model = MultiTaskYOLO("yolov8n-multitask.yaml")
    model.load(str(weights))
    model.train(
        data=str(data), imgsz=args.imgsz, epochs=args.all_epochs, batch=16, nbs=16, optimizer="AdamW", lr0=args.all_lr,
        lrf=0.02, cos_lr=True, warmup_epochs=0.5, warmup_bias_lr=0.0, mosaic=0.0, track=False, patience=0, val=False,
        seed=args.seed, project=str(args.out / "train"), name="all", **RUN,
    )  # fmt: skip
    return args.out / "train" / "all" / "weights" / "last.pt"


def main() -> None:
    """Run the experiment, print the table and write `results.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with coco-mini/ and weights/")
    parser.add_argument("--out", type=Path, default=Path("runs/extend"))
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--epochs", type=int, default=20, help="of the branch alone")
    parser.add_argument("--views", type=int, default=12)
    parser.add_argument("--all-epochs", type=int, default=3, help="of the training of everything")
    parser.add_argument("--all-lr", type=float, default=5e-4)
    parser.add_argument("--more", default="{}", help="further arguments of extend, as JSON")
    parser.add_argument("--fold", type=int, default=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", default=["extend", "all"], choices=["extend", "all"])
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.out = args.out.resolve()
    data = make_data(args.data, args.out / "data")
    images = sorted((data.parent / "images" / "val").iterdir())
    if args.fold is not None:
        data = make_fold(data, args.fold)
    weights = args.data / "weights" / "yolov8n-seg.pt"
    before = multitask_network(host.load_network(weights), ("segment",))
    results: dict[str, Any] = {"before": {"minutes": 0.0, **measure(before, data, args)}}
    for kind in args.kinds:
        start = time.process_time()
        checkpoint = (train_branch if kind == "extend" else train_all)(weights, data, args)
        minutes = (time.process_time() - start) / 60
        network = host.load_network(checkpoint)
        same = same_outputs(multitask_network(host.load_network(weights), ("segment",)), network, images, args.imgsz)
        results[kind] = {"minutes": minutes, "identical": same, **measure(network, data, args)}
    (args.out / f"results-{'-'.join(args.kinds)}.json").write_text(json.dumps(results, indent=1))
    print("          minutes  box             mask            keypoints  identical")
    for kind, row in results.items():
        cells = [f"{row[n]:.3f} ({row[n] - results['before'][n]:+.3f})" for n in ("box", "mask")]
        pose = f"{row['pose']:.3f}" if "pose" in row else "-"
        print(f"{kind:<9} {row['minutes']:7.1f}  {'  '.join(cells)}  {pose:<9}  {row.get('identical', '-')}")


if __name__ == "__main__":
    main()
