"""The model builds with any subset of branches, any keypoints, classes and channels, and survives saving."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from support.models import make_batch, randomise, tiny_model, tiny_yaml

from yolo_multitask import MultiTaskYOLO
from yolo_multitask.nn.network import MultiTaskModel, load_model_yaml
from yolo_multitask.tasks import BRANCH_TASKS, SPECS

SUBSETS = [tasks for n in range(4) for tasks in itertools.combinations(BRANCH_TASKS, n)]
TRACK = 16 + 4  # values of a row: embedding and next box


@pytest.mark.parametrize("tasks", SUBSETS)
def test_any_subset_of_branches(tasks: tuple[str, ...]) -> None:
    model = tiny_model(tasks=tasks, nc=2)
    batch = make_batch()
    raw = model.train()(batch["img"])
    assert set(raw) == {key for t in ("detect", *tasks) for key in SPECS[t].raw}
    loss, items = model(batch)
    assert set(items) == {name for t in ("detect", *tasks) for name in SPECS[t].losses}
    loss.sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    out = model.eval()(batch["img"])[0]
    rows = out[0] if "segment" in tasks else out
    width = 51 * ("pose" in tasks) + 32 * ("segment" in tasks) + TRACK * ("track" in tasks)
    assert rows.shape == (2, 4 + 2 + width, 84)


@pytest.mark.parametrize(("kpt_shape", "nc", "ch"), [((1, 2), 1, 1), ((5, 3), 7, 4), ((21, 2), 80, 6), ((17, 3), 1, 3)])
def test_keypoints_classes_channels(kpt_shape: tuple[int, int], nc: int, ch: int) -> None:
    model = tiny_model(kpt_shape=kpt_shape, nc=nc, ch=ch).eval()
    rows = model(torch.rand(1, ch, 64, 96))[0][0]
    assert rows.shape == (1, 4 + nc + kpt_shape[0] * kpt_shape[1] + 32 + TRACK, 126)
    assert model.yaml["channels"] == ch
    assert model.yaml["head"][-1][2] == "MultiTask"
    assert model.kpt_shape == list(kpt_shape)


@pytest.mark.parametrize(
    "name", [f"{f}{s}-multitask.yaml" for f, s in itertools.product(("yolov8", "yolo11"), "nsmlx")]
)
def test_scales_are_found_by_name_from_any_folder(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_model_yaml(name)
    assert config["scale"] == name.removesuffix("-multitask.yaml")[-1]
    assert config["yaml_file"] == name


@pytest.mark.parametrize(
    "active", [("detect",), ("detect", "segment"), ("detect", "pose"), ("detect", "track"), ("detect", "pose", "track")]
)
def test_switched_off_branches_are_not_computed(active: tuple[str, ...]) -> None:
    model = tiny_model(nc=2).eval()
    randomise(model)
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        full, raw = model(x)
        layout = model.head.layout
        model.head.active = active
        calls: list[str] = []
        hooks = [b.register_forward_hook(lambda *_, t=t: calls.append(t)) for t, b in model.head.branches.items()]
        out, _ = model(x)
    for hook in hooks:
        hook.remove()
    assert calls == [t for t in ("pose", "segment", "track") if t in active]
    rows = out[0] if "segment" in active else out
    parts = [full[0][:, :6]]
    if "pose" in active:
        parts.append(full[0][:, layout.kpt.start : layout.kpt.stop])
    if "segment" in active:
        parts.append(full[0][:, layout.mask.start : layout.mask.stop])
        assert torch.equal(out[1], raw["proto"])
    if "track" in active:
        parts.append(full[0][:, layout.embed.start : layout.next.stop])
    assert torch.equal(rows, torch.cat(parts, 1))


def test_fused_equals_unfused() -> None:
    model = tiny_model(nc=2).eval()
    randomise(model)
    x = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        before = model(x)[0]
        after = model.fuse(verbose=False)(x)[0]
    torch.testing.assert_close(after[0], before[0], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(after[1], before[1], rtol=1e-4, atol=1e-4)


def test_saved_file_reloads_bit_for_bit_and_saving_again_changes_nothing(tmp_path: Path) -> None:
    model = MultiTaskYOLO("yolov8n-multitask.yaml")
    randomise(model.model)
    model.save(tmp_path / "a.pt")
    first = MultiTaskYOLO(tmp_path / "a.pt")
    first.save(tmp_path / "b.pt")
    second = MultiTaskYOLO(tmp_path / "b.pt")
    assert first.task == second.task == "multitask"
    assert first.model.tasks == model.model.tasks
    assert first.model.yaml == second.model.yaml == model.model.yaml
    for key, value in model.model.state_dict().items():
        stored = value.half().float() if value.is_floating_point() else value
        assert torch.equal(first.model.state_dict()[key].to(stored.dtype), stored), key
        assert torch.equal(second.model.state_dict()[key], first.model.state_dict()[key]), key


def test_restricted_loading(tmp_path: Path) -> None:
    MultiTaskYOLO("yolov8n-multitask.yaml").save(tmp_path / "a.pt")
    code = (
        "import sys; from yolo_multitask import MultiTaskYOLO; m = MultiTaskYOLO(sys.argv[1]);"
        "from ultralytics.utils import SAFE_LOAD; assert SAFE_LOAD; print(m.task, m.model.tasks)"
    )
    env = {**os.environ, "ULTRALYTICS_SAFE_LOAD": "1"}
    out = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.pt")], env=env, capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    assert "multitask ('detect', 'segment', 'pose', 'track')" in out.stdout


def test_load_from_another_set_of_classes_matches_rows_by_name() -> None:
    source = tiny_model(nc=3)
    source.names = {0: "cat", 1: "person", 2: "dog"}
    randomise(source)
    target = tiny_model(nc=2)
    target.names = {0: "person", 1: "boat"}
    before = target.head.cv3[0][-1].weight.clone()
    report = target.load(source, verbose=False)
    assert report.fresh == []
    for ours, theirs in zip(target.head.cv3, source.head.cv3, strict=True):
        assert torch.equal(ours[-1].weight[0], theirs[-1].weight[1])
        assert torch.equal(ours[-1].bias[0], theirs[-1].bias[1])
    assert not torch.equal(target.head.cv3[0][-1].weight[0], before[0])


@pytest.mark.parametrize(("has", "lacks"), [("segment", "pose"), ("segment", "track"), ("track", "segment")])
def test_load_from_another_set_of_tasks_reports_what_stays_fresh(has: str, lacks: str) -> None:
    source = tiny_model(tasks=(has,), nc=2)
    randomise(source)
    target = tiny_model(tasks=(has, lacks), nc=2)
    fresh = {k: v.clone() for k, v in target.head.branches[lacks].state_dict().items()}
    report = target.load(source, verbose=False)
    assert report.fresh == [lacks]
    assert report.partial == []
    assert f"{lacks:<8} fresh" in str(report)
    for key, value in target.head.branches[lacks].state_dict().items():
        assert torch.equal(value, fresh[key])
    for key, value in source.head.branches[has].state_dict().items():
        if not key.endswith("num_batches_tracked"):
            assert torch.equal(target.head.branches[has].state_dict()[key], value)


@pytest.mark.parametrize(
    ("keys", "missing"),
    [({"embed_dim": 8}, {"project"}), ({"next": False}, {"motion"}), ({"embed_from": [0, 2]}, {"reduce.2"})],
)
def test_load_of_another_identity_branch_keeps_what_fits(keys: dict[str, Any], missing: set[str]) -> None:
    source = MultiTaskModel(tiny_yaml() | keys, nc=1, tasks=("track",), verbose=False)
    randomise(source)
    target = tiny_model(tasks=("track",), nc=1)
    report = target.load(source, verbose=False)
    assert report.partial == ["track"]
    own, given = target.head.branches["track"].state_dict(), source.head.branches["track"].state_dict()
    differs = {k for k, v in own.items() if v.is_floating_point() and not (k in given and torch.equal(v, given[k]))}
    assert {next((m for m in missing if k.startswith(m)), k) for k in differs} == missing


def test_load_of_another_keypoint_shape_keeps_what_fits() -> None:
    def model(kpt_shape: tuple[int, int]) -> MultiTaskModel:
        return MultiTaskModel("yolov8n-multitask.yaml", kpt_shape=kpt_shape, nc=1, verbose=False)

    source, target = model((4, 3)), model((5, 2))
    report = target.load(source, verbose=False)  # the branch is 16 channels wide in both, but for its last layer
    assert report.parts["pose"][1:] == (30, 36)
    assert report.partial == ["pose"]
    rows = target.eval()(torch.rand(1, 3, 64, 64))[0][0]
    assert rows.shape[1] == 4 + 1 + 10 + 32 + 128
    assert model((9, 3)).load(source, verbose=False).fresh == ["pose"]  # another width: nothing fits


def test_a_model_from_yaml_takes_over_classes_and_keypoints(tmp_path: Path) -> None:
    pose, seg = tiny_model(tasks=("pose",), kpt_shape=(5, 3), nc=1), tiny_model(tasks=("segment",), nc=3)
    pose.names, seg.names = {0: "person"}, {0: "cat", 1: "person", 2: "dog"}
    randomise(pose)
    (tmp_path / "small-multitask.yaml").write_text(yaml.safe_dump(tiny_yaml()))
    merged = MultiTaskYOLO(tmp_path / "small-multitask.yaml").load([pose, seg])
    assert merged.names == {0: "person"}
    assert merged.model.kpt_shape == [5, 3]
    assert merged.model.yaml["nc"] == 1
    for key, value in pose.head.branches["pose"].state_dict().items():
        assert torch.equal(merged.model.head.branches["pose"].state_dict()[key], value)
    for key, value in pose.head.cv3.state_dict().items():
        assert torch.equal(merged.model.head.cv3.state_dict()[key], value)


def test_weights_that_do_not_fit_leave_the_model_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "small-multitask.yaml").write_text(yaml.safe_dump(tiny_yaml()))
    model = MultiTaskYOLO(tmp_path / "small-multitask.yaml")
    before = model.model
    with pytest.raises(ValueError, match="another architecture"):
        model.load(tiny_model("yolo11n", nc=1))
    assert model.model is before
    with pytest.raises(ValueError, match="Expected a network"):
        model.load({"model": None})


def test_a_merged_model_is_no_longer_called_after_one_file(tmp_path: Path) -> None:
    first, second = tiny_model(nc=1), tiny_model(nc=1)
    first.pt_path, second.pt_path = "first.pt", "second.pt"
    merged = tiny_model(nc=1)
    merged.load([first, second], verbose=False)
    target = tiny_model(nc=1)
    assert {name for name, _, _ in target.load(merged, verbose=False).parts.values()} == {"yolov8n-multitask.yaml"}
    assert {name for name, _, _ in target.load(first, verbose=False).parts.values()} == {"first.pt"}


def test_load_of_another_architecture_is_refused() -> None:
    source = tiny_model("yolo11n", nc=1)
    with pytest.raises(ValueError, match=r"shares only \d+ of \d+ trunk tensors"):
        tiny_model("yolov8n", nc=1).load(source)


def test_errors_name_the_fix() -> None:
    with pytest.raises(FileNotFoundError, match="Did you mean 'yolov8n-multitask.yaml'"):
        MultiTaskModel("yolov8n-mulitask.yaml")
    with pytest.raises(ValueError, match="kpt_shape: expected"):
        tiny_model(kpt_shape=(17, 4))
    with pytest.raises(ValueError, match="Unknown task 'poses'.*Did you mean 'pose'"):
        tiny_model(tasks=("poses",))
    broken = tiny_yaml()
    broken["head"][-1][3] = ["nc", 32, 256, "kpt_shape", 1, 2]
    with pytest.raises(ValueError, match="at most 4 arguments"):
        MultiTaskModel(broken)
    broken = tiny_yaml()
    broken["scale"] = "q"
    with pytest.raises(ValueError, match="Scale 'q' is not in the model YAML"):
        MultiTaskModel(broken)
