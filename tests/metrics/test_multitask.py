"""Average precisions of hand-made predictions, worked out by hand.

With the host's 101-point interpolation an average precision of correct detections up to recall r, and nothing after, is
r - 0.005: half a step is lost at the end.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from support.validation import SIZE, predictions, ready_stock, ready_validator, targets
from ultralytics.utils import LOGGER

from yolo_multitask.metrics.multitask import MultiTaskMetrics
from yolo_multitask.metrics.tracking import SequenceAccumulator
from yolo_multitask.tasks import SPECS

NAMES = {0: "person", 1: "car"}
A, B, CAR, ELSEWHERE = [0, 0, 16, 32], [24, 0, 40, 32], [0, 40, 32, 60], [44, 40, 60, 60]
POINTS = torch.tensor([[[4.0, 4.0, 2.0], [12.0, 28.0, 2.0]], [[28.0, 4.0, 2.0], [36.0, 28.0, 1.0]]])
NO_POINTS = torch.zeros(1, 2, 3)
FAR = torch.tensor([[[60.0, 60.0, 1.0], [62.0, 62.0, 1.0]]])


def measure(validator, *images):
    """Run `(predictions, batch)` pairs and return the processed metrics."""
    for preds, batch in images:
        validator.update_metrics([preds], batch)
    validator.metrics.process()
    return validator.metrics


def scene(**kwargs):
    """Two persons and a car; the car has no keypoints."""
    points = torch.cat((POINTS, NO_POINTS))
    return targets([A, B, CAR], [0, 0, 1], points, has_keypoints=[True, True, False], **kwargs)


def test_box_mask_and_pose_differ_where_their_predictions_do(tmp_path: Path) -> None:
    """Boxes all right; the second person's mask wrong; the first, most confident person's keypoints wrong."""
    preds = predictions([A, B, CAR], [0.9, 0.8, 0.7], [0, 0, 1], keypoints=torch.cat((POINTS, NO_POINTS)))
    preds["masks"][1] = 0
    preds["keypoints"][0] += 50
    metrics = measure(ready_validator(tmp_path, NAMES, kpt_classes=[0]), (preds, scene()))
    assert metrics.box.map == pytest.approx(0.995)
    assert metrics.seg.ap50.tolist() == pytest.approx([0.495, 0.995])
    assert metrics.seg.map == pytest.approx((0.495 + 0.995) / 2)
    # the first of two detections is wrong: precision 1/2 up to recall 1/2, over the persons only
    assert metrics.pose.ap_class_index.tolist() == [0]
    assert metrics.pose.map == pytest.approx(0.5 * (0.5 - 0.005))
    assert metrics.fitness == pytest.approx((0.995 + 0.745 + 0.2475) / 3)


def test_interface(tmp_path: Path) -> None:
    preds = predictions([A, B, CAR], [0.9, 0.8, 0.7], [0, 0, 1], keypoints=torch.cat((POINTS, NO_POINTS)))
    validator = ready_validator(tmp_path, NAMES, kpt_classes=[0])
    metrics = measure(validator, (preds, scene()))
    assert metrics.keys == [
        f"metrics/{name}({letter})" for letter in "BMP" for name in ("precision", "recall", "mAP50", "mAP50-95")
    ]
    assert set(metrics.results_dict) == {*metrics.keys, "fitness"}
    assert len(metrics.mean_results()) == len(metrics.keys)
    assert len(metrics.curves) == len(metrics.curves_results) == 12
    assert metrics.maps.shape == (2,)
    person, car = (metrics.class_result(i) for i in range(2))
    assert len(person) == len(car) == 12
    assert not np.isnan(person).any()
    assert np.isnan(car[8:]).all()
    assert not np.isnan(car[:8]).any()
    rows = metrics.summary()
    assert [r["Class"] for r in rows] == ["person", "car"]
    assert rows[0]["Pose-mAP50"] == pytest.approx(0.995)
    assert np.isnan(rows[1]["Pose-mAP50"])
    assert rows[1]["Mask-mAP50-95"] == pytest.approx(0.995)
    assert metrics.to_df().shape[0] == 2
    assert metrics.box.image_metrics["1.jpg"]["tp"] == 3
    assert metrics.pose.image_metrics["1.jpg"] == {"precision": 1, "recall": 1, "f1": 1, "tp": 2, "fp": 0, "fn": 0}


def test_registry_and_missing_tasks() -> None:
    assert list(MultiTaskMetrics(NAMES).parts) == [t for t in SPECS if SPECS[t].precision]
    metrics = MultiTaskMetrics(NAMES, ["detect", "pose", "track"])
    assert metrics.tasks == ("detect", "pose", "track")
    assert list(metrics.parts) == ["detect", "pose"]
    with pytest.raises(AttributeError, match=r"metrics\.seg was not measured; this run measured: detect, pose, track"):
        _ = metrics.seg
    with pytest.raises(AttributeError, match=r"metrics\.track was not measured; .* with ids, in sequences"):
        _ = MultiTaskMetrics(NAMES, ["detect", "pose"]).track
    with pytest.raises(AttributeError):
        _ = metrics.nonsense


def test_tracks_have_keys_of_their_own(tmp_path: Path) -> None:
    """They follow those of the average precisions, and change neither fitness, nor curves, nor the rows by class."""
    preds = predictions([A, B, CAR], [0.9, 0.8, 0.7], [0, 0, 1], keypoints=torch.cat((POINTS, NO_POINTS)))
    alone = measure(ready_validator(tmp_path, NAMES, ["detect", "segment"]), (dict(preds), scene()))
    metrics = MultiTaskMetrics(NAMES, ["detect", "segment", "track"])
    metrics.stats = {k: list(v) for k, v in alone.stats.items()}
    accumulator = SequenceAccumulator()
    for ids in ([5, 6], [5, 8]):
        accumulator.update([1, 2], ids, [[0.9, 0.0], [0.0, 0.8]])
    metrics.track.update({"clip": [accumulator.compute()]})
    plots: list[Path] = []
    metrics.process(save_dir=tmp_path, plot=True, on_plot=lambda file, *_: plots.append(file))
    names = ("HOTA", "DetA", "AssA", "MOTA", "IDF1", "IDSW")
    assert metrics.keys == [*alone.keys, *(f"metrics/{name}(T)" for name in names)]
    results = dict(metrics.results_dict)
    assert {k: v for k, v in results.items() if "(T)" not in k} == pytest.approx(alone.results_dict)
    assert (results["metrics/MOTA(T)"], results["metrics/IDSW(T)"], results["metrics/IDF1(T)"]) == (0.75, 1, 0.75)
    assert len(metrics.class_result(0)) == len(alone.class_result(0)) == 8
    assert metrics.summary() == alone.summary()
    assert metrics.curves == alone.curves
    assert plots[-1] == tmp_path / "HOTA_curve.png"


def test_predicted_keypoints_of_other_classes_never_count(tmp_path: Path) -> None:
    """A confident car prediction on a person would be a false positive of class car; pose does not see it."""
    preds = predictions([A, B, A], [0.9, 0.8, 0.95], [0, 0, 1], keypoints=torch.cat((POINTS, POINTS[:1])))
    metrics = measure(ready_validator(tmp_path, NAMES, kpt_classes=[0]), (preds, scene()))
    assert metrics.pose.map == pytest.approx(0.995)
    assert metrics.pose.image_metrics["1.jpg"]["fp"] == 0
    assert metrics.box.image_metrics["1.jpg"]["fp"] == 1


@pytest.mark.parametrize(("region", "expected"), [([], 0.5 * 0.995), ([ELSEWHERE], 0.995), ([[0, 0, 4, 4]], 0.4975)])
def test_ignore_regions_excuse_unmatched_predictions(tmp_path: Path, region: list, expected: float) -> None:
    """A false positive that is more confident than the two persons halves the precision, unless a region holds it."""
    preds = predictions([ELSEWHERE, A], [0.95, 0.9], [0, 0], keypoints=torch.cat((FAR, POINTS[:1])))
    validator = ready_validator(tmp_path, NAMES)
    metrics = measure(validator, (preds, targets([A], [0], POINTS[:1], ignore=region)))
    for part in metrics.parts.values():
        assert part.map50 == pytest.approx(expected, abs=1e-6)


def test_a_target_inside_an_ignore_region_still_counts(tmp_path: Path) -> None:
    preds = predictions([A], [0.9], [0], keypoints=POINTS[:1])
    batch = targets([A, B], [0, 0], POINTS, ignore=[[0, 0, SIZE, SIZE]])
    metrics = measure(ready_validator(tmp_path, NAMES), (preds, batch))
    assert [m.map50 for m in metrics.parts.values()] == pytest.approx([0.495] * 3)


def test_instances_without_a_label_are_neither_targets_nor_background(tmp_path: Path) -> None:
    """Person B has a box only: its mask and keypoints are not judged, a wrong box elsewhere is."""
    preds = predictions([B, A], [0.95, 0.9], [0, 0], keypoints=POINTS.flip(0))
    preds["masks"][0] = 0
    preds["keypoints"][0] += 30
    batch = targets([A, B], [0, 0], POINTS, has_mask=[True, False], has_keypoints=[True, False])
    metrics = measure(ready_validator(tmp_path, NAMES), (preds, batch))
    assert [m.map50 for m in metrics.parts.values()] == pytest.approx([0.995] * 3)
    assert metrics.nt_per_class.tolist() == [2, 0]

    wrong = predictions([ELSEWHERE, A], [0.95, 0.9], [0, 0], keypoints=torch.cat((FAR, POINTS[:1])))
    metrics = measure(ready_validator(tmp_path, NAMES), (wrong, batch))
    assert [m.map50 for m in metrics.parts.values()] == pytest.approx([0.5 * 0.495, 0.4975, 0.4975])


def test_a_prediction_of_another_class_on_an_unlabelled_instance_is_wrong(tmp_path: Path) -> None:
    preds = predictions([B, CAR], [0.95, 0.9], [1, 1])
    batch = targets([B, CAR], [0, 1], POINTS, has_mask=[False, True])
    metrics = measure(ready_validator(tmp_path, NAMES, tasks=["detect", "segment"]), (preds, batch))
    assert metrics.seg.map50 == pytest.approx(0.4975)


def test_nothing_labelled_for_a_task(tmp_path: Path) -> None:
    preds = predictions([A], [0.9], [0], keypoints=POINTS[:1])
    batch = targets([A], [0], POINTS[:1], has_mask=[False], has_keypoints=[False])
    metrics = measure(ready_validator(tmp_path, NAMES), (preds, batch))
    assert metrics.mean_results()[4:] == [0.0] * 8
    assert np.isnan(metrics.class_result(0)[4:]).all()
    assert len(metrics.curves_results) == 12
    assert metrics.fitness == pytest.approx(0.995 / 3)
    assert len(metrics.summary()) == 1


def test_empty_images(tmp_path: Path) -> None:
    nothing = predictions([], [], [])
    found = predictions([A], [0.9], [0], keypoints=POINTS[:1])
    none, some = targets([], [], torch.zeros(0, 2, 3), name="empty.jpg"), targets([A], [0], POINTS[:1])
    metrics = measure(
        ready_validator(tmp_path, NAMES), (nothing, none), (found, some), (nothing, some), (nothing, none)
    )
    assert [m.map50 for m in metrics.parts.values()] == pytest.approx([0.495] * 3)


def random_image(seed: int):
    """Return targets, and predictions around them with false ones among them."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(0, 6))
    low = rng.integers(0, 8, (n, 2)) * 4
    boxes = np.concatenate((low, low + rng.integers(3, 8, (n, 2)) * 4), 1).astype(np.float32)
    points = np.concatenate((rng.uniform(0, SIZE, (n, 2, 2)), rng.integers(0, 3, (n, 2, 1))), 2).astype(np.float32)
    cls = rng.integers(0, 2, n)
    batch = targets(boxes.tolist(), cls.tolist(), torch.from_numpy(points), name=f"{seed}.jpg")
    m = int(rng.integers(0, 4)) + 2 * n
    source = rng.integers(0, n, m) if n else np.zeros(0, int)
    around = (boxes[source] + rng.normal(0, 2, (len(source), 4))).astype(np.float32)
    near = points[source] + np.concatenate((rng.normal(0, 2, (len(source), 2, 2)), np.zeros((len(source), 2, 1))), 2)
    conf = rng.uniform(0.05, 1, len(source)).astype(np.float32).tolist()
    return predictions(around.clip(0, SIZE), conf, cls[source].tolist(), keypoints=near.astype(np.float32)), batch


