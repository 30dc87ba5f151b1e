"""What leaving torch out is worth: `yolo_multitask.runtime` beside `MultiTaskYOLO`, each in processes of its own.

    python scripts/benchmarks/runtime.py
    python scripts/benchmarks/runtime.py --weights best.pt --source MOT17-02/img1 --imgsz 640 --frames 40
    python scripts/benchmarks/runtime.py --weights best.pt --model best.onnx --conf 0.25 --threads 1

Three ways find the objects of the same frames: the runtime with an exported file, `MultiTaskYOLO` with that file, and
`MultiTaskYOLO` with the checkpoint. In every round each way gets a new process, one after the other, which is timed
from its start to its first prediction, then predicts and tracks frames that are in memory. The table holds medians.

`--weights` is a random `yolov8n-multitask` by default, `--source` a rendered scene. Without `--model` the checkpoint is
exported with its NMS, which is faster on a CPU, and for any size, so that all ways give the network the same input.
Where other processes keep a core busy, the threads of onnxruntime wait for each other: `--threads 1` is steadier then,
and processor time steadier than frames a second.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

WAYS = ("runtime", "exported", "checkpoint")
TITLES = ("runtime", "MultiTaskYOLO, ONNX", "MultiTaskYOLO, .pt")
PACKAGES = ("numpy", "opencv-python-headless", "onnxruntime", "lap", "pyyaml")  # that the runtime imports
ROWS = {
    "start": "start to first prediction, s",
    "memory": "peak memory, MB",
    "disk": "packages on disk, MB",
    "predict": "predict, frames a second",
    "track": "track, frames a second",
    "predict_cpu": "predict, processor ms a frame",
    "track_cpu": "track, processor ms a frame",
    "objects": "objects a frame",
}
WARMUP = 2  # frames before those that are timed


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    from timing import positive

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--weights", type=Path, help="multitask checkpoint")
    add("--model", type=Path, help="the same as ONNX file")
    add("--source", help="folder of frames or video")
    add("--imgsz", type=positive, default=640)
    add("--conf", type=float, default=0.1)
    add("--frames", type=positive, default=30, help="frames that are timed")
    add("--rounds", type=positive, default=5, help="processes of each way")
    add("--threads", type=positive, help="of onnxruntime and PyTorch (default: theirs)")
    add("--json", type=Path)
    return parser.parse_args(argv)


def open_runtime(job: dict[str, Any]) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Return what predicts, and what tracks, an image with the runtime."""
    from yolo_multitask.runtime import Session

    session = Session(job["model"], threads=job["threads"])
    tracker = session.tracker()
    given = {"conf": job["conf"], "retina_masks": False, **({"imgsz": job["imgsz"]} if session.dynamic else {})}

    def predict(image: Any) -> Any:
        return session.predict(image, **given)

    return predict, lambda image: tracker.update(predict(image))


def open_torch(job: dict[str, Any], file: str) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Return what predicts, and what tracks, an image with `MultiTaskYOLO`."""
    from yolo_multitask import MultiTaskYOLO

    if job["threads"]:
        limit_threads(job["threads"])
    model = MultiTaskYOLO(file)
    given = {"conf": job["conf"], "imgsz": job["imgsz"], "device": "cpu", "verbose": False}

    def track(image: Any) -> Any:
        return model.track(image, persist=True, **given)[0]

    return lambda image: model.predict(image, **given)[0], track


def limit_threads(count: int) -> None:
    """Let every file that onnxruntime opens from now on run with so many threads, which the host cannot be told."""
    import onnxruntime

    load = onnxruntime.InferenceSession

    def load_with_threads(path: str, options: Any = None, **kwargs: Any) -> Any:
        options = options or onnxruntime.SessionOptions()
        options.intra_op_num_threads = count
        return load(path, options, **kwargs)

    onnxruntime.InferenceSession = load_with_threads


def work(job: dict[str, Any]) -> dict[str, Any]:
    """Do the work of one process; nothing that a way does not need is imported before its first prediction."""
    import numpy as np

    frames = np.load(job["frames"], mmap_mode="r")
    first = np.array(frames[0])
    if job["way"] == "runtime":
        predict, track = open_runtime(job)
    else:
        predict, track = open_torch(job, job["weights" if job["way"] == "checkpoint" else "model"])
    predict(first)
    out: dict[str, Any] = {"first": time.time()}
    if job["threads"] and job["way"] != "runtime":
        import torch

        torch.set_num_threads(job["threads"])  # the host has set its own number by now
    images = [np.array(frame) for frame in frames]
    for name, function in (("predict", predict), ("track", track)):
        times, spent, found = [], [], 0
        for i, image in enumerate(images):
            start, busy = time.perf_counter(), time.process_time()
            result = function(image)
            if i >= WARMUP:
                times.append(time.perf_counter() - start)
                spent.append(time.process_time() - busy)
                found += len(result)
        out[name], out[f"{name}_cpu"] = 1 / statistics.median(times), 1e3 * statistics.median(spent)
        out[f"{name}_objects"] = found / len(times)
    from yolo_multitask.benchmark.memory import peak_resident

    return {**out, "memory": peak_resident() or math.nan, "torch": "torch" in sys.modules}


def run(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Let a new process do a job, and return what it says."""
    (folder / "job.json").write_text(json.dumps(job))
    start = time.time()
    command = [sys.executable, str(Path(__file__).resolve()), "--job", str(folder / "job.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{job['way']}: {(done.stderr.strip() or 'no message').splitlines()[-1]}")
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**said, "start": said["first"] - start}


