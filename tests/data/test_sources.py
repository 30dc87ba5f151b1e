"""Several sources in one split: what their YAML says, what becomes of their labels, and how they are mixed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from ultralytics.cfg import get_cfg

from yolo_multitask.data.columns import CLS, HAS_KEYPOINTS, HAS_MASK, INSTANCE
from yolo_multitask.data.config import host_yaml, load_data
from yolo_multitask.data.dataset import MultiTaskDataset, build_multitask_dataset
from yolo_multitask.data.loader import BalancedSampler, build_train_dataloader

SIZE = 64
BOX = "0.5 0.5 0.4 0.4"
POLYGON = "0.3 0.3 0.7 0.3 0.7 0.7 0.3 0.7"
POINTS = "0.4 0.4 2 0.6 0.6 2"
POSE = {"kpt_shape": [2, 3], "flip_idx": [1, 0]}
TRAIN = [
    {"path": "shapes", "tasks": ["detect", "segment"]},
    {"path": "people/data.yaml", "classes": {"human": "person"}, "weight": 2},
]


def images(folder: Path, lines: str, count: int, seed: int = 0) -> None:
    """Write `count` noise images, each with the same label lines."""
    labels = folder.parents[1] / "labels" / folder.name
    rng = np.random.default_rng(seed)
    for i in range(count):
        for place in (folder, labels):
            place.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{i}.png"), rng.integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8))
        (labels / f"{i}.txt").write_text(lines)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Write two data sets: cars and persons with polygons, humans and dogs with keypoints."""
    for split in ("train", "val"):
        images(tmp_path / "shapes" / "images" / split, f"0 {BOX} {POLYGON}\n1 {BOX} -\n", 4)
        images(tmp_path / "people" / "images" / split, f"0 {BOX} {POINTS}\n1 {BOX} {POINTS}\n", 2, seed=1)
    own = {"names": ["car", "person"], "labels": {"polygons": True}}
    write(tmp_path / "shapes", train="images/train", val="images/val", **own)
    write(tmp_path / "people", train="images/train", val="images/val", names=["human", "dog"], **POSE)
    return tmp_path


def write(folder: Path, **content: Any) -> Path:
    """Write a data YAML."""
    file = folder / "data.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def load(root: Path, **keys: Any) -> dict[str, Any]:
    """Load a data YAML that lists both."""
    content = {"train": TRAIN, "val": TRAIN, "names": ["person", "car", "bike"], **keys}
    return load_data(write(root, **{k: v for k, v in content.items() if v is not None}))


def dataset(data: dict[str, Any], split: str = "train", **hyp: Any) -> MultiTaskDataset:
    """Build the data set of a split."""
    args = get_cfg(overrides={"imgsz": SIZE, "cache": "ram", "mask_ratio": 2, **hyp})
    args.split = "val"
    return build_multitask_dataset(args, data[split], 4, data, mode=split, rect=False)


def labels_of(found: MultiTaskDataset, source: int) -> dict[str, Any]:
    """Return the label dict of the first image of a source."""
    label: dict[str, Any] = next(label for label in found.labels if label["source"] == source)
    return label


def test_sources_are_read(root: Path) -> None:
    data = load(root)
    shapes, people = data["sources"]["train"]
    assert data["train"] == [*shapes.paths, *people.paths]
    assert (shapes.tasks, people.tasks) == (("detect", "segment"), ("detect", "pose"))
    assert (dict(shapes.classes), dict(people.classes)) == ({0: 1, 1: 0}, {0: 0})
    assert (shapes.labelled, people.labelled) == ((0, 1), (0,))
    assert (shapes.weight, people.weight) == (1.0, 2.0)
    assert people.kpt_classes == (0,)
    assert data["label_spec"].tasks == ("detect", "segment", "pose")
    assert (data["kpt_shape"], data["flip_idx"], data["kpt_classes"]) == ([2, 3], [1, 0], [0])


