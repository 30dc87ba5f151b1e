"""How well feature vectors tell people apart: same-identity AUC and rank-1 on the boxes of a real sequence.

Compared are the neck features that Ultralytics calls native ReID, OSNet on the crops, and the embeddings of each
`--model` of this package. Vectors of networks that give one per anchor are read, for a true box, at the anchor whose
person score times the overlap of its decoded box with the true box is highest; OSNet gets the crop of the true box.
Of the detections, those count that belong to a true box (one-to-one, overlap 0.5): what a tracker gets.

AUC: how often two boxes of one person in different frames are more alike (cosine) than two of different people, over
all pairs. Rank-1: how often the most similar of all boxes a time later is the same person; a query counts if its person
is there.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from timing import machine, write_json
from trackbench.frames import Frame
from trackbench.options import add_common, check_common, find_everything
from trackbench.scoring import belongs_to
from trackbench.sequence import IntArray, TruthSequence

from yolo_multitask.metrics.tracking import box_similarity

CROWDED = 0.3  # overlap with another true box from which a person is not seen alone
NEAR, FAR = 1.0, 2.0  # seconds
RANK_SECONDS = (1.0, 5.0)
BOXES = ("true", "detected")


@dataclass(frozen=True, kw_only=True)
class Sightings:
    """The n boxes of a sequence that have a vector and an identity.

    Attributes:
        vectors: Vectors (n, E), L2-normalised.
        ids: Identities (n,).
        frames: Frame numbers (n,) from 0.
        alone: Whether no other person's true box overlaps that of this one by more than `CROWDED`, (n,).
    """

    vectors: NDArray[np.float32]
    ids: IntArray
    frames: IntArray
    alone: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ids)

    def where(self, keep: NDArray[np.bool_]) -> Sightings:
        """Return those that `keep` (n,) marks."""
        return Sightings(
            vectors=self.vectors[keep], ids=self.ids[keep], frames=self.frames[keep], alone=self.alone[keep]
        )


def collect(truth: TruthSequence, vectors_of: Callable[[int], tuple[IntArray, NDArray[Any]]]) -> Sightings:
    """Return the sightings of a sequence.

    Args:
        truth: The sequence; G true boxes a frame.
        vectors_of: Returns for the number of a frame the rows (n,) of true boxes, and their vectors (n, E).
    """
    parts = []
    for number, (ids, boxes) in enumerate(zip(truth.ids, truth.boxes, strict=True)):
        rows, vectors = vectors_of(number)
        overlap = box_similarity(boxes, boxes)
        np.fill_diagonal(overlap, 0)
        alone = overlap.max(1, initial=0) <= CROWDED
        parts.append((vectors, ids[rows], np.full(len(rows), number), alone[rows]))
    vectors, ids, frames, alone = (np.concatenate(part) for part in zip(*[p for p in parts if len(p[1])], strict=True))
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    return Sightings(vectors=(vectors / norm).astype(np.float32), ids=ids, frames=frames, alone=alone)


def true_sightings(truth: TruthSequence, frames: Sequence[Frame], source: str) -> Sightings:
    """Return the sightings of all true boxes."""
    return collect(truth, lambda i: (np.arange(len(truth.ids[i])), frames[i].truth_features[source]))


def detected_sightings(truth: TruthSequence, frames: Sequence[Frame], source: str) -> Sightings:
    """Return the sightings of the detections that belong to a true box: the vectors that a tracker gets."""

    def vectors_of(number: int) -> tuple[IntArray, NDArray[Any]]:
        owner = belongs_to(frames[number].boxes[:, :4], truth.boxes[number])
        return owner[owner >= 0], frames[number].features[source][owner >= 0]

    return collect(truth, vectors_of)


def auc(same: NDArray[Any], other: NDArray[Any]) -> float:
    """Return how often a value of `same` is above one of `other`, ties by half; NaN if one is empty.

    >>> auc(np.array([0.9, 0.5]), np.array([0.5, 0.1]))
    0.875
    """
    if not (len(same) and len(other)):
        return float("nan")
    ordered = np.sort(other)
    below, not_above = (np.searchsorted(ordered, same, side) for side in ("left", "right"))
    return float((below + not_above).mean() / 2 / len(other))


def separation(sightings: Sightings, frame_rate: float) -> dict[str, float]:
    """Return the AUC of the cosine similarity, "same person" against "other", over all pairs from different frames.

    Also over pairs at most `NEAR` and more than `FAR` seconds apart.
    """
    first, second = np.triu_indices(len(sightings), 1)
    gap = np.abs(sightings.frames[first] - sightings.frames[second]) / frame_rate
    similarity = (sightings.vectors @ sightings.vectors.T)[first, second]
    same = sightings.ids[first] == sightings.ids[second]
    spans = {"all": gap > 0, "near": (gap > 0) & (gap <= NEAR), "far": gap > FAR}
    return {name: auc(similarity[span & same], similarity[span & ~same]) for name, span in spans.items()}


def rank_one(sightings: Sightings, gallery: Sightings, gap: int) -> tuple[float, int]:
    """Return the share of queries whose most similar box `gap` frames later is the same person, and their number.

    Args:
        sightings: The queries; a query counts if its person is in the gallery.
        gallery: Of these, all boxes of the frame `gap` later.
        gap: Frames.
    """
    hits = []
    for number in np.unique(sightings.frames):
        queries, others = sightings.frames == number, gallery.frames == number + gap
        query_ids, ids = sightings.ids[queries], gallery.ids[others]
        present = np.isin(query_ids, ids)
        if present.any():
            similarity = sightings.vectors[queries][present] @ gallery.vectors[others].T
            hits.append(ids[similarity.argmax(1)] == query_ids[present])
    return (float(np.concatenate(hits).mean()), sum(map(len, hits))) if hits else (float("nan"), 0)


def measure(sightings: Sightings, frame_rate: float) -> dict[str, Any]:
    """Return all figures, for all sightings and for those of people seen alone."""
    alone = sightings.where(sightings.alone)
    row: dict[str, Any] = {}
    for name, chosen in (("all", sightings), ("alone", alone)):
        row[name] = {"boxes": len(chosen), "auc": separation(chosen, frame_rate)}
        for seconds in RANK_SECONDS:
            rank, queries = rank_one(chosen, sightings, round(seconds * frame_rate))
            row[name][f"rank1_{seconds:g}s"] = {"share": rank, "queries": queries}
    return row


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the figures as a markdown table; of people seen alone in parentheses."""
    ranks = [f"rank-1 after {seconds:g} s" for seconds in RANK_SECONDS]
    names = ["vectors", "boxes", "number", "AUC", f"AUC, ≤ {NEAR:g} s", f"AUC, > {FAR:g} s", *ranks]
    lines = [f"| {' | '.join(names)} |", f"|---|---|{'--:|' * (len(names) - 2)}"]
    for row in rows:
        cells = [row["source"], row["of"], f"{row['all']['boxes']} ({row['alone']['boxes']})"]
        cells += [f"{row['all']['auc'][k]:.3f} ({row['alone']['auc'][k]:.3f})" for k in ("all", "near", "far")]
        keys = [f"rank1_{seconds:g}s" for seconds in RANK_SECONDS]
        cells += [f"{100 * row['all'][k]['share']:.1f} ({100 * row['alone'][k]['share']:.1f})" for k in keys]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def notes(truth: TruthSequence, sources: Mapping[str, Sequence[Frame]], args: argparse.Namespace) -> str:
    """Return what was measured, and how well the anchors fit that the vectors of true boxes are read at."""
    people = len(np.unique(np.concatenate(truth.ids)))
    lines = [
        f"{truth.name}, {len(truth)} frames ({args.frames}), {people} people; networks at {args.imgsz} px, detections "
        f"of score {args.conf:g} and more. In parentheses: people whose box no other overlaps by more than {CROWDED:g}."
    ]
    for source, frames in sources.items():
        if source != "osnet":  # its vectors are of the true box itself
            overlap = np.concatenate([frame.truth_overlap for frame in frames])
            loose = int((overlap < 0.5).sum())
            lines.append(f"{source}: {loose} of {len(overlap)} true boxes overlap their anchor's box by less than 0.5.")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table and write the JSON file; return the exit code."""
    parser = argparse.ArgumentParser(description=" ".join((__doc__ or "").split("\n\n")[0].split()))
    add_common(parser)
    args = parser.parse_args(argv)
    check_common(parser, args)
    os.environ.setdefault("YOLO_OFFLINE", "true")  # nothing here needs the network

    import torch
    from ultralytics.utils import LOGGER

    LOGGER.setLevel(logging.WARNING)  # stdout is for the table
    torch.set_num_threads(args.threads)
    try:
        inputs = find_everything(args)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    truth = inputs.sequence
    sources = {source: inputs.stock for source in inputs.stock[0].features} | inputs.models
    rows = []
    for of, sightings in zip(BOXES, (true_sightings, detected_sightings), strict=True):
        for source, frames in sources.items():
            figures = measure(sightings(truth, frames, source), truth.frame_rate)
            rows.append({"source": source, "of": of, **figures})
    print(f"{table(rows)}\n\n{notes(truth, sources, args)}")
    if args.json:
        settings = {"frames": args.frames, "imgsz": args.imgsz, "conf": args.conf, "weights": args.weights}
        write_json(args.json, {"machine": machine(), "settings": settings, "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
