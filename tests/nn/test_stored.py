"""Kept patches give a branch the values of the whole maps, and BatchNorm what is inside the maps alone."""

from __future__ import annotations

import pytest
import torch
from support.models import randomise, tiny_model

from yolo_multitask.nn.sites import Sites
from yolo_multitask.nn.stored import StoredSites, reach

STRIDES = torch.tensor([8.0, 16.0, 32.0])


@pytest.fixture(scope="module")
def branch() -> torch.nn.Module:
    model = tiny_model(tasks=("pose",), kpt_shape=(5, 3))
    randomise(model)
    return model.head.branches["pose"]


def maps(branch: torch.nn.Module, images: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    channels = [stack[0].conv.in_channels for stack in branch.convs]
    return [torch.rand(images, c, s, s, generator=generator) for c, s in zip(channels, (8, 4, 2), strict=True)]


# corners of each level, where patches leave the map, and places inside; not in the order of the levels
IMAGE_N = torch.tensor([1, 0, 0, 1, 0, 1])
ANCHOR_N = torch.tensor([83, 0, 27, 64, 79, 36])


def test_the_values_are_those_of_the_maps(branch: torch.nn.Module) -> None:
    feats = maps(branch)
    branch.eval()
    with torch.no_grad():
        kept = StoredSites.keep(Sites(feats, STRIDES, IMAGE_N, ANCHOR_N), reach(branch.convs), torch.float32)
        found = kept.run(branch.convs)[0].T
        expected = branch(feats)["kpts"][IMAGE_N, :, ANCHOR_N]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_split_and_join_give_the_anchors_back(branch: torch.nn.Module) -> None:
    feats = maps(branch)
    branch.eval()
    with torch.no_grad():
        kept = StoredSites.keep(Sites(feats, STRIDES, IMAGE_N, ANCHOR_N), 2, torch.float32)
        parts = list(kept.split(IMAGE_N, 3))
        assert [len(part) for part in parts] == [3, 3, 0]
        joined = StoredSites.join(parts)
        by_image = torch.cat([(i == IMAGE_N).nonzero()[:, 0] for i in range(3)])
        torch.testing.assert_close(joined.run(branch.convs), kept.run(branch.convs)[..., by_image])


def test_statistics_are_of_the_inside(branch: torch.nn.Module) -> None:
    """The first convolution's statistics are those of its dense output at the places around the anchors."""
    feats = maps(branch)
    kept = StoredSites.keep(Sites(feats, STRIDES, torch.tensor([0]), torch.tensor([0])), 2, torch.float32)
    norm, conv = branch.convs[0][0].bn, branch.convs[0][0].conv
    branch.train()
    norm.reset_running_stats()
    second = branch.convs[0][1].bn.running_mean.clone()
    kept.run(branch.convs)
    with torch.no_grad():
        dense = conv(feats[0])[0, :, :2, :2]  # of the 3x3 places around the corner four are inside
    assert torch.equal(branch.convs[0][1].bn.running_mean, second), "of one value there are no statistics"
    torch.testing.assert_close(norm.running_mean, norm.momentum * dense.mean((1, 2)), rtol=1e-4, atol=1e-6)


def test_training_normalises_by_these_statistics(branch: torch.nn.Module) -> None:
    """Where all is inside, the values are those of the convolutions and BatchNorms run over the patches."""
    feats = maps(branch)
    places = torch.tensor([27, 36])  # in the middle of the first level
    kept = StoredSites.keep(Sites(feats, STRIDES, torch.tensor([0, 1]), places), 2, torch.float32)
    branch.train()
    x = kept.levels[0].patches
    assert kept.levels[0].inside.all()
    for layer in branch.convs[0][:2]:
        x = layer.act(layer.bn(torch.nn.functional.conv2d(x, layer.conv.weight)))
    expected = branch.convs[0][2](x).flatten(1)
    torch.testing.assert_close(kept.run(branch.convs)[0].T, expected, rtol=1e-4, atol=1e-5)


def test_half_precision_takes_half(branch: torch.nn.Module) -> None:
    sites = Sites(maps(branch), STRIDES, IMAGE_N, ANCHOR_N)
    half, single = (StoredSites.keep(sites, 2, dtype) for dtype in (torch.float16, torch.float32))
    assert half.nbytes < 0.6 * single.nbytes
