"""What each cue of `multicue` brings: the same network and sequences, tracked with some of the cues.

    python scripts/experiments/cue_ablation.py --model best.pt --data data.yaml --split test

Validates a model on data with sequences once for each set of cues, of which the others have no weight: the overlap of
boxes alone, with motion, with each further cue that the model gives, and with all. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import yaml

from yolo_multitask import MultiTaskYOLO
from yolo_multitask.tracking.config import CUES

FIGURES = ("HOTA", "AssA", "IDF1", "IDSW")
BASE = ("box", "motion")


def main() -> None:
    """Read the arguments, validate, print the table."""
    args = parse()
    model = MultiTaskYOLO(args.model)
    with tempfile.TemporaryDirectory() as folder:
        results = {cues: measure(model, args, cues, Path(folder)) for cues in cue_sets(model)}
    print(table(results))
    if args.json:
        args.json.write_text(json.dumps({"+".join(cues): figures for cues, figures in results.items()}, indent=1))


def parse() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="checkpoint with a track branch")
    parser.add_argument("--data", required=True, help="data YAML with sequences")
    parser.add_argument("--split", default="val")
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--json", type=Path, help="file to write all figures to")
    return parser.parse_args()


def cue_sets(model: MultiTaskYOLO) -> list[tuple[str, ...]]:
    """Return the sets of cues to compare, of those that a model gives."""
    branches = model.model.head.branches
    given = {"keypoint": "pose" in branches, "mask": "segment" in branches, "next_box": branches["track"].next_box}
    further = [cue for cue in CUES if cue not in BASE and given.get(cue, True)]
    return [BASE[:1], BASE, *((*BASE, cue) for cue in further), (*BASE, *further)]


def measure(model: MultiTaskYOLO, args: argparse.Namespace, cues: tuple[str, ...], folder: Path) -> dict[str, float]:
    """Return the figures with some of the cues, shares in percent."""
    file = folder / f"{'-'.join(cues)}.yaml"
    file.write_text(yaml.safe_dump({"tracker_type": "multicue", **{f"{c}_weight": 0 for c in CUES if c not in cues}}))
    metrics = model.val(
        data=args.data, split=args.split, imgsz=args.imgsz, tracker=str(file), plots=False, project=folder, name="val"
    )
    found = {name: metrics.results_dict[f"metrics/{name}(T)"] for name in FIGURES}
    return {name: value if name == "IDSW" else 100 * value for name, value in found.items()}


def table(results: dict[tuple[str, ...], dict[str, float]]) -> str:
    """Return a Markdown table with a row for each set of cues."""
    lines = [f"| cues | {' | '.join(FIGURES)} |", "|---|" + "--:|" * len(FIGURES)]
    for cues, figures in results.items():
        cells = (f"{figures[name]:.0f}" if name == "IDSW" else f"{figures[name]:.1f}" for name in FIGURES)
        lines.append(f"| {' + '.join(cues).replace('_', ' ')} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
