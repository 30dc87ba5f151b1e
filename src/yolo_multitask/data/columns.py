"""The per-instance columns that ride through the host's augmentations beside boxes, polygons and keypoints.

The host's transforms know one per-instance array of that kind: ``labels["cls"]``, (N, 1). In this package's data sets
it is (N, `NUM_COLUMNS`) float32, so whatever selects, concatenates or reorders instances keeps these aligned:

- ``CLS``: the class.
- ``HAS_KEYPOINTS``, ``HAS_MASK``: 1 where keypoints or polygon are labelled.
- ``IGNORE``: 1 for an ignore region.
- ``ID``: number of the identity in the data set, `NO_ID` where unknown.
- ``INSTANCE``: number of the labelled object in the data set: two rows have the same one if and only if they show the
  same object of the same source image. -1 for a pasted mirror image.
- ``IMAGE``: number of its source image.
- ``SCENE``: number of its scene: the folder where any label of the folder has an identity, else the image.
- ``MOTION_X, MOTION_Y, MOTION_W, MOTION_H``: displacement to the next stored frame relative to the instance's own box,
  ``(dx / w, dy / h, log(w' / w), log(h' / h))`` with x and y of the centre, NaN where unknown. Relative to the box, so
  that scaling, moving and stretching the picture leave it as it is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NUM_COLUMNS = 12
(
    CLS,
    HAS_KEYPOINTS,
    HAS_MASK,
    IGNORE,
    ID,
    INSTANCE,
    IMAGE,
    SCENE,
    MOTION_X,
    MOTION_Y,
    MOTION_W,
    MOTION_H,
) = range(NUM_COLUMNS)
MOTION = slice(MOTION_X, MOTION_H + 1)
NO_ID = -1
MAX_NUMBER = 2**24  # integers up to here are exact in float32


def new_columns(n: int) -> NDArray[np.float32]:
    """Return float32 (n, `NUM_COLUMNS`): class 0, nothing labelled, no numbers, motion unknown."""
    columns = np.zeros((n, NUM_COLUMNS), np.float32)
    columns[:, [ID, INSTANCE, IMAGE, SCENE]] = -1
    columns[:, MOTION] = np.nan
    return columns
