"""The model of windows: its heads in any order, its YAML's contradictions, loading, saving, fusing, and one frame."""

from __future__ import annotations

import os
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from support.models import randomise, tiny_model
from support.temporal import make_windows, tiny_temporal, tiny_temporal_yaml
from ultralytics.nn.tasks import DetectionModel, PoseModel

from yolo_multitask import MultiTaskYOLO
from yolo_multitask.nn.heads import MultiTask, TrackNet
from yolo_multitask.nn.network import load_model_yaml
from yolo_multitask.nn.temporal import TemporalModel
from yolo_multitask.nn.transfer import spread_over_frames

TRACK, POSE = (
    [[15, 18, 21], 1, "TrackNet", ["nc", "feat_no", "frames", "reg_max"]],
    [
        [15, 18, 21],
        1,
        "Pose",
        ["pose_nc", "kpt_shape"],
    ],
)


def with_heads(*lines: Any, frames: int = 3, **keys: Any) -> dict[str, Any]:
    """Return a small YAML that ends in `lines`."""
    config = tiny_temporal_yaml(frames, **keys)
    config["head"] = config["head"][:-2] + [deepcopy(line) for line in lines]
    return config


def tiny_stock(build: type[DetectionModel], name: str, **kwargs: Any) -> DetectionModel:
    """Return a stock model with the trunk of the small one and random weights."""
    config = load_model_yaml("multitask.yaml")
    head = ["Pose", ["nc", "kpt_shape"]] if build is PoseModel else ["Detect", ["nc"]]
    config = {k: config[k] for k in ("backbone", "head")} | {"nc": 80, "kpt_shape": [17, 3], "yaml_file": name}
    config |= {"scales": {"n": [0.33, 0.125, 1024]}, "scale": "n"}
    config["head"] = [*config["head"][:-2], [[15, 18, 21], 1, *head]]
    model = build(config, verbose=False, **kwargs)
    randomise(model)
    return model


def test_what_a_model_says_of_itself() -> None:
    model = tiny_temporal(nc=2, pose_nc=3, frames=4, channels=3)
    assert (model.detect_idx, model.pose_idx) == (25, 26)
    assert isinstance(model.model[model.detect_idx], TrackNet)
    assert isinstance(model.model[model.pose_idx], MultiTask)
    assert model.head is model.model[26]
    assert model.track_head is model.model[25]
    assert model.tasks == ("detect", "pose", "track")
    assert (model.num_groups, model.frame_channels, model.yaml["channels"]) == (4, 3, 12)
    assert model.feature_set is not None
    assert model.feature_set.name == "offsets_next"
    assert model.names == {i: str(i) for i in range(5)}
    assert (model.objects, model.players) == ([0, 1], [2, 3, 4])
    assert model.stride.tolist() == [4, 8, 16, 32]
    assert model.kpt_shape == [17, 3]
    again = TemporalModel(model.yaml, verbose=False)
    assert again.yaml == model.yaml
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}


@pytest.mark.parametrize(
    ("lines", "keys"),
    [
        ((TRACK, POSE), ["track", "pose"]),
        ((POSE, TRACK), ["pose", "track"]),
        ((TRACK,), ["track"]),
        ((POSE,), ["pose"]),
    ],
)
def test_heads_in_any_order_and_alone(lines: tuple[Any, ...], keys: list[str]) -> None:
    model = TemporalModel(with_heads(*lines), verbose=False)
    x = make_windows()["img"]
    raw = model.train()(x)
    assert list(raw) == keys
    assert [m.type.split(".")[-1] for m in model.model[25:]] == [
        "TrackNet" if k == "track" else "MultiTask" for k in keys
    ]
    out = model.eval()(x)
    assert list(out) == keys
    if "track" in keys:
        assert set(raw["track"]) == {"feats", "positions", "scores"}
        assert out["track"][0].shape == (2, 3 * 84, 5)
    if "pose" in keys:
        assert set(raw["pose"]) == {"feats", "boxes", "scores", "kpts"}
        assert out["pose"][0].shape == (2, 4 + 1 + 51, 84)
    assert model.tasks == ("detect", *(t for t in ("pose", "track") if t in keys))
    assert (model.detect_idx is None, model.pose_idx is None) == ("track" not in keys, "pose" not in keys)


