"""What tracking leaves on disk and draws: annotated videos with trails, MOTChallenge files, and the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from support.scene import FRAMES, SIZE, N, Scene, boxes, picture, write_frames, write_video
from support.training import random_model, write_model
from ultralytics.utils.plotting import colors

from yolo_multitask import MultiTaskYOLO
from yolo_multitask.cli import app
from yolo_multitask.data.mot import read_mot
from yolo_multitask.engine.draw import draw_trails
from yolo_multitask.engine.trackers import crop_padding
from yolo_multitask.nn.network import MultiTaskModel

KPT = (5, 3)
BASE: dict[str, Any] = {"imgsz": SIZE, "verbose": False, "device": "cpu", "tracker": "bytetrack.yaml"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> MultiTaskYOLO:
    return random_model(tmp_path_factory.mktemp("model"), 1, KPT, embed_dim=8)


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch, model: MultiTaskYOLO) -> Scene:
    return Scene(monkeypatch, model.model.head.layout)


@pytest.fixture
def out(tmp_path: Path) -> dict[str, Any]:
    return {"project": str(tmp_path), "name": "out", "exist_ok": True}


def frames_of(video: Path) -> list[np.ndarray]:
    capture, frames = cv2.VideoCapture(str(video)), []
    while (read := capture.read())[0]:
        frames.append(read[1])
    capture.release()
    return frames


def test_annotated_video(model: MultiTaskYOLO, scene: Scene, tmp_path: Path, out: dict[str, Any]) -> None:
    clip = write_video(tmp_path / "clip.avi")
    results = model.track(clip, save=True, save_frames=True, line_width=1, **out, **BASE)
    (saved,) = (tmp_path / "out").glob("clip.*")
    frames = frames_of(saved)
    assert len(frames) == FRAMES == len(list((tmp_path / "out" / "clip_frames").glob("*.jpg")))
    capture = cv2.VideoCapture(str(saved))
    assert capture.get(cv2.CAP_PROP_FPS) == 10
    capture.release()
    for frame, result in zip(frames, results, strict=True):
        error = np.abs(frame.astype(int) - result.plot(line_width=1).astype(int)).mean()
        trails, result.trails = result.trails, None
        without = np.abs(frame.astype(int) - result.plot(line_width=1).astype(int)).mean()
        assert error < 10, "but for the codec"
        assert trails.xy.shape[1] == 1 or error < without
    assert not list((tmp_path / "out").rglob("*.txt"))


def test_frames_of_a_folder_are_annotated(model: MultiTaskYOLO, scene: Scene, tmp_path: Path, out: Any) -> None:
    write_frames(tmp_path / "seq" / "img1", 3)
    results = model.track(tmp_path / "seq" / "img1", save=True, save_txt=True, **out, **BASE)
    saved = sorted((tmp_path / "out").glob("*.jpg"))
    assert [p.stem for p in saved] == ["000001", "000002", "000003"]
    for file, result in zip(saved, results, strict=True):
        assert np.abs(cv2.imread(str(file)).astype(int) - result.plot().astype(int)).mean() < 8
    assert [p.name for p in (tmp_path / "out").glob("*.txt")] == ["seq.txt"], "named as in MOTChallenge"


def test_plot_draws_trails_in_the_colour_of_the_id(model: MultiTaskYOLO, scene: Scene, tmp_path: Path) -> None:
    last = model.track(write_video(tmp_path / "clip.avi"), **BASE)[-1]
    last.keypoints = None
    settings = {"boxes": False, "masks": False, "line_width": 1}
    drawn = last.plot(**settings)
    for row, i in enumerate(last.boxes.id.int().tolist()):
        x, y = (int(v) for v in last.trails.xy[row, -2].round())
        np.testing.assert_allclose(drawn[y, x], colors(i, True), atol=60, err_msg=f"id {i}")
    last.trails = None
    assert (last.plot(**settings) == last.orig_img).all()


def test_colours_follow_the_id() -> None:
    from yolo_multitask.engine.results import Results

    def tracked(order: list[int]) -> Results:
        xyxy = torch.as_tensor(boxes(0))[order]
        ids = torch.tensor(order)[:, None] + 1.0
        data = torch.cat((xyxy, ids, torch.full((N, 1), 0.9), torch.zeros(N, 1)), 1)
        masks = torch.zeros(N, SIZE, SIZE, dtype=torch.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, xyxy.int().tolist(), strict=True):
            mask[y1:y2, x1:x2] = 1
        result = Results(np.zeros((SIZE, SIZE, 3), np.uint8), path="a", names={0: "a"}, boxes=data, masks=masks)
        result.update(trails=xyxy[:, None, :2].repeat(1, 4, 1) + torch.arange(4)[None, :, None])
        return result

    one, other = tracked([0, 1, 2]), tracked([2, 0, 1])
    settings = {"labels": False, "conf": False, "line_width": 1}
    assert (one.plot(**settings) == other.plot(**settings)).all()
    assert (one.plot(color_mode="class", **settings) != one.plot(**settings)).any()
    for i, box in enumerate(boxes(0).astype(int)):
        drawn = one.plot(masks=False, **settings)
        np.testing.assert_allclose(drawn[box[3], (box[0] + box[2]) // 2], colors(i + 1, True), atol=30)
    result = tracked([0, 1, 2])
    result.orig_img = result.orig_img[..., :1]
    assert result.plot(**settings).shape == (SIZE, SIZE, 3)


def test_trails_fade_and_stay_in_the_picture() -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    line = np.stack((np.linspace(5, 55, 11), np.full(11, 20)), 1).astype(np.float32)
    lost = np.full((11, 2), np.nan, np.float32)
    outside = line + 500
    draw_trails(image, np.stack((line, lost, outside)), [(255, 128, 0)] * 3, 3)
    along = image[20, 5:55, 0].astype(int)
    assert along[-1] == 255
    assert along[0] < 60
    assert (np.diff(along) >= 0).all()
    assert image[20, 54].tolist() == [255, 128, 0]
    assert not image[:17].any()
    assert not image[24:].any()
    before = image.copy()
    draw_trails(image, np.zeros((0, 4, 2), np.float32), [])
    draw_trails(image, line[None, :1], [(1, 2, 3)])
    assert (image == before).all()


@pytest.mark.parametrize("stride", [1, 2])
def test_mot_file(model: MultiTaskYOLO, scene: Scene, tmp_path: Path, out: dict[str, Any], stride: int) -> None:
    clip = write_video(tmp_path / "clip.avi")
    results = model.track(clip, save_txt=True, vid_stride=stride, **out, **BASE)
    file = tmp_path / "out" / "clip.txt"
    assert [p.name for p in (tmp_path / "out").rglob("*")] == ["clip.txt"], "and no label files"
    found = read_mot(file)
    numbers = range(stride, FRAMES + 1, stride)
    assert found.frames.tolist() == [n for n in numbers for _ in range(N)]
    assert found.ids.tolist() == [int(i) for r in results for i in r.boxes.id]
    xyxy = np.concatenate([r.boxes.xyxy for r in results])
    np.testing.assert_allclose(found.boxes[:, :2], xyxy[:, :2], atol=0.006)
    np.testing.assert_allclose(found.boxes[:, 2:], xyxy[:, 2:] - xyxy[:, :2], atol=0.006)
    np.testing.assert_allclose(found.conf, np.concatenate([r.boxes.conf for r in results]), atol=1e-6)
    assert file.read_text().splitlines()[0].endswith(",-1,-1,-1")


def test_mot_files_of_sources_of_one_name(model: MultiTaskYOLO, scene: Scene, tmp_path: Path, out: Any) -> None:
    for folder in "ab":
        (tmp_path / folder).mkdir()
        write_video(tmp_path / folder / "clip.avi", 3)
    model.track(tmp_path / "*" / "clip.avi", save_txt=True, **out, **BASE)
    for name in ("clip", "clip-2"):
        assert sorted(set(read_mot(tmp_path / "out" / f"{name}.txt").frames.tolist())) == [1, 2, 3]


def test_mot_file_of_frames_that_are_passed_one_by_one(
    model: MultiTaskYOLO, scene: Scene, tmp_path: Path, out: dict[str, Any]
) -> None:
    model.predictor = None
    for frame in range(4):
        model.track(picture(frame), persist=True, save_txt=True, **out, **BASE)
        found = read_mot(tmp_path / "out" / "image0.txt")
        assert found.frames.tolist() == [n for n in range(1, frame + 2) for _ in range(N)]


def test_mot_file_of_nothing(model: MultiTaskYOLO, scene: Scene, tmp_path: Path, out: dict[str, Any]) -> None:
    """Evaluation wants a file for each sequence."""
    clip = write_video(tmp_path / "clip.avi")
    slow = tmp_path / "slow.yaml"
    slow.write_text("tracker_type: bytetrack\nnew_track_thresh: 0.99\n")
    model.track(clip, save_txt=True, **out, **{**BASE, "tracker": str(slow)})
    assert (tmp_path / "out" / "clip.txt").read_text() == ""


def test_a_stream_that_is_left_keeps_its_lines(model: MultiTaskYOLO, scene: Scene, tmp_path: Path, out: Any) -> None:
    stream = model.track(write_video(tmp_path / "clip.avi"), stream=True, save_txt=True, **out, **BASE)
    next(stream), next(stream)
    assert not (tmp_path / "out" / "clip.txt").exists(), "it is not complete"
    stream.close()
    assert read_mot(tmp_path / "out" / "clip.txt").frames.max() == 2
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_an_error_leaves_no_half_file(
    model: MultiTaskYOLO, scene: Scene, tmp_path: Path, out: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from yolo_multitask.engine.trackers import HostTracker

    update = HostTracker.update

    def fails(self: Any, *args: Any, **kwargs: Any) -> Any:
        if scene.frame == 4:
            raise RuntimeError("broken")
        return update(self, *args, **kwargs)

    monkeypatch.setattr(HostTracker, "update", fails)
    with pytest.raises(RuntimeError, match="broken"):
        model.track(write_video(tmp_path / "clip.avi"), save_txt=True, **out, **BASE)
    assert list((tmp_path / "out").iterdir()) == []


def test_mot_file_of_a_stock_model(tmp_path: Path, out: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    Scene(monkeypatch, None)
    results = MultiTaskYOLO("yolov8n.yaml").track(
        write_video(tmp_path / "clip.avi"), save=True, save_txt=True, **out, **BASE
    )
    assert read_mot(tmp_path / "out" / "clip.txt").ids.tolist() == [int(i) for r in results for i in r.boxes.id]
    (saved,) = (tmp_path / "out").glob("clip.avi")
    assert len(frames_of(saved)) == FRAMES
    assert results[-1].trails.xy.shape == (N, FRAMES, 2)
    assert (results[-1].plot(boxes=False) != results[-1].orig_img).any()


def test_crops_are_saved(model: MultiTaskYOLO, scene: Scene, tmp_path: Path, out: dict[str, Any]) -> None:
    model.track(write_video(tmp_path / "clip.avi", 2), save_crop=True, **out, **BASE)
    assert len(list((tmp_path / "out" / "crops").rglob("*.jpg"))) == 2 * N


@pytest.mark.parametrize("tracker", ["tracker=bytetrack.yaml", "tracker=multicue.yaml", ""])
def test_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tracker: str
) -> None:
    file = write_model(tmp_path / "tiny-multitask.yaml", nc=1, kpt_shape=list(KPT), embed_dim=8)
    Scene(monkeypatch, MultiTaskModel(file, verbose=False).head.layout)
    clip = write_video(tmp_path / "clip.avi")
    words = ["track", f"model={file}", f"source={clip}", "imgsz=64", "device=cpu", "save_txt", f"project={tmp_path}"]
    assert app.main([*words, "name=out", *([tracker] if tracker else [])]) == 0, capsys.readouterr().err
    found = read_mot(tmp_path / "out" / "clip.txt")
    for frame in range(1, FRAMES + 1):
        assert sorted(found.ids[found.frames == frame].tolist()) == [1, 2, 3]
    assert len(frames_of(tmp_path / "out" / "clip.avi")) == FRAMES


def test_command_line_with_a_wrong_tracker(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = write_video(tmp_path / "clip.avi", 1)
    assert app.main(["track", "model=yolov8n.yaml", f"source={clip}", "imgsz=64", "tracker=botsrt.yaml"]) == 1
    err = capsys.readouterr().err
    assert "ymt: tracker=botsrt.yaml: expected a file or one of" in err
    assert "Did you mean botsort.yaml?" in err


@pytest.mark.parametrize(("shape", "size"), [((48, 80), (64, 64)), ((80, 48), (64, 64)), ((37, 91), (64, 96))])
def test_masks_without_padding_cover_the_image(shape: tuple[int, int], size: tuple[int, int]) -> None:
    from ultralytics.data.augment import LetterBox

    content = np.full((*shape, 3), 255, np.uint8)
    boxed = LetterBox(size, auto=False)(image=content)[..., 0]
    inside = (boxed == 255).astype(np.uint8)[None]
    cut = crop_padding(inside, shape)
    assert cut.all()
    assert cut.sum() == inside.sum()
    assert crop_padding(np.ones((2, *shape)), shape).shape == (2, *shape)
