"""The TrackNet head: its channels for any numbers, its outputs by name, the order of its elements, and its errors."""

from __future__ import annotations

import itertools

import pytest
import torch
from support.models import randomise

from yolo_multitask.nn.features import FEATURE_SETS
from yolo_multitask.nn.heads import TrackNet
from yolo_multitask.nn.heads.tracknet import PRIOR, elements

CH = (16, 32)
SIZES = [(4, 6), (2, 3)]


def build(**kwargs: object) -> TrackNet:
    head = TrackNet(**{"nc": 1, "feat_no": 8, "num_groups": 3, "reg_max": 16, "ch": CH, **kwargs})  # type: ignore[arg-type]
    head.stride = torch.tensor([8.0, 16.0])
    return head


def maps(batch: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(batch, c, *size, generator=generator) for c, size in zip(CH, SIZES, strict=True)]


@pytest.mark.parametrize(
    ("feat_no", "num_groups", "reg_max", "nc"), list(itertools.product((4, 8), (1, 3, 10), (8, 16), (1, 3)))
)
def test_channels_and_outputs(feat_no: int, num_groups: int, reg_max: int, nc: int) -> None:
    head = build(feat_no=feat_no, num_groups=num_groups, reg_max=reg_max, nc=nc)
    assert head.no == num_groups * (feat_no * reg_max + nc)
    assert [stack[-1].out_channels for stack in head.cv2] == [num_groups * feat_no * reg_max] * 2
    assert [stack[-1].out_channels for stack in head.cv3] == [num_groups * nc] * 2
    raw = head.train()(maps())
    count = num_groups * sum(h * w for h, w in SIZES)
    assert set(raw) == {"feats", "positions", "scores"}
    assert [tuple(f.shape) for f in raw["feats"]] == [(2, head.no, h, w) for h, w in SIZES]
    assert raw["positions"].shape == (2, count, feat_no, reg_max)
    assert raw["scores"].shape == (2, count, nc)
    sum(v.sum() for v in (raw["positions"], raw["scores"])).backward()
    assert all(p.grad is not None for p in head.parameters())
    values, again = head.eval()(maps())
    assert set(again) == set(raw)
    assert values.shape == (2, count, len(head.columns) + nc)
    head.export = True
    assert torch.equal(head(maps()), values)


def test_raw_outputs_are_the_maps_in_the_order_level_group_cell() -> None:
    head = build(nc=2).train()
    raw = head(maps())
    element = 0
    for feats, (height, width) in zip(raw["feats"], SIZES, strict=True):
        for group, y, x in itertools.product(range(3), range(height), range(width)):
            positions = feats[:, : 3 * 8 * 16].view(2, 3, 8, 16, height, width)[:, group, :, :, y, x]
            scores = feats[:, 3 * 8 * 16 :].view(2, 3, 2, height, width)[:, group, :, y, x]
            assert torch.equal(raw["positions"][:, element], positions)
            assert torch.equal(raw["scores"][:, element], scores)
            element += 1
    assert element == raw["scores"].shape[1]


def test_elements() -> None:
    centres, stride, group = elements(SIZES, torch.tensor([8.0, 16.0]), 3)
    expected = [
        (s * (x + 0.5), s * (y + 0.5), s, g)
        for (h, w), s in zip(SIZES, (8, 16), strict=True)
        for g, y, x in itertools.product(range(3), range(h), range(w))
    ]
    found = [(*c, s, g) for c, s, g in zip(centres.tolist(), stride.tolist(), group.tolist(), strict=True)]
    assert found == expected


def test_untrained_positions_are_the_centres_and_scores_the_prior() -> None:
    head = build()
    for stacks in (head.cv2, head.cv3):
        for stack in stacks:
            torch.nn.init.zeros_(stack[-1].weight)
    head.bias_init()
    values, _ = head.eval()(maps())
    centres, _, _ = elements(SIZES, head.stride, 3)
    torch.testing.assert_close(values[0, :, :2], centres)
    torch.testing.assert_close(values[..., -1], torch.full_like(values[..., -1], PRIOR))


def test_column_names() -> None:
    names = {key: build(feat_no=fs.feat_no, features=key).columns for key, fs in FEATURE_SETS.items()}
    assert names == {
        "offsets": ("x", "y"),
        "offsets_next": ("x", "y", "next_x", "next_y"),
        "box": ("x", "y", "w", "h"),
    }


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
def test_positions_of_likely_elements_alone_are_those_of_the_whole(share: float) -> None:
    head = build(nc=2).eval()
    randomise(head)
    with torch.no_grad():
        whole, _ = head(maps())
        best = whole[..., -2:].amax(2)
        head.above = float(best.flatten().sort(descending=True).values[int(share * (best.numel() - 1))]) + 1e-9
        if share == 0.0:
            head.above = 2.0
        found, raw = head(maps())
    assert raw == {}
    likely = (whole[..., -2:] >= head.above).any(2)
    assert likely.float().mean() == pytest.approx(share, abs=0.02)
    torch.testing.assert_close(found[likely], whole[likely], rtol=1e-4, atol=1e-4)
    assert found[~likely][:, :4].isnan().all()
    torch.testing.assert_close(found[..., -2:], whole[..., -2:])
    assert set(head.train()(maps())) == {"feats", "positions", "scores"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"nc": 0}, "a whole number of 1 or more as 'nc', got 0"),
        ({"num_groups": 2.5}, "a whole number of 1 or more as 'frames', got 2.5"),
        ({"feat_no": 5}, "feat_no=5: expected one of 4 \\(offsets\\), 8 \\(offsets_next\\)"),
        ({"feat_no": 8, "features": "box"}, "feat_no=8, but features 'box' are 4: l, t, r, b"),
        ({"reg_max": 4}, "reg_max=4 bins of 0.125 strides do not reach .* expected 6 or more"),
    ],
)
def test_numbers_that_do_not_fit(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**given)


@pytest.mark.parametrize("above", [None, 0.0])
def test_positions_are_exact_from_half_precision(above: float | None) -> None:
    """Far from the corner half precision has steps of half a pixel and more; what is decoded does not."""
    head = build().eval().half()
    head.stride, head.above = torch.tensor([64.0, 128.0]), above
    x = [torch.rand(1, c, 2, 24 // (i + 1)).half() for i, c in enumerate(CH)]
    values = head(x)[0]
    assert values.dtype == torch.float32
    raw = [conv(f).float() for conv, f in zip(head.cv2, x, strict=True)]
    exact = head._values(raw, [conv(f).float() for conv, f in zip(head.cv3, x, strict=True)])
    assert exact[..., 0].max() > 1024
    assert (values[..., :2] - exact[..., :2]).abs().max() < 0.1
