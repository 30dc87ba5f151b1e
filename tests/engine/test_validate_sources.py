"""Validation of several sources: together, and each as if it were alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from support.models import randomise
from support.training import RUN, train, write_model, write_world
from support.validation import ready_validator

from yolo_multitask import MultiTaskYOLO
from yolo_multitask.data.labels import LabelSpec
from yolo_multitask.data.sources import Source

VAL: dict[str, Any] = {k: v for k, v in RUN.items() if k != "epochs"}
SOURCES = [{"path": "a", "tasks": ["detect", "segment"]}, {"path": "b", "tasks": ["detect", "pose"]}]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write two small worlds, and data YAMLs that list one of them or both."""
    root = tmp_path_factory.mktemp("sources")
    for seed, name in enumerate("ab"):
        write_world(root / name, seed=seed)
    for name, listed in {"both": SOURCES, "first": SOURCES[:1], "second": SOURCES[1:]}.items():
        (root / f"{name}.yaml").write_text(yaml.safe_dump({"train": listed, "val": listed}))
    return root


@pytest.fixture(scope="module")
def model(root: Path) -> MultiTaskYOLO:
    """Return a model with random weights for the data."""
    return train(write_model(root / "tiny-multitask.yaml"), root / "both.yaml", root / "runs" / "start")


def validate(model: MultiTaskYOLO, root: Path, name: str) -> Any:
    """Validate on a data YAML."""
    return model.val(data=str(root / f"{name}.yaml"), project=str(root / "runs"), name=name, **VAL)


def test_each_source_is_measured_as_if_it_were_alone(model: MultiTaskYOLO, root: Path) -> None:
    randomise(model.model)
    both = validate(model, root, "both")
    assert both.tasks == ("detect", "segment", "pose")
    assert set(both.by_source) == {"a", "b"}
    for name, source in (("first", "a"), ("second", "b")):
        alone, part = validate(model, root, name), both.by_source[source]
        assert not alone.by_source, "there is nothing to divide"
        assert alone.tasks == part.tasks
        assert alone.results_dict == part.results_dict
        assert alone.nt_per_class.sum() == part.nt_per_class.sum() > 0
    assert both.nt_per_class.sum() == sum(part.nt_per_class.sum() for part in both.by_source.values())


def test_training_validates_each_source(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    trained = train(write_model(root / "tiny-multitask.yaml"), root / "both.yaml", root / "runs" / "logged")
    assert set(trained.trainer.validator.metrics.by_source) == {"a", "b"}


def test_what_a_source_cannot_judge(tmp_path: Path) -> None:
    """It has no masks, and of the classes only the first."""
    validator = ready_validator(tmp_path, {0: "person", 1: "car"})
    spec = LabelSpec(nc=2, kpt_shape=(2, 3), polygons=False)
    source = Source(
        name="a", paths=(), spec=spec, tasks=("detect", "pose"), classes={0: 0}, labelled=(0,), kpt_classes=(0,)
    )
    validator.sources = (source,)
    image = {"source": 0, "unlabelled": source.unlabelled(2)}
    found = {t: validator._can_be_judged(t, np.array([0.0, 1.0, 0.0]), image).tolist() for t in validator.tasks}
    assert found == {"detect": [True, False, True], "segment": [False] * 3, "pose": [True, False, True]}
