"""Every kind of fault is planted in a copy of a clean data set and found there, where it is, and nothing else is."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from yolo_multitask.data.check import KINDS, CheckReport, check
from yolo_multitask.data.check.run import NEED_IMAGES
from yolo_multitask.data.labels import Instance, Labels, LabelSpec, read_labels, write_labels
from yolo_multitask.data.synthetic import WorldConfig, write_dataset

WORLD = WorldConfig(width=128, height=96, figures=(2, 3), objects=1)
SPEC = LabelSpec(nc=2, kpt_shape=(17, 3), polygons=True, ids=True)
FRAME = "train/seq0001/000003"  # an image with labels, in the middle of its sequence


@pytest.fixture(scope="session")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small data set without faults: three sequences to train on, one to validate with, 8 frames each."""
    root = tmp_path_factory.mktemp("check") / "clean"
    write_dataset(root, train_sequences=3, val_sequences=1, frames_per_sequence=8, seed=1, config=WORLD)
    return root


@pytest.fixture
def root(clean: Path, tmp_path: Path) -> Path:
    """Return a copy of the clean data set."""
    return Path(shutil.copytree(clean, tmp_path / "data"))


def run(root: Path, **arguments: Any) -> CheckReport:
    """Check a data set in this process."""
    return check(root / "data.yaml", **{"workers": 0, **arguments})


def image(root: Path, name: str = FRAME) -> Path:
    return root / "images" / f"{name}.jpg"


def label(root: Path, name: str = FRAME) -> Path:
    return root / "labels" / f"{name}.txt"


def lines(root: Path, name: str = FRAME) -> list[str]:
    return label(root, name).read_text().splitlines()


def person_line(root: Path) -> tuple[int, list[str]]:
    """Return index and tokens of the largest person in `FRAME`."""
    found = [(i, line.split()) for i, line in enumerate(lines(root)) if line[0] == "0" and not line.endswith("!")]
    return max(found, key=lambda item: float(item[1][3]) * float(item[1][4]))


def change_line(root: Path, change: Callable[[list[str]], list[str]]) -> str:
    """Change the tokens of the largest person in `FRAME`; return ``file:line``."""
    index, tokens = person_line(root)
    text = lines(root)
    text[index] = " ".join(change(tokens))
    label(root).write_text("\n".join(text) + "\n")
    return f"{label(root)}:{index + 1}"


def change(root: Path, edit: Callable[[Instance], None]) -> str:
    """Change the largest person in `FRAME`; return ``file:line``."""
    labels, _ = read_labels(label(root), SPEC)
    index, _ = person_line(root)
    instances = list(labels)
    edit(instances[index])
    write_labels(label(root), Labels.from_instances(instances, SPEC), SPEC)
    return f"{label(root)}:{index + 1}"


def change_yaml(root: Path, **keys: Any) -> str:
    """Set keys of the data YAML; return its path."""
    file = root / "data.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | keys))
    return str(file)


def add_line(root: Path, line: str, name: str = FRAME) -> str:
    """Append a label line; return ``file:line``."""
    text = [*lines(root, name), line]
    label(root, name).write_text("\n".join(text) + "\n")
    return f"{label(root, name)}:{len(text)}"


def truncate(root: Path) -> str:
    image(root).write_bytes(image(root).read_bytes()[:900])
    return str(image(root))


def with_alpha(root: Path) -> str:
    pixels = Image.open(image(root)).convert("RGBA")
    image(root).unlink()
    pixels.save(image(root).with_suffix(".png"))
    return str(image(root).with_suffix(".png"))


def grey(root: Path) -> str:
    Image.open(image(root)).convert("L").save(image(root))
    return str(image(root))


def small_image(root: Path) -> str:
    """A picture of 8 x 6 pixels, alone in a folder of its own, as it would be one of another size elsewhere."""
    target = root / "images/train/still/a.jpg"
    target.parent.mkdir()
    Image.open(image(root)).resize((8, 6)).save(target)
    (root / "labels/train/still").mkdir()
    (root / "labels/train/still/a.txt").write_text("")
    return str(target)


def no_label(root: Path) -> str:
    label(root).unlink()
    return str(image(root))


