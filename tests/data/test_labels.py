"""The label grammar: what parses, what is refused and why, and that writing gives the same values back."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo_multitask.data.labels import (
    Instance,
    LabelError,
    Labels,
    LabelSpec,
    LineProblem,
    format_line,
    parse_line,
    read_labels,
    write_labels,
)

FULL = LabelSpec(nc=3, kpt_shape=(2, 3), polygons=True, ids=True)
FLAT = LabelSpec(nc=3, kpt_shape=(2, 2), polygons=True, ids=True)
BOXES = LabelSpec(nc=3, kpt_shape=None, polygons=False)
DETECT = LabelSpec(nc=3, kpt_shape=None, polygons=False, format="detect")
SEGMENT = LabelSpec(nc=3, kpt_shape=None, polygons=True, format="segment")
POSE = LabelSpec(nc=3, kpt_shape=(2, 3), polygons=False, format="pose")
KPT_SEG = LabelSpec(nc=3, kpt_shape=(2, 3), polygons=True, format="kpt_seg")
SPECS = (FULL, FLAT, BOXES, DETECT, SEGMENT, POSE, KPT_SEG)

BOX = "1 0.5 0.5 0.2 0.4"
KPTS = "0.4 0.4 2 0 0 0"
POLY = "0.4 0.3 0.6 0.3 0.6 0.7"


def same(a: Instance, b: Instance) -> bool:
    """Return whether two instances are equal value by value."""
    arrays = all(
        (x is None and y is None) or (x is not None and y is not None and np.array_equal(x, y))
        for x, y in ((a.box, b.box), (a.keypoints, b.keypoints), (a.polygon, b.polygon))
    )
    conf = a.conf == b.conf or (math.isnan(a.conf) and math.isnan(b.conf))
    return arrays and conf and (a.cls, a.id, a.ignore) == (b.cls, b.id, b.ignore)


def test_full_line() -> None:
    found = parse_line(f"{BOX} {KPTS} {POLY} #7 @0.25 !", FULL)
    assert (found.cls, found.id, found.conf, found.ignore) == (1, 7, 0.25, True)
    assert found.keypoints is not None
    assert found.polygon is not None
    np.testing.assert_allclose(found.box, [0.5, 0.5, 0.2, 0.4])
    np.testing.assert_allclose(found.keypoints, [[0.4, 0.4, 2], [0, 0, 0]])
    np.testing.assert_allclose(found.polygon, [[0.4, 0.3], [0.6, 0.3], [0.6, 0.7]])
    assert found.box.dtype == found.keypoints.dtype == found.polygon.dtype == np.float32


def test_not_labelled_differs_from_absent() -> None:
    assert parse_line(f"{BOX} - -", FULL).keypoints is None
    absent = parse_line(f"{BOX} 0 0 0 0 0 0 -", FULL).keypoints
    assert absent is not None
    assert not absent.any()


def test_stock_lines() -> None:
    assert parse_line(BOX, DETECT).polygon is None
    pose = parse_line(f"{BOX} {KPTS}", POSE)
    assert pose.keypoints is not None
    assert pose.keypoints.shape == (2, 3)
    for line, spec in ((f"1 {POLY}", SEGMENT), (f"1 {KPTS} {POLY}", KPT_SEG)):
        np.testing.assert_allclose(parse_line(line, spec).box, [0.5, 0.5, 0.2, 0.4], atol=1e-6)
    assert parse_line("2.0 0.5 0.5 0.1 0.1", DETECT).cls == 2  # the host reads it as well


def test_two_dimensional_keypoints_are_absent_when_negative() -> None:
    found = parse_line(f"{BOX} 0.4 0.4 -0.01 -0.01 -", FLAT)
    assert found.keypoints is not None
    assert found.keypoints[:, 2].tolist() == [1, 0]
    found.keypoints[0] = 0  # absent without a negative coordinate: written so that it stays absent
    again = parse_line(format_line(found, FLAT), FLAT).keypoints
    assert again is not None
    assert again[:, 2].tolist() == [0, 0]


def test_tolerance_is_clipped() -> None:
    found = parse_line(f"1 1.005 -0.005 1.01 0.5 1.01 -0.01 1 5 5 0 {POLY.replace('0.7', '1.01')}", FULL)
    assert found.keypoints is not None
    assert found.polygon is not None
    np.testing.assert_allclose(found.box, [1, 0, 1, 0.5])
    np.testing.assert_allclose(found.keypoints, [[1, 0, 1], [5, 5, 0]])  # an absent one may be anywhere
    assert found.polygon.max() == 1


@pytest.mark.parametrize(
    ("line", "spec", "reason"),
    [
        ("", FULL, "blank line"),
        ("!", FULL, "no class index"),
        ("x 0.5 0.5 0.1 0.1 - -", FULL, "integer class first, found 'x'"),
        ("1.5 0.5 0.5 0.1 0.1 - -", FULL, "integer class first, found '1.5'"),
        ("nan 0.5 0.5 0.1 0.1 - -", FULL, "integer class first, found 'nan'"),
        ("-1 0.5 0.5 0.1 0.1 - -", FULL, r"class in 0..2 \(nc is 3\), found '-1'"),
        ("3 0.5 0.5 0.1 0.1 - -", FULL, r"class in 0..2 \(nc is 3\), found '3'"),
        ("1 0.5 0.5 0.1", FULL, "found 3 of 4 box numbers"),
        ("1 0.5 nan 0.1 0.1 - -", FULL, "finite number in the box, found 'nan'"),
        ("1 0.5 inf 0.1 0.1 - -", FULL, "finite number in the box, found 'inf'"),
        ("1 0.5 1e999 0.1 0.1 - -", FULL, "finite number in the box, found '1e999'"),
        ("1 0.5 a 0.1 0.1 - -", FULL, "number in the box, found 'a'"),
        ("1 0.5 0.5 0 0.1 - -", FULL, "width and height above 0, found 0 x 0.1"),
        ("1 0.5 0.5 0.1 -0.1 - -", FULL, "width and height above 0"),
        ("1 320 0.5 0.1 0.1 - -", FULL, r"box coordinates in 0..1 \(normalised.*found 320"),
        ("1 0.5 -0.02 0.1 0.1 - -", FULL, "found -0.02"),
        (BOX, FULL, r"6 keypoint numbers \(2 x 3\) or '-', found 0"),
        (f"{BOX} 0.1 0.2 1 - ", FULL, "6 keypoint numbers.*found 3"),
        (f"{BOX} 0.1 0.2 3 0 0 0 -", FULL, "visibility of 0, 1 or 2.*found 3"),
        (f"{BOX} 0.1 0.2 -1 0 0 0 -", FULL, "visibility of 0, 1 or 2.*found -1"),
        (f"{BOX} 1.2 0.2 1 0 0 0 -", FULL, "visible keypoint coordinates in 0..1.*found 1.2"),
        (f"{BOX} 1e300 0 0 0 0 0 -", FULL, "fit float32"),
        (f"{BOX} -", FULL, "polygon of 3 or more x y pairs or -, found 0"),
        (f"{BOX} - 0.1 0.1 0.2 0.2", FULL, "polygon of 3 or more x y pairs or -, found 4"),
        (f"{BOX} - {POLY} 0.5", FULL, "found 7 columns"),
        (f"{BOX} - {POLY.replace('0.7', '1.2')}", FULL, "polygon coordinates in 0..1"),
        (f"{BOX} - - 0.5", FULL, "polygon"),
        (f"{BOX} - - #a", FULL, "#id with an integer 0 or above, found '#a'"),
        (f"{BOX} - - #-1", FULL, "#id with an integer 0 or above"),
        (f"{BOX} - - #1 #2", FULL, "at most one #"),
        (f"{BOX} - - ! !", FULL, "at most one !"),
        (f"{BOX} - - @1.5", FULL, "@conf with a number in 0..1, found '@1.5'"),
        (f"{BOX} - - @nan", FULL, "@conf with a number in 0..1"),
        (f"{BOX} - - !x", FULL, "! alone"),
        ("1 0.5 #1 0.5 0.1 - -", FULL, "go to the end of the line"),
        (f"{BOX} #4", BOXES, r"add `labels: \{ids: true\}`"),
        (
            f"{BOX} {POLY}",
            BOXES,
            r"6 more columns.*`labels: \{polygons: true\}`.*`task: segment` \(or pass task=segment\)",
        ),
        (f"{BOX} {POLY}", DETECT, r"`labels: \{polygons: true\}`"),
        (f"{BOX} !", DETECT, "flags need the key `labels:`"),
        (f"{BOX} -", POSE, "expected 6 keypoint numbers"),
        (f"{BOX} {KPTS} {POLY}", POSE, r"`labels: \{keypoints: true, polygons: true\}`"),
        ("1 - 0.1 0.1 0.2 0.2 0.3", SEGMENT, "stands alone for the whole field"),
        ("1 0.1 0.1 0.1 0.2 0.1 0.3", SEGMENT, "width and height above 0"),
    ],
)
def test_refused(line: str, spec: LabelSpec, reason: str) -> None:
    with pytest.raises(LabelError, match=reason):
        parse_line(line, spec)


def numbers(low: float, high: float) -> st.SearchStrategy[str]:
    """Texts of numbers, most of them in range, some not numbers at all."""
    return st.one_of(
        st.floats(low, high).map(repr),
        st.floats(allow_nan=True, allow_infinity=True).map(repr),
        st.sampled_from(["-", "1e-46", "-0.0", "-1e-60", "1.01", "-0.01", "#1", "@1", "!", "é", "1_0", "٣"]),
    )


@st.composite
def lines(draw: st.DrawFn) -> str:
    """Lines that are nearly right."""
    tokens = [draw(st.one_of(st.integers(-1, 4).map(str), numbers(0, 3)))]
    tokens += draw(st.lists(numbers(-0.01, 1.01), min_size=0, max_size=18))
    tokens += draw(st.lists(st.sampled_from(["-", "#3", "#x", "@0.5", "@0.1234567891", "!", "@nan"]), max_size=3))
    return draw(st.sampled_from([" ", "\t", "  "])).join(tokens)


@st.composite
def good_lines(draw: st.DrawFn) -> tuple[str, LabelSpec]:
    """Lines that follow the grammar, with the extreme values it allows."""
    spec = draw(st.sampled_from(SPECS))
    unit = st.floats(-0.01, 1.01, width=64).map(repr)
    tokens = [str(draw(st.integers(0, 2)))]
    if spec.has_box:
        side = st.floats(2e-38, 1.01, width=64).map(repr)
        tokens += [draw(unit), draw(unit), draw(side), draw(side)]
    dash = spec.format == "multitask"
    if spec.kpt_shape is not None:
        points = []
        for _ in range(spec.kpt_shape[0]):
            points += [draw(unit), draw(unit), *([repr(draw(st.floats(0, 2)))] if spec.kpt_shape[1] == 3 else [])]
        tokens += ["-"] if dash and draw(st.booleans()) else points
    if spec.polygons:
        extra = draw(st.lists(unit, max_size=8))
        points = ["0.1", "0.1", "0.9", "0.2", "0.3", "0.8", *extra[: len(extra) // 2 * 2]]
        tokens += ["-"] if dash and draw(st.booleans()) else points
    if dash:
        flags = [f"@{draw(st.floats(0, 1))!r}", "!"] + ([f"#{draw(st.integers(0, 2**63 - 1))}"] if spec.ids else [])
        tokens += draw(st.permutations(flags))[: draw(st.integers(0, len(flags)))]
    return " ".join(tokens), spec


@settings(max_examples=600, deadline=None)
@given(st.one_of(st.text(max_size=60), lines()), st.sampled_from(SPECS))
def test_every_line_parses_or_has_a_reason(line: str, spec: LabelSpec) -> None:
    first, reason = None, ""
    try:
        first = parse_line(line, spec)
    except LabelError as error:
        reason = str(error)
    if first is None:
        assert "found" in reason
    else:
        assert same(parse_line(format_line(first, spec), spec), first)


@settings(max_examples=600, deadline=None)
@given(good_lines())
def test_every_good_line_round_trips(case: tuple[str, LabelSpec]) -> None:
    line, spec = case
    first = parse_line(line, spec)
    assert same(parse_line(format_line(first, spec), spec), first)


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=200))
def test_every_file_reads(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.txt"
    path.write_bytes(data)
    labels, problems = read_labels(path, FULL)
    text = data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    filled = 0
    for line in text.split(b"\n"):
        try:
            filled += bool(line.decode().strip())
        except UnicodeDecodeError:
            filled += 1
    assert len(labels) + len(problems) == filled  # nothing is left out without a count


def test_read_reports_lines_and_keeps_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(
        f"\ufeff{BOX} {KPTS} - #1\r\n\r\n{BOX} bad\r\n{BOX} 0.40 0.4 2 0 0 0.0 - #1\r\n{BOX} - {POLY} !\r\n".encode()
        + b"1 \xff\r\n"
    )
    labels, problems = read_labels(path, FULL)
    assert len(labels) == 2
    assert labels.has_keypoints.tolist() == [True, False]
    assert labels.has_polygon.tolist() == [False, True]
    assert labels.ids.tolist() == [1, -1]
    assert labels.ignore.tolist() == [False, True]
    assert np.isnan(labels.conf).all()
    assert [(p.line, p.kind) for p in problems] == [(3, "error"), (4, "duplicate"), (6, "error")]
    assert str(problems[1]) == f"{path}:4: repeats line 1; kept once"
    assert "UTF-8" in problems[2].reason


def test_missing_and_empty_files_are_background(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    for name in ("missing.txt", "empty.txt"):
        labels, problems = read_labels(tmp_path / name, FULL)
        assert (len(labels), problems) == (0, [])
        assert labels.boxes.shape == (0, 4)
        assert labels.keypoints is not None
        assert labels.keypoints.shape == (0, 2, 3)
    assert read_labels(tmp_path / "missing.txt", BOXES)[0].keypoints is None


def test_write_then_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    n = 6
    labels = Labels(
        cls=rng.integers(0, 3, n),
        boxes=rng.uniform(0.01, 1, (n, 4)).astype(np.float32),
        keypoints=np.concatenate([rng.random((n, 2, 2)), rng.integers(0, 3, (n, 2, 1))], 2).astype(np.float32),
        has_keypoints=np.arange(n) % 2 == 0,
        polygons=[rng.random((5, 2)).astype(np.float32) if i % 3 else None for i in range(n)],
        ids=np.arange(n) - 1,
        ignore=np.arange(n) == 4,
        conf=np.where(np.arange(n) < 3, rng.random(n), np.nan).astype(np.float32),
    )
    path = tmp_path / "new" / "a.txt"
    write_labels(path, labels, FULL)
    again, problems = read_labels(path, FULL)
    assert problems == []
    assert all(same(a, b) for a, b in zip(labels, again, strict=True))
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_write_fails_whole(tmp_path: Path) -> None:
    labels = Labels.from_instances([parse_line(f"{BOX} - - #1", FULL)], FULL)
    path = tmp_path / "a.txt"
    path.write_text("before")
    with pytest.raises(ValueError, match="ids=True"):
        write_labels(path, labels, LabelSpec(nc=3, kpt_shape=(2, 3), polygons=True))
    assert path.read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("line", "spec", "reason"),
    [
        (f"{BOX} {KPTS} -", BOXES, "cannot write keypoints"),
        (f"{BOX} - {POLY}", POSE, "unlabelled keypoints"),
        (f"{BOX} - {POLY}", BOXES, "cannot write a polygon"),
        (f"{BOX} - -", SEGMENT, "unlabelled polygon"),
        (f"{BOX} - - !", DETECT, "cannot write !"),
    ],
)
def test_grammar_that_cannot_say_it(line: str, spec: LabelSpec, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        format_line(parse_line(line, FULL), spec)


def test_labels_are_index_aligned() -> None:
    labels = Labels.from_instances([parse_line(f"{BOX} - -", FULL)], FULL)
    with pytest.raises(ValueError, match="expected 1 entries"):
        Labels(**{**vars(labels), "ids": np.zeros(2, np.int64)})


@pytest.mark.parametrize(
    ("data", "kwargs", "format_", "tasks"),
    [
        ({}, {}, "detect", ("detect",)),
        ({}, {"task": "segment"}, "segment", ("detect", "segment")),
        ({}, {"task": "multitask"}, "detect", ("detect",)),
        ({}, {"labels": {"polygons": True}}, "multitask", ("detect", "segment")),
        ({"task": "segment"}, {}, "segment", ("detect", "segment")),
        ({"format": "segment"}, {}, "segment", ("detect", "segment")),
        ({"kpt_shape": [2, 3]}, {}, "pose", ("detect", "pose")),
        ({"kpt_shape": [2, 3]}, {"task": "segment"}, "pose", ("detect", "pose")),
        ({"kpt_shape": [2, 3], "task": "detect"}, {}, "detect", ("detect",)),
        ({"kpt_shape": [2, 3], "format": "kpt_seg"}, {}, "kpt_seg", ("detect", "segment", "pose")),
        ({"labels": {"ids": True}}, {}, "multitask", ("detect", "track")),
        ({"kpt_shape": [2, 3], "labels": {"polygons": True}}, {}, "multitask", ("detect", "segment", "pose")),
        ({"kpt_shape": [2, 3], "labels": {"keypoints": False}}, {}, "multitask", ("detect",)),
        ({"labels": {"polygons": True}}, {"labels": {"polygons": False}}, "multitask", ("detect", "segment")),
    ],
)
def test_what_the_yaml_says(data: dict, kwargs: dict, format_: str, tasks: tuple[str, ...]) -> None:
    spec = LabelSpec.from_data({"names": {0: "a", 1: "b"}, **data}, **kwargs)
    assert (spec.nc, spec.format, spec.tasks) == (2, format_, tasks)


@pytest.mark.parametrize(
    ("data", "kwargs", "reason"),
    [
        ({"labels": {"polygon": True}}, {}, "did you mean 'polygons'"),
        ({"labels": {"polygons": 1}}, {}, "expected true or false, found 1"),
        ({"labels": "polygons"}, {}, "expected a mapping"),
        ({"labels": {"keypoints": True}}, {}, "no `kpt_shape"),
        ({"format": "segmnt"}, {}, "did you mean 'segment'"),
        ({"format": "pose"}, {}, "expected|keypoints need"),
        ({"format": "multitask"}, {}, "expected `labels:"),
        ({"task": "multitask"}, {}, "say what the lines hold"),
        ({"format": "segment", "labels": {"polygons": False}}, {}, "remove one of the two"),
        ({"kpt_shape": [17]}, {}, r"expected \[K, D\].*found \[17\]"),
        ({"kpt_shape": [17, 4]}, {}, "D = 2"),
        ({"kpt_shape": [2, 3]}, {"labels": {"polygons": True}}, "put `labels:` into the data YAML"),
    ],
)
def test_yaml_that_contradicts_itself(data: dict, kwargs: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        LabelSpec.from_data({"nc": 2, **data}, **kwargs)
    with pytest.raises(ValueError, match="found neither"):
        LabelSpec.from_data({})


def test_problem_text() -> None:
    assert str(LineProblem("a.txt", 3, "why")) == "a.txt:3: why"


def test_needs_neither_torch_nor_host() -> None:
    code = "import sys, yolo_multitask.data.labels; print({'torch', 'ultralytics', 'cv2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
