"""Everything of Ultralytics that this package relies on beyond its public classes.

This is the only module that calls or reads the host's private names and its tables by task. `register` adds this
package's entries to those tables; it rebinds nothing. Overriding a hook of a host class (`_setup_train`,
`_prepare_batch`, `_new`) is inheritance and stands in the subclass; there only the override itself calls the host's
hook, through `super()`. The contract tests name each seam, so that a new Ultralytics that moves one fails loudly.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn
from ultralytics import __version__ as HOST_VERSION
from ultralytics.cfg import TASK2CALIBRATIONDATA, TASK2DATA, TASK2METRIC, TASK2MODEL
from ultralytics.models.yolo.detect import DetectionValidator
from ultralytics.nn.backends.base import BaseBackend
from ultralytics.nn.modules.head import Detect
from ultralytics.nn.tasks import guess_model_scale, load_checkpoint
from ultralytics.trackers.track import TRACKER_MAP
from ultralytics.utils import tal
from ultralytics.utils.checks import parse_version
from ultralytics.utils.torch_utils import initialize_weights

from yolo_multitask.tasks import DEFAULT_MODEL, TASK
from yolo_multitask.tracking import MultiCueTracker

SUPPORTED = ("8.4.180", "8.5")  # lowest supported Ultralytics, first unsupported one
_TABLES: tuple[tuple[dict[str, str], str], ...] = (
    (TASK2DATA, "coco8-multitask.yaml"),
    (TASK2CALIBRATIONDATA, "coco8-multitask.yaml"),
    (TASK2METRIC, "metrics/mAP50-95(B)"),
)


class HostMultiCue(MultiCueTracker):
    """`MultiCueTracker` as the host's own `YOLO` makes it, which then gives it boxes and images alone."""

    tracked_stracks = ()  # those that the host hides until they are confirmed

    def __init__(self, args: Any) -> None:
        """Take the keys of the YAML, to which the host adds the device."""
        super().__init__({key: value for key, value in vars(args).items() if key != "device"})


def register() -> None:
    """Make the host know the task `multitask` and the tracker `multicue`, and trust this package's classes in
    checkpoints. Safe to call repeatedly.
    """
    from yolo_multitask.nn.branches import BRANCHES, BRANCHES_26
    from yolo_multitask.nn.features import Column, Feature, FeatureSet
    from yolo_multitask.nn.heads import MultiTask, MultiTask26, TrackNet
    from yolo_multitask.nn.network import MultiTaskModel
    from yolo_multitask.nn.temporal import TemporalModel

    for table, value in _TABLES:
        table.setdefault(TASK, value)
    TRACKER_MAP.setdefault("multicue", HostMultiCue)
    add_safe_globals = getattr(torch.serialization, "add_safe_globals", None)  # torch >= 2.4
    if add_safe_globals is not None:
        branches = (*BRANCHES.values(), *BRANCHES_26.values())
        features = (FeatureSet, Feature, Column)
        add_safe_globals([MultiTaskModel, TemporalModel, MultiTask, MultiTask26, TrackNet, *branches, *features])


def is_registered() -> bool:
    """Return whether `register` has run in this process."""
    return all(TASK in table for table, _ in _TABLES)


def version_supported() -> bool:
    """Return whether the installed Ultralytics is within the supported range; a pre-release counts as its release."""
    low, found, high = (parse_version(v) for v in (SUPPORTED[0], HOST_VERSION, SUPPORTED[1]))
    return bool(low <= found < high)


def default_model(task: str | None) -> str:
    """Return the model that a task is run with where none is named."""
    return str(TASK2MODEL[task]) if task and task != TASK else DEFAULT_MODEL


def default_data(task: str) -> str | None:
    """Return the data set that a task is run on where none is named, or None where there is none."""
    return TASK2DATA.get(task)


def model_scale(name: str) -> str:
    """Return the scale letter (n, s, m, l, x) in a model name, or an empty string.

    >>> model_scale("yolov8n-multitask.yaml"), model_scale("multitasks.yaml"), model_scale("multitask.yaml")
    ('n', 's', '')
    """
    own = re.fullmatch(r"multitask([nslmx])", Path(name).stem)
    return own[1] if own else str(guess_model_scale(name))


def init_layers(module: nn.Module) -> None:
    """Set BatchNorm and activation defaults as the host does for a new model."""
    initialize_weights(module)


def copy_attributes(new: nn.Module, old: nn.Module, names: tuple[str, ...]) -> None:
    """Carry over the attributes that the host's parser sets on a layer."""
    for name in names:
        if hasattr(old, name):
            setattr(new, name, getattr(old, name))


def decode_boxes(head: Detect, raw: Mapping[str, Any]) -> torch.Tensor:
    """Return the boxes and class probabilities of a head, (B, 4 + nc, A), cx cy w h in input pixels, or x1 y1 x2 y2
    where it is `end2end`.

    Sets the head's `anchors` (2, A) in grid units and `strides` (1, A), which its branches decode with.

    Args:
        head: The head.
        raw: Its raw outputs.
    """
    y: torch.Tensor = Detect._inference(head, raw)
    return y


def mask_assigner() -> Any:
    """Return the host's class of assigners by masks; None where it has none yet."""
    return getattr(tal, "SegTaskAlignedAssigner", None)  # newer than the lowest supported version


def raise_max_det(args: Any, datasets: Mapping[str, Any]) -> None:
    """Raise `args.max_det` where images of a data set hold more instances, with a warning; one set by the user stays.

    Args:
        args: The arguments, changed in place.
        datasets: Data sets by split.
    """
    DetectionValidator._check_max_det(args, datasets)


