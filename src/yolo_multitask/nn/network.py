"""`MultiTaskModel`: a host trunk with our head on it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from copy import deepcopy
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn
from ultralytics.nn.modules.head import Detect
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import LOGGER, YAML
from ultralytics.utils.ops import make_divisible

from yolo_multitask import host
from yolo_multitask.args import check_tasks
from yolo_multitask.configs import config_names, resolve_yaml
from yolo_multitask.data.spec import check_kpt_shape
from yolo_multitask.nn.branches import SegmentBranch
from yolo_multitask.nn.heads.multitask import MultiTask, MultiTask26
from yolo_multitask.nn.temporal_yaml import is_temporal_yaml
from yolo_multitask.nn.transfer import TransferReport, count_parts, load_branches
from yolo_multitask.tasks import BRANCH_TASKS

HEADS: dict[str, type[MultiTask]] = {"MultiTask": MultiTask, "MultiTask26": MultiTask26}
OWN_HEADS = (*HEADS, "TrackNet")  # names that the host does not know
_CARRIED = ("i", "f", "stride", "legacy", "inplace")  # set on a layer by the host's parser and model


class MultiTaskModel(DetectionModel):
    """Boxes, masks, keypoints and embeddings from one network.

    The host's parser accepts only its own classes as heads. So the YAML is built with a plain `Detect` in the head's
    place, which is then replaced; `yaml` keeps the original head line.

    Attributes:
        tasks: Tasks that the model has branches for; `detect` is always among them.
        kpt_shape: Keypoints [K, D]; only present with a pose branch.
        names: Class names by index.
    """

    names: dict[int, str]
    save: list[int]  # layers whose outputs later ones read

    def __init__(
        self,
        cfg: str | Path | dict[str, Any] = "yolov8n-multitask.yaml",
        ch: int = 3,
        nc: int | None = None,
        kpt_shape: Sequence[int] | None = None,
        tasks: Sequence[str] | None = None,
        verbose: bool = True,
    ) -> None:
        """Build the model.

        Args:
            cfg: Model YAML by path, by name or as a dict.
            ch: Input channels.
            nc: Number of classes; overrides the YAML.
            kpt_shape: Keypoints (K, D); overrides the YAML.
            tasks: Tasks to build branches for; overrides the YAML.
            verbose: Whether to log a summary.

        Raises:
            ValueError: If the YAML's head, tasks or keypoints cannot be built.
            FileNotFoundError: If there is no YAML of that name.
        """
        config = deepcopy(cfg) if isinstance(cfg, dict) else load_model_yaml(cfg)
        config["nc"] = nc or config.get("nc", 80)
        wanted = tasks if tasks is not None else config.get("tasks", BRANCH_TASKS)
        config["tasks"] = [t for t in check_tasks(wanted) if t != "detect"]
        if kpt_shape is not None:
            config["kpt_shape"] = list(kpt_shape)
        if "pose" in config["tasks"]:
            config["kpt_shape"] = list(check_kpt_shape(config.get("kpt_shape")))
        name, arguments = parse_head(config)
        plain = deepcopy(config)
        plain["head"][-1][2:] = ["Detect", ["nc"]]
        super().__init__(plain, ch=ch, verbose=False)
        self.yaml = {**config, "channels": ch}
        taps = arguments.pop("embed_from")
        if "track" in config["tasks"] and taps:
            arguments["taps"] = layer_channels(self, taps, ch)
        self.replace_head(HEADS[name], arguments)
        if "taps" in arguments:
            self.head.f = [*self.head.f, *taps]
            self.save = sorted({*self.save, *taps})
        self.tasks = self.head.tasks
        if "pose" in self.tasks:
            self.kpt_shape = config["kpt_shape"]
        if verbose:
            self.info()
            LOGGER.info("")

    @property
    def head(self) -> MultiTask:
        """The last layer."""
        head = self.model[-1]
        assert isinstance(head, MultiTask)
        return head

    def replace_head(self, head_class: type[MultiTask], arguments: dict[str, Any], index: int = -1) -> None:
        """Put our head in the place of the plain one that the host has built, with that one's box and class layers."""
        plain = self.model[index]
        assert isinstance(plain, Detect)
        ch = [branch[0].conv.in_channels for branch in plain.cv2]
        dual = getattr(plain, "one2one_cv2", None) is not None
        head = head_class(**arguments, reg_max=plain.reg_max, end2end=dual, ch=ch)
        for name in ("cv2", "cv3", "dfl", *(("one2one_cv2", "one2one_cv3") if dual else ())):
            setattr(head, name, getattr(plain, name))
        host.copy_attributes(head, plain, _CARRIED)
        head.np = sum(p.numel() for p in head.parameters())
        head.type = f"{head_class.__module__}.{head_class.__name__}"
        host.init_layers(head.branches)
        self.model[index] = head

    def load(self, weights: Any, verbose: bool = True) -> TransferReport:
        """Load weights: trunk and box/cls from the first source, each branch from the first source that has it.

        Args:
            weights: A network or checkpoint dict, stock or multitask, or a list of them.
            verbose: Whether to log what was taken, from where, and what stayed fresh.

        Returns:
            The report that is logged.

        Raises:
            ValueError: If the first source is of another architecture or scale.
        """
        networks = [network_of(w) for w in (weights if isinstance(weights, (list, tuple)) else [weights])]
        sources = [(source_name(n), n) for n in networks]
        name, first = sources[0]
        state = {k: v.clone() for k, v in first.float().state_dict().items()}
        own = self.state_dict()
        trunk = [k for k in own if not k.startswith(f"model.{self.head.i}.")]
        shared = sum(k in state and state[k].shape == own[k].shape for k in trunk)
        if shared < len(trunk) // 2:
            raise ValueError(
                f"{name} shares only {shared} of {len(trunk)} trunk tensors with {self.describe()}: it is another "
                "architecture or scale. Load weights of the same family and scale, such as a yolov8n checkpoint into "
                "yolov8n-multitask."
            )
        super().load(first, verbose=False)
        names: dict[int, str] = getattr(first, "names", {})
        if len(names) == len(self.names) and has_placeholder_names(self):
            self.names = dict(names)
        counts = count_parts(self.state_dict(), state, self.head.i, self.names, names)
        parts = {part: (name, *count) for part, count in counts.items()}
        report = TransferReport({**parts, **load_branches(self.head, sources, self.names)})
        if len(sources) > 1:
            self.pt_path = None  # merged: no longer the weights of one file
        if verbose:
            LOGGER.info(f"Loaded into {self.describe()}:\n{report}")
        return report

    def fuse(self, *args: Any, **kwargs: Any) -> MultiTaskModel:
        """Fuse for inference as the host does, and the prototypes too; see the host for the arguments."""
        super().fuse(*args, **kwargs)
        branch = self.head.branches["segment"] if "segment" in self.tasks else None
        if isinstance(branch, SegmentBranch):
            branch.fuse()
        return self

    def describe(self) -> str:
        """Return what to call the model in a message."""
        return str(self.yaml.get("yaml_file") or type(self).__name__)

    def loss(self, batch: Any, preds: Any = None) -> Any:
        """Return the loss; of a batch of kept views without a forward pass, as the criterion runs the branch itself."""
        if preds is None and "views" in batch and self.criterion is not None:
            return self.criterion(None, batch)
        return super().loss(batch, preds)

    def init_criterion(self) -> Any:
        """Build the loss; called by the host at the first training or validation step."""
        from yolo_multitask.losses import MultiTaskLoss

        return MultiTaskLoss(self)


