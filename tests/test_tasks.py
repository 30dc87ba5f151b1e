"""Every stage knows the same tasks."""

from __future__ import annotations

from dataclasses import fields
from importlib.util import find_spec

import pytest
import torch
from support.models import make_batch, tiny_model
from ultralytics.utils.metrics import Metric

from yolo_multitask.data.spec import LABEL_KEYS
from yolo_multitask.losses import MultiTaskLoss
from yolo_multitask.metrics.multitask import MultiTaskMetrics
from yolo_multitask.nn.branches import BRANCHES
from yolo_multitask.tasks import BRANCH_TASKS, SPECS, TASKS, RowLayout


def test_registries_have_the_same_tasks() -> None:
    assert set(BRANCHES) == set(BRANCH_TASKS)
    assert set(SPECS) == {"detect", *BRANCH_TASKS}
    assert set(SPECS) <= set(TASKS)
    assert set(MultiTaskLoss(tiny_model()).losses) == set(BRANCH_TASKS)
    assert all(branch.task == task for task, branch in BRANCHES.items())


@pytest.mark.parametrize("task", list(SPECS))
def test_each_stage_has_a_file_of_the_tasks_name(task: str) -> None:
    stages = ["losses", "metrics"] + (["nn.branches"] if task in BRANCHES else [])
    for stage in stages:
        assert find_spec(f"yolo_multitask.{stage}.{task}") is not None, f"{stage}/{task}.py"


def test_row_layout_covers_the_row_without_gap_or_overlap() -> None:
    layout = RowLayout(nc=3, nk=51, nm=32, ne=16, nb=4)
    assert (layout.kpt, layout.mask) == (slice(6, 57), slice(57, 89))
    assert (layout.embed, layout.next) == (slice(89, 105), slice(105, 109))
    assert 6 + layout.extra == layout.next.stop
    nothing = RowLayout(nc=3)
    assert {(s.start, s.stop) for s in (nothing.kpt, nothing.mask, nothing.embed, nothing.next)} == {(6, 6)}


@pytest.mark.parametrize("task", list(SPECS))
def test_a_spec_names_what_is_there(task: str) -> None:
    spec = SPECS[task]
    assert spec.name == task
    assert spec.label in ("box", *LABEL_KEYS)
    assert hasattr(MultiTaskMetrics(), spec.metric)
    assert (spec.flag is None) == (task not in BRANCHES)
    model = tiny_model()
    if task in BRANCHES:
        row = model.head.branches[task].row
        assert {field: getattr(model.head.layout, field) for field in row} == row
        assert all(width > 0 for width in row.values())
    batch = make_batch()
    assert spec.flag is None or batch[spec.flag].dtype == torch.bool
    raw = model.train()(batch["img"])
    items = MultiTaskLoss(model)(raw, batch)[1]
    assert set(spec.losses) <= set(items)
    assert set(spec.raw) <= set(raw)
    assert len(spec.gains) == len(spec.losses)
    assert all(hasattr(model.args, gain) for gain in spec.gains)


def test_the_branches_fill_the_row() -> None:
    head = tiny_model(nc=3).head
    rows = [branch.row for branch in head.branches.values()]
    assert sorted(field for row in rows for field in row) == sorted({f.name for f in fields(RowLayout)} - {"nc"})
    assert sum(sum(row.values()) for row in rows) == head.layout.extra


@pytest.mark.parametrize("task", list(SPECS))
def test_what_is_measured_by_average_precision_says_so(task: str) -> None:
    assert isinstance(getattr(MultiTaskMetrics(), SPECS[task].metric), Metric) == SPECS[task].precision


def test_row_layout_agrees_with_the_head() -> None:
    model = tiny_model(nc=3).eval()
    rows = model(torch.rand(1, 3, 64, 64))[0][0]
    assert rows.shape[1] == 4 + 3 + model.head.layout.extra
