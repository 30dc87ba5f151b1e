"""The same picture twice: within a split, or in two splits, where what is validated was trained on."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo_multitask.data.check.findings import Finding
from yolo_multitask.data.check.images import Picture, thumbnail
from yolo_multitask.data.check.parts import Part

NEAR = 6  # bits of a difference hash in which two pictures may differ; of unlike ones, twice as many differ
ALIKE = 0.9  # least correlation of the grey thumbnails of two pictures that look the same, whatever their brightness
SAME_ASPECT = 0.02  # relative difference of width over height
_ONES = np.array([bin(i).count("1") for i in range(256)], np.uint8)
_BANDS = ((0, 10), *((10 + 9 * i, 9) for i in range(NEAR)))  # first bit and bits; two near hashes share one
_COLUMNS = ("part", "number", "digest", "across", "down", "aspect")

Hashes = NDArray[np.uint64]
Pairs = NDArray[np.int64]


@dataclass
class Pictures:
    """Hashes of all pictures, 48 bytes each.

    Attributes:
        parts: The parts of the splits.
        images: The images of each.
    """

    parts: Sequence[Part]
    images: Sequence[Sequence[str]]
    _rows: dict[str, array[int]] = field(default_factory=lambda: {k: array("Q") for k in _COLUMNS})

    def add(self, part: int, number: int, picture: Picture) -> None:
        """Take the hashes of the image that has this number in a part."""
        width, height = picture.size
        values = (part, number, picture.digest, picture.across, picture.down)
        for name, value in zip(_COLUMNS, (*values, round(1e6 * width / height)), strict=True):
            self._rows[name].append(value)

    def findings(
        self, sequences: Iterable[str], verify: Callable[[list[tuple[str, str]]], Iterable[bool]]
    ) -> Iterator[Finding]:
        """Yield pictures that an earlier one equals or nearly equals, each at most once a split.

        Those that are listed twice are left to `repeated_images`.

        Args:
            sequences: Folders of sequences; frames of one of them look alike and are not compared.
            verify: Returns for pairs of images whether they show the same, see `same_picture`.
        """
        rows = {k: np.frombuffer(v, np.uint64) if len(v) else np.zeros(0, np.uint64) for k, v in self._rows.items()}
        names = list(dict.fromkeys(part.split for part in self.parts))
        splits = np.array([names.index(part.split) for part in self.parts], np.int64)[rows["part"].astype(np.int64)]
        exact = equal_pairs(rows["digest"], splits)
        for i, j in self._nearest(exact, splits):
            if self._path(i) != self._path(j):
                yield self._finding(i, j, "leak", "image-duplicate", "is the same file as")
        folders = self._folders(set(sequences))
        near = near_pairs(rows["across"], rows["down"], splits)
        near = near[self._worth_a_look(near, rows, splits, folders)]
        pairs = list(self._nearest(near, splits))
        said = verify([(self._path(i), self._path(j)) for i, j in pairs])
        alike = [pair for pair, same in zip(pairs, said, strict=True) if same]
        for (i, j), more in self._by_sequence(alike, folders):
            words = f"and {more} more of its folder look the same as" if more else "looks the same as"
            yield self._finding(i, j, "leak-near", "image-near-duplicate", words)

    def _by_sequence(
        self, pairs: Iterable[tuple[int, int]], folders: NDArray[np.int64]
    ) -> Iterator[tuple[tuple[int, int], int]]:
        """Yield pairs, of the frames of a sequence that resemble one folder the first alone, and how many more.

        The frames of a camera that stands still are alike, and where one resembles a picture, all do.
        """
        groups: dict[tuple[Any, ...], list[tuple[int, int]]] = {}
        for i, j in pairs:
            key = (folders[j], os.path.dirname(self._path(i))) if folders[j] >= 0 else (i, j)
            groups.setdefault(key, []).append((i, j))
        for group in groups.values():
            yield group[0], len(group) - 1

    def _path(self, row: int) -> str:
        return self.images[self._rows["part"][row]][self._rows["number"][row]]

    def _folders(self, sequences: set[str]) -> NDArray[np.int64]:
        """Return the number of the sequence that each picture belongs to, -1 for none."""
        numbers = {folder: i for i, folder in enumerate(sorted(sequences))}
        count = len(self._rows["part"])
        if not numbers:
            return np.full(count, -1, np.int64)
        return np.array([numbers.get(os.path.dirname(self._path(i)), -1) for i in range(count)], np.int64)

    @staticmethod
    def _worth_a_look(
        pairs: Pairs, rows: Mapping[str, Hashes], splits: NDArray[np.int64], folders: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Return which pairs have the same shape, are no equal files, and no frames of one sequence."""
        i, j = pairs.T
        shape = rows["aspect"].astype(np.float64)
        alike = np.abs(shape[i] - shape[j]) <= SAME_ASPECT * shape[i]
        one_sequence = (folders[i] >= 0) & (folders[i] == folders[j]) & (splits[i] == splits[j])
        return np.asarray(alike & (rows["digest"][i] != rows["digest"][j]) & ~one_sequence)

    @staticmethod
    def _nearest(pairs: Pairs, splits: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
        """Yield for each picture its first partner in its own split and its first in another."""
        i, j = pairs.T
        order = np.lexsort((i, splits[i] != splits[j], j))
        i, j = i[order], j[order]
        other = splits[i] != splits[j]
        new = np.ones(len(j), bool)
        new[1:] = (j[1:] != j[:-1]) | (other[1:] != other[:-1])
        yield from zip(i[new].tolist(), j[new].tolist(), strict=True)

    def _finding(self, i: int, j: int, across: str, within: str, words: str) -> Finding:
        one, two = self.parts[self._rows["part"][i]], self.parts[self._rows["part"][j]]
        first, image = self._path(i), self._path(j)
        kind, advice = within, "; remove one of them"
        if one.split != two.split:
            kind, advice = across, f" of {one.title}; have it in one split alone"
        message = f"{words} {first}{advice}"
        return Finding(kind, image, message, 0, two.split, image, (), two.source_name, first)


def same_picture(pair: tuple[str, str]) -> bool:
    """Return whether two images look the same, by the correlation of their grey thumbnails."""
    one, two = (thumbnail(path).ravel() for path in pair)
    return bool(np.corrcoef(one, two)[0, 1] > ALIKE)


def equal_pairs(hashes: Hashes, splits: NDArray[np.int64]) -> Pairs:
    """Return (i, j), i < j, of equal values: every j with the first of each split.

    Args:
        hashes: uint64 (N,).
        splits: int64 (N,), ascending.
    """
    _, owner = np.unique(hashes, return_inverse=True)
    return _earliest(owner.reshape(-1), splits, np.zeros((0, 2), np.int64))


def near_pairs(across: Hashes, down: Hashes, splits: NDArray[np.int64]) -> Pairs:
    """Return (i, j), i < j, of pictures both of whose hashes differ in at most `NEAR` bits.

    Of seven bands of the bits, two such hashes have one in common, so only pictures with an equal band are compared.

    Args:
        across: uint64 (N,), 0 where the picture has no contrast; those are left out.
        down: uint64 (N,).
        splits: int64 (N,), ascending.
    """
    there = np.flatnonzero((across != 0) | (down != 0))
    # one of equal hashes stands for all, or the frames of a still camera would make the comparison quadratic
    unique, owner = np.unique(np.stack([across[there], down[there]], 1), axis=0, return_inverse=True)
    close = np.unique(np.concatenate([_band_pairs(unique, *band) for band in _BANDS]), axis=0)
    return np.asarray(there[_earliest(owner.reshape(-1), splits[there], close)])


def _band_pairs(hashes: Hashes, shift: int, bits: int) -> Pairs:
    """Return (i, j) of rows of hashes (U, 2) that have one band of the first column in common and are near."""
    band = (hashes[:, 0] >> np.uint64(shift)) & np.uint64((1 << bits) - 1)
    order = np.argsort(band, kind="stable")
    band = band[order]
    out = [np.zeros((0, 2), np.int64)]
    rows = np.arange(len(order))
    for offset in range(1, len(order)):
        rows = rows[rows + offset < len(order)]
        rows = rows[band[rows] == band[rows + offset]]
        if not len(rows):
            break
        i, j = order[rows], order[rows + offset]
        bits_apart = _ONES[(hashes[i] ^ hashes[j]).view(np.uint8)].reshape(-1, 2, 8).sum(2)
        close = (bits_apart <= NEAR).all(1)
        out.append(np.sort(np.stack([i[close], j[close]], 1), axis=1))
    return np.concatenate(out)


def _earliest(owner: NDArray[np.int64], splits: NDArray[np.int64], close: Pairs) -> Pairs:
    """Return (i, j), i < j, of every picture with the first of each split whose hash is the same or close.

    Args:
        owner: int64 (N,), which hash each picture has.
        splits: int64 (N,).
        close: Pairs of hashes.
    """
    count = len(owner)
    if not count:
        return np.zeros((0, 2), np.int64)
    first = np.full((splits.max() + 1, owner.max() + 1), count, np.int64)
    np.minimum.at(first, (splits, owner), np.arange(count))
    nearest = first.copy()
    for a, b in (close.T, close.T[::-1]):
        for row, own in zip(nearest, first, strict=True):
            np.minimum.at(row, a, own[b])
    j = np.tile(np.arange(count), len(nearest))
    i = nearest[:, owner].reshape(-1)
    return np.stack([i, j], 1)[i < j]
