"""What a branch learns from, computed once: views of the training images as a frozen trunk sees them.

A view is an image under one draw of the augmentation. Of it is kept what the branch reads at the anchors that objects
with a label for the task are assigned to (see `nn.stored`), with the assignment and the targets. The trunk does not
change, so neither do these, and each epoch costs the branch alone.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch.utils.data import DataLoader, Subset
from ultralytics.utils import LOGGER, TQDM

from yolo_multitask.data.columns import HAS_KEYPOINTS, IGNORE
from yolo_multitask.losses.detect import Assignment, DetectLoss
from yolo_multitask.losses.multitask import LossItems
from yolo_multitask.losses.pose import PoseLoss
from yolo_multitask.nn.network import MultiTaskModel
from yolo_multitask.nn.sites import Sites
from yolo_multitask.nn.stored import StoredSites, reach

CACHED_TASKS = ("pose",)  # the branches that read nothing but the surroundings of their anchors
RAM_SHARE = 0.5  # of the memory that is free, which views may take
_CHUNK = 8  # images that the trunk sees at once


@dataclass(frozen=True, kw_only=True)
class View:
    """One view of an image: its anchors with a label for the task.

    Attributes:
        sites: What the branch reads at the anchors.
        anchors_N2: Anchor points in grid units.
        strides_N1: Pixels per grid unit.
        boxes_N4: Box of the object of each anchor, x1 y1 x2 y2 in input pixels.
        instance_N: Index of that object in `keypoints`.
        keypoints: Of the objects of the image, normalised, (M, K, 3).
        imgsz_2: Height and width of the input in pixels.
        fixed: Losses of boxes and classes, which do not change, in the batch that the view was in.
    """

    sites: StoredSites
    anchors_N2: torch.Tensor
    strides_N1: torch.Tensor
    boxes_N4: torch.Tensor
    instance_N: torch.Tensor
    keypoints: torch.Tensor
    imgsz_2: torch.Tensor
    fixed: dict[str, float]

    @property
    def nbytes(self) -> int:
        """Bytes that it takes, nearly."""
        return self.sites.nbytes + self.keypoints.nbytes + 40 * len(self.sites)


@dataclass(frozen=True, kw_only=True)
class ViewBatch:
    """Views as one image with the anchors of all, which is how the losses take them.

    Attributes:
        sites: What the branch reads at the anchors.
        assigned: The assignment: every anchor has an object.
        targets: `keypoints` (M, K, 3) and `has_keypoints` (M,), all true.
        fixed: Losses of boxes and classes, averaged over the views.
        count: Number of views.
    """

    sites: StoredSites
    assigned: Assignment
    targets: dict[str, torch.Tensor]
    fixed: dict[str, float]
    count: int

    @classmethod
    def join(cls, views: Sequence[View], device: torch.device | str = "cpu") -> ViewBatch:
        """Return views as a batch on a device."""
        starts = np.cumsum([0, *(len(view.keypoints) for view in views)])
        instance = torch.cat([v.instance_N + int(s) for v, s in zip(views, starts, strict=False)]).to(device)[None]
        assigned = Assignment(
            fg_BA=torch.ones_like(instance, dtype=torch.bool),
            gt_BA=instance,
            instance_BA=instance,
            boxes_BA4=torch.cat([v.boxes_N4 for v in views]).to(device)[None],
            anchors_A2=torch.cat([v.anchors_N2 for v in views]).to(device),
            strides_A1=torch.cat([v.strides_N1 for v in views]).to(device),
            imgsz_2=views[0].imgsz_2.to(device),
        )
        keypoints = torch.cat([v.keypoints for v in views]).to(device)
        has = torch.ones(len(keypoints), dtype=torch.bool, device=device)
        return cls(
            sites=StoredSites.join([v.sites for v in views], device),
            assigned=assigned,
            targets={"keypoints": keypoints, "has_keypoints": has},
            fixed={key: float(np.mean([v.fixed[key] for v in views])) for key in views[0].fixed},
            count=len(views),
        )


class ViewLoss:
    """The loss of the branch on views; the other losses are those that the views were kept with."""

    def __init__(self, model: MultiTaskModel, task: str) -> None:
        """Take the branch of a task out of a model with `args` attached."""
        self.branch: Any = model.head.branches[task]
        self.loss = PoseLoss(model.head, model.args, getattr(model, "kpt_oks_sigmas", None))

    def __call__(self, _: Any, batch: dict[str, Any]) -> tuple[torch.Tensor, LossItems]:
        """Return what `MultiTaskLoss` returns for the batch of images that the views come from."""
        views: ViewBatch = batch["views"]
        raw = self.branch.at(views.sites, views.assigned.boxes_BA4, ())
        items, counts = self.loss(raw, views.assigned, views.targets)
        total = torch.stack(list(items.values())) * views.count
        fixed = {key: total.new_tensor(value) for key, value in views.fixed.items()}
        return total, LossItems({**fixed, **{k: v.detach() for k, v in items.items()}}, counts)


def labelled_images(dataset: Any) -> list[int]:
    """Return the indices of the images that show an object whose keypoints are labelled."""
    chosen = [(label["cls"][:, HAS_KEYPOINTS] > 0) & (label["cls"][:, IGNORE] == 0) for label in dataset.labels]
    return [i for i, mine in enumerate(chosen) if mine.any()]


@contextmanager
def _boxes_only(model: MultiTaskModel) -> Iterator[None]:
    """Let a model compute no branch inside the `with`."""
    head, training, active = model.head, model.training, model.head.active
    model.eval()
    head.active = ("detect",)
    try:
        yield
    finally:
        model.train(training)
        head.active = active


@torch.no_grad()
def look(model: MultiTaskModel, task: str, detect: DetectLoss, batch: dict[str, Any]) -> list[View]:
    """Return the views in a batch of images that show a labelled object.

    Args:
        model: The model, in which everything but the branch is as it will stay.
        task: The task of the branch.
        detect: The loss that assigns.
        batch: A batch as the trainer preprocesses it.
    """
    branch: Any = model.head.branches[task]
    with _boxes_only(model):
        _, raw = model(batch["img"])
        assigned, items = detect(raw, batch)
    fixed = {key: float(value) for key, value in items.items()}
    fg_BA = assigned.labelled(batch["has_keypoints"])
    image_N, anchor_N = fg_BA.nonzero(as_tuple=True)
    sites = StoredSites.keep(Sites(raw["feats"], model.head.stride, image_N, anchor_N), reach(branch.convs))
    found = []
    owner = batch["batch_idx"].cpu()
    for image, mine in enumerate(sites.split(image_N.cpu(), len(fg_BA))):
        if not len(mine):
            continue
        anchors = anchor_N[image_N == image]
        view = View(
            sites=mine,
            anchors_N2=assigned.anchors_A2[anchors].cpu(),
            strides_N1=assigned.strides_A1[anchors].cpu(),
            boxes_N4=assigned.boxes_BA4[image, anchors].cpu(),
            instance_N=assigned.gt_BA[image, anchors].cpu(),
            keypoints=batch["keypoints"].cpu()[owner == image].float(),
            imgsz_2=assigned.imgsz_2.cpu(),
            fixed=fixed,
        )
        found.append(view)
    return found


class ViewStore:
    """A list of views, in memory up to a limit, beyond it in files of a folder that goes with this object."""

    def __init__(self, parent: Path, limit: float) -> None:
        """Keep up to `limit` bytes in memory, and files below `parent`."""
        self.limit, self.parent = limit, parent
        self.nbytes = self.bytes_on_disk = 0
        self._kept: list[View | Path] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __len__(self) -> int:
        """Return the number of views."""
        return len(self._kept)

    def __getitem__(self, i: int) -> View:
        """Return a view."""
        kept = self._kept[i]
        return kept if isinstance(kept, View) else torch.load(kept, weights_only=False)  # written by this object

    def append(self, view: View) -> None:
        """Add a view.

        Raises:
            OSError: If there is no room for it on the disk.
        """
        if self.nbytes + view.nbytes <= self.limit:
            self.nbytes += view.nbytes
            self._kept.append(view)
            return
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="views-", dir=self.parent, ignore_cleanup_errors=True)
        free = shutil.disk_usage(self.parent).free
        if free < 2 * view.nbytes:
            raise OSError(
                f"{self.parent}: no room for the features of view {len(self) + 1} ({view.nbytes} bytes, {free} free). "
                "Take fewer views (views=1), another disk (project=DIR), or cache=False."
            )
        file = Path(self._folder.name) / f"{len(self)}.pt"
        torch.save(view, file)
        self.bytes_on_disk += view.nbytes
        self._kept.append(file)

    def close(self) -> None:
        """Let go of the views and remove their files."""
        self._kept = []
        if self._folder is not None:
            self._folder.cleanup()


@dataclass
class ViewLoader:
    """Batches of views in random order, in the place of the host's training loader.

    Attributes:
        store: The views.
        dataset: The data set that they were drawn from.
        batch_size: Views in a batch.
        imgsz: Side of the network's input.
        rng: Draws the order of each epoch.
    """

    store: ViewStore
    dataset: Any
    batch_size: int
    imgsz: int
    rng: random.Random = field(default_factory=random.Random)
    num_workers = 0

    def __len__(self) -> int:
        """Return the number of batches."""
        return -(-len(self.store) // self.batch_size)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the batches of an epoch: `views`, and of `img` and `cls` the shapes that the host logs."""
        order = self.rng.sample(range(len(self.store)), len(self.store))
        for batch in np.array_split(order, len(self)):
            views = [self.store[i] for i in batch]
            objects = sum(len(view.instance_N.unique()) for view in views)
            shapes = {"img": torch.empty(len(views), 0, self.imgsz, self.imgsz), "cls": torch.empty(objects, 0)}
            yield {"views": views, **shapes}

    def reset(self) -> None:
        """Do nothing: the augmentation of the views is fixed."""

    def close(self) -> None:
        """Let go of the views."""
        self.store.close()


