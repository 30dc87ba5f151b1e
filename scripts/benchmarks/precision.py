"""What half precision and whole numbers do to exported files of a trained network, and what they save.

    python scripts/benchmarks/precision.py --model best.pt --data data.yaml --imgsz 128
    python scripts/benchmarks/precision.py --model best.pt --data coco.yaml --mot DIR/mot/PETS09-S2L1-a

The network is exported to each of `--formats` in FP32, FP16 (`quantize=16`) and INT8 (`quantize=8`, calibrated on the
validation split of `--data`, as by default), with the NMS in the file where the format can hold it in all of them.
Beside each other stand the average precision of each task on that split, and, where the split or `--mot` has sequences
and the network embeddings, how well people are told apart: IDF1 of `track`, and the AUC of the embeddings of its boxes:
how often two of one identity in different frames are more alike than two of different ones, pairs of one sequence taken
alone. The checkpoint is validated on square pictures too, as files of a fixed size are.

Time is that of a whole `predict`, all files in turn, each made once more with `conf=0.25`.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from embeddings import Sightings, auc, collect
from formats import megabytes, pictures
from timing import load_average, machine, positive, progress, where, write_json
from trackbench.networks import PERSON, read_image
from trackbench.scoring import belongs_to
from trackbench.sequence import TruthSequence, read_sequence

from yolo_multitask.benchmark.timing import take_turns
from yolo_multitask.metrics.tracking import SequenceAccumulator, box_similarity, combine

PRECISIONS = {"FP32": None, "FP16": 16, "INT8": 8}
VAL_CONF, TRACK_CONF, PREDICT_CONF = 1e-3, 0.1, 0.25
TITLES = {"detect": "box AP", "segment": "mask AP", "pose": "pose AP"}
PICTURES = 16  # of the data, that are timed


@dataclass(kw_only=True)
class Row:
    """A file, or the checkpoint, and its figures.

    Attributes:
        name: What to call it.
        path: The file.
        fast: The file to time.
        mb: Its size.
        figures: By name; average precisions and IDF1 in percent.
        times: Milliseconds of each timed `predict`.
        reason: Why there are no figures.
    """

    name: str
    path: str = ""
    fast: str = ""
    mb: float = 0.0
    figures: dict[str, float] = field(default_factory=dict)
    times: list[float] = field(default_factory=list)
    reason: str = ""


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; a wrong argument ends the process with exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", type=Path, required=True, help="trained multitask checkpoint")
    add("--data", required=True, help="data YAML, to validate on and to calibrate with")
    add("--mot", type=Path, help="MOTChallenge sequence of persons, instead of those of the data")
    add("--formats", nargs="+", choices=("onnx", "openvino"), default=["onnx", "openvino"])
    add("--precisions", nargs="+", choices=tuple(PRECISIONS), default=list(PRECISIONS))
    add("--imgsz", type=positive, default=640)
    add("--frames", type=positive, default=10**9, help="frames of each sequence (default: all)")
    add("--runs", type=positive, default=20, help="timed runs of each file (default: %(default)s)")
    add("--warmup", type=positive, default=3)
    add("--threads", type=positive, default=2, help="of torch; the runtimes take all cores (default: %(default)s)")
    add("--json", type=Path, help="file to write all figures to")
    args = parser.parse_args(argv)
    if not args.model.is_file():
        parser.error(f"--model: '{args.model}' is no file; give a trained checkpoint.")
    return args


def open_model(file: str | Path, threads: int) -> Any:
    """Return a model that runs with so many threads; the host sets its own number for each run."""
    import torch

    from yolo_multitask import MultiTaskYOLO

    model = MultiTaskYOLO(str(file))
    for event in ("on_predict_start", "on_val_start"):
        model.add_callback(event, lambda _: torch.set_num_threads(threads))
    return model


def holds_nms(fmt: str) -> bool:
    """Return whether a file of a format and a fixed size can hold the NMS in every precision."""
    from yolo_multitask.export.formats import check_nms

    try:
        for quantize in PRECISIONS.values():
            check_nms(fmt, nms=True, masks=False, dynamic=False, quantize=quantize, conf=None)
    except ValueError:
        return False
    return True


def export(fmt: str, quantize: int | None, conf: float, folder: Path, args: argparse.Namespace) -> Path:
    """Return an exported file; an NMS in it drops what is below `conf`."""
    folder.mkdir(parents=True)
    source = folder / "model.pt"
    source.write_bytes(args.model.read_bytes())
    given = {"quantize": quantize} | ({"data": args.data} if quantize == 8 else {})
    given |= {"nms": True, "conf": conf} if holds_nms(fmt) else {}
    return Path(open_model(source, args.threads).export(format=fmt, imgsz=args.imgsz, device="cpu", **given))


def make(fmt: str, precision: str, folder: Path, args: argparse.Namespace) -> Row:
    """Return a format in a precision, without figures yet."""
    row = Row(name=f"{fmt} {precision}")
    try:
        made = export(fmt, PRECISIONS[precision], VAL_CONF, folder / row.name / "val", args)
        row.path, row.mb = str(made), megabytes(made)
        fast = holds_nms(fmt)  # else the same file serves both
        row.fast = str(
            export(fmt, PRECISIONS[precision], PREDICT_CONF, made.parents[1] / "predict", args) if fast else made
        )
    except Exception as error:  # of a library that is not there, or whatever a converter raises
        row.reason = f"{type(error).__name__}: {str(error).strip().splitlines()[-1]}"
    return row


def truth_of(dataset: Any) -> list[TruthSequence]:
    """Return the sequences of a `MultiTaskDataset`, with the boxes that have an identity and are not ignored."""
    from yolo_multitask.data.columns import ID, IGNORE, NO_ID
    from yolo_multitask.engine.sequences import find_sequences

    labels = {label["im_file"]: label for label in dataset.labels}
    out = []
    for name, files in find_sequences(dataset).items():
        ids, boxes = [], []
        for label in (labels[file] for file in files):
            known = (label["cls"][:, ID] != NO_ID) & (label["cls"][:, IGNORE] == 0)
            centre, half = label["bboxes"][known, :2], label["bboxes"][known, 2:] / 2
            height, width = label["shape"]
            ids.append(label["cls"][known, ID].astype(np.int64))
            boxes.append(np.concatenate((centre - half, centre + half), 1) * [width, height, width, height])
        images = [Path(file) for file in files]
        out.append(TruthSequence(name=name, frame_rate=30, images=images, ids=ids, boxes=boxes))
    return out


def first_frames(truth: TruthSequence, count: int) -> TruthSequence:
    """Return the first frames of a sequence."""
    return replace(truth, images=truth.images[:count], ids=truth.ids[:count], boxes=truth.boxes[:count])


def tracked(model: Any, truth: TruthSequence, args: argparse.Namespace) -> Iterator[Any]:
    """Yield the result of each frame of a sequence, tracked."""
    persons = [number for number, name in model.names.items() if name == PERSON] if args.mot else None
    for i, image in enumerate(truth.images):
        given = {"imgsz": args.imgsz, "conf": TRACK_CONF, "classes": persons, "device": "cpu", "verbose": False}
        yield model.track(read_image(image), persist=i > 0, **given)[0].numpy()


def identities(model: Any, sequences: Sequence[TruthSequence], args: argparse.Namespace) -> dict[str, float]:
    """Return the IDF1 of tracks and the AUC of the embeddings of their boxes."""
    scores, seen = [], []
    for whole in sequences:
        truth = first_frames(whole, args.frames)
        accumulator, vectors = SequenceAccumulator(), []
        for number, result in enumerate(tracked(model, truth, args)):
            boxes = result.boxes.xyxy
            ids = np.asarray(result.boxes.id if result.boxes.is_track else [], np.int64)
            accumulator.update(truth.ids[number], ids, box_similarity(truth.boxes[number], boxes))
            owner = belongs_to(boxes, truth.boxes[number])
            vectors.append((owner[owner >= 0], result.embeddings.data[owner >= 0]))
        scores.append(accumulator.compute())
        if any(len(rows) for rows, _ in vectors):
            seen.append(collect(truth, vectors.__getitem__))
    return {"IDF1": 100 * combine(scores).idf1, "AUC": separation(seen)}


def separation(sequences: Sequence[Sightings]) -> float:
    """Return the AUC of the cosine similarity, same identity against other, over pairs of frames of one sequence."""
    same, other = [], []
    for sightings in sequences:
        first, second = np.triu_indices(len(sightings), 1)
        apart = sightings.frames[first] != sightings.frames[second]
        similarity = (sightings.vectors @ sightings.vectors.T)[first, second]
        alike = sightings.ids[first] == sightings.ids[second]
        same.append(similarity[apart & alike])
        other.append(similarity[apart & ~alike])
    return auc(np.concatenate(same), np.concatenate(other)) if same else float("nan")


def evaluate(row: Row, args: argparse.Namespace) -> Any:
    """Fill in the figures of a file; return the data set."""
    datasets: list[Any] = []
    model = open_model(row.path, args.threads)
    model.add_callback("on_val_end", lambda validator: datasets.append(validator.dataloader.dataset))
    given = {"imgsz": args.imgsz, "batch": 1, "rect": False, "device": "cpu", "workers": 0, "plots": False}
    metrics = model.val(data=args.data, verbose=False, **given, **({"track": False} if args.mot else {}))
    row.figures |= {TITLES[task]: 100 * metric.map for task, metric in metrics.parts.items()}
    (dataset,) = datasets
    sequences = [read_sequence(args.mot)] if args.mot else truth_of(dataset)
    if sequences and args.tracks:
        row.figures |= identities(open_model(row.path, args.threads), sequences, args)
    return dataset


def time_all(rows: Sequence[Row], dataset: Any, args: argparse.Namespace) -> None:
    """Fill in the times of a `predict` of pictures of the data, all files in turn on the same picture."""
    images = pictures(map(Path, dataset.im_files[:PICTURES]), (args.imgsz, args.imgsz))
    given = {"imgsz": args.imgsz, "conf": PREDICT_CONF, "device": "cpu", "verbose": False}
    turns = itertools.count()

    def way(row: Row) -> Callable[[], None]:
        model = open_model(row.fast, args.threads)
        return lambda: model.predict(images[next(turns) // len(rows) % len(images)], **given)

    for row, runs in zip(rows, take_turns([way(row) for row in rows], args.runs, args.warmup), strict=True):
        row.times = [run.ms for run in runs]


def table(rows: Sequence[Row]) -> str:
    """Return the figures as a markdown table."""
    titles = list(dict.fromkeys(title for row in rows for title in row.figures))
    headings = ("file", "MB", *titles, "ms")
    lines = [f"| {' | '.join(headings)} |", f"|---|{'--:|' * (len(headings) - 1)}"]
    for row in rows:
        shown = [f"{row.figures[t]:.3f}" if t == "AUC" else f"{row.figures[t]:.1f}" for t in titles if t in row.figures]
        cells = [row.name, f"{row.mb:.1f}", *shown, f"{statistics.median(row.times):.1f}"] if row.figures else []
        lines += [f"| {' | '.join(cells)} |"] if cells else []
    absent = [f"- {row.name}: {row.reason}" for row in rows if row.reason]
    return "\n".join(lines + (["", *absent] if absent else []))


def run(folder: Path, args: argparse.Namespace) -> list[Row]:
    """Return the checkpoint and every file, with their figures."""
    args.tracks = "track" in open_model(args.model, args.threads).model.tasks
    path = str(args.model)
    rows = [Row(name="checkpoint", path=path, fast=path, mb=megabytes(args.model))]
    rows += [make(fmt, precision, folder, args) for fmt in args.formats for precision in args.precisions]
    there = [row for row in rows if row.path]
    for row in there:
        dataset = evaluate(row, args)
        progress(f"{row.name}: {row.figures}")
    time_all(there, dataset, args)
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    os.environ.setdefault("YOLO_OFFLINE", "true")
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    args = parse(argv)
    from ultralytics.utils import LOGGER

    LOGGER.setLevel(logging.ERROR)
    place = {**machine(), "load_before": load_average()}
    with TemporaryDirectory() as folder, redirect_stdout(sys.stderr):  # of progress bars
        rows = run(Path(folder), args)
    place["load_after"] = load_average()
    print(
        f"{table(rows)}\n\nInput {args.imgsz}. Medians of {args.runs} runs in turn, batch 1. "
        f"{where(place, args.threads)}"
    )
    if args.json:
        settings = {key: str(value) for key, value in vars(args).items()}
        write_json(args.json, {"machine": place, "settings": settings, "rows": [asdict(row) for row in rows]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
