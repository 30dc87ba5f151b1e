"""The demo in miniature: everything that it promises is there and readable, and nothing is left after a failure."""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
import yaml

from yolo_multitask import demo
from yolo_multitask.configs import resolve_yaml
from yolo_multitask.data.synthetic import WorldConfig
from yolo_multitask.demo import LONG, SHORT, DemoConfig, labelled_result, metrics_table, run_demo
from yolo_multitask.metrics.multitask import MultiTaskMetrics
from yolo_multitask.model import MultiTaskYOLO
from yolo_multitask.tasks import BRANCH_TASKS

TINY = DemoConfig(
    world=WorldConfig(width=96, height=72, figures=(1, 2)),
    train_sequences=2,
    val_sequences=2,
    frames_per_sequence=2,
    imgsz=64,
    epochs=1,
    batch=2,
    pictures=3,
    clips=1,
    clip_frames=3,
)


def digests(folder: Path) -> dict[str, str]:
    """Return a hash of every file of a data set by its relative path."""
    files = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.suffix != ".cache")
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """Run the demo once: its folder, and what it returned."""
    out = tmp_path_factory.mktemp("demo") / "out"
    return out, run_demo(out, seed=3, config=TINY)


def test_the_folder_holds_what_is_promised_and_nothing_else(tiny: tuple[Path, dict[str, float]]) -> None:
    out, _ = tiny
    assert {p.name for p in out.iterdir()} == {
        "data",
        "train",
        "predictions.jpg",
        "tracking",
        "clip.avi",
        "clip-annotated.avi",
        "metrics.md",
        "summary.json",
    }
    assert [p.name for p in out.parent.iterdir()] == ["out"]
    assert not list(out.rglob("*.cache"))


def test_summary_has_every_metric_of_the_validator(tiny: tuple[Path, dict[str, float]]) -> None:
    out, metrics = tiny
    summary = json.loads((out / "summary.json").read_text())
    assert set(summary) == {"metrics", "metrics of best.onnx", "seconds", "versions", "threads", "seed", "config"}
    assert list(metrics) == MultiTaskMetrics(tasks=("detect", *BRANCH_TASKS)).keys
    assert summary["metrics"] == metrics
    assert list(summary["seconds"]) == ["render", "train", "validate", "predict", "track", "export", "total"]
    precisions = {k: v for k, v in metrics.items() if not k.endswith("(T)")}
    assert summary["metrics of best.onnx"] == pytest.approx(precisions, abs=2e-3)
    assert summary["seed"] == 3
    assert summary["config"]["world"]["width"] == 96
    assert summary["config"]["arguments"] == dict(demo.TRAINING)


def test_pictures_and_clips_can_be_read(tiny: tuple[Path, dict[str, float]]) -> None:
    out, _ = tiny
    height, width = 72 * demo.ZOOM + demo.CAPTION + demo.GAP, 2 * 96 * demo.ZOOM + demo.GAP
    sheet = cv2.imread(str(out / "predictions.jpg"))
    assert sheet.shape == (2 * height, 2 * width, 3)  # three pairs, two beside each other
    for name, zoom in (("clip.avi", 1), ("clip-annotated.avi", demo.ZOOM)):
        video = cv2.VideoCapture(str(out / name))
        frames = []
        while (read := video.read())[0]:
            frames.append(read[1])
        video.release()
        assert [f.shape for f in frames] == [(72 * zoom, 96 * zoom, 3)] * TINY.clip_frames, name


def test_the_checkpoint_names_the_final_folder(tiny: tuple[Path, dict[str, float]]) -> None:
    out, metrics = tiny
    best = out / "train" / "weights" / "best.pt"
    arguments = torch.load(best, map_location="cpu", weights_only=False)["train_args"]
    assert arguments["data"] == str(out / "data" / "data.yaml")
    assert ".tmp" not in (out / "train" / "args.yaml").read_text()
    model = MultiTaskYOLO(best)
    assert model.model.tasks == ("detect", "segment", "pose", "track")
    again = model.val(
        batch=2, device="cpu", workers=0, plots=False, rect=True, save_dir=out.parent / "val"
    )  # its own data
    assert dict(zip(again.keys, again.mean_results(), strict=True)) == metrics


def test_labelled_result_shows_the_labels(tiny: tuple[Path, dict[str, float]]) -> None:
    out, _ = tiny
    frame = next(iter(sorted((out / "data" / "images" / "val").rglob("*.jpg"))))
    result = labelled_result(frame, TINY.world)
    assert result.boxes is not None
    assert result.masks is not None
    assert result.keypoints is not None
    for box, mask in zip(result.boxes.xyxy, result.masks.data, strict=True):
        rows, columns = mask.nonzero(as_tuple=True)
        drawn = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()
        assert torch.allclose(drawn, box, atol=1.01)


