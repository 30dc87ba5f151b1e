"""The synthetic world: exact labels, honest difficulty, the same frames for the same seed."""

from __future__ import annotations

import hashlib
import itertools
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
import yaml

from yolo_multitask.data.labels import LabelSpec, read_labels
from yolo_multitask.data.synthetic import (
    FLIP_IDX,
    KEYPOINT_NAMES,
    World,
    WorldConfig,
    data_yaml,
    frame_labels,
    mask_to_polygon,
    render_sequence,
    sequence_seeds,
    write_clip,
    write_dataset,
)

SMALL = WorldConfig(width=96, height=72, length=6)
STRIDE, FRAMES, SEQUENCES = 3, 16, 24  # the validation split that write_dataset makes by default


@pytest.fixture(scope="module")
def validation():
    """Worlds and frames of the default validation split: list of (World, list of Frame)."""
    config = WorldConfig(length=(FRAMES - 1) * STRIDE + 1)
    worlds = [World(seed, config) for seed in sequence_seeds("val", SEQUENCES)]
    return [(world, [world.frame(k * STRIDE) for k in range(FRAMES)]) for world in worlds]


@pytest.fixture(scope="module")
def frames(validation):
    return [frame for _, sequence in validation for frame in sequence]


def digest(frame):
    parts = (frame.image, frame.masks, frame.boxes, frame.keypoints, frame.ids, frame.cls, frame.ignore)
    return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()


def filled(polygon, shape):
    """Rasterise as Ultralytics does: coordinates cut to integers, then cv2.fillPoly."""
    canvas = np.zeros(shape, np.uint8)
    cv2.fillPoly(canvas, [polygon.astype(np.int32)], 1)
    return canvas.astype(bool)


def test_defaults_of_write_dataset_are_the_measured_ones():
    defaults = write_dataset.__kwdefaults__
    assert (defaults["stride"], defaults["frames_per_sequence"], defaults["val_sequences"]) == (
        STRIDE,
        FRAMES,
        SEQUENCES,
    )


def test_same_seed_same_frames_in_any_order():
    first = [digest(frame) for frame in render_sequence(7, SMALL)]
    world = World(7, SMALL)
    again = {k: digest(world.frame(k)) for k in reversed(range(len(world)))}
    assert first == [again[k] for k in range(len(world))]
    assert len(set(first)) == len(first)
    assert digest(World(8, SMALL).frame(0)) != first[0]


def test_longer_sequence_starts_with_the_same_frames():
    assert digest(World(7, SMALL).frame(3)) == digest(World(7, replace(SMALL, length=50)).frame(3))


def test_frame_arrays_are_aligned(frames):
    for frame in frames:
        n = len(frame.ids)
        assert frame.image.shape == (240, 320, 3)
        assert frame.image.dtype == np.uint8
        assert frame.masks.shape == (n, 240, 320)
        assert frame.masks.dtype == bool
        assert frame.boxes.shape == (n, 4)
        assert frame.keypoints.shape == (n, 17, 3)
        assert frame.cls.shape == frame.ignore.shape == (n,)
        assert frame.visible_fraction.shape == frame.hidden_fraction.shape == (n,)
        assert (np.diff(frame.ids) > 0).all()
        assert not frame.cls.any()


def test_boxes_are_the_tight_boxes_of_disjoint_masks(frames):
    for frame in frames:
        assert frame.masks.sum(0).max() <= 1
        for mask, box in zip(frame.masks, frame.boxes, strict=True):
            y, x = np.nonzero(mask)
            assert box.tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]


def test_keypoints_agree_with_the_masks(frames):
    for frame in frames:
        for n, keypoints in enumerate(frame.keypoints):
            seen, inside = keypoints[:, 2] == 2, keypoints[:, 2] > 0
            assert not keypoints[~inside].any()
            x, y = keypoints[inside, 0], keypoints[inside, 1]
            assert (x >= 0).all()
            assert (x < 320).all()
            assert (y >= 0).all()
            assert (y < 240).all()
            x, y = keypoints[seen, :2].astype(int).T
            assert frame.masks[n, y, x].all(), "a seen keypoint lies on the figure's own visible pixels"