def orphan(root: Path) -> str:
    target = label(root, "train/seq0001/000099")
    shutil.copy(label(root), target)
    return str(target)


def shared_label(root: Path) -> str:
    """The last frame once more as PNG, too coarse to look the same."""
    last = image(root, "train/seq0001/000008")
    noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    Image.fromarray(noise).save(last.with_suffix(".png"))
    return str(last.parent)


def unreadable_label(root: Path) -> str:
    label(root).unlink()
    label(root).mkdir()
    return str(label(root))


def too_few_keypoints(root: Path) -> str:
    return change_line(root, lambda tokens: [*tokens[:20], "-", tokens[-1]])


def small_box(root: Path) -> str:
    def edit(instance: Instance) -> None:
        instance.box[2:] /= 3

    return change(root, edit)


def thin_box(root: Path) -> str:
    def edit(instance: Instance) -> None:
        instance.box[2], instance.polygon, instance.keypoints = 1.2 / WORLD.width, None, None

    return change(root, edit)


def whole_box(root: Path) -> str:
    def edit(instance: Instance) -> None:
        instance.box, instance.polygon = np.array([0.5, 0.5, 1, 1], np.float32), None

    return change(root, edit)


def box_over_edge(root: Path) -> str:
    def edit(instance: Instance) -> None:
        instance.box[0], instance.polygon, instance.keypoints, instance.id = 0.99, None, None, -1

    return change(root, edit)


def near_twin(root: Path) -> str:
    """The same box once more, half a percent wider and under another identity."""
    _, tokens = person_line(root)
    tokens[3] = str(float(tokens[3]) * 1.005)
    return add_line(root, " ".join([*tokens[:5], "-", "-", "#77"]))


def flat_polygon(root: Path) -> str:
    def edit(instance: Instance) -> None:
        (x, y), (w, h) = instance.box[:2], instance.box[2:] / 2
        instance.polygon = np.array([[x - w, y - h], [x, y], [x + w, y + h], [x, y]], np.float32)

    return change(root, edit)


def doubled_polygon(root: Path) -> str:
    def edit(instance: Instance) -> None:
        assert instance.polygon is not None
        instance.polygon = np.concatenate([instance.polygon, instance.polygon])

    return change(root, edit)


def edit_keypoints(root: Path, edit: Callable[[Any, Any], None]) -> str:
    """Change keypoints (17, 3), given the box too."""

    def change_them(instance: Instance) -> None:
        assert instance.keypoints is not None
        edit(instance.keypoints, instance.box)

    return change(root, change_them)


def far_keypoints(root: Path) -> str:
    def edit(points: Any, box: Any) -> None:
        points[0] = 1 - np.round(box[0]), 1 - np.round(box[1]), 2

    return edit_keypoints(root, edit)


def absent_keypoints(root: Path) -> str:
    return edit_keypoints(root, lambda points, box: points.fill(0))


def collapsed_keypoints(root: Path) -> str:
    def edit(points: Any, box: Any) -> None:
        points[:] = *box[:2], 2

    return edit_keypoints(root, edit)


def swapped_sides(root: Path) -> str:
    """Left and right exchanged in every label file of the training split."""
    flip = yaml.safe_load((root / "data.yaml").read_text())["flip_idx"]
    for file in sorted((root / "labels/train").rglob("*.txt")):
        labels, _ = read_labels(file, SPEC)
        assert labels.keypoints is not None
        labels.keypoints[:] = labels.keypoints[:, flip]
        write_labels(file, labels, SPEC)
    return str(root / "labels/train/seq0001/")


def repeated_id(root: Path) -> str:
    """A small ball that has the identity of the person."""
    _, tokens = person_line(root)
    return add_line(root, f"1 0.02 0.02 0.03 0.04 - - {tokens[-1]}")


def other_class(root: Path) -> str:
    def edit(instance: Instance) -> None:
        instance.cls, instance.keypoints = 1, None

    return change(root, edit)


