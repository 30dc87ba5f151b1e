"""Detection in a graph gives what lazy prediction gives, for every output."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from support.models import randomise, tiny_model
from torchvision.ops import box_iou
from ultralytics.utils import ops

from yolo_multitask.engine.lazy import Detected, detect
from yolo_multitask.nn import graph
from yolo_multitask.nn.graph import Suppression, suppress
from yolo_multitask.nn.network import MultiTaskModel

FAMILIES = ("yolov8n", "yolo11n", "yolo26n")


@pytest.fixture(scope="module")
def models() -> dict[str, MultiTaskModel]:
    """Return a small random model of each family, with every output."""
    found = {}
    for family in FAMILIES:
        model = tiny_model(family, nc=3, kpt_shape=(5, 3))
        randomise(model)
        found[family] = model.eval()
    return found


def both(model: MultiTaskModel, x: torch.Tensor, how: Suppression) -> tuple[Detected, tuple[torch.Tensor, ...]]:
    """Return what lazy prediction finds, and what the graph gives."""
    model.head.lazy = True
    try:
        with torch.inference_mode():
            scores, maps = model(x)
            settings = {"iou_thres": how.iou, "agnostic": how.agnostic, "max_det": how.max_det}
            found = detect(model.head, scores, maps, conf=how.conf, margin=1e4, **settings)
            return found, suppress(model.head, scores, maps, how)
    finally:
        model.head.lazy = False


def confidence(model: MultiTaskModel, x: torch.Tensor, count: int) -> float:
    """Return a confidence that about `count` anchors exceed, between two of them."""
    with torch.inference_mode():
        y = model(x)[0][0]
    best = y[:, 4:7].amax(1).flatten().sort(descending=True).values
    return float(best[: min(count, len(best) - 1) + 1][-2:].mean()) if count else 0.999


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(
    family=st.sampled_from(FAMILIES),
    batch=st.sampled_from([1, 3]),
    cells=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    count=st.integers(0, 200),
    few=st.booleans(),
    agnostic=st.booleans(),
    cut=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_graph_equals_lazy(
    models: dict[str, MultiTaskModel],
    family: str,
    batch: int,
    cells: tuple[int, int],
    count: int,
    few: bool,
    agnostic: bool,
    cut: bool,
    seed: int,
) -> None:
    model, layout = models[family], models[family].head.layout
    x = torch.rand(batch, 3, *(32 * c for c in cells), generator=torch.Generator().manual_seed(seed))
    rows_of_image = 7 if cut else max(count, 1)
    how = Suppression(conf=confidence(model, x, count), iou=0.7, max_det=rows_of_image, agnostic=agnostic)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "FEW_CANDIDATES", 0.0 if few else 1.0)
        found, (rows, proto) = both(model, x, how)
        candidates, _ = both(model, x, replace(how, iou=1.0, max_det=10**4))
    for each in candidates.rows:  # rounding decides on an overlap at the threshold
        assume(not ((box_iou(each[:, :4], each[:, :4]) - how.iou).abs() < 5e-5).any())
    assert rows.shape == (batch, rows_of_image, 6 + layout.extra)
    scale = torch.ones(rows.shape[2])
    scale[:4] = scale[layout.kpt] = scale[layout.next] = max(x.shape[2:])
    scale[layout.mask] = max(1.0, float(rows[..., layout.mask].abs().amax()))
    for image, wanted in enumerate(found.rows):
        given_rows = rows[image, rows[image, :, 4] > 0]
        assert given_rows.shape == wanted.shape
        assert not rows[image, len(wanted) :].any()
        torch.testing.assert_close(given_rows / scale, wanted / scale, rtol=1e-4, atol=1e-4)
        if len(wanted):
            torch.testing.assert_close(proto[image], found.proto[image], rtol=1e-4, atol=1e-4)


def test_masks_are_those_of_the_host(models: dict[str, MultiTaskModel]) -> None:
    model, layout = models["yolov8n"], models["yolov8n"].head.layout
    x = torch.rand(2, 3, 96, 128, generator=torch.Generator().manual_seed(1))
    how = Suppression(conf=confidence(model, x, 12), iou=0.7, max_det=20, masks=True)
    found, (rows, logits) = both(model, x, how)
    assert logits.shape == (2, 20, 24, 32)
    counts = [len(r) for r in found.rows]
    assert min(counts) > 0
    for image, (wanted, count) in enumerate(zip(found.rows, counts, strict=True)):
        expected = ops.process_mask(found.proto[image], wanted[:, layout.mask], wanted[:, :4], (96, 128), upsample=True)
        fine = torch.nn.functional.interpolate(logits[image, None, :count], (96, 128), mode="bilinear")[0]
        masks = ops.crop_mask(fine.gt(0).byte(), rows[image, :count, :4])
        assert expected.any()
        assert (masks != expected).float().mean() < 1e-4  # pixels at the threshold
        assert not logits[image, count:].any()


def test_without_masks_there_are_rows_alone() -> None:
    model = tiny_model(nc=2, kpt_shape=(5, 3), tasks=["pose"]).eval()
    _, out = both(model, torch.rand(1, 3, 64, 64), Suppression(conf=0.0, iou=0.7, max_det=5))
    assert [tuple(x.shape) for x in out] == [(1, 5, 6 + 15)]


def test_a_network_of_boxes_alone() -> None:
    model = tiny_model(nc=2, tasks=[]).eval()
    _, (rows,) = both(model, torch.rand(2, 3, 64, 64), Suppression(conf=0.0, iou=0.7, max_det=5))
    assert rows.shape == (2, 5, 6)
    assert rows.any()


def test_nothing_found_gives_zeros(models: dict[str, MultiTaskModel]) -> None:
    _, (rows, proto) = both(models["yolo11n"], torch.rand(2, 3, 64, 64), Suppression(conf=0.9999, iou=0.7, max_det=4))
    assert not rows.any()
    assert proto.any()


@pytest.mark.parametrize("shape", [(64, 64), (96, 160)])
def test_a_trace_fixes_no_size(models: dict[str, MultiTaskModel], shape: tuple[int, int]) -> None:
    model = models["yolov8n"]

    class Graph(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = model

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            model.head.lazy = True
            out = suppress(model.head, *model(x), Suppression(conf=0.3, iou=0.7, max_det=30))
            model.head.lazy = False
            return out

    with torch.no_grad():
        model.head.dynamic = True  # as the exporter sets it
        traced: Any = torch.jit.trace(Graph(), torch.zeros(1, 3, 64, 64), check_trace=False)
        x = torch.rand(3, 3, *shape, generator=torch.Generator().manual_seed(3))
        expected, given_out = Graph()(x), traced(x)
        model.head.dynamic = False
    assert (expected[0][..., 4] > 0).any()
    for one, other in zip(given_out, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_box_far_beyond_its_image_drops_none_of_another(models: dict[str, MultiTaskModel], family: str) -> None:
    model = deepcopy(models[family])
    for stack in model.head.cv2:
        stack[-1].bias.data += 12.0  # large distances where they are numbers, nothing where they are distributions
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))  # boxes of ten times its size
    how = Suppression(conf=confidence(model, x, 51), iou=0.7, max_det=51)
    together, _ = both(model, x, how)
    assert max(float(rows[:, :4].abs().max()) for rows in together.rows) > 3 * 32
    _, (rows, *_) = both(model, x, how)
    for image, alone in enumerate(x):
        _, (own, *_) = both(model, alone[None], how)
        assert (rows[image, :, 4] > 0).sum() == (own[0, :, 4] > 0).sum() > 0
