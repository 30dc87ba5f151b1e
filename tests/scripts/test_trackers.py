"""The tracker benchmark: what its parts compute, that it runs, and that it feeds trackers as the host does."""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import trackers
from trackbench.contenders import Contender, boxes_above, host_extras, run_in_turn
from trackbench.frames import Frame, load_frames, same_boxes, save_frames
from trackbench.networks import cached_frames, model_frames, read_image, stock_frames
from trackbench.options import Inputs
from trackbench.osnet import SIZE, OSNet
from trackbench.scoring import belongs_to, perfect_association, score
from trackbench.sequence import TruthSequence, part_of, read_sequence

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmarks" / "trackers.py"
RATE, HEIGHT, WIDTH = 10.0, 96, 128


def box(x: float, y: float) -> list[float]:
    """Return a box of 20 x 40 pixels whose upper left corner is x, y."""
    return [x, y, x + 20, y + 40]


def rows(boxes: list[list[float]], score: float = 0.9) -> np.ndarray:
    """Return `boxes` as detections (N, 6)."""
    return np.array([[*b, score, 0] for b in boxes], np.float32).reshape(-1, 6)


def frame(boxes: np.ndarray, **others: object) -> Frame:
    """Return a frame with these detections and no suppressed ones."""
    return Frame(boxes=boxes, **{"suppressed": np.zeros((0, 6), np.float32), **others})


@pytest.fixture
def walk() -> tuple[TruthSequence, list[Frame], list[np.ndarray]]:
    """Two people that walk apart for eight frames, found in all of them: truth, detections and pictures."""
    boxes = [[box(20 + t, 10), box(70 - t, 50)] for t in range(8)]
    truth = TruthSequence(
        name="walk",
        frame_rate=RATE,
        images=[Path(f"{t}.jpg") for t in range(8)],
        ids=[np.array([4, 7])] * 8,
        boxes=[np.array(b) for b in boxes],
    )
    image = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    images = [image] * len(boxes)  # the camera does not move
    vectors = np.eye(2, 5)
    return truth, [frame(rows(b), features={"native": vectors}) for b in boxes], images


def write_sequence(folder: Path, length: int) -> Path:
    """Write a sequence of `length` frames with one person, and one line that does not count; return its folder."""
    (folder / "img1").mkdir(parents=True)
    (folder / "gt").mkdir()
    info = {"name": folder.name, "imDir": "img1", "frameRate": 10, "seqLength": length, "imExt": ".png"}
    (folder / "seqinfo.ini").write_text("\n".join(["[Sequence]", *(f"{key}={value}" for key, value in info.items())]))
    rng = np.random.default_rng(0)
    for i in range(1, length + 1):
        cv2.imwrite(str(folder / "img1" / f"{i:06d}.png"), rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8))
    lines = [f"{i},3,{10 + i},20,20,40,1,-1,-1,-1" for i in range(1, length)]
    (folder / "gt" / "gt.txt").write_text("\n".join([*lines, "1,8,0,0,9,9,0,-1,-1,-1"]) + "\n")
    return folder


def test_read_sequence(tmp_path: Path):
    sequence = read_sequence(write_sequence(tmp_path / "s", 3))
    assert [len(ids) for ids in sequence.ids] == [1, 1, 0]  # the flag 0 is left out; nobody in the last frame
    assert sequence.boxes[1].tolist() == [[12, 20, 32, 60]]
    assert sequence.boxes[2].shape == (0, 4)
    assert sequence.frame_rate == RATE
    second = sequence.part("second")
    assert [path.name for path in second.images] == ["000002.png", "000003.png"]
    assert [len(ids) for ids in second.ids] == [1, 0]


def test_read_sequence_names_what_is_missing(tmp_path: Path):
    folder = write_sequence(tmp_path / "s", 2)
    (folder / "img1" / "000002.png").unlink()
    with pytest.raises(ValueError, match="seqLength=2, but there are 1 images"):
        read_sequence(folder)
    (folder / "gt" / "gt.txt").unlink()
    with pytest.raises(ValueError, match=r"gt\.txt not found"):
        read_sequence(folder)


def test_halves_share_no_frame():
    assert [part_of(5, name) for name in ("all", "first", "second")] == [slice(0, 5), slice(0, 2), slice(2, 5)]


