"""`TemporalModel`: a host trunk that sees several consecutive frames at once, with separate heads on it.

A *window* is G consecutive frames, oldest first, stacked along the channels: frame by frame, the channels of each
together. Group g of the TrackNet head is what the network says of frame g; the Pose head speaks of the newest one.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn
from ultralytics.nn.modules.head import Detect
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import LOGGER

from yolo_multitask import host
from yolo_multitask.nn.features import FeatureSet
from yolo_multitask.nn.heads.multitask import MultiTask
from yolo_multitask.nn.heads.tracknet import TrackNet
from yolo_multitask.nn.network import MultiTaskModel, has_placeholder_names, load_model_yaml, network_of, source_name
from yolo_multitask.nn.temporal_yaml import HEAD_TASK, read_temporal_yaml
from yolo_multitask.nn.transfer import (
    TransferReport,
    load_branches,
    load_classes_and_boxes,
    load_track_head,
    load_trunk,
)
from yolo_multitask.tasks import SPECS


class TemporalModel(MultiTaskModel):
    """Positions of small, fast objects in each frame of a window, and boxes and keypoints in the newest one.

    Attributes:
        detect_idx: Index of the TrackNet layer, None without.
        pose_idx: Index of the Pose layer, a `MultiTask` head with the branch `pose`, None without.
        num_groups: Frames of a window, G.
        frame_channels: Channels of a frame, 1 or 3.
        feature_set: What TrackNet regresses, None without.
        tasks: `detect`, `pose` where there is a Pose head, and `track` where there is a TrackNet head.
        names: Names of all classes of the data by index.
        objects: Data class of each class of the TrackNet head.
        players: Data class of each class of the Pose head.
        kpt_shape: Keypoints [K, D]; only present with a Pose head.
    """

    detect_idx: int | None = None
    pose_idx: int | None = None

    def __init__(
        self,
        cfg: str | Path | dict[str, Any] = "multitask.yaml",
        nc: int | None = None,
        pose_nc: int | None = None,
        kpt_shape: Sequence[int] | None = None,
        frames: int | None = None,
        channels: int | None = None,
        tasks: Sequence[str] | None = None,
        verbose: bool = True,
    ) -> None:
        """Build the model. What is given goes before the YAML.

        Args:
            cfg: Model YAML by path, by name or as a dict.
            nc: Classes that TrackNet follows.
            pose_nc: Classes of the Pose head.
            kpt_shape: Keypoints (K, D).
            frames: Frames of a window.
            channels: Channels of a frame, 1 or 3.
            tasks: Tasks whose heads are built, of `pose` and `track`.
            verbose: Whether to log a summary.

        Raises:
            ValueError: If the YAML's values cannot be built or contradict each other.
            FileNotFoundError: If there is no YAML of that name.
        """
        given = deepcopy(cfg) if isinstance(cfg, dict) else load_model_yaml(cfg)
        config = read_temporal_yaml(
            given, tasks, nc=nc, pose_nc=pose_nc, kpt_shape=kpt_shape, frames=frames, channels=channels
        )
        ch = config.yaml["channels"]
        DetectionModel.__init__(self, config.plain, ch=ch, verbose=False)  # with a plain head for each of ours
        self.yaml = config.yaml
        self.num_groups, self.frame_channels = config.frames, config.frame_channels
        self.feature_set: FeatureSet | None = config.features
        first = len(self.model) - len(config.heads)
        strides = head_strides(self, range(first, len(self.model)), ch)
        for index, name in enumerate(config.heads, first):
            self.model[index].stride = strides[index]
            if name == "TrackNet":
                self._put_tracknet(index, config.yaml, config.features)
            else:
                self.model[index].bias_init()  # the host has done it for the last layer alone
                arguments = {"nc": config.yaml["pose_nc"], "kpt_shape": config.yaml["kpt_shape"], "tasks": ("pose",)}
                self.replace_head(MultiTask, arguments, index)
                self.pose_idx = index
                self.kpt_shape = config.yaml["kpt_shape"]
        self.stride = torch.cat(list(strides.values())).unique()
        self.tasks = tuple(t for t in SPECS if t == "detect" or t in {HEAD_TASK[name] for name in config.heads})
        self._name_classes()
        if verbose:
            self.info()
            LOGGER.info("")

    def _put_tracknet(self, index: int, config: dict[str, Any], features: FeatureSet | None) -> None:
        """Put a TrackNet head in the place of a plain one."""
        plain = self.model[index]
        ch = [branch[0].conv.in_channels for branch in plain.cv2]
        head = TrackNet(config["nc"], config["feat_no"], config["frames"], config["reg_max"], features, ch)
        host.copy_attributes(head, plain, ("i", "f", "stride", "inplace"))
        head.np = sum(p.numel() for p in head.parameters())
        head.type = f"{TrackNet.__module__}.{TrackNet.__name__}"
        host.init_layers(head)
        head.bias_init()
        self.model[index] = head
        self.detect_idx = index

    def _name_classes(self) -> None:
        """Call the classes "0", "1", ..., those of TrackNet before those of the Pose head."""
        own = [0 if index is None else self.model[index].nc for index in (self.detect_idx, self.pose_idx)]
        self.names = {i: str(i) for i in range(sum(own))}
        self.objects, self.players = list(range(own[0])), list(range(own[0], sum(own)))

    @property
    def head(self) -> MultiTask:
        """The Pose head."""
        assert self.pose_idx is not None, "this model has no Pose head"
        head = self.model[self.pose_idx]
        assert isinstance(head, MultiTask)
        return head

    @property
    def track_head(self) -> TrackNet:
        """The TrackNet head."""
        assert self.detect_idx is not None, "this model has no TrackNet head"
        head = self.model[self.detect_idx]
        assert isinstance(head, TrackNet)
        return head

    def _predict_once(self, x: torch.Tensor, profile: bool = False, embed: Any = None) -> Any:
        """Run windows through the network.

        Args:
            x: Windows, (B, G * C, h, w) in 0..1.
            profile: Whether to log the time of each layer.
            embed: Layers to return embeddings of, in the place of all else.

        Returns:
            What each head gives, by name: `track` what `TrackNet` does, `pose` what `MultiTask` does.
        """
        indices = {self.detect_idx: "track", self.pose_idx: "pose"}
        if embed or len(indices) == 1:  # the host builds and measures the trunk with heads of its own
            return super()._predict_once(x, profile, embed)
        if profile:
            super()._predict_once(x, profile)
        outputs: list[Any] = []
        heads: dict[str, Any] = {}
        needed = self.needed_layers()
        for m in self.model:
            if m.i not in needed:
                outputs.append(None)
                continue
            if isinstance(m.f, int):
                given = x if m.f == -1 else outputs[m.f]
            else:
                given = [x if j == -1 else outputs[j] for j in m.f]
            if m.i in indices:
                heads[indices[m.i]] = m(given)
                continue
            x = m(given)
            outputs.append(x if m.i in self.save else None)
        return heads

    def needed_layers(self) -> set[int]:
        """Return the layers that a head reads, directly or through others, and the heads: one alone needs not all."""
        needed = {i for i in (self.detect_idx, self.pose_idx) if i is not None}
        for m in reversed(list(self.model)):
            if m.i in needed:
                read = [m.f] if isinstance(m.f, int) else m.f
                needed |= {max(m.i + f, 0) if f < 0 else f for f in read}
        return needed

    def _apply(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        """Apply `fn` to all tensors, as the host does for those that the last head has beside its layers."""
        super()._apply(fn, *args, **kwargs)
        for head in list(self.model)[:-1]:
            if isinstance(head, Detect):
                head.stride, head.anchors, head.strides = fn(head.stride), fn(head.anchors), fn(head.strides)
        return self

    def load(self, weights: Any, verbose: bool = True) -> TransferReport:
        """Load weights: the trunk and the boxes from the first source, keypoints and TrackNet from the first with any.

        The first convolution of a stock checkpoint is spread over the frames, so that a window of equal frames gives
        what the checkpoint gives for one of them.

        Args:
            weights: A network or checkpoint dict, stock or of this package, or a list of them.
            verbose: Whether to log what was taken, from where, and what stayed fresh.

        Returns:
            The report that is logged.

        Raises:
            ValueError: If the first source is of another architecture or scale.
        """
        networks = [network_of(w) for w in (weights if isinstance(weights, (list, tuple)) else [weights])]
        sources = [(source_name(n), n.float()) for n in networks]
        name, first = sources[0]
        layers = len(self.model) - sum(i is not None for i in (self.detect_idx, self.pose_idx))
        taken, total = load_trunk(self, first, layers)
        if taken < total // 2:
            raise ValueError(
                f"{name} shares only {taken} of {total} trunk tensors with {self.describe()}: it is another "
                "architecture or scale. Load weights of the same family and scale, such as a yolov8n checkpoint into "
                "multitaskn."
            )
        parts = {"trunk": (name, taken, total)}
        if self.pose_idx is not None:
            parts["box/cls"] = (name, *self._load_boxes(first))
            parts |= load_branches(self.head, sources)
        if self.detect_idx is not None:
            parts["track"] = load_track_head(self.track_head, sources)
        self.pt_path = getattr(first, "pt_path", None) if len(sources) == 1 else None
        report = TransferReport(parts)
        if verbose:
            LOGGER.info(f"Loaded into {self.describe()}:\n{report}")
        return report

    def _load_boxes(self, source: nn.Module) -> tuple[int, int]:
        """Fill the box and class layers of the Pose head and return how many tensors it took, of how many.

        The classes of a model built from a YAML get the names that they have in the source, where that has as many.
        """
        names: dict[int, str] = getattr(source, "names", {})
        if isinstance(source, TemporalModel):
            if self.names != source.names and has_placeholder_names(self) and len(self.names) == len(source.names):
                self.names, self.objects, self.players = dict(names), [*source.objects], [*source.players]
            names = {i: names[player] for i, player in enumerate(source.players)}
        elif has_placeholder_names(self) and len(names) == self.head.nc:
            self.names |= {player: names[i] for i, player in enumerate(self.players)}
        own = {i: self.names[player] for i, player in enumerate(self.players)}
        return load_classes_and_boxes(self.head, source, own, names)


def head_strides(model: DetectionModel, layers: Sequence[int], ch: int) -> dict[int, torch.Tensor]:
    """Return the strides of the levels that layers read, found by running an empty image of `ch` channels."""
    found: dict[int, torch.Tensor] = {}
    side = 256

    def keep(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        found[layer.i] = torch.tensor([side / x.shape[-2] for x in inputs[0]])

    hooks = [model.model[i].register_forward_pre_hook(keep) for i in layers]
    training = model.training
    with torch.no_grad():
        model.eval()(torch.zeros(1, ch, side, side))
    model.train(training)
    for hook in hooks:
        hook.remove()
    return found


host.register()  # also where a checkpoint is unpickled before the package was imported
