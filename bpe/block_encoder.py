"""The ids of whole blocks of text at once.

In: blocks of text as UTF-8.  Out: the ids of each.

    block ── cuts ──> stretches ── table ──> numbers ── ids of each number ──> ids
                                                │
                                                └─ of new ones: split pattern, merges

Python does nothing for a single stretch but when it is met for the first time.
"""

import threading
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from bpe.cuts import Cuts
from bpe.rows import UNCHECKED, GrowingArray, Numbers, Rows, places_of_some
from bpe.stretches import CAPACITY, Stretches

Ids = npt.NDArray[np.uint16 | np.uint32]
IdsOf = Callable[[Sequence[bytes]], tuple[Numbers, Numbers]]


class BlockEncoder:
    """Encodes blocks that end at certain cuts; several threads may do so at once.

    ids_of: the ids of some stretches as UTF-8, one after the other, and how many each has. By the definition: split
    into pieces, each piece merged.
    """

    def __init__(self, cuts: Cuts, ids_of: IdsOf, dtype: np.dtype[np.uint16 | np.uint32]) -> None:
        self._cuts, self._ids_of, self._dtype = cuts, ids_of, dtype
        self._memory = self._empty()

    def _empty(self) -> "tuple[Stretches, _IdsOfStretches]":
        return Stretches(), _IdsOfStretches(self._ids_of, self._dtype)

    def encode(self, blocks: Iterable[bytes]) -> list[Ids]:
        """The ids of some blocks, in a few arrays. What is new in them all is learned at once: that takes less time."""
        stretches, ids = self._memory
        if stretches.size > CAPACITY:
            stretches, ids = self._memory = self._empty()
        joined, waiting = list[Ids](), list[Numbers]()
        try:
            for block in blocks:
                waiting.append(stretches.numbers(block, self._cuts.places(block)))
                if len(ids) == len(stretches.known):
                    joined += map(ids.joined, waiting)
                    waiting.clear()
            ids.learn(stretches.known)
        except UnicodeEncodeError:  # a block was not to be had; what was taken in is whole
            raise
        except BaseException:  # Ctrl-C, for one, in the middle of taking in
            self._memory = self._empty()
            raise
        return [*joined, *map(ids.joined, waiting)]


class _IdsOfStretches:
    """The ids of each stretch. Most stretches have one, so the first is kept apart from the rest."""

    def __init__(self, ids_of: IdsOf, dtype: np.dtype[np.uint16 | np.uint32]) -> None:
        self._ids_of = ids_of
        self._learning = threading.Lock()
        self._firsts = GrowingArray(np.zeros(1, dtype))  # the stretch of number 0 is none
        self._have_more = GrowingArray(np.zeros(1, np.bool_))
        self._rests = Rows(dtype, rows=[()])

    def __len__(self) -> int:
        return len(self._firsts.values)

    def learn(self, stretches: Sequence[bytes]) -> None:
        """Work out the ids of stretches, of which the first ones are learned already."""
        with self._learning:
            if len(self) == len(stretches):
                return
            ids, lengths = self._ids_of(stretches[len(self) :])
            is_first = np.zeros(len(ids), np.bool_)
            is_first[np.cumsum(lengths) - lengths] = True
            self._rests.extend_by_items(ids[~is_first], lengths - 1)
            self._have_more.extend(lengths > 1)
            self._firsts.extend(ids[is_first])

    def joined(self, numbers: Numbers) -> Ids:
        """The ids of the stretches of these numbers, one after the other."""
        having_more = places_of_some(self._have_more.values.take(numbers, mode=UNCHECKED))
        numbers_of_rests = numbers.take(having_more)
        rests, lengths = self._rests.joined(numbers_of_rests), self._rests.lengths(numbers_of_rests)
        places = np.repeat(having_more + 1, lengths) + np.arange(len(rests))
        joined = np.empty(len(numbers) + len(rests), rests.dtype)
        is_first = np.ones(len(joined), np.bool_)
        is_first[places] = False
        joined[np.flatnonzero(is_first)] = self._firsts.values.take(numbers, mode=UNCHECKED)  # sooner than by a mask
        joined[places] = rests
        return joined
