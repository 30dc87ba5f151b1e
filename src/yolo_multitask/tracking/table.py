"""Arrays with one row a track: the state of all tracks as a struct of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


class Table:
    """Arrays that share their first axis, one row a track, and grow and shrink together.

    Every array attribute whose name does not start with an underscore is a column. A new row is all zeros.
    """

    def columns(self) -> dict[str, NDArray[Any]]:
        """All columns by name."""
        return {k: v for k, v in vars(self).items() if isinstance(v, np.ndarray) and not k.startswith("_")}

    def grow(self, count: int) -> None:
        """Append `count` rows of zeros."""
        for name, column in self.columns().items():
            setattr(self, name, np.concatenate([column, np.zeros((count, *column.shape[1:]), column.dtype)]))

    def select(self, keep_T: NDArray[np.bool_]) -> None:
        """Keep the rows that `keep_T` marks."""
        for name, column in self.columns().items():
            setattr(self, name, column[keep_T])

    def move(self, source_M: Rows, target_M: Rows) -> None:
        """Overwrite rows by other rows."""
        for column in self.columns().values():
            column[target_M] = column[source_M]
