"""Tracking through `MultiTaskYOLO.track`: ids, alignment, sequences, and state that is never shared."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import GeneratorType
from typing import Any

import numpy as np
import pytest
import torch
from support.scene import (
    FRAMES,
    LOOSE_IOU,
    SIZE,
    STEPS,
    N,
    Scene,
    boxes,
    objects_of,
    order,
    picture,
    rows,
    write_frames,
    write_video,
)
from support.training import random_model
from ultralytics.trackers.utils import reid

from yolo_multitask import MultiTaskYOLO, Results
from yolo_multitask.engine.results import TrackedResults
from yolo_multitask.engine.track import frame_rate, source_key, source_name
from yolo_multitask.tracking import MultiCueTracker

KPT = (5, 3)
BASE: dict[str, Any] = {"imgsz": SIZE, "verbose": False, "device": "cpu"}
HOST = ("botsort", "bytetrack", "deepocsort", "fasttrack", "ocsort", "tracktrack")
WITH_REID = {"botsort", "deepocsort", "tracktrack"}
NAMES = [f"{name}.yaml" for name in (*HOST, "multicue")]


@pytest.fixture(autouse=True)
def no_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where a ReID network would be loaded, which the host downloads."""

    def load(self: Any, model: str, *_: Any, **__: Any) -> None:
        pytest.fail(f"a ReID network was loaded: {model}")

    monkeypatch.setattr(reid.ReID, "__init__", load)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> MultiTaskYOLO:
    """Return a model with every output, also the next box."""
    return random_model(tmp_path_factory.mktemp("model"), 1, KPT, embed_dim=8, next=True)


@pytest.fixture(scope="module")
def stock() -> MultiTaskYOLO:
    return MultiTaskYOLO("yolov8n.yaml")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("clip") / "clip.avi")


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch, model: MultiTaskYOLO) -> Scene:
    return Scene(monkeypatch, model.model.head.layout)


@pytest.fixture
def stock_scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch, None)


def ids(result: Any) -> list[int]:
    return result.boxes.id.int().tolist()


@pytest.mark.parametrize("tracker", NAMES)
def test_every_field_stays_with_its_id(model: MultiTaskYOLO, scene: Scene, clip: Path, tracker: str) -> None:
    detected = model.predict(clip, **BASE)
    scene.frame = 0
    tracked = model.track(clip, tracker=tracker, **BASE)
    assert len(tracked) == FRAMES
    owner: dict[int, int] = {}
    for frame, (result, found) in enumerate(zip(tracked, detected, strict=True)):
        assert type(result) is Results
        assert sorted(ids(result)) == [1, 2, 3], f"{tracker}: every object is tracked, frame {frame}"
        assert [len(getattr(result, k)) for k in result._keys if getattr(result, k) is not None] == [N] * 6
        at = [order(frame).index(i) for i in objects_of(result)]
        for field in ("masks", "keypoints", "embeddings", "next_boxes"):
            torch.testing.assert_close(getattr(result, field).data, getattr(found, field).data[at])
        np.testing.assert_allclose(result.boxes.xyxy, boxes(frame)[objects_of(result)], atol=3)
        torch.testing.assert_close(result.boxes.conf, found.boxes.conf[at])
        for i, who in zip(ids(result), objects_of(result), strict=True):
            assert owner.setdefault(i, who) == who, f"{tracker}: id {i} changed its object in frame {frame}"
    assert len(set(owner.values())) == N


@pytest.mark.parametrize("tracker", NAMES)
def test_stock_models_track(stock: MultiTaskYOLO, stock_scene: Scene, clip: Path, tracker: str) -> None:
    results = stock.track(clip, tracker=tracker, **BASE)
    assert len(results) == FRAMES
    owner: dict[int, int] = {}
    for frame, result in enumerate(results):
        assert type(result) is TrackedResults
        assert sorted(ids(result)) == [1, 2, 3]
        nearest = np.abs(result.boxes.xyxy.numpy()[:, None] - boxes(frame)[None]).sum(2).argmin(1).tolist()
        for i, who in zip(ids(result), nearest, strict=True):
            assert owner.setdefault(i, who) == who


