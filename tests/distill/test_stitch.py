"""A branch is fitted to features that its weights were not made for."""

from __future__ import annotations

import pytest
import torch
from support.models import tiny_model
from support.teachers import stock_network
from ultralytics.nn.modules.conv import Conv

from yolo_multitask.distill.stitch import Maps, fit_stack, layer_pairs, least_squares


def seeded(*shape: int, seed: int = 0) -> torch.Tensor:
    """Return random numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def stack(width: int, seed: int) -> list[torch.nn.Module]:
    """Return the layers of a branch: two 3x3 and one 1x1 convolution, from `width` channels."""
    torch.manual_seed(seed)
    layers = [Conv(width, 5, 3), Conv(5, 5, 3), torch.nn.Conv2d(5, 6, 1)]
    for layer in layers[:2]:
        layer.bn.running_mean.uniform_(-0.5, 0.5)  # type: ignore[union-attr, operator]
        layer.bn.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr, operator]
    return [layer.eval().requires_grad_(False) for layer in layers]


def maps_of(mix: torch.Tensor, count: int = 6) -> list[Maps]:
    """Return views on which the teacher's features are a mixture of the student's."""
    out = []
    for i in range(count):
        ours = seeded(mix.shape[1], 12, 12, seed=i)
        theirs = torch.einsum("ij,jhw->ihw", mix, ours)
        out.append(Maps(half=i % 2, ours=[ours], theirs=[theirs], weights=[torch.ones(144)]))
    return out


def test_a_convolution_is_found_again() -> None:
    weight, bias = seeded(3, 4, 3, 3), seeded(3, seed=1)
    maps = maps_of(torch.eye(4))
    found, offset = least_squares(
        lambda m: m.ours[0][None],
        lambda m: torch.nn.functional.conv2d(m.ours[0][None], weight, bias, padding=1),
        maps,
        0,
    )
    assert torch.allclose(found, weight, atol=0.02)
    assert torch.allclose(offset, bias, atol=0.02)


def test_other_features_with_the_same_content_give_the_teachers_outputs() -> None:
    mix = seeded(7, 4, seed=9) * 0.5
    maps = maps_of(mix)
    ours, theirs = stack(4, 0), stack(7, 1)

    def both() -> tuple[torch.Tensor, torch.Tensor]:
        new = maps_of(mix, 9)[-1]  # of another picture
        x, y = new.ours[0][None], new.theirs[0][None]
        for own, other in zip(ours, theirs, strict=True):
            x, y = own(x), other(y)
        return x, y

    before = torch.nn.functional.mse_loss(*both())
    fit_stack(ours, theirs, maps, 0)
    own, other = both()
    assert torch.nn.functional.mse_loss(own, other) < 1e-3 * other.var() < before


def test_what_cannot_be_fitted_is_kept_from_growing_wild() -> None:
    maps = maps_of(torch.eye(4), 4)
    noise = {id(m): seeded(1, 2, 12, 12, seed=50 + i) for i, m in enumerate(maps)}
    weight, _ = least_squares(lambda m: m.ours[0][None], lambda m: noise[id(m)], maps, 0)
    assert weight.abs().max() < 0.05, "the ridge is chosen on other pictures"


@pytest.mark.parametrize(("task", "stacks"), [("pose", 3), ("segment", 4)])
def test_the_stacks_of_a_branch(task: str, stacks: int) -> None:
    head = tiny_model(nc=1, kpt_shape=(17, 3)).head
    assert len(layer_pairs(head, stock_network(task, 1).model[-1], task)) == stacks
    if task == "pose":
        other = stock_network("pose", 1, kpt_shape=[60, 3])
        assert layer_pairs(head, other.model[-1], task) == []