@pytest.mark.parametrize("task", ["detect", "segment", "pose"])
def test_full_labels_give_the_stock_numbers(tmp_path: Path, task: str) -> None:
    ours, stock = ready_validator(tmp_path, NAMES), ready_stock(task, tmp_path, NAMES)
    letters = {"detect": "B", "segment": "BM", "pose": "BP"}[task]
    for seed in range(12):
        preds, batch = random_image(seed)
        for validator in (ours, stock):
            validator.update_metrics([{k: v.clone() for k, v in preds.items()}], batch)
    for validator in (ours, stock):
        validator.metrics.process()
    expected, found = stock.metrics.results_dict, ours.metrics.results_dict
    compared = [k for k in expected if k != "fitness"]
    assert len(compared) == 4 * len(letters)
    for key in compared:
        assert found[key] == expected[key], key
        assert 0 < found[key] < 1
    attribute = SPECS[task].metric
    np.testing.assert_array_equal(getattr(ours.metrics, attribute).all_ap, getattr(stock.metrics, attribute).all_ap)
    assert getattr(ours.metrics, attribute).image_metrics == getattr(stock.metrics, attribute).image_metrics


def test_table(tmp_path: Path) -> None:
    preds = predictions([A, B, CAR], [0.9, 0.8, 0.7], [0, 0, 1], keypoints=torch.cat((POINTS, NO_POINTS)))
    validator = ready_validator(tmp_path, NAMES, kpt_classes=[0], verbose=True)
    measure(validator, (preds, scene()))
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    LOGGER.addHandler(handler)
    try:
        validator.print_results()
    finally:
        LOGGER.removeHandler(handler)
    header = validator.get_desc()
    columns = [f"{title}(P R mAP50 mAP50-95)" for title in ("Box", "Mask", "Pose")]
    assert header.split() == " ".join(["Class Images Instances", *columns]).split()
    assert [len(line) for line in lines] == [len(header)] * 3
    assert lines[0].split()[:3] == ["all", "1", "3"]
    assert lines[1].split()[:3] == ["person", "1", "2"]
    assert lines[2].split()[-4:] == ["-"] * 4


