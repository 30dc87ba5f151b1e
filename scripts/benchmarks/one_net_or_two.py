"""One network or two: what boxes, masks and keypoints cost from one multitask network and from two stock ones.

For each model, `yolov8n-multitask` with all its tasks is compared to `yolov8n-pose` and `yolov8n-seg` run one after the
other: parameters, GFLOPs at 640 x 640, the latency of the fused forward pass (torch eager, CPU, batch 1, square input),
and that of a whole `predict` of an image (reading the array, letterbox, forward, NMS, masks, `Results`). Both ways are
timed in turn (A B A B ...) in one process; a ratio below 1 means that one network is cheaper.

Weights are random unless `--weights` names a folder with checkpoints: nothing is downloaded.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from timing import Comparison, alternate, available_cores, load_average, machine, positive, progress, write_json

COMPARED = ("segment", "pose")  # branches of the one network: what the two networks give
KEPT, CANDIDATES = 20, 200  # detections of a random network, and the anchors that enter its NMS
FLOPS_SIZE = 640


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A network, fused, and the arguments of its `predict`."""

    model: Any
    predict: dict[str, Any]

    @property
    def network(self) -> Any:
        """The fused `torch.nn.Module`."""
        return self.model.model

    @property
    def parameters(self) -> int:
        """Number of parameters after fusion."""
        return sum(p.numel() for p in self.network.parameters())


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; a wrong argument ends the process with exit code 2."""
    parser = argparse.ArgumentParser(description=" ".join((__doc__ or "").split("\n\n")[0].split()))
    add = parser.add_argument
    add("--families", nargs="+", default=["yolov8", "yolo11"], help="model families (default: yolov8 yolo11)")
    add("--scales", nargs="+", default=["n", "s", "m"], help="model scales (default: n s m)")
    add("--nc", nargs="+", type=positive, help="numbers of classes; the pose network always has 1 (default: 1)")
    add("--imgsz", type=positive, default=640, help="input size in pixels, a multiple of 32 (default: %(default)s)")
    add("--runs", type=positive, default=10, help="timed runs of each way (default: %(default)s)")
    add("--warmup", type=positive, default=1, help="runs of each way that are not timed (default: %(default)s)")
    add("--threads", type=positive, default=available_cores(), help="threads of torch (default: all cores)")
    add("--weights", type=Path, help="folder with FAMILYSCALE-seg.pt and -pose.pt (default: random weights)")
    add("--image", type=Path, help="image for predict (default: the bus.jpg that ultralytics brings)")
    add("--json", type=Path, help="file to write all figures to (default: none)")
    args = parser.parse_args(argv)
    if args.imgsz % 32:
        parser.error(f"--imgsz must be a multiple of 32, got {args.imgsz}.")
    if args.weights and args.nc:
        parser.error("--nc cannot be combined with --weights: the checkpoints say how many classes they have.")
    return args


def check_models(args: argparse.Namespace) -> None:
    """Check, before anything is measured, that every model and checkpoint asked for exists.

    Raises:
        FileNotFoundError: If one does not.
    """
    from yolo_multitask.nn.network import load_model_yaml

    for family in args.families:
        for scale in args.scales:
            load_model_yaml(f"{family}{scale}-multitask.yaml")
            wanted = [f"{family}{scale}-{task}.pt" for task in ("seg", "pose")] if args.weights else []
            if missing := [name for name in wanted if not (args.weights / name).is_file()]:
                raise FileNotFoundError(
                    f"'{args.weights}' has no {' and no '.join(missing)}; put the checkpoint there, or choose other "
                    "--families and --scales."
                )


def random_contender(name: str, nc: int, image: Any, imgsz: int) -> Contender:
    """Build a network with random weights that finds `KEPT` objects in `image`, whatever it shows.

    Args:
        name: Model YAML, stock or of this package.
        nc: Number of classes.
        image: Image (H, W, 3), uint8 BGR.
        imgsz: Input size of `predict` in pixels.
    """
    from yolo_multitask import MultiTaskYOLO

    model = MultiTaskYOLO(name)
    tasks = {"tasks": COMPARED} if model.task == "multitask" else {}
    network = type(model.model)(name, nc=nc, verbose=False, **tasks)
    network.args, network.task = model.model.args, model.task
    model.model = network
    settle(network, image, imgsz)
    network.fuse(verbose=False)
    common = {"imgsz": imgsz, "device": "cpu", "verbose": False}
    loose = model.predict(image, conf=1e-9, iou=1.0, max_det=CANDIDATES, **common)[0]
    return Contender(model=model, predict={**common, "conf": float(loose.boxes.conf.min()), "max_det": KEPT})


def settle(network: Any, image: Any, imgsz: int) -> None:
    """Give every BatchNorm the statistics of `image` (H, W, 3) and its mirror image at `imgsz` pixels.

    With those that it starts with, activations fade from layer to layer into denormal numbers, which are slow on a CPU;
    with those of other pictures, scores saturate at 1, where no threshold separates them.
    """
    import cv2
    import torch

    x = torch.from_numpy(cv2.resize(image, (imgsz, imgsz))).permute(2, 0, 1).flip(0)[None] / 255
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    momenta = [m.momentum for m in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.cat([x, x.flip(3)]))
    network.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def trained_contenders(name: str, weights: Path, imgsz: int) -> dict[str, Contender]:
    """Load the stock checkpoints of a model and a multitask network made from them, by task.

    The multitask network has the trunk of the segmentation checkpoint, so its keypoints are not meant to be right; it
    does the work of a trained one.
    """
    from yolo_multitask import MultiTaskYOLO
    from yolo_multitask.nn.network import MultiTaskModel

    segment, pose = (MultiTaskYOLO(str(weights / f"{name}-{task}.pt")) for task in ("seg", "pose"))
    joint = MultiTaskYOLO(f"{name}-multitask.yaml")
    network = MultiTaskModel(
        f"{name}-multitask.yaml",
        nc=len(segment.names),
        kpt_shape=tuple(pose.model.kpt_shape),
        tasks=COMPARED,
        verbose=False,
    )
    network.load([segment.model, pose.model], verbose=False)
    network.args, network.task = joint.model.args, joint.task
    joint.model = network.eval()
    predict = {"imgsz": imgsz, "device": "cpu", "verbose": False, "conf": 0.25}
    models = {"multitask": joint, "pose": pose, "seg": segment}
    for model in models.values():
        model.model.fuse(verbose=False)
    return {task: Contender(model=model, predict=predict) for task, model in models.items()}


def gflops(contender: Contender) -> float:
    """Return the GFLOPs of a fused network at `FLOPS_SIZE`, as the host measures them.

    Raises:
        RuntimeError: If the host cannot measure them.
    """
    from ultralytics.utils.torch_utils import get_flops

    value = float(get_flops(contender.network, FLOPS_SIZE))
    if not value:
        raise RuntimeError("GFLOPs were measured as 0: install ultralytics-thop, which Ultralytics counts them with.")
    return value


def time_forward(one: Sequence[Contender], two: Sequence[Contender], args: argparse.Namespace) -> Comparison:
    """Time the forward pass at batch 1 on a noise image of `args.imgsz`, in eager mode."""
    import torch

    image = torch.rand(1, 3, args.imgsz, args.imgsz)

    def forward(contenders: Sequence[Contender]) -> Callable[[], Any]:
        return lambda: [c.network(image) for c in contenders]

    with torch.inference_mode():
        return alternate(forward(one), forward(two), args.runs, args.warmup)


def time_predict(
    one: Sequence[Contender], two: Sequence[Contender], image: Any, args: argparse.Namespace
) -> tuple[Comparison, list[int]]:
    """Time `predict` of an image (H, W, 3); also return how many objects each network finds."""
    import torch

    def predict(contenders: Sequence[Contender]) -> Callable[[], Any]:
        return lambda: [c.model.predict(image, **c.predict)[0] for c in contenders]

    found = [len(result) for result in (*predict(one)(), *predict(two)())]
    torch.set_num_threads(args.threads)  # in case the host sets its own number when it sets a predictor up
    return alternate(predict(one), predict(two), args.runs, args.warmup), found


def measure(family: str, scale: str, nc: int, image: Any, args: argparse.Namespace) -> dict[str, Any]:
    """Return all figures of one model, by name."""
    name = f"{family}{scale}"
    if args.weights:
        nets = trained_contenders(name, args.weights, args.imgsz)
    else:
        classes = {"multitask": nc, "pose": 1, "seg": nc}
        nets = {t: random_contender(f"{name}-{t}.yaml", n, image, args.imgsz) for t, n in classes.items()}
    one, two = [nets["multitask"]], [nets["pose"], nets["seg"]]
    row: dict[str, Any] = {"family": family, "scale": scale, "nc": len(nets["multitask"].model.names)}
    for key, cost in (("parameters", lambda c: c.parameters), ("gflops", gflops)):
        first, second = (sum(cost(c) for c in contenders) for contenders in (one, two))
        row[key] = {"one": first, "two": second, "ratio": first / second}
    row["forward"] = time_forward(one, two, args).summary()
    comparison, found = time_predict(one, two, image, args)
    if not args.weights and not min(found):
        raise RuntimeError(
            f"{name}: random networks are to find {KEPT} objects each, found {found}; try other --image."
        )
    row["predict"] = comparison.summary()
    row["objects"] = dict(zip(nets, found, strict=True))
    return row


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the figures as a markdown table; in each cell one network, then two, then the ratio."""

    def cost(row: dict[str, Any], key: str, unit: float = 1.0) -> str:
        return f"{row[key]['one'] / unit:.1f} / {row[key]['two'] / unit:.1f} = {row[key]['ratio']:.2f}"

    def times(row: dict[str, Any], key: str) -> str:
        t = row[key]
        (low, high), (least, most) = t["ratio_quartiles"], t["ratio_range"]
        spread = f"[{low:.2f}–{high:.2f}] ({least:.2f}–{most:.2f})"
        return f"{t['one_ms']:.1f} / {t['two_ms']:.1f} = **{t['ratio']:.2f}** {spread}"

    lines = [
        f"| model | nc | parameters, M | GFLOPs at {FLOPS_SIZE} | forward, ms | predict, ms | objects |",
        "|---|--:|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [cost(row, "parameters", 1e6), cost(row, "gflops"), times(row, "forward"), times(row, "predict")]
        cells.append("{multitask} / {pose} + {seg}".format(**row["objects"]))
        lines.append(f"| {row['family']}{row['scale']} | {row['nc']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def notes(settings: dict[str, Any], place: dict[str, Any]) -> str:
    """Return what the table's cells mean and where they were measured."""
    return (
        "Each cell: one multitask network / stock pose + seg = ratio of the two; for times, medians "
        f"({settings['runs']} runs of each in turn after {settings['warmup']} to warm up), then quartiles [ ] and "
        "range ( ) of the ratio over neighbouring runs; objects found in predict.\n"
        f"{place['cpu']}, {place['cores']} cores, {settings['threads']} threads; torch {place['torch']}, "
        f"ultralytics {place['ultralytics']}, Python {place['python']}, yolo-multitask {place['yolo_multitask']}. "
        f"Load average {place['load_before']} before, {place['load_after']} after. Input {settings['imgsz']}, "
        f"batch 1, {settings['weights']} weights, image {settings['image']}."
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table and write the JSON file; return the exit code."""
    args = parse(argv)
    os.environ.setdefault("YOLO_OFFLINE", "true")  # nothing here needs the network

    import cv2
    import torch
    from ultralytics.utils import ASSETS, LOGGER

    LOGGER.setLevel(logging.WARNING)  # stdout is for the table
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    path = args.image or ASSETS / "bus.jpg"
    image = cv2.imread(str(path))
    if image is None:
        print(f"Image '{path}' cannot be read; give another with --image.", file=sys.stderr)
        return 2
    try:
        check_models(args)
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    place = {**machine(), "load_before": load_average()}
    rows = []
    for family in args.families:
        for scale in args.scales:
            for nc in args.nc or [1]:
                progress(f"{family}{scale}" + ("" if args.weights else f", nc={nc}"))
                try:
                    rows.append(measure(family, scale, nc, image, args))
                except RuntimeError as error:
                    print(error, file=sys.stderr)
                    return 1
                progress(json.dumps({k: rows[-1][k]["ratio"] for k in ("gflops", "forward", "predict")}))
    place["load_after"] = load_average()
    settings = {
        "imgsz": args.imgsz,
        "runs": args.runs,
        "warmup": args.warmup,
        "threads": torch.get_num_threads(),
        "weights": "trained" if args.weights else "random",
        "image": path.name,
    }
    print(f"{table(rows)}\n\n{notes(settings, place)}")
    if args.json:
        write_json(args.json, {"machine": place, "settings": settings, "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
