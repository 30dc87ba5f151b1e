"""After any augmentation, the class, box, polygon mask, keypoints, flags and identity of an instance are still its own.

The world has one instance of each kind per image: the class says the kind, hence the colour and what is labelled. So
each augmented instance can be checked on its own, whatever the transforms did.
"""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from support.instances import boxes, columns
from ultralytics.cfg import get_cfg
from ultralytics.data.augment import (
    Albumentations,
    BaseMixTransform,
    Compose,
    CopyPaste,
    CutMix,
    Mosaic,
    RandomFlip,
    RandomPerspective,
)

from yolo_multitask.data.augment import (
    MultiTaskCopyPaste,
    MultiTaskCutMix,
    MultiTaskMosaic,
    MultiTaskPerspective,
    box_rows,
    class_column,
)
from yolo_multitask.data.columns import (
    CLS,
    HAS_MASK,
    ID,
    IGNORE,
    IMAGE,
    INSTANCE,
    MOTION,
    MOTION_X,
    NO_ID,
    NUM_COLUMNS,
    SCENE,
)
from yolo_multitask.data.dataset import MultiTaskDataset
from yolo_multitask.data.format import MultiTaskFormat
from yolo_multitask.data.instances import Instance
from yolo_multitask.data.labels import LabelSpec, format_line
from yolo_multitask.data.sequences import relative_displacement

FULL, NO_POLYGON, NO_KEYPOINTS, BOX, REGION = range(5)
WITH_POLYGON, WITH_KEYPOINTS = {FULL, NO_KEYPOINTS}, {FULL, NO_POLYGON}
COLOURS = ((250, 20, 20), (20, 250, 20), (20, 20, 250), (250, 250, 20), (20, 250, 250))  # RGB by class
LEFT, RIGHT, TOP = range(3)
FLIP_IDX = [RIGHT, LEFT, TOP]
SPEC = LabelSpec(nc=5, kpt_shape=(3, 3), polygons=True, ids=True)
OFF: dict[str, Any] = dict.fromkeys(
    ("mosaic", "mixup", "cutmix", "copy_paste", "degrees", "translate", "scale", "shear", "perspective"), 0.0
) | dict.fromkeys(("fliplr", "flipud", "hsv_h", "hsv_s", "hsv_v", "bgr"), 0.0)
SIZE = 128
IDENTITY = ("ids", "has_id", "instance", "image", "scene", "motion")


def figure(kind: int, cell: int, number: int, rng: np.random.Generator) -> tuple[Instance, np.ndarray]:
    """Return an instance in one cell of a 4 x 3 grid and its outline in normalised coordinates."""
    w, h = rng.uniform(0.16, 0.2), rng.uniform(0.2, 0.27)
    x, y = (cell % 4) / 4 + 0.02, (cell // 4) / 3 + 0.03
    outline = np.array([[0, 0.5], [0.2, 0], [0.8, 0.1], [1, 0.5], [0.7, 1], [0.3, 0.9]], np.float32) * (w, h) + (x, y)
    points = np.array([[0.25, 0.5, 2], [0.75, 0.5, 2], [0.5, 0.25, 1]], np.float32)
    points[:, :2] = points[:, :2] * (w, h) + (x, y)
    box = np.array([x + w / 2, y + h / 2, w, h], np.float32)
    corners = np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]])
    instance = Instance(
        cls=kind,
        box=box,
        keypoints=points if kind in WITH_KEYPOINTS else None,
        polygon=outline.astype(np.float32) if kind in WITH_POLYGON else None,
        id=-1 if kind == REGION else 100 * number + kind,
        ignore=kind == REGION,
    )
    return instance, outline if kind in WITH_POLYGON else corners


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write five images with one instance of each kind, and an empty one; return the image folder."""
    root = tmp_path_factory.mktemp("world")
    rng = np.random.default_rng(0)
    for name in ("images/train", "labels/train"):
        (root / name).mkdir(parents=True)
    for number in range(6):
        height = (SIZE, 96)[number % 2]
        image = np.full((height, SIZE, 3), 90, np.uint8)
        lines = []
        for kind, cell in enumerate(rng.permutation(12)[:5] if number < 5 else []):
            instance, outline = figure(kind, int(cell), number, rng)
            cv2.fillPoly(image, [(outline * (SIZE, height)).round().astype(np.int32)], COLOURS[kind][::-1])
            lines.append(format_line(instance, SPEC))
        cv2.imwrite(str(root / f"images/train/{number}.png"), image)
        (root / f"labels/train/{number}.txt").write_text("\n".join(lines))
    return root / "images/train"


def make(folder: Path, *, data: dict[str, Any] | None = None, augment: bool = True, **hyp: Any) -> MultiTaskDataset:
    """Build a data set with all augmentation off but the given."""
    extra = {k: hyp.pop(k) for k in ("rect", "single_cls", "classes", "cache") if k in hyp}
    augmentations = hyp.pop("augmentations", None)
    args = get_cfg(overrides={"imgsz": SIZE, "mask_ratio": 1, **OFF, **hyp})
    if augmentations:
        args.augmentations = augmentations
    names = dict(enumerate(("full", "no_polygon", "no_keypoints", "box", "region")))
    base = {"names": names, "nc": 5, "kpt_shape": [3, 3], "flip_idx": FLIP_IDX, "channels": 3, "label_spec": SPEC}
    return MultiTaskDataset(
        img_path=str(folder),
        imgsz=SIZE,
        augment=augment,
        hyp=args,
        batch_size=2,
        data=base | {"kpt_classes": list(range(5))} | (data or {}),
        **extra,
    )


def samples(dataset: MultiTaskDataset, rounds: int = 4) -> list[dict[str, Any]]:
    """Draw every image `rounds` times from fixed seeds."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    return [dataset[i] for _ in range(rounds) for i in range(len(dataset))]


