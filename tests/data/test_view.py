"""Pictures of labels: what is drawn where, the contact sheets, the text of the page, and the command as a whole."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html import unescape
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image
from ultralytics.utils.plotting import Annotator, colors

from yolo_multitask.data.labels import Instance, Labels, LabelSpec, write_labels
from yolo_multitask.data.synthetic import KEYPOINT_NAMES
from yolo_multitask.data.view import view as view_module
from yolo_multitask.data.view.draw import GREY, MASK_OPACITY, SIDES, WHITE, draw_tile
from yolo_multitask.data.view.page import write_page
from yolo_multitask.data.view.sheet import write_sheets
from yolo_multitask.data.view.skeleton import skeleton
from yolo_multitask.data.view.tiles import Tile, tasks_of
from yolo_multitask.data.view.view import view

SPEC = LabelSpec(nc=2, kpt_shape=(17, 3), polygons=True, ids=True)
NAMES = {0: "person", 1: "<script>alert(1)</script>"}
COCO_LIMBS = Annotator(np.zeros((8, 8, 3), np.uint8)).skeleton


def instance(cls: int = 0, box: Sequence[float] = (0.5, 0.5, 0.5, 0.5), **fields: Any) -> Instance:
    """Return an instance with fields as lists."""
    arrays = {k: np.array(v, np.float32) if k in ("keypoints", "polygon") else v for k, v in fields.items()}
    return Instance(cls=cls, box=np.array(box, np.float32), **arrays)


def tile(folder: Path, *instances: Instance, spec: LabelSpec = SPEC, **fields: Any) -> Tile:
    """Return a tile of a black image, 400 x 200."""
    file = folder / "black.png"
    Image.new("RGB", (400, 200)).save(file)
    labels = Labels.from_instances(instances, spec)
    return Tile(file, labels, spec, fields.pop("classes", ()), tasks_of(labels), **fields)


def body(**points: tuple[float, float, float]) -> list[tuple[float, float, float]]:
    """Return COCO keypoints by name, the others absent."""
    return [points.get(name, (0, 0, 0)) for name in KEYPOINT_NAMES]


def test_a_box_is_drawn_on_its_edges_in_the_colour_of_its_class_or_identity(tmp_path: Path) -> None:
    for it, index in ((instance(1), 1), (instance(1, id=7), 7)):
        picture = draw_tile(tile(tmp_path, it), 400, NAMES)
        assert picture.shape == (200, 400, 3)
        for x, y in ((100, 120), (300, 120), (200, 150)):  # left, right, bottom
            assert picture[y, x].max() > 200
            shade = picture[y, x] / picture[y, x].max()  # a smoothed line on black is the colour, darker
            assert shade == pytest.approx(np.divide(colors(index, True), max(colors(index, True))), abs=0.01)
        assert not picture[100:140, 110:290].any()


def test_a_polygon_tints_what_is_inside_and_a_missing_one_nothing(tmp_path: Path) -> None:
    square = [[0.3, 0.3], [0.7, 0.3], [0.7, 0.7], [0.3, 0.7]]
    tinted = draw_tile(tile(tmp_path, instance(polygon=square)), 400)[100, 200]
    assert tinted == pytest.approx(np.multiply(colors(0, True), MASK_OPACITY), abs=1)
    assert not draw_tile(tile(tmp_path, instance()), 400)[100, 200].any()


def test_visible_hidden_and_absent_keypoints_differ(tmp_path: Path) -> None:
    points = body(left_wrist=(0.3, 0.5, 2), right_wrist=(0.5, 0.5, 1))
    picture = draw_tile(tile(tmp_path, instance(keypoints=points)), 400)
    assert tuple(picture[100, 120]) == SIDES["left"]
    assert tuple(picture[100, 200]) == WHITE
    around = picture[92:109, 192:209].reshape(-1, 3)
    assert ((around[:, 1] > around[:, 0] + 60) & (around[:, 2] > around[:, 1])).any()  # an orange ring
    assert not picture[:8, :8].any()  # absent ones stand at 0 0


def test_with_two_numbers_a_keypoint_is_there_or_not(tmp_path: Path) -> None:
    spec = LabelSpec(nc=1, kpt_shape=(2, 2), polygons=False)
    points = [[0.4, 0.5, 1], [0.6, 0.5, 0]]
    it = instance(keypoints=points)
    picture = draw_tile(tile(tmp_path, it, spec=spec, kpt_names=("left_tip", "right_tip")), 400)
    assert tuple(picture[100, 160]) == SIDES["left"]
    assert not picture[95:105, 235:245].any()


def test_limbs_have_the_colour_of_their_side_and_need_both_ends(tmp_path: Path) -> None:
    points = body(
        left_shoulder=(0.6, 0.4, 2), right_shoulder=(0.4, 0.4, 2), left_elbow=(0.6, 0.6, 2), right_hip=(0.4, 0.6, 0)
    )
    picture = draw_tile(tile(tmp_path, instance(keypoints=points)), 400)
    assert tuple(picture[100, 240]) == SIDES["left"]
    assert tuple(picture[80, 200]) == SIDES["middle"]
    assert not picture[100, 155:166].any()


def test_an_ignore_region_is_hatched_and_has_no_box(tmp_path: Path) -> None:
    picture = draw_tile(tile(tmp_path, instance(ignore=True)), 400, NAMES)
    inside = picture[80:145, 105:295]
    white = (inside == WHITE).all(2)
    assert 0.05 < white.mean() < 0.3
    assert (picture == picture[..., :1]).all()  # no colour anywhere
    assert not picture[:45].any()


def test_highlighted_instances_are_stronger_than_the_others(tmp_path: Path) -> None:
    square = [[0.3, 0.3], [0.7, 0.3], [0.7, 0.7], [0.3, 0.7]]
    pair = instance(polygon=square), instance(1, (0.9, 0.5, 0.1, 0.5))
    colour = colors(1, True)
    plain = (draw_tile(tile(tmp_path, *pair), 400) == colour).all(2).sum()
    first = draw_tile(tile(tmp_path, *pair, highlight=(0,)), 400)
    second = draw_tile(tile(tmp_path, *pair, highlight=(1,)), 400)
    assert first[100, 200].any()
    assert not second[100, 200].any()
    assert (first == colour).all(2).sum() < plain < (second == colour).all(2).sum()


def test_the_class_is_written_where_there_are_several(tmp_path: Path) -> None:
    one = LabelSpec(nc=1, kpt_shape=None, polygons=False, ids=True)

    def label_width(spec: LabelSpec, names: dict[int, str], **fields: Any) -> int:
        picture = draw_tile(tile(tmp_path, instance(**fields), spec=spec), 400, names)
        return int((picture[48] != 0).any(1).sum())  # the row above the box

    assert label_width(one, {0: "person"}) == 0
    assert 0 < label_width(one, {0: "person"}, id=3) < label_width(SPEC, {0: "person"}, id=3)
    assert label_width(SPEC, {0: "人"}) == label_width(SPEC, {0: "class 0"})  # what OpenCV cannot draw


def test_every_kind_of_image_is_shown_upright_at_the_wanted_size(tmp_path: Path) -> None:
    def shape(name: str, image: Image.Image, **options: Any) -> tuple[int, ...]:
        image.save(tmp_path / name, **options)
        return draw_tile(Tile(tmp_path / name, None, SPEC), 200).shape

    assert shape("grey.png", Image.new("L", (400, 200))) == (100, 200, 3)
    assert shape("deep.png", Image.fromarray(np.full((20, 40), 30000, np.uint16))) == (100, 200, 3)
    assert shape("tiny.png", Image.new("RGB", (4, 8))) == (200, 100, 3)
    assert shape("line.png", Image.new("RGB", (2000, 1))) == (1, 200, 3)
    assert shape("straße 道.png", Image.new("RGBA", (40, 20))) == (100, 200, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    assert shape("turned.jpg", Image.new("RGB", (400, 200)), exif=exif) == (200, 100, 3)


def test_a_twin_is_shown_beside(tmp_path: Path) -> None:
    Image.new("RGB", (100, 200), (255, 0, 0)).save(tmp_path / "red.png")
    picture = draw_tile(tile(tmp_path, twin=tmp_path / "red.png"), 400)
    assert picture.shape == (200, 300, 3)
    assert not picture[:100, :200].any()
    assert (picture[:, 200:] == (0, 0, 255)).all()
    assert (picture[100:, :200] == GREY).all()


@pytest.mark.parametrize("content", [None, b"", b"no image", b"\x89PNG\r\n\x1a\n\0\0"])
def test_an_image_that_cannot_be_read_gives_a_grey_picture(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "bad.png").write_bytes(content)
    picture = draw_tile(Tile(tmp_path / "bad.png", Labels.from_instances([instance()], SPEC), SPEC), 200)
    assert picture.shape == (150, 200, 3)
    assert tuple(picture[0, 0]) == GREY
    assert (picture > GREY[0] + 60).any()  # the text


def test_coco_keypoints_have_cocos_limbs_with_and_without_names() -> None:
    bare = skeleton(17, (), COCO_LIMBS)
    assert bare == skeleton(17, [name.upper() for name in KEYPOINT_NAMES], COCO_LIMBS)
    assert bare.limbs == tuple((a - 1, b - 1) for a, b in COCO_LIMBS)
    assert bare.sides == ("middle", *("left", "right") * 8)
    assert bare.limb_side((5, 6)) == "middle"
    assert bare.limb_side((0, 1)) == "left"


def test_limbs_and_sides_follow_the_names() -> None:
    crowd = ("LeftShoulder", "r-shoulder", "elbow_left", "head", "neck")
    got = skeleton(5, crowd, COCO_LIMBS)
    assert got.sides == ("left", "right", "left", "middle", "middle")
    assert {frozenset(limb) for limb in got.limbs} == {frozenset(p) for p in [(0, 1), (0, 2), (3, 4), (4, 0), (4, 1)]}
    assert skeleton(2, ("wrist", "thumb_tip"), COCO_LIMBS).limbs == ()
    assert skeleton(21, (), COCO_LIMBS).sides == ("middle",) * 21


def test_the_tasks_of_an_image_are_those_labelled_outside_ignore_regions() -> None:
    def tasks(*instances: Instance) -> tuple[str, ...]:
        return tasks_of(Labels.from_instances(instances, SPEC))

    everything = {"keypoints": body(), "polygon": [[0, 0], [1, 0], [1, 1]], "id": 0}
    assert tasks() == ()
    assert tasks(instance()) == ("detect",)
    assert tasks(instance(**everything)) == ("detect", "segment", "pose", "track")
    assert tasks(instance(**everything, ignore=True)) == ()


def test_sheets_have_four_rows_and_hold_every_tile(tmp_path: Path) -> None:
    tiles = [tile(tmp_path, instance(1), caption=f"straße {i}") for i in range(9)]
    files = write_sheets(tmp_path, iter(tiles), columns=2, size=160, names=NAMES)
    assert [file.name for file in files] == ["sheet-01.png", "sheet-02.png"]
    first, second = (cv2.imread(str(file)) for file in files)
    assert first.shape == (4 * (120 + 18 + 6) + 6, 2 * (160 + 6) + 6, 3)
    assert second.shape == (120 + 18 + 6 + 6, 160 + 6 + 6, 3)
    assert cv2.connectedComponents((first == colors(1, True)).all(2).astype(np.uint8))[0] > 8
    assert (second[6 + 120 :] > 150).any()  # the caption


def test_a_tall_picture_stays_in_its_place(tmp_path: Path) -> None:
    Image.new("RGB", (50, 400), (255, 0, 0)).save(tmp_path / "tall.png")
    (file,) = write_sheets(tmp_path, [Tile(tmp_path / "tall.png", None, SPEC)], size=160)
    red = (cv2.imread(str(file)) == (0, 0, 255)).all(2)
    rows, columns = np.flatnonzero(red.any(1)), np.flatnonzero(red.any(0))
    assert (rows[0], rows[-1], len(columns)) == (6, 125, 15)


def test_the_page_holds_names_as_text_alone(tmp_path: Path) -> None:
    evil = NAMES[1]
    tiles = [
        tile(tmp_path, instance(1), classes=(evil,), findings=('"><img src=x onerror=alert(1)>',), caption=evil),
        Tile(tmp_path / "\udcff.png", None, SPEC, caption="a\nb"),
    ]
    write_page(tmp_path / "index.html", evil, iter(tiles), [(evil, evil)], NAMES)
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert text.count("<script>") == text.count("</script>") == 1
    assert text.count("<img") == 3  # two tiles and the larger view
    assert text.count("<li ") == 2
    assert re.search(r'data-class="([^"]*)"', text)[1] == "[&quot;&lt;script&gt;alert(1)&lt;/script&gt;&quot;]"  # type: ignore[index]
    assert evil in unescape(re.sub(r"<script>.*", "", text, flags=re.S))
    assert not re.search(r"https?:|//[a-z]+\.", text)


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    def fails() -> Iterator[Tile]:
        yield tile(tmp_path)
        raise RuntimeError("no more")

    file = tmp_path / "index.html"
    file.write_text("before")
    with pytest.raises(RuntimeError, match="no more"):
        write_page(file, "title", fails())
    assert file.read_text() == "before"
    assert {p.name for p in tmp_path.iterdir()} == {"index.html", "black.png"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Write 12 images in two folders: even ones show class 0 with an identity, 3 and 9 class 1, the others nothing."""
    spec = LabelSpec(nc=2, kpt_shape=None, polygons=True, ids=True)
    root = tmp_path / "data"
    for n in range(12):
        name = f"{'ab'[n % 2]}/{n}"
        file = root / "images/train" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (20 * n, 0, 0)).save(file)
        instances = [instance(0, id=n)] if n % 2 == 0 else []
        instances += [instance(1, polygon=[[0.3, 0.3], [0.6, 0.3], [0.6, 0.7]])] if n in (3, 9) else []
        instances += [instance(0, ignore=True)] if n == 5 else []
        write_labels(root / "labels/train" / f"{name}.txt", Labels.from_instances(instances, spec), spec)
    with open(root / "labels/train/b/7.txt", "a") as file_7:
        file_7.write("0 0.5 0.5\n")
    names = {0: "person", 1: "fußball"}
    text = {"path": str(root), "train": "images/train", "val": "images/train", "names": names}
    (root / "data.yaml").write_text(yaml.safe_dump(text | {"labels": {"polygons": True, "ids": True}}))
    return root / "data.yaml"