def prepare(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return the job of all ways: a checkpoint, an exported file, and the frames as an array (F, H, W, 3)."""
    import numpy as np

    from yolo_multitask import MultiTaskYOLO
    from yolo_multitask.data.synthetic import WorldConfig, write_clip
    from yolo_multitask.runtime import read_frames

    weights = args.weights or folder / "random.pt"
    if not args.weights:
        MultiTaskYOLO("yolov8n-multitask.yaml").save(weights)
    model = args.model
    if model is None:
        copy = folder / "exported.pt"
        copy.write_bytes(Path(weights).read_bytes())
        how = {"imgsz": args.imgsz, "dynamic": True, "nms": True, "conf": args.conf, "device": "cpu"}
        model = MultiTaskYOLO(copy).export(format="onnx", **how)
    count = args.frames + WARMUP
    source = args.source or write_clip(folder / "clip.avi", config=WorldConfig(width=640, height=480), frames=count)
    read = (frame.image for frame in read_frames(str(source)))
    np.save(folder / "frames.npy", np.stack([image for _, image in zip(range(count), read, strict=False)]))
    given = {"conf": args.conf, "imgsz": args.imgsz, "threads": args.threads}
    return {**given, "frames": str(folder / "frames.npy"), "weights": str(weights), "model": str(model)}


def disk(names: Iterable[str]) -> float:
    """Return what installed packages, with all that they require, take on the disk, in MB."""
    from packaging.requirements import Requirement

    waiting, seen, size = list(names), set(), 0
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in seen:
            continue
        seen.add(name)
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        size += sum(
            path.stat().st_size for file in found.files or () if (path := Path(found.locate_file(file))).is_file()
        )
        needed = [Requirement(text) for text in found.requires or ()]
        waiting += [r.name for r in needed if r.marker is None or r.marker.evaluate({"extra": ""})]
    return size / 1e6


def summary(said: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, float]]:
    """Return the figures of each row of the table, by way."""
    on_disk = {"runtime": disk(PACKAGES)} | dict.fromkeys(WAYS[1:], disk(["yolo-multitask"]))
    rows: dict[str, dict[str, float]] = {"disk": on_disk}
    for key in ROWS.keys() - {"disk"}:
        name = "predict_objects" if key == "objects" else key
        rows[key] = {way: statistics.median(each[name] for each in said[way]) for way in WAYS}
    return {key: rows[key] for key in ROWS}


def table(rows: dict[str, dict[str, float]]) -> str:
    """Return the figures as a markdown table."""
    lines = ["| | " + " | ".join(TITLES) + " |", "|---|" + "--:|" * len(WAYS)]
    for key, title in ROWS.items():
        digits = 0 if key in ("memory", "disk") else 1
        lines.append(f"| {title} | " + " | ".join(f"{rows[key][way]:.{digits}f}" for way in WAYS) + " |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print the table; return the exit code."""
    args = parse(argv)
    from timing import load_average, machine, progress, where, write_json

    place = {**machine(), "load_before": load_average()}
    said: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    with TemporaryDirectory() as name:
        job = prepare(args, Path(name))
        for i in range(args.rounds):
            for way in WAYS:
                progress(f"round {i + 1} of {args.rounds}: {way}")
                said[way].append(run({**job, "way": way}, Path(name)))
    if any(each["torch"] for each in said["runtime"]):
        raise RuntimeError("the runtime imported torch; it must not.")
    place["load_after"] = load_average()
    rows = summary(said)
    print(table(rows))
    print(f"\nMedians of {args.rounds} processes of each way in turn, {args.frames} frames each. Input {args.imgsz}.")
    print(where(place, args.threads or place["cores"]))
    if args.json:
        settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()}
        write_json(args.json, {"machine": place, "settings": settings, "rows": rows, "processes": said})
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--job"]:
        print(json.dumps(work(json.loads(Path(sys.argv[2]).read_text()))))
        sys.exit(0)
    sys.exit(main())