def test_nearer_figure_hides_farther_one(validation):
    """Masks are those of each figure drawn alone, laid over each other by where the figures stand."""
    crowded = max(validation, key=lambda pair: len(pair[0].figures))[0]
    for index in range(0, len(crowded), 6):
        owner = np.zeros((240, 320), int)
        for i in np.argsort([figure.ground[index] for figure in crowded.figures]):
            alone = World(crowded.seed, crowded.config)
            alone.figures, alone.looks = [alone.figures[i]], [alone.looks[i]]
            frame = alone.frame(index)
            if len(frame.ids):
                owner[frame.masks[0]] = i + 1
        frame = crowded.frame(index)
        for mask, identity in zip(frame.masks, frame.ids, strict=True):
            assert np.array_equal(mask, owner == identity)


def test_hidden_keypoints_are_marked(frames):
    """A keypoint on the pixels of another figure is never marked as seen, and such keypoints exist."""
    hidden = 0
    for frame in frames:
        for n, keypoints in enumerate(frame.keypoints):
            others = np.delete(frame.masks, n, 0).any(0)
            x, y = keypoints[keypoints[:, 2] > 0, :2].astype(int).T
            covered = others[y, x]
            assert (keypoints[keypoints[:, 2] > 0, 2][covered] == 1).all()
            hidden += int(covered.sum())
    assert hidden > 100


def test_left_is_on_the_picture_s_right_when_facing_the_camera():
    world = World(3, WorldConfig(max_yaw=0, length=4))
    frame = world.frame(0)
    left, right = (KEYPOINT_NAMES.index(f"{side}_shoulder") for side in ("left", "right"))
    for keypoints in frame.keypoints:
        if keypoints[[left, right], 2].all():
            assert keypoints[left, 0] > keypoints[right, 0]
    assert [KEYPOINT_NAMES[i] for i in FLIP_IDX] == [
        name.replace("left", "?").replace("right", "left").replace("?", "right") for name in KEYPOINT_NAMES
    ]


def test_two_to_four_figures_with_constant_identities(validation):
    counts = [len(world.figures) for world, _ in validation]
    assert set(counts) == {2, 3, 4}
    for world, sequence in validation:
        for frame in sequence:
            assert set(frame.ids.tolist()) <= set(range(1, len(world.figures) + 1))
    labelled = np.array([(~frame.ignore).sum() for _, sequence in validation for frame in sequence])
    assert labelled.max() <= 4
    assert np.mean(labelled >= 2) > 0.9


def test_figures_overlap_in_many_frames(validation):
    overlaps = [
        bool((frame.hidden_fraction > 0.05).any()) or len(frame.ids) < len(world.figures)
        for world, sequence in validation
        for frame in sequence
    ]
    assert np.mean(overlaps) >= 0.30


def test_most_figures_can_be_seen(frames):
    """Honest but fair: most instances are at least half visible and tall enough."""
    visible = np.concatenate([frame.visible_fraction for frame in frames])
    assert np.mean(visible >= 0.5) > 0.8
    heights = np.concatenate([(frame.boxes[:, 3] - frame.boxes[:, 1])[~frame.ignore] for frame in frames]) / 240
    assert 0.35 < np.median(heights) < 0.75
    assert np.quantile(heights, 0.05) > 0.25


def test_sequences_have_crossings_and_full_occlusions(validation):
    crossed, hidden = [], []
    for world, sequence in validation:
        x = [figure.points[::STRIDE, 5, 0] for figure in world.figures]
        crossed.append(any(np.ptp(np.sign(a - b)) == 2 for a, b in itertools.combinations(x, 2)))
        gone = any(len(frame.ids) < len(world.figures) for frame in sequence)
        hidden.append(1.0 if gone else max(float(frame.hidden_fraction.max()) for frame in sequence))
    assert np.mean(crossed) >= 0.6
    assert np.mean(np.array(hidden) >= 0.75) >= 0.4
    assert max(hidden) >= 0.95


def test_some_figures_leave_the_picture_partly(frames):
    partly = [bool((frame.keypoints[n, :, 2] == 0).any()) for frame in frames for n in range(len(frame.ids))]
    assert 0.01 < np.mean(partly) < 0.25


