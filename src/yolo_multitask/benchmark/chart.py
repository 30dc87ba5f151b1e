"""The bar chart of a benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def draw_chart(file: Path, bars: Sequence[tuple[str, float, float, float]], runs: int) -> None:
    """Draw one bar a model.

    Args:
        file: Picture to write.
        bars: Name, median, first and third quartile of each, in milliseconds.
        runs: How many runs they are of.
    """
    from matplotlib.figure import Figure  # not pyplot: that would touch the user's figures and backend

    names = [name.replace(" + ", " +\n").replace("$", r"\$") for name, *_ in bars]  # not mathematics
    medians = [median for _, median, _, _ in bars]
    errors = [[m - low for _, m, low, _ in bars], [high - m for _, m, _, high in bars]]
    fig = Figure(figsize=(9, 1.2 + 0.8 * len(bars)), layout="tight")
    ax = fig.subplots()
    places = range(len(bars))
    drawn = ax.barh(places, medians, xerr=errors, capsize=4, color=[f"C{i}" for i in places])
    ax.bar_label(drawn, labels=[f"{median:.1f}" for median in medians], padding=6)
    ax.set_yticks(places, names)
    ax.margins(x=0.12)
    ax.invert_yaxis()
    ax.set(xlabel=f"predict of one image, ms: median and quartiles of {runs} runs in turn")
    fig.savefig(file, dpi=150)
