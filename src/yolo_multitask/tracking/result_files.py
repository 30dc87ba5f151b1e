"""Result files of sequences that are written frame by frame, whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO


class ResultFile:
    """A text file of one sequence.

    Text goes to a temporary file beside it, which takes its name when it is closed. A file that is continued after that
    (a sequence that is passed frame by frame) gets the text of each frame at once.

    Attributes:
        path: The file.
    """

    header = ""  # what the file begins with

    def __init__(self, path: str | Path) -> None:
        """Name the file; it is written from the first frame on, and replaces one of that name."""
        self.path = Path(path)
        self._file: IO[str] | None = None
        self._complete = False

    @property
    def _temporary(self) -> Path:
        return self.path.with_name(f".{self.path.name}.part")

    def write(self, text: str) -> None:
        """Write the text of one frame; where it is empty the file still exists."""
        self._file = self._file or self._open()
        self._file.write(text)

    def _open(self) -> IO[str]:
        if self._complete:
            return open(self.path, "a", encoding="utf-8", newline="\n")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._temporary.write_text(self.header, encoding="utf-8", newline="\n")
        return open(self._temporary, "a", encoding="utf-8", newline="\n")

    def close(self, keep: bool = True) -> None:
        """Give the file its name, or remove the temporary one; does nothing where nothing is open."""
        if self._file is None:
            return
        self._file.close()
        self._file = None
        if self._complete:
            return
        if keep:
            os.replace(self._temporary, self.path)
            self._complete = True
        else:
            self._temporary.unlink()
