"""The bar chart: any name, and nothing of the user's figures is touched."""

from __future__ import annotations

import threading
from pathlib import Path

import cv2
import matplotlib.pyplot as plt
import pytest
from support.models import tiny_model

from yolo_multitask import MultiTaskYOLO
from yolo_multitask.benchmark.chart import draw_chart
from yolo_multitask.benchmark.contender import own_copy
from yolo_multitask.benchmark.settings import read_settings


def test_names_are_no_mathematics_and_open_figures_stay(tmp_path: Path) -> None:
    mine = plt.figure()
    draw_chart(tmp_path / "a.png", [("a$x_$.pt", 2.0, 1.5, 2.5), ("b.pt + c.pt", 4.0, 3.0, 4.5)], 5)
    assert plt.get_fignums() == [mine.number]
    plt.close(mine)
    assert cv2.imread(str(tmp_path / "a.png")).shape[1] == 9 * 150


def test_callbacks_need_not_be_copied() -> None:
    model = MultiTaskYOLO("yolov8n-multitask.yaml")
    model.model = tiny_model()
    lock = threading.Lock()
    model.add_callback("on_predict_start", lambda _, lock=lock: lock.locked())
    model.add_callback("on_predict_start", lock.acquire)
    copy = own_copy(model)
    copy.reset_callbacks()
    assert lock.acquire not in copy.callbacks["on_predict_start"]
    assert lock.acquire in model.callbacks["on_predict_start"]


@pytest.mark.parametrize("given", [{"name": ["x"]}, {"project": ["x"]}, {"data": 3}])
def test_paths_are_words(given: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be a path or a name"):
        read_settings(given)
    assert read_settings({"name": 1}).name == "1"