def test_confusion_matrix_leaves_out_what_regions_excuse(tmp_path: Path) -> None:
    validator = ready_validator(tmp_path, NAMES)
    validator.args.plots, validator.args.visualize = True, False
    preds = predictions([A, ELSEWHERE, B], [0.9, 0.8, 0.7], [0, 1, 1])
    batch = targets([A, B], [0, 0], POINTS, ignore=[ELSEWHERE, B])
    validator.update_metrics([preds], batch)
    expected = np.zeros((3, 3))
    expected[0, 0] = 1  # A
    expected[1, 0] = 1  # B, taken for a car although a region holds it
    np.testing.assert_array_equal(validator.confusion_matrix.matrix, expected)


def test_curves_are_drawn_per_task(tmp_path: Path) -> None:
    preds = predictions([A, B, CAR], [0.9, 0.8, 0.7], [0, 0, 1], keypoints=torch.cat((POINTS, NO_POINTS)))
    validator = ready_validator(tmp_path, NAMES, kpt_classes=[0])
    validator.update_metrics([preds], scene())
    validator.metrics.process(save_dir=tmp_path, plot=True)
    drawn = {p.name for p in tmp_path.glob("*.png")}
    assert drawn == {f"{t}{c}_curve.png" for t in ("Box", "Mask", "Pose") for c in ("PR", "F1", "P", "R")}