def jump(root: Path) -> str:
    """A person who stays on the left but for one frame of one sequence, there and back."""
    for i in range(1, 9):
        x = 0.9 if i == 4 else 0.1
        add_line(root, f"0 {x} 0.9 0.05 0.1 - - #77", f"train/seq0001/{i:06d}")
    return f"{label(root, 'train/seq0001/000004')}:{len(lines(root, 'train/seq0001/000004'))}"


def gap(root: Path) -> str:
    for i in (4, 5):
        image(root, f"train/seq0001/{i:06d}").unlink()
        label(root, f"train/seq0001/{i:06d}").unlink()
    return str(root / "images/train/seq0001")


def other_size(root: Path) -> str:
    Image.open(image(root)).resize((160, 120)).save(image(root), quality=95)
    return str(image(root))


def leak(root: Path) -> str:
    target = image(root, "val/seq0001/000002")
    shutil.copy(image(root), target)
    return str(target)


def near_leak(root: Path) -> str:
    """The training picture, encoded anew and brighter."""
    target = image(root, "val/seq0001/000002")
    pixels = cv2.imread(str(image(root)))
    cv2.imwrite(str(target), cv2.convertScaleAbs(pixels, alpha=1, beta=3), [cv2.IMWRITE_JPEG_QUALITY, 80])
    return str(target)


def duplicate(root: Path) -> str:
    target = image(root, "train/seq0002/000002")
    shutil.copy(image(root), target)
    return str(target)


def near_duplicate(root: Path) -> str:
    target = image(root, "train/seq0002/000002")
    Image.open(image(root)).save(target, quality=60)
    return str(target)


def unlabelled_split(root: Path) -> str:
    """A second training split in place of the first: pictures alone."""
    folder = root / "images/bare"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    Image.fromarray(noise).save(folder / "a.jpg")
    return change_yaml(root, train="images/bare")


def rare_class(root: Path) -> str:
    """A hundred times as many persons as balls, of which one is left."""
    for file in sorted((root / "labels/train").rglob("*.txt")):
        people = [line for line in file.read_text().splitlines() if line[0] == "0"]
        people += [f"0 {0.05 + 0.1 * i} 0.02 0.04 0.03 - -" for i in range(9)]
        file.write_text("\n".join(people) + "\n")
    add_line(root, "1 0.5 0.5 0.1 0.1 - -")
    return str(root / "data.yaml")


def class_in_val_alone(root: Path) -> str:
    for file in sorted((root / "labels/train").rglob("*.txt")):
        file.write_text("".join(f"{line}\n" for line in file.read_text().splitlines() if line[0] == "0"))
    return str(root / "data.yaml")


def ball_with_keypoints(root: Path) -> str:
    """Balls are no class with keypoints."""
    index = next(i for i, line in enumerate(lines(root)) if line[0] == "1" and not line.endswith("!"))
    tokens = lines(root)[index].split()
    keypoints = f"{tokens[1]} {tokens[2]} 2 " + "0 0 0 " * 16
    text = lines(root)
    text[index] = " ".join([*tokens[:5], keypoints, *tokens[6:]])
    label(root).write_text("\n".join(text) + "\n")
    return str(root / "data.yaml")


def overlapping_sources(root: Path) -> str:
    """A sequence that is listed together with its whole split."""
    (root / "train.txt").write_text("./images/train/seq0003/000001.jpg\n")
    sources = [{"path": str(root / path), "tasks": ["detect", "pose"]} for path in ("images/train", "train.txt")]
    change_yaml(root, train=sources)
    return str(image(root, "train/seq0003/000001"))


