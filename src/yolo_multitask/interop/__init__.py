"""One result as other tools take it: supervision, COCO results, MOTChallenge rows, tables.

Every function takes a `Results` of this package or of Ultralytics, or the torch-free `runtime.Detections`. Importing
this package imports numpy alone; what only one function needs is imported by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo_multitask.interop.arrays import Arrays, arrays_of
from yolo_multitask.interop.formats import MOT_FORMAT, to_coco, to_mot, to_supervision
from yolo_multitask.interop.table import to_csv, to_df

__all__ = ["MOT_FORMAT", "Arrays", "Interop", "arrays_of", "to_coco", "to_csv", "to_df", "to_mot", "to_supervision"]


class Interop:
    """The functions of this package as methods of a result."""

    __slots__ = ()

    def to_supervision(self) -> tuple[Any, Any]:
        """Return `supervision.Detections` and `supervision.KeyPoints`, see `interop.to_supervision`."""
        return to_supervision(self)

    def to_coco(
        self, image_id: int | str, category_ids: Sequence[int] | Mapping[int, int] | None = None
    ) -> list[dict[str, Any]]:
        """Return the entries of a COCO results file, see `interop.to_coco`."""
        return to_coco(self, image_id, category_ids)

    def to_mot(self, frame: int) -> NDArray[np.float64]:
        """Return the rows (N, 10) of a MOTChallenge results file, see `interop.to_mot`."""
        return to_mot(self, frame)

    def to_df(self, normalize: bool = False, decimals: int = 5) -> Any:
        """Return a `polars.DataFrame` with a row a detection, see `interop.to_df`."""
        return to_df(self, normalize, decimals)

    def to_csv(self, normalize: bool = False, decimals: int = 5) -> str:
        """Return the table of `to_df` as CSV text, see `interop.to_csv`."""
        return to_csv(self, normalize, decimals)
