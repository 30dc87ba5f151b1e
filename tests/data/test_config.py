"""Data YAMLs: what is filled in, what is refused and what the message says."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import yaml

from yolo_multitask.data.config import load_data, resolve_yaml
from yolo_multitask.data.labels import LabelSpec

COCO_SETS = ("coco-multitask.yaml", "coco8-multitask.yaml")
POSE = {"kpt_shape": [3, 3], "names": {0: "person", 1: "dog"}}


@pytest.fixture
def write(tmp_path: Path):
    """Return a function that writes a data YAML beside two empty image folders."""
    for split in ("train", "val"):
        (tmp_path / "images" / split).mkdir(parents=True)

    def make(**keys: Any) -> str:
        data = {"train": "images/train", "val": "images/val", "names": {0: "a", 1: "b"}} | keys
        file = tmp_path / "data.yaml"
        file.write_text(yaml.safe_dump({k: v for k, v in data.items() if v is not ...}))
        return str(file)

    return make


def test_fills_in_what_the_lines_hold(write, tmp_path: Path) -> None:
    data = load_data(write(**POSE, labels={"polygons": True}, kpt_classes=["person"]))
    assert data["label_spec"] == LabelSpec(nc=2, kpt_shape=(3, 3), polygons=True)
    assert data["kpt_classes"] == [0]
    assert data["channels"] == 3
    assert data["names"] == {0: "person", 1: "dog"}
    assert data["val"] == str((tmp_path / "images/val").resolve())
    assert pickle.loads(pickle.dumps(data)) == data


def test_all_classes_have_keypoints_unless_named(write) -> None:
    assert load_data(write(**POSE))["kpt_classes"] == [0, 1]
    assert load_data(write(**POSE, kpt_classes=[1, "person"]))["kpt_classes"] == [0, 1]
    assert load_data(write(names=..., nc=2))["kpt_classes"] == [0, 1]


def test_arguments_speak_where_the_yaml_does_not(write) -> None:
    path = write()
    assert load_data(path)["label_spec"].format == "detect"
    assert load_data(path, task="segment")["label_spec"].format == "segment"
    assert load_data(path, labels={"polygons": True})["label_spec"].tasks == ("detect", "segment")


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"train": ..., "tran": "images/train"}, "unknown key 'tran', did you mean 'train'"),
        ({"lables": {"polygons": True}}, "did you mean 'labels'"),
        ({"kpt_shapes": [3, 3]}, "did you mean 'kpt_shape'"),
        ({"labels": {"polygon": True}}, "did you mean 'polygons'"),
        ({"train": ...}, "train"),
        ({"names": ...}, "names"),
        ({"train": [3]}, "expected a path or a list of paths, found the entry 3"),
        ({"train": [{"path": "x", "taks": ["pose"]}]}, "source 'x': unknown key 'taks'; .* Did you mean 'tasks'"),
        ({"kpt_shape": [3]}, r"expected \[K, D\]"),
        ({"kpt_shape": "3, 3"}, r"expected \[K, D\]"),
        (POSE | {"flip_idx": [0, 1]}, r"permutation of 0..2 \(3 keypoints in kpt_shape\), found 2 entries"),
        (POSE | {"flip_idx": [0, 1, 1]}, "permutation of 0..2"),
        (POSE | {"flip_idx": [1, 2, 3]}, "permutation of 0..2"),
        ({"flip_idx": [0, 1]}, "without 'kpt_shape'"),
        (POSE | {"kpt_classes": ["persn"]}, "Did you mean 'person'.*Classes: person, dog"),
        (POSE | {"kpt_classes": [2]}, "found 2"),
        (POSE | {"kpt_classes": "person"}, "expected a list of class names"),
        (POSE | {"kpt_oks_sigmas": [0.1]}, "expected 3 numbers, one a keypoint, found 1 entries"),
        (POSE | {"kpt_oks_sigmas": [0.1, 0, 0.1]}, "above 0, found 0"),
        (POSE | {"kpt_names": {0: ["nose"]}}, "expected 3 names as in kpt_shape, found 1"),
    ],
)
def test_refused(write, keys: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        load_data(write(**keys))


def test_foreign_keys_are_left_alone(write) -> None:
    data = load_data(write(license="CC-BY-4.0", roboflow={"version": 1}, task_type="x"))
    assert data["license"] == "CC-BY-4.0"


@pytest.mark.parametrize("text", ["- a\n- b\n", "", "a: [1,\n", "just text"])
def test_not_a_mapping(tmp_path: Path, text: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match="expected a YAML mapping"):
        load_data(file)


@pytest.mark.parametrize("name", ["coco8-multitsk.yaml", "coco8-multitsk", "nowhere/data.yaml"])
def test_unknown_name_lists_what_there_is(name: str) -> None:
    with pytest.raises(ValueError, match=r"coco8-multitask\.yaml") as error:
        load_data(name)
    assert ("Did you mean 'coco8-multitask.yaml'" in str(error.value)) == ("multitsk" in name)


def test_missing_images_keep_the_hosts_message(write) -> None:
    with pytest.raises(FileNotFoundError, match="images not found"):
        load_data(write(val="images/none"))
    with pytest.raises(FileNotFoundError, match="'test:'"):
        load_data(write(), split="test")


@pytest.mark.parametrize("name", COCO_SETS)
def test_own_data_sets(name: str) -> None:
    file = resolve_yaml(name, "datasets")
    assert file is not None
    data = yaml.safe_load(file.read_text(encoding="utf-8"))
    spec = LabelSpec.from_data(data)
    assert (spec.nc, spec.kpt_shape, spec.tasks) == (80, (17, 3), ("detect", "segment", "pose"))
    host = yaml.safe_load((Path(_host_datasets()) / "coco.yaml").read_text(encoding="utf-8"))
    assert data["names"] == host["names"]
    host = yaml.safe_load((Path(_host_datasets()) / "coco8-pose.yaml").read_text(encoding="utf-8"))
    assert data["flip_idx"] == host["flip_idx"]
    assert len(set(data["coco_categories"])) == 80
    compile(data["download"], name, "exec")


def _host_datasets() -> Path:
    from ultralytics.utils import ROOT

    return Path(ROOT) / "cfg" / "datasets"