COCO_FLIP = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
PLANTED: dict[str, Callable[[Path], str]] = {
    "image-unreadable": truncate,
    "image-channels": with_alpha,
    "image-grey": grey,
    "image-size": small_image,
    "label-missing": no_label,
    "label-orphan": orphan,
    "label-shared": shared_label,
    "label-unreadable": unreadable_label,
    "line-grammar": lambda root: change_line(root, lambda tokens: ["person", *tokens[1:]]),
    "line-class": lambda root: change_line(root, lambda tokens: ["2", *tokens[1:]]),
    "line-range": lambda root: change_line(root, lambda tokens: [tokens[0], "1.4", *tokens[2:]]),
    "line-keypoints": too_few_keypoints,
    "line-duplicate": lambda root: add_line(root, lines(root)[0]),
    "box-duplicate": near_twin,
    "box-tiny": thin_box,
    "box-full": whole_box,
    "box-outside": box_over_edge,
    "box-polygon": small_box,
    "polygon-flat": flat_polygon,
    "polygon-repeats": doubled_polygon,
    "keypoints-outside": far_keypoints,
    "keypoints-absent": absent_keypoints,
    "keypoints-collapsed": collapsed_keypoints,
    "keypoints-sides": swapped_sides,
    "keypoints-class": ball_with_keypoints,
    "id-twice": repeated_id,
    "id-class": other_class,
    "id-jump": jump,
    "frame-gap": gap,
    "frame-size": other_size,
    "leak": leak,
    "leak-near": near_leak,
    "image-duplicate": duplicate,
    "image-near-duplicate": near_duplicate,
    "split-unlabelled": unlabelled_split,
    "split-path": lambda root: change_yaml(root, train="images/elsewhere"),
    "source-overlap": overlapping_sources,
    "class-unused": lambda root: change_yaml(root, names={0: "person", 1: "ball", 2: "dog"}),
    "class-missing": class_in_val_alone,
    "class-imbalance": rare_class,
    "class-names": lambda root: change_yaml(root, names={0: "ball", 1: "ball"}, kpt_classes=[0]),
    "data-yaml": lambda root: change_yaml(root, flip_idx=[0, 1, 2]),
    "flip-idx": lambda root: change_yaml(root, flip_idx=[1, 2, 0, *COCO_FLIP[3:]]),
    "flip-idx-missing": lambda root: change_yaml(root, flip_idx=None),
}
# what follows from a fault beside it
FOLLOWS = {
    "box-polygon": {"keypoints-outside"},  # the keypoints were right for the box as it was
    "split-unlabelled": {"label-missing", "class-missing"},
}


def test_nothing_in_the_clean_set(clean: Path) -> None:
    report = run(clean)
    assert dict(report.counts) == {}
    assert report.errors == report.warnings == 0
    assert report.splits["train"]["images"] == 24
    assert report.splits["train"]["sequences"] == 3
    assert report.splits["train"]["objects"] == sum(
        int((~read_labels(file, SPEC)[0].ignore).sum()) for file in (clean / "labels/train").rglob("*.txt")
    )
    assert "nothing found" in str(report)


def test_every_kind_is_planted() -> None:
    assert set(PLANTED) == set(KINDS)


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_fault_is_found(kind: str, root: Path) -> None:
    place = PLANTED[kind](root)
    report = run(root)
    assert set(report.counts) - FOLLOWS.get(kind, set()) == {kind}, str(report)
    finding = report.findings[kind][0]
    assert str(finding).startswith(place), str(finding)
    assert finding.message
    assert (report.errors > 0) == (KINDS[kind].severity == "error")
    assert kind in str(report)


def test_the_number_of_findings(root: Path) -> None:
    """A jump is there and back; a gap is one, however many frames are missing."""
    jump(root)
    assert dict(run(root).counts) == {"id-jump": 2}
    gap(root)
    report = run(root)
    assert dict(report.counts) == {"frame-gap": 1}
    assert "frame 3 is followed by 6; the usual step is 1, and 2 are missing at 1 places" in str(report)


def test_frames_without_numbers_in_their_names(root: Path) -> None:
    for kind in ("images", "labels"):
        for file in (root / kind / "train/seq0001").iterdir():
            file.rename(file.with_stem("abcdefgh"[int(file.stem) - 1]))
    assert dict(run(root).counts) == {}


@pytest.mark.parametrize(
    "numbers", [(0, 33, 67, 100, 133, 167, 200, 233), (901, 17, 88, 3, 52, 70, 6, 451)], ids=["milliseconds", "hashes"]
)
def test_numbers_that_do_not_count_frames(root: Path, numbers: tuple[int, ...]) -> None:
    """Times that are not quite even, and random numbers behind the frame's own."""
    for kind in ("images", "labels"):
        for file in sorted((root / kind / "train/seq0001").iterdir()):
            last = numbers[int(file.stem) - 1]
            file.rename(file.with_stem(f"{file.stem}-{last}" if numbers[0] else f"{last:06d}"))
    assert dict(run(root).counts) == {}


