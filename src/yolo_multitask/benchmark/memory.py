"""Peak memory of models, measured in a process of its own, which nothing else has touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from yolo_multitask.benchmark.contender import Contender

MIB = 2**20
TORCH_FORMATS = ("pt", "torchscript")  # formats that PyTorch runs


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Peak memory of a process that predicts, in MiB.

    Attributes:
        peak: Of the whole process, with Python and the libraries; None where the system does not tell.
        growth: What loading and running the models added to that; None likewise.
        device: What PyTorch allocated on a CUDA device; None on others, and where another runtime takes part, whose
            allocations PyTorch does not see.
    """

    peak: float | None
    growth: float | None
    device: float | None


def measure_memory(
    contenders: Sequence[Contender], image: Any, threads: int | None, runs: int, scratch: Path
) -> Memory:
    """Load the models in a new process, predict an image with one after the other, and return the peak.

    Args:
        contenders: The models, prepared.
        image: Image (H, W, 3), uint8 BGR.
        threads: Threads of PyTorch.
        runs: How often each predicts.
        scratch: Folder for what the processes tell each other.

    Raises:
        RuntimeError: If the process fails.
    """
    models = [{"file": c.file, "task": c.model.task, "arguments": c.arguments} for c in contenders]
    (scratch / "job.json").write_text(json.dumps({"models": models, "threads": threads, "runs": runs}))
    np.save(scratch / "image.npy", image)
    env = {**os.environ, "PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-m", "yolo_multitask.benchmark.memory", str(scratch)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", env=env, check=False)
    if done.returncode:
        why = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise RuntimeError(f"measuring the memory of {' and '.join(c.name for c in contenders)} failed: {why}")
    return Memory(**json.loads((scratch / "memory.json").read_text()))


def peak_resident() -> float | None:
    """Return the highest resident memory of this process so far in MiB, or None where the system does not tell."""
    status = Path("/proc/self/status")
    if status.is_file():  # on Linux, `ru_maxrss` of a new process begins with the peak of the one that started it
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / MIB if sys.platform == "darwin" else peak / 1024


def run_job(scratch: Path) -> Memory:
    """Do the job in `scratch` and return the memory that it took."""
    from yolo_multitask.benchmark.contender import Contender, open_model

    job = json.loads((scratch / "job.json").read_text())
    image = np.load(scratch / "image.npy")
    before = peak_resident()
    contenders = [
        Contender(open_model(m["file"], m["task"]), m["arguments"], scratch, job["threads"]) for m in job["models"]
    ]
    for _ in range(job["runs"]):
        for contender in contenders:
            contender.predict(image)
    peak = peak_resident()
    return Memory(
        peak=peak,
        growth=None if peak is None or before is None else peak - before,
        device=device_memory(contenders),
    )


def device_memory(contenders: Sequence[Contender]) -> float | None:
    """Return what PyTorch allocated at most on a CUDA device so far in MiB; None where it is not all that models took.

    Args:
        contenders: The models that ran in this process.
    """
    import torch

    device = contenders[0].backend.device
    if device.type != "cuda" or not all(contender.format in TORCH_FORMATS for contender in contenders):
        return None
    return float(torch.cuda.max_memory_allocated(device) / MIB)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    (folder / "memory.json").write_text(json.dumps(asdict(run_job(folder))))
