"""Prediction from every kind of source, and what it leaves on disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import GeneratorType
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from support.training import SIZE, random_model

from yolo_multitask import MultiTaskYOLO, Results
from yolo_multitask.data.labels import LabelSpec, read_labels
from yolo_multitask.data.synthetic import WorldConfig, write_clip
from yolo_multitask.engine import sources as sources_module

NC, KPT, FRAMES = 3, (5, 3), 5
SPEC = LabelSpec(nc=NC, kpt_shape=KPT, polygons=True)
BASE: dict[str, Any] = {"imgsz": SIZE, "conf": 0.3, "iou": 0.8, "max_det": 10, "verbose": False, "device": "cpu"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> MultiTaskYOLO:
    """Return a model whose random weights give detections everywhere."""
    return random_model(tmp_path_factory.mktemp("model"), NC, KPT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of three pictures of different shapes."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for name, shape in {"a": (48, 80, 3), "b": (80, 48, 3), "c": (64, 64, 3)}.items():
        cv2.imwrite(str(root / f"{name}.png"), rng.integers(0, 255, shape, dtype=np.uint8))
    return root


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a video of five frames."""
    config = WorldConfig(width=SIZE, height=48, figures=(1, 1))
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.avi", config=config, frames=FRAMES)


def aligned(result: Any, kpt: tuple[int, int] = KPT) -> int:
    """Check that every field has one entry a detection; return their number."""
    assert type(result) is Results
    n = len(result.boxes)
    assert len(result) == n == len(result.keypoints)
    assert n == (0 if result.masks is None else len(result.masks))
    assert result.keypoints.data.shape == (n, *kpt)
    assert result.boxes.data.shape == (n, 6)
    if n:
        height, width = result.orig_shape
        assert result.boxes.xyxy.min() >= 0
        assert (result.boxes.xyxy.amax(0) <= torch.tensor([width, height, width, height])).all()
        assert all(polygon.ndim == 2 for polygon in result.masks.xy)
    return n


def sources(folder: Path) -> dict[str, tuple[Any, int]]:
    """Return sources of files and arrays by name, with the number of results that each gives."""
    pictures = [cv2.imread(str(folder / f"{name}.png")) for name in "abc"]
    (folder.parent / "list.txt").write_text("".join(f"{folder / name}.png\n" for name in "ab"))
    return {
        "path": (folder / "a.png", 1),
        "text": (str(folder / "a.png"), 1),
        "folder": (folder, 3),
        "glob": (str(folder / "*.png"), 3),
        "list of paths": ([folder / "a.png", str(folder / "b.png")], 2),
        "list file": (folder.parent / "list.txt", 2),
        "array": (pictures[0], 1),
        "list of arrays": (pictures, 3),
        "grey array": (pictures[0][..., 0], 1),
        "PIL": (Image.open(folder / "a.png"), 1),
        "mixed list": ([pictures[0], Image.open(folder / "b.png")], 2),
        "tensor": (torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)), 2),
    }


NAMES = (
    *("path", "text", "folder", "glob", "list of paths", "list file", "array", "list of arrays", "grey array"),
    *("PIL", "mixed list", "tensor"),
)


@pytest.mark.parametrize("name", NAMES)
def test_every_source_gives_aligned_results(name: str, model: MultiTaskYOLO, folder: Path) -> None:
    source, count = sources(folder)[name]
    results = model.predict(source, **BASE)
    assert len(results) == count
    assert sum(aligned(result) for result in results) > 0


def test_a_picture_gives_the_same_from_every_source(model: MultiTaskYOLO, folder: Path) -> None:
    given = sources(folder)
    (expected,) = model.predict(given["path"][0], **BASE)
    for name in ("text", "folder", "list of paths", "list file", "array", "PIL"):
        found = model.predict(given[name][0], **BASE)[0]
        for field in ("boxes", "masks", "keypoints"):
            torch.testing.assert_close(getattr(found, field).data, getattr(expected, field).data, msg=name)
        np.testing.assert_array_equal(found.orig_img, expected.orig_img)
    assert expected.path == str(folder / "a.png")
    assert model(given["path"][0], **BASE)[0].boxes.data.shape == expected.boxes.data.shape


