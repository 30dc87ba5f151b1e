"""COCO entries and MOTChallenge rows, read back by the tools that they are for."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.results import CLASSES, IDS, NAMES, SCORES, XYXY, H, K, N, W, host_masks, make_results, plain
from support.validation import ready_validator
from trackeval.datasets import MotChallenge2DBox
from trackeval.metrics import HOTA

from yolo_multitask.data.convert.rle import decode_rle
from yolo_multitask.data.mot import read_mot
from yolo_multitask.engine.mot import MotFile
from yolo_multitask.interop import MOT_FORMAT, to_coco, to_mot

LTWH = [[x1, y1, x2 - x1, y2 - y1] for x1, y1, x2, y2 in XYXY]
CATEGORIES = [1, 18, 3]


@pytest.mark.parametrize("kind", ["results", "numpy", "plain", "native"])
def test_entries(kind: str) -> None:
    result = make_results()
    given = {"results": result, "numpy": result.numpy(), "plain": plain(result), "native": plain(result, native=True)}
    entries = given[kind].to_coco(42)
    keys = {"image_id", "category_id", "bbox", "score", "segmentation", "keypoints", "track_id"}
    assert [set(entry) for entry in entries] == [keys, keys - {"keypoints"}, keys], "the car has none"
    assert [entry["image_id"] for entry in entries] == [42] * N
    assert [entry["category_id"] for entry in entries] == [cls + 1 for cls in CLASSES]
    assert [entry["bbox"] for entry in entries] == LTWH
    assert [entry["score"] for entry in entries] == SCORES
    assert [entry["track_id"] for entry in entries] == IDS
    for entry, mask in zip(entries, host_masks(result.masks.data), strict=True):
        np.testing.assert_array_equal(decode_rle(entry["segmentation"], H, W), mask)
    for i in (0, 2):
        np.testing.assert_allclose(np.reshape(entries[i]["keypoints"], (K, 3)), result.keypoints.data[i], atol=5.1e-4)
    assert json.loads(json.dumps(entries)) == entries


def test_entries_are_those_of_save_json(tmp_path: Path) -> None:
    result = make_results(tracked=False)
    validator = ready_validator(tmp_path, NAMES, kpt_shape=(K, 3), kpt_classes=[0, 2])
    validator.class_map, validator.jdict = [5, 9, 2], []
    predicted = {
        "bboxes": result.boxes.xyxy,
        "conf": result.boxes.conf,
        "cls": result.boxes.cls,
        "masks": result.masks.data.new_tensor(host_masks(result.masks.data)),
        "keypoints": result.keypoints.data,
    }
    validator.pred_to_json(predicted, {"im_file": "17.jpg"})
    assert to_coco(result, 17, [5, 9, 2]) == [{k: v for k, v in e.items() if k != "file_name"} for e in validator.jdict]


def test_entries_of_some_tasks_and_of_nothing() -> None:
    boxes = make_results(tracked=False, masks=None, keypoints=None)
    assert [set(entry) for entry in boxes.to_coco(1)] == [{"image_id", "category_id", "bbox", "score"}] * N
    assert make_results()[:0].to_coco(1) == []
    assert plain(make_results()[:0], native=True).to_coco(1) == []
    flat = make_results(dims=2)
    points = np.reshape(flat.to_coco(1)[0]["keypoints"], (K, 3))
    np.testing.assert_allclose(points[:, :2], flat.keypoints.xy[0], atol=5.1e-4)
    assert points[:, 2].tolist() == [1] * K


def test_a_selection_has_its_own_entries() -> None:
    result = make_results()
    assert result[[2, 0]].to_coco(1) == [result.to_coco(1)[i] for i in (2, 0)]
    assert result[result.boxes.cls == 1].to_coco(1) == result.to_coco(1)[1:2]


def test_categories() -> None:
    result = make_results()
    for given in (CATEGORIES, dict(enumerate(CATEGORIES)), np.array(CATEGORIES)):
        categories = [entry["category_id"] for entry in result.to_coco("a", given)]
        assert categories == CATEGORIES
        assert {type(c) for c in categories} == {int}
    with pytest.raises(ValueError, match=r"expected a category for each class, found none for class 1 \(car\)"):
        result.to_coco(1, [3])
    assert len(result[:1].to_coco(1, [3])) == 1


def coco_truth(result: Any) -> Any:
    """Return the annotations that a result is right about, as pycocotools holds them."""
    pycocotools = pytest.importorskip("pycocotools.coco")
    rle = pytest.importorskip("pycocotools.mask")
    masks = host_masks(result.masks.data)
    items = []
    for i, (box, mask) in enumerate(zip(LTWH, masks, strict=True)):
        points = result.keypoints.data[i].numpy().copy()
        points[:, 2] = 2 * points.any(1)
        item = {"id": i + 1, "image_id": 6, "category_id": CATEGORIES[i], "bbox": box, "iscrowd": 0}
        item |= {"area": float(mask.sum()), "segmentation": rle.encode(np.asfortranarray(mask.astype(np.uint8)))}
        items.append(item | {"keypoints": points.ravel().tolist(), "num_keypoints": int((points[:, 2] > 0).sum())})
    truth = pycocotools.COCO()
    categories = [{"id": id, "name": NAMES[i]} for i, id in enumerate(CATEGORIES)]
    truth.dataset = {"images": [{"id": 6, "height": H, "width": W}], "annotations": items, "categories": categories}
    truth.createIndex()
    return truth


def coco_precision(truth: Any, entries: list[dict[str, Any]], kind: str) -> float:
    """Return the average precision of one kind of prediction."""
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    run = evaluation.COCOeval(truth, truth.loadRes(entries), kind)
    if kind == "keypoints":
        run.params.catIds, run.params.kpt_oks_sigmas = CATEGORIES[::2], np.full(K, 0.1)
    run.evaluate()
    run.accumulate()
    run.summarize()
    return float(run.stats[0])


@pytest.mark.parametrize("kind", ["bbox", "segm", "keypoints"])
@pytest.mark.parametrize("native", [None, False, True])
def test_pycocotools_scores_one_list(kind: str, native: bool | None) -> None:
    result = make_results()
    given = result if native is None else plain(result, native=native)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco_truth(result)
        assert coco_precision(truth, given.to_coco(6, CATEGORIES), kind) == pytest.approx(1)
        wrong = make_results(masks=result.masks.data.flip(2), keypoints=result.keypoints.data.flip(1))
        wrong.update(boxes=wrong.boxes.data + wrong.boxes.data.new_tensor([40.0, 0, 0, 0, 0, 0, 0]))
        assert coco_precision(truth, wrong.to_coco(6, CATEGORIES), kind) < 0.5


@pytest.mark.parametrize("kind", ["results", "plain"])
def test_mot_rows(kind: str) -> None:
    result = make_results()
    rows = (result if kind == "results" else plain(result)).to_mot(3)
    assert (rows.shape, rows.dtype) == ((N, 10), np.float64)
    assert rows[:, 0].tolist() == [3] * N
    assert rows[:, 1].tolist() == IDS
    assert rows[:, 2:6].tolist() == LTWH
    np.testing.assert_array_equal(rows[:, 6], np.float32(SCORES))
    assert (rows[:, 7:] == -1).all()
    np.testing.assert_array_equal(result[[2, 0]].to_mot(3), rows[[2, 0]])
    assert result[:0].to_mot(1).shape == (0, 10)


def test_mot_rows_are_the_lines_of_save_txt(tmp_path: Path) -> None:
    result = make_results()
    frames = [result, result[:0], result[[0, 2]]]
    file = MotFile(tmp_path / "a.txt")
    for number, frame in enumerate(frames, 1):
        file.add(number, frame)
    file.close()
    rows = np.concatenate([frame.to_mot(number) for number, frame in enumerate(frames, 1)])
    np.savetxt(tmp_path / "b.txt", rows, fmt=MOT_FORMAT, delimiter=",")
    assert (tmp_path / "b.txt").read_bytes() == (tmp_path / "a.txt").read_bytes()
    found = read_mot(tmp_path / "b.txt")
    assert found.ids.tolist() == [*IDS, IDS[0], IDS[2]]
    assert found.boxes.tolist() == [*LTWH, LTWH[0], LTWH[2]]


def test_trackeval_reads_the_rows(tmp_path: Path) -> None:
    result = make_results()
    frames = [result, result[:0], result[[0, 2]]]
    rows = np.concatenate([frame.to_mot(number) for number, frame in enumerate(frames, 1)])
    truth = rows.copy()
    truth[:, 1] += 100
    truth[:, 6:8] = 1
    for path, lines in (("gt/a/gt/gt.txt", truth), ("trackers/ours/data/a.txt", rows)):
        (tmp_path / path).parent.mkdir(parents=True)
        np.savetxt(tmp_path / path, lines, fmt=MOT_FORMAT, delimiter=",")
    with contextlib.redirect_stdout(io.StringIO()):
        data = MotChallenge2DBox(
            {
                "GT_FOLDER": str(tmp_path / "gt"),
                "TRACKERS_FOLDER": str(tmp_path / "trackers"),
                "SEQ_INFO": {"a": 3},
                "SKIP_SPLIT_FOL": True,
                "PRINT_CONFIG": False,
            }
        )
        raw = data.get_raw_seq_data("ours", "a")
        scores = HOTA().eval_sequence(data.get_preprocessed_seq_data(raw, "pedestrian"))
    assert [ids.tolist() for ids in raw["tracker_ids"]] == [IDS, [], [IDS[0], IDS[2]]]
    assert raw["tracker_dets"][0].tolist() == LTWH
    np.testing.assert_allclose(raw["tracker_confidences"][0], SCORES, atol=1e-6)
    assert scores["HOTA"].tolist() == pytest.approx([1] * 19)


def test_mot_rows_need_ids_and_a_frame() -> None:
    for result in (make_results(tracked=False), plain(make_results(tracked=False))):
        with pytest.raises(ValueError, match=r"to_mot: expected a result with ids, found none; take one of `track`"):
            to_mot(result, 1)
    with pytest.raises(ValueError, match=r"to_mot: expected a frame number from 1.*found 0"):
        make_results().to_mot(0)
