"""The demo behind `ymt demo`: render a world, train a small model on it from scratch, measure it and track with it.

Nothing is downloaded. Everything is written to a folder that appears when the demo is through, or not at all.
"""

from __future__ import annotations

import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from ultralytics import __version__ as ultralytics_version
from ultralytics.utils import TQDM

from yolo_multitask import __version__
from yolo_multitask.data.convert.output import staged
from yolo_multitask.data.labels import LabelSpec, read_labels
from yolo_multitask.data.synthetic import WorldConfig, data_yaml, sequence_seeds, write_clip, write_dataset
from yolo_multitask.engine.results import Results
from yolo_multitask.model import MultiTaskYOLO
from yolo_multitask.nn.network import load_model_yaml
from yolo_multitask.tasks import SPECS

Image = NDArray[np.uint8]
ZOOM = 2  # pictures are drawn larger than they were rendered, so that lines and letters do not hide the figures
TILES_PER_ROW = 2  # pairs of truth and prediction beside each other in the contact sheet
CAPTION = 26  # pixels above a picture
GAP = 8  # pixels between pairs
TRACK_COLUMNS = ("HOTA", "DetA", "AssA", "MOTA", "IDF1")
MAX_THREADS = 4  # a step of this network is too short to be shared among more


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """How much is rendered and trained.

    Args:
        world: What is rendered, for training, validation and test sequences alike.
        train_sequences: Sequences to train on.
        val_sequences: Sequences to validate on; none of them is trained on.
        frames_per_sequence: Frames of each.
        model: Model YAML by name or path.
        imgsz: Longer side of the network's input in pixels.
        epochs: Times that every training frame is seen.
        batch: Frames a step.
        lr: Largest learning rate.
        warmup: Share of the steps in which the learning rate rises to `lr`; over the others it falls to 1% of it.
        arguments: Further training arguments, beside and over `TRAINING`.
        pictures: Validation frames on the contact sheet.
        clips: Sequences to track through, every frame of them; none of them is trained or validated on.
        clip_frames: Frames of each.
    """

    world: WorldConfig = field(default_factory=WorldConfig)
    train_sequences: int = 256
    val_sequences: int = 24
    frames_per_sequence: int = 16
    model: str = "demo-multitask.yaml"
    imgsz: int = 128
    epochs: int = 6
    batch: int = 16
    lr: float = 0.002
    warmup: float = 0.06
    arguments: dict[str, Any] = field(default_factory=dict)
    pictures: int = 6
    clips: int = 8
    clip_frames: int = 96


SHORT = DemoConfig()
LONG = DemoConfig(train_sequences=512, imgsz=160)

# What both have in common. The frames are fresh and varied, so that of the augmentations only those are left that keep
# the network from learning where in the picture things stand.
TRAINING: Mapping[str, Any] = MappingProxyType(
    {
        "device": "cpu",
        "workers": 0,
        "cache": "ram",
        "amp": False,
        "deterministic": False,
        "rect": True,
        "val": False,
        "plots": False,
        "patience": 0,
        "optimizer": "AdamW",
        "momentum": 0.9,
        "warmup_epochs": 0,
        "translate": 0.1,
        "scale": 0.0,
        "mosaic": 0.0,
        "close_mosaic": 0,
        "hsv_h": 0.0,
        "hsv_s": 0.0,
        "hsv_v": 0.0,
    }
)


