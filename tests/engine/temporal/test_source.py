"""The source that is read ahead: order, bounds, clips, and what the host reads from it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from yolo_multitask.engine.temporal.source import ReadAhead, open_source

READING = {"batch": 1, "vid_stride": 1, "stream_buffer": False}


def write_video(file: Path, frames: int, size: tuple[int, int] = (32, 48), first: int = 0) -> Path:
    """Write a video whose frame i is uniformly of the brightness 10 * (first + i)."""
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter_fourcc(*"MJPG"), 25, size[::-1])
    for i in range(frames):
        writer.write(np.full((*size, 3), 10 * (first + i), np.uint8))
    writer.release()
    return file


def write_folder(folder: Path, frames: int, size: tuple[int, int] = (32, 48)) -> Path:
    folder.mkdir(parents=True)
    for i in range(frames):
        cv2.imwrite(str(folder / f"{i:04d}.png"), np.full((*size, 3), 10 * i, np.uint8))
    return folder


def brightness(image: np.ndarray) -> int:
    return round(float(image.mean()) / 10)


class Loader:
    """A loader that counts how far it was read."""

    def __init__(self, batches: list[list[int]], mode: str = "stream") -> None:
        self.batches, self.mode, self.bs, self.source_type = batches, mode, len(batches[0]), SimpleNamespace()
        self.count, self.fps = -1, 30
        self.closed = False

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Loader:
        return self

    def __next__(self):
        if self.count + 1 >= len(self.batches):
            raise StopIteration
        self.count += 1
        batch = self.batches[self.count]
        return [f"s{i}" for i in range(len(batch))], [np.full((4, 4, 3), v, np.uint8) for v in batch], [""] * len(batch)

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("delay", [0, 3, 50])
def test_every_frame_in_order_and_no_further_ahead_than_asked(delay: int) -> None:
    loader = Loader([[i] for i in range(12)])
    seen, arrived = [], []
    source = ReadAhead(loader, delay)
    for _, images, _ in source:
        arrived += [int(f.image[0, 0, 0]) for f in source.take()]
        seen.append(int(images[0][0, 0, 0]))
        frame = source.current[0]
        assert (frame.slot, frame.clip, frame.index) == (0, 0, seen[-1])
        assert arrived[-1] == min(seen[-1] + delay, 11), "all that was read arrived, and not more than the delay"
        assert source.count == seen[-1], "the state is that of the batch at hand"
    assert seen == arrived == list(range(12))


def test_streams_are_clips_of_their_own() -> None:
    source = ReadAhead(Loader([[i, 100 + i] for i in range(5)]), 2)
    keys = [[(f.key, f.index) for f in source.current] for _ in source]
    assert keys == [[((0, 0), i), ((1, 0), i)] for i in range(5)]


def test_a_video_is_read_to_its_end(tmp_path: Path) -> None:
    file = write_video(tmp_path / "a.avi", 9)
    source = ReadAhead(open_source(str(file), **READING), 4)
    rows = []
    for paths, images, texts in source:
        rows.append((brightness(images[0]), source.frame, source.mode, paths[0], texts[0].split(")")[0]))
    assert [r[0] for r in rows] == list(range(9))
    assert [r[1] for r in rows] == list(range(1, 10)), "the number of the frame at hand, not of the one read last"
    assert {r[2] for r in rows} == {"video"}
    assert rows[2][4].endswith("(frame 3/9")
    assert source.fps == 25
    source.close()


def test_each_video_and_each_folder_is_a_clip(tmp_path: Path) -> None:
    files = [write_video(tmp_path / "a.avi", 3), write_video(tmp_path / "b.avi", 4), write_folder(tmp_path / "c", 2)]
    source = ReadAhead(open_source([str(f) for f in files], **READING), 10)
    found = [(source.current[0].clip, source.current[0].index, Path(paths[0]).parent.name) for paths, *_ in source]
    assert found[:2] == [(0, 0, "c"), (0, 1, "c")], "the host reads pictures first"
    assert [f[:2] for f in found[2:]] == [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2), (2, 3)]


def test_the_same_video_twice_is_two_clips(tmp_path: Path) -> None:
    file = str(write_video(tmp_path / "a.avi", 3))
    source = ReadAhead(open_source([file, file], **READING), 1)
    assert [(source.current[0].clip, source.current[0].index) for _ in source] == [
        (0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)
    ]  # fmt: skip


def test_a_batch_of_frames_does_not_change_what_a_frame_is(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "c", 7)
    source = ReadAhead(open_source(str(folder), **{**READING, "batch": 3}), 2)
    sizes, found = [], []
    for _, images, _ in source:
        sizes.append(len(images))
        found += [(f.index, brightness(f.image)) for f in source.current]
    assert sizes == [3, 3, 1]
    assert found == [(i, i) for i in range(7)]


def test_images_come_by_their_numbers(tmp_path: Path) -> None:
    for i in range(12):
        cv2.imwrite(str(tmp_path / f"img{i}.png"), np.full((8, 8, 3), 10 * i, np.uint8))
    source = ReadAhead(open_source(str(tmp_path), **READING), 0)
    assert [brightness(images[0]) for _, images, _ in source] == list(range(12))


def test_another_size_starts_another_clip() -> None:
    images = [np.zeros((h, 8, 3), np.uint8) for h in (8, 8, 10, 10, 8)]
    source = ReadAhead(open_source(images, **READING), 3)
    assert [[f.key for f in source.current] for _ in source] == [[(0, 0), (0, 0), (0, 1), (0, 1), (0, 2)]]


@pytest.mark.parametrize("kind", ["array", "file", "stack", "tensor"])
def test_a_single_image_is_a_clip_of_one_frame(tmp_path: Path, kind: str) -> None:
    image = np.full((32, 64, 3), 20, np.uint8)
    image[..., 2] = 200  # red
    cv2.imwrite(str(tmp_path / "a.png"), image)
    rgb = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)[None] / 255
    given = {"array": image, "file": str(tmp_path / "a.png"), "stack": image[None], "tensor": rgb}[kind]
    source = ReadAhead(open_source(given, **READING), 5)
    batches = [(len(images), source.take()) for _, images, _ in source]
    assert [n for n, _ in batches] == [1]
    (frame,) = batches[0][1]
    assert np.array_equal(frame.image, image)
    assert source.has_ended(frame.key)


def test_a_window_as_a_tensor_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(B, 3, h, w\).*\(1, 10, 32, 32\)"):
        open_source(torch.zeros(1, 10, 32, 32), **READING)


def test_frames_that_are_passed_one_by_one_go_on_with_a_clip() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    last, keys = None, []
    for _ in range(3):
        source = ReadAhead(open_source(image, **READING), 0)
        if last is not None:
            source.resume(last)
        keys += [(f.key, f.index) for _ in source for f in source.current]
        last = source
    assert keys == [((0, 0), 0), ((0, 0), 1), ((0, 0), 2)]


def test_an_error_of_the_loader_is_the_callers(tmp_path: Path) -> None:
    loader = open_source(str(write_video(tmp_path / "a.avi", 5)), **READING)

    def fail(*_: object) -> None:
        raise OSError("cable pulled")

    source = ReadAhead(loader, 2)
    next(iter(source))
    loader.cap = SimpleNamespace(isOpened=lambda: True, grab=fail, release=lambda: None)
    with pytest.raises(OSError, match="cable pulled"):
        list(source)
    source.close()


def test_closing_releases_the_loader() -> None:
    loader = Loader([[0]])
    ReadAhead(loader, 0).close()
    assert loader.closed


def test_a_negative_delay_is_refused() -> None:
    with pytest.raises(ValueError, match="'delay'.*-1"):
        ReadAhead(Loader([[0]]), -1)
