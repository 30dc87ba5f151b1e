"""Every stage knows the same tasks."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch
from support.models import tiny_model

from yolo_multitask.losses import MultiTaskLoss
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
    layout = RowLayout(nc=3, nk=51, nm=32)
    assert (layout.kpt, layout.mask) == (slice(6, 57), slice(57, 89))
    assert 6 + layout.extra == layout.mask.stop


def test_row_layout_agrees_with_the_head() -> None:
    model = tiny_model(nc=3).eval()
    rows = model(torch.rand(1, 3, 64, 64))[0][0]
    assert rows.shape[1] == 4 + 3 + model.head.layout.extra
