"""Arguments that this package adds to Ultralytics' configuration, and the task switches.

A switch (`segment=`, `pose=`, `track=`) is on, off or unset. In Ultralytics' configuration `pose` is the float gain
of the pose loss: here a bool is the switch and a number is the gain, which also switches the task on. A switch never
overwrites a gain. `normalise` separates the two once, before the host's type checks see them; `args.tasks` then
holds the resolved list. A configuration file holds every argument, typed or not, so there a gain that equals the
host's default says nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from yolo_multitask.tasks import BRANCH_TASKS, SPECS, TASK, TASKS

SWITCHES = ("segment", "pose", "track")
DEFAULTS: dict[str, Any] = {
    "switches": {},  # {task: bool} as asked for by the user; absent means unset
    "tasks": None,  # resolved tasks; carried by checkpoint, resume and DDP
    "seg": 7.5,  # mask loss gain; Ultralytics uses its `box` gain for masks, which has the same default
    "reid": 1.0,  # embedding loss gain
    "motion": 1.0,  # gain of the loss of the box in the next frame
    "next": None,  # whether `track` predicts the box in the next frame; None: as the model YAML says
    "pair_gap": 10,  # largest distance in frames of the two frames of a sequence that are seen in one step
    "similarity": "box",  # by which validation matches tracks to the truth: box, mask or oks
    "lazy": "auto",  # whether prediction computes the branches at detections alone: True, False, or auto (on a CPU)
    "balance": "fixed",  # of the tasks' losses: by their gains alone, or by weights that are learned: uncertainty
    "teachers": None,  # checkpoints to distil from: each branch also learns from the first that has it
    "distill": 1.0,  # gain of the distillation loss
    "track_pos": 1.0,  # gain of the loss of the positions that TrackNet follows
    "track_conf": 20.0,  # gain of the loss of its class scores
    "window_stride": None,  # frames from one window to the next; None: 1, or all frames of a window in training
    "frame_steps": [1],  # frames from one group of a window to the next, one of them drawn per window in training
    "reverse": 0.5,  # share of the windows that run backwards in training
    "delay": None,  # frames that prediction reads ahead; None: what a file needs, 0 for a live stream
    "max_gap": None,  # longest gap in frames that a trajectory is continued over; None: that of `TrajectoryConfig`
    "point_px": 4.0,  # largest distance of a position that is right, where the longer side has 640 pixels
    "alone": None,  # the task whose branch trains alone, all else frozen; `freeze=trunk` is that for `track`
    "views": 12,  # augmented views of each image whose features `extend` keeps
    "distilling": None,  # the settings of a run of `ymt distill`, see `distill/settings.py`
    "labels": None,  # what the label lines hold, for data YAMLs that do not say
    "label_task": None,  # the stock task whose lines they are, for the same; given as `task=`
}
USER_KEYS = (
    "segment",
    "track",
    "seg",
    "reid",
    "motion",
    "next",
    "pair_gap",
    "similarity",
    "lazy",
    "balance",
    "teachers",
    "distill",
    "track_pos",
    "track_conf",
    "window_stride",
    "frame_steps",
    "reverse",
    "delay",
    "max_gap",
    "point_px",
    "alone",
    "views",
    "labels",
)  # the keys above as a user types them; `pose` is the host's own


_GAINS = {
    "seg": "the mask loss; the switch is 'segment'",
    "reid": "the embedding loss; the switch is 'track'",
    "motion": "the loss of the next box; its switch is 'next'",
    "distill": "the distillation loss",
    "track_pos": "the loss of positions over a window",
    "track_conf": "the loss of class scores over a window",
}
_FRAMES = {  # whole numbers of frames, None for the default: the smallest, and what they are
    "window_stride": (1, "from one window to the next"),
    "delay": (0, "that prediction reads ahead"),
    "max_gap": (0, "that a trajectory is continued over"),
}


def full_cfg(cfg: Any = None) -> dict[str, Any]:
    """Return the host's configuration `cfg` (default: its own defaults) with this package's keys added."""
    from ultralytics.cfg import cfg2dict
    from ultralytics.utils import DEFAULT_CFG_DICT

    return {**DEFAULTS, **(DEFAULT_CFG_DICT if cfg is None else cfg2dict(cfg))}


def host_cfg(args: Any) -> dict[str, Any]:
    """Return `args` (dict or namespace) without this package's keys, for host constructors that reject unknown ones."""
    return {k: v for k, v in _as_dict(args).items() if k not in DEFAULTS}