def near(image: torch.Tensor, x: float, y: float, kind: int) -> bool:
    """Whether the pixel at a place in pixels has the colour of the kind."""
    h, w = image.shape[1:]
    pixel = image[:, min(int(y), h - 1), min(int(x), w - 1)].tolist()
    return max(abs(a - b) for a, b in zip(pixel, COLOURS[kind], strict=True)) < 90


def check_numbers(found: dict[str, Any], kind: int, dataset: MultiTaskDataset) -> None:
    """Check the numbers of one instance of a kind against the labels."""
    assert found["has_id"] == (found["ids"] >= 0)
    rows = np.concatenate([label["cls"] for label in dataset.labels])
    if found["instance"] < 0:  # a pasted mirror image
        assert not found["has_id"]
        rows = rows[(rows[:, [CLS, IMAGE, SCENE]] == (kind, found["image"], found["scene"])).all(1)]
    else:
        rows = rows[rows[:, INSTANCE] == found["instance"]]
        assert rows[:, [CLS, IMAGE, SCENE]].tolist() == [[kind, found["image"], found["scene"]]]
        assert found["ids"] in (NO_ID, rows[0, ID])
    assert len(rows) == 1


def check(sample: dict[str, Any], dataset: MultiTaskDataset, *, colour: str = "all", upright: bool = True) -> set[int]:
    """Check every instance of a sample; return the kinds that were there.

    `colour`: check the picture under "all" instances, only under those without identity ("pasted"), or "none".
    """
    n = len(sample["cls"])
    keys = ("bboxes", "keypoints", "has_keypoints", "has_mask", "batch_idx", *IDENTITY)
    lengths = {k: len(sample[k]) for k in keys}
    assert set(lengths.values()) == {n}, lengths
    h, w = sample["img"].shape[1:]
    assert sample["masks"].shape == (1, h, w)
    assert sample["keypoints"].shape == (n, 3, 3)
    assert int(sample["masks"].max()) <= n
    ignored = [REGION] * len(sample["ignore"])
    for i in range(n):
        kind = int(sample["cls"][i, 0])
        assert kind != REGION
        assert bool(sample["has_mask"][i]) == (kind in WITH_POLYGON)
        assert bool(sample["has_keypoints"][i]) == (kind in WITH_KEYPOINTS)
        ident = int(sample["ids"][i])
        assert ident == -1 or dataset.identities[ident][1] % 100 == kind
        check_numbers({k: sample[k][i].item() for k in ("ids", "has_id", "instance", "image", "scene")}, kind, dataset)
        cx, cy, bw, bh = (sample["bboxes"][i] * torch.tensor([w, h, w, h])).tolist()
        look = colour == "all" or (colour == "pasted" and ident == -1)
        mask = sample["masks"][0] == i + 1
        if kind not in WITH_POLYGON:
            assert not mask.any()
            assert not look or bw < 8 or bh < 8 or near(sample["img"], cx, cy, kind)
        elif mask.any():
            my, mx = (c.float().mean().item() for c in torch.where(mask))
            assert abs(mx - cx) < bw / 2 + 1
            assert abs(my - cy) < bh / 2 + 1
            assert not look or bw < 8 or bh < 8 or near(sample["img"], mx, my, kind)
        seen = sample["keypoints"][i, :, 2] > 0
        if kind not in WITH_KEYPOINTS:
            assert not sample["keypoints"][i].any()
            continue
        for x, y in (sample["keypoints"][i, seen, :2] * torch.tensor([w, h])).tolist():
            assert abs(x - cx) < bw / 2 + 2
            assert abs(y - cy) < bh / 2 + 2
            assert not look or near(sample["img"], x, y, kind)
        if upright and seen[LEFT] and seen[RIGHT]:
            assert sample["keypoints"][i, LEFT, 0] < sample["keypoints"][i, RIGHT, 0]
    for cx, cy, bw, bh in sample["ignore"].tolist():
        assert cx - bw / 2 >= -1e-6
        assert cx + bw / 2 <= 1 + 1e-6
        assert colour != "all" or bw * w < 8 or bh * h < 8 or near(sample["img"], cx * w, cy * h, REGION)
    return {*sample["cls"][:, 0].int().tolist(), *ignored}