def gather_image_metrics(validator: DetectionValidator, metric: Any) -> None:
    """Gather the per-image entries of a `Metric` from all processes."""
    validator._gather_image_metrics(metric)


def merge_classes(validator: DetectionValidator, pred: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the predictions of one image, all of class 0 with `single_cls`."""
    return validator._prepare_pred(pred)  # type: ignore[no-any-return]


def add_result_field(result: Any, name: str) -> None:
    """Let indexing, device moves and the length of a host `Results` include the attribute `name`."""
    result._keys = (*result._keys, name)


def copy_result_fields(source: Any, target: Any) -> None:
    """Let the host `Results` `target` share the fields of `source`."""
    for name in source._keys:
        setattr(target, name, getattr(source, name))


def tracker_classes() -> dict[str, Any]:
    """Return the tracker classes by `tracker_type`, Ultralytics' and ours."""
    return dict(TRACKER_MAP)


def collect_features(predictor: Any, wanted: bool) -> bool:
    """Let a predictor add to each result the features that its detections have in the input of the head, or stop it.

    The host's trackers take them as appearance. Where it cannot, the host would run a classifier on crops instead.

    Args:
        predictor: A predictor with its model set up.
        wanted: Whether to collect.

    Returns:
        Whether it collects: never for exported and end-to-end models, and only with a head like `Detect`.
    """
    predictor._feats = None
    if hasattr(predictor, "_hook"):
        predictor._hook.remove()
        del predictor._hook
    head = predictor.model.model.model[-1] if predictor.model.format == "pt" else None
    if not wanted or not isinstance(head, Detect) or head.end2end:
        return False

    def keep_input(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        levels = list(inputs[0])[: head.nl]  # without the maps that only our track branch reads
        predictor._feats = levels if predictor.args.mode == "track" else None

    predictor._hook = head.register_forward_pre_hook(keep_input)
    return True


def collects_features(predictor: Any) -> bool:
    """Return whether a predictor takes the features of its detections at the NMS; see `collect_features`."""
    return hasattr(predictor, "_hook") or getattr(predictor, "_feats", None) is not None


def restore_postprocess(predictor: Any) -> None:
    """Undo what the host's TrackTrack does to a predictor to see the boxes that the NMS drops."""
    if hasattr(predictor, "_orig_postprocess"):
        predictor.postprocess = predictor._orig_postprocess
        del predictor._orig_postprocess


def file_metadata(file: Any) -> dict[str, Any]:
    """Return the metadata of an exported file, as text in some formats; empty where the host finds none."""
    if str(file).endswith(".mnn"):  # the host reads it where the file is run alone
        return _mnn_metadata(file)
    return BaseBackend.read_metadata(file)  # type: ignore[no-any-return]


def _mnn_metadata(file: Any) -> dict[str, Any]:
    try:
        try:
            from ultralytics.utils.files import import_execstack  # newer than the lowest supported version
        except ImportError:
            MNN = import_module("MNN")
        else:
            MNN = import_execstack("MNN", "_mnncengine*.so", "_tools*.so")
        return dict(json.loads(MNN.nn.load_module_from_file(str(file), [], []).get_info()["bizCode"]))
    except (ImportError, KeyError, TypeError, ValueError):
        return {}


def compile_in_float32(backend: Any, folder: Any) -> None:
    """Let an OpenVINO backend of the host compute in float32, not in bfloat16, on a CPU that has units for that.

    Args:
        backend: The backend.
        folder: The folder of the file.
    """
    if list(backend.ov_compiled_model.get_property("EXECUTION_DEVICES")) != ["CPU"]:
        return
    compile_model = backend.compile_model
    file = next(Path(folder).glob("*.xml"))
    network = compile_model.func.__self__.read_model(model=str(file), weights=file.with_suffix(".bin"))
    config = {**compile_model.keywords["config"], "INFERENCE_PRECISION_HINT": "f32"}
    backend.compile_model = partial(compile_model, config=config)
    backend.ov_compiled_model = backend.compile_model(network)


def require_network(model: Any) -> None:
    """Check that a host `YOLO` object holds a network, not an exported file.

    Raises:
        TypeError: If it holds none.
    """
    model._check_is_pytorch_model()


@contextmanager
def checkpoint_errors(file: Any) -> Iterator[None]:
    """Turn what the host raises inside the `with` for a file that is no checkpoint into one clear error.

    Raises:
        ValueError: If the file is damaged or holds something else than the checkpoint of a network.
    """
    try:
        yield
    except (AttributeError, TypeError) as error:
        if "truncated" in str(error):
            found = "an empty, truncated or corrupted file; copy or download it again"
        elif "checkpoint format" in str(error):
            found = "none in it; a state_dict does not say the architecture: build it from its YAML, then load that"
        else:
            found = f"other contents ({error}); pass best.pt or last.pt of a run, or a stock checkpoint"
        raise ValueError(
            f"{file}: expected a checkpoint with a network, as training saves it, found {found}"
        ) from error


def load_network(file: Any, device: Any = None) -> nn.Module:
    """Return the network of a checkpoint, float32 and in evaluation mode.

    Raises:
        ValueError: If the file is damaged or holds something else than the checkpoint of a network.
        FileNotFoundError: If there is no such file, and it is nothing that the host can download.
    """
    with checkpoint_errors(file):
        network: nn.Module = load_checkpoint(file, device)[0]
    return network