def test_belongs_to_is_one_to_one_and_best_in_total():
    truth = np.array([box(0, 0), box(8, 0)])
    # the first box fits the second person best, but then the second box would belong to nobody
    found = np.array([box(5, 0), box(12, 0), box(100, 50)])
    assert belongs_to(found, truth).tolist() == [0, 1, -1]
    assert belongs_to(found[:0], truth).tolist() == []
    assert belongs_to(found, truth[:0]).tolist() == [-1, -1, -1]


def test_perfect_association(walk):
    truth, frames, _ = walk
    extra = [np.concatenate((f.boxes, rows([box(100, 5)]))) for f in frames]
    best = score(truth, perfect_association(truth, extra))
    assert (best["HOTA"], best["IDF1"], best["IDSW"], best["FP"]) == (1, 1, 0, 0)
    kept = score(truth, perfect_association(truth, extra, keep_others=True))
    assert (kept["AssA"], kept["IDSW"], kept["FP"]) == (1, 0, 8)
    assert kept["IDF1"] == pytest.approx(2 * 16 / (2 * 16 + 8))


def test_trackers_side_by_side_answer_as_alone(walk):
    truth, frames, images = walk
    pools = {"net": frames}
    all_of_them = [
        Contender(tracker="bytetrack", pool="net"),
        Contender(tracker="botsort", pool="net", features="native"),
        Contender(tracker="tracktrack", pool="net", recovers=True),
        Contender(tracker="ocsort", pool="net"),
        Contender(tracker="multicue", pool="net", features="native"),
    ]
    together = run_in_turn(all_of_them, pools, images, RATE)
    for contender, answer in zip(all_of_them, together, strict=True):
        (alone,) = run_in_turn([contender], pools, images, RATE)
        for (boxes, ids), (alone_boxes, alone_ids) in zip(answer.tracks, alone.tracks, strict=True):
            np.testing.assert_array_equal(boxes, alone_boxes)
            np.testing.assert_array_equal(ids, alone_ids)
        assert len(answer.milliseconds) == len(images)
        assert score(truth, answer.tracks)["IDSW"] == 0
        assert len({i for _, ids in answer.tracks for i in ids.tolist()}) == 2


def test_tracks_are_cut_at_the_border(walk, monkeypatch: pytest.MonkeyPatch):
    _, frames, images = walk

    class Outside:
        def update(self, det: object, img: object, **_: object) -> np.ndarray:
            return np.array([[-5, -5, WIDTH + 9, HEIGHT + 9, 3, 0.9, 0, 0]], np.float32)

    monkeypatch.setattr(Contender, "build", lambda self, rate: Outside())
    (answer,) = run_in_turn([Contender(tracker="bytetrack", pool="net")], {"net": frames}, images, RATE)
    boxes, ids = answer.tracks[0]
    assert boxes.tolist() == [[0, 0, WIDTH, HEIGHT]]
    assert ids.tolist() == [3]


def test_lowest_scores_are_those_of_the_configuration():
    lowest = {
        name: Contender(tracker=name, pool="net", recovers=name == "tracktrack").lowest_scores()
        for name in ("bytetrack", "ocsort", "deepocsort", "tracktrack", "multicue")
    }
    inf = float("inf")
    assert lowest == {
        "bytetrack": (0.1, inf),
        "ocsort": (0.25, inf),  # its second stage is off
        "deepocsort": (0.3, inf),
        "tracktrack": (0.25, 0.6),
        "multicue": (0.1, inf),
    }


def test_boxes_above():
    found = frame(np.concatenate((rows([box(0, 0)], 0.2), rows([box(9, 0)], 0.5))), suppressed=rows([box(1, 1)], 0.7))
    assert boxes_above(found, (0.25, float("inf")))[:, 4].tolist() == pytest.approx([0.5])
    assert boxes_above(found, (0.1, 0.6))[:, 4].tolist() == pytest.approx([0.2, 0.5, 0.7])


def test_arguments_of_our_tracker_hold_all_cues(monkeypatch: pytest.MonkeyPatch):
    masks = np.zeros((1, 6, 10), bool)
    masks[0, 2:4, 3:9] = True
    found = frame(
        rows([box(0, 0)]),
        features={"ours": np.ones((1, 4))},
        cues={"masks": np.packbits(masks, axis=-1), "next_boxes": np.array([box(2, 0)])},
        mask_width=10,
    )
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    (det, img), keywords = Contender(tracker="multicue", pool="net", features="ours").arguments(found, image)
    assert img is image
    assert det.xyxy.tolist() == [box(0, 0)]
    assert set(keywords) == {"feats", "masks", "next_boxes"}
    np.testing.assert_array_equal(keywords["masks"], masks)
    (_, _), stock = Contender(tracker="tracktrack", pool="net", features="ours", recovers=True).arguments(found, image)
    assert set(stock) == {"feats", "dets_del"}


