"""Ultralytics' TensorBoard and W&B callbacks with our trainer, against stand-ins of the two packages."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import pytest
import ultralytics.utils
from support.training import train, write_model, write_world

from yolo_multitask import MultiTaskYOLO
from yolo_multitask.tasks import SPECS

LOSSES = {loss for spec in SPECS.values() for loss in spec.losses}
EXPECTED = (
    {f"{split}/{loss}" for split in ("train", "val") for loss in LOSSES}
    | {f"metrics/mAP50-95({spec.letter})" for spec in SPECS.values() if spec.precision}
    | {"metrics/HOTA(T)", "metrics/IDSW(T)", "lr/pg0"}
)


def host_callbacks(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the callbacks of the host's integration `name`, loaded anew as outside pytest, where they are on."""
    monkeypatch.setattr(ultralytics.utils, "TESTS_RUNNING", False)
    file = Path(ultralytics.utils.__file__).parent / "callbacks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"fresh_{name}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.callbacks, f"the host has turned its {name} callbacks off"
    return dict(module.callbacks)


def train_with(callbacks: dict[str, Any], folder: Path, **kwargs: Any) -> None:
    """Train a tiny model for an epoch with these callbacks."""
    model = MultiTaskYOLO(write_model(folder / "tiny-multitask.yaml"))
    for event, callback in callbacks.items():
        model.add_callback(event, callback)
    train(model, write_world(folder / "data", figures=(2, 2), objects=1), folder / "run", **kwargs)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*torch.jit.trace:FutureWarning")  # by the host
def test_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = MagicMock()
    package = ModuleType("torch.utils.tensorboard")
    package.SummaryWriter = MagicMock(return_value=writer)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, package.__name__, package)
    train_with(host_callbacks("tensorboard", monkeypatch), tmp_path)
    package.SummaryWriter.assert_called_once_with(str(tmp_path / "run"))
    logged = {key: (float(value), step) for key, value, step in (call.args for call in writer.add_scalar.mock_calls)}
    assert set(logged) >= EXPECTED
    assert all(logged[f"train/{loss}"][0] > 0 for loss in LOSSES)
    assert {logged[f"train/{loss}"][1] for loss in LOSSES} == {1}
    writer.add_graph.assert_called_once()
    writer.close.assert_called_once()


def test_weights_and_biases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = MagicMock(__version__="1", run=None)
    package.init.side_effect = lambda **_: setattr(package, "run", MagicMock())
    monkeypatch.setitem(sys.modules, "wandb", package)
    train_with(host_callbacks("wb", monkeypatch), tmp_path, plots=True)
    assert package.init.call_args.kwargs["config"]["tasks"] == list(SPECS)
    logged: dict[str, Any] = {}
    for call in package.run.log.mock_calls:
        logged.update(call.args[0])
    assert set(logged) >= EXPECTED | {"BoxPR_curve", "MaskPR_curve", "PosePR_curve", "HOTA_curve"}
    assert all(float(logged[f"train/{loss}"]) > 0 for loss in LOSSES)
    curves = {key for call in package.log.mock_calls for key in call.args[0]}
    assert curves == {
        f"curves/{curve}({spec.letter})"
        for spec in SPECS.values()
        if spec.precision
        for curve in ("Precision-Recall", "F1-Confidence", "Precision-Confidence", "Recall-Confidence")
    }
    package.run.log_artifact.assert_called_once()
