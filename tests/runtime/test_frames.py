"""Sources: what is read, in which order, and what is said of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from support.blobs import picture, write_folder, write_video

from yolo_multitask.runtime import read_frames


def told(source: Any, **kwargs: Any) -> list[tuple[str, int, float, int | None, bool]]:
    """Return what is said of each frame."""
    return [(Path(f.path).name, f.number, f.rate, f.total, f.video) for f in read_frames(source, **kwargs)]


def test_a_video(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.avi", 5, fps=12)
    assert told(clip) == [("clip.avi", i + 1, 12.0, 5, True) for i in range(5)]
    assert told(str(clip), vid_stride=2) == [("clip.avi", i + 1, 6.0, 2, True) for i in range(2)]
    assert told(clip, frame_rate=24)[0][2] == 24.0
    (first, *_) = read_frames(clip)
    assert np.abs(first.image.astype(int) - picture(0)).mean() < 6


def test_a_folder_is_sorted_by_name_and_holds_other_files_too(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "frames", 3)
    (folder / "notes.txt").write_text("no picture")
    expected = [(f"{i + 1:06d}.png", i + 1, 30.0, 3, False) for i in range(3)]
    assert told(folder) == expected
    assert told(str(folder / "*.png")) == expected
    assert told(folder / "000002.png") == [("000002.png", 1, 30.0, 1, False)]
    for frame, expected_image in zip(read_frames(folder), map(picture, range(3)), strict=True):
        np.testing.assert_array_equal(frame.image, expected_image)


def test_folders_of_a_glob_are_sequences(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_folder(tmp_path / name, 2)
    assert [(f[0], f[1]) for f in told(str(tmp_path / "*" / "*.png"))] == [("000001.png", 1), ("000002.png", 2)] * 2


@pytest.mark.parametrize("place", [".", "img1"])
def test_seqinfo_says_the_frame_rate(tmp_path: Path, place: str) -> None:
    folder = write_folder(tmp_path / "seq" / place, 1)
    (tmp_path / "seq" / "seqinfo.ini").write_text("[Sequence]\nframeRate=14\n")
    assert told(folder)[0][2] == 14.0
    assert told(folder, frame_rate=5)[0][2] == 5.0


def test_arrays_and_lists(tmp_path: Path) -> None:
    clip, folder = write_video(tmp_path / "clip.avi", 2), write_folder(tmp_path / "frames", 2)
    assert told(picture(0)) == [("", 1, 30.0, 1, False)]
    assert told(iter([picture(0), picture(1)]), frame_rate=9) == [("", 1, 9.0, None, False), ("", 2, 9.0, None, False)]
    mixed = told([picture(0), clip, folder / "000001.png", folder / "000002.png", clip])
    assert [f[:2] for f in mixed] == [
        ("", 1),
        ("clip.avi", 1),
        ("clip.avi", 2),
        ("000001.png", 1),
        ("000002.png", 2),
        ("clip.avi", 1),
        ("clip.avi", 2),
    ]


def test_frames_are_read_as_they_are_asked_for(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "frames", 2)
    frames = read_frames(folder)
    next(frames)
    (folder / "000002.png").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"000002.png: expected an image that OpenCV can read"):
        next(frames)


def test_gray_models(tmp_path: Path) -> None:
    clip, folder = write_video(tmp_path / "clip.avi", 1), write_folder(tmp_path / "frames", 1)
    gray = cv2.cvtColor(picture(0), cv2.COLOR_BGR2GRAY)
    for source in (clip, folder, gray, gray[..., None]):
        (frame,) = read_frames(source, channels=1)
        assert frame.image.shape == (*gray.shape, 1)
        assert np.abs(frame.image[..., 0].astype(int) - gray).mean() < 6
    with pytest.raises(ValueError, match="expected 1 channels, as the model was trained on, found 3"):
        list(read_frames(picture(0), channels=1))


@pytest.mark.parametrize("name", ["nowhere.mp4", "nowhere/*.jpg", "empty"])
def test_a_source_that_is_not_there_is_named_at_once(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"source=.*: expected a video, an image, .* found no such file"):
        read_frames(tmp_path / name)


def test_a_broken_video_and_an_absent_camera_are_named(tmp_path: Path) -> None:
    (tmp_path / "cut.mp4").write_bytes(b"\0" * 999)
    for source in (tmp_path / "cut.mp4", 97):
        with pytest.raises(
            ValueError, match=r"source=.*: expected a video or camera that OpenCV can read, found no frame"
        ):
            list(read_frames(source))


def test_a_wrong_stride_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="vid_stride: expected 1 or more, found 0"):
        read_frames(tmp_path, vid_stride=0)
