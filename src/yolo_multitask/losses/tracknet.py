"""Losses of the `TrackNet` head: where the objects of each frame are, and in which cells they are.

An object trains, at every level, the cell that holds it and those around it, in the group of its frame. Its position
is learned in all of them, as distributions (DFL, https://arxiv.org/abs/2006.04388). Its class is learned with focal
loss (https://arxiv.org/abs/1708.02002) in the cell that holds it, against the hardest of those that are not beside an
object: a cell beside one sees nearly the same, and what it says is merged with what that one says.

Shape suffixes: B batch, G groups, F features, R bins, C classes, N elements of all levels, P objects of the batch, M
(object, element) pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from yolo_multitask.nn.features import FeatureSet
from yolo_multitask.nn.heads.tracknet import TrackNet, elements

LOSSES = ("pos_loss", "conf_loss")
HIDDEN = 3  # value of `points_visible` of an object that cannot be seen
GAMMA, ALPHA = 2.0, 0.75  # of the focal loss
NEGATIVES = 100  # hard negatives for each positive: with three, scores stay near the flat optimum of the focal loss
_AROUND = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1))


@dataclass(frozen=True, kw_only=True)
class PointTargets:
    """What the elements of a batch are to say.

    Attributes:
        image_M: Image of each pair.
        element_M: Element that holds the object, or one beside it.
        values_MF: Value of each feature there, in bins.
        fits_MF: Whether a feature is known and can be said. At most one pair of an element has any.
        out_of_range: How many known points cannot be said in the element that holds the object.
        classes_BNC: Whether an object of the class that can be seen is in the element.
        unknown_BNC: Of which classes nothing is known: the frame is not labelled, a hidden object is there, or any is
            in a cell beside.
    """

    image_M: torch.Tensor
    element_M: torch.Tensor
    values_MF: torch.Tensor
    fits_MF: torch.Tensor
    out_of_range: int
    classes_BNC: torch.Tensor
    unknown_BNC: torch.Tensor


class TrackNetLoss:
    """Position and class losses of a `TrackNet` head."""

    def __init__(self, head: TrackNet, args: Any) -> None:
        """Take what the head predicts, and the gains `track_pos` and `track_conf` from `args`."""
        self.features, self.nc = head.features, head.nc
        self.num_groups, self.feat_no, self.reg_max = head.num_groups, head.feat_no, head.reg_max
        self.features.check(self.feat_no, self.reg_max)
        self.stride = head.stride
        self.position_gain, self.class_gain = args.track_pos, args.track_conf

    def __call__(
        self, raw: Mapping[str, Any], batch: Mapping[str, Any]
    ) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
        """Compute the losses.

        Args:
            raw: Raw outputs of the head.
            batch: A batch of windows: `points` (P, 2) normalised, `points_idx`, `points_group`, `points_cls`,
                `points_visible` (P,), `points_labelled` (B, G); `points_next` (P, 2) and `points_has_next` (P,) or
                `points_boxes` (P, 4), normalised cx cy w h, where the features tell such.

        Returns:
            `pos_loss` and `conf_loss`, scaled by their gains; and by name how many elements are behind each, and
            `out_of_range`, the points that the features do not reach.

        Raises:
            ValueError: If the outputs or the labels are not of this head's groups, features, bins or classes.
        """
        positions, scores = _at_least_float32(raw["positions"]), _at_least_float32(raw["scores"])
        self._check(raw, batch)
        shapes = [f.shape[2:] for f in raw["feats"]]
        targets = point_targets(
            self.features, batch, shapes, self.stride, self.num_groups, self.nc, self.reg_max, positions
        )
        logits_MFR = positions[targets.image_M, targets.element_M]
        trained = int(targets.fits_MF.any(1).sum())
        position = distribution_loss(logits_MFR, targets.values_MF, targets.fits_MF) + positions.sum() * 0.0
        frames = int(batch["points_labelled"].sum())
        confidence = confidence_loss(scores, targets.classes_BNC, targets.unknown_BNC, frames)
        counts = {"pos_loss": trained, "conf_loss": frames, "out_of_range": targets.out_of_range}
        return {"pos_loss": position * self.position_gain, "conf_loss": confidence * self.class_gain}, counts

    def _check(self, raw: Mapping[str, Any], batch: Mapping[str, Any]) -> None:
        """Compare the outputs and the labels with what the loss was built for."""
        found = tuple(raw["positions"].shape[2:])
        if found != (self.feat_no, self.reg_max):
            raise ValueError(
                f"TrackNet loss: expected positions of feat_no={self.feat_no}, reg_max={self.reg_max}, found {found}."
            )
        width = self.num_groups * (self.feat_no * self.reg_max + self.nc)
        for feats in raw["feats"]:
            if feats.shape[1] != width:
                raise ValueError(
                    f"TrackNet loss: expected maps of {width} channels, num_groups={self.num_groups} * (feat_no="
                    f"{self.feat_no} * reg_max={self.reg_max} + nc={self.nc}), found {feats.shape[1]}."
                )
        if batch["points_labelled"].shape[1] != self.num_groups:
            raise ValueError(
                f"TrackNet loss: the head has num_groups={self.num_groups}, but the windows of the data have "
                f"{batch['points_labelled'].shape[1]} frames."
            )
        for key, limit, what in (("points_group", self.num_groups, "num_groups"), ("points_cls", self.nc, "nc")):
            if len(batch[key]) and int(batch[key].max()) >= limit:
                raise ValueError(
                    f"TrackNet loss: the head has {what}={limit}, but '{key}' of the labels goes up to "
                    f"{int(batch[key].max())}."
                )
        for point in self.features.points:
            if (key := _KEYS.get(point, f"points_{point}")) not in batch:
                raise ValueError(f"features '{self.features.name}' need '{key}' in the labels, found none.")


_KEYS = {"now": "points", "low": "points_boxes", "high": "points_boxes"}


def point_targets(
    features: FeatureSet,
    batch: Mapping[str, Any],
    shapes: Sequence[Sequence[int]],
    strides: torch.Tensor,
    num_groups: int,
    nc: int,
    reg_max: int,
    like: torch.Tensor,
) -> PointTargets:
    """Return what the elements of a batch are to say.

    Objects outside the input train nothing. Of several objects in an element the position is that of the clearest, and
    among equally clear ones of the first; in an element beside several, likewise.

    Args:
        features: What is regressed.
        batch: See `TrackNetLoss`.
        shapes: Height and width of each level's map.
        strides: Pixels per cell of each level.
        num_groups: Frames of a window, G.
        nc: Classes, C.
        reg_max: Bins, R.
        like: A tensor with the device and the floating type of the values.
    """
    device = like.device
    labelled_BG = batch["points_labelled"].to(device).bool()
    size_2 = torch.tensor([shapes[0][1], shapes[0][0]], device=device) * strides[0].to(like)
    image_P, group_P, cls_P, visible_P = (
        batch[f"points_{key}"].to(device).long().flatten() for key in ("idx", "group", "cls", "visible")
    )
    points, known = _points(features, batch, size_2)
    place_P2 = batch["points"].to(size_2).reshape(-1, 2) * size_2
    inside_P = ((place_P2 >= 0) & (place_P2 <= size_2)).all(1) & labelled_BG[image_P, group_P]

    centres_N2, stride_N, group_N = elements(shapes, strides, num_groups, like)
    classes = torch.zeros(len(labelled_BG), len(group_N), nc, dtype=torch.bool, device=device)
    unknown = (~labelled_BG)[:, group_N][..., None].repeat(1, 1, nc)
    objects, places, ranks, start = [], [], [], 0
    for (height, width), stride in zip(shapes, strides.tolist(), strict=True):
        at_P = (place_P2 / stride).floor().long()
        x_P, y_P = at_P[:, 0].clamp(0, width - 1), at_P[:, 1].clamp(0, height - 1)  # the last border is a cell's too
        first_P = start + group_P * (height * width)
        seen = inside_P & (visible_P != HIDDEN)
        classes[image_P[seen], (first_P + y_P * width + x_P)[seen], cls_P[seen]] = True
        for dy, dx in _AROUND:
            y, x = y_P + dy, x_P + dx
            there = inside_P & (y >= 0) & (y < height) & (x >= 0) & (x < width)
            place_P, beside = first_P + y * width + x, int(bool(dy or dx))
            unknown[image_P[there], place_P[there], cls_P[there]] = True
            objects.append(there.nonzero().flatten())
            places.append(place_P[there])
            ranks.append(visible_P[there] + beside * (HIDDEN + 1))
        start += num_groups * height * width
    object_M, element_M = torch.cat(objects), torch.cat(places)
    rank_M = torch.cat(ranks)
    chosen = _lowest(image_P[object_M] * len(group_N) + element_M, rank_M)
    object_M, element_M, held_M = object_M[chosen], element_M[chosen], rank_M[chosen] <= HIDDEN
    of_M = {name: value[object_M] for name, value in points.items()}
    values = features.encode(of_M, centres_N2[element_M], stride_N[element_M])
    fits = features.in_range(values, reg_max)
    known_MF = torch.stack([known[f.point][object_M] for f in features.features], 1)
    fits_MF = torch.stack(fits, 1)
    first = [[f.point for f in features.features].index(point) for point in features.points]
    return PointTargets(
        image_M=image_P[object_M],
        element_M=element_M,
        values_MF=torch.stack(values, 1),
        fits_MF=fits_MF & known_MF,
        out_of_range=int((known_MF & ~fits_MF)[held_M][:, first].sum()),
        classes_BNC=classes,
        unknown_BNC=unknown & ~classes,
    )


def _points(
    features: FeatureSet, batch: Mapping[str, Any], size_2: torch.Tensor
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return the points that features tell, in input pixels (P, 2), and whether each is known, bool (P,)."""
    points, known = {}, {}
    for name in features.points:
        if name in ("low", "high"):
            box_P4 = batch["points_boxes"].to(size_2).reshape(-1, 4)
            value = box_P4[:, :2] + box_P4[:, 2:] * (0.5 if name == "high" else -0.5)
        else:
            value = batch[_KEYS.get(name, f"points_{name}")].to(size_2).reshape(-1, 2)
        points[name] = value * size_2
        has = batch.get(f"points_has_{name}")
        known[name] = torch.ones_like(value[:, 0], dtype=torch.bool) if has is None else has.to(value.device).bool()
    return points, known