def test_host_extras():
    xywh, conf, cls = host_extras(rows([box(10, 20)], 0.5))
    assert (xywh.tolist(), conf.tolist(), cls.tolist()) == ([[20, 40, 20, 40]], [0.5], [0])
    assert host_extras(rows([])) is None


def test_labels_are_distinct():
    net = {"pool": "net"}
    labels = [
        Contender(tracker="tracktrack", **net, recovers=True).label,
        Contender(tracker="tracktrack", **net).label,
        Contender(tracker="tracktrack", **net, features="native").label,
        Contender(tracker="multicue", **net, features="ours").label,
        Contender(tracker="multicue", **net, features="ours", cues=("box", "embedding")).label,
    ]
    assert labels == [
        "tracktrack",
        "tracktrack (no recovery)",
        "tracktrack (native, no recovery)",
        "multicue (ours)",
        "multicue (ours, box+embedding)",
    ]


def test_only_the_named_cues_count():
    full = Contender(tracker="multicue", pool="net")
    some = replace(full, features="ours", cues=("box", "mask"))
    weights = {key: value for key, value in full.config().items() if key.endswith("_weight")}
    assert min(weights.values()) > 0
    changed = {key: value for key, value in some.config().items() if value != full.config()[key]}
    assert changed == {f"{cue}_weight": 0 for cue in ("motion", "embedding", "keypoint", "next_box")}
    found = frame(
        rows([box(0, 0)]),
        features={"ours": np.ones((1, 4))},
        cues={"masks": np.zeros((1, 4, 1), np.uint8), "keypoints": np.zeros((1, 2, 3))},
        mask_width=8,
    )
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    assert set(some.arguments(found, image)[1]) == {"masks"}
    assert set(replace(some, cues=None).arguments(found, image)[1]) == {"feats", "masks", "keypoints"}


def test_frames_survive_the_cache(tmp_path: Path):
    frames = [
        frame(
            rows([box(1, 2)]),
            features={"native": np.ones((1, 3), np.float32)},
            truth_features={"native": np.zeros((2, 3), np.float32)},
            truth_overlap=np.array([0.5, 0.25]),
            cues={"next_boxes": np.ones((1, 4), np.float32)},
            mask_width=7,
            milliseconds={"native": 1.5},
        ),
        frame(rows([])),
    ]
    path = tmp_path / "cache" / "frames.npz"
    save_frames(path, frames)
    one, two = load_frames(path)
    np.testing.assert_array_equal(one.boxes, frames[0].boxes)
    np.testing.assert_array_equal(one.truth_features["native"], frames[0].truth_features["native"])
    np.testing.assert_array_equal(one.truth_overlap, [0.5, 0.25])
    np.testing.assert_array_equal(one.cues["next_boxes"], frames[0].cues["next_boxes"])
    assert (one.mask_width, one.milliseconds) == (7, {"native": 1.5})
    assert (two.boxes.shape, two.features) == ((0, 6), {})
    assert [p.name for p in path.parent.iterdir()] == ["frames.npz"]


def test_cache_asks_the_network_once_per_weights_and_settings(tmp_path: Path, walk):
    truth, frames, _ = walk
    weights = tmp_path / "net.pt"
    weights.write_bytes(b"one")
    runs = []

    def ask(settings: dict[str, object]) -> None:
        found = cached_frames(tmp_path / "cache", weights, truth, settings, lambda: runs.append(settings) or frames)
        np.testing.assert_array_equal(found[3].boxes, frames[3].boxes)

    for settings in ({"conf": 0.1}, {"conf": 0.1}, {"conf": 0.2}):
        ask(settings)
    weights.write_bytes(b"two")
    ask({"conf": 0.2})
    assert runs == [{"conf": 0.1}, {"conf": 0.2}, {"conf": 0.2}]


def test_same_boxes(walk):
    _, frames, _ = walk
    moved = [replace(f, boxes=f.boxes + np.float32(0.01)) for f in frames]
    assert same_boxes(frames, frames) == (
        True,
        "0 of 8 frames with another number of boxes; in the rest, boxes differ by at most 0 px, scores 0",
    )
    assert not same_boxes(frames, moved)[0]  # the scores differ too much
    fewer = [replace(frames[0], boxes=frames[0].boxes[:1]), *frames[1:]]
    same, words = same_boxes(frames, fewer)
    assert not same
    assert words.startswith("1 of 8 frames")


