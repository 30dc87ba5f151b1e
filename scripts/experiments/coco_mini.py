"""One multitask training beside its single-task twins on a small COCO subset, with paired bootstrap differences.

    python scripts/experiments/coco_mini.py --data DIR --imgsz 320 --epochs 10 --lr 2e-4 --out runs/coco-mini

DIR holds `coco-mini/` (annotations and images) and `weights/` (`yolov8n-seg.pt`, `yolov8n-pose.pt`). Three networks
see the same person-only images for the same number of steps with the same schedule: stock `yolov8n-seg`, stock
`yolov8n-pose`, and `yolov8n-multitask` loaded from both. All three are validated by the same code on the same labels
(stock networks through a model with one branch, whose outputs are theirs to the last bit). `--folds K` trains on K -
1 parts of the training images and validates on the rest instead, to choose a schedule without touching the
validation images.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from ultralytics import YOLO
from ultralytics.utils.metrics import ap_per_class

from yolo_multitask import MultiTaskYOLO
from yolo_multitask.data.convert.coco import convert_coco
from yolo_multitask.data.labels import LabelSpec, read_labels, write_labels
from yolo_multitask.engine.validator import MultiTaskValidator
from yolo_multitask.nn.network import MultiTaskModel

SUFFIX = {"detect": "", "segment": "_m", "pose": "_p"}
AUGMENT = {"mosaic": 0.0, "scale": 0.3, "translate": 0.1, "hsv_v": 0.2, "hsv_s": 0.3}


class RecordingValidator(MultiTaskValidator):
    """A validator that keeps each image's statistics, for resampling."""

    images: dict[str, list[Any]]

    def get_stats(self) -> dict[str, Any]:
        """Keep a copy of the statistics before the host clears them."""
        self.images = {k: list(v) for k, v in self.metrics.stats.items()}
        return super().get_stats()


def make_data(root: Path, out: Path) -> Path:
    """Convert the persons of coco-mini to one multitask set and two stock ones; return their folder."""
    if not (out / "multitask").exists():
        mini = root / "coco-mini"
        for split in ("train", "val"):
            convert_coco(
                instances=mini / "annotations" / f"instances_{split}.json",
                keypoints=mini / "annotations" / f"person_keypoints_{split}.json",
                images=mini / "images" / split,
                out=out / "multitask",
                split=split,
                classes=["person"],
            )
    spec = LabelSpec(nc=1, kpt_shape=(17, 3), polygons=True)
    for name in ("segment", "pose"):
        if (out / name).exists():
            continue
        stock = LabelSpec(nc=1, kpt_shape=(17, 3) if name == "pose" else None, polygons=name == "segment", format=name)
        for split in ("train", "val"):
            (out / name / "labels" / split).mkdir(parents=True)
            shutil.copytree(out / "multitask/images" / split, out / name / "images" / split, copy_function=os.link)
            for file in (out / "multitask/labels" / split).glob("*.txt"):
                labels, problems = read_labels(file, spec)
                assert not problems
                keep = labels.has_keypoints if name == "pose" else labels.has_polygon
                drop = {"polygon": None} if name == "pose" else {"keypoints": None}
                kept = [
                    replace(x, **drop)
                    for x, k, ignore in zip(labels, keep, labels.ignore, strict=True)
                    if k and not ignore
                ]
                write_labels(out / name / "labels" / split / file.name, type(labels).from_instances(kept, stock), stock)
    return out


def write_yaml(data: Path, name: str, train: list[str], val: list[str], file: Path) -> Path:
    """Write a data YAML of the set `name` for lists of image names, given with their split folder."""
    for part, images in (("train", train), ("val", val)):
        paths = [str((data / name / "images" / image).resolve()) for image in images]
        file.with_name(f"{file.stem}-{part}.txt").write_text("\n".join(paths))
    content: dict[str, Any] = {
        "path": str(file.parent.resolve()),
        "train": f"{file.stem}-train.txt",
        "val": f"{file.stem}-val.txt",
        "names": {0: "person"},
    }
    if name != "segment":
        content["kpt_shape"] = [17, 3]
        content["flip_idx"] = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
    if name == "multitask":
        content["labels"] = {"keypoints": True, "polygons": True}
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file