def test_swapped_in_one_split_alone(root: Path) -> None:
    """However many there are in the other."""
    for i in range(1, 9):
        for j in range(2, 8):
            shutil.copy(label(root, f"val/seq0001/{i:06d}"), label(root, f"val/seq0001/{8 * j + i:06d}"))
            noise = np.random.default_rng(8 * j + i).integers(0, 256, (96, 128, 3), np.uint8)
            Image.fromarray(noise).save(image(root, f"val/seq0001/{8 * j + i:06d}"))
    swapped_sides(root)
    report = run(root)
    assert report.counts["keypoints-sides"] == 1
    assert report.findings["keypoints-sides"][0].split == "train"


def test_the_page_shows_the_two_pictures_of_a_leak(root: Path, tmp_path: Path) -> None:
    target = leak(root)
    report = run(root, html=tmp_path / "page.html")
    (finding,) = report.findings["leak"]
    assert (finding.image, finding.twin) == (target, str(image(root)))
    size = re.search(r'width="(\d+)" height="(\d+)"', (tmp_path / "page.html").read_text())
    assert size is not None
    assert size.groups() == ("720", "270")  # each 360 x 270


def test_a_sequence_in_two_splits_is_one_finding(root: Path) -> None:
    """Its two halves, as of a camera that stands still."""
    for i in range(1, 9):
        pixels = Image.open(image(root, f"train/seq0001/{1:06d}"))
        pixels.save(image(root, f"train/seq0001/{i:06d}"), quality=60 + i)
        pixels.save(image(root, f"val/seq0001/{i:06d}"), quality=70 + i)
    report = run(root)
    assert dict(report.counts) == {"leak-near": 1}
    assert "and 7 more of its folder look the same as" in str(report)


def test_an_image_that_is_listed_twice(root: Path) -> None:
    change_yaml(root, train=["images/train", "images/train/seq0001"])
    report = run(root)
    assert dict(report.counts) == {"image-duplicate": 8}
    assert "is listed twice in train; list it once" in str(report)
    change_yaml(root, train="images/train", val="images/train/seq0002")
    assert dict(run(root, images=False).counts) == {"leak": 8}
    assert dict(run(root).counts) == {"leak": 8}


def test_a_picture_is_as_large_as_it_is_shown(root: Path) -> None:
    """Turned by its EXIF data, all frames of the sequence still have one size."""
    picture = image(root)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(picture).transpose(Image.Transpose.ROTATE_90).save(picture, exif=exif, quality=95)
    assert dict(run(root).counts) == {}


