"""CVAT's XML 1.1 to label lines: hand-made tasks where every line is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from support.labelled import HEIGHT, SCALE, WIDTH, balanced, images_of, labels_of, lines_of, pixels, write_images

from yolo_multitask.data.config import load_data
from yolo_multitask.data.convert.cvat import convert_cvat
from yolo_multitask.data.labels import LabelSpec
from yolo_multitask.data.mot import read_seqinfo

BODY = ("nose", "left_hand", "right_hand")


def label(name: str, kind: str = "any", parent: str = "") -> str:
    """Return a label of the task."""
    above = f"<parent>{parent}</parent>" if parent else ""
    return f"<label><name>{name}</name><type>{kind}</type><attributes></attributes>{above}</label>"


LABELS = label("person") + label("cat") + label("body", "skeleton") + "".join(label(n, "points", "body") for n in BODY)


def document(content: str, labels: str = LABELS, meta: str = "") -> str:
    """Return an XML file."""
    head = f"<version>1.1</version><meta><task><name>t</name>{meta}<labels>{labels}</labels></task></meta>"
    return f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>{head}{content}</annotations>'


def image(content: str, name: str = "a.png", more: str = "") -> str:
    """Return an image element."""
    return f'<image id="0" name="{name}" {more} width="{WIDTH}" height="{HEIGHT}">{content}</image>'


def element(tag: str, content: str = "", **attributes: Any) -> str:
    """Return an element."""
    given = " ".join(f'{k}="{v}"' for k, v in attributes.items())
    return f"<{tag} {given}>{content}</{tag}>"


def box(x1: float, y1: float, x2: float, y2: float, **more: Any) -> str:
    """Return a box."""
    return element("box", xtl=x1, ytl=y1, xbr=x2, ybr=y2, **({"label": "person"} | more))


def joints(**places: str) -> str:
    """Return the points of a skeleton; ``!`` before a place for outside, ``?`` for occluded."""
    return "".join(
        element("points", label=n, points=p.strip("!?"), outside=int(p[0] == "!"), occluded=int(p[0] == "?"))
        for n, p in places.items()
    )


def task(
    folder: Path, xml: str, names: Sequence[str] = ("a.png",), place: str = "images", file: str = "annotations"
) -> Path:
    """Write an export: the XML and its images."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{file}.xml").write_text(xml, encoding="utf-8")
    write_images(folder / place, names)
    return folder


def video_task(tracks: str, meta: str = "", frames: int = 6) -> str:
    """Return the XML of a video with numbered frames."""
    size = f"<original_size><width>{WIDTH}</width><height>{HEIGHT}</height></original_size>"
    return document(tracks, meta=meta or f"<size>{frames}</size><mode>interpolation</mode>{size}")


def frame_names(numbers: Sequence[int]) -> list[str]:
    """Return the names under which CVAT exports frames."""
    return [f"frame_{n:06d}.PNG" for n in numbers]


def walk(out: Path, sequence: str, numbers: Sequence[int]) -> dict[int, dict[int, list[float]]]:
    """Return the boxes in pixels by frame and identity."""
    found = {}
    for n in numbers:
        labels = labels_of(out, f"{sequence}/{n:06d}")
        found[n] = {int(i): pixels(labels, k) for k, i in enumerate(labels.ids)}
    return found


