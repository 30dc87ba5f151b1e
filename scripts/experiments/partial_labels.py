r"""What partial labels cost: the same images with all labels, with halves of them, and with one half alone.

    python scripts/experiments/partial_labels.py --out runs/partial-tasks --questions tasks balance --epochs 48
    python scripts/experiments/partial_labels.py --out runs/partial-classes --questions classes --balls 2 --epochs 24
    python scripts/experiments/partial_labels.py --out runs/partial-coco --questions tasks balance \
        --data persons/data.yaml --model yolov8n-multitask.yaml --pretrained yolov8n-pose.pt yolov8n-seg.pt \
        --imgsz 320 --epochs 6 --lr 0.0001

The questions:

- tasks: polygons on one half of the images and keypoints on the other, beside all labels and beside each half alone.
- classes: each half of the images labels every other class, beside all labels and beside the same files taken as if
  they were complete, so that what is missing is background.
- balance: `balance=uncertainty` beside the fixed gains, on all labels and on half of the tasks each.

Without `--data` a synthetic world is rendered, 512 frames of 128 scenes. A half is the first or the last half of the
images by name, so that no scene is in both. Every variant takes as many steps; one half alone also half as many, where
it sees each of its labels as often as both halves together do. Finished trainings are kept in the output folder and
not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ultralytics.data.utils import IMG_FORMATS, img2label_paths

from yolo_multitask import MultiTaskYOLO
from yolo_multitask.data.config import load_data
from yolo_multitask.data.labels import Labels, read_labels, write_labels
from yolo_multitask.data.synthetic import WorldConfig, write_dataset
from yolo_multitask.demo import TRAINING, rate_schedule

COLUMNS = {"box": "metrics/mAP50-95(B)", "mask": "metrics/mAP50-95(M)", "pose": "metrics/mAP50-95(P)"}
QUESTIONS = ("tasks", "classes", "balance")
FEWER = ", half the steps"
FIRST, SECOND = {"tasks": ["detect", "segment"]}, {"tasks": ["detect", "pose"]}


def main() -> None:
    """Read the arguments, train what is missing, print the tables."""
    args = parse()
    args.rect = args.data is None  # rendered pictures are of one shape, so that nothing needs padding
    if args.data is None:
        args.data = args.out / "data" / "data.yaml"
        if not args.data.exists():
            world = WorldConfig(objects=args.balls)
            write_dataset(args.data.parent, train_sequences=128, val_sequences=128, frames_per_sequence=4, config=world)
    variants = write_variants(args.out / "variants", load_data(args.data), args.questions)
    runs = [(name, "fixed") for name in variants]
    if "balance" in args.questions:
        runs += [(name, "uncertainty") for name in ("all labels", "half of the tasks each")]
    print(f"| labels | balance | {' | '.join(COLUMNS)} |\n|---|---|" + "--:|" * len(COLUMNS))
    for name, balance in runs:
        values = np.array([measure(args, variants[name], name, balance, seed) for seed in args.seeds]) * 100
        cells = (f"{m:.1f} ± {s:.1f}" for m, s in zip(values.mean(0), values.std(0), strict=True))
        print(f"| {name} | {balance} | {' | '.join(cells)} |", flush=True)


def parse() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--out", type=lambda path: Path(path).absolute(), required=True)
    add("--data", type=lambda path: Path(path).absolute(), help="multitask data YAML that is labelled for everything")
    add("--questions", nargs="+", choices=QUESTIONS, default=QUESTIONS)
    add("--balls", type=int, default=0, help="a second class in the rendered world: how many a scene")
    add("--model", default="demo-multitask.yaml")
    add("--pretrained", nargs="+", default=[], help="checkpoints to start from")
    add("--seeds", type=int, nargs="+", default=[0])
    add("--epochs", type=int, default=24)
    add("--imgsz", type=int, default=128)
    add("--batch", type=int, default=16)
    add("--lr", type=float, default=0.002)
    return parser.parse_args()


def write_variants(out: Path, data: dict[str, Any], questions: Sequence[str]) -> dict[str, Path]:
    """Write data YAMLs that take the same images with other labels; return them by name.

    Args:
        out: Folder to write to.
        data: What is labelled for everything, loaded.
        questions: Which of `QUESTIONS` to answer.
    """
    out.mkdir(parents=True, exist_ok=True)
    images = find_images(data["train"])
    middle = len(images) // 2
    halves = {"first": images[:middle], "second": images[middle:], "all": images}
    for name, members in halves.items():
        (out / f"{name}.txt").write_text("\n".join(members))
    names = list(data["names"].values())
    even, odd = {"classes": names[::2]}, {"classes": names[1::2]}
    lists: dict[str, list[tuple[str, Any]]] = {"all labels": [("all", {})]}
    if {"tasks", "balance"} & set(questions):
        lists["half of the tasks each"] = [("first", FIRST), ("second", SECOND)]
    if "tasks" in questions:
        lists["polygons of one half alone"] = [("first", FIRST)]
        lists["keypoints of one half alone"] = [("second", SECOND)]
        lists |= {f"{name}{FEWER}": lists[name] for name in list(lists) if "alone" in name}
    two_classes = "classes" in questions and len(names) > 1
    if two_classes:
        lists["half of the classes each"] = [("first", even), ("second", odd)]
    files = {}
    keep = ("names", "kpt_shape", "flip_idx", "kpt_names", "kpt_classes", "kpt_oks_sigmas")
    common = {k: data[k] for k in keep if data.get(k) is not None}
    common["labels"] = {"keypoints": True, "polygons": True, "ids": data["label_spec"].ids}
    for name, listed in lists.items():
        train = [{"path": str(out / f"{half}.txt"), **keys} for half, keys in listed]
        files[name] = write_yaml(out / f"{name.replace(' ', '-')}.yaml", train, data["val"], common)
    if two_classes:
        folder = write_naive(out / "naive", halves, data)
        files["half of the classes each, the rest as background"] = write_yaml(
            out / "naive.yaml", [str(folder)], data["val"], common
        )
    return files


def write_yaml(file: Path, train: Any, val: Any, common: dict[str, Any]) -> Path:
    """Write a data YAML and return it."""
    file.write_text(yaml.safe_dump({"train": train, "val": val, **common}, sort_keys=False))
    return file


def find_images(path: str | list[str]) -> list[str]:
    """Return all images below folders, sorted."""
    folders = path if isinstance(path, list) else [path]
    return sorted(str(f) for folder in folders for f in Path(folder).rglob("*") if f.suffix[1:].lower() in IMG_FORMATS)


def write_naive(out: Path, halves: dict[str, list[str]], data: dict[str, Any]) -> Path:
    """Write the images once more, each half with every other class alone; return the folder of images."""
    spec = data["label_spec"]
    for first, name in enumerate(("first", "second")):
        for number, file in enumerate(halves[name]):
            target = out / "images" / name / f"{number:06d}{Path(file).suffix}"
            if target.exists():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            labels, _ = read_labels(img2label_paths([file])[0], spec)
            kept = [replace(i) for i in labels if i.cls % 2 == first or i.ignore]
            write_labels(out / "labels" / name / f"{number:06d}.txt", Labels.from_instances(kept, spec), spec)
            os.link(os.path.realpath(file), target)
    return out / "images"


def measure(args: argparse.Namespace, data: Path, name: str, balance: str, seed: int) -> list[float]:
    """Return box, mask and keypoint AP of one training, in 0..1; as many steps for every variant."""
    run = f"{name.replace(' ', '-')}-{balance}-{seed}"
    done = args.out / f"{run}.json"
    if not done.exists():
        epochs = args.epochs * (2 if name.endswith("alone") else 1)  # of half as many images
        model = MultiTaskYOLO(args.model)
        model.add_callback("on_train_batch_start", rate_schedule(0.06))
        common: dict[str, Any] = {"imgsz": args.imgsz, "batch": args.batch, "device": "cpu", "project": str(args.out)}
        pretrained = {"pretrained": args.pretrained} if args.pretrained else {}
        settings = {**TRAINING, **common, **pretrained, "data": str(data), "nbs": args.batch, "lr0": args.lr}
        settings |= {"track": False, "balance": balance, "seed": seed, "epochs": epochs, "name": run, "exist_ok": True}
        settings["rect"] = args.rect
        model.train(**settings)
        trained = MultiTaskYOLO(args.out / run / "weights" / "last.pt")
        quiet = {"plots": False, "workers": 0, "rect": True, "track": False}
        metrics = trained.val(**common, **quiet, data=str(args.data), name=f"{run}-val", exist_ok=True)
        done.write_text(json.dumps([metrics.results_dict.get(key, 0.0) for key in COLUMNS.values()]))
    values: list[float] = json.loads(done.read_text())
    return values


if __name__ == "__main__":
    main()