PIPELINES: dict[str, tuple[dict[str, Any], str]] = {
    "none": ({}, "all"),
    "perspective": ({"degrees": 15.0, "translate": 0.3, "scale": 0.5, "shear": 5.0, "perspective": 0.0005}, "all"),
    "flips": ({"fliplr": 0.5, "flipud": 0.5}, "all"),
    "mosaic": ({"mosaic": 1.0, "translate": 0.1, "scale": 0.3, "fliplr": 0.5}, "all"),
    "mixup": ({"mosaic": 0.5, "mixup": 1.0}, "none"),
    "cutmix": ({"cutmix": 1.0, "scale": 0.2, "fliplr": 0.5}, "all"),
    "copy-paste flip": ({"copy_paste": 1.0}, "pasted"),
    "copy-paste flip in mosaics": ({"copy_paste": 1.0, "mosaic": 1.0, "fliplr": 0.5, "degrees": 5.0}, "pasted"),
    "copy-paste mixup": ({"copy_paste": 1.0, "copy_paste_mode": "mixup", "mosaic": 0.5}, "none"),
    "everything": (
        {"mosaic": 0.7, "mixup": 0.4, "cutmix": 0.4, "copy_paste": 0.6, "degrees": 10.0, "scale": 0.4, "fliplr": 0.5},
        "none",
    ),
}


@pytest.mark.parametrize("name", PIPELINES)
def test_instances_stay_together(world: Path, name: str) -> None:
    hyp, colour = PIPELINES[name]
    dataset = make(world, **hyp)
    kinds: set[int] = set()
    for sample in samples(dataset):
        kinds |= check(sample, dataset, colour=colour, upright="flipud" not in hyp)
    assert kinds == {FULL, NO_POLYGON, NO_KEYPOINTS, BOX, REGION}


def test_mosaic_of_nine(world: Path) -> None:
    dataset = make(world, mosaic=1.0)
    dataset.transforms[0][0].n = 9
    counts = [len(s["cls"]) for s in samples(dataset, 2) if check(s, dataset)]
    assert max(counts) > 4


