"""Rows of different lengths, and their joining in any order: the ids of each stretch of text, the bytes of each token.

In: rows of small numbers, numbered as they come.  Out: the rows of any numbers, one after the other in one array.

To copy each row by itself would take Python's time for every one. Instead NumPy writes the first eight bytes of all
rows, in their order, each where it belongs: what a shorter row wrote too much is overwritten by the rows after it. (LZ4
copies so, "wildly", too.) Longer rows' second, third and fourth eight bytes are written before.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Final, Generic, TypeVar

import numpy as np
import numpy.typing as npt

WORD = 8  # bytes that are copied at a time, as processors call them: no word of a text
UNCHECKED: Final = "wrap"  # mode of `take` for places that are certainly there: it is faster than to look
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
        # the first word of each row, apart from the items: so near each other they are read fast
        self._first_words = GrowingArray(np.zeros(0, np.uint64))
        self._starts = GrowingArray(np.zeros(0, np.int64))
        self._lengths = GrowingArray(np.zeros(0, np.int64))
        self.extend(rows)

    def __len__(self) -> int:
        return len(self._lengths.values)

    def extend(self, rows: Iterable[Sequence[int]]) -> None:
        """Append rows; they get the next numbers, the very first 0."""
        rows = list(rows)
        items = np.fromiter(chain.from_iterable(rows), self._items.values.dtype)
        self.extend_by_items(items, np.fromiter(map(len, rows), np.int64))

    def extend_by_items(self, items: npt.ArrayLike, lengths: Numbers) -> None:
        """Append rows of these lengths, whose items stand one after the other."""
        starts = len(self._items.values) + np.cumsum(lengths) - lengths
        self._items.extend(items)
        self._first_words.extend(self._items.words[starts])
        self._starts.extend(starts)
        self._lengths.extend(lengths)

    def lengths(self, numbers: Numbers) -> Numbers:
        """How long the rows of these numbers are. Raises IndexError for a number that no row has."""
        return self._lengths.values.take(numbers)

    def joined(self, numbers: Numbers) -> npt.NDArray[Scalar]:
        """The rows of these numbers, one after the other. Raises IndexError for a number that no row has."""
        lengths = self.lengths(numbers)
        stops = np.cumsum(lengths)
        places = stops - lengths
        total = int(stops[-1]) if len(stops) else 0
        joined = np.empty(total + WORD, self._items.values.dtype)
        longer = np.flatnonzero(lengths > WORD // joined.itemsize)
        self._write_rests(joined, places.take(longer), numbers.take(longer))
        words_from_each_item(joined)[places] = self._first_words.values.take(numbers)
        return joined[:total]

    def _write_rests(self, joined: npt.NDArray[Scalar], places: Numbers, numbers: Numbers) -> None:
        """Write what follows the first word of the rows of these numbers, all longer, which begin at these places."""
        items, starts, lengths = self._items.values, self._starts.values.take(numbers), self.lengths(numbers)
        in_word = WORD // joined.itemsize
        reaching = [np.arange(len(numbers))]  # the second word, the third, and so on
        for word in range(2, WORDS + 1):
            reaching.append(reaching[-1][lengths[reaching[-1]] > word * in_word])
        for row in reaching[-1].tolist():
            start, place, length = starts[row], places[row], lengths[row]
            joined[place : place + length] = items[start : start + length]
        found, written = self._items.words, words_from_each_item(joined)
        for word in reversed(range(1, WORDS)):
            rows, offset = reaching[word - 1], word * in_word
            written[places[rows] + offset] = found[starts[rows] + offset]


def places_of_some(mask: npt.NDArray[np.bool_]) -> Numbers:
    """np.flatnonzero, where about a tenth is true and at random.

    NumPy looks for each true value by itself where at most a tenth is, and a processor cannot guess how far each search
    goes. With more true values behind, all are looked at, in half the time.
    """
    behind = len(mask) // 8
    places: Numbers = np.flatnonzero(np.concatenate([mask, np.ones(behind, np.bool_)]))
    return places[: len(places) - behind]


def words_from_each_item(array: npt.NDArray[np.generic]) -> npt.NDArray[np.uint64]:
    """The memory of an array as overlapping 64-bit integers: one from each item on, but for the last ones."""
    count = max(0, array.nbytes - WORD + array.itemsize) // array.itemsize
    return np.ndarray(count, np.uint64, array.data, strides=array.strides)
