"""Every family trains, keeps its weights and gives the same rows lazily, fused and saved: one test for all of them."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from support.models import make_batch, randomise
from ultralytics.utils import IterableSimpleNamespace

from yolo_multitask.args import full_cfg
from yolo_multitask.configs import config_names
from yolo_multitask.engine.lazy import detect
from yolo_multitask.nn.network import MultiTaskModel, load_model_yaml
from yolo_multitask.tasks import BRANCH_TASKS, SPECS

FAMILIES = ("yolov8n", "yolov9t", "yolo11n", "yolo12n", "yolo26n", "demo", "demo26")


def build(family: str) -> MultiTaskModel:
    """Return a model of a family, with the trunk a quarter as wide where its YAML can be scaled."""
    config = load_model_yaml(f"{family}-multitask.yaml") | {"next": True, "embed_dim": 16}
    if config.get("scales"):
        config["scales"] = {"n": [0.33, 0.25 if family == "yolo12n" else 0.125, 1024]}  # whose blocks are 32 wide
    elif family.startswith("demo"):
        config["width_multiple"] = 0.5
    model = MultiTaskModel(config, nc=2, kpt_shape=(5, 3), verbose=False)
    model.args = IterableSimpleNamespace(**full_cfg())
    return model


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest) -> MultiTaskModel:
    """Return a random model of a family."""
    made = build(request.param)
    randomise(made)
    return made


def test_every_model_of_the_package_has_a_family() -> None:
    unscaled = {f.removesuffix("n") for f in FAMILIES} | {"yolov9s", "yolov9m", "yolov9c", "yolov9e"}
    shared = [n for n in config_names("models") if n != "multitask.yaml"]  # that of windows of frames
    assert {n.removesuffix("-multitask.yaml") for n in shared} == unscaled


@pytest.mark.parametrize(
    "name", [f"{f}{s}" for f in ("yolo12", "yolo26") for s in "nsmlx"] + [f"yolov9{s}" for s in "tsmce"]
)
def test_scales_are_found_by_name(name: str) -> None:
    config = load_model_yaml(f"{name}-multitask.yaml")
    assert config["yaml_file"] == f"{name}-multitask.yaml"
    assert not config.get("scales") or config["scale"] == name[-1]
    layers = [*config["backbone"], *config["head"]]
    assert all(layers[i][2] not in ("Concat", "nn.Upsample") for i in config["embed_from"])


def test_all_parameters_learn(model: MultiTaskModel) -> None:
    batch = make_batch(64, kpt_shape=(5, 3))
    loss, items = model.train()(batch)
    assert len(loss) == len(items)
    wanted = {n for t in ("detect", *BRANCH_TASKS) for n in SPECS[t].losses}
    if model.head.dual:
        wanted = wanted - {"dfl_loss"} | {n for t in ("detect", *BRANCH_TASKS) for n in SPECS[t].more}
    assert set(items) == wanted
    assert all(torch.isfinite(v) for v in items.values())
    loss.sum().backward()
    missing = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []
    model.zero_grad()


def outputs(model: MultiTaskModel, x: torch.Tensor) -> list[torch.Tensor]:
    """Return rows and prototypes."""
    with torch.inference_mode():
        return list(model.eval()(x)[0])


@pytest.mark.parametrize("end2end", [False, True])
def test_fused_lazy_and_saved(model: MultiTaskModel, tmp_path: Path, end2end: bool) -> None:
    if end2end and not model.head.dual:
        pytest.skip("one head")
    x = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    model.end2end = end2end
    expected = outputs(model, x)
    torch.save(model, tmp_path / "model.pt")
    for one, other in zip(outputs(torch.load(tmp_path / "model.pt", weights_only=False), x), expected, strict=True):
        assert torch.equal(one, other)
    fused: Any = deepcopy(model).fuse(verbose=False)
    assert fused.end2end == end2end
    for one, other in zip(outputs(fused, x), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=2e-3)
    if not end2end:
        model.end2end = False
        return
    fused.head.lazy = True
    with torch.inference_mode():
        rows = detect(fused.head, *fused(x), conf=0.0).rows[0]
    torch.testing.assert_close(rows, expected[0][0], rtol=1e-3, atol=2e-3)
    model.end2end = False
