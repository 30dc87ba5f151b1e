"""Exported files that the tests of the runtime share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnxruntime.transformers.float16 import convert_float_to_float16
from support.blobs import write_blobs
from support.exported import KINDS, SIZE
from support.training import random_model

from yolo_multitask import MultiTaskYOLO


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return what gives the file of a kind; each is exported once."""
    folder = tmp_path_factory.mktemp("exported")
    model = random_model(folder, 2, (5, 3), embed_dim=8, next=True)
    model.save(folder / "tiny.pt")

    def export(kind: str) -> Path:
        file = folder / f"{kind}.onnx"
        if file.is_file():
            return file
        if kind == "half":
            source = onnx.load(export("dynamic"))
            onnx.save(convert_float_to_float16(source, keep_io_types=False), file)
            return file
        made = MultiTaskYOLO(folder / "tiny.pt").export(
            format="onnx", imgsz=SIZE, device="cpu", simplify=False, **KINDS[kind]
        )
        return Path(made).rename(file)

    return export


@pytest.fixture(scope="session")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of the network that finds blobs."""
    return write_blobs(tmp_path_factory.mktemp("blobs") / "blobs.onnx")
