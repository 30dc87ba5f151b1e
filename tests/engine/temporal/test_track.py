"""Tracking where a perfect network finds what is there: ids, gaps, trails and files."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.oracle import Place, fly, frame, oracle, write_images, write_video

from yolo_multitask.engine.results import Results
from yolo_multitask.engine.temporal.track import _Numbers

BASE: dict[str, Any] = {"imgsz": 96, "verbose": False, "lazy": False, "device": "cpu"}
N = 14


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    return oracle(monkeypatch, tmp_path)


def blocks(t: int) -> list[Place]:
    return [(5 + 2 * t, 30)]


def shown(dots: list[Place], hidden: set[int] = frozenset()) -> list[np.ndarray]:  # type: ignore[assignment]
    """Return frames with a flying dot, but for `hidden` ones, and a walking block."""
    return [frame([] if t in hidden else [dot], blocks(t)) for t, dot in enumerate(dots)]


def objects(result: Any) -> list[tuple[int, float, float, bool]]:
    """Return id, position and whether it is interpolated of the objects of a result."""
    known = result.points.known
    ids, xy, between = result.boxes.id[known].int(), result.points.xy[known], result.points.interpolated[known]
    return [(int(i), float(x), float(y), bool(b)) for i, (x, y), b in zip(ids, xy, between, strict=True)]


def player_ids(result: Any) -> list[int]:
    return [int(i) for i in result.boxes.id[~result.points.known]]


@pytest.mark.parametrize("settings", [{}, {"delay": 0}, {"window_stride": 4}, {"batch": 3}], ids=str)
def test_objects_and_players_have_ids_of_their_own(model: Any, tmp_path: Path, settings: dict[str, Any]) -> None:
    results = model.track(write_images(tmp_path / "clip", shown(fly(N))), **settings, **BASE)
    assert [Path(r.path).stem for r in results] == [f"{t:06d}" for t in range(N)]
    dots, seen = fly(N), set()
    for t, result in enumerate(results):
        assert type(result) is Results
        ((ident, x, y, between),) = objects(result)
        assert (ident, between) == (1, False)
        np.testing.assert_allclose((x, y), (dots[t][0] + 0.5, dots[t][1] + 0.5), atol=0.01)
        seen |= set(player_ids(result))
        lengths = {len(getattr(result, k)) for k in ("boxes", "keypoints", "points", "trails")}
        assert lengths == {1 + len(player_ids(result))}
    assert seen == {2}


@pytest.mark.parametrize("tracker", ["multicue.yaml", "bytetrack.yaml", "botsort.yaml", "tracktrack.yaml"])
def test_players_are_tracked_by_the_tracker(model: Any, tmp_path: Path, tracker: str) -> None:
    results = model.track(write_images(tmp_path / "clip", shown(fly(N))), tracker=tracker, **BASE)
    found = [player_ids(r) for r in results]
    assert found[-1] == [2]
    np.testing.assert_allclose(results[-1].boxes.xyxy[1], [5 + 2 * 13, 30, 25 + 2 * 13, 60], atol=1)
    np.testing.assert_allclose(results[-1].keypoints.xy[1, 0], [15 + 2 * 13, 45], atol=0.01)


def test_a_gap_is_filled_and_marked(model: Any, tmp_path: Path) -> None:
    hidden, dots = {5, 6, 7}, fly(N)
    results = model.track(write_images(tmp_path / "clip", shown(dots, hidden)), **BASE)
    for t, result in enumerate(results):
        ((ident, x, y, between),) = objects(result)
        assert (ident, between) == (1, t in hidden)
        np.testing.assert_allclose((x, y), (dots[t][0] + 0.5, dots[t][1] + 0.5), atol=0.01)


def test_live_no_gap_is_filled_but_the_id_stays(model: Any, tmp_path: Path) -> None:
    results = model.track(write_images(tmp_path / "clip", shown(fly(N), {5, 6, 7})), delay=0, **BASE)
    assert [[o[0] for o in objects(r)] for r in results] == [[] if t in {5, 6, 7} else [1] for t in range(N)]


def test_an_object_that_leaves_for_long_comes_back_as_another(model: Any, tmp_path: Path) -> None:
    results = model.track(write_images(tmp_path / "clip", shown(fly(N), {5, 6, 7, 8})), max_gap=2, **BASE)
    ids = [[o[0] for o in objects(r)] for r in results]
    assert ids == [[1]] * 5 + [[]] * 4 + [[3]] * 5, "2 is the player"


def test_several_objects_keep_their_ids(model: Any, tmp_path: Path) -> None:
    ways = [fly(N), fly(N, (90, 8), (-3, 0)), fly(N, (40, 60), (-2, -1))]
    folder = write_images(tmp_path / "many", [frame([way[t] for way in ways]) for t in range(N)])
    owner: dict[int, int] = {}
    for t, result in enumerate(model.track(folder, **BASE)):
        assert len(objects(result)) == 3
        for ident, x, y, _ in objects(result):
            way = int(np.argmin([np.hypot(x - w[t][0], y - w[t][1]) for w in ways]))
            assert owner.setdefault(ident, way) == way
    assert sorted(owner) == [1, 2, 3]


def test_ids_begin_anew_with_each_clip(model: Any, tmp_path: Path) -> None:
    files = [write_video(tmp_path / f"{name}.avi", shown(fly(8))) for name in "ab"]
    results = model.track([str(f) for f in files], **BASE)
    assert [[o[0] for o in objects(r)] for r in results] == [[1]] * 16
    assert {i for r in results for i in player_ids(r)} == {2}


@pytest.mark.parametrize("head", ["TrackNet", "Pose"])
def test_models_with_one_head(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, head: str) -> None:
    folder = write_images(tmp_path / "clip", shown(fly(N)))
    settings = {**BASE, "save_txt": True, "project": str(tmp_path), "name": "out"}
    results = oracle(monkeypatch, tmp_path, heads=(head,)).track(folder, **settings)
    assert results[-1].boxes.id.tolist() == [1]
    made = {p.name for p in (tmp_path / "out").iterdir()}
    assert made == {{"TrackNet": "clip_points.csv", "Pose": "clip.txt"}[head]}


def test_frames_one_by_one(model: Any) -> None:
    dots, ids = fly(N), []
    for t, image in enumerate(shown(dots)):
        (result,) = model.track(image, persist=True, **BASE)
        ((ident, x, y, _),) = objects(result)
        ids.append((ident, *player_ids(result)))
        np.testing.assert_allclose((x, y), (dots[t][0] + 0.5, dots[t][1] + 0.5), atol=0.01)
    assert set(ids[2:]) == {(1, 2)}
    assert len(model.windows_seen) == N
    (result,) = model.track(shown(dots)[0], persist=False, **BASE)
    assert objects(result)[0][0] == 1


@pytest.mark.parametrize("settings", [{"window_stride": 2}, {"delay": 1}], ids=str)
def test_frames_one_by_one_do_not_wait(model: Any, settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"persist=True passes frames one by one.*Leave them out"):
        model.track(frame([(30, 20)]), persist=True, **settings, **BASE)


def test_the_trail_is_the_way_so_far(model: Any, tmp_path: Path) -> None:
    dots = fly(N)
    results = model.track(write_images(tmp_path / "clip", shown(dots, {5, 6})), **BASE)
    trail = results[-1].trails
    np.testing.assert_allclose(trail.xy[0], np.array(dots) + 0.5, atol=0.01)
    assert trail.interpolated[0].tolist() == [t in {5, 6} for t in range(N)]
    picture = results[-1].plot(labels=False, boxes=True)
    x, y = (int(v) for v in dots[3])
    assert (picture[y - 1 : y + 3, x - 1 : x + 3] != results[-1].orig_img[y - 1 : y + 3, x - 1 : x + 3]).any()


def test_files(model: Any, tmp_path: Path) -> None:
    dots, hidden = fly(N), {5, 6}
    folder = write_images(tmp_path / "clip", shown(dots, hidden))
    model.track(folder, save_txt=True, project=str(tmp_path), name="out", **BASE)
    with open(tmp_path / "out" / "clip_points.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(r["Frame"]) for r in rows] == list(range(N))
    assert [r["Visibility"] for r in rows] == ["3" if t in hidden else "1" for t in range(N)]
    np.testing.assert_allclose([[float(r["X"]), float(r["Y"])] for r in rows], np.array(dots) + 0.5, atol=0.01)
    assert {(r["Class"], r["Id"]) for r in rows} == {("0", "1")}
    lines = [line.split(",") for line in (tmp_path / "out" / "clip.txt").read_text().splitlines()]
    assert {line[1] for line in lines} == {"2"}, "players alone"
    assert int(lines[-1][0]) == N, "MOTChallenge counts from 1"


def test_appearance_from_the_detector_is_refused(model: Any, tmp_path: Path) -> None:
    file = tmp_path / "reid.yaml"
    file.write_text("tracker_type: botsort\nwith_reid: true\nmodel: auto\n")
    with pytest.raises(ValueError, match=r"'with_reid: True' with 'model: auto'.*with_reid: False"):
        model.track(frame([(30, 20)]), tracker=str(file), **BASE)


def test_a_first_frame_alone_begins_a_clip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`persist=False` starts anew, and the frames after it go on with it, also where other objects are surer then."""
    calls: list[int] = []
    model = oracle(monkeypatch, tmp_path, confidence=lambda _, k: 0.9 - 0.1 * k if len(calls) == 1 else 0.8 + 0.1 * k)
    for _ in range(2):
        calls.clear()
        for t, dot in enumerate(fly(4)):
            calls.append(t)
            (result,) = model.track(frame([dot, (80, 40 + 3 * t)]), persist=t > 0, **BASE)
            assert {i: round(x) for i, x, *_ in objects(result)} == {1: round(dot[0] + 0.5), 2: round(80.5)}


def test_the_same_video_again_is_another_clip(model: Any, tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.avi", shown(fly(6)))
    runs = [
        model.track(str(video), persist=True, save_txt=True, project=str(tmp_path), name="out", **BASE)
        for _ in range(2)
    ]
    assert [{o[0] for r in results for o in objects(r)} for results in runs] != [{1}, {1}]
    for name in ("a_points.csv", "a-2_points.csv"):
        frames = [line.split(",")[0] for line in (tmp_path / "out" / name).read_text().splitlines()[1:]]
        assert frames == [str(t) for t in range(6)]


def test_clips_that_are_over_are_forgotten(model: Any) -> None:
    for t in range(6):
        model.track(np.zeros((64 + 32 * (t % 2), 96, 3), np.uint8), persist=True, **BASE)
        assert len(model.predictor._clips) <= 2


def test_ids_of_objects_that_cannot_come_back_are_forgotten() -> None:
    numbers = _Numbers()
    found = [int(numbers.of_objects(np.array([t]), t, max_gap=5)[0]) for t in range(100)]
    assert found == list(range(1, 101))
    assert len(numbers._objects) <= 7
    assert numbers.of_objects(np.array([95]), 100, max_gap=5).tolist() == [96]
