"""Rules of the check on their own: what must not be found, and counts against independent references."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from yolo_multitask.data.check.duplicates import NEAR, equal_pairs, near_pairs
from yolo_multitask.data.check.files import frame_number, image_files
from yolo_multitask.data.check.frame import Frame
from yolo_multitask.data.check.parts import Part
from yolo_multitask.data.check.pose import keypoint_faults, make_sides, side_votes, swapped_pairs
from yolo_multitask.data.check.settings import OTHER_SIDE, yaml_findings
from yolo_multitask.data.check.shapes import box_faults, pairwise_iou, polygon_faults
from yolo_multitask.data.check.sheet import Sheet
from yolo_multitask.data.check.tracks import Sequence as FrameSequence
from yolo_multitask.data.labels import Instance, Labels, LabelSpec, write_labels
from yolo_multitask.data.synthetic import FLIP_IDX, KEYPOINT_NAMES
from yolo_multitask.data.view.skeleton import side_and_part

SPEC = LabelSpec(nc=2, kpt_shape=(17, 3), polygons=True, ids=True)
PART = Part(split="train", paths=("seq",), source=None, spec=SPEC, trained=SPEC)


def sheet(instances: Sequence[Instance], size: tuple[int, int] | None = (640, 480)) -> Sheet:
    """Return what the rules see of some instances."""
    rows = np.arange(len(instances))
    return Sheet("labels.txt", SPEC, Labels.from_instances(instances, SPEC), rows, 0, [], size)


def box(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def ring(*points: tuple[float, float]) -> NDArray[np.float32]:
    return np.array(points, np.float32)


def kinds(faults: object) -> list[str]:
    return [fault.kind for fault in faults]  # type: ignore[attr-defined]


def test_parts_of_a_mask_that_run_against_each_other_have_area() -> None:
    """Two squares joined by a line there and back, one clockwise, one not: their signed areas cancel."""
    one = [(0.1, 0.1), (0.3, 0.1), (0.3, 0.3), (0.1, 0.3)]
    two = [(0.7, 0.7), (0.7, 0.9), (0.9, 0.9), (0.9, 0.7)]
    joined = ring(*one, one[0], *two, two[0])
    labels = sheet([Instance(cls=0, box=box(0.5, 0.5, 0.8, 0.8), polygon=joined)])
    assert kinds(polygon_faults(labels)) == []


@pytest.mark.parametrize(
    "flat", [ring((0.1, 0.1), (0.5, 0.5), (0.3, 0.3)), ring((0.1, 0.1), (0.4, 0.2), (0.5, 0.5), (0.4, 0.2))]
)
def test_a_line_has_no_area(flat: NDArray[np.float32]) -> None:
    labels = sheet([Instance(cls=0, box=box(0.3, 0.3, 0.4, 0.4), polygon=flat)])
    assert kinds(polygon_faults(labels)) == ["polygon-flat"]


def test_a_thin_polygon_has_area() -> None:
    ski = ring((0.1, 0.1), (0.5, 0.5), (0.505, 0.5), (0.105, 0.1))
    labels = sheet([Instance(cls=0, box=box(0.3, 0.3, 0.4, 0.4), polygon=ski)])
    assert kinds(polygon_faults(labels)) == []


def test_ignore_regions_may_be_tiny_full_and_twins() -> None:
    whole = [Instance(cls=0, box=box(0.5, 0.5, 1, 1), ignore=True) for _ in range(2)]
    assert kinds(box_faults(sheet([*whole, Instance(cls=0, box=box(0.5, 0.5, 0.001, 0.1), ignore=True)]))) == []


def test_the_same_box_of_another_class_is_another_object() -> None:
    same = [Instance(cls=cls, box=box(0.5, 0.5, 0.2, 0.2)) for cls in (0, 1)]
    assert kinds(box_faults(sheet(same))) == []


def test_tiny_needs_the_size_of_the_picture() -> None:
    labels = [Instance(cls=0, box=box(0.5, 0.5, 0.002, 0.1))]
    assert kinds(box_faults(sheet(labels, (640, 480)))) == ["box-tiny"]
    assert kinds(box_faults(sheet(labels, (6400, 4800)))) == []
    assert kinds(box_faults(sheet(labels, None))) == []


def test_iou() -> None:
    boxes = np.array([[0.2, 0.2, 0.2, 0.2], [0.3, 0.2, 0.2, 0.2], [0.8, 0.8, 0.1, 0.1]], np.float32)
    expected = [[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 1]]
    assert pairwise_iou(boxes) == pytest.approx(np.array(expected), abs=1e-6)


def person(front: bool, x: float = 0.5, hidden_face: bool = False) -> Instance:
    """A standing person, 0.2 wide and 0.8 high; seen from the front the left side is on the right."""
    sign = 1 if front else -1
    points = np.zeros((17, 3), np.float32)
    for k, name in enumerate(KEYPOINT_NAMES):
        side = {"l": sign, "r": -sign}.get(name[0], 0) if "_" in name else 0
        level = (0.12, 0.1, 0.1, 0.11, 0.11, 0.25, 0.25, 0.4, 0.4, 0.5, 0.5, 0.5, 0.5, 0.7, 0.7, 0.88, 0.88)[k]
        points[k] = x + side * (0.03 if k < 5 else 0.08), level, 2
    if not front:
        points[:3] = 0
    if hidden_face:
        points[:3, 2] = 1
    return Instance(cls=0, box=box(x, 0.5, 0.2, 0.8), keypoints=points)


def judge(people: Sequence[Instance], names: Sequence[str] | None = KEYPOINT_NAMES) -> list[str]:
    """Return the names of the pairs that are swapped more often than not."""
    sides = make_sides(FLIP_IDX, names)
    assert sides is not None
    votes, _ = side_votes(sheet(people), 0, sides)
    return [said.split()[0] for said in swapped_pairs(votes, sides)]


def swapped(people: Sequence[Instance], *pairs: int) -> list[Instance]:
    """Exchange the given left keypoints with their right ones."""
    for p in people:
        assert p.keypoints is not None
        both = [*pairs, *(i + 1 for i in pairs)]
        p.keypoints[both] = p.keypoints[[FLIP_IDX[i] for i in both]]
    return list(people)


LEFT = (1, 3, 5, 7, 9, 11, 13, 15)


def test_front_and_back_are_as_they_should_be() -> None:
    assert judge([person(front=i % 2 == 0) for i in range(60)]) == []


def test_all_pairs_swapped_is_known_by_the_face() -> None:
    names = [f"{KEYPOINT_NAMES[i]}/{KEYPOINT_NAMES[i + 1]}" for i in LEFT]
    assert judge(swapped([person(True) for _ in range(30)], *LEFT)) == names
    assert judge(swapped([person(False) for _ in range(30)], *LEFT)) == []  # as people seen from the front without face
    assert judge(swapped([person(True, hidden_face=True) for _ in range(30)], *LEFT)) == []


def test_one_pair_swapped_is_known_by_the_others() -> None:
    assert judge(swapped([person(False) for _ in range(30)], 11)) == ["left_hip/right_hip"]
    assert judge(swapped([person(False) for _ in range(30)], 11), None) == ["11/12"]


def test_less_than_half_or_too_few_are_not_judged() -> None:
    assert judge(swapped([person(True) for _ in range(14)], *LEFT) + [person(True) for _ in range(16)]) == []
    assert judge(swapped([person(True) for _ in range(9)], *LEFT)) == []


def test_about_half_is_no_finding_however_many_there_are() -> None:
    """As in pictures from above, where no side is the left one."""
    people = [person(True) for _ in range(1600)]
    assert judge(swapped(people[:864], *LEFT) + people[864:]) == []
    assert len(judge(swapped(people[864:960], *LEFT) + people[:864] + people[960:])) == len(LEFT)


def test_a_person_in_profile_says_nothing() -> None:
    people = [person(True) for _ in range(30)]
    for p in people:
        assert p.keypoints is not None
        p.keypoints[:, 0] = 0.5 - 0.005 * np.sign(p.keypoints[:, 0] - 0.5)
    assert judge(people) == []


@pytest.mark.parametrize(
    ("name", "other"),
    [("left_eye", "right_eye"), ("LeftEye", "righteye"), ("r_hip", "LHip"), ("ear-l", "earR"), ("nose", "Nose")],
)
def test_names_of_partners(name: str, other: str) -> None:
    (side, part), (other_side, same) = side_and_part(name), side_and_part(other)
    assert part == same
    assert OTHER_SIDE.get(side, "") == other_side


def flip_faults(flip: list[int], names: list[str]) -> list[str]:
    """Return what the check says about `flip_idx` and the names of keypoints."""
    spec = LabelSpec(nc=1, kpt_shape=(len(names), 3), polygons=False)
    data = {"names": {0: "it"}, "label_spec": spec, "flip_idx": flip, "kpt_names": {0: names}, "kpt_classes": [0]}
    return [f"{finding.kind}: {finding.message}" for finding in yaml_findings(data, "data.yaml")]


def test_flip_idx_against_the_names() -> None:
    names = ["nose", "left_ear", "right_ear"]
    assert flip_faults([0, 2, 1], names) == []
    (said,) = flip_faults([1, 0, 2], names)
    assert "nose becomes left_ear, left_ear becomes nose, right_ear becomes right_ear" in said


def test_names_without_sides_say_nothing_about_flip_idx() -> None:
    """The corners of a plate; and an upright post, which is not right."""
    assert flip_faults([1, 0, 3, 2], ["nw", "ne", "sw", "se"]) == []
    sides = make_sides([1, 0], ["upright_l", "upright_r"])
    assert sides is not None
    assert sides.pairs.tolist() == [[0, 1]]


def test_hidden_keypoints_may_lie_outside_the_visible_part() -> None:
    """A box around the head alone, with the body guessed behind something."""
    one = person(True)
    assert one.keypoints is not None
    one.box = box(0.5, 0.12, 0.1, 0.08)
    assert kinds(keypoint_faults(sheet([one]))) == ["keypoints-outside"]
    one.keypoints[5:, 2] = 1
    assert kinds(keypoint_faults(sheet([one]))) == []


def brute_force(hashes: NDArray[np.uint64], splits: NDArray[np.int64]) -> set[tuple[int, int]]:
    """Every picture with the first near one of each split before it."""
    found = set()
    for j in range(len(hashes)):
        for split in set(splits.tolist()):
            near = [
                i
                for i in range(len(hashes))
                if splits[i] == split
                and all(bin(int(a) ^ int(b)).count("1") <= NEAR for a, b in zip(hashes[i], hashes[j], strict=True))
            ]
            if near and near[0] < j:
                found.add((near[0], j))
    return found


def test_near_pairs_are_those_of_a_comparison_of_all() -> None:
    """Families of pictures whose hashes differ in 0 to 7 bits, of three splits."""
    rng = np.random.default_rng(0)
    families = rng.integers(1, 2**63, (12, 2)).astype(np.uint64)
    hashes = families[rng.integers(12, size=150)]
    for row in hashes:
        for bit in rng.integers(64, size=rng.integers(8)):
            row[rng.integers(2)] ^= np.uint64(1) << np.uint64(bit)
    splits = np.sort(rng.integers(3, size=150))
    pairs = near_pairs(hashes[:, 0], hashes[:, 1], splits)
    expected = brute_force(hashes, splits)
    assert len(expected) > 100
    assert set(map(tuple, pairs.tolist())) == expected


def test_pictures_without_contrast_are_not_near() -> None:
    nothing = np.zeros(5, np.uint64)
    assert near_pairs(nothing, nothing, np.zeros(5, np.int64)).shape == (0, 2)


def test_equal_pairs() -> None:
    pairs = equal_pairs(np.array([7, 8, 7, 7, 8, 9], np.uint64), np.array([0, 0, 0, 1, 1, 1]))
    assert sorted(map(tuple, pairs.tolist())) == [(0, 2), (0, 3), (1, 4)]


def walk(paths: Sequence[Sequence[tuple[float, float]]], size: tuple[float, float] = (0.05, 0.1)) -> list[str]:
    """Return the findings of objects that are at these places, frame after frame."""
    frames = FrameSequence("seq", PART, {0: "person", 1: "ball"})
    for t, places in enumerate(zip(*paths, strict=True), 1):
        n = len(places)
        boxes = np.array([[*place, *size] for place in places], np.float32)
        numbers = np.arange(n)
        frames.add(Frame(t, f"seq/{t}.jpg", f"seq/{t}.txt", None, numbers, numbers, np.zeros(n, np.int64), boxes))
    return kinds(frames.findings())


@pytest.fixture
def in_seq(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Label files for the line numbers of `walk`."""
    monkeypatch.chdir(tmp_path)
    rows = [Instance(cls=0, box=box(0.1 + 0.1 * i, 0.5, 0.05, 0.1)) for i in range(6)]
    for t in range(1, 21):
        write_labels(f"seq/{t}.txt", Labels.from_instances(rows, SPEC), SPEC)