def layer_channels(model: DetectionModel, layers: Sequence[int], ch: int) -> list[int]:
    """Return the channels of the outputs of layers, found by running a small image of `ch` channels through them."""
    found: dict[int, int] = {}
    hooks = [
        model.model[i].register_forward_hook(lambda _, __, out, i=i: found.__setitem__(i, out.shape[1])) for i in layers
    ]
    training = model.training
    side = int(2 * model.stride.max())
    with torch.no_grad():
        model.eval()(torch.zeros(1, ch, side, side))
    model.train(training)
    for hook in hooks:
        hook.remove()
    return [found[i] for i in layers]


def has_placeholder_names(model: Any) -> bool:
    """Return whether a model's classes are called "0", "1", ..., as those of one built from YAML are."""
    return bool(model.names == {i: str(i) for i in range(len(model.names))})


def load_model_yaml(name: str | Path) -> dict[str, Any]:
    """Load a multitask model YAML by path or by name (`yolov8n-multitask.yaml`), with its scale filled in.

    Raises:
        FileNotFoundError: If neither the file nor a YAML of that name in this package exists.
        ValueError: If it is not a model YAML.
    """
    path = resolve_yaml(name, "models")
    if path is None:
        known = [re.sub(r"^(yolov?\d+)-", r"\1n-", n) for n in config_names("models")]
        known += [f"multitask{scale}.yaml" for scale in "nsmlx"]
        near = get_close_matches(Path(name).name, known, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else f" This package has: {', '.join(known)}."
        raise FileNotFoundError(f"Model YAML '{name}' not found.{hint}")
    config = YAML.load(path)
    check_model_yaml(config, path)
    config["scale"] = host.model_scale(str(name)) or config.get("scale", "")
    if is_temporal_yaml(config) and config.get("scales"):
        config["scale"] = config["scale"] or next(iter(config["scales"]))
    config["yaml_file"] = str(name)
    return dict(config)


def check_model_yaml(config: Any, name: str | Path) -> None:
    """Check what this package reads of a model YAML, stock or ours; `name` is what to call it.

    Raises:
        ValueError: If it is not a model YAML, a layer is not a line of four values, or the head's name is misspelt.
    """
    if not isinstance(config, dict) or not {"backbone", "head"} <= config.keys():
        raise ValueError(f"'{name}' is not a model YAML: it needs the keys 'backbone' and 'head'.")
    for key in ("backbone", "head"):
        lines = config[key]
        for line in lines if isinstance(lines, list) and lines else [lines]:
            if not isinstance(line, list) or len(line) != 4:
                raise ValueError(
                    f"'{name}': every line of '{key}' must be [from, number, module, [arguments]], got {line!r}."
                )
    for line in config["head"]:
        module = str(line[2])
        near = get_close_matches(module, OWN_HEADS, n=1, cutoff=0.7)
        if near and module not in OWN_HEADS:
            raise ValueError(f"'{name}': unknown head '{module}'; did you mean '{near[0]}'?")


def is_multitask_yaml(config: dict[str, Any]) -> bool:
    """Return whether a model YAML ends in a head of this package, or is one of a model that sees several frames."""
    try:
        return is_temporal_yaml(config) or any(line[2] in HEADS for line in config["head"])
    except (KeyError, IndexError, TypeError):
        return False


def build_model(config: dict[str, Any], verbose: bool = True) -> MultiTaskModel:
    """Return the model of a YAML of this package, as `load_model_yaml` gives it."""
    from yolo_multitask.nn.temporal import TemporalModel

    return (TemporalModel if is_temporal_yaml(config) else MultiTaskModel)(config, verbose=verbose)


def parse_head(config: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Read the head line `[from, 1, MultiTask, [nc, nm, npr, kpt_shape]]` of a model YAML.

    Returns:
        The head's name and its constructor arguments, with the prototype width scaled as the host scales that of
        `Segment`.

    Raises:
        ValueError: If the line cannot be read.
    """
    line = config["head"][-1]
    if len(line) != 4 or line[2] not in HEADS or not isinstance(line[3], list):
        heads = " or ".join(HEADS)
        raise ValueError(f"The last line of 'head' must be [from, 1, {heads}, [nc, nm, npr, kpt_shape]], got {line}.")
    before = len(config["backbone"]) + len(config["head"]) - 1
    if not isinstance(line[0], list) or not all(type(i) is int and -before <= i < before for i in line[0]):
        raise ValueError(f"MultiTask takes a list of layers in 0..{before - 1} as its first entry, got {line[0]}.")
    values = [config.get(v, v) if isinstance(v, str) else v for v in line[3]]
    keys = ("nc", "nm", "npr", "kpt_shape")
    if len(values) > len(keys):
        raise ValueError(f"MultiTask takes at most {len(keys)} arguments {list(keys)}, got {line[3]}.")
    arguments: dict[str, Any] = dict(zip(keys, values, strict=False))
    arguments["nc"] = config["nc"]
    for key in keys[:3]:
        value = arguments.get(key, 1)
        if type(value) is not int or value < 1:
            raise ValueError(f"MultiTask takes a whole number of 1 or more as '{key}', got {value!r}.")
    arguments["kpt_shape"] = config.get("kpt_shape")
    arguments["tasks"] = config["tasks"]
    arguments["embed_dim"] = embed_dim = config.get("embed_dim", 128)
    if type(embed_dim) is not int or embed_dim < 1:
        raise ValueError(f"'embed_dim' must be a whole number of 1 or more, got {embed_dim!r}.")
    arguments["next_box"] = next_box = config.get("next", False)
    if not isinstance(next_box, bool):
        raise ValueError(f"'next' must be true or false (predict the box in the next frame), got {next_box!r}.")
    layers = config.get("embed_from")
    arguments["embed_from"] = layers = [] if layers is None else layers
    if not isinstance(layers, list) or not all(type(i) is int and 0 <= i < before for i in layers):
        raise ValueError(f"'embed_from' must be a list of layers in 0..{before - 1}, got {layers!r}.")
    width, max_channels = config.get("width_multiple", 1.0), float("inf")
    if scales := config.get("scales"):
        scale = config.get("scale") or next(iter(scales))
        if scale not in scales:
            raise ValueError(f"Scale '{scale}' is not in the model YAML; it has {', '.join(scales)}.")
        _, width, max_channels = scales[scale]
    arguments["npr"] = make_divisible(min(arguments.get("npr", 256), max_channels) * width, 8)
    return line[2], arguments


def network_of(weights: Any) -> nn.Module:
    """Return the network in `weights`: itself, or the EMA or model of a checkpoint dict."""
    network = (weights.get("ema") or weights["model"]) if isinstance(weights, dict) else weights
    if not isinstance(network, nn.Module) or not hasattr(network, "model"):
        raise ValueError(f"Expected a network or a checkpoint of one, got {type(network).__name__}.")
    return network


def source_name(network: nn.Module) -> str:
    """Return what to call a network in a report: its file if it came from one."""
    path = getattr(network, "pt_path", None)
    return Path(str(path)).name if path else str((getattr(network, "yaml", None) or {}).get("yaml_file", "model"))


# which registers, also where a checkpoint is unpickled before the package was imported
import_module("yolo_multitask.nn.temporal")
