"""`ymt data ...`: prepare data sets. Arguments are the parameters of the Python function of the same name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer

from yolo_multitask.cli.grammar import UsageError, join_tokens, parse_words


@dataclass(frozen=True)
class DataCommand:
    """One command of `ymt data`.

    Attributes:
        function: What it runs, `module:name` in this package. What it returns is printed; where that has `errors`, the
            exit code is 1 if there are any.
        help: Text for `--help`.
    """

    function: str
    help: str


DATA_COMMANDS = {
    "convert-coco": DataCommand(
        "data.convert.coco:convert_coco",
        """
Convert COCO JSON files to label lines.

\b
  ymt data convert-coco out=coco split=val images=val2017 \\
      instances=annotations/instances_val2017.json keypoints=annotations/person_keypoints_val2017.json

Boxes, polygons and keypoints of an object go onto one line; nothing is dropped without being counted. Writes
out/data.yaml too. Further keys: classes=person,dog background=False copy exist_ok.
""",
    ),
    "convert-mot": DataCommand(
        "data.convert.mot:convert_mot",
        """
Convert MOTChallenge sequences to label lines.

\b
  ymt data convert-mot src=MOT17 out=mot17 val_half
  ymt data convert-mot src=MOT20/train out=mot20 val=MOT20-05
  ymt data convert-mot src=DanceTrack out=dancetrack

Persons with their identities; what the benchmark does not count becomes an ignore region, and nothing is dropped
without being counted. src is a benchmark, a folder of sequences or one sequence (img1/, gt/gt.txt, seqinfo.ini).
Writes out/data.yaml too. Further keys: split=val sequences=MOT17-02,MOT17-1* detector=SDP min_visibility=0.1 copy
exist_ok.
""",
    ),
    "convert-tracknet": DataCommand(
        "data.convert.tracknet:convert_tracknet",
        """
Convert clips with TrackNet's labels to label lines.

\b
  ymt data convert-tracknet src=TrackNetV2 out=shuttle objects=shuttlecock val_clips=match2*
  ymt data convert-tracknet src=clip out=tennis val=0.25 every=2

Reads CSV files (Frame, Visibility, X, Y), also those of TrackNetV2's matches and of videos, and annotation.json with
players. The position of an object becomes the centre of a box, a hidden one an ignore region; each has an identity.
Writes out/data.yaml too. Further keys: players=person size=0.02 (of the box) copy exist_ok.
""",
    ),
    "convert-crowdpose": DataCommand(
        "data.convert.crowdpose:convert_crowdpose",
        """
Convert CrowdPose to label lines.

\b
  ymt data convert-crowdpose annotations=crowdpose_train.json images=images out=crowdpose

14 keypoints, CrowdPose's own sigmas. Writes out/data.yaml too. Further keys: split=val background=False copy exist_ok.
""",
    ),
    "convert-ochuman": DataCommand(
        "data.convert.crowdpose:convert_ochuman",
        """
Convert OCHuman to label lines.

\b
  ymt data convert-ochuman annotations=ochuman.json images=images out=ochuman

Reads ochuman.json (all persons) and the benchmark's COCO files. 17 keypoints and polygons. Writes out/data.yaml too.
Further keys: split=test background=False copy exist_ok.
""",
    ),
    "convert-labelme": DataCommand(
        "data.convert.labelme:convert_labelme",
        """
Convert LabelMe JSON files to label lines.

\b
  ymt data convert-labelme src=labelled out=my-data
  ymt data convert-labelme src=labelled out=my-data keypoints=nose,left_eye,right_eye classes=person,dog

Polygons, rectangles, circles and masks of one group_id with the same label are one object; points of the group are its
keypoints. What cannot be an object is counted with a reason. Writes out/data.yaml too. Further keys: split=val
images=folder background=False copy exist_ok.
""",
    ),
    "convert-cvat": DataCommand(
        "data.convert.cvat:convert_cvat",
        """
Convert CVAT's XML 1.1 (for images, for video) to label lines.

\b
  ymt data convert-cvat src=export out=my-data
  ymt data convert-cvat src=annotations.xml out=my-data images=film.mp4

Boxes, polygons, masks, ellipses and skeletons; tracks are interpolated between keyframes and give #id. images= is a
folder of images or frames, or the video. Writes out/data.yaml too. Further keys: split=val classes=person
keypoints=nose,left_eye background=False copy exist_ok.
""",
    ),
    "convert-ndjson": DataCommand(
        "data.convert.ndjson:convert_ndjson",
        """
Convert an Ultralytics NDJSON file whose images are here to label lines.

\b
  ymt data convert-ndjson src=set.ndjson out=my-data images=pictures

Boxes, segments and pose, splits as in the file. Nothing is downloaded: 'yolo train data=set.ndjson' does that. Writes
out/data.yaml too. Further keys: background=False copy exist_ok.
""",
    ),
    "to-coco": DataCommand(
        "data.convert.to_coco:to_coco",
        """
