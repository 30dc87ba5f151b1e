"""The command `ymt`: what there is, its help, and how failures are reported.

Exit codes: 0 done, 1 failed, 2 wrong arguments, 130 interrupted. A failure is one line on stderr; `YMT_DEBUG=1` shows
the traceback instead. Commands import what they need when they run, so `ymt --help` does not wait for torch.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from yolo_multitask import __version__
from yolo_multitask.cli.data import DATA_COMMANDS, run_data
from yolo_multitask.cli.grammar import UsageError, unknown

MODES = ("train", "val", "predict", "track", "export", "benchmark")
GROUPS = ("data", "demo", "run", "distill", "extend", "checks")
INTERRUPTED = 130
SELF_EXPLAINING = (ValueError, OSError, RuntimeError, TypeError, SyntaxError, ImportError)
COLLECTS = {"allow_extra_args": True, "ignore_unknown_options": True}  # key=value words are read by cli.grammar

_ABOUT = """
Boxes, instance masks and keypoints from one network, on Ultralytics.

\b
  ymt train   model=yolov8n-multitask.yaml data=coco8-multitask.yaml epochs=100 imgsz=640
  ymt val     model=best.pt data=coco8-multitask.yaml
  ymt predict model=best.pt source=bus.jpg conf=0.3 save_txt
  ymt demo

Arguments are key=value, as in 'yolo'; a bare boolean key means True. A task word (multitask, detect, segment, ...)
may stand anywhere, and every stock Ultralytics model runs as with 'yolo'.
"""
_HELP = {
    "train": """
Train a model.

\b
  ymt train model=yolov8n-multitask.yaml data=coco8-multitask.yaml epochs=100 imgsz=640
  ymt train model=yolov8n-multitask.yaml pretrained=yolov8n-seg.pt data=my.yaml pose=20.0
  ymt train model=runs/multitask/train/weights/last.pt resume

The switches segment= and pose= say which tasks to train; unset, a task is on where the data has labels for it.
pose=NUMBER and seg=NUMBER are the gains of the pose and mask losses. labels={keypoints: true, polygons: true} says what
the label lines hold, for a data YAML that does not. All training arguments of 'yolo' are accepted.
""",
    "val": """
Measure a model.

Prints box, mask and pose AP in one table.

\b
  ymt val model=best.pt
  ymt val model=best.pt data=my.yaml split=test imgsz=640 save_json
  ymt val model=best.pt data=my.yaml pose=False

Without data= the data set of the training is used.
""",
    "predict": """
Predict images, folders or videos.

Annotated copies are saved unless save=False. The source is anything that 'yolo' reads, streams and cameras too.

\b
  ymt predict model=best.pt source=bus.jpg
  ymt predict model=best.pt source=video.mp4 conf=0.3 iou=0.5 show
  ymt predict model=best.pt source=images/ save_txt save_conf segment=False
""",
    "track": """
Predict with ids that last over frames.

The annotated copy, with the way of each object, is saved unless save=False. A video, a folder of images and a stream
are a sequence each, whose ids start at 1.

\b
  ymt track model=best.pt source=video.mp4
  ymt track model=best.pt source=MOT17-02/img1 save_txt save=False
  ymt track model=best.pt source=cameras.streams tracker=botsort.yaml show
  ymt track model=yolov8n.pt source=video.mp4 tracker=bytetrack.yaml

tracker= is multicue.yaml (the default of multitask models), one of Ultralytics' trackers (botsort, bytetrack,
deepocsort, fasttrack, ocsort, tracktrack), or a file of your own. save_txt writes one MOTChallenge file for each
sequence. conf= is 0.1 if not given, as trackers use weak detections too.
""",
    "export": """
Export a model to another format.

\b
  ymt export model=yolov8n-seg.pt format=onnx dynamic
""",
    "benchmark": """
Measure what a model costs, beside the models that it replaces.

\b
  ymt benchmark model=best.pt imgsz=640 device=cpu threads=2
  ymt benchmark model=best.pt against=[yolov8n-seg.pt,yolov8n-pose.pt] data=my.yaml detections=20
  ymt benchmark model=best.pt track=False batches=[1,4,16] device=0 half
  ymt benchmark model=yolov8n.pt data=coco8.yaml imgsz=640

Prints a table and saves it as benchmark.csv, benchmark.json (every single time) and benchmark.png. All models predict
the same image in turn.

