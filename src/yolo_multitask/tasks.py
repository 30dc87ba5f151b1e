"""The tasks, in one place: what each is called, trained with, measured by and exported as.

`SPECS` is the map of the package. A task has one file of the same name at each stage: `nn/branches/<task>.py` (the
layers it adds to the head), `losses/<task>.py`, `metrics/<task>.py`. Registries of those stages are keyed by the
names here, and a test keeps their keys equal. This module imports neither torch nor ultralytics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

TASK = "multitask"  # what the host calls a model of this package
TASKS = ("detect", "segment", "pose", "track")
BRANCH_TASKS = ("segment", "pose", "track")  # add a branch to the shared head; `detect` is the head itself
DEFAULT_MODEL = "yolov8n-multitask.yaml"


@dataclass(frozen=True, kw_only=True)
class TaskSpec:
    """One task, from its label to its metric.

    Attributes:
        name: Task name, as in `args.tasks` and in the YAML key `tasks`.
        letter: Suffix of its metric keys, as in `metrics/mAP50-95(B)`.
        title: Column title in the validation table and prefix of its curve plots.
        label: The field of a label line that trains it.
        flag: Batch key that says which instances are labelled for it, bool (N,); None where all are.
        raw: Keys that its branch adds to the head's raw output; `next` only where the branch predicts it. Those of
            YOLO26 add `semantic` and `kpts_sigma` in training.
        losses: Names of its loss items, in the order in which they are logged; `next_loss` only with `next`.
        gains: Configuration keys that scale its losses.
        more: Losses that only the heads of YOLO26 have, with the gain of each; `l1_loss` stands in place of `dfl_loss`.
        metric: Attribute of `MultiTaskMetrics` that holds its results, as in the host.
        precision: Whether it is measured by average precision, frame by frame.
    """

    name: str
    letter: str
    title: str
    label: str
    flag: str | None
    raw: tuple[str, ...]
    losses: tuple[str, ...]
    gains: tuple[str, ...]
    metric: str
    precision: bool
    more: Mapping[str, str] = field(default_factory=dict)


SPECS: dict[str, TaskSpec] = {
    "detect": TaskSpec(
        name="detect",
        letter="B",
        title="Box",
        label="box",
        flag=None,
        raw=("boxes", "scores", "feats"),
        losses=("box_loss", "cls_loss", "dfl_loss"),
        gains=("box", "cls", "dfl"),
        metric="box",
        precision=True,
        more={"l1_loss": "dfl"},
    ),
    "segment": TaskSpec(
        name="segment",
        letter="M",
        title="Mask",
        label="polygons",
        flag="has_mask",
        raw=("mask_coefficient", "proto"),
        losses=("seg_loss",),
        gains=("seg",),
        metric="seg",
        precision=True,
        more={"sem_loss": "seg"},
    ),
    "pose": TaskSpec(
        name="pose",
        letter="P",
        title="Pose",
        label="keypoints",
        flag="has_keypoints",
        raw=("kpts",),
        losses=("pose_loss", "kobj_loss"),
        gains=("pose", "kobj"),
        metric="pose",
        precision=True,
        more={"rle_loss": "rle"},
    ),
    "track": TaskSpec(
        name="track",
        letter="T",
        title="Track",
        label="ids",
        flag="has_id",
        raw=("appearance", "next"),
        losses=("reid_loss", "next_loss"),
        gains=("reid", "motion"),
        metric="track",
        precision=False,
    ),
}


@dataclass(frozen=True, kw_only=True)
class RowLayout:
    """Where each value of an output row stands.

    A decoded anchor row of the head is `[cx cy w h | cls nc | kpt nk | mask nm | embed ne | next nb]`; after NMS
    it is `[x1 y1 x2 y2 conf cls | kpt nk | mask nm | embed ne | next nb]`. The slices below are those after NMS, for an
    axis of length `6 + extra`.

    Attributes:
        nc: Number of classes.
        nk: Keypoint values per row, K * D, or 0.
        nm: Mask coefficients per row, or 0.
        ne: Embedding values per row, or 0.
        nb: Values of the box in the next frame per row, 4 or 0.
    """

    nc: int
    nk: int = 0
    nm: int = 0
    ne: int = 0
    nb: int = 0

    @property
    def extra(self) -> int:
        """Number of values after the class scores."""
        return self.nk + self.nm + self.ne + self.nb

    @property
    def kpt(self) -> slice:
        """Keypoints, flattened K * D, in input pixels."""
        return slice(6, 6 + self.nk)

    @property
    def mask(self) -> slice:
        """Mask coefficients."""
        return slice(self.kpt.stop, self.kpt.stop + self.nm)

    @property
    def embed(self) -> slice:
        """Embedding."""
        return slice(self.mask.stop, self.mask.stop + self.ne)

    @property
    def next(self) -> slice:
        """Box in the next frame, x1 y1 x2 y2 in input pixels."""
        return slice(self.embed.stop, self.embed.stop + self.nb)