def evaluate(model: torch.nn.Module, data: Path, args: argparse.Namespace) -> dict[str, list[Any]]:
    """Validate a stock or multitask network on the multitask labels; return the statistics of each image."""
    tasks = {"Segment": ("segment",), "Pose": ("pose",)}.get(type(model.model[-1]).__name__)
    if tasks is not None:
        ours = MultiTaskModel("yolov8n-multitask.yaml", nc=len(model.names), tasks=tasks, verbose=False)
        ours.names = dict(model.names)
        ours.load(model, verbose=False)
        model = ours
    if len(model.names) != 1:  # an untrained stock checkpoint: keep its class row of the same name
        single = MultiTaskModel("yolov8n-multitask.yaml", nc=1, tasks=model.tasks, verbose=False)
        single.names = {0: "person"}
        single.load(model, verbose=False)
        model = single
    validator = RecordingValidator(
        args={"data": str(data), "imgsz": args.imgsz, "batch": 8, "plots": False, "rect": True, "verbose": False,
              "project": str(args.out / "val"), "exist_ok": True, "mode": "val", "model": "in memory"}
    )  # fmt: skip
    validator(model=model.eval())
    return validator.images


def average_precision(images: dict[str, list[Any]], task: str, chosen: np.ndarray) -> float:
    """Return the mAP50-95 of a task over a (re)sample of the images, by index."""
    suffix = SUFFIX[task]
    tp, conf, cls, target = (
        np.concatenate([images[f"{key}{suffix}"][i] for i in chosen])
        for key in ("tp", "conf", "pred_cls", "target_cls")
    )
    return float(ap_per_class(tp, conf, cls, target)[5].mean()) if len(target) else float("nan")


def bootstrap(
    ours: dict[str, list[Any]], twin: dict[str, list[Any]], task: str, draws: int = 1000, seed: int = 0
) -> dict[str, float]:
    """Return both APs, their bootstrap errors, and the paired difference with its 90% interval."""
    count = len(ours["tp"])
    rng = np.random.default_rng(seed)
    samples = [rng.integers(0, count, count) for _ in range(draws)]
    a, b = (np.array([average_precision(x, task, s) for s in samples]) for x in (ours, twin))
    low, high = np.quantile(a - b, [0.05, 0.95])
    everything = np.arange(count)
    whole, twin_whole = (average_precision(x, task, everything) for x in (ours, twin))
    return {
        "multitask": whole,
        "multitask_error": float(a.std()),
        "twin": twin_whole,
        "twin_error": float(b.std()),
        "difference": whole - twin_whole,
        "low": float(low),
        "high": float(high),
        "half_width": float((high - low) / 2),
    }


def join(parts: list[dict[str, list[Any]]]) -> dict[str, list[Any]]:
    """Pool the images of several validations."""
    return {k: [x for part in parts for x in part[k]] for k in parts[0]}


def train(kind: str, yamls: dict[str, Path], args: argparse.Namespace, tag: str) -> torch.nn.Module:
    """Train one of the three networks with the common schedule; return the last weights."""
    seg, pose = (args.data / "weights" / f"yolov8n-{x}.pt" for x in ("seg", "pose"))
    common = {
        "epochs": args.epochs, "imgsz": args.imgsz, "batch": args.batch, "nbs": args.batch, "optimizer": "AdamW",
        "lr0": args.lr, "lrf": 0.05, "cos_lr": True, "warmup_epochs": 1.0, "warmup_bias_lr": 0.0, "weight_decay": 5e-4,
        "patience": 0, "val": False, "plots": False, "seed": args.seed, "close_mosaic": 0, "amp": False,
        "project": str(args.out / "train"), "exist_ok": True, "verbose": False, **AUGMENT,
    }  # fmt: skip
    done = args.out / "train" / f"{tag}-{kind}" / "weights" / "last.pt"
    if args.reuse and done.exists():
        return MultiTaskYOLO(done).model.float()
    model = (
        YOLO(seg) if kind == "segment" else YOLO(pose) if kind == "pose" else MultiTaskYOLO("yolov8n-multitask.yaml")
    )
    if kind == "multitask":
        model.load([pose, seg] if args.first == "pose" else [seg, pose])
    if kind == "multitask" and args.frozen_epochs:
        # The branch that stands on a foreign trunk learns alone first; everything else keeps its weights.
        kept = "pose" if args.first == "pose" else "segment"
        alone = common | {"epochs": args.frozen_epochs, "lr0": args.frozen_lr, "mosaic": 0.5, "name": f"{tag}-frozen"}
        frozen = [
            *range(model.model.head.i),
            *(f"{model.model.head.i}.{part}" for part in ("cv2", "cv3", f"branches.{kept}")),
        ]
        teacher = [str(seg if kept == "pose" else pose)]
        model.train(data=str(yamls[kind]), freeze=frozen, teachers=teacher, track=False, **alone)
        model = MultiTaskYOLO(args.out / "train" / f"{tag}-frozen" / "weights" / "last.pt")
    if args.epochs:
        extra = (
            {"teachers": [str(seg), str(pose)], "distill": args.distill} if kind == "multitask" and args.distill else {}
        )
        model.train(data=str(yamls[kind]), name=f"{tag}-{kind}", **common, **extra)
        model = type(model)(done)
    return model.model.float()