@pytest.mark.usefixtures("in_seq")
class TestJumps:
    def test_a_camera_that_jerks_moves_all(self) -> None:
        shift = [0.0] * 10 + [0.3] * 10
        assert walk([[(0.1 * i + s, 0.5) for s in shift] for i in range(5)]) == []

    def test_one_that_leaves_the_others(self) -> None:
        still = [[(0.1 * i, 0.5)] * 20 for i in range(5)]
        assert walk([*still[:4], [(0.4, 0.5)] * 10 + [(0.9, 0.5)] * 10]) == ["id-jump"]

    def test_what_is_always_fast(self) -> None:
        """A ball that flies four of its sizes from frame to frame, and bounces."""
        x = np.abs(np.arange(20) * 0.2 % 1.6 - 0.8)
        assert walk([[(float(v), 0.5) for v in x]]) == []

    def test_two_that_exchange_their_identities(self) -> None:
        one, two = [(0.2, 0.5)] * 20, [(0.7, 0.5)] * 20
        assert walk([one[:10] + two[10:], two[:10] + one[10:]]) == ["id-jump", "id-jump"]


def test_frames_in_natural_order(tmp_path: Path) -> None:
    for name in ("b/10.jpg", "b/2.jpg", "a/cam2_007.png", "a/cam10_001.png", "b/note.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = [Path(f).relative_to(tmp_path).as_posix() for f in image_files(str(tmp_path), "train")]
    assert found == ["a/cam2_007.png", "a/cam10_001.png", "b/2.jpg", "b/10.jpg"]
    assert [frame_number(f) for f in found] == [7, 1, 2, 10]
    assert frame_number("no/number.jpg") is None


def test_the_files_that_the_host_takes(tmp_path: Path) -> None:
    """Links to folders are followed; hidden files and folders are not there."""
    for name in ("real/1.jpg", "top/2.jpg", "top/.3.jpg", "top/.tmp/4.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "top" / "link").symlink_to(tmp_path / "real")
    found = [Path(f).relative_to(tmp_path).as_posix() for f in image_files(str(tmp_path / "top"), "train")]
    assert found == ["top/2.jpg", "top/link/1.jpg"]


def test_all_absent_is_unlabelled_in_stock_lines() -> None:
    one = person(True)
    assert one.keypoints is not None
    one.keypoints[:] = 0
    labels = sheet([one])
    assert kinds(keypoint_faults(labels)) == ["keypoints-absent"]
    labels.spec = LabelSpec(nc=2, kpt_shape=(17, 3), polygons=False, format="pose")
    assert kinds(keypoint_faults(labels)) == []


def test_no_images(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected the images of val, found none"):
        image_files([str(tmp_path)], "val")
    with pytest.raises(FileNotFoundError, match="expected the images of val, found no such folder"):
        image_files(str(tmp_path / "gone"), "val")
