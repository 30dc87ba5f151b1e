"""What README and docs show is true: marked Python runs, commands parse, links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from yolo_multitask.cli import app, demo, distill, onnx_run, run
from yolo_multitask.cli.data import DATA_COMMANDS, arguments, data_function
from yolo_multitask.cli.grammar import UsageError, join_tokens, parse_words

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^(?P<mark><!-- executed -->\n)?```(?P<kind>\w*)\n(?P<body>.*?)^```$", re.M | re.S)


def blocks(page: Path, kind: str) -> list[tuple[bool, str]]:
    """Return (marked as executed, text) of each fenced block of a kind."""
    return [(bool(m["mark"]), m["body"]) for m in FENCE.finditer(page.read_text("utf-8")) if m["kind"] == kind]


def commands(page: Path) -> list[list[str]]:
    """Return the arguments of every `ymt` command in the shell blocks of a page."""
    lines = [line for _, body in blocks(page, "bash") for line in body.splitlines()]
    parts = [part.strip() for line in lines for part in line.split("&&")]
    return [shlex.split(part, comments=True)[1:] for part in parts if part.startswith("ymt ")]


def check(argv: list[str]) -> None:
    """Parse a command as `ymt` does, without running it."""
    command, *rest = app.arrange(argv)
    if command in app.MODES:
        run.parse(rest, command)
    elif command == "demo":
        parse_words(join_tokens(rest), demo.ARGUMENTS)
    elif command == "run":
        onnx_run.parse(rest)
    elif command == "extend":
        given = run.parse(rest, command)
        assert {"model", "task", "data"} <= set(given)
    elif command == "distill":
        distill.parse(rest)
    elif command == "data":
        arguments(data_function(rest[0]), rest[1:])
    else:
        assert (command, rest) == ("checks", [])


EXECUTED = [text for page in PAGES for marked, text in blocks(page, "python") if marked]


@pytest.mark.parametrize("text", EXECUTED, ids=range(len(EXECUTED)))
def test_marked_examples_run(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(text, "README.md", "exec"), {"__name__": "readme"})


def test_there_are_examples_and_commands() -> None:
    assert len(EXECUTED) >= 3
    assert len(commands(ROOT / "README.md")) >= 8


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_compiles(page: Path) -> None:
    for _, text in blocks(page, "python"):
        compile(text, page.name, "exec")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_parse(page: Path) -> None:
    for argv in commands(page):
        check(argv)


def test_a_command_with_a_wrong_key_would_be_found() -> None:
    with pytest.raises(UsageError):
        check(["train", "epoch=3"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text("utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_commands_in_help_parse() -> None:
    texts = [app._ABOUT, *app._HELP.values(), *(command.help for command in DATA_COMMANDS.values())]
    lines = [line.strip() for text in texts for line in text.replace("\\\n", " ").splitlines()]
    found = [shlex.split(line)[1:] for line in lines if line.startswith("ymt ")]
    assert len(found) >= 12
    for argv in found:
        check(argv)
