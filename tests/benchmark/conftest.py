"""Checkpoints that the tests of the benchmark share."""

from __future__ import annotations

import pytest
from support.benchmark import write_checkpoints, write_onnx


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the paths of small random models by name: best (multitask), detect, seg, pose."""
    return write_checkpoints(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="session")
def onnx_file(checkpoints: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the path of `best.onnx`, which takes 64 x 64 pixels alone."""
    return write_onnx(checkpoints["best"], tmp_path_factory.mktemp("onnx"))
