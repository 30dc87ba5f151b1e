"""A few anchors give what the dense maps have there: any stack, any size, at borders too."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.models import randomise
from torch import nn
from ultralytics.nn.modules.conv import Conv, DWConv

from yolo_multitask.nn import sites as module
from yolo_multitask.nn.branches.base import level_convs, run_levels
from yolo_multitask.nn.sites import Sites

CHANNELS = (8, 12, 16)
STRIDES = torch.tensor([8.0, 16.0, 32.0])


def depthwise() -> nn.ModuleList:
    """Return the stacks of a class branch of YOLO11."""
    return nn.ModuleList(
        nn.Sequential(
            nn.Sequential(DWConv(c, c, 3), Conv(c, 10, 1)),
            nn.Sequential(DWConv(10, 10, 3), Conv(10, 10, 1)),
            nn.Conv2d(10, 5, 1),
        )
        for c in CHANNELS
    )


def wide() -> nn.ModuleList:
    """Return stacks with larger and dilated kernels."""
    return nn.ModuleList(
        nn.Sequential(Conv(c, 6, 5), Conv(6, 6, 3, d=2), nn.Conv2d(6, 4, 3, padding=1)) for c in CHANNELS
    )


STACKS = {"plain": lambda: level_convs(7, CHANNELS), "depthwise": depthwise, "wide": wide}


def maps(batch: int, sides: tuple[int, int], generator: torch.Generator) -> list[torch.Tensor]:
    """Return feature maps, the first of `sides`, each next one of half the size, rounded up."""
    height, width = sides
    out = []
    for channels in CHANNELS:
        out.append(torch.randn(batch, channels, height, width, generator=generator))
        height, width = -(-height // 2), -(-width // 2)
    return out


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(sorted(STACKS)),
    batch=st.sampled_from([1, 4]),
    sides=st.tuples(st.integers(1, 23), st.integers(1, 23)),
    count=st.integers(0, 300),
    share=st.sampled_from([0.0, 0.1, 2.0]),
    seed=st.integers(0, 10**6),
)
def test_a_few_anchors_give_what_the_maps_have(
    kind: str, batch: int, sides: tuple[int, int], count: int, share: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    stacks = STACKS[kind]().eval()
    randomise(stacks, seed)
    feats = maps(batch, sides, generator)
    total = sum(x.shape[2] * x.shape[3] for x in feats)
    image = torch.randint(0, batch, (count,), generator=generator)
    anchor = torch.randint(0, total, (count,), generator=generator)
    with torch.inference_mode(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "DENSE_SHARE", share)
        dense = run_levels(stacks, feats)
        found = Sites(feats, STRIDES, image, anchor).run(stacks)
    assert found.shape == (1, dense.shape[1], count)
    torch.testing.assert_close(found[0].T, dense[image, :, anchor], rtol=1e-5, atol=1e-5 * float(dense.abs().max()))


def test_every_anchor_of_a_map_with_borders() -> None:
    stacks = level_convs(7, CHANNELS).eval()
    randomise(stacks)
    feats = maps(2, (5, 3), torch.Generator().manual_seed(0))
    dense = run_levels(stacks, feats)
    total = dense.shape[2]
    image, anchor = torch.arange(2).repeat_interleave(total), torch.arange(total).repeat(2)
    with torch.inference_mode(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "DENSE_SHARE", 2.0)
        sites = Sites(feats, STRIDES, image, anchor)
        found = sites.run(stacks)
    torch.testing.assert_close(found[0].unflatten(1, (2, total)).transpose(0, 1), dense, rtol=1e-5, atol=1e-5)
    assert sites.strides[0, :total].tolist() == [8.0] * 15 + [16.0] * 6 + [32.0] * 2
    assert sites.anchors[:, :4].T.tolist() == [[0.5, 0.5], [1.5, 0.5], [2.5, 0.5], [0.5, 1.5]]


def test_half_precision() -> None:
    stacks = level_convs(7, CHANNELS).eval()
    randomise(stacks)
    feats = maps(1, (9, 7), torch.Generator().manual_seed(0))
    dense = run_levels(stacks, feats)
    anchor = torch.tensor([0, 6, 40, 62, 70, 80])
    with torch.inference_mode():
        found = Sites([x.half() for x in feats], STRIDES.half(), torch.zeros_like(anchor), anchor).run(stacks.half())
    assert found.dtype == torch.float16
    torch.testing.assert_close(found[0].float(), dense[0][:, anchor], rtol=0.02, atol=0.02)


def test_only_the_patches_are_computed() -> None:
    stacks = level_convs(7, CHANNELS).eval()
    for stack in stacks:
        stack.register_forward_hook(lambda *_: pytest.fail("the whole map is computed"))
    feats = maps(1, (40, 40), torch.Generator().manual_seed(0))
    anchor = torch.tensor([0, 1599, 1600, 2050])
    sizes = []
    conv = torch.nn.functional.conv2d

    def watched(x: torch.Tensor, *args: Any) -> torch.Tensor:
        sizes.append(tuple(x.shape[2:]))
        return conv(x, *args)

    with torch.inference_mode(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.F, "conv2d", watched)
        Sites(feats, STRIDES, torch.zeros_like(anchor), anchor).run(stacks)
    assert sizes == [(5, 5), (3, 3), (1, 1)] * 3


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.MaxPool2d(2), "expected a stack of convolutions, found a MaxPool2d"),
        (nn.Conv2d(4, 4, 3, stride=2, padding=1), "stride 1 and same padding"),
        (nn.Conv2d(4, 4, 3), "stride 1 and same padding"),
        (nn.Conv2d(4, 4, 2), "odd square kernel"),
        (nn.Conv2d(4, 4, (3, 1), padding=1), "odd square kernel"),
    ],
)
def test_other_layers_are_refused(layer: nn.Module, message: str) -> None:
    stacks = nn.ModuleList(nn.Sequential(Conv(c, 4, 3), layer) for c in CHANNELS)
    feats = maps(1, (40, 40), torch.Generator().manual_seed(0))
    with pytest.raises(TypeError, match=message):
        Sites(feats, STRIDES, torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)).run(stacks)