def test_shapes_of_an_image(tmp_path: Path) -> None:
    content = "".join(
        (
            box(4, 2, 12, 10, occluded=1),
            box(10, 8, 20, 12, label="cat", rotation=90),
            element("polygon", label="person", points="20,2;28,2;28,10"),
            element("mask", label="cat", rle="1, 2, 3, 2, 1, 3", left=30, top=5, width=4, height=3),
            element("ellipse", label="person", cx=20, cy=10, rx=6, ry=3),
            element("ellipse", label="person", cx=20, cy=10, rx=6, ry=3, rotation=90),
            element("polyline", label="cat", points="1,1;2,2"),
            element("cuboid", label="cat", xtl1=1),
            element("tag", label="cat"),
            element("points", label="cat", points="1,1;2,2"),
            element("mask", label="cat", rle="4", left=0, top=0, width=2, height=2),
            box(0, 12, 8, 18, label="cat", source="manual").replace(
                "></box>", '><attribute name="is_crowd">true</attribute></box>'
            ),
            box(0, 12, 8, 18, label="dog"),
            element("mask", label="cat", rle="0,4,1,4", left=34, top=12, width=3, height=3),
            box(24, 12, 28, 18).replace("></box>", '><attribute name="ignore">1</attribute></box>'),
        )
    )
    report = convert_cvat(task(tmp_path / "in", document(image(content))), tmp_path / "out").splits["train"]
    found = labels_of(tmp_path / "out", "a")
    assert found.cls.tolist() == [0, 1, 0, 1, 0, 0, 1, 1, 0]
    assert [pixels(found, i) for i in range(9)] == [
        [4, 2, 12, 10],
        [13, 5, 17, 15],  # 10 x 4 turned about 15, 10
        [20, 2, 28, 10],
        [31, 5, 34, 8],
        [14, 7, 26, 13],
        [17, 4, 23, 16],
        [0, 12, 8, 18],
        [34, 12, 37, 15],
        [24, 12, 28, 18],
    ]
    assert found.has_polygon.tolist() == [False, False, True, True, True, True, False, True, False]
    assert found.ignore.tolist() == [False] * 6 + [True, False, True]
    mask = found.polygons[3]
    assert mask is not None
    drawn = cv2.fillPoly(np.zeros((HEIGHT, WIDTH), np.uint8), [np.rint(mask * SCALE[:2]).astype(np.int32)], 1)
    assert drawn[5:8, 30:34].tolist() == [[0, 1, 1, 0], [0, 0, 1, 1], [0, 1, 1, 1]]
    assert report.dropped == {
        "polyline, no outline of an object": 1,
        "cuboid, no outline of an object": 1,
        "tag, no outline of an object": 1,
        "points outside of a skeleton that are not as many as keypoints= names": 1,
        "empty mask": 1,
        "class not chosen": 1,
    }
    assert report.notes == {"rotated box, taken as the box around it": 1, "hole in a mask, filled": 1}
    assert balanced(report)
    data = load_data(tmp_path / "out/data.yaml")
    assert data["names"] == {0: "person", 1: "cat", 2: "body"}
    assert data["label_spec"] == LabelSpec(nc=3, kpt_shape=None, polygons=True)


def test_rle_of_the_documentation(tmp_path: Path) -> None:
    """The mask of CVAT's page "XML annotation format": rows of 5, 7, 9 and so on in 13 x 15 pixels."""
    rle = "3, 5, 7, 7, 5, 9, 3, 11, 2, 11, 2, 12, 1, 12, 1, 26, 1, 12, 1, 12, 2, 11, 3, 9, 5, 7, 7, 5, 3"
    from xml.etree import ElementTree

    from yolo_multitask.data.convert.cvat_xml import parse

    mask = parse(ElementTree.fromstring(element("mask", rle=rle, left=7, top=8, width=13, height=15)), (), "here").mask
    assert mask is not None
    assert mask.shape == (15, 13)
    assert mask.sum(1).tolist() == [5, 7, 9, 11, 11, 12, 12, 13, 13, 12, 12, 11, 9, 7, 5]
    assert mask[0].tolist() == [0] * 3 + [1] * 5 + [0] * 5


