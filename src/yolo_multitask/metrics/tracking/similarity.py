"""Similarity of labelled and predicted objects of one frame: boxes, masks, keypoints.

Shapes: G labelled and T predicted objects, K keypoints; pixels of one frame.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

CHUNK = 1 << 16  # pixels of all masks that are multiplied at once; sums of so many are exact in single precision


def box_similarity(gt_G4: ArrayLike, pred_T4: ArrayLike) -> NDArray[np.float64]:
    """Return the intersection over union of boxes, (G, T) in 0..1; a box without area has 0 with every box.

    Args:
        gt_G4: x1 y1 x2 y2 of the labelled boxes, pixels.
        pred_T4: The same of the predicted boxes.

    Raises:
        ValueError: An array is not (N, 4) or has values that are not finite.

    >>> box_similarity([[0, 0, 4, 4]], [[2, 0, 6, 4], [0, 0, 4, 4], [10, 10, 12, 12]]).round(3).tolist()
    [[0.333, 1.0, 0.0]]
    """
    gt, pred = (finite(name, x, (4,)) for name, x in (("labelled boxes", gt_G4), ("predicted boxes", pred_T4)))
    low = np.maximum(gt[:, None, :2], pred[None, :, :2])
    high = np.minimum(gt[:, None, 2:], pred[None, :, 2:])
    inter = (high - low).clip(0).prod(-1)
    area_G, area_T = ((x[:, 2:] - x[:, :2]).clip(0).prod(-1) for x in (gt, pred))
    return over(inter, area_G[:, None] + area_T - inter)


def mask_similarity(gt_GHW: ArrayLike, pred_THW: ArrayLike) -> NDArray[np.float64]:
    """Return the intersection over union of masks, (G, T) in 0..1; an empty mask has 0 with every mask.

    Args:
        gt_GHW: Labelled masks (G, H, W), bool, or integers that are 0 outside.
        pred_THW: Predicted masks (T, H, W), of the same frame.

    Raises:
        ValueError: An array is not of that shape or type, or the sizes differ.

    >>> gt, pred = np.zeros((1, 4, 4), bool), np.zeros((2, 4, 4), bool)
    >>> gt[0, :, :2] = pred[0, :2] = True
    >>> mask_similarity(gt, pred).round(3).tolist()
    [[0.333, 0.0]]
    """
    gt, pred = np.asarray(gt_GHW), np.asarray(pred_THW)
    for name, masks in (("labelled", gt), ("predicted", pred)):
        if masks.ndim != 3 or masks.dtype.kind not in "biu":
            raise ValueError(f"Expected {name} masks (N, H, W) of bool, found shape {masks.shape} of {masks.dtype}.")
    if gt.shape[1:] != pred.shape[1:]:
        raise ValueError(
            f"Expected masks of one size, found {gt.shape[1:]} labelled and {pred.shape[1:]} predicted; resize one."
        )
    gt_GX, pred_TX = (x.reshape(len(x), x.shape[1] * x.shape[2]) for x in (gt, pred))
    inter, area_G, area_T = np.zeros((len(gt), len(pred))), np.zeros(len(gt)), np.zeros(len(pred))
    for start in range(0, gt_GX.shape[1], CHUNK):
        a, b = ((x[:, start : start + CHUNK] != 0).astype(np.float32) for x in (gt_GX, pred_TX))
        inter += a @ b.T
        area_G += a.sum(1)
        area_T += b.sum(1)
    return over(inter, area_G[:, None] + area_T - inter)


def oks_similarity(
    gt_GK3: ArrayLike, pred_TK: ArrayLike, areas_G: ArrayLike, sigmas_K: ArrayLike
) -> NDArray[np.float64]:
    """Return the object keypoint similarity of COCO, (G, T) in 0..1.

    It is the mean over the labelled object's keypoints with visibility above 0 of exp(-d^2 / (2 area (2 sigma)^2)), d
    the distance in pixels; 0 for an object without such keypoints.

    Args:
        gt_GK3: Labelled keypoints x, y in pixels and visibility, (G, K, 3).
        pred_TK: Predicted keypoints (T, K, 2) or (T, K, 3), of which x and y are used.
        areas_G: Areas of the labelled objects in square pixels, above 0.
        sigmas_K: Spread of each keypoint relative to the object's size, above 0.

    Raises:
        ValueError: An array is not of that shape, not finite, or not positive where it has to be.

    >>> gt = [[[10, 10, 2], [20, 10, 0]]]
    >>> pred = [[[10, 10], [50, 50]], [[13, 14], [20, 10]]]
    >>> oks_similarity(gt, pred, areas_G=[100], sigmas_K=[0.25, 0.25]).round(3).tolist()
    [[1.0, 0.607]]
    """
    sigmas, areas = positive("sigmas", sigmas_K), positive("areas", areas_G)
    gt = finite("labelled keypoints", gt_GK3, (len(sigmas), 3))
    found = np.shape(pred_TK)[-1:]
    pred = finite("predicted keypoints", pred_TK, (len(sigmas), 2 if found == (2,) else 3))
    if len(areas) != len(gt):
        raise ValueError(f"Expected one area for each of {len(gt)} labelled objects, found {len(areas)}.")
    square_GTK = ((gt[:, None, :, :2] - pred[None, :, :, :2]) ** 2).sum(-1)
    near_GTK = np.exp(-square_GTK / (2 * areas[:, None, None] * (2 * sigmas) ** 2))
    seen_GK = gt[:, :, 2] > 0
    return over((near_GTK * seen_GK[:, None]).sum(-1), np.broadcast_to(seen_GK.sum(-1)[:, None], near_GTK.shape[:2]))


def over(part: NDArray[np.float64], whole: NDArray) -> NDArray[np.float64]:
    """Return part / whole, and 0 where the whole is 0."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def finite(name: str, values: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return `values` as float64 (N, *shape); an empty list stands for N = 0.

    Raises:
        ValueError: They have another shape or are not finite.
    """
    array = np.asarray(values, np.float64)
    if array.shape == (0,):
        array = array.reshape(0, *shape)
    if array.shape[1:] != shape or array.ndim != len(shape) + 1:
        raise ValueError(f"Expected {name} of shape (N, {', '.join(map(str, shape))}), found {array.shape}.")
    if not np.isfinite(array).all():
        raise ValueError(f"Expected {name} to be finite, found {array[~np.isfinite(array)][0]}.")
    return array


def positive(name: str, values: ArrayLike) -> NDArray[np.float64]:
    """Return `values` as float64 (N,).

    Raises:
        ValueError: They are not one row of positive finite numbers.
    """
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or not ((array > 0) & np.isfinite(array)).all():
        raise ValueError(f"Expected {name} as one row of positive numbers, found {array.tolist()}.")
    return array