\b
  against=[]      models to measure beside it; together they are also run one after the other
  data=           data YAML for the average precisions; none without
  source=         image to predict; bus.jpg of Ultralytics if not given
  detections=     objects that each model keeps; those of a confidence of 0.25 if not given
  batches=[1]     batch sizes of the forward pass
  runs=20         timed runs of each model
  warmup=3        runs before them
  threads=        threads of PyTorch
  imgsz= device= half lazy= segment= pose= track= project= name= exist_ok verbose=   as for predict

A stock model is measured by Ultralytics' own benchmark, with its arguments.
""",
    "distill": """
Make one model of several, without labels.

\b
  ymt distill model=yolov8n-multitask.yaml pose=yolov8n-pose.pt segment=yolov8n-seg.pt source=images/ epochs=100
  ymt distill pose=my-pose.pt segment=yolov8m-seg.pt reid=osnet.onnx source=[images/,video.mp4] time=2
  ymt distill pose=yolov8n-pose.pt segment=yolov8n-seg.pt source=images/ data=my.yaml supervised=False

The networks label the pictures themselves; each is asked once for each view of a picture. At the end a table says what
the model has of each teacher's precision, on pictures that it was not trained on, and what it saves.

\b
  detect= pose= segment=   checkpoints that teach boxes, keypoints, masks; reid= an ONNX file for crops of persons
  source=         images, folders, globs and videos
  data=           data YAML to measure on; its training labels are learned too, unless supervised=False
  first=          task whose teacher the model starts from; the one with the most classes if not given
  views=4         views of each picture: whole, mirrored, and random crops and scales
  frozen=0.5      share of the training in which only what is new on the first teacher's trunk learns
  fit=200         views to fit a branch from another trunk on, before the training
  held_out=64 frames=200   pictures to measure on without data=; most frames of a video
  lessons=        folder of what the teachers said, to be used again
  epochs= time=HOURS imgsz= batch= lr0= device= project= name=   as for train
""",
    "extend": """
Add a branch to a trained model.

\b
  ymt extend model=yolov8n-seg.pt task=pose data=my.yaml
  ymt extend model=best.pt task=track data=my-sequences.yaml epochs=20
  ymt extend model=best.pt task=pose data=my.yaml replace=True views=16 imgsz=640

task= is segment, pose or track. That branch is trained alone; boxes, classes and every other branch of the model stay
as they were, to the last bit. Writes runs/multitask/extend/weights/best.pt, an ordinary multitask checkpoint.

\b
  views=12        augmented views of each image that are kept as the trunk sees them (pose)
  cache=True      where: in memory, the rest on disk; cache=disk, or cache=False to compute them in each epoch
  replace=False   put a new branch in the place of one that the model has
  epochs=20 batch=16 optimizer=AdamW lr0=0.003 cos_lr=True mosaic=0.0 ...   as for train, with these defaults
""",
    "demo": """
Show all of it at work; no download.

\b
  ymt demo
  ymt demo out=my-demo long=True

Renders a small synthetic world, trains a model on it, validates, predicts, and leaves pictures and a table.
""",
    "run": """
Run an exported ONNX file, without torch.

\b
  ymt run best.onnx video.mp4
  ymt run best.onnx MOT17-02/img1 track save_txt save=False
  ymt run best.onnx bus.jpg conf=0.3 classes=[0,2] show
  ymt run best.onnx 0 tracker=my-tracker.yaml out=camera

The source is a video, an image, a folder of images, a glob, the number of a camera or a URL. Videos and cameras are
tracked, pictures are not, unless track= says otherwise. Annotated copies are saved unless save=False; save_txt writes
label lines (with save_conf their confidence), or one MOTChallenge file for each tracked sequence.

\b
  conf=           0.25, or 0.1 where it tracks
  iou=0.7 max_det=300 classes= agnostic_nms imgsz=   as for predict
  tracker=multicue.yaml vid_stride=1 frame_rate=     of the tracking
  threads= providers=                                of onnxruntime
  save=True save_txt save_conf show verbose=True
  out=            folder of what is saved, runs/multitask/run if not given
""",
}

app = typer.Typer(
    name="ymt",
    help=_ABOUT,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="Prepare data sets.", rich_markup_mode=None)
app.add_typer(data_app, name="data")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"yolo-multitask {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Take the options that stand before the command."""


def _mode_command(mode: str) -> Callable[[typer.Context], None]:
    def command(context: typer.Context) -> None:
        from yolo_multitask.cli.run import run_mode

        run_mode(mode, context.args)

    return command


for _mode in MODES:
    app.command(_mode, help=_HELP[_mode], context_settings=COLLECTS, options_metavar="[KEY=VALUE]...")(
        _mode_command(_mode)
    )


