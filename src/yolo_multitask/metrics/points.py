"""How well the positions of small objects are found, as the TrackNet papers count it.

Shapes: P predicted and L labelled points of one frame, M matches, C classes.

Sources: TrackNet (Huang et al., AVSS 2019, arXiv 1907.03698), TrackNetV2 (Sun et al., ICPAI 2020).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from yolo_multitask.metrics.tracking.matching import assign

HIDDEN = 3  # visibility of an object that cannot be seen; 1 is clear, 2 hard to see
SCALE_WIDTH = 640.0  # distances are those of a frame whose longer side has this many pixels
POINT_PX = 4.0  # TrackNetV2's tolerance


def pixel_scale(size: tuple[int, int]) -> float:
    """Return what turns pixels of a frame of height and width `size` into pixels at 640 x 360: 640 / longer side."""
    return SCALE_WIDTH / max(size)


def match_points(
    pred_P2: NDArray[np.float64], label_L2: NDArray[np.float64], threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Match points one to one: as many pairs within the threshold as there can be, then the least sum of distances.

    Args:
        pred_P2: Predicted points x y.
        label_L2: Labelled points x y, in the same unit.
        threshold: Greatest distance of a match, above 0, itself included.

    Returns:
        The predicted and the labelled point of each match, int (M,), and their distance, float (M,).

    >>> pred, label = np.array([[0.0, 0], [3, 0]]), np.array([[2.0, 0], [-2, 0]])
    >>> [part.tolist() for part in match_points(pred, label, 4.0)]
    [[0, 1], [1, 0], [2.0, 1.0]]
    """
    distance_PL = np.linalg.norm(pred_P2[:, None] - label_L2[None], axis=2)
    pred, label = np.nonzero(distance_PL <= threshold)
    near = distance_PL[pred, label]
    # One match more outweighs any difference of distance: a weight lies in k..k+1 where there are k matches at most.
    weight = min(distance_PL.shape) + 1 - near / threshold
    chosen = assign(pred, label, weight, np.zeros(len(pred), np.int64))
    return pred[chosen], label[chosen], near[chosen]


