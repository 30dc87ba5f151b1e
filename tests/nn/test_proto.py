"""Prototypes multiplied out, and in tiles: the values of the host's, at less work."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.models import randomise, tiny_model
from ultralytics.nn.modules.block import Proto

from yolo_multitask.nn import proto as module
from yolo_multitask.nn.proto import FusedProto, touched


@pytest.fixture(scope="module")
def both() -> tuple[Proto, FusedProto]:
    """Return the host's prototypes and ours with the same random weights, both fused with their BatchNorms."""
    model = tiny_model(tasks=["segment"])
    randomise(model)
    model.eval()
    host_fused = tiny_model(tasks=["segment"])
    host_fused.load_state_dict(model.state_dict())
    super(type(host_fused), host_fused.eval()).fuse(verbose=False)
    proto = host_fused.head.branches["segment"].proto
    assert type(proto) is Proto
    ours = model.fuse(verbose=False).head.branches["segment"].proto
    assert type(ours) is FusedProto
    assert model.fuse(verbose=False).head.branches["segment"].proto is ours
    return proto, ours


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Check equality to 1e-5 of the largest value."""
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


SIDES = st.tuples(st.integers(1, 40), st.integers(1, 40))


@settings(max_examples=40, deadline=None)
@given(batch=st.sampled_from([1, 4]), sides=SIDES, seed=st.integers(0, 10**6))
def test_the_whole_map(both: tuple[Proto, FusedProto], batch: int, sides: tuple[int, int], seed: int) -> None:
    host, ours = both
    x = torch.randn(batch, host.cv1.conv.in_channels, *sides, generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        close(ours(x), host(x))


@settings(max_examples=60, deadline=None)
@given(
    batch=st.sampled_from([1, 4]),
    sides=SIDES,
    count=st.integers(0, 12),
    dense=st.sampled_from([0.8, 2.0]),
    seed=st.integers(0, 10**6),
)
def test_in_and_next_to_boxes(
    both: tuple[Proto, FusedProto], batch: int, sides: tuple[int, int], count: int, dense: float, seed: int
) -> None:
    host, ours = both
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, host.cv1.conv.in_channels, *sides, generator=generator)
    size = torch.tensor([sides[1], sides[0]])
    corner = (torch.rand(count, 2, generator=generator) * 1.4 - 0.2) * size  # some are partly outside
    boxes = torch.cat((corner, corner + torch.rand(count, 2, generator=generator) * size / 2), 1)
    image = torch.randint(0, batch, (count,), generator=generator)
    with torch.inference_mode(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "DENSE_TILES", dense)
        expected, found = host(x), ours.inside(x, boxes, image)
    assert found.shape == expected.shape
    height, width = (2 * side for side in sides)
    for (x1, y1, x2, y2), i in zip(boxes.tolist(), image.tolist(), strict=True):  # a cell is two prototypes wide
        rows = slice(max(int(2 * y1) - 2, 0), max(min(int(2 * y2) + 3, height), 0))
        columns = slice(max(int(2 * x1) - 2, 0), max(min(int(2 * x2) + 3, width), 0))
        close(found[i, :, rows, columns], expected[i, :, rows, columns]) if found[i, :, rows, columns].numel() else None


def test_where_no_box_is_nothing_is_computed(both: tuple[Proto, FusedProto]) -> None:
    x = torch.randn(2, both[0].cv1.conv.in_channels, 40, 40)
    with torch.inference_mode():
        found = both[1].inside(x, torch.tensor([[2.0, 2.0, 5.0, 5.0]]), torch.tensor([1]))
    assert not found[0].any()
    assert found[1, :, :32, :32].all()
    assert not found[1, :, 32:].any()
    assert not found[1, :, :, 32:].any()


def test_touched_tiles() -> None:
    boxes = torch.tensor(
        [[0.0, 0.0, 14.5, 3.0], [0.0, 0.0, 15.5, 3.0], [20.0, 20.0, 22.0, 40.0], [-9.0, -9.0, -3.0, 90.0]]
    )
    found = touched(boxes, torch.tensor([0, 1, 2, 3]), (5, 3, 2))
    assert found[0].tolist() == [[True, False], [False, False], [False, False]]
    assert found[1].tolist() == [[True, True], [False, False], [False, False]]
    assert found[2].tolist() == [[False, False], [False, True], [False, True]]
    assert found[3].tolist() == [[True, False]] * 3
    assert not found[4].any()