def run_demo(
    out: Path | str = "ymt-demo",
    long: bool = False,
    seed: int = 0,
    config: DemoConfig | None = None,
    model: str | None = None,
) -> dict[str, float]:
    """Render, train, validate, predict, track, export, and leave the results in a folder.

    The folder holds the data set (`data/`), the training run (`train/`, with `weights/best.pt` and
    `weights/best.onnx`), `predictions.jpg`
    (truth and prediction side by side), `tracking/` (a table and a plot of the tracks on the test sequences),
    `clip.avi` and `clip-annotated.avi` (the first test sequence), the table `metrics.md`, and `summary.json`.

    Args:
        out: Folder to make; must not exist, or be empty.
        long: Whether to do about three times the work, on larger pictures, for better results.
        seed: Of the world and of the training, 0 or above.
        config: How much to do; overrides `long`.
        model: Model YAML by name or path, such as `demo26-multitask.yaml`; by default that of `config`.

    Returns:
        The metrics by the validator's keys: precision on the validation sequences, such as `metrics/mAP50-95(P)`, and
        tracks on the test sequences, such as `metrics/IDF1(T)`.

    Raises:
        ValueError: If `out` is in use, the seed is negative or `model` is none of this package.
        FileNotFoundError: If there is no such model.
        OSError: If a file cannot be written. Whatever is raised, nothing is left behind.
    """
    out = Path(out).absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"out={out}: expected a new or empty folder, found it in use; remove it or name another.")
    if seed < 0:
        raise ValueError(f"seed={seed}: expected 0 or above.")
    config = config or (LONG if long else SHORT)
    if model is not None:
        load_model_yaml(model)  # before anything is rendered
        config = replace(config, model=model)
    seconds: dict[str, float] = {}
    with staged(out) as folder, _threads() as threads:
        with _stage("render", seconds):
            data = _render(folder / "data", config, seed)
        with _stage("train", seconds):
            best = _train(folder, data, config, seed, threads)
        model = MultiTaskYOLO(best)
        _use_threads(model, threads)
        with _stage("validate", seconds):
            metrics = _validate(model, folder, data, config)
        with _stage("predict", seconds):
            _draw_pictures(model, folder, config)
        with _stage("track", seconds):
            metrics |= _measure_tracks(model, folder, data, config)
            _draw_clip(model, folder, config, seed)
        with _stage("export", seconds):
            exported = _validate_onnx(model, folder, data, config, threads)
        seconds["total"] = sum(seconds.values())
        table = metrics_table(metrics, seconds, exported)
        (folder / "metrics.md").write_text(table, encoding="utf-8")
        summary = {
            "metrics": metrics,
            "metrics of best.onnx": exported,
            "seconds": {k: round(v, 1) for k, v in seconds.items()},
            "versions": _versions(),
            "threads": threads,
            "seed": seed,
            "config": asdict(replace(config, arguments={**TRAINING, **config.arguments})),
        }
        (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
        _settle(folder, out)
        if out.exists():
            out.rmdir()
        os.replace(folder, out)
    print(f"\n{table}\nEverything is in {out}")
    return metrics


def metrics_table(
    metrics: dict[str, float], seconds: dict[str, float], exported: Mapping[str, float] = MappingProxyType({})
) -> str:
    """Return Markdown tables: the average precisions of each task, the track metrics, the seconds of each stage.

    Args:
        metrics: By the validator's keys.
        seconds: By stage.
        exported: Precisions of the exported file, by the same keys.
    """
    columns = {"precision": "P", "recall": "R", "mAP50": "mAP50", "mAP50-95": "mAP50-95"}
    lines = [f"| | {' | '.join(columns.values())} |", f"|---|{'---:|' * len(columns)}"]
    for source, suffix in ((metrics, ""), (exported, ", ONNX")):
        for spec in SPECS.values():
            values = [source.get(f"metrics/{column}({spec.letter})") for column in columns]
            if None not in values:
                lines.append(f"| {spec.title}{suffix} | {' | '.join(f'{value:.3f}' for value in values)} |")
    tracks = {name: metrics.get(f"metrics/{name}({SPECS['track'].letter})") for name in TRACK_COLUMNS}
    if None not in tracks.values():
        lines += ["", f"| | {' | '.join(tracks)} |", f"|---|{'---:|' * len(tracks)}"]
        lines.append(f"| {SPECS['track'].title} | {' | '.join(f'{v:.3f}' for v in tracks.values())} |")
    stages = [f"| {stage} | {value:.0f} |" for stage, value in seconds.items()]
    return "\n".join([*lines, "", "| stage | seconds |", "|---|---:|", *stages, ""])


# ---- stages ---------------------------------------------------------------------------------------------------------


@contextmanager
def _stage(name: str, seconds: dict[str, float]) -> Iterator[None]:
    """Announce a stage and add its duration to `seconds`."""
    print(f"\n== {name}", flush=True)
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start


@contextmanager
def _threads() -> Iterator[int]:
    """Give the number of threads to compute with; PyTorch's setting is restored in the end."""
    before = torch.get_num_threads()
    try:
        yield min(before, MAX_THREADS)
    finally:
        torch.set_num_threads(before)


def _use_threads(model: Any, threads: int) -> None:
    """Compute with `threads` threads; the host leaves one core idle whenever it selects the CPU: half of two."""
    for event in ("on_pretrain_routine_start", "on_val_start", "on_predict_start"):
        model.add_callback(event, lambda _: torch.set_num_threads(threads))


def _render(folder: Path, config: DemoConfig, seed: int) -> Path:
    """Write the data set and return its data YAML."""
    total = (config.train_sequences + config.val_sequences) * config.frames_per_sequence
    total += config.clips * config.clip_frames
    bar = TQDM(total=total, desc="frames")
    try:
        return write_dataset(
            folder,
            train_sequences=config.train_sequences,
            val_sequences=config.val_sequences,
            frames_per_sequence=config.frames_per_sequence,
            test_sequences=config.clips,
            test_frames=config.clip_frames,
            seed=seed,
            config=config.world,
            progress=lambda done, _: bar.update(1),
        )
    finally:
        bar.close()


def _train(folder: Path, data: Path, config: DemoConfig, seed: int, threads: int) -> Path:
    """Train from scratch and return the checkpoint."""
    model = MultiTaskYOLO(config.model)
    _use_threads(model, threads)
    model.add_callback("on_train_batch_start", rate_schedule(config.warmup))
    model.train(
        **{**TRAINING, **config.arguments},
        data=str(data),
        imgsz=config.imgsz,
        epochs=config.epochs,
        batch=config.batch,
        nbs=config.batch,  # the host gathers gradients up to 64 frames otherwise: a quarter of the steps
        lr0=config.lr,
        seed=seed,
        project=str(folder),
        name="train",
    )
    return folder / "train" / "weights" / "best.pt"


def rate_schedule(warmup: float) -> Callable[[Any], None]:
    """Return a callback that sets the learning rate of every step: a linear rise, then half a cosine down to 1%.

    The host sets it once an epoch, which is coarse where there are few.
    """
    step = 0

    def set_rate(trainer: Any) -> None:
        nonlocal step
        done = step / (len(trainer.train_loader) * trainer.epochs)
        step += 1
        fall = 0.5 + 0.5 * math.cos(math.pi * (done - warmup) / (1 - warmup))
        factor = done / warmup if done < warmup else 0.01 + 0.99 * fall
        for group in trainer.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor

    return set_rate


def _validate(model: Any, folder: Path, data: Path, config: DemoConfig) -> dict[str, float]:
    """Return the average precisions on the validation sequences by the validator's keys."""
    found = _measure(model, folder / "val", data, config, track=False, plots=False)
    (folder / "val").rmdir()  # the host makes it; without plots it stays empty
    return found


def _validate_onnx(model: Any, folder: Path, data: Path, config: DemoConfig, threads: int) -> dict[str, float]:
    """Export to ONNX, beside the checkpoint, and return the file's average precisions on the validation sequences."""
    plain = {"simplify": False, "device": "cpu"}  # the host would install what simplifies
    file = MultiTaskYOLO(model.export(format="onnx", imgsz=config.imgsz, dynamic=True, **plain))
    _use_threads(file, threads)
    return _validate(file, folder, data, config)


def _measure_tracks(model: Any, folder: Path, data: Path, config: DemoConfig) -> dict[str, float]:
    """Return the track metrics on the test sequences by the validator's keys, and leave their table and plot."""
    out = folder / "tracking"
    found = _measure(model, out, data, config, split="test", plots=True)
    for file in out.iterdir():
        if file.name not in ("tracking.csv", "HOTA_curve.png"):
            file.unlink()
    return {key: value for key, value in found.items() if key.endswith(f"({SPECS['track'].letter})")}


def _measure(model: Any, out: Path, data: Path, config: DemoConfig, **arguments: Any) -> dict[str, float]:
    """Return the metrics of a validation that writes to `out`, by the validator's keys."""
    metrics = model.val(
        data=str(data),
        imgsz=config.imgsz,
        batch=config.batch,
        rect=True,
        device="cpu",
        workers=0,
        project=str(out.parent),
        name=out.name,
        **arguments,
    )
    return {key: float(value) for key, value in zip(metrics.keys, metrics.mean_results(), strict=True)}


def _predict(model: Any, source: Any, config: DemoConfig) -> Iterator[Results]:
    """Yield the results of a source one by one, with masks as large as the pictures."""
    results: Iterator[Results] = model.predict(source, stream=True, **_picture_arguments(config))
    return results


def _picture_arguments(config: DemoConfig) -> dict[str, Any]:
    return {"imgsz": config.imgsz, "device": "cpu", "retina_masks": True, "verbose": False}


# ---- pictures -------------------------------------------------------------------------------------------------------


def _draw_pictures(model: Any, folder: Path, config: DemoConfig) -> None:
    """Write the contact sheet: validation frames with the truth and, to its right, the prediction."""
    frames = sorted((folder / "data" / "images" / "val").rglob("*.jpg"))
    count = min(config.pictures, len(frames))
    chosen = [frames[round(i)] for i in np.linspace(0, len(frames) - 1, count)]
    pairs = []
    for path in chosen:
        (found,) = _predict(model, path, config)
        name = f"{path.parent.name}/{path.name}"
        truth = _drawn(labelled_result(path, config.world), conf=False)
        pair = np.hstack([_captioned(truth, f"{name}: truth"), _captioned(_drawn(found), "prediction")])
        pairs.append(cv2.copyMakeBorder(pair, 0, GAP, 0, GAP, cv2.BORDER_CONSTANT, value=(255, 255, 255)))
    blank = np.full_like(pairs[0], 255)
    pairs += [blank] * (-len(pairs) % TILES_PER_ROW)
    rows = [np.hstack(pairs[i : i + TILES_PER_ROW]) for i in range(0, len(pairs), TILES_PER_ROW)]
    _write_image(folder / "predictions.jpg", np.vstack(rows))


def _draw_clip(model: Any, folder: Path, config: DemoConfig, seed: int) -> None:
    """Write the first test sequence as a clip, and the same with the tracks in it."""
    clip, world_seed = folder / "clip.avi", sequence_seeds("test", 1, seed)[0]
    write_clip(clip, seed=world_seed, config=config.world, frames=config.clip_frames)
    size = (config.world.width * ZOOM, config.world.height * ZOOM)
    target = folder / "clip-annotated.avi"
    writer = cv2.VideoWriter(str(target), cv2.VideoWriter.fourcc(*"MJPG"), config.world.fps, size)
    try:
        if not writer.isOpened():
            raise OSError(f"cannot write {target} as MJPG video; OpenCV was built without it")
        for found in model.track(clip, stream=True, **_picture_arguments(config)):
            writer.write(_drawn(found))
    finally:
        writer.release()


def labelled_result(path: Path, world: WorldConfig) -> Results:
    """Return the labels of a frame of the data set as a result, with confidence 1; ignore regions are left out.

    Args:
        path: `images/<split>/<sequence>/<frame>.jpg`.
        world: What was rendered.
    """
    image = cv2.imread(str(path))
    height, width = image.shape[:2]
    data = data_yaml(world)
    split, sequence, frame = path.parts[-3:]
    file = path.parents[3] / "labels" / split / sequence / Path(frame).with_suffix(".txt")
    labels, _ = read_labels(str(file), LabelSpec.from_data(data))
    real = np.flatnonzero(~labels.ignore)
    scale = np.array([width, height], np.float32)
    centre, half = labels.boxes[real, :2] * scale, labels.boxes[real, 2:] * scale / 2
    boxes = np.concatenate([centre - half, centre + half, np.ones((len(real), 1)), labels.cls[real, None]], 1)
    masks = np.zeros((len(real), height, width), np.uint8)
    for mask, i in zip(masks, real, strict=True):
        polygon = labels.polygons[i]
        if polygon is not None:
            cv2.fillPoly(mask, [(polygon * scale).astype(np.int32)], 1)
    assert labels.keypoints is not None
    keypoints = labels.keypoints[real] * np.append(scale, 1).astype(np.float32)
    return Results(
        image,
        path=str(path),
        names=data["names"],
        boxes=torch.from_numpy(boxes.astype(np.float32)),
        masks=torch.from_numpy(masks) if len(real) else None,
        keypoints=torch.from_numpy(keypoints) if len(real) else None,
    )


def _captioned(image: Image, caption: str) -> Image:
    """Return a picture with a caption above it."""
    head = np.full((CAPTION, image.shape[1], 3), 255, np.uint8)
    cv2.putText(head, caption, (6, CAPTION - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([head, image])


def _drawn(result: Results, conf: bool = True) -> Image:
    """Return the picture of a result, enlarged `ZOOM` times, with boxes, masks and skeletons.

    Args:
        result: What to draw; its masks are as large as its picture.
        conf: Whether to write the confidence beside the class.
    """
    image = cv2.resize(result.orig_img, None, fx=ZOOM, fy=ZOOM, interpolation=cv2.INTER_CUBIC)
    if result.boxes is None or not len(result.boxes):
        return image
    result = result[result.boxes.data[:, 0].argsort()]  # from left to right: truth and prediction get the same colours
    boxes = result.boxes.data.clone()
    boxes[:, :4] *= ZOOM
    large = Results(image, path=result.path, names=result.names, boxes=boxes)
    if result.trails is not None:
        large.update(trails=result.trails.xy * ZOOM)
    if result.masks is not None:
        large.update(masks=result.masks.data.repeat_interleave(ZOOM, 1).repeat_interleave(ZOOM, 2))
    drawn: Image = large.plot(conf=conf, color_mode="instance", line_width=2, font_size=8)
    if result.keypoints is None:
        return drawn
    points = result.keypoints.data.clone()
    points[..., :2] *= ZOOM
    skeletons = Results(drawn, path=result.path, names=result.names, keypoints=points)
    return np.asarray(skeletons.plot(line_width=2, kpt_radius=3), np.uint8)  # on top, in the host's colours per limb


def _write_image(path: Path, image: Image) -> None:
    if not cv2.imwrite(str(path), image):
        raise OSError(f"cannot write {path}; is the disk full?")


# ---- the folder -----------------------------------------------------------------------------------------------------


def _settle(folder: Path, out: Path) -> None:
    """Make everything in `folder` name the place where it will be, `out`, and remove what would be stale there."""
    for cache in (folder / "data").rglob("*.cache"):
        cache.unlink()
    arguments = folder / "train" / "args.yaml"
    arguments.write_text(arguments.read_text(encoding="utf-8").replace(str(folder), str(out)), encoding="utf-8")
    for path in (folder / "train" / "weights").glob("*.pt"):
        checkpoint = torch.load(path, map_location="cpu", weights_only=False)
        checkpoint["train_args"] = _moved(checkpoint["train_args"], str(folder), str(out))
        network = checkpoint["model"]
        network.args = _moved(dict(network.args), str(folder), str(out))
        torch.save(checkpoint, path)


def _moved(values: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    """Return `values` with the folder `old` replaced by `new` in its paths."""
    return {k: str(v).replace(old, new) if isinstance(v, (str, Path)) else v for k, v in values.items()}


def _versions() -> dict[str, str]:
    """Return the versions of what took part."""
    return {
        "yolo-multitask": __version__,
        "ultralytics": ultralytics_version,
        "torch": torch.__version__,
        "opencv": cv2.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