@dataclass(frozen=True, kw_only=True)
class PointCounts:
    """Counts of one class, and the figures that follow from them, in 0..1 where not said otherwise.

    A prediction that is not within the threshold of its object is counted once, as `fp1`, and its object not as `fn`
    too, as in TrackNetV2; `located` is the share of the objects that were found in their place.

    Attributes:
        tp: Predictions that match an object.
        fp1: Predictions that match none in a frame with an object: at the wrong place, or one too many.
        fp2: Predictions in a frame without an object.
        fn: Objects without a match, less the predictions at the wrong place in their frame.
        tn: Frames with neither an object nor a prediction.
        labels: Objects that are labelled and not hidden.
        error_sum: Sum of the distances of the matches, pixels at 640 x 360.

    >>> counts = PointCounts(tp=90, fp1=4, fp2=6, fn=10, tn=40, labels=104, error_sum=135.0)
    >>> counts.precision, counts.recall, round(counts.f1, 4), round(counts.accuracy, 4), counts.error
    (0.9, 0.9, 0.9, 0.8667, 1.5)
    """

    tp: int = 0
    fp1: int = 0
    fp2: int = 0
    fn: int = 0
    tn: int = 0
    labels: int = 0
    error_sum: float = 0.0

    def __add__(self, other: PointCounts) -> PointCounts:
        """Return the counts of both."""
        return PointCounts(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    @property
    def precision(self) -> float:
        """TP / (TP + FP1 + FP2); 0 without predictions."""
        return self.tp / max(1, self.tp + self.fp1 + self.fp2)

    @property
    def recall(self) -> float:
        """TP / (TP + FN); 0 without objects."""
        return self.tp / max(1, self.tp + self.fn)

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP1 + FP2 + FN), the harmonic mean of precision and recall."""
        return 2 * self.tp / max(1, 2 * self.tp + self.fp1 + self.fp2 + self.fn)

    @property
    def accuracy(self) -> float:
        """(TP + TN) / (TP + TN + FP1 + FP2 + FN)."""
        return (self.tp + self.tn) / max(1, self.tp + self.tn + self.fp1 + self.fp2 + self.fn)

    @property
    def located(self) -> float:
        """TP / labelled objects."""
        return self.tp / max(1, self.labels)

    @property
    def error(self) -> float:
        """Mean distance of the matches in pixels at 640 x 360; NaN without matches."""
        return self.error_sum / self.tp if self.tp else float("nan")


def count_frame(
    pred_P2: NDArray[np.float64], label_L2: NDArray[np.float64], hidden_L: NDArray[np.bool_], threshold: float
) -> PointCounts:
    """Return the counts of one class in one frame.

    Objects that can be seen are matched first. A hidden object takes one prediction that is left within the threshold,
    which then counts as nothing; where it takes none, nothing is missed.

    Args:
        pred_P2: Predicted points.
        label_L2: Labelled points, both in pixels at 640 x 360.
        hidden_L: Which of them cannot be seen.
        threshold: Greatest distance of a match.
    """
    found, _, distance = match_points(pred_P2, label_L2[~hidden_L], threshold)
    left = np.delete(pred_P2, found, axis=0)
    excused = len(match_points(left, label_L2[hidden_L], threshold)[0])
    wrong, seen = len(left) - excused, int((~hidden_L).sum())
    return PointCounts(
        tp=len(found),
        fp1=wrong if len(label_L2) else 0,
        fp2=0 if len(label_L2) else wrong,
        fn=max(0, seen - len(found) - wrong),
        tn=int(not len(label_L2) and not len(pred_P2)),
        labels=seen,
        error_sum=float(distance.sum()),
    )


class PointMetrics:
    """Counts the frames of any number of clips, by class.

    >>> metrics = PointMetrics(names={0: "ball"})
    >>> metrics.update([[100, 50]], [0], [[103, 54]], [0], [1], size=(360, 640))  # 5 px away
    >>> metrics.update([[200, 100]], [0], [[203, 104]], [0], [1], size=(720, 1280))  # 2.5 px at 640 x 360
    >>> metrics.update([], [], [[9, 9]], [0], [2], size=(360, 640))
    >>> metrics.update([[5, 5]], [0], [], [], [], size=(360, 640))
    >>> metrics.results_dict["metrics/TP(T)"], metrics.results_dict["metrics/FP1(T)"], metrics.counts.fp2
    (1, 1, 1)
    >>> round(metrics.precision, 3), metrics.recall, metrics.f1, metrics.error
    (0.333, 0.5, 0.4, 2.5)

    Attributes:
        names: Name of each class that is counted.
        threshold: Greatest distance of a match in pixels at 640 x 360, that is of distance x 640 / max(height, width).
        per_class: Counts of each class.
        frames: Labelled frames so far.
    """

    def __init__(self, names: Mapping[int, str], threshold: float = POINT_PX) -> None:
        """Start with no frames.

        Args:
            names: See the attribute.
            threshold: See the attribute.

        Raises:
            ValueError: The threshold is not above 0.
        """
        if not threshold > 0:
            raise ValueError(f"expected a threshold (point_px) above 0 pixels, found {threshold}.")
        self.names = dict(names)
        self.threshold = float(threshold)
        self.per_class = {c: PointCounts() for c in self.names}
        self.frames = 0

    def update(
        self,
        xy: ArrayLike,
        cls: ArrayLike,
        label_xy: ArrayLike,
        label_cls: ArrayLike,
        visible: ArrayLike,
        *,
        size: tuple[int, int],
        labelled: bool = True,
    ) -> None:
        """Add one frame.

        Args:
            xy: Predicted points (P, 2), pixels of the frame.
            cls: Their classes (P,); those that are not in `names` are passed over.
            label_xy: Labelled points (L, 2), pixels of the frame.
            label_cls: Their classes (L,).
            visible: Visibility (L,): 1 clear, 2 hard to see, 3 hidden.
            size: Height and width of the frame.
            labelled: Whether somebody has looked at the frame; one that is not labelled is skipped.

        Raises:
            ValueError: Points, classes and visibilities differ in number.
        """
        pred, pred_cls = _points(xy), np.asarray(cls).reshape(-1)
        label, of, seen = _points(label_xy), np.asarray(label_cls).reshape(-1), np.asarray(visible).reshape(-1)
        if len(pred) != len(pred_cls) or not len(label) == len(of) == len(seen):
            raise ValueError(
                "expected as many classes as predicted points, and as many classes and visibilities as labelled ones, "
                f"found {len(pred)} points and {len(pred_cls)} classes, {len(label)} labels, {len(of)} classes and "
                f"{len(seen)} visibilities."
            )
        if not labelled:
            return
        self.frames += 1
        scale = pixel_scale(size)
        for c, counts in self.per_class.items():
            mine = of == c
            frame = count_frame(pred[pred_cls == c] * scale, label[mine] * scale, seen[mine] == HIDDEN, self.threshold)
            self.per_class[c] = counts + frame

    def merge(self, other: PointMetrics) -> None:
        """Add the frames of another one with the same classes, as of another process.

        Raises:
            ValueError: Its classes or its threshold differ.
        """
        if (self.names, self.threshold) != (other.names, other.threshold):
            raise ValueError(
                f"expected the classes {self.names} and the threshold {self.threshold}, found {other.names} and "
                f"{other.threshold}."
            )
        self.frames += other.frames
        self.per_class = {c: counts + other.per_class[c] for c, counts in self.per_class.items()}

    @property
    def counts(self) -> PointCounts:
        """The counts of all classes together."""
        return sum(self.per_class.values(), PointCounts())

    @property
    def precision(self) -> float:
        """See `PointCounts.precision`, of all classes together."""
        return self.counts.precision

    @property
    def recall(self) -> float:
        """See `PointCounts.recall`, of all classes together."""
        return self.counts.recall

    @property
    def f1(self) -> float:
        """See `PointCounts.f1`, of all classes together."""
        return self.counts.f1

    @property
    def error(self) -> float:
        """See `PointCounts.error`, of all classes together."""
        return self.counts.error

    @property
    def results_dict(self) -> dict[str, float]:
        """The figures of all classes together by key."""
        total = self.counts
        figures = {"precision": total.precision, "recall": total.recall, "F1": total.f1, "error": total.error}
        numbers = {"TP": total.tp, "FP1": total.fp1, "FP2": total.fp2, "FN": total.fn}
        return {f"metrics/{name}(T)": value for name, value in {**figures, **numbers}.items()}


def _points(values: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(values, np.float64).reshape(-1, 2)
