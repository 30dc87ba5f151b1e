"""What a file says of itself is checked before it is run."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
from support.blobs import HEIGHT, METADATA, WIDTH

from yolo_multitask.runtime.metadata import Metadata
from yolo_multitask.tasks import RowLayout

INPUT = SimpleNamespace(name="images", type="tensor(float)", shape=[1, 3, HEIGHT, WIDTH])
ROWS = SimpleNamespace(name="output0", type="tensor(float)", shape=[1, 22, 960])
MAPS = SimpleNamespace(name="output1", type="tensor(float)", shape=[1, 3, HEIGHT // 4, WIDTH // 4])


def texts(**changes: Any) -> dict[str, str]:
    """Return the metadata as an ONNX file holds it; `...` leaves an entry out."""
    return {k: str(v) for k, v in {**METADATA, **changes}.items() if v is not ...}


def changed(value: SimpleNamespace, **changes: Any) -> SimpleNamespace:
    return SimpleNamespace(**{**vars(value), **changes})


def test_it_is_read() -> None:
    found = Metadata.read(texts(kpt_classes=[0], kpt_oks_sigmas=[0.1, 0.2]))
    assert found.layout == RowLayout(nc=2, nk=6, nm=3, ne=3, nb=4)
    assert found.kpt_shape == (2, 3)
    assert found.kpt_classes == (0,)
    assert found.kpt_sigmas == (0.1, 0.2)
    assert found.imgsz == (HEIGHT, WIDTH)
    assert (found.nms, found.conf, found.max_det, found.masks) == (False, 0.0, None, False)
    found.check([INPUT], [ROWS, MAPS])


def test_what_is_optional_may_be_missing() -> None:
    few = texts(
        **dict.fromkeys(("args", "masks", "relative", "channels", "kpt_shape", "batch"), ...),
        tasks=["detect"],
        nm=0,
        embed_dim=0,
        next=False,
    )
    found = Metadata.read(few)
    assert (found.channels, found.kpt_shape, found.layout) == (3, None, RowLayout(nc=2))
    found.check([INPUT], [changed(ROWS, shape=[1, 6, 960])])


def test_an_nms_is_read() -> None:
    found = Metadata.read(texts(args={"nms": True, "conf": 0.2, "max_det": 7}, masks=True))
    assert (found.nms, found.conf, found.max_det, found.masks) == (True, 0.2, 7, True)
    found.check([INPUT], [changed(ROWS, shape=[1, 7, 22]), changed(MAPS, shape=[1, "detections", 24, 40])])
    with pytest.raises(ValueError, match=r"expected 'output0' of shape \(1, 7, 22\), found \(1, 300, 22\)"):
        found.check([INPUT], [changed(ROWS, shape=[1, 300, 22]), MAPS])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"task": ...}, "expected the metadata of a multitask model, found none; export it again"),
        ({"task": "detect"}, "expected a model of task 'multitask', found 'detect'; run it with 'ymt predict'"),
        ({"nc": ...}, "metadata: expected 'nc', found none among "),
        ({"nc": "two"}, "metadata: expected 'nc' to be a int, found 'two'"),
        ({"next": 1}, "metadata: expected 'next' to be a bool, found '1'"),
        ({"names": "[a"}, "metadata: expected 'names' to be a dict, found '[a'"),
        ({"names": {0: "a"}}, "one name for each of 2 classes"),
        (
            {"tasks": ["detect", "fly"], "nm": 0, "embed_dim": 0, "kpt_shape": ...},
            "expected tasks among detect, segment",
        ),
        ({"tasks": ["detect", "segment", "track"]}, "expected 'kpt_shape' with the task pose alone"),
        ({"nm": 0}, "expected 'nm' with the task segment alone"),
        ({"embed_dim": 0}, "expected 'embed_dim' with the task track alone"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)) as error:
        Metadata.read(texts(**changes))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("inputs", "outputs", "says"),
    [
        (
            [INPUT, INPUT],
            [ROWS, MAPS],
            "expected 1 input of floats for detect, segment, pose, track, found images tensor(float), images",
        ),
        (
            [changed(INPUT, type="tensor(uint8)")],
            [ROWS, MAPS],
            "expected 1 input of floats for detect, segment, pose, track, found images tensor(uint8)",
        ),
        (
            [changed(INPUT, shape=[1, 1, 96, 160])],
            [ROWS, MAPS],
            "expected 'images' of shape (1, 3, any, any), found (1, 1",
        ),
        ([changed(INPUT, shape=[4, 3, 96, 160])], [ROWS, MAPS], "export it with batch=1 or dynamic=True"),
        (
            [INPUT],
            [ROWS],
            "expected 2 outputs of floats for detect, segment, pose, track, found output0 tensor(float);",
        ),
        (
            [INPUT],
            [changed(ROWS, shape=[1, 21, 960]), MAPS],
            "expected 'output0' of shape (1, 22, any), found (1, 21, 960)",
        ),
        ([INPUT], [changed(ROWS, shape=[1, 22]), MAPS], "expected 'output0' of shape (1, 22, any), found (1, 22)"),
        (
            [INPUT],
            [ROWS, changed(MAPS, shape=[1, 32, 24, 40])],
            "expected 'output1' of shape (1, 3, 24, 40), found (1, 32",
        ),
        (
            [INPUT],
            [ROWS, changed(MAPS, shape=[1, 3, 12, 20])],
            "expected 'output1' of shape (1, 3, 24, 40), found (1, 3, 12",
        ),
    ],
)
def test_other_inputs_and_outputs_are_named(inputs: list[Any], outputs: list[Any], says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        Metadata.read(texts()).check(inputs, outputs)


def test_axes_that_are_left_open_fit() -> None:
    inputs = changed(INPUT, shape=["batch", 3, "height", "width"])
    outputs = [changed(ROWS, shape=["batch", 22, "anchors"]), changed(MAPS, shape=["batch", 3, "h", "w"])]
    Metadata.read(texts()).check([inputs], outputs)
