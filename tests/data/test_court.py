"""Court clips: labels exactly on ball and players, spots that look like the ball, and what is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from yolo_multitask.data.clips.augment import WindowAugment
from yolo_multitask.data.clips.config import load_clip_data
from yolo_multitask.data.clips.read import read_clips
from yolo_multitask.data.clips.windows import WindowDataset
from yolo_multitask.data.config import load_data
from yolo_multitask.data.synthetic.court import Court, CourtConfig, write_court
from yolo_multitask.data.synthetic.court_scene import HIDDEN
from yolo_multitask.data.synthetic.rally import draw_path

SMALL = CourtConfig(width=160, height=96, length=50, radius=(1.5, 1.8), lighting=0)
PLAIN = replace(SMALL, noise=0, still=0, swaying=0, flashes=0)


def test_the_label_is_the_centre_of_what_the_ball_changes() -> None:
    """The same scene with and without the ball: the middle of the difference is where the label says."""
    errors, sizes = [], []
    for seed in range(6):
        court = Court(seed, replace(PLAIN, posts=0))
        path = court.path
        for index in range(0, 50, 3):
            flight = path.flight(index)
            if flight is None or flight.behind or {path.flight(index - 0.2), path.flight(index + 0.2)} != {flight}:
                continue
            frame = court.frame(index)
            court.path = replace(path, flights=())
            change = np.abs(frame.image.astype(float) - court.frame(index).image).sum(2)
            court.path = path
            ball = frame.ball
            if ball is None or not (12 < ball.x < 148 and 12 < ball.y < 84):
                continue
            y, x = np.mgrid[: SMALL.height, : SMALL.width] + 0.5
            half = np.array(ball.size) / 2 + 1
            assert change[(np.abs(x - ball.x) > half[0]) | (np.abs(y - ball.y) > half[1])].sum() == 0
            cover = change > 0
            middle = np.array([x[cover].min() + x[cover].max(), y[cover].min() + y[cover].max()]) / 2
            errors.append(np.abs(middle - (ball.x, ball.y)).max())
            sizes.append(cover.sum())
    assert len(errors) > 10
    assert max(errors) < 0.75  # whole pixels are counted
    assert 5 < np.median(sizes) < 60  # pixels: it is small


def test_the_ball_is_fast_leaves_and_returns() -> None:
    rng, steps, gone, frames = np.random.default_rng(0), [], 0, 0
    for _ in range(40):
        places = draw_path(rng, (160, 96), 50, SMALL.speed, SMALL.away).at(np.arange(50.0))
        inside = ((places >= 0) & (places < (160, 96))).all(1)  # false where it is away
        steps.append(np.hypot(*np.diff(places[inside], axis=0).T)[:5] / 160)
        gone, frames = gone + int((~inside).sum()), frames + 50
    assert 0.012 < np.median(np.concatenate(steps)) < 0.05  # of the width a frame: several times its own size
    assert 0.1 < gone / frames < 0.4


def test_what_is_before_the_ball_hides_it() -> None:
    court = Court(0, PLAIN)
    hidden, stays = 0, set()
    for index in range(0, 50, 2):
        ball = court.frame(index).ball
        if ball is not None:
            stays.add(ball.ident)
            hidden += ball.visible == HIDDEN
    assert hidden >= 1
    assert stays == set(range(len(stays)))


def spots(image: np.ndarray, colour: np.ndarray) -> int:
    """Count the connected areas of nearly the ball's colour that are of its size."""
    import cv2

    near = (np.abs(image.astype(float) - colour).max(2) < 75).astype(np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(near)
    return int(((stats[1:, 4] >= 2) & (stats[1:, 4] < 40)).sum())


def test_one_picture_does_not_tell_the_ball() -> None:
    """There are several spots of its colour and size in a frame, and nearly none without them."""
    many, few = [], []
    for seed in range(6):
        court, plain = Court(seed, replace(SMALL, noise=0)), Court(seed, PLAIN)
        many += [spots(court.frame(i).image, court.colour) for i in (0, 20, 40)]
        few += [spots(plain.frame(i).image, plain.colour) for i in (0, 20, 40)]
    assert np.median(many) >= np.median(few) + 3


def test_spots_do_not_move_as_the_ball_does() -> None:
    court = Court(1, SMALL)
    for spot in court.spots:
        places = np.array([court._streak(spot, i, 0.0).mean(0) for i in range(50)])
        assert np.abs(np.diff(places, axis=0)).max() < 0.012 * SMALL.width


def test_players_are_those_of_the_world_and_stay_as_they_are() -> None:
    court = Court(2, replace(PLAIN, posts=2))
    frame = court.frame(7)
    count = len(frame.players.ids)
    assert 2 <= count <= 4
    alone = court.world.frame(7)
    body = alone.masks.any(0)
    court.path = replace(court.path, flights=())
    assert (court.frame(7).image[body] == alone.image[body]).all()  # lines, spots and posts are behind them


def test_a_frame_does_not_depend_on_the_others() -> None:
    one, other = Court(3, SMALL), Court(3, SMALL)
    for frame in (one.frame(i) for i in range(10)):
        last = frame
    assert (last.image == other.frame(9).image).all()
    assert last.ball == other.frame(9).ball
    assert (Court(4, SMALL).frame(9).image != last.image).any()


def read(file: Path, split: str = "train") -> tuple[list, object]:
    data = load_clip_data(file)
    return read_clips(data["clips"][split], data["clip_spec"])[0], data["clip_spec"]


def test_written_lines_say_what_the_scene_says(tmp_path: Path) -> None:
    file = write_court(tmp_path / "out", clips=2, val_clips=1, frames=30, size=(160, 96), seed=5, config=SMALL)
    (first, second), spec = read(file)
    assert (len(first), len(second), first.size) == (30, 30, (96, 160))
    assert (first.messages, first.counts.get("bad lines", 0)) == ((), 0)
    court, checked = Court(5_000_000, replace(SMALL, length=30)), 0
    for index, labels in enumerate(first.labels):
        frame = court.frame(index)
        assert labels.labelled
        assert len(labels.points) == (frame.ball is not None)
        if frame.ball is not None:
            np.testing.assert_allclose(labels.points[0], (frame.ball.x, frame.ball.y), atol=1e-3)
            assert (labels.visible[0] == HIDDEN) == (frame.ball.visible == HIDDEN)
            assert labels.ids[0] == 100 + frame.ball.ident
            checked += 1
        assert labels.players is not None
        real = ~labels.players.ignore
        np.testing.assert_allclose(labels.players.boxes, frame.players.boxes, atol=1e-3)
        assert labels.players.keypoints is not None
        np.testing.assert_allclose(
            labels.players.keypoints[real], frame.players.keypoints[~frame.players.ignore], atol=1e-3
        )
        assert labels.players.ids.tolist() == frame.players.ids.tolist()
        assert not set(labels.ids) & set(labels.players.ids)  # unique within the sequence
        difference = np.abs(first.read(index).astype(float) - frame.image).mean()
        assert difference < 4  # JPEG
    assert checked > 10
    (val,), _ = read(file, "val")
    assert (val.read(0) != first.read(0)).any()
    assert load_data(file)["label_spec"].tasks == ("detect", "pose", "track")  # still a data set of images, too
    data = WindowDataset([first, second], spec, num_groups=6, imgsz=160, augment=WindowAugment())  # type: ignore[arg-type]
    batch = data.collate_fn([data[0], data[30]])
    assert batch["keypoints"].shape[1:] == (17, 3)
    assert torch.isfinite(batch["points"]).all()
    assert data.object_size == pytest.approx(0.045, abs=0.02)


def test_written_csv_says_the_same(tmp_path: Path) -> None:
    keys = {"clips": 1, "val_clips": 1, "frames": 12, "size": (160, 96), "seed": 1, "config": SMALL}
    lines, _ = read(write_court(tmp_path / "a", **keys))  # type: ignore[arg-type]
    csv, spec = read(write_court(tmp_path / "b", labels="csv", **keys))  # type: ignore[arg-type]
    assert spec.players == ()  # type: ignore[attr-defined]
    for one, other in zip(lines[0].labels, csv[0].labels, strict=True):
        np.testing.assert_allclose(one.points, other.points, atol=2e-3)
        assert one.ids.tolist() == other.ids.tolist()
    assert (lines[0].read(3) == csv[0].read(3)).all()


def test_wrong_arguments_leave_nothing_behind(tmp_path: Path) -> None:
    for keys, message in (
        ({"clips": 0}, "clips: expected at least 1"),
        ({"labels": "json"}, "labels: expected lines or csv"),
        ({"image_format": "gif"}, "image_format: expected"),
        ({"size": (20, 20)}, "width and height of at least 64"),
    ):
        with pytest.raises(ValueError, match=message):
            write_court(tmp_path / "out", **keys)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").touch()
    with pytest.raises(ValueError, match="in use"):
        write_court(tmp_path / "full")
