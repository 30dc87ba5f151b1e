"""Windows of clips: which frames, where labels lie on them, what augmentation does to both, and the host's loader."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from yolo_multitask.data.clips.augment import WindowAugment
from yolo_multitask.data.clips.cache import FrameCache
from yolo_multitask.data.clips.clip import UNLABELLED, Clip, FrameLabels, Players
from yolo_multitask.data.clips.config import clip_spec
from yolo_multitask.data.clips.frames import Frames
from yolo_multitask.data.clips.preprocess import Fit, input_shape, prepare_frame, stack_frames
from yolo_multitask.data.clips.windows import WindowDataset, window_starts

H, W, G = 48, 80, 4
SPEC = clip_spec({"names": ["ball", "person"], "objects": ["ball"], "kpt_shape": [2, 3]})


class Drawn(Frames):
    """Frames with a bright round ball on grey, as many as there are positions; counts how often one is read."""

    def __init__(self, places: Sequence[tuple[float, float] | None], size: tuple[int, int] = (H, W)) -> None:
        self.places, self.size, self.reads = list(places), size, 0

    def __len__(self) -> int:
        return len(self.places)

    def read(self, index: int) -> np.ndarray:
        self.reads += 1
        y, x = np.mgrid[: self.size[0], : self.size[1]] + 0.5
        image = np.full(self.size, 40.0)
        if self.places[index] is not None:
            bx, by = self.places[index]  # type: ignore[misc]
            image += 200 * np.exp(-((x - bx) ** 2 + (y - by) ** 2) / (2 * 1.8**2))
        return np.repeat(np.rint(image).astype(np.uint8)[..., None], 3, 2)

    def key(self, index: int) -> int:
        return index

    def file(self, index: int) -> str:
        return f"clip/{index:04d}.png"


def players(x: float, ids: Sequence[int] = (3,), region: bool = False) -> Players:
    """Return a player of 10x20 pixels whose left side is at x, with keypoints at its left and right upper corner."""
    n = len(ids) + region
    return Players(
        boxes=np.tile(np.array([x, 10, x + 10, 30], np.float32), (n, 1)),
        cls=np.ones(n, np.int64),
        keypoints=np.tile(np.array([[x, 10, 2], [x + 10, 10, 1]], np.float32), (n, 1, 1)),
        has_keypoints=np.ones(n, bool),
        ids=np.array([*ids, *([-1] * region)], np.int64),
        ignore=np.array([False] * len(ids) + [True] * region),
    )


def ball_clip(count: int = 10, name: str = "a", size: tuple[int, int] = (H, W)) -> Clip:
    """A ball at (10 + 5 i, 20 + i), a player that moves too."""
    places = [(10.0 + 5 * i, 20.0 + i) for i in range(count)]
    labels = tuple(FrameLabels.of([(x, y, 0, 1, -1)], players=players(20 + i)) for i, (x, y) in enumerate(places))
    return Clip(name=name, frames=Drawn(places, size), labels=labels)


def dataset(*clips: Clip, **keys: Any) -> WindowDataset:
    return WindowDataset(clips or [ball_clip()], SPEC, **{"num_groups": G, "imgsz": 96, "flip_idx": [1, 0], **keys})


def centre(plane: np.ndarray) -> tuple[float, float]:
    """Return where the ball is in a picture: the centre of what is brighter than the rest."""
    above = np.clip(plane.astype(float) - np.median(plane), 0, None)
    above[above < 0.15 * above.max()] = 0
    y, x = np.mgrid[: plane.shape[0], : plane.shape[1]] + 0.5
    return float((x * above).sum() / above.sum()), float((y * above).sum() / above.sum())


# ---------------------------------------------------------------------------------------------- one preparation


@pytest.mark.parametrize("size", [(48, 80), (51, 77), (30, 97), (100, 40)])
def test_frames_are_prepared_as_the_host_does(size: tuple[int, int]) -> None:
    """The same pixels as the host's LetterBox, which scales and pads."""
    from ultralytics.data.augment import LetterBox

    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    shape = input_shape(size, 96, 32)
    theirs = LetterBox(new_shape=shape, auto=False)(image=image)
    assert (prepare_frame(image, shape, 3) == theirs[..., ::-1]).all()
    gray = LetterBox(new_shape=shape, auto=False)(image=cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))
    assert (prepare_frame(image, shape, 1) == gray).all()


