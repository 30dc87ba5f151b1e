"""Feature sets: what their values mean, their ranges, their errors, and that what the loss encodes the head decodes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from yolo_multitask.losses.tracknet import point_targets
from yolo_multitask.nn.features import (
    FEATURE_SETS,
    Column,
    Feature,
    FeatureSet,
    feature_set,
    register_feature_set,
)
from yolo_multitask.nn.heads.tracknet import TrackNet

STRIDES = (8, 16, 32)
SHAPES = [(8, 12), (4, 6), (2, 3)]  # 64 x 96 pixels
GROUPS, NC, REG_MAX = 3, 2, 16
SIZE = np.array([96.0, 64.0])


class Channels(nn.Module):
    """Take a range of the channels of a map."""

    def __init__(self, first: int, last: int) -> None:
        super().__init__()
        self.first, self.last = first, last

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, self.first : self.last]


def reading_head(name: str) -> TrackNet:
    """Return a head whose maps are its inputs."""
    features = FEATURE_SETS[name]
    head = TrackNet(NC, features.feat_no, GROUPS, REG_MAX, name, ch=(64, 64, 64)).eval()
    split = GROUPS * features.feat_no * REG_MAX
    head.cv2 = nn.ModuleList(Channels(0, split) for _ in STRIDES)
    head.cv3 = nn.ModuleList(Channels(split, head.no) for _ in STRIDES)
    head.stride = torch.tensor(STRIDES, dtype=torch.float32)
    return head


def labels_in_each_cell(level: int, group: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
    """Return one object in each cell of a level, in its own image, so that no cell holds two."""
    height, width = SHAPES[level]
    y, x = np.mgrid[:height, :width]
    centres = (np.stack((x, y), -1).reshape(-1, 2) + 0.5) * STRIDES[level]
    place = centres + rng.uniform(-0.499, 0.499, centres.shape) * STRIDES[level]
    after = place + rng.uniform(-40, 40, centres.shape)
    low = centres - rng.uniform(0.1, 3, centres.shape) * STRIDES[level]
    high = centres + rng.uniform(0.1, 3, centres.shape) * STRIDES[level]
    count = len(place)
    box = np.concatenate(((low + high) / 2 / SIZE, (high - low) / SIZE), 1)
    return {
        "points": torch.tensor(place / SIZE),
        "points_next": torch.tensor(after / SIZE),
        "points_has_next": torch.ones(count, dtype=torch.bool),
        "points_boxes": torch.tensor(box),
        "points_idx": torch.arange(count),
        "points_group": torch.full((count,), group),
        "points_cls": torch.zeros(count, dtype=torch.long),
        "points_visible": torch.ones(count, dtype=torch.long),
        "points_labelled": torch.ones(count, GROUPS, dtype=torch.bool),
    }


@pytest.mark.parametrize("name", ["offsets", "offsets_next", "box"])
@pytest.mark.parametrize("group", range(GROUPS))
@pytest.mark.parametrize("level", range(3))
def test_what_the_loss_encodes_the_head_decodes(name: str, group: int, level: int) -> None:
    """Every cell of every level and group, through the channels of the map as they are documented."""
    head, features = reading_head(name), FEATURE_SETS[name]
    batch = labels_in_each_cell(level, group, np.random.default_rng(level * 10 + group))
    if name == "box":  # a box is assigned by its centre, so the object stands there
        batch["points"] = (
            torch.tensor(np.stack(np.meshgrid(*map(np.arange, SHAPES[level][::-1])), -1) + 0.5).reshape(-1, 2)
            * STRIDES[level]
            / torch.tensor(SIZE)
        )
    like = torch.zeros(1, dtype=torch.float64)
    targets = point_targets(features, batch, SHAPES, head.stride, GROUPS, NC, REG_MAX, like)
    count = len(batch["points"])
    maps = [torch.zeros(count, head.no, h, w, dtype=torch.float64) for h, w in SHAPES]
    start = sum(GROUPS * h * w for h, w in SHAPES[:level])
    height, width = SHAPES[level]
    read = 0
    for image, element, values, fits in zip(
        targets.image_M.tolist(), targets.element_M.tolist(), targets.values_MF, targets.fits_MF, strict=True
    ):
        if not start <= element < start + GROUPS * height * width:
            continue
        if not targets.classes_BNC[image, element].any():
            continue  # beside the object: learned too, see the tests of the loss; here the cell that holds it
        assert fits[:4].all()
        own_group, cell = divmod(element - start, height * width)
        assert own_group == group
        row, column = divmod(cell, width)
        for feature, value in enumerate(values.tolist()):
            low = min(int(value), REG_MAX - 2) if fits[feature] else 0
            bins = torch.full((REG_MAX,), -1e4, dtype=torch.float64)
            bins[low], bins[low + 1] = (
                np.log([max(1 - (value - low), 1e-300), max(value - low, 1e-300)]) if fits[feature] else (0, 0)
            )
            channel = (group * features.feat_no + feature) * REG_MAX
            maps[level][image, channel : channel + REG_MAX, row, column] = bins
        score = GROUPS * features.feat_no * REG_MAX + group * NC + 1
        maps[level][image, score, row, column] = 5.0
        read += 1
    assert read == count == height * width
    with torch.no_grad():
        decoded, raw = head(maps)
    assert decoded.shape == (count, GROUPS * sum(h * w for h, w in SHAPES), len(features.columns) + NC)
    best = decoded[..., -1].argmax(1)
    assert (decoded[..., -1] > 0.9).sum() == count  # the score stands where the position does, and nowhere else
    assert torch.equal(raw["scores"][..., 1].argmax(1), best)
    found = decoded[torch.arange(count), best].numpy()
    image = torch.arange(count)
    if name == "box":
        expected = (batch["points_boxes"].numpy() * np.tile(SIZE, 2))[image]
        assert np.abs(found[:, :4] - expected).max() < 0.01
        return
    assert np.abs(found[:, :2] - batch["points"].numpy() * SIZE).max() < 0.01
    if name == "offsets_next":
        level_rows = (targets.element_M >= start) & (targets.element_M < start + GROUPS * height * width)
        says = torch.zeros(count, dtype=torch.bool)
        says[targets.image_M[level_rows]] = targets.fits_MF[level_rows, 4]
        assert says.float().mean() > 0.9
        wrong = np.abs(found[:, 2:4] - batch["points_next"].numpy() * SIZE)[says.numpy()]
        assert wrong.max() < 0.01


def test_encode_and_decode_are_inverse_for_numpy_too() -> None:
    rng = np.random.default_rng(0)
    centres, strides = rng.uniform(0, 640, (50, 2)), rng.choice([8.0, 16.0, 32.0], 50)
    points = {
        "now": centres + rng.uniform(-1.8, 1.8, (50, 2)) * strides[:, None],
        "next": centres + rng.uniform(-14, 14, (50, 2)) * strides[:, None],
    }
    features = FEATURE_SETS["offsets_next"]
    values = features.encode(points, centres, strides)
    assert all(v.all() for v in features.in_range(values, 16))
    decoded = np.stack(features.decode(values, centres, strides), 1)
    np.testing.assert_allclose(decoded, np.concatenate((points["now"], points["next"]), 1), atol=1e-9)


def test_values_of_a_known_case() -> None:
    """Stride 8, centre (12, 20), object 3 px to the right and 1 px up, next frame 16 px to the left."""
    centres, strides = np.array([[12.0, 20.0]]), np.array([8.0])
    points = {"now": np.array([[15.0, 19.0]]), "next": np.array([[-4.0, 20.0]])}
    values = FEATURE_SETS["offsets_next"].encode(points, centres, strides)
    assert [v.item() for v in values] == [3, 0, 0, 1, 0, 2, 0, 0]


def test_a_point_out_of_range_is_left_out_whole_and_alone() -> None:
    centres, strides = np.array([[12.0, 20.0]]), np.array([8.0])
    points = {"now": np.array([[12.0, 20.0]]), "next": np.array([[12.0, 20.0 + 15.01 * 8]])}
    features = FEATURE_SETS["offsets_next"]
    fits = features.in_range(features.encode(points, centres, strides), 16)
    assert [bool(f.item()) for f in fits] == [True] * 4 + [False] * 4
    points["next"][0, 1] -= 0.01 * 8
    assert all(f.all() for f in features.in_range(features.encode(points, centres, strides), 16))


def test_a_box_that_does_not_hold_the_centre_of_its_cell_cannot_be_said() -> None:
    features = FEATURE_SETS["box"]
    points = {"low": np.array([[13.0, 18.0]]), "high": np.array([[15.0, 22.0]])}
    fits = features.in_range(features.encode(points, np.array([[12.0, 20.0]]), np.array([8.0])), 16)
    assert [bool(f.item()) for f in fits] == [False, False, True, True]


@pytest.mark.parametrize(
    ("name", "feat_no", "reg_max", "message"),
    [
        ("offsets", 8, 16, "feat_no=8, but features 'offsets' are 4: x\\+, x-, y\\+, y-"),
        ("offsets_next", 4, 16, "feat_no=4, but features 'offsets_next' are 8"),
        ("offsets", 4, 5, "reg_max=5 bins of 0.125 strides do not reach .* expected 6 or more"),
        ("box", 4, 1, "reg_max=1: expected 2 or more"),
    ],
)
def test_mismatches_name_both_numbers(name: str, feat_no: int, reg_max: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FEATURE_SETS[name].check(feat_no, reg_max)


def test_names() -> None:
    assert feature_set(None, 4).name == "offsets"
    assert feature_set(None, 8).name == "offsets_next"
    assert feature_set("box", 4).name == "box"
    with pytest.raises(ValueError, match="feat_no=6: expected one of 4 \\(offsets\\), 8 \\(offsets_next\\)"):
        feature_set(None, 6)
    with pytest.raises(ValueError, match="features 'boxes': expected one of offsets, offsets_next, box"):
        feature_set("boxes", 4)


def test_a_set_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yolo_multitask.nn.features.FEATURE_SETS", dict(FEATURE_SETS))
    both = [
        Feature(name=f"{a}{s}", point="now", axis=i, sign=s, unit=0.25) for i, a in enumerate("xy") for s in (1, -1)
    ]
    columns = tuple(Column(name=a, terms={("now", i): 1.0}) for i, a in enumerate("xy"))
    coarse = register_feature_set(FeatureSet("coarse", tuple(both), columns))
    assert register_feature_set(FeatureSet("coarse", tuple(both), columns)) == coarse
    assert feature_set("coarse", 4) is coarse
    with pytest.raises(ValueError, match="'coarse' are registered with other features"):
        register_feature_set(FeatureSet("coarse", tuple(both[::-1]), columns))
    with pytest.raises(ValueError, match="column 'x' reads .* no feature tells it"):
        FeatureSet("bad", tuple(both[2:]), columns)
    with pytest.raises(ValueError, match="expected the columns x, y first, found y, x"):
        FeatureSet("bad", tuple(both), columns[::-1])
