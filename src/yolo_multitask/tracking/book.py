"""What is known of each track besides its motion and its looks."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from .boxes import Array
from .table import Table


class State(IntEnum):
    """What is known of a track; one that is removed is in no table any more."""

    TENTATIVE = 0  # born, not yet believed, no id
    CONFIRMED = 1  # seen in the last frame
    LOST = 2  # confirmed before, not seen in the last frame


class Book(Table):
    """What is known of T tracks besides their motion and their looks.

    Attributes:
        id: (T,) from 1 in order of confirmation, 0 while tentative.
        state: (T,) of `State`.
        cls: (T,) class of the last detection.
        evidence: (T,) sum of the scores of its detections.
        born: (T,) frame of its first detection.
        last: (T,) frame of its last detection.
    """

    def __init__(self) -> None:
        self.id = np.zeros(0, dtype=np.int64)
        self.state = np.zeros(0, dtype=np.int64)
        self.cls = np.zeros(0, dtype=np.int64)
        self.evidence: Array = np.zeros(0)
        self.born = np.zeros(0, dtype=np.int64)
        self.last = np.zeros(0, dtype=np.int64)