def test_points_go_where_the_picture_goes_and_back() -> None:
    fit = Fit((51, 77), (64, 96))
    points = np.random.default_rng(0).uniform(0, 50, (20, 2)).astype(np.float32)
    np.testing.assert_allclose(fit.to_frame(fit.to_input(points)), points, atol=1e-4)
    frame = Drawn([(30.25, 20.75)], (51, 77)).read(0)
    found = centre(prepare_frame(frame, fit.shape)[12:-12, ..., 0][:, :]), fit.to_input(np.array([30.25, 20.75]))
    assert abs(found[0][0] - found[1][0]) < 0.05
    assert abs(found[0][1] + 12 - found[1][1]) < 0.05


def test_input_shape() -> None:
    assert input_shape((360, 640), 640) == (384, 640)
    assert input_shape((720, 1280), 640) == (384, 640)
    assert input_shape((1280, 720), 640) == (640, 384)
    assert input_shape((360, 640), [300, 500]) == (320, 512)
    assert input_shape((360, 640), [640]) == (640, 640)


def test_training_validation_and_prediction_see_the_same_pixels() -> None:
    """A data set without augmentation, one for training whose augmentation is nothing, and the function itself."""
    clip = ball_clip()
    frames = [prepare_frame(clip.read(i), input_shape(clip.size, 96), 1) for i in range(2, 2 + G)]
    predicted = stack_frames(frames)
    validated = dataset(clip)[2]["img"].numpy()
    trained = dataset(clip, augment=WindowAugment(noise=0))[2]["img"].numpy()
    assert predicted.shape == (G, 64, 96)
    assert (validated == predicted).all()
    assert (trained == predicted).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_frames_lie_oldest_first_each_with_its_channels(channels: int) -> None:
    frames = [np.full((2, 3, channels), 10 * i, np.uint8) + np.arange(channels, dtype=np.uint8) for i in range(G)]
    window = stack_frames(frames)
    assert window.shape == (G * channels, 2, 3)
    assert window[:, 0, 0].tolist() == [10 * i + c for i in range(G) for c in range(channels)]


# ------------------------------------------------------------------------------------------------ which frames


@pytest.mark.parametrize(
    ("length", "step", "stride", "padded", "starts"),
    [
        (10, 1, 4, False, [0, 4, 6]),
        (8, 1, 4, False, [0, 4]),
        (10, 2, 4, False, [0, 3]),
        (4, 1, 4, False, [0]),
        (3, 1, 4, False, [-1]),
        (1, 1, 1, False, [-3]),
        (5, 1, 1, True, [-3, -2, -1, 0, 1]),
        (2, 1, 1, True, [-3, -2]),
    ],
)
def test_where_windows_begin(length: int, step: int, stride: int, padded: bool, starts: list[int]) -> None:
    found = window_starts(length, 4, step, stride, padded)
    assert found == starts
    seen = {start + step * g for start in found for g in range(4)}
    assert step > 1 or set(range(length)) <= seen  # no frame is left out


def test_a_window_of_every_second_frame() -> None:
    sample = dataset(frame_steps=[2])[1]
    assert sample["frame_numbers"].tolist() == [1, 3, 5, 7]
    shift = (sample["points_next"] - sample["points"]) * torch.tensor([96, 64]) / torch.tensor([1.2, 58 / 48])
    assert sample["points_has_next"].tolist() == [True] * 4  # 9 is in the clip
    torch.testing.assert_close(shift, torch.tensor([[10.0, 2.0]] * 4), atol=1e-4, rtol=0)


def test_padding_repeats_frames_and_has_no_labels() -> None:
    sample = dataset(padded=True)[1]
    assert sample["frame_numbers"].tolist() == [0, 0, 0, 1]
    assert sample["valid"].tolist() == [False, False, True, True]
    assert sample["points_group"].tolist() == [2, 3]
    assert sample["points_labelled"].tolist() == [False, False, True, True]
    assert (sample["img"][0] == sample["img"][2]).all()