def test_validation_keeps_the_label_file(world: Path) -> None:
    dataset = make(world, augment=False)
    found = samples(dataset, 1)
    assert [len(s["cls"]) for s in found] == [4, 4, 4, 4, 4, 0]
    assert [len(s["ignore"]) for s in found] == [1, 1, 1, 1, 1, 0]
    for sample in found:
        check(sample, dataset)
        assert sample["keypoints"].dtype == sample["bboxes"].dtype == sample["cls"].dtype == torch.float32
        assert {sample[k].dtype for k in ("ids", "instance", "image", "scene")} == {torch.int64}
        assert sample["motion"].dtype == torch.float32
        assert sample["motion"].shape[1:] == (4,)
        assert sample["has_id"].dtype == torch.bool
        assert sample["has_mask"].dtype == sample["has_keypoints"].dtype == torch.bool
        assert sample["masks"].dtype == torch.uint8
        assert sample["ignore"].shape[1:] == (4,)


def test_horizontal_flip_swaps_left_and_right(world: Path) -> None:
    plain, flipped = samples(make(world), 1), samples(make(world, fliplr=1.0), 1)
    for a, b in zip(plain, flipped, strict=True):
        rows = a["has_keypoints"]
        order = [int((a["ids"] == i).nonzero()) for i in b["ids"]]  # the order by area may differ by a pixel
        a_kpt, rows = a["keypoints"][order], rows[order]
        assert torch.equal(rows, b["has_keypoints"])
        torch.testing.assert_close(b["keypoints"][rows][:, FLIP_IDX, 0], 1 - a_kpt[rows][..., 0], atol=1e-5, rtol=0)
        torch.testing.assert_close(b["keypoints"][rows][:, FLIP_IDX, 1:], a_kpt[rows][..., 1:], atol=1e-5, rtol=0)


def test_copy_paste_flip_pastes_labelled_polygons_without_identity(world: Path) -> None:
    plain, pasted = make(world), make(world, copy_paste=1.0)
    total = 0
    for i in range(len(plain)):
        before, after = plain[i], pasted[i]
        new = after["ids"] == -1
        assert torch.equal(new, after["instance"] == -1)
        total += int(new.sum())
        assert set(after["cls"][new, 0].int().tolist()) <= WITH_POLYGON
        assert sorted(after["ids"][~new].tolist()) == sorted(before["ids"].tolist())
        assert len(after["ignore"]) == len(before["ignore"])
    assert total > 3


def test_copy_paste_flip_without_flip_idx_leaves_keypoints_unlabelled(world: Path) -> None:
    dataset = make(world, copy_paste=1.0, data={"flip_idx": []})
    new = [s for s in samples(dataset, 1) if (s["ids"] == -1).any()]
    assert new
    for sample in new:
        rows = sample["ids"] == -1
        assert not sample["has_keypoints"][rows].any()
        assert not sample["keypoints"][rows].any()
        assert sample["has_mask"][rows].all()


def test_copy_paste_mixup_shows_no_identity_twice() -> None:
    transform = MultiTaskCopyPaste(SimpleNamespace(data={"flip_idx": []}), p=1.0, mode="mixup")
    params = {
        "instances": boxes((0, 0, 8, 8), (8, 8, 16, 16), polygons=True),
        "instances2": boxes((20, 20, 28, 28), (30, 0, 38, 8), (0, 30, 8, 38), (30, 30, 38, 38), polygons=True),
        "selected": np.array([3, 0, 1, 2]),
        "labels2_cls": columns((2, 1, 1, 0, 3), (3, 0, 1, 0, -1), (4, 1, 1, 0, 5), (5, 1, 1, 0, 5)),
    }
    out = transform.apply_instances({"cls": columns((0, 1, 1, 0, 3), (1, 0, 0, 0, -1))}, params)
    assert out["cls"][:, 0].tolist() == [0, 1, 5, 2, 3, 4]
    assert out["cls"][:, ID].tolist() == [3, -1, 5, -1, -1, -1]  # 3 is there already, the second 5 is one too many
    assert out["cls"][:, 1].tolist() == [1, 0, 1, 1, 0, 1]
    assert len(out["instances"]) == 6


def test_copy_paste_mixup_keeps_identities(world: Path) -> None:
    dataset = make(world, copy_paste=1.0, copy_paste_mode="mixup")
    assert sum(len(s["ids"]) > 4 and bool((s["ids"] >= 0).all()) for s in samples(dataset)) > 3


