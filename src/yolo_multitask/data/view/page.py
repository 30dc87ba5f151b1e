"""One self-contained HTML page of pictures with labels, with filters; it opens from disk and needs no network."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

import cv2

from yolo_multitask.data.view.draw import draw_tile
from yolo_multitask.data.view.tiles import Tile

PICTURE = 720  # longer side of an embedded picture in pixels
QUALITY = 75  # of WebP: 30 to 100 kB a picture

_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src '{style_hash}'; script-src '{script_hash}'">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header>
<h1>{title}</h1>
<dl>{summary}</dl>
<p class="key"><b>Colours</b> by identity where there is one, else by class. <b>Keypoints</b>
<span class="dot full left"></span> left <span class="dot full right"></span> right
<span class="dot full middle"></span> neither; <span class="dot full"></span> visible <span class="dot"></span> hidden;
absent ones are not drawn. <b>Hatched</b> regions are ignored.</p>
</header>
<form id="filters" aria-label="Filters">
<fieldset id="class" hidden><legend>Class</legend></fieldset>
<fieldset id="task" hidden><legend>Task</legend></fieldset>
<fieldset id="finding" hidden><legend>Finding</legend></fieldset>
<div class="search"><label for="search">File name</label><input type="search" id="search" autocomplete="off">
<button type="reset">Show all</button><output id="count" aria-live="polite"></output></div>
</form>
<main>
<ul id="tiles">
"""
_TILE = """<li data-class="{classes}" data-task="{tasks}" data-finding="{findings}" data-text="{text}">
<figure><button type="button"><img alt="{alt}" width="{width}" height="{height}"
 src="data:image/webp;base64,{data}"></button>
<figcaption>{caption}</figcaption></figure></li>
"""
_TAIL = """</ul>
<p id="none" hidden>No picture has all of this. Take back a filter.</p>
</main>
<dialog id="large" aria-label="Larger view">
<nav><button type="button" id="back" aria-label="Previous picture">←</button>
<button type="button" id="next" aria-label="Next picture">→</button>
<output id="place"></output>
<button type="button" id="close" aria-label="Close">✕</button></nav>
<img alt="">
<p id="caption"></p>
</dialog>
<script>{script}</script>
</body>
</html>
"""


def write_page(
    path: Path,
    title: str,
    tiles: Iterable[Tile],
    summary: Sequence[tuple[str, str]] = (),
    names: Mapping[int, str] | None = None,
) -> None:
    """Write a page with one tile per picture, whole or not at all.

    Pictures can be filtered by class, task, finding and file name, and enlarged; what is chosen stands in the address
    after ``#``, e.g. ``index.html#class=person&task=pose&name=street&tile=3``.

    Args:
        path: The HTML file; its folder exists. A file that is there is replaced.
        title: Heading of the page.
        tiles: The pictures; taken, drawn and written one at a time.
        summary: (what, value) pairs shown above the pictures.
        names: Class names by index, drawn beside the boxes; the indices where None.

    Raises:
        OSError: The file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8", errors="replace", newline="\n") as file:  # names may be any bytes
            file.writelines(_parts(title, tiles, summary, names))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _parts(
    title: str, tiles: Iterable[Tile], summary: Sequence[tuple[str, str]], names: Mapping[int, str] | None
) -> Iterator[str]:
    """Yield the text of the page."""
    style, script = (files(__package__).joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    yield _HEAD.format(
        title=escape(title),
        summary="".join(f"<div><dt>{escape(what)}</dt><dd>{escape(value)}</dd></div>" for what, value in summary),
        style=style,
        style_hash=_hash(style),
        script_hash=_hash(script),
    )
    for tile in tiles:
        yield _tile(tile, names)
    yield _TAIL.format(script=script)


def _tile(tile: Tile, names: Mapping[int, str] | None) -> str:
    """Return the element of one tile."""
    picture = draw_tile(tile, PICTURE, names)
    _, code = cv2.imencode(".webp", picture, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
    caption, name = tile.caption or tile.image_path.name, tile.image_path.name
    text = caption if name in caption else f"{name}: {caption}"
    found = "".join(f'<span class="finding">{escape(finding)}</span> ' for finding in tile.findings)
    number = 0 if tile.labels is None else len(tile.labels)
    holds = f"{number} {'object' if number == 1 else 'objects'}" + (f": {', '.join(tile.classes)}" if number else "")
    return _TILE.format(
        classes=_list(tile.classes),
        tasks=_list(tile.tasks),
        findings=_list(tile.findings),
        text=escape(text),
        alt=escape(f"{text}; {holds}"),
        width=picture.shape[1],
        height=picture.shape[0],
        data=base64.b64encode(code.tobytes()).decode("ascii"),
        caption=f"{escape(text)}<small>{found}{escape(holds)}</small>",
    )


def _list(values: Sequence[str]) -> str:
    """Return texts as JSON for an attribute."""
    return escape(json.dumps(list(values)))


def _hash(text: str) -> str:
    """Return a text's hash as a content security policy names it: nothing else is run, whatever a file name holds."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}"
