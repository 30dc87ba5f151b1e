"""The page of `ymt data view` in a real browser, opened from disk and driven through Chrome's DevTools pipe."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from yolo_multitask.data.labels import Instance, Labels, LabelSpec
from yolo_multitask.data.view.page import write_page
from yolo_multitask.data.view.tiles import Tile, tasks_of

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser, google-chrome or chrome on the path"),
    pytest.mark.skipif(os.name != "posix", reason="the DevTools pipe is passed as file descriptors 3 and 4"),
]

SPEC = LabelSpec(nc=3, kpt_shape=(17, 3), polygons=True, ids=True)
EVIL = "</script><script>document.documentElement.dataset.hacked = 1</script><img src=x onerror=alert(1)>"
NAMES = {0: "person", 1: "dog & cat", 2: EVIL}
SHOWN = "[...document.querySelectorAll('#tiles > li')].flatMap((t, i) => t.hidden ? [] : [i + 1])"
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--remote-debugging-pipe"),
)


class Browser:
    """One tab of a headless browser.

    Args:
        profile: Empty folder for what the browser keeps.
    """

    def __init__(self, profile: Path) -> None:
        to_browser, from_browser = os.pipe(), os.pipe()
        theirs = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (to_browser[0], from_browser[1])]  # none of them is 3, 4

        def pass_pipe() -> None:
            for fd, number in zip(theirs, (3, 4), strict=True):
                os.dup2(fd, number)

        self.process = subprocess.Popen(
            [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            preexec_fn=pass_pipe, pass_fds=(3, 4), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for fd in (to_browser[0], from_browser[1], *theirs):
            os.close(fd)
        self.send_to, self.read_from = to_browser[1], from_browser[0]
        self.waiting, self.number, self.session = b"", 0, ""
        self.events: list[dict[str, Any]] = []
        target = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> Any:
        """Send a DevTools command and return its result; events on the way are kept."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        os.write(self.send_to, json.dumps(message | ({"sessionId": self.session} if self.session else {})).encode())
        os.write(self.send_to, b"\0")
        until = time.monotonic() + 60
        while True:
            while b"\0" not in self.waiting:
                ready, _, _ = select.select([self.read_from], [], [], max(until - time.monotonic(), 0))
                part = os.read(self.read_from, 1 << 20) if ready else b""
                assert part, f"{method}: the browser {'went away' if ready else 'did not answer in a minute'}"
                self.waiting += part
            text, _, self.waiting = self.waiting.partition(b"\0")
            answer = json.loads(text)
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def js(self, code: str) -> Any:
        """Return the value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def expect(self, code: str, value: Any) -> None:
        """Wait until an expression in the page has a value."""
        until = time.monotonic() + 60
        while (found := self.js(code)) != value:
            assert time.monotonic() < until, f"{code}: expected {value!r}, found {found!r}; {self.events}"
            time.sleep(0.02)

    def open(self, page: Path, state: str = "") -> None:
        """Open a file from disk and wait until its script has run."""
        self.call("Page.navigate", url="about:blank")
        self.events.clear()
        self.call("Page.navigate", url=page.as_uri() + state)
        self.expect("document.documentElement?.dataset.ready", "true")

    def key(self, key: str) -> None:
        """Press a key as a user does."""
        codes = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Escape": 27, "Enter": 13}
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key], **text)

    def problems(self) -> list[str]:
        """Return errors of the console, exceptions, and whatever was asked of a network."""
        found = []
        for event in self.events:
            method, params = event.get("method"), event.get("params", {})
            if method == "Runtime.exceptionThrown":
                found.append(params["exceptionDetails"]["text"])
            elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
                found.append(str(params["args"]))
            elif method == "Log.entryAdded":
                found.append(params["entry"]["text"])
            elif method == "Network.requestWillBeSent" and not params["request"]["url"].startswith(("file:", "data:")):
                found.append(params["request"]["url"])
        return found + [self.js("document.documentElement.dataset.errors") or ""] * bool(
            self.js("document.documentElement.dataset.errors")
        )

    def close(self) -> None:
        """End the browser."""
        with contextlib.suppress(AssertionError, BrokenPipeError):
            self.session = ""
            self.call("Browser.close")
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(30)
        os.close(self.send_to)
        os.close(self.read_from)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Give one browser to all tests of this file."""
    started = Browser(tmp_path_factory.mktemp("profile"))
    yield started
    started.close()