def test_osnet_gets_normalised_crops_and_gives_unit_vectors(tmp_path: Path):
    import onnx
    from onnx import TensorProto, helper

    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, SIZE[1], SIZE[0]]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3]),
    ]
    colour = helper.make_node("ReduceMax", ["x"], ["y"], axes=[2, 3], keepdims=0)
    model = helper.make_model(
        helper.make_graph([colour], "colour", ends[:1], ends[1:]), opset_imports=[helper.make_opsetid("", 13)]
    )
    model.ir_version = 8
    onnx.save(model, tmp_path / "net.onnx")
    image = np.zeros((40, 40, 3), np.uint8)
    image[:, :20] = 0, 128, 255  # blue, green, red
    network = OSNet(tmp_path / "net.onnx")
    vectors = network(image, np.array([[-5, 0, 20, 60], [39.5, 39.5, 60, 60]]))  # of the second, a pixel is inside
    expected = (np.array([[1, 128 / 255, 0], [0, 0, 0]]) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(vectors, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-5)
    assert network(image, np.zeros((0, 4))).shape == (0, 3)


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the script; in a process of its own, because it sets the number of threads."""
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True, check=False, timeout=300
    )


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data folder with a short sequence and a network with random weights that knows persons alone."""
    import torch
    from ultralytics import YOLO
    from ultralytics.nn.tasks import DetectionModel

    folder = tmp_path_factory.mktemp("data")
    write_sequence(folder / "mot" / "walk", 4)
    (folder / "weights").mkdir()
    torch.manual_seed(0)
    model = YOLO("yolov8n.yaml")
    model.model = DetectionModel("yolov8n.yaml", nc=1, verbose=False)
    model.model.names = {0: "person"}
    model.model.args, model.model.task = {"imgsz": 64}, "detect"
    model.save(folder / "weights" / "net.pt")
    return folder


def test_minimal_run(data: Path, tmp_path: Path):
    out = tmp_path / "out.json"
    options = ["--data", data, "--sequence", "walk", "--weights", "net.pt", "--osnet", "", "--imgsz", 64]
    options += ["--conf", 1e-6, "--threads", 1, "--frames", "second", "--json", out]
    done = run(*options, "--trackers", "bytetrack", "tracktrack", "multicue")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == (
        "| tracker | boxes | HOTA | DetA | AssA | IDF1 | MOTA | IDSW | Frag | FP | FN | tracks | update, ms |"
    )
    assert "walk, 2 frames (second)" in done.stdout
    content = json.loads(out.read_text())
    assert set(content) == {"machine", "settings", "rows", "ceilings", "same"}
    labels = [row["label"] for row in content["rows"]]
    assert labels == [
        "bytetrack",
        "tracktrack",
        "tracktrack (no recovery)",
        "tracktrack (native)",
        "tracktrack (native, no recovery)",
        "multicue",
        "multicue (native)",
    ]
    assert {"HOTA", "AssA", "IDF1", "IDSW", "tracks", "update_ms"} <= set(content["rows"][0])
    takers = {(row["lowest_score"], row["lowest_recovered"]): row["takers"] for row in content["ceilings"]}
    assert set(takers) == {(0.1, None), (0.25, 0.6), (0.25, None)}
    assert takers[0.25, None] == ["tracktrack (no recovery)", "tracktrack (native, no recovery)"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "nowhere"], "not found"),
        (["--cues", "box+luck"], "'luck' is no cue"),
        (["--model", "ours"], "expected NAME=PATH, got 'ours'"),
        (["--model", "ours=nowhere.pt"], "'nowhere.pt' is no file"),
        (["--trackers", "luck"], "invalid choice: 'luck'"),
    ],
)
def test_wrong_arguments(arguments: list[str], message: str):
    done = run(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert not done.stdout
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkpoint of this package with random weights, that knows persons alone and has a track branch."""
    import torch

    from yolo_multitask import MultiTaskYOLO
    from yolo_multitask.nn.network import MultiTaskModel

    torch.manual_seed(0)
    model = MultiTaskYOLO("yolov8n-multitask.yaml")
    network = MultiTaskModel("yolov8n-multitask.yaml", nc=1, verbose=False)
    network.names, network.args, network.task = {0: "person"}, model.model.args, model.task
    model.model = network
    path = tmp_path_factory.mktemp("model") / "ours.pt"
    model.save(path)
    return path


def test_vectors_of_a_true_box_are_those_of_the_detection_on_it(data: Path, checkpoint: Path):
    whole = read_sequence(data / "mot" / "walk")
    found = model_frames(checkpoint, whole, "ours", 64, 1e-6)
    best = replace(whole, boxes=[f.boxes[:1, :4].astype(float) for f in found])  # the anchor of the highest score
    again = model_frames(checkpoint, best, "ours", 64, 1e-6)
    for one in again:
        assert len(one.boxes) > 1
        assert one.features["ours"].shape == (len(one.boxes), 128)
        assert one.cues["keypoints"].shape == (len(one.boxes), 17, 3)
        assert one.update_arguments()["masks"].shape[::2] == (len(one.boxes), one.mask_width)
        np.testing.assert_allclose(one.truth_features["ours"], one.features["ours"][:1], atol=1e-6)
        assert one.truth_overlap.tolist() == pytest.approx([1], abs=1e-4)


def test_models_get_the_stock_boxes_only_if_theirs_are_the_same(walk):
    truth, frames, _ = walk
    stock = [replace(f, suppressed=rows([box(0, 0)], 0.8), features={"native": np.eye(2, 3)}) for f in frames]
    ours = [replace(f, features={"ours": np.eye(2, 4)}) for f in frames]
    moved = [replace(f, boxes=f.boxes + np.float32(5)) for f in ours]
    args = Namespace(weights="net.pt", osnet="", trackers=["bytetrack", "tracktrack", "multicue"], cues=[("box",)])
    inputs = Inputs(sequence=truth, stock=stock, models={"same": ours, "moved": moved})
    pools, contenders, agreement = trackers.line_up(inputs, args)

    by_pool = {pool: [c.label for c in contenders if c.pool == pool] for pool in pools}
    with_features = ["tracktrack ({0})", "tracktrack ({0}, no recovery)", "multicue ({0})", "multicue ({0}, box)"]
    without = ["bytetrack", "tracktrack", "tracktrack (no recovery)", "multicue"]
    assert set(by_pool) == {"net", "same", "moved"}
    assert set(by_pool["net"]) == {*without, *(label.format("native") for label in with_features[:3])}
    assert set(by_pool["same"]) == {label.format("same") for label in with_features}
    assert set(by_pool["moved"]) == {*without, *(label.format("moved") for label in with_features)}
    np.testing.assert_array_equal(pools["same"][0].suppressed, stock[0].suppressed)
    np.testing.assert_array_equal(pools["same"][0].features["ours"], np.eye(2, 4))
    np.testing.assert_array_equal(pools["moved"][0].boxes, moved[0].boxes)
    assert agreement["same"].endswith("taken as the same")
    assert agreement["moved"].endswith("on its own boxes")


@pytest.mark.realdata
def test_trackers_get_what_the_host_gives_them(realdata: Path, tmp_path: Path):
    """The replay answers as the host's own `track`, with native features and suppressed boxes."""
    import yaml
    from ultralytics import YOLO

    whole = read_sequence(realdata / "mot" / "PETS09-S2L1-a")
    few = replace(whole, images=whole.images[:12], ids=whole.ids[:12], boxes=whole.boxes[:12])
    weights = realdata / "weights" / "yolov8n.pt"
    frames = stock_frames(weights, few, None, 320, 0.1)
    images = [read_image(path) for path in few.images]
    contender = Contender(tracker="tracktrack", pool="net", features="native", recovers=True)
    (answer,) = run_in_turn([contender], {"net": frames}, images, RATE)
    config = tmp_path / "tracker.yaml"
    config.write_text(yaml.safe_dump(contender.config()))
    model, compared = YOLO(weights), 0
    for image, (boxes, ids) in zip(images, answer.tracks, strict=True):
        options = {"persist": True, "tracker": str(config), "imgsz": 320, "classes": [0], "device": "cpu"}
        found = model.track(image, verbose=False, **options)[0].boxes
        host_ids = [] if found.id is None else found.id.int().tolist()
        assert ids.tolist() == host_ids
        if host_ids:
            np.testing.assert_allclose(boxes, found.xyxy.numpy(), atol=1e-3)
        compared += len(host_ids)
    assert compared > 12
