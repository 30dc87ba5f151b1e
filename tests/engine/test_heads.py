"""What a model behind a host backend can compute."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from support.models import tiny_model
from ultralytics.nn.autobackend import AutoBackend

from yolo_multitask.engine.heads import activate, find_head, model_tasks
from yolo_multitask.tasks import RowLayout


def test_backend_around_a_model() -> None:
    model = tiny_model(nc=2, kpt_shape=(5, 3))
    backend = AutoBackend(model, device=torch.device("cpu"), fuse=False, verbose=False)
    assert find_head(model) is model.head
    assert find_head(backend) is backend.model.head
    assert model_tasks(backend) == ("detect", "segment", "pose", "track")
    assert activate(backend, ("pose",)) == RowLayout(nc=2, nk=15)
    assert backend.model.head.active == ("detect", "pose")
    assert activate(backend, ("track",)) == RowLayout(nc=2, ne=16, nb=4)
    assert activate(backend, model_tasks(backend)) == RowLayout(nc=2, nk=15, nm=32, ne=16, nb=4)


def test_exported_file_computes_all_its_tasks() -> None:
    metadata = {"tasks": ["detect", "segment", "pose"], "nm": 32, "embed_dim": 0, "next": False}
    metadata["kpt_shape"] = [5, 3]
    file = SimpleNamespace(format="onnx", metadata=metadata, names={0: "a", 1: "b"})
    assert find_head(file) is None
    assert model_tasks(file) == ("detect", "segment", "pose")
    assert activate(file, ("detect",)) == RowLayout(nc=2, nk=15, nm=32)


def test_stock_models_are_refused() -> None:
    with pytest.raises(ValueError, match="expected a MultiTaskModel .* found Linear without 'tasks'"):
        model_tasks(torch.nn.Linear(1, 1))