def own_cfg(args: Any) -> dict[str, Any]:
    """Return this package's keys of `args` (dict or namespace), with their defaults where missing."""
    given = _as_dict(args)
    return {k: given.get(k, v) for k, v in DEFAULTS.items()}


def normalise(overrides: Mapping[str, Any] | None, *, typed: bool = True) -> dict[str, Any]:
    """Turn what was passed for a multitask model into keys that the configuration knows.

    Args:
        overrides: Arguments by name; may hold `segment`, `track` (bool), `pose` (bool or number) and a stock `task`.
        typed: Whether a user typed these. Else they may be a full copy of the configuration, where a `pose` gain that
            equals the host's default does not switch the task on; it is left out.

    Returns:
        A new dict where the switches stand under `switches`, `pose`, if present, is a number, and a stock task of label
        lines under `label_task`. Running it again changes nothing: where `switches` is there already, a number is no
        switch.

    Raises:
        ValueError: If a switch is neither a bool nor unset, a gain is not a number, or another key has a wrong value.
    """
    from ultralytics.utils import DEFAULT_CFG_DICT

    out = dict(overrides or {})
    if out.get("task") in SPECS:
        out["label_task"], out["task"] = out["task"], TASK
    judged = "switches" in out or out.get("tasks") is not None
    switches = dict(out.get("switches") or {})
    for name in ("segment", "track"):
        value = out.pop(name, None)
        if value is None:
            continue
        if not isinstance(value, bool):
            raise ValueError(
                f"'{name}' must be True or False, got {value!r}. '{name}' switches the {name} task on or off."
            )
        switches[name] = value
    pose = out.get("pose")
    if isinstance(pose, bool):
        switches["pose"] = pose
        del out["pose"]
    elif isinstance(pose, (int, float)):
        if not typed and pose == DEFAULT_CFG_DICT["pose"]:
            del out["pose"]
        elif not judged:
            switches["pose"] = True
    elif pose is not None:
        raise ValueError(f"'pose' must be True, False or a number (the gain of the pose loss), got {pose!r}.")
    elif "pose" in out:
        del out["pose"]
    if out.get("next") is not None and not isinstance(out["next"], bool):
        raise ValueError(f"'next' must be True or False (predict the box in the next frame), got {out['next']!r}.")
    if out.get("similarity", "box") not in ("box", "mask", "oks"):
        raise ValueError(f"'similarity' must be box, mask or oks, got {out['similarity']!r}.")
    if out.get("lazy", "auto") not in (True, False, "auto"):
        raise ValueError(
            "'lazy' must be True, False or auto (branches are computed at detections alone: always, never, on a CPU), "
            f"got {out['lazy']!r}."
        )
    if out.get("balance", "fixed") not in ("fixed", "uncertainty"):
        raise ValueError(
            f"'balance' must be fixed or uncertainty (learned weights of the tasks), got {out['balance']!r}."
        )
    gap = out.get("pair_gap", 1)
    if isinstance(gap, bool) or not isinstance(gap, int) or gap < 1:
        raise ValueError(f"'pair_gap' must be a whole number of frames, 1 or more, got {gap!r}.")
    if out.get("alone") is not None and out["alone"] not in BRANCH_TASKS:
        raise ValueError(f"'alone' must be one of {', '.join(BRANCH_TASKS)}, got {out['alone']!r}.")
    views = out.get("views", 1)
    if isinstance(views, bool) or not isinstance(views, int) or views < 1:
        raise ValueError(f"'views' must be a whole number of views of each image, 1 or more, got {views!r}.")
    for gain, what in _GAINS.items():
        value = out.get(gain)
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise ValueError(f"'{gain}' must be a number, the gain of {what}; got {value!r}.")
    if isinstance(out.get("teachers"), (str, Path)):
        out["teachers"] = [out["teachers"]]
    _check_windows(out)
    if switches:
        out["switches"] = switches
    return out


