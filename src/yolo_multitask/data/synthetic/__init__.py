"""A small synthetic world: articulated figures that walk, cross and hide each other, with exact labels.

It needs numpy, OpenCV and PyYAML alone. `World` (or `render_sequence`) gives the frames of one sequence,
`write_dataset` a data set with boxes, masks, keypoints and identities, `write_clip` a video.
"""

from .render import Frame, World, render_sequence
from .world import FLIP_IDX, KEYPOINT_NAMES, WorldConfig
from .write import data_yaml, frame_labels, mask_to_polygon, sequence_seeds, write_clip, write_dataset

__all__ = [
    "FLIP_IDX",
    "KEYPOINT_NAMES",
    "Frame",
    "World",
    "WorldConfig",
    "data_yaml",
    "frame_labels",
    "mask_to_polygon",
    "render_sequence",
    "sequence_seeds",
    "write_clip",
    "write_dataset",
]