def test_skeletons_and_groups(tmp_path: Path) -> None:
    content = "".join(
        (
            element("polygon", label="person", points="4,2;12,2;12,10;4,10", group_id=1),
            element("skeleton", joints(right_hand="6,4", nose="?8,4", left_hand="!9,9"), label="body", group_id=1),
            element("skeleton", joints(nose="20,4", left_hand="24,10", right_hand="18,8"), label="body"),
            element("skeleton", joints(nose="20,4"), label="body"),
            element("skeleton", joints(nose="!20,4"), label="body"),
            box(30, 2, 38, 10, label="cat", group_id=2),
            box(30, 2, 38, 10, group_id=2),
            element("skeleton", joints(nose="32,4", left_hand="34,8"), label="body", group_id=2),
        )
    )
    report = convert_cvat(task(tmp_path / "in", document(image(content))), tmp_path / "out").splits["train"]
    found = labels_of(tmp_path / "out", "a")
    assert found.cls.tolist() == [0, 1, 0, 2, 2]
    assert found.has_keypoints.tolist() == [True, False, False, True, True]
    assert [pixels(found, i) for i in (0, 3, 4)] == [[4, 2, 12, 10], [18, 4, 24, 10], [32, 4, 34, 8]]
    assert found.keypoints is not None
    np.testing.assert_allclose(found.keypoints[0], [[0.2, 0.2, 1], [0, 0, 0], [0.15, 0.2, 2]], atol=1e-6)
    assert report.dropped == {"box of zero area": 1, "no box, no outline and no visible keypoint": 1}
    assert report.notes == {"shape joined with others of its group": 1, "box taken around the keypoints": 2}
    assert balanced(report)
    data = load_data(tmp_path / "out/data.yaml")
    assert data["kpt_shape"] == [3, 3]
    assert data["flip_idx"] == [0, 2, 1]
    assert data["kpt_names"] == {0: list(BODY), 2: list(BODY)}
    assert data["kpt_classes"] == [0, 2]
    order = "left_hand,nose,right_hand"
    convert_cvat(tmp_path / "in", tmp_path / "other", keypoints=order, classes="person")
    other = labels_of(tmp_path / "other", "a").keypoints
    assert other is not None
    np.testing.assert_allclose(other[0], found.keypoints[0][[1, 0, 2]], atol=1e-6)


def test_ignoring_a_part_ignores_the_object(tmp_path: Path) -> None:
    flag = '<attribute name="ignore">true</attribute>'
    pose = element("skeleton", joints(nose="4,4") + flag, label="body", group_id=1)
    convert_cvat(task(tmp_path / "in", document(image(box(2, 2, 9, 9, group_id=1) + pose))), tmp_path / "out")
    assert lines_of(tmp_path / "out", "train/a") == ["0 0.1375 0.275 0.175 0.35 - !"]


def test_labels_that_are_there_twice(tmp_path: Path) -> None:
    """As where two tasks of a project say their labels, each."""
    pose = element("skeleton", joints(nose="4,4", left_hand="8,9", right_hand="1,1"), label="body")
    convert_cvat(task(tmp_path / "in", document(image(pose), LABELS * 2)), tmp_path / "out")
    assert load_data(tmp_path / "out/data.yaml")["kpt_shape"] == [3, 3]