def test_names_may_be_left_to_the_sources(root: Path) -> None:
    assert load(root, names=None)["names"] == {0: "car", 1: "person"}


def test_the_host_can_read_what_they_become(root: Path) -> None:
    from ultralytics.data.utils import check_det_dataset

    data = load(root)
    with host_yaml(data) as file:
        plain = check_det_dataset(file)
    assert plain["train"] == data["train"]
    assert plain["names"] == data["names"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"path": "nowhere"}, "source 'nowhere': expected a data YAML, a data set folder or images, found none of"),
        ({"tasks": ["detect"]}, "expected paths or sources with a 'path'"),
        ({"path": "shapes", "task": ["pose"]}, "`task: "),
        ({"path": "shapes", "wieght": 2}, "unknown key 'wieght'; expected .* Did you mean 'weight'"),
        ({"path": "shapes", "tasks": ["pose"]}, "'tasks' names pose, but its lines are `cls cx cy w h POLYGON"),
        ({"path": "shapes", "tasks": "segment"}, "'tasks': expected a list of detect, segment, pose, track"),
        (
            {"path": "shapes", "classes": ["persn"]},
            "expected names of the source, found 'persn'. Did you mean 'person'",
        ),
        ({"path": "shapes", "classes": {"car": "bikes"}}, "names of the data YAML, found 'bikes'. Did you mean 'bike'"),
        ({"path": "people", "tasks": ["detect"]}, "expected 'classes' that the data YAML names, too, found human, dog"),
        ({"path": "shapes", "weight": 0}, "'weight': expected a number above 0, found 0"),
        ({"path": "shapes", "split": "test"}, "expected a split 'test', found train, val; name one with 'split:'"),
    ],
)
def test_what_a_source_may_not_say(root: Path, source: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message.replace("(", r"\(")):
        load(root, train=[source])


def test_other_keypoints_are_refused(root: Path) -> None:
    write(root / "people", train="images/train", val="images/val", names=["human"], kpt_shape=[2, 3], flip_idx=[0, 1])
    with pytest.raises(ValueError, match="its 'flip_idx' is \\[0, 1\\], that of the training \\[1, 0\\]"):
        load(root, **POSE)
    with pytest.raises(ValueError, match="its instances have 2 keypoints, those of the training 3"):
        load(root, kpt_shape=[3, 3])


def test_labels_become_those_of_the_training(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = dataset(load(root))
    by_source: dict[int, Any] = {label["source"]: label for label in found.labels}
    shapes, people = by_source[0], by_source[1]
    assert shapes["cls"][:, CLS].tolist() == [1, 0]
    assert shapes["cls"][:, HAS_MASK].tolist() == [1, 0]
    assert shapes["keypoints"].shape == (2, 2, 3)
    assert not shapes["keypoints"].any()
    assert shapes["unlabelled"].tolist() == [False, False, True]
    assert people["cls"][:, CLS].tolist() == [0], "the dog is of no class of the training"
    assert people["cls"][:, HAS_KEYPOINTS].tolist() == [1]
    assert people["cls"][:, HAS_MASK].tolist() == [0]
    np.testing.assert_allclose(people["segments"][0], [[0.3, 0.3], [0.7, 0.3], [0.7, 0.7], [0.3, 0.7]], atol=1e-6)
    assert people["unlabelled"].tolist() == [False, True, True]
    assert (people["cls"][:, INSTANCE] >= 0).all(), "no tasks are named, so views of it may teach embeddings"
    assert (shapes["cls"][:, INSTANCE] < 0).all(), "its tasks are named, and track is not among them"


def test_the_cache_knows_the_sources(root: Path) -> None:
    first = dataset(load(root))
    assert sum(len(label["cls"]) for label in first.labels) == 4 * 2 + 2 * 1
    other = [TRAIN[0], {**TRAIN[1], "classes": {"dog": "bike", "human": "person"}}]
    again = dataset(load(root, train=other))
    assert sum(len(label["cls"]) for label in again.labels) == 4 * 2 + 2 * 2


def test_an_image_in_two_sources(root: Path) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match="expected an image in one source, found it in"):
        dataset(
            load(
                root,
                train=[
                    TRAIN[0],
                    {"path": "shapes/images/train", "names": ["person", "car"], "labels": {"polygons": True}},
                ],
            )
        )