def test_the_next_frame_may_lie_behind_the_window_but_not_behind_the_clip() -> None:
    data = dataset()
    assert data[5]["points_has_next"].tolist() == [True] * 4
    assert data[6]["points_has_next"].tolist() == [True] * 3 + [False]


def test_an_object_is_followed_by_its_identity() -> None:
    rows = [
        [(10, 20, 0, 1, 1), (30, 20, 0, 1, 2)],
        [(32, 20, 0, 3, 2), (12, 20, 0, 1, 1)],
        [(34, 20, 0, 1, 2)],
        [(50, 20, 0, 1, -1)],
    ]
    labels = tuple(FrameLabels.of(frame) for frame in rows)
    sample = dataset(Clip(name="a", frames=Drawn([None] * 4), labels=labels))[0]
    xs = lambda key: (sample[key][:, 0] * 80).round(decimals=3).tolist()  # noqa: E731
    assert xs("points") == [10, 30, 32, 12, 34, 50]
    assert sample["points_group"].tolist() == [0, 0, 1, 1, 2, 3]
    assert sample["points_has_next"].tolist() == [True, True, True, False, True, False]
    assert [x for x, has in zip(xs("points_next"), sample["points_has_next"].tolist(), strict=True) if has] == [
        12, 32, 34, 50,
    ]  # fmt: skip
    assert sample["points_visible"].tolist() == [1, 1, 3, 1, 1, 1]


def test_two_objects_without_identity_have_no_next() -> None:
    labels = tuple(FrameLabels.of([(10, 20, 0, 1, -1), (30, 20, 0, 1, -1)]) for _ in range(4))
    assert not dataset(Clip(name="a", frames=Drawn([None] * 4), labels=labels))[0]["points_has_next"].any()


def test_frames_that_are_not_labelled() -> None:
    clip = ball_clip()
    labels = list(clip.labels)
    labels[1] = UNLABELLED
    labels[3] = FrameLabels.of([], labelled=True, players=None)
    sample = dataset(Clip(name="a", frames=clip.frames, labels=tuple(labels)))[0]
    assert sample["points_labelled"].tolist() == [True, False, True, True]
    assert sample["points_group"].tolist() == [0, 2]
    assert sample["points_has_next"].tolist() == [False, False]
    assert sample["unlabelled"].tolist() == [True]
    assert len(sample["cls"]) == 0


def test_windows_without_any_label_are_left_out_of_training_with_a_count() -> None:
    clip = ball_clip(12)
    labels = (*clip.labels[:5], *[UNLABELLED] * 7)
    half = Clip(name="a", frames=clip.frames, labels=labels)
    trained = dataset(half, augment=WindowAugment())
    assert (len(trained), trained.counts["windows without labels"]) == (5, 4)
    assert len(dataset(half)) == 9
    with pytest.raises(ValueError, match="expected frames that are labelled, found none"):
        dataset(Clip(name="a", frames=clip.frames, labels=(UNLABELLED,) * 12), augment=WindowAugment())


# ------------------------------------------------------------------------------------------- players, keys, batch

POSE_KEYS = {"batch_idx", "cls", "bboxes", "keypoints", "has_keypoints", "has_mask", "has_id", "ids", "instance"}
POSE_KEYS |= {"image", "scene", "motion", "ignore", "ignore_idx", "unlabelled"}
POINT_KEYS = {"points", "points_idx", "points_group", "points_cls", "points_visible", "points_next", "points_boxes"}
POINT_KEYS |= {"points_has_next", "points_labelled"}
OTHER_KEYS = {"img", "clip", "frame_numbers", "valid", "im_file", "ori_shape", "resized_shape", "ratio_pad"}