def shown(page: Path) -> list[str]:
    """Return the captions of a page."""
    return re.findall(r"<figcaption>([^<]*)", page.read_text(encoding="utf-8"))


def test_view_writes_sheets_and_a_page_and_tells_what_it_shows(data: Path, tmp_path: Path) -> None:
    report = view(data, tmp_path / "out", size=64)
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"sheet-01.png", "index.html"}
    assert shown(report.page) == [f"{'ab'[n % 2]}/{n}.png" for n in (0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11)]
    assert (report.images, report.of, report.ignored) == (12, 12, 1)
    assert report.instances == {"person": 6, "fußball": 2}
    (problem,) = report.problems
    assert "7.txt:1: expected" in problem
    page = report.page.read_text(encoding="utf-8")
    assert page.count('data-finding="[&quot;line-grammar&quot;]"') == 1
    assert page.count('data-task="[&quot;detect&quot;, &quot;track&quot;]"') == 6
    assert str(report).splitlines()[:3] == ["12 of 12 images", "instances: 6 person, 2 fußball", "ignore regions: 1"]
    assert problem in str(report)


def test_view_has_the_findings_of_the_check(data: Path, tmp_path: Path) -> None:
    labels = data.parent / "labels/train"
    (labels / "a/2.txt").write_text("0 0.5 0.5 1 1 - #1\n0 0.5 0.5 0.2 0.2 - #1\n")
    (labels / "a/4.txt").unlink()
    (labels / "a/4.txt").mkdir()
    report = view(data, tmp_path / "out", size=64)
    text = report.page.read_text(encoding="utf-8")
    found = dict(zip(shown(report.page), re.findall(r'data-finding="([^"]*)"', text), strict=True))
    assert found["a/2.png"] == "[&quot;box-full&quot;, &quot;id-twice&quot;]"
    assert found["a/4.png"] == "[&quot;label-unreadable&quot;]"
    assert found["b/7.png"] == "[&quot;line-grammar&quot;]"
    assert found["b/1.png"] == "[]"
    assert [problem.split(":")[0][-5:] for problem in report.problems] == ["4.txt", "7.txt"]


