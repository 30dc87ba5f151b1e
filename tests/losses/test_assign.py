"""Assignment by masks and keypoints: what decides is what an instance is labelled for."""

from __future__ import annotations

import pytest
import torch
from ultralytics.utils.tal import PoseTaskAlignedAssigner, TaskAlignedAssigner

from yolo_multitask import host
from yolo_multitask.losses.assign import (
    QualityAssigner,
    pad_instances,
    quality_assigner,
    quality_inputs,
    with_visibility,
)
from yolo_multitask.nn.branches import PoseBranch, PoseBranch26, SegmentBranch, SegmentBranch26

CH = (8, 8, 8)
BASE = TaskAlignedAssigner(topk=5, num_classes=1, alpha=0.5, beta=6.0, stride=[8, 16, 32])
SIGMAS = torch.full((1,), 0.2)
masks_too = pytest.mark.skipif(host.mask_assigner() is None, reason="this Ultralytics does not assign by masks")


def pair_inputs() -> tuple[tuple, torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """Return three anchors in one instance each: the box is perfect, the mask half as large, the keypoint away."""
    box = torch.tensor([[[0.0, 0, 8, 8]] * 3])
    indices = (torch.zeros(3, dtype=torch.long), torch.arange(3), torch.arange(3))
    mask = torch.zeros(1, 3, 4, 4, dtype=torch.bool)
    mask[:, :, :2, :] = True
    return (
        indices,
        box,
        box.clone(),
        {
            "scores": torch.ones(1, 3, 1),
            "labels": torch.zeros(1, 3, 1),
            "pd_coef": torch.ones(1, 3, 1),
            "mask_scale": torch.full((1, 1), 0.5),
            "proto": torch.ones(1, 1, 4, 4),
            "gt_masks": mask,
            "has_mask": torch.tensor([[True, True, False]]),
            "pd_kpts": torch.zeros(1, 3, 1, 2),
            "gt_kpts": torch.tensor([[[[6.0, 0, 2]], [[6.0, 0, 0]], [[6.0, 0, 2]]]]),
        },
    )


def assigner(segment: bool, pose: bool) -> QualityAssigner:
    """Return an assigner for branches of YOLO26."""
    branches = {"segment": SegmentBranch26(CH, 2, 8, 1)} if segment else {}
    branches |= {"pose": PoseBranch26(CH, (1, 3))} if pose else {}
    made = quality_assigner(BASE, branches, SIGMAS)
    assert isinstance(made, QualityAssigner)
    made.bs, made.n_max_boxes = 1, 3
    return made


def oks() -> float:
    """Return the similarity of a keypoint 6 pixels away."""
    return float(torch.exp(torch.tensor(-36.0 / ((2 * 0.2) ** 2 * 64 * 0.53 * 2))))


@masks_too
def test_what_is_labelled_decides() -> None:
    indices, gt, boxes, extra = pair_inputs()
    of_masks = assigner(True, False).pair_overlaps(indices, gt, boxes, **extra)
    torch.testing.assert_close(of_masks, torch.tensor([0.75, 0.75, 1.0]))  # boxes 1, masks 0.5
    both = assigner(True, True).pair_overlaps(indices, gt, boxes, **extra)
    torch.testing.assert_close(both, torch.tensor([(0.75 + oks()) / 2, 0.75, (1 + oks()) / 2]))


def test_keypoints_alone_are_as_in_the_host() -> None:
    indices, gt, boxes, extra = pair_inputs()
    theirs = PoseTaskAlignedAssigner(SIGMAS, topk=5, num_classes=1, alpha=0.5, beta=6.0, stride=[8, 16, 32])
    expected = theirs.pair_overlaps(indices, gt, boxes, extra["pd_kpts"], extra["gt_kpts"])
    found = assigner(False, True).pair_overlaps(indices, gt, boxes, **extra)
    assert torch.equal(found, expected)
    assert found[0] < found[1] == 1


def test_other_branches_leave_the_assignment_to_boxes() -> None:
    branches = {"segment": SegmentBranch(CH, 2, 8), "pose": PoseBranch(CH, (1, 3))}
    assert quality_assigner(BASE, branches, SIGMAS) is BASE
    assert quality_inputs(BASE, {}, {}, torch.tensor([8.0]), overlap=True) == {}


def test_unlabelled_keypoints_are_not_seen() -> None:
    raw = {"feats": [torch.zeros(2, 1, 2, 2)], "kpts": torch.zeros(2, 3, 4)}
    batch = {
        "batch_idx": torch.tensor([0.0, 1.0, 1.0]),
        "keypoints": torch.tensor([[[0.5, 0.25, 2.0]]] * 3),
        "has_keypoints": torch.tensor([True, False, True]),
    }
    own = quality_inputs(assigner(False, True), raw, batch, torch.tensor([8.0]), overlap=True)
    assert own["gt_kpts"].shape == (2, 2, 1, 3)
    assert own["gt_kpts"][..., 2].flatten().tolist() == [2, 0, 0, 2]
    assert own["gt_kpts"][0, 0, 0].tolist() == [8, 4, 2]  # pixels
    assert own["pd_kpts"][0, :, 0].tolist() == [[4, 4], [12, 4], [4, 12], [12, 12]]


def test_instances_are_put_image_by_image() -> None:
    padded = pad_instances(torch.tensor([1, 2, 3]), torch.tensor([0, 2, 2]), 4)
    assert padded.tolist() == [[1, 0], [0, 0], [2, 3], [0, 0]]


def test_keypoints_without_visibility_are_all_there() -> None:
    given = torch.rand(2, 3, 2)
    assert torch.equal(with_visibility(given)[..., 2], torch.ones(2, 3))
    seen = torch.rand(2, 3, 3)
    assert with_visibility(seen).data_ptr() != seen.data_ptr()
    assert torch.equal(with_visibility(seen), seen)