def test_copy_paste_takes_its_share_of_what_can_be_pasted(world: Path) -> None:
    dataset = make(world, copy_paste=0.5)
    transform = dataset.transforms[0][1]
    assert isinstance(transform, MultiTaskCopyPaste)
    labels = dataset.get_image_and_label(0)
    labels["instances"].convert_bbox("xyxy")
    labels["instances"].denormalize(*labels["img"].shape[1::-1])
    transform.p = 1.0
    every = transform.get_params(labels)["selected"]
    transform.p = 0.5
    half = transform.get_params(labels)["selected"]
    assert (labels["cls"][every, HAS_MASK] == 1).all()
    assert len(half) == round(len(every) / 2)


@pytest.mark.parametrize("mode", ["flip", "mixup"])
def test_no_host_transform_is_left(world: Path, mode: str) -> None:
    transforms = make(world, copy_paste=0.5, copy_paste_mode=mode).transforms
    found: list[Any] = []

    def walk(node: Any) -> None:
        if node is None:
            return
        found.append(node)
        for child in node.transforms if isinstance(node, Compose) else []:
            walk(child)
        if isinstance(node, BaseMixTransform):
            walk(node.pre_transform)

    walk(transforms)
    assert not [
        t for t in found if type(t) in (Mosaic, RandomPerspective, CutMix, CopyPaste, RandomFlip, Albumentations)
    ]
    assert {MultiTaskPerspective, MultiTaskCutMix, MultiTaskCopyPaste} <= {type(t) for t in found}
    assert transforms[1].pre_transform is transforms[2].pre_transform is transforms[0]
    assert isinstance(transforms[-1], MultiTaskFormat)


def test_close_mosaic_keeps_our_transforms(world: Path) -> None:
    dataset = make(world, mosaic=1.0, copy_paste=1.0)
    dataset.close_mosaic(hyp=get_cfg(overrides={"imgsz": SIZE, "mask_ratio": 1, **OFF, "mosaic": 1.0}))
    assert isinstance(dataset.transforms[-1], MultiTaskFormat)
    assert [len(s["cls"]) for s in samples(dataset, 1) if not check(s, dataset) >= {REGION + 1}] == [4, 4, 4, 4, 4, 0]


def spatial() -> dict[str, list[Any]]:
    """Return spatial Albumentations pipelines by name, or skip."""
    albumentations = pytest.importorskip("albumentations")
    return {
        "flip": [albumentations.HorizontalFlip(p=1.0)],
        "rotate": [albumentations.Affine(rotate=(-12, 12), scale=(0.8, 1.1), p=1.0)],
        "crop": [albumentations.RandomCrop(64, 64, p=1.0)],
        "blur": [albumentations.Blur(blur_limit=3, p=1.0)],
    }


@pytest.mark.parametrize("name", ["flip", "rotate", "crop", "blur"])
def test_albumentations(world: Path, name: str) -> None:
    dataset = make(world, augmentations=spatial()[name])
    kinds: set[int] = set()
    for sample in samples(dataset, 2):
        kinds |= check(sample, dataset)
    assert kinds == {FULL, NO_POLYGON, NO_KEYPOINTS, BOX, REGION}


def test_albumentations_on_an_empty_image(world: Path) -> None:
    sample = make(world, augmentations=spatial()["rotate"])[5]
    assert sample["cls"].shape == (0, 1)
    assert sample["ignore"].shape == (0, 4)


@pytest.mark.parametrize("polygons", [False, True])
def test_perspective_keeps_a_sliver_of_an_ignore_region(polygons: bool) -> None:
    transform = MultiTaskPerspective()
    shift = np.eye(3, dtype=np.float32)
    shift[0, 2] = -99.5  # half a pixel of each box stays
    params = {"M": shift, "scale": 1.0, "orig_shape": (100, 100), "size": (100, 100)}
    labels = {
        "cls": columns((0, 0, 1, 0, 3), (1, 0, 0, 1, -1), (2, 0, 0, 1, -1)),
        "instances": boxes((0, 0, 100, 100), (0, 0, 100, 100), (0, 0, 90, 90), polygons=polygons),
    }
    out = transform.apply_instances(labels, params)
    assert out["cls"][:, 0].tolist() == [1]
    np.testing.assert_allclose(out["instances"].bboxes, [[0, 0, 0.5, 100]])