def _check_windows(out: dict[str, Any]) -> None:
    """Check the arguments of models that take windows of frames; a single `frame_steps` becomes a list.

    Raises:
        ValueError: If one has a wrong value.
    """
    for key, (least, what) in _FRAMES.items():
        value = out.get(key)
        if value is not None and not _is_count(value, least):
            raise ValueError(f"'{key}' must be a whole number of frames {what}, {least} or more, got {value!r}.")
    if "frame_steps" in out:
        given = out["frame_steps"]
        steps = [given] if isinstance(given, int) else given
        if not isinstance(steps, (list, tuple)) or not steps or not all(_is_count(s, 1) for s in steps):
            raise ValueError(
                "'frame_steps' must be a whole number of 1 or more, or a list of such (frames from one group of a "
                f"window to the next), got {given!r}."
            )
        out["frame_steps"] = list(steps)
    share = out.get("reverse", 0)
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 1:
        raise ValueError(f"'reverse' must be a number from 0 to 1, the share of reversed windows, got {share!r}.")
    pixels = out.get("point_px", 1)
    if isinstance(pixels, bool) or not isinstance(pixels, (int, float)) or pixels <= 0:
        raise ValueError(f"'point_px' must be a number of pixels above 0, got {pixels!r}.")


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def from_file(values: Mapping[str, Any], file: str | Path) -> dict[str, Any]:
    """Return what a configuration file says, normalised, without what says nothing.

    Args:
        values: The contents of the file; a run's `args.yaml` is one.
        file: Its path. A `save_dir` that is the file's own folder is left out: a new run must not overwrite that one.

    Returns:
        Arguments by name. The file's resolved `tasks` are `switches`, so that what the user types goes before them.

    Raises:
        ValueError: As `normalise`, and if `tasks` holds an unknown task.
    """
    out = normalise({k: v for k, v in values.items() if k != "cfg"}, typed=False)
    if out.get("tasks") is not None:
        tasks = check_tasks(out.pop("tasks"))
        out["switches"] = {task: task in tasks for task in BRANCH_TASKS}
    if out.get("save_dir") and Path(out["save_dir"]).resolve() == Path(file).resolve().parent:
        del out["save_dir"]
    return {k: v for k, v in out.items() if k not in DEFAULTS or v != DEFAULTS[k]}


def merge(base: Mapping[str, Any], typed: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `typed` before it, both normalised; switches are merged one by one."""
    out = {**base, **typed}
    if switches := {**base.get("switches", {}), **typed.get("switches", {})}:
        out["switches"] = switches
    return out


def fill_from_cfg(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments completed by the file that their `cfg` names, without `cfg`.

    The host would read that file too, and put its values before what was typed. `model` is left out, as the model is
    there already. `switches` is always there, so that no gain in the file is taken for a switch later.

    Args:
        given: What the user typed, with `cfg`.

    Raises:
        ValueError: As `from_file`.
    """
    from ultralytics.utils import YAML
    from ultralytics.utils.checks import check_yaml

    file = check_yaml(given["cfg"])
    values = {k: v for k, v in YAML.load(file).items() if k not in {"cfg", "model", "mode"}}
    typed = normalise({k: v for k, v in given.items() if k != "cfg"})
    return {"switches": {}, **merge(from_file(values, file), typed)}


def select_tasks(
    switches: Mapping[str, bool], available: Iterable[str], what: str, advice: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """Return the tasks to compute, in the order of `TASKS`; `detect` is always among them.

    Args:
        switches: What the user asked for, `{task: bool}`; a missing task is unset and follows `available`.
        available: Tasks that can be had.
        what: What `available` describes, for the message, such as `model 'best.pt'`.
        advice: What else to do where a task is missing, by task, for the message.

    Raises:
        ValueError: If a switch asks for a task that is not available.
    """
    have = {"detect", *available}
    for task, on in switches.items():
        if on and task not in have:
            names = ", ".join(t for t in TASKS if t in have)
            other = f", or {advice[task]}" if advice and task in advice else ""
            raise ValueError(
                f"'{task}=True' was asked for, but {what} has only: {names}. Leave out '{task}=True'{other}."
            )
    return tuple(t for t in TASKS if t in have and switches.get(t, True))


def check_tasks(tasks: Sequence[str]) -> tuple[str, ...]:
    """Return `tasks` in the order of `SPECS` with `detect` first.

    Raises:
        ValueError: If one is not a known task.
    """
    unknown = [t for t in tasks if t not in SPECS]
    if unknown:
        near = get_close_matches(str(unknown[0]), SPECS)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise ValueError(f"Unknown task {unknown[0]!r}; known tasks are {', '.join(SPECS)}.{hint}")
    return tuple(t for t in SPECS if t == "detect" or t in tasks)


def _as_dict(args: Any) -> dict[str, Any]:
    return dict(args) if isinstance(args, Mapping) else dict(vars(args))
