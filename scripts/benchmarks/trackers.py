"""Trackers on a real sequence: all get literally the same boxes, and differ in what they make of them.

A stock detector runs over the sequence once. Then every tracker of Ultralytics at its defaults, those with appearance
also with the detector's own features and with those of a second network (OSNet on crops), and this package's `multicue`
are fed with what it found. A `--model` of this package adds its embeddings: on the stock boxes where its own are the
same, else on its own boxes, where the stock trackers are then run once more. The table holds HOTA, IDF1, identity
switches and the time of `update` alone; a second table what a perfect association of the same boxes would reach.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from timing import load_average, machine, progress, write_json
from trackbench.contenders import (
    OURS,
    RECOVERS,
    STOCK,
    WITH_REID,
    Contender,
    Tracked,
    boxes_above,
    run_in_turn,
)
from trackbench.frames import Frame, same_boxes
from trackbench.networks import read_image
from trackbench.options import STOCK_SOURCES, Inputs, add_common, check_common, find_everything, share_features
from trackbench.scoring import perfect_association, score
from trackbench.sequence import TruthSequence

from yolo_multitask.tracking.config import CUES

SHARES = ("HOTA", "DetA", "AssA", "IDF1", "MOTA")
COUNTS = ("IDSW", "Frag", "FP", "FN")


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; a wrong argument ends the process with exit code 2."""
    parser = argparse.ArgumentParser(description=" ".join((__doc__ or "").split("\n\n")[0].split()))
    add_common(parser)
    add = parser.add_argument
    add("--trackers", nargs="+", choices=[*STOCK, OURS], default=[*STOCK, OURS], help="trackers (default: all)")
    add(
        "--cues",
        nargs="+",
        type=cue_set,
        default=[],
        metavar="CUE+CUE",
        help=f"also {OURS} with these cues alone, of {', '.join(CUES)}; needs --model (as box+motion)",
    )
    args = parser.parse_args(argv)
    check_common(parser, args)
    if args.cues and not (args.model and OURS in args.trackers):
        parser.error(f"--cues needs a --model and {OURS} among the --trackers.")
    return args


def cue_set(text: str) -> tuple[str, ...]:
    """Return the cues of a text such as `box+motion`.

    Raises:
        argparse.ArgumentTypeError: If one is unknown.
    """
    cues = tuple(text.split("+"))
    if unknown := [cue for cue in cues if cue not in CUES]:
        raise argparse.ArgumentTypeError(f"'{unknown[0]}' is no cue; choose of {', '.join(CUES)}")
    return cues


def contenders_on(
    pool: str, trackers: Sequence[str], sources: Sequence[str], cues: Sequence[tuple[str, ...]], stock: bool
) -> list[Contender]:
    """Return who is run on the boxes of a network.

    Args:
        pool: The network.
        trackers: Names of the trackers.
        sources: Sources of feature vectors that there are for these boxes.
        cues: Sets of cues of `multicue` to run besides all of them.
        stock: Whether to run the trackers without vectors too.
    """
    found = []
    for tracker in trackers:
        for source in (*([None] if stock else []), *(sources if tracker in (*WITH_REID, OURS) else ())):
            one = Contender(tracker=tracker, pool=pool, features=source)
            found += [replace(one, recovers=True), one] if tracker == RECOVERS else [one]
            if tracker == OURS and source not in (None, *STOCK_SOURCES):
                found += [replace(one, cues=chosen) for chosen in cues]
    return found


def line_up(inputs: Inputs, args: argparse.Namespace) -> tuple[dict[str, list[Frame]], list[Contender], dict[str, str]]:
    """Return the boxes by network, who is run on them, and how far each model's boxes are the stock ones, in words."""
    stock = args.weights.removesuffix(".pt")
    sources = [source for source in STOCK_SOURCES if source != "osnet" or args.osnet]
    pools = {stock: inputs.stock}
    contenders = contenders_on(stock, args.trackers, sources, (), stock=True)
    agreement = {}
    for name, frames in inputs.models.items():
        same, agreement[name] = same_boxes(inputs.stock, frames)
        pools[name] = share_features(inputs.stock, frames) if same else frames
        contenders += contenders_on(name, args.trackers, [name], args.cues, stock=not same)
        agreement[name] += "; taken as the same" if same else "; on its own boxes"
    return pools, contenders, agreement


def figures(contender: Contender, tracked: Tracked, truth: TruthSequence) -> dict[str, Any]:
    """Return all figures of a contender, by name; times in milliseconds."""
    times = tracked.milliseconds
    return {
        "label": contender.label,
        "boxes": contender.pool,
        **score(truth, tracked.tracks),
        "tracks": len({i for _, ids in tracked.tracks for i in ids.tolist()}),
        "update_ms": statistics.median(times),
        "update_ms_quartiles": statistics.quantiles(times, n=4, method="inclusive"),
    }