def test_cutmix_brings_every_touched_ignore_region(monkeypatch: pytest.MonkeyPatch) -> None:
    other = {
        "img": np.ones((100, 100, 3), np.uint8),
        "cls": columns((0, 0, 0, 0, 5), (1, 0, 0, 1, -1), (2, 0, 0, 0, 6), (3, 0, 0, 1, -1)),
        "instances": boxes((60, 60, 80, 80), (0, 0, 55, 100), (0, 0, 55, 100), (0, 0, 20, 20)),
    }
    dataset = SimpleNamespace(get_image_and_label=lambda i: other)
    transform = MultiTaskCutMix(dataset, p=1.0)
    monkeypatch.setattr(transform, "get_indexes", lambda: 0)
    monkeypatch.setattr(transform, "_rand_bbox", lambda w, h: (50, 50, 100, 100))
    labels = {"img": np.zeros((100, 100, 3), np.uint8), "cls": columns(), "instances": boxes()}
    out = transform(labels)
    assert out["cls"][:, [0, IGNORE]].tolist() == [[0, 0], [1, 1]]
    np.testing.assert_allclose(out["instances"].bboxes, [[60, 60, 80, 80], [50, 50, 55, 100]])


def test_class_column_leaves_ignore_regions_out() -> None:
    labels = [
        {"cls": columns((3, 1, 1, 0, 7), (2, 0, 0, 1, -1)), "bboxes": np.full((2, 4), 0.5, np.float32)},
        {"cls": columns(), "bboxes": np.zeros((0, 4), np.float32)},
        {"cls": columns((1, 0, 0, 0, -1)), "bboxes": np.full((1, 4), 0.25, np.float32)},
    ]
    assert class_column(labels).tolist() == [3, 1]
    assert box_rows(labels)[:, 0].tolist() == [0.5, 0.25]
    assert len(class_column([])) == 0
    assert box_rows([]).shape == (0, 4)


