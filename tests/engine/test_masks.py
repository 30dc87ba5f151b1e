"""Masks from the logits of an exported file are those of the prototypes that the logits were made from."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ultralytics.utils import ops

from yolo_multitask.engine import masks
from yolo_multitask.engine.masks import MaskFactors, assemble

COUNT, ROWS, NM = 21, 30, 8  # detections, rows of the file, prototypes; the detections fill groups only in part


def both(height: int, width: int, seed: int = 0, count: int = COUNT) -> tuple[MaskFactors, MaskFactors, torch.Tensor]:
    """Return the same logits as products and as maps of the file's rows, in another order; and boxes in the input."""
    generator = torch.Generator().manual_seed(seed)
    proto = torch.randn(NM, height // 4, width // 4, generator=generator)
    coefficients = torch.randn(ROWS, NM, generator=generator)
    own = torch.randperm(ROWS, generator=generator)[:count]
    logits = (coefficients @ proto.flatten(1)).unflatten(1, proto.shape[1:])
    corner = (torch.rand(count, 2, generator=generator) * 1.4 - 0.2) * torch.tensor([width, height])
    boxes = torch.cat((corner, corner + torch.rand(count, 2, generator=generator) * 80), 1)
    return MaskFactors(proto, weights=coefficients[own]), MaskFactors(logits, own=own), boxes


def check_same(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Check that masks are the same but for a pixel at the threshold, and that there are some."""
    assert found.dtype == expected.dtype == torch.uint8
    assert found.shape == expected.shape
    assert expected.any()
    assert (found != expected).sum() <= 1e-5 * expected.numel()


@pytest.mark.parametrize("size", [(256, 192), (64, 96)])  # in boxes alone, and by the host
def test_logits_are_assembled_as_prototypes(size: tuple[int, int]) -> None:
    products, logits, boxes = both(*size)
    check_same(assemble(logits, boxes, size), assemble(products, boxes, size))


@pytest.mark.parametrize(
    ("how", "size"),
    [(ops.process_mask, (128, 96)), (ops.process_mask_native, (128, 96)), (ops.process_mask_native, (301, 150))],
)
def test_so_does_the_host(how: Any, size: tuple[int, int]) -> None:
    products, logits, boxes = both(128, 96)
    check_same(logits.process(how, boxes, shape=size), how(products.maps, products.weights, boxes, shape=size))


def test_the_host_is_never_handed_many(monkeypatch: pytest.MonkeyPatch) -> None:
    _, logits, boxes = both(64, 96)
    sizes = []

    def how(maps: torch.Tensor, weights: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        sizes.append((len(maps), *weights.shape, len(boxes)))
        return maps > 0

    logits.process(how, boxes)
    assert sizes == [(masks.GROUP,) * 4, (masks.GROUP,) * 4, (COUNT - 2 * masks.GROUP,) * 4]


@pytest.mark.parametrize("size", [(256, 192), (64, 96)])
def test_nothing_found(size: tuple[int, int]) -> None:
    _, logits, boxes = both(*size, count=0)
    assert assemble(logits, boxes, size).shape == (0, *size)
    assert logits.process(ops.process_mask_native, boxes, shape=(50, 40)).shape == (0, 50, 40)
    assert logits.process(ops.process_mask, boxes, shape=size).shape == (0, size[0] // 4, size[1] // 4)