def test_the_learned_embedding_is_the_appearance(
    model: MultiTaskYOLO, scene: Scene, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from yolo_multitask.engine.trackers import HostTracker

    given: list[Any] = []
    update = HostTracker.update

    def spy(self: Any, det: Any, img: Any = None, feats: Any = None, **extras: Any) -> Any:
        given.append((self.tracker, feats))
        return update(self, det, img, feats, **extras)

    monkeypatch.setattr(HostTracker, "update", spy)
    for name in HOST:
        given.clear()
        scene.frame = 0
        model.track(clip, tracker=name, **BASE)
        assert len(given) == FRAMES
        for frame, (tracker, feats) in enumerate(given):
            if name in WITH_REID:
                np.testing.assert_array_equal(feats, np.eye(8)[order(frame)])
                assert tracker.encoder is not None
                assert all(t.smooth_feat.shape == (8,) for t in tracker.tracked_stracks)
            else:
                assert feats is None


def test_a_users_yaml_stands_as_it_is_written(model: MultiTaskYOLO, scene: Scene, clip: Path, tmp_path: Path) -> None:
    off = tmp_path / "mine.yaml"
    off.write_text("tracker_type: botsort\nwith_reid: False\ntrack_buffer: 7\n")
    model.track(clip, tracker=str(off), **BASE)
    tracker = model.predictor.trackers[0].tracker
    assert tracker.encoder is None
    assert tracker.max_frames_lost == 7
    assert tracker.args.match_thresh == 0.8, "what the file leaves out is Ultralytics' own"
    off.write_text("tracker_type: botsort\nwith_reid: True\n")
    model.track(clip, tracker=str(off), **BASE)
    assert model.predictor.trackers[0].tracker.tracked_stracks[0].smooth_feat.shape == (8,)


def test_native_features_of_a_stock_model(stock: MultiTaskYOLO, stock_scene: Scene, clip: Path, tmp_path: Path) -> None:
    file = tmp_path / "reid.yaml"
    file.write_text("tracker_type: botsort\nwith_reid: True\nmodel: auto\n")
    results = stock.track(clip, tracker=str(file), **BASE)
    assert [sorted(ids(r)) for r in results] == [[1, 2, 3]] * FRAMES
    feature = stock.predictor.trackers[0].tracker.tracked_stracks[0].smooth_feat
    assert feature.shape == (64,)
    assert np.isfinite(feature).all()


def test_features_of_the_neck_without_the_track_task(
    model: MultiTaskYOLO, monkeypatch: pytest.MonkeyPatch, clip: Path, tmp_path: Path
) -> None:
    file = tmp_path / "reid.yaml"
    file.write_text("tracker_type: deepocsort\nwith_reid: True\n")
    head = model.model.head
    head.active = ("detect", "segment", "pose")
    Scene(monkeypatch, head.layout)
    head.active = head.tasks
    results = model.track(clip, tracker=str(file), track=False, **BASE)
    assert [sorted(ids(r)) for r in results] == [[1, 2, 3]] * FRAMES
    assert results[0].embeddings is None
    assert model.predictor.trackers[0].tracker.tracked_stracks[0].smooth_feat.shape == (32,)


def test_no_appearance_is_an_error_not_a_download(clip: Path, tmp_path: Path) -> None:
    file = tmp_path / "reid.yaml"
    file.write_text("tracker_type: botsort\nwith_reid: True\nmodel: auto\n")
    with pytest.raises(ValueError, match=r"reid.yaml: 'with_reid: True' with 'model: auto' .* name a ReID network"):
        MultiTaskYOLO("yolo26n.yaml").track(clip, tracker=str(file), nms=False, **BASE)


def test_an_exported_stock_model(tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = MultiTaskYOLO("yolov8n.yaml").export(format="torchscript", imgsz=SIZE, project=str(tmp_path), device="cpu")
    Scene(monkeypatch, None)
    for result in MultiTaskYOLO(file, task="detect").track(clip, tracker="botsort.yaml", **BASE):
        assert sorted(ids(result)) == [1, 2, 3]
    reid_yaml = tmp_path / "reid.yaml"
    reid_yaml.write_text("tracker_type: tracktrack\nwith_reid: True\n")
    with pytest.raises(ValueError, match=r"takes the appearance from the detector, but .*torchscript' gives none"):
        MultiTaskYOLO(file, task="detect").track(clip, tracker=str(reid_yaml), **BASE)


def test_tracktrack_recovers_what_the_nms_dropped(
    stock: MultiTaskYOLO, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one frame the NMS drops an object for its neighbour; a looser NMS finds it, and its id goes on."""
    scene = Scene(monkeypatch, None)
    found = scene.__call__

    def drop(preds: Any, conf: float, iou: float, *args: Any, **kwargs: Any) -> Any:
        kept = found(preds, conf, iou, *args, **kwargs)
        return [r[1:] for r in kept] if scene.frame == 5 and iou != LOOSE_IOU else kept

    monkeypatch.setattr("ultralytics.models.yolo.detect.predict.nms.non_max_suppression", drop)
    results = stock.track(clip, tracker="tracktrack.yaml", **BASE)
    assert [sorted(ids(r)) for r in results] == [[1, 2, 3]] * FRAMES
    place = results[4].boxes.xyxy[ids(results[4]).index(ids(results[3])[0])]
    assert np.abs(boxes(4) - place.numpy()).sum(1).min() < 4


def test_a_named_network_is_loaded(stock: MultiTaskYOLO, clip: Path, tmp_path: Path) -> None:
    file = tmp_path / "reid.yaml"
    file.write_text("tracker_type: botsort\nwith_reid: True\nmodel: yolo26n-cls.pt\n")
    with pytest.raises(pytest.fail.Exception, match="loaded: yolo26n-cls.pt"):
        stock.track(clip, tracker=str(file), **BASE)


@pytest.mark.parametrize("tracker", ["bytetrack.yaml", "tracktrack.yaml", "multicue.yaml"])
def test_two_trackers_share_nothing(
    model: MultiTaskYOLO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracker: str
) -> None:
    """Two objects track frame by frame in turn; the second starts late and is started again in between."""
    first, second = model, random_model(tmp_path, 1, KPT, embed_dim=8, next=True)
    scene = Scene(monkeypatch, model.model.head.layout)
    settings = {"persist": True, "tracker": tracker, **BASE}
    model.predictor = None
    seen: dict[str, list[dict[int, int]]] = {"first": [], "second": []}
    for frame in range(FRAMES):
        for name, yolo in (("first", first), ("second", second)):
            if name == "second" and frame < 2:
                continue
            if name == "second" and frame == 5:
                yolo.predictor.trackers[0].reset()
            scene.frame = frame
            (result,) = yolo.track(picture(frame), **settings)
            seen[name].append(dict(zip(ids(result), objects_of(result), strict=True)))
    assert all(frame == seen["first"][0] for frame in seen["first"])
    assert all(sorted(frame) == [1, 2, 3] for frames in seen.values() for frame in frames)


def test_persist(model: MultiTaskYOLO, scene: Scene) -> None:
    """With `persist` ids last from call to call; without, each call starts anew."""
    model.predictor = None
    owners = []
    for frame in range(4):
        (result,) = model.track(picture(frame), persist=True, **BASE)
        owners.append(dict(zip(ids(result), objects_of(result), strict=True)))
    assert owners[1:] == owners[:-1]
    tracker = model.predictor.trackers[0]
    (result,) = model.track(picture(4), persist=True, **BASE)
    assert model.predictor.trackers[0] is tracker
    assert result.trails.data.shape == (N, 5, 2)
    (result,) = model.track(picture(5), **BASE)
    assert model.predictor.trackers[0] is not tracker
    assert result.trails.data.shape == (N, 1, 2)
    assert sorted(ids(result)) == [1, 2, 3]


def test_another_tracker_starts_anew_in_spite_of_persist(model: MultiTaskYOLO, scene: Scene) -> None:
    model.predictor = None
    for tracker in ("bytetrack.yaml", "multicue.yaml"):
        (result,) = model.track(picture(0), persist=True, tracker=tracker, **BASE)
        assert sorted(ids(result)) == [1, 2, 3]
        assert isinstance(model.predictor.trackers[0], MultiCueTracker) == (tracker == "multicue.yaml")
        assert result.trails.data.shape == (N, 1, 2)


def test_keypoint_spreads_of_the_data_reach_the_tracker(
    model: MultiTaskYOLO, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.model, "kpt_oks_sigmas", [0.1, 0.2, 0.3, 0.4, 0.5], raising=False)
    model.predictor = None
    model.track(picture(0), **BASE)
    assert model.predictor.trackers[0].pose._sigmas.tolist() == [0.1, 0.2, 0.3, 0.4, 0.5]


def test_arrays_of_a_call_follow_each_other(model: MultiTaskYOLO, scene: Scene) -> None:
    scene.batch_is_time = True
    results = model.track([picture(frame) for frame in range(4)], tracker="bytetrack.yaml", **BASE)
    assert [sorted(ids(r)) for r in results] == [[1, 2, 3]] * 4
    assert [r.trails.data.shape[1] for r in results] == [1, 2, 3, 4]


def test_batches_of_a_video(model: MultiTaskYOLO, scene: Scene, clip: Path) -> None:
    one = model.track(clip, tracker="botsort.yaml", **BASE)
    scene.frame, scene.batch_is_time = 0, True
    three = model.track(clip, tracker="botsort.yaml", batch=3, **BASE)
    assert len(three) == FRAMES
    for a, b in zip(one, three, strict=True):
        torch.testing.assert_close(a.boxes.data, b.boxes.data)
        torch.testing.assert_close(a.embeddings.data, b.embeddings.data)


@pytest.mark.parametrize("tracker", ["bytetrack.yaml", "multicue.yaml"])
def test_each_video_is_a_sequence(model: MultiTaskYOLO, scene: Scene, tmp_path: Path, tracker: str) -> None:
    """In a folder of two videos ids start at 1 again; without that, the second would go on."""
    (tmp_path / "videos").mkdir()
    for name in ("a", "b"):
        write_video(tmp_path / "videos" / f"{name}.avi")
    results = model.track(tmp_path / "videos", tracker=tracker, **BASE)
    assert len(results) == 2 * FRAMES
    assert all(sorted(ids(r)) == [1, 2, 3] for r in results)
    assert [r.trails.data.shape[1] for r in results] == 2 * list(range(1, FRAMES + 1))
    listed = model.track([str(tmp_path / "videos" / f"{k}.avi") for k in "ab"], tracker=tracker, **BASE)
    assert [r.path for r in listed] == [r.path for r in results]


def test_persist_goes_on_with_the_next_video(model: MultiTaskYOLO, scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    for name in ("a", "b"):
        write_video(tmp_path / "videos" / f"{name}.avi", frames=4)
    model.predictor = None
    results = model.track(tmp_path / "videos", tracker="bytetrack.yaml", persist=True, **BASE)
    owners = [dict(zip(ids(r), objects_of(r), strict=True)) for r in results]
    assert all(owner == owners[0] for owner in owners), "the scene goes on as well"


@pytest.mark.parametrize("tracker", ["botsort.yaml", "multicue.yaml"])
def test_a_folder_of_images_is_a_sequence(model: MultiTaskYOLO, scene: Scene, tmp_path: Path, tracker: str) -> None:
    """The host starts anew at every image, as each has its own path."""
    for name in ("one", "two"):
        write_frames(tmp_path / name, 4)
        (tmp_path / name / "seqinfo.ini").write_text("[Sequence]\nframeRate=10\n")
    results = model.track(tmp_path / "*" / "*.png", tracker=tracker, **BASE)
    assert [Path(r.path).parent.name for r in results] == ["one"] * 4 + ["two"] * 4
    assert [r.trails.data.shape[1] for r in results] == [1, 2, 3, 4] * 2
    assert all(sorted(ids(r)) == [1, 2, 3] for r in results)


@pytest.mark.parametrize("as_list", [False, True])
def test_streams_at_once(
    model: MultiTaskYOLO, scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_list: bool
) -> None:
    """Each stream has a tracker of its own. The scene shows each the same frames, so both count to three."""
    source: Any = [str(write_video(tmp_path / f"{name}.avi")) for name in "ab"]
    if as_list:
        monkeypatch.setattr("yolo_multitask.engine.sources._is_stream", lambda name: True)
    else:
        (tmp_path / "two.streams").write_text("\n".join(source))
        source = tmp_path / "two.streams"
    results = list(model.track(source, stream=True, stream_buffer=True, tracker="bytetrack.yaml", **BASE))
    assert len(results) == 2 * FRAMES
    assert len(model.predictor.trackers) == 2
    assert model.predictor.trackers[0] is not model.predictor.trackers[1]
    for stream in (results[::2], results[1::2]):
        owners = [dict(zip(ids(r), objects_of(r), strict=True)) for r in stream]
        assert all(owner == owners[0] for owner in owners)
        assert sorted(owners[0]) == [1, 2, 3]


def test_a_stream_is_a_generator_that_can_be_left(model: MultiTaskYOLO, scene: Scene, clip: Path) -> None:
    stream = model.track(clip, stream=True, tracker="bytetrack.yaml", **BASE)
    assert isinstance(stream, (GeneratorType, Iterator))
    assert ids(next(stream)) == [1, 2, 3]
    stream.close()
    scene.frame = 0
    assert len(model.track(clip, tracker="bytetrack.yaml", **BASE)) == FRAMES


def test_a_frame_without_tracks_has_no_ids(model: MultiTaskYOLO, monkeypatch: pytest.MonkeyPatch, clip: Path) -> None:
    """The host would return what was detected there, without ids."""
    layout = model.model.head.layout
    scene = Scene(monkeypatch, layout)
    weak = rows(0, layout)
    weak[:, 4] = 0.15
    monkeypatch.setattr("support.scene.rows", lambda *_: weak)
    for tracker in NAMES:
        scene.frame = 0
        for result in model.track(clip, tracker=tracker, **BASE):
            assert len(result) == len(result.boxes.id) == len(result.masks) == len(result.embeddings) == 0
            assert result.boxes.is_track
            assert result.plot().shape == (SIZE, SIZE, 3)


def test_predict_after_track(model: MultiTaskYOLO, scene: Scene, clip: Path) -> None:
    model.track(clip, tracker="tracktrack.yaml", **BASE)
    for result in model.predict(clip, **BASE):
        assert result.boxes.id is None
        assert result.trails is None


@pytest.mark.parametrize("name", ["yolov8n-seg.yaml", "yolov8n-pose.yaml"])
@pytest.mark.parametrize("tracker", ["multicue.yaml", "tracktrack.yaml"])
def test_other_stock_tasks(name: str, tracker: str, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from yolo_multitask.tasks import RowLayout

    layout = RowLayout(nc=80, nm=32) if "seg" in name else RowLayout(nc=80, nk=51)
    Scene(monkeypatch, layout, kpt_shape=(17, 3))
    for frame, result in enumerate(MultiTaskYOLO(name).track(clip, tracker=tracker, **BASE)):
        assert len(set(ids(result))) == len(result)
        if "seg" in name:  # the host leaves out detections whose mask is empty
            assert len(result.masks or ()) == len(result)
            continue
        assert sorted(ids(result)) == [1, 2, 3]
        centre = (result.boxes.xyxy[:, :2] + result.boxes.xyxy[:, 2:]) / 2
        np.testing.assert_allclose(result.keypoints.xy[:, 0], centre, atol=3, err_msg=str(frame))


def test_oriented_boxes(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    obb = torch.zeros(N, 7)

    def found(preds: Any, *_: Any, **__: Any) -> list[torch.Tensor]:
        xyxy = torch.as_tensor(boxes(0))
        obb[:, :4] = torch.cat(((xyxy[:, :2] + xyxy[:, 2:]) / 2, torch.tensor([[14.0, 10.0]] * N)), 1)
        obb[:, 4] = 0.9
        obb[:, 6] = 0.2
        return [obb.clone()]

    monkeypatch.setattr("ultralytics.models.yolo.detect.predict.nms.non_max_suppression", found)
    model = MultiTaskYOLO("yolov8n-obb.yaml")
    for result in model.track(clip, tracker="bytetrack.yaml", **BASE):
        assert sorted(result.obb.id.int().tolist()) == [1, 2, 3]
        torch.testing.assert_close(result.obb.xywhr, obb[:, [0, 1, 2, 3, 6]], atol=0.5, rtol=0)
        torch.testing.assert_close(result.trails.xy[:, -1], result.obb.xywhr[:, :2])
    with pytest.raises(ValueError, match=r"multicue.yaml tracks upright boxes, but .* is an obb model"):
        model.track(clip, tracker="multicue.yaml", **BASE)


def test_default_trackers(model: MultiTaskYOLO, scene: Scene, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ultralytics.utils import DEFAULT_CFG

    model.track(clip, tracker=None, conf=None, **BASE)
    assert model.predictor.args.tracker == "multicue.yaml"
    assert type(model.predictor.trackers[0]).__name__ == "MultiCueTracker"
    assert model.predictor.args.conf == 0.1
    Scene(monkeypatch, None)
    stock = MultiTaskYOLO("yolov8n.yaml")
    stock.track(clip, tracker=None, **BASE)
    assert stock.predictor.args.tracker == DEFAULT_CFG.tracker


@pytest.mark.parametrize(
    ("tracker", "message"),
    [
        (
            "bytetrak.yaml",
            r"tracker=bytetrak.yaml: expected a file or one of .*botsort.yaml.*Did you mean bytetrack.yaml",
        ),
        ("multicue.txt", r"tracker=multicue.txt: expected the YAML of a tracker"),
        ("coco8.yaml", r"coco8.yaml: expected 'tracker_type', one of .*bytetrack.*, found None"),
        ("no/such/file.yaml", r"tracker=no/such/file.yaml: expected a file or one of"),
    ],
)
def test_unknown_trackers(model: MultiTaskYOLO, clip: Path, tracker: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model.track(clip, tracker=tracker, **BASE)


def test_files_that_are_no_trackers(model: MultiTaskYOLO, clip: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    for text, message in {
        "tracker_type: sort": "expected 'tracker_type', one of .*bytetrack.*, found 'sort'",
        "": "expected 'tracker_type'",
        "tracker_type: [bytetrack]": r"expected 'tracker_type', one of .*bytetrack.*, found \['bytetrack'\]",
    }.items():
        file.write_text(text)
        with pytest.raises(ValueError, match=f"mine.yaml: {message}"):
            model.track(clip, tracker=str(file), **BASE)
    file.write_text("- bytetrack")
    with pytest.raises(ValueError, match=r"mine.yaml' is not a valid YAML mapping"):
        model.track(clip, tracker=str(file), **BASE)


def test_a_model_without_boxes(clip: Path) -> None:
    with pytest.raises(ValueError, match=r"a model whose task has boxes to track .* found one for 'classify'"):
        MultiTaskYOLO("yolov8n-cls.yaml").track(clip, **BASE)


def test_lists_of_streams_and_files_do_not_mix(model: MultiTaskYOLO, clip: Path) -> None:
    with pytest.raises(ValueError, match=r"streams or files, found both in one list, such as rtsp://a/b and"):
        model.track(["rtsp://a/b", clip], **BASE)


def test_sequences_and_frame_rates(tmp_path: Path) -> None:
    from types import SimpleNamespace

    folder = write_frames(tmp_path / "MOT17-99" / "img1", 1)
    image = str(folder / "000001.png")
    assert source_key(image, "image") == str(folder)
    assert source_name(image, str(folder)) == "MOT17-99"
    assert source_name("image0.jpg", ".") == "image0"
    assert source_key("a/b.mp4", "video") == "a/b.mp4"
    assert source_name("a/b.mp4", "a/b.mp4") == "b"
    assert source_key("0", "stream") == "0"
    images = SimpleNamespace(mode="image")
    assert frame_rate(images, 0, image) == 30
    (tmp_path / "MOT17-99" / "seqinfo.ini").write_text("[Sequence]\nname=MOT17-99\nframeRate=14\nimDir=img1\n")
    assert frame_rate(images, 0, image) == 14
    (folder / "seqinfo.ini").write_text("[Sequence]\nframeRate=7\n")
    assert frame_rate(images, 0, image) == 7, "the nearest one counts"
    (tmp_path / "seqinfo.ini").write_text("[Sequence]\nframeRate=3\n")
    other = write_frames(tmp_path / "frames", 1)
    assert frame_rate(images, 0, str(other / "000001.png")) == 30, "only img1 has its seqinfo.ini beside it"
    assert frame_rate(SimpleNamespace(mode="video", fps=12.5), 0, "a.mp4") == 12.5
    assert frame_rate(SimpleNamespace(mode="video", fps=float("nan")), 0, "a.mp4") == 30
    assert frame_rate(SimpleNamespace(mode="stream", fps=[10, 25]), 1, "b") == 25


def test_multicue_is_given_every_cue_and_the_frame_rate(
    model: MultiTaskYOLO, scene: Scene, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates, calls = [], []

    class Spy(MultiCueTracker):
        def __init__(self, *args: Any, frame_rate: float = 30, **kwargs: Any) -> None:
            rates.append(frame_rate)
            super().__init__(*args, frame_rate=frame_rate, **kwargs)

        def update(self, det: Any, img: Any = None, **cues: Any) -> Any:
            calls.append((det, img, cues))
            return super().update(det, img, **cues)

    monkeypatch.setattr("yolo_multitask.engine.trackers.MultiCueTracker", Spy)
    found = model.predict(clip, **BASE)
    scene.frame = 0
    model.track(clip, tracker="multicue.yaml", **BASE)
    assert rates == [10]
    for result, (det, img, cues) in zip(found, calls, strict=True):
        np.testing.assert_array_equal(det.xyxy, result.boxes.xyxy)
        np.testing.assert_array_equal(img, result.orig_img)
        np.testing.assert_array_equal(cues["feats"], result.embeddings.data)
        np.testing.assert_array_equal(cues["keypoints"], result.keypoints.data)
        np.testing.assert_array_equal(cues["masks"], result.masks.data)
        np.testing.assert_array_equal(cues["next_boxes"], result.next_boxes.xyxy)
    scene.frame = 0
    model.track(clip, vid_stride=2, tracker="multicue.yaml", **BASE)
    assert rates == [10, 5]
    file = tmp_path / "mine.yaml"
    file.write_text("tracker_type: multicue\nmask_weight: 0\n")
    calls.clear()
    model.track(clip, tracker=str(file), **BASE)
    assert calls
    assert all("masks" not in cues for _, _, cues in calls)
    file.write_text("tracker_type: multicue\nmask_wait: 0\n")
    with pytest.raises(ValueError, match=r"mine.yaml: unknown key 'mask_wait' .* nearest is 'mask_weight'"):
        model.track(clip, tracker=str(file), **BASE)


def test_trails_are_where_the_objects_stood(model: MultiTaskYOLO, scene: Scene, clip: Path) -> None:
    results = model.track(clip, tracker="bytetrack.yaml", **BASE)
    last = results[-1]
    assert last.trails.xy.shape == (N, FRAMES, 2)
    for row, i in enumerate(ids(last)):
        for frame, result in enumerate(results):
            x1, _, x2, y2 = result.boxes.xyxy[ids(result).index(i)].tolist()
            assert last.trails.xy[row, frame].tolist() == pytest.approx([(x1 + x2) / 2, y2], abs=1e-3)
    assert STEPS[objects_of(last)[0]][0] * float(last.trails.xy[0, -1, 0] - last.trails.xy[0, 0, 0]) >= 0


def test_the_models_own_callbacks_stay(model: MultiTaskYOLO, scene: Scene, clip: Path) -> None:
    calls: list[int] = []
    model.add_callback("on_predict_postprocess_end", lambda predictor: calls.append(len(predictor.results)))
    model.track(clip, tracker="bytetrack.yaml", **BASE)
    model.track(clip, tracker="bytetrack.yaml", **BASE)
    assert calls == [1] * (2 * FRAMES)
    functions = [getattr(c, "func", None) for c in model.callbacks["on_predict_postprocess_end"]]
    assert sum(f is not None and f.__module__ == "yolo_multitask.engine.track" for f in functions) == 1


def test_the_host_itself_tracks_with_multicue(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing this package makes its tracker known to `ultralytics.YOLO`."""
    from ultralytics import YOLO

    from yolo_multitask.configs import resolve_yaml

    Scene(monkeypatch, None)
    for result in YOLO("yolov8n.yaml").track(clip, tracker=str(resolve_yaml("multicue.yaml", "trackers")), **BASE):
        assert sorted(ids(result)) == [1, 2, 3]
