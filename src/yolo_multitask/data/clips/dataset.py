"""The data set of temporal models: windows of clips.

G frames of a window, C channels of a frame, (h, w) the network input, P objects, N players.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from ultralytics.data.dataset import YOLODataset

from yolo_multitask.data.clips.augment import Drawn, WindowAugment, change_frames
from yolo_multitask.data.clips.cache import DEFAULT_LIMIT, FrameCache
from yolo_multitask.data.clips.clip import Clip
from yolo_multitask.data.clips.plan import Window, window_starts
from yolo_multitask.data.clips.preprocess import Fit, Image, input_shape, prepare_frame, stack_frames
from yolo_multitask.data.clips.spec import ClipSpec
from yolo_multitask.data.clips.targets import object_targets, player_extras, player_targets
from yolo_multitask.data.format import collate_extras

_POINTS = ("points", "points_group", "points_cls", "points_visible", "points_next", "points_has_next", "points_boxes")
_STACKED = ("points_labelled", "frame_numbers", "valid")
STILL = Drawn(matrix=np.eye(3))


class WindowDataset(Dataset):  # type: ignore[misc]
    """Windows of consecutive frames with the objects in each of them, and the players of the newest.

    All windows of a data set have one size: that of the clips' frames with the longer side scaled to `imgsz`, padded to
    multiples of the stride (the largest of the clips' where they differ). Prepared frames are kept in memory up to a
    limit, see `FrameCache`.

    A sample, and a batch of `collate_fn`, has these keys (B windows):

    - ``img`` uint8 (B, G * C, h, w), oldest frame first, grey or RGB;
    - of the newest frame, with the Pose head's class numbers, as `MultiTaskFormat` and `collate_extras` give them:
      ``cls (N, 1), bboxes (N, 4), batch_idx, has_keypoints, has_mask, has_id, ids, instance, image, scene (N,), motion
      (N, 4), ignore (M, 4), ignore_idx (M,)``, ``keypoints (N, K, 3)`` where the data has them, and ``unlabelled (B,
      classes)``: all true where the players of that frame are not labelled, which the class loss leaves out then;
    - ``points (P, 2)``, ``points_next (P, 2)``, ``points_boxes (P, 4)`` (of nominal size where it is not known),
      ``points_idx, points_group, points_cls, points_visible, points_has_next (P,)``, ``points_labelled (B, G)``, see
      `object_targets`; ``points_idx`` is int64;
    - ``clip`` list of names, ``frame_numbers (B, G)`` int64 indices in the clip (padding repeats), ``valid (B, G)``
      false for padding, whose objects are not labelled;
    - ``im_file`` (of the newest frame, ``video#number`` of videos), ``ori_shape``, ``resized_shape``, ``ratio_pad``,
      as the host's.

    What the host's trainer and loader may use: ``len``, indexing, ``collate_fn``, ``labels`` (one dict a window with
    ``cls`` (n, 1) and ``bboxes`` (n, 4) of all that is labelled in its newest frame, in the *data's* class numbers, so
    that ``plot_labels(names=data["names"])`` and the automatic batch size work), ``im_files``, ``rect`` (always False),
    ``augment``, ``close_mosaic`` (there is none to close: it changes nothing). Order is free: any sampler will do.
    It can be pickled, forked and spawned.

    Args:
        clips: The clips.
        spec: Their classes.
        num_groups: Frames of a window, G.
        channels: Of a frame, 1 or 3.
        imgsz: See `input_shape`.
        stride: Largest stride of the model.
        augment: What is done to a window, None for nothing.
        flip_idx: Keypoint that takes the place of each in a mirror image.
        window_stride: Frames from one window to the next. With `augment` each window is moved by less than that at
            random. The last window of a clip ends with its last frame.
        frame_steps: Frames from one frame of a window to the next; every one gives windows of its own.
        padded: Also take windows that begin before the clip, as a stream has them at its beginning.
        fraction: Share of the windows, or their number above 1; the first ones.
        limit: Bytes of frames to keep in memory.
        shape: Height and width of the input; None from `imgsz`.
        prefix: Of messages.

    Attributes:
        windows: In order of clips.
        shape: Height and width (h, w) of the input.
        counts: What was found in the clips, and ``windows``, ``windows without labels`` (left out with `augment`).
        object_size: Median side of the labelled boxes of objects, in longer sides of the frame; None where none is.

    Raises:
        ValueError: There is no window, or an argument is out of range.
    """

    rect = False

    def __init__(
        self,
        clips: Sequence[Clip],
        spec: ClipSpec,
        *,
        num_groups: int,
        channels: int = 1,
        imgsz: int | Sequence[int] = 640,
        stride: int = 32,
        augment: WindowAugment | None = None,
        flip_idx: Sequence[int] | None = None,
        window_stride: int = 1,
        frame_steps: Sequence[int] = (1,),
        padded: bool = False,
        fraction: float = 1.0,
        limit: int = DEFAULT_LIMIT,
        shape: tuple[int, int] | None = None,
        prefix: str = "",
    ) -> None:
        for name, values in (("num_groups", (num_groups,)), ("window_stride", (window_stride,)), ("step", frame_steps)):
            if not len(values) or min(values) < 1:
                raise ValueError(f"{name}: expected 1 or more, found {list(values)}")
        if not clips:
            raise ValueError(f"{prefix}expected clips, found none")
        self.clips, self.spec, self.prefix = list(clips), spec, prefix
        self.num_groups, self.channels, self.window_stride = num_groups, channels, window_stride
        self.augment, self.flip_idx = augment, None if flip_idx is None else list(flip_idx)
        shapes = [input_shape(clip.size, imgsz, stride) for clip in self.clips]
        self.shape = shape or (max(s[0] for s in shapes), max(s[1] for s in shapes))
        self._fits = [Fit(clip.size, self.shape) for clip in self.clips]
        self._first = np.cumsum([0, *(len(clip) for clip in self.clips)]).tolist()  # number of each clip's first frame
        self.cache = FrameCache((*self.shape, channels), self._first[-1], limit)
        self.counts: Counter[str] = Counter()
        for clip in self.clips:
            self.counts.update(clip.counts)
        self.windows = self._plan(frame_steps, padded)
        count = fraction if isinstance(fraction, int) and fraction > 1 else round(len(self.windows) * fraction)
        self.windows = self.windows[: max(count, 1)]
        self.counts["windows"] = len(self.windows)
        if not self.windows:
            raise ValueError(f"{prefix}expected frames that are labelled, found none in {len(clips)} clips")

    def _plan(self, steps: Sequence[int], padded: bool) -> list[Window]:
        """Return the windows, in training those alone in which something is labelled."""
        found = []
        for number, clip in enumerate(self.clips):
            for step in steps:
                starts = window_starts(len(clip), self.num_groups, step, self.window_stride, padded)
                for window in (Window(number, start, step) for start in starts):
                    if self.augment is None or self._has_labels(window):
                        found.append(window)
                    else:
                        self.counts["windows without labels"] += 1
        return found

    def _has_labels(self, window: Window) -> bool:
        clip = self.clips[window.clip]
        indices = [i for i in self._indices(window) if 0 <= i < len(clip)]
        return any(clip.labels[i].labelled or clip.labels[i].players is not None for i in indices)

    def _indices(self, window: Window) -> list[int]:
        """Return the indices of its frames, which may lie outside of the clip."""
        return [window.start + window.step * group for group in range(self.num_groups)]

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.windows)

    def __getitem__(self, number: int) -> dict[str, Any]:
        """Return one window, see the class."""
        window = self.windows[number]
        clip, fit, drawn = self.clips[window.clip], self._fits[window.clip], STILL
        if self.augment is not None:
            rng = np.random.default_rng(random.getrandbits(64))  # the host seeds `random` in each worker
            drawn = self.augment.draw(rng, self.shape, self.channels)
            window = self._moved(window, int(rng.integers(self.window_stride)))
        indices, step = self._indices(window), window.step
        if drawn.reverse:
            indices, step = indices[::-1], -step
        last = len(clip) - 1
        shown = [min(max(i, 0), last) for i in indices]
        valid = [s == i for s, i in zip(shown, indices, strict=True)]
        nexts = [s + step if 0 <= s + step <= last else None for s in shown]
        frames: Sequence[Image] = [self.frame(window.clip, i) for i in shown]
        if drawn is not STILL:
            frames = change_frames(frames, drawn)
        newest = shown[-1]
        sample: dict[str, Any] = {
            "img": torch.from_numpy(stack_frames(frames)),
            "clip": clip.name,
            "frame_numbers": torch.tensor(shown),
            "valid": torch.tensor(valid),
            "im_file": self._im_file(window.clip, newest),
            "ori_shape": clip.size,
            "resized_shape": self.shape,
            "ratio_pad": fit.ratio_pad,
            **object_targets(
                clip, [s if v else -1 for s, v in zip(shown, valid, strict=True)], nexts, self.spec.objects, fit, drawn
            ),
        }
        shape = self.spec.kpt_shape
        sample |= player_targets(
            clip.labels[newest].players, self.spec.players, fit, drawn, self.flip_idx, shape and shape[0]
        )
        ids = torch.tensor([self._identity(window.clip, int(i)) for i in sample["ids"]], dtype=torch.int64)
        return sample | player_extras(len(ids), ids, self._first[window.clip] + newest, window.clip)

    def frame(self, clip: int, index: int) -> Image:
        """Return a prepared frame (h, w, C), from memory where it is there; not to be changed.

        Args:
            clip: Number of the clip.
            index: Of the frame in it.
        """
        frames = self.clips[clip].frames
        number = self._first[clip] + frames.key(index)
        kept = self.cache.get(number)
        if kept is None:
            kept = prepare_frame(frames.read(index), self.shape, self.channels)
            self.cache.put(number, kept)
        return kept

    def _moved(self, window: Window, by: int) -> Window:
        """Return a window some frames later, if it still ends in the clip."""
        latest = len(self.clips[window.clip]) - 1 - window.step * (self.num_groups - 1)
        return Window(window.clip, min(window.start + by, max(latest, window.start)), window.step)

    def _identity(self, clip: int, ident: int) -> int:
        """Return the number of an identity in the data set: the same in every process."""
        return -1 if ident < 0 else self._all_identities[clip, ident]

    @cached_property
    def _all_identities(self) -> dict[tuple[int, int], int]:
        pairs = [
            (number, int(i))
            for number, clip in enumerate(self.clips)
            for frame in clip.labels
            if frame.players is not None
            for i in frame.players.ids
            if i >= 0
        ]
        return {pair: k for k, pair in enumerate(dict.fromkeys(pairs))}

    def _im_file(self, clip: int, index: int) -> str:
        file = self.clips[clip].frames.file(index)
        is_video = file == self.clips[clip].path
        return f"{file}#{self.clips[clip].first + index:06d}" if is_video else file

    @property
    def im_files(self) -> list[str]:
        """File of the newest frame of each window."""
        return [self._im_file(w.clip, self._newest(w)) for w in self.windows]

    def _newest(self, window: Window) -> int:
        return min(max(self._indices(window)[-1], 0), len(self.clips[window.clip]) - 1)

    @cached_property
    def labels(self) -> list[dict[str, Any]]:
        """What is labelled in the newest frame of each window, see the class."""
        keys = [(window.clip, self._newest(window)) for window in self.windows]
        made = {key: self._label(*key) for key in dict.fromkeys(keys)}
        return [made[key] for key in keys]

    def _label(self, clip: int, index: int) -> dict[str, Any]:
        fit, frame = self._fits[clip], self.clips[clip].labels[index]
        objects = object_targets(self.clips[clip], [index], [None], self.spec.objects, fit, STILL)
        players = player_targets(frame.players, self.spec.players, fit, STILL, None, None)
        own = np.array(self.spec.objects)[objects["points_cls"].numpy()].reshape(-1, 1)
        theirs = np.array(self.spec.players, int)[players["cls"].numpy().astype(int).ravel()].reshape(-1, 1)
        return {
            "im_file": self._im_file(clip, index),
            "cls": np.concatenate((own, theirs)).astype(np.float32),
            "bboxes": np.concatenate((objects["points_boxes"].numpy(), players["bboxes"].numpy())).astype(np.float32),
        }

    @cached_property
    def object_size(self) -> float | None:
        """Median side of the labelled boxes of objects, in longer sides of the frame."""
        sides = [
            (frame.boxes[:, 2:] - frame.boxes[:, :2]).mean(1) / max(clip.size)
            for clip in self.clips
            for frame in clip.labels
            if len(frame.boxes)
        ]
        known = np.concatenate(sides) if sides else np.zeros(0)
        known = known[np.isfinite(known)]
        return float(np.median(known)) if len(known) else None

    @property
    def summary(self) -> str:
        """One line of counts."""
        named = ", ".join(f"{count} {name}" for name, count in self.counts.items() if count)
        share = "all" if self.cache.slots == self.cache.count else f"{self.cache.slots} of {self.cache.count}"
        return f"{len(self.clips)} clips, {named}; {share} frames of {self.shape[1]}x{self.shape[0]} kept in memory"

    def close_mosaic(self, hyp: Any) -> None:
        """Do nothing: there is no mosaic. The host calls it for the last epochs."""

    @staticmethod
    def collate_fn(batch: list[dict[str, Any]]) -> dict[str, Any]:
        """Return windows as a batch, see the class."""
        out = collate_extras(YOLODataset.collate_fn(batch))
        counts = torch.tensor([len(points) for points in out["points"]])
        out["points_idx"] = torch.repeat_interleave(torch.arange(len(counts)), counts)
        for key in _POINTS:
            out[key] = torch.cat(out[key], 0)
        for key in _STACKED:
            out[key] = torch.stack(out[key])
        return out