@pytest.mark.parametrize("content", [b"", b"no picture", b"\xff\xd8\xff", b"GIF89a", None])
def test_what_is_no_image(root: Path, content: bytes | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty file, text, starts of files, and a name in a list that nothing is behind; nothing is installed."""
    monkeypatch.setattr("ultralytics.utils.checks.check_requirements", lambda *a, **k: pytest.fail("an installation"))
    if content is None:
        (root / "train.txt").write_text("./images/train/seq0001/000001.jpg\n./images/train/gone.jpg\n")
        change_yaml(root, train="train.txt")
    else:
        image(root).write_bytes(content)
    report = run(root)
    assert report.counts["image-unreadable"] == 1
    assert report.errors == 1


@pytest.mark.parametrize("suffix", ["png", "webp", "bmp", "tif"])
def test_a_truncated_image_of_any_format(root: Path, suffix: str) -> None:
    target = image(root).with_suffix(f".{suffix}")
    Image.open(image(root)).save(target)
    image(root).unlink()
    assert dict(run(root).counts) == {}
    target.write_bytes(target.read_bytes()[:-2000])
    report = run(root)
    assert dict(report.counts) == {"image-unreadable": 1}
    assert report.findings["image-unreadable"][0].file == str(target)


def test_without_images(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truncate(root)
    leak(root)
    thin_box(root)
    place = change_line(root, lambda tokens: ["2", *tokens[1:]])
    monkeypatch.setattr("yolo_multitask.data.check.frame.open_picture", lambda *a: pytest.fail("an image was opened"))
    report = run(root, images=False)
    assert set(report.counts) == {"line-class"}
    assert str(report.findings["line-class"][0]).startswith(place)
    assert report.unchecked == NEED_IMAGES
    assert "box-tiny" in str(report).splitlines()[-1]
    assert set(NEED_IMAGES) <= set(KINDS)


def test_processes_find_the_same(root: Path) -> None:
    """More than one chunk, in two processes and in none."""
    for i in range(9, 70):
        shutil.copy(image(root), image(root, f"train/seq0001/{i:06d}"))
        shutil.copy(label(root), label(root, f"train/seq0001/{i:06d}"))
    near_twin(root)
    leak(root)
    alone, together = run(root), run(root, workers=2)
    assert str(alone) == str(together)
    assert alone.findings == together.findings
    assert alone.counts["image-duplicate"] == 61
    assert alone.counts["leak"] == 1


def test_json_holds_all_findings(root: Path, tmp_path: Path) -> None:
    for i in range(1, 6):
        add_line(root, "7 0.5 0.5 0.1 0.1 - -", f"train/seq0001/{i:06d}")
    out = tmp_path / "new" / "out.json"
    report = run(root, json=out, limit=2)
    assert len(report.findings["line-class"]) == 2
    content = json.loads(out.read_text())
    assert content["counts"] == {"line-class": 5}
    assert (content["errors"], content["warnings"]) == (5, 0)
    assert content["splits"]["train"]["images"] == 24
    found = content["findings"]
    assert [f["file"] for f in found] == [str(label(root, f"train/seq0001/{i:06d}")) for i in range(1, 6)]
    assert {f["kind"] for f in found} == {"line-class"}
    assert {f["severity"] for f in found} == {"error"}
    fields = {"kind", "severity", "file", "line", "message", "split", "source", "image", "instances", "twin"}
    assert set(found[0]) == fields
    assert [(c["class"], c["name"]) for c in content["classes"]] == [(0, "person"), (1, "ball")]
    assert sum(c["train"] for c in content["classes"]) == content["splits"]["train"]["objects"]
    assert [p.name for p in out.parent.iterdir()] == ["out.json"]


def test_summary_shows_the_first_of_many(root: Path) -> None:
    for i in range(1, 6):
        add_line(root, "7 0.5 0.5 0.1 0.1 - -", f"train/seq0001/{i:06d}")
    text = str(run(root))
    assert "error line-class: class out of range (5)" in text
    assert text.count("expected a class in 0..1") == 3
    assert "... and 2 more" in text


def test_summary_shows_the_balance_of_the_classes(root: Path) -> None:
    report = run(root)
    person, ball = (c["train"] + c["val"] for c in report.classes)
    assert f"objects by class: person {person}, ball {ball}\n" in str(report)
    change_yaml(root, names={i: f"c{i}" for i in range(5)}, kpt_classes=[0])
    assert f"objects by class: c0 {person}, c1 {ball}, 3 classes with none\n" in str(run(root))


def test_one_split(root: Path) -> None:
    """What is wrong elsewhere, and what may be there, is not told."""
    truncate(root)
    change_yaml(root, names={0: "person", 1: "ball", 2: "dog"})
    report = run(root, split="val")
    assert list(report.splits) == ["val"]
    assert dict(report.counts) == {}
    with pytest.raises(ValueError, match="split=test: expected a split of .*data.yaml, which has train, val"):
        run(root, split="test")


def test_a_list_of_images(root: Path) -> None:
    """Files that a list leaves out are no orphans."""
    (root / "train.txt").write_text("./images/train/seq0001/000001.jpg\n./images/train/seq0001/000002.jpg\n")
    change_yaml(root, train="train.txt")
    report = run(root)
    assert dict(report.counts) == {}
    assert report.splits["train"]["images"] == 2


def test_stock_segmentation_labels(root: Path, tmp_path: Path) -> None:
    """Boxes are those of the polygons, which are the same fault once more."""
    for file in (root / "labels").rglob("*.txt"):
        labels, _ = read_labels(file, SPEC)
        stock = LabelSpec(nc=2, kpt_shape=None, polygons=True, format="segment")
        kept = [Instance(cls=i.cls, box=i.box, polygon=i.polygon) for i in labels if i.polygon is not None]
        write_labels(file, Labels.from_instances(kept, stock), stock)
    data = {"train": "images/train", "val": "images/val", "names": {0: "person", 1: "ball"}, "task": "segment"}
    (root / "data.yaml").write_text(yaml.safe_dump(data))
    assert dict(run(root).counts) == {}
    place = add_line(root, "0 0.5 0.5 0.6 0.6 0.7 0.7 0.6 0.6")
    report = run(root)
    assert dict(report.counts) == {"polygon-flat": 1}
    assert str(report.findings["polygon-flat"][0]).startswith(place)


def test_lines_are_counted_as_they_stand(root: Path) -> None:
    """Blank lines, bad lines, carriage returns and a byte-order mark before the line."""
    text = "\ufeff\r\n9 0.1 0.1 0.1 0.1 - -\r\n \u00a0\r\n" + "\r\n".join(lines(root)) + "\r\n"
    label(root).write_bytes(text.encode())
    place = near_twin_line(root)
    report = run(root)
    assert set(report.counts) == {"line-class", "box-duplicate"}
    assert str(report.findings["box-duplicate"][0]).startswith(place)


def near_twin_line(root: Path) -> str:
    """Append a twin to a file of any newlines; return ``file:line``."""
    raw = label(root).read_bytes()
    tokens = next(line.split() for line in raw.decode().splitlines() if line[:2] == "0 ")
    label(root).write_bytes(raw + " ".join([*tokens[:5], "-", "-"]).encode())
    return f"{label(root)}:{raw.count(bytes([10])) + 1}"


def test_html_page(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from yolo_multitask.data.view import page

    seen: dict[str, Any] = {}

    def write_page(path: Path, title: str, tiles: Any, summary: Any = (), names: Any = None) -> None:
        seen.update(path=path, title=title, tiles=list(tiles), summary=summary, names=names)

    monkeypatch.setattr(page, "write_page", write_page)
    index, _ = person_line(root)
    near_twin(root)
    truncate(root)
    orphan(root)
    run(root, html=tmp_path / "page.html")
    assert seen["path"] == tmp_path / "page.html"
    (tile,) = seen["tiles"]
    assert tile.image_path == image(root)
    assert tile.findings == ("box-duplicate",)
    assert tile.classes == ("person", "ball")
    assert tile.tasks == ("detect", "segment", "pose", "track")
    assert tile.highlight == (index, len(tile.labels) - 1)
    assert len(tile.kpt_names) == 17
    said = dict(seen["summary"])
    assert said["images"] == "train 24, val 8"
    assert said["error: image-unreadable"].startswith("1 ")
    assert "000099.txt" in said["label-orphan"]


def test_html_page_of_a_label_file_that_cannot_be_read(root: Path, tmp_path: Path) -> None:
    unreadable_label(root)
    grey(root)
    report = run(root, html=tmp_path / "page.html")
    assert set(report.counts) == {"label-unreadable", "image-grey"}
    assert "Is a directory; correct it" in (tmp_path / "page.html").read_text()


def test_html_page_of_a_yaml_that_does_not_load(root: Path, tmp_path: Path) -> None:
    change_yaml(root, flip_idx=[0, 1, 2])
    run(root, html=tmp_path / "page.html")
    assert "expected a permutation of 0..16" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(("arguments", "message"), [({"limit": 0}, "limit of 1 or more"), ({"workers": -1}, "workers")])
def test_wrong_arguments(root: Path, arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(root, **arguments)


def test_an_unknown_data_set() -> None:
    with pytest.raises(ValueError, match="expected a data YAML"):
        check("no-such-data-set.yaml")


def test_nothing_is_written_into_the_data_set(root: Path) -> None:
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in root.rglob("*")}
    truncate(root)
    before[image(root)] = (image(root).stat().st_mtime_ns, os.path.getsize(image(root)))
    run(root)
    assert {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in root.rglob("*")} == before
