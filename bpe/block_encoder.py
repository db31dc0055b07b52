"""The ids of whole blocks of text at once.

In: blocks of text as UTF-8, each of one text or of several.  Out: the ids of each text.

    block ── cuts ──> stretches ── table ──> numbers ── ids of each number ──> ids
                                                │
                                                └─ of new ones: split pattern, merges

Python does nothing for a single stretch but when it is met for the first time.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import pairwise, starmap

import numpy as np
import numpy.typing as npt

from bpe.cuts import Cuts
from bpe.rows import UNCHECKED, GrowingArray, Numbers, Rows, places_of_some
from bpe.stretches import CAPACITY, Stretches
from bpe.text_blocks import Block, joined

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

    def encode(self, blocks: Iterable[Block]) -> list[list[Ids]]:
        """The ids of the texts of each block. What is new in all of them is learned at once: that takes less time."""
        stretches, ids = self._memory
        if stretches.size > CAPACITY:
            stretches, ids = self._memory = self._empty()
        encoded, waiting = list[list[Ids]](), list[tuple[Numbers, Numbers]]()
        try:
            for numbers in map(partial(self._numbers, stretches), blocks):
                waiting.append(numbers)
                del numbers  # nor is the block held: what is free again, and still in the cache, the next one takes
                if len(ids) == len(stretches.known):
                    encoded += starmap(ids.of_texts, waiting)
                    waiting.clear()
            ids.learn(stretches.known)
        except UnicodeEncodeError:  # a block was not to be had; what was taken in is whole
            raise
        except BaseException:  # Ctrl-C, for one, in the middle of taking in
            self._memory = self._empty()
            raise
        return [*encoded, *starmap(ids.of_texts, waiting)]

    def _numbers(self, stretches: Stretches, block: Block) -> tuple[Numbers, Numbers]:
        """The number of each stretch of a block, and how many stretches stand before its second text, its third, ..."""
        text, between = joined(block)
        places = self._cuts.places(text, between)
        return stretches.numbers(text, places), np.searchsorted(places, between)


class _IdsOfStretches:
    """The ids of each stretch. Most stretches have one, so the first is kept apart from the rest."""

    def __init__(self, ids_of: IdsOf, dtype: np.dtype[np.uint16 | np.uint32]) -> None:
        self._ids_of, self._dtype = ids_of, dtype
        self._learning = threading.Lock()
        # less 2 to the power of their bits where more follow: below 0, and in fewer bits the same id
        signed = np.dtype(np.int64 if dtype.itemsize > 2 else np.int32)
        self._firsts: GrowingArray[np.int32 | np.int64] = GrowingArray(np.zeros(1, signed))  # stretch 0 is none
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
            self._firsts.extend(ids[is_first] - (lengths > 1) * (1 << 8 * self._dtype.itemsize))

    def of_texts(self, numbers: Numbers, between: Numbers) -> list[Ids]:
        """The ids of the stretches of these numbers, an array for each text. between: how many stand before a text."""
        ids = self.joined(numbers)
        if not len(between):
            return [ids]
        before = np.cumsum(np.concatenate([[0], self._rests.lengths(numbers) + 1]))  # ids, before each stretch
        bounds = [0, *before[between].tolist(), len(ids)]
        return [ids[start:stop] for start, stop in pairwise(bounds)]

    def joined(self, numbers: Numbers) -> Ids:
        """The ids of the stretches of these numbers, one after the other."""
        firsts = self._firsts.values.take(numbers, mode=UNCHECKED)
        having_more = places_of_some(firsts < 0)
        numbers_of_rests = numbers.take(having_more)
        rests, lengths = self._rests.joined(numbers_of_rests), self._rests.lengths(numbers_of_rests)
        places = np.repeat(having_more + 1, lengths) + np.arange(len(rests))
        joined = np.empty(len(firsts) + len(rests), self._dtype)
        is_first = np.ones(len(joined), np.bool_)
        is_first[places] = False
        joined[is_first] = firsts.astype(self._dtype)
        joined[places] = rests
        return joined