def test_a_batch_has_the_agreed_keys_and_types() -> None:
    empty = Clip(name="b", frames=Drawn([None] * 4), labels=(FrameLabels.of([]),) * 4)
    data = dataset(ball_clip(), empty)
    batch = data.collate_fn([data[0], data[7], data[3]])
    assert set(batch) == POSE_KEYS | POINT_KEYS | OTHER_KEYS
    assert batch["img"].shape == (3, G, 64, 96)
    assert batch["img"].dtype == torch.uint8
    assert batch["points_idx"].tolist() == [0] * 4 + [2] * 4
    assert batch["points_group"].tolist() == [0, 1, 2, 3] * 2
    for key in ("points_idx", "points_group", "points_cls", "points_visible", "frame_numbers"):
        assert batch[key].dtype == torch.int64, key
    for key in ("points", "points_next", "points_boxes", "bboxes", "keypoints", "cls"):
        assert batch[key].dtype == torch.float32, key
    assert batch["unlabelled"].tolist() == [[False], [True], [False]]
    assert batch["batch_idx"].tolist() == [0, 2]
    assert batch["clip"] == ("a", "b", "a")
    assert batch["frame_numbers"].tolist() == [[0, 1, 2, 3], [0, 1, 2, 3], [3, 4, 5, 6]]
    assert batch["im_file"][2] == "clip/0006.png"
    assert batch["ratio_pad"][0] == ((58 / 48, 1.2), (0, 3))


def test_the_pose_heads_keys_are_those_of_multitask_format(tmp_path: Path) -> None:
    """The same keys, types and shapes as the data set of images gives them for a pose set."""
    from yolo_multitask.data.config import load_data
    from yolo_multitask.data.dataset import MultiTaskDataset

    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    cv2.imwrite(str(tmp_path / "images/a.png"), np.zeros((48, 80, 3), np.uint8))
    (tmp_path / "labels/a.txt").write_text("0 0.5 0.5 0.2 0.5 0.5 0.5 2 0.6 0.5 1 #4\n0 0.5 0.5 0.1 0.1 - !\n")
    keys = "names: [person]\nkpt_shape: [2, 3]\nlabels: {keypoints: true, ids: true}\n"
    (tmp_path / "data.yaml").write_text(f"train: images\nval: images\n{keys}")
    images = MultiTaskDataset(str(tmp_path / "images"), imgsz=96, data=load_data(tmp_path / "data.yaml"), augment=False)
    theirs = images.collate_fn([images[0]])
    clip = Clip(name="a", frames=Drawn([None]), labels=(FrameLabels.of([], players=players(20, region=True)),))
    data = dataset(clip)
    ours = data.collate_fn([data[0]])
    for key in POSE_KEYS - {"unlabelled"}:
        assert ours[key].shape == theirs[key].shape, key
        assert ours[key].dtype == theirs[key].dtype, key
    np.testing.assert_allclose(ours["bboxes"], [[25 / 80, (20 * 58 / 48 + 3) / 64, 10 / 80, 20 * 58 / 48 / 64]], 1e-5)
    assert ours["ignore"].shape == (1, 4)
    assert ours["cls"].tolist() == [[0.0]]  # the Pose head's number, not the data's
    assert ours["ids"].tolist() == [0]


def test_identities_are_those_of_their_clip() -> None:
    data = dataset(ball_clip(name="a"), ball_clip(name="b"))
    assert [int(data[i]["ids"]) for i in (0, 6, 7, 13)] == [0, 0, 1, 1]


def test_nominal_box_where_only_the_position_is_known() -> None:
    boxes = dataset()[0]["points_boxes"] * torch.tensor([96, 64, 96, 64])
    torch.testing.assert_close(boxes[:, 2:], torch.full((4, 2), 0.02 * 96))
    assert dataset().object_size is None


# ------------------------------------------------------------------------------------------------- augmentation

