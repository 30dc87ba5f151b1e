"""The `key=value` grammar: what it accepts, that it reads as Ultralytics does, and what it says about mistakes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolo_multitask.cli.grammar import UsageError, join_tokens, literal, parse_words, unknown

VALID = {"model": None, "imgsz": 640, "show": False, "save": True, "name": None, "source": None, "classes": None}


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (["model=a.pt", "show"], ["model=a.pt", "show"]),
        (["model", "=", "a.pt"], ["model=a.pt"]),
        (["model=", "a.pt"], ["model=a.pt"]),
        (["model", "=a.pt"], ["model=a.pt"]),
        (["--model=a.pt", "--show"], ["model=a.pt", "show"]),
        (["--model", "a.pt", "--imgsz", "320"], ["model=a.pt", "imgsz=320"]),
        (["--show", "model=a.pt"], ["show", "model=a.pt"]),
        (["--show", "False"], ["show=False"]),
        (["--model", "=", "a.pt"], ["model=a.pt"]),
        (["imgsz=[3,", "640,", "640]"], ["imgsz=[3,640,640]"]),
        (["imgsz", "=", "[3,", "640]", "show"], ["imgsz=[3,640]", "show"]),
        (["imgsz=320,", "show"], ["imgsz=320", "show"]),
        ([], []),
    ],
)
def test_tokens_become_one_word_per_argument(tokens: list[str], words: list[str]) -> None:
    assert join_tokens(tokens, flags=["show", "save"]) == words


@pytest.mark.parametrize(
    ("tokens", "says"),
    [
        (["imgsz=[3,", "640"], "the closing bracket after 'imgsz=[3,640'"),
        (["model="], "a value after 'model='"),
        (["model", "="], "a value after 'model='"),
    ],
)
def test_an_unfinished_word_is_an_error(tokens: list[str], says: str) -> None:
    with pytest.raises(UsageError, match="expected") as error:
        join_tokens(tokens)
    assert says in str(error.value)


@pytest.mark.parametrize(
    "tokens",
    [
        ["a=1", "b", "=", "2", "c=", "3", "d", "=4", "e=[1,", "2,", "3]"],
        ["imgsz", "=", "[3,", "640,", "640]"],
        ["name = x"],
    ],
)
def test_words_are_joined_as_the_host_joins_them(tokens: list[str]) -> None:
    from ultralytics.cfg import merge_equals_args

    assert join_tokens(tokens) == merge_equals_args(list(tokens))


@given(
    st.one_of(
        st.integers().map(str),
        st.floats(allow_nan=False, allow_infinity=False).map(str),
        st.sampled_from(
            ["None", "none", "TRUE", "false", "a.pt", "0,1", "(1, 2)", "[1, 2]", "path/to/x", "'quoted'", "1e5"]
        ),
        st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8),
    )
)
def test_values_are_read_as_the_host_reads_them(text: str) -> None:
    from ultralytics.cfg import smart_value

    assert literal(text) == smart_value(text)
    assert type(literal(text)) is type(smart_value(text))


def test_lists_and_mappings_need_no_quotes() -> None:
    assert literal("[a.pt, b.pt]") == ["a.pt", "b.pt"]
    assert literal("{keypoints: true, polygons: false}") == {"keypoints": True, "polygons": False}
    with pytest.raises(UsageError, match="neither a list nor a mapping"):
        literal("{a: [}")


def test_words_become_values() -> None:
    words = ["model=a.pt", "imgsz=320", "show", "save=False", "name=1e5", "classes=[0, 2]", "source=0"]
    assert parse_words(words, VALID) == {
        "model": "a.pt",
        "imgsz": 320,
        "show": True,
        "save": False,
        "name": "1e5",
        "classes": [0, 2],
        "source": 0,
    }


def test_a_value_may_contain_an_equals_sign() -> None:
    assert parse_words(["source=http://x/?a=b"], VALID) == {"source": "http://x/?a=b"}


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("modle=a.pt", "unknown argument 'modle'; did you mean 'model'?"),
        ("immgsz=3", "unknown argument 'immgsz'; did you mean 'imgsz'?"),
        ("zzz=3", "unknown argument 'zzz'; expected one of classes, imgsz"),
        ("imgsz", "'imgsz' needs a value; write imgsz=640."),
        ("model", "'model' needs a value; write model=VALUE."),
        ("model= ", "'model=' has no value"),
    ],
)
def test_a_wrong_word_is_named_with_its_remedy(word: str, says: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_words([word], VALID)
    assert says in str(error.value)


def test_a_long_list_is_not_printed() -> None:
    assert "yolo cfg" in unknown("zzz", [f"key{i}" for i in range(20)], "argument")
