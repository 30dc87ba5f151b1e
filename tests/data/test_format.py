"""What a formatted sample holds, and how samples are collated."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from support.instances import boxes, columns
from ultralytics.utils.instance import Instances

from yolo_multitask.data.columns import CLS, IMAGE, INSTANCE, MOTION, SCENE
from yolo_multitask.data.format import MultiTaskFormat, collate_extras


@pytest.mark.parametrize("overlap", [True, False])
def test_format_orders_and_aligns(overlap: bool) -> None:
    squares = boxes((0, 0, 8, 8), (10, 10, 14, 14), (20, 20, 30, 30), (0, 0, 32, 16), polygons=True)
    squares.keypoints = np.full((4, 2, 3), 2, np.float32)
    cls = columns((7, 1, 0, 0, 0), (8, 0, 1, 0, -1), (9, 1, 1, 0, 2), (3, 1, 1, 1, 4))
    cls[:, INSTANCE], cls[:, IMAGE], cls[:, SCENE] = 2**24 - 1 - cls[:, CLS], 50 + cls[:, CLS], 60 + cls[:, CLS]
    cls[[0, 2], MOTION] = [[7, 0, 0, 1], [9, 0, 0, 1]]
    labels = {"img": np.zeros((32, 32, 3), np.uint8), "cls": cls, "instances": squares}
    form = MultiTaskFormat(return_mask=True, return_keypoint=True, mask_ratio=1, mask_overlap=overlap)
    out = form(labels)
    order = [9, 8, 7] if overlap else [7, 8, 9]
    assert set(out) == {
        *("img", "cls", "bboxes", "masks", "keypoints", "batch_idx"),
        *("has_keypoints", "has_mask", "has_id", "ids", "instance", "image", "scene", "motion", "ignore"),
    }
    assert out["cls"][:, 0].tolist() == order
    assert out["ids"].tolist() == [{7: 0, 8: -1, 9: 2}[c] for c in order]
    assert out["has_id"].tolist() == [c != 8 for c in order]
    assert out["instance"].tolist() == [2**24 - 1 - c for c in order]
    assert out["image"].tolist() == [50 + c for c in order]
    assert out["scene"].tolist() == [60 + c for c in order]
    np.testing.assert_array_equal(out["motion"], [[np.nan] * 4 if c == 8 else [c, 0, 0, 1] for c in order])
    assert out["has_mask"].tolist() == [c != 7 for c in order]
    assert out["has_keypoints"].tolist() == [c != 8 for c in order]
    assert [bool(k.any()) for k in out["keypoints"]] == [c != 8 for c in order]
    if overlap:
        areas = [int((out["masks"] == i + 1).sum()) for i in range(3)]
    else:
        assert out["masks"].shape == (3, 32, 32)
        areas = [int(m.sum()) for m in out["masks"]]
    assert areas == [{7: 0, 8: 25, 9: 121}[c] for c in order]  # fillPoly draws both edges
    torch.testing.assert_close(out["ignore"], torch.tensor([[0.5, 0.25, 1.0, 0.5]]))


@pytest.mark.parametrize("overlap", [True, False])
def test_format_gives_the_same_types_for_an_empty_image(overlap: bool) -> None:
    form = MultiTaskFormat(return_mask=True, return_keypoint=True, mask_ratio=4, mask_overlap=overlap)

    def run(rows: np.ndarray, instances: Instances) -> dict[str, Any]:
        instances.keypoints = np.zeros((len(rows), 2, 3), np.float32)
        return form({"img": np.zeros((32, 32, 3), np.uint8), "cls": rows, "instances": instances})

    full = run(columns((1, 1, 1, 0, 5)), boxes((2, 2, 20, 20), polygons=True))
    empty = run(columns(), boxes(polygons=True))
    assert set(full) == set(empty)
    assert {k: v.dtype for k, v in full.items()} == {k: v.dtype for k, v in empty.items()}
    assert {k: v.shape[1:] for k, v in full.items()} == {k: v.shape[1:] for k, v in empty.items()}


def test_format_refuses_a_mask_ratio_beyond_the_image() -> None:
    form = MultiTaskFormat(return_mask=True, mask_ratio=64)
    with pytest.raises(ValueError, match="mask_ratio=64"):
        form({"img": np.zeros((32, 48, 3), np.uint8), "cls": columns(), "instances": boxes(polygons=True)})


def test_ignore_regions_are_clipped_to_the_image() -> None:
    labels = {
        "img": np.zeros((40, 20, 3), np.uint8),
        "cls": columns((0, 0, 0, 1, -1), (0, 0, 0, 1, -1)),
        "instances": boxes((-10, 10, 10, 50), (30, 0, 40, 10)),
    }
    out = MultiTaskFormat()(labels)
    torch.testing.assert_close(out["ignore"], torch.tensor([[0.25, 0.625, 0.5, 0.75]]))
    assert len(out["cls"]) == 0


def test_collate_extras_numbers_the_images() -> None:
    def image(n: int, m: int) -> dict[str, torch.Tensor]:
        return {
            "has_keypoints": torch.ones(n, dtype=torch.bool),
            "has_mask": torch.zeros(n, dtype=torch.bool),
            "has_id": torch.ones(n, dtype=torch.bool),
            **{key: torch.arange(n) for key in ("ids", "instance", "image", "scene")},
            "motion": torch.rand(n, 4),
            "ignore": torch.rand(m, 4),
        }

    rows = [image(2, 1), image(0, 0), image(1, 2)]
    batch = collate_extras({k: tuple(r[k] for r in rows) for k in rows[0]})
    assert batch["ids"].tolist() == [0, 1, 0]
    assert batch["ignore"].shape == (3, 4)
    assert batch["ignore_idx"].tolist() == [0.0, 2.0, 2.0]
    assert batch["motion"].shape == (3, 4)
    assert {len(batch[k]) for k in rows[0] if k != "ignore"} == {3}