def test_same_seed_same_data_other_seed_other_data(tiny: tuple[Path, dict[str, float]], tmp_path: Path) -> None:
    out, _ = tiny
    first = digests(out / "data")
    again = digests(demo._render(tmp_path / "again", TINY, seed=3).parent)
    other = digests(demo._render(tmp_path / "other", TINY, seed=4).parent)
    assert first == again
    images = [name for name in first if name.endswith(".jpg")]
    assert len(images) == 8 + TINY.clips * TINY.clip_frames
    assert not {first[name] for name in images} & {other[name] for name in images}
    assert len({first[name] for name in images}) == len(images)  # no frame of training in validation


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_folder_in_use_is_refused_before_any_work(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    if kind == "folder":
        out.mkdir()
        (out / "mine.txt").write_text("keep")
    else:
        out.write_text("keep")
    with pytest.raises(ValueError, match="expected a new or empty folder"):
        run_demo(out, config=TINY)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert (out / "mine.txt" if kind == "folder" else out).read_text() == "keep"


def test_a_negative_seed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="seed=-1: expected 0 or above"):
        run_demo(tmp_path / "out", seed=-1, config=TINY)


@pytest.mark.parametrize("stage", ["_train", "_validate", "_measure_tracks", "_draw_clip", "_settle"])
def test_nothing_is_left_after_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("injected")

    def checkpoint(folder: Path, *_: object) -> str:
        return "yolov8n-multitask.yaml"

    def render(folder: Path, config: DemoConfig, seed: int) -> Path:
        folder.mkdir()
        return folder / "data.yaml"

    quick = {"_render": render, "_train": checkpoint, "_draw_pictures": lambda *_: None}
    quick |= dict.fromkeys(("_validate", "_measure_tracks"), lambda *_: {})
    for name, stand_in in {**quick, "_draw_clip": lambda *_: None, stage: fail}.items():
        monkeypatch.setattr(demo, name, stand_in)
    threads = torch.get_num_threads()
    (tmp_path / "out").mkdir()
    with pytest.raises(RuntimeError, match="injected"):
        run_demo(tmp_path / "out", config=TINY)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert not list((tmp_path / "out").iterdir())
    assert torch.get_num_threads() == threads


def test_the_host_does_not_leave_a_core_idle() -> None:
    before = torch.get_num_threads()
    model = MultiTaskYOLO(SHORT.model)
    demo._use_threads(model, 2)
    try:
        model.predict(np.zeros((64, 64, 3), np.uint8), imgsz=64, device="cpu", verbose=False)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_both_budgets_use_the_world_as_it_is() -> None:
    assert SHORT.world == LONG.world == WorldConfig()
    assert (
        (SHORT.val_sequences, SHORT.frames_per_sequence) == (LONG.val_sequences, LONG.frames_per_sequence) == (24, 16)
    )


def test_the_schedule_rises_and_falls() -> None:
    group = {"initial_lr": 2.0, "lr": 0.0}
    trainer = SimpleNamespace(train_loader=range(10), epochs=2, optimizer=SimpleNamespace(param_groups=[group]))
    set_rate = demo.rate_schedule(0.1)
    rates = []
    for _ in range(20):
        set_rate(trainer)
        rates.append(group["lr"])
    assert rates[0] == 0
    assert rates[2] == pytest.approx(2.0)
    assert all(a < b for a, b in pairwise(rates[:3]))
    assert all(a > b for a, b in pairwise(rates[2:]))
    assert 0.02 <= rates[-1] < 0.05


def test_tracks_are_measured_on_the_test_sequences(tiny: tuple[Path, dict[str, float]]) -> None:
    out, metrics = tiny
    header, *rows = (out / "tracking" / "tracking.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows][-1] == "COMBINED"
    assert len(rows) == TINY.clips + 1
    combined = dict(zip(header.split(","), rows[-1].split(","), strict=True))
    for name in ("HOTA", "IDF1"):
        assert float(combined[name]) == pytest.approx(metrics[f"metrics/{name}(T)"], abs=1e-4)
    assert {p.name for p in (out / "tracking").iterdir()} == {"tracking.csv", "HOTA_curve.png"}


def test_the_table_leaves_out_what_was_not_measured() -> None:
    columns = ("precision", "recall", "mAP50", "mAP50-95")
    metrics = {f"metrics/{c}({letter})": 0.25 for c in columns for letter in "BP"}
    lines = metrics_table(metrics, {"train": 12.4}).splitlines()
    assert lines[2:4] == ["| Box | 0.250 | 0.250 | 0.250 | 0.250 |", "| Pose | 0.250 | 0.250 | 0.250 | 0.250 |"]
    assert "| train | 12 |" in lines
    assert not any("Mask" in line for line in lines)


def test_the_demo_model_is_in_the_package() -> None:
    for config in (SHORT, LONG):
        path = resolve_yaml(config.model, "models")
        assert path is not None
        assert yaml.safe_load(path.read_text())["head"][-1][2] == "MultiTask"
