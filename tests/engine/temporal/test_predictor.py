"""Prediction where a perfect network finds what is there: every frame once, in order, and nothing mixed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.models import randomise
from support.oracle import SIZE, fly, frame, oracle, write_images, write_model, write_video

from yolo_multitask import MultiTaskYOLO
from yolo_multitask.data.clips.preprocess import Fit
from yolo_multitask.engine.temporal import predictor as module
from yolo_multitask.engine.temporal.clip import ClipState, FrameEstimates, Window
from yolo_multitask.engine.temporal.layout import TemporalLayout

BASE: dict[str, Any] = {"imgsz": 96, "verbose": False, "lazy": False, "device": "cpu"}
N = 11


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    return oracle(monkeypatch, tmp_path)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    frames = [frame([dot], [(10 + 2 * t, 25)]) for t, dot in enumerate(fly(N))]
    return write_images(tmp_path / "clip", frames)


def places(results: list[Any]) -> list[list[tuple[float, float]]]:
    """Return the positions of the objects of each result."""
    return [[tuple(p) for p in r.points.xy[r.points.known].tolist()] for r in results]


def assert_dots(results: list[Any], dots: list[Any], tolerance: float = 0.01) -> None:
    """Check that each result has the dot of its frame, and no other."""
    assert [len(p) for p in places(results)] == [1] * len(dots)
    found = np.array([p[0] for p in places(results)])
    np.testing.assert_allclose(found, np.array(dots) + 0.5, atol=tolerance)


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("settings", [{}, {"delay": 0}, {"delay": 2}, {"delay": 50}, {"window_stride": 4}], ids=str)
def test_every_frame_has_a_result_in_order(model: Any, clip: Path, settings: dict[str, Any], batch: int) -> None:
    results = model.predict(clip, batch=batch, **settings, **BASE)
    assert [Path(r.path).name for r in results] == [f"{t:06d}.png" for t in range(N)]
    assert_dots(results, fly(N))
    stride = settings.get("window_stride", 1)
    for t, result in enumerate(results):
        ends_window = (t + 1) % stride == 0 or t == N - 1
        names = [result.names[int(c)] for c in result.boxes.cls]
        assert names == ["0", "1"] if ends_window else ["0"], "players are those of the newest frame of a window"
        assert len(result.keypoints) == len(result.boxes) == len(result.points)
        if ends_window:
            np.testing.assert_allclose(result.boxes.xyxy[1], [10 + 2 * t, 25, 30 + 2 * t, 55], atol=0.01)
            np.testing.assert_allclose(result.keypoints.xy[1, 3], [20 + 2 * t, 40], atol=0.01)
            assert not result.points.known[1]
        assert not result.keypoints.xy[0].any(), "an object has no keypoints"


@pytest.mark.parametrize(("stride", "windows"), [(1, 11), (2, 6), (3, 4), (4, 3)])
def test_each_frame_is_prepared_once_and_each_window_computed_once(
    model: Any, clip: Path, monkeypatch: pytest.MonkeyPatch, stride: int, windows: int
) -> None:
    prepared = []
    prepare = module.prepare_frame
    monkeypatch.setattr(module, "prepare_frame", lambda *a, **k: prepared.append(1) or prepare(*a, **k))
    assert_dots(model.predict(clip, window_stride=stride, **BASE), fly(N))
    assert len(prepared) == N
    assert len(model.windows_seen) == windows


def test_all_windows_that_hold_a_frame_have_a_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clip: Path) -> None:
    """The confidence of a group is 0.2 + 0.2 * its number, so the mean over four windows is 0.5."""
    model = oracle(monkeypatch, tmp_path, confidence=lambda group, number: 0.2 + 0.2 * group)
    conf = [float(r.boxes.conf[0]) for r in model.predict(clip, conf=0.1, classes=[0], **BASE)]
    np.testing.assert_allclose(conf[: N - 3], 0.5, atol=1e-5)
    np.testing.assert_allclose(conf[N - 3 :], [0.6, 0.7, 0.8], atol=1e-5)  # fewer windows follow at the end
    live = [float(r.boxes.conf[0]) for r in model.predict(clip, conf=0.1, classes=[0], delay=0, **BASE)]
    np.testing.assert_allclose(live, 0.8, atol=1e-5)


def test_what_is_weak_in_the_mean_is_no_object(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clip: Path) -> None:
    model = oracle(monkeypatch, tmp_path, confidence=lambda group, number: 0.9 if group == 0 else 0.01)
    results = model.predict(clip, conf=0.5, **BASE)
    assert all(not p for p in places(results)[: N - 1])


def test_several_objects(model: Any, tmp_path: Path) -> None:
    ways = [fly(N), fly(N, (90, 8), (-3, 0)), fly(N, (30, 60), (-2, -1))]
    folder = write_images(tmp_path / "many", [frame([w[t] for w in ways]) for t in range(N)])
    for t, found in enumerate(places(model.predict(folder, **BASE))):
        np.testing.assert_allclose(
            sorted(found), sorted((x + 0.5, y + 0.5) for x, y in (w[t] for w in ways)), atol=0.01
        )


def test_an_object_that_leaves_and_returns(model: Any, tmp_path: Path) -> None:
    dots = fly(N)
    shown = [[] if 3 <= t < 7 else [dots[t]] for t in range(N)]
    found = places(model.predict(write_images(tmp_path / "gap", [frame(s) for s in shown]), **BASE))
    assert [len(f) for f in found] == [len(s) for s in shown], "prediction says what is seen, and fills no gap"


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_clip_shorter_than_the_window(model: Any, tmp_path: Path, count: int) -> None:
    folder = write_images(tmp_path / "short", [frame([dot], [(10, 25)]) for dot in fly(count)])
    results = model.predict(folder, **BASE)
    assert_dots(results, fly(count))
    assert all(len(r.boxes) == 2 for r in results)


def test_images_that_are_missing_have_no_result(model: Any, clip: Path) -> None:
    """Prediction takes the images that are there as they come."""
    (clip / "000004.png").unlink()
    (clip / "000007.png").write_bytes(b"no picture")
    results = model.predict(clip, **BASE)
    left = [t for t in range(N) if t not in (4, 7)]
    assert [int(Path(r.path).stem) for r in results] == left
    assert_dots(results, [fly(N)[t] for t in left])


def test_a_single_array_is_a_clip_of_one_frame(model: Any) -> None:
    (result,) = model.predict(frame([(30, 20)], [(50, 25)]), **BASE)
    assert_dots([result], [(30, 20)])
    assert len(result.boxes) == 2


def test_clips_do_not_mix(model: Any, tmp_path: Path) -> None:
    """The last frames of a clip are in no window of the next."""
    first = write_video(tmp_path / "a.avi", [frame([dot]) for dot in fly(6)])
    second = write_video(tmp_path / "b.avi", [frame([]) for _ in range(5)])
    third = write_images(tmp_path / "c", [frame([], [(5, 5)])] * 3)
    results = model.predict([str(first), str(second), str(third)], batch=4, **BASE)
    assert [Path(r.path).suffix for r in results] == [".png"] * 3 + [".avi"] * 11
    counts = [len(p) for p in places(results)]
    assert counts == [0] * 3 + [1] * 6 + [0] * 5
    assert [len(r.boxes) for r in results[:3]] == [1] * 3


def test_frames_of_another_size_are_another_clip(model: Any) -> None:
    small, large = frame([(30, 20)]), np.zeros((2 * SIZE[0], 2 * SIZE[1], 3), np.uint8)
    large[38:44, 58:64] = 250
    results = model.predict([small, small, large, large], **BASE)
    assert [r.orig_shape for r in results] == [SIZE] * 2 + [(128, 192)] * 2
    assert_dots(results[:2], [(30, 20)] * 2)
    np.testing.assert_allclose([p[0] for p in places(results[2:])], [[61, 41]] * 2, atol=0.6)


def test_positions_in_a_letterboxed_input(model: Any, tmp_path: Path) -> None:
    """A frame of 64x96 in an input of 96x96 has 16 rows of padding above."""
    folder = write_images(tmp_path / "c", [frame([dot], [(10, 25)]) for dot in fly(5)])
    results = model.predict(folder, rect=False, **BASE)
    assert_dots(results, fly(5))
    np.testing.assert_allclose(results[0].boxes.xyxy[1], [10, 25, 30, 55], atol=0.01)


@pytest.mark.parametrize(("classes", "expected"), [([0], ["0"]), ([1], ["1"]), ([0, 1], ["0", "1"])])
def test_classes_are_those_of_the_data(model: Any, clip: Path, classes: list[int], expected: list[str]) -> None:
    for result in model.predict(clip, classes=classes, **BASE):
        assert [result.names[int(c)] for c in result.boxes.cls] == expected


@pytest.mark.parametrize(("heads", "expected"), [(("TrackNet",), ["0"]), (("Pose",), ["0"])])
def test_models_with_one_head(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clip: Path, heads: tuple[str, ...], expected: list[str]
) -> None:
    results = oracle(monkeypatch, tmp_path, heads=heads).predict(clip, **BASE)
    assert len(results) == N
    for result in results:
        assert [result.names[int(c)] for c in result.boxes.cls] == expected
        assert (result.points is None, result.keypoints is None) == (heads == ("Pose",), heads == ("TrackNet",))


@pytest.mark.parametrize("heads", [("TrackNet", "Pose"), ("TrackNet",), ("Pose",)])
def test_lazy_or_not_the_network_says_the_same(
    tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch, heads: tuple[str, ...]
) -> None:
    """What is found in each window by a real network, whose random weights give scores around the threshold."""
    said: list[Any] = []
    add = ClipState.add
    monkeypatch.setattr(ClipState, "add", lambda self, window: said.append(window) or add(self, window))
    monkeypatch.setattr(TemporalLayout, "radius", lambda *_: 0.0)  # suppression would choose among equal scores
    model = MultiTaskYOLO(str(write_model(tmp_path, 4, heads)))
    randomise(model.model)
    for lazy in (True, False):
        model.predict(clip, **{**BASE, "conf": 0.9 if "TrackNet" in heads else 0.45, "lazy": lazy})
    assert len(said) == 2 * N
    assert any(len(w.found) or (w.players is not None and len(w.players)) for w in said)
    for one, two in zip(said[:N], said[N:], strict=True):
        assert one.found.shape == two.found.shape
        rows = [w.found[np.lexsort(w.found[:, :3].round(1).T)] for w in (one, two)]
        np.testing.assert_allclose(*rows, atol=1e-3)
        if two.players is not None:
            torch.testing.assert_close(one.players, two.players, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("switch", ["pose", "track"])
def test_a_head_that_is_switched_off(model: Any, clip: Path, switch: str) -> None:
    for result in model.predict(clip, **{switch: False}, **BASE):
        assert [result.names[int(c)] for c in result.boxes.cls] == (["0"] if switch == "pose" else ["1"])


def test_a_live_stream_gives_a_frame_at_once(model: Any, tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.avi", [frame([dot]) for dot in fly(8)])
    sources = tmp_path / "list.streams"
    sources.write_text(f"{video}\n{video}\n")
    results = model.predict(str(sources), stream_buffer=True, **BASE)
    assert model.predictor.dataset.delay == 0
    assert_dots(results, [dot for dot in fly(8) for _ in range(2)], tolerance=0.6)


def test_saving_a_video_keeps_its_frames_and_rate(model: Any, tmp_path: Path) -> None:
    import cv2

    video = write_video(tmp_path / "a.avi", [frame([dot]) for dot in fly(9)], rate=12)
    model.predict(str(video), save=True, save_txt=True, project=str(tmp_path), name="out", **BASE)
    saved = cv2.VideoCapture(str(tmp_path / "out" / "a.avi"))
    assert (saved.get(cv2.CAP_PROP_FRAME_COUNT), saved.get(cv2.CAP_PROP_FPS)) == (9, 12)
    assert sorted(p.name for p in (tmp_path / "out" / "labels").iterdir()) == sorted(f"a_{t}.txt" for t in range(1, 10))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"window_stride": 5}, r"window_stride=5: a window has 4 frames"),
        ({"window_stride": 4, "delay": 2}, r"delay=2 with window_stride=4.*delay=3 or more, or window_stride=3"),
        ({"segment": True}, r"'segment=True'.*detect, pose, track"),
        ({"embed": [3]}, r"embed: not available"),
    ],
    ids=str,
)
def test_what_cannot_be_is_said(model: Any, clip: Path, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        model.predict(clip, **settings, **BASE)


def test_estimates_of_a_long_clip_take_time_in_proportion() -> None:
    """Frames are forgotten one by one: their number does not grow with the clip, and none is looked at again."""
    estimates = FrameEstimates(conf=0.25, radius=8)
    rows = np.array([[3, 5.0, 6, np.nan, np.nan, 0.8, 0]])
    for t in range(50):
        estimates.add(Window(t, [max(t - 3 + g, -1) for g in range(4)], rows))
        assert len(estimates.take(t, t)) == 1
        assert not estimates._said, "frames that were asked for are not kept when a later window holds them too"
    whole = FrameEstimates(conf=0.1, radius=8)
    for t in range(50):
        whole.add(Window(t, [max(t - 3 + g, -1) for g in range(4)], rows))
    said = whole._said
    assert len(whole.take(0)) == 1
    assert whole._said is said, "what is left is not copied"
    assert len(whole.take(40)) == 1
    assert min(said) == 41


def test_no_object_is_outside_of_its_frame(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An object said to be in the padding is at the border, as boxes and keypoints of the host are."""
    model = oracle(monkeypatch, tmp_path)
    layout = TemporalLayout.of(model.model)
    fit = Fit((64, 96), (96, 96))
    values = torch.zeros(len(layout.groups(fit.shape)), len(layout.features.columns) + 1)
    values[0] = torch.tensor([-3.0, 10.0, -9.0, 4.0, 0.9])
    (row,) = layout.find(values, fit, conf=0.25, radius=4.0)
    assert row[1:5].tolist() == [0, 0, -9, -12], "the next position may be outside"


def test_lists_of_videos_are_read_in_colour(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also where the network takes one gray frame."""
    image = frame([(30, 20)])
    image[50:, :, 2] = 200  # red
    videos = [str(write_video(tmp_path / f"{name}.avi", [image] * 2)) for name in "ab"]
    for result in oracle(monkeypatch, tmp_path, frames=1).track(videos, **BASE):
        assert np.ptp(result.orig_img[60, 60].astype(int)) > 100