def test_points_as_keypoints(tmp_path: Path) -> None:
    content = "".join(
        (
            box(2, 2, 10, 10, group_id=1),
            element("points", label="nose", points="4,4", group_id=1, occluded=1),
            box(12, 2, 20, 10, group_id=2),
            element("points", label="face", points="14,4;16,5", group_id=2),
            element("points", label="nose", points="4,4"),
            element("points", label="face", points="14,4;16,5;17,6", group_id=2),
        )
    )
    xml = document(image(content), label("person") + label("nose") + label("face"))
    report = convert_cvat(task(tmp_path / "in", xml), tmp_path / "out", keypoints="nose,chin", classes="person").splits[
        "train"
    ]
    found = labels_of(tmp_path / "out", "a").keypoints
    assert found is not None
    np.testing.assert_allclose(found[0], [[0.1, 0.2, 1], [0, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(found[1], [[0.35, 0.2, 2], [0.4, 0.25, 2]], atol=1e-6)
    assert report.dropped == {
        "keypoint without a group": 1,
        "points outside of a skeleton that are not as many as keypoints= names": 1,
    }
    assert balanced(report)
    assert convert_cvat(tmp_path / "in", tmp_path / "all", keypoints="nose,chin").names == ["person", "face"]


def test_where_images_are(tmp_path: Path) -> None:
    content = "".join(
        (
            image(box(1, 1, 9, 9), "day/a.png"),
            image("", "b.png", 'subset="Train"'),
            image(box(1, 1, 9, 9), "frame_000007"),  # of a video, as CVAT names it
            image(box(1, 1, 9, 9), "gone.png"),
            image(box(1, 1, 9, 9), "/home/me/c.png"),
        )
    )
    source = task(tmp_path / "in", document(content), ["day/a.png", "Train/b.png", "frame_000007.PNG", "c.png"])
    report = convert_cvat(source, tmp_path / "out").splits["train"]
    assert images_of(tmp_path / "out") == ["Train/b.png", "c.png", "day/a.png", "frame_000007.PNG"]
    assert (report.images, report.background, report.images_missing) == (4, 1, 1)
    assert report.dropped == {"image missing in the folder": 1}
    assert balanced(report)
    (source / "images").rename(tmp_path / "moved")
    report = convert_cvat(
        source / "annotations.xml", tmp_path / "out", images=tmp_path / "moved", exist_ok=True, background=False
    ).splits["train"]
    assert (report.images, report.images_skipped) == (3, 1)


def test_names_need_only_differ_within_a_file(tmp_path: Path) -> None:
    for name in ("one", "two"):
        task(tmp_path / "in" / name, document(image(box(1, 1, 9, 9))))
    (tmp_path / "in/two/images/a.json").touch()  # no image
    convert_cvat(tmp_path / "in", tmp_path / "out")
    assert images_of(tmp_path / "out") == ["one/a.png", "two/a.png"]
    with pytest.raises(ValueError, match=r"expected one annotation of each image of train, found .*a\.png again"):
        convert_cvat(tmp_path / "in", tmp_path / "other", images=tmp_path / "in/one/images")


def step(frame: int, x: float, keyframe: int = 1, outside: int = 0) -> str:
    """Return a box of 8 x 8 pixels in a track."""
    return element("box", frame=frame, keyframe=keyframe, outside=outside, xtl=x, ytl=2, xbr=x + 8, ybr=10)


def test_interpolation_of_boxes(tmp_path: Path) -> None:
    tracks = "".join(
        (
            element("track", step(0, 0) + step(4, 8), id=3, label="person"),  # to the end
            element("track", step(1, 20) + step(3, 20, outside=1), id=5, label="cat"),
            element("track", step(5, 30, outside=1), id=7, label="cat"),
        )
    )
    source = task(tmp_path / "clip", video_task(tracks), frame_names(range(6)))
    report = convert_cvat(source, tmp_path / "out").splits["train"]
    assert walk(tmp_path / "out", "clip", range(6)) == {
        0: {3: [0, 2, 8, 10]},
        1: {3: [2, 2, 10, 10], 5: [20, 2, 28, 10]},
        2: {3: [4, 2, 12, 10], 5: [20, 2, 28, 10]},
        3: {3: [6, 2, 14, 10]},
        4: {3: [8, 2, 16, 10]},
        5: {3: [8, 2, 16, 10]},
    }
    assert (report.images, report.instances, report.background) == (6, 8, 0)
    assert balanced(report)
    data = load_data(tmp_path / "out/data.yaml")
    assert data["label_spec"] == LabelSpec(nc=3, kpt_shape=None, polygons=False, ids=True)
    images = tmp_path / "out/images/train/clip"
    assert sorted(p.name for p in images.iterdir()) == [f"{n:06d}.PNG" for n in range(6)]


def test_an_export_is_whole(tmp_path: Path) -> None:
    """CVAT writes every frame of a track (keyframe 0), and single shapes without an end in the last frames."""
    tracks = "".join(
        (
            element(
                "track", step(0, 0) + step(1, 3, keyframe=0) + step(2, 4) + step(3, 4, keyframe=0), id=0, label="person"
            ),
            element("track", step(2, 20), id=1, label="cat"),
        )
    )
    source = task(tmp_path / "clip", video_task(tracks, frames=4), frame_names(range(4)))
    convert_cvat(source, tmp_path / "out")
    found = walk(tmp_path / "out", "clip", range(4))
    assert [list(found[n]) for n in range(4)] == [[0], [0], [0, 1], [0]]
    assert found[1][0] == [3, 2, 11, 10]  # as the file says


def test_a_shape_of_the_last_frame_but_one_ends_there(tmp_path: Path) -> None:
    """CVAT writes no end for it; the tracks beside it may have no interpolated frame by which an export is known."""
    tracks = element("track", step(2, 20), id=0, label="cat")
    tracks += element("track", "".join(step(n, n) for n in range(4)), id=1, label="person")
    convert_cvat(task(tmp_path / "clip", video_task(tracks, frames=4), frame_names(range(4))), tmp_path / "out")
    assert [list(f) for f in walk(tmp_path / "out", "clip", range(4)).values()] == [[1], [1], [0, 1], [1]]


def test_a_video_of_a_project(tmp_path: Path) -> None:
    """The project says the frames of each task, and its images lie in the folders of their subsets."""
    size = "<original_size><width>{}</width><height>20</height></original_size>"
    tasks = "".join(
        f"<task><id>{i}</id><stop_frame>{stop}</stop_frame>{size.format(width)}</task>"
        for i, stop, width in ((7, 1, 80), (8, 2, WIDTH))
    )
    labels = f"<labels>{LABELS}</labels>"
    track = element("track", step(0, 0), id=0, label="person", task_id=8, subset="Train")
    xml = f"<annotations><meta><project><tasks>{tasks}</tasks>{labels}</project></meta>{track}</annotations>"
    source = task(tmp_path / "in", xml, frame_names(range(3)), "images/Train")
    report = convert_cvat(source, tmp_path / "out").splits["train"]
    assert (report.images, report.instances) == (3, 3)


def test_every_second_frame_from_the_tenth(tmp_path: Path) -> None:
    meta = "<start_frame>10</start_frame><stop_frame>16</stop_frame><frame_filter>step=2</frame_filter>"
    tracks = element("track", step(10, 0) + step(14, 8) + step(16, 8, outside=1), id=0, label="person")
    tracks += element("track", step(20, 0) + step(22, 0, outside=1), id=1, label="person")
    source = task(tmp_path / "in", video_task(tracks, meta), frame_names([10, 12, 16, 18]), file="street")
    report = convert_cvat(source, tmp_path / "out").splits["train"]
    assert walk(tmp_path / "out", "street", [10, 12, 16]) == {10: {0: [0, 2, 8, 10]}, 12: {0: [4, 2, 12, 10]}, 16: {}}
    assert not (tmp_path / "out/labels/train/street/000018.txt").exists()  # not in the task
    assert report.images_missing == 1
    assert report.dropped == {"frame missing": 1, "frame that is not in the task": 1}
    assert balanced(report)


def polygon(frame: int, points: str, **more: Any) -> str:
    """Return a polygon in a track."""
    return element("polygon", frame=frame, keyframe=1, outside=0, points=points, **more)


def test_interpolation_of_outlines(tmp_path: Path) -> None:
    def mask(frame: int, left: int) -> str:
        return element("mask", frame=frame, keyframe=1, outside=0, rle="0,16", left=left, top=0, width=4, height=4)

    def ellipse(frame: int, cx: float, rotation: float) -> str:
        return element("ellipse", frame=frame, keyframe=1, outside=0, cx=cx, cy=10, rx=4, ry=2, rotation=rotation)

    tracks = "".join(
        (
            element("track", polygon(0, "0,0;8,0;8,8") + polygon(2, "4,4;12,4;12,12"), id=0, label="person"),
            element("track", polygon(0, "20,0;28,0;28,8") + polygon(2, "24,4;32,4;32,12;24,12"), id=1, label="person"),
            element("track", mask(0, 10) + mask(2, 14), id=2, label="cat"),
            element("track", ellipse(0, 10, 350) + ellipse(2, 20, 10), id=3, label="cat"),
        )
    )
    source = task(tmp_path / "clip", video_task(tracks, frames=3), frame_names(range(3)))
    report = convert_cvat(source, tmp_path / "out").splits["train"]
    between = labels_of(tmp_path / "out", "clip/000001")
    assert between.ids.tolist() == [0, 1, 2, 3]
    assert between.has_polygon.tolist() == [True, False, False, True]
    first = between.polygons[0]
    assert first is not None
    np.testing.assert_allclose(first * SCALE[:2], [[2, 2], [10, 2], [10, 10]], atol=1e-4)
    assert pixels(between, 1) == [22, 2, 30, 10]
    assert pixels(between, 2) == [12, 0, 16, 4]
    assert pixels(between, 3) == [11, 8, 19, 12]  # by the short way, through 0 degrees
    assert labels_of(tmp_path / "out", "clip/000002").has_polygon.tolist() == [True] * 4
    assert report.notes == {"outline between keyframes with other numbers of points, written as not labelled": 2}
    assert balanced(report)


def skeleton(frame: int, **places: str) -> str:
    """Return a skeleton in a track."""
    return element("skeleton", joints(**places), frame=frame, keyframe=1)


def test_interpolation_of_skeletons(tmp_path: Path) -> None:
    poses = "".join(
        (
            skeleton(0, nose="4,4", left_hand="?8,8", right_hand="!9,9"),
            skeleton(2, nose="8,8", left_hand="12,8", right_hand="1,1"),
            skeleton(3, nose="!8,8", left_hand="!12,8", right_hand="!1,1"),
        )
    )
    tracks = element("track", poses, id=4, label="body", group_id=9)
    boxes = element("box", frame=0, keyframe=1, outside=0, xtl=0, ytl=0, xbr=20, ybr=20)
    tracks += element("track", boxes, id=2, label="person", group_id=9)
    point = [element("points", frame=n, keyframe=1, outside=0, points=p) for n, p in ((0, "1,1"), (2, "3,5"))]
    several = [element("points", frame=n, keyframe=1, outside=0, points=f"{n},1;9,{n}") for n in (0, 2)]
    tracks += element("track", "".join(point), id=6, label="nose", group_id=6)
    tracks += element("track", "".join(several), id=7, label="cat")
    source = task(tmp_path / "clip", video_task(tracks, frames=4), frame_names(range(4)))
    report = convert_cvat(source, tmp_path / "out").splits["train"]
    between = labels_of(tmp_path / "out", "clip/000001")
    assert between.ids.tolist() == [2]  # of the tracks of a group, the smaller number
    assert between.keypoints is not None
    np.testing.assert_allclose(between.keypoints[0], [[0.15, 0.3, 2], [0.25, 0.4, 1], [0, 0, 0]], atol=1e-6)
    last = labels_of(tmp_path / "out", "clip/000003")
    assert (last.ids.tolist(), last.has_keypoints.tolist()) == ([2], [False])
    assert report.dropped == {
        "point that keypoints= does not name": 4,
        "points outside of a skeleton that are not as many as keypoints= names": 4,
    }
    assert balanced(report)


def test_tracks_of_a_group_have_one_identity_in_every_frame(tmp_path: Path) -> None:
    pose = "".join(skeleton(n, nose="4,4", left_hand="8,8", right_hand="2,9") for n in range(3))
    tracks = "".join(
        (
            element("track", step(1, 0) + step(2, 0, outside=1), id=5, label="person", group_id=1),
            element("track", pose, id=4, label="body", group_id=1),
            element("track", step(0, 10), id=6, label="person", group_id=2),
            element("track", step(1, 12), id=7, label="person", group_id=2),
            element("track", step(0, 30), id=8, label="cat", group_id=2),
        )
    )
    convert_cvat(task(tmp_path / "clip", video_task(tracks, frames=3), frame_names(range(3))), tmp_path / "out")
    found = [labels_of(tmp_path / "out", f"clip/{n:06d}") for n in range(3)]
    by_id = [dict(zip(f.ids.tolist(), f.cls.tolist(), strict=True)) for f in found]
    assert by_id == [{4: 2, 6: 0, 8: 1}, {4: 0, 6: 0, 8: 1}, {4: 2, 6: 0, 8: 1}]
    assert pixels(found[1], found[1].ids.tolist().index(6)) == [10, 2, 20, 10]  # both boxes


def write_video(path: Path, frames: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    """Write a video whose frames grow brighter by 20."""
    path.parent.mkdir(parents=True, exist_ok=True)
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 30, size)
    for i in range(frames):
        video.write(np.full((size[1], size[0], 3), 20 * i, np.uint8))
    video.release()


def test_the_video_itself(tmp_path: Path) -> None:
    meta = "<stop_frame>8</stop_frame><frame_filter>step=3</frame_filter><source>film.avi</source>"
    tracks = element("track", step(0, 0) + step(6, 8), id=0, label="person")
    source = task(tmp_path / "clip", video_task(tracks, meta), ())
    write_video(source / "film.avi", 5)
    report = convert_cvat(source, tmp_path / "out").splits["train"]  # found by its name
    images = tmp_path / "out/images/train/clip"
    assert sorted(p.name for p in images.iterdir()) == ["000000.jpg", "000003.jpg", "seqinfo.ini"]
    frame = cv2.imread(str(images / "000003.jpg"))
    assert frame.shape == (HEIGHT, WIDTH, 3)
    assert abs(float(frame.mean()) - 60) < 3  # the compression of film and picture
    assert walk(tmp_path / "out", "clip", [0, 3]) == {0: {0: [0, 2, 8, 10]}, 3: {0: [4, 2, 12, 10]}}
    assert (report.images_missing, report.dropped) == (1, {"frame missing": 1})
    assert read_seqinfo(images / "seqinfo.ini").frame_rate == pytest.approx(10)
    again = convert_cvat(source, tmp_path / "again", images=source / "film.avi").splits["train"]
    assert again == report


def test_several_files(tmp_path: Path) -> None:
    tracks = element("track", step(0, 0), id=0, label="person")
    for name in ("one", "two"):
        task(tmp_path / "in" / name, video_task(tracks, frames=2), frame_names(range(2)))
    report = convert_cvat(tmp_path / "in", tmp_path / "out").splits["train"]
    assert report.images == 4
    assert sorted(p.name for p in (tmp_path / "out/images/train").iterdir()) == ["one", "two"]
    task(tmp_path / "in/deep/two", video_task(tracks, frames=2), frame_names(range(2)))
    with pytest.raises(ValueError, match="expected XML files with names of their own, found two, one, two"):
        convert_cvat(tmp_path / "in", tmp_path / "other")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (box("x", 1, 2, 2), r"annotations\.xml: image a\.png, element 0 \(<box>\): expected a number in xtl="),
        (element("box", label="person", xtl=1), r"element 0 \(<box>\): expected a number in ytl=, found None"),
        (box(1, 1, "nan", 2), "expected a number in xbr=, found 'nan'"),
        (element("polygon", label="cat", points="1,1;2,2"), "expected a polygon of 3 or more points, found 2"),
        (element("polygon", label="cat", points="1,1;2;3,3"), r'expected points="x,y;x,y;..."\, found .1,1;2;3,3'),
        (element("polygon", label="cat"), "expected points="),
        (element("mask", label="cat", rle="1,2", left=0, top=0, width=2, height=2), "add up to 2x2=4 pixels, found 3"),
        (element("mask", label="cat", rle="a", left=0, top=0, width=2, height=2), "expected an rle of runs"),
        (element("blob", label="cat"), "element 0 .<blob>.: expected one of box, polygon"),
        (element("box", xtl=1), "with a label="),
        (element("skeleton", joints(tail="1,1"), label="body"), "each point of the skeleton once, found 'tail'"),
        (element("skeleton", joints(nose="1,1") * 2, label="body"), "found 'nose' again"),
        (element("skeleton", joints(nose="1,1;2,2"), label="body"), "point 'nose': expected one x,y, found 2"),
    ],
)  # fmt: skip
def test_malformed_elements(tmp_path: Path, content: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        convert_cvat(task(tmp_path / "in", document(image(content))), tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize(
    ("tracks", "says"),
    [
        (element("track", step(0, 0) * 2, id=0, label="cat"), r"track 0, frame 0 .<box>.: expected a frame="),
        (element("track", box(0, 0, 2, 2), id=0, label="cat"), r"track 0, frame \? \(<box>\): expected a frame="),
        (element("track", step(0, 0), label="cat"), "track 0: expected a label= and an id="),
        (element("track", step(0, 0), id=1, label="cat") * 2, "track 1: expected a label= and an id= of its own"),
        (element("track", step(0, 0), id=1), "track 1: expected a label="),
        (element("track", step(0, 0) + polygon(1, "0,0;1,0;1,1"), id=0, label="cat"), "one kind of shape in a track"),
        (element("track", id=0, label="cat", task_id=1) + element("track", id=1, label="cat", task_id=2),
         "found those of several tasks"),
        (element("track", step(0, 0), id=0, label="cat") + image(""), "found both"),
    ],
)  # fmt: skip
def test_malformed_tracks(tmp_path: Path, tracks: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        convert_cvat(task(tmp_path / "in", video_task(tracks), frame_names(range(6))), tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_malformed_tasks(tmp_path: Path) -> None:
    def refused(says: str, source: Path, error: type[Exception] = ValueError, **more: Any) -> None:
        with pytest.raises(error, match=says):
            convert_cvat(source, tmp_path / "out", **more)
        assert not (tmp_path / "out").exists()

    refused("src=.*nowhere: expected CVAT's XML file", tmp_path / "nowhere", FileNotFoundError)
    (tmp_path / "empty").mkdir()
    refused("expected CVAT's XML .annotations.xml., found none; unpack", tmp_path / "empty")
    refused(r"annotations\.xml: expected CVAT's XML 1\.1, found text that is not XML", task(tmp_path / "text", "<a"))
    refused("found <annotation> without them", task(tmp_path / "voc", "<annotation></annotation>"))
    good = task(tmp_path / "good", document(image(box(1, 1, 9, 9))))
    refused("images=.*nowhere: expected a folder", good, FileNotFoundError, images=tmp_path / "nowhere")
    refused("split: expected one of train, val, test", good, split="training")
    refused("classes: expected labels, found 'persons'; did you mean 'person'", good, classes="persons")
    refused("keypoints=nose,tail: expected the points of the skeleton 'body'", good, keypoints="nose,tail")
    refused("expected name=, width= and height=", task(tmp_path / "size", document('<image id="0" name="a.png"/>')))
    small = task(tmp_path / "small", document(image(box(1, 1, 9, 9)).replace('width="40"', 'width="80"')))
    refused(r"a\.png: expected an image of 80x20 as .*annotations\.xml says, found 40x20", small)
    refused("found none; 1 images are missing", task(tmp_path / "gone", document(image("")), ()))
    other = LABELS + label("hand", "skeleton") + label("thumb", "points", "hand")
    refused("the same number of points, found body: 3, hand: 1", task(tmp_path / "two", document(image(""), other)))

    track = element("track", step(0, 0), id=0, label="person")
    refused("expected its frames in the folder images", task(tmp_path / "v", video_task(track), ()), FileNotFoundError)
    shifted = task(tmp_path / "one", video_task(track), frame_names(range(1, 7)))
    refused("0 to 5, found 1 to 6; CVAT counts from 0", shifted)
    (shifted / "images/frame_000003.PNG").unlink()
    refused("0 to 5, found 1 to 6; CVAT counts from 0", shifted)
    refused("found a file that is neither", shifted, images=shifted / "annotations.xml")
    named = task(tmp_path / "named", video_task(track), ["first.png"])
    refused(r"first\.png: expected frames with CVAT's frame number", named)
    twice = task(tmp_path / "again", video_task(track), ["frame_0.png", "0.png"])
    refused(r"expected each frame once", twice)
    write_video(tmp_path / "wide.avi", 2, (80, 20))
    refused("frame 0: expected 40x20 as .* says, found 80x20", shifted, images=tmp_path / "wide.avi")
    bad = video_task(track, "<stop_frame>last</stop_frame>")
    refused("expected a number in <stop_frame> of <meta>, found 'last'", task(tmp_path / "stop", bad))


def test_labels_are_taken_from_elements_where_the_task_has_none(tmp_path: Path) -> None:
    xml = document(image(box(1, 1, 9, 9, label="zebra") + box(1, 1, 9, 9, label="ant")), labels="")
    assert convert_cvat(task(tmp_path / "in", xml), tmp_path / "out").names == ["ant", "zebra"]