def ceilings(
    contenders: Sequence[Contender], pools: Mapping[str, Sequence[Frame]], truth: TruthSequence
) -> list[dict[str, Any]]:
    """Return what a perfect association reaches on each set of boxes that contenders take."""
    takers: dict[tuple[str, tuple[float, float]], list[str]] = {}
    for one in contenders:
        takers.setdefault((one.pool, one.lowest_scores()), []).append(one.label)
    rows = []
    for (pool, lowest), labels in takers.items():
        boxes = [boxes_above(frame, lowest) for frame in pools[pool]]
        found = {kept: score(truth, perfect_association(truth, boxes, kept)) for kept in (False, True)}
        rows.append(
            {
                "boxes": pool,
                "lowest_score": lowest[0],
                "lowest_recovered": lowest[1] if lowest[1] < float("inf") else None,
                "per_frame": sum(map(len, boxes)) / len(boxes),
                "left_out": found[False],
                "kept": found[True],
                "takers": labels,
            }
        )
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the figures of the contenders as a markdown table."""
    names = ("tracker", "boxes", *SHARES, *COUNTS, "tracks", "update, ms")
    lines = [f"| {' | '.join(names)} |", f"|---|---|{'--:|' * (len(names) - 2)}"]
    for row in rows:
        cells = [row["label"], row["boxes"], *(f"{100 * row[k]:.1f}" for k in SHARES), *(str(row[k]) for k in COUNTS)]
        lines.append(f"| {' | '.join([*cells, str(row['tracks']), format(row['update_ms'], '.2f')])} |")
    return "\n".join(lines)


def ceiling_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the figures of the perfect association as a markdown table."""

    def cells(found: Mapping[str, Any]) -> str:
        return " / ".join([*(f"{100 * found[k]:.1f}" for k in ("HOTA", "AssA", "IDF1")), str(found["IDSW"])])

    lines = [
        "| boxes | score | a frame | others left out: HOTA / AssA / IDF1 / IDSW | others kept | taken by |",
        "|---|---|--:|---|---|---|",
    ]
    for row in rows:
        extra = f", suppressed {row['lowest_recovered']:g}" if row["lowest_recovered"] is not None else ""
        start = f"| {row['boxes']} | {row['lowest_score']:g}{extra} | {row['per_frame']:.1f} |"
        takers = ", ".join(row["takers"])
        lines.append(f"{start} {cells(row['left_out'])} | {cells(row['kept'])} | {takers} |")
    return "\n".join(lines)


def notes(inputs: Inputs, args: argparse.Namespace, agreement: Mapping[str, str], place: Mapping[str, Any]) -> str:
    """Return what was measured where."""
    costs = {
        source: statistics.median(frame.milliseconds[source] for frame in inputs.stock)
        for source in STOCK_SOURCES
        if source in inputs.stock[0].milliseconds
    }
    extraction = ", ".join(f"{source} {cost:.1f}" for source, cost in costs.items())
    return "\n".join(
        [
            f"{inputs.sequence.name}, {len(inputs.sequence)} frames ({args.frames}), persons of {args.weights} at "
            f"{args.imgsz} px, score {args.conf:g} and more. Time: median of `update` alone, all trackers in turn on "
            f"each frame; getting the feature vectors of a frame takes, in ms: {extraction}.",
            *(f"{name}: {words}." for name, words in agreement.items()),
            f"{place['cpu']}, {place['cores']} cores, {args.threads} threads; torch {place['torch']}, ultralytics "
            f"{place['ultralytics']}, Python {place['python']}, yolo-multitask {place['yolo_multitask']}. Load average "
            f"{place['load_before']} before, {place['load_after']} after.",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the tables and write the JSON file; return the exit code."""
    args = parse(argv)
    os.environ.setdefault("YOLO_OFFLINE", "true")  # nothing here needs the network

    import torch
    from ultralytics.utils import LOGGER

    LOGGER.setLevel(logging.WARNING)  # stdout is for the tables
    torch.set_num_threads(args.threads)
    place = {**machine(), "load_before": load_average()}
    try:
        inputs = find_everything(args)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    torch.set_num_threads(args.threads)  # the host sets its own number when it sets a predictor up
    pools, contenders, agreement = line_up(inputs, args)
    progress(f"{len(contenders)} trackers in turn")
    images = [read_image(path) for path in inputs.sequence.images]
    answers = run_in_turn(contenders, pools, images, inputs.sequence.frame_rate)
    rows = [figures(*both, inputs.sequence) for both in zip(contenders, answers, strict=True)]
    best = ceilings(contenders, pools, inputs.sequence)
    place["load_after"] = load_average()
    print(f"{table(rows)}\n\n{ceiling_table(best)}\n\n{notes(inputs, args, agreement, place)}")
    if args.json:
        settings = {
            key: [str(v) for v in value] if isinstance(value, list) else str(value) for key, value in vars(args).items()
        }
        write_json(
            args.json, {"machine": place, "settings": settings, "rows": rows, "ceilings": best, "same": agreement}
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