def test_video(model: MultiTaskYOLO, clip: Path, tmp_path: Path) -> None:
    results = model.predict(clip, save=True, project=str(tmp_path), name="out", **BASE)
    assert len(results) == FRAMES
    assert all(result.orig_shape == (48, SIZE) for result in results)
    assert sum(map(aligned, results)) > 0
    (saved,) = (tmp_path / "out").glob("clip.*")
    video = cv2.VideoCapture(str(saved))
    assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == FRAMES
    video.release()
    assert len(model.predict(clip, vid_stride=2, **BASE)) == FRAMES // 2
    assert len(model.predict(clip, batch=2, **BASE)) == FRAMES


def test_videos_of_a_list_are_downloaded_as_one_is(
    model: MultiTaskYOLO, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link to a video file is no stream, in a list as elsewhere."""
    asked: list[str] = []

    def check_file(name: str) -> str:
        asked.append(name)
        return str(clip)

    monkeypatch.setattr(sources_module, "check_file", check_file)
    results = model.track(["https://example.com/a/clip.mp4", str(clip)], **BASE)
    assert asked == ["https://example.com/a/clip.mp4"]
    assert len(results) == 2 * FRAMES


def test_stream_is_a_generator(model: MultiTaskYOLO, clip: Path, folder: Path) -> None:
    stream = model.predict(clip, stream=True, **BASE)
    assert isinstance(stream, (GeneratorType, Iterator))
    assert aligned(next(stream)) >= 0
    assert sum(1 for _ in stream) == FRAMES - 1
    listed = model.predict(folder, **BASE)
    for streamed, result in zip(model.predict(folder, stream=True, **BASE), listed, strict=True):
        torch.testing.assert_close(streamed.boxes.data, result.boxes.data)
    abandoned = model.predict(folder, stream=True, **BASE)
    next(abandoned)
    abandoned.close()
    assert len(model.predict(folder, **BASE)) == 3, "the object can be used after a stream was left"


def test_batches_give_the_same(model: MultiTaskYOLO, folder: Path) -> None:
    together = model.predict(folder, batch=2, rect=False, **BASE)
    alone = model.predict(folder, batch=1, rect=False, **BASE)
    for a, b in zip(together, alone, strict=True):
        assert a.path == b.path
        torch.testing.assert_close(a.boxes.data, b.boxes.data, rtol=1e-3, atol=1e-2)
        torch.testing.assert_close(a.keypoints.data, b.keypoints.data, rtol=1e-3, atol=1e-2)


def test_everything_that_can_be_saved(model: MultiTaskYOLO, folder: Path, tmp_path: Path) -> None:
    where = {"project": str(tmp_path), "name": "out"}
    results = model.predict(folder, save=True, save_txt=True, save_conf=True, save_crop=True, **where, **BASE)
    out = tmp_path / "out"
    for result in results:
        stem = Path(result.path).stem
        assert list(out.glob(f"{stem}.*"))
        labels, problems = read_labels(out / "labels" / f"{stem}.txt", SPEC)
        assert [p for p in problems if p.kind == "error"] == []
        assert len(labels) == len(result) > 0
        np.testing.assert_array_equal(labels.cls, result.boxes.cls)
        np.testing.assert_allclose(labels.conf, result.boxes.conf, rtol=1e-5)
        np.testing.assert_allclose(labels.boxes, result.boxes.xywhn, atol=1e-5)
        visible = labels.keypoints[..., 2] > 0.5
        shown = result.keypoints.xyn.numpy().clip(0, 1)
        np.testing.assert_allclose(labels.keypoints[..., :2][visible], shown[visible], atol=1e-5)
        assert labels.has_polygon.any()
        assert Path(result.save_dir) == out
    crops = [cv2.imread(str(path)) for path in (out / "crops").rglob("*.jpg")]
    assert crops
    assert all(crop is not None and crop.size for crop in crops)

    model.predict(folder / "a.png", save_txt=True, project=str(tmp_path), name="plain", **BASE)
    labels, _ = read_labels(tmp_path / "plain" / "labels" / "a.txt", SPEC)
    assert np.isnan(labels.conf).all(), "without save_conf there is no @conf"


def test_nothing_is_saved_unless_asked(model: MultiTaskYOLO, folder: Path, tmp_path: Path) -> None:
    model.predict(folder, project=str(tmp_path), name="out", **BASE)
    assert not (tmp_path / "out").exists()


def test_frames_of_a_video_have_label_files(model: MultiTaskYOLO, clip: Path, tmp_path: Path) -> None:
    settings = {**BASE, "conf": 0.1}
    results = model.predict(clip, save_txt=True, project=str(tmp_path), name="out", **settings)
    files = sorted((tmp_path / "out" / "labels").glob("clip_*.txt"), key=lambda p: int(p.stem.split("_")[-1]))
    assert len(files) == sum(len(result) > 0 for result in results)
    for file, result in zip(files, [r for r in results if len(r)], strict=True):
        assert len(read_labels(file, SPEC)[0]) == len(result)


def test_arguments_choose_what_is_kept(model: MultiTaskYOLO, folder: Path) -> None:
    everything = model.predict(folder, **{**BASE, "max_det": 300})
    assert all(c in {0.0, 1.0, 2.0} for r in everything for c in r.boxes.cls.tolist())
    for kept, full in zip(model.predict(folder, classes=[1], **{**BASE, "max_det": 300}), everything, strict=True):
        assert aligned(kept) == int((full.boxes.cls == 1).sum())
    for kept, full in zip(model.predict(folder, **{**BASE, "max_det": 2}), everything, strict=True):
        assert aligned(kept) == min(2, len(full))
        torch.testing.assert_close(kept.boxes.conf, full.boxes.conf[:2])
    high = float(max(r.boxes.conf.max() for r in everything)) - 1e-4
    for kept in model.predict(folder, **{**BASE, "conf": high}):
        assert aligned(kept) <= 1
    assert all(float(r.boxes.conf.min()) >= 0.3 for r in everything)


def test_retina_masks_are_those_of_the_picture(model: MultiTaskYOLO, folder: Path) -> None:
    fine = model.predict(folder / "a.png", retina_masks=True, **BASE)[0]
    coarse = model.predict(folder / "a.png", **BASE)[0]
    assert fine.masks.data.shape == (len(fine), *fine.orig_shape)
    torch.testing.assert_close(fine.boxes.data, coarse.boxes.data)
    assert set(fine.masks.data.unique().tolist()) <= {0, 1}
    aligned(fine)


def test_one_object_follows_its_switches(model: MultiTaskYOLO, folder: Path) -> None:
    """The predictor is reused: a switch counts for its own call, and changes nothing else."""
    expected = model.predict(folder, **BASE)
    predictor = model.predictor
    for switches in ({"segment": False}, {"pose": False}, {"segment": False, "pose": False}, {}, {"segment": True}):
        results = model.predict(folder, **BASE, **switches)
        assert model.predictor is predictor
        for result, full in zip(results, expected, strict=True):
            torch.testing.assert_close(result.boxes.data, full.boxes.data)
            assert (result.masks is None) is (switches.get("segment") is False)
            assert (result.keypoints is None) is (switches.get("pose") is False)
            if result.masks is not None:
                torch.testing.assert_close(result.masks.data, full.masks.data)
            if result.keypoints is not None:
                torch.testing.assert_close(result.keypoints.data, full.keypoints.data)
            assert result.plot().shape == full.orig_img.shape
    assert model.model.tasks == ("detect", "segment", "pose", "track")


def test_arguments_of_training_say_nothing_at_prediction(model: MultiTaskYOLO, folder: Path) -> None:
    for _ in range(2):  # with a new predictor and with the one of the first call
        results = model.predict(folder / "a.png", seg=3.0, pose=20.0, labels={"polygons": True}, **BASE)
        assert aligned(results[0])


def test_saved_labels_follow_the_switches(model: MultiTaskYOLO, folder: Path, tmp_path: Path) -> None:
    for name, switches in {"points": {"segment": False}, "masks": {"pose": False}}.items():
        model.predict(folder / "a.png", save_txt=True, project=str(tmp_path), name=name, **BASE, **switches)
    points, masks = (tmp_path / name / "labels" / "a.txt" for name in ("points", "masks"))
    assert len(read_labels(points, LabelSpec(nc=NC, kpt_shape=KPT, polygons=False))[0]) > 0
    assert len(read_labels(masks, LabelSpec(nc=NC, kpt_shape=None, polygons=True))[0]) > 0


def test_results_as_tables(model: MultiTaskYOLO, folder: Path) -> None:
    (result,) = model.predict(folder / "a.png", **BASE)
    summary = result.summary()
    assert len(summary) == len(result)
    assert {"name", "class", "confidence", "box", "segments", "keypoints"} <= set(summary[0])
    assert len(result.to_json()) > 10
    picked = result[[0]]
    assert aligned(picked) == 1
    assert aligned(result.cpu()) == len(result)
    assert isinstance(result.numpy().masks.data, np.ndarray)
