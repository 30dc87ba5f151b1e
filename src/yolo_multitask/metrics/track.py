"""Tracking figures of the sequences of a data set, their table and their plot."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ultralytics.utils import plt_settings

from yolo_multitask.metrics.tracking import ALPHAS, SequenceAccumulator, TrackingResult, combine

COLUMNS = ("HOTA", "DetA", "AssA", "MOTA", "IDF1", "IDSW")  # of the metric keys, in their order
COMBINED = "COMBINED"  # name of the row of all sequences together, as in TrackEval
_CURVES = ("HOTA", "DetA", "AssA", "LocA")


class TrackMetric:
    """HOTA, CLEAR and identity measures of each sequence, and of all together.

    Sequences, and the classes within each, are combined as TrackEval combines sequences: counts are summed, so that
    each object counts the same, whatever sequence or class it is of.

    Attributes:
        per_sequence: `TrackingResult` by sequence.
        result: That of all sequences; without any, all counts are 0.
        hota: Of all sequences; fractions in 0..1, MOTA at most 1, and so below.
        deta: Detection accuracy.
        assa: Association accuracy.
        loca: Localisation accuracy.
        mota: Multiple object tracking accuracy.
        idf1: Identity F1.
        idsw: Number of identity switches.
        frag: Number of fragmentations.
        fp: Number of false positives.
        fn: Number of false negatives.
    """

    per_sequence: dict[str, TrackingResult]
    result: TrackingResult
    hota: float
    deta: float
    assa: float
    loca: float
    mota: float
    idf1: float
    idsw: int
    frag: int
    fp: int
    fn: int

    def __init__(self) -> None:
        self.update({})

    def update(self, results: Mapping[str, Sequence[TrackingResult]]) -> None:
        """Replace all figures.

        Args:
            results: One or more results of each sequence, one for each class.
        """
        self.per_sequence = {name: combine(parts) for name, parts in results.items()}
        parts = [part for of_sequence in results.values() for part in of_sequence]
        self.result = combine(parts) if parts else SequenceAccumulator().compute()
        for name, value in self.result.summary().items():
            setattr(self, name.lower(), value)

    def mean_results(self) -> list[float]:
        """Return the figures of all sequences, in the order of `COLUMNS`."""
        summary = self.result.summary()
        return [float(summary[column]) for column in COLUMNS]

    def rows(self) -> list[tuple[str, dict[str, float | int]]]:
        """Return name and summary of each sequence, then of all together."""
        named = [*self.per_sequence.items(), (COMBINED, self.result)]
        return [(name, result.summary()) for name, result in named]

    def save_csv(self, file: Path) -> None:
        """Write `rows` as a table with full precision; the file is written whole or not at all."""
        rows = self.rows()
        partial = file.with_suffix(".partial.csv")
        with open(partial, "w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(("sequence", *rows[0][1]))
            writer.writerows((name, *summary.values()) for name, summary in rows)
        os.replace(partial, file)

    @plt_settings()
    def plot(self, file: Path, on_plot: Callable[..., Any] | None = None) -> None:
        """Plot HOTA and its parts over the similarity threshold alpha.

        Args:
            file: Where to.
            on_plot: Called with the path, as the host does.
        """
        import matplotlib.pyplot as plt  # as the host: plotting is not needed to import

        fig, ax = plt.subplots(1, 1, figsize=(9, 6), tight_layout=True)
        for name in _CURVES:
            curve, mean = getattr(self.result, name.lower()), self.result.mean(name.lower())
            ax.plot(ALPHAS, curve, linewidth=3 if name == "HOTA" else 1, label=f"{name} {mean:.3f}")
        ax.set(xlabel="Alpha", ylabel="Score", xlim=(0, 1), ylim=(0, 1), title="HOTA-Alpha Curve")
        ax.legend(bbox_to_anchor=(1.04, 1), loc="upper left")
        fig.savefig(file, dpi=250)
        plt.close(fig)
        if on_plot:
            on_plot(file)
