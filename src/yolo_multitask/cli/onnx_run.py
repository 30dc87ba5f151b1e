"""`ymt run`: predict and track with an exported ONNX file, without torch."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from yolo_multitask.cli.grammar import UsageError, join_tokens, parse_words
from yolo_multitask.cli.run import warn

if TYPE_CHECKING:
    from yolo_multitask.runtime import Detections, Frame

ARGUMENTS: Mapping[str, Any] = {
    "model": None,
    "source": None,
    "track": False,
    "conf": None,
    "iou": 0.7,
    "max_det": 300,
    "classes": None,
    "agnostic_nms": False,
    "imgsz": None,
    "tracker": "multicue.yaml",
    "vid_stride": 1,
    "frame_rate": None,
    "threads": None,
    "providers": None,
    "save": True,
    "save_txt": False,
    "save_conf": False,
    "show": False,
    "verbose": True,
    "out": None,
}
FLAGS = tuple(key for key, default in ARGUMENTS.items() if isinstance(default, bool))
FOLDER = Path("runs/multitask/run")
_TEXTS = ("model", "source", "tracker", "out")
_NUMBERS = ("conf", "iou", "frame_rate")
_WHOLE = ("max_det", "vid_stride", "threads")


def parse(tokens: Sequence[str]) -> dict[str, Any]:
    """Read the arguments; the file and the source may stand first, without their keys.

    Args:
        tokens: The rest of the command line.

    Returns:
        Values by key; `track` and `conf` are None where they are not given.

    Raises:
        UsageError: An argument is unknown, missing or wrong.
    """
    words = join_tokens(tokens, flags=FLAGS)
    bare = [word for word in words if "=" not in word and word not in FLAGS]
    if len(bare) > 2:
        raise UsageError(f"expected a file and a source, found {', '.join(bare)}; write the rest as key=value.")
    given = parse_words([word for word in words if word not in bare], ARGUMENTS, raw=_TEXTS)
    for word in bare:
        missing = [key for key in ("model", "source") if key not in given]
        if not missing:
            raise UsageError(f"found '{word}' beside model= and source=; give either.")
        given[missing[0]] = word
    for key in ("model", "source"):
        if given.get(key) is None:
            raise UsageError(f"'{key}' is missing; write 'ymt run best.onnx video.mp4'.")
    _check(given)
    return {**ARGUMENTS, "track": None, **given}


def _check(given: Mapping[str, Any]) -> None:
    """Check the types of values.

    Raises:
        UsageError: One is wrong.
    """
    for keys, kinds, expected in (
        (FLAGS, (bool,), "True or False"),
        (_NUMBERS, (int, float), "a number"),
        (_WHOLE, (int,), "a whole number"),
    ):
        for key in keys:
            if given.get(key) is not None and type(given[key]) not in kinds:
                raise UsageError(f"'{key}' must be {expected}, found {given[key]!r}.")


def run(tokens: Sequence[str]) -> None:
    """Predict or track a source, print a line a frame, and write files.

    Args:
        tokens: The rest of the command line.

    Raises:
        UsageError: An argument is wrong.
        FileNotFoundError: There is no such file or source.
        ValueError: The file cannot be run, or a frame not be read.
    """
    args = parse(tokens)
    from yolo_multitask.cli.onnx_files import new_folder

    folder = Path(args["out"]) if args["out"] else new_folder(FOLDER)
    with warnings.catch_warnings():
        warnings.simplefilter("once")
        warnings.showwarning = lambda message, *_: warn(str(message))
        try:
            _run(args, folder)
        finally:  # also where a camera is stopped
            if folder.is_dir():
                print(f"files are in {folder}")


def _run(args: Mapping[str, Any], folder: Path) -> None:
    from yolo_multitask.cli.onnx_files import OutputFiles
    from yolo_multitask.runtime import Session, draw, read_frames
    from yolo_multitask.runtime.decode import Settings
    from yolo_multitask.runtime.session import TRACK_CONF

    session = Session(args["model"], threads=args["threads"], providers=_listed(args["providers"]))
    settings = {key: args[key] for key in ("iou", "max_det", "imgsz")}
    settings |= {"classes": _listed(args["classes"]), "agnostic": args["agnostic_nms"]}
    tracker = session.tracker(args["tracker"])  # what is wrong with it is said before anything is written
    reading = {key: args[key] for key in ("frame_rate", "vid_stride")}
    frames = read_frames(args["source"], channels=session.metadata.channels, **reading)
    writes = {"labels": args["save_txt"], "conf": args["save_conf"], "vid_stride": args["vid_stride"]}
    with OutputFiles(folder, **writes) as files:
        for frame in frames:
            start = perf_counter()
            tracks = frame.video if args["track"] is None else args["track"]
            if tracks and frame.number == 1:
                tracker = session.tracker(args["tracker"], frame.rate)
            least = TRACK_CONF if tracks else Settings.conf
            conf = least if args["conf"] is None else args["conf"]
            found = session.predict(frame.image, conf=conf, **settings)
            found = tracker.update(found) if tracks else found
            if args["verbose"]:
                print(line(frame, found, (perf_counter() - start) * 1e3), flush=True)
            picture = draw(found) if args["save"] or args["show"] else None
            files.add(frame, found, picture if args["save"] else None)
            if args["show"] and not _show(picture, wait=not frame.video):
                break


def line(frame: Frame, found: Detections, ms: float) -> str:
    """Return what is printed of a frame.

    Args:
        frame: It.
        found: What was found in it.
        ms: Milliseconds that it took.
    """
    counts = Counter(found.cls.tolist())
    parts = [f"{n} {found.names[c]}{'s' * (n > 1)}" for c, n in sorted(counts.items())] or ["nothing"]
    ids = "" if found.ids is None or not len(found) else f" (id {' '.join(map(str, found.ids.tolist()))})"
    of = f"/{frame.total}" if frame.total else ""
    return f"{frame.path} {frame.number}{of}: {', '.join(parts)}{ids}, {ms:.1f} ms"


def _listed(value: Any) -> Any:
    """Return a single value as a list; lists and None stay."""
    return value if value is None or isinstance(value, (list, tuple)) else [value]


def _show(picture: Any, *, wait: bool) -> bool:
    """Show a picture in a window; return whether to go on: not after q or Esc.

    Args:
        picture: (H, W, 3) BGR.
        wait: Whether to wait for a key.
    """
    import cv2

    cv2.imshow("ymt run", picture)
    return cv2.waitKey(0 if wait else 1) & 0xFF not in (ord("q"), 27)
