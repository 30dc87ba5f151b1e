"""Building the data set of a split of clips from the configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ultralytics.data.utils import get_split_fraction
from ultralytics.utils import LOCAL_RANK, LOGGER, colorstr

from yolo_multitask.data.clips.augment import WindowAugment
from yolo_multitask.data.clips.cache import cache_limit
from yolo_multitask.data.clips.dataset import WindowDataset
from yolo_multitask.data.clips.plan import Window, window_starts
from yolo_multitask.data.clips.read import read_clips

__all__ = ("Window", "WindowDataset", "build_window_dataset", "window_starts")


def build_window_dataset(
    args: Any,
    data: dict[str, Any],
    split: str,
    *,
    num_groups: int,
    channels: int,
    stride: int = 32,
    train: bool = False,
    window_stride: int | None = None,
    frame_steps: Sequence[int] | None = None,
    padded: bool | None = None,
) -> WindowDataset:
    """Build the data set of a split from the configuration.

    Args:
        args: Configuration namespace: ``imgsz``, ``fraction``, ``cache``, ``window_stride``, ``frame_steps`` and, in
            training, the hyperparameters of `WindowAugment`.
        data: What `yolo_multitask.data.clips.config.load_clip_data` returned.
        split: ``train``, ``val`` or ``test``.
        num_groups: Frames of a window.
        channels: Of a frame.
        stride: Largest stride of the model.
        train: Whether to augment.
        window_stride: None for ``args.window_stride``, or half a window in training and a whole one else.
        frame_steps: None for ``args.frame_steps``, or 1.
        padded: None for yes in training.

    Raises:
        ValueError: The clips cannot be used.
        FileNotFoundError: There is no such split, or an entry of it does not exist.
    """
    prefix = colorstr(f"{'train' if train else split}: ")
    if not data["clips"].get(split):
        raise FileNotFoundError(f"{data.get('yaml_file')}: expected clips under '{split}', found none")
    clips, messages = read_clips(data["clips"][split], data["clip_spec"])
    messages += [message for clip in clips for message in clip.messages]
    if messages and LOCAL_RANK in {-1, 0}:
        LOGGER.warning("\n".join(f"{prefix}{message}" for message in messages))
    augment = WindowAugment.from_args(args) if train else None
    if augment is not None and augment.fliplr and data.get("kpt_shape") and not data.get("flip_idx"):
        LOGGER.warning(f"{prefix}no 'flip_idx' in the data YAML: keypoints cannot be mirrored, fliplr=0")
        augment = WindowAugment(**{**vars(augment), "fliplr": 0.0})
    window_stride = window_stride or getattr(args, "window_stride", None)
    dataset = WindowDataset(
        clips,
        data["clip_spec"],
        num_groups=num_groups,
        channels=channels,
        imgsz=args.imgsz,
        stride=stride,
        augment=augment,
        flip_idx=data.get("flip_idx"),
        window_stride=window_stride or (max(num_groups // 2, 1) if train else num_groups),
        frame_steps=frame_steps or getattr(args, "frame_steps", None) or (1,),
        padded=train if padded is None else padded,
        fraction=get_split_fraction(args.fraction, "train" if train else split),
        limit=cache_limit(args.cache),
        prefix=prefix,
    )
    if LOCAL_RANK in {-1, 0}:
        LOGGER.info(f"{prefix}{dataset.summary}")
    return dataset