def test_the_order_of_the_lines_does_not_change_what_heads_give() -> None:
    one, other = (TemporalModel(with_heads(*lines), verbose=False).eval() for lines in ((TRACK, POSE), (POSE, TRACK)))
    randomise(one)
    state = {
        k.replace("model.25.", "model.X.").replace("model.26.", "model.25."): v for k, v in one.state_dict().items()
    }
    other.load_state_dict({k.replace("model.X.", "model.26."): v for k, v in state.items()})
    x = make_windows()["img"]
    with torch.no_grad():
        for key in ("track", "pose"):
            torch.testing.assert_close(one(x)[key][0], other(x)[key][0])


def test_a_head_on_layers_of_its_own() -> None:
    track = [[15], *TRACK[1:]]
    model = TemporalModel(with_heads(track, POSE), verbose=False).eval()
    out = model(make_windows()["img"])
    assert out["track"][0].shape == (2, 3 * 64, 5)
    assert model.track_head.stride.tolist() == [8]
    assert model.head.stride.tolist() == model.stride.tolist() == [8, 16, 32]


@pytest.mark.parametrize("scale", "nsmlx")
def test_scales_are_found_by_name(scale: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_model_yaml(f"multitask{scale}.yaml")
    assert config["scale"] == scale
    assert load_model_yaml("multitask.yaml")["scale"] == "n"


def test_a_name_that_is_close_gets_a_hint() -> None:
    with pytest.raises(FileNotFoundError, match="multitaskq.yaml' not found. Did you mean 'multitask.?.yaml'"):
        MultiTaskYOLO("multitaskq.yaml")


def test_tasks_choose_the_heads() -> None:
    assert tiny_temporal(tasks=("pose",)).detect_idx is None
    only = tiny_temporal(tasks=("detect", "track"))
    assert (only.detect_idx, only.pose_idx, only.tasks) == (25, None, ("detect", "track"))
    assert (only.names, only.objects, only.players) == ({0: "0"}, [0], [])
    assert [line[2] for line in only.yaml["head"][-2:]] == ["C2f", "TrackNet"]
    with pytest.raises(ValueError, match="'segment' was asked for, but the model YAML has only: detect, pose, track"):
        tiny_temporal(tasks=("segment",))
    with pytest.raises(ValueError, match="leave no head; name track or pose"):
        tiny_temporal(tasks=("detect",))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (with_heads([[15], 1, "TrackNet", ["nc", 4, "frames", "reg_max"]]), "says feat_no=4, the key 'feat_no' .* 8"),
        (with_heads([[15], 1, "TrackNet", ["nc", 8, 5, "reg_max"]]), "says frames=5, the key 'frames' .* 3"),
        (with_heads([[15], 1, "TrackNet", ["nc", 8, 3, 32]]), "says reg_max=32, the key 'reg_max' .* 16"),
        (with_heads([[15], 1, "Pose", [2]]), "says pose_nc=2, the key 'pose_nc' .* 1"),
        (with_heads(TRACK, feat_no=4, features="offsets_next"), "feat_no=4, but features 'offsets_next' are 8"),
        (with_heads(TRACK, channels=2), "'channels' must be 1 \\(gray\\) or 3 \\(colour\\), .* got 2"),
        (with_heads(TRACK, frames=0), "'frames' must be a whole number of 1 or more, got 0"),
        (with_heads(POSE, kpt_shape=[17]), "kpt_shape"),
        (with_heads([25, 1, "TrackNet", []]), "TrackNet takes a list of layers in 0..24 as its first entry, got 25"),
        (with_heads([[15], 1, "TrackNet", [1, 8, 3, 16, 4]]), "at most the arguments .* got \\[1, 8, 3, 16, 4\\]"),
        (with_heads(TRACK, TRACK), "must end in one line of TrackNet, one of Pose, or both"),
        (with_heads(TRACK, [-1, 1, "Conv", [8, 3, 2]]), "must end in one line of TrackNet"),
        (with_heads(TRACK, end2end=True), "remove 'end2end: True'"),
    ],
)
def test_contradictions_name_both_numbers(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TemporalModel(config, verbose=False)


def test_a_misspelt_head_is_named(tmp_path: Path) -> None:
    text = Path(__file__).parents[2].joinpath("configs/models/multitask.yaml").read_text()
    (tmp_path / "own.yaml").write_text(text.replace("1, TrackNet,", "1, Tracknet,"))
    with pytest.raises(ValueError, match="unknown head 'Tracknet'; did you mean 'TrackNet'"):
        MultiTaskYOLO(tmp_path / "own.yaml")


@pytest.mark.parametrize(("frames", "channels"), [(1, 1), (10, 1), (1, 3), (4, 3)])
def test_a_still_window_gives_the_stock_response(frames: int, channels: int) -> None:
    """The trunk of a stock network, seen through the Pose head, on a picture and on a window of copies of it."""
    stock = tiny_stock(PoseModel, "yolov8n-pose.yaml", data_kpt_shape=(17, 3), nc=1).eval()
    model = tiny_temporal(frames=frames, channels=channels).eval()
    report = model.load(stock, verbose=False)
    assert report.fresh == ["track"]
    assert {k: v[1] == v[2] for k, v in report.parts.items() if k != "track"} == {
        "trunk": True, "box/cls": True, "pose": True
    }  # fmt: skip
    x = torch.rand(1, channels, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = stock(x.expand(-1, 3, -1, -1))[0]
        found = model(x.repeat(1, frames, 1, 1))["pose"][0]
    assert expected.std() > 0
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)


def test_spreading_over_other_frames_keeps_the_still_response() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.rand(5, 4 * 3, 3, 3, generator=generator)
    gray = spread_over_frames(weight, 4, 2, 1)
    assert gray.shape == (5, 2, 3, 3)
    torch.testing.assert_close(gray.sum(1), weight.sum(1))
    back = spread_over_frames(gray, 2, 3, 3)
    assert back.shape == (5, 9, 3, 3)
    torch.testing.assert_close(back.sum(1), weight.sum(1))


def test_loading_from_one_of_our_own() -> None:
    source = tiny_temporal(pose_nc=1)
    randomise(source)
    source.names = {0: "ball", 1: "person"}
    same = tiny_temporal(pose_nc=1)
    report = same.load(source, verbose=False)
    assert report.fresh == report.partial == []
    assert same.names == source.names
    for key, value in source.state_dict().items():
        assert torch.equal(same.state_dict()[key], value), key
    other = tiny_temporal(frames=5)
    report = other.load(source, verbose=False)
    assert report.fresh == ["track"]
    assert report.partial == []
    report = tiny_temporal().load(tiny_model(nc=3), verbose=False)
    assert (report.fresh, report.partial) == (["track"], ["trunk", "box/cls"])  # stock trunks have no map of stride 4


@pytest.mark.parametrize(("task", "unused"), [("track", {*range(16, 22)}), ("pose", {22, 23, 24})])
def test_layers_that_no_head_reads_are_not_computed(task: str, unused: set[int]) -> None:
    model = tiny_temporal(tasks=(task,))
    assert set(range(len(model.model))) - model.needed_layers() == unused
    run: list[int] = []
    for layer in model.model:
        layer.register_forward_hook(lambda m, *_: run.append(m.i))
    model(make_windows()["img"])
    assert run == sorted(model.needed_layers())


def test_classes_are_matched_by_name() -> None:
    stock = tiny_stock(DetectionModel, "yolov8n.yaml", nc=4)
    stock.names = {0: "cat", 1: "person", 2: "dog", 3: "ball"}
    model = tiny_temporal(pose_nc=2)
    model.names = {0: "ball", 1: "referee", 2: "person"}
    before = model.head.cv3[0][-1].weight.clone()
    report = model.load(stock, verbose=False)
    assert report.fresh == ["pose", "track"]
    for ours, theirs in zip(model.head.cv3, stock.model[-1].cv3, strict=True):
        assert torch.equal(ours[-1].weight[1], theirs[-1].weight[1])
        assert torch.equal(ours[-1].bias[1], theirs[-1].bias[1])
    assert torch.equal(model.head.cv3[0][-1].weight[0], before[0])


def test_class_layers_take_the_width_of_the_source() -> None:
    stock = tiny_stock(DetectionModel, "yolov8n.yaml", nc=80)
    stock.names = {i: "person" if i == 7 else f"c{i}" for i in range(80)}
    model = tiny_temporal()
    model.names = {0: "ball", 1: "person"}
    report = model.load(stock, verbose=False)
    assert report.parts["box/cls"][1] == report.parts["box/cls"][2]
    assert torch.equal(model.head.cv3[1][-1].weight[0], stock.model[-1].cv3[1][-1].weight[7])
    assert torch.equal(model.head.cv3[1][0].conv.weight, stock.model[-1].cv3[1][0].conv.weight)
    model.eval()(make_windows()["img"])
    strangers = tiny_temporal()
    assert "box/cls" in strangers.load(stock, verbose=False).partial
    assert strangers.names == {0: "0", 1: "1"}


def test_another_scale_is_refused() -> None:
    with pytest.raises(ValueError, match="shares only .* of .* trunk tensors with multitask.yaml"):
        tiny_temporal().load(DetectionModel("yolov8n.yaml", verbose=False))


def test_fused_equals_unfused() -> None:
    model = tiny_temporal().eval()
    randomise(model)
    x = make_windows()["img"]
    with torch.no_grad():
        before = model(x)
        after = model.fuse(verbose=False)(x)
    assert model.is_fused()
    for key in ("track", "pose"):
        torch.testing.assert_close(after[key][0], before[key][0], rtol=1e-4, atol=2e-3)


def test_info_counts_both_heads() -> None:
    model, alone = tiny_temporal(), tiny_temporal(tasks=("pose",))
    _, parameters, _, flops = model.info(verbose=True)
    assert parameters == sum(p.numel() for p in model.parameters())
    assert flops > alone.info(verbose=True)[3] > 0


def test_copies_and_device_moves_carry_both_heads() -> None:
    model = tiny_temporal().eval()
    x = make_windows()["img"]
    copy = deepcopy(model)
    for key in ("track", "pose"):
        assert torch.equal(copy(x)[key][0], model(x)[key][0])
    half = copy.double()
    assert [half.model[i].stride.dtype for i in (25, 26)] == [torch.float64] * 2
    assert half(x.double())["track"][0].dtype == torch.float64


def test_saved_and_loaded_again(tmp_path: Path) -> None:
    model = MultiTaskYOLO("multitask.yaml")
    assert (model.task, type(model.model)) == ("multitask", TemporalModel)
    assert model.is_temporal
    assert not MultiTaskYOLO("yolov8n-multitask.yaml").is_temporal
    randomise(model.model)
    model.model.names, model.model.objects, model.model.players = {0: "person", 1: "ball"}, [1], [0]
    model.save(tmp_path / "a.pt")
    code = (
        "import sys, torch; from yolo_multitask import MultiTaskYOLO; m = MultiTaskYOLO(sys.argv[1]);"
        "from ultralytics.utils import SAFE_LOAD; assert SAFE_LOAD;"
        "print(m.task, m.is_temporal, m.model.tasks, m.model.names, m.model.objects, m.model.players)"
    )
    env = {**os.environ, "ULTRALYTICS_SAFE_LOAD": "1"}
    out = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.pt")], env=env, capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    assert "multitask True ('detect', 'pose', 'track') {0: 'person', 1: 'ball'} [1] [0]" in out.stdout
    again = MultiTaskYOLO(tmp_path / "a.pt")
    assert again.model.yaml == model.model.yaml
    for key, value in model.model.state_dict().items():
        stored = value.half().float() if value.is_floating_point() else value
        assert torch.equal(again.model.state_dict()[key].to(stored.dtype), stored), key


def test_load_through_the_public_class(tmp_path: Path) -> None:
    MultiTaskYOLO("yolov8n-multitask.yaml").save(tmp_path / "shared.pt")
    model = MultiTaskYOLO("multitaskn.yaml").load(tmp_path / "shared.pt")
    assert type(model.model) is TemporalModel
    assert model.model.num_groups == 10
