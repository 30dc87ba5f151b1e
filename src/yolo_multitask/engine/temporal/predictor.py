"""Prediction on consecutive frames: every frame is prepared once, and each gets one result, in order.

B windows, G frames of a window, C channels of a frame, N elements, A anchors, M objects and T players of a frame, h w
the network input, H W the original frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ultralytics.models.yolo.detect import DetectionPredictor
from ultralytics.utils import DEFAULT_CFG, nms, ops

from yolo_multitask.args import select_tasks
from yolo_multitask.data.clips.preprocess import Fit, input_shape, prepare_frame
from yolo_multitask.engine.heads import find_network
from yolo_multitask.engine.lazy import detect as detect_lazily
from yolo_multitask.engine.lazy import is_lazy
from yolo_multitask.engine.predictor import MultiTaskPredictor
from yolo_multitask.engine.results import Results
from yolo_multitask.engine.temporal.clip import ClipState, FrameEstimates, Window
from yolo_multitask.engine.temporal.layout import TemporalLayout, lazy_heads, read_outputs
from yolo_multitask.engine.temporal.objects import Objects, object_boxes
from yolo_multitask.engine.temporal.source import Frame, ReadAhead, open_source
from yolo_multitask.engine.temporal.track import TemporalTracking
from yolo_multitask.tasks import TASK
from yolo_multitask.tracking.smoothing import TrajectorySmoother
from yolo_multitask.tracking.trajectories import TrajectoryConfig

WEAK = 0.5  # a window's say counts from this share of the confidence that a frame needs


@dataclass(frozen=True)
class _Due:
    """A window to compute: of which clip, its newest frame and those of its groups, and its pixels (G*C, h, w)."""

    clip: ClipState
    end: int
    frames: list[int]
    pixels: torch.Tensor


class TemporalPredictor(MultiTaskPredictor):
    """Predictor of `TemporalModel` and of files exported from one.

    The host's loop gets frame t when the frames after it that have a say in it are read. Objects are followed by all
    windows that hold a frame, players are found in the newest frame of a window: with `window_stride` above 1 only in
    every such frame.

    Attributes:
        temporal: What the model computes.
        objects: The objects of each result of the batch at hand, the first rows of the result.
        found_players: Whether players were looked for in the frame of each result.
    """

    tracking_class = TemporalTracking
    temporal: TemporalLayout
    dataset: Any

    def __init__(
        self, cfg: Any = DEFAULT_CFG, overrides: dict[str, Any] | None = None, _callbacks: dict[str, Any] | None = None
    ) -> None:
        """Build the predictor; see `MultiTaskPredictor`."""
        super().__init__(cfg, overrides, _callbacks)
        self.objects: list[Objects] = []
        self.found_players: list[bool] = []
        self.trajectories = TrajectoryConfig()
        self._window_stride = 1
        self._clips: dict[tuple[int, int], ClipState] = {}
        self._kept = self._clips
        self._due: list[_Due] = []
        self._before: ReadAhead | None = None

    # ---- set-up -----------------------------------------------------------------------------------------------------

    def setup_source(self, source: Any, stride: int | None = None) -> None:
        """Set up the source and the tasks of this run; the host calls this once per run, with the arguments set.

        Raises:
            ValueError: If a switch asks for a task that the model does not have, or arguments contradict each other.
        """
        args = self.args
        if unsupported := [key for key in ("augment", "embed", "visualize") if getattr(args, key)]:
            raise ValueError(f"{', '.join(unsupported)}: not available for models that take windows of frames.")
        self._before = self.dataset if isinstance(self.dataset, ReadAhead) else None
        loader = open_source(source, batch=args.batch, vid_stride=args.vid_stride, stream_buffer=args.stream_buffer)
        DetectionPredictor.setup_source(self, loader, stride)
        args.task = TASK
        self.temporal = TemporalLayout.of(self.model)
        self.layout = self.temporal.rows
        self.tasks = select_tasks(args.switches or {}, self.temporal.tasks, f"model '{args.model}'")
        self.trajectories = TrajectoryConfig() if args.max_gap is None else TrajectoryConfig(max_gap=args.max_gap)
        self._window_stride = self.temporal.window_stride(args.window_stride)
        live = bool(self.source_type.stream or self.source_type.screenshot)
        self.dataset = ReadAhead(self.dataset, self._delay(live))
        self._clips, self._due = {}, []

    def _delay(self, live: bool) -> int:
        """Return how many frames to read ahead.

        Raises:
            ValueError: If `delay` is so small that frames would pass before the first window that holds them.
        """
        least, groups = self._window_stride - 1, self.temporal.num_groups
        given = self.args.delay
        if given is None:
            gap = self.trajectories.max_gap if self.args.mode == "track" and "track" in self.tasks else 0
            return least if live else max(least, groups - 1 + gap)
        if given < least:
            raise ValueError(
                f"delay={given} with window_stride={self._window_stride}: a frame would be due up to {least} frames "
                f"before a window holds it. Use delay={least} or more, or window_stride={given + 1} or less."
            )
        return int(given)

    def keep_clips(self, persist: bool) -> None:
        """Go on with the clip of the last run, for frames that are passed one by one; nothing is read ahead.

        Without `persist` a frame that is passed alone begins a clip that the next run may go on with.

        Raises:
            ValueError: If an argument says that frames are to wait for others.
        """
        waits = self._window_stride > 1 or self.args.delay
        if not self.source_type.from_img or (not persist and (waits or len(self.dataset) > 1)):
            return
        if waits:
            raise ValueError(
                f"persist=True passes frames one by one, each of which is due at once, but window_stride="
                f"{self._window_stride} and delay={self.args.delay} let frames wait. Leave them out."
            )
        self.dataset.delay, self.dataset.endless = 0, True
        if persist and self._before is not None and self._before.endless:
            self.dataset.resume(self._before)
            self._clips = self._kept

    # ---- one batch --------------------------------------------------------------------------------------------------

    def preprocess(self, im: Any) -> torch.Tensor:
        """Prepare the frames that were read since the last batch, and collect the windows that are due.

        Args:
            im: The images of the batch at hand; those that are new were read ahead.

        Returns:
            The first window that is due (1, G*C, h, w), or none (0, G*C, h, w); `inference` takes all of them.
        """
        arrived = self.dataset.take()
        for frame in arrived:
            clip = self._clips.get(frame.key) or self._start_clip(frame)
            prepared = prepare_frame(frame.image, clip.shape, self.temporal.channels)
            clip.buffer.add(self._to_input(prepared))
            if clip.wants_window(self._window_stride):
                self._add_due(clip, copy=len(arrived) > 1)
        for key, clip in self._clips.items():
            if self.dataset.has_ended(key) and clip.wants_window(self._window_stride, ended=True):
                self._add_due(clip, copy=False)
        if self._due:
            return self._due[0].pixels[None]
        clip = self._clips[self.dataset.current[0].key]
        return torch.empty(0, self.temporal.num_groups * self.temporal.channels, *clip.shape, device=self.device)

    def _start_clip(self, frame: Frame) -> ClipState:
        layout, size = self.temporal, (frame.image.shape[0], frame.image.shape[1])
        flexible = self.model.format == "pt" or getattr(self.model, "dynamic", False)
        square = self.imgsz[0] == self.imgsz[1]
        wanted = self.imgsz[0] if flexible and self.args.rect and square else self.imgsz
        fit = Fit(size, input_shape(size, wanted, int(max(np.atleast_1d(self.model.stride)))))
        clip = ClipState(
            num_groups=layout.num_groups,
            size=size,
            shape=fit.shape,
            estimates=FrameEstimates(self.args.conf, layout.radius(fit, self.trajectories)),
            wait=min(self.dataset.delay, layout.num_groups - 1),
            smoother=self._smoother(size),
        )
        self._clips[frame.key] = clip
        return clip

    def _to_input(self, prepared: NDArray[np.uint8]) -> torch.Tensor:
        """Return a frame (h, w, C) as (C, h, w) in 0..1 on the device."""
        frame = torch.from_numpy(prepared).to(self.device).permute(2, 0, 1)
        return (frame.half() if self.model.fp16 else frame.float()) / 255

    def _add_due(self, clip: ClipState, copy: bool) -> None:
        pixels = clip.buffer.window
        end = clip.buffer.count - 1
        self._due.append(_Due(clip, end, clip.buffer.indices(), pixels.clone() if copy else pixels))

    def inference(self, im: torch.Tensor, *args: Any, **kwargs: Any) -> list[tuple[Any, Any]]:
        """Run the network on the windows that are due; where it is lazy, with the NMS of the players.

        Args:
            im: Not used, see `preprocess`.
            *args: The host's.
            **kwargs: The host's.

        Returns:
            Of each batch of windows the decoded elements (B, N, P + followed classes) of the TrackNet head, and of the
            Pose head its rows (B, 4 + extra, A), or lazily a list of B players' rows (T, 6 + extra); None without.
        """
        network = find_network(self.model)
        lazy = self.model.format == "pt" and is_lazy(self.args, self.device)
        outputs = []
        for windows in self._batches():
            pixels = windows[0].pixels[None] if len(windows) == 1 else torch.stack([w.pixels for w in windows])
            with lazy_heads(network, self.args.conf * WEAK) if lazy else nullcontext():
                values, rows = read_outputs(self.model, self.model(pixels))
            if lazy and rows is not None and "pose" in self.tasks:
                classes = self._player_classes()
                rows = detect_lazily(network.head, *rows, classes=classes, **self._nms_settings()).rows
            outputs.append((values, rows))
        return outputs

    def _batches(self) -> Iterator[list[_Due]]:
        """Give the windows that are due, some at a time, all of one size."""
        most = max(self.args.batch, 1)
        for _, same in groupby(self._due, key=lambda due: due.pixels.shape):
            windows = list(same)
            yield from (windows[i : i + most] for i in range(0, len(windows), most))

    def postprocess(self, preds: list[tuple[Any, Any]], img: torch.Tensor, orig_imgs: Any, **_: Any) -> list[Results]:
        """Add the windows to their clips, and return the results of the batch at hand.

        Args:
            preds: See `inference`.
            img: See `preprocess`.
            orig_imgs: The images (H, W, 3) of the batch.
            **_: The host's.

        Returns:
            One result per image, in original pixels: first the objects, then the players.
        """
        for windows, (values, rows) in zip(self._batches(), preds, strict=True):
            players = self._find_players(rows, len(windows))
            for i, due in enumerate(windows):
                found = self._find_objects(due.clip, None if values is None else values[i])
                due.clip.add(Window(due.end, due.frames, found, players[i]))
        self._due = []
        self.objects, self.found_players = [], []
        frames = zip(self.dataset.current, self.batch[0], strict=True)
        results = [self._result(frame, str(path)) for frame, path in frames]
        for key, clip in list(self._clips.items()):
            if self.dataset.has_ended(key) and clip.given == clip.buffer.count:
                del self._clips[key]
        self._kept = self._clips
        return results

    def _find_objects(self, clip: ClipState, values: torch.Tensor | None) -> NDArray[np.float64]:
        if values is None or "track" not in self.tasks:
            return np.zeros((0, 7))
        fit = Fit(clip.size, clip.shape)
        return self.temporal.find(values, fit, conf=self.args.conf * WEAK, radius=clip.estimates.radius)

    def _find_players(self, rows: Any, count: int) -> list[torch.Tensor | None]:
        """Return the players of each window, rows (T, 6 + extra) in input pixels; None where they are not looked for.

        Args:
            rows: What `inference` gives of the Pose head.
            count: Number of windows.
        """
        if rows is None or "pose" not in self.tasks:
            return [None] * count
        if isinstance(rows, list):
            return rows  # type: ignore[return-value]
        settings = {**self._nms_settings(), "classes": self._player_classes(), "nc": len(self.temporal.players)}
        settings["conf_thres"] = settings.pop("conf")
        return nms.non_max_suppression(rows, **settings)  # type: ignore[no-any-return]

    # ---- results ----------------------------------------------------------------------------------------------------

    def _result(self, frame: Frame, path: str) -> Results:
        clip, ended = self._clips[frame.key], self.dataset.has_ended(frame.key)
        tracked = clip.smoother is not None
        objects = Objects.of(clip.objects(frame.index, ended), tracked)
        objects = objects[self._is_asked_for(np.take(self.temporal.objects or (0,), objects.cls))]
        players = clip.players(frame.index)
        self.objects.append(objects)
        self.found_players.append(players is not None)
        if players is None:
            players = torch.zeros(0, 6 + self.layout.extra, device=self.device)
        return self._construct(frame.image, path, objects, players.clone(), clip.shape)

    def _construct(
        self, image: NDArray[np.uint8], path: str, objects: Objects, players: torch.Tensor, shape: tuple[int, int]
    ) -> Results:
        """Return the result of a frame.

        Args:
            image: (H, W, 3).
            path: Its path.
            objects: Its objects.
            players: Its players, rows (T, 6 + extra) in input pixels.
            shape: Height and width of the network input.
        """
        layout, m = self.temporal, len(objects.xy)
        boxes = torch.cat((object_boxes(objects, layout, image.shape[:2]).to(players), players[:, :6]))
        boxes[m:, :4] = ops.scale_boxes(shape, boxes[m:, :4], image.shape)
        boxes[m:, 5] = torch.as_tensor(layout.players or (0,), device=boxes.device)[players[:, 5].long()].to(boxes)
        keypoints = points = None
        if layout.kpt_shape is not None and "pose" in self.tasks:
            own = players[:, self.layout.kpt].reshape(len(players), *layout.kpt_shape)
            own = self.hide_absent(ops.scale_coords(shape, own, image.shape), boxes[m:, 5])
            keypoints = torch.cat((own.new_zeros(m, *layout.kpt_shape), own))
        if "track" in self.tasks:
            seen = np.column_stack((objects.xy, objects.interpolated))
            points = torch.full((len(boxes), 3), float("nan"), device=boxes.device)
            points[:m] = torch.as_tensor(seen, dtype=torch.float32, device=boxes.device)
        return Results(image, path=path, names=layout.names, boxes=boxes, keypoints=keypoints, points=points)

    def _smoother(self, size: tuple[int, int]) -> TrajectorySmoother | None:
        if self.args.mode != "track":
            return None
        lookahead = max(self.dataset.delay - (self.temporal.num_groups - 1), 0)
        return TrajectorySmoother(self.trajectories, size=size, lookahead=lookahead)

    def _is_asked_for(self, classes: Any) -> NDArray[np.bool_]:
        """Return which classes (M,) of the data the argument `classes` lets through."""
        wanted = self.args.classes
        classes = np.asarray(classes)
        return np.ones(len(classes), bool) if wanted is None else np.isin(classes, wanted)

    def _player_classes(self) -> list[int] | None:
        """Return the classes of the Pose head to look for; None for all."""
        if self.args.classes is None:
            return None
        return [i for i, c in enumerate(self.temporal.players) if c in np.atleast_1d(self.args.classes)]

    def _nms_settings(self) -> dict[str, Any]:
        args = self.args
        return {"conf": args.conf, "iou_thres": args.iou, "agnostic": args.agnostic_nms, "max_det": args.max_det}
