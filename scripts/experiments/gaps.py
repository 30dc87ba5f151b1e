"""How gaps in the trajectory of a small object are best filled: on a line, or on a curve through its neighbours.

    python scripts/experiments/gaps.py --labels clip/labels.csv

Leaves out each run of frames of a labelled clip in turn, fills it from the labels around it, to which noise is added,
and compares with what was left out. Prints a Markdown table of mean distances in pixels.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yolo_multitask.tracking.trajectories import interpolate

Array = NDArray[np.float64]
LENGTHS = (1, 2, 3, 4, 5, 6, 8)
CLEAR, HARD = 1, 2  # visibility


def main() -> None:
    """Read the arguments, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=Path, required=True, help="CSV with Frame,Visibility,X,Y of one object")
    parser.add_argument("--noise", type=float, default=1.0, help="standard deviation of the positions, pixels")
    args = parser.parse_args()
    true = read(args.labels)
    rng = np.random.default_rng(0)
    seen = {frame: xy + rng.normal(0, args.noise, 2) for frame, xy in true.items()}
    print("| frames left out | straight line | cubic through the neighbours | quadratic |\n|--:|--:|--:|--:|")
    for length in LENGTHS:
        print(f"| {length} | " + " | ".join(f"{error:.2f}" for error in measure(true, seen, length)) + " |")


def read(path: Path) -> dict[int, Array]:
    """Return the position (2,) of each frame in which the object is seen."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if int(row["Visibility"]) in (CLEAR, HARD)]
    return {int(row["Frame"]): np.array([float(row["X"]), float(row["Y"])]) for row in rows}


def measure(true: dict[int, Array], seen: dict[int, Array], length: int) -> list[float]:
    """Return the mean distance of each way of filling, over all gaps of a length with two seen frames on each side."""
    errors = []
    for first in true:
        second = first + length + 1
        if all(frame in true for frame in range(first - 1, second + 2)):
            left_out = np.array([true[frame] for frame in range(first + 1, second)])
            around = [seen[frame] for frame in (first - 1, first, second, second + 1)]
            errors.append([np.linalg.norm(way - left_out, axis=1) for way in fill(*around, length)])
    return np.array(errors).mean(axis=(0, 2)).tolist()


def fill(before: Array, first: Array, second: Array, after: Array, length: int) -> tuple[Array, Array, Array]:
    """Return the positions (length, 2) in a gap on a line, a cubic Hermite curve, and a parabola from the start."""
    t = np.arange(1, length + 1)[:, None] / (length + 1)
    ends = (np.array([*xy, 1, 0, 1, 0]) for xy in (first, second))
    straight = interpolate(*ends, t[:, 0])[:, :2]
    way = second - first
    leave, arrive = (first - before) * (length + 1) - way, (after - second) * (length + 1) - way
    return straight, straight + (t - 2 * t**2 + t**3) * leave + (t**3 - t**2) * arrive, straight + (t - t**2) * leave


if __name__ == "__main__":
    main()
