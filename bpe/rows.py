"""Rows of different lengths, and their joining in any order: the ids of each stretch of text, the bytes of each token.

In: rows of small numbers, numbered as they come.  Out: the rows of any numbers, one after the other in one array.

To copy each row by itself would take Python's time for every one. Instead NumPy writes the first eight bytes of all
rows, in their order, each where it belongs: what a shorter row wrote too much is overwritten by the rows after it. (LZ4
copies so, "wildly", too.) Longer rows' second, third and fourth eight bytes are written before.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

WORD = 8  # bytes
WORDS = 4  # of a row that are written together with those of other rows; what is longer, and rare, is copied by itself

Numbers = npt.NDArray[np.int64]
Scalar = TypeVar("Scalar", bound=np.generic)


class GrowingArray(Generic[Scalar]):
    """An array to append to: room is doubled when it runs out, so that n values take n steps in all."""

    def __init__(self, values: npt.NDArray[Scalar]) -> None:
        self._size = 0
        self._room = np.zeros(WORD, values.dtype)
        self.extend(values)

    @property
    def values(self) -> npt.NDArray[Scalar]:
        """What was put in: a view that is good until more is."""
        return self._room[: self._size]

    @property
    def words(self) -> npt.NDArray[np.uint64]:
        """Eight bytes of memory from each value on; the last ones reach beyond the values."""
        return words_from_each_item(self._room)

    def extend(self, values: npt.ArrayLike) -> None:
        """Append values. Other threads may read meanwhile what was there."""
        added = np.asarray(values, self._room.dtype)
        size = self._size + len(added)
        room = self._room
        if size + WORD > len(room):
            room = np.zeros(2 * size + WORD, room.dtype)  # what is not used of it takes no memory
            room[: self._size] = self.values
        room[self._size : size] = added
        self._room, self._size = room, size


class Rows(Generic[Scalar]):
    """Rows of numbers of one dtype (of 1, 2, 4 or 8 bytes)."""

    def __init__(self, dtype: np.dtype[Scalar], rows: Iterable[Sequence[int]] = ()) -> None:
        self._items = GrowingArray(np.zeros(0, dtype))
        self._ends = GrowingArray(np.zeros(1, np.int64))  # row n is items[ends[n] : ends[n + 1]]
        self.extend(rows)

    def __len__(self) -> int:
        return len(self._ends.values) - 1

    def extend(self, rows: Iterable[Sequence[int]]) -> None:
        """Append rows; they get the next numbers, the very first 0."""
        rows = list(rows)
        items = np.fromiter(chain.from_iterable(rows), self._items.values.dtype)
        self.extend_by_items(items, np.fromiter(map(len, rows), np.int64))

    def extend_by_items(self, items: npt.ArrayLike, lengths: Numbers) -> None:
        """Append rows of these lengths, whose items stand one after the other."""
        self._items.extend(items)
        self._ends.extend(self._ends.values[-1] + np.cumsum(lengths))

    def lengths(self, numbers: Numbers) -> Numbers:
        """How long the rows of these numbers are. Raises IndexError for a number that no row has."""
        lengths: Numbers = self._ends.values.take(numbers + 1) - self._ends.values.take(numbers)
        return lengths

    def joined(self, numbers: Numbers) -> npt.NDArray[Scalar]:
        """The rows of these numbers, one after the other. Raises IndexError for a number that no row has."""
        ends, items = self._ends.values, self._items.values
        sources = ends.take(numbers)
        lengths = self.lengths(numbers)
        stops = np.cumsum(lengths)
        places = stops - lengths
        total = int(stops[-1]) if len(stops) else 0
        joined = np.empty(total + WORD, items.dtype)
        in_word = WORD // items.itemsize
        longer = [np.flatnonzero(lengths > in_word)]  # rows of more than one word, of more than two, and so on
        for word in range(2, WORDS + 1):
            longer.append(longer[-1][lengths[longer[-1]] > word * in_word])
        for row in longer[-1].tolist():
            source, place, length = sources[row], places[row], lengths[row]
            joined[place : place + length] = items[source : source + length]
        found, written = self._items.words, words_from_each_item(joined)
        for word in reversed(range(1, WORDS)):
            rows, offset = longer[word - 1], word * in_word
            written[places[rows] + offset] = found[sources[rows] + offset]
        written[places] = found[sources]
        return joined[:total]


def words_from_each_item(array: npt.NDArray[np.generic]) -> npt.NDArray[np.uint64]:
    """The memory of an array as overlapping 64-bit integers: one from each item on, but for the last ones."""
    count = max(0, array.nbytes - WORD + array.itemsize) // array.itemsize
    return np.ndarray(count, np.uint64, array.data, strides=array.strides)