def main() -> None:
    """Run the experiment and write `results.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with coco-mini/ and weights/")
    parser.add_argument("--out", type=Path, default=Path("runs/coco-mini"))
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--epochs", type=int, default=10, help="0 measures the checkpoints as they are")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--folds", type=int, default=0, help="cross-validate on the training images")
    parser.add_argument("--only-fold", type=int, default=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", choices=["seg", "pose"], default="seg", help="checkpoint that gives trunk and boxes")
    parser.add_argument("--distill", type=float, default=0.0, help="gain of the distillation from both checkpoints")
    parser.add_argument("--frozen-epochs", type=int, default=0, help="epochs for the foreign branch alone")
    parser.add_argument("--frozen-lr", type=float, default=2e-3)
    parser.add_argument("--reuse", action="store_true", help="take networks that an earlier call has trained")
    parser.add_argument("--kinds", nargs="+", default=["segment", "pose", "multitask"])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.out = args.out.resolve()
    args.out.mkdir(parents=True, exist_ok=True)
    data = make_data(args.data, args.out / "data")
    images = {s: sorted(f"{s}/{p.name}" for p in (data / "multitask/images" / s).iterdir()) for s in ("train", "val")}
    order = np.random.default_rng(0).permutation(len(images["train"]))
    if args.folds:
        held = [set(order[i :: args.folds]) for i in range(args.folds)]
        splits = [
            (
                [x for i, x in enumerate(images["train"]) if i not in h],
                [x for i, x in enumerate(images["train"]) if i in h],
            )
            for h in held
        ]
        if args.only_fold is not None:
            splits = [splits[args.only_fold]]
    else:
        splits = [(images["train"], images["val"])]
    recorded: dict[str, list[dict[str, list[Any]]]] = {kind: [] for kind in args.kinds}
    for number, (train_images, val_images) in enumerate(splits):
        tag = f"{args.imgsz}-{args.epochs}-{args.lr}-{args.first}-{args.distill}-{args.frozen_epochs}-{number}"
        yamls = {
            name: write_yaml(data, name, train_images, val_images, data / f"{name}-{tag}.yaml")
            for name in ("multitask", "segment", "pose")
        }
        for kind in args.kinds:
            recorded[kind].append(evaluate(train(kind, yamls, args, tag), yamls["multitask"], args))
    pooled = {kind: join(parts) for kind, parts in recorded.items()}
    results: dict[str, Any] = {"settings": {k: str(v) for k, v in vars(args).items()}, "ap": {}, "paired": {}}
    for kind, stats in pooled.items():
        everything = np.arange(len(stats["tp"]))
        results["ap"][kind] = {
            task: average_precision(stats, task, everything) for task in SUFFIX if f"tp{SUFFIX[task]}" in stats
        }
    if "multitask" in pooled:
        for task, twin in (("detect", "segment"), ("segment", "segment"), ("pose", "pose")):
            if twin in pooled:
                results["paired"][task] = bootstrap(pooled["multitask"], pooled[twin], task)
    settings = (args.imgsz, args.epochs, args.lr, args.first, args.distill, args.frozen_epochs, args.folds)
    name = f"results-{'-'.join(map(str, settings))}.json"
    (args.out / name).write_text(json.dumps(results, indent=1))
    print(json.dumps(results["ap"]))
    print("task     multitask        twin             difference  90% interval       half-width")
    for task, r in results["paired"].items():
        print(
            f"{task:<8} {r['multitask']:.3f} ± {r['multitask_error']:.3f}    {r['twin']:.3f} ± {r['twin_error']:.3f}"
            f"    {r['difference']:+.3f}      [{r['low']:+.3f}, {r['high']:+.3f}]   {r['half_width']:.3f}"
        )


if __name__ == "__main__":
    main()