def test_ignore_rule(frames):
    ignored = 0
    for frame in frames:
        area = frame.masks.sum((1, 2))
        assert np.array_equal(frame.ignore, (frame.visible_fraction < 0.15) | (area < 30))
        ignored += int(frame.ignore.sum())
    assert ignored > 0


def test_polygons_give_the_masks_back(frames):
    ious = []
    for frame in frames:
        for mask in frame.masks[~frame.ignore]:
            polygon = mask_to_polygon(mask)
            assert polygon is not None
            again = filled(polygon, mask.shape)
            ious.append((mask & again).sum() / (mask | again).sum())
    assert np.mean(np.array(ious) >= 0.97) >= 0.92
    assert np.mean(ious) >= 0.99


def test_polygon_of_parts_and_holes():
    mask = np.zeros((60, 60), bool)
    mask[5:40, 5:30] = True
    mask[15:25, 10:20] = False
    mask[5:40, 33:50] = True
    polygon = mask_to_polygon(mask)
    assert polygon is not None
    again = filled(polygon, mask.shape)
    assert (mask & ~again).sum() == 0
    assert (again & ~mask).sum() <= 4, "only the line between the two parts"
    far = np.zeros((60, 60), bool)
    far[5:20, 5:20] = True
    far[55:57, 55:57] = True
    polygon = mask_to_polygon(far)
    assert polygon is not None
    assert polygon.max() < 21, "a part smaller than the line to it is left out"
    assert mask_to_polygon(np.zeros((4, 4), bool)) is None
    assert mask_to_polygon(np.eye(1, dtype=bool)) is None


def test_seeds_of_splits_never_meet():
    sets = [set(sequence_seeds(split, 1000, seed)) for split in ("train", "val", "test") for seed in (0, 1, 2)]
    assert all(not a & b for a, b in itertools.combinations(sets, 2))
    with pytest.raises(ValueError, match="expected a split of train, val, test, found 'trial'"):
        sequence_seeds("trial", 1)
    with pytest.raises(ValueError, match="found -1"):
        sequence_seeds("val", 1, -1)
    with pytest.raises(ValueError, match="count"):
        sequence_seeds("val", 250_001)


def test_written_data_set_reads_back(tmp_path):
    config = WorldConfig(width=160, height=120)
    ticks = []
    path = write_dataset(
        tmp_path / "world",
        train_sequences=2,
        val_sequences=1,
        frames_per_sequence=3,
        stride=4,
        config=config,
        progress=lambda done, total: ticks.append((done, total)),
    )
    assert path == tmp_path / "world" / "data.yaml"
    assert ticks == [(k, 9) for k in range(1, 10)]
    data = yaml.safe_load(path.read_text())
    assert data["labels"] == {"keypoints": True, "polygons": True, "ids": True}
    assert data["kpt_shape"] == [17, 3]
    assert data["flip_idx"] == list(FLIP_IDX)
    assert data["kpt_classes"] == ["person"]
    spec = LabelSpec.from_data(data)
    images = sorted((tmp_path / "world" / "images").rglob("*.jpg"))
    assert [image.relative_to(tmp_path / "world/images").as_posix() for image in images] == [
        f"{split}/{name}/{k:06d}.jpg"
        for split, name in (("train", "seq0001"), ("train", "seq0002"), ("val", "seq0001"))
        for k in (1, 2, 3)
    ]
    world = World(sequence_seeds("val", 1)[0], replace(config, length=9))
    for k in range(3):
        labels, problems = read_labels(path.parent / f"labels/val/seq0001/{k + 1:06d}.txt", spec)
        assert problems == []
        frame = world.frame(4 * k)
        assert np.array_equal(labels.ids, frame.ids)
        assert np.array_equal(labels.ignore, frame.ignore)
        assert np.array_equal(labels.has_keypoints, ~frame.ignore)
        assert np.array_equal(labels.has_polygon, ~frame.ignore)
        size = np.array([160, 120, 160, 120])
        centre, half = labels.boxes[:, :2], labels.boxes[:, 2:] / 2
        np.testing.assert_allclose(np.hstack([centre - half, centre + half]) * size, frame.boxes, atol=1e-3)
        points = labels.keypoints * np.array([160, 120, 1])
        np.testing.assert_allclose(points[~frame.ignore], frame.keypoints[~frame.ignore], atol=1e-3)
        image = cv2.imread(str(path.parent / f"images/val/seq0001/{k + 1:06d}.jpg"))
        assert np.abs(image.astype(int) - frame.image).mean() < 6