def collect(trainer: Any, model: MultiTaskModel, task: str) -> ViewLoader:
    """Draw `args.views` views of each training image that shows a labelled object, and return their loader.

    Args:
        trainer: The trainer, with its ordinary loader.
        model: Its network, on the device.
        task: The task of the branch.

    Raises:
        ValueError: If no image shows a labelled object.
        OSError: See `ViewStore.append`.
    """
    args, dataset = trainer.args, trainer.train_loader.dataset
    chosen = labelled_images(dataset)
    if not chosen:
        raise ValueError(
            f"alone={task} needs objects with keypoints, but the training images of data '{args.data}' show none: "
            f"{dataset.scan.counts['instances']} instances, none labelled."
        )
    limit = 0.0 if args.cache == "disk" else RAM_SHARE * psutil.virtual_memory().available
    store = ViewStore(trainer.save_dir, limit)
    loader = DataLoader(
        Subset(dataset, chosen * args.views),
        batch_size=_CHUNK,
        num_workers=args.workers,
        collate_fn=dataset.collate_fn,
    )
    detect = DetectLoss(model)
    bar = TQDM(loader, desc=f"Looking at {len(chosen)} images, {args.views} views of each", total=len(loader))
    for batch in bar:
        for view in look(model, task, detect, trainer.preprocess_batch(batch)):
            store.append(view)
    if not len(store):
        raise ValueError(f"alone={task}: no object of {len(chosen)} images is in any view. Augment less (scale=0.3).")
    kept = " and ".join(f"{n / 2**20:.0f} MB {where}" for n, where in
                        ((store.nbytes, "in memory"), (store.bytes_on_disk, "on disk")) if n)  # fmt: skip
    LOGGER.info(
        f"{len(store)} views of the {len(chosen)} images that have {task} labels ({len(dataset)} in all), {kept}. "
        "An epoch is every view once."
    )
    return ViewLoader(store, dataset, trainer.batch_size, args.imgsz, random.Random(args.seed))