def test_view_takes_some_images_by_seed_in_order(data: Path, tmp_path: Path) -> None:
    def names(out: str, seed: int) -> list[str]:
        return shown(view(data, tmp_path / out, limit=4, seed=seed, size=64).page)

    first = names("1", 0)
    assert len(first) == 4
    assert first == names("2", 0)
    assert first != names("3", 1)


def test_view_by_class_and_task(data: Path, tmp_path: Path) -> None:
    assert shown(view(data, tmp_path / "1", classes="fußball", size=64).page) == ["b/3.png", "b/9.png"]
    assert shown(view(data, tmp_path / "2", tasks=["segment"], size=64).page) == ["b/3.png", "b/9.png"]
    by_text = shown(view(data, tmp_path / "3", classes="[person, fußball]", tasks="track", size=64).page)
    assert by_text == [f"a/{n}.png" for n in range(0, 12, 2)]
    with pytest.raises(
        ValueError, match=r"none of the 12 images of train has a label for classes=person and tasks=segm"
    ):
        view(data, tmp_path / "4", classes="person", tasks="segment")
    assert not (tmp_path / "4").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "trian"}, "split: expected one of train, val, test, found 'trian'"),
        ({"limit": 0}, "limit: expected an integer of 1 or more, found 0"),
        ({"columns": 2.5}, "columns: expected an integer of 1 or more, found 2.5"),
        ({"size": 8}, "size: expected an integer of 64 or more, found 8"),
        ({"seed": True}, "seed: expected an integer of 0 or more, found True"),
        ({"classes": "persn"}, "classes: found 'persn', which is none of them; did you mean 'person'?"),
        (
            {"tasks": "walk"},
            "tasks: found 'walk', which is none of them; expected some of detect, segment, pose, track",
        ),
    ],
)
def test_view_refuses_what_it_cannot_do(data: Path, tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        view(data, tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_view_replaces_its_own_files_alone_and_only_if_asked(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "sheet-music.png").write_text("mine")
    (out / "sheet-01-notes.png").write_text("mine")
    view(data, out, columns=1, size=64)
    assert len(list(out.glob("sheet-0?.png"))) == 3
    with pytest.raises(ValueError, match="there is a view already; give exist_ok=True"):
        view(data, out)
    view(data, out, limit=1, size=64, exist_ok=True)
    assert sorted(p.name for p in out.iterdir()) == [
        "index.html",
        "sheet-01-notes.png",
        "sheet-01.png",
        "sheet-music.png",
    ]
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="expected a folder to write, found a file"):
        view(data, tmp_path / "file", exist_ok=True)


def test_a_view_that_fails_leaves_everything_as_it_was(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    view(data, out, limit=2, size=64)
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    replace = view_module.os.replace

    def fails(source: Path, target: Path) -> None:
        if Path(target) == out / "sheet-01.png" and Path(source).parent.name != "replaced":
            raise OSError("disk full")
        replace(source, target)

    monkeypatch.setattr(view_module.os, "replace", fails)
    with pytest.raises(OSError, match="disk full"):
        view(data, out, size=64, exist_ok=True)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    assert {p.name for p in tmp_path.iterdir()} == {"data", "out"}