ALL = {"scale": 0.4, "translate": 0.1, "degrees": 10, "shear": 3, "fliplr": 0.5, "flipud": 0.3, "hsv_v": 0.3}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "augment",
    [
        *({"fliplr": 1.0}, {"flipud": 1.0}, {"scale": 0.5}, {"translate": 0.2}, {"degrees": 20}, {"reverse": 1.0}),
        {**ALL, "reverse": 0.5, "hsv_h": 0.1, "hsv_s": 0.5, "noise": 3},
    ],
)
def test_labels_stay_on_the_ball_in_every_frame(augment: dict[str, float], channels: int) -> None:
    data = dataset(augment=WindowAugment(**{"noise": 0, **augment}), channels=channels)
    rng, checked = np.random.default_rng(0), 0
    for number in rng.integers(0, len(data), 12):
        sample = data[int(number)]
        planes = sample["img"].numpy().reshape(G, channels, 64, 96)[:, -1]
        for group, point in zip(sample["points_group"].tolist(), sample["points"].numpy(), strict=True):
            x, y = point * (96, 64)
            if 6 < x < 90 and 6 < y < 58:
                part = planes[group, int(y) - 6 : int(y) + 7, int(x) - 6 : int(x) + 7]
                dx, dy = (found - 0.5 for found in centre(part))
                assert abs(int(x) - 6 + dx + 0.5 - x) < 0.25
                assert abs(int(y) - 6 + dy + 0.5 - y) < 0.25
                checked += 1
    assert checked > 15


def test_reversal_swaps_next_and_previous() -> None:
    data = dataset(augment=WindowAugment(noise=0, reverse=1.0))
    sample = data[3]
    assert sample["frame_numbers"].tolist() == [6, 5, 4, 3]
    shift = (sample["points_next"] - sample["points"]) * torch.tensor([96.0, 64.0]) / torch.tensor([1.2, 58 / 48])
    torch.testing.assert_close(shift, torch.tensor([[-5.0, -1.0]] * 4), atol=1e-3, rtol=0)
    assert sample["points_has_next"].tolist() == [True] * 4  # frame 2 is before the window
    assert data[0]["points_has_next"].tolist() == [True] * 3 + [False]
    box = sample["bboxes"] * torch.tensor([96, 64, 96, 64])
    assert float(box[0, 0]) == pytest.approx((20 + 3 + 5) * 1.2)  # the player of frame 3, now the newest


def test_a_mirror_image_swaps_left_and_right_keypoints() -> None:
    plain, mirrored = dataset()[0], dataset(augment=WindowAugment(noise=0, fliplr=1.0))[0]
    assert (mirrored["img"] == plain["img"].flip(-1)).all()
    torch.testing.assert_close(mirrored["bboxes"][:, 0], 1 - plain["bboxes"][:, 0])
    there, here = plain["keypoints"][0], mirrored["keypoints"][0]
    torch.testing.assert_close(here[:, 0], (1 - there[:, 0]).flip(0))
    assert here[:, 2].tolist() == [1, 2]


def test_what_leaves_the_picture_is_gone() -> None:
    data = dataset(augment=WindowAugment(noise=0, translate=0.9))
    counts, visible = [], []
    for _ in range(40):
        sample = data[0]
        assert ((sample["points"] >= 0) & (sample["points"] < 1)).all()
        assert ((sample["bboxes"] >= 0) & (sample["bboxes"] <= 1)).all()
        assert sample["points_labelled"].all()  # that it is gone is known
        counts.append(len(sample["points"]))
        visible += sample["keypoints"][..., 2].flatten().tolist()
        inside = (sample["keypoints"][..., :2] >= 0) & (sample["keypoints"][..., :2] <= 1)
        assert inside.all()
    assert min(counts) < 4
    assert max(counts) > 0
    assert 0.0 in visible


def test_all_frames_of_a_window_are_changed_alike() -> None:
    """Still frames stay still, unless there is noise, which differs."""
    clip = Clip(name="a", frames=Drawn([(40, 24)] * 4), labels=(FrameLabels.of([(40, 24, 0, 1, -1)]),) * 4)
    still = dataset(clip, augment=WindowAugment(**{**ALL, "noise": 0}))[0]["img"]
    assert (still == still[:1]).all()
    changed = [dataset(clip, augment=WindowAugment(noise=5))[0]["img"].float() for _ in range(20)]
    spread = [float((window - window[:1]).std()) for window in changed]
    assert min(spread) == 0  # every second window
    assert 1 < max(spread) < 10


def test_brightness_changes() -> None:
    means = [float(dataset(augment=WindowAugment(noise=0, hsv_v=0.5))[0]["img"].float().mean()) for _ in range(10)]
    assert np.std(means) > 3


