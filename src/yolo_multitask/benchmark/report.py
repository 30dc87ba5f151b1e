"""What a benchmark found: one row a model, as a table, files and a picture."""

from __future__ import annotations

import csv
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from yolo_multitask.benchmark.chart import draw_chart
from yolo_multitask.benchmark.memory import Memory
from yolo_multitask.benchmark.timing import Comparison, quartiles

STAGES = ("preprocess", "inference", "postprocess")
NOTHING = "–"
MEASURES = {
    "metrics/mAP50-95(B)": "box AP",
    "metrics/mAP50-95(M)": "mask AP",
    "metrics/mAP50-95(P)": "pose AP",
    "metrics/HOTA(T)": "HOTA",
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """What was measured of a model, or of several run one after the other.

    Attributes:
        name: The model.
        tasks: What it computes.
        format: That of its file: `pt`, `onnx`, ...
        parameters: After fusion; None where they cannot be counted.
        gflops: Of all its branches at all anchors; None likewise.
        predict_ms: Milliseconds of each whole `predict` of one image.
        stages_ms: Those of each of `STAGES`, which lie within it.
        forward_ms: Milliseconds of each forward pass, by batch size.
        memory: Its peak while predicting.
        file_mib: Size of an exported file in MiB; None for a network.
        found: Objects found in the image.
        metrics: Measures on the data set, by the keys of the host; empty without one.
    """

    name: str
    tasks: tuple[str, ...]
    format: str
    parameters: int | None
    gflops: float | None
    predict_ms: list[float]
    stages_ms: Mapping[str, list[float]]
    forward_ms: Mapping[int, list[float]]
    memory: Memory
    file_mib: float | None
    found: int
    metrics: Mapping[str, float]

    @property
    def latency(self) -> float:
        """Median milliseconds of a `predict`."""
        return statistics.median(self.predict_ms)

    @property
    def spread(self) -> tuple[float, float]:
        """First and third quartile of the same."""
        return quartiles(self.predict_ms)

    @property
    def stages(self) -> dict[str, float]:
        """Median milliseconds of each stage."""
        return {stage: statistics.median(times) for stage, times in self.stages_ms.items()}

    @property
    def throughput(self) -> dict[int, float]:
        """Images per second of the forward pass by batch size, from the median time."""
        return {size: size * 1e3 / statistics.median(times) for size, times in self.forward_ms.items()}

    def flat(self) -> dict[str, Any]:
        """Return its figures by the names of the columns of the CSV file, times in ms, memory in MiB."""
        low, high = self.spread
        return {
            "model": self.name,
            "tasks": " ".join(self.tasks),
            "format": self.format,
            "parameters": self.parameters,
            "gflops": self.gflops,
            "predict_ms": self.latency,
            "predict_q1_ms": low,
            "predict_q3_ms": high,
            **{f"{stage}_ms": value for stage, value in self.stages.items()},
            **{f"images_per_s_batch_{size}": value for size, value in self.throughput.items()},
            "memory_peak_mib": self.memory.peak,
            "memory_growth_mib": self.memory.growth,
            "memory_device_mib": self.memory.device,
            "file_mib": self.file_mib,
            "found": self.found,
            **self.metrics,
        }


def one_after_the_other(rows: Sequence[Row], memory: Memory) -> Row:
    """Return what models cost together whose runs of a round stand next to each other: sums, round by round.

    Args:
        rows: The models.
        memory: That of all of them in one process.
    """

    def added(lists: Sequence[Sequence[float]]) -> list[float]:
        return [sum(times) for times in zip(*lists, strict=True)]

    def total(key: str) -> Any:
        values = [getattr(row, key) for row in rows]
        return None if None in values else sum(values)

    return Row(
        name=" + ".join(row.name for row in rows),
        tasks=tuple(dict.fromkeys(task for row in rows for task in row.tasks)),
        format=" + ".join(dict.fromkeys(row.format for row in rows)),
        parameters=total("parameters"),
        gflops=total("gflops"),
        predict_ms=added([row.predict_ms for row in rows]),
        stages_ms={stage: added([row.stages_ms[stage] for row in rows]) for stage in STAGES},
        forward_ms={size: added([row.forward_ms[size] for row in rows]) for size in rows[0].forward_ms},
        memory=memory,
        file_mib=total("file_mib"),
        found=sum(row.found for row in rows),
        metrics={},
    )


@dataclass(frozen=True, kw_only=True)
class BenchmarkReport:
    """What a benchmark found; `str` of it is a markdown table with notes.

    Attributes:
        rows: The model, its exports, then each that it is measured against.
        separate: The last run one after the other; the same row as its own where there is one, None without any.
        settings: What was asked for, and what became of it: device, threads, size.
        machine: Where it was measured, and with which versions.
        notes: What a reader of the table has to know.
        save_dir: Folder of the files.
    """

    rows: Sequence[Row]
    separate: Row | None
    settings: Mapping[str, Any]
    machine: Mapping[str, Any]
    notes: Sequence[str]
    save_dir: Path

    @property
    def all_rows(self) -> list[Row]:
        """All rows of the table, `separate` last where it is none of `rows`."""
        extra = [self.separate] if self.separate is not None and self.separate not in self.rows else []
        return [*self.rows, *extra]

    @property
    def comparison(self) -> Comparison | None:
        """Times of `predict` of the model and of `separate`; None without."""
        if self.separate is None:
            return None
        return Comparison(one_ms=self.rows[0].predict_ms, two_ms=self.separate.predict_ms)

    def __str__(self) -> str:
        """Return the table, the ratio, and the notes."""
        parts = [table(self.all_rows)]
        if self.comparison is not None:
            parts.append(self._ratio(self.comparison))
        parts.append("\n".join(self.notes))
        return "\n\n".join(parts)

    def _ratio(self, comparison: Comparison) -> str:
        assert self.separate is not None
        low, high = comparison.quartiles
        text = [f"predict {comparison.ratio:.2f} [{low:.2f}–{high:.2f}]"]
        for name, key in (("GFLOPs", "gflops"), ("parameters", "parameters")):
            one, two = getattr(self.rows[0], key), getattr(self.separate, key)
            if one and two:
                text.append(f"{name} {one / two:.2f}")
        return f"{self.rows[0].name} / {self.separate.name}: {', '.join(text)}"

    def save(self, folder: Path) -> None:
        """Write `benchmark.csv`, `.json` and `.png` to a folder; the JSON file has every single time."""
        rows = [row.flat() for row in self.all_rows]
        with open(folder / "benchmark.csv", "w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, list(dict.fromkeys(key for row in rows for key in row)))
            writer.writeheader()
            writer.writerows(rows)
        content = {
            "machine": self.machine,
            "settings": self.settings,
            "notes": self.notes,
            "rows": [asdict(row) for row in self.rows],
            "separate": None if self.separate is None else asdict(self.separate),
            "comparison": None if self.comparison is None else self.comparison.summary(),
        }
        (folder / "benchmark.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        bars = [(row.name, row.latency, *row.spread) for row in self.all_rows]
        draw_chart(folder / "benchmark.png", bars, len(self.rows[0].predict_ms))


def table(rows: Sequence[Row]) -> str:
    """Return the figures of models as a markdown table."""
    sizes = list(rows[0].forward_ms)
    measures = [key for key in MEASURES if any(key in row.metrics for row in rows)]
    on_device = any(row.memory.device is not None for row in rows)
    in_files = any(row.file_mib is not None for row in rows)
    head = ["model", "tasks", "parameters, M", "GFLOPs", "predict, ms", "pre + inference + post, ms"]
    head += [f"images/s, batch {size}" for size in sizes]
    head += ["memory, MiB", *["device memory, MiB"] * on_device, *["file, MiB"] * in_files, "objects"]
    head += [MEASURES[key] for key in measures]
    lines = [f"| {' | '.join(head)} |", f"|---|---|{'--:|' * (len(head) - 2)}"]
    for row in rows:
        (low, high), memory = row.spread, row.memory
        cells = [
            row.name,
            ", ".join(row.tasks),
            _number(row.parameters and row.parameters / 1e6),
            _number(row.gflops),
            f"{row.latency:.1f} [{low:.1f}–{high:.1f}]",
            " + ".join(f"{row.stages[stage]:.1f}" for stage in STAGES),
            *(_number(row.throughput[size]) for size in sizes),
            _number(memory.growth, 0),
            *[_number(memory.device, 0)] * on_device,
            *[_number(row.file_mib)] * in_files,
            str(row.found),
            *(_number(row.metrics.get(key), 3) for key in measures),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _number(value: float | None, digits: int = 1) -> str:
    return NOTHING if value is None else f"{value:.{digits}f}"