def test_identities_are_cleared_only_in_their_column(world: Path) -> None:
    label = make(world).labels[0]["cls"]
    assert label.shape == (5, NUM_COLUMNS)
    assert label.dtype == np.float32
    assert sorted(label[:, ID].tolist()) == [-1, 0, 1, 2, 3]


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write two sequences of three frames in which everything moves and grows; return the image folder."""
    root = tmp_path_factory.mktemp("moving")
    rng = np.random.default_rng(0)
    for sequence in range(2):
        image, label = (root / kind / "train" / f"s{sequence}" for kind in ("images", "labels"))
        image.mkdir(parents=True)
        label.mkdir(parents=True)
        still = [figure(kind, int(cell), 0, rng)[0] for kind, cell in enumerate(rng.permutation(12)[:4])]
        steps = rng.uniform(-0.03, 0.03, (4, 2))
        for frame in range(3):
            lines = [format_line(moved(s, frame * d, 1.1**frame), SPEC) for s, d in zip(still, steps, strict=True)]
            (label / f"{frame}.txt").write_text("\n".join(lines))
            cv2.imwrite(str(image / f"{frame}.png"), np.full((SIZE, SIZE, 3), 90, np.uint8))
    return root / "images/train"


def moved(instance: Instance, step: np.ndarray, growth: float) -> Instance:
    """Return the instance moved by a step and grown around its centre."""
    centre = instance.box[:2]

    def move(points: np.ndarray | None) -> np.ndarray | None:
        if points is None:
            return None
        xy = (points[:, :2] - centre) * growth + centre + step
        return np.concatenate((xy, points[:, 2:]), 1).astype(np.float32).clip(0, 2)

    box = np.concatenate((centre + step, instance.box[2:] * growth)).astype(np.float32)
    return replace(instance, box=box, keypoints=move(instance.keypoints), polygon=move(instance.polygon))


MOVING: dict[str, tuple[dict[str, Any], tuple[int, int], float]] = {  # transforms, signs of x and y, share known
    "none": ({}, (1, 1), 0.6),
    "scale and translate": ({"scale": 0.3, "translate": 0.1}, (1, 1), 0.4),
    "mosaic": ({"mosaic": 1.0, "scale": 0.2}, (1, 1), 0.25),
    "mixup": ({"mixup": 1.0}, (1, 1), 0.6),
    "cutmix": ({"cutmix": 1.0}, (1, 1), 0.4),
    "copy-paste mixup": ({"copy_paste": 1.0, "copy_paste_mode": "mixup"}, (1, 1), 0.6),
    "fliplr": ({"fliplr": 1.0}, (-1, 1), 0.6),
    "flipud": ({"flipud": 1.0}, (1, -1), 0.6),
    "both flips in mosaics": ({"fliplr": 1.0, "flipud": 1.0, "mosaic": 1.0}, (-1, -1), 0.25),
    "perspective": ({"perspective": 0.0005}, (1, 1), 0.0),
}


@pytest.mark.parametrize("name", MOVING)
def test_motion_follows_the_picture(moving: Path, name: str) -> None:
    hyp, signs, share = MOVING[name]
    dataset = make(moving, **hyp)
    rows = np.concatenate([label["cls"] for label in dataset.labels])
    known = total = 0
    for sample in samples(dataset):
        truth = rows[sample["instance"].numpy()][:, MOTION] * (*signs, 1, 1)
        motion = sample["motion"].numpy()
        seen = ~np.isnan(motion).any(1)
        assert np.isnan(motion[~seen]).all()
        np.testing.assert_allclose(motion[seen], truth[seen], atol=2e-4)
        known, total = known + int(seen.sum()), total + len(seen)
    assert known / total >= share
    assert share > 0 or known == 0


def test_a_pasted_mirror_image_moves_the_other_way(moving: Path) -> None:
    dataset = make(moving, copy_paste=1.0)
    rows = np.concatenate([label["cls"] for label in dataset.labels])
    count = 0
    for sample in samples(dataset, 1):
        for i in np.flatnonzero(sample["instance"] == -1):
            same = (rows[:, CLS] == sample["cls"][i].item()) & (rows[:, IMAGE] == sample["image"][i].item())
            truth = rows[same][0, MOTION] * (-1, 1, 1, 1)
            np.testing.assert_allclose(sample["motion"][i], truth, atol=2e-4)
            count += not np.isnan(truth[0])
    assert count > 2


@pytest.mark.parametrize("polygons", [False, True])
@pytest.mark.parametrize(("angle", "shear"), [(0, 0.0), (30, 0.0), (0, 0.2), (180, 0.0), (-75, 0.3)])
def test_perspective_turns_motion(polygons: bool, angle: float, shear: float) -> None:
    """The displacement of the transformed boxes is the transformed displacement."""
    matrix = np.eye(3, dtype=np.float32)
    matrix[:2] = cv2.getRotationMatrix2D((100, 100), angle, 0.8)
    matrix = np.array([[1, shear, 0], [shear / 2, 1, 0], [0, 0, 1]], np.float32) @ matrix
    now, then = (80, 80, 100, 120), (90, 74, 115, 124)
    host = RandomPerspective()
    before, after = (host.apply_bboxes(np.array([b], np.float32), matrix) for b in (now, then))

    def cxcywh(box: np.ndarray) -> np.ndarray:
        return np.concatenate(((box[:, :2] + box[:, 2:]) / 2, box[:, 2:] - box[:, :2]), 1)

    cls = columns((0, 0, 1, 0, 3), (0, 0, 1, 0, 4))
    cls[:1, MOTION] = relative_displacement(*(cxcywh(np.array([b], np.float32)) for b in (now, then)))
    params = {"M": matrix, "scale": 0.8, "orig_shape": (400, 400), "size": (400, 400)}
    labels = {"cls": cls, "instances": boxes(now, now, polygons=polygons)}
    out = MultiTaskPerspective().apply_instances(labels, params)["cls"][:, MOTION]
    np.testing.assert_allclose(out[:1], relative_displacement(cxcywh(before), cxcywh(after)), rtol=1e-4, atol=1e-5)
    assert np.isnan(out[1]).all()


def test_motion_of_a_turned_polygon_is_relative_to_its_new_box() -> None:
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    circle = (100 + 20 * np.stack((np.cos(angles), np.sin(angles)), 1)).astype(np.float32)
    instances = boxes((80, 80, 120, 120), polygons=True)
    instances.segments = circle[None]
    cls = columns((0, 0, 1, 0, 3))
    cls[:, MOTION] = (0.5, 0, 0, 0)
    matrix = np.eye(3, dtype=np.float32)
    matrix[:2] = cv2.getRotationMatrix2D((100, 100), 45, 1.0)
    params = {"M": matrix, "scale": 1.0, "orig_shape": (200, 200), "size": (200, 200)}
    out = MultiTaskPerspective().apply_instances({"cls": cls, "instances": instances}, params)
    np.testing.assert_allclose(np.diff(out["instances"].bboxes[0].reshape(2, 2), axis=0), [[40, 40]], atol=0.2)
    np.testing.assert_allclose(out["cls"][0, MOTION], (0.5 / 2**0.5, -0.5 / 2**0.5, 0, 0), atol=5e-3)


@pytest.mark.parametrize("polygons", [False, True])
def test_perspective_forgets_the_motion_of_what_the_border_cuts(polygons: bool) -> None:
    shift = np.eye(3, dtype=np.float32)
    shift[0, 2] = -10
    cls = columns(*[(0, 0, 1, 0, i) for i in range(4)])
    cls[:, MOTION] = 0.25
    instances = boxes((20, 20, 60, 60), (8, 20, 48, 60), (5, 20, 45, 60), (70, 90, 90, 120), polygons=polygons)
    params = {"M": shift, "scale": 1.0, "orig_shape": (100, 100), "size": (100, 100)}
    out = MultiTaskPerspective().apply_instances({"cls": cls, "instances": instances}, params)
    assert out["cls"][:, ID].tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(out["cls"][:2, MOTION], 0.25, atol=1e-6)
    assert np.isnan(out["cls"][2:, MOTION]).all()


def test_mosaic_forgets_the_motion_of_what_its_border_cuts() -> None:
    transform = MultiTaskMosaic(SimpleNamespace(cache=None), imgsz=50)
    cls = columns((0, 0, 0, 0, 0), (0, 0, 0, 0, 1), (0, 0, 0, 0, 2))
    cls[:, MOTION] = 0.25
    image = {"im_file": "a.png", "ori_shape": (50, 50), "cls": cls}
    image["instances"] = boxes((80, 0, 100, 20), (81, 0, 101, 20), (83, 0, 103, 20))
    out = transform._cat_labels([image])["cls"][:, MOTION_X]
    np.testing.assert_array_equal(out, [0.25, 0.25, np.nan])


def test_cutmix_forgets_the_motion_of_what_its_area_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    cls = columns((0, 0, 0, 0, 5), (0, 0, 0, 0, 6))
    cls[:, MOTION] = 0.25
    other = {
        "img": np.ones((100, 100, 3), np.uint8),
        "cls": cls,
        "instances": boxes((60, 60, 80, 80), (40, 60, 80, 80)),
    }
    transform = MultiTaskCutMix(SimpleNamespace(get_image_and_label=lambda i: other), p=1.0)
    monkeypatch.setattr(transform, "get_indexes", lambda: 0)
    monkeypatch.setattr(transform, "_rand_bbox", lambda w, h: (50, 50, 100, 100))
    out = transform({"img": np.zeros((100, 100, 3), np.uint8), "cls": columns(), "instances": boxes()})
    assert out["cls"][:, ID].tolist() == [5, 6]
    np.testing.assert_array_equal(out["cls"][:, MOTION_X], [0.25, np.nan])


@pytest.mark.parametrize(("name", "known"), [("flip", False), ("blur", True)])
def test_spatial_albumentations_forget_motion(moving: Path, name: str, known: bool) -> None:
    dataset = make(moving, augmentations=spatial()[name])
    assert any(bool((~s["motion"].isnan()).any()) for s in samples(dataset, 1)) == known