def a_tile(folder: Path, number: int, cls: int | None, *, pose: bool = False, findings: tuple[str, ...] = ()) -> Tile:
    """Return a tile with one instance of a class, or none, and its image."""
    from PIL import Image

    file = folder / f"frame-{number:02d}.png"
    Image.new("RGB", (64, 48), (40 * number % 256, 90, 120)).save(file)
    instances = []
    if cls is not None:
        points = np.full((17, 3), [0.5, 0.5, 2], np.float32) if pose else None
        instances = [Instance(cls=cls, box=np.array([0.5, 0.5, 0.4, 0.4], np.float32), keypoints=points)]
    labels = Labels.from_instances(instances, SPEC)
    classes = () if cls is None else (NAMES[cls],)
    return Tile(file, labels, SPEC, classes, tasks_of(labels), findings, file.name, ())


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a page of six tiles: two persons (the first with keypoints), two dogs, an evil name, and background."""
    folder = tmp_path_factory.mktemp("page")
    tiles = [
        a_tile(folder, 1, 0, pose=True),
        a_tile(folder, 2, 0, findings=("box outside",)),
        a_tile(folder, 3, 1),
        a_tile(folder, 4, 1, findings=("box outside", EVIL)),
        a_tile(folder, 5, 2),
        a_tile(folder, 6, None),
    ]
    tiles.append(Tile(folder / "missing <b>.png", None, SPEC, (), (), ("missing",), f"missing <b>.png\n{EVIL}", ()))
    write_page(folder / "index.html", f"Labels {EVIL}", tiles, [("images", "7"), (EVIL, EVIL)], NAMES)
    return folder / "index.html"


def test_the_page_opens_from_disk_without_errors_and_shows_every_tile(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.js(SHOWN) == [1, 2, 3, 4, 5, 6, 7]
    assert browser.js("document.getElementById('count').value") == "7 of 7 pictures"
    decoded = "Promise.all([...document.images].filter(i => i.src).map(i => i.decode().then(() => i.naturalWidth)))"
    assert browser.js(decoded) == [720] * 7
    assert browser.problems() == []


def test_names_from_the_data_are_text(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.js("document.documentElement.dataset.hacked") is None
    assert browser.js("document.querySelectorAll('script').length") == 1
    assert browser.js("document.querySelectorAll('#tiles img').length") == 7
    assert browser.js("document.querySelector('h1').textContent") == f"Labels {EVIL}"
    assert EVIL in browser.js("document.querySelector('[name=class]:nth-of-type(1)').form.textContent")
    last = "document.querySelectorAll('figcaption')[6]"
    browser.js(f"{last}.scrollIntoView()")  # what is far away has no layout
    browser.expect(f"{last}.innerText.split('\\n').slice(0, 2)", ["missing <b>.png", EVIL])  # lines stay lines
    assert browser.problems() == []


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        ("#class=person", [1, 2]),
        ("#class=person&class=dog+%26+cat", [1, 2, 3, 4]),
        ("#class=", [6, 7]),
        ("#task=pose", [1]),
        ("#task=detect&finding=box+outside", [2, 4]),
        ("#class=person&finding=box%20outside", [2]),
        ("#name=FRAME-03", [3]),
        ("#class=person&name=frame-03", []),
        ("#class=no-such-class", [1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_filters_stand_in_the_address(browser: Browser, page: Path, state: str, shown: list[int]) -> None:
    browser.open(page, state)
    assert browser.js(SHOWN) == shown
    assert browser.js("document.getElementById('count').value") == f"{len(shown)} of 7 pictures"
    assert browser.js("document.getElementById('none').hidden") == bool(shown)
    assert browser.problems() == []


def test_a_click_on_a_filter_shows_its_tiles_and_changes_the_address(browser: Browser, page: Path) -> None:
    browser.open(page)
    chip = "document.querySelector('[name=class][value=\"dog & cat\"]')"
    assert browser.js(f"{chip}.parentElement.textContent") == "dog & cat2"
    browser.js(f"{chip}.click()")
    assert browser.js(SHOWN) == [3, 4]
    assert browser.js("location.hash") == "#class=dog+%26+cat"
    browser.js("document.getElementById('search').focus()")
    browser.call("Input.insertText", text="04")
    assert browser.js(SHOWN) == [4]
    browser.js("document.querySelector('[type=reset]').click()")
    browser.expect("location.hash", "")
    assert browser.js(SHOWN) == [1, 2, 3, 4, 5, 6, 7]
    assert browser.problems() == []


def test_the_larger_view_goes_through_what_is_shown_by_keyboard(browser: Browser, page: Path) -> None:
    browser.open(page, "#finding=box+outside")
    caption = "document.getElementById('caption').textContent.slice(0, 12)"
    focused = "document.activeElement.querySelector('img')?.alt"
    browser.js("document.querySelectorAll('#tiles button')[1].focus()")
    browser.key("Enter")
    browser.expect("document.getElementById('large').open", True)
    browser.expect(caption, "frame-02.png")
    browser.expect("document.getElementById('place').value", "1 of 2")
    browser.key("ArrowRight")
    browser.expect(caption, "frame-04.png")
    browser.expect("location.hash", "#finding=box+outside&tile=4")
    browser.key("ArrowRight")
    browser.expect(caption, "frame-02.png")  # round and round
    browser.key("ArrowLeft")
    browser.expect(caption, "frame-04.png")
    browser.key("Escape")
    browser.expect("document.getElementById('large').open", False)
    browser.expect("location.hash", "#finding=box+outside")
    browser.expect(focused, "frame-04.png; 1 object: dog & cat")  # the picture that was last shown
    browser.key("ArrowLeft")
    browser.expect(focused, "frame-02.png; 1 object: person")
    assert browser.problems() == []


def test_an_address_opens_one_picture(browser: Browser, page: Path) -> None:
    browser.open(page, "#class=person&tile=2")
    assert "frame-02.png" in browser.js("document.getElementById('caption').textContent")
    browser.js("document.getElementById('close').click()")
    browser.expect("location.hash", "#class=person")


def controls(browser: Browser) -> list[tuple[str, str]]:
    """Return role and name of every control and picture that the page tells those who do not see it."""
    browser.call("Accessibility.enable")
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    browser.call("Accessibility.disable")
    roles = {"button", "checkbox", "searchbox", "image", "img"}
    return [
        (n["role"]["value"], n.get("name", {}).get("value", ""))
        for n in nodes
        if not n["ignored"] and n["role"]["value"] in roles
    ]


def test_every_control_has_a_name_and_every_picture_a_text(browser: Browser, page: Path) -> None:
    browser.open(page)
    named = controls(browser)
    until = time.monotonic() + 60
    while ("button", "frame-01.png; 1 object: person") not in named:  # the tree follows the page a little later
        assert time.monotonic() < until, named
        named = controls(browser)
    assert {role for role, _ in named} >= {"button", "checkbox", "searchbox"}
    assert [role for role, name in named if not name] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_in_both_schemes(browser: Browser, page: Path, scheme: str) -> None:
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.open(page, "#class=person")
    for element in ("h1", "figcaption", "figcaption small", ".chip", ".chip:has(:checked)", ".finding", "dt"):
        assert contrast(browser, element) >= 4.5, element
    browser.call("Emulation.setEmulatedMedia", features=[])


def contrast(browser: Browser, selector: str) -> float:
    """Return the contrast ratio of an element's text and ground, as WCAG defines it; 4.5 is the least for text."""
    code = """(() => {
      let at = document.querySelector(%s);
      const ink = getComputedStyle(at).color;
      while (getComputedStyle(at).backgroundColor === "rgba(0, 0, 0, 0)") at = at.parentElement;
      return [ink, getComputedStyle(at).backgroundColor].map((c) => c.match(/[0-9.]+/g).slice(0, 3).map(Number));
    })()"""
    bright = []
    for rgb in browser.js(code % json.dumps(selector)):
        linear = [v / 3294.6 if v <= 10.03 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in rgb]
        bright.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return float((max(bright) + 0.05) / (min(bright) + 0.05))


def test_it_fits_a_phone(browser: Browser, page: Path) -> None:
    browser.call("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=2, mobile=True)
    browser.open(page)
    beyond = "[...document.querySelectorAll('body *')].filter((e) => e.getBoundingClientRect().right > 360)"
    assert browser.js(f"{beyond}.map((e) => e.className || e.tagName)") == []
    assert browser.js("document.documentElement.scrollWidth") == 360
    lefts = browser.js("[...document.querySelectorAll('#tiles > li')].map((t) => t.getBoundingClientRect().left)")
    assert len(set(lefts)) == 2
    browser.js("document.querySelector('#tiles button').click()")
    box = browser.js("(r => [r.left, r.right, r.height])(document.querySelector('#large img').getBoundingClientRect())")
    assert box[0] >= 0
    assert box[1] <= 360
    assert box[2] > 200
    shot = base64.b64decode(browser.call("Page.captureScreenshot")["data"])
    assert shot.startswith(b"\x89PNG")
    browser.call("Emulation.clearDeviceMetricsOverride")