def _data_command(name: str) -> Callable[[typer.Context], None]:
    def command(context: typer.Context) -> None:
        raise typer.Exit(run_data(name, context.args))

    return command


for _name, _command in DATA_COMMANDS.items():
    data_app.command(_name, help=_command.help, context_settings=COLLECTS, options_metavar="[KEY=VALUE]...")(
        _data_command(_name)
    )


@app.command("demo", help=_HELP["demo"], context_settings=COLLECTS, options_metavar="[KEY=VALUE]...")
def _demo(context: typer.Context) -> None:
    from yolo_multitask.cli.demo import demo

    demo(context.args)


@app.command("distill", help=_HELP["distill"], context_settings=COLLECTS, options_metavar="[KEY=VALUE]...")
def _distill(context: typer.Context) -> None:
    from yolo_multitask.cli.distill import distill

    distill(context.args)


@app.command("extend", help=_HELP["extend"], context_settings=COLLECTS, options_metavar="[KEY=VALUE]...")
def _extend(context: typer.Context) -> None:
    from yolo_multitask.cli.extend import extend

    extend(context.args)


@app.command("run", help=_HELP["run"], context_settings=COLLECTS, options_metavar="FILE SOURCE [KEY=VALUE]...")
def _run(context: typer.Context) -> None:
    from yolo_multitask.cli.onnx_run import run

    run(context.args)


@app.command("checks")
def _checks() -> None:
    """Show versions, and whether they fit together."""
    from yolo_multitask.cli.checks import checks

    raise typer.Exit(checks())


def arrange(argv: Sequence[str]) -> list[str]:
    """Put the command first, wherever it stands, and keep the rest in order.

    Raises:
        UsageError: If there is no command, more than one, or an unknown one.
    """
    args = list(argv)
    if args in ([], ["data"]):
        return [*args, "--help"]
    if args[0] in GROUPS:
        if args[0] == "data" and not args[1].startswith("-") and args[1] not in DATA_COMMANDS:
            raise UsageError(unknown(args[1], tuple(DATA_COMMANDS), "data command"))
        return args
    found = [i for i, arg in enumerate(args) if _names_mode(args, i)]
    modes = [args[i].removeprefix("mode=") for i in found]
    if len(modes) > 1:
        raise UsageError(f"expected one command, found {' and '.join(modes)}; run them one after the other.")
    if modes:
        return [modes[0], *(arg for i, arg in enumerate(args) if i not in found)]
    if args[0].startswith("-"):
        return args
    if "=" in args[0] or args[1:2] == ["="]:
        raise UsageError(f"expected a command, one of {', '.join(MODES)}; write 'ymt predict {args[0]}'.")
    raise UsageError(unknown(args[0], (*MODES, *GROUPS), "command"))


def _names_mode(args: Sequence[str], i: int) -> bool:
    """Return whether the word at `i` is a mode, not the value of a key such as in `name = train`."""
    before, after = args[i - 1] if i else "", args[i + 1] if i + 1 < len(args) else ""
    if args[i].startswith("mode="):
        return args[i].removeprefix("mode=") in MODES
    is_value = before.endswith("=") or (before.startswith("--") and "=" not in before)
    return args[i] in MODES and not is_value and not after.startswith("=")


def one_line(error: BaseException) -> str:
    """Return the message of an error without colour codes and line breaks, with its type where the text needs it."""
    message = getattr(error, "format_message", None)  # what typer raises for wrong options
    text = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", message() if message else str(error)).split())
    if text and (message or isinstance(error, SELF_EXPLAINING)):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def main(argv: Sequence[str] | None = None) -> int:
    """Run `ymt` and return its exit code.

    Args:
        argv: Arguments without the program's name; those of the process where None.
    """
    debug = os.environ.get("YMT_DEBUG", "") not in {"", "0"}
    try:
        result: Any = app(args=arrange(sys.argv[1:] if argv is None else argv), prog_name="ymt", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        result = INTERRUPTED
    except Exception as error:  # the one place where any failure becomes a message and an exit code
        if debug:
            raise
        print(f"ymt: {one_line(error)}", file=sys.stderr)
        return int(getattr(error, "exit_code", 2 if isinstance(error, UsageError) else 1))
    if result == INTERRUPTED:  # some versions of typer return this code instead of raising
        print("ymt: interrupted", file=sys.stderr)
    return result if isinstance(result, int) else 0


if __name__ == "__main__":
    sys.exit(main())