def test_written_files_depend_on_the_arguments_alone(tmp_path):
    options = {
        "train_sequences": 1,
        "val_sequences": 1,
        "frames_per_sequence": 2,
        "config": SMALL,
        "image_format": "png",
    }

    def contents(folder, seed):
        root = write_dataset(folder, seed=seed, **options).parent
        return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}

    assert contents(tmp_path / "a", 0) == contents(tmp_path / "b", 0)
    assert contents(tmp_path / "a2", 0) != contents(tmp_path / "c", 1)


def test_ignored_figure_is_written_as_region():
    frame = next(f for seed in sequence_seeds("val", 16) for f in World(seed) if f.ignore.any())
    labels = frame_labels(frame, WorldConfig())
    for n in np.flatnonzero(frame.ignore):
        assert labels.ignore[n]
        assert not labels.has_keypoints[n]
        assert labels.polygons[n] is None
        assert labels.ids[n] == frame.ids[n]


def test_second_class_has_no_keypoints(tmp_path):
    config = replace(SMALL, objects=2)
    world = World(5, config)
    frame = world.frame(0)
    balls = frame.cls == 1
    assert balls.any()
    assert (frame.ids[balls] > len(world.figures)).all()
    assert not frame.keypoints[balls].any()
    data = data_yaml(config)
    assert data["names"] == {0: "person", 1: "ball"}
    assert data["kpt_classes"] == ["person"]
    path = write_dataset(tmp_path / "w", train_sequences=1, val_sequences=1, frames_per_sequence=3, config=config)
    labels, problems = read_labels(
        path.parent / "labels/train/seq0001/000001.txt", LabelSpec.from_data(yaml.safe_load(path.read_text()))
    )
    assert problems == []
    assert not labels.has_keypoints[labels.cls == 1].any()
    assert labels.has_polygon[(labels.cls == 1) & ~labels.ignore].all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_sequences": 0}, "train_sequences: expected at least 1, found 0"),
        ({"stride": 0}, "stride: expected at least 1, found 0"),
        ({"image_format": "gif"}, "expected jpg or png, found 'gif'"),
    ],
)
def test_bad_arguments(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        write_dataset(tmp_path / "w", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"figures": (3, 2)}, "figures"),
        ({"width": 8}, "width and height of at least 32"),
        ({"length": 0}, "length of at least 1, found 0"),
        ({"min_visible": 1.0}, "min_visible"),
    ],
)
def test_bad_config(options, message):
    with pytest.raises(ValueError, match=message):
        WorldConfig(**options)


def test_bad_world():
    with pytest.raises(ValueError, match="seed of 0 or above, found -1"):
        World(-1, SMALL)
    with pytest.raises(IndexError, match="from 0 to 5, found 6"):
        World(0, SMALL).frame(6)


def test_data_set_is_written_whole_or_not_at_all(tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_dataset(tmp_path / "w", config=SMALL, progress=stop)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").touch()
    with pytest.raises(ValueError, match="in use"):
        write_dataset(tmp_path / "used", config=SMALL)


def test_clip(tmp_path):
    path = write_clip(tmp_path / "clip.avi", seed=3, config=SMALL, frames=4)
    capture = cv2.VideoCapture(str(path))
    read = []
    while True:
        good, image = capture.read()
        if not good:
            break
        read.append(image)
    capture.release()
    assert len(read) == 4
    assert read[0].shape == (72, 96, 3)
    assert [p.name for p in tmp_path.iterdir()] == ["clip.avi"]
    with pytest.raises(ValueError, match=r"ending in \.avi or \.mp4, found 'clip\.gif'"):
        write_clip(tmp_path / "clip.gif")


def test_needs_neither_torch_nor_ultralytics():
    code = (
        "import sys, yolo_multitask.data.synthetic; "
        "sys.exit(any(name.split('.')[0] in ('torch', 'ultralytics') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
