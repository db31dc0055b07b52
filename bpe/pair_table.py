"""All pairs of tokens that a training meets: their ids, how often and where they occur, and which come first.

In: new pairs and where they begin; occurrences that are lost.  Out: pairs in the order of merging, and their places.

The order of merging: the more frequent pair first, of equals the smaller pair of ids.

A pair is known by its number, its row in the table. It gains occurrences only when it is new, for each later merge
makes pairs of its own, with its new token. So its places are one stretch of one array, and its count can only fall.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from bpe.rows import GrowingArray, Numbers

NO_PAIR = 0  # the number of no pair

SHORT = 1024  # of all pairs, some hundred thousand, those that come first are kept apart, and only they are sorted

_ID_BITS = 32


def keys_of(firsts: npt.NDArray[np.integer[Any]], seconds: npt.NDArray[np.integer[Any]]) -> Numbers:
    """Pairs of ids as one integer each; these sort as the pairs do."""
    keys: Numbers = firsts.astype(np.int64) << _ID_BITS | seconds
    return keys


class PairTable:
    """Pairs, numbered from 1 on as they come. dtype: of their places."""

    def __init__(self, dtype: npt.DTypeLike) -> None:
        row_0 = np.zeros(1, np.int64)
        self._keys = GrowingArray(row_0)
        self._counts = GrowingArray(row_0)
        self._ends = GrowingArray(row_0)  # pair n was new at places[ends[n - 1] : ends[n]]
        self._places = GrowingArray(np.zeros(0, dtype))
        self._short = row_0[:0]  # numbers of pairs, among them all up to `last` in the order of merging
        self._last: tuple[int, int] = 2, np.iinfo(np.int64).max  # a count and a key; who occurs once is never merged

    def __len__(self) -> int:
        """The number that the next pair gets."""
        return len(self._keys.values)

    def add(self, keys: Numbers, counts: Numbers, sizes: Numbers, places: Numbers) -> Numbers:
        """Take in new pairs, by their keys, and how often they occur. Out: their numbers.

        places: where the pairs begin, one pair after the other; sizes: the number of places of each.
        """
        numbers = np.arange(len(self), len(self) + len(keys))
        self._keys.extend(keys)
        self._counts.extend(counts)
        self._ends.extend(len(self._places.values) + np.cumsum(sizes))
        self._places.extend(places)
        self._short = np.append(self._short, numbers)
        return numbers

    def lose(self, pairs: Numbers, times: Numbers) -> None:
        """Let pairs occur so many times less. The same pair may be there again and again."""
        np.subtract.at(self._counts.values, pairs, times.astype(np.int64))  # of one dtype it is fast

    def ids(self, pairs: Numbers) -> tuple[Numbers, Numbers]:
        """The first and the second id of each pair."""
        keys = self._keys.values[pairs]
        return keys >> _ID_BITS, keys & (1 << _ID_BITS) - 1

    def places(self, pairs: Numbers) -> tuple[Numbers, Numbers]:
        """Where these pairs were when they were new, one after the other, and of each place which of them it is."""
        starts, ends = self._ends.values[pairs - 1], self._ends.values[pairs]
        places = self._places.values
        parts = [places[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
        return np.concatenate(parts), np.repeat(np.arange(len(pairs), dtype=places.dtype), ends - starts)

    def leaders(self, most: int) -> Numbers:
        """The pairs that come first in the order of merging, at most so many; none when no pair occurs twice."""
        keys, counts = self._keys.values, self._counts.values
        count, key = self._last
        in_short = counts[self._short]
        pairs = self._short[(in_short > count) | (in_short == count) & (keys[self._short] <= key)]
        if not len(pairs):
            pairs = self._most_frequent()
        self._short = pairs[np.lexsort((keys[pairs], -counts[pairs]))][:SHORT]
        if len(self._short):
            last = self._short[-1]
            self._last = int(counts[last]), int(keys[last])
        return self._short[:most]

    def _most_frequent(self) -> Numbers:
        """The `SHORT` most frequent pairs, with all that are as frequent as the last of them; none that occurs once."""
        counts = self._counts.values
        pairs = np.flatnonzero(counts >= 2)
        if len(pairs) > SHORT:
            least = np.partition(counts[pairs], -SHORT)[-SHORT]
            pairs = pairs[counts[pairs] >= least]
        return pairs