def _lowest(place_M: torch.Tensor, rank_M: torch.Tensor) -> torch.Tensor:
    """Return one index for each place, that of the lowest rank there, the first among equal ones."""
    order = (place_M * len(_AROUND) + rank_M).argsort(stable=True)
    sorted_M = place_M[order]
    first = torch.ones_like(sorted_M, dtype=torch.bool)
    first[1:] = sorted_M[1:] != sorted_M[:-1]
    return order[first]


def distribution_loss(logits_MFR: torch.Tensor, values_MF: torch.Tensor, fits_MF: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy of distributions whose two bins beside a value share it, a scalar.

    Args:
        logits_MFR: Predicted distributions.
        values_MF: Values in bins, 0..R - 1.
        fits_MF: Which of them count; without any the loss is zero, connected to the graph.
    """
    if not fits_MF.any():
        return logits_MFR.sum() * 0.0
    log_KR = logits_MFR[fits_MF].log_softmax(1)
    value_K = values_MF[fits_MF].to(log_KR.dtype)
    low_K = value_K.floor().clamp(max=log_KR.shape[1] - 2).long()
    share_K = value_K - low_K
    low, high = log_KR.gather(1, low_K[:, None])[:, 0], log_KR.gather(1, low_K[:, None] + 1)[:, 0]
    return -(low * (1 - share_K) + high * share_K).mean()


def confidence_loss(
    logits_BNC: torch.Tensor, classes_BNC: torch.Tensor, unknown_BNC: torch.Tensor, frames: int
) -> torch.Tensor:
    """Return the focal loss of the positives and of the hardest negatives, a scalar.

    There are `NEGATIVES` negatives for each positive of the batch, and no fewer than for one positive in each labelled
    frame, so that frames without objects teach too. The sum is divided by the number of positives, or of labelled
    frames where that is larger.

    Args:
        logits_BNC: Class scores.
        classes_BNC: Positives, bool.
        unknown_BNC: What is neither, bool.
        frames: Labelled frames of the batch.
    """
    loss = focal_loss(logits_BNC, classes_BNC.to(logits_BNC.dtype))
    negatives = loss[~(classes_BNC | unknown_BNC)]
    positives = loss[classes_BNC]
    share = max(len(positives), frames, 1)
    hardest = negatives.topk(min(NEGATIVES * share, len(negatives)), sorted=False).values
    return (positives.sum() + hardest.sum()) / share + logits_BNC.sum() * 0.0


def focal_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the elementwise focal binary cross-entropy of targets in {0, 1}: a * (1 - p)^gamma * -log(p), where p is
    the probability of what is true, and a is `ALPHA` where that is 1, and 1 - `ALPHA` elsewhere.
    """
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    wrong = (logits.sigmoid() - target).abs()
    return entropy * wrong.pow(GAMMA) * (target * ALPHA + (1 - target) * (1 - ALPHA))


def _at_least_float32(value: torch.Tensor) -> torch.Tensor:
    return value if value.dtype == torch.float64 else value.float()
