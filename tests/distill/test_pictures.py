"""Sources as files, and the views of a picture."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from support.teachers import write_pictures

from yolo_multitask.distill.source import hold_out, list_pictures
from yolo_multitask.distill.views import view_of


def write_video(file: Path, frames: int = 12) -> Path:
    """Write a video whose frames get brighter."""
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for i in range(frames):
        writer.write(np.full((48, 64, 3), 20 * i, np.uint8))
    writer.release()
    return file


def test_sources_are_files_each_once(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "images", 3)
    found = list_pictures([folder, folder / "001.png", str(folder / "*.png")], tmp_path)
    assert [f.name for f in found] == ["000.png", "001.png", "002.png"]


def test_a_video_gives_frames_that_are_evenly_spread_and_written_once(tmp_path: Path) -> None:
    video = write_video(tmp_path / "clip.avi")
    found = list_pictures([video], tmp_path / "cache", frames=4)
    brightness = [cv2.imread(str(f)).mean() for f in found]
    assert len(found) == 4
    assert np.allclose(brightness, [0, 80, 140, 220], atol=6)
    before = found[0].stat().st_mtime_ns
    assert list_pictures([video], tmp_path / "cache", frames=4) == found
    assert found[0].stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ([], ValueError, "expected images, folders or videos to learn from, found none"),
        (["nowhere"], FileNotFoundError, "source=nowhere: expected images or videos, found no such file"),
        (["empty"], ValueError, "source=empty: expected images or videos, found none in it"),
        (["broken.mp4"], ValueError, "broken.mp4"),
    ],
)
def test_sources_that_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: list[str], error: type[Exception], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(error, match=message):
        list_pictures(source, tmp_path / "cache")


def test_every_source_gives_its_share_to_measure_on() -> None:
    files = [Path(f"{source}/{i}.jpg") for source in "ab" for i in range(20)]
    learned, measured = hold_out(files, 8)
    assert sorted([*learned, *measured]) == sorted(files)
    assert [sum(f.parts[0] == s for f in measured) for s in "ab"] == [4, 4]
    assert hold_out(files[:4], 64)[1] == []


def test_views_are_always_the_same_and_the_first_two_are_mirror_images() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    whole, mirror, other = (view_of(Path("a.jpg"), i, (48, 64), 64) for i in range(3))
    again = view_of(Path("b/a.jpg"), 2, (48, 64), 64)
    assert np.array_equal(other.matrix, again.matrix)
    assert np.abs(whole.show(picture)[:, ::-1].astype(int) - mirror.show(picture)).max() <= 1
    assert np.array_equal(whole.show(picture)[8:56], picture)
    assert not np.array_equal(other.matrix, view_of(Path("a.jpg"), 3, (48, 64), 64).matrix)


@pytest.mark.parametrize("number", range(6))
def test_boxes_come_back_to_the_picture(number: int) -> None:
    view = view_of(Path("a.jpg"), number, (300, 500), 128)
    boxes = np.array([[10, 20, 110, 220], [0, 0, 500, 300]], np.float32)
    corners = boxes.reshape(-1, 2) @ view.matrix[:, :2].T + view.matrix[:, 2]
    shown = np.concatenate((corners.reshape(-1, 2, 2).min(1), corners.reshape(-1, 2, 2).max(1)), 1).astype(np.float32)
    assert np.allclose(view.back(shown), boxes, atol=1e-3)