def test_augmentation_is_read_from_the_hosts_arguments() -> None:
    from ultralytics.cfg import get_cfg

    args = get_cfg()
    found = WindowAugment.from_args(args)
    assert (found.fliplr, found.scale, found.translate, found.hsv_v) == (0.5, 0.5, 0.1, 0.4)
    assert (found.reverse, found.noise) == (0.0, 3.0)
    assert WindowAugment.from_args(SimpleNamespace(reverse=0.5, scale=0)).reverse == 0.5


def test_windows_are_moved_at_random_within_the_stride() -> None:
    data = dataset(augment=WindowAugment(noise=0), window_stride=4)
    seen = {tuple(data[i]["frame_numbers"].tolist()) for i in range(len(data)) for _ in range(30)}
    assert {window[0] for window in seen} == set(range(7))  # all windows of the clip, from three


# ------------------------------------------------------------------------------------------------ memory, loader


def test_a_frame_is_read_once() -> None:
    clip = ball_clip()
    data = dataset(clip)
    for _ in range(2):
        for i in range(len(data)):
            data[i]
    assert clip.frames.reads == len(clip)  # type: ignore[attr-defined]
    assert (data.cache.filled, data.cache.slots) == (10, 10)


def test_the_limit_is_kept() -> None:
    cache = FrameCache((2, 3, 1), 10, 20)
    for i in range(10):
        cache.put(i, np.full((2, 3, 1), i, np.uint8))
    assert (cache.slots, cache.filled) == (3, 3)
    assert [None if cache.get(i) is None else int(cache.get(i)[0, 0, 0]) for i in range(5)] == [0, 1, 2, None, None]  # type: ignore[index]
    clip = ball_clip()
    data, free = dataset(clip, limit=3 * 64 * 96), dataset(ball_clip())
    assert all((data[i]["img"] == free[i]["img"]).all() for i in range(len(data)))
    assert "3 of 10 frames" in data.summary


def test_a_copy_has_its_own_memory() -> None:
    data = dataset()
    sample = data[0]["img"]
    for other in (copy.deepcopy(data), pickle.loads(pickle.dumps(data))):
        assert other.cache.filled == 0
        assert (other[0]["img"] == sample).all()


def test_the_hosts_loader_with_workers_that_share_frames() -> None:
    from ultralytics.data.build import build_dataloader

    data = dataset(ball_clip(), ball_clip(name="b"))
    loader = build_dataloader(data, 5, 2, shuffle=False, rank=-1)
    seen = [(clip, tuple(numbers)) for b in loader for clip, numbers in zip(b["clip"], b["frame_numbers"].tolist())]  # noqa: B905
    assert len(seen) == len(set(seen)) == 14
    assert data.cache.filled == 20  # what the workers read is there for this process, too


def test_what_the_hosts_trainer_reads() -> None:
    data = dataset()
    assert data.rect is False
    data.close_mosaic(hyp=None)
    assert len(data.labels) == len(data.im_files) == len(data)
    first = data.labels[0]
    assert first["cls"].tolist() == [[0.0], [1.0]]  # the data's classes: ball and person
    assert first["bboxes"].shape == (2, 4)
    np.testing.assert_allclose(
        first["bboxes"][0, :2] * (96, 64), Fit((H, W), (64, 96)).to_input(np.array([25, 23.0])), 1e-5
    )


def test_clips_of_several_sizes_have_one_input() -> None:
    data = dataset(ball_clip(), ball_clip(name="b", size=(80, 48)))
    assert data.shape == (96, 96)
    sample = data[len(data) - 1]
    x, y = centre(sample["img"][0].numpy()[:, 20:76])
    np.testing.assert_allclose((x + 20, y), sample["points"][0] * torch.tensor([96, 96]), atol=0.1)


def test_wrong_arguments() -> None:
    for keys in ({"num_groups": 0}, {"window_stride": 0}, {"frame_steps": [0]}, {"frame_steps": []}):
        with pytest.raises(ValueError, match="expected 1 or more"):
            dataset(**keys)
    with pytest.raises(ValueError, match="expected a frame"):
        prepare_frame(np.zeros((4, 4, 2), np.uint8), (32, 32))