Write a split as a COCO JSON file.

\b
  ymt data to-coco data=my.yaml out=val.json
  ymt data to-coco data=coco8-seg.yaml out=train.json split=train task=segment

Boxes, polygons, keypoints, ignore regions (iscrowd) and identities (instance_id, videos), in pixels, not rounded.
task=segment says that lines are stock polygon lines where the data YAML does not. Further key: exist_ok.
""",
    ),
    "to-yolo": DataCommand(
        "data.convert.to_yolo:to_yolo",
        """
Write a stock set for one task.

\b
  ymt data to-yolo data=my.yaml task=pose out=my-pose
  ymt data to-yolo data=my.yaml task=segment out=my-seg split=val

task is detect, segment or pose. What a stock line cannot say (instances without that label, ignore regions,
identities) is left out and counted. Further keys: split=train,val background=False copy exist_ok.
""",
    ),
    "merge": DataCommand(
        "data.merge:merge",
        """
Join a keypoint set and a segmentation set.

\b
  ymt data merge keypoints=coco-pose.yaml segments=coco.yaml out=coco-multitask
  ymt data merge keypoints=my-pose segments=my-seg out=joined classes=person:human iou=0.6

Instances of the same image are paired by the IoU of their boxes, one to one; what has no partner is kept with '-' in
the field that it lacks. A set is a data YAML or its folder. Writes out/data.yaml, out/merge-report.txt and pictures of
doubtful pairs, out/merge-doubtful.png. Further keys: split=train,val kpt_shape=[17,3] copy exist_ok.
""",
    ),
    "check": DataCommand(
        "data.check.run:check",
        """
Look for what is wrong or doubtful in a data set; nothing is changed.

\b
  ymt data check data=my-data.yaml
  ymt data check data=my-data.yaml html=check.html json=check.json
  ymt data check data=my-data.yaml split=val images=False

Images that are truncated, lines that do not parse, boxes that disagree with their polygons, left and right swapped,
identities that jump, pictures in two splits, and 38 kinds more, each with file and line. html= is a page with pictures
of them, json= holds all of them. images=False does not open images. Exit code 1 where there are errors.
Further keys: workers=8 limit=50 (of each kind in the page).
""",
    ),
    "view": DataCommand(
        "data.view.view:view",
        """
Look at labels: contact sheets, and one page with filters.

\b
  ymt data view data=my.yaml out=look
  ymt data view data=my.yaml out=look split=val limit=200 classes=person,dog
  ymt data view data=my.yaml out=look tasks=pose seed=1 exist_ok

Draws boxes, masks, keypoints, ids and ignore regions of images taken at random. Writes out/sheet-01.png, ... and
out/index.html, one file with the pictures in it that opens from disk. Further keys: columns=4 size=480.
""",
    ),
}


def data_function(name: str) -> Callable[..., Any]:
    """Return what a command of `ymt data` runs."""
    module, function = DATA_COMMANDS[name].function.split(":")
    found: Callable[..., Any] = getattr(import_module(f"yolo_multitask.{module}"), function)
    return found


def run_data(name: str, tokens: Sequence[str]) -> int:
    """Run a command of `ymt data`, print its report, and return the exit code.

    Args:
        name: Its name.
        tokens: The rest of the command line.

    Raises:
        UsageError: As `call`.
    """
    report = call(data_function(name), tokens)
    typer.echo(report)
    return int(bool(getattr(report, "errors", 0)))


def call(function: Callable[..., Any], tokens: Sequence[str]) -> Any:
    """Call a function with the `key=value` arguments of the command line; see `arguments`."""
    return function(**arguments(function, tokens))


def arguments(function: Callable[..., Any], tokens: Sequence[str]) -> dict[str, Any]:
    """Return what the `key=value` words of the command line give a function.

    Args:
        function: Its parameters are the accepted keys; those annotated with a path or a string take their value as
            text.
        tokens: The rest of the command line.

    Raises:
        UsageError: If a key is unknown, a flag is neither True nor False, or a parameter without default is missing.
    """
    parameters = inspect.signature(function).parameters
    defaults = {n: None if p.default is p.empty else p.default for n, p in parameters.items()}
    flags = [n for n, default in defaults.items() if isinstance(default, bool)]
    text = [n for n, p in parameters.items() if "Path" in str(p.annotation) or str(p.annotation).startswith("str")]
    given = parse_words(join_tokens(tokens, flags), defaults, raw=text)
    for name in flags:
        if not isinstance(given.get(name, True), bool):
            raise UsageError(f"'{name}' must be True or False, found {given[name]!r}.")
    missing = [n for n, p in parameters.items() if p.default is p.empty and n not in given]
    if missing:
        raise UsageError(f"expected {', '.join(f'{n}=VALUE' for n in missing)}, found {', '.join(given) or 'nothing'}.")
    return given