MIXED: dict[str, Any] = {"mosaic": 1.0, "mixup": 0.5, "cutmix": 0.5, "copy_paste": 0.5, "copy_paste_mode": "mixup"}


@pytest.mark.parametrize("cache", ["ram", None])
def test_only_images_that_are_labelled_alike_are_mixed(root: Path, cache: str | None) -> None:
    found = dataset(load(root), cache=cache, **MIXED)
    for _ in range(6):
        for i in range(len(found)):
            sample = found[i]
            classes = set(sample["cls"][:, 0].int().tolist())
            unlabelled = set(np.flatnonzero(sample["unlabelled"]).tolist())
            assert not classes & unlabelled
            assert unlabelled == ({2} if found.labels[i]["source"] == 0 else {1, 2})
            assert "group" not in sample


def test_batches_say_what_is_unlabelled(root: Path) -> None:
    found = dataset(load(root), **MIXED)
    loader = build_train_dataloader(found, 4, 0, -1, seed=0, max_gap=None, device="cpu")
    batch = next(iter(loader))
    assert batch["unlabelled"].shape == (4, 3)
    assert batch["unlabelled"].dtype == torch.bool
    assert len(batch["source"]) == 4


@pytest.mark.parametrize("pairs", [False, True])
def test_every_batch_has_its_share_of_each_source(root: Path, pairs: bool) -> None:
    """Four images of one source once, two of the other twice: two of each in every batch of four."""
    found = dataset(load(root))
    loader = build_train_dataloader(found, 4, 0, -1, seed=0, max_gap=3 if pairs else None, device="cpu")
    assert len(loader) == 2
    taken = [0, 0]
    for _ in range(20):
        for batch in loader:
            assert sorted(batch["source"]) == [0, 0, 1, 1]
            for number in batch["source"]:
                taken[number] += 1
    assert taken == [80, 80]


def test_the_order_is_that_of_seed_and_epoch() -> None:
    stratum, weight = np.array([0] * 6 + [1] * 3), np.array([1.0] * 6 + [1.5] * 3)
    units = [(i,) for i in range(9)]

    def sampler(**kwargs: int) -> BalancedSampler:
        return BalancedSampler(lambda _: units, stratum, weight, seed=3, **kwargs)

    one = sampler()
    first, second = list(one), list(one)
    assert len(first) == len(one) == round(6 + 4.5)
    assert first != second
    again = sampler()
    again.set_epoch(1)
    assert list(again) == second
    halves = [list(sampler(num_replicas=2, rank=r)) for r in (0, 1)]
    assert len(halves[0]) == len(halves[1])
    assert [i for pair in zip(*halves, strict=True) for i in pair][: len(first)] == first


def test_sources_of_one_name_are_told_apart(root: Path) -> None:
    twice = [{"path": "shapes", "split": split} for split in ("train", "val")]
    data = load(root, train=[*twice, TRAIN[1]])
    assert [s.name for s in data["sources"]["train"]] == ["shapes", "shapes #2", "people/data.yaml"]


def test_one_class_for_all(root: Path) -> None:
    """With `single_cls` an unlabelled class is the one class too, so that nothing is known of the background."""
    data = {**load(root), "names": {0: "item"}, "nc": 1}
    found = dataset(data, single_cls=True)
    assert labels_of(found, 0)["unlabelled"].tolist() == labels_of(found, 1)["unlabelled"].tolist() == [True]
    assert {float(c) for label in found.labels for c in label["cls"][:, CLS]} == {0.0}


