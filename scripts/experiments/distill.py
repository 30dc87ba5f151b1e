"""Two deployed networks become one without labels: what it keeps of each, by the number of images and of hours.

    python scripts/experiments/distill.py --data DIR --images 32 130 --frames 50 --hours 1 --out runs/distill

DIR holds `coco-mini/` (annotations and images), `weights/` (`yolov8n-seg.pt`, `yolov8n-pose.pt`), and where `--frames`
is not 0 `mot/PETS09-S2L1-a/` and `video/*.mp4`. The student, a `yolov8n-multitask`, learns from the networks alone, on
images without labels; it and its teachers are measured on the validation images of coco-mini, with all classes. Each
number of images is a run of its own, and none is run twice: what is finished is read, so it can be started again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
import yaml
from coco_data import make_data

from yolo_multitask import MultiTaskYOLO


def write_source(root: Path, data: Path, images: int, frames: int, file: Path) -> Path:
    """Write the list of pictures to learn from: images of coco-mini, evenly spread, and frames of each video."""
    listed = spread(sorted((data.parent / "images/train").resolve().iterdir()), images)
    if frames:
        listed += spread(sorted((root / "mot/PETS09-S2L1-a").rglob("*.jpg")), frames)
        listed += sorted((root / "video").glob("*.mp4"))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(map(str, listed)), encoding="utf-8")
    return file


def spread(files: list[Path], count: int) -> list[Path]:
    """Return at most `count` of some files, evenly spread."""
    return files if count >= len(files) else [files[i * len(files) // count] for i in range(count)]


def run(args: argparse.Namespace, data: Path, images: int) -> dict[str, Any]:
    """Distil on so many images, or read the run that did; return its report."""
    name = f"{args.tag or 'run'}-{args.imgsz}-{images}-{args.frames}"
    finished = args.out / name / "distill.json"
    if not finished.exists():
        source = write_source(args.data, data, images, args.frames, args.out / f"{name}.txt")
        weights = args.data / "weights"
        last = args.out / name / "weights" / "last.pt"
        given: dict[str, Any] = {
            "pose": str(weights / "yolov8n-pose.pt"), "segment": str(weights / "yolov8n-seg.pt"), "source": str(source),
            "data": str(data), "supervised": False, "imgsz": args.imgsz, "batch": args.batch, "frozen": args.frozen,
            "views": args.views, "fit": args.fit, "frames": max(args.frames, 1), "lessons": str(args.out / "lessons"),
            "lr0": args.lr, "device": "cpu", "project": str(args.out), "name": name, "exist_ok": True, "plots": False,
            "verbose": False, **({"time": args.hours} if args.hours else {"epochs": args.epochs}),
        }  # fmt: skip
        if last.exists() and torch.load(last, weights_only=False, map_location="cpu")["epoch"] >= 0:
            given |= {"resume": str(last)}
        MultiTaskYOLO("yolov8n-multitask.yaml").distill(**given)
    return {"images": images, **json.loads(finished.read_text())}


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder with coco-mini/, weights/, mot/, video/")
    add("--out", type=Path, default=Path("runs/distill"))
    add("--images", type=int, nargs="+", default=[130], help="images of coco-mini to learn from, a run each")
    add("--frames", type=int, default=50, help="frames of each video beside them")
    add("--imgsz", type=int, default=320)
    add("--batch", type=int, default=8)
    add("--epochs", type=int, default=20)
    add("--hours", type=float, default=None, help="in the place of --epochs")
    add("--frozen", type=float, default=0.5)
    add("--views", type=int, default=4)
    add("--fit", type=int, default=400)
    add("--lr", type=float, default=1e-3)
    add("--tag", default="", help="name of the runs, for other settings of the same size")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out, args.data = args.out.resolve(), args.data.resolve()
    data = make_data(args.data, args.out / "data")
    results = [run(args, data, images) for images in args.images]
    (args.out / "results.json").write_text(json.dumps(results, indent=1))
    print(yaml.safe_dump(vars(args) | {"data": str(args.data), "out": str(args.out)}, sort_keys=False))
    for result in results:
        cells = [f"{r['what']} {r['student']:.3f} of {r['taught']:.3f} ({r['share']:.0%})" for r in result["rows"]]
        print(f"{result['images']:>5} images: " + ", ".join(cells))


if __name__ == "__main__":
    main()