def test_a_linked_folder_of_images_has_its_source(root: Path) -> None:
    (root / "elsewhere").mkdir()
    images(root / "linked" / "images" / "real", f"0 {BOX}\n", 2)
    (root / "linked" / "images" / "train").symlink_to(root / "linked" / "images" / "real")
    data = load(
        root, train=[{"path": "linked", "tasks": ["detect"], "labels": {"polygons": False}}], val="shapes/images/val"
    )
    assert len(dataset(data).sources) == 1


def test_splits_of_the_same_images_keep_their_own_sources(root: Path) -> None:
    data = load(root, train=[{"path": "shapes", "split": "val", "tasks": ["detect"]}], val=[{"path": "shapes"}])
    assert data["train"] == data["val"]
    assert dataset(data).sources[0].tasks == ("detect",)
    assert dataset(data, "val").sources[0].tasks == ("detect", "segment")


def test_keypoint_classes_of_the_training_go_first(root: Path) -> None:
    both = {"path": "people", "classes": {"human": "person", "dog": "bike"}}
    assert load(root, train=[both])["kpt_classes"] == [0, 2]
    data = load(root, train=[both], kpt_classes=["bike"], **POSE)
    assert data["sources"]["train"][0].kpt_classes == (2,)
    assert dataset(data).labels[0]["cls"][:, HAS_KEYPOINTS].tolist() == [0, 1]


def test_keypoint_names_get_the_numbers_of_the_training(root: Path) -> None:
    names = {0: ["left", "right"], 1: ["left", "right"]}
    write(root / "people", train="images/train", val="images/val", names=["human", "dog"], kpt_names=names, **POSE)
    data = load(root, names=["car", "person"])
    assert data["kpt_names"] == {1: ["left", "right"]}
    images(root / "more" / "images" / "train", f"0 {BOX} {POINTS}\n", 2)
    other = {0: ["right", "left"]}
    write(root / "more", train="images/train", val="images/train", names=["person"], kpt_names=other, **POSE)
    with pytest.raises(ValueError, match="its keypoints are right, left, those of source .* left, right"):
        load(root, train=[TRAIN[1], {"path": "more"}])


def test_what_the_arguments_say_of_the_lines_holds_for_sources_too(root: Path) -> None:
    images(root / "plain" / "images" / "train", f"0 {POLYGON}\n", 2)
    file = write(root, train=[{"path": "plain", "weight": 2}], val=["plain/images/train"], names=["car"])
    assert load_data(file, task="segment")["label_spec"].tasks == ("detect", "segment")


def test_a_fraction_is_of_all_images(root: Path) -> None:
    data = load(root)
    assert len(dataset(data, fraction=3)) == 3
    assert len(dataset(data, fraction=0.5)) == 3
    assert {label["source"] for label in dataset(data, fraction=3).labels} == {0, 1}


def test_little_weight_is_little_not_nothing() -> None:
    """Four images at a weight of 0.1: two in five epochs."""
    stratum, weight = np.array([0] * 8 + [1] * 4), np.array([1.0] * 8 + [0.1] * 4)
    sampler = BalancedSampler(lambda _: [(i,) for i in range(12)], stratum, weight, seed=0)
    taken = sum(i >= 8 for epoch in range(500) for (i,) in sampler.epoch_units(epoch))
    assert 160 < taken < 240
    alone = BalancedSampler(lambda _: [(0,), (1,)], np.zeros(2, int), np.full(2, 0.1), seed=0)
    assert len(list(alone)) == len(alone) == 1


def test_a_plain_split_has_no_sources(root: Path) -> None:
    data = load_data(root / "shapes" / "data.yaml")
    found = dataset(data)
    assert found.sources == ()
    assert not {"source", "group", "unlabelled"} & set(found[0])


def test_a_source_without_labels_is_pointed_out(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    for file in (root / "people" / "labels" / "train").iterdir():
        file.unlink()
    dataset(load(root))
    assert "source 'people/data.yaml': expected labelled instances, found none in 2 images" in caplog.text
    assert "'shapes': expected" not in caplog.text
